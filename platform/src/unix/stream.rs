//! Accepted connections.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use socket2::SockRef;

use super::Attachment;
use super::executable::{self, Executable};
use super::names;
use super::owned::Owned;
use super::passing;
use super::socket::{self, Strangers, Transport};
use crate::Carried;
use crate::peer::{Address, Group, Peer};

/// One accepted connection, non-blocking, for use with mio. Dropping it closes it.
///
/// It is small (8 bytes on Unix): a server may have ten thousand that say nothing.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    transport: Transport,
    strangers: Strangers,
}

impl Stream {
    /// Whether a [`Stream::read`] that did not fill its buffer has emptied the connection, so that
    /// the next arrival is a new event. Where it is false, only [`io::ErrorKind::WouldBlock`] says so.
    ///
    /// # Platform-specific behavior
    ///
    /// True on Unix for stream sockets (epoll(7), question 9), false on Windows.
    pub const SHORT_READ_DRAINS: bool = true;

    /// `socket` is connected, non-blocking and close-on-exec.
    pub(super) fn new(socket: OwnedFd, transport: Transport, strangers: Strangers) -> Stream {
        Stream { socket, transport, strangers }
    }

    /// Of a descriptor that the program has already. It becomes non-blocking, which concerns all copies
    /// of it (fcntl(2), F_SETFL), and close-on-exec; on TCP small writes leave at once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is something else than a connection of bytes; the text says
    /// what. Otherwise what the system says. It is closed then.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: a connected stream socket, Unix or TCP. Windows: a TCP socket, or one end of a named pipe of bytes,
    /// opened for overlapped operations and with no completion port yet.
    pub fn from_owned(owned: Owned) -> io::Result<Stream> {
        let (socket, transport) = owned.into_connection()?;
        socket.set_nonblocking(true)?;
        let strangers = Strangers::at(&socket, transport);
        Ok(Stream::new(socket.into(), transport, strangers))
    }

    pub(super) fn is_unix(&self) -> bool {
        self.transport == Transport::Unix
    }

