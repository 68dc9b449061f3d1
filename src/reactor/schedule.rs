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
    /// What is owed an answer on the datagram socket with this number.
    Owed(u16),
    /// The look for the files of all endpoints.
    Files,
    /// The look whether anybody is connected.
    Idle,
    /// Large buffers, which are given back.
    Memory,
}

/// A target's own note of where it stands in the schedule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Wakeup {
    #[default]
    Idle,
    /// It goes on in the next turn.
    Queued(Does),
    /// A timer wakes it then.
    Armed(Instant),
}

/// What one does that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// All that it has to do.
    All,
    /// It sends what is there. Reading is left to what the system tells.
    Sends,
}

impl Wakeup {
    pub(crate) fn is_armed(&self) -> bool {
        matches!(self, Wakeup::Armed(_))
    }

    /// Its timer has gone off.
    pub(crate) fn rang(&mut self) {
        *self = Wakeup::Idle;
    }

    /// It has come out of the queue. Says what it still is to do: one that was given a timer meanwhile, nothing.
    pub(crate) fn called(&mut self) -> Option<Does> {
        let Wakeup::Queued(does) = *self else { return None };
        *self = Wakeup::Idle;
        Some(does)
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
    pub(crate) fn queue(&mut self, target: Target, wakeup: &mut Wakeup) -> Result<(), TryReserveError> {
        self.queue_to(Does::All, target, wakeup)
    }

    /// The same, and it need not do more than this, unless it was to already.
    pub(crate) fn queue_to(
        &mut self,
        does: Does,
        target: Target,
        wakeup: &mut Wakeup,
    ) -> Result<(), TryReserveError> {
        match wakeup {
            Wakeup::Queued(before) if does == Does::All => *before = does,
            Wakeup::Queued(_) => {}
            _ => {
                self.queue.try_reserve(1)?;
                self.disarm(target, wakeup);
                self.queue.push_back(target);
                *wakeup = Wakeup::Queued(does);
            }
        }
        Ok(())
    }

    /// Who is next in the queue; its [wakeup](Wakeup::called) is to be asked.
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
    pub(crate) fn arm(&mut self, target: Target, at: Instant, wakeup: &mut Wakeup) {
        match *wakeup {
            Wakeup::Queued(_) => {}
            Wakeup::Armed(earlier) if earlier <= at => {}
            Wakeup::Idle | Wakeup::Armed(_) => self.pause(target, at, wakeup),
        }
    }

    /// Does not let `target` go on before `at`.
    pub(crate) fn pause(&mut self, target: Target, at: Instant, wakeup: &mut Wakeup) {
        self.disarm(target, wakeup);
        self.timers.insert((at, target));
        *wakeup = Wakeup::Armed(at);
    }

    /// Does not wake it any more.
    pub(crate) fn disarm(&mut self, target: Target, wakeup: &mut Wakeup) {
        if let Wakeup::Armed(at) = *wakeup {
            self.timers.remove(&(at, target));
            *wakeup = Wakeup::Idle;
        }
    }

    /// Takes out one timer that is due; its target's [wakeup](Wakeup::rang) is to be told.
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
        let (mut schedule, mut wakeup, now) = (Schedule::default(), Wakeup::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for seconds in [5, 3, 9, 2] {
            schedule.arm(Target::Source(1), at(seconds), &mut wakeup);
        }
        assert_eq!(
            (schedule.timers.len(), &wakeup, schedule.next()),
            (1, &Wakeup::Armed(at(2)), Some(at(2)))
        );
        assert_eq!(schedule.pop_due(at(1)), None);
        assert_eq!(schedule.pop_due(at(2)), Some(Target::Source(1)));
        wakeup.rang();
        schedule.arm(Target::Source(1), at(4), &mut wakeup);
        schedule.disarm(Target::Source(1), &mut wakeup);
        assert_eq!((schedule.next(), wakeup.is_armed()), (None, false));
    }

    #[test]
    fn a_target_has_one_place_in_the_queue() {
        let (mut schedule, mut wakeup) = (Schedule::default(), Wakeup::default());
        for _ in 0..3 {
            schedule.queue(Target::Source(1), &mut wakeup).expect("memory");
        }
        schedule.arm(Target::Source(1), Instant::now(), &mut wakeup);
        assert_eq!((schedule.queued(), schedule.next()), (1, None), "it goes on anyway");
        assert_eq!((schedule.pop_queued(), schedule.has_queued()), (Some(Target::Source(1)), false));
        assert_eq!(wakeup.called(), Some(Does::All));
        schedule.queue(Target::Source(1), &mut wakeup).expect("memory");
        assert!(schedule.has_queued());
    }

    #[test]
    fn who_has_all_to_do_does_all_however_often_it_is_to_send() {
        for orders in [[Does::All, Does::Sends], [Does::Sends, Does::All]] {
            let (mut schedule, mut wakeup) = (Schedule::default(), Wakeup::default());
            for does in orders {
                schedule.queue_to(does, Target::Source(1), &mut wakeup).expect("memory");
            }
            assert_eq!((schedule.queued(), wakeup.called()), (1, Some(Does::All)));
        }
        let (mut schedule, mut wakeup) = (Schedule::default(), Wakeup::default());
        schedule.queue_to(Does::Sends, Target::Source(1), &mut wakeup).expect("memory");
        assert_eq!((schedule.queued(), wakeup.called()), (1, Some(Does::Sends)));
    }

    #[test]
    fn who_pauses_does_not_go_on_before_its_time() {
        let (mut schedule, mut wakeup, at) = (Schedule::default(), Wakeup::default(), Instant::now());
        schedule.queue(Target::Source(1), &mut wakeup).expect("memory");
        schedule.pause(Target::Source(1), at, &mut wakeup);
        assert_eq!((schedule.pop_queued(), wakeup.called()), (Some(Target::Source(1)), None));
        assert_eq!((schedule.pop_due(at), wakeup.is_armed()), (Some(Target::Source(1)), true));
    }
}
