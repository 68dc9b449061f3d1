//! How long handlers hold the loop: for the statistics, and so that none does so unseen.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use sidewire_platform::{Endpoint, Tally};

use super::Reactor;
use super::system::System;
use crate::counters::Counters;
use crate::recorder::{Begun, Ran, RecordKind, Recorder};

/// What the loop remembers of its handlers.
#[derive(Debug)]
pub(crate) struct Watch {
    counters: Counters,
    slow: Duration,
    /// What ran, and what it was for.
    pub(super) recorder: Recorder,
    /// For how many turns yet the clock is read behind each handler.
    closely: Cell<u32>,
    slow_ones: RefCell<HashMap<Ran, Tally>>,
}

/// Behind so many handlers the clock is read at the latest, where many run in one go.
pub(super) const LOOK_EVERY: u32 = 16;
/// When one among several was slow, it should be known which the next time.
const CLOSE_TURNS: u32 = 10_000;

impl Watch {
    /// `begun`: when the loop was made.
    pub(crate) fn new(slow: Duration, counters: Counters, begun: Instant) -> Watch {
        Watch {
            counters,
            slow,
            recorder: Recorder::new(begun),
            closely: Cell::new(0),
            slow_ones: RefCell::default(),
        }
    }

    /// A turn begins. Behind how many handlers the clock is to be read in it, at most.
    #[inline]
    pub(super) fn begin(&self) -> u32 {
        match self.closely.get() {
            0 => LOOK_EVERY,
            turns => {
                self.closely.set(turns - 1);
                1
            }
        }
    }

    /// So many handlers took so many nanoseconds together.
    #[inline]
    pub(super) fn took(&self, nanos: u64, count: u32) {
        self.counters.handling(nanos, count);
    }

    /// Whether one of those was slow: asked where a turn was longer than it may be.
    #[cold]
    pub(super) fn judge(&self, nanos: u64, endpoint: &Endpoint) {
        let time = Duration::from_nanos(nanos);
        if time >= self.slow {
            self.tell_slow(time, endpoint);
        }
    }

    /// One begins that runs for itself, for this connection, if it is for any.
    pub(super) fn begin_alone(&self, kind: RecordKind, connection: u32, now: Instant) -> Begun<'_> {
        self.recorder.begin_turn(connection, now);
        self.recorder.begin(kind, 0, 0, 0)
    }

    /// It took so long.
    pub(super) fn took_alone(&self, time: Duration, place: &dyn fmt::Display) {
        let nanos = time.as_nanos() as u64;
        self.recorder.looked(nanos, 1, nanos);
        if time >= self.slow {
            self.tell_slow(time, place);
        }
    }

    fn tell_slow(&self, time: Duration, place: &dyn fmt::Display) {
        let mut ran = self.recorder.mark_slow();
        let Some(last) = ran.pop() else { return };
        let mut others = Vec::new();
        for other in ran {
            if other != last && !others.contains(&other) {
                others.push(other);
            }
        }
        if others.is_empty() {
            return self.tell(time, last, place);
        }
        self.closely.set(CLOSE_TURNS);
        self.counters.slow_handler();
        if let Some(so_far) = self.slow_ones.borrow_mut().entry(last).or_default().next_worth_telling() {
            let others: Vec<_> = others.iter().map(Ran::to_string).collect();
            log::warn!(
                "{place}: {last}, {}: one of these held the loop, all together for {time:.0?}, and nobody \
                 else was served; {so_far} times so far",
                others.join(", ")
            );
        }
    }

    fn tell(&self, time: Duration, what: Ran, place: &dyn fmt::Display) {
        self.counters.slow_handler();
        if let Some(so_far) = self.slow_ones.borrow_mut().entry(what).or_default().next_worth_telling() {
            log::warn!(
                "{place}: {what} held the loop for {time:.0?}, and nobody else was served; {so_far} times so far"
            );
        }
    }
}

impl<Y: System> Reactor<Y> {
    /// Something has run for itself since `begun`.
    pub(super) fn took(&self, begun: Instant, place: &dyn fmt::Display) {
        self.watch.took_alone(self.system.now().saturating_duration_since(begun), place);
    }
}
