//! How long handlers hold the loop: for the statistics, and so that none does so unseen.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use sidewire_platform::{Endpoint, Tally};

use super::Reactor;
use super::system::System;
use crate::counters::Counters;

/// Which handler ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ran {
    /// Of requests and notifies of this type.
    Type(i32),
    /// Of new connections.
    Connect,
    /// Of ended connections.
    Disconnect,
    /// Of answers to the server's own calls.
    Callback,
    /// Of streams without frames.
    Stream,
    /// Of datagrams without frames.
    Messages,
    /// A closure for the state.
    Errand,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ran::Type(msg_type) => write!(f, "the handler of type {msg_type}"),
            Ran::Connect => f.write_str("the handler of new connections"),
            Ran::Disconnect => f.write_str("the handler of ended connections"),
            Ran::Callback => f.write_str("the closure for the answer to a call"),
            Ran::Stream => f.write_str("the stream handler"),
            Ran::Messages => f.write_str("the message handler"),
            Ran::Errand => f.write_str("a closure for the state"),
        }
    }
}

/// What the loop remembers of its handlers.
#[derive(Debug)]
pub(crate) struct Watch {
    counters: Counters,
    slow: Duration,
    /// Those since the clock was last read, at the remainder of their number.
    recent: [Cell<Ran>; LOOK_EVERY as usize],
    /// For how many turns yet the clock is read behind each handler.
    closely: Cell<u32>,
    slow_ones: RefCell<HashMap<Ran, Tally>>,
}

/// Behind so many handlers the clock is read at the latest, where many run in one go.
pub(super) const LOOK_EVERY: u32 = 16;
/// When one among several was slow, it should be known which the next time.
const CLOSE_TURNS: u32 = 10_000;

impl Watch {
    pub(crate) fn new(slow: Duration, counters: Counters) -> Watch {
        Watch {
            counters,
            slow,
            recent: [(); LOOK_EVERY as usize].map(|()| Cell::new(Ran::Stream)),
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

    /// The handler with this number in its turn has run.
    #[inline]
    pub(super) fn ran(&self, number: u32, what: Ran) {
        self.recent[(number % LOOK_EVERY) as usize].set(what);
    }

    /// So many handlers took so many nanoseconds together.
    #[inline]
    pub(super) fn took(&self, nanos: u64, count: u32) {
        self.counters.handling(nanos, count);
    }

    /// Whether one of the last `count` of `handled` was slow: asked where a turn was longer than it may be.
    #[cold]
    pub(super) fn judge(&self, nanos: u64, count: u32, handled: u32, endpoint: &Endpoint) {
        let time = Duration::from_nanos(nanos);
        if time >= self.slow {
            self.tell_slow(time, count, handled, endpoint);
        }
    }

    /// The same of one that ran for itself.
    pub(super) fn took_alone(&self, time: Duration, what: Ran, place: &dyn fmt::Display) {
        if time >= self.slow {
            self.tell(time, what, place);
        }
    }

    fn tell_slow(&self, time: Duration, count: u32, handled: u32, endpoint: &Endpoint) {
        let recent = |number: u32| self.recent[(number % LOOK_EVERY) as usize].get();
        let last = recent(handled.wrapping_sub(1));
        let mut others = Vec::new();
        for number in handled.saturating_sub(count.min(LOOK_EVERY))..handled {
            if recent(number) != last && !others.contains(&recent(number)) {
                others.push(recent(number));
            }
        }
        if others.is_empty() {
            return self.tell(time, last, endpoint);
        }
        self.closely.set(CLOSE_TURNS);
        self.counters.slow_handler();
        if let Some(so_far) = self.slow_ones.borrow_mut().entry(last).or_default().next_worth_telling() {
            let others: Vec<_> = others.iter().map(Ran::to_string).collect();
            log::warn!(
                "{endpoint}: {last}, {}: one of these held the loop, all together for {time:.0?}, and nobody \
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
    pub(super) fn took(&self, begun: Instant, what: Ran, place: &dyn fmt::Display) {
        self.watch.took_alone(self.system.now().saturating_duration_since(begun), what, place);
    }
}
