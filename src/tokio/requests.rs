//! Requests, over one connection or one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Client;
use super::line::{Line, deadline_in};
use super::parts::Parts;
use super::pending::Pending;
use super::waiting::{Connection, Place, Task};
use crate::client::{Asked, Carried, Response, State, explain_request, remaining};
use crate::error::{Error, Kind, Result};
use crate::loops::WAITS_FOR_ITSELF;
use sidewire_wire::caller::{Outcome, Purpose, Seat};
use sidewire_wire::frame::timeout_ms;
use sidewire_wire::memory::NoMemory;
use sidewire_wire::{Executed, ResultCode};

/// A request in the making; from [`Client::request`].
///
/// ```no_run
/// use std::time::Duration;
///
/// # async fn example() -> sidewire::Result<()> {
/// const FIND: u16 = 7;
/// let client = sidewire::tokio::Client::connect("local:com.example.app").await?;
/// let found = client.request(FIND).timeout(Duration::from_millis(200)).send("needle").await?;
/// # Ok(())
/// # }
/// ```
pub type RequestBuilder<'c> = crate::client::RequestBuilder<'c, Client>;

impl crate::client::RequestBuilder<'_, Client> {
    /// Sends it, and waits for its reply. Dropped before that, it is cancelled: the server is told that nobody needs
    /// the answer any more.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`](crate::RequestBuilder::send).
    pub async fn send(self, payload: impl AsRef<[u8]>) -> Result<Response> {
        let (endpoint, msg_type) = (self.client.endpoint(), self.msg_type);
        let response = self.exchange(payload).await?;
        response.checked(endpoint).map_err(|error| error.of_type(msg_type))
    }

    /// The same, and gives the reply whatever its result code is.
    ///
    /// # Errors
    /// As [`send`](RequestBuilder::send), but for result codes.
    pub async fn exchange(self, payload: impl AsRef<[u8]>) -> Result<Response> {
        let RequestBuilder { client, msg_type, timeout, is_safe, .. } = self;
        client.check_thread("call").map_err(|error| self.explain(error))?;
        let request =
            Request { msg_type, payload: payload.as_ref(), timeout, deadline: deadline_in(timeout), is_safe };
        request.exchange(&client.line).await.map_err(|error| self.explain(error))
    }

    /// Starts it, to be waited for later, and sends it as far as that goes at once; the rest follows by itself.
    ///
    /// Waits only if the server's limits or our own outbox leave no room, within the time limit, which runs on and is
    /// told the server.
    ///
    /// # Errors
    /// As [`send`](RequestBuilder::send), of which nothing was sent then.
    pub async fn start(self, payload: impl AsRef<[u8]>) -> Result<Pending> {
        let RequestBuilder { client, msg_type, timeout, is_safe, .. } = self;
        client.check_thread("call").map_err(|error| self.explain(error))?;
        let request =
            Request { msg_type, payload: payload.as_ref(), timeout, deadline: deadline_in(timeout), is_safe };
        Pending::start(&client.line, &request).await.map_err(|error| self.explain(error))
    }

    /// Starts it, to take its reply in parts as they come. The time limit is that of each part; the server is told
    /// none.
    ///
    /// # Errors
    /// As [`start`](RequestBuilder::start).
    pub async fn stream(self, payload: impl AsRef<[u8]>) -> Result<Parts> {
        let RequestBuilder { client, msg_type, timeout, .. } = self;
        client.check_thread("call").map_err(|error| self.explain(error))?;
        let parts = Parts::start(&client.line, msg_type, payload.as_ref(), timeout).await;
        parts.map_err(|error| self.explain(error))
    }

    /// Sends it as one that wants no answer. It is done when the request is in our outbox and what the channel takes
    /// at once has left; the rest follows by itself, which [`Client::flush`] waits for.
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`](crate::RequestBuilder::notify).
    pub async fn notify(self, payload: impl AsRef<[u8]>) -> Result<()> {
        let RequestBuilder { client, msg_type, timeout, is_safe, .. } = self;
        let (payload, deadline) = (payload.as_ref(), deadline_in(timeout));
        client.check_thread("notify").map_err(|error| error.of_type(msg_type))?;
        let mut carried = Carried::begin("notify", is_safe);
        loop {
            let connection = client.line.connection("notify", deadline).await;
            let connection = connection.map_err(|error| carried.stranded(error).of_type(msg_type))?;
            match connection.notify(msg_type, payload, deadline).await {
                Err(error) if client.line.is_lasting() && carried.goes_on(&error) => {}
                notified => return connection.told(notified).map_err(|error| error.of_type(msg_type)),
            }
        }
    }

    fn explain(&self, error: Error) -> Error {
        explain_request(error, self.msg_type, self.timeout, &self.client.peer())
    }
}

/// One request, to be made over one connection or the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'p> {
    pub(super) msg_type: u16,
    pub(super) payload: &'p [u8],
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    pub(super) is_safe: bool,
}

impl Request<'_> {
    /// Over the connection, and the next ones as long as it is lost with them and may go on.
    pub(super) async fn exchange(&self, line: &Line) -> Result<Response> {
        let mut carried = Carried::begin("call", self.is_safe);
        loop {
            let connection = line.connection("call", self.deadline).await;
            let connection = connection.map_err(|error| carried.stranded(error))?;
            match connection.exchange(self).await {
                Err(error) if line.is_lasting() && carried.goes_on(&error) => {}
                exchanged => return connection.told(exchanged),
            }
        }
    }

    /// The same, but does not wait for the reply.
    pub(super) async fn start(&self, line: &Line) -> Result<(Arc<Connection>, Seat, Asked)> {
        let mut carried = Carried::begin("call", self.is_safe);
        loop {
            let connection = line.connection("call", self.deadline).await;
            let connection = connection.map_err(|error| carried.stranded(error))?;
            match connection.start(self).await {
                Err(error) if line.is_lasting() && carried.goes_on(&error) => {}
                Err(error) => return connection.told(Err(error)),
                Ok((seat, asked)) => return Ok((connection, seat, asked)),
            }
        }
    }

    /// What the server is told: what is left.
    fn timeout_ms(&self) -> i32 {
        timeout_ms(remaining(self.deadline))
    }
}

impl Connection {
    async fn exchange(&self, request: &Request<'_>) -> Result<Response> {
        let Request { msg_type, payload, deadline, .. } = *request;
        let begun = self.begin("call", Purpose::Call(payload.len()), deadline, |caller, task| {
            let id = caller.begin(msg_type, payload, request.timeout_ms(), deadline, task);
            id.map_err(|NoMemory| Error::no_memory("call", self.endpoint(), Executed::Never))
        });
        let id = begun.await?;
        let place = Place::new(self, Some(Seat::Call(id)), deadline);
        let asked = Asked::begin(self.endpoint(), msg_type, id, payload.len());
        let response = place.wait(|state, outcome| self.answer(state, outcome, deadline));
        let response = response.await;
        asked.end(self.endpoint(), &response);
        response
    }

    /// What has come of a call. Timers are late by up to a millisecond, so the server, which was told the time limit,
    /// may say first that it is over.
    pub(super) fn answer(
        &self,
        state: &State<Task>,
        outcome: Option<Outcome>,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        let is_late = |at: Instant| at <= Instant::now();
        let outcome = match outcome {
            Some(Outcome::Reply(reply))
                if reply.rc == ResultCode::TIMED_OUT && deadline.is_some_and(is_late) =>
            {
                None
            }
            outcome => outcome,
        };
        self.result(state, outcome.unwrap_or(Outcome::TimedOut(Executed::Perhaps)))
    }

    async fn start(&self, request: &Request<'_>) -> Result<(Seat, Asked)> {
        let Request { msg_type, payload, deadline, .. } = *request;
        let begun = self.begin("call", Purpose::Call(payload.len()), deadline, |caller, _| {
            let id = caller.start(msg_type, payload, request.timeout_ms(), deadline);
            id.map_err(|NoMemory| Error::no_memory("call", self.endpoint(), Executed::Never))
        });
        let id = begun.await?;
        self.offer(&mut self.lock());
        Ok((Seat::Call(id), Asked::begin(self.endpoint(), msg_type, id, payload.len())))
    }

    pub(super) async fn start_stream(
        &self,
        msg_type: u16,
        payload: &[u8],
        deadline: Option<Instant>,
    ) -> Result<(Seat, Asked)> {
        let begun = self.begin("call", Purpose::Call(payload.len()), deadline, |caller, _| {
            let id = caller.stream(msg_type, payload, 0, None);
            id.map_err(|NoMemory| Error::no_memory("call", self.endpoint(), Executed::Never))
        });
        let id = begun.await?;
        self.offer(&mut self.lock());
        Ok((Seat::Call(id), Asked::begin(self.endpoint(), msg_type, id, payload.len())))
    }

    async fn notify(&self, msg_type: u16, payload: &[u8], deadline: Option<Instant>) -> Result<()> {
        self.check_notifies(&self.lock())?;
        let begun = self.begin("notify", Purpose::Notify(payload.len()), deadline, |caller, _| {
            self.push_notify(caller, msg_type, payload)
        });
        begun.await?;
        self.offer(&mut self.lock());
        Ok(())
    }

    pub(super) async fn ping(&self, deadline: Option<Instant>) -> Result<()> {
        self.check_pings(&self.lock())?;
        let seat = self.begin("ping", Purpose::Notify(0), deadline, |caller, task| {
            let seat = caller.ping(deadline, task);
            seat.map_err(|NoMemory| Error::no_memory("ping", self.endpoint(), Executed::Never))
        });
        let place = Place::new(self, Some(seat.await?), deadline);
        let answered = place.wait(|state, outcome| match outcome {
            Some(Outcome::Ready) => Ok(()),
            outcome => {
                let outcome = outcome.unwrap_or(Outcome::TimedOut(Executed::Never));
                Err(self.explain(state, "ping", outcome))
            }
        });
        answered.await
    }
}

impl Client {
    /// Whether this thread may wait for the server.
    pub(super) fn check_thread(&self, operation: &'static str) -> Result<()> {
        match self.line.current().waits_for_itself() {
            true => Err(Error::new(operation, self.endpoint(), Kind::InvalidInput(WAITS_FOR_ITSELF.into()))),
            false => Ok(()),
        }
    }
}
