//! How a client gets to a server: every place that an endpoint can mean, until one answers.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::channel::Channel;
use super::folders::Folders;
use super::identity::euid;
use super::names::{self, StreamAddress};
use super::reasons;
use super::socket::{self, Transport};
use super::timeout::micros;
use crate::deadline::{Backoff, Deadline};
use crate::endpoint::Endpoint;
#[cfg(test)]
use crate::fault::{self, Call};
use crate::hosts;

/// See [`Channel::connect`].
pub(super) fn connect(endpoint: &Endpoint, timeout: Option<Duration>) -> io::Result<Channel> {
    let deadline = Deadline::after(timeout);
    match names::stream_address(endpoint)? {
        StreamAddress::Local(name) => connect_local(name, &Folders::of_this_process(), deadline),
        StreamAddress::Path(path) => connect_path(path, deadline),
        StreamAddress::Abstract(address) => connect_unix(&address, deadline),
        StreamAddress::Inet { host, port } => connect_host(host, port, deadline),
    }
}

fn connect_local(name: &str, folders: &Folders, deadline: Deadline) -> io::Result<Channel> {
    let paths = folders.client_paths(name);
    match first_of(paths.iter().map(|path| connect_path(path, deadline))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!(
                "no {name}.sock for uid {}; `local:` is per user (looked in {})",
                euid(),
                folders.describe()
            );
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
        answer => answer,
    }
}

/// The first that answers, or the failure that tells most.
fn first_of(attempts: impl Iterator<Item = io::Result<Channel>>) -> io::Result<Channel> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for attempt in attempts {
        match attempt {
            Err(error) if weight(&error) > weight(&failure) => failure = error,
            Err(_) => {}
            answer => return answer,
        }
    }
    Err(failure)
}

/// How much a failure tells about the server, when there are several: that a place does not exist
/// tells nothing, that an address can't be reached, as IPv6 on many machines, next to nothing.
fn weight(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound => 0,
        io::ErrorKind::ConnectionRefused => 2,
        io::ErrorKind::PermissionDenied | io::ErrorKind::TimedOut => 3,
        _ => 1,
    }
}

fn connect_path(path: &Path, deadline: Deadline) -> io::Result<Channel> {
    connect_unix(&names::path_address(path)?, deadline).map_err(|error| reasons::explain(path, error))
}

/// A socket that would block here never becomes writable: poll is of no use (connect(2), EAGAIN).
fn connect_unix(address: &SockAddr, deadline: Deadline) -> io::Result<Channel> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket::refuse_descriptors(&socket);
    let mut backoff = Backoff::until(deadline);
    loop {
        if let Some(left) = deadline.remaining() {
            set_socket_timeout(&socket, Timeout::Send, Some(Duration::from_micros(micros(left))))?;
        }
        let Err(error) = connect_once(&socket, address) else {
            return Channel::new(socket, Transport::Unix);
        };
        match Errno::from_io_error(&error) {
            Some(Errno::INTR) => {}
            // The kernel has waited as long as it was told to. In case it did not, we do.
            Some(Errno::AGAIN) if backoff.pause() => {}
            Some(Errno::AGAIN) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server's backlog stayed full"));
            }
            Some(Errno::PROTOTYPE) => {
                let text = "the socket here is not a stream socket (datagram?)";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            _ => return Err(error),
        }
    }
}

fn connect_once(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    #[cfg(test)]
    fault::strikes(Call::Connect)?;
    socket.connect(address)
}

fn connect_host(host: &str, port: u16, deadline: Deadline) -> io::Result<Channel> {
    let addresses = hosts::resolve(host, port)?;
    let untried = (1..=addresses.len()).rev();
    first_of(addresses.iter().zip(untried).map(|(address, untried)| {
        let untried = u32::try_from(untried).unwrap_or(u32::MAX);
        connect_inet(*address, deadline.remaining().map_or(Duration::MAX, |left| left / untried))
    }))
}

fn connect_inet(address: SocketAddr, timeout: Duration) -> io::Result<Channel> {
    let socket = socket::inet(address, Type::STREAM, Protocol::TCP)?;
    // At least a moment: a loopback server that is there answers in microseconds.
    match socket.connect_timeout(&SockAddr::from(address), timeout.max(Duration::from_millis(1))) {
        // We may have slept through its coming: one that has a peer is connected.
        Err(error) if error.kind() == io::ErrorKind::TimedOut && socket.peer_addr().is_ok() => {}
        connected => connected?,
    }
    if socket.local_addr()?.as_socket() == Some(address) {
        // A port of the ephemeral range that nobody serves: we were given it ourselves, and TCP
        // lets a socket connect to itself.
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "nobody listens there (connected to itself)",
        ));
    }
    socket.set_tcp_nodelay(true)?;
    Channel::new(socket, Transport::Tcp).map_err(gone_at_once)
}

/// A server that ends resets those whom it has not accepted; who comes in that moment was connected and has no peer any
/// more.
fn gone_at_once(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotConnected => {
            io::Error::new(io::ErrorKind::ConnectionReset, "the server has reset the connection at once")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Answer, script};
    use crate::peer::Address;

    #[test]
    fn a_peer_that_has_gone_before_it_was_asked_for_has_reset_the_connection() {
        assert_eq!(gone_at_once(Errno::NOTCONN.into()).kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(gone_at_once(Errno::MFILE.into()).raw_os_error(), Some(libc::EMFILE));
    }

    #[test]
    fn local_goes_on_to_the_next_folder_and_tells_what_says_most() {
        use std::os::unix::fs::DirBuilderExt;
        use std::os::unix::net::UnixListener;

        let root = tempfile::tempdir().unwrap();
        let folders = Folders::below(root.path());
        let connect = || connect_local("app", &folders, Deadline::after(Some(Duration::from_secs(5))));
        let serve = |folder: &str| UnixListener::bind(root.path().join(folder).join("app.sock")).unwrap();
        let error = connect().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("app.sock") && error.to_string().contains("/session"), "{error}");
        for folder in ["session", "run", "tmp"] {
            std::fs::DirBuilder::new().mode(0o700).create(root.path().join(folder)).unwrap();
        }
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(serve("run"));
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _live = serve("tmp");
        let found = connect().unwrap().peer_address().unwrap();
        assert_eq!(found, Address::Path(root.path().join("tmp/app.sock")));
    }

    #[test]
    fn connecting_outlives_signals_and_full_backlogs() {
        let soon = Some(Duration::from_secs(10));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::Unix(path);
        let fails = |code| (Call::Connect, Answer::Fails(code));
        let busy = fails(libc::EAGAIN);
        let script_of_luck = script(&[fails(libc::EINTR), busy, busy]);
        Channel::connect(&endpoint, soon).unwrap();
        drop(script_of_luck);
        // Once more behind the deadline, and no more.
        let script_of_bad_luck = script(&[busy, busy]);
        let error = Channel::connect(&endpoint, Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(script_of_bad_luck);
        let _script = script(&[fails(libc::ENOMEM)]);
        assert_eq!(Channel::connect(&endpoint, soon).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }
}
