//! What a client's calls go over: one connection, or one after the other.

use std::future::{Future, ready};
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::{Address, Channel, Endpoint, Peer};

use super::Connect;
use super::closing::Closing;
use super::lasting::Lasting;
use super::leader::{SharedConnection, deadline_in};
use super::medium::{Medium, at_once};
use super::relay::Relay;
use crate::error::{Error, Kind, Result};
use sidewire_wire::reconnecting::Lost;
use sidewire_wire::{App, Executed, Layout};

/// What calls go over, of threads or of tasks.
#[derive(Debug)]
pub(crate) enum Line<M: Medium = Channel> {
    /// One connection, to its end.
    Once(Arc<SharedConnection<M>>),
    /// It connects anew.
    Lasting(Arc<Lasting<M>>),
    /// Somebody else sees to it that there is a connection.
    Relayed(Arc<Relay<M>>),
}

/// How a request is treated when there is no connection, or no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) deadline: Option<Instant>,
    /// Whether it does no harm if it is executed twice.
    pub(crate) is_safe: bool,
    pub(crate) gap: Gap,
    pub(crate) leaves: Leaves,
}

/// When a request that was started leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    AtOnce,
    /// Together with others, when somebody waits or much has come together.
    #[cfg(feature = "tokio")]
    Together,
}

/// What a request does that comes between two connections which somebody else makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// It waits for the next one, within its time limit.
    Wait,
    Fail,
}

impl Terms {
    /// Of one that waits.
    pub(crate) fn until(deadline: Option<Instant>, is_safe: bool) -> Terms {
        Terms { deadline, is_safe, gap: Gap::Wait, leaves: Leaves::AtOnce }
    }
}

/// A request that goes from one connection to the next.
#[derive(Debug)]
struct Carried {
    operation: &'static str,
    is_safe: bool,
    /// Whether it may have been, so far.
    executed: Executed,
}

impl Carried {
    fn begin(operation: &'static str, is_safe: bool) -> Carried {
        Carried { operation, is_safe, executed: Executed::Never }
    }

