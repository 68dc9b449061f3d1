//! A client's connection, and the ones that follow it if that was asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidewire_platform::{Channel, Endpoint};

use super::Connect;
use super::closing::Closing;
use super::leader::{SharedConnection, remaining};
use super::medium::{Bell, Medium};
use super::reconnect::{Reconnect, Reconnected};
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::random::random_number;
use sidewire_wire::reconnecting::{Reconnecting, Turn};
use sidewire_wire::{Executed, ResultCode};

/// One connection after the other.
#[derive(Debug)]
pub(crate) struct Lasting<M: Medium = Channel> {
    connect: Connect,
    reconnect: Reconnect,
    closing: Option<Closing>,
    state: Mutex<State<M>>,
    /// Rung when an attempt is over.
    pub(crate) is_decided: M::Bell,
}

#[derive(Debug)]
pub(crate) struct State<M: Medium> {
    /// The last one, perhaps ended.
    connection: Arc<SharedConnection<M>>,
    /// The one that shakes hands.
    next: Option<Arc<SharedConnection<M>>>,
    reconnecting: Reconnecting,
    /// Why the last one ended.
    lost: Option<Error>,
    /// Why the last attempt failed.
    failure: Option<Error>,
}

type Guard<'a, M = Channel> = MutexGuard<'a, State<M>>;

/// What whoever needs a connection does next.
#[derive(Debug)]
pub(crate) enum Next<M: Medium> {
    Use(Arc<SharedConnection<M>>),
    /// Comes again when an attempt is over, or then.
    Wait(Option<Instant>),
    /// Makes an attempt.
    Attempt,
    /// Has no time left.
    Late(Error),
    /// Goes: see [`Lasting::given_up`].
    GivenUp(Error),
}

/// How an attempt is bounded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) limit: Option<Duration>,
    /// Whether that is less than it would have if whoever makes it had more time.
    is_cut: bool,
}

impl<M: Medium> Lasting<M> {
    pub(crate) fn new(
        connect: Connect,
        reconnect: Reconnect,
        closing: Option<Closing>,
        connection: Arc<SharedConnection<M>>,
    ) -> Lasting<M> {
        let reconnecting = Reconnecting::new(reconnect.rules, Instant::now());
        let state = State { connection, next: None, reconnecting, lost: None, failure: None };
        Lasting { connect, reconnect, closing, state: Mutex::new(state), is_decided: M::Bell::default() }
    }

