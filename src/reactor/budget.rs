//! What one peer may have done before others get their turn: bytes, units and time.

use std::cell::Cell;
use std::time::Instant;

use sidewire_platform::Endpoint;

use super::system::System;
use super::watch::Watch;
use crate::limits::TURN_TIME;
use crate::recorder::Recorder;

/// One such turn.
#[derive(Debug)]
pub(super) struct Budget<'a, Y> {
    system: &'a Y,
    watch: &'a Watch,
    endpoint: &'a Endpoint,
    pub(super) bytes: usize,
    /// Units that may still be handled. Whoever handles them counts.
    pub(super) units: Cell<usize>,
    /// How many handlers have run.
    handled: Cell<u32>,
    /// How many had when the clock was last read.
    seen: Cell<u32>,
    next_look: Cell<u32>,
    /// Behind the first handlers the clock is read, since each of them may be a slow one, and then behind every so
    /// many.
    look_every: u32,
    /// What the clock said then.
    looked: Cell<Instant>,
    /// How many nanoseconds the turn had taken.
    taken: Cell<u64>,
}

impl<'a, Y: System> Budget<'a, Y> {
    /// For the connection with this number. `now`: what the system's clock has just said.
    #[inline]
    pub(super) fn begin(
        system: &'a Y,
        watch: &'a Watch,
        endpoint: &'a Endpoint,
        (bytes, units): (usize, usize),
        connection: u32,
        now: Instant,
    ) -> Budget<'a, Y> {
        watch.recorder.begin_turn(connection, now);
        Budget {
            system,
            watch,
            endpoint,
            bytes: bytes.max(1),
            units: Cell::new(units.max(1)),
            handled: Cell::new(0),
            seen: Cell::new(0),
            next_look: Cell::new(1),
            look_every: watch.begin(),
            looked: Cell::new(now),
            taken: Cell::new(0),
        }
    }

    /// A handler has run. Ends the turn if that has taken too long.
    #[inline]
    pub(super) fn handled(&self) {
        let handled = self.handled.get() + 1;
        self.handled.set(handled);
        if handled == self.next_look.get() {
            self.next_look.set(handled + handled.min(self.look_every));
            self.look();
        }
    }

    /// Where is written what handlers of the turn are for, before they run.
    #[inline]
    pub(super) fn recorder(&self) -> &'a Recorder {
        &self.watch.recorder
    }

    /// The time when this was last looked at: from before the last handlers, but not for much longer than they
    /// may take.
    #[inline]
    pub(super) fn looked_at(&self) -> Instant {
        self.looked.get()
    }

    /// The time, not from before a handler.
    #[inline]
    pub(super) fn now(&self) -> Instant {
        if self.seen.get() != self.handled.get() {
            self.look_late();
        }
        self.looked.get()
    }

    /// The last handlers of a turn have no look of their own.
    #[inline(never)]
    fn look_late(&self) {
        self.look();
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.units.get() == 0 || self.bytes == 0
    }

    #[inline(always)]
    fn look(&self) {
        let now = self.system.now();
        // Whoever takes more of it than 64 bits hold has never come back.
        let time = now.saturating_duration_since(self.looked.replace(now)).as_nanos() as u64;
        let handled = self.handled.get();
        let count = handled - self.seen.replace(handled);
        self.watch.took(time, count);
        let taken = self.taken.get() + time;
        self.taken.set(taken);
        self.watch.recorder.looked(time, count, taken);
        if taken >= TURN_NANOS {
            self.units.set(0);
            self.watch.judge(time, self.endpoint);
        }
    }
}

/// What a turn may take, as it is counted here.
const TURN_NANOS: u64 = TURN_TIME.as_nanos() as u64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::counters::Counters;
    use crate::reactor::system::memory::World;
    use crate::reactor::watch::LOOK_EVERY;
    use crate::recorder::NOBODY;

    fn watch() -> (Watch, Endpoint) {
        (
            Watch::new(TURN_TIME, Counters::new(0), Instant::now()),
            "local:memory".parse().expect("an endpoint"),
        )
    }

    #[test]
    fn a_turn_is_over_by_units_bytes_or_time() {
        let world = World::new();
        let system = world.system();
        let (watch, endpoint) = watch();
        let begin =
            |bytes, units| Budget::begin(&system, &watch, &endpoint, (bytes, units), NOBODY, world.now());
        let mut budget = begin(1, 2);
        budget.units.set(1);
        assert!(!budget.is_over());
        budget.bytes = 0;
        assert!(budget.is_over());
        let budget = begin(1, 100);
        for _ in 0..40 {
            budget.handled();
        }
        assert!(!budget.is_over());
        world.pass(TURN_TIME);
        assert!(!budget.is_over(), "time passes while handlers run");
        for _ in 0..LOOK_EVERY {
            budget.handled();
        }
        assert!(budget.is_over());
        let budget = begin(1, 100);
        world.pass(TURN_TIME);
        budget.handled();
        assert!(budget.is_over(), "the first handler may be a slow one");
    }

    #[test]
    fn the_time_is_never_from_before_a_handler() {
        let world = World::new();
        let system = world.system();
        let (watch, endpoint) = watch();
        let budget = Budget::begin(&system, &watch, &endpoint, (1, 100), NOBODY, world.now());
        for _ in 0..40 {
            assert_eq!(budget.now(), world.now());
            world.pass(Duration::from_micros(10));
            budget.handled();
        }
        assert_eq!(budget.now(), world.now());
    }
}
