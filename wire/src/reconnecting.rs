//! When a client whose connection has ended connects anew, and which of those who wait does. No threads, no
//! channel, no clock.
//!
//! Whoever needs a connection and finds that it [has ended](Reconnecting::ended) does what
//! [`poll`](Reconnecting::poll) says. One at a time makes an [`Attempt`](Turn::Attempt) and tells how it went;
//! the others poll again when he has, or when the next one is due.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use sidewire_wire::reconnecting::{Reconnecting, Rules, Turn};
//!
//! let rules = Rules { attempts: 3, ..Rules::default() };
//! let start = Instant::now();
//! let mut reconnecting = Reconnecting::new(rules, start);
//! let mut now = start + Duration::from_secs(60);
//! reconnecting.ended(now, 0);
//! assert_eq!(reconnecting.poll(now), Turn::Attempt);
//! assert_eq!(reconnecting.poll(now), Turn::Wait { until: None }); // another thread
//! reconnecting.failed(now, 0);
//! let Turn::Wait { until: Some(until) } = reconnecting.poll(now) else { panic!("no pause") };
//! now = until;
//! assert_eq!(reconnecting.poll(now), Turn::Attempt);
//! reconnecting.succeeded(now);
//! assert_eq!(reconnecting.poll(now), Turn::Connected);
//! ```

#![allow(clippy::exhaustive_enums, reason = "whoever drives it has to know all that there is")]

use std::time::{Duration, Instant};

use crate::executed::Executed;

/// What had become of a request when its connection ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It had not left.
    Unsent,
    /// It had, and this is known of it.
    Sent(Executed),
}

impl Lost {
    /// Whether it is sent on the next connection, for one who has waited for this answer. What was not executed is not
    /// executed twice; of what perhaps was, only the application knows what twice would do.
    ///
    /// Not for one who has sent more behind it: what was sent before something that was not executed perhaps was.
    #[must_use]
    pub fn goes_on(self, is_safe: bool) -> bool {
        is_safe || self != Lost::Sent(Executed::Perhaps)
    }
}

/// How often, and for how long, a connection is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a caller fills them all in")]
pub struct Rules {
    /// Attempts that may fail, one after the other. At least one is made.
    pub attempts: u32,
    /// How long after the first of them another may be made.
    pub within: Duration,
    /// The pause behind the first that failed. The next ones are twice as long each.
    pub first_pause: Duration,
    /// But not longer than this.
    pub longest_pause: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            attempts: 20,
            within: Duration::from_secs(60),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
        }
    }
}

/// How long to pause behind so many failures, the first of them included: between a half of the whole pause and all of
/// it, so that those who lost the same peer at the same moment do not all come back in one. The whole is twice as
/// long with each failure, but not longer than the longest.
#[must_use]
pub fn pause(first: Duration, longest: Duration, failed: u32, random: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(31);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    let half = whole / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

impl Rules {
    fn pause(&self, failed: u32, random: u32) -> Duration {
        pause(self.first_pause, self.longest_pause, failed, random)
    }
}

/// What whoever needs a connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// Uses the one that there is.
    Connected,
    /// Connects, and says how that went: [`succeeded`](Reconnecting::succeeded),
    /// [`failed`](Reconnecting::failed), [`cut_short`](Reconnecting::cut_short) or
    /// [`give_up`](Reconnecting::give_up).
    Attempt,
    /// Polls again when somebody else's attempt is over, or then.
    Wait {
        /// When the next attempt is due, if nobody is at it.
        until: Option<Instant>,
    },
    /// Goes: no connection will be sought any more.
    GivenUp,
}

/// One client's connections, one after the other.
#[derive(Debug)]
pub struct Reconnecting {
    rules: Rules,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Behind this, if it was not long ago.
    Up {
        since: Instant,
        outage: Outage,
    },
    Down {
        outage: Outage,
        attempt: Attempt,
    },
    /// Behind so many attempts that failed.
    GivenUp(u32),
}

/// How it has gone so far.
#[derive(Clone, Copy, Debug, Default)]
struct Outage {
    /// When the first attempt was made.
    began: Option<Instant>,
    failed: u32,
}

