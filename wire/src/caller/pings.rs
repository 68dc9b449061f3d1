//! Those who wait for the server's sign of life.

use std::time::Instant;

use super::seats::Seat;
use super::step::Outcome;
use super::waiter::Waiter;
use super::{Caller, Wake};
use crate::by_id::ById;
use crate::call_rules;
use crate::executed::Executed;
use crate::memory::NoMemory;

/// A ping that was sent.
#[derive(Debug)]
pub(super) enum Ping<W> {
    Open(Waiter<W>),
    Answered,
}

/// All of a connection.
#[derive(Debug)]
pub(super) struct Pings<W> {
    by_id: ById<Ping<W>>,
    last_id: u32,
}

impl<W> Pings<W> {
    pub(super) fn new() -> Pings<W> {
        Pings { by_id: ById::default(), last_id: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn waiter(&self, id: u32) -> Option<&Waiter<W>> {
        match self.by_id.get(&id)? {
            Ping::Open(waiter) => Some(waiter),
            Ping::Answered => None,
        }
    }

    pub(super) fn waiter_mut(&mut self, id: u32) -> Option<&mut Waiter<W>> {
        match self.by_id.get_mut(&id)? {
            Ping::Open(waiter) => Some(waiter),
            Ping::Answered => None,
        }
    }

    /// Those that are open.
    pub(super) fn waiters(&self) -> impl Iterator<Item = (Seat, &Waiter<W>)> {
        self.by_id.iter().filter_map(|(id, ping)| match ping {
            Ping::Open(waiter) => Some((Seat::Ping(*id), waiter)),
            Ping::Answered => None,
        })
    }

    pub(super) fn remove(&mut self, id: u32) {
        self.by_id.remove(&id);
    }
}

impl<W: Wake> Pings<W> {
    /// A pong answers the ping with its id, and all before it.
    pub(super) fn answer(&mut self, id: u32) {
        for (ping, state) in &mut self.by_id {
            if !call_rules::is_behind(*ping, id)
                && let Ping::Open(waiter) = std::mem::replace(state, Ping::Answered)
            {
                waiter.waker.wake();
            }
        }
    }
}

impl<W: Wake> Caller<W> {
    /// Asks the server for a sign of life (v1), if a request without payload and answer may
    /// [begin](Caller::may_begin), and attends it.
    pub fn ping(&mut self, deadline: Option<Instant>, waker: W) -> Result<Seat, NoMemory> {
        let pings = &mut self.seats.pings;
        let id = pings.last_id.wrapping_add(1).max(1);
        self.connection.push_ping(id)?;
        pings.last_id = id;
        pings.by_id.insert(id, Ping::Open(Waiter::new(waker, deadline)));
        self.seats.expect(Seat::Ping(id));
        Ok(Seat::Ping(id))
    }

    pub(super) fn ping_outcome(&self, id: u32) -> Option<Outcome> {
        match self.seats.pings.by_id.get(&id)? {
            Ping::Answered => Some(Outcome::Ready),
            Ping::Open(_) => self.is_over().then_some(Outcome::Ended(Executed::Never)),
        }
    }
}
