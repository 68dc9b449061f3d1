//! Bound datagram endpoints.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::lifecycle::{self, Role, SocketFile};
use super::listener::{bind_host, bound_to};
use super::message;
use super::names::{self, DatagramPlace};
use super::socket::{self, Buffers};
use crate::BindOptions;
use crate::datagram::{Received, SendBuffer};
use crate::endpoint::Endpoint;
use crate::peer::{Address, User};

/// A bound datagram endpoint: receives from anyone who may send to it, and answers.
///
/// Dropping it removes from the file system what [`Datagrams::bind`] put there, unless someone has
/// put something else in its place.
#[derive(Debug)]
pub struct Datagrams {
    /// Before the socket: see [`SocketFile`]. `None` for what has no file.
    _file: Option<SocketFile>,
    socket: Socket,
    endpoint: Endpoint,
}

impl Datagrams {
    /// Creates the endpoint, with its final access rights.
    ///
    /// A live server is never displaced; what a dead one has left behind is replaced. Waits at
    /// most two seconds for other programs that are starting at the same endpoint, and for the
    /// resolver if a UDP host is a name.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::AddrInUse`]: a server is already there.
    /// - [`io::ErrorKind::AlreadyExists`]: a file is in the way that is not a socket.
    /// - [`io::ErrorKind::PermissionDenied`]: UDP beyond loopback without
    ///   [`BindOptions::beyond_loopback`]; or the system says so.
    /// - [`io::ErrorKind::ResourceBusy`]: the lock of a socket's path can't be had.
    /// - [`io::ErrorKind::Unsupported`]: this system has no such endpoint; the text says which does.
    /// - [`io::ErrorKind::InvalidInput`]: not a datagram endpoint, or a name that does not fit.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: sockets in the file system have mode 0600, or 0666 for [`BindOptions::anyone`]; on
    /// Linux at all times, on the BSDs and macOS from shortly after bind(2). Next to the path,
    /// `PATH.lock` exists while a server starts and while it goes. `abstractgram:` sockets have no
    /// mode: whoever shares the network namespace can send, and only a check of
    /// [`Received::credentials`] keeps others out. How many datagrams wait is up to the system, and
    /// not much: 11 per Unix socket where `net.unix.max_dgram_qlen` has its default of 10.
    pub fn bind(endpoint: &Endpoint, options: &BindOptions) -> io::Result<Datagrams> {
        let role = Role::Datagrams;
        let (socket, file, endpoint) = match names::datagram_place(endpoint)? {
            DatagramPlace::Path(path) => {
                let (socket, file) = lifecycle::bind(path, role, options.anyone)?;
                set_buffers(&socket, options)?;
                (socket, Some(file), endpoint.clone())
            }
            DatagramPlace::Abstract(address) => {
                let socket = role.socket()?;
                set_buffers(&socket, options)?;
                socket.bind(&address)?;
                (socket, None, endpoint.clone())
            }
            DatagramPlace::Inet { host, port } => {
                let bind = |address| udp_socket(address, options);
                let socket = bind_host(host, port, options.beyond_loopback, bind)?;
                let (host, port) = bound_to(&socket)?;
                (socket, None, Endpoint::Udp { host, port })
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Datagrams { _file: file, socket, endpoint })
    }

    /// The endpoint that is really bound: as it was given, but UDP with its numeric address and port.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Registers with mio, for [`Interest::READABLE`], edge-triggered: after an event, receive until
    /// [`io::ErrorKind::WouldBlock`].
    ///
    /// `ready` is for sources that mio can't watch: those call it, on a thread of their own, after
    /// each message that has come.
    ///
    /// # Errors
    ///
    /// What the system's selector says (epoll_ctl(2)), for example that it is registered already.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix drops `ready` at once; Windows calls it for mailslots.
    pub fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        ready: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<()> {
        drop(ready);
        SourceFd(&self.socket.as_raw_fd()).register(registry, token, Interest::READABLE)
    }

    /// Takes the socket out of the poll, for example to pause receiving.
    ///
    /// # Errors
    ///
    /// What the system's selector says, for example that it is not registered.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }

    /// Takes the next datagram, without blocking. An empty one is a message too, of length 0; what
    /// `buf` has no room for is lost, and [`Received::truncated`] says so.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when there is none. That an earlier answer found nobody is not
    /// reported here (udp(7), ECONNREFUSED).
    ///
    /// # Platform-specific behavior
    ///
    /// Linux, Unix sockets: [`Received::credentials`] come from SCM_CREDENTIALS (unix(7)), attached
    /// by the kernel as the datagram was sent. The user is the sender's *real* user id, where streams
    /// tell the effective one, unless the sender has named another that it may take on at will: its
    /// effective or saved one, or any if it has CAP_SETUID (root) over that user. The process id is
    /// the sender's own unless it has CAP_SYS_ADMIN. No process id for a sender outside our pid
    /// namespace, and the overflow user ([`User::is_known`](crate::User::is_known) is false) for one
    /// outside our user namespace. Descriptors that a sender attaches (SCM_RIGHTS) are never opened
    /// here. Other systems, and UDP everywhere: no credentials.
    pub fn receive(&mut self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            match retry_on_intr(|| message::receive(&self.socket, buf, RecvFlags::DONTWAIT)) {
                // ICMP's word on something that was sent earlier, to whomever. Each is told once.
                Err(
                    Errno::CONNREFUSED
                    | Errno::CONNRESET
                    | Errno::HOSTUNREACH
                    | Errno::NETUNREACH
                    | Errno::HOSTDOWN
                    | Errno::NETDOWN,
                ) => {}
                received => return Ok(received?),
            }
        }
    }

