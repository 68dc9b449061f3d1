//! `local:NAME`: the user's private folders, in which `NAME.sock` is put and looked for.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, chmod, lstat, mkdir};
use rustix::io::Errno;

use super::file::Identity;
use super::identity::euid;
use super::names::fits;

/// The folders that may hold a user's sockets, the preferred one first, and who the user is.
/// A value, so that tests need not touch the environment.
#[derive(Debug)]
pub(super) struct Folders {
    uid: u32,
    /// `$XDG_RUNTIME_DIR`, if set (XDG Base Directory Specification).
    session: Option<PathBuf>,
    /// `/run/user/UID`, where pam_systemd(8) puts it; the same folder as a rule, but known to
    /// programs that were started without the variable.
    runtime: PathBuf,
    /// `/tmp/sidewire-UID`, which is created when it is missing.
    fallback: PathBuf,
}

/// A path at which a server's socket may be.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    folder: Identity,
    /// Whether every program of the user looks there, whatever its environment.
    pub(super) is_common: bool,
}

/// Why a folder is passed over.
#[derive(Debug)]
enum Unusable {
    Missing,
    System(Errno),
    Relative,
    NoFolder,
    Owner(u32),
    Mode(Mode),
    TooLong,
}

impl Folders {
    pub(super) fn of_this_process() -> Folders {
        let uid = euid();
        Folders {
            uid,
            session: env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()).map(PathBuf::from),
            runtime: format!("/run/user/{uid}").into(),
            fallback: format!("/tmp/sidewire-{uid}").into(),
        }
    }

    /// The three folders below one of a test's own, none of them created yet.
    #[cfg(test)]
    pub(super) fn below(root: &Path) -> Folders {
        Folders::below_with(root, Some("session"))
    }

    /// The same with another session's folder, or none.
    #[cfg(test)]
    pub(super) fn below_with(root: &Path, session: Option<&str>) -> Folders {
        let session = session.map(|name| root.join(name));
        Folders { uid: euid(), session, runtime: root.join("run"), fallback: root.join("tmp") }
    }

    /// Where a server of this name may be, the preferred place first, and why not elsewhere. The
    /// common folder that every program of the user can compute is created if it is missing.
    pub(super) fn for_server(&self, name: &str) -> (Vec<Candidate>, Vec<String>) {
        self.make_fallback();
        let (mut candidates, mut refused) = (Vec::<Candidate>::new(), Vec::new());
        for (folder, found) in self.paths(name) {
            let is_common = folder == self.runtime || folder == self.fallback;
            match found {
                Ok((path, identity)) => {
                    match candidates.iter_mut().find(|candidate| candidate.folder == identity) {
                        // By another name.
                        Some(same) => same.is_common |= is_common,
                        None => candidates.push(Candidate { path, folder: identity, is_common }),
                    }
                }
                Err(why) => refused.push(format!("{} {why}", folder.display())),
            }
        }
        (candidates, refused)
    }

    /// A path for a socket that nobody has to find.
    pub(super) fn private_path(&self, name: &str) -> io::Result<PathBuf> {
        let (candidates, refused) = self.for_server(name);
        candidates.into_iter().next().map(|candidate| candidate.path).ok_or_else(|| {
            let text = format!("no private folder to put the socket in: {}", refused.join("; "));
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        })
    }

    /// Every path at which a client may find its server, in order; perhaps none.
    pub(super) fn client_paths(&self, name: &str) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for path in self.paths(name).filter_map(|(_, found)| self.follow(&found.ok()?.0)) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// Those of the folders that are there and private, the preferred one first.
    pub(super) fn private_folders(&self) -> impl Iterator<Item = PathBuf> {
        let mut seen = Vec::new();
        self.candidates().filter(move |folder| {
            // One may go by two names.
            let identity = check(folder, self.uid).ok();
            identity.is_some_and(|identity| {
                !seen.contains(&identity) && {
                    seen.push(identity);
                    true
                }
            })
        })
    }

    /// The names of what lies in these folders and may be a server's socket, each once.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for entry in self.private_folders().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten()
        {
            let may_be = entry.file_type().is_ok_and(|kind| kind.is_socket() || kind.is_symlink());
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".sock"));
            names.extend(name.filter(|_| may_be).map(str::to_owned));
        }
        names
    }

    /// Where a server's link leads (see [`local`](super::local)), if that is a private folder too;
    /// whatever else is at the path is taken as it is.
    pub(super) fn follow(&self, path: &Path) -> Option<PathBuf> {
        match fs::read_link(path) {
            Ok(target) if target.is_absolute() && target.file_name() == path.file_name() => {
                check(target.parent()?, self.uid).is_ok().then_some(target)
            }
            _ => Some(path.to_owned()),
        }
    }

    /// Creates the folder of last resort. Others can't put anything in our place: what is not ours is
    /// refused when it is looked at.
    pub(super) fn make_fallback(&self) {
        if mkdir(&self.fallback, Mode::RWXU).is_err() {
            return;
        }
        // The umask may have taken something even from us.
        match lstat(&self.fallback) {
            Ok(found) if found.st_uid == self.uid && Mode::from_raw_mode(found.st_mode) != Mode::RWXU => {
                let _ = chmod(&self.fallback, Mode::RWXU);
            }
            _ => {}
        }
    }

    /// Says where a client has looked, for an error's text.
    pub(super) fn describe(&self) -> String {
        let folders: Vec<_> = self.candidates().map(|folder| folder.display().to_string()).collect();
        folders.join(", ")
    }

    fn candidates(&self) -> impl Iterator<Item = PathBuf> {
        // Taken apart and put together again: a slash at the end would make lstat follow a symlink.
        let session = self.session.iter().map(|path| path.components().collect::<PathBuf>());
        let session = session.filter(|session| *session != self.runtime);
        session.chain([self.runtime.clone(), self.fallback.clone()])
    }

    fn paths(&self, name: &str) -> impl Iterator<Item = (PathBuf, Result<(PathBuf, Identity), Unusable>)> {
        let file = format!("{name}.sock");
        self.candidates().map(move |folder| {
            let path = folder.join(&file);
            let candidate = check(&folder, self.uid)
                .and_then(|identity| if fits(&path) { Ok((path, identity)) } else { Err(Unusable::TooLong) });
            (folder, candidate)
        })
    }
}

