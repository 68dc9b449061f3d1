//! The channel that a child process gets from its parent: what both agree on, on every system.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The environment variable that tells the child where its channel is.
pub(crate) const CHANNEL: &str = "SIDEWIRE_CHANNEL";

/// How long a child may live on when its parent has gone, to end in order.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// Whether the channel of this process was taken.
static IS_TAKEN: Mutex<bool> = Mutex::new(false);

/// Takes what there is, once for each process: an error when that was done before. That there is
/// nothing to take may be said again and again.
pub(crate) fn take_once<T>(take: impl FnOnce() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    let mut is_taken = IS_TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_taken {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the parent's channel was taken before"));
    }
    let taken = take()?;
    *is_taken = taken.is_some();
    Ok(taken)
}

/// The variable is there, but holds nothing that a parent of this version would write.
pub(crate) fn garbled(variable: &str, text: &std::ffi::OsStr) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{variable} is set to {text:?}, which means nothing here"),
    )
}
