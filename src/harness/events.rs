//! Events that a client of a harness has subscribed to.

use std::time::Duration;

use super::client::Seated;
use super::peer::Awake;
use crate::client::Event;
use crate::error::Result;
use sidewire_wire::Layout;
use sidewire_wire::caller::{Outcome, Purpose, Seat};

/// The events of one or more topics, as they come; from [`Client::subscribe`](super::Client::subscribe). Dropped, it
/// unsubscribes.
///
/// As an iterator it gives those that have come by now, and then none, until more have: no time passes. What other
/// threads publish is waited for with [`Harness::wait_for_threads`](super::Harness::wait_for_threads).
#[derive(Debug)]
#[must_use = "it unsubscribes when it is dropped"]
pub struct Events {
    client: Seated,
    seat: Seat,
    timeout: Option<Duration>,
}

const SUBSCRIBE: &str = "subscribe";

impl Events {
    /// Nothing is subscribed to yet.
    pub(super) fn of(client: &Seated, timeout: Option<Duration>) -> Events {
        let seat = client.caller(|caller| caller.listen());
        Events { client: client.clone(), seat, timeout }
    }

    /// Subscribes to one more topic: its events come among the others, in the order in which the server sends them.
    ///
    /// # Errors
    /// As [`Client::subscribe`](super::Client::subscribe); the others are still subscribed to then.
    pub fn add(&mut self, topic: u16) -> Result<()> {
        let added = self.subscribe(topic);
        if added.is_err() {
            self.client.caller(|caller| caller.unsubscribe(self.seat, topic));
            self.client.stage().settle();
        }
        added.map_err(|error| self.client.explain(error, topic, self.timeout))
    }

    fn subscribe(&self, topic: u16) -> Result<()> {
        if self.client.caller(|caller| caller.layout()) == Some(Layout::Classic) {
            return Err(self.client.invalid(SUBSCRIBE, "the classic layout has no events"));
        }
        let deadline = self.client.deadline(self.timeout);
        let mut stage = self.client.admit(SUBSCRIBE, Purpose::Call(0), deadline)?;
        let id = self.client.begin(&mut stage, SUBSCRIBE, |caller| {
            let id = caller.subscribe(self.seat, topic, deadline)?;
            caller.attend(Seat::Call(id), deadline, Awake);
            Ok(id)
        })?;
        let reply = self.client.reply(&mut stage, SUBSCRIBE, Seat::Call(id))?;
        reply.checked_as(SUBSCRIBE, &stage.endpoint).map(|_| ())
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        match self.client.look(self.seat)? {
            Outcome::Event(published) => Some(Event::new(published, None)),
            _ => None,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(mut stage) = self.client.stage_at_the_end() {
            stage.peers[self.client.index()].caller.leave(self.seat);
            stage.settle();
        }
    }
}
