//! The one instance of an app: locks that a living process holds.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folders::{self, Folders};
use super::lock::PathLock;
use super::names;
use crate::Endpoint;
use crate::instance::Claim;

/// The right to be the one instance of an app, until it is dropped, or the process ends however it may.
///
/// # Platform-specific behavior
///
/// Unix: locks (flock(2)) on `APP.instance.lock` in each of the user's private folders, the same as those of
/// `local:` endpoints. A program that the holder starts does not keep them; a child that is merely forked holds
/// them along with its parent. Windows: a named object of the session.
#[derive(Debug)]
pub struct InstanceLock {
    /// The first that was had comes first.
    locks: Vec<PathLock>,
}

impl InstanceLock {
    /// Asks to be the instance of this app. Never waits.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` where there is no private folder that takes a file, with what is wrong with each;
    /// `AlreadyExists` for a file in the place of a lock that is none.
    pub fn claim(app: &str) -> io::Result<Claim> {
        claim_in(&Home::of_this_process()?, app)
    }

    /// Where the instance of this app is to be met: `local:APP.instance`, and in a Flatpak sandbox a socket in
    /// the folder that those of one app share.
    ///
    /// # Errors
    ///
    /// If the sandbox has no such folder, or the socket's path there is too long.
    pub fn endpoint(app: &str) -> io::Result<Endpoint> {
        Home::of_this_process()?.endpoint(app)
    }
}

impl Drop for InstanceLock {
    /// The last first: who then asks begins with the one that is given back last.
    fn drop(&mut self) {
        while self.locks.pop().is_some() {}
    }
}

/// Lets this process put its window in front.
///
/// # Platform-specific behavior
///
/// Unix: there is nothing to be done for it, and the answer is `false`; Wayland and X11 want a token, which the
/// starter finds in its environment (`XDG_ACTIVATION_TOKEN`, `DESKTOP_STARTUP_ID`).
#[must_use]
pub fn allow_foreground(pid: u32) -> bool {
    let _ = pid;
    false
}

/// Where the processes of a user meet.
#[derive(Debug)]
enum Home {
    /// Those of `local:` endpoints.
    Folders(Folders),
    /// `$XDG_RUNTIME_DIR/app/$FLATPAK_ID`, the only folder that two sandboxes of an app share
    /// (flatpak-run(1)); all others would be another one in each.
    Sandbox { folder: PathBuf, id: String },
}

impl Home {
    fn of_this_process() -> io::Result<Home> {
        let id = env::var("FLATPAK_ID").ok().filter(|_| Path::new("/.flatpak-info").exists());
        match id {
            None => Ok(Home::Folders(Folders::of_this_process())),
            Some(id) => Home::of_sandbox(env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), id),
        }
    }

    fn of_sandbox(runtime: Option<PathBuf>, id: String) -> io::Result<Home> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if id.starts_with('.') || !id.bytes().all(is_name) {
            return Err(unusable(format!("FLATPAK_ID is no name of an app: {}", id.escape_debug())));
        }
        let Some(runtime) = runtime else {
            return Err(unusable("the sandbox has no XDG_RUNTIME_DIR".into()));
        };
        let folder = runtime.join("app").join(&id);
        match folders::private(&folder) {
            Ok(()) => Ok(Home::Sandbox { folder, id }),
            Err(why) => Err(unusable(format!("{} {why}", folder.display()))),
        }
    }

    /// The paths that a lock is for, in the order in which everybody takes them.
    fn paths(&self, app: &str) -> (Vec<PathBuf>, Vec<String>) {
        match self {
            Home::Folders(folders) => {
                let (candidates, refused) = folders.for_server(&name(app));
                // `APP.instance`, beside the socket's `APP.instance.sock`.
                let paths = candidates.into_iter().rev().map(|candidate| candidate.path.with_extension(""));
                (paths.collect(), refused)
            }
            Home::Sandbox { folder, id } => (vec![folder.join(name_in_sandbox(id, app))], Vec::new()),
        }
    }

    fn endpoint(&self, app: &str) -> io::Result<Endpoint> {
        match self {
            Home::Folders(_) => Ok(Endpoint::Local(name(app))),
            Home::Sandbox { folder, id } => {
                let path = folder.join(name_in_sandbox(id, app) + ".sock");
                names::path_address(&path).map(|_| Endpoint::Unix(path))
            }
        }
    }
}

fn name(app: &str) -> String {
    format!("{app}.instance")
}

/// The folder has the app's name already, and a socket's path is short.
fn name_in_sandbox(id: &str, app: &str) -> String {
    if id == app { "instance".into() } else { name(app) }
}

