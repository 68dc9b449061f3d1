//! UDP by way of socket2: binding without being robbed, receiving without being cut off.
//!
//! Not proven on real Windows, where Wine can't tell:
//!
//! * that no other process can take the port (`SO_EXCLUSIVEADDRUSE`);
//! * that a server hears nothing of clients that have gone (`SIO_UDP_CONNRESET`; Wine 8 doesn't know
//!   it, and Linux below tells only connected sockets): hence [`is_about_another`], too;
//! * that a client hears of a server that has gone, as WSAECONNRESET and also while it waits (Wine 8
//!   says WSAECONNREFUSED, if anything: mostly its server takes ICMP's word first and wakes nobody,
//!   and the client's receive just times out);
//! * that a datagram that was cut comes with its sender's address. Where it doesn't, it has none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::windows::io::{AsRawSocket, AsSocket, BorrowedSocket};

use socket2::{Protocol, SockAddr, SockRef, Socket, Type};
use windows_sys::Win32::Networking::WinSock::{
    POLLERR, POLLNVAL, SIO_UDP_CONNRESET, SIO_UDP_NETRESET, SOCKET, SOCKET_ERROR, WSAECONNREFUSED,
    WSAECONNRESET, WSAEMSGSIZE, WSAENETRESET, WSAENOTSOCK, WSAPOLL_EVENT_FLAGS, WSAPOLLFD, WSAPoll, recvfrom,
};

use super::inet::{self, is_loopback, take_exclusively};
use super::timeout::millis;
use crate::deadline::Deadline;
use crate::{Address, BindOptions, Received};

/// What is asked for unless the options say otherwise: room for a few large messages.
const BUFFER: usize = 1 << 20;

/// A non-blocking socket on the first address that works.
pub(super) fn bind(addresses: &[SocketAddr], options: &BindOptions) -> io::Result<Socket> {
    inet::bind_first(addresses, options, |address| bind_to(address, options))
}

fn bind_to(address: SocketAddr, options: &BindOptions) -> io::Result<Socket> {
    let socket = new(address)?;
    // What was asked for must be had; the default, which `new` has set, is a wish.
    inet::set_buffers(&SockRef::from(&socket), options.recv_buffer, options.send_buffer)?;
    keep_silent_about_others(&socket);
    inet::bind(&socket, address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// One that was bound by others, with what ours have.
pub(super) fn adopt(socket: Socket, options: &BindOptions) -> io::Result<Socket> {
    set_default_buffers(&socket);
    inet::set_buffers(&SockRef::from(&socket), options.recv_buffer, options.send_buffer)?;
    keep_silent_about_others(&socket);
    Ok(socket)
}

/// A non-blocking socket with a port of its own, which takes datagrams from the first address that
/// could be connected to, and from nobody else.
pub(super) fn connect(addresses: &[SocketAddr]) -> io::Result<(Socket, SocketAddr)> {
    inet::first_that_works(addresses, |address, _| Ok((connect_to(address)?, address)))
}

fn connect_to(address: SocketAddr) -> io::Result<Socket> {
    let socket = new(address)?;
    if is_loopback(&address) {
        // Otherwise the whole network can reach the port in the moment before connecting.
        let home = match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.to_canonical().is_ipv4() => Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        socket.bind(&SocketAddr::new(home, 0).into())?;
    }
    socket.connect(&address.into())?;
    socket.set_nonblocking(true)?;
    if socket.local_addr()?.as_socket() == Some(address) {
        let why = "nobody serves there (the system gave us that port ourselves)";
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, why));
    }
    // The port was ours a moment before the server was all that it takes from. The server itself
    // has not heard of us yet: what is here is a stranger's.
    while receive(socket.as_socket(), &mut [0]).is_ok() {}
    Ok(socket)
}

fn new(address: SocketAddr) -> io::Result<Socket> {
    let socket = inet::socket(address, Type::DGRAM, Protocol::UDP)?;
    take_exclusively(&socket)?;
    set_default_buffers(&socket);
    Ok(socket)
}

