//! Handles and sockets that the program has already, and what they are.

use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::windows::io::{AsHandle, AsRawHandle, AsRawSocket, BorrowedHandle, OwnedHandle, OwnedSocket};
use std::ptr;

use socket2::{Domain, Socket, Type};
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_SYNCHRONOUS_IO_ALERT, FILE_SYNCHRONOUS_IO_NONALERT, FileModeInformation, NtQueryInformationFile,
};
use windows_sys::Win32::Foundation::{HANDLE_FLAG_INHERIT, SetHandleInformation};
use windows_sys::Win32::Networking::WinSock::{SO_ACCEPTCONN, SOCKET, SOCKET_ERROR, SOL_SOCKET, getsockopt};
use windows_sys::Win32::Storage::FileSystem::{FILE_TYPE_CHAR, FILE_TYPE_DISK, FILE_TYPE_PIPE, GetFileType};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;
use windows_sys::Win32::System::Pipes::{GetNamedPipeInfo, PIPE_SERVER_END, PIPE_TYPE_MESSAGE};

use super::reasons::invalid;
use crate::endpoint::Endpoint;
use crate::{BindOptions, hosts};

/// A handle or a socket that the program has already: of a connection, a listener, a datagram socket.
/// What it is shows when it is put to use, in [`Stream::from_owned`](crate::Stream::from_owned) and
/// its like.
///
/// # Platform-specific behavior
///
/// Windows: of a handle (`OwnedHandle`) or a socket (`OwnedSocket`), and of std's sockets. A socket
/// in the guise of a handle is not recognised. Unix: of any descriptor, `OwnedFd`, and of std's sockets.
#[derive(Debug)]
pub struct Owned(Inner);

#[derive(Debug)]
enum Inner {
    Handle(OwnedHandle),
    Socket(Socket),
}

/// A connection that was found to be one.
#[derive(Debug)]
pub(super) enum Connection {
    Pipe(OwnedHandle, PipeEnd),
    Tcp(Socket),
}

/// Which end of a pipe a handle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeEnd {
    /// The one that was created, which can throw the other out.
    Server,
    /// The one that was opened.
    Client,
}

/// What a socket is, as far as that decides what it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Connection,
    Listener,
    Datagrams,
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
        let label = self.to_string();
        let Inner::Socket(socket) = &self.0 else {
            return Err(invalid(format!(
                "{label} is no socket but a handle; pipes and mailslots are opened by name"
            )));
        };
        let found = look_at(socket, &label)?;
        let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (host, port) = (hosts::host(&bound), bound.port());
        match found {
            Found::Listener => Ok(Endpoint::Tcp { host, port }),
            Found::Datagrams => Ok(Endpoint::Udp { host, port }),
            found => {
                Err(invalid(format!("{label} is {}, not a listener or a datagram socket", found.describe())))
            }
        }
    }

    /// A connection of bytes. From here on children do not inherit it, as with all that follow.
    pub(super) fn into_connection(self) -> io::Result<Connection> {
        let label = self.to_string();
        match self.0 {
            Inner::Handle(handle) => {
                let end = pipe_end(handle.as_handle(), &label)?;
                keep_from_children(handle.as_handle())?;
                Ok(Connection::Pipe(handle, end))
            }
            Inner::Socket(socket) => {
                expect(&socket, &label, Found::Connection)?;
                socket.set_no_inherit(true)?;
                socket.set_tcp_nodelay(true)?;
                Ok(Connection::Tcp(socket))
            }
        }
    }

    /// A TCP socket that listens.
    pub(super) fn into_listener(self, options: &BindOptions) -> io::Result<Socket> {
        self.into_bound(options, Found::Listener, "a pipe's listener is its name")
    }

    /// A UDP socket.
    pub(super) fn into_datagrams(self, options: &BindOptions) -> io::Result<Socket> {
        self.into_bound(options, Found::Datagrams, "a mailslot is opened by its name")
    }

    /// A socket that is bound; beyond loopback only if that was said.
    fn into_bound(self, options: &BindOptions, wanted: Found, instead: &str) -> io::Result<Socket> {
        let label = self.to_string();
        let socket = match self.0 {
            Inner::Handle(_) => {
                return Err(invalid(format!("{label} is no socket but a handle, and {instead}")));
            }
            Inner::Socket(socket) => socket,
        };
        expect(&socket, &label, wanted)?;
        let address = socket.local_addr()?.as_socket();
        if let Some(address) = address.filter(|address| !hosts::is_loopback(address))
            && !options.beyond_loopback
        {
            return Err(hosts::not_loopback(&address));
        }
        socket.set_no_inherit(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// Holds a socket to what it is wanted for.
fn expect(socket: &Socket, label: &str, wanted: Found) -> io::Result<()> {
    let found = look_at(socket, label)?;
    match found == wanted {
        true => Ok(()),
        false => Err(invalid(format!("{label} is {}, not {}", found.describe(), wanted.describe()))),
    }
}

/// What it is: SO_TYPE, SO_ACCEPTCONN, the family of its name.
fn look_at(socket: &Socket, label: &str) -> io::Result<Found> {
    let unbound = |error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{label} is bound to no address: {error}"))
    };
    let family = socket.local_addr().map_err(unbound)?.domain();
    if ![Domain::IPV4, Domain::IPV6].contains(&family) {
        let family = i32::from(family);
        return Err(invalid(format!("{label} is a socket of family {family}, which is not IP")));
    }
    match socket.r#type()? {
        Type::STREAM if listens(socket)? => Ok(Found::Listener),
        Type::STREAM if socket.peer_addr().is_ok() => Ok(Found::Connection),
        Type::STREAM => Ok(Found::Idle),
        Type::DGRAM => Ok(Found::Datagrams),
        other => Err(invalid(format!("{label} is a socket of type {}", i32::from(other)))),
    }
}

