//! TCP by way of socket2: binding without being robbed, connecting with a timeout.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::windows::io::AsRawSocket;
use std::ptr;
use std::time::Duration;

use socket2::{Protocol, SockRef, Socket, TcpKeepalive, Type};
use windows_sys::Win32::Networking::WinSock::{
    FD_SET, SIO_TCP_INITIAL_RTO, SOCKET, SOCKET_ERROR, TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS,
    TCP_INITIAL_RTO_PARAMETERS, TIMEVAL, WSAECONNABORTED, WSAENETRESET, WSAESHUTDOWN, select,
};

use super::inet::{self, is_loopback, take_exclusively};
use crate::BindOptions;
use crate::deadline::Deadline;

/// Binds and listens on the first address that works.
pub(super) fn listen(addresses: &[SocketAddr], options: &BindOptions) -> io::Result<TcpListener> {
    inet::bind_first(addresses, options, |address| listen_on(address, options))
}

fn listen_on(address: SocketAddr, options: &BindOptions) -> io::Result<TcpListener> {
    let socket = inet::socket(address, Type::STREAM, Protocol::TCP)?;
    take_exclusively(&socket)?;
    // Before listening: the window that a connection begins with depends on the buffer.
    SocketOptions::of(options).set_buffers(&SockRef::from(&socket))?;
    inet::bind(&socket, address)?;
    socket.listen(backlog(options.backlog))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A backlog as listen wants it. It cuts to 200 what is not wrapped in SOMAXCONN_HINT, which is a
/// minus ("listen function", learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-listen).
fn backlog(connections: u32) -> i32 {
    const PLAIN_MAX: u32 = 200;
    const HINT_MAX: u32 = 65_535;
    let number = connections.min(HINT_MAX) as i32;
    if connections <= PLAIN_MAX { number } else { -number }
}

/// The part of [`BindOptions`] that concerns each socket.
#[derive(Clone, Copy)]
pub(super) struct SocketOptions {
    recv_buffer: Option<u32>,
    send_buffer: Option<u32>,
    nodelay: bool,
    keepalive: Option<Duration>,
}

impl SocketOptions {
    pub(super) fn of(options: &BindOptions) -> SocketOptions {
        let BindOptions { recv_buffer, send_buffer, nodelay, keepalive, .. } = *options;
        SocketOptions { recv_buffer, send_buffer, nodelay, keepalive }
    }

    /// Sets an accepted socket up. It has "the same properties" as its listener ("accept function",
    /// learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-accept), but nobody says which.
    pub(super) fn set(self, socket: &SockRef<'_>) -> io::Result<()> {
        self.set_buffers(socket)?;
        socket.set_tcp_nodelay(self.nodelay)?;
        let Some(idle) = self.keepalive else { return Ok(()) };
        let idle = idle.clamp(KEEPALIVE_MIN, KEEPALIVE_MAX);
        let whole = Duration::from_secs(idle.as_secs() + u64::from(idle.subsec_nanos() > 0));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(whole).with_interval(KEEPALIVE_INTERVAL))
    }

    /// As much as a listening socket needs.
    fn set_buffers(self, socket: &SockRef<'_>) -> io::Result<()> {
        inet::set_buffers(socket, self.recv_buffer, self.send_buffer)
    }
}

/// What [`BindOptions::keepalive`] promises to take.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
/// Windows' own default, which must be given along with the time ("SIO_KEEPALIVE_VALS",
/// learn.microsoft.com/windows/win32/winsock/sio-keepalive-vals).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Connects to the first address that answers. What is left of the time is divided among the
/// addresses that are left, so that one that swallows packets doesn't use it up.
pub(super) fn connect(addresses: &[SocketAddr], deadline: Deadline) -> io::Result<Socket> {
    inet::first_that_works(addresses, |address, left| {
        let share = deadline.remaining().map(|time| time / left);
        connect_to(address, share).map_err(error)
    })
}

