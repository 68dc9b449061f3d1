//! Asking with values, in tasks: what is in [`crate::typed`], over this client.

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use super::{Client, RequestBuilder};
use crate::error::{Error, Result};
use crate::typed::asking::{Answered, answered, encoded};
use crate::typed::calls::{Item, item};
use crate::typed::{AskError, Event, Message, Part, Received};

impl Client {
    /// Asks a message, and waits for its answer: as [`Client::ask`](crate::Client::ask).
    ///
    /// ```no_run
    /// # async fn example() -> sidewire::Result<()> {
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Pack { folder: String }
    /// sidewire::messages! {
    ///     2 => Pack -> u64;
    /// }
    ///
    /// let client = sidewire::tokio::Client::connect("local:com.example.app").await?;
    /// let bytes = client.ask(&Pack { folder: "/tmp/a".into() }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask).
    pub async fn ask<M: Message>(&self, message: &M) -> Result<M::Reply, AskError<M::Error>> {
        self.asking(message).send().await
    }

    /// Begins a request with this message that is to have options of its own, or is not to be waited for here.
    pub fn asking<'c, M: Message>(&'c self, message: &M) -> Asking<'c, M> {
        let bytes = encoded(message).map_err(|why| Error::new("call", self.endpoint(), why).of_type(M::TYPE));
        Asking { client: self, request: self.request(M::TYPE), bytes, message: PhantomData }
    }

    /// Subscribes to an event: as [`Client::subscribe_to`](crate::Client::subscribe_to).
    ///
    /// # Errors
    /// As [`subscribe`](Client::subscribe).
    pub async fn subscribe_to<E: Event>(&self) -> Result<Events<E>> {
        Ok(Events { events: self.subscribe(E::TYPE).await?, event: PhantomData })
    }
}

/// A message that is about to be asked; from [`Client::asking`].
#[must_use = "nothing happens before send(), start(), stream() or tell()"]
pub struct Asking<'c, M> {
    client: &'c Client,
    request: RequestBuilder<'c>,
    bytes: Result<Vec<u8>>,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Asking<'_, M> {
    /// As [`RequestBuilder::timeout`].
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.request = self.request.timeout(timeout);
        self
    }

    /// As [`RequestBuilder::idempotent`].
    pub fn idempotent(mut self) -> Self {
        self.request = self.request.idempotent();
        self
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn send(self) -> Result<M::Reply, AskError<M::Error>> {
        let response = self.request.send(self.bytes?).await;
        answered::<M>(response).map_err(|error| error.at(self.client.endpoint()))
    }

    /// Asks, to be waited for later: as [`RequestBuilder::start`].
    ///
    /// # Errors
    /// As [`RequestBuilder::start`].
    pub async fn start(self) -> Result<Pending<M>> {
        Ok(Pending { call: self.request.start(self.bytes?).await?, message: PhantomData })
    }

    /// Asks, to take the progress as it comes, and then the answer: as [`RequestBuilder::stream`].
    ///
    /// # Errors
    /// As [`RequestBuilder::stream`].
    pub async fn stream(self) -> Result<Parts<M>> {
        Ok(Parts { parts: Some(self.request.stream(self.bytes?).await?), message: PhantomData })
    }

    /// Tells the server this, and wants no answer: as [`RequestBuilder::notify`].
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`].
    pub async fn tell(self) -> Result<()> {
        self.request.notify(self.bytes?).await
    }
}

impl<M: Message> fmt::Debug for Asking<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("message", &M::NAME).finish_non_exhaustive()
    }
}

/// A message that was asked: a future, which gives the answer; from [`Asking::start`].
#[must_use = "the call is cancelled when this is dropped"]
pub struct Pending<M> {
    call: super::Pending,
    message: PhantomData<fn() -> M>,
}

impl<M> Pending<M> {
    /// Tells the server that nobody needs the answer any more: as [`Pending::cancel`](super::Pending::cancel).
    pub fn cancel(&mut self) {
        self.call.cancel();
    }
}

impl<M: Message> Future for Pending<M> {
    type Output = Answered<M>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered<M>> {
        let response = ready!(Pin::new(&mut self.call).poll(context));
        Poll::Ready(answered::<M>(response).map_err(|error| error.at(self.call.endpoint())))
    }
}

impl<M: Message> fmt::Debug for Pending<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&M::NAME).field(&self.call).finish()
    }
}

/// The progress of a message, and then its answer, as a [`Stream`]; from [`Asking::stream`]. It ends behind the answer, or
/// behind an error. Dropped before its end it cancels the call.
#[must_use = "the call is cancelled when this is dropped"]
pub struct Parts<M> {
    /// `None` at its end.
    parts: Option<super::Parts>,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Parts<M> {
    /// What comes next; `None` behind the end.
    ///
    /// # Errors
    /// As [`Client::ask`]; and for progress that can't be read, which ends it.
    pub async fn next(&mut self) -> Option<Item<M>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Tells the server that nobody needs more: as [`Parts::cancel`](super::Parts::cancel).
    pub fn cancel(&mut self) {
        if let Some(parts) = &mut self.parts {
            parts.cancel();
        }
    }

    fn item(&mut self, next: Option<Result<Vec<u8>>>) -> Option<Item<M>> {
        let parts = self.parts.take()?;
        let item = item::<M>(next, parts.response())?.map_err(|error| error.at(parts.endpoint()));
        if let Ok(Part::Progress(_)) = item {
            self.parts = Some(parts);
        }
        Some(item)
    }
}

impl<M: Message> Stream for Parts<M> {
    type Item = Item<M>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item<M>>> {
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        let next = ready!(Pin::new(parts).poll_next(context));
        Poll::Ready(self.item(next))
    }
}

impl<M: Message> fmt::Debug for Parts<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parts").field(&M::NAME).field(&self.parts).finish()
    }
}

/// The events of one type, as a [`Stream`]; from [`Client::subscribe_to`]. Dropped, it unsubscribes.
///
/// An event that can't be read is an [error](Error::is_protocol) in its place, and the next ones come all the same.
#[must_use = "it unsubscribes when it is dropped"]
pub struct Events<E> {
    events: super::Events,
    event: PhantomData<fn() -> E>,
}

impl<E: Event> Events<E> {
    /// The next event; `None` behind the end.
    ///
    /// # Errors
    /// As [`Events::next`](super::Events::next); [`is_protocol`](Error::is_protocol) for one that can't be read.
    pub async fn next(&mut self) -> Option<Result<Received<E>>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<E: Event> Stream for Events<E> {
    type Item = Result<Received<E>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.events).poll_next(context));
        let received = |event| Received::of(event).map_err(|error| error.at(self.events.endpoint()));
        Poll::Ready(next.map(|event| event.and_then(received)))
    }
}

impl<E: Event> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&E::NAME).field(&self.events).finish()
    }
}
