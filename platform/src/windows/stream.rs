//! One accepted connection: a pipe instance with its client, or a TCP socket.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};
use socket2::SockRef;

use super::Attachment;
use super::executable::{self, Executable};
use super::owned::{Connection, Owned, PipeEnd};
use super::poll::Registry;
use super::polled::PolledPipe;
use super::{closing, pipe, security, tcp};
#[cfg(test)]
use crate::fault::{self, Call};
use crate::{Address, Carried, Credentials, Group, Peer, User};

/// Most bytes of one write to a socket. Windows takes all it is given as long as its buffer has any
/// room at all, and a peer that reads nothing would never be seen to lag.
const TCP_WRITE: usize = 64 * 1024;

/// One accepted connection, non-blocking.
///
/// # Platform-specific behavior
///
/// On a pipe operations begin, and end later. Hence:
///
/// * A read returns what a read that was begun earlier has brought. Only `WouldBlock` has the poll's next turn begin
///   another, whose end is a readable event.
/// * A write takes everything up to 64 KiB, or nothing (`WouldBlock`) while the one before is
///   under way. That it was taken does not mean that it has arrived.
/// * What there is already when it is registered, or registered anew, is told once more.
/// * A drop disconnects the client, which loses what it has not read: [`Stream::close_flushed`] lets
///   it read. The poll that the stream was registered with must turn before the handle really closes.
pub struct Stream(Inner);

enum Inner {
    Pipe(Pipe),
    Tcp(TcpStream),
}

struct Pipe {
    pipe: PolledPipe,
    end: PipeEnd,
    /// `None` if the program has brought it along.
    name: Option<Arc<str>>,
    registered: Registered,
    /// Whether anything of the client's was read.
    heard: bool,
    /// Whether others see to its end.
    handed_over: bool,
}

/// On whose account a pipe is known to the poll. (It knows itself *whether* it is.)
enum Registered {
    /// Under the listener's token, from the time when it waited for a client.
    ByListener,
    /// By [`Stream::register`] or not at all.
    ByOwner,
}

impl Stream {
    /// A read that did not fill its buffer says nothing about what is left.
    pub const SHORT_READ_DRAINS: bool = false;

    /// A pipe instance that has a client, and is registered under its listener's token.
    pub(super) fn from_pipe(pipe: PolledPipe, name: Arc<str>) -> Stream {
        Stream(Inner::Pipe(Pipe {
            pipe,
            end: PipeEnd::Server,
            name: Some(name),
            registered: Registered::ByListener,
            heard: false,
            handed_over: false,
        }))
    }

