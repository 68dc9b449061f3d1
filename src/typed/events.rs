//! Events with values: published, and heard of.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use super::{Codec, Event, encode};
use crate::client::{self, Client, Renewal};
use crate::error::{Error, Kind, Result};
use crate::server::{Remote, Request, Server, Threads, TypeInfo};
use sidewire_wire::{Executed, Failure, WhenSlow};

impl<S, T: Threads> Server<S, T> {
    /// Lets clients subscribe to an event, and says what becomes of one for a client that reads too slowly: as
    /// [`topic`](Server::topic).
    ///
    /// ```
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Increment;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Changed { count: u64 }
    /// use sidewire::{Server, WhenSlow};
    ///
    /// sidewire::messages! { 1 => Increment; }
    /// sidewire::events! { 1 => Changed; }
    ///
    /// let mut server = Server::new(0u64);
    /// server.publishes::<Changed>(WhenSlow::KeepLatest);
    /// server.serve_with::<Increment>(|count, _, request| {
    ///     *count += 1;
    ///     request.publish_event(&Changed { count: *count })
    /// });
    /// ```
    ///
    /// # Panics
    /// If the number lies beyond the dispatch table ([`ServerBuilder::types`](crate::ServerBuilder::types)), or another
    /// event has it.
    #[track_caller]
    pub fn publishes<E: Event>(&mut self, when_slow: WhenSlow) {
        self.topic_type(TypeInfo { number: E::TYPE, name: E::NAME }, when_slow);
    }
}

impl Request<'_> {
    /// Tells an event to all who have subscribed to it: as [`publish`](Request::publish).
    ///
    /// # Errors
    /// As [`publish`](Request::publish); "handler failed" (-10) if it can't be encoded.
    pub fn publish_event<E: Event>(&self, event: &E) -> Result<(), Failure> {
        let mut payload = Vec::new();
        encode::<E::Codec, _>(E::NAME, event, &mut payload)?;
        self.publish(E::TYPE, payload)
    }
}

impl<S> Remote<S> {
    /// Tells an event to all who have subscribed to it: as [`publish`](Remote::publish).
    ///
    /// # Errors
    /// As [`publish`](Remote::publish); [`is_invalid_input`](Error::is_invalid_input) if it can't be encoded.
    pub fn publish_event<E: Event>(&self, event: &E) -> Result<()> {
        let mut payload = Vec::new();
        let encoded = E::Codec::encode(event, &mut payload);
        encoded.map_err(|error| {
            Error::invalid("publish", &format!("`{}` cannot be written: {error}", E::NAME))
        })?;
        self.publish(E::TYPE, payload)
    }
}

impl Client {
    /// Subscribes to an event, within the client's call timeout.
    ///
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Changed { count: u64 }
    /// sidewire::events! { 1 => Changed; }
    ///
    /// let client = sidewire::Client::connect("local:com.example.app")?;
    /// for changed in client.subscribe_to::<Changed>()? {
    ///     let changed = changed?;
    ///     println!("{}, and {} missed before", changed.count, changed.dropped());
    /// }
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Client::subscribe).
    pub fn subscribe_to<E: Event>(&self) -> Result<Events<E>> {
        Ok(Events::of(self.subscribe(E::TYPE)?))
    }
}

/// The events of one type, as they come; from [`Client::subscribe_to`]. Dropped, it unsubscribes. All else is as with
/// the untyped [`Events`](crate::Events).
///
/// An event that can't be read is an [error](Error::is_protocol) in its place, and the next ones come all the
/// same.
#[must_use = "it unsubscribes when it is dropped"]
pub struct Events<E: Event, S = client::Events> {
    pub(crate) events: S,
    event: PhantomData<fn() -> E>,
}

impl<E: Event, S> Events<E, S> {
    pub(crate) fn of(events: S) -> Events<E, S> {
        Events { events, event: PhantomData }
    }
}

impl<E: Event> Events<E> {
    /// The next event, if one comes within `timeout`. With no time at all it is one that is there already.
    ///
    /// # Errors
    /// As [`Events::next_timeout`](crate::Events::next_timeout); [`is_protocol`](Error::is_protocol) for one that can't
    /// be read.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Received<E>>> {
        let event = self.events.next_timeout(timeout)?;
        event.map(|event| self.received(event)).transpose()
    }
}

impl<E: Event> Events<E> {
    fn received(&self, event: client::Event) -> Result<Received<E>> {
        Received::of(event).map_err(|error| error.at(self.events.endpoint()))
    }
}

impl<E: Event> Iterator for Events<E> {
    type Item = Result<Received<E>>;

    fn next(&mut self) -> Option<Result<Received<E>>> {
        Some(self.events.next()?.and_then(|event| self.received(event)))
    }
}

impl<E: Event, S: fmt::Debug> fmt::Debug for Events<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&E::NAME).field(&self.events).finish()
    }
}

/// An event that has come: the event, and how it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<E> {
    event: E,
    sequence: u32,
    dropped: u32,
    renewal: Option<Renewal>,
}

impl<E> Received<E> {
    /// Its number within the subscription: as [`Event::sequence`](crate::Event::sequence).
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// How many were dropped since the one before: as [`Event::dropped`](crate::Event::dropped).
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Whether the subscription was renewed before this: as [`Event::renewal`](crate::Event::renewal).
    #[must_use]
    pub fn renewal(&self) -> Option<Renewal> {
        self.renewal
    }

    /// The event itself, to keep.
    #[must_use]
    pub fn into_event(self) -> E {
        self.event
    }
}

impl<E: Event> Received<E> {
    pub(crate) fn of(event: client::Event) -> Result<Received<E>> {
        let (sequence, dropped, renewal) = (event.sequence(), event.dropped(), event.renewal());
        match E::Codec::decode(event.payload()) {
            Ok(event) => Ok(Received { event, sequence, dropped, renewal }),
            Err(error) => {
                let kind = Kind::Protocol(format!("an event cannot be read as `{}`: {error}", E::NAME));
                let error = Error::of_server("wait for events", None, kind).of_type(E::TYPE);
                Err(error.with_executed(Executed::Never))
            }
        }
    }
}

impl<E> Deref for Received<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.event
    }
}
