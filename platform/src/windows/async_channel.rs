//! The client's end of a connection for tasks of a Tokio runtime.

use std::io;
use std::net::Shutdown;
use std::os::windows::io::{AsHandle, IntoRawHandle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::net::windows::named_pipe::NamedPipeClient;
use tokio::runtime::Handle;

use super::overlapped::Object;
use super::{Channel, closing, pipe, tcp};
use crate::{Address, Peer};

/// Most bytes of one write to a socket: Windows takes all it is given as long as its buffer has any room, and a
/// peer that reads nothing would never be seen to lag.
const TCP_WRITE: usize = 64 * 1024;

/// One opened connection that never blocks, and wakes whoever waits for it. Dropping it closes it.
///
/// Only the last waker is kept for each direction.
///
/// # Platform-specific behavior
///
/// Windows: it is in the completion port of the runtime. The handle of a pipe is closed when its end was seen or
/// it was shut down; really so when the runtime turns. What was said to be sent is under way then, and arrives.
pub struct AsyncChannel {
    object: AsyncObject,
    peer: Peer,
    pipe: Option<Arc<str>>,
    /// Whether the peer of a socket has said that it sends no more.
    has_ended: AtomicBool,
}

enum AsyncObject {
    /// `None`: closed.
    Pipe(RwLock<Option<NamedPipeClient>>),
    /// `None`: others see to its end.
    Tcp(Option<TcpStream>),
}

impl AsyncChannel {
    /// Of a channel that nothing was sent through yet, in the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// If there is no runtime, or the system refuses: a pipe has one completion port in its life, and one that was
    /// sent through has it.
    ///
    /// # Panics
    ///
    /// If the runtime was built without I/O.
    pub fn new(channel: Channel) -> io::Result<AsyncChannel> {
        Handle::try_current().map_err(io::Error::other)?;
        let (object, peer, pipe) = channel.into_parts();
        let object = match object {
            Object::Pipe(end) => {
                let handle = end.into_handle().ok_or(io::ErrorKind::BrokenPipe)?;
                // SAFETY: it is the handle of a pipe that was opened for overlapped use, and its ownership passes.
                let client = unsafe { NamedPipeClient::from_raw_handle(handle.into_raw_handle()) }?;
                AsyncObject::Pipe(RwLock::new(Some(client)))
            }
            Object::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                AsyncObject::Tcp(Some(TcpStream::from_std(socket.into())?))
            }
        };
        Ok(AsyncChannel { object, peer, pipe, has_ended: AtomicBool::new(false) })
    }

    /// As [`Channel::peer`].
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// As [`Channel::local_address`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_address(&self) -> io::Result<Address> {
        match &self.object {
            AsyncObject::Tcp(Some(socket)) => Ok(Address::Inet(socket.local_addr()?)),
            AsyncObject::Tcp(None) | AsyncObject::Pipe(_) => Ok(Address::Unnamed),
        }
    }

    /// As [`Channel::peer_address`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn peer_address(&self) -> io::Result<Address> {
        match (&self.object, &self.pipe) {
            (AsyncObject::Tcp(Some(socket)), _) => Ok(Address::Inet(socket.peer_addr().map_err(tcp::error)?)),
            (_, Some(name)) => Ok(Address::Pipe(name.to_string())),
            (_, None) => Ok(Address::Unnamed),
        }
    }

    /// Takes the bytes that are there, as far as the runtime knows. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`]; [`io::ErrorKind::TimedOut`]: there are none.
    pub fn recv_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self.try_recv(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            received => received,
        }
    }

    /// The same, and wakes the task when there may be some.
    ///
    /// # Errors
    ///
    /// As [`AsyncChannel::recv_now`]; and if the runtime has gone.
    pub fn poll_recv(&self, task: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(task, Direction::In))?;
            match self.try_recv(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }

    /// Sends what the system takes at once, which may be less than `buf`.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`]; [`io::ErrorKind::TimedOut`]: it takes nothing.
    pub fn send_now(&self, buf: &[u8]) -> io::Result<usize> {
        match self.try_send(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            sent => sent,
        }
    }

    /// The same, and wakes the task when it may take some.
    ///
    /// # Errors
    ///
    /// As [`AsyncChannel::send_now`]; and if the runtime has gone.
    pub fn poll_send(&self, task: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(task, Direction::Out))?;
            match self.try_send(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// As [`Channel::shutdown`].
    pub fn shutdown(&self) {
        self.close_pipe();
        if let AsyncObject::Tcp(Some(socket)) = &self.object
            && let Err(error) = SockRef::from(socket).shutdown(Shutdown::Write)
        {
            log::trace!("shutting a socket down: {error}"); // It has ended already.
        }
    }

    /// As [`Channel::hang_up`].
    pub fn hang_up(&self) {
        self.shutdown();
    }

    fn close_pipe(&self) {
        if let AsyncObject::Pipe(client) = &self.object {
            drop(client.write().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    fn poll_ready(&self, task: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        match &self.object {
            AsyncObject::Pipe(client) => match (&*read(client), direction) {
                (Some(client), Direction::In) => client.poll_read_ready(task),
                (Some(client), Direction::Out) => client.poll_write_ready(task),
                (None, _) => Poll::Ready(Ok(())),
            },
            AsyncObject::Tcp(Some(socket)) => match direction {
                Direction::In => socket.poll_read_ready(task),
                Direction::Out => socket.poll_write_ready(task),
            },
            AsyncObject::Tcp(None) => Poll::Ready(Ok(())),
        }
    }

    fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        match &self.object {
            AsyncObject::Pipe(client) => {
                let received = match &*read(client) {
                    Some(client) => recv_from_pipe(client, buf),
                    None => return Ok(0),
                };
                if let Ok(0) = received {
                    self.close_pipe();
                }
                received
            }
            AsyncObject::Tcp(Some(socket)) => {
                let received = socket.try_read(buf).map_err(tcp::error);
                self.has_ended.fetch_or(matches!(received, Ok(0)), Ordering::Relaxed);
                received
            }
            AsyncObject::Tcp(None) => Ok(0),
        }
    }

    fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        match &self.object {
            AsyncObject::Pipe(client) => match &*read(client) {
                Some(client) => {
                    client.try_write(&buf[..buf.len().min(pipe::BUFFER)]).map_err(pipe::write_error)
                }
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
            AsyncObject::Tcp(Some(socket)) => {
                socket.try_write(&buf[..buf.len().min(TCP_WRITE)]).map_err(tcp::error)
            }
            AsyncObject::Tcp(None) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// A socket whose peer has sent its end first is closed a little later, as on the server's side.
impl Drop for AsyncChannel {
    fn drop(&mut self) {
        if let AsyncObject::Tcp(socket) = &mut self.object
            && let Some(socket) = socket.take()
            && SockRef::from(&socket).shutdown(Shutdown::Write).is_ok()
            && self.has_ended.load(Ordering::Relaxed)
        {
            closing::hold(socket);
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

fn read(client: &RwLock<Option<NamedPipeClient>>) -> std::sync::RwLockReadGuard<'_, Option<NamedPipeClient>> {
    client.read().unwrap_or_else(PoisonError::into_inner)
}

/// A read of no bytes is the end, or a write of no bytes on the other side ("ReadFile function",
/// learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile).
fn recv_from_pipe(client: &NamedPipeClient, buf: &mut [u8]) -> io::Result<usize> {
    let mut once = || match client.try_read(buf) {
        Err(error) if pipe::is_end(&error) => Ok(0),
        received => received,
    };
    match once()? {
        0 if pipe::is_open(client.as_handle()) => once(),
        count => Ok(count),
    }
}

impl std::fmt::Debug for AsyncChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncChannel")
            .field("peer", &self.peer)
            .field("pipe", &self.pipe)
            .finish_non_exhaustive()
    }
}
