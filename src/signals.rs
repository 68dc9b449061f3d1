//! How a program hears that it is to end.

use crate::error::{Error, Result};

/// For as long as it lives, a closure is called, on a thread of its own, when this process is asked to
/// end; what the system would do otherwise, end it at once, does not happen. There may be several.
/// [`Server::stop_on_signals`](crate::Server::stop_on_signals) is all that a program needs which has
/// only a server to stop.
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
/// use sidewire::StopSignals;
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
    /// Only to be dropped.
    _watched: sidewire_platform::StopSignals,
}

impl StopSignals {
    /// Calls this from now on.
    ///
    /// # Errors
    /// If the system lacks a descriptor or a thread, or other code of this process has a handler for one of
    /// the signals (Unix), which is then left alone.
    pub fn watch(callback: impl Fn() + Send + Sync + 'static) -> Result<StopSignals> {
        let watched = sidewire_platform::StopSignals::watch(callback);
        Ok(StopSignals { _watched: watched.map_err(|error| Error::system("watch for signals", error))? })
    }
}