#[derive(Debug)]
enum Attempt {
    Due(Instant),
    UnderWay,
}

impl Reconnecting {
    /// With a connection.
    pub fn new(rules: Rules, now: Instant) -> Reconnecting {
        Reconnecting { rules, state: State::Up { since: now, outage: Outage::default() } }
    }

    /// The connection has come to its end. One that has lasted no longer than the longest pause counts as an
    /// attempt that failed, and the next one waits: a server that ends each of its connections at once is not
    /// asked again and again without a pause. That it is told of once more does no harm.
    pub fn ended(&mut self, now: Instant, random: u32) {
        let State::Up { since, outage } = self.state else { return };
        let has_lasted = now.saturating_duration_since(since) > self.rules.longest_pause;
        match outage.began {
            Some(_) if !has_lasted => {
                self.state = State::Down { outage, attempt: Attempt::UnderWay };
                self.failed(now, random);
            }
            _ => self.state = State::Down { outage: Outage::default(), attempt: Attempt::Due(now) },
        }
    }

    /// What to do for one who needs a connection. To be asked again behind each attempt's end.
    pub fn poll(&mut self, now: Instant) -> Turn {
        match &mut self.state {
            State::Up { .. } => Turn::Connected,
            State::GivenUp(_) => Turn::GivenUp,
            State::Down { attempt: Attempt::UnderWay, .. } => Turn::Wait { until: None },
            State::Down { attempt: Attempt::Due(at), .. } if *at > now => Turn::Wait { until: Some(*at) },
            State::Down { outage, attempt } => {
                outage.began.get_or_insert(now);
                *attempt = Attempt::UnderWay;
                Turn::Attempt
            }
        }
    }

    /// There is a connection again. Says how many attempts this took.
    pub fn succeeded(&mut self, now: Instant) -> u32 {
        let State::Down { outage, .. } = self.state else { return 0 };
        self.state = State::Up { since: now, outage };
        outage.failed + 1
    }

    /// There is none yet. `random` says how long the pause is that follows.
    pub fn failed(&mut self, now: Instant, random: u32) {
        let State::Down { outage: Outage { began, failed }, .. } = self.state else { return };
        let failed = failed.saturating_add(1);
        let at = now.checked_add(self.rules.pause(failed, random)).unwrap_or(now);
        let end = began.and_then(|began| began.checked_add(self.rules.within));
        let is_over = failed >= self.rules.attempts || end.is_some_and(|end| end < at);
        self.state = match is_over {
            true => State::GivenUp(failed),
            false => State::Down { outage: Outage { began, failed }, attempt: Attempt::Due(at) },
        };
    }

    /// Whoever made the attempt had no time left for it, which says nothing of the server: the next one may
    /// begin at once.
    pub fn cut_short(&mut self, now: Instant) {
        if let State::Down { attempt, .. } = &mut self.state {
            *attempt = Attempt::Due(now);
        }
    }

    /// No other attempt would end differently, or none is wanted any more.
    pub fn give_up(&mut self) {
        let failed = match self.state {
            State::Up { .. } => 0,
            State::Down { outage, attempt: Attempt::Due(_) } => outage.failed,
            State::Down { outage, attempt: Attempt::UnderWay } => outage.failed.saturating_add(1),
            State::GivenUp(failed) => failed,
        };
        self.state = State::GivenUp(failed);
    }

    /// How many attempts have failed since there was a connection.
    pub fn failures(&self) -> u32 {
        match self.state {
            State::Up { outage, .. } | State::Down { outage, .. } => outage.failed,
            State::GivenUp(failed) => failed,
        }
    }

