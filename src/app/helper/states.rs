//! What becomes of a helper, as it is told.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// How a [`Helper`](super::Helper) is doing, in words that a user interface can show.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HelperState {
    /// Its process is being started, and has not said that it is ready.
    Starting,
    /// It takes calls.
    Ready,
    /// It has ended, for this reason, and will be started anew.
    #[non_exhaustive]
    Restarting {
        /// After so long, reckoned from when it was told.
        after: Duration,
        /// Why it has ended.
        why: Error,
    },
    /// It has ended, for this reason, and is not [to be restarted](super::HelperBuilder::restart). The last state.
    Ended(Error),
    /// It has ended too often, the last time for this reason. The last state.
    GaveUp(Error),
    /// It has ended as it was told to. The last state.
    Stopped,
}

impl HelperState {
    /// Whether no other follows.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            HelperState::Starting | HelperState::Ready | HelperState::Restarting { .. } => false,
            HelperState::Ended(_) | HelperState::GaveUp(_) | HelperState::Stopped => true,
        }
    }

    /// Why it is not running, if it should be.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match self {
            HelperState::Restarting { why, .. } | HelperState::Ended(why) | HelperState::GaveUp(why) => {
                Some(why)
            }
            HelperState::Starting | HelperState::Ready | HelperState::Stopped => None,
        }
    }
}

/// One line: `starting`, `ready`, `restarting in 0.2 s: …`, `ended: …`, `gave up: …`, `stopped`.
impl fmt::Display for HelperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HelperState::Starting => f.write_str("starting"),
            HelperState::Ready => f.write_str("ready"),
            HelperState::Restarting { after, why } => {
                write!(f, "restarting in {:.1} s: {}", after.as_secs_f64(), why.reason())
            }
            HelperState::Ended(why) => write!(f, "ended: {}", why.reason()),
            HelperState::GaveUp(why) => write!(f, "gave up: {}", why.reason()),
            HelperState::Stopped => f.write_str("stopped"),
        }
    }
}

/// States that are kept for those who have not looked yet. More come only over hours.
const KEPT: usize = 64;

/// Where states are written, and read by any number of people.
#[derive(Debug)]
pub(super) struct Board {
    written: Mutex<Written>,
    has_news: Condvar,
}

struct Written {
    /// The last ones; never empty.
    states: VecDeque<HelperState>,
    /// How many were written before these.
    before: u64,
    wake: Option<Arc<Wake>>,
}

type Wake = dyn Fn() + Send + Sync;

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written")
            .field("states", &self.states)
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

impl Board {
    pub(super) fn new(state: HelperState) -> Board {
        let written = Written { states: VecDeque::from([state]), before: 0, wake: None };
        Board { written: Mutex::new(written), has_news: Condvar::new() }
    }

    pub(super) fn write(&self, state: HelperState) {
        let mut written = self.lock();
        if written.states.len() >= KEPT {
            written.states.pop_front();
            written.before += 1;
        }
        written.states.push_back(state);
        let wake = written.wake.clone();
        drop(written);
        self.has_news.notify_all();
        if let Some(wake) = wake {
            wake();
        }
    }

    pub(super) fn set_wake(&self, wake: Arc<Wake>) {
        self.lock().wake = Some(Arc::clone(&wake));
        wake(); // there is always one to look at
    }

    pub(super) fn state(&self) -> HelperState {
        self.lock().states.back().cloned().unwrap_or(HelperState::Stopped)
    }

