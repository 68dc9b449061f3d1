//! Which file is meant, and of what kind it is.

use rustix::fs::{FileType, Stat};

/// Which file it is, whatever its name. Of the path, not of the descriptor: a socket's own inode is
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[allow(clippy::unnecessary_cast)] // Both have other types on other systems.
    pub(super) fn of(found: &Stat) -> Identity {
        Identity { device: found.st_dev as u64, inode: found.st_ino as u64 }
    }
}

pub(super) fn is_socket(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Socket
}
