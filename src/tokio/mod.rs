//! The async client, for programs that have a [Tokio](https://docs.rs/tokio) runtime (feature `tokio`).
//!
//! It is the [blocking client](crate::Client) with another way of waiting: the same protocol, options, errors and
//! promises, so what is written there holds here, too. Servers need nothing for it.
//!
//! ```no_run
//! # async fn example() -> sidewire::Result<()> {
//! use sidewire::tokio::Client;
//!
//! const GET: u16 = 1;
//! let client = Client::connect("local:com.example.app").await?;
//! let text = client.call(GET, b"").await?.into_payload();
//! # Ok(())
//! # }
//! ```
//!
//! **Many tasks.** Share a client by reference or in an `Arc`. Calls of several tasks travel on its one connection at
//! the same time, and each gets its own reply as soon as it comes. There is no task and no thread behind it: what comes
//! is read where the runtime tells that there is something, as long as anybody waits for it.
//!
//! **Dropping is cancelling.** Whoever drops the future of a call gives the call up: the server is told that nobody needs
//! the answer any more. It may have been executed. So `tokio::time::timeout` and `select!` do what they say; but a
//! time limit of the [request](RequestBuilder::timeout) is told the server from the start, and costs less. A future that is
//! not polled any more and not dropped does no harm to others.
//!
//! **Time limits.** Each call has one, 30 s unless set otherwise ([`Connect::call_timeout`]).
//!
//! **Events and parts** are streams: [`Events`] and [`Parts`] are [`futures_core::Stream`]s, and have `next()` of their own.
//!
//! **What the server asks** is handled by the [handlers](Connect::on) of the `Connect`, which are run in whichever task
//! waits for something on this connection, and only then; one that is there for nothing else runs [`Client::run`]. A handler
//! blocks that task's thread, so one that takes long, or that has to ask in turn,
//! [defers](crate::PeerReply::defer) the answer and gives it from a task of its own.
//!
//! **Connecting** itself blocks for as long as the system does, usually microseconds, so it runs on a thread that the
//! runtime keeps for that (`spawn_blocking`), within the [time limit](Connect::timeout). If the future is dropped meanwhile
//! the thread comes to its end by itself, and closes what it has opened. A client that [connects
//! anew](crate::Connect::reconnect) does so in a task of its own, which ends with the future that needed a connection first.
//!
//! **The runtime**, of either flavour, needs I/O and time (`enable_all`), or it panics. A client belongs to the runtime in
//! which it was connected: when that ends, so does the connection.
//!
//! **Backpressure.** No request takes the outbox past [`outbox_hard`](crate::ConnectionLimits::outbox_hard) or the server
//! past what it allows: what does not fit waits, within its time limit.
//!
//! An async handler on the server's side is a [`Responder`](crate::Responder) in a task: see `examples/async.rs`.
//!
//! # Platform-specific behavior
//! Unix: sockets of all kinds; the runtime watches the descriptor. Windows: named pipes and TCP; the handle is in the
//! runtime's completion port, so a pipe that the program brings along ([`Connect::over`]) must have no port yet.

mod events;
mod line;
mod parts;
mod pending;
mod requests;
#[cfg(feature = "serde")]
pub mod typed;
mod waiting;

use std::time::{Duration, Instant};

use sidewire_platform::{Address, Endpoint, EndpointKind, Peer};

use crate::client::{Closing, Connect, Medium, Response};
use crate::error::{Error, Kind, Result};
use line::{Line, deadline_in};
use sidewire_wire::{App, Layout};

pub use events::Events;
pub use parts::Parts;
pub use pending::Pending;
pub use requests::RequestBuilder;

/// A connection to a server, for any number of tasks. See the [module](self).
#[derive(Debug)]
pub struct Client {
    line: Line,
    call_timeout: Option<Duration>,
    /// Whom to tell of its end.
    closing: Option<Closing>,
}

impl Connect {
    /// Connects as a client for [tasks](crate::tokio).
    ///
    /// # Errors
    /// As [`open`](Connect::open); [`is_invalid_input`](Error::is_invalid_input) also where there is no Tokio runtime, and
    /// for endpoints that carry datagrams.
    ///
    /// # Panics
    /// If the runtime was built without I/O or without time.
    pub async fn open_async(self) -> Result<Client> {
        self.check_all()?;
        if self.endpoint().kind() != EndpointKind::Stream {
            return Err(self.invalid("the async client is for streams, and this endpoint carries datagrams"));
        }
        self.check_thread(|| None)?;
        let (call_timeout, closing) = (self.call_time_limit(), self.closing());
        Ok(Client { line: Line::open(self, closing.clone()).await?, call_timeout, closing })
    }
}

