//! How long the system is to wait.

use windows_sys::Win32::System::Threading::INFINITE;

use crate::deadline::Deadline;

/// What is left in the milliseconds of Win32, rounded up. It may be less than what is left, if
/// that is more than 49 days; it is 0 only when nothing is left.
pub(super) fn millis(deadline: Deadline) -> u32 {
    deadline.remaining().map_or(INFINITE, |left| {
        u32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX).min(INFINITE - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_left_is_rounded_up_and_cut() {
        let left = |timeout| millis(Deadline::after(timeout));
        assert_eq!(left(None), INFINITE);
        assert_eq!(left(Some(Duration::MAX)), INFINITE);
        assert_eq!(left(Some(Duration::ZERO)), 0);
        assert_eq!(left(Some(Duration::from_secs(60 * 86_400))), INFINITE - 1);
        let soon = left(Some(Duration::from_millis(5_000)));
        assert!((4_000..=5_000).contains(&soon), "{soon}");
    }
}
