//! Events of topics that were subscribed to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lasting::Line;
use super::leader::{SharedConnection, Waiting, is_past};
use super::{Response, request};
use crate::error::{Error, Kind, Result};
use crate::loops::WAITS_FOR_ITSELF;
use sidewire_wire::caller::{Outcome, Published, Purpose, Seat, Step};
use sidewire_wire::memory::NoMemory;
use sidewire_wire::{Executed, Layout};

/// Something that a server has told those who had subscribed to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event(Published);

impl Event {
    /// The topic, which is a message type.
    #[must_use]
    pub fn topic(&self) -> u16 {
        self.0.topic
    }

    /// Its number within the subscription, from 1; behind 4,294,967,295 1 comes again. Events that were dropped on
    /// the server's side have none, so that a gap shows only what was dropped here.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.0.sequence
    }

    /// How many events of this topic were dropped since the one before this, because they came faster than
    /// they were taken: on the server's side, or on this.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.0.dropped
    }

    /// What it tells.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_payload(self) -> Vec<u8> {
        self.0.payload
    }
}

/// The events of one or more topics, as they come; from [`Client::subscribe`](super::Client::subscribe). Dropped,
/// it unsubscribes.
///
/// As an iterator it waits for each, and ends with the connection: behind what had come it gives the reason as
/// its last item. [`next_timeout`](Events::next_timeout) waits for so long only.
///
/// No thread reads behind the caller's back. Events that nobody waits for are read along when a thread waits for
/// something else on this connection, a reply for instance, and are kept here up to
/// [`ConnectionLimits::event_queue`](crate::ConnectionLimits::event_queue); what comes beyond that is dropped, and
/// [counted](Event::dropped). Those that nobody reads stay with the server, and become what its topic says.
///
/// It is of its own, so that it can be kept anywhere, and waited for on any thread. Several may listen to
/// the same topic.
///
/// With [`Connect::reconnect`](super::Connect::reconnect) it goes on when the connection has ended: whoever waits
/// then connects anew and subscribes to the same topics. What was published meanwhile is missing, and nobody
/// has counted it: the next event's [number](Event::sequence) is 1 again.
///
/// ```no_run
/// use std::time::Duration;
/// use sidewire::Client;
///
/// const CHANGED: u16 = 1;
/// let client = Client::connect("local:com.example.app")?;
/// let mut changes = client.subscribe(CHANGED)?;
/// while let Some(change) = changes.next_timeout(Duration::from_secs(60))? {
///     println!("{} bytes, and {} missed before", change.payload().len(), change.dropped());
/// }
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "it unsubscribes when it is dropped"]
pub struct Events {
    line: Line,
    connection: Arc<SharedConnection>,
    seat: Seat,
    topics: Vec<u16>,
    /// How long a subscribe may take.
    timeout: Option<Duration>,
    has_ended: bool,
}

impl Events {
    /// Nothing is subscribed to yet.
    pub(super) fn of(line: &Line, connection: &Arc<SharedConnection>, timeout: Option<Duration>) -> Events {
        let seat = connection.lock().caller.listen();
        let (line, connection) = (line.clone(), Arc::clone(connection));
        Events { line, connection, seat, topics: Vec::new(), timeout, has_ended: false }
    }

    /// Subscribes to one more topic: its events come among the others, in the order in which the server sends them.
    ///
    /// # Errors
    /// As [`Client::subscribe`](super::Client::subscribe); the others are still subscribed to then.
    pub fn add(&mut self, topic: u16) -> Result<()> {
        self.add_by(topic, None)
    }

    fn add_by(&mut self, topic: u16, until: Option<Instant>) -> Result<()> {
        self.subscribe(topic, until)?;
        self.topics.push(topic);
        Ok(())
    }

    fn subscribe(&self, topic: u16, until: Option<Instant>) -> Result<()> {
        let connection = &self.connection;
        if connection.waits_for_itself() {
            return Err(self.error(Kind::InvalidInput(WAITS_FOR_ITSELF.into())).of_type(topic));
        }
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let deadline = deadline.into_iter().chain(until).min();
        let answer = connection.told(connection.subscribe(self.seat, topic, deadline));
        let accepted = answer.and_then(|response| response.checked_as(SUBSCRIBE, connection.endpoint()));
        if accepted.is_err() {
            connection.unsubscribe(self.seat, topic);
        }
        let peer = connection.channel().peer();
        accepted.map(|_| ()).map_err(|error| request::explain(error, topic, self.timeout, peer))
    }

