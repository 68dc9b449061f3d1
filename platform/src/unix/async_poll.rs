//! A poll that a task of a Tokio runtime waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::task::{self, Context, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::{Poll, PollDescriptor};

/// Wakes a task when a poll would return something. Only the last waker is kept.
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

    /// Whether the poll would return something; pending, the task is woken when it would.
    ///
    /// # Errors
    ///
    /// What the system says; and if the runtime has gone.
    pub fn poll_ready(&self, task: &mut Context<'_>) -> task::Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(task))?;
            // The runtime hears of a change only. Whether the poll has given out all that it had the system knows.
            if self.is_ready_now()? {
                return task::Poll::Ready(Ok(()));
            }
            ready.clear_ready();
        }
    }

    fn is_ready_now(&self) -> io::Result<bool> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut asked = [PollFd::from_borrowed_fd(self.0.get_ref().0.as_fd(), PollFlags::IN)];
        Ok(rustix::io::retry_on_intr(|| poll(&mut asked, Some(&now)))? > 0)
    }
}