    /// Of a handle or a socket that the program has already. Children do not inherit it from here on; a
    /// socket becomes non-blocking, and small writes leave at once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is something else than a connection of bytes; the text says
    /// what. Otherwise what the system says. It is closed then.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: a TCP socket, or one end of a named pipe of bytes, opened for overlapped operations and with
    /// no completion port yet. Unix: a connected stream socket, Unix or TCP.
    pub fn from_owned(owned: Owned) -> io::Result<Stream> {
        match owned.into_connection()? {
            Connection::Pipe(handle, end) => Ok(Stream(Inner::Pipe(Pipe {
                pipe: PolledPipe::connected(handle),
                end,
                name: None,
                registered: Registered::ByOwner,
                heard: false,
                handed_over: false,
            }))),
            Connection::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Stream(Inner::Tcp(TcpStream::from_std(socket.into()))))
            }
        }
    }

    pub(super) fn from_tcp(socket: TcpStream) -> Stream {
        Stream(Inner::Tcp(socket))
    }

    /// Registers with a poll, edge-triggered.
    ///
    /// # Errors
    ///
    /// When it is registered already, or the system refuses.
    ///
    /// # Platform-specific behavior
    ///
    /// A pipe can only ever be registered with the poll of its listener.
    pub fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match &mut self.0 {
            Inner::Pipe(pipe) => match pipe.registered {
                Registered::ByListener => {
                    pipe.pipe.reregister(registry, token, interest)?;
                    pipe.registered = Registered::ByOwner;
                    Ok(())
                }
                Registered::ByOwner => pipe.pipe.register(registry, token, interest),
            },
            Inner::Tcp(socket) => registry.sockets()?.register(socket, token, interest),
        }
    }

    /// Changes token or interest.
    ///
    /// # Errors
    ///
    /// When it is not registered, or the system refuses.
    pub fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match &mut self.0 {
            Inner::Pipe(pipe) => pipe.pipe.reregister(registry, token, interest),
            Inner::Tcp(socket) => registry.sockets()?.reregister(socket, token, interest),
        }
    }

    /// Ends the registration. To be done before dropping, or stale events hit whoever gets the
    /// token next.
    ///
    /// # Errors
    ///
    /// When it is not registered.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.0 {
            Inner::Pipe(pipe) => {
                pipe.pipe.deregister()?;
                pipe.registered = Registered::ByOwner;
                Ok(())
            }
            Inner::Tcp(socket) => registry.sockets()?.deregister(socket),
        }
    }

    /// Reads what has arrived. `Ok(0)` is the end of the stream; on a pipe also the peer's death,
    /// which Windows doesn't tell from an orderly end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there; `ConnectionReset` on sockets.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Pipe(pipe) => {
                let (start, length) = (buf.as_mut_ptr().cast::<MaybeUninit<u8>>(), buf.len());
                // SAFETY: the same bytes, borrowed for as long, to which only what is initialised is written.
                pipe.read(unsafe { std::slice::from_raw_parts_mut(start, length) })
            }
            Inner::Tcp(socket) => read_socket(socket, buf).map_err(tcp::error),
        }
    }

    /// Appends at most `most` bytes of what has arrived to `buf`, which grows by no more than that.
    ///
    /// # Errors
    ///
    /// As [`Stream::read`]; `buf` is then as before.
    pub fn read_append(&mut self, buf: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Pipe(pipe) => {
                buf.reserve(most);
                let room = buf.spare_capacity_mut();
                let room_length = room.len().min(most);
                let count = pipe.read(&mut room[..room_length])?;
                // SAFETY: the pipe wrote `count` bytes to the beginning of the spare capacity.
                unsafe { buf.set_len(buf.len() + count) };
                Ok(count)
            }
            Inner::Tcp(socket) => {
                buf.reserve(most);
                let room = buf.spare_capacity_mut();
                let room_length = room.len().min(most);
                let room = &mut room[..room_length];
                let count = socket.try_io(|| SockRef::from(&*socket).recv(room)).map_err(tcp::error)?;
                // SAFETY: recv wrote `count` bytes to the beginning of the spare capacity.
                unsafe { buf.set_len(buf.len() + count) };
                Ok(count)
            }
        }
    }

    /// Writes what the system takes, at most 64 KiB a call.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is no room; `BrokenPipe` or `ConnectionReset` when the peer has gone.
    pub fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Pipe(pipe) => pipe.write(buf),
            Inner::Tcp(socket) => write_socket(socket, &buf[..buf.len().min(TCP_WRITE)]).map_err(tcp::error),
        }
    }

    /// As [`Stream::write`], of several pieces that follow each other.
    ///
    /// # Errors
    ///
    /// As [`Stream::write`].
    pub fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let most = match &self.0 {
            Inner::Pipe(_) => pipe::BUFFER,
            Inner::Tcp(_) => TCP_WRITE,
        };
        // As much as one write takes, in one buffer: neither pipes nor mio's sockets go without a copy here.
        let mut joined = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum::<usize>().min(most));
        for piece in pieces {
            let room = most - joined.len();
            joined.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        self.write(&joined)
    }

    /// As [`Stream::read`]: nothing is ever attached.
    ///
    /// # Errors
    ///
    /// As [`Stream::read`].
    pub fn read_attached(&mut self, buf: &mut [u8]) -> io::Result<(usize, Carried)> {
        Ok((self.read(buf)?, Carried::Nothing))
    }

    /// As [`Stream::write_vectored`]: nothing can be attached.
    ///
    /// # Errors
    ///
    /// As [`Stream::write`].
    pub fn write_attached(
        &mut self,
        pieces: &[io::IoSlice<'_>],
        _attachments: &[Attachment],
    ) -> io::Result<usize> {
        self.write_vectored(pieces)
    }

    /// Whether the two directions end separately: on sockets, not on pipes.
    #[must_use]
    pub fn has_half_close(&self) -> bool {
        matches!(self.0, Inner::Tcp(_))
    }

    /// Says that no more will be written.
    ///
    /// # Errors
    ///
    /// `Unsupported` on pipes, whose two directions end together.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Pipe(_) => Err(no_half_close()),
            Inner::Tcp(socket) => socket.shutdown(std::net::Shutdown::Write).map_err(tcp::error),
        }
    }

    /// Facts about the client: on a pipe its user, integrity level and pid; on TCP its address.
    ///
    /// # Errors
    ///
    /// `WouldBlock` on a pipe from which nothing has been read yet: the system knows the client by
    /// what it sent. `PermissionDenied` when the system doesn't tell even then, as of a client that
    /// doesn't want to be known (SECURITY_ANONYMOUS). On a socket, what the system says.
    ///
    /// # Platform-specific behavior
    ///
    /// On the server's end of a pipe this impersonates the client for a moment, on the calling thread. A thread that
    /// already impersonates somebody goes on doing so afterwards.
    pub fn peer(&self) -> io::Result<Peer> {
        match &self.0 {
            Inner::Pipe(pipe) => {
                if pipe.end == PipeEnd::Client {
                    let server = pipe::server_credentials(pipe.pipe.handle());
                    return Ok(Peer::new(server, None));
                }
                // Windows may know earlier, or not, which is no reason to have two ways.
                if !pipe.heard {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let credentials = client_credentials(pipe.pipe.handle())
                    .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
                Ok(Peer::new(Some(credentials), None))
            }
            Inner::Tcp(socket) => Ok(Peer::new(None, Some(socket.peer_addr().map_err(tcp::error)?))),
        }
    }

    /// Whether a pipe's client is in one of these groups, and its token has that enabled. Behind the first read.
    ///
    /// # Errors
    ///
    /// `Unsupported` of a pipe's server, and over TCP; what the system says.
    pub fn is_member(&self, groups: &[Group]) -> io::Result<bool> {
        match &self.0 {
            Inner::Pipe(pipe) if pipe.end == PipeEnd::Server => {
                security::client_is_member(pipe.pipe.handle(), groups)
            }
            Inner::Pipe(_) | Inner::Tcp(_) => Err(executable::untold("which groups it is in")),
        }
    }

    /// Whether the other side still has its end open: what it has said of itself, its process above all, still holds.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.0 {
            Inner::Pipe(pipe) => pipe::is_connected(pipe.pipe.handle()),
            Inner::Tcp(_) => true,
        }
    }

    /// The program of the process at the pipe's other end.
    ///
    /// # Errors
    ///
    /// `NotFound` if it has ended, `PermissionDenied` if the system does not let us look, `Unsupported` over TCP.
    pub fn executable(&self) -> io::Result<Executable> {
        let Inner::Pipe(pipe) = &self.0 else { return Err(executable::untold("which program it is")) };
        let handle = pipe.pipe.handle();
        let pid = match pipe.end {
            PipeEnd::Server => pipe::client_pid(handle),
            PipeEnd::Client => pipe::server_pid(handle),
        };
        executable::of_peer(handle, pid?)
    }

    /// Our end's address: the pipe's name, or the socket's address.
    ///
    /// # Errors
    ///
    /// What the system says about a socket.
    pub fn local_address(&self) -> io::Result<Address> {
        match &self.0 {
            Inner::Pipe(pipe) => {
                Ok(pipe.name.as_ref().map_or(Address::Unnamed, |name| Address::Pipe(name.to_string())))
            }
            Inner::Tcp(socket) => socket.local_addr().map(Address::Inet),
        }
    }

    /// The peer's address: none on a pipe.
    ///
    /// # Errors
    ///
    /// What the system says about a socket.
    pub fn peer_address(&self) -> io::Result<Address> {
        match &self.0 {
            Inner::Pipe(_) => Ok(Address::Unnamed),
            Inner::Tcp(socket) => socket.peer_addr().map(Address::Inet).map_err(tcp::error),
        }
    }

    /// Ends the connection once the peer has taken everything written, without making the caller
    /// wait.
    ///
    /// # Platform-specific behavior
    ///
    /// On a pipe a helper thread flushes, for at most `within`; then the client is disconnected
    /// and what it has not read is lost. A socket is shut down, and closed by a helper thread a
    /// second later: closed at once, Windows could reset it and lose the last bytes.
    pub fn close_flushed(self, within: Duration) {
        match self.0 {
            Inner::Pipe(mut pipe) => {
                pipe.handed_over = true;
                // Also where nobody could be had to wait for it: what was accepted is not taken back.
                pipe.pipe.leave_writing();
                if !closing::flush_then_disconnect(&pipe.pipe, within) {
                    log::debug!("nobody waits until a client has read its last reply");
                }
            }
            Inner::Tcp(socket) => match socket.shutdown(std::net::Shutdown::Write) {
                Ok(()) => closing::hold(socket),
                // There is nobody any more.
                Err(error) => log::debug!("shutting down a socket before closing it: {error}"),
            },
        }
    }

    /// Ends the connection now. What was not delivered may be lost; on a pipe, what was not read is.
    pub fn abort(self) {}
}