    /// For one who needs a connection by then.
    pub(crate) fn next(
        &self,
        state: &mut State<M>,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Next<M> {
        self.note_an_end(state);
        let now = Instant::now();
        let is_past = deadline.is_some_and(|deadline| deadline <= now);
        match state.reconnecting.poll(now) {
            Turn::Connected => Next::Use(Arc::clone(&state.connection)),
            Turn::GivenUp => Next::GivenUp(state.end(self.connect.endpoint())),
            Turn::Wait { .. } if is_past => Next::Late(self.no_time(state, operation)),
            Turn::Wait { until } => Next::Wait(until.into_iter().chain(deadline).min()),
            Turn::Attempt if is_past => {
                state.reconnecting.cut_short(now);
                Next::Late(self.no_time(state, operation))
            }
            Turn::Attempt => Next::Attempt,
        }
    }

    /// What is told one who needs a connection when no other will be sought. Under no lock.
    pub(crate) fn given_up(&self, error: &Error, operation: &'static str) -> Error {
        self.tell(error);
        error.for_request(operation, Executed::Never)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.connect.endpoint()
    }

    /// The connection, or the last one there was.
    pub(crate) fn current(&self) -> Arc<SharedConnection<M>> {
        Arc::clone(&self.lock().connection)
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.lock().reconnecting.has_given_up()
    }

    /// Sees whether the connection is known to have ended.
    fn note_an_end(&self, state: &mut State<M>) {
        let now = Instant::now();
        if !state.reconnecting.is_connected() {
            return;
        }
        let Some(lost) = state.connection.reason(&state.connection.lock()) else { return };
        log::info!("{lost}");
        state.reconnecting.ended(now, random_number());
        if lost.is_closed() || lost.is_protocol() {
            state.reconnecting.give_up();
        }
        (state.lost, state.failure) = (Some(lost), None);
    }

    /// How long an attempt may take that is to be over by then.
    pub(crate) fn bounds(&self, deadline: Option<Instant>) -> Bounds {
        let left = remaining(deadline);
        let limit = self.connect.time_limit();
        let is_cut = left.is_some_and(|left| limit.is_none_or(|limit| left < limit));
        Bounds { limit: if is_cut { left } else { limit }, is_cut }
    }

    /// Notes how an attempt went.
    pub(crate) fn note_attempt(&self, result: Result<Arc<SharedConnection<M>>>, bounds: Bounds) {
        let mut state = self.lock();
        state.next = None;
        let now = Instant::now();
        let told = match result {
            Ok(connection) => state.replace(connection, now),
            Err(error) => {
                if is_final(&error) {
                    state.reconnecting.give_up();
                } else if bounds.is_cut && error.is_timeout() {
                    state.reconnecting.cut_short(now);
                } else {
                    state.reconnecting.failed(now, random_number());
                }
                log::info!("{error}");
                if !state.lost.as_ref().is_some_and(Error::is_closed) {
                    state.failure = Some(error);
                }
                None
            }
        };
        drop(state);
        self.is_decided.ring();
        if let Some(reconnected) = told {
            self.reconnect.tell(&reconnected);
            self.connect.tell_arrival();
        }
    }

    /// Whoever made the attempt has gone in the middle of it.
    #[cfg(feature = "tokio")]
    pub(crate) fn drop_attempt(&self) {
        let mut state = self.lock();
        state.next = None;
        state.reconnecting.cut_short(Instant::now());
        drop(state);
        self.is_decided.ring();
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        match self.lock().reconnecting.has_given_up() {
            true => Err(Error::new("connect to", self.connect.endpoint(), Kind::Closed)),
            false => Ok(()),
        }
    }

    /// Shows `close` a connection that has not shaken hands yet.
    pub(crate) fn show(&self, connection: &Arc<SharedConnection<M>>) -> Result<()> {
        let mut state = self.lock();
        if state.reconnecting.has_given_up() {
            return Err(Error::new("connect to", self.connect.endpoint(), Kind::Closed));
        }
        state.next = Some(Arc::clone(connection));
        Ok(())
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn connect(&self) -> &Connect {
        &self.connect
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.reconnecting.give_up();
        state.connection.close();
        if let Some(next) = state.next.take() {
            next.close();
        }
        let closed = Error::new("call", self.connect.endpoint(), Kind::Closed);
        (state.lost, state.failure) = (Some(closed.clone()), None);
        drop(state);
        self.is_decided.ring();
        self.tell(&closed);
    }

    fn tell(&self, why: &Error) {
        if let Some(closing) = &self.closing {
            closing.tell(why);
        }
    }

    /// For one whose time is up.
    fn no_time(&self, state: &State<M>, operation: &'static str) -> Error {
        let why = state.failure.as_ref().or(state.lost.as_ref());
        let error = Error::new(operation, self.connect.endpoint(), Kind::TimedOut).not_executed();
        error.with_note(|_| match why {
            Some(why) => format!("no new connection ({why})"),
            None => "no new connection".into(),
        })
    }

    pub(crate) fn lock(&self) -> Guard<'_, M> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For threads.
impl Lasting {
    /// The connection; a new one if the last one has ended, by then.
    pub(super) fn connection(
        &self,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<Arc<SharedConnection>> {
        let mut state = self.lock();
        if state.connection.is_silent() {
            let connection = Arc::clone(&state.connection);
            drop(state);
            connection.has_ended();
            state = self.lock();
        }
        loop {
            match self.next(&mut state, operation, deadline) {
                Next::Use(connection) => return Ok(connection),
                Next::Late(error) => return Err(error),
                Next::GivenUp(error) => {
                    drop(state);
                    return Err(self.given_up(&error, operation));
                }
                Next::Wait(until) => state = self.wait(state, remaining(until)),
                Next::Attempt => {
                    drop(state);
                    let bounds = self.bounds(deadline);
                    self.note_attempt(self.open(bounds.limit, deadline), bounds);
                    state = self.lock();
                }
            }
        }
    }

    /// An effort, which is to be over by then.
    fn open(&self, limit: Option<Duration>, until: Option<Instant>) -> Result<Arc<SharedConnection>> {
        self.connect.clone().timeout(limit).strive(until, |connect| {
            let deadline = connect.deadline();
            self.check_open()?;
            let connection = connect.begin_stream(None)?;
            self.show(&connection)?;
            connect.shake_hands(&connection, deadline)?;
            Ok(connection)
        })
    }

    fn wait<'a>(&self, state: Guard<'a>, left: Option<Duration>) -> Guard<'a> {
        match left {
            None => self.is_decided.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.is_decided.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}

impl<M: Medium> State<M> {
    /// Puts a new connection in the last one's place, unless the client was closed meanwhile. Gives what is to be
    /// told of it.
    fn replace(&mut self, connection: Arc<SharedConnection<M>>, now: Instant) -> Option<Reconnected> {
        if self.reconnecting.has_given_up() {
            return None;
        }
        let attempts = self.reconnecting.succeeded(now);
        let (before, after) = (self.connection.instance(), connection.instance());
        let is_restarted = before.is_none() || before != after;
        log::info!(
            "{}: connected anew, to a server that is {}",
            connection.endpoint(),
            match is_restarted {
                true => "another one, or was started anew",
                false => "the same",
            }
        );
        self.connection = connection;
        self.failure = None;
        let reason = self.lost.clone()?;
        Some(Reconnected { is_restarted, attempts, reason })
    }

    /// Why there is no connection any more.
    fn end(&self, endpoint: &Endpoint) -> Error {
        let (failures, lost) = (self.reconnecting.failures(), self.lost.as_ref());
        match (&self.failure, lost) {
            (Some(failure), Some(lost)) => {
                let attempts = if failures == 1 { "attempt" } else { "attempts" };
                failure.clone().with_more(&format!("after {failures} {attempts}; {lost}"))
            }
            (Some(error), None) | (None, Some(error)) => error.clone(),
            (None, None) => Error::new("call", endpoint, Kind::Closed),
        }
    }
}

/// Whether another attempt would end in the same way.
fn is_final(error: &Error) -> bool {
    match error.refused_by() {
        Some(RefusedBy::Server(ResultCode::BUSY | ResultCode::SHUTTING_DOWN)) => false,
        Some(_) => true,
        None => {
            error.is_protocol()
                || error.is_invalid_input()
                || error.is_unsupported()
                || error.is_closed()
                || error.is_other_build()
        }
    }
}
