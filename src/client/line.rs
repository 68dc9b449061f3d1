//! What a client's calls go over: one connection, or one after the other.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use sidewire_platform::{Channel, Endpoint};

use super::Connect;
use super::closing::Closing;
use super::lasting::Lasting;
use super::leader::SharedConnection;
use super::medium::Medium;
use super::relay::Relay;
use crate::error::{Error, Result};
use sidewire_wire::Executed;
use sidewire_wire::reconnecting::Lost;

/// What calls go over.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// The client connects by itself.
    Own(Own),
    /// Somebody else sees to it that there is a connection.
    Relayed(Arc<Relay>),
}

/// What a client makes itself, for threads or for tasks.
#[derive(Debug)]
pub(crate) enum Own<M: Medium = Channel> {
    /// One connection, to its end.
    Once(Arc<SharedConnection<M>>),
    /// It connects anew.
    Lasting(Arc<Lasting<M>>),
}

/// How a request is treated when there is no connection, or no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) deadline: Option<Instant>,
    /// Whether it does no harm if it is executed twice.
    pub(super) is_safe: bool,
    pub(super) gap: Gap,
}

/// What a request does that comes between two connections which somebody else makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// It waits for the next one, within its time limit.
    Wait,
    Fail,
}

impl Terms {
    /// Of one that waits.
    pub(super) fn until(deadline: Option<Instant>, is_safe: bool) -> Terms {
        Terms { deadline, is_safe, gap: Gap::Wait }
    }
}

/// A request that goes from one connection to the next.
#[derive(Debug)]
pub(crate) struct Carried {
    operation: &'static str,
    is_safe: bool,
    /// Whether it may have been, so far.
    executed: Executed,
}

impl Carried {
    pub(crate) fn begin(operation: &'static str, is_safe: bool) -> Carried {
        Carried { operation, is_safe, executed: Executed::Never }
    }

    /// Whether it is to be tried over the next connection, when this is what came of it over one.
    pub(crate) fn goes_on(&mut self, error: &Error) -> bool {
        let goes_on = error.lost().is_some_and(|lost| lost.goes_on(self.is_safe));
        if goes_on {
            log::debug!("goes on over the next connection: {error}");
            if let Some(Lost::Sent(Executed::Perhaps)) = error.lost() {
                self.executed = Executed::Perhaps;
            }
        }
        goes_on
    }

    /// What is told if there is no connection for it.
    pub(crate) fn stranded(&self, error: Error) -> Error {
        let error = error.for_request(self.operation, self.executed);
        match self.executed {
            Executed::Never if error.is_timeout() => error.with_more("it was not sent"),
            Executed::Perhaps if error.is_timeout() => error.with_more("it may have been executed before"),
            Executed::Never | Executed::Perhaps => error,
        }
    }
}

/// A connection for the length of a call.
pub(crate) enum Held<'a, M: Medium = Channel> {
    Once(&'a Arc<SharedConnection<M>>),
    Current(Arc<SharedConnection<M>>),
}

impl<M: Medium> Held<'_, M> {
    /// To keep.
    pub(crate) fn into_shared(self) -> Arc<SharedConnection<M>> {
        match self {
            Held::Once(connection) => Arc::clone(connection),
            Held::Current(connection) => connection,
        }
    }
}

impl<M: Medium> Deref for Held<'_, M> {
    type Target = Arc<SharedConnection<M>>;

    #[inline]
    fn deref(&self) -> &Arc<SharedConnection<M>> {
        match self {
            Held::Once(connection) => connection,
            Held::Current(connection) => connection,
        }
    }
}

impl<M: Medium> Own<M> {
    /// Of a client that was opened so; `closing` is whom it tells of its end.
    pub(crate) fn of(
        connect: Connect,
        closing: Option<Closing>,
        connection: Arc<SharedConnection<M>>,
    ) -> Own<M> {
        match connect.reconnects() {
            None => Own::Once(connection),
            Some(reconnect) => Own::Lasting(Arc::new(Lasting::new(connect, reconnect, closing, connection))),
        }
    }

