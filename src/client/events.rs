//! Events of topics that were subscribed to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::Channel;

use super::leader::{SharedConnection, State, deadline_in, is_past};
use super::line::{Line, Terms};
use super::medium::{Medium, at_once};
use super::{Response, request};
use crate::error::{Error, Kind, Result};
use sidewire_wire::Layout;
use sidewire_wire::caller::{Caller, Outcome, Published, Purpose, Seat};

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
struct Renewed(Vec<(u16, Renewal)>);

impl Renewed {
    fn event(&mut self, published: Published) -> Event {
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
pub struct Events(Subscribed);

impl Events {
    /// Of this topic.
    pub(super) fn of(line: &Line, topic: u16, timeout: Option<Duration>) -> Result<Events> {
        at_once(Subscribed::to(line, topic, timeout)).map(Events)
    }

    /// Subscribes to one more topic: its events come among the others, in the order in which the server sends them.
    ///
    /// # Errors
    /// As [`Client::subscribe`](super::Client::subscribe); the others are still subscribed to then.
    pub fn add(&mut self, topic: u16) -> Result<()> {
        at_once(self.0.add(topic))
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
        if let Err(error) = self.0.place.connection.check_thread(SUBSCRIBE) {
            return Some(Err(error));
        }
        loop {
            if self.0.is_lost()
                && let Err(error) = at_once(self.0.renew(until))
            {
                let is_up = error.is_timeout() && is_past(until) && !self.0.line.is_closed();
                return if is_up { None } else { Some(Err(error)) };
            }
            let Listening { connection, seat } = &self.0.place;
            let heard = connection.next_event(*seat, until)?;
            if let Some(event) = self.0.heard(heard) {
                return Some(event);
            }
        }
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.0.endpoint()
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if self.0.has_ended() {
            return None;
        }
        let next = self.next_by(None);
        if !matches!(next, Some(Ok(_))) {
            self.0.end();
        }
        next
    }
}

/// The topics that somebody has subscribed to, for threads or for tasks: all but how they wait for the next event.
#[derive(Debug)]
pub(crate) struct Subscribed<M: Medium = Channel> {
    line: Line<M>,
    pub(crate) place: Listening<M>,
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

impl<M: Medium> Subscribed<M> {
    /// To this topic.
    pub(crate) async fn to(line: &Line<M>, topic: u16, timeout: Option<Duration>) -> Result<Subscribed<M>> {
        line.check_thread(SUBSCRIBE).map_err(|error| error.of_type(topic))?;
        let connection = line.connection(SUBSCRIBE, Terms::until(deadline_in(timeout), false)).await;
        let place = Listening::on(connection.map_err(|error| error.of_type(topic))?.into_shared());
        let (topics, renewed, course) = (Vec::new(), Renewed::default(), Course::Open);
        let mut subscribed = Subscribed { line: line.clone(), place, topics, renewed, timeout, course };
        subscribed.add(topic).await?;
        Ok(subscribed)
    }

    /// To one more topic.
    pub(crate) async fn add(&mut self, topic: u16) -> Result<()> {
        let added = self.subscribe_over(topic).await;
        added.map_err(|error| {
            request::explain(error, topic, self.timeout, self.place.connection.channel().peer())
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
            if self.is_lost() {
                self.renew(deadline).await?;
            }
            match self.place.subscribe(topic, deadline).await {
                Err(error) if error.lost().is_some() && self.line.is_lasting() => self.lose(),
                result => return self.place.connection.told(result, deadline),
            }
        }
    }

    /// What this is that was heard; `None`: the subscriptions are to be [renewed](Subscribed::renew).
    pub(crate) fn heard(&mut self, heard: Result<Published>) -> Option<Result<Event>> {
        match heard {
            Ok(published) => Some(Ok(self.renewed.event(published))),
            Err(error) if error.lost().is_some() && self.line.is_lasting() => {
                self.lose();
                None
            }
            Err(error) => Some(self.place.connection.told(Err(error), None)),
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.course, Course::Lost(_))
    }

    fn lose(&mut self) {
        if let Course::Open = self.course {
            self.course = Course::Lost(self.place.connection.instance());
        }
    }

    /// Subscribes to all topics over the next connection, if there is one by then. What goes wrong on the way is
    /// tried again by whoever comes next.
    async fn renew(&mut self, until: Option<Instant>) -> Result<()> {
        let place = self.next_place(until).await?;
        self.resume(place);
        Ok(())
    }

    /// The next place to listen at, where all topics are subscribed to.
    pub(crate) fn next_place(
        &self,
        until: Option<Instant>,
    ) -> impl Future<Output = Result<Listening<M>>> + use<M> {
        let (line, topics, timeout) = (self.line.clone(), self.topics.clone(), self.timeout);
        async move {
            loop {
                let place =
                    Listening::on(line.connection(WAIT, Terms::until(until, false)).await?.into_shared());
                let deadline = until.map(|until| until.max(Instant::now() + RENEWAL));
                let deadline = deadline.into_iter().chain(deadline_in(timeout)).min();
                match place.subscribe_to_all(&topics, deadline).await {
                    Err(error) if error.lost().is_some() => {}
                    result => return result.map(|()| place),
                }
            }
        }
    }

    /// Goes on there.
    pub(crate) fn resume(&mut self, place: Listening<M>) {
        if let Course::Lost(before) = self.course {
            let after = place.connection.instance();
            let is_same = after.is_some() && before == after;
            let renewal = if is_same { Renewal::SameServer } else { Renewal::Restarted };
            self.renewed = Renewed(self.topics.iter().map(|topic| (*topic, renewal)).collect());
            (self.place, self.course) = (place, Course::Open);
        }
    }

    /// The last item was told.
    pub(crate) fn end(&mut self) {
        self.course = Course::Ended;
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.course, Course::Ended)
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.place.connection.endpoint()
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

    async fn subscribe_to_all(&self, topics: &[u16], deadline: Option<Instant>) -> Result<()> {
        for topic in topics {
            self.subscribe(*topic, deadline).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, topic: u16, deadline: Option<Instant>) -> Result<()> {
        let unaccepted = Unaccepted { place: self, topic };
        self.connection.subscribe(self.seat, topic, deadline).await?;
        std::mem::forget(unaccepted);
        Ok(())
    }

    /// The topic is not, or no longer, subscribed to.
    fn unsubscribe(&self, topic: u16) {
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

/// A subscription in the making: refused, or waited for no longer, it is none.
struct Unaccepted<'p, M: Medium> {
    place: &'p Listening<M>,
    topic: u16,
}

impl<M: Medium> Drop for Unaccepted<'_, M> {
    fn drop(&mut self) {
        self.place.unsubscribe(self.topic);
    }
}

const SUBSCRIBE: &str = "subscribe";
const WAIT: &str = "wait for events of";
/// What renewing subscriptions may take at least, once there is a connection.
const RENEWAL: Duration = Duration::from_secs(1);

impl SharedConnection {
    fn next_event(&self, seat: Seat, until: Option<Instant>) -> Option<Result<Published>> {
        let (state, outcome) = self.attend(seat, |_| until);
        Some(self.event(&state, outcome?))
    }
}

impl<M: Medium> SharedConnection<M> {
    async fn subscribe(&self, seat: Seat, topic: u16, deadline: Option<Instant>) -> Result<()> {
        self.check_thread(SUBSCRIBE)?;
        if self.layout() == Layout::Classic {
            let text = "the classic layout has no events";
            return Err(Error::new(SUBSCRIBE, self.endpoint(), Kind::InvalidInput(text.into())));
        }
        let subscribe = |caller: &mut Caller<_>, here| {
            let call = Seat::Call(caller.subscribe(seat, topic, deadline)?);
            caller.attend(call, deadline, here);
            Ok(call)
        };
        let call = self.begin(SUBSCRIBE, Purpose::Call(0), deadline, subscribe).await?;
        log::debug!("{}: subscribe to type {topic}, {call:?}", self.endpoint());
        let accepted = match M::wait(self, call, deadline).await {
            (_, Outcome::Reply(reply)) => Response::from(reply),
            (state, outcome) => return Err(self.explain(&state, SUBSCRIBE, outcome)),
        };
        accepted.checked_as(SUBSCRIBE, self.endpoint()).map(drop)
    }
}

/// What takes no waiting.
impl<M: Medium> SharedConnection<M> {
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
