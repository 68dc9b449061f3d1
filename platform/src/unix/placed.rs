//! What this process has put into the file system, and how it is known from what others put there.

use std::io;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
use rustix::fs::CWD;
use rustix::fs::{AtFlags, Gid, Mode, Stat, chownat, lstat, readlink, unlink};
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::fs::{OFlags, chmod, fstat, open as open_file, stat};
use rustix::io::Errno;

use super::file::{Identity, is_socket};
use super::lock::{PathLock, unwritable};
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::owner;
use super::rights::Rights;

/// How long a listener waits for the lock when it goes. It needs it less; see [`SocketFile`].
const LOCK_PATIENCE_AT_END: Duration = Duration::from_millis(250);

/// A file that this process has put somewhere: a bound socket, or a symbolic link to one. Removed on
/// drop, if it is still the one that we made; but not by a child that was forked meanwhile, which drops
/// it too and whose it is not.
///
/// Drop this before the socket: as long as that is open, its inode's number can't be given to
/// another file, and other starters see a live server and keep away, even if the lock was not to
/// be had.
#[derive(Debug)]
pub(super) struct SocketFile {
    placed: Placed,
    /// `None`: left alone whatever happens.
    maker: Option<u32>,
}

impl SocketFile {
    /// Ours from now on.
    pub(super) fn new(placed: Placed) -> SocketFile {
        SocketFile { placed, maker: Some(process::id()) }
    }

    /// Another's as yet: left alone until it is [ours](SocketFile::own).
    pub(super) fn of_another(placed: Placed) -> SocketFile {
        SocketFile { placed, maker: None }
    }

    /// Ours from now on, whoever has made it.
    pub(super) fn own(&mut self) {
        self.maker = Some(process::id());
    }

    pub(super) fn set_rights(&self, rights: Rights) -> io::Result<()> {
        self.placed.set_rights(rights)
    }

    pub(super) fn path(&self) -> &Path {
        &self.placed.path
    }

    /// It has gone already, or is another's from now on; what is at its path, be it under its number, is not ours.
    pub(super) fn disown(mut self) {
        self.maker = None;
    }

    /// Whether this is it, by whatever way it was found.
    pub(super) fn is(&self, found: &Stat) -> bool {
        self.placed.is(found)
    }

    /// Whether the path still leads to it.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        match self.placed.is_there() {
            Ok(is_there) => Ok(is_there),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(unwritable(error, "can't look for", &self.placed.path)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = &self.placed.path;
        let Some(maker) = self.maker else { return };
        if maker != process::id() {
            return log::debug!("{} is left to the process that made it", path.display());
        }
        let lock = PathLock::acquire(path, LOCK_PATIENCE_AT_END);
        if let Err(error) = &lock {
            log::debug!("removing {} without its lock: {error}", path.display());
        }
        self.placed.remove();
    }
}

/// A file and where it was put.
#[derive(Debug)]
pub(super) struct Placed {
    path: PathBuf,
    identity: Identity,
    what: What,
}

/// What was put there.
#[derive(Debug)]
enum What {
    /// As long as it is open, no other file gets its number.
    Socket,
    /// A symbolic link to this. Once it is removed, the next file may have its number at once.
    Link(PathBuf),
}

impl Placed {
    /// The symbolic link that has just been put there.
    pub(super) fn link(path: &Path, target: &Path) -> io::Result<Placed> {
        let identity = Identity::of(&Placed::look(path)?);
        Ok(Placed { path: path.to_owned(), identity, what: What::Link(target.to_owned()) })
    }

    pub(super) fn look(path: &Path) -> io::Result<Stat> {
        lstat(path).map_err(|error| unwritable(error, "can't find what was put at", path))
    }

    pub(super) fn socket(path: &Path, found: &Stat) -> Option<Placed> {
        let identity = Identity::of(found);
        is_socket(found).then(|| Placed { path: path.to_owned(), identity, what: What::Socket })
    }

    fn is(&self, found: &Stat) -> bool {
        Identity::of(found) == self.identity
    }

