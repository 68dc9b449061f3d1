//! Requests.

use std::sync::Arc;
use std::time::Instant;

use super::medium::{Connection, Tasks};
use super::{Client, Parts, Pending};
use crate::client::{Coming, Leaves, Line, Medium, Response, Started, Terms, explain_request};
use crate::error::{Error, Result};
use sidewire_wire::caller::{Caller, Purpose};

/// A request in the making; from [`Client::request`].
pub type RequestBuilder<'c> = crate::client::RequestBuilder<'c, Client>;

impl<'c> crate::client::RequestBuilder<'c, Client> {
    /// Sends it, and waits for its reply. Dropped before that, it is cancelled: the server is told that nobody needs
    /// the answer any more.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`](crate::RequestBuilder::send).
    pub async fn send(self, payload: impl AsRef<[u8]>) -> Result<Response> {
        let response = self.exchange(payload).await?;
        response.checked(self.client.endpoint()).map_err(|error| error.of_type(self.msg_type))
    }

    /// The same, and gives the reply whatever its result code is.
    ///
    /// # Errors
    /// As [`send`](RequestBuilder::send), but for result codes.
    pub async fn exchange(self, payload: impl AsRef<[u8]>) -> Result<Response> {
        let ((line, terms), asked) = (self.begin("call")?, (self.msg_type, payload.as_ref()));
        let exchange =
            |connection: Arc<Connection>| async move { connection.exchange(asked, terms.deadline).await };
        line.carry("call", terms, exchange).await.map_err(|error| self.explain(error))
    }

    /// Leaves it for now if it is [started](RequestBuilder::start) or [streamed](RequestBuilder::stream): it is sent
    /// together with what else is, in one system call, when a task that waits for something on this connection is polled, when
    /// something comes for one, when 64 KiB have come together, or with [`Client::flush`]. If none of that happens it stays: who
    /// does not wait for it next flushes. The time limit that the server is told begins now. Otherwise this changes nothing.
    ///
    /// ```no_run
    /// # async fn example(client: sidewire::tokio::Client) -> sidewire::Result<()> {
    /// let mut calls = Vec::new();
    /// for name in ["one", "two", "three"] {
    ///     calls.push(client.request(1).corked().start(name).await?);
    /// }
    /// for call in calls {
    ///     println!("{} bytes", call.await?.payload().len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn corked(mut self) -> Self {
        self.leaves = Leaves::Together;
        self
    }

    /// Starts it, to be waited for later, and sends it as far as that goes at once; the rest follows by itself.
    ///
    /// Waits only if the server's limits or our own outbox leave no room, within the time limit, which runs on and is
    /// told the server.
    ///
    /// # Errors
    /// As [`send`](RequestBuilder::send), of which nothing was sent then.
    pub async fn start(self, payload: impl AsRef<[u8]>) -> Result<Pending> {
        let ((line, terms), asked) = (self.begin("call")?, (self.msg_type, payload.as_ref()));
        let started = Started::start(line, asked, self.timeout, terms).await;
        started.map(Pending::of).map_err(|error| self.explain(error))
    }

    /// Starts it, to take its reply in parts as they come. The time limit is that of each part; the server is told
    /// none.
    ///
    /// # Errors
    /// As [`start`](RequestBuilder::start).
    pub async fn stream(self, payload: impl AsRef<[u8]>) -> Result<Parts> {
        let ((line, terms), asked) = (self.begin("call")?, (self.msg_type, payload.as_ref()));
        let coming = Coming::start(line, asked, self.timeout, terms).await;
        coming.map(Parts::of).map_err(|error| self.explain(error))
    }

    /// Sends it as one that wants no answer. It is done when the request is in our outbox and what the channel takes
    /// at once has left; the rest follows by itself, which [`Client::flush`] waits for.
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`](crate::RequestBuilder::notify).
    pub async fn notify(self, payload: impl AsRef<[u8]>) -> Result<()> {
        let ((line, terms), told) = (self.begin("notify")?, (self.msg_type, payload.as_ref()));
        let notify =
            |connection: Arc<Connection>| async move { connection.notify(told, terms.deadline).await };
        line.carry("notify", terms, notify).await.map_err(|error| error.of_type(self.msg_type))
    }

    /// It begins now, in a task that may wait for it.
    fn begin(&self, operation: &'static str) -> Result<(&'c Line<Tasks>, Terms)> {
        let line = &self.client.line;
        line.check_thread(operation).map_err(|error| error.of_type(self.msg_type))?;
        Ok((line, self.terms(self.timeout)))
    }

    fn explain(&self, error: Error) -> Error {
        explain_request(error, self.msg_type, self.timeout, &self.client.peer())
    }
}

impl Connection {
    async fn exchange(
        &self,
        (msg_type, payload): (u16, &[u8]),
        deadline: Option<Instant>,
    ) -> Result<Response> {
        let (seat, asked) =
            self.start_call((msg_type, payload), deadline, (deadline, Leaves::AtOnce)).await?;
        let (state, outcome) = Tasks::wait(self, seat, deadline).await;
        let result = self.result(&state, outcome);
        drop(state);
        asked.end(self.endpoint(), &result);
        result
    }

    async fn notify(&self, (msg_type, payload): (u16, &[u8]), deadline: Option<Instant>) -> Result<()> {
        self.check_notifies(&self.lock())?;
        let push = |caller: &mut Caller<_>, _| self.push_notify(caller, msg_type, payload);
        self.begin("notify", Purpose::Notify(payload.len()), deadline, push).await?;
        self.offer(&mut self.lock());
        Ok(())
    }
}
