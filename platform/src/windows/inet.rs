//! What the sockets of TCP and UDP have in common.

use std::io;
use std::net::SocketAddr;
use std::os::windows::io::AsRawSocket;
use std::ptr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use windows_sys::Win32::Networking::WinSock::{
    SO_EXCLUSIVEADDRUSE, SOCKET, SOCKET_ERROR, SOL_SOCKET, WSAEACCES, WSAIoctl, setsockopt,
};

use crate::BindOptions;
pub(super) use crate::hosts::is_loopback;
use crate::hosts::not_loopback;

/// Tries `open` with each of a server's addresses; none if one is beyond loopback and should not be.
pub(super) fn bind_first<T>(
    addresses: &[SocketAddr],
    options: &BindOptions,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    match addresses.iter().find(|address| !is_loopback(address)) {
        Some(address) if !options.beyond_loopback => Err(not_loopback(address)),
        _ => first_that_works(addresses, |address, _| open(address)),
    }
}

/// Tries `open` with each address and the number of addresses left (this one included); the last
/// failure is the one reported.
pub(super) fn first_that_works<T>(
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr, u32) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (left, &address) in (1..=addresses.len() as u32).rev().zip(addresses) {
        match open(address, left) {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket for this address, which no child process inherits. One that stands for IPv4 addresses as
/// well, `[::]` or an IPv4 address written in IPv6, takes both, as on Linux; Windows' sockets don't
/// unless told ("Dual-Stack Sockets", learn.microsoft.com/windows/win32/winsock/dual-stack-sockets).
pub(super) fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    let ip = address.ip();
    if ip.is_ipv6() && (ip.is_unspecified() || ip.to_canonical().is_ipv4()) {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Binds a socket that [`take_exclusively`] has prepared. A port that another program has is
/// "in use", in whatever words Windows says so.
pub(super) fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into()).map_err(|error| bind_error(address, error))
}

/// A socket that holds a port for itself alone makes a second one fail with WSAEACCES instead of
/// WSAEADDRINUSE ("Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE",
/// learn.microsoft.com/windows/win32/winsock/using-so-reuseaddr-and-so-exclusiveaddruse), and so does
/// Windows itself for the ports that it sets aside.
fn bind_error(address: SocketAddr, error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(WSAEACCES) {
        return error;
    }
    let why = format!("another program has {address} for itself, or Windows has set the port aside: {error}");
    io::Error::new(io::ErrorKind::AddrInUse, why)
}

/// Keeps others from binding the same port, which SO_REUSEADDR would let them on Windows (the page
/// above).
pub(super) fn take_exclusively(socket: &Socket) -> io::Result<()> {
    let on = 1i32;
    // SAFETY: the socket is open while borrowed; `on` lives on this stack until the call returns,
    // and its size is the one given.
    let code = unsafe {
        setsockopt(
            // RawSocket is u64 in std and SOCKET usize in windows-sys: both as wide as a pointer.
            socket.as_raw_socket() as SOCKET,
            SOL_SOCKET,
            SO_EXCLUSIVEADDRUSE,
            (&raw const on).cast(),
            size_of::<i32>() as i32,
        )
    };
    if code == SOCKET_ERROR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the buffers that were asked for; they must be had.
pub(super) fn set_buffers(socket: &SockRef<'_>, recv: Option<u32>, send: Option<u32>) -> io::Result<()> {
    let size = |bytes: u32| bytes.min(i32::MAX as u32) as usize;
    recv.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(size(bytes)))?;
    send.map_or(Ok(()), |bytes| socket.set_send_buffer_size(size(bytes)))
}

/// Tells a socket something by an I/O control code whose input is a `T` ("WSAIoctl function",
/// learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsaioctl).
pub(super) fn control<T: Copy>(socket: &Socket, code: u32, input: T) -> io::Result<()> {
    let mut returned = 0;
    // SAFETY: the socket is open while borrowed; `input`, whose size is the one given, and `returned`
    // live on this stack until the call returns, which is not overlapped. A code that wants a larger
    // input than that refuses this one (WSAEFAULT).
    let result = unsafe {
        WSAIoctl(
            socket.as_raw_socket() as SOCKET,
            code,
            (&raw const input).cast(),
            size_of::<T>() as u32,
            ptr::null_mut(),
            0,
            &raw mut returned,
            ptr::null_mut(),
            None,
        )
    };
    if result == SOCKET_ERROR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told() {
        for (text, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.0.1:1", false),
        ] {
            assert_eq!(is_loopback(&text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_port_that_another_has_for_itself_is_in_use() {
        let address = "127.0.0.1:80".parse().unwrap();
        let error = bind_error(address, io::Error::from_raw_os_error(10013));
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("127.0.0.1:80") && error.to_string().contains("10013"), "{error}");
        let error = bind_error(address, io::Error::from_raw_os_error(10049));
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn sockets_for_both_families_take_both() {
        for text in ["[::]:0", "[::ffff:127.0.0.1]:0"] {
            match socket(text.parse().unwrap(), Type::DGRAM, Protocol::UDP) {
                Ok(socket) => assert!(!socket.only_v6().unwrap(), "{text}"),
                // Not every machine has IPv6.
                Err(error) => println!("skipped: {text}: {error}"),
            }
        }
    }
}
