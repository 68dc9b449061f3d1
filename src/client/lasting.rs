//! A client's connection, and the ones that follow it if that was asked for.

use std::ops::ControlFlow;
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
    pub(super) closing: Option<Closing>,
    state: Mutex<State<M>>,
    /// Rung when an attempt is over.
    is_decided: M::Bell,
}

#[derive(Debug)]
struct State<M: Medium> {
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

/// What whoever needs a connection does next.
#[derive(Debug)]
enum Next<M: Medium> {
    Use(Arc<SharedConnection<M>>),
    /// Makes an attempt.
    Attempt,
    /// Has no time left.
    Late(Error),
    /// Goes: no other connection will be sought.
    GivenUp(Error),
}

/// An attempt to connect anew, until it was noted. One that is dropped before was cut short, and the next may follow.
#[derive(Debug)]
pub(crate) struct Attempt<M: Medium>(Option<Arc<Lasting<M>>>);

/// How an attempt is bounded.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    limit: Option<Duration>,
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

    /// The connection; a new one if the last one has ended, by then.
    pub(super) async fn connection(
        self: &Arc<Self>,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<Arc<SharedConnection<M>>> {
        let connection = self.current();
        if connection.is_silent() {
            M::settle().await;
            connection.has_ended();
        }
        drop(connection);
        loop {
            let next = self.is_decided.until(&self.state, |state| self.next(state, operation, deadline));
            match next.await {
                Next::Use(connection) => return Ok(connection),
                Next::Attempt => M::make(self.endpoint(), Attempt(Some(Arc::clone(self))), deadline).await?,
                Next::Late(error) => return Err(error),
                Next::GivenUp(error) => {
                    self.tell(&error);
                    return Err(error.for_request(operation, Executed::Never));
                }
            }
        }
    }

    /// What one does who needs a connection by then. He waits until an attempt is over, or as long as this says.
    fn next(
        &self,
        state: &mut State<M>,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> ControlFlow<Next<M>, Option<Instant>> {
        self.note_an_end(state);
        let now = Instant::now();
        let is_past = deadline.is_some_and(|deadline| deadline <= now);
        ControlFlow::Break(match state.reconnecting.poll(now) {
            Turn::Connected => Next::Use(Arc::clone(&state.connection)),
            Turn::GivenUp => Next::GivenUp(state.end(self.connect.endpoint())),
            Turn::Wait { .. } if is_past => Next::Late(self.no_time(state, operation)),
            Turn::Wait { until } => return ControlFlow::Continue(until.into_iter().chain(deadline).min()),
            Turn::Attempt if is_past => {
                state.reconnecting.cut_short(now);
                Next::Late(self.no_time(state, operation))
            }
            Turn::Attempt => Next::Attempt,
        })
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
    fn bounds(&self, deadline: Option<Instant>) -> Bounds {
        let left = remaining(deadline);
        let limit = self.connect.time_limit();
        let is_cut = left.is_some_and(|left| limit.is_none_or(|limit| left < limit));
        Bounds { limit: if is_cut { left } else { limit }, is_cut }
    }

    /// Notes how an attempt went.
    fn note_attempt(&self, result: Result<Arc<SharedConnection<M>>>, bounds: Bounds) {
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

    pub(super) fn check_open(&self) -> Result<()> {
        match self.lock().reconnecting.has_given_up() {
            true => Err(Error::new("connect to", self.connect.endpoint(), Kind::Closed)),
            false => Ok(()),
        }
    }

    /// Shows `close` a connection that has not shaken hands yet.
    pub(super) fn show(&self, connection: &Arc<SharedConnection<M>>) -> Result<()> {
        let mut state = self.lock();
        if state.reconnecting.has_given_up() {
            return Err(Error::new("connect to", self.connect.endpoint(), Kind::Closed));
        }
        state.next = Some(Arc::clone(connection));
        Ok(())
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

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Medium> Attempt<M> {
    /// Makes it, for one who needs a connection by then, and notes how it went.
    pub(crate) async fn make(mut self, deadline: Option<Instant>) {
        let Some(lasting) = &self.0 else { return };
        let bounds = lasting.bounds(deadline);
        let connect = lasting.connect.clone().timeout(bounds.limit);
        let result = connect.strive(deadline, None, Some(lasting)).await;
        if let Some(lasting) = self.0.take() {
            lasting.note_attempt(result, bounds);
        }
    }
}

impl<M: Medium> Drop for Attempt<M> {
    fn drop(&mut self) {
        let Some(lasting) = &self.0 else { return };
        let mut state = lasting.lock();
        state.next = None;
        state.reconnecting.cut_short(Instant::now());
        drop(state);
        lasting.is_decided.ring();
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
