//! When all threads are to end.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::locked;

/// Over when it is said so; whoever waits hears of it at once.
#[derive(Default)]
pub(super) struct Pause {
    is_over: Mutex<bool>,
    changed: Condvar,
}

impl Pause {
    pub(super) fn end(&self) {
        *locked(&self.is_over) = true;
        self.changed.notify_all();
    }

    /// Waits for so long at most. Whether it is over.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut is_over = locked(&self.is_over);
        while !*is_over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            is_over = match self.changed.wait_timeout(is_over, left) {
                Ok((is_over, _)) => is_over,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        *is_over
    }
}