/// Whether a folder is private, and if not, why.
pub(super) fn private(folder: &Path) -> Result<(), String> {
    check(folder, euid()).map(drop).map_err(|why| why.to_string())
}

/// Whether a folder is private: ours, and closed to everyone else. Says which it is.
fn check(folder: &Path, uid: u32) -> Result<Identity, Unusable> {
    if !folder.is_absolute() {
        return Err(Unusable::Relative);
    }
    let found = match lstat(folder) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Err(Unusable::Missing),
        Err(error) => return Err(Unusable::System(error)),
    };
    let mode = Mode::from_raw_mode(found.st_mode);
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(Unusable::NoFolder);
    }
    if found.st_uid != uid {
        return Err(Unusable::Owner(found.st_uid));
    }
    if mode.intersects(Mode::RWXG | Mode::RWXO) {
        return Err(Unusable::Mode(mode));
    }
    Ok(Identity::of(&found))
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Missing => f.write_str("does not exist"),
            Unusable::System(error) => write!(f, "can't be looked at: {error}"),
            Unusable::Relative => f.write_str("is not an absolute path"),
            Unusable::NoFolder => f.write_str("is not a folder (a symbolic link does not count)"),
            Unusable::Owner(uid) => write!(f, "belongs to uid {uid}"),
            Unusable::Mode(mode) => write!(f, "is open to others (mode {:04o}, needs 0700)", mode.bits()),
            Unusable::TooLong => f.write_str("makes the socket's path too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folders(session: Option<&str>) -> (tempfile::TempDir, Folders) {
        let root = tempfile::tempdir().unwrap();
        let mut folders = Folders::below(root.path());
        folders.session = session.map(|name| root.path().join(name));
        (root, folders)
    }

    fn make(path: &Path, mode: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_first_private_folder_is_taken_and_the_client_tries_all() {
        let (root, folders) = folders(Some("session"));
        let at = |name: &str| root.path().join(name).join("app.sock");
        assert_eq!(folders.client_paths("app"), Vec::<PathBuf>::new());
        assert_eq!(folders.private_path("app").unwrap(), at("tmp"));
        assert_eq!(fs::metadata(&folders.fallback).unwrap().permissions().mode() & 0o7777, 0o700);
        make(&root.path().join("run"), 0o700);
        assert_eq!(folders.private_path("app").unwrap(), at("run"));
        make(&root.path().join("session"), 0o700);
        assert_eq!(folders.private_path("app").unwrap(), at("session"));
        assert_eq!(folders.client_paths("app"), [at("session"), at("run"), at("tmp")]);
    }

    #[test]
    fn folders_that_others_can_reach_are_refused() {
        let (root, folders) = folders(Some("link/"));
        make(&root.path().join("real"), 0o700);
        symlink(root.path().join("real"), root.path().join("link")).unwrap();
        make(&folders.runtime, 0o755);
        make(&folders.fallback, 0o710);
        assert_eq!(folders.client_paths("app"), Vec::<PathBuf>::new());
        let error = folders.private_path("app").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        for word in ["link", "symbolic link", "mode 0755", "mode 0710"] {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn a_folder_of_someone_else_is_refused() {
        let (_root, mut folders) = folders(None);
        make(&folders.runtime, 0o700);
        folders.uid += 1;
        let error = folders.private_path("app").unwrap_err();
        assert!(error.to_string().contains("belongs to uid"), "{error}");
    }

    #[test]
    fn files_and_relative_folders_are_refused() {
        let (_root, mut folders) = folders(None);
        folders.session = Some("relative".into());
        fs::write(&folders.runtime, "").unwrap();
        fs::write(&folders.fallback, "").unwrap();
        let error = folders.private_path("app").unwrap_err();
        assert!(
            error.to_string().contains("absolute") && error.to_string().contains("not a folder"),
            "{error}"
        );
    }

    #[test]
    fn names_are_those_of_sockets_in_private_folders_each_once() {
        let (root, folders) = folders(Some("session"));
        for (folder, mode) in [("session", 0o700), ("run", 0o755), ("tmp", 0o700)] {
            make(&root.path().join(folder), mode);
        }
        let bind =
            |place: &str| drop(std::os::unix::net::UnixListener::bind(root.path().join(place)).unwrap());
        for place in
            ["session/a.sock", "tmp/a.sock", "tmp/b.sock", "run/c.sock", "tmp/d.socket", "tmp/.e.sock"]
        {
            bind(place);
        }
        symlink(root.path().join("session/f.sock"), root.path().join("tmp/f.sock")).unwrap();
        fs::write(root.path().join("tmp/g.sock"), "").unwrap();
        assert_eq!(folders.names().into_iter().collect::<Vec<_>>(), [".e", "a", "b", "f"]);
        assert!("local:.e".parse::<crate::Endpoint>().is_err(), "which is no name");
    }

    #[test]
    fn a_path_that_gets_too_long_falls_to_the_next_folder() {
        let (root, mut folders) = folders(None);
        let long = root.path().join("x".repeat(100));
        make(&long, 0o700);
        folders.session = Some(long);
        assert!(folders.private_path("app").unwrap().starts_with(&folders.fallback));
        folders.runtime = folders.session.clone().unwrap();
        folders.fallback = folders.runtime.join("more");
        let error = folders.private_path("app").unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }

    #[test]
    fn one_folder_named_twice_is_tried_once() {
        let (root, folders) = folders(Some("run/"));
        make(&root.path().join("run"), 0o700);
        assert_eq!(folders.client_paths("app").len(), 1);
    }
}
