//! The client's end of a connection: a blocking socket, shared by threads.

use std::io;
use std::os::fd::AsFd;
#[cfg(any(feature = "tokio", target_os = "linux", target_os = "android"))]
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use socket2::Socket;

use super::Attachment;
use super::connecting;
use super::executable::{self, Executable};
use super::names;
use super::owned::Owned;
use super::passing::{self, Attached};
use super::poll::PollDescriptor;
use super::socket::{self, Transport};
use super::timeout::{SocketTimeout, error_of};
use crate::Carried;
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
#[cfg(test)]
use crate::fault::{self, Call};
use crate::peer::{Address, Group, Peer};
use crate::spin::Look;

/// One opened connection, blocking with timeouts. Dropping it closes it.
///
/// One thread may receive while another sends. Two that receive at once, or two that send at
/// once, do no harm to memory, but which of them gets what, and by whose timeout, is open.
#[derive(Debug)]
pub struct Channel {
    socket: Socket,
    peer: Peer,
    recv_timeout: SocketTimeout,
    /// How long receiving looks before it sleeps.
    spin: Duration,
    /// Set by [`Channel::shutdown`], after which the system would still hand out what had arrived.
    is_shut_down: AtomicBool,
}

impl Channel {
    /// Connects to a server, trying every place that the endpoint can mean until one answers: all
    /// folders of `local:`, all addresses of `tcp:`.
    ///
    /// `timeout` bounds the whole of it (`None`: without end), except that the resolver takes its
    /// own time if a TCP host is a name. A server that is busy is waited for, one that does not
    /// run is not.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::NotFound`]: there is no socket of that name.
    /// - [`io::ErrorKind::ConnectionRefused`]: nobody listens there (any more).
    /// - [`io::ErrorKind::TimedOut`]: the server did not take the connection in time.
    /// - [`io::ErrorKind::PermissionDenied`]: the socket's mode keeps us out.
    /// - [`io::ErrorKind::Unsupported`], [`io::ErrorKind::InvalidInput`]: as for
    ///   [`Listener::bind`](crate::Listener::bind).
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: a full backlog is waited for in the kernel, which on Linux an SO_SNDTIMEO bounds
    /// (socket(7)); the BSDs and macOS refuse at once. TCP divides what is left of the timeout
    /// evenly among the addresses not yet tried, and sets TCP_NODELAY.
    pub fn connect(endpoint: &Endpoint, timeout: Option<Duration>) -> io::Result<Channel> {
        connecting::connect(endpoint, timeout)
    }

    /// Of a descriptor that the program has already. It becomes blocking, which concerns all copies of it
    /// (fcntl(2), F_SETFL), and close-on-exec; on TCP small writes leave at once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is something else than a connection of bytes; the text says
    /// what. Otherwise what the system says. It is closed then.
    ///
    /// # Platform-specific behavior
    ///
    /// As for [`Stream::from_owned`](crate::Stream::from_owned).
    pub fn from_owned(owned: Owned) -> io::Result<Channel> {
        let (socket, transport) = owned.into_connection()?;
        socket.set_nonblocking(false)?;
        Channel::new(socket, transport)
    }

    #[cfg(any(feature = "tokio", target_os = "linux", target_os = "android"))]
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Of a blocking socket that is connected.
    pub(super) fn new(socket: Socket, transport: Transport) -> io::Result<Channel> {
        let peer = socket::peer(&socket, transport)?;
        Ok(Channel::with_peer(socket, peer))
    }

    /// Of a blocking socket that is connected to somebody who is known already.
    pub(super) fn with_peer(socket: Socket, peer: Peer) -> Channel {
        Channel {
            socket,
            peer,
            recv_timeout: SocketTimeout::new(Timeout::Recv),
            spin: Duration::ZERO,
            is_shut_down: AtomicBool::new(false),
        }
    }

