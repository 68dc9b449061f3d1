//! Which of many like lines are worth telling.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts what others can cause as often as they like, so that they do not get to flood the log,
/// nor to stop a server whose standard error nobody reads. One for each kind of line and place, so
/// that a flood of one kind does not hide another.
#[derive(Debug, Default)]
pub struct Tally(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: u64,
    last_told: Option<Instant>,
}

/// How many of one kind get a line each.
const TOLD_EACH: u64 = 8;
/// After so long a silence the next one is told in any case.
const SILENCE: Duration = Duration::from_secs(60);

impl Tally {
    /// Nothing so far.
    #[must_use]
    pub const fn new() -> Tally {
        Tally(Mutex::new(State { count: 0, last_told: None }))
    }

    /// Counts one. The count so far, if it is worth a line: the first eight, the powers of two, and
    /// whatever comes when a minute has passed since the last line.
    pub fn next_worth_telling(&self) -> Option<u64> {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        let was_silent = state.last_told.is_none_or(|last| now.saturating_duration_since(last) >= SILENCE);
        if state.count > TOLD_EACH && !state.count.is_power_of_two() && !was_silent {
            return None;
        }
        state.last_told = Some(now);
        Some(state.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_few_lines_and_a_trickle_one_a_minute() {
        let (tally, start) = (Tally::new(), Instant::now());
        let told: Vec<u64> = (0..1000).filter_map(|_| tally.count_at(start)).collect();
        assert_eq!(told, [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512]);
        let almost = start + SILENCE - Duration::from_millis(1);
        assert_eq!(tally.count_at(almost), None);
        assert_eq!(tally.count_at(start + SILENCE), Some(1002));
        assert_eq!(tally.count_at(start + SILENCE), None);
        assert_eq!(tally.count_at(start + SILENCE * 3), Some(1004));
    }
}
