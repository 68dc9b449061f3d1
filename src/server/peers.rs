//! Asking clients: handles to their connections, and who is told of the answers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sidewire_platform::Endpoint;

use super::queue::{Queue, Taking};
use crate::error::{Error, Kind, Result};
use crate::reactor::mailbox::{Letter, Mailbox};
use crate::reactor::{ConnectionId, NotSent, Order, PeerOrder};
use sidewire_wire::{Executed, ResultCode};

/// A connection of a server's, to ask its client something, from any thread: from [`Remote::peer`](super::Remote::peer).
///
/// Nothing here waits. What a client answers is handed to a closure, which runs on the server's thread like a
/// handler, with the state:
///
/// ```no_run
/// use std::time::Duration;
/// use sidewire::{ConnectionId, Remote, Result};
///
/// const WHO: u16 = 1;
/// fn ask(remote: &Remote<Vec<String>>, client: ConnectionId) -> Result<()> {
///     remote.peer(client).call(WHO, "", Duration::from_secs(1), |names: &mut Vec<String>, answer| match answer {
///         Ok(answer) => names.push(String::from_utf8_lossy(answer.payload()).into()),
///         Err(error) => eprintln!("{error}"),
///     })
/// }
/// ```
///
/// It means nothing any more when the connection has gone. Only clients that speak v1 can be asked.
pub struct PeerHandle<S> {
    mailbox: Arc<Mailbox>,
    orders: Arc<Orders<S>>,
    connection: ConnectionId,
}

/// What a client answered to a call of its server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<'a> {
    rc: ResultCode,
    is_text: bool,
    payload: &'a [u8],
}

impl<'a> Answer<'a> {
    pub(super) fn new(rc: ResultCode, is_text: bool, payload: &'a [u8]) -> Answer<'a> {
        Answer { rc, is_text, payload }
    }

    /// The result code: 0 is fine.
    #[must_use]
    pub fn result_code(&self) -> ResultCode {
        self.rc
    }

    /// What came with it.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the payload is no data but a text that explains the result code.
    #[must_use]
    pub fn is_explanation(&self) -> bool {
        self.is_text
    }
}

impl<S> PeerHandle<S> {
    pub(super) fn new(
        mailbox: Arc<Mailbox>,
        orders: Arc<Orders<S>>,
        connection: ConnectionId,
    ) -> PeerHandle<S> {
        PeerHandle { mailbox, orders, connection }
    }

    /// Which connection it is.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Asks the client. `then` runs on the server's thread when it has answered, whatever its result code, or
    /// when it is known that it won't: with an error that [`is_timeout`](Error::is_timeout) after `timeout` (unless
    /// the client, which keeps that time as well, has answered "timed out" (-7) by then), when
    /// the client is told, too, that nobody needs the answer any more; that [`is_peer_gone`](Error::is_peer_gone);
    /// that [`is_full`](Error::is_full) if the client takes no more calls before it has answered some, or does not
    /// read; that [`is_invalid_input`](Error::is_invalid_input) if the payload is larger than it takes, or it
    /// speaks the classic layout. [`executed`](Error::executed) says whether it may have served the call.
    ///
    /// When the server ends, the connections end first, and `then` runs with that.
    ///
    /// # Errors
    /// [`is_full`](Error::is_full) if 4,096 orders wait for the server's loop already, and
    /// [`is_stopped`](Error::is_stopped). `then` is dropped.
    pub fn call<F>(
        &self,
        msg_type: u16,
        payload: impl AsRef<[u8]>,
        timeout: impl Into<Option<Duration>>,
        then: F,
    ) -> Result<()>
    where
        F: FnOnce(&mut S, Result<Answer<'_>>) + Send + 'static,
    {
        let (payload, timeout) = (payload.as_ref().to_vec(), timeout.into());
        let what = PeerOrder::Call { msg_type, payload, timeout };
        self.order(what, Some(Callback::Call(OfCall { msg_type, then: Box::new(then) })))
    }

    /// Tells the client something that wants no answer. It is dropped, and the log says so, if the client has
    /// gone, or does not read.
    ///
    /// # Errors
    /// As [`call`](PeerHandle::call).
    pub fn notify(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        self.order(PeerOrder::Notify { msg_type, payload: payload.as_ref().to_vec() }, None)
    }

    /// Asks the client for a sign of life. `then` runs on the server's thread with how long it took from this server's
    /// loop to the client and back, or when it is known that none comes: with an error that
    /// [`is_timeout`](Error::is_timeout) after `timeout`; that [`is_peer_gone`](Error::is_peer_gone); that
    /// [`is_full`](Error::is_full) if 64 pings wait for their answer already, or the client does not read; that
    /// [`is_invalid_input`](Error::is_invalid_input) if it speaks the classic layout, which has no pings. The connection
    /// stays as it is in any case: what a silence means, the app decides.
    ///
    /// A client of this library answers while one of its threads waits for something, or
    /// [reads](crate::Client::spawn_reader) all the time; no handler of its is asked.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use sidewire::{ConnectionId, Remote, Result};
    ///
    /// fn look_after(remote: &Remote<Vec<ConnectionId>>, client: ConnectionId) -> Result<()> {
    ///     remote.peer(client).ping(Duration::from_secs(10), move |silent: &mut Vec<ConnectionId>, answer| {
    ///         if answer.is_err() {
    ///             silent.push(client);
    ///         }
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`call`](PeerHandle::call).
    pub fn ping<F>(&self, timeout: impl Into<Option<Duration>>, then: F) -> Result<()>
    where
        F: FnOnce(&mut S, Result<Duration>) + Send + 'static,
    {
        let what = PeerOrder::Ping { timeout: timeout.into() };
        self.order(what, Some(Callback::Ping(OfPing(Box::new(then)))))
    }

