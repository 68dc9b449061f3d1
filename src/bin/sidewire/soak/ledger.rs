//! What the probes have seen.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::probes::Fault;

/// How many of the things that went wrong are kept as texts.
const SHOWN: usize = 10;

/// What takes longer counts as this.
const LONGEST: Duration = Duration::from_secs(3600);

pub(super) struct Ledger {
    /// In microseconds. One count for each answer that came.
    times: Histogram<u64>,
    pub(super) wrong: u64,
    pub(super) failed: u64,
    /// The first of both.
    pub(super) texts: Vec<String>,
    /// Calls in datagrams that were not answered, of a kind that the system may lose: they are asked once more.
    pub(super) lost: u64,
}

impl Default for Ledger {
    fn default() -> Ledger {
        let times = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3);
        let times = times.unwrap_or_else(|error| unreachable!("a range and its digits: {error}"));
        Ledger { times, wrong: 0, failed: 0, lost: 0, texts: Vec::new() }
    }
}

impl Ledger {
    /// An answer has come.
    pub(super) fn took(&mut self, time: Duration) {
        self.times.saturating_record(time.as_micros() as u64);
    }

    /// One has not, or was another.
    pub(super) fn note(&mut self, fault: Fault) {
        let text = match fault {
            Fault::Wrong(text) => {
                self.wrong += 1;
                text
            }
            Fault::Failed(error) => {
                self.failed += 1;
                error.to_string()
            }
        };
        if self.texts.len() < SHOWN {
            self.texts.push(text);
        }
    }

    pub(super) fn answered(&self) -> u64 {
        self.times.len()
    }

    /// What this share of all times is no longer than.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.times.value_at_quantile(share))
    }

    pub(super) fn longest(&self) -> Duration {
        Duration::from_micros(self.times.max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_counted() {
        let mut ledger = Ledger::default();
        (1..=100).for_each(|ms| ledger.took(Duration::from_millis(ms)));
        assert_eq!(ledger.answered(), 100);
        let near = |time: Duration, ms: u64| time.as_millis().abs_diff(ms.into()) <= 1;
        assert!(
            near(ledger.quantile(0.5), 50) && near(ledger.quantile(0.99), 99),
            "{:?}",
            ledger.quantile(0.5)
        );
        assert!(near(ledger.longest(), 100), "{:?}", ledger.longest());
        ledger.took(2 * LONGEST);
        assert!(ledger.longest() >= LONGEST, "{:?}", ledger.longest());
        (0..20).for_each(|number| ledger.note(Fault::Wrong(number.to_string())));
        assert_eq!((ledger.wrong, ledger.failed, ledger.texts.len()), (20, 0, SHOWN));
    }
}
