//! Requests, over one connection or one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Client;
use super::line::{Line, deadline_in};
use super::parts::Parts;
use super::pending::Pending;
use super::waiting::{Connection, Place, Task};
use crate::client::{Asked, Carried, Coming, Response, State, explain_request, remaining};
use crate::error::{Error, Kind, Result};
use crate::loops::WAITS_FOR_ITSELF;
use sidewire_wire::caller::{Caller, Outcome, Purpose, Seat};
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
        let request = self.begin("call", payload.as_ref())?;
        request.exchange(&self.client.line).await.map_err(|error| self.explain(error))
    }

    /// Starts it, to be waited for later, and sends it as far as that goes at once; the rest follows by itself.
    ///
    /// Waits only if the server's limits or our own outbox leave no room, within the time limit, which runs on and is
    /// told the server.
    ///
    /// # Errors
    /// As [`send`](RequestBuilder::send), of which nothing was sent then.
    pub async fn start(self, payload: impl AsRef<[u8]>) -> Result<Pending> {
        let request = self.begin("call", payload.as_ref())?;
        Pending::start(&self.client.line, &request).await.map_err(|error| self.explain(error))
    }

    /// Starts it, to take its reply in parts as they come. The time limit is that of each part; the server is told
    /// none.
    ///
    /// # Errors
    /// As [`start`](RequestBuilder::start).
    pub async fn stream(self, payload: impl AsRef<[u8]>) -> Result<Parts> {
        let request = Request { is_safe: false, ..self.begin("call", payload.as_ref())? };
        let Request { msg_type, payload, timeout, .. } = request;
        let begun = request.carry("call", &self.client.line, |connection| async move {
            let begin = |caller: &mut Caller<Task>| caller.stream(msg_type, payload, 0, None);
            let begun = connection.start(&request, begin).await?;
            Ok(Parts::of(Coming::begun(&connection, begun, (msg_type, timeout))))
        });
        begun.await.map_err(|error| self.explain(error))
    }

    /// Sends it as one that wants no answer. It is done when the request is in our outbox and what the channel takes
    /// at once has left; the rest follows by itself, which [`Client::flush`] waits for.
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`](crate::RequestBuilder::notify).
    pub async fn notify(self, payload: impl AsRef<[u8]>) -> Result<()> {
        let request = self.begin("notify", payload.as_ref())?;
        let notify = |connection: Arc<Connection>| async move { connection.notify(&request).await };
        let notified = request.carry("notify", &self.client.line, notify).await;
        notified.map_err(|error| error.of_type(self.msg_type))
    }

    /// It begins now, in a task that may wait for it.
    fn begin<'p>(&self, operation: &'static str, payload: &'p [u8]) -> Result<Request<'p>> {
        let RequestBuilder { client, msg_type, timeout, is_safe, .. } = *self;
        client.check_thread(operation).map_err(|error| error.of_type(msg_type))?;
        Ok(Request { msg_type, payload, timeout, deadline: deadline_in(timeout), is_safe })
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
    /// Does this over the connection, and the next ones as long as it is lost with them and may go on.
    async fn carry<T, F: Future<Output = Result<T>>>(
        &self,
        operation: &'static str,
        line: &Line,
        attempt: impl Fn(Arc<Connection>) -> F,
    ) -> Result<T> {
        let mut carried = Carried::begin(operation, self.is_safe);
        loop {
            let connection = line.connection(operation, self.deadline).await;
            let connection = connection.map_err(|error| carried.stranded(error))?;
            match attempt(Arc::clone(&connection)).await {
                Err(error) if line.is_lasting() && carried.goes_on(&error) => {}
                result => return connection.told(result),
            }
        }
    }

    /// Until it is answered.
    pub(super) async fn exchange(self, line: &Line) -> Result<Response> {
        self.carry("call", line, |connection| async move { connection.exchange(&self).await }).await
    }

    /// Until it has begun.
    pub(super) async fn start(self, line: &Line) -> Result<(Arc<Connection>, Seat, Asked)> {
        let begun = self.carry("call", line, |connection| async move {
            let Request { msg_type, payload, deadline, .. } = self;
            let begin =
                |caller: &mut Caller<Task>| caller.start(msg_type, payload, self.timeout_ms(), deadline);
            let (seat, asked) = connection.start(&self, begin).await?;
            Ok((connection, seat, asked))
        });
        begun.await
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
            caller.begin(msg_type, payload, request.timeout_ms(), deadline, task)
        });
        let id = begun.await?;
        let place = Place::new(self, Some(Seat::Call(id)), deadline);
        let asked = Asked::begin(self.endpoint(), msg_type, id, payload.len());
        let response = place.wait(|state, outcome| self.answer(state, outcome, deadline)).await;
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

    /// Begins what leaves as far as that goes at once, and is not waited for here.
    async fn start(
        &self,
        request: &Request<'_>,
        begin: impl FnOnce(&mut Caller<Task>) -> Result<u32, NoMemory>,
    ) -> Result<(Seat, Asked)> {
        let Request { msg_type, payload, deadline, .. } = *request;
        let purpose = Purpose::Call(payload.len());
        let id = self.begin("call", purpose, deadline, |caller, _| begin(caller)).await?;
        self.offer(&mut self.lock());
        Ok((Seat::Call(id), Asked::begin(self.endpoint(), msg_type, id, payload.len())))
    }

    async fn notify(&self, request: &Request<'_>) -> Result<()> {
        let Request { msg_type, payload, deadline, .. } = *request;
        self.check_notifies(&self.lock())?;
        let purpose = Purpose::Notify(payload.len());
        let push = |caller: &mut Caller<Task>, _| self.push_notify(caller, msg_type, payload);
        self.begin("notify", purpose, deadline, push).await?;
        self.offer(&mut self.lock());
        Ok(())
    }

    pub(super) async fn ping(&self, deadline: Option<Instant>) -> Result<()> {
        self.check_pings(&self.lock())?;
        let ping = |caller: &mut Caller<Task>, task| caller.ping(deadline, task);
        let seat = self.begin("ping", Purpose::Notify(0), deadline, ping).await?;
        let place = Place::new(self, Some(seat), deadline);
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
