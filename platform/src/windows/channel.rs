//! The client's end: one opened connection, blocking with timeouts, shared by threads.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::sync::Arc;
use std::time::Duration;

use super::Attachment;
use super::duplex::Duplex;
use super::executable::{self, Executable};
use super::names::{self, PipeName, StreamAddress};
use super::overlapped::Object;
use super::owned::{Connection, Owned, PipeEnd};
use super::poll::PollDescriptor;
use super::stream::no_half_close;
use super::{pipe, tcp};
use crate::deadline::Deadline;
use crate::{Address, Carried, Endpoint, Group, Peer};

/// The client's end of a connection.
///
/// One thread may be in [`Channel::recv`] while another is in [`Channel::send`].
///
/// # Platform-specific behavior
///
/// [`Channel::send`] takes up to 64 KiB and returns while they are under way; the next call waits
/// for them. Dropping a channel lets them arrive, for at most a second.
///
/// The handle of a pipe is closed when its end was seen, by whichever call: a server that was killed
/// can't be started again as long as a client has one. One that makes no call sees no end.
pub struct Channel {
    duplex: Duplex,
    peer: Peer,
    /// The pipe's name; `None` on TCP.
    pipe: Option<Arc<str>>,
}

impl Channel {
    /// Connects to whoever listens on `endpoint`.
    ///
    /// A pipe whose instances are all busy, and every address of a host, are tried until one
    /// answers or `timeout` is over (`None`: without end). A pipe that doesn't exist fails at once.
    ///
    /// # Errors
    ///
    /// `NotFound`, `ConnectionRefused`, `PermissionDenied`, `TimedOut`; `Unsupported` for an
    /// endpoint that Windows doesn't have, `InvalidInput` for one that is no stream.
    ///
    /// # Platform-specific behavior
    ///
    /// The server learns who we are, but can't act on our behalf (SECURITY_IDENTIFICATION).
    pub fn connect(endpoint: &Endpoint, timeout: Option<Duration>) -> io::Result<Channel> {
        let deadline = Deadline::after(timeout);
        match names::stream_address(endpoint)? {
            StreamAddress::Pipe(name) => Channel::open_pipe(&name, deadline),
            StreamAddress::Tcp(addresses) => {
                let socket = tcp::connect(&addresses, deadline)?;
                let address = socket.peer_addr().map_err(tcp::gone_at_once)?;
                let peer = Peer::new(None, address.as_socket());
                Ok(Channel { duplex: Duplex::new(Object::Tcp(socket))?, peer, pipe: None })
            }
        }
    }

    fn open_pipe(name: &PipeName, deadline: Deadline) -> io::Result<Channel> {
        let handle = pipe::open(name, deadline)?;
        let peer = Peer::new(pipe::server_credentials_at_first(handle.as_handle())?, None);
        let duplex = Duplex::new(Object::pipe(handle))?;
        Ok(Channel { duplex, peer, pipe: Some(name.text().clone()) })
    }

    /// Of a handle or a socket that the program has already. Children do not inherit it from here on; a
    /// socket becomes blocking, and small writes leave at once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is something else than a connection of bytes; the text says
    /// what. Otherwise what the system says. It is closed then.
    ///
    /// # Platform-specific behavior
    ///
    /// As for [`Stream::from_owned`](crate::Stream::from_owned). Nothing is known of the peer of a pipe's
    /// server end.
    pub fn from_owned(owned: Owned) -> io::Result<Channel> {
        let (object, peer) = match owned.into_connection()? {
            Connection::Pipe(handle, end) => {
                let credentials = match end {
                    PipeEnd::Client => pipe::server_credentials(handle.as_handle()),
                    PipeEnd::Server => None,
                };
                (Object::pipe(handle), Peer::new(credentials, None))
            }
            Connection::Tcp(socket) => {
                socket.set_nonblocking(false)?;
                let peer = Peer::new(None, socket.peer_addr()?.as_socket());
                (Object::Tcp(socket), peer)
            }
        };
        Ok(Channel { duplex: Duplex::new(object)?, peer, pipe: None })
    }

    /// An end of a pipe that has both, and whose peer is known.
    pub(super) fn of_pipe(handle: OwnedHandle, name: &PipeName, peer: Peer) -> io::Result<Channel> {
        Ok(Channel { duplex: Duplex::new(Object::pipe(handle))?, peer, pipe: Some(name.text().clone()) })
    }

    /// What it is made of, for one that nothing was sent through.
    #[cfg(feature = "tokio")]
    pub(super) fn into_parts(self) -> (Object, Peer, Option<Arc<str>>) {
        let Channel { duplex, peer, pipe } = self;
        (duplex.into_object(), peer, pipe)
    }

