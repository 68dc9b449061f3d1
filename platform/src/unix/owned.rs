//! Descriptors that the program has already, and what they are.

use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use rustix::fs::FileType;
use socket2::{Domain, SockRef, Socket, Type};

use super::names::{self, invalid};
use super::socket::{self, Transport};
use crate::endpoint::Endpoint;
use crate::peer::Address;
use crate::{BindOptions, hosts};

/// A descriptor that the program has already: of a connection, a listener, a datagram socket. What it
/// is shows when it is put to use, in [`Stream::from_owned`](crate::Stream::from_owned) and its like.
///
/// # Platform-specific behavior
///
/// Unix: of any descriptor, `OwnedFd`, and of std's sockets. Windows: of a handle (`OwnedHandle`) or a
/// socket (`OwnedSocket`), and of std's sockets.
#[derive(Debug)]
pub struct Owned(OwnedFd);

/// What a socket is, as far as that decides what it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Connection(Transport),
    Listener(Transport),
    Datagrams(Transport),
    /// A stream socket that is neither connected nor listens.
    Idle,
}

impl Owned {
    /// Where it is bound, of a socket that listens or takes datagrams.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is something else, or bound to nothing; the text says what it is.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: of TCP and UDP sockets.
    pub fn endpoint(&self) -> io::Result<Endpoint> {
        let options = BindOptions { beyond_loopback: true, ..BindOptions::default() };
        match self.found()? {
            Found::Listener(_) => self.bound(&options, |host, port| Endpoint::Tcp { host, port }),
            Found::Datagrams(_) => self.datagrams_bound(&options),
            found => Err(self.unfit("a listener or a datagram socket", found)),
        }
    }

    /// A connection of bytes. From here on it is close-on-exec, like all that follow.
    pub(super) fn into_connection(self) -> io::Result<(Socket, Transport)> {
        match self.found()? {
            Found::Connection(transport) => {
                let socket = self.prepared()?;
                if transport == Transport::Tcp {
                    socket.set_tcp_nodelay(true)?;
                }
                Ok((socket, transport))
            }
            found => Err(self.unfit("a connection", found)),
        }
    }

    /// A socket that listens, and the endpoint that it is bound to.
    pub(super) fn into_listener(self, options: &BindOptions) -> io::Result<(Socket, Transport, Endpoint)> {
        match self.found()? {
            Found::Listener(transport) => {
                let endpoint = self.bound(options, |host, port| Endpoint::Tcp { host, port })?;
                let socket = self.prepared()?;
                if options.attachments {
                    socket::take_descriptors(&socket);
                }
                Ok((socket, transport, endpoint))
            }
            found => Err(self.unfit("a listener", found)),
        }
    }

    /// A socket that datagrams come to, and the endpoint that it is bound to.
    pub(super) fn into_datagrams(self, options: &BindOptions) -> io::Result<(Socket, Endpoint)> {
        match self.found()? {
            Found::Datagrams(transport) => {
                let endpoint = self.datagrams_bound(options)?;
                let socket = self.prepared()?;
                if transport == Transport::Unix {
                    socket::want_credentials(&socket)?;
                }
                Ok((socket, endpoint))
            }
            found => Err(self.unfit("a datagram socket", found)),
        }
    }

