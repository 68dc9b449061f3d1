//! What small private files have in common on all systems.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A name in the same folder that nobody else uses, for what is to get this name when it is whole.
pub(crate) fn beside(path: &Path) -> PathBuf {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let mut name = OsString::from(path);
    name.push(format!(".{}-{number}.new", std::process::id()));
    name.into()
}

/// All of it, if it is no longer than that.
pub(crate) fn read_at_most(file: File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most + 1);
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(all(test, any(unix, windows)))]
mod tests {
    use std::io::ErrorKind;

    use crate::{create_private_file, read_private_file};

    #[test]
    fn it_is_created_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(read_private_file(&path, 6).unwrap_err().kind(), ErrorKind::NotFound);
        create_private_file(&path, b"secret").unwrap();
        assert_eq!(create_private_file(&path, b"other").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(read_private_file(&path, 6).unwrap(), b"secret");
        assert_eq!(read_private_file(&path, 7).unwrap(), b"secret");
        assert_eq!(read_private_file(&path, 5).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