/// A client that keeps its handle would else keep the name from the next server, once this one's
/// handles are closed, and a write under way would go on for as long as the client likes, with the
/// handle ("DisconnectNamedPipe function",
/// learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-disconnectnamedpipe).
impl Drop for Pipe {
    fn drop(&mut self) {
        if !self.handed_over
            && self.end == PipeEnd::Server
            && let Err(error) = self.pipe.disconnect()
        {
            log::debug!("disconnecting {}: {error}", self.name.as_deref().unwrap_or("a pipe"));
        }
    }
}

impl Pipe {
    fn read(&mut self, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        match self.read_now(room) {
            Err(error) if pipe::is_end(&error) => Ok(0),
            Err(error) => Err(error),
            Ok(count) => {
                self.heard |= count > 0;
                Ok(count)
            }
        }
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            // The system would deliver it, and some take it for the end.
            return Ok(0);
        }
        self.write_now(&buf[..buf.len().min(pipe::BUFFER)]).map_err(pipe::write_error)
    }

    fn read_now(&self, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        #[cfg(test)]
        let length = fault::most(Call::Read)?.min(room.len());
        #[cfg(test)]
        let room = &mut room[..length];
        self.pipe.read(room)
    }

    fn write_now(&self, buf: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        let buf = fault::cut(Call::Write, buf)?;
        self.pipe.write(buf)
    }
}

fn read_socket(socket: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    #[cfg(test)]
    let length = fault::most(Call::Read)?.min(buf.len());
    #[cfg(test)]
    let buf = &mut buf[..length];
    socket.read(buf)
}

fn write_socket(socket: &mut TcpStream, buf: &[u8]) -> io::Result<usize> {
    #[cfg(test)]
    let buf = fault::cut(Call::Write, buf)?;
    socket.write(buf)
}

/// The client, by what it sent last.
fn client_credentials(pipe: BorrowedHandle<'_>) -> io::Result<Credentials> {
    let token = security::client_token(pipe)?;
    let user = User::Sid(security::token_user(token.as_handle())?);
    let integrity = security::token_integrity(token.as_handle())?;
    Ok(Credentials::new(user, pipe::client_pid(pipe).ok(), Some(integrity)))
}

pub(super) fn no_half_close() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the two directions of a named pipe end together")
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Inner::Pipe(pipe) => f.debug_tuple("Stream").field(&pipe.name).finish(),
            Inner::Tcp(socket) => f.debug_tuple("Stream").field(socket).finish(),
        }
    }
}
