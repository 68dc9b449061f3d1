//! What comes later: the reply of a call that was started, its parts, events. Each is polled at its seat.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::medium::Tasks;
use super::waiting::{Going, Timer};
use crate::client::{
    Begun, Coming, Event, Listening, Response, Started, StartedCourse as Course, Subscribed, deadline_in,
};
use crate::error::Result;
use sidewire_wire::Executed;
use sidewire_wire::caller::Outcome;

/// A call that was started; from [`Client::start`](super::Client::start). It is a future, which gives the reply.
///
/// Its time limit runs from when it was started. Dropped before its end is known it is cancelled: the server is told
/// that nobody needs the answer any more. When its [`Client`](super::Client) is closed or dropped it ends.
///
/// ```no_run
/// # async fn example() -> sidewire::Result<()> {
/// const RENDER: u16 = 7;
/// let client = sidewire::tokio::Client::connect("local:com.example.app").await?;
/// let (first, second) = (client.start(RENDER, "page 1").await?, client.start(RENDER, "page 2").await?);
/// println!("{} and {} bytes", first.await?.payload().len(), second.await?.payload().len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a call is cancelled when this is dropped"]
pub struct Pending {
    pub(crate) call: Started<Tasks>,
    timer: Timer,
    /// Where it was lost, and goes over the next connection.
    going: Going<Begun<Tasks>>,
}

impl Pending {
    pub(super) fn of(call: Started<Tasks>) -> Pending {
        let timer = Timer::until(call.deadline);
        Pending { call, timer, going: Going::nowhere() }
    }

    /// Tells the server that nobody needs the answer any more. It may still give one; if not, the call is
    /// answered "cancelled" (-8). Who waits for neither just drops it.
    ///
    /// In the classic layout there is no such word, and nothing happens.
    pub fn cancel(&mut self) {
        self.call.cancel();
    }
}

impl Future for Pending {
    type Output = Result<Response>;

    /// # Panics
    /// Never; asked again behind its end it says so.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Response>> {
        let Pending { call, timer, going } = &mut *self;
        loop {
            match call.course {
                Course::Open(seat) => {
                    let (state, outcome) = ready!(call.connection.poll_seat(seat, timer, context));
                    let outcome = outcome.unwrap_or(Outcome::TimedOut(Executed::Perhaps));
                    let result = call.connection.result(&state, outcome);
                    drop(state);
                    if let Some(told) = call.came(result) {
                        return Poll::Ready(told);
                    }
                }
                Course::Lost(_) => {
                    let begun = ready!(going.poll(|| call.again(call.deadline), context));
                    call.go_on(begun);
                }
                Course::Decided(_) | Course::Told => return Poll::Ready(call.tell()),
            }
        }
    }
}

/// The parts of one reply, as a [`Stream`]; from [`Client::stream`](super::Client::stream). Dropped before its end, it
/// cancels the call.
///
/// It waits for each part for as long as the request's time limit says, from when it is asked for. All else is as with
/// the blocking [`Parts`](crate::Parts).
#[derive(Debug)]
#[must_use = "the call is cancelled when this is dropped"]
pub struct Parts {
    pub(crate) coming: Coming<Tasks>,
    /// Of the part that is waited for.
    timer: Timer,
}

impl Parts {
    pub(super) fn of(coming: Coming<Tasks>) -> Parts {
        Parts { coming, timer: Timer::until(None) }
    }

    /// The final reply, once all parts were taken, if its result code is 0.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        self.coming.response()
    }

    /// Tells the server that nobody needs more. Parts that were under way still come, and then the end: usually
    /// "cancelled" (-8). Who waits for neither just drops it.
    pub fn cancel(&mut self) {
        self.coming.cancel();
    }

    /// The next part; `None` behind the last.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Parts {
    type Item = Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Parts { coming, timer } = &mut *self;
        let Some(seat) = coming.seat() else { return Poll::Ready(None) };
        if timer.deadline.is_none() {
            timer.deadline = deadline_in(coming.timeout);
        }
        let (mut state, outcome) = ready!(coming.connection.poll_seat(seat, timer, context));
        if let Some(Outcome::Part(_)) = outcome {
            // The credit that was given back.
            coming.connection.offer(&mut state);
            timer.deadline = None;
        }
        drop(state);
        Poll::Ready(coming.come(outcome))
    }
}

/// The events of one or more topics, as a [`Stream`]; from [`Client::subscribe`](super::Client::subscribe). Dropped, it
/// unsubscribes.
///
/// It ends with the connection, and gives the reason as its last item; with
/// [`Connect::reconnect`](crate::Connect::reconnect) whoever waits for the next event connects anew and subscribes again.
/// All else is as with the blocking [`Events`](crate::Events).
///
/// ```no_run
/// # async fn example() -> sidewire::Result<()> {
/// const CHANGED: u16 = 1;
/// let client = sidewire::tokio::Client::connect("local:com.example.app").await?;
/// let mut changes = client.subscribe(CHANGED).await?;
/// while let Some(change) = changes.next().await {
///     println!("{} bytes", change?.payload().len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it unsubscribes when it is dropped"]
pub struct Events {
    pub(crate) topics: Subscribed<Tasks>,
    timer: Timer,
    /// Where the subscriptions were lost, and are renewed.
    renewing: Going<Listening<Tasks>>,
}

impl Events {
    pub(super) fn of(topics: Subscribed<Tasks>) -> Events {
        Events { topics, timer: Timer::until(None), renewing: Going::nowhere() }
    }

    /// Subscribes to one more topic: its events come among the others, in the order in which the server sends them.
    ///
    /// # Errors
    /// As [`Client::subscribe`](super::Client::subscribe); the others are still subscribed to then.
    pub async fn add(&mut self, topic: u16) -> Result<()> {
        self.renewing = Going::nowhere();
        self.topics.add(topic).await
    }

    /// The next event; `None` behind the end. With a limit: `tokio::time::timeout(limit, events.next())`.
    ///
    /// # Errors
    /// Why the connection has ended, once all events that had come were taken.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<Event>> {
        let Events { topics, timer, renewing } = self;
        loop {
            if topics.is_lost() {
                let place = ready!(renewing.poll(|| topics.next_place(None), context));
                topics.resume(place?);
            }
            let Listening { connection, seat } = &topics.place;
            let (state, outcome) = ready!(connection.poll_seat(*seat, timer, context));
            let heard = connection.event(&state, outcome.unwrap_or(Outcome::Ended(Executed::Perhaps)));
            drop(state);
            if let Some(event) = topics.heard(heard) {
                return Poll::Ready(event);
            }
        }
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.topics.has_ended() {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_event(context));
        if next.is_err() {
            self.topics.end();
        }
        Poll::Ready(Some(next))
    }
}
