//! How the process ends that a connection leads to, if somebody of ours looks after it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::leader::{SharedConnection, remaining};
use super::medium::Medium;
use crate::error::Error;

/// What becomes known of a connection's end a little later than that it has ended: how the process behind it has.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    known: Mutex<Known>,
    has_changed: Condvar,
}

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    /// The connection has ended, or is not needed any more.
    Asked,
    /// The process is not wanted: it is to end at once.
    Unwanted,
    Told(Error),
}

/// Whoever looks after the process finds out much faster, or ends it; this is for a system that hangs.
const UNKNOWN: Duration = Duration::from_secs(10);

impl Fate {
    /// The first that is told is the one that counts.
    pub(crate) fn tell(&self, why: &Error) {
        let mut known = self.lock();
        if !matches!(*known, Known::Told(_)) {
            *known = Known::Told(why.clone());
        }
        drop(known);
        self.has_changed.notify_all();
    }

    /// Somebody has seen that the connection has ended.
    fn ask(&self) {
        let mut known = self.lock();
        if matches!(*known, Known::Nothing) {
            *known = Known::Asked;
        }
        drop(known);
        self.has_changed.notify_all();
    }

    /// Nothing will come of the connection.
    pub(super) fn give_up(&self) {
        let mut known = self.lock();
        if !matches!(*known, Known::Told(_)) {
            *known = Known::Unwanted;
        }
        drop(known);
        self.has_changed.notify_all();
    }

    /// Waits until somebody asks or is told, but not longer than this. Whether that was so.
    pub(crate) fn is_asked_within(&self, limit: Duration) -> bool {
        let is_quiet = |known: &mut Known| matches!(known, Known::Nothing);
        let waited = self.has_changed.wait_timeout_while(self.lock(), limit, is_quiet);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits until it is told or the process is not wanted any more, but not longer than this.
    pub(crate) fn await_verdict(&self, limit: Duration) {
        let is_open = |known: &mut Known| !matches!(known, Known::Told(_) | Known::Unwanted);
        drop(self.has_changed.wait_timeout_while(self.lock(), limit, is_open));
    }

    /// What is made of an error that came with the connection's end. Under no lock: this may wait, but not beyond `deadline`.
    fn explain(&self, error: Error, deadline: Option<Instant>) -> Error {
        // Whoever has closed the connection himself need not wait.
        let limit = if error.is_closed() { Duration::ZERO } else { UNKNOWN };
        self.explain_within(error, remaining(deadline).map_or(limit, |left| left.min(limit)))
    }

    /// The same of a task, which can't wait.
    fn explain_now(&self, error: Error) -> Error {
        self.explain_within(error, Duration::ZERO)
    }

    fn explain_within(&self, error: Error, limit: Duration) -> Error {
        self.ask();
        match self.told_within(limit) {
            // It has ended since its connection was, and not the other way round.
            Some(known) if known.is_peer_gone() && (error.is_protocol() || error.is_timeout()) => {
                error.with_end(None, known.last_words().to_vec())
            }
            Some(known) => error.because_of(&known),
            None => error,
        }
    }

    /// What is made of the error of a connection that did not come about: its process is ended, and has had the last word.
    /// Under no lock: this waits.
    pub(super) fn explain_failure(&self, error: Error) -> Error {
        if error.is_peer_gone() {
            return self.explain(error, None);
        }
        self.give_up();
        match self.told_within(UNKNOWN) {
            Some(known) if !known.last_words().is_empty() => {
                error.with_end(None, known.last_words().to_vec())
            }
            Some(_) | None => error,
        }
    }

    /// Waits until the process has ended, whose connection is closed.
    pub(super) fn await_end(&self) {
        self.ask();
        drop(self.told_within(UNKNOWN));
    }

    fn told_within(&self, limit: Duration) -> Option<Error> {
        let is_open = |known: &mut Known| !matches!(known, Known::Told(_));
        let waited = self.has_changed.wait_timeout_while(self.lock(), limit, is_open);
        match &*waited.unwrap_or_else(PoisonError::into_inner).0 {
            Known::Told(known) => Some(known.clone()),
            Known::Nothing | Known::Asked | Known::Unwanted => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Medium> SharedConnection<M> {
    /// Has whoever looks after the process see that the connection has ended.
    pub(super) fn ask_why(&self) {
        if let Some(fate) = &self.fate {
            fate.ask();
        }
    }

    /// What is made of an error that came with the connection's end, to one who waits until `deadline`.
    pub(super) fn explain_end(&self, error: Error, deadline: Option<Instant>) -> Error {
        match &self.fate {
            Some(fate) if M::BLOCKS => fate.explain(error, deadline),
            Some(fate) => fate.explain_now(error),
            None => error,
        }
    }

    /// What will be known of the process's end, for one that may wait for that: not for a copy in a forked child.
    pub(super) fn own_fate(&self) -> Option<Arc<Fate>> {
        self.fate.clone().filter(|_| self.maker.is_here())
    }
}
