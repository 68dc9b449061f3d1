//! Closing a pipe after its client has read everything, and a socket after its peer has.

use std::collections::VecDeque;
use std::os::windows::io::AsHandle;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use super::pipe;
use super::polled::PolledPipe;
use crate::tally::Tally;

/// How many pipes may be flushed at the same time, each by two small threads. Clients that connect,
/// ask and never read are so kept from filling the process with threads.
const FLUSHING_MAX: usize = 64;
static FLUSHING: AtomicUsize = AtomicUsize::new(0);

/// A thread here calls one function, and perhaps the application's logger.
const STACK: usize = 256 * 1024;

/// One of [`FLUSHING_MAX`], given back when dropped.
struct FlushSlot;

impl FlushSlot {
    fn take() -> Option<FlushSlot> {
        let take = |taken| (taken < FLUSHING_MAX).then_some(taken + 1);
        FLUSHING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| FlushSlot)
    }
}

impl Drop for FlushSlot {
    fn drop(&mut self) {
        FLUSHING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often a pipe was closed without a flush because too many were under way.
static CROWDED: Tally = Tally::new();
/// How often because the system did not let us wait.
static FAILED: Tally = Tally::new();

/// Disconnects the client once it has read what was written, or after `within`. The caller drops the
/// pipe, and leaves the write under way to this if it says so.
///
/// FlushFileBuffers blocks for as long as the client pleases ("FlushFileBuffers function",
/// learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers), so a thread does
/// it, on a handle of its own, and a second one disconnects the client when time is up, which ends
/// the flush. If that is not possible, the pipe is just closed: Windows then keeps what the client
/// has not read yet, too, but its documentation doesn't promise it, and a client that keeps its handle
/// keeps the name as well.
pub(super) fn flush_then_disconnect(pipe: &PolledPipe, within: Duration) -> bool {
    let Some(slot) = FlushSlot::take() else {
        if let Some(count) = CROWDED.next_worth_telling() {
            log::warn!(
                "closing a pipe without flushing it: {FLUSHING_MAX} others are being flushed; {count} so far"
            );
        }
        return false;
    };
    let started = start(pipe, within, slot);
    if let Err(error) = &started
        && let Some(count) = FAILED.next_worth_telling()
    {
        log::warn!("closing a pipe without flushing it: {error}; {count} so far");
    }
    started.is_ok()
}

fn start(pipe: &PolledPipe, within: Duration, slot: FlushSlot) -> io::Result<()> {
    let handle = Arc::new(pipe.handle().try_clone_to_owned()?);
    let (flushing, flushed) = mpsc::channel::<()>();
    let flush = {
        let handle = Arc::clone(&handle);
        move || {
            if let Err(error) = pipe::flush(handle.as_handle()) {
                log::debug!("flushing a pipe before closing it: {error}");
            }
            // Nothing is lost by it now, and nothing of the connection is left.
            if let Err(error) = pipe::disconnect(handle.as_handle()) {
                log::debug!("disconnecting a pipe that was flushed: {error}");
            }
            // Before the watch hears of it, so that the end is seen at once.
            drop(handle);
            drop((flushing, slot));
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

/// How long a socket outlives its last write. On loopback a peer that lives has taken it long before.
const HOLD: Duration = Duration::from_secs(1);
/// How many are held at a time; beyond that the oldest is closed early.
const HELD_MAX: usize = 4_096;
static HELD: Mutex<Held> = Mutex::new(Held { sockets: VecDeque::new(), has_thread: false });

/// Sockets that are finished and not yet closed, oldest first.
struct Held {
    sockets: VecDeque<(Instant, Box<dyn Send>)>,
    has_thread: bool,
}

/// Drops `socket`, of which both directions have ended, in a second.
///
/// The peer has sent its end already, so nothing will tell when it has taken our last bytes; and
/// Windows may answer what still comes, an acknowledgement even, with a reset once the socket is
/// closed, which throws away what the peer has not read yet. A process that ends first leaves the
/// rest to the system, as closing at once would.
pub(super) fn hold(socket: impl Send + 'static) {
    let mut held = lock_held();
    held.sockets.push_back((Instant::now() + HOLD, Box::new(socket)));
    let surplus = if held.sockets.len() > HELD_MAX { held.sockets.pop_front() } else { None };
    if !mem::replace(&mut held.has_thread, true) {
        let thread = thread::Builder::new().name("socket-close".into()).stack_size(STACK);
        if let Err(error) = thread.spawn(close_in_time) {
            if let Some(count) = FAILED.next_worth_telling() {
                log::warn!("closing sockets without waiting for their peers: {error}; {count} so far");
            }
            held.has_thread = false;
            held.sockets.clear();
        }
    }
    drop(held);
    drop(surplus);
}

/// Ends when there is none left.
fn close_in_time() {
    loop {
        let mut held = lock_held();
        let Some(&(at, _)) = held.sockets.front() else {
            held.has_thread = false;
            return;
        };
        let left = at.saturating_duration_since(Instant::now());
        let due = if left.is_zero() { held.sockets.pop_front() } else { None };
        drop(held);
        if due.is_none() {
            thread::sleep(left);
        }
    }
}

/// What this lock guards is whole at every moment, so a panic elsewhere does no harm.
fn lock_held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_sockets_are_closed_later_and_all_of_them() {
        let began = Instant::now();
        let (dropped, all_dropped) = mpsc::channel::<()>();
        for _ in 0..3 {
            hold(dropped.clone());
        }
        drop(dropped);
        let end = all_dropped.recv_timeout(Duration::from_secs(30));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
        assert!(began.elapsed() >= HOLD);
        // And again, once the thread has ended.
        let (dropped, all_dropped) = mpsc::channel::<()>();
        hold(dropped);
        let end = all_dropped.recv_timeout(Duration::from_secs(30));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    }
}
