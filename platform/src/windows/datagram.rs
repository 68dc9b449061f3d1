//! Bound datagram endpoints: a UDP socket, or a mailslot with a thread that reads it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::windows::io::AsSocket;

use mio::net::UdpSocket;
use mio::{Interest, Token};
use windows_sys::Win32::Networking::WinSock::WSAENOBUFS;

use super::mailslot::Mailslot;
use super::names::{self, DatagramAddress};
use super::owned::Owned;
use super::poll::Registry;
use super::reasons::{invalid, one_way, too_large};
use super::udp;
use crate::{Address, BindOptions, Endpoint, Received, SendBuffer, User, hosts};

/// A bound datagram endpoint: receives from anyone who may send to it, and answers.
///
/// # Platform-specific behavior
///
/// On Windows a mailslot is read by a small thread, which ends with this; what it has read and nobody
/// has received waits in a queue of at most 1,024 messages and 4 MiB. What comes beyond that is
/// dropped, and the log says so.
pub struct Datagrams {
    endpoint: Endpoint,
    source: Source,
}

enum Source {
    Udp { socket: UdpSocket, local: SocketAddr },
    Mailslot(Mailslot),
}

impl Datagrams {
    /// Creates the endpoint, with its final access rights.
    ///
    /// Waits for the resolver if a UDP host is a name.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::AddrInUse`]: somebody else has the name or the port.
    /// - [`io::ErrorKind::PermissionDenied`]: UDP beyond loopback without
    ///   [`BindOptions::beyond_loopback`]; or the system says so.
    /// - [`io::ErrorKind::Unsupported`]: this system has no such endpoint; the text says which does.
    /// - [`io::ErrorKind::InvalidInput`]: not a datagram endpoint, or a name that does not fit.
    ///
    /// # Platform-specific behavior
    ///
    /// A mailslot's owner is the user; only that user and SYSTEM may write to it (everyone with
    /// [`BindOptions::anyone`]), and no process of a lower integrity level (unless
    /// [`BindOptions::lower_integrity`]). That holds for this machine: before build 25314 (Windows 11
    /// 24H2, Server 2025) other machines can write, too, where file sharing lets them in, and nobody
    /// says who they are; the log warns of it. Messages have at most 65,536 bytes. As long as a client
    /// of a server that has gone keeps the mailslot open, its name may stay taken.
    pub fn bind(endpoint: &Endpoint, options: &BindOptions) -> io::Result<Datagrams> {
        match names::datagram_address(endpoint)? {
            DatagramAddress::Udp(addresses) => {
                Datagrams::of_socket(UdpSocket::from_std(udp::bind(&addresses, options)?.into()))
            }
            DatagramAddress::Mailslot(name) => {
                let source = Source::Mailslot(Mailslot::create(name, options)?);
                Ok(Datagrams { endpoint: endpoint.clone(), source })
            }
        }
    }

    /// Of a UDP socket that the program has already. It becomes non-blocking, and children do not inherit it
    /// from here on. Of the options count the buffers and [`BindOptions::beyond_loopback`].
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is no such socket; the text says what it is.
    /// [`io::ErrorKind::PermissionDenied`]: beyond loopback without [`BindOptions::beyond_loopback`].
    /// Otherwise what the system says. It is closed then.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: a UDP socket. Unix: a datagram socket, Unix or UDP.
    pub fn from_owned(owned: Owned, options: &BindOptions) -> io::Result<Datagrams> {
        let socket = udp::adopt(owned.into_datagrams(options)?, options)?;
        Datagrams::of_socket(UdpSocket::from_std(socket.into()))
    }