    /// What the system knows about the server, from before the first byte was sent.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: who called listen(2), by SO_PEERCRED (unix(7)); that process may have handed the
    /// socket on since, so trust the user rather than the process id. Windows pipes: the owner's
    /// SID. TCP: nothing but the address.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the server is in one of these groups; as [`Stream::is_member`](crate::Stream::is_member).
    ///
    /// # Errors
    ///
    /// What the system says; that it does not tell.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: the groups of who called listen(2), at that time. Windows: of a pipe's server nobody tells.
    pub fn is_member(&self, groups: &[Group]) -> io::Result<bool> {
        socket::is_member(&self.socket, groups)
    }

    /// The program of the server's process; as [`Stream::executable`](crate::Stream::executable).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: of the process that has called listen(2): of a service manager, where that has opened the socket. Windows:
    /// of the process that has made the pipe's instance.
    pub fn executable(&self) -> io::Result<Executable> {
        executable::of_peer(&self.socket)
    }

    /// What other loops watch: readable while [`Channel::recv`] would give something, writable while [`Channel::send`]
    /// would take something. It is another descriptor of the same socket, closed when a program is executed.
    ///
    /// # Errors
    ///
    /// What fcntl(2) says: the process is out of descriptors.
    ///
    /// # Platform-specific behavior
    ///
    /// [`io::ErrorKind::Unsupported`] on Windows, where a pipe is no handle that tells whether it can be read.
    pub fn poll_descriptor(&self) -> io::Result<PollDescriptor> {
        PollDescriptor::of_socket(self.socket.as_fd())
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_address(&self) -> io::Result<Address> {
        Ok(names::address(&self.socket.local_addr()?))
    }

    /// The address of the server's end.
    ///
    /// # Errors
    ///
    /// What getpeername(2) says, for example [`io::ErrorKind::NotConnected`].
    pub fn peer_address(&self) -> io::Result<Address> {
        Ok(names::address(&self.socket.peer_addr()?))
    }

    /// Has each wait of [`Channel::recv`] begin with looking, for so long, before it sleeps. At first it sleeps at once.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: recv(2) with MSG_DONTWAIT. Windows: one operation, whose event is asked.
    pub fn spin(&mut self, time: Duration) {
        self.spin = time;
    }

    /// Waits for bytes, at most for `timeout` (`None`: without end; zero: not at all). `Ok(0)` is
    /// the end of the stream (or an empty buffer).
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when nothing came in time; the connection is as good as before.
    /// [`io::ErrorKind::ConnectionReset`] when the server has gone without reading everything.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: one system call, and one more when `timeout` is not the one of the last call
    /// (SO_RCVTIMEO, socket(7)). Signals do not end the wait.
    pub fn recv(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<usize> {
        self.receive(timeout, |flags| socket::recv(&self.socket, buf, flags))
    }

    /// As [`Channel::recv`], but appends at most `most` bytes to `buf`, straight into its spare
    /// capacity, which grows as [`Vec::reserve`] does where it is less than `most`.
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`]; `buf` then holds what it held.
    pub fn recv_append(
        &self,
        buf: &mut Vec<u8>,
        most: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        self.receive(timeout, |flags| socket::recv_append(&self.socket, buf, most, flags))
    }

    #[inline]
    fn receive(
        &self,
        timeout: Option<Duration>,
        mut recv: impl FnMut(RecvFlags) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        if self.is_shut_down.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let mut left = timeout;
        if !self.spin.is_zero()
            && let Some(look) = Look::begin(self.spin, timeout, Instant::now)
        {
            match look_for(look, &mut recv) {
                Ok(done) => return done.map_err(error_of),
                Err(now) => left = look.left(timeout, now).map(whole_millis),
            }
        }
        self.recv_timeout.bound(&self.socket, left, |wait| recv(wait.recv_flags())).map_err(error_of)
    }

    /// Says, before anything is sent, that the server is to [pass](crate::Listener::pass) its listener.
    pub fn expect_passed(&self) {
        socket::take_descriptors(&self.socket);
    }

    /// Says, before anything is sent, that the server may attach something to what it sends.
    pub fn expect_attachments(&self) {
        socket::take_descriptors(&self.socket);
    }

    /// As [`Channel::recv`], with what the server has attached: see [`Stream::read_attached`](crate::Stream::read_attached).
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`].
    pub fn recv_attached(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<(usize, Carried)> {
        let mut carried = Carried::Nothing;
        let count = self.receive(timeout, |flags| {
            let (count, came) = passing::receive_all(&self.socket, buf, flags)?;
            carried = came;
            Ok(count)
        })?;
        Ok((count, carried))
    }

    /// As [`Channel::recv`], with what the server has [passed](crate::Listener::pass) along with the bytes, if it has.
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`]. [`io::ErrorKind::InvalidData`] for more than one thing, or one that can't be had, for
    /// want of descriptors.
    pub fn recv_passed(
        &self,
        buf: &mut [u8],
        timeout: Option<Duration>,
    ) -> io::Result<(usize, Option<Owned>)> {
        let mut attached = Attached::Nothing;
        let count = self.receive(timeout, |flags| {
            let (count, came) = passing::receive(&self.socket, buf, flags)?;
            attached = came;
            Ok(count)
        })?;
        match attached {
            Attached::Nothing => Ok((count, None)),
            Attached::One(descriptor) => Ok((count, Some(descriptor.into()))),
            Attached::Unfit => {
                let text =
                    "the server has passed more than one descriptor, or one for which there is no room";
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }

    /// Sends what the system takes, which may be less than `buf`, and waits for room at most for
    /// `timeout` (`None`: without end; zero: not at all). What it says was sent was sent.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when nothing could be sent in time; the connection is as good as
    /// before. [`io::ErrorKind::BrokenPipe`] or [`io::ErrorKind::ConnectionReset`] when the server
    /// has gone. Never raises SIGPIPE.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: one system call, unless there is no room. Signals do not end the wait.
    pub fn send(&self, buf: &[u8], timeout: Option<Duration>) -> io::Result<usize> {
        self.send_by(timeout, |flags| socket::send(&self.socket, buf, flags))
    }

    /// As [`Channel::send`] of pieces that follow each other.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`].
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: all of them go in one system call, if there is room. Windows: a piece at a time.
    pub fn send_pieces(&self, pieces: &[io::IoSlice<'_>], timeout: Option<Duration>) -> io::Result<usize> {
        self.send_by(timeout, |flags| socket::send_pieces(&self.socket, pieces, flags))
    }

    /// As [`Channel::send`], and these go with the first byte: see
    /// [`Stream::write_attached`](crate::Stream::write_attached).
    ///
    /// # Errors
    ///
    /// As [`Channel::send`]; what sendmsg(2) says of descriptors.
    pub fn send_attached(
        &self,
        buf: &[u8],
        attachments: &[Attachment],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        self.send_by(timeout, |flags| {
            passing::send_all(&self.socket, &[io::IoSlice::new(buf)], attachments, flags)
        })
    }

    #[inline]
    fn send_by(
        &self,
        timeout: Option<Duration>,
        send: impl Fn(SendFlags) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        if self.is_shut_down.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // The clock is not asked before there is something to wait for.
        let mut waiting = None;
        loop {
            match send(SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) if timeout == Some(Duration::ZERO) => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(Errno::AGAIN) => {
                    let deadline = *waiting.get_or_insert_with(|| Deadline::after(timeout));
                    if !self.wait_for_room(deadline)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                sent => return sent.map_err(error_of),
            }
        }
    }

    /// False when there is none behind the deadline, either. An error or a hang-up counts as room:
    /// sending tells which.
    fn wait_for_room(&self, deadline: Deadline) -> io::Result<bool> {
        loop {
            let is_last = deadline.has_passed();
            // A wait too long for the system's clock is as good as one without end.
            let timeout = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
            match self.poll_for_room(timeout.as_ref()) {
                Ok(0) if is_last => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn poll_for_room(&self, timeout: Option<&Timespec>) -> rustix::io::Result<usize> {
        #[cfg(test)]
        fault::strikes(Call::Wait)?;
        poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], timeout)
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

    /// Says that no more will be sent; the server reads what is on its way, then the end.
    ///
    /// # Errors
    ///
    /// What shutdown(2) says. That the server has gone already is not an error.
    ///
    /// # Platform-specific behavior
    ///
    /// [`io::ErrorKind::Unsupported`] on Windows pipes.
    pub fn shutdown_write(&self) -> io::Result<()> {
        socket::shutdown(&self.socket, Shutdown::Write)
    }

    /// Ends both directions and wakes threads that are blocked here: receiving ends with `Ok(0)`,
    /// sending with [`io::ErrorKind::BrokenPipe`], now and from now on.
    pub fn shutdown(&self) {
        self.is_shut_down.store(true, Ordering::Relaxed);
        // It can only fail where there is nothing left to shut down.
        let _ = socket::shutdown(&self.socket, Shutdown::Both);
    }

    /// [`Channel::shutdown`] when both sides have said and heard all: the other side sees the end now.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: a pipe is closed. What the other side has not read is lost if this is the server's end.
    pub fn hang_up(&self) {
        self.shutdown();
    }
}

/// The error is the time at which nothing had come for as long as it looked.
fn look_for(
    look: Look,
    recv: &mut impl FnMut(RecvFlags) -> rustix::io::Result<usize>,
) -> Result<rustix::io::Result<usize>, Instant> {
    loop {
        match recv(RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => {
                let now = Instant::now();
                if !look.goes_on(now) {
                    return Err(now);
                }
                std::hint::spin_loop();
            }
            done => return Ok(done),
        }
    }
}

/// Rounded up: a socket remembers the last timeout, and need not be told again.
fn whole_millis(timeout: Duration) -> Duration {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Answer, script};

    #[test]
    fn a_dead_network_is_no_timeout_of_ours() {
        assert_eq!(error_of(Errno::AGAIN).kind(), io::ErrorKind::TimedOut);
        assert_eq!(error_of(Errno::TIMEDOUT).kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn a_channel_is_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Channel>();
    }

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    /// A socket that listens, at a path of its own.
    fn server() -> (tempfile::TempDir, std::os::unix::net::UnixListener, Endpoint) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        (folder, listener, Endpoint::Unix(path))
    }

    fn fails(call: Call, code: i32) -> (Call, Answer) {
        (call, Answer::Fails(code))
    }

    #[test]
    fn looking_takes_its_time_and_then_sleeps() {
        let (_folder, listener, endpoint) = server();
        let mut channel = Channel::connect(&endpoint, SOON).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        // Too long for anybody to sleep: what comes is seen by looking.
        channel.spin(Duration::from_secs(60));
        let _script = script(&[fails(Call::Read, libc::EAGAIN), fails(Call::Read, libc::EINTR)]);
        io::Write::write_all(&mut far, b"yes").unwrap();
        assert_eq!(channel.recv(&mut [0; 9], SOON).unwrap(), 3);
        channel.spin(Duration::from_millis(2));
        let start = Instant::now();
        let timeout = Some(Duration::from_millis(20));
        assert_eq!(channel.recv(&mut [0; 9], timeout).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(20));
        // Who does not wait does not look, either.
        channel.spin(Duration::from_secs(60));
        let error = channel.recv(&mut [0; 9], Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn waits_outlive_signals_and_count_what_went() {
        let (_folder, listener, endpoint) = server();
        let channel = Channel::connect(&endpoint, SOON).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let full = fails(Call::Write, libc::EAGAIN);
        let _script = script(&[
            full,
            fails(Call::Wait, libc::EINTR),
            (Call::Wait, Answer::Passes),
            (Call::Write, Answer::Short(2)),
            full,
            fails(Call::Wait, libc::ENOMEM),
            full,
            fails(Call::Read, libc::EINTR),
            (Call::Read, Answer::Short(1)),
        ]);
        assert_eq!(channel.send(b"hello", SOON).unwrap(), 2);
        assert_eq!(channel.send(b"llo", SOON).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(channel.send(b"llo", Some(Duration::ZERO)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        io::Write::write_all(&mut far, b"yes").unwrap();
        assert_eq!(channel.recv(&mut [0; 9], SOON).unwrap(), 1);
        assert_eq!(channel.recv(&mut [0; 9], SOON).unwrap(), 2);
    }
}
