//! Events of topics that were subscribed to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::Channel;

use super::leader::{SharedConnection, State, Waiting};
use super::line::Line;
use super::medium::Medium;
use super::{Response, request};
use crate::error::{Error, Kind, Result};
use crate::loops::WAITS_FOR_ITSELF;
use sidewire_wire::Layout;
use sidewire_wire::caller::{Outcome, Published, Purpose, Seat};

/// Something that a server has told those who had subscribed to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    published: Published,
    renewal: Option<Renewal>,
}

/// What lies between an event and the one before it if the client has [connected anew](super::Connect::reconnect):
/// events may have been missed, and nobody knows how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Renewal {
    /// The connection is another one, the server the same.
    SameServer,
    /// The server was started anew, or is another one.
    Restarted,
}

impl Event {
    pub(crate) fn new(published: Published, renewal: Option<Renewal>) -> Event {
        Event { published, renewal }
    }

    /// The topic, which is a message type.
    #[must_use]
    pub fn topic(&self) -> u16 {
        self.published.topic
    }

    /// Its number within the subscription, from 1; behind 4,294,967,295 1 comes again. Events that were dropped on
    /// the server's side have none, so that a gap shows only what was dropped here.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.published.sequence
    }

    /// How many events of this topic were dropped since the one before this, because they came faster than
    /// they were taken: on the server's side, or on this.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.published.dropped
    }

    /// What it tells.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.published.payload
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_payload(self) -> Vec<u8> {
        self.published.payload
    }

    /// Of a topic's first event since the subscription was renewed, over which connection; `None` of all others.
    /// Its [sequence](Event::sequence) begins anew, too.
    #[must_use]
    pub fn renewal(&self) -> Option<Renewal> {
        self.renewal
    }
}

/// Topics whose next event is the first over another connection.
#[derive(Debug, Default)]
pub(crate) struct Renewed(Vec<(u16, Renewal)>);

impl Renewed {
    pub(crate) fn event(&mut self, published: Published) -> Event {
        let place = self.0.iter().position(|(topic, _)| *topic == published.topic);
        Event::new(published, place.map(|place| self.0.swap_remove(place).1))
    }
}

/// The events of one or more topics, as they come; from [`Client::subscribe`](super::Client::subscribe). Dropped,
/// it unsubscribes.
///
/// As an iterator it waits for each, and ends with the connection: behind what had come it gives the reason as
/// its last item. [`next_timeout`](Events::next_timeout) waits for so long only.
///
/// With [`Connect::reconnect`](super::Connect::reconnect) it does not end with the connection: whoever waits for the
/// next event connects anew and subscribes again, for which it may wait up to a second longer than it was told to.
/// What was published meanwhile is missing, and nobody has counted it: the numbers begin at 1 again, and
/// [`Event::renewal`] says so. It ends when the client gives up, or the new server does not
/// have the topic.
///
/// No thread reads behind the caller's back. Events that nobody waits for are read along when a thread waits for
/// something else on this connection, a reply for instance, and are kept here up to
/// [`ConnectionLimits::event_queue`](crate::ConnectionLimits::event_queue); what comes beyond that is dropped, and
/// [counted](Event::dropped). Those that nobody reads stay with the server, and become what its topic says.
///
/// It is of its own, so that it can be kept anywhere, and waited for on any thread. Several may listen to
/// the same topic.
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
    place: Listening,
    topics: Vec<u16>,
    renewed: Renewed,
    /// How long a subscribe may take.
    timeout: Option<Duration>,
    course: Course,
}

#[derive(Debug)]
enum Course {
    Open,
    /// The subscriptions have ended with their connection, of a server that was this one.
    Lost(Option<[u8; 16]>),
    Ended,
}

impl Events {
    /// Nothing is subscribed to yet.
    pub(super) fn of(line: &Line, timeout: Option<Duration>) -> Result<Events> {
        let place = Listening::on(line.connection(SUBSCRIBE, by(timeout))?.into_shared());
        let (line, topics, renewed, course) = (line.clone(), Vec::new(), Renewed::default(), Course::Open);
        Ok(Events { line, place, topics, renewed, timeout, course })
    }

    /// Subscribes to one more topic: its events come among the others, in the order in which the server sends them.
    ///
    /// # Errors
    /// As [`Client::subscribe`](super::Client::subscribe); the others are still subscribed to then.
    pub fn add(&mut self, topic: u16) -> Result<()> {
        let added = self.subscribe_over(topic);
        added.map_err(|error| {
            request::explain(error, topic, self.timeout, self.place.connection.channel().peer())
        })?;
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
        Ok(())
    }

    /// Over the connection, and the next ones as long as it is lost with them.
    fn subscribe_over(&mut self, topic: u16) -> Result<()> {
        let deadline = by(self.timeout);
        loop {
            if let Course::Lost(_) = self.course {
                self.renew(deadline)?;
            }
            match self.subscribe(topic, deadline) {
                Err(error) if error.lost().is_some() && self.line.is_lasting() => self.lose(),
                result => return self.place.connection.told(result),
            }
        }
    }