    /// Ends the connection: what was accepted is still answered, then the client is told goodbye.
    ///
    /// # Errors
    /// As [`call`](PeerHandle::call).
    pub fn close(&self) -> Result<()> {
        self.order(PeerOrder::Close, None)
    }

    fn order(&self, what: PeerOrder, callback: Option<Callback<S>>) -> Result<()> {
        let order = Order { to: self.connection, what };
        let posted = self.orders.add((order, callback), || self.mailbox.post(Letter::Order));
        posted.map_err(Error::unreached)
    }
}

impl<S> Clone for PeerHandle<S> {
    fn clone(&self) -> PeerHandle<S> {
        PeerHandle::new(Arc::clone(&self.mailbox), Arc::clone(&self.orders), self.connection)
    }
}

impl<S> fmt::Debug for PeerHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerHandle").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Who is told what became of something that the client was asked.
pub(super) enum Callback<S> {
    Call(OfCall<S>),
    Ping(OfPing<S>),
}

/// Who is told what became of a call.
pub(super) struct OfCall<S> {
    pub(super) msg_type: u16,
    then: Box<Answered<S>>,
}

type Answered<S> = dyn FnOnce(&mut S, Result<Answer<'_>>) + Send;

/// Who is told what became of a ping.
pub(super) struct OfPing<S>(Box<Ponged<S>>);

type Ponged<S> = dyn FnOnce(&mut S, Result<Duration>) + Send;

impl<S> OfCall<S> {
    pub(super) fn run(self, state: &mut S, answer: Result<Answer<'_>>) {
        (self.then)(state, answer.map_err(|error| error.of_type(self.msg_type)));
    }
}

impl<S> OfPing<S> {
    pub(super) fn run(self, state: &mut S, took: Result<Duration>) {
        (self.0)(state, took);
    }
}

impl<S> Callback<S> {
    /// What was asked, as errors say it.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Callback::Call(_) => "call",
            Callback::Ping(_) => "ping",
        }
    }

    /// The type of the call, if it is one.
    pub(super) fn msg_type(&self) -> Option<u16> {
        match self {
            Callback::Call(callback) => Some(callback.msg_type),
            Callback::Ping(_) => None,
        }
    }

    /// It has not become anything.
    pub(super) fn fail(self, state: &mut S, error: Error) {
        match self {
            Callback::Call(callback) => callback.run(state, Err(error)),
            Callback::Ping(callback) => callback.run(state, Err(error)),
        }
    }
}

/// What the loop is to do for single connections, and who is told what becomes of the calls among it.
pub(super) type Ordered<S> = (Order, Option<Callback<S>>);
pub(super) type Orders<S> = Queue<Ordered<S>>;

