//! Why an endpoint can't be opened, in more words than an errno has. Looked up after the fact, for
//! an error's text only.

use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode, Stat, lstat, stat};
use rustix::io::Errno;

use super::file::is_socket;
use super::identity::euid;

/// The same error, of the same kind, with what the file system tells about its cause.
pub(super) fn explain(path: &Path, error: io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => closed(path),
        io::ErrorKind::ConnectionRefused => dead(path),
        io::ErrorKind::NotFound => missing(path),
        _ => None,
    };
    match why {
        Some(why) => io::Error::new(error.kind(), format!("{error}: {why}")),
        None => error,
    }
}

/// Whose the socket is that we may not write to, or the folder that we may not enter.
fn closed(path: &Path) -> Option<String> {
    if let Ok(found) = stat(path) {
        return Some(format!("the socket {}", owner(&found)));
    }
    // The innermost folder that can be seen is the one that lets nobody further.
    let (folder, found) = path.ancestors().skip(1).find_map(|folder| Some((folder, stat(folder).ok()?)))?;
    Some(format!("the folder {} {}", folder.display(), owner(&found)))
}

fn owner(found: &Stat) -> String {
    let mode = Mode::from_raw_mode(found.st_mode).bits();
    format!("belongs to uid {} and has mode {mode:04o}; this is uid {}", found.st_uid, euid())
}

/// Nobody listens: because it is no socket at all, or one whose server has ended.
fn dead(path: &Path) -> Option<String> {
    let found = stat(path).ok()?;
    if is_socket(&found) {
        return Some("the socket of a server that has ended, or does not listen yet".into());
    }
    let what = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a folder",
        FileType::Fifo => "a FIFO",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    };
    Some(format!("what is there is {what}, no socket"))
}

fn missing(path: &Path) -> Option<String> {
    if let Ok(link) = lstat(path)
        && FileType::from_raw_mode(link.st_mode) == FileType::Symlink
    {
        return Some("what is there is a symbolic link that leads nowhere".into());
    }
    let folder = path.parent()?;
    matches!(stat(folder), Err(Errno::NOENT))
        .then(|| format!("the folder {} does not exist", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixListener, UnixStream};

    /// What connecting there says.
    fn said(path: &Path) -> (io::ErrorKind, String) {
        let error = explain(path, UnixStream::connect(path).expect_err("nobody is there"));
        (error.kind(), error.to_string())
    }

    #[test]
    fn what_is_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        symlink(at("nowhere"), at("link")).unwrap();
        drop(UnixListener::bind(at("dead")).unwrap());
        for (path, kind, words) in [
            (at("file"), io::ErrorKind::ConnectionRefused, "a regular file, no socket"),
            (at("folder"), io::ErrorKind::ConnectionRefused, "a folder, no socket"),
            (at("dead"), io::ErrorKind::ConnectionRefused, "a server that has ended"),
            (at("link"), io::ErrorKind::NotFound, "leads nowhere"),
            (at("no/x"), io::ErrorKind::NotFound, "no does not exist"),
            (at("none"), io::ErrorKind::NotFound, "No such file"),
        ] {
            let (found, text) = said(&path);
            assert_eq!(found, kind, "{text}");
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn who_keeps_us_out_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let _server = UnixListener::bind(&path).unwrap();
        let error = explain(&path, Errno::ACCESS.into());
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let words = format!("the socket belongs to uid {} and has mode 0", euid());
        assert!(error.to_string().contains(&words), "{error}");
        // Where not even the file can be seen, its folder is what keeps us out.
        let error = explain(&folder.path().join("x/y"), Errno::ACCESS.into());
        let words = format!("the folder {} belongs to uid", folder.path().display());
        assert!(error.to_string().contains(&words), "{error}");
    }
}