    fn subscribe(&self, topic: u16, deadline: Option<Instant>) -> Result<()> {
        if self.place.connection.waits_for_itself() {
            return Err(self.error(Kind::InvalidInput(WAITS_FOR_ITSELF.into())));
        }
        let answer = self.place.connection.subscribe(self.place.seat, topic, deadline);
        let accepted =
            answer.and_then(|response| response.checked_as(SUBSCRIBE, self.place.connection.endpoint()));
        if accepted.is_err() {
            self.place.unsubscribe(topic);
        }
        accepted.map(|_| ())
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
        if self.place.connection.waits_for_itself() {
            return Some(Err(self.error(Kind::InvalidInput(WAITS_FOR_ITSELF.into()))));
        }
        loop {
            if let Course::Lost(_) = self.course
                && let Err(error) = self.renew(until)
            {
                let is_up = error.is_timeout() && until.is_some_and(|until| until <= Instant::now());
                return if is_up { None } else { Some(Err(error)) };
            }
            match self.place.connection.next_event(self.place.seat, until)? {
                Ok(published) => return Some(Ok(self.renewed.event(published))),
                Err(error) if error.lost().is_some() && self.line.is_lasting() => self.lose(),
                Err(error) => return Some(self.place.connection.told(Err(error))),
            }
        }
    }

    fn lose(&mut self) {
        if let Course::Open = self.course {
            self.course = Course::Lost(self.place.connection.instance());
        }
    }

    /// Subscribes to all topics over the next connection, if there is one by then. What goes wrong on the way is
    /// tried again by whoever comes next.
    fn renew(&mut self, until: Option<Instant>) -> Result<()> {
        let Course::Lost(before) = self.course else { return Ok(()) };
        loop {
            self.place = Listening::on(self.line.connection(WAIT, until)?.into_shared());
            let deadline = until.map(|until| until.max(Instant::now() + RENEWAL));
            let deadline = deadline.into_iter().chain(by(self.timeout)).min();
            match self.topics.iter().try_for_each(|topic| self.subscribe(*topic, deadline)) {
                Err(error) if error.lost().is_some() => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.renewed = self.place.renewed(&self.topics, before);
                    self.course = Course::Open;
                    return Ok(());
                }
            }
        }
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.place.connection.endpoint()
    }

    fn error(&self, kind: Kind) -> Error {
        Error::new(SUBSCRIBE, self.place.connection.endpoint(), kind)
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if let Course::Ended = self.course {
            return None;
        }
        let next = self.next_by(None);
        if !matches!(next, Some(Ok(_))) {
            self.course = Course::Ended;
        }
        next
    }
}

/// The seat of one who listens, for threads or for tasks.
#[derive(Debug)]
pub(crate) struct Listening<M: Medium = Channel> {
    pub(crate) connection: Arc<SharedConnection<M>>,
    pub(crate) seat: Seat,
}

impl<M: Medium> Listening<M> {
    /// Nothing is subscribed to yet.
    pub(crate) fn on(connection: Arc<SharedConnection<M>>) -> Listening<M> {
        let seat = connection.lock().caller.listen();
        Listening { connection, seat }
    }

    /// These topics were subscribed to here anew; `before` was the server.
    pub(crate) fn renewed(&self, topics: &[u16], before: Option<[u8; 16]>) -> Renewed {
        let after = self.connection.instance();
        let is_same = after.is_some() && before == after;
        let renewal = if is_same { Renewal::SameServer } else { Renewal::Restarted };
        Renewed(topics.iter().map(|topic| (*topic, renewal)).collect())
    }

    /// The topic is not, or no longer, subscribed to.
    pub(crate) fn unsubscribe(&self, topic: u16) {
        let mut state = self.connection.lock();
        state.caller.unsubscribe(self.seat, topic);
        self.connection.offer(&mut state);
    }
}

impl<M: Medium> Drop for Listening<M> {
    fn drop(&mut self) {
        self.connection.drop_events(self.seat);
    }
}

pub(crate) const SUBSCRIBE: &str = "subscribe";
pub(crate) const WAIT: &str = "wait for events of";
/// What renewing subscriptions may take at least, once there is a connection.
const RENEWAL: Duration = Duration::from_secs(1);

fn by(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

impl SharedConnection {
    fn subscribe(&self, seat: Seat, topic: u16, deadline: Option<Instant>) -> Result<Response> {
        let state = self.lock();
        self.check_has_events(&state)?;
        let mut state = self.wait_for_leave(state, SUBSCRIBE, Purpose::Call(0), deadline)?;
        let begun = state.caller.subscribe(seat, topic, deadline);
        let id = self.begun(SUBSCRIBE, begun)?;
        log::debug!("{}: subscribe to type {topic}, id {id}", self.endpoint());
        let call = Seat::Call(id);
        state.caller.attend(call, deadline, Waiting::here());
        let (state, outcome) = self.wait(state, call, deadline);
        match outcome {
            Outcome::Reply(reply) => Ok(reply.into()),
            outcome => Err(self.explain(&state, SUBSCRIBE, outcome)),
        }
    }

    fn next_event(&self, seat: Seat, until: Option<Instant>) -> Option<Result<Published>> {
        let (state, outcome) = self.attend(seat, |_| until);
        Some(self.event(&state, outcome?))
    }
}

/// What takes no waiting.
impl<M: Medium> SharedConnection<M> {
    pub(crate) fn check_has_events(&self, state: &State<M::Waiting>) -> Result<()> {
        if state.caller.layout() == Some(Layout::Classic) {
            let text = "the classic layout has no events";
            return Err(Error::new(SUBSCRIBE, self.endpoint(), Kind::InvalidInput(text.into())));
        }
        Ok(())
    }

    /// What this is that has come for one who listens.
    pub(crate) fn event(&self, state: &State<M::Waiting>, outcome: Outcome) -> Result<Published> {
        match outcome {
            Outcome::Event(published) => Ok(published),
            outcome => Err(self.explain(state, WAIT, outcome)),
        }
    }

    /// Nobody listens there any more. In a forked child this says nothing.
    pub(crate) fn drop_events(&self, seat: Seat) {
        if !self.maker.is_here() {
            return;
        }
        let mut state = self.lock();
        state.caller.leave(seat);
        self.offer(&mut state);
    }
}
