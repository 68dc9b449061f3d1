//! Helpers that are asked with values (feature `serde`).

use super::Helper;
use crate::error::Result;
use crate::typed::{AskError, Asking, Event, Events, Message};

impl Helper {
    /// Asks a message, and waits for its answer: [`Client::ask`](crate::Client::ask).
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask).
    pub fn ask<M: Message>(&self, message: &M) -> Result<M::Reply, AskError<M::Error>> {
        self.client().ask(message)
    }

    /// Begins a request with this message that is to have options of its own, or is not to be waited for here:
    /// [`Client::asking`](crate::Client::asking).
    pub fn asking<'h, M: Message>(&'h self, message: &'h M) -> Asking<'h, M> {
        self.client().asking(message)
    }

    /// Subscribes to an event: [`Client::subscribe_to`](crate::Client::subscribe_to). A restart renews it.
    ///
    /// # Errors
    /// As [`Client::subscribe`](crate::Client::subscribe).
    pub fn subscribe_to<E: Event>(&self) -> Result<Events<E>> {
        self.client().subscribe_to()
    }
}
