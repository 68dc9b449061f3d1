//! How long whoever waits looks for what is to come, before he sleeps.

use std::time::{Duration, Instant};

/// A wait that begins with looking, again and again, in place of sleeping: whoever sleeps has to be woken, and that
/// takes longer than most answers do. It knows no clock, but is told the time.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    begun: Instant,
    until: Instant,
}

impl Look {
    /// Of one who looks for as long as `spin`, but not longer than he waits at all. `None`: he sleeps at once, and
    /// the clock is not asked.
    #[inline]
    pub fn begin(spin: Duration, timeout: Option<Duration>, now: impl FnOnce() -> Instant) -> Option<Look> {
        let spin = timeout.map_or(spin, |timeout| timeout.min(spin));
        if spin.is_zero() {
            return None;
        }
        let begun = now();
        Some(Look { begun, until: begun.checked_add(spin)? })
    }

    /// Whether he looks once more.
    #[inline]
    #[must_use]
    pub fn goes_on(self, now: Instant) -> bool {
        now < self.until
    }

    /// What is left of a wait that began with this: looking may have taken longer than it was to.
    #[inline]
    #[must_use]
    pub fn left(self, timeout: Option<Duration>, now: Instant) -> Option<Duration> {
        timeout.map(|timeout| timeout.saturating_sub(now.saturating_duration_since(self.begun)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn it_ends_with_the_time_for_looking_or_with_the_wait() {
        let start = Instant::now();
        for (spin, timeout, expected) in
            [(50, None, 50), (50, Some(1_000_000), 50), (50, Some(20), 20), (50, Some(50), 50)]
        {
            let look =
                Look::begin(US * spin, timeout.map(|timeout| US * timeout), || start).expect("it looks");
            assert!(look.goes_on(start) && look.goes_on(start + US * (expected - 1)), "{spin} {timeout:?}");
            assert!(!look.goes_on(start + US * expected), "{spin} {timeout:?}");
        }
    }

    /// The process may have been stopped meanwhile.
    #[test]
    fn what_looking_took_is_not_waited_for_again() {
        let start = Instant::now();
        let look = Look::begin(US * 50, Some(US * 1000), || start).expect("it looks");
        for (took, left) in [(50, 950), (900, 100), (5000, 0)] {
            assert_eq!(look.left(Some(US * 1000), start + US * took), Some(US * left));
        }
        assert_eq!(look.left(None, start + US * 50), None);
    }

    #[test]
    fn who_does_not_look_asks_no_clock() {
        let clock = || -> Instant { panic!("asked") };
        for (spin, timeout) in [(0, None), (0, Some(5)), (5, Some(0))] {
            assert!(Look::begin(US * spin, timeout.map(|timeout| US * timeout), clock).is_none());
        }
    }
}
