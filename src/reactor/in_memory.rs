//! A loop in memory that takes the place of a real one: it is reached by the same mailbox, and has no sockets.

use std::io;
use std::time::Duration;

use super::system::memory::{Memory, World};
use super::system::{Os, System};
use super::{EVENTS, Reactor};
use crate::counters::Counters;
use crate::limits::Limits;

impl Reactor {
    /// Whether nothing was opened or brought here.
    pub(crate) fn is_bare(&self) -> bool {
        self.sources.is_empty()
    }

    /// One in that world for those who have a way to this one.
    pub(crate) fn in_memory(
        &self,
        world: &World,
        limits: Limits,
        counters: Counters,
    ) -> io::Result<Reactor<Memory>> {
        let mut reactor = Reactor::reached_by(self.mailbox(), world.system(), limits, counters)?;
        reactor.leave_as(self);
        Ok(reactor)
    }

    /// Sleeps until somebody wakes it, which he does who has left mail, and for so long at most.
    pub(crate) fn sleep(&mut self, limit: Duration) -> io::Result<()> {
        let mut events = self.events.take().unwrap_or_else(|| Os::events(EVENTS));
        let slept = self.system.poll(&mut events, Some(limit));
        self.events = Some(events);
        match slept {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            slept => slept,
        }
    }
}

impl Reactor<Memory> {
    /// Whether somebody has yet to answer what was left for later.
    pub(crate) fn is_owing(&self) -> bool {
        !self.deferred.is_empty()
    }
}
