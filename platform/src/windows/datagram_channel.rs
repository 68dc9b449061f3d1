//! The client's end of a datagram endpoint: a connected UDP socket, or a mailslot to write to.

use std::fs::File;
use std::io::{self, Write};
use std::os::windows::io::AsSocket;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{POLLRDNORM, POLLWRNORM};

use super::names::{self, DatagramAddress};
use super::reasons::{one_way, too_large};
use super::{mailslot, udp};
use crate::deadline::Deadline;
use crate::{Address, Endpoint, Peer, Received};

/// Datagrams to one server and back, blocking with timeouts. Dropping it closes it.
///
/// Over UDP it has an address of its own, so that it can be answered, and takes datagrams from its
/// server only. Over a mailslot it only sends.
///
/// One thread may receive while another sends. Two that receive at once, or two that send at once, do
/// no harm.
///
/// A server that dies is noticed when something is sent to it, never while waiting: receive with a
/// timeout.
#[derive(Debug)]
pub struct DatagramChannel {
    transport: Transport,
    peer: Peer,
}

#[derive(Debug)]
enum Transport {
    Udp(Socket),
    Mailslot { file: File, name: Arc<str> },
}

impl DatagramChannel {
    /// Opens a way to the server. Sends nothing; does not wait, except for the resolver if a UDP host
    /// is a name.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::NotFound`]: there is no mailslot of that name.
    /// - [`io::ErrorKind::PermissionDenied`]: the mailslot's rights keep us out.
    /// - [`io::ErrorKind::ResourceBusy`]: another program has opened the mailslot for itself alone.
    /// - [`io::ErrorKind::Unsupported`], [`io::ErrorKind::InvalidInput`]: as for
    ///   [`Datagrams::bind`](crate::Datagrams::bind).
    ///
    /// # Platform-specific behavior
    ///
    /// UDP: the first address of the host that can be connected to, from a port of the system's
    /// choice, on loopback if that address is. It can't tell whether anyone serves there before
    /// something is sent. Mailslots: the server could learn who we are, but not act on our behalf
    /// (SECURITY_IDENTIFICATION).
    pub fn connect(endpoint: &Endpoint) -> io::Result<DatagramChannel> {
        match names::datagram_address(endpoint)? {
            DatagramAddress::Udp(addresses) => {
                let (socket, address) = udp::connect(&addresses)?;
                let peer = Peer::new(None, Some(address));
                Ok(DatagramChannel { transport: Transport::Udp(socket), peer })
            }
            DatagramAddress::Mailslot(name) => {
                let file = mailslot::open(&name)?;
                let transport = Transport::Mailslot { file, name: name.text().clone() };
                Ok(DatagramChannel { transport, peer: Peer::default() })
            }
        }
    }

    /// What the system knows about the server, from before the first byte was sent.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: nothing but UDP's address. Anyone may have taken the port or the mailslot's name
    /// first.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the server may find no way to the address of this end, so that a request could be
    /// executed and its answer lost.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: never.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        false
    }

    /// The address of this end, which answers come to; none on a mailslot.
    ///
    /// # Errors
    ///
    /// What the system says about a socket.
    pub fn local_address(&self) -> io::Result<Address> {
        match &self.transport {
            Transport::Udp(socket) => inet(&socket.local_addr()?),
            Transport::Mailslot { .. } => Ok(Address::Unnamed),
        }
    }

    /// The address of the server: the socket's, or the mailslot's full name (as an
    /// [`Address::Pipe`]).
    ///
    /// # Errors
    ///
    /// What the system says about a socket.
    pub fn peer_address(&self) -> io::Result<Address> {
        match &self.transport {
            Transport::Udp(socket) => inet(&socket.peer_addr()?),
            Transport::Mailslot { name, .. } => Ok(Address::Pipe(name.to_string())),
        }
    }

    /// Sends one datagram, and waits for room at most for `timeout` (`None`: without end; zero: not
    /// at all). It goes whole or not at all; whether it is ever read, nobody says.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::TimedOut`]: there was no room.
    /// - [`io::ErrorKind::ConnectionRefused`]: the server has gone, on a mailslot for good even if
    ///   another takes its name: connect again. Over UDP this is about an earlier datagram (ICMP);
    ///   this one was not sent, and the next may reach a server that is back.
    /// - [`io::ErrorKind::InvalidInput`]: too large for this transport.
    ///
    /// # Platform-specific behavior
    ///
    /// UDP takes 65,507 bytes over IPv4, and has always room, since the system drops what a receiver
    /// has no room for. A mailslot takes what its server has asked for, 65,536 bytes of one of ours
    /// (on Wine up to about 200,000), and never waits.
    pub fn send(&self, bytes: &[u8], timeout: Option<Duration>) -> io::Result<()> {
        match &self.transport {
            Transport::Udp(socket) => {
                send_udp(socket, bytes, Deadline::after(timeout)).map_err(udp::client_error)
            }
            Transport::Mailslot { file, .. } => match { file }.write(bytes) {
                Ok(count) if count == bytes.len() => Ok(()),
                Ok(_) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) => Err(mailslot::write_error(error, bytes.len())),
            },
        }
    }

    /// Waits for the next datagram from the server, at most for `timeout` (`None`: without end; zero:
    /// not at all). An empty one is a message too, of length 0; what `buf` has no room for is lost,
    /// and [`Received::truncated`] says so.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::TimedOut`]: none came in time.
    /// - [`io::ErrorKind::ConnectionRefused`]: UDP, an earlier datagram found nobody.
    /// - [`io::ErrorKind::Unsupported`]: on mailslots, which carry messages one way.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: no credentials.
    pub fn receive(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<Received> {
        match &self.transport {
            Transport::Udp(socket) => {
                receive_udp(socket, buf, Deadline::after(timeout)).map_err(udp::client_error)
            }
            Transport::Mailslot { .. } => Err(one_way("a mailslot's client can't receive")),
        }
    }
}

fn send_udp(socket: &Socket, bytes: &[u8], deadline: Deadline) -> io::Result<()> {
    loop {
        match socket.send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                udp::wait(socket.as_socket(), POLLWRNORM, deadline)?;
            }
            Err(error) if udp::is_too_large(&error) => return Err(too_large(bytes.len())),
            sent => return sent.map(drop),
        }
    }
}

/// One system call when something is there already. Not with SO_RCVTIMEO, after which "the socket
/// state is indeterminate, and should not be used" ("SOL_SOCKET Socket Options",
/// learn.microsoft.com/windows/win32/winsock/sol-socket-socket-options).
fn receive_udp(socket: &Socket, buf: &mut [u8], deadline: Deadline) -> io::Result<Received> {
    loop {
        match udp::receive(socket.as_socket(), buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                udp::wait(socket.as_socket(), POLLRDNORM, deadline)?;
            }
            received => return received,
        }
    }
}

fn inet(address: &socket2::SockAddr) -> io::Result<Address> {
    let unknown =
        || io::Error::new(io::ErrorKind::InvalidData, "the socket's address is no internet address");
    address.as_socket().map(Address::Inet).ok_or_else(unknown)
}