/// The server's own calls and pings that have no answer yet.
pub(super) struct Asked<S> {
    pub(super) orders: Taking<Ordered<S>>,
    /// Of the call or the ping that the loop is about to send.
    next: Option<Callback<S>>,
    open: HashMap<ConnectionId, Open<S>>,
}

/// Of one connection, by their ids.
struct Open<S> {
    calls: HashMap<u32, OfCall<S>>,
    pings: HashMap<u32, OfPing<S>>,
}

impl<S> Default for Open<S> {
    fn default() -> Self {
        Open { calls: HashMap::new(), pings: HashMap::new() }
    }
}

impl<S> Asked<S> {
    pub(super) fn new() -> Asked<S> {
        Asked { orders: Taking::new(), next: None, open: HashMap::new() }
    }

    pub(super) fn next_order(&mut self) -> Option<Order> {
        let (order, callback) = self.orders.next()?;
        self.next = callback;
        Some(order)
    }

    /// What was ordered last is on its way.
    pub(super) fn begin(&mut self, connection: ConnectionId, id: u32) {
        let Some(callback) = self.next.take() else { return };
        let open = self.open.entry(connection).or_default();
        match callback {
            Callback::Call(callback) => drop(open.calls.insert(id, callback)),
            Callback::Ping(callback) => drop(open.pings.insert(id, callback)),
        }
    }

    /// It is not, and won't be.
    pub(super) fn give_up(&mut self) -> Option<Callback<S>> {
        self.next.take()
    }

    /// This call has come to its end.
    pub(super) fn end_call(&mut self, connection: ConnectionId, id: u32) -> Option<OfCall<S>> {
        self.open.get_mut(&connection)?.calls.remove(&id)
    }

    /// So has this ping.
    pub(super) fn end_ping(&mut self, connection: ConnectionId, id: u32) -> Option<OfPing<S>> {
        self.open.get_mut(&connection)?.pings.remove(&id)
    }

    /// So have all calls of this connection but those that `may_be_answered`.
    pub(super) fn end_calls(
        &mut self,
        connection: ConnectionId,
        may_be_answered: impl Fn(u32) -> bool,
    ) -> Vec<Callback<S>> {
        let Some(open) = self.open.get_mut(&connection) else { return Vec::new() };
        let ended = open.calls.extract_if(|id, _| !may_be_answered(*id));
        ended.map(|(_, callback)| Callback::Call(callback)).collect()
    }

    /// So has everything that this connection was asked.
    pub(super) fn end_all(&mut self, connection: ConnectionId) -> Vec<Callback<S>> {
        let Some(Open { calls, pings }) = self.open.remove(&connection) else { return Vec::new() };
        let calls = calls.into_values().map(Callback::Call);
        calls.chain(pings.into_values().map(Callback::Ping)).collect()
    }
}

/// The connection ended while something was open on it.
pub(super) fn gone(operation: &'static str, endpoint: Option<&Endpoint>) -> Error {
    let kind = Kind::PeerGone { executed: Executed::Perhaps, why: "its connection has ended".into() };
    Error::of_server(operation, endpoint, kind)
}

/// There is no memory for an answer.
pub(super) fn lost(endpoint: Option<&Endpoint>) -> Error {
    let kind = Kind::Busy("there is no memory for the answer".into());
    Error::of_server("call", endpoint, kind).with_executed(Executed::Perhaps)
}

/// Why something was not sent.
pub(super) fn not_sent(operation: &'static str, endpoint: Option<&Endpoint>, why: NotSent) -> Error {
    let kind = match why {
        NotSent::Gone => {
            Kind::PeerGone { executed: Executed::Never, why: "its connection is at its end".into() }
        }
        NotSent::CantBeAsked => Kind::InvalidInput("only clients that speak v1 can be asked".into()),
        NotSent::TooLarge { limit } => {
            Kind::InvalidInput(format!("the payload is larger than the {limit} bytes that the client takes"))
        }
        NotSent::Busy => Kind::Busy("the client has to answer, or to read, what it was sent before".into()),
        NotSent::NoMemory => Kind::Busy("there is no memory for it".into()),
    };
    Error::of_server(operation, endpoint, kind).not_executed()
}