impl Found {
    fn describe(self) -> &'static str {
        match self {
            Found::Connection => "a connected TCP socket",
            Found::Listener => "a TCP socket that listens",
            Found::Datagrams => "a UDP socket",
            Found::Idle => "a TCP socket that is neither connected nor listens",
        }
    }
}

/// "SOL_SOCKET Socket Options", learn.microsoft.com/windows/win32/winsock/sol-socket-socket-options.
fn listens(socket: &Socket) -> io::Result<bool> {
    let (mut on, mut length) = (0i32, size_of::<i32>() as i32);
    // SAFETY: the socket is open while borrowed; `on`, whose size is the one given, and `length` live on
    // this stack until the call returns.
    let code = unsafe {
        getsockopt(
            // RawSocket is u64 in std and SOCKET usize in windows-sys: both as wide as a pointer.
            socket.as_raw_socket() as SOCKET,
            SOL_SOCKET,
            SO_ACCEPTCONN,
            (&raw mut on).cast(),
            &raw mut length,
        )
    };
    if code == SOCKET_ERROR { Err(io::Error::last_os_error()) } else { Ok(on != 0) }
}

/// Which end of a pipe of bytes this is, if it is one that overlapped operations can be begun on.
fn pipe_end(handle: BorrowedHandle<'_>, label: &str) -> io::Result<PipeEnd> {
    // SAFETY: the handle is borrowed, hence open until the call returns.
    match unsafe { GetFileType(handle.as_raw_handle()) } {
        FILE_TYPE_PIPE => {}
        FILE_TYPE_DISK => return Err(invalid(format!("{label} is a file, not a connection"))),
        FILE_TYPE_CHAR => return Err(invalid(format!("{label} is a console or a device, not a connection"))),
        _ => return Err(invalid(format!("{label} is of an unknown kind, not a connection"))),
    }
    let flags = pipe_flags(handle).map_err(|error| {
        let text =
            format!("{label} is no named pipe (a socket is to be handed over as OwnedSocket): {error}");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    if flags & PIPE_TYPE_MESSAGE != 0 {
        return Err(invalid(format!("{label} is a pipe of messages, not of bytes")));
    }
    if is_synchronous(handle) {
        let text = format!("{label} was not opened for overlapped operations (FILE_FLAG_OVERLAPPED)");
        return Err(invalid(text));
    }
    Ok(if flags & PIPE_SERVER_END != 0 { PipeEnd::Server } else { PipeEnd::Client })
}

/// "GetNamedPipeInfo function",
/// learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-getnamedpipeinfo.
fn pipe_flags(handle: BorrowedHandle<'_>) -> io::Result<u32> {
    let mut flags = 0;
    // SAFETY: the handle is borrowed, hence open; `flags` lives on this stack until the call returns,
    // nothing else is asked for.
    let ok = unsafe {
        GetNamedPipeInfo(
            handle.as_raw_handle(),
            &raw mut flags,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(flags) }
}

/// Whether each operation is over when its call returns, so that none can be waited for with a time limit
/// ("FILE_MODE_INFORMATION structure",
/// learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/ns-ntifs-_file_mode_information). Not if the
/// system doesn't say.
fn is_synchronous(handle: BorrowedHandle<'_>) -> bool {
    let (mut mode, mut status) = (0u32, IO_STATUS_BLOCK::default());
    // SAFETY: the handle is borrowed, hence open; `mode`, which is all of that structure and whose size
    // is the one given, and `status` live on this stack until the call returns, which is not overlapped.
    let code = unsafe {
        NtQueryInformationFile(
            handle.as_raw_handle(),
            &raw mut status,
            (&raw mut mode).cast(),
            size_of::<u32>() as u32,
            FileModeInformation,
        )
    };
    code == 0 && mode & (FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT) != 0
}

fn keep_from_children(handle: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is borrowed, hence open until the call returns.
    let ok = unsafe { SetHandleInformation(handle.as_raw_handle(), HANDLE_FLAG_INHERIT, 0) };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `handle 0x1c4` or `socket 0x1c4`, for messages.
impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Handle(handle) => write!(f, "handle {:#x}", handle.as_raw_handle().addr()),
            Inner::Socket(socket) => write!(f, "socket {:#x}", socket.as_raw_socket()),
        }
    }
}

impl From<OwnedHandle> for Owned {
    fn from(handle: OwnedHandle) -> Owned {
        Owned(Inner::Handle(handle))
    }
}

impl From<OwnedSocket> for Owned {
    fn from(socket: OwnedSocket) -> Owned {
        Owned(Inner::Socket(socket.into()))
    }
}

impl From<TcpStream> for Owned {
    fn from(socket: TcpStream) -> Owned {
        Owned(Inner::Socket(socket.into()))
    }
}

impl From<TcpListener> for Owned {
    fn from(socket: TcpListener) -> Owned {
        Owned(Inner::Socket(socket.into()))
    }
}

impl From<UdpSocket> for Owned {
    fn from(socket: UdpSocket) -> Owned {
        Owned(Inner::Socket(socket.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipe::{self, Instance};
    use super::super::{names, security};
    use super::*;
    use crate::deadline::Deadline;
    use crate::{Address, Channel, Datagrams, Events, Listener, Poll, Stream, User};
    use mio::{Interest, Token};
    use std::ffi::c_void;
    use std::time::Duration;
    use windows_sys::Win32::Foundation::GetHandleInformation;

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    /// The two ends of a pipe that nobody else knows.
    fn pipe_pair(test: &str) -> (OwnedHandle, OwnedHandle) {
        let name = format!("sidewire-owned-{test}-{}", std::process::id());
        let names::StreamAddress::Pipe(name) = names::stream_address(&Endpoint::Pipe(name)).unwrap() else {
            unreachable!()
        };
        let descriptor = security::descriptor(&BindOptions::default()).unwrap();
        let server = pipe::create(&name, &descriptor, Instance::First).unwrap();
        (server, pipe::open(&name, Deadline::after(SOON)).unwrap())
    }

    fn read(stream: &mut Stream, poll: &mut Poll, count: usize) -> Vec<u8> {
        let (until, mut bytes) = (Deadline::after(SOON), Vec::new());
        while bytes.len() < count && !until.has_passed() {
            match stream.read_append(&mut bytes, count) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll.poll(&mut Events::with_capacity(8), Some(Duration::from_millis(20))).unwrap();
                }
                read => assert_ne!(read.unwrap(), 0),
            }
        }
        bytes
    }

    /// Bytes both ways, whichever end the stream is.
    fn talk(stream: Owned, channel: Owned) -> (Poll, Stream, Channel) {
        let mut poll = Poll::new().unwrap();
        let mut stream = Stream::from_owned(stream).unwrap();
        let channel = Channel::from_owned(channel).unwrap();
        stream.register(poll.registry(), Token(1), Interest::READABLE).unwrap();
        assert_eq!(channel.send(b"hello", SOON).unwrap(), 5);
        assert_eq!(read(&mut stream, &mut poll, 5), b"hello");
        assert_eq!(stream.write(b"yes").unwrap(), 3);
        assert_eq!(channel.recv(&mut [0; 9], SOON).unwrap(), 3);
        (poll, stream, channel)
    }

    #[test]
    fn either_end_of_a_pipe_becomes_a_stream_or_a_channel() {
        let we = Some(std::process::id());
        let (server, client) = pipe_pair("stream");
        let (poll, mut stream, channel) = talk(server.into(), client.into());
        assert_eq!(stream.peer().unwrap().credentials().unwrap().pid(), we);
        assert_eq!(channel.peer().credentials().unwrap().pid(), we);
        stream.deregister(poll.registry()).unwrap();
        drop((stream, channel));

        let (server, client) = pipe_pair("channel");
        let (mut poll, mut stream, channel) = talk(client.into(), server.into());
        assert!(matches!(stream.peer().unwrap().credentials().unwrap().user(), User::Sid(_)));
        // Of the client's end nothing can be asked before it has sent something.
        assert_eq!(channel.peer().credentials(), None);
        stream.deregister(poll.registry()).unwrap();
        drop(stream);
        // The handle closes when the poll has turned.
        let (until, shortly) = (Deadline::after(SOON), Some(Duration::from_millis(20)));
        let end = loop {
            poll.poll(&mut Events::with_capacity(8), shortly).unwrap();
            match channel.recv(&mut [0; 9], shortly) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !until.has_passed() => {}
                end => break end,
            }
        };
        assert_eq!(end.unwrap(), 0);
    }

    fn is_inheritable(handle: *mut c_void) -> bool {
        let mut flags = 0;
        // SAFETY: `flags` lives on this stack until the call returns; a value that is no handle is an error.
        assert_ne!(unsafe { GetHandleInformation(handle, &raw mut flags) }, 0);
        flags & HANDLE_FLAG_INHERIT != 0
    }

    #[test]
    fn children_do_not_inherit_what_is_adopted() {
        let (server, client) = pipe_pair("inherit");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let raw = [
            server.as_raw_handle(),
            client.as_raw_handle(),
            ptr::with_exposed_provenance_mut(listener.as_raw_socket() as usize),
            ptr::with_exposed_provenance_mut(near.as_raw_socket() as usize),
        ];
        for handle in raw {
            // SAFETY: all of them are open.
            assert_ne!(unsafe { SetHandleInformation(handle, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) }, 0);
            assert!(is_inheritable(handle));
        }
        let _stream = Stream::from_owned(server.into()).unwrap();
        let _channel = Channel::from_owned(client.into()).unwrap();
        let _listener = Listener::from_owned(listener.into(), &BindOptions::default()).unwrap();
        let _near = Stream::from_owned(near.into()).unwrap();
        assert_eq!(raw.map(is_inheritable), [false; 4]);
    }

    #[test]
    fn tcp_sockets_become_what_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (poll, mut stream, channel) = talk(server.into(), client.into());
        assert!(matches!(channel.peer_address().unwrap(), Address::Inet(_)));
        stream.deregister(poll.registry()).unwrap();

        let port = listener.local_addr().unwrap().port();
        let host = || "127.0.0.1".to_owned();
        let options = BindOptions::default();
        let listener = Listener::from_owned(listener.into(), &options).unwrap();
        assert_eq!(*listener.endpoint(), Endpoint::Tcp { host: host(), port });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let socket = Datagrams::from_owned(socket.into(), &options).unwrap();
        assert_eq!(*socket.endpoint(), Endpoint::Udp { host: host(), port });
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap().into();
        let error = Listener::from_owned(everywhere, &options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_it_is_instead_is_said() {
        let options = BindOptions::default();
        let listener = || Owned::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let datagrams = || Owned::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let (reader, _writer) = io::pipe().unwrap();
        let (server, _client) = pipe_pair("what");
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        for (error, found) in [
            (Stream::from_owned(listener()).unwrap_err(), "a TCP socket that listens, not a connected"),
            (Channel::from_owned(datagrams()).unwrap_err(), "a UDP socket, not a connected"),
            (Datagrams::from_owned(listener(), &options).unwrap_err(), "listens, not a UDP socket"),
            (Listener::from_owned(server.into(), &options).unwrap_err(), "listener is its name"),
            (Stream::from_owned(OwnedHandle::from(file).into()).unwrap_err(), "is a file"),
            (Stream::from_owned(OwnedHandle::from(reader).into()).unwrap_err(), "handle 0x"),
        ] {
            let text = error.to_string();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text}");
            assert!(text.contains(found), "{text}");
        }
    }
}