    /// Registers with mio, edge-triggered.
    ///
    /// # Errors
    ///
    /// What the system's selector says (epoll_ctl(2)), for example that it is registered already.
    pub fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).register(registry, token, interest)
    }

    /// Changes token or interest.
    ///
    /// # Errors
    ///
    /// What the system's selector says, for example that it is not registered.
    pub fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).reregister(registry, token, interest)
    }

    /// Takes the connection out of the poll.
    ///
    /// # Errors
    ///
    /// What the system's selector says, for example that it is not registered.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }

    /// Reads what has arrived. `Ok(0)` is the end of the stream (or an empty buffer).
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when nothing has arrived, [`io::ErrorKind::ConnectionReset`]
    /// when the peer has gone without reading everything.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.strangers == Strangers::MayCome {
            return Ok(retry_on_intr(|| passing::receive_bytes(&self.socket, buf, RecvFlags::empty()))?);
        }
        Ok(retry_on_intr(|| socket::recv(&self.socket, buf, RecvFlags::empty()))?)
    }

    /// As [`Stream::read`], but appends at most `most` bytes to `buf`, straight into its spare
    /// capacity, which grows as [`Vec::reserve`] does where it is less than `most`.
    ///
    /// # Errors
    ///
    /// As [`Stream::read`]; `buf` then holds what it held.
    pub fn read_append(&mut self, buf: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        if self.strangers == Strangers::MayCome {
            return Ok(retry_on_intr(|| passing::append_bytes(&self.socket, buf, most, RecvFlags::empty()))?);
        }
        Ok(retry_on_intr(|| socket::recv_append(&self.socket, buf, most, RecvFlags::empty()))?)
    }

    /// Writes what the system takes, which may be less than `buf`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing now, [`io::ErrorKind::BrokenPipe`] or
    /// [`io::ErrorKind::ConnectionReset`] when the peer has gone. Never raises SIGPIPE.
    pub fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(socket::send(&self.socket, buf, SendFlags::empty())?)
    }

    /// As [`Stream::write`], of several pieces that follow each other.
    ///
    /// # Errors
    ///
    /// As [`Stream::write`].
    pub fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(socket::send_pieces(&self.socket, pieces, SendFlags::empty())?)
    }

    /// As [`Stream::read`], with what the peer has attached to what it sent. It ends where something is attached, so that
    /// what comes belongs to the last bytes that were read. [`Stream::read`] itself has it [closed](crate::close_aside).
    ///
    /// # Errors
    ///
    /// As [`Stream::read`].
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: descriptors (SCM_RIGHTS, unix(7)). Windows: never anything.
    pub fn read_attached(&mut self, buf: &mut [u8]) -> io::Result<(usize, Carried)> {
        Ok(retry_on_intr(|| passing::receive_all(&self.socket, buf, RecvFlags::empty()))?)
    }

    /// As [`Stream::write_vectored`], and these go with the first byte; one to
    /// [`MAX_ATTACHMENTS`](crate::MAX_ATTACHMENTS). They have gone if any byte was taken.
    ///
    /// # Errors
    ///
    /// As [`Stream::write`]; what sendmsg(2) says of descriptors, for example ETOOMANYREFS if too many of ours are on
    /// their way.
    pub fn write_attached(
        &mut self,
        pieces: &[IoSlice<'_>],
        attachments: &[Attachment],
    ) -> io::Result<usize> {
        Ok(passing::send_all(&self.socket, pieces, attachments, SendFlags::empty())?)
    }

    /// Whether the other side still has its end open, where what it has said of itself hangs on that.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: always, since what came with bytes is here already, and credentials are as of connecting. Windows: of a pipe,
    /// whether its client has closed it, also while there is something to be read.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        true
    }

    /// Whether the two directions end separately.
    ///
    /// # Platform-specific behavior
    ///
    /// True for sockets, false for Windows pipes.
    #[must_use]
    pub fn has_half_close(&self) -> bool {
        true
    }

    /// Says that no more will be written; the peer reads what is on its way, then the end.
    ///
    /// # Errors
    ///
    /// What shutdown(2) says. That the peer has gone already is not an error.
    ///
    /// # Platform-specific behavior
    ///
    /// [`io::ErrorKind::Unsupported`] on Windows pipes.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        socket::shutdown(&self.socket, Shutdown::Write)
    }

    /// What the system knows about the peer.
    ///
    /// # Errors
    ///
    /// What the system says; over TCP, that the peer has gone.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: known from the start, by SO_PEERCRED: the effective user and the process at the time
    /// of connect(2) (unix(7)). No process id if the peer lives in a pid namespace that is not
    /// ours, nor on the BSDs and macOS. Windows pipes tell only after a first read.
    pub fn peer(&self) -> io::Result<Peer> {
        socket::peer(&self.socket, self.transport)
    }

    /// Whether the peer is in one of these groups, its own one included.
    ///
    /// # Errors
    ///
    /// What the system says; that it does not tell.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: the groups at the time of connect(2) (SO_PEERGROUPS, unix(7)); other systems than Linux tell the
    /// effective one only. Windows: those that the token of a pipe's client has enabled, behind the first read; of a
    /// pipe's server nobody tells.
    pub fn is_member(&self, groups: &[Group]) -> io::Result<bool> {
        socket::is_member(&self.socket, groups)
    }

    /// The program of the process that is the peer.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if it has ended or is out of sight, [`io::ErrorKind::PermissionDenied`] if the system
    /// does not let us look, [`io::ErrorKind::Unsupported`] if it can't tell.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: of the process that has called connect(2), whoever has the socket now. Linux from 6.5 on; of another
    /// user's process, or one with privileges of its own, only root sees it. Windows: of the process that has opened the
    /// pipe's client end; over TCP nobody tells.
    pub fn executable(&self) -> io::Result<Executable> {
        executable::of_peer(&self.socket)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_address(&self) -> io::Result<Address> {
        Ok(names::address(&SockRef::from(&self.socket).local_addr()?))
    }

    /// The address of the other end. Unix clients have none, as a rule.
    ///
    /// # Errors
    ///
    /// What getpeername(2) says, for example [`io::ErrorKind::NotConnected`].
    pub fn peer_address(&self) -> io::Result<Address> {
        Ok(names::address(&SockRef::from(&self.socket).peer_addr()?))
    }

    /// Ends the connection once the peer has taken everything that was written, without waiting
    /// for that here.
    ///
    /// # Platform-specific behavior
    ///
    /// Sockets are simply closed: the system delivers what is on its way. But input that has not
    /// been read makes Linux reset a TCP connection, and the peer may lose the end; read it first.
    /// Windows pipes are flushed by a helper thread, at most for `within`.
    pub fn close_flushed(self, within: Duration) {
        let _ = within;
    }

    /// Ends the connection now, in both directions, even if a child process has inherited it.
    /// What was not delivered may be lost.
    pub fn abort(self) {
        let _ = socket::shutdown(&self.socket, Shutdown::Both);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Answer, Call, script};

    fn kept_out(socket: OwnedFd) -> Stream {
        Stream::new(socket, Transport::Unix, Strangers::KeptOut)
    }

    fn pair() -> (Stream, Stream) {
        rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .map(|(near, far)| (kept_out(near), kept_out(far)))
        .unwrap()
    }

    #[test]
    fn an_idle_stream_costs_little() {
        assert_eq!(size_of::<Stream>(), 8);
        assert_eq!(size_of::<Option<Stream>>(), 8);
    }

    /// As on a kernel without SO_PASSRIGHTS: what comes is closed, and none of the bytes are lost.
    #[test]
    fn what_strangers_attach_to_bytes_is_closed() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let strangers = Strangers::at(&far, Transport::Unix);
        assert_eq!(strangers, Strangers::MayCome, "nobody has kept them out");
        let mut far = Stream::new(far.into(), Transport::Unix, strangers);
        for most in [1, 2, 100] {
            let (mut reader, writer) = io::pipe().unwrap();
            for _ in 0..5 {
                let those = [0; 16].map(|_| Attachment::from(writer.try_clone().unwrap()));
                let sent = passing::send_all(&near, &[IoSlice::new(b"abc")], &those, SendFlags::empty());
                assert_eq!(sent, Ok(3));
            }
            drop(writer);
            let (mut got, mut buffer) = (Vec::new(), [0; 100]);
            while got.len() < 15 {
                if got.len() % 2 == 0 {
                    let count = far.read(&mut buffer[..most]).unwrap();
                    got.extend_from_slice(&buffer[..count]);
                } else {
                    far.read_append(&mut got, most).unwrap();
                }
            }
            assert_eq!(got, b"abc".repeat(5));
            // Which ends when nobody has any of them any more.
            assert_eq!(io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
        }
        // The room is not cleared before.
        let mut kept = Vec::with_capacity(100);
        kept.push(7);
        kept.spare_capacity_mut()[0].write(9);
        let error = far.read_append(&mut kept, 10).unwrap_err();
        assert_eq!((error.kind(), &kept[..]), (io::ErrorKind::WouldBlock, &[7][..]));
        // SAFETY: written above.
        assert_eq!(unsafe { kept.spare_capacity_mut()[0].assume_init() }, 9);
    }

    #[test]
    fn signals_end_neither_reads_nor_writes() {
        let (mut near, mut far) = pair();
        let interrupted = Answer::Fails(libc::EINTR);
        let _script = script(&[
            (Call::Write, interrupted),
            (Call::Write, interrupted),
            (Call::Read, interrupted),
            (Call::Read, Answer::Passes),
            (Call::Read, interrupted),
        ]);
        assert_eq!(near.write(b"hello").unwrap(), 5);
        let mut bytes = vec![0; 2];
        assert_eq!(far.read(&mut bytes).unwrap(), 2);
        assert_eq!(far.read_append(&mut bytes, 9).unwrap(), 3);
        assert_eq!(bytes, b"hello");
    }

    #[test]
    fn what_went_is_counted_and_what_failed_has_its_kind() {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, OutOfMemory, WouldBlock};

        let (mut near, mut far) = pair();
        let short = script(&[
            (Call::Write, Answer::Short(3)),
            (Call::Read, Answer::Short(1)),
            (Call::Read, Answer::Short(1)),
        ]);
        assert_eq!(near.write(b"hello").unwrap(), 3);
        let mut bytes = vec![0];
        assert_eq!(far.read(&mut bytes).unwrap(), 1);
        assert_eq!(far.read_append(&mut bytes, 9).unwrap(), 1);
        assert_eq!(bytes, b"he");
        drop(short);
        for (code, kind) in [
            (libc::EAGAIN, WouldBlock),
            (libc::ECONNRESET, ConnectionReset),
            (libc::EPIPE, BrokenPipe),
            (libc::ENOMEM, OutOfMemory),
        ] {
            let calls = [Call::Write, Call::Read, Call::Read].map(|call| (call, Answer::Fails(code)));
            let _script = script(&calls);
            assert_eq!(near.write(b"x").unwrap_err().kind(), kind);
            assert_eq!(far.read(&mut bytes).unwrap_err().kind(), kind);
            assert_eq!(far.read_append(&mut bytes, 9).unwrap_err().kind(), kind);
            assert_eq!(bytes, b"he");
        }
        // Nothing of that has touched the connection.
        assert_eq!(far.read(&mut bytes).unwrap(), 1);
    }
}
