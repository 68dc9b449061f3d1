//! Our pings, for an owner who waits for their pongs with the connection's deadlines.

use std::time::{Duration, Instant};

use super::Connection;
use crate::memory::NoMemory;

impl Connection {
    /// Our pings that have no pong yet, and whose time is not over.
    #[must_use]
    pub fn pings(&self) -> usize {
        self.open_calls.as_ref().map_or(0, |calls| calls.pinged.len())
    }

    /// Asks the peer for a sign of life (v1), which is waited for until then, and gives its id. Not to be mixed with
    /// [`push_ping`](Connection::push_ping), whose ids are its owner's.
    pub fn begin_ping(&mut self, now: Instant, until: Option<Instant>) -> Result<u32, NoMemory> {
        let id = self.open_calls.get_or_insert_default().pinged.next_id();
        self.push_ping(id)?;
        self.open_calls.get_or_insert_default().pinged.begin(id, now, until);
        Ok(id)
    }

    /// What was [begun](Connection::begin_ping) and is answered by the pong that [has come](crate::Event::Pong) by
    /// `now`, and how long that took. Ask until there is none.
    #[must_use]
    pub fn poll_ponged(&mut self, pong: u32, now: Instant) -> Option<(u32, Duration)> {
        self.open_calls.as_mut()?.pinged.answer(pong, now)
    }

    /// Gives up a ping whose time is over by `now`, and says which it was. Ask until there is none, whenever
    /// [`next_deadline`](Connection::next_deadline) has passed.
    #[must_use]
    pub fn poll_pinged(&mut self, now: Instant) -> Option<u32> {
        self.open_calls.as_mut()?.pinged.expire(now)
    }
}
