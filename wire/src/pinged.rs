//! Our pings that have no pong yet, where their owner waits for them with the connection's deadlines.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::call_rules;

/// Those of one connection, in the order in which they were sent.
#[derive(Debug, Default)]
pub(crate) struct Pinged {
    last_id: u32,
    open: VecDeque<Ping>,
}

#[derive(Clone, Copy, Debug)]
struct Ping {
    id: u32,
    since: Instant,
    /// Until when its pong is waited for.
    until: Option<Instant>,
}

impl Pinged {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The id of the next one. They go up.
    pub(crate) fn next_id(&self) -> u32 {
        self.last_id.wrapping_add(1).max(1)
    }

    /// It has been sent.
    pub(crate) fn begin(&mut self, id: u32, since: Instant, until: Option<Instant>) {
        self.last_id = id;
        self.open.push_back(Ping { id, since, until });
    }

    /// The first of those that a pong with this id answers, and how long it took by `now`.
    pub(crate) fn answer(&mut self, id: u32, now: Instant) -> Option<(u32, Duration)> {
        self.open.front().filter(|ping| !call_rules::is_behind(ping.id, id))?;
        self.open.pop_front().map(|ping| (ping.id, now.saturating_duration_since(ping.since)))
    }

    /// Whether one of them may have a time limit.
    #[inline]
    pub(crate) fn has_deadlines(&self) -> bool {
        !self.open.is_empty()
    }

    /// When the next one's time is over.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.open.is_empty() {
            return None; // As with every request.
        }
        self.open.iter().filter_map(|ping| ping.until).min()
    }

    /// Gives up one whose time is over by `now`, and says which.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<u32> {
        let index = self.open.iter().position(|ping| ping.until.is_some_and(|until| until <= now))?;
        self.open.remove(index).map(|ping| ping.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pong_answers_its_ping_and_all_before_it() {
        let (mut pinged, now) = (Pinged::default(), Instant::now());
        pinged.last_id = u32::MAX - 1;
        for seconds in 0..3 {
            pinged.begin(pinged.next_id(), now + SECOND * seconds, None);
        }
        let at = now + SECOND * 5;
        assert_eq!(pinged.answer(u32::MAX - 1, at), None, "it was not asked for");
        assert_eq!(pinged.answer(1, at), Some((u32::MAX, SECOND * 5)));
        assert_eq!(pinged.answer(1, at), Some((1, SECOND * 4)));
        assert_eq!((pinged.answer(1, at), pinged.len()), (None, 1));
    }

    #[test]
    fn each_has_a_time_of_its_own() {
        let (mut pinged, now) = (Pinged::default(), Instant::now());
        for (id, limit) in [(1, Some(SECOND * 2)), (2, Some(SECOND)), (3, None)] {
            pinged.begin(id, now, limit.map(|limit| now + limit));
        }
        assert_eq!((pinged.next_deadline(), pinged.expire(now)), (Some(now + SECOND), None));
        assert_eq!(pinged.expire(now + SECOND), Some(2));
        assert_eq!(pinged.next_deadline(), Some(now + SECOND * 2));
        assert_eq!(pinged.answer(2, now + SECOND), Some((1, SECOND)), "one that was given up is past, too");
        assert_eq!((pinged.next_deadline(), pinged.len()), (None, 1));
    }
}
