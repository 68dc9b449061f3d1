//! What a loop waits with, which is mio's, and a poll as a descriptor for other loops.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub use mio::event::Event;
pub use mio::{Events, Poll, Registry, Waker};

/// What another loop watches in place of all that is registered with a poll: readable, level-triggered, while
/// the poll would return something. Or in place of a client's connection: readable while something has come there, writable
/// while there is room.
///
/// It is a descriptor of its own, and says nothing any more when the poll has gone, or the connection was closed.
#[derive(Debug)]
pub struct PollDescriptor(OwnedFd);

impl PollDescriptor {
    /// Of this poll. The descriptor is closed when a program is executed.
    ///
    /// # Errors
    ///
    /// What fcntl(2) says: the process is out of descriptors.
    ///
    /// # Platform-specific behavior
    ///
    /// [`io::ErrorKind::Unsupported`] on Windows, whose completion ports nothing else can wait for.
    pub fn of(poll: &Poll) -> io::Result<PollDescriptor> {
        // SAFETY: `poll` has it open until behind this function, and closes it itself.
        let descriptor = unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) };
        descriptor.try_clone_to_owned().map(PollDescriptor)
    }

    /// Of this socket.
    pub(super) fn of_socket(socket: BorrowedFd<'_>) -> io::Result<PollDescriptor> {
        socket.try_clone_to_owned().map(PollDescriptor)
    }
}

impl AsFd for PollDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PollDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<PollDescriptor> for OwnedFd {
    fn from(descriptor: PollDescriptor) -> OwnedFd {
        descriptor.0
    }
}
