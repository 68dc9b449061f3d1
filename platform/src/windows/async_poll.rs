//! A poll that a task of a Tokio runtime waits for: there is none.

use std::io;
use std::task::{self, Context};

use super::{Poll, PollDescriptor};

/// Nothing: nobody else can wait for what a poll waits for, as with [`PollDescriptor`].
#[derive(Debug)]
#[non_exhaustive]
pub enum AsyncPoll {}

impl AsyncPoll {
    /// There is none.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`], always.
    pub fn of(poll: &Poll) -> io::Result<AsyncPoll> {
        match PollDescriptor::of(poll)? {}
    }

    /// Never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn poll_ready(&self, _task: &mut Context<'_>) -> task::Poll<io::Result<()>> {
        match *self {}
    }
}
