//! The life of a socket's file: created with its final rights, put in the place of a dead one but
//! never of a live one, removed by the process that made it.
//!
//! Two starters that find the same stale file must not both replace it: the second would remove
//! the first one's fresh socket. So whoever binds holds the path's [`PathLock`] from before bind(2)
//! until after listen(2).

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, Stat, fchmod, lstat, stat, unlink};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::file::is_socket;
use super::lock::{PathLock, unwritable};
use super::placed::{Placed, SocketFile};
use super::rights::{PRIVATE, Rights};
use super::{names, socket};
use crate::BindOptions;
#[cfg(test)]
use crate::fault::{self, Call};

/// How long a starter waits for others that are starting at the same path: they hold the lock for
/// well under a millisecond each.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How often binding is tried while programs that know nothing of the lock come and go at the path.
const ATTEMPTS: u32 = 8;

/// What a socket is bound for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// To listen for connections, so many of which may wait.
    Listener { backlog: i32, attachments: bool },
    /// To receive datagrams, each with its sender's credentials.
    Datagrams,
}

impl Role {
    pub(super) fn listener(options: &BindOptions) -> Role {
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        Role::Listener { backlog, attachments: options.attachments }
    }

    /// A socket of the right kind, as yet without a name.
    pub(super) fn socket(self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, self.kind(), None)?;
        match self {
            Role::Listener { attachments: true, .. } => {}
            _ => socket::refuse_descriptors(&socket),
        }
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
            Role::Listener { backlog, .. } => socket.listen(backlog),
            Role::Datagrams => Ok(()),
        }
    }
}

/// Binds a server's Unix socket to a path. `patience`: for the path's lock.
///
/// # Errors
///
/// [`io::ErrorKind::AddrInUse`] for a live server, [`io::ErrorKind::AlreadyExists`] for something
/// that is no socket, [`io::ErrorKind::ResourceBusy`] if the lock can't be had in time.
pub(super) fn bind(
    path: &Path,
    role: Role,
    rights: Rights,
    patience: Duration,
) -> io::Result<(Socket, SocketFile)> {
    names::path_address(path)?;
    let lock = PathLock::acquire(path, patience)?;
    bind_locked(path, role, rights, &lock)
}

/// The same for who has the path's lock.
pub(super) fn bind_locked(
    path: &Path,
    role: Role,
    rights: Rights,
    lock: &PathLock,
) -> io::Result<(Socket, SocketFile)> {
    let address = names::path_address(path)?;
    let socket = role.socket()?;
    let protected = if HAS_SOCKET_MODE { protect(&socket) } else { Ok(()) };
    bind_in_place(&socket, path, &address, role, lock)?;
    let found = Placed::look(path)?;
    let Some(placed) = Placed::socket(path, &found) else { return Err(in_the_way(path)) };
    let started = match protected {
        Err(error) if rights == Rights::Owner => was_unreachable(path, &found, role, error),
        _ => Ok(()),
    };
    let is_set = rights == Rights::Owner && Mode::from_raw_mode(found.st_mode) == PRIVATE;
    // The umask has taken something away, or was all that could.
    let started = started.and_then(|()| if is_set { Ok(()) } else { placed.set_rights(rights) });
    match started.and_then(|()| role.start(&socket)) {
        Ok(()) => Ok((socket, SocketFile::new(placed))),
        Err(error) => {
            placed.remove();
            Err(error)
        }
    }
}

fn protect(socket: &Socket) -> rustix::io::Result<()> {
    #[cfg(test)]
    fault::strikes(Call::SetMode)?;
    fchmod(socket, PRIVATE)
}

/// The mode of a socket could not be set before it was bound, which seccomp(2) or a system other than
/// Linux may refuse. A listener is safe all the same: nobody can connect to it before listen(2).
fn was_unreachable(path: &Path, found: &Stat, role: Role, error: Errno) -> io::Result<()> {
    let is_open = |found: &Stat| Mode::from_raw_mode(found.st_mode).intersects(Mode::RWXG | Mode::RWXO);
    let is_reachable =
        || is_open(found) && path.parent().is_none_or(|folder| stat(folder).is_ok_and(|f| is_open(&f)));
    if matches!(role, Role::Datagrams) && is_reachable() {
        let text = format!(
            "the mode of a socket can't be set before it is bound (fchmod: {error}), so others could have \
             sent to it for a moment; start with umask 077, or use a folder that only this user can enter"
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

/// Whether bind(2) gives the file the mode of the descriptor (less the umask), so that no moment
/// comes at which it has another. Where it does not, fchmod(2) refuses sockets, and the mode is
/// set late; for a listener in time, since until listen(2) every connect(2) is refused, but a
/// datagram socket can be reached for that moment by whom the umask lets in.
const HAS_SOCKET_MODE: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Binds, and makes room first where a dead server left its socket. The lock must be held.
fn bind_in_place(
    socket: &Socket,
    path: &Path,
    address: &SockAddr,
    role: Role,
    lock: &PathLock,
) -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        let Err(error) = bind_once(socket, address) else { return Ok(()) };
        match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => remove_if_stale(path, address, role.kind(), lock)?,
            Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NXIO) => {
                let text = format!(
                    "can't create a socket at {}: {error}; the file system may not know sockets: choose \
                     another folder",
                    path.display()
                );
                return Err(io::Error::new(error.kind(), text));
            }
            Some(error) => return Err(unwritable(error, "can't create the socket", path)),
            None => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "other programs keep creating and removing sockets at this path",
    ))
}

