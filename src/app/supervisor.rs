//! When a helper that has ended is started anew, and when no more. No process, no threads, no clock.
//!
//! Whoever looks after the helper does what [`Supervisor::poll`] says, and tells what becomes of it: it is
//! [ready](Supervisor::ready), it has [ended](Supervisor::ended), somebody wants it to [stop](Supervisor::stop).

use std::time::{Duration, Instant};

use sidewire_wire::reconnecting::pause;

/// Whether, how often and how fast a helper is started anew when it has ended; for
/// [`HelperBuilder::restart`](crate::HelperBuilder::restart).
///
/// **Budget.** The default allows 5 restarts in 3 minutes: each costs a fifth of the budget, and while the helper is
/// ready the budget refills, as a whole within those 3 minutes. When nothing is left for another restart the helper is
/// given up, and its [states](crate::Helper::states) say why. So one that crashes once an hour goes on for ever, one
/// that can't even start has five more attempts.
///
/// **Pauses.** Before the first restart there is a short pause, before each that follows one twice as long, up to the
/// longest; each shortened at random by up to a half. How much of the budget is spent decides which it is.
///
/// It does not matter how the helper has ended, in order or not. There is never a restart behind a
/// [stop](crate::Helper::stop).
///
/// ```
/// use std::time::Duration;
/// use sidewire::Restart;
///
/// let patient = Restart::new().budget(20, Duration::from_secs(600)).pauses(Duration::from_secs(1), Duration::from_secs(60));
/// # let _ = patient;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is for HelperBuilder::restart"]
pub struct Restart {
    /// Most restarts, one after the other.
    times: u32,
    /// How long a helper has to be healthy until so many are allowed again.
    within: Duration,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Default for Restart {
    fn default() -> Restart {
        Restart {
            times: 5,
            within: Duration::from_secs(180),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl Restart {
    /// With the defaults: 5 restarts in 3 minutes, with pauses from 200 ms to 30 s.
    pub fn new() -> Restart {
        Restart::default()
    }

    /// How many restarts are allowed within which time. None at all: the helper is given up when it first ends.
    pub fn budget(mut self, times: u32, within: Duration) -> Restart {
        (self.times, self.within) = (times, within);
        self
    }

    /// How long the pause is before the first restart, and how long the longest is.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Restart {
        (self.first_pause, self.longest_pause) = (first, longest.max(first));
        self
    }

    /// What one restart takes of the budget, if any is allowed.
    fn price(&self) -> Option<Duration> {
        self.within.checked_div(self.times)
    }
}

/// What whoever looks after the helper does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Turn {
    /// Starts it. This is said once.
    Start,
    /// Waits until it has ended.
    Watch,
    /// Waits until then, or until somebody wants it to stop.
    Pause { until: Instant },
    /// Goes: the helper is not started any more.
    Done(Outcome),
}

/// What follows an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Next {
    Start { at: Instant },
    Nothing(Outcome),
}

/// How it has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Somebody wanted it to.
    Stopped,
    /// It has ended, and is not to be restarted.
    Ended,
    /// It has ended too often: behind so many restarts.
    GaveUp { restarts: u32 },
}

/// One helper's runs, one after the other.
#[derive(Debug)]
pub(super) struct Supervisor {
    restart: Option<Restart>,
    /// How much of the budget is left.
    left: Duration,
    /// Restarts since the budget was last full.
    restarts: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Due(Instant),
    Starting,
    Ready { since: Instant },
    Stopping,
    Over(Outcome),
}

impl Supervisor {
    /// Of a helper that is to be started now.
    pub(super) fn new(restart: Option<Restart>, now: Instant) -> Supervisor {
        let left = restart.map_or(Duration::ZERO, |restart| restart.within);
        Supervisor { restart, left, restarts: 0, phase: Phase::Due(now) }
    }

    /// What to do now.
    pub(super) fn poll(&mut self, now: Instant) -> Turn {
        match self.phase {
            Phase::Due(at) if at > now => Turn::Pause { until: at },
            Phase::Due(_) => {
                self.phase = Phase::Starting;
                Turn::Start
            }
            Phase::Starting | Phase::Ready { .. } | Phase::Stopping => Turn::Watch,
            Phase::Over(outcome) => Turn::Done(outcome),
        }
    }

    /// It is ready. Says whether anybody wants that still.
    pub(super) fn ready(&mut self, now: Instant) -> bool {
        let is_wanted = matches!(self.phase, Phase::Starting);
        if is_wanted {
            self.phase = Phase::Ready { since: now };
        }
        is_wanted
    }

