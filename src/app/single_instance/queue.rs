//! Activations that wait to be taken, each with whoever is to hear of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Activation;
use crate::server::Responder;
use sidewire_wire::{Failure, ResultCode};

/// How many may wait: more than anybody starts.
const MAX_WAITING: usize = 256;
/// Bytes of memory that they may have together; one may always wait.
const MAX_MEMORY: usize = 32 << 20;

/// What the app and the instance's server share.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    wake: Option<Arc<Wake>>,
    course: Course,
}

struct Waiting {
    activation: Activation,
    responder: Responder,
    /// Its memory.
    bytes: usize,
}

type Wake = dyn Fn() + Send + Sync;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Course {
    #[default]
    Open,
    Over,
}

impl Queue {
    /// Whether there is room for this one; else what to answer.
    pub(super) fn admit(&self, activation: &Activation) -> Result<(), Failure> {
        let bytes = activation.memory();
        let mut state = self.lock();
        if state.course == Course::Over {
            return Err(over());
        }
        if !state.has_room(bytes) {
            state.waiting.retain(is_wanted);
        }
        match state.has_room(bytes) {
            true => Ok(()),
            false => Err(Failure::new(ResultCode::BUSY, "as many activations as may are waiting already")),
        }
    }

    /// Has it wait, and tells the app.
    pub(super) fn push(&self, activation: Activation, responder: Responder) {
        let mut state = self.lock();
        if state.course == Course::Over {
            return responder.fail(over());
        }
        let bytes = activation.memory();
        state.waiting.push_back(Waiting { activation, responder, bytes });
        let wake = state.wake.clone();
        drop(state);
        self.arrived.notify_one();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// The next one, whose sender is told. Waits for it until then (`None`: without end).
    pub(super) fn take(&self, deadline: Option<Instant>) -> Option<Activation> {
        let mut state = self.lock();
        loop {
            while let Some(next) = state.waiting.pop_front() {
                if is_wanted(&next) {
                    next.responder.reply("");
                    return Some(next.activation);
                }
            }
            if state.course == Course::Over {
                return None;
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return None,
                Some(left) => {
                    self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub(super) fn set_wake(&self, wake: Arc<Wake>) {
        let mut state = self.lock();
        state.wake = Some(Arc::clone(&wake));
        let is_due = !state.waiting.is_empty();
        drop(state);
        if is_due {
            wake();
        }
    }

    /// Nothing is taken from here any more: who waits is sent away, to try again.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.course = Course::Over;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.arrived.notify_all();
        for one in waiting {
            one.responder.fail(over());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, bytes: usize) -> bool {
        let taken: usize = self.waiting.iter().map(|one| one.bytes).sum();
        self.waiting.is_empty()
            || self.waiting.len() < MAX_WAITING && taken.saturating_add(bytes) <= MAX_MEMORY
    }
}

/// Whether its sender still waits.
fn is_wanted(one: &Waiting) -> bool {
    !one.responder.cancellation().is_cancelled()
}

fn over() -> Failure {
    Failure::new(ResultCode::SHUTTING_DOWN, "the instance ends")
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.len();
        f.debug_struct("State")
            .field("waiting", &waiting)
            .field("course", &self.course)
            .finish_non_exhaustive()
    }
}

/// The server's hold on the queue: when its loop has ended, whatever the reason, nobody waits for more.
#[derive(Debug)]
pub(super) struct Door(pub(super) Arc<Queue>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.close();
    }
}
