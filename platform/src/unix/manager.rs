//! The service manager that has started this process: the sockets that it hands over, and what it is told.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use socket2::{Domain, SockAddr, Socket, Type};

use super::names::{self, invalid};
use super::owned::Owned;
use crate::manager::Notice;

/// Where it listens.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// How long it may take to make room for a notice. It has more to do than to read ours.
const PATIENCE: Duration = Duration::from_secs(1);

static ARE_TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the sockets that a service manager has opened for this process, each with the name that the manager
/// gave it; none the second time, and none if there is no manager. Call this before anything else opens
/// descriptors.
///
/// # Errors
///
/// What the manager says of them makes no sense: the numbers are none, or name descriptors that are not open.
///
/// # Platform-specific behavior
///
/// Unix: `LISTEN_FDS`, if `LISTEN_PID` names this process, and `LISTEN_FDNAMES`, by which others than systemd hand
/// over sockets, too (sd_listen_fds(3)). They become close-on-exec. Windows: none.
pub fn activated() -> io::Result<Vec<(String, Owned)>> {
    if ARE_TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let sockets = sd_notify::listen_fds_with_names().map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("LISTEN_FDS, LISTEN_FDNAMES and what is open do not match: {error}"),
        )
    })?;
    // SAFETY: the descriptor is open, as setting close-on-exec has just shown, and was left to this process by
    // whoever has set these variables for it; nobody is given it twice.
    Ok(sockets.map(|(fd, name)| (name, Owned::from(unsafe { OwnedFd::from_raw_fd(fd) }))).collect())
}

/// Tells the service manager something, if there is one that listens. Says whether there is.
///
/// # Errors
///
/// It can't be told: its address is none that is known here, or it does not read.
///
/// # Platform-specific behavior
///
/// Unix: to the socket in `NOTIFY_SOCKET`, a path or an abstract name (sd_notify(3)); the service's unit needs
/// `Type=notify`. Windows: there is none.
pub fn tell_manager(notices: &[Notice<'_>]) -> io::Result<bool> {
    match env::var_os(NOTIFY_SOCKET) {
        Some(address) => send(&address, &message(notices)).map(|()| true),
        None => Ok(false),
    }
}

fn message(notices: &[Notice<'_>]) -> String {
    let lines = notices.iter().map(|notice| match notice {
        Notice::Ready => NotifyState::Ready.to_string(),
        Notice::Stopping => NotifyState::Stopping.to_string(),
        // Further lines would be notices of their own.
        Notice::Status(text) => NotifyState::Status(&text.replace(char::is_control, " ")).to_string(),
    });
    lines.map(|line| line + "\n").collect()
}

fn send(address: &OsStr, message: &str) -> io::Result<()> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SockAddr::unix(OsStr::from_bytes(&[b"\0", name].concat()))?,
        [b'/', ..] => names::path_address(Path::new(address))?,
        _ => {
            let text =
                format!("{NOTIFY_SOCKET} is neither a path nor an abstract name: {}", address.display());
            return Err(invalid(text));
        }
    };
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_status_is_one_line() {
        let notices = [Notice::Ready, Notice::Status("all is well\nMAINPID=1"), Notice::Stopping];
        assert_eq!(message(&notices), "READY=1\nSTATUS=all is well MAINPID=1\nSTOPPING=1\n");
    }

    #[test]
    fn managers_are_told_wherever_they_listen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut read = [0; 99];
        send(path.as_os_str(), "READY=1\n").unwrap();
        let count = manager.recv(&mut read).unwrap();
        assert_eq!(&read[..count], b"READY=1\n");
        assert_eq!(send(OsStr::new("vsock:2:1"), "x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        send(folder.path().join("nobody").as_os_str(), "x").unwrap_err();
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            let name = format!("sidewire-notify-{}", std::process::id());
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
            let manager = UnixDatagram::bind_addr(&address).unwrap();
            send(OsStr::new(&format!("@{name}")), "STOPPING=1\n").unwrap();
            let count = manager.recv(&mut read).unwrap();
            assert_eq!(&read[..count], b"STOPPING=1\n");
        }
    }

    /// It must not hold up its services.
    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let failure = (0..10_000).find_map(|_| send(path.as_os_str(), "READY=1\n").err()).unwrap();
        assert_eq!(failure.kind(), io::ErrorKind::WouldBlock);
    }
}
