//! What one peer may have done before others get their turn: bytes, units and time.

use std::cell::Cell;
use std::time::Instant;

use crate::limits::TURN_TIME;

/// One such turn.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) bytes: usize,
    /// Units that may still be handled. Whoever handles them counts.
    pub(super) units: Cell<usize>,
    /// How many handlers have run.
    handled: Cell<u32>,
    /// The time when this was last looked at, and which handler that was behind.
    looked: Cell<(Instant, u32)>,
    next_look: Cell<u32>,
    until: Instant,
}

/// The clock is read behind the first handlers, since each of them may be a slow one, and then behind
/// every so many.
const LOOK_EVERY: u32 = 16;

impl Share {
    #[inline]
    pub(super) fn begin(bytes: usize, units: usize, now: Instant) -> Share {
        Share {
            bytes: bytes.max(1),
            units: Cell::new(units.max(1)),
            handled: Cell::new(0),
            looked: Cell::new((now, 0)),
            next_look: Cell::new(1),
            until: now + TURN_TIME,
        }
    }

    /// A handler has run. Ends the turn if that has taken too long.
    #[inline]
    pub(super) fn handled(&self) {
        let handled = self.handled.get() + 1;
        self.handled.set(handled);
        if handled == self.next_look.get() {
            self.next_look.set(handled + handled.min(LOOK_EVERY));
            self.look();
        }
    }

    /// The time, not from before a handler.
    #[inline]
    pub(super) fn now(&self) -> Instant {
        let (now, handled) = self.looked.get();
        if handled == self.handled.get() { now } else { self.look() }
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.units.get() == 0 || self.bytes == 0
    }

    fn look(&self) -> Instant {
        let now = Instant::now();
        self.looked.set((now, self.handled.get()));
        if now >= self.until {
            self.units.set(0);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn a_turn_is_over_by_units_bytes_or_time() {
        let begin = |bytes, units| Share::begin(bytes, units, Instant::now() + TURN_TIME * 1000);
        let mut share = begin(1, 2);
        share.units.set(1);
        assert!(!share.is_over());
        share.bytes = 0;
        assert!(share.is_over());
        let share = begin(1, 100);
        for _ in 0..40 {
            share.handled();
        }
        assert!(!share.is_over());
        let share = Share::begin(1, 100, Instant::now());
        sleep(TURN_TIME);
        assert!(!share.is_over(), "time passes while handlers run");
        share.handled();
        assert!(share.is_over());
    }

    #[test]
    fn the_time_is_never_from_before_a_handler() {
        let begun = Instant::now();
        let share = Share::begin(1, 100, begun);
        assert_eq!(share.now(), begun);
        for _ in 0..40 {
            sleep(std::time::Duration::from_micros(10));
            let before = Instant::now();
            share.handled();
            assert!(share.now() >= before);
        }
    }
}