    /// Whether another connection follows one that has ended.
    #[inline]
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Own::Lasting(_))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        match self {
            Own::Once(connection) => connection.endpoint(),
            Own::Lasting(lasting) => lasting.endpoint(),
        }
    }

    /// The connection, or the last one there was.
    pub(crate) fn current(&self) -> Held<'_, M> {
        match self {
            Own::Once(connection) => Held::Once(connection),
            Own::Lasting(lasting) => Held::Current(lasting.current()),
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Own::Once(connection) => connection.close_and_tell(),
            Own::Lasting(lasting) => lasting.close(),
        }
    }

    /// Whether it has ended for good. What has come is looked at first.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Own::Once(connection) => connection.is_over(),
            Own::Lasting(lasting) => lasting.has_given_up(),
        }
    }
}

impl<M: Medium> Clone for Own<M> {
    fn clone(&self) -> Own<M> {
        match self {
            Own::Once(connection) => Own::Once(Arc::clone(connection)),
            Own::Lasting(lasting) => Own::Lasting(Arc::clone(lasting)),
        }
    }
}

impl Line {
    /// Whether another connection follows one that has ended.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Line::Own(own) => own.is_lasting(),
            Line::Relayed(_) => true,
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        match self {
            Line::Own(own) => own.endpoint(),
            Line::Relayed(relay) => relay.endpoint(),
        }
    }

    /// The connection, or the last one there was. `None`: there was none yet.
    pub(super) fn current(&self) -> Option<Held<'_>> {
        match self {
            Line::Own(own) => Some(own.current()),
            Line::Relayed(relay) => relay.current().map(Held::Current),
        }
    }

    /// One to begin something on, which is new if the last one has ended.
    pub(super) fn connection(&self, operation: &'static str, deadline: Option<Instant>) -> Result<Held<'_>> {
        self.connection_on(operation, Terms::until(deadline, false))
    }

    fn connection_on(&self, operation: &'static str, terms: Terms) -> Result<Held<'_>> {
        match self {
            Line::Own(Own::Once(connection)) => Ok(Held::Once(connection)),
            Line::Own(Own::Lasting(lasting)) => {
                lasting.connection(operation, terms.deadline).map(Held::Current)
            }
            Line::Relayed(relay) => relay.connection(operation, terms.deadline, terms.gap).map(Held::Current),
        }
    }

    /// Does this on a connection, and on the next ones as long as it is lost with them and may go on.
    pub(super) fn carry<T>(
        &self,
        operation: &'static str,
        terms: Terms,
        mut attempt: impl FnMut(&Arc<SharedConnection>) -> Result<T>,
    ) -> Result<T> {
        if let Line::Own(Own::Once(connection)) = self {
            return connection.told(attempt(connection));
        }
        let mut carried = Carried::begin(operation, terms.is_safe);
        loop {
            let connection = self.connection_on(operation, terms).map_err(|error| carried.stranded(error))?;
            match attempt(&connection) {
                Err(error) if carried.goes_on(&error) => {}
                result => return connection.told(result),
            }
        }
    }

    /// Reads, and runs what the server asks for, until there is no connection any more.
    pub(super) fn run(&self) -> Result<()> {
        if let Line::Own(Own::Once(connection)) = self {
            let end = connection.run();
            connection.tell_end();
            return end;
        }
        loop {
            match self.connection("read from", None) {
                // Whatever its end is, the next one is looked for.
                Ok(connection) => drop(connection.run()),
                Err(error) if error.is_closed() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn close(&self) {
        match self {
            Line::Own(own) => own.close(),
            Line::Relayed(relay) => relay.close(),
        }
    }

    /// Whether it has ended for good. What has come is looked at first.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Line::Own(own) => own.is_closed(),
            Line::Relayed(relay) => relay.is_over(),
        }
    }

    /// Whether something outlives the client that has it.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Line::Own(Own::Once(connection)) => Arc::strong_count(connection) > 1,
            // One of the two is ours.
            Line::Own(Own::Lasting(lasting)) => {
                Arc::strong_count(lasting) > 1 || Arc::strong_count(&lasting.current()) > 2
            }
            Line::Relayed(_) => true,
        }
    }
}