    fn of_socket(socket: UdpSocket) -> io::Result<Datagrams> {
        let local = socket.local_addr()?;
        let endpoint = Endpoint::Udp { host: hosts::host(&local), port: local.port() };
        Ok(Datagrams { endpoint, source: Source::Udp { socket, local } })
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
    /// each message that has come, and at once, on this thread, if some have come already.
    ///
    /// # Errors
    ///
    /// When it is registered already, or the system refuses.
    ///
    /// # Platform-specific behavior
    ///
    /// A mailslot never meets `registry` and `token`: it calls `ready`, until it is deregistered or
    /// dropped, both of which wait for a call under way. A UDP socket drops `ready` at once.
    pub fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        ready: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<()> {
        match &mut self.source {
            Source::Udp { socket, .. } => registry.sockets()?.register(socket, token, Interest::READABLE),
            Source::Mailslot(slot) => slot.register(ready),
        }
    }

    /// Ends the registration, for example to pause receiving.
    ///
    /// # Errors
    ///
    /// When it is not registered.
    ///
    /// # Platform-specific behavior
    ///
    /// A mailslot goes on to be read into its queue.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.source {
            Source::Udp { socket, .. } => registry.sockets()?.deregister(socket),
            Source::Mailslot(slot) => slot.deregister(),
        }
    }

    /// Whether others can remove what leads clients here: never, on Windows. See [`Self::renew`].
    #[must_use]
    pub fn can_be_lost(&self) -> bool {
        false
    }

    /// Looks whether clients still find the way here, and opens the endpoint anew if not; says whether it did.
    ///
    /// # Errors
    ///
    /// None on Windows.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: does nothing, since names last as long as their handles.
    pub fn renew(&mut self, registry: &Registry, token: Token) -> io::Result<bool> {
        let _ = (registry, token);
        Ok(false)
    }

    /// Takes the next datagram, without blocking. An empty one is a message too, of length 0; what
    /// `buf` has no room for is lost, and [`Received::truncated`] says so.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when there is none. That an earlier answer found nobody
    /// (WSAECONNRESET) is not reported here.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: no credentials, neither on UDP nor on mailslots, which tell nothing of a message's
    /// sender at all: there is no [`Received::from`] either.
    pub fn receive(&mut self, buf: &mut [u8]) -> io::Result<Received> {
        match &mut self.source {
            Source::Udp { socket, .. } => loop {
                match socket.try_io(|| udp::receive(socket.as_socket(), buf)) {
                    Err(error) if udp::is_about_another(&error) => {}
                    received => return received,
                }
            },
            Source::Mailslot(slot) => slot.receive(buf),
        }
    }

    /// Sends one datagram, as a rule to where one came from ([`Received::from`]), without blocking.
    /// It goes whole or not at all. `owner`: for Unix sockets; not looked at here.
    ///
    /// # Errors
    ///
    /// All of them concern this one receiver or message:
    ///
    /// - [`io::ErrorKind::WouldBlock`]: our queue is full. No event will tell of room: try again
    ///   later.
    /// - [`io::ErrorKind::InvalidInput`]: too large for this transport, or no address that can be
    ///   answered.
    /// - [`io::ErrorKind::Unsupported`]: on mailslots, which carry messages one way.
    ///
    /// # Platform-specific behavior
    ///
    /// UDP takes 65,507 bytes over IPv4. It does not tell of a receiver that has gone, and drops what
    /// finds no room.
    pub fn send(&mut self, bytes: &[u8], to: &Address, owner: Option<&User>) -> io::Result<()> {
        let _ = owner;
        match &self.source {
            Source::Udp { socket, local } => match *to {
                Address::Inet(to) if to.is_ipv4() == local.is_ipv4() => send_to(socket, bytes, to),
                _ => Err(invalid("this address belongs to another transport")),
            },
            Source::Mailslot(_) => Err(one_way("a mailslot's server can't answer")),
        }
    }

    /// How much of what was sent has not been read yet, where that takes room from what is still to
    /// be sent. `None`: it does not, or the system does not tell.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: always `None`.
    #[must_use]
    pub fn send_buffer(&self) -> Option<SendBuffer> {
        None
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

fn send_to(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    let sent = match socket.send_to(bytes, to) {
        // Told once: "this error would indicate that a previous send operation resulted in an ICMP
        // Port Unreachable message" ("sendto function",
        // learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-sendto).
        Err(error) if udp::is_about_another(&error) => socket.send_to(bytes, to),
        sent => sent,
    };
    match sent {
        Ok(_) => Ok(()),
        Err(error) if udp::is_too_large(&error) => Err(too_large(bytes.len())),
        Err(error) if error.raw_os_error() == Some(WSAENOBUFS) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, error))
        }
        Err(error) => Err(error),
    }
}