    /// Calls this with the pipe, if it is one that is open.
    pub(super) fn with_pipe<R>(&self, ask: impl FnOnce(BorrowedHandle<'_>) -> R) -> Option<R> {
        self.duplex.object().with_pipe(ask)
    }

    /// Waits until the other end has read all that was sent, or has gone, however long that takes.
    pub(super) fn drain(&self) -> io::Result<()> {
        self.duplex.settle_all()?;
        self.with_pipe(pipe::flush).unwrap_or(Ok(()))
    }

    /// Facts about the server, known before the first byte is sent: who owns the pipe object (who
    /// can set one up under this name), the integrity level of its label (0x2000, medium, for a pipe
    /// without one), and the pid; or the address. No credentials if the system doesn't tell the owner.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Nobody tells of a pipe's server, nor of one over TCP, which groups it is in.
    ///
    /// # Errors
    ///
    /// `Unsupported`, always.
    pub fn is_member(&self, _groups: &[Group]) -> io::Result<bool> {
        Err(executable::untold("which groups it is in"))
    }

    /// The program of the process that has made this instance of the pipe.
    ///
    /// # Errors
    ///
    /// As for [`Stream::executable`](crate::Stream::executable).
    pub fn executable(&self) -> io::Result<Executable> {
        self.with_pipe(|pipe| executable::of_peer(pipe, pipe::server_pid(pipe)?))
            .unwrap_or_else(|| Err(executable::untold("which program it is")))
    }

    /// Nothing that other loops could watch: see [`PollDescriptor`].
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`], always.
    pub fn poll_descriptor(&self) -> io::Result<PollDescriptor> {
        PollDescriptor::of_channel()
    }

    /// Our end's address: none on a pipe.
    ///
    /// # Errors
    ///
    /// What the system says about a socket.
    pub fn local_address(&self) -> io::Result<Address> {
        match self.duplex.object() {
            Object::Pipe(_) => Ok(Address::Unnamed),
            Object::Tcp(socket) => inet(&socket.local_addr()?),
        }
    }

    /// The server's address: the pipe's name, or the socket's address.
    ///
    /// # Errors
    ///
    /// What the system says about a socket.
    pub fn peer_address(&self) -> io::Result<Address> {
        match (self.duplex.object(), &self.pipe) {
            (Object::Tcp(socket), _) => inet(&socket.peer_addr().map_err(tcp::error)?),
            (Object::Pipe(_), Some(name)) => Ok(Address::Pipe(name.to_string())),
            (Object::Pipe(_), None) => Ok(Address::Unnamed),
        }
    }

    /// Has each wait of [`Channel::recv`] begin with looking, for so long, before it sleeps. At first it sleeps at once.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: recv(2) with MSG_DONTWAIT. Windows: one operation, whose event is asked.
    pub fn spin(&mut self, time: Duration) {
        self.duplex.spin(time);
    }

    /// Waits for bytes, for at most `timeout` (`None`: without end; zero: not at all). `Ok(0)` is
    /// the end of the stream; on a pipe also the server's death, which Windows doesn't tell from an
    /// orderly end; and after [`Channel::shutdown`].
    ///
    /// # Errors
    ///
    /// `TimedOut` when nothing came; `ConnectionReset` on sockets.
    pub fn recv(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<usize> {
        let (start, length) = (buf.as_mut_ptr().cast::<MaybeUninit<u8>>(), buf.len());
        // SAFETY: the same bytes, borrowed for as long. Only the system writes to them, and what
        // it writes is initialised.
        let room = unsafe { std::slice::from_raw_parts_mut(start, length) };
        self.duplex.recv(room, timeout)
    }

    /// Appends at most `most` bytes to `buf`; otherwise as [`Channel::recv`].
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`]; `buf` is then as before.
    pub fn recv_append(
        &self,
        buf: &mut Vec<u8>,
        most: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        buf.reserve(most);
        let room = buf.spare_capacity_mut();
        let room_length = room.len().min(most);
        let count = self.duplex.recv(&mut room[..room_length], timeout)?;
        // SAFETY: the system wrote `count` bytes to the beginning of the spare capacity.
        unsafe { buf.set_len(buf.len() + count) };
        Ok(count)
    }

    /// Says, before anything is sent, that the server is to [pass](crate::Listener::pass) its listener.
    pub fn expect_passed(&self) {}

    /// Says, before anything is sent, that the server may attach something to what it sends.
    pub fn expect_attachments(&self) {}