    /// Whether it is to be tried over the next connection, when this is what came of it over one.
    fn goes_on(&mut self, error: &Error) -> bool {
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
    fn stranded(&self, error: Error) -> Error {
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

impl<M: Medium> Line<M> {
    /// Connects, with all that the options ask for; `closing` is whom the client tells of its end.
    pub(crate) async fn open(connect: Connect, closing: Option<Closing>) -> Result<Line<M>> {
        let reconnect = connect.reconnects();
        // What a connection tells of its end is the client's end unless others follow.
        let told = closing.clone().filter(|_| reconnect.is_none());
        let connection = connect.strive(None, told.as_ref(), None).await?;
        Ok(match reconnect {
            None => Line::Once(connection),
            Some(reconnect) => Line::Lasting(Arc::new(Lasting::new(connect, reconnect, closing, connection))),
        })
    }

    /// Whether another connection follows one that has ended.
    #[inline]
    pub(crate) fn is_lasting(&self) -> bool {
        !matches!(self, Line::Once(_))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        match self {
            Line::Once(connection) => connection.endpoint(),
            Line::Lasting(lasting) => lasting.endpoint(),
            Line::Relayed(relay) => relay.endpoint(),
        }
    }

    /// The connection, or the last one there was. `None`: there was none yet.
    pub(crate) fn current(&self) -> Option<Held<'_, M>> {
        match self {
            Line::Once(connection) => Some(Held::Once(connection)),
            Line::Lasting(lasting) => Some(Held::Current(lasting.current())),
            Line::Relayed(relay) => relay.current().map(Held::Current),
        }
    }

    /// One to begin something on, which is new if the last one has ended.
    pub(crate) async fn connection(&self, operation: &'static str, terms: Terms) -> Result<Held<'_, M>> {
        match self {
            Line::Once(connection) => Ok(Held::Once(connection)),
            Line::Lasting(lasting) => lasting.connection(operation, terms.deadline).await.map(Held::Current),
            Line::Relayed(relay) => relay.connection(operation, terms).await.map(Held::Current),
        }
    }

    /// Does this on a connection, and on the next ones as long as it is lost with them and may go on.
    pub(crate) async fn carry<T, F: Future<Output = Result<T>>>(
        &self,
        operation: &'static str,
        terms: Terms,
        mut attempt: impl FnMut(Arc<SharedConnection<M>>) -> F,
    ) -> Result<T> {
        let mut carried = Carried::begin(operation, terms.is_safe);
        loop {
            let connection = self.connection(operation, terms).await;
            let connection = connection.map_err(|error| carried.stranded(error))?.into_shared();
            match attempt(Arc::clone(&connection)).await {
                Err(error) if self.is_lasting() && carried.goes_on(&error) => {}
                result => return connection.told(result, terms.deadline),
            }
        }
    }

    /// Reads, and runs what the server asks for, until there is no connection any more.
    pub(crate) async fn run(&self) -> Result<()> {
        self.check_thread("read from")?;
        if let Line::Once(connection) = self {
            let end = connection.run().await;
            connection.tell_end();
            return end;
        }
        loop {
            match self.connection("read from", Terms::until(None, false)).await {
                // Whatever its end is, the next one is looked for.
                Ok(connection) => drop(connection.run().await),
                Err(error) if error.is_closed() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the system has taken all that is to be sent.
    pub(crate) async fn flush(&self, timeout: Option<Duration>) -> Result<()> {
        let Some(connection) = self.current() else { return Ok(()) };
        let deadline = deadline_in(timeout);
        connection.told(connection.send_all(deadline).await, deadline)
    }

    pub(crate) fn close(&self) {
        match self {
            Line::Once(connection) => connection.close_and_tell(),
            Line::Lasting(lasting) => lasting.close(),
            Line::Relayed(relay) => relay.close(),
        }
    }

    /// Whoever was to be told of its end is not.
    #[cfg(feature = "tokio")]
    pub(crate) fn tell_nobody(&self) {
        let closing = match self {
            Line::Once(connection) => &connection.closing,
            Line::Lasting(lasting) => &lasting.closing,
            Line::Relayed(relay) => &relay.closing,
        };
        closing.iter().for_each(Closing::forget);
    }

    /// Whether it has ended for good. What has come is looked at first.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Line::Once(connection) => connection.is_over(),
            Line::Lasting(lasting) => lasting.has_given_up(),
            Line::Relayed(relay) => relay.is_over(),
        }
    }
}

/// What a client tells of its connection, or of the last one there was.
impl<M: Medium> Line<M> {
    pub(crate) fn peer(&self) -> Peer {
        self.current().map_or_else(Peer::unknown, |connection| connection.channel().peer().clone())
    }

    pub(crate) fn peer_app(&self) -> Option<App> {
        self.current()?.peer_app()
    }

    /// Whether something may come that was not asked for.
    pub(crate) fn check_reads_alone(&self) -> Result<()> {
        match self.layout() {
            Layout::V1 => Ok(()),
            _ => Err(nothing_comes(self.endpoint())),
        }
    }

    /// Whether this thread may wait for the server.
    pub(crate) fn check_thread(&self, operation: &'static str) -> Result<()> {
        self.current().map_or(Ok(()), |connection| connection.check_thread(operation))
    }

    pub(crate) fn layout(&self) -> Layout {
        self.current().map_or(Layout::V1, |connection| connection.layout())
    }

    pub(crate) fn request_limit(&self) -> Option<usize> {
        Some(self.current()?.request_limit())
    }

    pub(crate) fn peer_address(&self) -> Result<Address> {
        self.address("look up the server's address on", M::peer_address)
    }

    pub(crate) fn local_address(&self) -> Result<Address> {
        self.address("look up our address on", M::local_address)
    }

    fn address(
        &self,
        operation: &'static str,
        look_up: impl FnOnce(&M) -> io::Result<Address>,
    ) -> Result<Address> {
        let connection = self.current();
        let connection =
            connection.ok_or_else(|| Error::new(operation, self.endpoint(), Kind::NotListening))?;
        look_up(connection.channel()).map_err(|error| Error::os(operation, self.endpoint(), error))
    }
}

/// What is told whoever would wait for that in vain.
pub(super) fn nothing_comes(endpoint: &Endpoint) -> Error {
    let kind = Kind::InvalidInput("nothing comes there that was not asked for".into());
    Error::new("read from", endpoint, kind)
}

impl<M: Medium> Clone for Line<M> {
    fn clone(&self) -> Line<M> {
        match self {
            Line::Once(connection) => Line::Once(Arc::clone(connection)),
            Line::Lasting(lasting) => Line::Lasting(Arc::clone(lasting)),
            Line::Relayed(relay) => Line::Relayed(Arc::clone(relay)),
        }
    }
}

/// For threads.
impl Line {
    /// As [`carry`](Line::carry), and fast where there is one connection only.
    pub(super) fn carry_now<T>(
        &self,
        operation: &'static str,
        terms: Terms,
        mut attempt: impl FnMut(&Arc<SharedConnection>) -> Result<T>,
    ) -> Result<T> {
        if let Line::Once(connection) = self {
            return connection.told(attempt(connection), terms.deadline);
        }
        at_once(self.carry(operation, terms, |connection| ready(attempt(&connection))))
    }

    /// Waits until the program has ended that was started for the connection, if one was. It may answer our goodbye, unless
    /// others have made an end already: many programs would not survive to write to nobody.
    pub(super) fn end_program(&self, is_closed: bool) {
        let connection = match self {
            Line::Once(connection) => Held::Once(connection),
            Line::Lasting(lasting) => Held::Current(lasting.current()),
            Line::Relayed(_) => return,
        };
        let Some(program) = connection.own_fate() else { return };
        let channel = connection.channel();
        if !is_closed && channel.has_half_close() {
            connection.leave();
            let _ = channel.shutdown_write(); // It fails if the program has gone.
        } else {
            connection.close();
            channel.hang_up();
        }
        program.await_end();
    }

    /// Whether something outlives the client that has it.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Line::Once(connection) => Arc::strong_count(connection) > 1,
            // One of the two is ours.
            Line::Lasting(lasting) => {
                Arc::strong_count(lasting) > 1 || Arc::strong_count(&lasting.current()) > 2
            }
            Line::Relayed(_) => true,
        }
    }
}
