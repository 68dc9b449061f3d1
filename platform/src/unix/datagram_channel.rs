//! The client's end of a datagram endpoint: a blocking socket, shared by threads.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Protocol, SockAddr, Socket, Type};

use super::datagram::{set_default_buffers, too_large};
use super::names::{self, DatagramAddress};
use super::placed::SocketFile;
use super::rights::Rights;
use super::timeout::{SocketTimeout, Wait, error_of};
use super::{message, owner, reasons, socket};
use crate::datagram::Received;
use crate::deadline::{Backoff, Deadline};
use crate::endpoint::Endpoint;
use crate::hosts;
use crate::peer::{Address, Peer};

/// Datagrams to one server and back, blocking with timeouts. Dropping it closes it.
///
/// It has an address of its own, so that it can be answered, and takes datagrams from its server
/// only. One thread may receive while another sends. Two that receive at once, or two that send at
/// once, do no harm, but by whose timeout they wait is open.
///
/// A server that dies is noticed when something is sent to it, never while waiting: receive with a
/// timeout.
#[derive(Debug)]
pub struct DatagramChannel {
    /// Before the socket: see [`SocketFile`]. Where addresses need a file.
    _file: Option<SocketFile>,
    socket: Socket,
    peer: Peer,
    is_elsewhere: bool,
    recv_timeout: SocketTimeout,
    send_timeout: SocketTimeout,
}

