//! Connections that somebody else makes, one after the other: those to a helper.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sidewire_platform::{Channel, Endpoint};

use super::closing::Closing;
use super::fate::Fate;
use super::leader::{SharedConnection, is_past};
use super::line::{Gap, Line, Terms};
use super::medium::{Bell, Medium, at_once};
use super::{Client, Connect, Link};
use crate::error::{Error, Kind, Result};
use sidewire_wire::Executed;

/// What a client's calls go over whose connections come unasked, from whoever looks after its server.
#[derive(Debug)]
pub(crate) struct Relay<M: Medium = Channel> {
    connect: Connect,
    state: Mutex<State<M>>,
    /// The course has changed.
    has_changed: M::Bell,
    pub(super) closing: Option<Closing>,
}

#[derive(Debug)]
struct State<M: Medium> {
    /// The connection, or the last one there was.
    last: Option<Arc<SharedConnection<M>>>,
    course: Course<M>,
}

#[derive(Debug)]
enum Course<M: Medium> {
    Up(Arc<SharedConnection<M>>),
    /// Another one will come. Why the last one ended, if there was one.
    Awaited(Option<Error>),
    /// No other one will.
    Over(Error),
}

impl Relay {
    /// This is the connection from now on, unless no other one was wanted.
    pub(crate) fn put_up(&self, contact: &Contact) {
        let connection = Arc::clone(&contact.0);
        let mut state = self.lock();
        if let Course::Awaited(_) = state.course {
            state.last = Some(Arc::clone(&connection));
            state.course = Course::Up(connection);
        }
        drop(state);
        self.has_changed.ring();
        self.connect.tell_arrival();
    }
}

impl<M: Medium> Relay<M> {
    /// Without a connection yet.
    pub(crate) fn new(connect: &Connect) -> Relay<M> {
        Relay {
            connect: connect.clone(),
            state: Mutex::new(State { last: None, course: Course::Awaited(None) }),
            has_changed: M::Bell::default(),
            closing: connect.closing(),
        }
    }

    /// The connection has ended, for this reason, and another one is to come.
    pub(crate) fn wait_for_next(&self, why: Error) {
        let mut state = self.lock();
        if !matches!(state.course, Course::Over(_)) {
            state.course = Course::Awaited(Some(why));
        }
        self.has_changed.ring();
    }

    /// No other connection will come. The first reason is the one that counts.
    pub(crate) fn end(&self, why: &Error) {
        let mut state = self.lock();
        if !matches!(state.course, Course::Over(_)) {
            state.course = Course::Over(why.clone());
        }
        drop(state);
        self.has_changed.ring();
    }

    /// Tells whoever wants to hear of it that it is over.
    pub(crate) fn tell_end(&self) {
        let why = match &self.lock().course {
            Course::Over(why) => why.clone(),
            Course::Up(_) | Course::Awaited(_) => return,
        };
        if let Some(closing) = &self.closing {
            closing.tell(&why);
        }
    }

    /// Whether no other connection will come, or is wanted.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.lock().course, Course::Over(_))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.connect.endpoint()
    }

    pub(super) fn current(&self) -> Option<Arc<SharedConnection<M>>> {
        self.lock().last.clone()
    }

    /// The connection; the next one if the last has ended, by then.
    pub(super) async fn connection(
        &self,
        operation: &'static str,
        terms: Terms,
    ) -> Result<Arc<SharedConnection<M>>> {
        let standing = match &self.lock().course {
            Course::Up(connection) => Some(Arc::clone(connection)),
            Course::Awaited(_) | Course::Over(_) => None,
        };
        if let Some(connection) = standing.filter(|connection| connection.is_silent()) {
            connection.has_ended();
        }
        self.has_changed.until(&self.state, |state| self.look(state, operation, terms)).await
    }

    /// What one hears who needs a connection. He waits for a change, or as long as this says.
    fn look(
        &self,
        state: &mut State<M>,
        operation: &'static str,
        terms: Terms,
    ) -> ControlFlow<Result<Arc<SharedConnection<M>>>, Option<Instant>> {
        let why = match &state.course {
            Course::Up(connection) if !connection.is_known_to_end() => {
                return ControlFlow::Break(Ok(Arc::clone(connection)));
            }
            Course::Up(connection) => {
                connection.ask_why();
                None
            }
            Course::Awaited(why) => why.as_ref(),
            Course::Over(why) => return ControlFlow::Break(Err(why.for_request(operation, Executed::Never))),
        };
        if terms.gap == Gap::Fail {
            return ControlFlow::Break(Err(self.absent(operation, Kind::NotListening, why)));
        }
        if is_past(terms.deadline) {
            return ControlFlow::Break(Err(self.absent(operation, Kind::TimedOut, why)));
        }
        ControlFlow::Continue(terms.deadline)
    }

    pub(super) fn close(&self) {
        self.end(&Error::new("call", self.endpoint(), Kind::Closed));
        if let Some(connection) = self.current() {
            connection.close();
            connection.ask_why();
        }
    }

    /// For one who can't or will not wait for the next connection.
    fn absent(&self, operation: &'static str, kind: Kind, why: Option<&Error>) -> Error {
        let error = Error::new(operation, self.endpoint(), kind).not_executed();
        error.with_note(|_| match why {
            Some(why) => format!("it is not ready again ({})", why.reason()),
            None => "it is not ready".into(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection to one run of a helper.
#[derive(Clone, Debug)]
pub(crate) struct Contact(Arc<SharedConnection>);

impl Contact {
    /// Over a channel to a process that is to say hello. `fate` is told how that has ended.
    pub(crate) fn new(connect: &Connect, endpoint: Endpoint, channel: Channel, fate: Arc<Fate>) -> Contact {
        Contact(connect.adopt(endpoint, channel, fate))
    }

    /// `connect`: what it was made with, which also says of which build the helper has to be.
    pub(crate) fn shake_hands(&self, connect: &Connect, deadline: Option<Instant>) -> Result<()> {
        at_once(self.0.shake_hands(deadline))?;
        connect.hold_to_build(self.0.peer_app())
    }

    /// Whether what comes unasked is to be read at once.
    pub(crate) fn serves(&self) -> bool {
        self.0.handlers.want_a_reader()
    }

    /// Reads, and runs what the helper asks for, until the connection is over.
    pub(crate) fn run(&self) -> Result<()> {
        at_once(self.0.run())
    }

    /// Why the connection has ended, if it has. What has come is read first.
    pub(crate) fn end(&self) -> Option<Error> {
        self.0.has_ended().then(|| self.0.reason(&self.0.lock()))?
    }

    /// Says goodbye, as far as that goes without waiting. What is under way may still be answered.
    pub(crate) fn leave(&self) {
        self.0.leave();
        self.0.ask_why();
    }

    /// Ends all that wait.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

impl Client {
    /// One whose connections come from somebody else.
    pub(crate) fn relayed(connect: &Connect, relay: Arc<Relay>) -> Client {
        let closing = relay.closing.clone();
        Client { link: Link::Stream(Line::Relayed(relay)), call_timeout: connect.call_time_limit(), closing }
    }
}
