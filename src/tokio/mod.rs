//! The async client, for programs that have a [Tokio](https://docs.rs/tokio) runtime (feature `tokio`).
//!
//! It is the [blocking client](crate::Client) with another way of waiting: the same protocol, options, limits, errors and
//! promises, so what is written there holds here, too. Servers need nothing for it; an async handler on their side is a
//! [`Responder`](crate::Responder) in a task: see `examples/async.rs`.
//!
//! ```no_run
//! # async fn example() -> sidewire::Result<()> {
//! const GET: u16 = 1;
//! let client = sidewire::tokio::Client::connect("local:com.example.app").await?;
//! let text = client.call(GET, b"").await?.into_payload();
//! # Ok(())
//! # }
//! ```
//!
//! - **Many tasks** share a client, by reference or in an `Arc`. Their calls travel on its one connection at the same time,
//!   and each gets its own reply as soon as it comes. But while it connects there is no task and no thread behind it: what comes is read
//!   where the runtime tells that there is something, as long as anybody waits for it.
//! - **Dropping** the future of a call gives the call up: the server is told that nobody needs the answer any more. It may
//!   have been executed. The [time limit](RequestBuilder::timeout) that each request has is told the server from the
//!   start, and costs less than `tokio::time::timeout`. A future that is not polled, and not dropped, harms no others.
//! - **What the server asks** is handled by the [handlers](Connect::on) of the `Connect`, in whichever task waits for
//!   something on this connection, and only then; one that is there for nothing else runs [`Client::run`]. A handler blocks
//!   that task's thread, so one that takes long, or has to ask in turn, [defers](crate::PeerReply::defer) the answer and
//!   gives it from a task of its own.
//! - **Connecting** blocks for as long as the system does, usually microseconds, so it runs on a thread that the runtime
//!   keeps for that (`spawn_blocking`), within the [time limit](Connect::timeout). If the future is dropped meanwhile the
//!   thread comes to its end by itself, and closes what it has opened. A client that
//!   [connects anew](crate::Connect::reconnect) does so in a task that ends with the future which needed a connection first.
//! - **The runtime**, of either flavour, needs I/O and time (`enable_all`), or it panics. A client belongs to the runtime
//!   in which it was connected: when that ends, so does the connection.
//!
//! # Platform-specific behavior
//! Unix: sockets of all kinds; the runtime watches the descriptor. Windows: named pipes and TCP; the handle is in the
//! runtime's completion port, so a pipe that the program brings along ([`Connect::over`]) must have no port yet.

mod later;
mod medium;
mod requests;
mod waiting;

use std::time::Duration;

use sidewire_platform::{Address, Endpoint, EndpointKind, Peer};

use crate::client::{Connect, Line, Response, Subscribed};
use crate::error::{Error, Result};
use medium::Tasks;
use sidewire_wire::{App, Layout};

pub use later::{Events, Parts, Pending};
pub use requests::RequestBuilder;

#[cfg(feature = "serde")]
pub use crate::typed::tasks as typed;

/// A connection to a server, for any number of tasks. See the [module](self).
#[derive(Debug)]
pub struct Client {
    line: Line<Tasks>,
    call_timeout: Option<Duration>,
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
        if self.takes_attachments() {
            return Err(self.invalid("tasks take no attachments; threads do"));
        }
        if self.endpoint().kind() != EndpointKind::Stream {
            return Err(self.invalid("the async client is for streams, and this endpoint carries datagrams"));
        }
        self.check_thread(|| None)?;
        let (call_timeout, closing) = (self.call_time_limit(), self.closing());
        Ok(Client { line: Line::open(self, closing).await?, call_timeout })
    }
}

impl Client {
    /// Connects to a server of the same user, within 5 s. [`Connect`] has options.
    ///
    /// # Errors
    /// As [`Connect::open_async`], which may panic as well.
    pub async fn connect<E>(endpoint: E) -> Result<Client>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Connect::to(endpoint)?.open_async().await
    }

    /// Sends a request and waits for its reply: as [`RequestBuilder::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn call(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Response> {
        self.request(msg_type).send(payload).await
    }

    /// Starts a call, to be waited for later: as [`RequestBuilder::start`].
    ///
    /// # Errors
    /// As there.
    pub async fn start(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Pending> {
        self.request(msg_type).start(payload).await
    }

    /// Starts a call whose reply comes in parts: as [`RequestBuilder::stream`].
    ///
    /// # Errors
    /// As there.
    pub async fn stream(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Parts> {
        self.request(msg_type).stream(payload).await
    }

    /// Sends a request that wants no answer: as [`RequestBuilder::notify`].
    ///
    /// # Errors
    /// As there.
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
        self.line.flush(self.call_timeout).await
    }

    /// Subscribes to a topic, within the client's call timeout. [`Events::add`] adds more of them.
    ///
    /// # Errors
    /// As [`Client::subscribe`](crate::Client::subscribe).
    pub async fn subscribe(&self, topic: u16) -> Result<Events> {
        Subscribed::to(&self.line, topic, self.call_timeout).await.map(Events::of)
    }

    /// Asks the server for a sign of life, and says how long it took: as [`Client::ping`](crate::Client::ping).
    ///
    /// # Errors
    /// As [`Client::ping`](crate::Client::ping).
    pub async fn ping(&self, timeout: impl Into<Option<Duration>>) -> Result<Duration> {
        self.line.ping(timeout.into()).await
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
        self.line.check_reads_alone()?;
        self.line.run().await
    }

    /// Closes the connection, for all tasks: what they wait for ends at once, with
    /// [`is_closed`](Error::is_closed), and so does all that is begun later. The server is told as far as that goes
    /// without waiting. Dropping a client closes it, too, and with it what it has started.
    pub fn close(&self) {
        self.line.close();
    }

    /// Whether it has come to its end: as [`Client::is_closed`](crate::Client::is_closed). Never waits.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.line.is_closed()
    }

    /// Whose process the server is, as far as the system tells; of the last one, if it has gone.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.line.peer()
    }

    /// What the server's application says of itself in its hello. Nobody checks it.
    #[must_use]
    pub fn peer_app(&self) -> Option<App> {
        self.line.peer_app()
    }

    /// The server's address, numerically.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn peer_address(&self) -> Result<Address> {
        self.line.peer_address()
    }

    /// Our own address, numerically.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn local_address(&self) -> Result<Address> {
        self.line.local_address()
    }

    /// The endpoint that it is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.line.endpoint()
    }

    /// The layout that it speaks.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.line.layout()
    }

    /// Most bytes of payload that a request may have.
    #[must_use]
    pub fn request_limit(&self) -> usize {
        self.line.request_limit().unwrap_or(0)
    }
}

/// What it has started ends with it.
impl Drop for Client {
    fn drop(&mut self) {
        self.line.tell_nobody();
        self.line.close();
    }
}
