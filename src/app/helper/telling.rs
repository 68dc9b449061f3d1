//! Which of a helper's lines get into its parent's log: as many as people can read.

use std::time::{Duration, Instant};

/// Lines that may come in one go.
const AT_ONCE: u32 = 200;
/// After so long another one may.
const PERIOD: Duration = Duration::from_millis(50);

/// Judges the lines of one stream. No log, no clock.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Lines that were told, less those that are long ago.
    told: u32,
    /// Up to when they were counted as long ago.
    counted: Option<Instant>,
    /// Lines that nobody was told of since one was.
    left_out: u64,
}

impl Telling {
    /// A line has come. Whether it is told; and if so, how many before it were not.
    pub(super) fn next(&mut self, now: Instant) -> Option<u64> {
        let counted = *self.counted.get_or_insert(now);
        let gone = now.saturating_duration_since(counted).as_nanos() / PERIOD.as_nanos();
        let gone = u32::try_from(gone).unwrap_or(u32::MAX);
        if gone > 0 {
            self.told = self.told.saturating_sub(gone);
            self.counted = Some(counted.checked_add(PERIOD * gone).unwrap_or(now));
        }
        if self.told >= AT_ONCE {
            self.left_out += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.left_out))
    }

    /// How many were not told at the end.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_told_and_a_flood_is_counted() {
        let (mut telling, begun) = (Telling::default(), Instant::now());
        let told = (0..1_000_000).filter(|_| telling.next(begun).is_some()).count();
        assert_eq!((told, telling.left_out()), (200, 999_800));
        let later = begun + PERIOD;
        assert_eq!(telling.next(later), Some(999_800));
        assert_eq!((telling.next(later), telling.left_out()), (None, 1));
        // Twenty a second, for as long as it lasts.
        let told =
            (0..100_000).filter(|ms| telling.next(later + Duration::from_millis(*ms)).is_some()).count();
        assert!((1995..=2005).contains(&told), "{told}");
        // A day later all is forgotten.
        let day = begun + Duration::from_secs(86_400);
        assert!((0..200).all(|_| telling.next(day).is_some()));
        assert_eq!(telling.next(day), None);
    }
}
