//! How long a wait may still last, and how to wait for what nothing announces.

use std::thread;
use std::time::{Duration, Instant};

/// When a wait ends; perhaps never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// A timeout beyond what the clock can express is as good as none.
    pub(crate) fn after(timeout: Option<Duration>) -> Deadline {
        Deadline(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// `None` without end, zero when it has passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// For who looks once more behind the end: we may have slept through what was waited for.
    pub(crate) fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }
}

/// Growing pauses between attempts, up to a deadline.
#[derive(Debug)]
pub(crate) struct Backoff {
    deadline: Deadline,
    /// `None` behind the last attempt.
    pause: Option<Duration>,
}

impl Backoff {
    /// What is waited for is usually over in microseconds, so the first pause is short.
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    pub(crate) fn until(deadline: Deadline) -> Backoff {
        Backoff { deadline, pause: Some(Backoff::FIRST) }
    }

    /// Sleeps before the next attempt. The last one is behind the deadline: should we have slept
    /// through it, what is waited for may have come in time. False, without sleeping, after that.
    pub(crate) fn pause(&mut self) -> bool {
        let Some(pause) = self.pause else { return false };
        let left = self.deadline.remaining().unwrap_or(pause);
        thread::sleep(left.min(pause));
        self.pause = (!left.is_zero()).then(|| (pause * 2).min(Backoff::LONGEST));
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
    fn there_is_one_attempt_behind_the_deadline() {
        let mut backoff = Backoff::until(Deadline::after(Some(Duration::ZERO)));
        assert!(backoff.pause());
        assert!(!backoff.pause() && !backoff.pause());
        let mut backoff = Backoff::until(Deadline::after(Some(Duration::from_millis(5))));
        thread::sleep(Duration::from_millis(10));
        assert!(backoff.pause());
        assert!(!backoff.pause());
    }

    #[test]
    fn a_timeout_beyond_the_clock_never_passes() {
        for endless in [None, Some(Duration::MAX)].map(Deadline::after) {
            assert_eq!(endless.remaining(), None);
            assert!(!endless.has_passed());
        }
        let now = Deadline::after(Some(Duration::ZERO));
        assert_eq!(now.remaining(), Some(Duration::ZERO));
        assert!(now.has_passed());
    }
}
