//! The right to start a server at an endpoint.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folders::Folders;
use super::lock::PathLock;
use super::names::{self, StreamAddress};
use crate::endpoint::Endpoint;
use crate::start::{Busy, key};

/// The right to start a server at an endpoint, or to leave it as one, among all programs of this user: until it is
/// dropped, or the process ends, however it may. Whoever binds there needs it not; its lock is another.
///
/// # Platform-specific behavior
///
/// Unix: locks (flock(2)) on files beside the socket, or for an endpoint without a file in each of the user's private
/// folders. A program that the holder starts does not keep them. Windows: a named object of the session.
#[derive(Debug)]
pub struct StartLock {
    /// In the order in which everybody takes them.
    locks: Vec<PathLock>,
}

impl StartLock {
    /// Asks for it. Never waits: if another has it, this says what he is at, and is to be asked again.
    ///
    /// # Errors
    ///
    /// If no folder takes the lock's file, or something else is in its place; `PermissionDenied` if another user holds
    /// it, which can happen beside a socket in a folder in which others may create files; `InvalidInput` and `Unsupported` for an
    /// endpoint that is none for streams here.
    pub fn try_acquire(endpoint: &Endpoint) -> io::Result<Result<StartLock, Busy>> {
        match names::stream_address(endpoint)? {
            StreamAddress::Path(path) => {
                let mut path = path.as_os_str().to_owned();
                path.push(".start");
                lock_all(&[path.into()], Vec::new())
            }
            StreamAddress::Local(name) => in_folders(&Folders::of_this_process(), &format!("{name}.start")),
            StreamAddress::Abstract(_) | StreamAddress::Inet { .. } => {
                let name = format!("{}-{}.start", endpoint.scheme(), key(endpoint));
                in_folders(&Folders::of_this_process(), &name)
            }
        }
    }

    /// Says what its holder is at, to those who ask meanwhile.
    pub fn tell(&self, busy: Busy) {
        self.locks.iter().for_each(|lock| lock.note(&busy.note()));
    }
}

impl Drop for StartLock {
    /// The last first: who then asks begins with the one that is given back last.
    fn drop(&mut self) {
        while self.locks.pop().is_some() {}
    }
}

fn in_folders(folders: &Folders, name: &str) -> io::Result<Result<StartLock, Busy>> {
    let (candidates, refused) = folders.for_server(name);
    // The common ones first, beside where the socket is.
    let paths = candidates.into_iter().rev().map(|candidate| candidate.path.with_extension(""));
    lock_all(&paths.collect::<Vec<_>>(), refused)
}

fn lock_all(paths: &[PathBuf], mut refused: Vec<String>) -> io::Result<Result<StartLock, Busy>> {
    let mut held = StartLock { locks: Vec::new() };
    for path in paths {
        match PathLock::acquire(path, Duration::ZERO) {
            Ok(lock) => held.locks.push(lock),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                // A starter of this user's would be worth waiting for.
                if PathLock::of_another(path).is_some() {
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, error.to_string()));
                }
                return Ok(Err(busy(path)));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists || paths.len() == 1 => {
                return Err(error);
            }
            // Read-only, full, not permitted: as good as a folder that is not there.
            Err(error) => refused.push(error.to_string()),
        }
    }
    match held.locks.is_empty() {
        false => Ok(Ok(held)),
        true => {
            let text = format!("no private folder for the lock of a starter: {}", refused.join("; "));
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
    }
}

fn busy(path: &Path) -> Busy {
    PathLock::noted(path).map_or(Busy::Unknown, |note| Busy::read(&note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn files(root: &Path) -> usize {
        ["run", "tmp", "a"].iter().map(|name| fs::read_dir(root.join(name)).map_or(0, Iterator::count)).sum()
    }

    #[test]
    fn one_has_it_whatever_the_others_environment() {
        use std::os::unix::fs::DirBuilderExt;

        let root = tempfile::tempdir().unwrap();
        for name in ["run", "a"] {
            fs::DirBuilder::new().mode(0o700).create(root.path().join(name)).unwrap();
        }
        for (holder, other) in [(None, Some("a")), (Some("a"), None)] {
            let [holder, other] = [holder, other].map(|session| Folders::below_with(root.path(), session));
            let held = in_folders(&holder, "app.start").unwrap().unwrap();
            assert_eq!(in_folders(&other, "app.start").unwrap().unwrap_err(), Busy::Unknown);
            held.tell(Busy::Starting(7));
            assert_eq!(in_folders(&other, "app.start").unwrap().unwrap_err(), Busy::Starting(7));
            in_folders(&other, "another.start").unwrap().unwrap();
            drop(held);
            assert_eq!(files(root.path()), 0);
            in_folders(&other, "app.start").unwrap().unwrap();
        }
    }

    /// Whom to wait for would be for somebody else to say.
    #[test]
    fn one_that_another_user_holds_is_an_error() {
        if super::super::identity::euid() != 0 {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let held = StartLock::try_acquire(&Endpoint::Unix(path.clone())).unwrap().unwrap();
        std::os::unix::fs::chown(folder.path().join("s.start.lock"), Some(65_534), None).unwrap();
        let error = StartLock::try_acquire(&Endpoint::Unix(path.clone())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("s.start.lock") && error.to_string().contains("65534"), "{error}");
        drop(held);
        StartLock::try_acquire(&Endpoint::Unix(path)).unwrap().unwrap();
    }

    #[test]
    fn every_endpoint_for_streams_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let held = StartLock::try_acquire(&Endpoint::Unix(path.clone())).unwrap().unwrap();
        // Binding is another matter.
        PathLock::acquire(&path, Duration::ZERO).unwrap();
        assert!(StartLock::try_acquire(&Endpoint::Unix(path.clone())).unwrap().is_err());
        drop(held);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let pid = std::process::id();
        for text in [format!("abstract:start-lock-{pid}"), format!("local:start-lock-{pid}")] {
            let endpoint = text.parse().unwrap();
            let held = StartLock::try_acquire(&endpoint).unwrap().unwrap();
            assert!(StartLock::try_acquire(&endpoint).unwrap().is_err(), "{endpoint}");
            drop(held);
            StartLock::try_acquire(&endpoint).unwrap().unwrap();
        }
        let error = StartLock::try_acquire(&"udp:127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let missing = Endpoint::Unix(folder.path().join("none/s"));
        assert_eq!(StartLock::try_acquire(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
