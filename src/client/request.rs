//! One request: what it is, how long it may take, and what is made of its reply.

use std::time::Duration;

use sidewire_platform::{Attachment, Peer};

use super::attached;
use super::leader::{deadline_in, remaining};
use super::line::{Gap, Leaves, Line, Terms};
use super::{Client, Link, Parts, Pending, Response};
use crate::error::{Error, Kind, Result};
use sidewire_wire::Executed;

/// A request in the making; from [`Client::request`].
///
/// ```no_run
/// use std::time::Duration;
/// use sidewire::Client;
///
/// const FIND: u16 = 7;
/// let client = Client::connect("local:com.example.app")?;
/// let found = client.request(FIND).timeout(Duration::from_millis(200)).send("needle")?;
/// let none = client.request(FIND).timeout(None).exchange("")?; // waits as long as the server lives
/// assert!(!none.result_code().is_ok());
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before send(), exchange(), start(), stream() or notify()"]
pub struct RequestBuilder<'c, C = Client> {
    pub(crate) client: &'c C,
    pub(crate) msg_type: u16,
    pub(crate) timeout: Option<Duration>,
    is_safe: bool,
    gap: Gap,
    pub(crate) leaves: Leaves,
}

impl<C> Clone for RequestBuilder<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for RequestBuilder<'_, C> {}

impl<'c, C> RequestBuilder<'c, C> {
    pub(crate) fn new(client: &'c C, msg_type: u16, timeout: Option<Duration>) -> RequestBuilder<'c, C> {
        RequestBuilder { client, msg_type, timeout, is_safe: false, gap: Gap::Wait, leaves: Leaves::AtOnce }
    }

    /// How long it may take, in place of what [`Connect::call_timeout`](super::Connect::call_timeout) says;
    /// `None` waits as long as the server lives.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Says that it does no harm if it is executed twice. With [`Connect::reconnect`](super::Connect::reconnect) it is
    /// then sent again over the next connection when the one before ends without an answer, within the same time
    /// limit. Otherwise this changes nothing.
    pub fn idempotent(mut self) -> Self {
        self.is_safe = true;
        self
    }

    /// Of a request that begins now.
    pub(crate) fn terms(&self, timeout: Option<Duration>) -> Terms {
        let Self { is_safe, gap, leaves, .. } = *self;
        Terms { deadline: deadline_in(timeout), is_safe, gap, leaves }
    }
}

impl RequestBuilder<'_> {
    /// Sends it with something that goes along: open files, ends of pipes, sockets; up to 16. The server then has them as
    /// well, and ours are closed when this returns. Waits for the reply.
    ///
    /// Needs [`Connect::attachments`](super::Connect::attachments), and a server that
    /// [takes them](crate::Listen::attachments).
    ///
    /// # Errors
    /// As [`exchange`](RequestBuilder::exchange); [`is_invalid_input`](Error::is_invalid_input) where they can't go.
    pub fn exchange_attached(
        self,
        payload: impl AsRef<[u8]>,
        attachments: impl IntoIterator<Item = Attachment>,
    ) -> Result<Response> {
        let RequestBuilder { msg_type, timeout, .. } = self;
        let parcel =
            attached::parcel(attachments, self.client.endpoint()).map_err(|error| self.explain(error))?;
        let payload = payload.as_ref();
        let terms = self.terms(timeout);
        let deadline = terms.deadline;
        let result = self.line().and_then(|line| {
            line.carry_now("call", terms, |connection| {
                connection.exchange_attached((msg_type, payload), &parcel, remaining(deadline), deadline)
            })
        });
        result.map_err(|error| self.explain(error))
    }

    /// The same, with a result code other than 0 as an error, as [`send`](RequestBuilder::send).
    ///
    /// # Errors
    /// As [`exchange_attached`](RequestBuilder::exchange_attached), and result codes.
    pub fn send_attached(
        self,
        payload: impl AsRef<[u8]>,
        attachments: impl IntoIterator<Item = Attachment>,
    ) -> Result<Response> {
        let reply = self.exchange_attached(payload, attachments)?;
        reply.checked(self.client.endpoint()).map_err(|error| error.of_type(self.msg_type))
    }

    /// Sends it as one that wants no answer, with something that goes along.
    ///
    /// # Platform-specific behavior
    /// Windows: waits for a sign of life, behind which the server has fetched what goes along; not for longer than a call of
    /// this client may take.
    ///
    /// # Errors
    /// As [`notify`](RequestBuilder::notify); [`is_invalid_input`](Error::is_invalid_input) where they can't go.
    pub fn notify_attached(
        self,
        payload: impl AsRef<[u8]>,
        attachments: impl IntoIterator<Item = Attachment>,
    ) -> Result<()> {
        let RequestBuilder { msg_type, timeout, .. } = self;
        let parcel =
            attached::parcel(attachments, self.client.endpoint()).map_err(|error| self.explain(error))?;
        let payload = payload.as_ref();
        let terms = self.terms(timeout);
        let deadline = terms.deadline;
        let result = self.line().and_then(|line| {
            line.carry_now("notify", terms, |connection| {
                connection.notify_attached((msg_type, payload), &parcel, deadline)
            })
        });
        result.map_err(|error| error.of_type(msg_type))
    }

    /// Says that it fails at once, as one that was not executed, if the [helper](crate::Helper) that it is for is not
    /// there: it has not become ready yet, or is being started anew. Otherwise such a request waits, within its time
    /// limit. With other clients this changes nothing.
    pub fn fail_fast(mut self) -> Self {
        self.gap = Gap::Fail;
        self
    }