    /// Waits for the last state of all, but not longer than this. Whether it is written.
    pub(super) fn wait_for_the_last(&self, limit: Duration) -> bool {
        let is_open = |written: &mut Written| !written.states.back().is_some_and(HelperState::is_final);
        let waited = self.has_news.wait_timeout_while(self.lock(), limit, is_open);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The state with this number, or the oldest behind it that is kept; with its number.
    fn read(&self, number: u64, until: Option<Instant>) -> Option<(u64, HelperState)> {
        let mut written = self.lock();
        loop {
            let number = number.max(written.before);
            let place = usize::try_from(number - written.before).unwrap_or(usize::MAX);
            if let Some(state) = written.states.get(place) {
                return Some((number, state.clone()));
            }
            if written.states.back().is_some_and(HelperState::is_final) {
                return None;
            }
            written = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.has_news.wait(written).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return None,
                Some(left) => {
                    self.has_news.wait_timeout(written, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The states of a helper, beginning with the one that it was in when this was made; from
/// [`Helper::states`](super::Helper::states).
///
/// As an iterator it waits for each, and ends behind the last one of all; a loop that must not wait is told by
/// [`Helper::on_state`](super::Helper::on_state). It is of its own: a thread of the user interface can keep it, and there
/// may be several. Who looks very seldom gets the last 64.
///
/// ```no_run
/// use std::process::Command;
/// use sidewire::Helper;
///
/// let helper = Helper::spawn(Command::new("resize-helper"))?;
/// let states = helper.states();
/// std::thread::spawn(move || {
///     for state in states {
///         println!("{state}");
///     }
/// });
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HelperStates {
    board: Arc<Board>,
    /// The number of the next one.
    next: u64,
}

impl HelperStates {
    pub(super) fn of(board: &Arc<Board>) -> HelperStates {
        let written = board.lock();
        let next = written.before + written.states.len().saturating_sub(1) as u64;
        drop(written);
        HelperStates { board: Arc::clone(board), next }
    }

    /// The next state, if there is one within `timeout`. With no time at all it is one that has come already.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<HelperState> {
        // A time that is too long for the clock is as good as none.
        self.next_by(Instant::now().checked_add(timeout))
    }

    fn next_by(&mut self, until: Option<Instant>) -> Option<HelperState> {
        let (number, state) = self.board.read(self.next, until)?;
        self.next = number + 1;
        Some(state)
    }
}

impl Iterator for HelperStates {
    type Item = HelperState;

    fn next(&mut self) -> Option<HelperState> {
        self.next_by(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why() -> Error {
        Error::invalid("run", "it fell over")
    }

    #[test]
    fn each_state_is_one_line() {
        let restarting = HelperState::Restarting { after: Duration::from_millis(250), why: why() };
        let all = [HelperState::Starting, HelperState::Ready, restarting];
        assert_eq!(
            all.map(|state| state.to_string()),
            ["starting", "ready", "restarting in 0.2 s: it fell over"]
        );
        let all = [HelperState::Ended(why()), HelperState::GaveUp(why()), HelperState::Stopped];
        assert_eq!(
            all.map(|state| state.to_string()),
            ["ended: it fell over", "gave up: it fell over", "stopped"]
        );
    }

    #[test]
    fn states_come_in_order_from_the_present_one_to_the_last() {
        let board = Arc::new(Board::new(HelperState::Starting));
        let mut early = HelperStates::of(&board);
        board.write(HelperState::Ready);
        let mut late = HelperStates::of(&board);
        assert!(matches!(early.next(), Some(HelperState::Starting)));
        assert!(matches!(early.next(), Some(HelperState::Ready)));
        assert!(matches!(late.next(), Some(HelperState::Ready)));
        assert!(late.next_timeout(Duration::ZERO).is_none());
        assert!(!board.wait_for_the_last(Duration::ZERO));
        board.write(HelperState::Stopped);
        assert!(board.wait_for_the_last(Duration::ZERO));
        assert!(late.next().is_some_and(|state| state.is_final()));
        assert!(late.next().is_none() && HelperStates::of(&board).count() == 1);
        assert_eq!(early.count(), 1);
    }

    #[test]
    fn who_wants_to_be_woken_finds_something_each_time() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let board = Arc::new(Board::new(HelperState::Starting));
        let found = Arc::new(AtomicUsize::new(0));
        let states = Mutex::new(HelperStates::of(&board));
        let counter = Arc::clone(&found);
        board.set_wake(Arc::new(move || {
            let next = states.lock().unwrap().next_timeout(Duration::ZERO);
            counter.fetch_add(usize::from(next.is_some()), Ordering::Relaxed);
        }));
        assert_eq!(found.load(Ordering::Relaxed), 1);
        board.write(HelperState::Ready);
        board.write(HelperState::Stopped);
        assert_eq!(found.load(Ordering::Relaxed), 3);
        board.set_wake(Arc::new(|| {})); // one takes the place of another
        board.write(HelperState::Stopped);
        assert_eq!(found.load(Ordering::Relaxed), 3);
    }

    /// Who never looks costs nothing.
    #[test]
    fn only_the_last_ones_are_kept() {
        let board = Arc::new(Board::new(HelperState::Starting));
        let states = HelperStates::of(&board);
        for _ in 0..1000 {
            board.write(HelperState::Ready);
        }
        board.write(HelperState::Stopped);
        let all: Vec<HelperState> = states.collect();
        assert_eq!(all.len(), KEPT);
        assert!(matches!(all.last(), Some(HelperState::Stopped)));
    }
}
