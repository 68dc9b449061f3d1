//! The life of a socket's file: created with its final rights, put in the place of a dead one but
//! never of a live one, removed by the one who made it.
//!
//! Two starters that find the same stale file must not both replace it: the second would remove
//! the first one's fresh socket. So whoever binds holds a lock on `PATH.lock` from before bind(2)
//! until after listen(2). The lock file is removed while it is held; who had opened it before sees
//! that the path no longer leads to what is locked, and begins again.

use std::ffi::OsString;
use std::io;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::fs::chmod;
use rustix::fs::{
    FileType, FlockOperation, Mode, OFlags, Stat, fchmod, flock, fstat, lstat, open as open_file, unlink,
};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::deadline::{Backoff, Deadline};
use super::{names, socket};

/// How long a starter waits for others that are starting at the same path: they hold the lock for
/// well under a millisecond each.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How long a listener waits for the lock when it goes. It needs it less; see [`SocketFile`].
const LOCK_PATIENCE_AT_END: Duration = Duration::from_millis(250);
/// How often binding is tried while programs that know nothing of the lock come and go at the path.
const ATTEMPTS: u32 = 8;

/// What a socket is bound for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// To listen for connections, so many of which may wait.
    Listener { backlog: i32 },
    /// To receive datagrams, each with its sender's credentials.
    Datagrams,
}

impl Role {
    /// A socket of the right kind, as yet without a name.
    pub(super) fn socket(self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, self.kind(), None)?;
        socket::refuse_descriptors(&socket);
        match self {
            Role::Listener { .. } => {}
            // Before bind(2), since what arrives earlier has none.
            Role::Datagrams => socket::want_credentials(&socket)?,
        }
        Ok(socket)
    }

    fn kind(self) -> Type {
        match self {
            Role::Listener { .. } => Type::STREAM,
            Role::Datagrams => Type::DGRAM,
        }
    }

    /// The last step of binding.
    pub(super) fn start(self, socket: &Socket) -> io::Result<()> {
        match self {
            Role::Listener { backlog } => socket.listen(backlog),
            Role::Datagrams => Ok(()),
        }
    }
}

/// Binds a server's Unix socket to a path.
///
/// # Errors
///
/// [`io::ErrorKind::AddrInUse`] for a live server, [`io::ErrorKind::AlreadyExists`] for something
/// that is no socket, [`io::ErrorKind::ResourceBusy`] if the lock can't be had in time.
pub(super) fn bind(path: &Path, role: Role, anyone: bool) -> io::Result<(Socket, SocketFile)> {
    let address = names::path_address(path)?;
    let lock = PathLock::acquire(path, LOCK_PATIENCE)?;
    let socket = role.socket()?;
    if HAS_SOCKET_MODE {
        fchmod(&socket, PRIVATE)?;
    }
    bind_in_place(&socket, path, &address, role)?;
    let file = SocketFile::found_at(path)?;
    let mode = if anyone { Mode::from_raw_mode(0o666) } else { PRIVATE };
    let ready = if HAS_SOCKET_MODE && !anyone { Ok(()) } else { file.set_mode(mode) };
    let started = ready.and_then(|()| role.start(&socket));
    // From here on the path leads to a live server, or `file` removes it and wants the lock itself.
    drop(lock);
    started.map(|()| (socket, file))
}

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Whether bind(2) gives the file the mode of the descriptor (less the umask), so that no moment
/// comes at which it has another. Where it does not, fchmod(2) refuses sockets, and the mode is
/// set late; for a listener in time, since until listen(2) every connect(2) is refused, but a
/// datagram socket can be reached for that moment by whom the umask lets in.
const HAS_SOCKET_MODE: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Binds, and makes room first where a dead server left its socket. The lock must be held.
fn bind_in_place(socket: &Socket, path: &Path, address: &SockAddr, role: Role) -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        match socket.bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_if_stale(path, address, role.kind())?;
            }
            bound => return bound,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "other programs keep creating and removing sockets at this path",
    ))
}