    /// As [`Channel::recv`]: nothing is ever attached.
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`].
    pub fn recv_attached(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<(usize, Carried)> {
        Ok((self.recv(buf, timeout)?, Carried::Nothing))
    }

    /// As [`Channel::send`]: nothing can be attached.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`].
    pub fn send_attached(
        &self,
        buf: &[u8],
        _attachments: &[Attachment],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        self.send(buf, timeout)
    }

    /// As [`Channel::recv`], with what the server has [passed](crate::Listener::pass) along with the bytes: on Windows
    /// always nothing.
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`].
    pub fn recv_passed(
        &self,
        buf: &mut [u8],
        timeout: Option<Duration>,
    ) -> io::Result<(usize, Option<Owned>)> {
        Ok((self.recv(buf, timeout)?, None))
    }

    /// Sends what the system takes, waiting for room for at most `timeout`. What is reported as
    /// sent arrives, unless the connection breaks.
    ///
    /// # Errors
    ///
    /// `TimedOut` when nothing was taken; `BrokenPipe` or `ConnectionReset` when the server has
    /// gone, and after [`Channel::shutdown`].
    pub fn send(&self, buf: &[u8], timeout: Option<Duration>) -> io::Result<usize> {
        self.duplex.send(buf, timeout)
    }

    /// As [`Channel::send`] of the first of these pieces that is not empty.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`].
    pub fn send_pieces(&self, pieces: &[io::IoSlice<'_>], timeout: Option<Duration>) -> io::Result<usize> {
        match pieces.iter().find(|piece| !piece.is_empty()) {
            Some(piece) => self.send(piece, timeout),
            None => self.send(&[], timeout),
        }
    }

    /// Whether the two directions end separately: on sockets, not on pipes.
    #[must_use]
    pub fn has_half_close(&self) -> bool {
        matches!(self.duplex.object(), Object::Tcp(_))
    }

    /// Says that no more will be sent. What is still under way arrives first; this waits for it,
    /// for at most a second.
    ///
    /// # Errors
    ///
    /// `Unsupported` on pipes; `TimedOut`; what the system says.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self.duplex.object() {
            Object::Pipe(_) => Err(no_half_close()),
            Object::Tcp(socket) => {
                self.duplex.drain()?;
                socket.shutdown(Shutdown::Write).map_err(tcp::error)
            }
        }
    }

    /// Wakes threads that are blocked in [`Channel::recv`], which see the end of the stream, or in
    /// [`Channel::send`], which see `BrokenPipe`. Nothing can be sent or received afterwards.
    ///
    /// # Platform-specific behavior
    ///
    /// The server of a pipe sees the end when the channel is dropped; that of a socket now, behind what is still
    /// under way.
    pub fn shutdown(&self) {
        self.duplex.stop();
        if let Object::Tcp(socket) = self.duplex.object()
            && let Err(error) = socket.shutdown(Shutdown::Write)
        {
            log::trace!("shutting a socket down: {error}"); // It has ended already.
        }
    }

    /// [`Channel::shutdown`] when both sides have said and heard all: the other side sees the end now.
    ///
    /// # Platform-specific behavior
    ///
    /// A pipe is closed. What the other side has not read is lost if this is the server's end.
    pub fn hang_up(&self) {
        self.shutdown();
        self.duplex.object().close_pipe();
    }
}

fn inet(address: &socket2::SockAddr) -> io::Result<Address> {
    let unknown =
        || io::Error::new(io::ErrorKind::InvalidData, "the socket's address is no internet address");
    address.as_socket().map(Address::Inet).ok_or_else(unknown)
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("peer", &self.peer).field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BindOptions, Listener};

    /// Else a server that leaves, which is to be waited for, would be a stranger, who is refused.
    #[test]
    fn a_server_that_has_left_is_no_unknown_one() {
        let name = format!("sidewire-left-{}", std::process::id());
        let listener = Listener::bind(&Endpoint::Pipe(name), &BindOptions::default()).unwrap();
        let StreamAddress::Pipe(name) = names::stream_address(listener.endpoint()).unwrap() else {
            panic!("no pipe")
        };
        let handle = pipe::open(&name, Deadline::after(None)).unwrap();
        assert!(pipe::server_credentials_at_first(handle.as_handle()).unwrap().is_some());
        drop(listener);
        match pipe::server_credentials_at_first(handle.as_handle()) {
            Ok(credentials) => assert!(credentials.is_some(), "Windows may know it for longer"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// What keeps the name of a server that was killed from the next one.
    #[test]
    fn a_pipe_is_let_go_when_its_end_was_seen() {
        const SECOND: Option<Duration> = Some(Duration::from_secs(1));
        let name = format!("sidewire-end-{}", std::process::id());
        let listener = Listener::bind(
            &Endpoint::Pipe(name),
            &BindOptions { pending_instances: 2, ..Default::default() },
        );
        let listener = listener.unwrap();
        let [reader, writer] = [(); 2].map(|()| Channel::connect(listener.endpoint(), SECOND).unwrap());
        let is_closed = |channel: &Channel| channel.duplex.object().with_handle(|handle| handle.is_null());
        assert_eq!((is_closed(&reader), is_closed(&writer)), (false, false));
        drop(listener);
        assert_eq!(reader.recv(&mut [0; 8], SECOND).unwrap(), 0);
        assert_eq!(writer.send(b"x", SECOND).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!((is_closed(&reader), is_closed(&writer)), (true, true));
        for channel in [&reader, &writer] {
            assert_eq!(channel.recv(&mut [0; 8], SECOND).unwrap(), 0);
            assert_eq!(channel.send(b"x", SECOND).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
