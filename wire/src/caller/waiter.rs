//! One who waits, and how long.

use std::time::Instant;

use super::step::Step;
use crate::limits::LATE;

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter<W> {
    pub(super) waker: W,
    until: Option<Instant>,
    last_look: LastLook,
}

/// Of one whose time is up. Nobody gives up before what has come was read: we may have been stopped, and
/// woken up long behind the deadline. If somebody else reads, he is left some time to do so, since he
/// was stopped along with us.
#[derive(Clone, Copy, Debug)]
enum LastLook {
    Due,
    Readers { until: Instant },
    Taken,
}

/// What a deadline says.
#[derive(Debug)]
pub(super) enum Patience {
    Waits,
    /// It has passed, but first there is this to do.
    Last(Step),
    Ends,
}

impl<W> Waiter<W> {
    pub(super) fn new(waker: W, until: Option<Instant>) -> Waiter<W> {
        Waiter { waker, until, last_look: LastLook::Due }
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it is for others to go on: its time is up, and it has looked once more.
    pub(super) fn poll_patience(&mut self, now: Instant, is_read: bool) -> Patience {
        let Some(until) = self.until.filter(|until| *until <= now) else { return Patience::Waits };
        let late = now.saturating_duration_since(until);
        match self.last_look {
            LastLook::Due | LastLook::Readers { .. } if !is_read => {
                self.last_look = LastLook::Taken;
                Patience::Last(Step::Look)
            }
            LastLook::Due if late > LATE => {
                let until = now + LATE;
                self.last_look = LastLook::Readers { until };
                Patience::Last(Step::Wait { until: Some(until) })
            }
            LastLook::Readers { until } if now < until => Patience::Last(Step::Wait { until: Some(until) }),
            LastLook::Due | LastLook::Readers { .. } | LastLook::Taken => Patience::Ends,
        }
    }
}