    /// Subscribes to the same topics on the next connection, if there are to be any.
    fn renew(&mut self, until: Option<Instant>) -> Result<()> {
        let connection = self.line.connection(WAIT, until)?;
        let mut next = Events::of(&self.line, &connection, self.timeout);
        for topic in &self.topics {
            next.add_by(*topic, until)?;
        }
        *self = next;
        Ok(())
    }

    /// The next event, if one comes within `timeout`. With no time at all it is one that is there already.
    ///
    /// # Errors
    /// Why the connection has ended, once all events that had come were taken.
    /// [`is_invalid_input`](Error::is_invalid_input) in a handler of the very server.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Event>> {
        self.next_by(Instant::now().checked_add(timeout)).transpose()
    }

    fn next_by(&mut self, until: Option<Instant>) -> Option<Result<Event>> {
        loop {
            if self.connection.waits_for_itself() {
                return Some(Err(self.error(Kind::InvalidInput(WAITS_FOR_ITSELF.into()))));
            }
            let next = self.connection.told(self.connection.next_event(self.seat, until).transpose());
            match next {
                Err(error) if self.line.is_lasting() && error.lost().is_some() => {
                    log::debug!("goes on over the next connection: {error}");
                }
                next => return next.transpose(),
            }
            match self.renew(until) {
                Ok(()) => {}
                // Lost again; or there was no time for it, and whoever asks next goes on.
                Err(error) if error.lost().is_some() => {}
                Err(error) if error.is_timeout() && is_past(until) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn error(&self, kind: Kind) -> Error {
        Error::new(SUBSCRIBE, self.connection.endpoint(), kind)
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if self.has_ended {
            return None;
        }
        let next = self.next_by(None);
        self.has_ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.connection.drop_events(self.seat);
    }
}

const SUBSCRIBE: &str = "subscribe";
const WAIT: &str = "wait for events of";

impl SharedConnection {
    fn subscribe(&self, seat: Seat, topic: u16, deadline: Option<Instant>) -> Result<Response> {
        let state = self.lock();
        if state.caller.layout() == Some(Layout::Classic) {
            let text = "the classic layout has no events";
            return Err(Error::new(SUBSCRIBE, self.endpoint(), Kind::InvalidInput(text.into())));
        }
        let mut state = self.wait_for_leave(state, SUBSCRIBE, Purpose::Call(0), deadline)?;
        let begun = state.caller.subscribe(seat, topic, deadline);
        let id = begun.map_err(|NoMemory| Error::no_memory(SUBSCRIBE, self.endpoint(), Executed::Never))?;
        log::debug!("{}: subscribe to type {topic}, id {id}", self.endpoint());
        let call = Seat::Call(id);
        state.caller.attend(call, deadline, Waiting::here());
        let (state, outcome) = self.wait(state, call, deadline);
        match outcome {
            Outcome::Reply(reply) => Ok(reply.into()),
            outcome => Err(self.explain(&state, SUBSCRIBE, outcome)),
        }
    }

    fn unsubscribe(&self, seat: Seat, topic: u16) {
        let mut state = self.lock();
        state.caller.unsubscribe(seat, topic);
        self.offer(&mut state);
    }

    fn next_event(&self, seat: Seat, until: Option<Instant>) -> Option<Result<Event>> {
        let mut state = self.lock();
        state.now = Instant::now();
        let now = state.now;
        let (state, outcome) = match state.caller.poll(seat, now) {
            Step::Done(outcome) => (state, Some(outcome)),
            _ => {
                state.caller.attend(seat, until, Waiting::here());
                self.wait_until(state, seat, until, |_| false)
            }
        };
        Some(match outcome? {
            Outcome::Event(event) => Ok(Event(event)),
            outcome => Err(self.explain(&state, WAIT, outcome)),
        })
    }

    /// Nobody listens there any more. In a forked child this says nothing.
    fn drop_events(&self, seat: Seat) {
        if !self.maker.is_here() {
            return;
        }
        let mut state = self.lock();
        state.caller.leave(seat);
        self.offer(&mut state);
    }
}
