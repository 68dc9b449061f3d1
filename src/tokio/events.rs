//! Events of topics that were subscribed to.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
#[cfg(feature = "serde")]
use sidewire_platform::Endpoint;

use super::line::{Line, deadline_in};
use super::waiting::{Connection, Place, Tasks, Timer};
use crate::client::{
    Event, Listening, Medium, Renewed, Response, SUBSCRIBE, WAIT_FOR_EVENTS, explain_request,
};
use crate::error::Result;
use sidewire_wire::Executed;
use sidewire_wire::caller::{Outcome, Purpose, Seat};

/// The events of one or more topics, as a [`Stream`]; from [`Client::subscribe`](super::Client::subscribe). Dropped, it
/// unsubscribes.
///
/// It ends with the connection: behind what had come it gives the reason as its last item. With
/// [`Connect::reconnect`](crate::Connect::reconnect) it does not: whoever waits for the next event connects anew and
/// subscribes again, and [`Event::renewal`] says so.
///
/// Events that nobody waits for are kept as [`Events`](crate::Events) says: those that are read along with something else,
/// up to [`ConnectionLimits::event_queue`](crate::ConnectionLimits::event_queue), the others with the server.
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
#[must_use = "it unsubscribes when it is dropped"]
pub struct Events {
    line: Line,
    place: Listening<Tasks>,
    topics: Vec<u16>,
    renewed: Renewed,
    /// How long a subscribe may take.
    timeout: Option<Duration>,
    timer: Timer,
    course: Course,
}

enum Course {
    Open,
    /// The subscriptions have ended with their connection, of a server that was this one, and are renewed.
    Lost(Option<[u8; 16]>, Pin<Box<dyn Future<Output = Result<Listening<Tasks>>> + Send>>),
    Ended,
}

impl Events {
    /// Nothing is subscribed to yet.
    pub(super) async fn of(line: &Line, timeout: Option<Duration>) -> Result<Events> {
        let place = Listening::on(line.connection(SUBSCRIBE, deadline_in(timeout)).await?);
        let (line, timer) = (line.clone(), Timer::default());
        let (topics, renewed, course) = (Vec::new(), Renewed::default(), Course::Open);
        Ok(Events { line, place, topics, renewed, timeout, timer, course })
    }

    /// Subscribes to one more topic: its events come among the others, in the order in which the server sends them.
    ///
    /// # Errors
    /// As [`Client::subscribe`](super::Client::subscribe); the others are still subscribed to then.
    pub async fn add(&mut self, topic: u16) -> Result<()> {
        let added = self.subscribe_over(topic).await;
        added.map_err(|error| {
            explain_request(error, topic, self.timeout, self.place.connection.channel().peer())
        })?;
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
        Ok(())
    }

    /// Over the connection, and the next ones as long as it is lost with them.
    async fn subscribe_over(&mut self, topic: u16) -> Result<()> {
        let deadline = deadline_in(self.timeout);
        loop {
            std::future::poll_fn(|context| self.poll_renewal(context)).await?;
            match self.place.subscribe(topic, deadline).await {
                Err(error) if error.lost().is_some() && self.line.is_lasting() => self.lose(),
                result => return self.place.connection.told(result),
            }
        }
    }

    /// The next event; `None` behind the end. With a limit: `tokio::time::timeout(limit, events.next())`.
    ///
    /// # Errors
    /// Why the connection has ended, once all events that had come were taken.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    #[cfg(feature = "serde")]
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.place.connection.endpoint()
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<Event>> {
        loop {
            ready!(self.poll_renewal(context))?;
            let Listening { connection, seat } = &self.place;
            let (state, outcome) = ready!(connection.poll_seat(*seat, None, &mut self.timer, context));
            let outcome = outcome.unwrap_or(Outcome::Ended(Executed::Perhaps));
            let next = connection.event(&state, outcome);
            drop(state);
            match next {
                Ok(published) => return Poll::Ready(Ok(self.renewed.event(published))),
                Err(error) if error.lost().is_some() && self.line.is_lasting() => self.lose(),
                Err(error) => return Poll::Ready(connection.told(Err(error))),
            }
        }
    }

    fn lose(&mut self) {
        let (line, topics, timeout) = (self.line.clone(), self.topics.clone(), self.timeout);
        let renewing = Box::pin(async move { renew(&line, &topics, timeout).await });
        self.course = Course::Lost(self.place.connection.instance(), renewing);
    }

    /// Ready when it is subscribed over a connection that stands, as far as is known.
    fn poll_renewal(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Course::Lost(before, renewing) = &mut self.course else { return Poll::Ready(Ok(())) };
        match ready!(renewing.as_mut().poll(context)) {
            Ok(place) => {
                self.renewed = place.renewed(&self.topics, *before);
                (self.place, self.course) = (place, Course::Open);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                // Tried again by whoever comes next.
                self.lose();
                Poll::Ready(Err(error))
            }
        }
    }
}

/// Subscribes to all topics over the next connection.
async fn renew(line: &Line, topics: &[u16], timeout: Option<Duration>) -> Result<Listening<Tasks>> {
    loop {
        let place = Listening::on(line.connection(WAIT_FOR_EVENTS, None).await?);
        let mut result = Ok(());
        for topic in topics {
            result = place.subscribe(*topic, deadline_in(timeout)).await;
            if result.is_err() {
                break;
            }
        }
        match result {
            Err(error) if error.lost().is_some() => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(place),
        }
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Course::Ended = self.course {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_event(context));
        if next.is_err() {
            self.course = Course::Ended;
        }
        Poll::Ready(Some(next))
    }
}

impl Listening<Tasks> {
    async fn subscribe(&self, topic: u16, deadline: Option<Instant>) -> Result<()> {
        let unaccepted = Unaccepted { place: self, topic };
        self.connection.subscribe(self.seat, topic, deadline).await?;
        std::mem::forget(unaccepted);
        Ok(())
    }
}

/// A subscription in the making: dropped, or refused, it is none.
struct Unaccepted<'p> {
    place: &'p Listening<Tasks>,
    topic: u16,
}

impl Drop for Unaccepted<'_> {
    fn drop(&mut self) {
        self.place.unsubscribe(self.topic);
    }
}

impl Connection {
    async fn subscribe(&self, seat: Seat, topic: u16, deadline: Option<Instant>) -> Result<()> {
        self.check_has_events(&self.lock())?;
        let call = self.begin(SUBSCRIBE, Purpose::Call(0), deadline, |caller, task| {
            let call = Seat::Call(caller.subscribe(seat, topic, deadline)?);
            caller.attend(call, deadline, task);
            Ok(call)
        });
        let place = Place::new(self, Some(call.await?), deadline);
        let answer = place.wait(|state, outcome| match outcome {
            Some(Outcome::Reply(reply)) => Response::from(reply).checked_as(SUBSCRIBE, self.endpoint()),
            outcome => {
                let outcome = outcome.unwrap_or(Outcome::TimedOut(Executed::Perhaps));
                Err(self.explain(state, SUBSCRIBE, outcome))
            }
        });
        answer.await.map(drop)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("topics", &self.topics).finish_non_exhaustive()
    }
}
