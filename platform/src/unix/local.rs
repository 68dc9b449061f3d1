//! `local:NAME` for servers: one name for a user, whatever the environment.
//!
//! Which folders a program knows hangs on its environment, but two of them every program of the user
//! knows: the *common* ones. So a server that starts holds the locks of the name in all folders that
//! it knows, the common ones first, and has knocked at all of them before it binds in one; and
//! whose socket is in a folder that others may not know leaves a symbolic link to it in the
//! common ones, by which other servers and clients find it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{lstat, unlink};
use rustix::io::Errno;
use socket2::{Socket, Type};

use super::folders::{Candidate, Folders};
use super::lifecycle::{self, Probe, Role};
use super::lock::PathLock;
use super::names;
use super::placed::{Placed, SocketFile};
use super::rights::Rights;

/// What a server has put into the folders, in the order in which it is to be removed.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) links: Vec<SocketFile>,
    pub(super) socket: SocketFile,
}

/// A folder that can be used, and the name's lock in it.
struct Held {
    candidate: Candidate,
    lock: PathLock,
}

/// Binds the name's socket in the first folder that takes it.
///
/// # Errors
///
/// As [`lifecycle::bind`]; if no folder takes it, why not, of each.
pub(super) fn bind(
    name: &str,
    folders: &Folders,
    role: Role,
    rights: Rights,
    patience: Duration,
) -> io::Result<(Socket, Files)> {
    let (candidates, mut refused) = folders.for_server(name);
    let held = lock_all(&candidates, patience, &mut refused)?;
    for candidate in &candidates {
        refuse_if_served(name, candidate, folders)?;
    }
    for Held { candidate, lock } in &held {
        remove_dead_link(&candidate.path);
        match lifecycle::bind_locked(&candidate.path, role, rights, lock) {
            Ok((socket, file)) => {
                let links = if candidate.is_common { Vec::new() } else { make_links(&held, &candidate.path) };
                return Ok((socket, Files { links, socket: file }));
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => refused.push(error.to_string()),
        }
    }
    let text = format!("no private folder to put the socket in: {}", refused.join("; "));
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Locks the name wherever that is possible. Everybody does it in the same order, the last folder
/// first, in which nobody can then be in another's way twice.
fn lock_all(
    candidates: &[Candidate],
    patience: Duration,
    refused: &mut Vec<String>,
) -> io::Result<Vec<Held>> {
    let mut held = Vec::new();
    for candidate in candidates.iter().rev() {
        match PathLock::acquire(&candidate.path, patience) {
            Ok(lock) => held.push(Held { candidate: candidate.clone(), lock }),
            Err(error) if is_final(&error) => return Err(error),
            // Read-only, full, not permitted: as good as a folder that is not there.
            Err(error) => refused.push(error.to_string()),
        }
    }
    held.reverse();
    Ok(held)
}

/// Whether a failure is not about the folder, so that another can't help.
fn is_final(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AlreadyExists, ResourceBusy};
    matches!(error.kind(), AddrInUse | AlreadyExists | ResourceBusy)
}

/// Fails if a server is there.
fn refuse_if_served(name: &str, candidate: &Candidate, folders: &Folders) -> io::Result<()> {
    let Some(path) = folders.follow(&candidate.path) else { return Ok(()) };
    let Ok(address) = names::path_address(&path) else { return Ok(()) };
    match lifecycle::probe(&address, Type::STREAM)? {
        Probe::Live(what) => {
            let text = format!("local:{name} is taken: {what} ({})", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
        Probe::Nothing | Probe::Dead | Probe::Unknown(_) => Ok(()),
    }
}

/// A link that leads to nobody is in the way of our socket.
fn remove_dead_link(path: &Path) {
    if is_servers_link(path)
        && let Err(error) = unlink(path)
    {
        log::debug!("can't remove {}, which leads to nobody: {error}", path.display());
    }
}

fn is_servers_link(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.is_absolute() && target.file_name() == path.file_name())
}

fn make_links(held: &[Held], socket: &Path) -> Vec<SocketFile> {
    let common = held.iter().filter(|held| held.candidate.is_common);
    common.filter_map(|held| make_link(&held.candidate.path, socket, &held.lock)).collect()
}

/// Best effort: without it only programs that know the socket's folder find the server.
fn make_link(path: &Path, socket: &Path, lock: &PathLock) -> Option<SocketFile> {
    remove_dead_link(path);
    let placed = names::path_address(path)
        .and_then(|address| lifecycle::remove_if_stale(path, &address, Type::STREAM, lock))
        .and_then(|()| symlink(socket, path))
        .and_then(|()| Placed::link(path, socket));
    match placed {
        Ok(placed) => Some(SocketFile::new(placed)),
        Err(error) => {
            log::debug!("no link to {} in {}: {error}", socket.display(), path.display());
            None
        }
    }
}

/// The links of a server that has this socket, and passes it on.
pub(super) fn links_to(socket: &Path, name: &str, folders: &Folders) -> Vec<SocketFile> {
    let (candidates, _) = folders.for_server(name);
    let leads_there = |path: &Path| fs::read_link(path).is_ok_and(|target| target == socket);
    let links = candidates.into_iter().filter(|candidate| leads_there(&candidate.path));
    links
        .filter_map(|candidate| Placed::link(&candidate.path, socket).ok())
        .map(SocketFile::of_another)
        .collect()
}

impl Files {
    /// Where they are.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.links.iter().chain([&self.socket]).map(SocketFile::path)
    }

    /// Puts links back that somebody has removed. They are worth no wait and no warning.
    pub(super) fn restore_links(&mut self, folders: &Folders) {
        let socket: PathBuf = self.socket.path().to_owned();
        for link in &mut self.links {
            if link.is_in_place().unwrap_or(true) {
                continue;
            }
            folders.make_fallback();
            let path = link.path().to_owned();
            let Ok(lock) = PathLock::acquire(&path, Duration::ZERO) else { continue };
            // Another one's link, or socket, is not ours to remove.
            if lstat(&path).err() == Some(Errno::NOENT)
                && let Some(new) = make_link(&path, &socket, &lock)
            {
                log::info!("{} was removed, and leads to {} again", path.display(), socket.display());
                std::mem::replace(link, new).disown();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    /// A user's folders below one of a test's own; the common ones are the same for each.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new(made: &[&str]) -> Home {
            let home = Home(tempfile::tempdir().unwrap());
            made.iter().for_each(|name| home.make(name));
            home
        }

        fn make(&self, name: &str) {
            fs::DirBuilder::new().mode(0o700).create(self.0.path().join(name)).unwrap();
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name).join("app.sock")
        }

        /// What a program sees whose `$XDG_RUNTIME_DIR` is that.
        fn seen_with(&self, session: Option<&str>) -> Folders {
            Folders::below_with(self.0.path(), session)
        }

        fn bind(&self, session: Option<&str>) -> io::Result<(Socket, Files)> {
            let role = Role::Listener { backlog: 8, attachments: false };
            bind("app", &self.seen_with(session), role, Rights::Owner, lifecycle::LOCK_PATIENCE)
        }

        fn assert_taken(&self, session: Option<&str>) {
            let error = self.bind(session).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{session:?}: {error}");
        }
    }

    const ENVIRONMENTS: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("run")];

    /// PROTOCOL A4
    #[test]
    fn a_name_is_taken_for_every_environment_and_found_from_every_one() {
        for made in [&["a", "b", "run"][..], &["a", "b"]] {
            for first in ENVIRONMENTS {
                let home = Home::new(made);
                let (socket, files) = home.bind(first).unwrap();
                for other in ENVIRONMENTS {
                    home.assert_taken(other);
                    let paths = home.seen_with(other).client_paths("app");
                    assert!(
                        paths.contains(&files.socket.path().to_owned()),
                        "{first:?} {other:?}: {paths:?}"
                    );
                }
                drop((files, socket));
                for other in ENVIRONMENTS {
                    home.bind(other).unwrap();
                }
            }
        }
    }

    #[test]
    fn what_a_killed_server_leaves_is_in_nobodys_way() {
        for first in ENVIRONMENTS {
            for second in ENVIRONMENTS {
                let home = Home::new(&["a", "b", "run"]);
                let (socket, files) = home.bind(first).unwrap();
                std::mem::forget(files);
                drop(socket);
                let (_socket, files) = home.bind(second).unwrap();
                home.assert_taken(first);
                let paths = home.seen_with(first).client_paths("app");
                assert!(paths.contains(&files.socket.path().to_owned()), "{first:?} {second:?}: {paths:?}");
            }
        }
    }

    #[test]
    fn of_starters_with_different_environments_exactly_one_wins() {
        for _ in 0..40 {
            let home = Home::new(&["a", "b", "run"]);
            let start = std::sync::Barrier::new(ENVIRONMENTS.len());
            let bound: Vec<_> = std::thread::scope(|scope| {
                let (home, start) = (&home, &start);
                let starters = ENVIRONMENTS.map(|session| {
                    scope.spawn(move || {
                        start.wait();
                        home.bind(session)
                    })
                });
                starters.map(|starter| starter.join().unwrap()).into_iter().filter_map(Result::ok).collect()
            });
            assert_eq!(bound.len(), 1);
        }
    }

    #[test]
    fn nothing_stays_of_a_server_that_goes() {
        let home = Home::new(&["a", "run"]);
        let (socket, files) = home.bind(Some("a")).unwrap();
        assert_eq!(fs::read_link(home.at("tmp")).unwrap(), home.at("a"));
        assert_eq!(fs::read_link(home.at("run")).unwrap(), home.at("a"));
        drop((files, socket));
        for folder in ["a", "run", "tmp"] {
            assert_eq!(fs::read_dir(home.0.path().join(folder)).unwrap().count(), 0, "{folder}");
        }
    }

    /// `$XDG_RUNTIME_DIR` may say `/var/run/user/UID`, which is `/run/user/UID` by another name.
    #[test]
    fn one_folder_by_two_names_is_locked_once() {
        let home = Home::new(&["run"]);
        symlink(home.0.path(), home.0.path().join("var")).unwrap();
        let (_socket, files) = home.bind(Some("var/run")).unwrap();
        assert!(files.links.is_empty());
        home.assert_taken(None);
    }

    #[test]
    fn a_folder_that_takes_no_file_is_passed_over() {
        if super::super::identity::euid() == 0 {
            return; // Nothing is forbidden to root. The tool's tests have a read-only file system.
        }
        let home = Home::new(&["a", "run"]);
        fs::set_permissions(home.0.path().join("a"), fs::Permissions::from_mode(0o500)).unwrap();
        let (_socket, files) = home.bind(Some("a")).unwrap();
        assert_eq!(files.socket.path(), home.at("run"));
    }

    #[test]
    fn a_link_to_a_folder_of_others_is_not_followed() {
        let home = Home::new(&["a", "tmp"]);
        let (_socket, files) = home.bind(Some("a")).unwrap();
        assert_eq!(home.seen_with(None).client_paths("app"), [home.at("a")]);
        fs::set_permissions(home.0.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(home.seen_with(None).client_paths("app"), [""; 0].map(PathBuf::from));
        drop(files);
    }

    #[test]
    fn a_removed_link_comes_back() {
        let home = Home::new(&["a"]);
        let (_socket, mut files) = home.bind(Some("a")).unwrap();
        fs::remove_dir_all(home.0.path().join("tmp")).unwrap();
        files.restore_links(&home.seen_with(Some("a")));
        home.assert_taken(None);
        drop(files);
        assert!(!home.at("tmp").exists());
    }
}
