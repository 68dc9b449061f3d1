//! A client's connection, and the ones that follow it if that was asked for.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidewire_platform::Endpoint;

use super::Connect;
use super::closing::Closing;
use super::leader::{SharedConnection, is_past, remaining};
use super::reconnect::{Reconnect, Reconnected};
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::random::random_id;
use sidewire_wire::reconnecting::{Lost, Reconnecting, Turn};
use sidewire_wire::{Executed, ResultCode};

/// What calls go over.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// One connection, to its end.
    Once(Arc<SharedConnection>),
    Lasting(Arc<Lasting>),
}

/// A connection for the length of a call.
pub(super) enum Held<'a> {
    Once(&'a Arc<SharedConnection>),
    Current(Arc<SharedConnection>),
}

impl Held<'_> {
    /// To keep.
    pub(super) fn into_shared(self) -> Arc<SharedConnection> {
        match self {
            Held::Once(connection) => Arc::clone(connection),
            Held::Current(connection) => connection,
        }
    }
}

impl Deref for Held<'_> {
    type Target = Arc<SharedConnection>;

    fn deref(&self) -> &Arc<SharedConnection> {
        match self {
            Held::Once(connection) => connection,
            Held::Current(connection) => connection,
        }
    }
}

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

impl Line {
    /// Whether another connection follows one that has ended.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Line::Lasting(_))
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        match self {
            Line::Once(connection) => connection.endpoint(),
            Line::Lasting(lasting) => lasting.connect.endpoint(),
        }
    }

    /// The connection, or the last one there was.
    pub(super) fn current(&self) -> Held<'_> {
        match self {
            Line::Once(connection) => Held::Once(connection),
            Line::Lasting(lasting) => Held::Current(Arc::clone(&lasting.lock().connection)),
        }
    }

    /// One to begin something on, which is new if the last one has ended.
    pub(super) fn connection(&self, operation: &'static str, deadline: Option<Instant>) -> Result<Held<'_>> {
        match self {
            Line::Once(connection) => Ok(Held::Once(connection)),
            Line::Lasting(lasting) => lasting.connection(operation, deadline).map(Held::Current),
        }
    }

    /// Does this on a connection, and on the next ones as long as it is lost with them and may go on.
    pub(super) fn carry<T>(
        &self,
        operation: &'static str,
        deadline: Option<Instant>,
        is_safe: bool,
        mut attempt: impl FnMut(&Arc<SharedConnection>) -> Result<T>,
    ) -> Result<T> {
        let Line::Lasting(lasting) = self else {
            let connection = self.current();
            return connection.told(attempt(&connection));
        };
        let mut executed = Executed::Never;
        loop {
            let connection = lasting.connection(operation, deadline);
            let connection = connection.map_err(|error| {
                let error = error.for_request(operation, executed);
                match executed {
                    Executed::Never if error.is_timeout() => error.with_more("it was not sent"),
                    Executed::Perhaps if error.is_timeout() => {
                        error.with_more("it may have been executed before")
                    }
                    Executed::Never | Executed::Perhaps => error,
                }
            })?;
            match attempt(&connection) {
                Err(error) if error.lost().is_some_and(|lost| lost.goes_on(is_safe)) => {
                    log::debug!("goes on over the next connection: {error}");
                    if let Some(Lost::Sent(Executed::Perhaps)) = error.lost() {
                        executed = Executed::Perhaps;
                    }
                }
                result => return result,
            }
        }
    }

    /// Reads, and runs what the server asks for, until there is no connection any more.
    pub(super) fn run(&self) -> Result<()> {
        let Line::Lasting(lasting) = self else {
            let connection = self.current();
            let end = connection.run();
            connection.tell_end();
            return end;
        };
        loop {
            match lasting.connection("read from", None) {
                // Whatever its end is, the next one is looked for.
                Ok(connection) => drop(connection.run()),
                Err(error) if error.is_closed() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn close(&self) {
        match self {
            Line::Once(connection) => {
                connection.close();
                connection.tell_end();
            }
            Line::Lasting(lasting) => lasting.close(),
        }
    }

    /// Whether it has ended for good. What has come is looked at first.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Line::Once(connection) => {
                let has_ended = connection.has_ended();
                if has_ended {
                    connection.tell_end();
                }
                has_ended
            }
            Line::Lasting(lasting) => lasting.lock().reconnecting.has_given_up(),
        }
    }

    /// Whether something outlives the client that has it.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Line::Once(connection) => Arc::strong_count(connection) > 1,
            Line::Lasting(lasting) => {
                Arc::strong_count(lasting) > 1 || Arc::strong_count(&lasting.lock().connection) > 1
            }
        }
    }
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
    fn connection(
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

    /// Sees whether the connection has ended.
    fn note_an_end(&self, state: &mut State) {
        let now = Instant::now();
        if !state.reconnecting.is_connected() || !state.connection.has_ended() {
            return;
        }
        let Some(lost) = state.connection.reason(&state.connection.lock()) else { return };
        log::info!("{lost}");
        state.reconnecting.ended(now, random());
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
        let result = self.open(if is_cut { left } else { limit });
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
                    state.reconnecting.failed(now, random());
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

    /// Where `close` finds it before it has shaken hands.
    fn open(&self, limit: Option<Duration>) -> Result<Arc<SharedConnection>> {
        let connect = self.connect.clone().timeout(limit);
        let deadline = connect.deadline();
        let connection = connect.begin_stream(None)?;
        let mut state = self.lock();
        if state.reconnecting.has_given_up() {
            return Err(Error::new("connect to", self.connect.endpoint(), Kind::Closed));
        }
        state.next = Some(Arc::clone(&connection));
        drop(state);
        connect.shake_hands(&connection, deadline)?;
        Ok(connection)
    }

    fn close(&self) {
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
            error.is_protocol() || error.is_invalid_input() || error.is_unsupported() || error.is_closed()
        }
    }
}

fn random() -> u32 {
    let [a, b, c, d, ..] = random_id();
    u32::from_le_bytes([a, b, c, d])
}
