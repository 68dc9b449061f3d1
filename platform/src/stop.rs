//! Who wants to know that the system, or the user, wants this process to end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::os;

/// For as long as it lives, a closure is called, on a thread of its own, when this process is asked to
/// end; what the system would do otherwise, end it at once, does not happen. There may be several.
///
/// A second such request, a quarter of a second or more after the first, ends the process as if this
/// did not exist, so that one that can't stop can still be stopped. (Sooner ones are the same request
/// twice: `timeout` and closing terminals send their signals to a process and to its group.) When the
/// last of them is dropped before anybody has asked, requests end the process again.
///
/// # Platform-specific behavior
///
/// Unix: SIGINT, SIGTERM and SIGHUP (signal(7)). Those that are ignored when this is made stay ignored,
/// as nohup(1), and shells for their background jobs, mean it. A process that was forked from this one
/// without another program in it ends at a signal, as it would have without this.
///
/// Windows: Ctrl-C, Ctrl-Break, and the end of the console, of the user's session and of the
/// system; and the event `Local\sidewire-stop-PID`, which is what SIGTERM is elsewhere: `sidewire stop` sets it. From
/// the first `StopSignals` of a process on, and as long as the process, it is there for the user's own processes of
/// this session that have no lower integrity. Should somebody have taken its name, that is logged, and there is none.
/// After the end of console, session and system the system ends the process as soon as all handlers have
/// returned, so ours returns when the last `StopSignals` was dropped, after 4 s at most. The end of
/// sessions is not told to programs that load user32.dll or gdi32.dll, and is none of a service's
/// concern (SetConsoleCtrlHandler).
///
/// ```
/// use std::sync::mpsc;
/// use sidewire_platform::StopSignals;
///
/// let (stop, stopped) = mpsc::channel();
/// let signals = StopSignals::watch(move || {
///     let _ = stop.send(());
/// })?;
/// # if false {
/// stopped.recv()?; // and then tidy up
/// # }
/// drop(signals);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it leaves signals to the system again"]
pub struct StopSignals {
    number: u64,
}

type Callback = Arc<dyn Fn() + Send + Sync>;

/// All that are alive, with the numbers of their `StopSignals`.
struct Watchers {
    callbacks: Vec<(u64, Callback)>,
    last: u64,
}

static WATCHERS: Mutex<Watchers> = Mutex::new(Watchers { callbacks: Vec::new(), last: 0 });
/// The last one was dropped.
static NOBODY_LEFT: Condvar = Condvar::new();

impl StopSignals {
    /// Calls this from now on.
    ///
    /// # Errors
    ///
    /// If the system lacks a descriptor or a thread;
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if other code of this process has a handler for one
    /// of the signals (Unix), which is then left alone.
    pub fn watch(callback: impl Fn() + Send + Sync + 'static) -> io::Result<StopSignals> {
        let mut watchers = lock();
        if watchers.callbacks.is_empty() {
            os::take_signals()?;
        }
        watchers.last += 1;
        let number = watchers.last;
        watchers.callbacks.push((number, Arc::new(callback)));
        Ok(StopSignals { number })
    }
}

impl Drop for StopSignals {
    fn drop(&mut self) {
        let mut watchers = lock();
        watchers.callbacks.retain(|(number, _)| *number != self.number);
        if watchers.callbacks.is_empty() {
            os::give_signals_back();
            NOBODY_LEFT.notify_all();
        }
    }
}

/// Tells everybody. For the system's side, on a thread.
pub(crate) fn tell() {
    // Without the lock, so that what is called may drop its own `StopSignals`.
    let callbacks: Vec<Callback> =
        lock().callbacks.iter().map(|(_, callback)| Arc::clone(callback)).collect();
    for callback in callbacks {
        if catch_unwind(AssertUnwindSafe(|| callback())).is_err() {
            log::error!("a closure that was told to stop has panicked");
        }
    }
}

/// Waits until the last `StopSignals` was dropped, at most so long.
#[cfg_attr(
    not(windows),
    allow(dead_code, reason = "elsewhere nothing ends a process that handles its signals")
)]
pub(crate) fn wait_until_nobody_is_left(most: Duration) {
    let is_left = |watchers: &mut Watchers| !watchers.callbacks.is_empty();
    drop(NOBODY_LEFT.wait_timeout_while(lock(), most, is_left).unwrap_or_else(PoisonError::into_inner));
}

fn lock() -> MutexGuard<'static, Watchers> {
    WATCHERS.lock().unwrap_or_else(PoisonError::into_inner)
}
