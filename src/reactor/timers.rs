//! When links, acceptors and datagram sockets want to be woken.

use std::collections::BTreeSet;
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
    /// The look for the files of all endpoints.
    Endpoints,
}

/// The only timers of a loop, at most one for each target. A deadline that moves back is not
/// looked for: the target is woken at the old time, finds that nothing is due, and says when to
/// come again.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Target)>);

impl Timers {
    /// When the next one wants to be woken.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Wakes `target` at `at`, unless it will be woken before anyway. `armed` is the target's own
    /// note of its entry.
    pub(crate) fn arm(&mut self, target: Target, at: Instant, armed: &mut Option<Instant>) {
        if armed.is_none_or(|earlier| at < earlier) {
            self.disarm(target, armed);
            self.0.insert((at, target));
            *armed = Some(at);
        }
    }

    /// Does not wake it any more.
    pub(crate) fn disarm(&mut self, target: Target, armed: &mut Option<Instant>) {
        if let Some(at) = armed.take() {
            self.0.remove(&(at, target));
        }
    }

    /// Takes out one entry that is due. The target clears its note of it.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Target> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, target)| target)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_target_has_one_entry() {
        let (mut timers, mut armed, now) = (Timers::default(), None, Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for seconds in [5, 3, 9, 2] {
            timers.arm(Target::Port(1), at(seconds), &mut armed);
        }
        assert_eq!((timers.0.len(), armed, timers.next()), (1, Some(at(2)), Some(at(2))));
        assert_eq!(timers.pop_due(at(1)), None);
        assert_eq!(timers.pop_due(at(2)), Some(Target::Port(1)));
        armed = None;
        timers.arm(Target::Port(1), at(4), &mut armed);
        timers.disarm(Target::Port(1), &mut armed);
        assert_eq!((timers.next(), armed), (None, None));
    }
}