    /// Sends one datagram, as a rule to where one came from ([`Received::from`]), without blocking.
    /// It goes whole or not at all.
    ///
    /// # Errors
    ///
    /// All of them concern this one receiver or message:
    ///
    /// - [`io::ErrorKind::WouldBlock`]: its queue is full, or ours. No event will tell of room: try
    ///   again later.
    /// - [`io::ErrorKind::NotFound`], [`io::ErrorKind::ConnectionRefused`]: the receiver has gone.
    /// - [`io::ErrorKind::PermissionDenied`]: it does not take datagrams from us.
    /// - [`io::ErrorKind::InvalidInput`]: too large for this transport, or no address that can be
    ///   answered: none, a relative path, one of another transport.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: UDP takes 65,507 bytes over IPv4 (udp(7)); a Unix socket somewhat less than its send
    /// buffer, with the default options at least 200,000. UDP does not tell of a receiver that has
    /// gone, and drops what finds no room.
    ///
    /// On Unix sockets, what receivers have not read stays in *our* send buffer: see
    /// [`Datagrams::send_buffer`]. A path leads to whatever
    /// socket it leads to *now*, with our rights and at the speed of its file system; clients bound to
    /// an abstract name, as [`DatagramChannel`](crate::DatagramChannel) is on Linux, have no such file,
    /// but must be in our network namespace to be answered.
    pub fn send(&mut self, bytes: &[u8], to: &Address, owner: Option<&User>) -> io::Result<()> {
        let _ = owner;
        let to = names::answer_address(to)?;
        match socket::send_to(&self.socket, bytes, &to) {
            Ok(_) => Ok(()),
            // The BSDs and macOS say so of a full queue.
            Err(Errno::NOBUFS) => Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::AFNOSUPPORT) => {
                let text = "this address belongs to another transport";
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
            Err(Errno::MSGSIZE) => Err(too_large(bytes.len())),
            Err(error) => Err(error.into()),
        }
    }

    /// How much of what was sent has not been read yet, where that takes room from what is still to
    /// be sent. `None`: it does not, or the system does not tell.
    ///
    /// # Platform-specific behavior
    ///
    /// Linux, Unix sockets: the bytes stay in our send buffer until they are read. A receiver that is
    /// connected to us can take all of it (af_unix.c; others take 11 datagrams, see
    /// [`Datagrams::bind`]), and one that does not read them keeps us from answering anyone. `None`
    /// on other systems, and for UDP.
    #[must_use]
    pub fn send_buffer(&self) -> Option<SendBuffer> {
        match self.endpoint {
            Endpoint::Udp { .. } => None,
            _ => socket::send_buffer(&self.socket),
        }
    }
}

pub(super) fn too_large(length: usize) -> io::Error {
    let text = format!("a message of {length} bytes is too large for one datagram here");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// What is asked for unless the options say otherwise: room for a few large messages. The systems'
/// defaults are made for UDP over networks, and on some don't take 100,000 bytes.
const BUFFER: u32 = 1 << 20;

/// What was asked for must be had; the default is a wish.
fn set_buffers(socket: &Socket, options: &BindOptions) -> io::Result<()> {
    set_default_buffers(socket);
    Buffers::of(options).set(SockRef::from(socket))
}

pub(super) fn set_default_buffers(socket: &Socket) {
    for wish in [Buffers { recv: Some(BUFFER), send: None }, Buffers { recv: None, send: Some(BUFFER) }] {
        if let Err(error) = wish.set(SockRef::from(socket)) {
            log::debug!("the system has no buffer of {BUFFER} bytes for datagrams: {error}");
        }
    }
}

/// Without SO_REUSEADDR, with which UDP lets another process of ours take the port (socket(7)).
fn udp_socket(address: SocketAddr, options: &BindOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    set_buffers(&socket, options)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}
