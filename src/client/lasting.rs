//! A client's connection, and the ones that follow it if that was asked for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidewire_platform::Endpoint;

use super::Connect;
use super::closing::Closing;
use super::leader::{SharedConnection, is_past, remaining};
use super::reconnect::{Reconnect, Reconnected};
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::random::random_number;
use sidewire_wire::reconnecting::{Reconnecting, Turn};
use sidewire_wire::{Executed, ResultCode};

/// One connection after the other.
#[derive(Debug)]
pub(super) struct Lasting {
    connect: Connect,
    reconnect: Reconnect,
    closing: Option<Closing>,
    state: Mutex<State>,
    /// An attempt is over.
    is_decided: Condvar,
}

#[derive(Debug)]
struct State {
    /// The last one, perhaps ended.
    connection: Arc<SharedConnection>,
    /// The one that shakes hands.
    next: Option<Arc<SharedConnection>>,
    reconnecting: Reconnecting,
    /// Why the last one ended.
    lost: Option<Error>,
    /// Why the last attempt failed.
    failure: Option<Error>,
}

impl Lasting {
    pub(super) fn new(
        connect: Connect,
        reconnect: Reconnect,
        closing: Option<Closing>,
        connection: Arc<SharedConnection>,
    ) -> Lasting {
        let reconnecting = Reconnecting::new(reconnect.rules, Instant::now());
        let state = State { connection, next: None, reconnecting, lost: None, failure: None };
        Lasting { connect, reconnect, closing, state: Mutex::new(state), is_decided: Condvar::new() }
    }

    /// The connection; a new one if the last one has ended, by then.
    pub(super) fn connection(
        &self,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<Arc<SharedConnection>> {
        let mut state = self.lock();
        loop {
            self.note_an_end(&mut state);
            match state.reconnecting.poll(Instant::now()) {
                Turn::Connected => return Ok(Arc::clone(&state.connection)),
                Turn::GivenUp => {
                    let error = state.end(self.connect.endpoint());
                    drop(state);
                    self.tell(&error);
                    return Err(error.for_request(operation, Executed::Never));
                }
                Turn::Wait { .. } if is_past(deadline) => return Err(self.no_time(&state, operation)),
                Turn::Wait { until } => {
                    let left = remaining(until.into_iter().chain(deadline).min());
                    state = self.wait(state, left);
                }
                Turn::Attempt if is_past(deadline) => {
                    state.reconnecting.cut_short(Instant::now());
                    return Err(self.no_time(&state, operation));
                }
                Turn::Attempt => {
                    drop(state);
                    self.attempt(deadline);
                    state = self.lock();
                }
            }
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.connect.endpoint()
    }

    /// The connection, or the last one there was.
    pub(super) fn current(&self) -> Arc<SharedConnection> {
        Arc::clone(&self.lock().connection)
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.lock().reconnecting.has_given_up()
    }

    /// Sees whether the connection has ended.
    fn note_an_end(&self, state: &mut State) {
        let now = Instant::now();
        if !state.reconnecting.is_connected() || !state.connection.has_ended() {
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

    /// Connects, once, and notes how that went.
    fn attempt(&self, deadline: Option<Instant>) {
        let left = remaining(deadline);
        let limit = self.connect.time_limit();
        let is_cut = left.is_some_and(|left| limit.is_none_or(|limit| left < limit));
        let result = self.open(if is_cut { left } else { limit }, deadline);
        let mut state = self.lock();
        state.next = None;
        let now = Instant::now();
        let told = match result {
            Ok(connection) => state.replace(connection, now),
            Err(error) => {
                if is_final(&error) {
                    state.reconnecting.give_up();
                } else if is_cut && error.is_timeout() {
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
        self.is_decided.notify_all();
        if let Some(reconnected) = told {
            self.reconnect.tell(&reconnected);
            self.connect.tell_arrival();
        }
    }

    /// An effort, which is to be over by then.
    fn open(&self, limit: Option<Duration>, until: Option<Instant>) -> Result<Arc<SharedConnection>> {
        self.connect.clone().timeout(limit).strive(until, |connect| self.open_once(connect))
    }

    /// Where `close` finds it before it has shaken hands.
    fn open_once(&self, connect: &Connect) -> Result<Arc<SharedConnection>> {
        let deadline = connect.deadline();
        let is_closed = |state: &State| state.reconnecting.has_given_up();
        let closed = || Error::new("connect to", self.connect.endpoint(), Kind::Closed);
        if is_closed(&self.lock()) {
            return Err(closed());
        }
        let connection = connect.begin_stream(None)?;
        let mut state = self.lock();
        if is_closed(&state) {
            return Err(closed());
        }
        state.next = Some(Arc::clone(&connection));
        drop(state);
        connect.shake_hands(&connection, deadline)?;
        Ok(connection)
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.reconnecting.give_up();
        state.connection.close();
        if let Some(next) = state.next.take() {
            next.close();
        }
        let closed = Error::new("call", self.connect.endpoint(), Kind::Closed);
        (state.lost, state.failure) = (Some(closed.clone()), None);
        drop(state);
        self.is_decided.notify_all();
        self.tell(&closed);
    }

    fn tell(&self, why: &Error) {
        if let Some(closing) = &self.closing {
            closing.tell(why);
        }
    }

    /// For one whose time is up.
    fn no_time(&self, state: &State, operation: &'static str) -> Error {
        let why = state.failure.as_ref().or(state.lost.as_ref());
        let error = Error::new(operation, self.connect.endpoint(), Kind::TimedOut).not_executed();
        error.with_note(|_| match why {
            Some(why) => format!("no new connection ({why})"),
            None => "no new connection".into(),
        })
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, left: Option<Duration>) -> MutexGuard<'a, State> {
        match left {
            None => self.is_decided.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.is_decided.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts a new connection in the last one's place, unless the client was closed meanwhile. Gives what is to be
    /// told of it.
    fn replace(&mut self, connection: Arc<SharedConnection>, now: Instant) -> Option<Reconnected> {
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
