//! Asking with values, in tasks: what is in [`crate::typed`], over [`crate::tokio`].

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sidewire_platform::Endpoint;

use super::asking::{Answered, answered, ended};
use super::calls::{Item, UnderWay};
use super::{AskError, Event, Message, Part, Received};
use crate::client::Response;
use crate::error::Result;
use crate::tokio::{self, Client};
use crate::typed;

impl Client {
    /// Asks a message, and waits for its answer: as [`Client::ask`](crate::Client::ask).
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask).
    pub async fn ask<M: Message>(&self, message: &M) -> Result<M::Reply, AskError<M::Error>> {
        self.asking(message).send().await
    }

    /// Begins a request with this message that is to have options of its own, or is not to be waited for here.
    pub fn asking<'c, M: Message>(&'c self, message: &M) -> Asking<'c, M> {
        Asking::of(self.request(M::TYPE), message, self.endpoint())
    }

    /// Subscribes to an event: as [`Client::subscribe_to`](crate::Client::subscribe_to).
    ///
    /// # Errors
    /// As [`subscribe`](Client::subscribe).
    pub async fn subscribe_to<E: Event>(&self) -> Result<Events<E>> {
        Ok(Events::of(self.subscribe(E::TYPE).await?))
    }
}

/// A message that is about to be asked; from [`Client::asking`].
pub type Asking<'c, M> = typed::Asking<'c, M, Client>;

impl<M: Message> Asking<'_, M> {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn send(self) -> Result<M::Reply, AskError<M::Error>> {
        let response = self.request.send(self.bytes?).await;
        answered::<M>(response).map_err(|error| error.at(self.request.client.endpoint()))
    }

    /// Asks, to be waited for later: as [`RequestBuilder::start`](crate::tokio::RequestBuilder::start).
    ///
    /// # Errors
    /// As there.
    pub async fn start(self) -> Result<Pending<M>> {
        Ok(Pending::of(self.request.start(self.bytes?).await?))
    }

    /// Asks, to take the progress as it comes, and then the answer: as
    /// [`RequestBuilder::stream`](crate::tokio::RequestBuilder::stream).
    ///
    /// # Errors
    /// As there.
    pub async fn stream(self) -> Result<Parts<M>> {
        Ok(Parts::of(self.request.stream(self.bytes?).await?))
    }

    /// Tells the server this, and wants no answer: as [`RequestBuilder::notify`](crate::tokio::RequestBuilder::notify).
    ///
    /// # Errors
    /// As there.
    pub async fn tell(self) -> Result<()> {
        self.request.notify(self.bytes?).await
    }
}

/// A message that was asked: a future, which gives the answer; from [`Asking::start`].
pub type Pending<M> = typed::Pending<M, tokio::Pending>;

impl<M: Message> Future for Pending<M> {
    type Output = Answered<M>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered<M>> {
        let response = ready!(Pin::new(&mut self.call).poll(context));
        Poll::Ready(self.answered(response))
    }
}

/// The progress of a message, and then its answer, as a [`Stream`]; from [`Asking::stream`]. It ends behind the answer, or
/// behind an error. Dropped before its end it cancels the call.
pub type Parts<M> = typed::Parts<M, tokio::Parts>;

impl<M: Message> Parts<M> {
    /// What comes next; `None` behind the end.
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask); and for progress that can't be read, which ends it.
    pub async fn next(&mut self) -> Option<Item<M>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Waits for the answer, and tells `progress` of what comes before.
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask); and [`is_invalid_input`](crate::Error::is_invalid_input) if the end was
    /// told before.
    pub async fn wait(
        mut self,
        mut progress: impl FnMut(M::Progress),
    ) -> Result<M::Reply, AskError<M::Error>> {
        while let Some(part) = self.next().await {
            match part? {
                Part::Progress(part) => progress(part),
                Part::Reply(reply) => return Ok(reply),
            }
        }
        Err(ended::<M>())
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

/// The events of one type, as a [`Stream`]; from [`Client::subscribe_to`]. Dropped, it unsubscribes.
///
/// An event that can't be read is an [error](crate::Error::is_protocol) in its place, and the next ones come all the same.
pub type Events<E> = typed::Events<E, tokio::Events>;

impl<E: Event> Events<E> {
    /// The next event; `None` behind the end.
    ///
    /// # Errors
    /// Why the connection has ended, once all events that had come were taken;
    /// [`is_protocol`](crate::Error::is_protocol) for one that can't be read.
    pub async fn next(&mut self) -> Option<Result<Received<E>>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<E: Event> Stream for Events<E> {
    type Item = Result<Received<E>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.events).poll_next(context));
        let received = |event| Received::of(event).map_err(|error| error.at(self.events.topics.endpoint()));
        Poll::Ready(next.map(|event| event.and_then(received)))
    }
}

impl UnderWay for tokio::Pending {
    fn endpoint(&self) -> Endpoint {
        self.call.endpoint().clone()
    }

    fn cancel(&mut self) {
        self.cancel();
    }
}

impl UnderWay for tokio::Parts {
    fn endpoint(&self) -> Endpoint {
        self.coming.endpoint().clone()
    }

    fn cancel(&mut self) {
        self.cancel();
    }

    fn response(&self) -> Option<&Response> {
        self.response()
    }
}
