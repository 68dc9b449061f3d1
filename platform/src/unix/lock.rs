//! The right to change what is at a path, among all who ask for it.
//!
//! A lock on `PATH.lock`, which is removed while it is held; who had opened it before sees that the
//! path no longer leads to what is locked, and begins again. Where the file system knows no flock(2),
//! a lock on the open file's bytes does (`F_OFD_SETLK`, fcntl(2)). Where that is missing too nobody is
//! kept out, and [`PathLock::keeps_others_out`] says so.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use rustix::fs::{
    FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, lstat, open as open_file, unlink,
};
use rustix::io::{Errno, pread, pwrite};

use super::file::Identity;
use super::identity::euid;
use crate::deadline::{Backoff, Deadline};
#[cfg(test)]
use crate::fault::{self, Call};
use crate::peer::User;

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct PathLock {
    path: PathBuf,
    file: OwnedFd,
    by: Method,
    /// A child that is forked meanwhile has the same descriptor, but the lock is not its to give back.
    maker: u32,
}

/// What keeps others out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Flock,
    /// Goes with the descriptor.
    Record,
    Nothing,
}

impl PathLock {
    /// The lock for the socket at this path. `patience`: how long to wait for who has it; with none, it
    /// is had at once or not at all.
    pub(super) fn acquire(socket: &Path, patience: Duration) -> io::Result<PathLock> {
        let path = lock_path(socket);
        let mut backoff = Backoff::until(Deadline::after(Some(patience)));
        loop {
            if let Some(lock) = PathLock::attempt(&path)? {
                return Ok(lock);
            }
            if !backoff.pause() {
                let text = format!(
                    "another program has been holding the lock {} for {patience:?}{}",
                    path.display(),
                    whose(&path)
                );
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
        }
    }

    /// Whether nobody else can hold it meanwhile.
    pub(super) fn keeps_others_out(&self) -> bool {
        self.by != Method::Nothing
    }

    /// Leaves a word for those who meanwhile ask for it, of at most 32 bytes. Best effort.
    pub(super) fn note(&self, text: &str) {
        // As long as any other, so that one takes the place of the other at once.
        let text = format!("{NOTE}{text:32}");
        if let Err(error) = pwrite(&self.file, text.as_bytes(), 0) {
            log::debug!("can't write into {}: {error}", self.path.display());
        }
    }

    /// What the holder of the lock for this path has left; `None` if that is nothing, or there is none. What another
    /// user has left there is not read: it may say anything.
    pub(super) fn noted(socket: &Path) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = open_file(lock_path(socket), flags, Mode::empty()).ok()?;
        if fstat(&file).ok()?.st_uid != euid() {
            return None;
        }
        read_note(&file)
    }

    /// Whose file the lock for this path is, if it is not ours. Where others can create files, anyone can keep us from
    /// what the lock stands for: by creating it first, and holding it for as long as they like.
    pub(super) fn of_another(socket: &Path) -> Option<User> {
        owner_if_another(&lock_path(socket))
    }

    /// Asks whoever cleans temporary folders up to leave the file alone: for locks that are held for long.
    /// The XDG Base Directory Specification has the sticky bit say so. Best effort: not every system lets
    /// everyone set it.
    pub(super) fn keep(&self) {
        if let Err(error) = fchmod(&self.file, Mode::RUSR | Mode::WUSR | Mode::SVTX) {
            log::debug!("can't set the sticky bit of {}: {error}", self.path.display());
        }
    }