fn bind_once(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    #[cfg(test)]
    fault::strikes(Call::Bind)?;
    socket.bind(address)
}

/// Removes a socket that nobody serves. The lock must be held.
pub(super) fn remove_if_stale(
    path: &Path,
    address: &SockAddr,
    kind: Type,
    lock: &PathLock,
) -> io::Result<()> {
    match lstat(path) {
        Ok(found) if is_socket(&found) => {}
        Ok(_) => return Err(in_the_way(path)),
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match probe(address, kind)? {
        Probe::Nothing => Ok(()),
        Probe::Live(text) => Err(io::Error::new(io::ErrorKind::AddrInUse, text)),
        Probe::Dead if !lock.keeps_others_out() => {
            let text = format!(
                "{} is the socket of a dead server, and without file locks it can't be replaced safely; see \
                 that nobody else starts a server here, and remove it: rm '{}'",
                path.display(),
                path.display()
            );
            Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
        }
        Probe::Dead => match unlink(path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => {
                let text = format!("the socket that a dead server left here can't be removed: {error}");
                Err(io::Error::new(io::Error::from(error).kind(), text))
            }
        },
        Probe::Unknown(error) => {
            let text = format!(
                "there is a socket here already, and whether its server lives can't be told: {error}"
            );
            Err(io::Error::new(error.kind(), text))
        }
    }
}

/// Who serves a socket.
#[derive(Debug)]
pub(super) enum Probe {
    Nothing,
    Dead,
    /// Somebody, and what to say about it.
    Live(&'static str),
    Unknown(io::Error),
}

/// Knocks at a socket. Connecting a datagram socket sends nothing: its server does not notice.
pub(super) fn probe(address: &SockAddr, kind: Type) -> io::Result<Probe> {
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    let Err(error) = socket.connect(address) else {
        return Ok(Probe::Live("a server is already listening here"));
    };
    Ok(match Errno::from_io_error(&error) {
        Some(Errno::CONNREFUSED) => Probe::Dead,
        Some(Errno::NOENT) => Probe::Nothing,
        // Only a live socket can have a full backlog (connect(2)).
        Some(Errno::AGAIN | Errno::INPROGRESS) => {
            Probe::Live("a server is already listening here; its backlog is full")
        }
        Some(Errno::PROTOTYPE) if kind == Type::DGRAM => {
            Probe::Live("a socket of another kind (stream?) is in use here")
        }
        Some(Errno::PROTOTYPE) => Probe::Live("a socket of another kind (datagram?) is in use here"),
        // A datagram socket that has chosen another peer takes nothing from us, but it lives.
        Some(Errno::PERM) => Probe::Live("a datagram socket that is connected elsewhere is in use here"),
        _ => Probe::Unknown(error),
    })
}

pub(super) fn in_the_way(path: &Path) -> io::Error {
    let text = format!("{} exists and is not a socket; it was left alone", path.display());
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Answer, script};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const LISTENER: Role = Role::Listener { backlog: 1, attachments: false };

    /// What binding in a new folder says, and what is left there.
    fn refused(role: Role, answers: &[(Call, Answer)]) -> (io::Error, usize) {
        let folder = tempfile::tempdir().unwrap();
        let _script = script(answers);
        let error = bind(&folder.path().join("s"), role, Rights::Owner, LOCK_PATIENCE).unwrap_err();
        (error, fs::read_dir(folder.path()).unwrap().count())
    }

    #[test]
    fn what_keeps_a_socket_from_being_made_is_said() {
        for (code, kind, words) in [
            (libc::ENOSPC, io::ErrorKind::StorageFull, "make room there"),
            (libc::EROFS, io::ErrorKind::ReadOnlyFilesystem, "can be written to"),
            (libc::EPERM, io::ErrorKind::PermissionDenied, "may not know sockets"),
        ] {
            let (error, left) = refused(LISTENER, &[(Call::Bind, Answer::Fails(code))]);
            assert_eq!((error.kind(), left), (kind, 0), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        let busy = [(Call::Bind, Answer::Fails(libc::EADDRINUSE)); ATTEMPTS as usize];
        let (error, left) = refused(LISTENER, &busy);
        assert_eq!((error.kind(), left), (io::ErrorKind::AddrInUse, 0), "{error}");
        assert!(error.to_string().contains("keep creating"), "{error}");
    }

    /// As seccomp(2) may have it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn where_the_mode_can_only_be_set_late_a_listener_is_private_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let refuses = (Call::SetMode, Answer::Fails(libc::EPERM));
        // Which nobody else can enter.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        for role in [LISTENER, Role::Datagrams] {
            let _script = script(&[refuses]);
            let (_socket, _file) = bind(&path, role, Rights::Owner, LOCK_PATIENCE).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let open = std::os::unix::net::UnixDatagram::bind(folder.path().join("open")).unwrap();
        let is_open = fs::metadata(folder.path().join("open")).unwrap().permissions().mode() & 0o077 != 0;
        drop(open);
        if is_open {
            let _script = script(&[refuses]);
            let error = bind(&path, Role::Datagrams, Rights::Owner, LOCK_PATIENCE).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("umask 077") && !path.exists(), "{error}");
        }
    }
}