/// Removes a socket that nobody serves.
fn remove_if_stale(path: &Path, address: &SockAddr, kind: Type) -> io::Result<()> {
    match lstat(path) {
        Ok(found) if is_socket(&found) => {}
        Ok(_) => return Err(in_the_way(path)),
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let in_use = |text: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    // Connecting a datagram socket sends nothing: its server does not notice.
    let probe = Socket::new(Domain::UNIX, kind, None)?;
    probe.set_nonblocking(true)?;
    let Err(error) = probe.connect(address) else {
        return in_use("a server is already listening here");
    };
    match Errno::from_io_error(&error) {
        Some(Errno::CONNREFUSED) => match unlink(path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => {
                let text = format!("the socket that a dead server left here can't be removed: {error}");
                Err(io::Error::new(io::Error::from(error).kind(), text))
            }
        },
        Some(Errno::NOENT) => Ok(()),
        // Only a live socket can have a full backlog (connect(2)).
        Some(Errno::AGAIN | Errno::INPROGRESS) => {
            in_use("a server is already listening here; its backlog is full")
        }
        Some(Errno::PROTOTYPE) if kind == Type::DGRAM => {
            in_use("a socket of another kind (stream?) is in use here")
        }
        Some(Errno::PROTOTYPE) => in_use("a socket of another kind (datagram?) is in use here"),
        // A datagram socket that has chosen another peer takes nothing from us, but it lives.
        Some(Errno::PERM) => in_use("a datagram socket that is connected elsewhere is in use here"),
        _ => {
            let text = format!(
                "there is a socket here already, and whether its server lives can't be told: {error}"
            );
            Err(io::Error::new(error.kind(), text))
        }
    }
}

fn in_the_way(path: &Path) -> io::Error {
    let text = format!("{} exists and is not a socket; it was left alone", path.display());
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

pub(super) fn is_socket(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Socket
}

/// The file of a bound socket. Removed on drop, if it is still the one that we made.
///
/// Drop this before the socket: as long as that is open, its inode's number can't be given to
/// another file, and other starters see a live server and keep away, even if the lock was not to
/// be had.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Which file it is, whatever its name. Of the path, not of the descriptor: a socket's own inode is
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[allow(clippy::unnecessary_cast)] // Both have other types on other systems.
    fn of(found: &Stat) -> Identity {
        Identity { device: found.st_dev as u64, inode: found.st_ino as u64 }
    }
}

impl SocketFile {
    fn found_at(path: &Path) -> io::Result<SocketFile> {
        let found = lstat(path)?;
        if !is_socket(&found) {
            return Err(in_the_way(path));
        }
        Ok(SocketFile { path: path.to_owned(), identity: Identity::of(&found) })
    }

    /// Whether this is it, by whatever way it was found.
    pub(super) fn is(&self, found: &Stat) -> bool {
        Identity::of(found) == self.identity
    }

    /// By a handle that is known to be our file, not by the path, which in a folder of someone else
    /// may by now be a symbolic link to something of ours.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn set_mode(&self, mode: Mode) -> io::Result<()> {
        let handle = open_file(&self.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if !self.is(&fstat(&handle)?) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "the socket was replaced by someone else at once",
            ));
        }
        // fchmod(2) takes no such handle, but it has a path of its own (open(2), O_PATH).
        let own_path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        chmod(own_path, mode)
            .map_err(|error| context(error, "can't open to everyone (is /proc there?)", &self.path))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn set_mode(&self, mode: Mode) -> io::Result<()> {
        use rustix::fs::{AtFlags, CWD, chmodat};
        Ok(chmodat(CWD, &self.path, mode, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let lock = PathLock::acquire(&self.path, LOCK_PATIENCE_AT_END);
        if let Err(error) = &lock {
            log::debug!("removing {} without its lock: {error}", self.path.display());
        }
        match lstat(&self.path) {
            Ok(found) if is_socket(&found) && self.is(&found) => {
                if let Err(error) = unlink(&self.path) {
                    log::warn!("can't remove {}: {error}", self.path.display());
                }
            }
            _ => log::debug!("{} is no longer ours; left alone", self.path.display()),
        }
    }
}

/// The right to change what is at a path, among all who ask for it.
#[derive(Debug)]
struct PathLock {
    path: PathBuf,
    file: OwnedFd,
}

impl PathLock {
    fn acquire(socket: &Path, patience: Duration) -> io::Result<PathLock> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        let mut backoff = Backoff::until(Deadline::after(Some(patience)));
        loop {
            if let Some(lock) = PathLock::attempt(&path)? {
                return Ok(lock);
            }
            if !backoff.pause() {
                let text =
                    format!("another program has been holding the lock {} for {patience:?}", path.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
        }
    }

    /// `None`: held by another, or gone meanwhile; try again.
    fn attempt(path: &Path) -> io::Result<Option<PathLock>> {
        let file = match PathLock::open(path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(Errno::NOENT) => {
                let folder = path.parent().unwrap_or(path).display();
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("the folder {folder} does not exist"),
                ));
            }
            Err(error) => return Err(context(error, "can't open the lock", path)),
        };
        let found = fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_size != 0 {
            // Ours are empty. This one is somebody's, and would be removed in the end.
            let text =
                format!("{} is needed as a lock, but it is no empty file; it was left alone", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
            Err(error) => return Err(context(error, "can't lock", path)),
        }
        match lstat(path) {
            Ok(there) if Identity::of(&there) == Identity::of(&found) => {
                Ok(Some(PathLock { path: path.to_owned(), file }))
            }
            // We have locked what its last holder removed.
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the file or opens the one that is there. In two steps, because O_CREAT alone fails on
    /// another user's file in a sticky folder, even for root (`fs.protected_regular`, proc(5)).
    fn open(path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
        // O_NONBLOCK: should it be a FIFO, we find out below instead of waiting here.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match open_file(path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => {}
            created => return created.map(Some),
        }
        match open_file(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => opened.map(Some),
        }
    }
}

impl Drop for PathLock {
    /// Best effort: a file that stays is locked and removed by the next one.
    fn drop(&mut self) {
        let _ = unlink(&self.path);
        // Not left to close(2): a child forked meanwhile would hold the lock along with us.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn context(error: Errno, what: &str, path: &Path) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
