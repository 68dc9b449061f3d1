//! A poll that a task of a Tokio runtime waits for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::task::{self, Context, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::{Poll, PollDescriptor};

/// Wakes a task when a poll may return something. Only the last waker is kept.
#[derive(Debug)]
pub struct AsyncPoll(AsyncFd<Descriptor>);

#[derive(Debug)]
struct Descriptor(OwnedFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsyncPoll {
    /// Of this poll, in the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// If there is no runtime, or the process is out of descriptors.
    ///
    /// # Panics
    ///
    /// If the runtime was built without I/O.
    ///
    /// # Platform-specific behavior
    ///
    /// [`io::ErrorKind::Unsupported`] on Windows, as with [`PollDescriptor::of`].
    pub fn of(poll: &Poll) -> io::Result<AsyncPoll> {
        Handle::try_current().map_err(io::Error::other)?;
        let descriptor = Descriptor(PollDescriptor::of(poll)?.into());
        // SAFETY: the descriptor is ours, open and the same one until it is dropped, and nothing but dropping it ends the
        // registration.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(AsyncPoll(registered?))
    }

    /// Whether the poll may have something that has come since this was asked last; pending, the task is woken when it
    /// may. Whoever hears so polls until there is less than it has room for: the runtime tells of each thing that
    /// comes, and not of what is still there.
    ///
    /// # Errors
    ///
    /// If the runtime has gone.
    pub fn poll_ready(&self, task: &mut Context<'_>) -> task::Poll<io::Result<()>> {
        // Before the poll is asked: what comes behind that is told again.
        ready!(self.0.poll_read_ready(task))?.clear_ready();
        task::Poll::Ready(Ok(()))
    }
}