    /// What it is: SO_TYPE, SO_ACCEPTCONN (socket(7)), the family of its name.
    fn found(&self) -> io::Result<Found> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&self.0)?.st_mode);
        if kind != FileType::Socket {
            return Err(invalid(format!("{self} is {}, not a socket", describe(kind))));
        }
        let socket = SockRef::from(&self.0);
        let transport = match socket.local_addr()?.domain() {
            Domain::UNIX => Transport::Unix,
            Domain::IPV4 | Domain::IPV6 => Transport::Tcp,
            other => {
                let family = i32::from(other);
                return Err(invalid(format!("{self} is a socket of family {family}, neither Unix nor IP")));
            }
        };
        match socket.r#type()? {
            Type::STREAM if listens(self.0.as_fd())? => Ok(Found::Listener(transport)),
            Type::STREAM if socket.peer_addr().is_ok() => Ok(Found::Connection(transport)),
            Type::STREAM => Ok(Found::Idle),
            Type::DGRAM => Ok(Found::Datagrams(transport)),
            Type::SEQPACKET => {
                Err(invalid(format!("{self} is a socket of packets in sequence (SOCK_SEQPACKET)")))
            }
            other => Err(invalid(format!("{self} is a socket of type {}", i32::from(other)))),
        }
    }

    fn unfit(&self, wanted: &str, found: Found) -> io::Error {
        let found = match found {
            Found::Connection(Transport::Tcp) => "a connected TCP socket",
            Found::Connection(_) => "a connected Unix socket",
            Found::Listener(Transport::Tcp) => "a TCP socket that listens",
            Found::Listener(_) => "a Unix socket that listens",
            Found::Datagrams(Transport::Tcp) => "a UDP socket",
            Found::Datagrams(_) => "a Unix datagram socket",
            Found::Idle => "a stream socket that is neither connected nor listens",
        };
        invalid(format!("{self} is {found}, not {wanted}"))
    }

    /// What it is bound to. Beyond loopback only if that was said.
    fn bound(&self, options: &BindOptions, inet: impl Fn(String, u16) -> Endpoint) -> io::Result<Endpoint> {
        match names::address(&SockRef::from(&self.0).local_addr()?) {
            Address::Path(path) => Ok(Endpoint::Unix(path)),
            Address::Abstract(name) => Ok(Endpoint::Abstract(name)),
            Address::Inet(address) if options.beyond_loopback || hosts::is_loopback(&address) => {
                Ok(inet(hosts::host(&address), address.port()))
            }
            Address::Inet(address) => Err(hosts::not_loopback(&address)),
            Address::Unnamed | Address::Pipe(_) => Err(invalid(format!("{self} is bound to no name"))),
        }
    }

    fn datagrams_bound(&self, options: &BindOptions) -> io::Result<Endpoint> {
        Ok(match self.bound(options, |host, port| Endpoint::Udp { host, port })? {
            Endpoint::Unix(path) => Endpoint::UnixGram(path),
            Endpoint::Abstract(name) => Endpoint::AbstractGram(name),
            endpoint => endpoint,
        })
    }

    /// With what all of our sockets have.
    fn prepared(self) -> io::Result<Socket> {
        let socket = Socket::from(self.0);
        socket.set_cloexec(true)?;
        socket::refuse_descriptors(&socket);
        #[cfg(target_vendor = "apple")]
        socket.set_nosigpipe(true)?;
        Ok(socket)
    }
}

#[cfg(not(target_vendor = "apple"))]
fn listens(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

/// Apple's systems have the option's number and not the option. What listens is told from what is idle
/// by accepting, without waiting; who is accepted by that is lost.
#[cfg(target_vendor = "apple")]
fn listens(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let socket = SockRef::from(&socket);
    if socket.peer_addr().is_ok() {
        return Ok(false);
    }
    socket.set_nonblocking(true)?;
    match socket.accept() {
        Ok(_) => Ok(true),
        Err(error) => Ok(error.kind() == io::ErrorKind::WouldBlock),
    }
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Fifo => "a pipe",
        FileType::CharacterDevice => "a terminal or another device",
        FileType::BlockDevice => "a block device",
        _ => "something else",
    }
}

/// `fd 7`, for messages.
impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd {}", self.0.as_raw_fd())
    }
}

impl From<OwnedFd> for Owned {
    fn from(descriptor: OwnedFd) -> Owned {
        Owned(descriptor)
    }
}

impl From<UnixStream> for Owned {
    fn from(socket: UnixStream) -> Owned {
        Owned(socket.into())
    }
}

impl From<UnixListener> for Owned {
    fn from(socket: UnixListener) -> Owned {
        Owned(socket.into())
    }
}

impl From<UnixDatagram> for Owned {
    fn from(socket: UnixDatagram) -> Owned {
        Owned(socket.into())
    }
}

impl From<TcpStream> for Owned {
    fn from(socket: TcpStream) -> Owned {
        Owned(socket.into())
    }
}

impl From<TcpListener> for Owned {
    fn from(socket: TcpListener) -> Owned {
        Owned(socket.into())
    }
}

impl From<UdpSocket> for Owned {
    fn from(socket: UdpSocket) -> Owned {
        Owned(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, Datagrams, Listener, Stream, User};
    use std::fs::File;
    use std::time::Duration;

    fn flags(fd: impl AsFd) -> (bool, bool) {
        let is_closed = rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC);
        let is_waiting = !rustix::fs::fcntl_getfl(&fd).unwrap().contains(rustix::fs::OFlags::NONBLOCK);
        (is_closed, is_waiting)
    }

    /// A copy that a child would inherit.
    fn inheritable(fd: impl Into<OwnedFd>) -> OwnedFd {
        let fd = fd.into();
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
        fd
    }