fn set_default_buffers(socket: &Socket) {
    for result in [socket.set_recv_buffer_size(BUFFER), socket.set_send_buffer_size(BUFFER)] {
        if let Err(error) = result {
            log::debug!("the system has no buffer of {BUFFER} bytes for datagrams: {error}");
        }
    }
}

/// Takes the next datagram. WouldBlock when there is none.
///
/// Not by std, mio or socket2, for which a datagram that doesn't fit is an error without a sender.
/// "recvfrom function" (learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-recvfrom): then
/// "the buffer is filled with the first part of the datagram, and recvfrom generates the error
/// WSAEMSGSIZE".
pub(super) fn receive(socket: BorrowedSocket<'_>, buf: &mut [u8]) -> io::Result<Received> {
    const NO_FLAGS: i32 = 0;
    let room = i32::try_from(buf.len()).unwrap_or(i32::MAX);
    // SAFETY: the storage is zeroed, which is a valid address without a family, and its length is
    // only ever written by the system, to what it has written there.
    let received = unsafe {
        SockAddr::try_init(|from, from_length| {
            // SAFETY: the socket is borrowed, hence open; `buf` is borrowed and has `room` bytes;
            // storage and length are try_init's and stay until this returns.
            let count =
                recvfrom(raw(socket), buf.as_mut_ptr(), room, NO_FLAGS, from.cast(), from_length.cast());
            match usize::try_from(count) {
                Ok(count) => Ok((count, false)),
                Err(_) => match io::Error::last_os_error() {
                    error if has_code(&error, WSAEMSGSIZE) => Ok((room as usize, true)),
                    error => Err(error),
                },
            }
        })
    };
    let ((length, truncated), from) = received?;
    Ok(Received { length, truncated, from: from.as_socket().map(Address::Inet), credentials: None })
}

/// Waits until there is something to receive (POLLRDNORM), or room to send (POLLWRNORM).
/// TimedOut: neither, until the deadline.
///
/// "WSAPoll function" (learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsapoll); what it
/// has to say about failed connects before Windows 10 2004 is about TCP.
pub(super) fn wait(
    socket: BorrowedSocket<'_>,
    events: WSAPOLL_EVENT_FLAGS,
    deadline: Deadline,
) -> io::Result<()> {
    const FOREVER: i32 = -1;
    loop {
        let mut poll = WSAPOLLFD { fd: raw(socket), events, revents: 0 };
        let millis =
            deadline.remaining().map_or(FOREVER, |_| i32::try_from(millis(deadline)).unwrap_or(i32::MAX));
        // SAFETY: `poll` is the one structure announced, and lives on this stack until the call
        // returns; the socket in it is borrowed, hence open.
        match unsafe { WSAPoll(&raw mut poll, 1, millis) } {
            SOCKET_ERROR => return Err(io::Error::last_os_error()),
            // Only when there was nothing behind the deadline either: we may have been suspended.
            0 if millis == 0 => return Err(io::ErrorKind::TimedOut.into()),
            // Waits may end a little early, by the clock that deadlines are measured with.
            0 => {}
            _ if poll.revents & POLLNVAL != 0 => return Err(io::Error::from_raw_os_error(WSAENOTSOCK)),
            // Nothing but an error: taken here, so that the next call doesn't meet it for ever.
            _ if poll.revents & events == 0 && poll.revents & POLLERR != 0 => {
                return SockRef::from(&socket).take_error()?.map_or(Ok(()), Err);
            }
            _ => return Ok(()),
        }
    }
}

/// Whether a server's error is ICMP's word on something that it sent earlier, to whomever.
pub(super) fn is_about_another(error: &io::Error) -> bool {
    [WSAECONNRESET, WSAENETRESET, WSAECONNREFUSED].into_iter().any(|code| has_code(error, code))
}

