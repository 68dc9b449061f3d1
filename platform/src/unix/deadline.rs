//! How long a wait may still last, and how to wait for what nothing announces.

use std::thread;
use std::time::{Duration, Instant};

/// When a wait ends; perhaps never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// A timeout beyond what the clock can express is as good as none.
    pub(super) fn after(timeout: Option<Duration>) -> Deadline {
        Deadline(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// `None` without end, zero when it has passed.
    pub(super) fn remaining(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    pub(super) fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }
}

/// Growing pauses between attempts, up to a deadline.
#[derive(Debug)]
pub(super) struct Backoff {
    deadline: Deadline,
    pause: Duration,
}

impl Backoff {
    /// What is waited for is usually over in microseconds, so the first pause is short.
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    pub(super) fn until(deadline: Deadline) -> Backoff {
        Backoff { deadline, pause: Backoff::FIRST }
    }

    /// Sleeps before the next attempt. False, without sleeping, when there is no time for one.
    pub(super) fn pause(&mut self) -> bool {
        let pause = self.deadline.remaining().map_or(self.pause, |left| left.min(self.pause));
        if pause.is_zero() {
            return false;
        }
        thread::sleep(pause);
        self.pause = (self.pause * 2).min(Backoff::LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_ends_with_its_deadline() {
        let start = Instant::now();
        let mut backoff = Backoff::until(Deadline::after(Some(Duration::from_millis(30))));
        while backoff.pause() {}
        let taken = start.elapsed();
        assert!(taken >= Duration::from_millis(30) && taken < Duration::from_secs(2), "{taken:?}");
    }

    #[test]
    fn a_timeout_beyond_the_clock_never_passes() {
        let deadline = Deadline::after(Some(Duration::MAX));
        assert_eq!(deadline.remaining(), None);
        assert!(!deadline.has_passed());
        assert!(Deadline::after(Some(Duration::ZERO)).has_passed());
    }
}
