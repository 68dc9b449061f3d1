//! The only timer heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::slots::Key;

/// Whom a timer wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Link(Key),
    /// The acceptor with this index.
    Acceptor(u32),
    /// The datagram socket with this index.
    Port(u32),
}

/// Wakes its targets at their deadlines. A deadline that moves back is not looked for in the heap: the
/// target is woken at the old time, finds that nothing is due, and says when to come again.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, Target)>>);

impl Timers {
    /// When the next one wants to be woken.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Wakes `target` at `at`, unless `armed` says that it will be woken before anyway. `armed` is
    /// the target's own note of its earliest entry.
    pub(crate) fn arm(&mut self, target: Target, at: Instant, armed: &mut Option<Instant>) {
        if armed.is_none_or(|earlier| at < earlier) {
            self.0.push(Reverse((at, target)));
            *armed = Some(at);
        }
    }

    /// Takes out one entry that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Target> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, target))| target)
    }
}