    /// `None`: held by another, or gone meanwhile; try again.
    fn attempt(path: &Path) -> io::Result<Option<PathLock>> {
        let file = match open(path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(Errno::NOENT) => {
                let folder = path.parent().unwrap_or(path).display();
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("the folder {folder} does not exist"),
                ));
            }
            Err(error) => {
                let error = unwritable(error, "can't open the lock", path);
                return Err(io::Error::new(error.kind(), format!("{error}{}", whose(path))));
            }
        };
        let found = fstat(&file)?;
        let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        if !is_file || (found.st_size != 0 && read_note(&file).is_none()) {
            // Ours are empty, or hold a note. This one is somebody's, and would be removed in the end.
            let text =
                format!("{} is needed as a lock, but it is no empty file; it was left alone", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        if found.st_nlink > 1 {
            // A hard link to some file of ours, perhaps, which a note would be written into.
            let text =
                format!("{} is needed as a lock, but it has other names; it was left alone", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let Some(by) = lock(&file, path) else { return Ok(None) };
        match lstat(path) {
            Ok(there) if Identity::of(&there) == Identity::of(&found) => {
                Ok(Some(PathLock { path: path.to_owned(), file, by, maker: process::id() }))
            }
            // We have locked what its last holder removed.
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for PathLock {
    /// Best effort: a file that stays is locked and removed by the next one.
    fn drop(&mut self) {
        if self.maker != process::id() {
            return;
        }
        let _ = unlink(&self.path);
        // Not left to close(2): a child forked meanwhile would hold the lock along with us.
        match self.by {
            Method::Flock => drop(flock(&self.file, FlockOperation::Unlock)),
            Method::Record => drop(record_lock(&self.file, Record::Free)),
            Method::Nothing => {}
        }
    }
}

/// Whose it is, for a text about a lock that can't be had. Nothing if it is ours.
fn whose(path: &Path) -> String {
    owner_if_another(path).map_or_else(String::new, |user| {
        format!("; it belongs to {user}, who may keep it: choose a folder in which only this user may create files")
    })
}

fn owner_if_another(path: &Path) -> Option<User> {
    let owner = lstat(path).ok()?.st_uid;
    (owner != euid()).then_some(User::Uid(owner))
}

/// What a note begins with.
const NOTE: &str = "sidewire: ";

fn read_note(file: &OwnedFd) -> Option<String> {
    let mut text = [0; 64];
    let count = pread(file, &mut text, 0).ok()?;
    std::str::from_utf8(&text[..count]).ok()?.strip_prefix(NOTE).map(|note| note.trim_end().to_owned())
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = OsString::from(socket);
    path.push(".lock");
    path.into()
}

/// Creates the file or opens the one that is there. In two steps, because O_CREAT alone fails on
/// another user's file in a sticky folder, even for root (`fs.protected_regular`, proc(5)).
fn open(path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
    // O_NONBLOCK: should it be a FIFO, we find out later instead of waiting here.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    match open_file(path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
        Err(Errno::EXIST) => {}
        created => {
            // For the next one, whatever our umask has made of the mode.
            return created.map(|file| {
                let _ = fchmod(&file, mode);
                Some(file)
            });
        }
    }
    match open_file(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        // Another starter of ours has yet to set the mode.
        Err(Errno::ACCESS) if lstat(path).is_ok_and(|found| found.st_uid == euid()) => Ok(None),
        opened => opened.map(Some),
    }
}

/// By the first method that the file system knows; `None` if another has it.
fn lock(file: &OwnedFd, path: &Path) -> Option<Method> {
    let refusal = match flock_now(file) {
        Ok(()) => return Some(Method::Flock),
        Err(Errno::WOULDBLOCK | Errno::INTR) => return None,
        Err(error) => error,
    };
    match record_lock(file, Record::Exclusive) {
        Ok(()) => {
            log::debug!("locked {} by fcntl(2), since flock(2) says: {refusal}", path.display());
            Some(Method::Record)
        }
        Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) => None,
        Err(error) => {
            log::warn!(
                "{} can't be locked (flock: {refusal}; fcntl: {error}): going on without",
                path.display()
            );
            Some(Method::Nothing)
        }
    }
}

fn flock_now(file: &OwnedFd) -> rustix::io::Result<()> {
    #[cfg(test)]
    fault::strikes(Call::Lock)?;
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

#[derive(Clone, Copy, Debug)]
enum Record {
    Exclusive,
    Free,
}

/// Locks the whole file for this open file description, not for the process: threads exclude each
/// other, and closing another descriptor of the file changes nothing.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn record_lock(file: &OwnedFd, how: Record) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;

    #[cfg(test)]
    fault::strikes(Call::RecordLock)?;
    let kind = match how {
        Record::Exclusive => libc::F_WRLCK,
        Record::Free => libc::F_UNLCK,
    };
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is borrowed, so open, and `range` is a local that outlives the call.
    let status = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if status == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

/// Not there.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn record_lock(_file: &OwnedFd, _how: Record) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}

/// Says what could not be done where, and what helps against it.
pub(super) fn unwritable(error: Errno, what: &str, path: &Path) -> io::Error {
    let help = match error {
        Errno::ROFS => "; choose a folder that can be written to",
        Errno::NOSPC | Errno::DQUOT => "; make room there (files count too: df -i), or choose another folder",
        Errno::ACCESS | Errno::PERM => "; choose a folder in which this user may create files",
        _ => "",
    };
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{what} {}: {error}{help}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Answer, script};

    /// As [`PathLock::attempt`] where flock(2) is refused.
    #[cfg(target_os = "linux")]
    #[test]
    fn without_flock_a_record_lock_keeps_others_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.lock");
        let [first, second] = [(); 2].map(|()| open(&path).unwrap().unwrap());
        record_lock(&first, Record::Exclusive).unwrap();
        assert_eq!(record_lock(&second, Record::Exclusive), Err(Errno::AGAIN));
        record_lock(&first, Record::Free).unwrap();
        record_lock(&second, Record::Exclusive).unwrap();
        drop(second);
        record_lock(&first, Record::Exclusive).unwrap();
    }

    #[test]
    fn without_patience_a_held_lock_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let held = PathLock::acquire(&path, Duration::ZERO).unwrap();
        assert!(held.keeps_others_out());
        let error = PathLock::acquire(&path, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        drop(held);
        assert!(!folder.path().join("s.lock").exists());
        PathLock::acquire(&path, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_note_is_read_while_the_lock_is_held_and_is_in_nobodys_way_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let held = PathLock::acquire(&path, Duration::ZERO).unwrap();
        assert_eq!(PathLock::noted(&path), None);
        held.note("a longer one");
        held.note("short");
        assert_eq!(PathLock::noted(&path).as_deref(), Some("short"));
        // As one that is killed.
        flock(&held.file, FlockOperation::Unlock).unwrap();
        std::mem::forget(held);
        drop(PathLock::acquire(&path, Duration::ZERO).unwrap());
        assert_eq!(PathLock::noted(&path), None);
        std::fs::write(folder.path().join("s.lock"), "somebody's").unwrap();
        let error = PathLock::acquire(&path, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    /// It would be written into.
    #[test]
    fn a_file_that_has_other_names_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("s"), folder.path().join("other"));
        std::fs::write(&other, "").unwrap();
        std::fs::hard_link(&other, folder.path().join("s.lock")).unwrap();
        let error = PathLock::acquire(&path, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        assert!(other.exists() && folder.path().join("s.lock").exists());
        std::fs::remove_file(other).unwrap();
        PathLock::acquire(&path, Duration::ZERO).unwrap();
    }

    /// In a folder in which others can create files, too. Only root can make one.
    #[test]
    fn a_lock_of_another_user_is_told() {
        if euid() != 0 {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let held = PathLock::acquire(&path, Duration::ZERO).unwrap();
        held.note("starting 1");
        assert!(PathLock::of_another(&path).is_none() && PathLock::noted(&path).is_some());
        std::os::unix::fs::chown(folder.path().join("s.lock"), Some(65_534), None).unwrap();
        assert_eq!(PathLock::of_another(&path), Some(User::Uid(65_534)));
        assert_eq!(PathLock::noted(&path), None);
        let text = PathLock::acquire(&path, Duration::ZERO).unwrap_err().to_string();
        assert!(text.contains("65534") && text.contains("only this user"), "{text}");
        drop(held);
        PathLock::acquire(&path, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_file_system_without_locks_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let none = Answer::Fails(libc::ENOSYS);
        let mut refusals = vec![(Call::Lock, none)];
        if cfg!(any(target_os = "linux", target_os = "android")) {
            // The other lock serves as well.
            let _script = script(&refusals);
            assert!(PathLock::acquire(&path, Duration::ZERO).unwrap().keeps_others_out());
            refusals.push((Call::RecordLock, none));
        }
        let _script = script(&refusals);
        assert!(!PathLock::acquire(&path, Duration::ZERO).unwrap().keeps_others_out());
    }

    #[test]
    fn a_lock_that_is_held_is_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let _script = script(&[libc::EWOULDBLOCK, libc::EINTR].map(|code| (Call::Lock, Answer::Fails(code))));
        PathLock::acquire(&folder.path().join("s"), Duration::from_secs(10)).unwrap();
    }
}