    #[test]
    fn the_two_ends_of_a_pair_become_a_stream_and_a_channel() {
        const SOON: Option<Duration> = Some(Duration::from_secs(10));
        let (near, far) = UnixStream::pair().unwrap();
        let looked_at = [near.try_clone().unwrap(), far.try_clone().unwrap()];
        let (near, far) = (inheritable(near), inheritable(far));
        let mut stream = Stream::from_owned(near.into()).unwrap();
        let channel = Channel::from_owned(far.into()).unwrap();
        assert_eq!(looked_at.map(|fd| flags(fd).1), [false, true]);
        assert_eq!(channel.send(b"hello", SOON).unwrap(), 5);
        let mut bytes = [0; 9];
        assert_eq!(stream.read(&mut bytes).unwrap(), 5);
        assert_eq!(stream.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(stream.write(b"yes").unwrap(), 3);
        assert_eq!(channel.recv(&mut bytes, SOON).unwrap(), 3);
        assert_eq!(*channel.peer().credentials().unwrap().user(), User::Uid(super::super::identity::euid()));
    }

    #[test]
    fn what_is_adopted_is_closed_in_children() {
        let (near, _far) = UnixStream::pair().unwrap();
        let near = inheritable(near);
        assert!(!flags(&near).0);
        let (socket, _) = Owned::from(near).into_connection().unwrap();
        assert!(flags(&socket).0);
    }

    #[test]
    fn listeners_and_datagram_sockets_know_where_they_are_bound() {
        let folder = tempfile::tempdir().unwrap();
        let options = BindOptions::default();
        let path = folder.path().join("stream");
        let listener = UnixListener::bind(&path).unwrap();
        let mut listener = Listener::from_owned(listener.into(), &options).unwrap();
        assert_eq!(*listener.endpoint(), Endpoint::Unix(path.clone()));
        let poll = mio::Poll::new().unwrap();
        let nobody = listener.accept(poll.registry(), mio::Token(0)).unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept(poll.registry(), mio::Token(0)).unwrap();
        assert!(!listener.can_be_lost());
        drop(listener);
        assert!(path.exists(), "it belongs to whoever made it");

        let path = folder.path().join("gram");
        let socket = UnixDatagram::bind(&path).unwrap();
        let socket = Datagrams::from_owned(socket.into(), &options).unwrap();
        assert_eq!(*socket.endpoint(), Endpoint::UnixGram(path));

        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let listener = Listener::from_owned(socket.into(), &options).unwrap();
        assert_eq!(*listener.endpoint(), Endpoint::Tcp { host: "127.0.0.1".into(), port });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let socket = Datagrams::from_owned(socket.into(), &options).unwrap();
        assert_eq!(*socket.endpoint(), Endpoint::Udp { host: "127.0.0.1".into(), port });
    }

    #[test]
    fn what_is_bound_says_where_before_it_is_put_to_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = Owned::from(UnixListener::bind(&path).unwrap());
        assert_eq!(listener.endpoint().unwrap(), Endpoint::Unix(path));
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(Owned::from(socket).endpoint().unwrap(), Endpoint::Udp { host: "0.0.0.0".into(), port });
        let text = Owned::from(UnixStream::pair().unwrap().0).endpoint().unwrap_err().to_string();
        assert!(text.contains("connected Unix socket, not a listener or a datagram socket"), "{text}");
    }

    #[test]
    fn what_is_open_to_the_network_must_be_asked_for() {
        let everywhere = || TcpListener::bind("0.0.0.0:0").unwrap().into();
        let error = Listener::from_owned(everywhere(), &BindOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let options = BindOptions { beyond_loopback: true, ..BindOptions::default() };
        Listener::from_owned(everywhere(), &options).unwrap();
    }

    #[test]
    fn what_it_is_instead_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let options = BindOptions::default();
        let listener = || Owned::from(UnixListener::bind(folder.path().join("s")).unwrap());
        let pair = || Owned::from(UnixStream::pair().unwrap().0);
        let (reader, _writer) = io::pipe().unwrap();
        let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let idle = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        for (error, found, wanted) in [
            (Stream::from_owned(listener()).unwrap_err(), "Unix socket that listens", "not a connection"),
            (Listener::from_owned(pair(), &options).unwrap_err(), "connected Unix socket", "not a listener"),
            (Datagrams::from_owned(pair(), &options).unwrap_err(), "connected Unix", "not a datagram"),
            (
                Channel::from_owned(UnixDatagram::pair().unwrap().0.into()).unwrap_err(),
                "Unix datagram socket",
                "not a connection",
            ),
            (
                Channel::from_owned(UdpSocket::bind("127.0.0.1:0").unwrap().into()).unwrap_err(),
                "UDP",
                "not a connection",
            ),
            (
                Listener::from_owned(OwnedFd::from(idle).into(), &options).unwrap_err(),
                "neither connected nor listens",
                "not a listener",
            ),
            (Stream::from_owned(OwnedFd::from(reader).into()).unwrap_err(), "a pipe", "not a socket"),
            (Stream::from_owned(OwnedFd::from(packets).into()).unwrap_err(), "SEQPACKET", "fd "),
            (
                Channel::from_owned(OwnedFd::from(File::open("/dev/null").unwrap()).into()).unwrap_err(),
                "device",
                "not a socket",
            ),
        ] {
            let text = error.to_string();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text}");
            assert!(text.starts_with("fd ") && text.contains(found) && text.contains(wanted), "{text}");
            let _ = std::fs::remove_file(folder.path().join("s"));
        }
    }
}