    /// Whether the path still leads to it.
    fn is_there(&self) -> rustix::io::Result<bool> {
        let is_same = self.is(&lstat(&self.path)?);
        match &self.what {
            What::Link(target) if is_same => readlink(&self.path, Vec::new())
                .map(|found| found.as_bytes() == target.as_os_str().as_bytes()),
            _ => Ok(is_same),
        }
    }

    /// Removes it, if it is still there.
    pub(super) fn remove(&self) {
        match self.is_there() {
            Ok(true) => {
                if let Err(error) = unlink(&self.path) {
                    log::warn!("can't remove {}: {error}", self.path.display());
                }
            }
            _ => log::debug!("{} is no longer ours; left alone", self.path.display()),
        }
    }

    /// Lets in whom these rights say. A group that we are not in can't be given it (chown(2)); then everybody may come.
    pub(super) fn set_rights(&self, rights: Rights) -> io::Result<()> {
        match rights {
            Rights::Group(gid) if !self.give_to(gid)? => self.set_mode(Rights::Everyone.mode()),
            _ => self.set_mode(rights.mode()),
        }
    }

    /// A handle that is known to be our file, unlike the path, which in a folder of someone else
    /// may by now be a symbolic link to something of ours.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn handle(&self) -> io::Result<(OwnedFd, Stat)> {
        let failed = |error| unwritable(error, "can't set the mode of", &self.path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = open_file(&self.path, flags, Mode::empty()).map_err(failed)?;
        let found = fstat(&handle).map_err(failed)?;
        match self.is(&found) {
            true => Ok((handle, found)),
            false => Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "the socket was replaced by someone else at once",
            )),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn set_mode(&self, mode: Mode) -> io::Result<()> {
        let failed = |error| unwritable(error, "can't set the mode of", &self.path);
        let (handle, found) = self.handle()?;
        // fchmod(2) takes no such handle, but it has a path of its own (open(2), O_PATH).
        match chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), mode) {
            Err(Errno::NOENT) => {}
            set => return set.map_err(failed),
        }
        // There is no /proc. The path will do where nobody but us can change what it leads to.
        let folder = self.path.parent().and_then(|folder| stat(folder).ok());
        if folder.is_some_and(|folder| owner::speaks_for_its_owner(&found, &folder)) {
            return chmod(&self.path, mode).map_err(failed);
        }
        let text = format!(
            "can't set the mode of {}: /proc is not mounted, and others can write to its folder; mount \
             /proc, or choose a folder that only this user can write to",
            self.path.display()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn set_mode(&self, mode: Mode) -> io::Result<()> {
        use rustix::fs::chmodat;
        Ok(chmodat(CWD, &self.path, mode, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes it a group's, if we may.
    fn give_to(&self, gid: u32) -> io::Result<bool> {
        match self.change_group(Gid::from_raw(gid))? {
            Ok(()) => Ok(true),
            Err(Errno::PERM) => Ok(false),
            Err(error) => Err(unwritable(error, "can't set the group of", &self.path)),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn change_group(&self, group: Gid) -> io::Result<Result<(), Errno>> {
        let (handle, _) = self.handle()?;
        Ok(chownat(&handle, "", None, Some(group), AtFlags::EMPTY_PATH))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn change_group(&self, group: Gid) -> io::Result<Result<(), Errno>> {
        Ok(chownat(CWD, &self.path, None, Some(group), AtFlags::SYMLINK_NOFOLLOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn another_links_number_does_not_make_it_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        symlink("/a/app.sock", &path).unwrap();
        let mut ours = SocketFile::new(Placed::link(&path, Path::new("/a/app.sock")).unwrap());
        assert!(ours.is_in_place().unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!ours.is_in_place().unwrap());
        symlink("/b/app.sock", &path).unwrap();
        // Some file systems give it the number of the one before, others much later.
        ours.placed.identity = Identity::of(&lstat(&path).unwrap());
        assert!(!ours.is_in_place().unwrap());
        drop(ours);
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/b/app.sock"));
    }
}