impl DatagramChannel {
    /// Binds a socket to an address that nobody else has, and chooses the server that it talks to.
    /// Sends nothing; does not wait, except for the resolver if a UDP host is a name.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::NotFound`]: there is no socket of that name.
    /// - [`io::ErrorKind::ConnectionRefused`]: nobody serves there (any more). UDP can't tell before
    ///   something is sent.
    /// - [`io::ErrorKind::PermissionDenied`]: the socket's mode keeps us out.
    /// - [`io::ErrorKind::Unsupported`], [`io::ErrorKind::InvalidInput`]: as for
    ///   [`Datagrams::bind`](crate::Datagrams::bind).
    ///
    /// # Platform-specific behavior
    ///
    /// Linux: a Unix socket gets an abstract name from the kernel ("autobind", unix(7)), which goes
    /// with the socket. A server in another network namespace can't answer that, so there the socket
    /// gets a path beside the server's, or in one of the folders of `local:`, removed on drop; whether
    /// the server finds it by that path, only an answer shows. Where unix_diag (sock_diag(7)) is
    /// missing, this can't be told, and such a server receives without being able to answer. Other
    /// Unix systems: a path in one of the folders of `local:`. UDP: the first address of the host that
    /// can be connected to, and a port of the system's choice.
    pub fn connect(endpoint: &Endpoint) -> io::Result<DatagramChannel> {
        match names::datagram_address(endpoint)? {
            DatagramAddress::Path(path) => connect_path(path),
            DatagramAddress::Abstract(address) => connect_abstract(&address),
            DatagramAddress::Inet { host, port } => connect_host(host, port),
        }
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::PROTOTYPE) => {
                let text = "the socket here is not a datagram socket (stream?)";
                io::Error::new(io::ErrorKind::InvalidInput, text)
            }
            _ => error,
        })
    }

    fn new(socket: Socket, file: Option<SocketFile>, peer: Peer) -> DatagramChannel {
        DatagramChannel {
            _file: file,
            socket,
            peer,
            is_elsewhere: false,
            recv_timeout: SocketTimeout::new(Timeout::Recv),
            send_timeout: SocketTimeout::new(Timeout::Send),
        }
    }

    /// What the system knows about the server, from before the first byte was sent.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix, `unixgram:`: the user is the owner of the socket's file: who called bind(2), or whom
    /// root gave it to. No process id. No credentials at all when that owner is not certain: when
    /// the file's folder belongs to a third user (neither the file's owner nor root), when its group
    /// or others can write to it and it is not sticky, when the path ends in a symbolic link, and on
    /// Linux when the file system is one of FUSE or /proc is missing. Linux connects to the very file
    /// that was looked at; the BSDs and macOS look before and after, and trust the folders above.
    /// `abstractgram:` and `udp:`: nothing but UDP's address.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the server may find no way to the address of this end, so that a request could be
    /// executed and its answer lost: only an answer shows that it does.
    ///
    /// # Platform-specific behavior
    ///
    /// Linux: a Unix socket in another network namespace. Never on other systems.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// The address of this end, which answers come to.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_address(&self) -> io::Result<Address> {
        Ok(names::address(&self.socket.local_addr()?))
    }

    /// The address of the server.
    ///
    /// # Errors
    ///
    /// What getpeername(2) says, for example [`io::ErrorKind::NotConnected`] when it has gone.
    pub fn peer_address(&self) -> io::Result<Address> {
        Ok(names::address(&self.socket.peer_addr()?))
    }

    /// Sends one datagram, and waits for room at most for `timeout` (`None`: without end; zero: not
    /// at all). It goes whole or not at all; whether it is ever read, nobody says.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::TimedOut`]: the server's queue stayed full.
    /// - [`io::ErrorKind::ConnectionRefused`]: the server has gone, for good even if another takes
    ///   its name: connect again. Over UDP this is about an earlier datagram (ICMP, udp(7)); this one
    ///   was not sent, and the next may reach a server that is back.
    /// - [`io::ErrorKind::InvalidInput`]: too large for this transport.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: one system call, unless there is no room. UDP takes 65,507 bytes over IPv4 and has
    /// always room, since the system drops what a receiver has no room for; a Unix socket takes
    /// somewhat less than its send buffer, on Linux at least 200,000 bytes, and loses nothing while
    /// the server lives. Never raises SIGPIPE.
    pub fn send(&self, bytes: &[u8], timeout: Option<Duration>) -> io::Result<()> {
        let mut waiting = None;
        loop {
            match self.send_or_wait(bytes, timeout) {
                // The BSDs and macOS say so of a full queue, and never wait for it.
                Err(Errno::NOBUFS) => {
                    let backoff = waiting.get_or_insert_with(|| Backoff::until(Deadline::after(timeout)));
                    if !backoff.pause() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(Errno::MSGSIZE) => return Err(too_large(bytes.len())),
                // Linux says ECONNREFUSED once, and then has forgotten whom we were connected to.
                Err(Errno::NOTCONN) => return Err(io::ErrorKind::ConnectionRefused.into()),
                sent => return sent.map_err(error_of),
            }
        }
    }

    /// Waits in the kernel: nothing announces room in another's queue, except to who waits there.
    fn send_or_wait(&self, bytes: &[u8], timeout: Option<Duration>) -> rustix::io::Result<()> {
        let sent = match socket::send(&self.socket, bytes, SendFlags::DONTWAIT) {
            Err(Errno::AGAIN) if timeout != Some(Duration::ZERO) => {
                let send =
                    |wait: Wait| rustix::net::send(&self.socket, bytes, socket::QUIET | wait.send_flags());
                self.send_timeout.bound(&self.socket, timeout, send)
            }
            sent => sent,
        };
        sent.map(drop)
    }

    /// Waits for the next datagram from the server, at most for `timeout` (`None`: without end; zero:
    /// not at all). An empty one is a message too, of length 0; what `buf` has no room for is lost,
    /// and [`Received::truncated`] says so.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when none came in time. [`io::ErrorKind::ConnectionRefused`]:
    /// UDP, an earlier datagram found nobody.
    ///
    /// # Platform-specific behavior
    ///
    /// Linux, Unix sockets: [`Received::credentials`] tell who answered, as for
    /// [`Datagrams::receive`](crate::Datagrams::receive). Signals do not end the wait.
    pub fn receive(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<Received> {
        let receive = |wait: Wait| message::receive(&self.socket, buf, wait.recv_flags());
        self.recv_timeout.bound(&self.socket, timeout, receive).map_err(error_of)
    }
}

fn connect_path(path: &Path) -> io::Result<DatagramChannel> {
    let (socket, file) = unix_socket()?;
    let credentials = owner::connect(&socket, path).map_err(|error| reasons::explain(path, error))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if super::namespace::peer_is_elsewhere(&socket) {
        return connect_by_file(path, &socket, credentials.as_ref());
    }
    make_answerable(&socket)?;
    Ok(DatagramChannel::new(socket, file, Peer::new(credentials, None)))
}

/// For a server that could not answer an abstract name of ours. `first`: a socket that is connected to
/// it, whose inode number nobody else has.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn connect_by_file(
    path: &Path,
    first: &Socket,
    server: Option<&crate::peer::Credentials>,
) -> io::Result<DatagramChannel> {
    use super::folders::Folders;
    use super::lifecycle::{self, LOCK_PATIENCE, Role};

    let name = format!("sidewire-{}", rustix::fs::fstat(first)?.st_ino);
    let beside = std::path::absolute(path)?.with_file_name(&name);
    // Who sends to us is of no concern: only what comes from the server is taken.
    let is_ours =
        server.is_some_and(|server| *server.user() == crate::peer::User::Uid(super::identity::euid()));
    let rights = if is_ours { Rights::Owner } else { Rights::Everyone };
    let bind = |path: &Path| lifecycle::bind(path, Role::Datagrams, rights, LOCK_PATIENCE);
    let (socket, file) = bind(&beside).or_else(|error| {
        let place = Folders::of_this_process().private_path(&name);
        place.and_then(|path| bind(&path)).map_err(|_| {
            let text = "the server is in another network namespace, and there is no place for a socket that \
                        it could answer to";
            io::Error::new(error.kind(), format!("{text}: {error}"))
        })
    })?;
    set_default_buffers(&socket);
    let credentials = connect_named(&socket, path)?;
    let channel = DatagramChannel::new(socket, Some(file), Peer::new(credentials, None));
    Ok(DatagramChannel { is_elsewhere: true, ..channel })
}