impl Client {
    /// Connects to a server of the same user, within 5 s. [`Connect`] has options.
    ///
    /// # Errors
    /// As [`Connect::open_async`].
    ///
    /// # Panics
    /// If the runtime was built without I/O or without time.
    pub async fn connect<E>(endpoint: E) -> Result<Client>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Connect::to(endpoint)?.open_async().await
    }

    /// Sends a request and waits for its reply: the short form of
    /// [`request`](Client::request)`(msg_type).send(payload)`.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub async fn call(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Response> {
        self.request(msg_type).send(payload).await
    }

    /// Starts a call, to be waited for later: the short form of
    /// [`request`](Client::request)`(msg_type).start(payload)`.
    ///
    /// # Errors
    /// As [`RequestBuilder::start`].
    pub async fn start(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Pending> {
        self.request(msg_type).start(payload).await
    }

    /// Starts a call whose reply comes in parts: the short form of
    /// [`request`](Client::request)`(msg_type).stream(payload)`.
    ///
    /// # Errors
    /// As [`RequestBuilder::stream`].
    pub async fn stream(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Parts> {
        self.request(msg_type).stream(payload).await
    }

    /// Sends a request that wants no answer: the short form of
    /// [`request`](Client::request)`(msg_type).notify(payload)`.
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`].
    pub async fn notify(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        self.request(msg_type).notify(payload).await
    }

    /// Begins a request of this type that is to have options of its own.
    pub fn request(&self, msg_type: u16) -> RequestBuilder<'_> {
        RequestBuilder::new(self, msg_type, self.call_timeout)
    }

    /// Waits until the system has taken all that is to be sent, within the client's call timeout.
    ///
    /// # Errors
    /// [`is_timeout`](Error::is_timeout), [`is_peer_gone`](Error::is_peer_gone).
    pub async fn flush(&self) -> Result<()> {
        let connection = self.line.current();
        connection.told(connection.send_all("flush", deadline_in(self.call_timeout)).await)
    }

    /// Subscribes to a topic, within the client's call timeout. [`Events::add`] adds more of them.
    ///
    /// # Errors
    /// As [`Client::subscribe`](crate::Client::subscribe).
    pub async fn subscribe(&self, topic: u16) -> Result<Events> {
        self.check_thread("subscribe").map_err(|error| error.of_type(topic))?;
        let events = Events::of(&self.line, self.call_timeout).await;
        let mut events = events.map_err(|error| error.of_type(topic))?;
        events.add(topic).await?;
        Ok(events)
    }

    /// Asks the server for a sign of life, and says how long it took: as [`Client::ping`](crate::Client::ping).
    ///
    /// # Errors
    /// As [`Client::ping`](crate::Client::ping).
    pub async fn ping(&self, timeout: impl Into<Option<Duration>>) -> Result<Duration> {
        self.check_thread("ping")?;
        let (timeout, begun) = (timeout.into(), Instant::now());
        let deadline = deadline_in(timeout);
        let connection = self.line.connection("ping", deadline).await?;
        let answered = connection.told(connection.ping(deadline).await);
        answered.map_err(|error| match timeout {
            Some(timeout) if error.is_timeout() => {
                error.with_note(|_| format!("no sign of life from {} within {timeout:?}", self.peer()))
            }
            _ => error,
        })?;
        Ok(begun.elapsed())
    }

    /// Reads, and [handles](Connect::on) what the server asks, until the connection is over: for a task of its own, in
    /// programs whose server has more to say to them than they to it. Others may call meanwhile.
    ///
    /// Returns when the server has said goodbye, or somebody has [closed](Client::close) this. With
    /// [`Connect::reconnect`] it connects anew in place of that, until it gives up.
    ///
    /// # Errors
    /// As [`Client::run`](crate::Client::run).
    pub async fn run(&self) -> Result<()> {
        if self.layout() == Layout::Classic {
            let kind = Kind::InvalidInput("nothing comes there that was not asked for".into());
            return Err(Error::new("read from", self.endpoint(), kind));
        }
        self.check_thread("read from")?;
        self.line.run().await
    }

    /// Closes the connection, for all tasks: what they wait for ends at once, with
    /// [`is_closed`](Error::is_closed), and so does all that is begun later. The server is told as far as that goes
    /// without waiting. Dropping a client closes it, too, and with it what it has started.
    pub fn close(&self) {
        self.line.close();
        if let Some(closing) = &self.closing {
            closing.tell(&Error::new("call", self.endpoint(), Kind::Closed));
        }
    }

    /// Whether it has come to its end: as [`Client::is_closed`](crate::Client::is_closed). Never waits.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.line.is_closed()
    }

    /// Whose process the server is, as far as the system tells; of the last one, if it has gone.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.line.current().channel().peer().clone()
    }

    /// What the server's application says of itself in its hello. Nobody checks it.
    #[must_use]
    pub fn peer_app(&self) -> Option<App> {
        self.line.current().peer_app()
    }

    /// The server's address, numerically.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn peer_address(&self) -> Result<Address> {
        let address = self.line.current().channel().peer_address();
        address.map_err(|error| Error::os("look up the server's address on", self.endpoint(), error))
    }

    /// Our own address, numerically.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn local_address(&self) -> Result<Address> {
        let address = self.line.current().channel().local_address();
        address.map_err(|error| Error::os("look up our address on", self.endpoint(), error))
    }

    /// The endpoint that it is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.line.endpoint()
    }

    /// The layout that it speaks.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.line.current().layout()
    }

    /// Most bytes of payload that a request may have.
    #[must_use]
    pub fn request_limit(&self) -> usize {
        self.line.current().request_limit()
    }
}

/// What it has started ends with it.
impl Drop for Client {
    fn drop(&mut self) {
        if let Some(closing) = &self.closing {
            closing.forget();
        }
        self.line.close();
    }
}
