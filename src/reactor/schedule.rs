//! Who goes on without an event, and when: the queue of those that go on in the next turn, and the timers.

use std::collections::{BTreeSet, TryReserveError, VecDeque};
use std::time::Instant;

use super::slots::Key;

/// Who goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Link(Key),
    /// The listener or datagram socket with this number.
    Source(u16),
    /// What waits to leave the datagram socket with this number.
    Outgoing(u16),
    /// The look for the files of all endpoints.
    Files,
}

/// A target's own note of where it stands in the schedule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Slot {
    #[default]
    Idle,
    /// It goes on in the next turn.
    Queued,
    /// A timer wakes it then.
    Armed(Instant),
}

impl Slot {
    pub(crate) fn is_armed(&self) -> bool {
        matches!(self, Slot::Armed(_))
    }

    /// Its timer has gone off.
    pub(crate) fn rang(&mut self) {
        *self = Slot::Idle;
    }

    /// It has come out of the queue. Says whether it still is to go on: one that was given a timer
    /// meanwhile is not.
    #[must_use]
    pub(crate) fn called(&mut self) -> bool {
        let is_called = *self == Slot::Queued;
        if is_called {
            *self = Slot::Idle;
        }
        is_called
    }
}

/// The queue, and the only timers of a loop, at most one for each target.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queue: VecDeque<Target>,
    timers: BTreeSet<(Instant, Target)>,
}

impl Schedule {
    /// Whether somebody goes on in the next turn.
    #[inline]
    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many do.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Has `target` go on in the next turn. It needs no timer then.
    ///
    /// # Errors
    /// There is no memory for its place in the queue.
    pub(crate) fn queue(&mut self, target: Target, slot: &mut Slot) -> Result<(), TryReserveError> {
        if *slot != Slot::Queued {
            self.queue.try_reserve(1)?;
            self.disarm(target, slot);
            self.queue.push_back(target);
            *slot = Slot::Queued;
        }
        Ok(())
    }

    /// Who is next in the queue; its [slot](Slot::called) is to be asked.
    pub(crate) fn pop_queued(&mut self) -> Option<Target> {
        self.queue.pop_front()
    }

    /// When the next one wants to be woken.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Wakes `target` at `at`, unless it will be woken before anyway, or goes on in the next turn. A
    /// deadline that moves back is not looked for: the target is woken at the old time, finds that nothing
    /// is due, and says when to come again.
    #[inline]
    pub(crate) fn arm(&mut self, target: Target, at: Instant, slot: &mut Slot) {
        match *slot {
            Slot::Queued => {}
            Slot::Armed(earlier) if earlier <= at => {}
            Slot::Idle | Slot::Armed(_) => self.pause(target, at, slot),
        }
    }

    /// Does not let `target` go on before `at`.
    pub(crate) fn pause(&mut self, target: Target, at: Instant, slot: &mut Slot) {
        self.disarm(target, slot);
        self.timers.insert((at, target));
        *slot = Slot::Armed(at);
    }

    /// Does not wake it any more.
    pub(crate) fn disarm(&mut self, target: Target, slot: &mut Slot) {
        if let Slot::Armed(at) = *slot {
            self.timers.remove(&(at, target));
            *slot = Slot::Idle;
        }
    }

    /// Takes out one timer that is due; its target's [slot](Slot::rang) is to be told.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Target> {
        if self.next()? > now {
            return None;
        }
        self.timers.pop_first().map(|(_, target)| target)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_target_has_one_timer() {
        let (mut schedule, mut slot, now) = (Schedule::default(), Slot::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for seconds in [5, 3, 9, 2] {
            schedule.arm(Target::Source(1), at(seconds), &mut slot);
        }
        assert_eq!((schedule.timers.len(), &slot, schedule.next()), (1, &Slot::Armed(at(2)), Some(at(2))));
        assert_eq!(schedule.pop_due(at(1)), None);
        assert_eq!(schedule.pop_due(at(2)), Some(Target::Source(1)));
        slot.rang();
        schedule.arm(Target::Source(1), at(4), &mut slot);
        schedule.disarm(Target::Source(1), &mut slot);
        assert_eq!((schedule.next(), slot.is_armed()), (None, false));
    }

    #[test]
    fn a_target_has_one_place_in_the_queue() {
        let (mut schedule, mut slot) = (Schedule::default(), Slot::default());
        for _ in 0..3 {
            schedule.queue(Target::Source(1), &mut slot).expect("memory");
        }
        schedule.arm(Target::Source(1), Instant::now(), &mut slot);
        assert_eq!((schedule.queued(), schedule.next()), (1, None), "it goes on anyway");
        assert_eq!((schedule.pop_queued(), schedule.has_queued()), (Some(Target::Source(1)), false));
        assert!(slot.called());
        schedule.queue(Target::Source(1), &mut slot).expect("memory");
        assert!(schedule.has_queued());
    }

    #[test]
    fn who_pauses_does_not_go_on_before_its_time() {
        let (mut schedule, mut slot, at) = (Schedule::default(), Slot::default(), Instant::now());
        schedule.queue(Target::Source(1), &mut slot).expect("memory");
        schedule.pause(Target::Source(1), at, &mut slot);
        assert_eq!((schedule.pop_queued(), slot.called()), (Some(Target::Source(1)), false));
        assert_eq!((schedule.pop_due(at), slot.is_armed()), (Some(Target::Source(1)), true));
    }
}