    /// It has ended, or could not be started. `random` says how long the pause is before the next start.
    pub(super) fn ended(&mut self, now: Instant, random: u32) -> Next {
        let next = match self.phase {
            Phase::Stopping => Next::Nothing(Outcome::Stopped),
            Phase::Over(outcome) => Next::Nothing(outcome),
            Phase::Ready { since } => {
                self.refill(now.saturating_duration_since(since));
                self.next(now, random)
            }
            Phase::Due(_) | Phase::Starting => self.next(now, random),
        };
        self.phase = match next {
            Next::Start { at } => Phase::Due(at),
            Next::Nothing(outcome) => Phase::Over(outcome),
        };
        next
    }

    /// Somebody wants it to end. No start follows.
    pub(super) fn stop(&mut self) {
        self.phase = match self.phase {
            Phase::Due(_) => Phase::Over(Outcome::Stopped),
            Phase::Starting | Phase::Ready { .. } | Phase::Stopping => Phase::Stopping,
            Phase::Over(outcome) => Phase::Over(outcome),
        };
    }

    /// Whether somebody wants it to end, or wanted it to.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping | Phase::Over(Outcome::Stopped))
    }

    fn refill(&mut self, healthy: Duration) {
        let Some(Restart { within, .. }) = self.restart else { return };
        self.left = self.left.saturating_add(healthy).min(within);
        if self.left == within {
            self.restarts = 0;
        }
    }

    /// What follows an end that nobody had wanted.
    fn next(&mut self, now: Instant, random: u32) -> Next {
        let Some(restart) = self.restart else { return Next::Nothing(Outcome::Ended) };
        let paid = restart.price().and_then(|price| Some((price, self.left.checked_sub(price)?)));
        let Some((price, left)) = paid else {
            return Next::Nothing(Outcome::GaveUp { restarts: self.restarts });
        };
        self.left = left;
        self.restarts += 1;
        let spent = (restart.within - left).as_nanos().div_ceil(price.as_nanos().max(1));
        let spent = u32::try_from(spent).unwrap_or(u32::MAX);
        let pause = pause(restart.first_pause, restart.longest_pause, spent, random);
        Next::Start { at: now.checked_add(pause).unwrap_or(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: u32 = u32::MAX;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Starts it as soon as it is due. When that was.
    fn start(supervisor: &mut Supervisor, mut now: Instant) -> Option<Instant> {
        loop {
            match supervisor.poll(now) {
                Turn::Start => return Some(now),
                Turn::Pause { until } => now = until,
                Turn::Done(_) => return None,
                Turn::Watch => panic!("it runs already"),
            }
        }
    }

    fn outcome(supervisor: &mut Supervisor) -> Option<Outcome> {
        match supervisor.poll(Instant::now()) {
            Turn::Done(outcome) => Some(outcome),
            Turn::Start | Turn::Watch | Turn::Pause { .. } => None,
        }
    }

    /// Ends each time after it was ready for so long; the pauses, and how it came out.
    fn crashes(restart: Restart, healthy: Duration, at_most: usize) -> (Vec<Duration>, Option<Outcome>) {
        let begun = Instant::now();
        let mut supervisor = Supervisor::new(Some(restart), begun);
        let (mut now, mut pauses) = (start(&mut supervisor, begun).expect("a first start"), Vec::new());
        while pauses.len() < at_most {
            assert_eq!(supervisor.poll(now), Turn::Watch);
            if !healthy.is_zero() {
                assert!(supervisor.ready(now));
                now += healthy;
            }
            let _ = supervisor.ended(now, LONGEST);
            let Some(next) = start(&mut supervisor, now) else { break };
            pauses.push(next - now);
            now = next;
        }
        let outcome = outcome(&mut supervisor);
        (pauses, outcome)
    }

    #[test]
    fn one_that_can_not_start_is_given_up_behind_five_restarts() {
        let (pauses, outcome) = crashes(Restart::new(), Duration::ZERO, 100);
        assert_eq!(pauses, [200, 400, 800, 1600, 3200].map(Duration::from_millis));
        assert_eq!(outcome, Some(Outcome::GaveUp { restarts: 5 }));
    }

    #[test]
    fn five_in_three_minutes_are_allowed_and_more_are_not() {
        // A fifth of the budget comes back in 36 s.
        let (pauses, outcome) = crashes(Restart::new(), secs(36), 1000);
        assert_eq!((pauses.len(), outcome), (1000, None));
        assert!(pauses.iter().all(|pause| *pause == Duration::from_millis(200)), "{pauses:?}");
        let (pauses, outcome) = crashes(Restart::new(), secs(30), 1000);
        assert!((25..=30).contains(&pauses.len()), "a sixth less: {}", pauses.len());
        assert_eq!(outcome, Some(Outcome::GaveUp { restarts: pauses.len() as u32 }));
        // Time that it does not run is not healthy.
        let restart = Restart::new().pauses(secs(3600), secs(3600));
        let (pauses, _) = crashes(restart, Duration::ZERO, 1000);
        assert_eq!(pauses, [secs(3600); 5]);
    }

    #[test]
    fn pauses_are_shortened_by_up_to_a_half_and_have_a_longest() {
        let restart = Restart::new().budget(8, secs(60)).pauses(secs(1), secs(10));
        let (pauses, _) = crashes(restart, Duration::ZERO, 100);
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10, 10, 10].map(secs));
        let begun = Instant::now();
        for random in (0..=u32::MAX).step_by(0x0101_0101) {
            let mut supervisor = Supervisor::new(Some(restart), begun);
            assert_eq!(supervisor.poll(begun), Turn::Start);
            let Next::Start { at } = supervisor.ended(begun, random) else { panic!("the first end") };
            assert!((secs(1) / 2..=secs(1)).contains(&(at - begun)), "{:?}", at - begun);
        }
        // None of it overflows.
        let endless = Restart::new().budget(u32::MAX, Duration::MAX).pauses(Duration::MAX, Duration::ZERO);
        assert_eq!(crashes(endless, Duration::ZERO, 3).0, [Duration::ZERO; 3]);
        assert_eq!(crashes(Restart::new().budget(3, Duration::ZERO), secs(1), 5).1, None);
    }

    #[test]
    fn without_restarts_the_first_end_is_the_last() {
        let now = Instant::now();
        let mut once = Supervisor::new(None, now);
        assert_eq!(once.poll(now), Turn::Start);
        assert!(once.ready(now));
        assert_eq!(once.ended(now + secs(3600), 0), Next::Nothing(Outcome::Ended));
        assert_eq!(once.poll(now), Turn::Done(Outcome::Ended));
        assert_eq!(
            crashes(Restart::new().budget(0, secs(60)), secs(3600), 9).1,
            Some(Outcome::GaveUp { restarts: 0 })
        );
    }

    /// Whatever it is doing then.
    #[test]
    fn nothing_is_started_behind_a_stop() {
        let now = Instant::now();
        let new = || Supervisor::new(Some(Restart::new()), now);
        let before = new();
        let mut starting = new();
        assert_eq!(starting.poll(now), Turn::Start);
        let mut ready = new();
        assert_eq!(ready.poll(now), Turn::Start);
        assert!(ready.ready(now));
        let mut pausing = new();
        assert_eq!(pausing.poll(now), Turn::Start);
        assert!(matches!(pausing.ended(now, 0), Next::Start { .. }));
        for (mut supervisor, runs) in [(before, false), (starting, true), (ready, true), (pausing, false)] {
            supervisor.stop();
            if runs {
                assert_eq!(supervisor.poll(now), Turn::Watch);
                assert!(!supervisor.ready(now), "too late");
                supervisor.stop();
                assert_eq!(supervisor.ended(now, 0), Next::Nothing(Outcome::Stopped));
            }
            assert!(supervisor.is_stopping());
            for later in [now, now + secs(86_400)] {
                assert_eq!(supervisor.poll(later), Turn::Done(Outcome::Stopped));
            }
            supervisor.stop();
            assert_eq!(supervisor.ended(now, 0), Next::Nothing(Outcome::Stopped));
        }
    }

    /// An end that came first stays what it was.
    #[test]
    fn a_stop_behind_the_end_changes_nothing() {
        let now = Instant::now();
        let mut supervisor = Supervisor::new(None, now);
        assert_eq!(supervisor.poll(now), Turn::Start);
        assert_eq!(supervisor.ended(now, 0), Next::Nothing(Outcome::Ended));
        supervisor.stop();
        assert!(!supervisor.is_stopping());
        assert_eq!(supervisor.poll(now), Turn::Done(Outcome::Ended));
    }
}