/// Connects a socket that has had a name already, to which a stranger may have sent before the server was
/// all that it takes from. The server itself has not heard of us yet.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn connect_named(socket: &Socket, path: &Path) -> io::Result<Option<crate::peer::Credentials>> {
    let credentials = owner::connect(socket, path).map_err(|error| reasons::explain(path, error))?;
    drop_what_came(socket);
    Ok(credentials)
}

fn drop_what_came(socket: &Socket) {
    while socket::recv(socket, &mut [0], RecvFlags::DONTWAIT).is_ok() {}
}

fn connect_abstract(address: &SockAddr) -> io::Result<DatagramChannel> {
    let (socket, file) = unix_socket()?;
    socket.connect(address)?;
    make_answerable(&socket)?;
    Ok(DatagramChannel::new(socket, file, Peer::default()))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn unix_socket() -> io::Result<(Socket, Option<SocketFile>)> {
    let socket = Socket::new(socket2::Domain::UNIX, Type::DGRAM, None)?;
    socket::refuse_descriptors(&socket);
    set_default_buffers(&socket);
    Ok((socket, None))
}

/// Gives a connected socket its name: not sooner, so that nobody but the server can ever have sent
/// to it. (Asking for credentials would, too, if it came before connect(2).)
#[cfg(any(target_os = "linux", target_os = "android"))]
fn make_answerable(socket: &Socket) -> io::Result<()> {
    rustix::net::bind(socket, &rustix::net::SocketAddrUnix::new_unnamed())?;
    socket::want_credentials(socket)
}

/// Where names are files, with one in a folder that nobody else can reach.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn unix_socket() -> io::Result<(Socket, Option<SocketFile>)> {
    use super::folders::Folders;
    use super::lifecycle::{self, LOCK_PATIENCE, Role};
    use std::process;
    use std::sync::atomic::{AtomicU32, Ordering};

    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("client-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = Folders::of_this_process().private_path(&name)?;
    let (socket, file) = lifecycle::bind(&path, Role::Datagrams, Rights::Owner, LOCK_PATIENCE)?;
    set_default_buffers(&socket);
    Ok((socket, Some(file)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn make_answerable(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

fn connect_host(host: &str, port: u16) -> io::Result<DatagramChannel> {
    let mut failure = None;
    for address in hosts::resolve(host, port)? {
        match connect_inet(address) {
            Ok(channel) => return Ok(channel),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

fn connect_inet(address: SocketAddr) -> io::Result<DatagramChannel> {
    let socket = socket::inet(address, Type::DGRAM, Protocol::UDP)?;
    set_default_buffers(&socket);
    socket.connect(&SockAddr::from(address))?;
    if socket.local_addr()?.as_socket() == Some(address) {
        let text = "nobody serves there (the system gave us that port ourselves)";
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
    }
    // The port was ours a moment before the server was all that it takes from. The server itself
    // has not heard of us yet: what is here is a stranger's.
    drop_what_came(&socket);
    Ok(DatagramChannel::new(socket, None, Peer::new(None, Some(address))))
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn what_strangers_sent_before_the_server_was_chosen_is_not_taken_for_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let [server, client] = ["server", "client"].map(|name| folder.path().join(name));
        let serving = UnixDatagram::bind(&server).unwrap();
        let socket = Socket::from(UnixDatagram::bind(&client).unwrap());
        for forged in [&b"forged"[..], b""] {
            UnixDatagram::unbound().unwrap().send_to(forged, &client).unwrap();
        }
        connect_named(&socket, &server).unwrap();
        serving.send_to(b"answer", &client).unwrap();
        let mut buffer = [0; 16];
        let length = socket::recv(&socket, &mut buffer, RecvFlags::DONTWAIT).unwrap();
        assert_eq!(buffer[..length], *b"answer");
    }
}
