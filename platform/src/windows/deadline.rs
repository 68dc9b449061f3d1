//! When a wait ends.

use std::time::{Duration, Instant};

use windows_sys::Win32::System::Threading::INFINITE;

/// A point in time, or none: wait without end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// `None`, and what is too far away to be written down, is without end.
    pub(super) fn after(timeout: Option<Duration>) -> Deadline {
        Deadline(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// What is left; `None` without end.
    pub(super) fn remaining(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    pub(super) fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// What is left in the milliseconds of Win32, rounded up. It may be less than what is left, if
    /// that is more than 49 days; it is 0 only when nothing is left.
    pub(super) fn millis(self) -> u32 {
        match self.remaining() {
            None => INFINITE,
            Some(left) => {
                u32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX).min(INFINITE - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_and_ends() {
        assert_eq!(Deadline::after(None).millis(), INFINITE);
        assert!(!Deadline::after(None).has_passed());
        assert_eq!(Deadline::after(Some(Duration::MAX)).millis(), INFINITE);
        assert_eq!(Deadline::after(Some(Duration::ZERO)).millis(), 0);
        assert!(Deadline::after(Some(Duration::ZERO)).has_passed());
        assert_eq!(Deadline::after(Some(Duration::from_secs(60 * 86_400))).millis(), INFINITE - 1);
        let soon = Deadline::after(Some(Duration::from_millis(5_000))).millis();
        assert!((4_000..=5_000).contains(&soon), "{soon}");
    }
}