fn connect_to(address: SocketAddr, timeout: Option<Duration>) -> io::Result<Socket> {
    let socket = inet::socket(address, Type::STREAM, Protocol::TCP)?;
    if is_loopback(&address) {
        refuse_at_once(&socket);
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_connected(&socket, timeout)?,
        other => other?,
    }
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// A server that ends resets those whom it has not accepted; who comes in that moment was connected and has no peer any
/// more.
pub(super) fn gone_at_once(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotConnected => io::Error::new(io::ErrorKind::ConnectionReset, error),
        _ => error,
    }
}

/// Gives Windows' errors of a connection the kinds that Linux's have.
pub(super) fn error(error: io::Error) -> io::Error {
    let kind = match error.raw_os_error() {
        // The connection was given up, by this side's stack or the other's: a reset to Linux.
        Some(WSAECONNABORTED | WSAENETRESET) => io::ErrorKind::ConnectionReset,
        // Written to after shutting down: EPIPE there.
        Some(WSAESHUTDOWN) => io::ErrorKind::BrokenPipe,
        _ => return error,
    };
    io::Error::new(kind, error)
}

/// Asks Windows not to repeat the SYN of a connect that was refused, which it otherwise does for
/// two seconds before it says so; on loopback nothing is ever lost that a repetition would mend
/// ("SIO_TCP_INITIAL_RTO", learn.microsoft.com/windows/win32/winsock/sio-tcp-initial-rto).
/// Where that is not possible the answer just comes later.
fn refuse_at_once(socket: &Socket) {
    let wish = TCP_INITIAL_RTO_PARAMETERS {
        Rtt: TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS,
        MaxSynRetransmissions: TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS as u8,
    };
    if let Err(error) = inet::control(socket, SIO_TCP_INITIAL_RTO, wish) {
        log::trace!("SIO_TCP_INITIAL_RTO: {error}");
    }
}

/// Waits until a connect under way has succeeded or failed. With select, because WSAPoll did not
/// report failed connects before Windows 10 2004 ("WSAPoll function",
/// learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsapoll).
fn wait_connected(socket: &Socket, timeout: Option<Duration>) -> io::Result<()> {
    let mut set = FD_SET { fd_count: 1, fd_array: [0; 64] };
    set.fd_array[0] = socket.as_raw_socket() as SOCKET;
    let (mut connected, mut failed) = (set, set);
    let time = timeout.map(|timeout| TIMEVAL {
        tv_sec: i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX),
        tv_usec: timeout.subsec_micros().cast_signed(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the sets and the time live on this stack until the call returns; the one socket in
    // them is borrowed, hence open.
    match unsafe { select(0, ptr::null_mut(), &raw mut connected, &raw mut failed, time) } {
        SOCKET_ERROR => Err(io::Error::last_os_error()),
        // We may have been suspended meanwhile: one that has a peer is connected.
        0 if socket.peer_addr().is_ok() => Ok(()),
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time")),
        _ => socket.take_error()?.map_or(Ok(()), Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(options: &BindOptions) -> (Socket, Socket) {
        let listener = listen(&["127.0.0.1:0".parse().unwrap()], options).unwrap();
        listener.set_nonblocking(false).unwrap();
        let client = connect(&[listener.local_addr().unwrap()], Deadline::after(None)).unwrap();
        let (socket, _) = listener.accept().unwrap();
        SocketOptions::of(options).set(&SockRef::from(&socket)).unwrap();
        (socket.into(), client)
    }

    #[test]
    fn connections_are_tuned() {
        let (socket, _client) = accepted(&BindOptions::default());
        assert!(socket.tcp_nodelay().unwrap() && !socket.keepalive().unwrap());
        let options = BindOptions {
            recv_buffer: Some(50_000),
            send_buffer: Some(60_000),
            nodelay: false,
            keepalive: Some(Duration::MAX),
            ..BindOptions::default()
        };
        let (socket, _client) = accepted(&options);
        assert!(!socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        // Wine doubles them as its host does.
        assert!((50_000..=100_000).contains(&socket.recv_buffer_size().unwrap()));
        assert!((60_000..=120_000).contains(&socket.send_buffer_size().unwrap()));
    }

    #[test]
    fn backlogs_are_hints_where_they_must_be() {
        for (asked, told) in [(0, 0), (200, 200), (201, -201), (1024, -1024), (u32::MAX, -65_535)] {
            assert_eq!(backlog(asked), told);
        }
    }
}
