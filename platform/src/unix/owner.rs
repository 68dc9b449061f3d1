//! Who serves a datagram socket, known before the first byte is sent.
//!
//! Datagram sockets have no SO_PEERCRED, so the file has to speak for its server: whoever owns it
//! has called bind(2), or was given it by root. That is worth something only if the socket that
//! gets connected is the one behind the file that was looked at.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, Stat, lstat, stat};
use socket2::Socket;

use super::file::is_socket;
use super::names;
use crate::peer::{Credentials, User};

/// Connects a datagram socket to a path. Says who serves there, if that can be relied on.
pub(super) fn connect(socket: &Socket, path: &Path) -> io::Result<Option<Credentials>> {
    let owner = connect_and_look(socket, path)?;
    Ok(owner.map(|uid| Credentials::new(User::Uid(uid), None, None)))
}

/// By a handle, so that nobody can exchange the file between the look and the connection.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn connect_and_look(socket: &Socket, path: &Path) -> io::Result<Option<u32>> {
    use std::os::fd::AsRawFd;

    if let Some((handle, owner)) = vouched_for(path) {
        let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
        match socket.connect(&names::path_address(Path::new(&by_handle))?) {
            // There is no /proc here, or by now no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return connect_between_looks(socket, path);
            }
            connected => return connected.map(|()| Some(owner)),
        }
    }
    // Whatever was wrong is said once more, and better, by this.
    socket.connect(&names::path_address(path)?).map(|()| None)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn vouched_for(path: &Path) -> Option<(std::os::fd::OwnedFd, u32)> {
    use rustix::fs::{OFlags, fstat, open, openat};

    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let folder = open(path.parent()?, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let handle = openat(&folder, path.file_name()?, flags | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    let found = fstat(&handle).ok()?;
    let is_sound = speaks_for_its_owner(&found, &fstat(&folder).ok()?) && !is_fuse(&handle)?;
    is_sound.then_some((handle, found.st_uid))
}

/// Whether a file system is made by a process (fuse(4)), and so says of its files what that likes.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[allow(clippy::unnecessary_cast)] // It has other types on other architectures.
fn is_fuse(handle: impl std::os::fd::AsFd) -> Option<bool> {
    const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
    Some(rustix::fs::fstatfs(handle).ok()?.f_type as i64 == FUSE_SUPER_MAGIC)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn connect_and_look(socket: &Socket, path: &Path) -> io::Result<Option<u32>> {
    connect_between_looks(socket, path)
}

/// By looking before and after, for want of better: the same file, in a folder that only its owner
/// can change. Folders above that one are trusted.
fn connect_between_looks(socket: &Socket, path: &Path) -> io::Result<Option<u32>> {
    let look = || {
        let (found, folder) = (lstat(path).ok()?, stat(path.parent()?).ok()?);
        let file = (found.st_dev, found.st_ino, found.st_uid);
        speaks_for_its_owner(&found, &folder).then_some(file)
    };
    let before = look();
    socket.connect(&names::path_address(path)?)?;
    Ok(before.filter(|_| before == look()).map(|(_, _, uid)| uid))
}

/// Whether a file is a socket, in a folder where nobody but its owner and root can put another in
/// its place.
pub(super) fn speaks_for_its_owner(file: &Stat, folder: &Stat) -> bool {
    let mode = Mode::from_raw_mode(folder.st_mode);
    let is_shared = mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX);
    let keeper = folder.st_uid;
    is_socket(file) && (keeper == 0 || keeper == file.st_uid) && !is_shared
}