    /// Whether there is a connection, as far as anybody has told.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether no connection will be sought any more.
    pub fn has_given_up(&self) -> bool {
        matches!(self.state, State::GivenUp(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        attempts: 6,
        within: Duration::from_secs(30),
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(1),
    };
    const LONGEST: u32 = u32::MAX;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// One whose connection has ended after an hour.
    fn down(rules: Rules) -> (Reconnecting, Instant) {
        let start = Instant::now();
        let mut reconnecting = Reconnecting::new(rules, start);
        assert_eq!(reconnecting.poll(start), Turn::Connected);
        let now = start + Duration::from_secs(3600);
        reconnecting.ended(now, 0);
        (reconnecting, now)
    }

    /// Fails until it is over; the pauses between attempts.
    fn pauses(reconnecting: &mut Reconnecting, mut now: Instant, random: u32) -> Vec<Duration> {
        let mut pauses = Vec::new();
        loop {
            match reconnecting.poll(now) {
                Turn::Attempt => reconnecting.failed(now, random),
                Turn::Wait { until } => {
                    let until = until.expect("nobody else is at it");
                    pauses.push(until - now);
                    now = until;
                }
                Turn::GivenUp => return pauses,
                Turn::Connected => panic!("from nowhere"),
            }
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut reconnecting, now) = down(RULES);
        let expected = [100, 200, 400, 800, 1000].map(millis);
        assert_eq!(pauses(&mut reconnecting, now, LONGEST), expected);
        assert!(reconnecting.has_given_up());
        // At the least half of that.
        let (mut reconnecting, now) = down(RULES);
        let halves = expected.map(|pause| pause / 2);
        assert_eq!(pauses(&mut reconnecting, now, 0), halves);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn every_random_number_gives_a_pause_between_half_and_all() {
        for random in (0..=u32::MAX).step_by(0x0101_0101) {
            for failed in 1..100 {
                let whole = RULES.pause(failed, LONGEST);
                let pause = RULES.pause(failed, random);
                assert!(whole / 2 <= pause && pause <= whole, "{failed}, {random}: {pause:?}");
            }
        }
        let endless = Rules { longest_pause: Duration::MAX, first_pause: Duration::MAX, ..RULES };
        assert!(endless.pause(u32::MAX, LONGEST) >= Duration::MAX / 2);
    }

    #[test]
    fn the_first_attempt_is_at_once_and_the_last_is_counted() {
        for attempts in 0..5 {
            let (mut reconnecting, now) = down(Rules { attempts, ..RULES });
            let made = 1 + pauses(&mut reconnecting, now, LONGEST).len() as u32;
            assert_eq!(made, attempts.max(1), "the first is always made");
        }
    }

    /// Time that nobody used does not count: there is no thread that would have tried.
    #[test]
    fn time_runs_from_the_first_attempt() {
        let rules = Rules { within: Duration::from_secs(2), attempts: u32::MAX, ..RULES };
        let (mut reconnecting, now) = down(rules);
        let now = now + Duration::from_secs(86_400);
        let all: Duration = pauses(&mut reconnecting, now, LONGEST).iter().sum();
        assert!(all <= Duration::from_secs(2), "{all:?}");
        assert!(all + rules.longest_pause > Duration::from_secs(2), "{all:?}");
        // Nobody came for a day behind the first attempt: one more is made, and is the last.
        let (mut reconnecting, now) = down(rules);
        assert_eq!(reconnecting.poll(now), Turn::Attempt);
        reconnecting.failed(now, 0);
        let now = now + Duration::from_secs(86_400);
        assert_eq!(reconnecting.poll(now), Turn::Attempt);
        reconnecting.failed(now, 0);
        assert_eq!(reconnecting.poll(now), Turn::GivenUp);
    }

    /// It was said of all that they had made as many as they might.
    #[test]
    fn whoever_gives_up_has_made_so_many_attempts() {
        let (mut refused, now) = down(RULES);
        assert_eq!(refused.poll(now), Turn::Attempt);
        refused.give_up();
        let (mut closed, _) = down(RULES);
        closed.give_up();
        let (mut late, now) = down(Rules { within: millis(150), ..RULES });
        pauses(&mut late, now, LONGEST);
        assert_eq!([refused, closed, late].map(|it| it.failures()), [1, 0, 2]);
    }

    #[test]
    fn one_at_a_time() {
        let (mut reconnecting, now) = down(RULES);
        assert_eq!(reconnecting.poll(now), Turn::Attempt);
        for _ in 0..3 {
            assert_eq!(reconnecting.poll(now + Duration::from_secs(9)), Turn::Wait { until: None });
        }
        reconnecting.failed(now, LONGEST);
        let due = now + millis(100);
        assert_eq!(reconnecting.poll(now), Turn::Wait { until: Some(due) });
        assert_eq!(reconnecting.poll(due - millis(1)), Turn::Wait { until: Some(due) });
        assert_eq!(reconnecting.poll(due), Turn::Attempt);
        assert_eq!(reconnecting.poll(due), Turn::Wait { until: None });
        // Whoever had too little time leaves his turn to the next.
        reconnecting.cut_short(due);
        assert_eq!(reconnecting.poll(due), Turn::Attempt);
        assert_eq!((reconnecting.failures(), reconnecting.succeeded(due)), (1, 2));
        assert_eq!(reconnecting.poll(due), Turn::Connected);
    }

    /// A server that lets everybody in and then ends is no better than none.
    #[test]
    fn connections_that_end_at_once_are_attempts_that_failed() {
        let (mut reconnecting, mut now) = down(RULES);
        let mut connected = 0;
        loop {
            match reconnecting.poll(now) {
                Turn::Attempt => {
                    connected += 1;
                    reconnecting.succeeded(now);
                    now += millis(3);
                    reconnecting.ended(now, LONGEST);
                    reconnecting.ended(now, LONGEST);
                }
                Turn::Wait { until } => now = until.expect("nobody else is at it"),
                Turn::GivenUp => break,
                Turn::Connected => panic!("it has ended"),
            }
        }
        assert_eq!(connected, RULES.attempts);
    }

    #[test]
    fn a_connection_that_lasted_begins_anew() {
        let (mut reconnecting, mut now) = down(RULES);
        for _ in 0..3 * RULES.attempts {
            assert_eq!(reconnecting.poll(now), Turn::Attempt);
            assert_eq!(reconnecting.succeeded(now), 1);
            now += RULES.longest_pause + millis(1);
            reconnecting.ended(now, LONGEST);
        }
        assert_eq!(reconnecting.failures(), 0);
    }

    #[test]
    fn who_gives_up_stays_so() {
        let (mut reconnecting, now) = down(RULES);
        assert_eq!(reconnecting.poll(now), Turn::Attempt);
        reconnecting.give_up();
        // The attempt that was under way, and all that others find out.
        reconnecting.failed(now, 0);
        reconnecting.cut_short(now);
        reconnecting.ended(now, 0);
        reconnecting.succeeded(now);
        assert_eq!(reconnecting.poll(now + Duration::from_secs(86_400)), Turn::GivenUp);
    }

    /// Every order of what can happen, told by whoever may tell it: nobody is left without a turn, and there is
    /// never more than one attempt.
    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn every_order_has_one_attempt_at_most() {
        const DEPTH: u32 = 7;
        const DEEDS: u32 = 6;
        for number in 0..DEEDS.pow(DEPTH) {
            let (mut reconnecting, mut now) = down(RULES);
            let mut is_under_way = false;
            for place in 0..DEPTH {
                match number / DEEDS.pow(place) % DEEDS {
                    0 => match reconnecting.poll(now) {
                        Turn::Attempt => {
                            assert!(!is_under_way);
                            is_under_way = true;
                        }
                        Turn::Wait { until: None } => assert!(is_under_way),
                        Turn::Wait { until: Some(until) } => assert!(!is_under_way && until > now),
                        Turn::Connected | Turn::GivenUp => assert!(!is_under_way),
                    },
                    1 => now += millis(150),
                    2 if !is_under_way => reconnecting.ended(now, LONGEST),
                    deed if is_under_way => {
                        is_under_way = false;
                        match deed {
                            3 => drop(reconnecting.succeeded(now)),
                            4 => reconnecting.failed(now, 0),
                            5 => reconnecting.cut_short(now),
                            _ => is_under_way = true,
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn only_what_is_safe_goes_twice() {
        let lost = Lost::Sent(Executed::Perhaps);
        assert!(lost.goes_on(true) && !lost.goes_on(false));
        for lost in [Lost::Unsent, Lost::Sent(Executed::Never)] {
            assert!(lost.goes_on(false) && lost.goes_on(true));
        }
    }
}
