//! A poll as a descriptor for other loops: not here.

use std::io;

use mio::Poll;

/// Nothing: what a poll waits for, a completion port, is no handle that other loops could wait for.
#[derive(Debug)]
#[non_exhaustive]
pub enum PollDescriptor {}

impl PollDescriptor {
    /// There is none.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`], always.
    pub fn of(poll: &Poll) -> io::Result<PollDescriptor> {
        let _ = poll;
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "Windows has no descriptor that other loops could watch; let the server have a thread of its own",
        ))
    }
}
