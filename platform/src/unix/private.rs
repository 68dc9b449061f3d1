//! Small files that only their owner reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;

/// Creates a file with these bytes, which only this user may read. What is there already is left as it is; nobody sees a
/// part of the file under its name, whenever this ends.
///
/// # Errors
///
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists), also if that is a link to nothing; what open(2) says.
///
/// # Platform-specific behavior
///
/// Unix: mode 0600, less what umask(2) takes away. Windows: a descriptor of this user and SYSTEM, and of nobody else.
pub fn create_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = crate::private::beside(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| fs::hard_link(&beside, path));
    fs::remove_file(&beside).and(placed)
}

/// Reads such a file, at most so many bytes. Whether nobody else may read or write it, nor may have written it, is looked
/// at in the file that is read, not by its name.
///
/// # Errors
///
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if others may, or if it is no file;
/// [`InvalidData`](io::ErrorKind::InvalidData) if it is longer; what open(2) says.
///
/// # Platform-specific behavior
///
/// Unix: it belongs to this user or to root, has no bit of mode 0077, and is no symbolic link. Windows: it belongs to this
/// user, to SYSTEM or to the Administrators, and nobody else is allowed anything with it.
pub fn read_private_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if let Some(objection) = objection(&file)? {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, objection));
    }
    crate::private::read_at_most(file, most)
}

fn objection(file: &File) -> io::Result<Option<String>> {
    let found = file.metadata()?;
    let us = geteuid().as_raw();
    Ok(if !found.is_file() {
        Some("it is no file".to_owned())
    } else if found.uid() != us && found.uid() != 0 {
        Some(format!("it belongs to uid {}, and this is uid {us}", found.uid()))
    } else if found.mode() & 0o077 != 0 {
        Some(format!("others may read or write it (mode {:o}); it has to be 600", found.mode() & 0o777))
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_others_may_read_or_write_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private_file(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        for (mode, may) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = read_private_file(&path, 6);
            assert_eq!(read.is_ok(), may, "{mode:o} {read:?}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read_private_file(&link, 6).is_err(), "a link may lead anywhere tomorrow");
        assert!(create_private_file(&link, b"x").is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists));
        assert_eq!(
            read_private_file(folder.path(), 6).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied,
            "a folder"
        );
    }

    #[test]
    fn of_another_user_it_is_not_read() {
        if !geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private_file(&path, b"secret").unwrap();
        std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
        let error = read_private_file(&path, 6).unwrap_err();
        assert!(error.to_string().contains("4711"), "{error}");
    }
}