/// Gives a client's errors the kinds that they have on other systems: ICMP's "port unreachable" is a
/// reset to Windows.
pub(super) fn client_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(WSAECONNRESET) => io::Error::new(io::ErrorKind::ConnectionRefused, error),
        _ => error,
    }
}

/// Whether a message was too large for any datagram of this transport.
pub(super) fn is_too_large(error: &io::Error) -> bool {
    has_code(error, WSAEMSGSIZE)
}

fn has_code(error: &io::Error, code: i32) -> bool {
    error.raw_os_error() == Some(code)
}

fn raw(socket: BorrowedSocket<'_>) -> SOCKET {
    // RawSocket is u64 in std and SOCKET usize in windows-sys: both as wide as a pointer.
    socket.as_raw_socket() as SOCKET
}

/// Asks Windows not to fail a server's receiving because of a client that has gone ("Winsock IOCTLs",
/// learn.microsoft.com/windows/win32/winsock/winsock-ioctls: SIO_UDP_CONNRESET "controls whether UDP
/// PORT_UNREACHABLE messages are reported", SIO_UDP_NETRESET the same of an expired TTL). Where that
/// is not possible, they are told and skipped: [`is_about_another`].
fn keep_silent_about_others(socket: &Socket) {
    for (code, name) in [(SIO_UDP_CONNRESET, "SIO_UDP_CONNRESET"), (SIO_UDP_NETRESET, "SIO_UDP_NETRESET")] {
        const OFF: i32 = 0;
        if let Err(error) = inet::control(socket, code, OFF) {
            log::trace!("{name}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;
    use windows_sys::Win32::Networking::WinSock::{POLLRDNORM, POLLWRNORM};

    fn local() -> Vec<SocketAddr> {
        vec!["127.0.0.1:0".parse().unwrap()]
    }

    #[test]
    fn buffers_are_those_asked_for() {
        let options =
            BindOptions { recv_buffer: Some(50_000), send_buffer: Some(60_000), ..Default::default() };
        let socket = bind(&local(), &options).unwrap();
        // Wine doubles them as its host does.
        assert!((50_000..=100_000).contains(&socket.recv_buffer_size().unwrap()));
        assert!((60_000..=120_000).contains(&socket.send_buffer_size().unwrap()));
        let socket = bind(&local(), &BindOptions::default()).unwrap();
        assert!(socket.recv_buffer_size().unwrap() > 100_000 && socket.send_buffer_size().unwrap() > 100_000);
    }

    #[test]
    fn a_client_is_on_loopback_alone() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (socket, address) = connect(&[server.local_addr().unwrap()]).unwrap();
        assert_eq!(address, server.local_addr().unwrap());
        let own = socket.local_addr().unwrap().as_socket().unwrap();
        assert!(own.ip().is_loopback() && own.port() != 0);
        // What a stranger sends is dropped, what the server sends is not.
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"strange", own).unwrap();
        server.send_to(b"mine", own).unwrap();
        wait(socket.as_socket(), POLLRDNORM, Deadline::after(Some(Duration::from_secs(5)))).unwrap();
        let mut buf = [0; 16];
        assert_eq!(receive(socket.as_socket(), &mut buf).unwrap().length, 4);
        assert_eq!(receive(socket.as_socket(), &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn waits_end() {
        let socket = bind(&local(), &BindOptions::default()).unwrap();
        let soon = || Deadline::after(Some(Duration::from_millis(30)));
        wait(socket.as_socket(), POLLWRNORM, soon()).unwrap();
        let error = wait(socket.as_socket(), POLLRDNORM, soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn errors_of_other_conversations() {
        for code in [10054, 10052, 10061] {
            assert!(is_about_another(&io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(!is_about_another(&io::ErrorKind::WouldBlock.into()));
        let reset = client_error(io::Error::from_raw_os_error(10054));
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionRefused);
    }
}
