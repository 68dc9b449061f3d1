//! Closing a pipe after its client has read everything.

use std::os::windows::io::AsHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{io, thread};

use mio::windows::NamedPipe;

use super::pipe;

/// How many pipes may be flushed at the same time, each by two small threads. Clients that connect,
/// ask and never read are so kept from filling the process with threads.
const FLUSHING_MAX: usize = 64;
static FLUSHING: AtomicUsize = AtomicUsize::new(0);

/// A thread here calls one function, and perhaps the application's logger.
const STACK: usize = 256 * 1024;

/// One of [`FLUSHING_MAX`], given back when dropped.
struct Turn;

impl Turn {
    fn take() -> Option<Turn> {
        let take = |taken| (taken < FLUSHING_MAX).then_some(taken + 1);
        FLUSHING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| Turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        FLUSHING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Drops `pipe`, whose connection ends when the client has read what was written, or after `within`.
///
/// FlushFileBuffers blocks for as long as the client pleases ("FlushFileBuffers function",
/// learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers), so a thread does
/// it, on a handle of its own, and a second one disconnects the client when time is up, which ends
/// the flush. If that is not possible, the pipe is just closed: Windows then keeps what the client
/// has not read yet, too, but its documentation doesn't promise it.
pub(super) fn flush_then_close(pipe: NamedPipe, within: Duration) {
    let Some(turn) = Turn::take() else {
        log::warn!("closing a pipe without flushing it: {FLUSHING_MAX} others are being flushed");
        return;
    };
    if let Err(error) = start(&pipe, within, turn) {
        log::warn!("closing a pipe without flushing it: {error}");
    }
}

fn start(pipe: &NamedPipe, within: Duration, turn: Turn) -> io::Result<()> {
    let handle = Arc::new(pipe::handle(pipe).try_clone_to_owned()?);
    let (flushing, flushed) = mpsc::channel::<()>();
    let flush = {
        let handle = Arc::clone(&handle);
        move || {
            if let Err(error) = pipe::flush(handle.as_handle()) {
                log::debug!("flushing a pipe before closing it: {error}");
            }
            // Before the watch hears of it, so that the end is seen at once.
            drop(handle);
            drop((flushing, turn));
        }
    };
    let watch = move || {
        if flushed.recv_timeout(within) == Err(RecvTimeoutError::Timeout)
            && let Err(error) = pipe::disconnect(handle.as_handle())
        {
            log::debug!("disconnecting a pipe that was not flushed in time: {error}");
        }
    };
    // The watch comes first: nobody may block in a flush without one.
    thread::Builder::new().name("pipe-flush-watch".into()).stack_size(STACK).spawn(watch)?;
    thread::Builder::new().name("pipe-flush".into()).stack_size(STACK).spawn(flush)?;
    Ok(())
}