fn claim_in(home: &Home, app: &str) -> io::Result<Claim> {
    let (paths, mut refused) = home.paths(app);
    let mut held = InstanceLock { locks: Vec::new() };
    for path in &paths {
        match PathLock::acquire(path, Duration::ZERO) {
            Ok(lock) => {
                lock.keep();
                held.locks.push(lock);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::ResourceBusy => return Ok(Claim::Taken),
                io::ErrorKind::AlreadyExists => return Err(error),
                // Read-only, full, not permitted: as good as a folder that is not there.
                _ => refused.push(error.to_string()),
            },
        }
    }
    match held.locks.is_empty() {
        false => Ok(Claim::Ours(held)),
        true => Err(unusable(format!("no private folder for the lock: {}", refused.join("; ")))),
    }
}

fn unusable(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    fn make(path: &Path) {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(path).unwrap();
    }

    fn is_taken(home: &Home) -> bool {
        match claim_in(home, "app").unwrap() {
            Claim::Ours(_) => false,
            Claim::Taken => true,
            claim @ Claim::OutOfReach(_) => panic!("{claim:?}"),
        }
    }

    /// How many files there are in the three folders.
    fn files(root: &Path) -> usize {
        let folder = |name: &str| fs::read_dir(root.join(name)).map_or(0, |found| found.count());
        ["session", "run", "tmp"].into_iter().map(folder).sum()
    }

    #[test]
    fn one_holds_it_whatever_the_others_environment() {
        for (holder, other) in [(Some("session"), None), (None, Some("session"))] {
            let root = tempfile::tempdir().unwrap();
            ["session", "run"].into_iter().for_each(|name| make(&root.path().join(name)));
            let home = |session| Home::Folders(Folders::below_with(root.path(), session));
            let held = claim_in(&home(holder), "app").unwrap();
            assert!(matches!(held, Claim::Ours(_)), "{held:?}");
            assert!(is_taken(&home(holder)) && is_taken(&home(other)));
            assert!(matches!(claim_in(&home(other), "other").unwrap(), Claim::Ours(_)));
            drop(held);
            assert_eq!(files(root.path()), 0);
            assert!(!is_taken(&home(other)));
        }
    }

    #[test]
    fn what_a_killed_holder_leaves_is_in_nobodys_way() {
        let root = tempfile::tempdir().unwrap();
        make(&root.path().join("run"));
        let home = Home::Folders(Folders::below_with(root.path(), None));
        fs::DirBuilder::new().mode(0o700).create(root.path().join("tmp")).unwrap();
        for name in ["run", "tmp"] {
            fs::write(root.path().join(name).join("app.instance.lock"), "").unwrap();
        }
        let held = claim_in(&home, "app").unwrap();
        assert!(matches!(held, Claim::Ours(_)), "{held:?}");
        drop(held);
        assert_eq!(files(root.path()), 0);
    }

    /// Who cleans temporary folders up leaves such files alone (XDG Base Directory Specification).
    #[test]
    fn the_lock_asks_to_be_kept() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::Folders(Folders::below_with(root.path(), None));
        let _held = claim_in(&home, "app").unwrap();
        let found = fs::metadata(root.path().join("tmp/app.instance.lock")).unwrap();
        let wanted = if cfg!(any(target_os = "linux", target_os = "android")) { 0o1600 } else { 0o600 };
        assert_eq!(found.permissions().mode() & 0o7777, wanted);
    }

    #[test]
    fn without_a_private_folder_it_says_why() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("tmp"), "").unwrap();
        let home = Home::Folders(Folders::below_with(root.path(), None));
        let error = claim_in(&home, "app").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("not a folder"), "{error}");
        assert_eq!(home.endpoint("app").unwrap(), Endpoint::Local("app.instance".into()));
    }

    #[test]
    fn sandboxes_of_an_app_meet_in_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("app/com.example.app");
        make(&folder);
        let sandbox = |id: &str| Home::of_sandbox(Some(root.path().to_owned()), id.into());
        let home = sandbox("com.example.app").unwrap();
        let held = claim_in(&home, "com.example.app").unwrap();
        assert!(matches!(held, Claim::Ours(_)), "{held:?}");
        assert!(folder.join("instance.lock").exists());
        let again = claim_in(&sandbox("com.example.app").unwrap(), "com.example.app").unwrap();
        assert!(matches!(again, Claim::Taken), "{again:?}");
        let endpoint = |app| home.endpoint(app).unwrap();
        assert_eq!(endpoint("com.example.app"), Endpoint::Unix(folder.join("instance.sock")));
        assert_eq!(endpoint("other"), Endpoint::Unix(folder.join("other.instance.sock")));
        for (id, word) in [("com.example.none", "does not exist"), ("../x", "no name"), ("..", "no name")] {
            let error = sandbox(id).unwrap_err();
            assert!(error.to_string().contains(word), "{id}: {error}");
        }
        assert!(Home::of_sandbox(None, "x".into()).unwrap_err().to_string().contains("XDG_RUNTIME_DIR"));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(sandbox("com.example.app").unwrap_err().to_string().contains("mode 0755"));
    }
}
