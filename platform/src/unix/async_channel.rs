//! The client's end of a connection for tasks of a Tokio runtime.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::{Channel, Stream};
use crate::peer::{Address, Peer};

/// One opened connection that never blocks, and wakes whoever waits for it. Dropping it closes it.
///
/// Only the last waker is kept for each direction.
#[derive(Debug)]
pub struct AsyncChannel(AsyncFd<Descriptor>);

#[derive(Debug)]
struct Descriptor(Channel);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.descriptor().as_raw_fd()
    }
}

impl AsyncChannel {
    /// Of a channel that nothing was sent through yet, in the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// If there is no runtime, or the system refuses.
    ///
    /// # Panics
    ///
    /// If the runtime was built without I/O.
    pub fn new(channel: Channel) -> io::Result<AsyncChannel> {
        Handle::try_current().map_err(io::Error::other)?;
        // SAFETY: the channel has its descriptor open, and the same one, until it is dropped, and nothing but
        // dropping it ends the registration.
        Ok(AsyncChannel(unsafe { AsyncFd::register(Descriptor(channel)) }?))
    }

    /// As [`Channel::peer`].
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.channel().peer()
    }

    /// As [`Channel::local_address`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_address(&self) -> io::Result<Address> {
        self.channel().local_address()
    }

    /// As [`Channel::peer_address`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn peer_address(&self) -> io::Result<Address> {
        self.channel().peer_address()
    }

    /// Takes the bytes that are there. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`]; [`io::ErrorKind::TimedOut`]: there are none.
    pub fn recv_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.channel().recv(buf, Some(Duration::ZERO))
    }

    /// The same, and wakes the task when there may be some.
    ///
    /// # Errors
    ///
    /// As [`AsyncChannel::recv_now`]; and if the runtime has gone.
    pub fn poll_recv(&self, task: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(task))?;
            match self.recv_now(buf) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => ready.clear_ready(),
                Ok(count) => {
                    if Stream::SHORT_READ_DRAINS && (1..buf.len()).contains(&count) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends what the system takes at once, which may be less than `buf`.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`]; [`io::ErrorKind::TimedOut`]: it takes nothing.
    pub fn send_now(&self, buf: &[u8]) -> io::Result<usize> {
        self.channel().send(buf, Some(Duration::ZERO))
    }

    /// The same, and wakes the task when it may take some.
    ///
    /// # Errors
    ///
    /// As [`AsyncChannel::send_now`]; and if the runtime has gone.
    pub fn poll_send(&self, task: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(task))?;
            match self.send_now(buf) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => ready.clear_ready(),
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// As [`Channel::shutdown`].
    pub fn shutdown(&self) {
        self.channel().shutdown();
    }

    /// As [`Channel::hang_up`].
    pub fn hang_up(&self) {
        self.channel().hang_up();
    }

    fn channel(&self) -> &Channel {
        &self.0.get_ref().0
    }
}