    /// Sends it, and waits for its reply.
    ///
    /// # Errors
    /// A result code other than 0 is an error, with the code in
    /// [`result_code`](Error::result_code); [`exchange`](RequestBuilder::exchange) sees that otherwise.
    /// [`is_timeout`](Error::is_timeout): no reply in time; should it come later it is thrown
    /// away, and the connection stays good. [`is_peer_gone`](Error::is_peer_gone): the server
    /// has gone; [`executed`](Error::executed) says whether it is safe to send
    /// the request again. [`is_invalid_input`](Error::is_invalid_input): the payload is larger
    /// than the server takes.
    pub fn send(self, payload: impl AsRef<[u8]>) -> Result<Response> {
        let reply = self.exchange(payload)?;
        reply.checked(self.client.endpoint()).map_err(|error| error.of_type(self.msg_type))
    }

    /// Starts it, to be waited for later. It leaves together with what else is started, when somebody waits
    /// for a reply on this connection, when much has come together, or with [`Client::flush`].
    ///
    /// Returns at once, unless the server's limits or our own outbox leave no room: then it waits, within the
    /// time limit, for replies to make some. The time limit runs on, and is told the server, as with all calls.
    ///
    /// # Errors
    /// As [`send`](RequestBuilder::send), of which nothing was sent then. [`is_invalid_input`](Error::is_invalid_input)
    /// over datagrams, where one call follows the other.
    pub fn start(self, payload: impl AsRef<[u8]>) -> Result<Pending> {
        let RequestBuilder { msg_type, timeout, .. } = self;
        let terms = self.terms(timeout);
        let pending =
            self.line().and_then(|line| Pending::start(line, msg_type, payload.as_ref(), timeout, terms));
        pending.map_err(|error| self.explain(error))
    }

    /// Over which calls can be started, by a thread that may wait for them.
    fn line(&self) -> Result<&Line> {
        let Link::Stream(line) = &self.client.link else {
            let text = "over datagrams one call follows the other, and none can be started; use call";
            let kind = Kind::InvalidInput(text.into());
            return Err(Error::new("call", self.client.endpoint(), kind).of_type(self.msg_type));
        };
        self.client.check_thread("call").map_err(|error| error.of_type(self.msg_type))?;
        Ok(line)
    }

    /// Starts it, to take its reply in parts as they come. The time limit is that of each part; the server is told
    /// none. A reply without parts is just the last word of none.
    ///
    /// # Errors
    /// As [`start`](RequestBuilder::start).
    pub fn stream(self, payload: impl AsRef<[u8]>) -> Result<Parts> {
        let (asked, terms) = ((self.msg_type, payload.as_ref()), self.terms(self.timeout));
        let parts = self.line().and_then(|line| Parts::start(line, asked, self.timeout, terms));
        parts.map_err(|error| self.explain(error))
    }

    /// Sends it, and returns the reply whatever its result code is.
    ///
    /// # Errors
    /// As [`send`](RequestBuilder::send), but for result codes.
    pub fn exchange(self, payload: impl AsRef<[u8]>) -> Result<Response> {
        let RequestBuilder { client, msg_type, timeout, .. } = self;
        client.check_thread("call").map_err(|error| error.of_type(msg_type))?;
        let terms = self.terms(timeout);
        let deadline = terms.deadline;
        match &client.link {
            Link::Stream(Line::Once(connection)) => {
                let exchanged = connection.exchange(msg_type, payload.as_ref(), timeout, deadline);
                connection.told(exchanged, deadline)
            }
            Link::Stream(line) => line.carry_now("call", terms, |connection| {
                let left = remaining(deadline);
                connection.exchange(msg_type, payload.as_ref(), left, deadline)
            }),
            Link::Datagrams(calls) => calls.exchange(msg_type, payload.as_ref(), timeout, deadline),
        }
        .map_err(|error| self.explain(error))
    }

    /// Sends it as one that wants no answer. That it was sent does not mean that it arrived; one that
    /// timed out may still go out.
    ///
    /// A handler can send such a request to its own server, which handles it later. What does not leave at
    /// once then fails as timed out.
    ///
    /// # Errors
    /// As [`send`](RequestBuilder::send); [`is_invalid_input`](Error::is_invalid_input) on a classic
    /// connection, where every request is answered.
    pub fn notify(self, payload: impl AsRef<[u8]>) -> Result<()> {
        let RequestBuilder { client, msg_type, timeout, .. } = self;
        // Nobody would make room for it meanwhile.
        let timeout = if client.waits_for_itself() { Some(Duration::ZERO) } else { timeout };
        let terms = self.terms(timeout);
        let deadline = terms.deadline;
        match &client.link {
            Link::Stream(line) => line.carry_now("notify", terms, |connection| {
                connection.notify(msg_type, payload.as_ref(), deadline)
            }),
            Link::Datagrams(calls) => calls.notify(msg_type, payload.as_ref(), deadline),
        }
        .map_err(|error| error.of_type(msg_type))
    }

    fn explain(&self, error: Error) -> Error {
        explain(error, self.msg_type, self.timeout, &self.client.peer())
    }
}

/// Says which call it was, and of whom nothing came.
pub(crate) fn explain(error: Error, msg_type: u16, timeout: Option<Duration>, peer: &Peer) -> Error {
    let error = error.of_type(msg_type);
    let Some(timeout) = timeout.filter(|_| error.is_timeout()) else { return error };
    let peer = peer.as_server();
    error.with_note(|error| match error.executed() {
        Executed::Perhaps => format!("no reply from {peer} within {timeout:?}"),
        Executed::Never => format!("{peer} took nothing more within {timeout:?}, so it was not sent"),
    })
}
