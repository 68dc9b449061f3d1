//! The blocking client: no loop, no thread of its own.

mod attached;
mod build;
mod calls;
mod closing;
mod connect;
mod datagram;
pub(crate) mod ends;
mod events;
mod fate;
mod given;
mod handlers;
mod journal;
mod lasting;
mod leader;
mod lending;
mod line;
mod medium;
#[cfg(all(test, loom))]
mod models;
mod opening;
mod own_loop;
mod parts;
mod pending;
mod ping;
mod raw;
mod reconnect;
mod relay;
pub(crate) mod request;
mod serving;
mod summons;

use std::time::Duration;

use sidewire_platform::{Address, Attachment, Endpoint, Peer};

use crate::error::{Error, Kind, Result};
use crate::loops;
use datagram::DatagramCalls;
use line::nothing_comes;
use medium::at_once;
use sidewire_wire::caller::Reply;
use sidewire_wire::{App, Layout, Parcel, Payload, ResultCode};

#[cfg(feature = "tokio")]
pub(crate) use line::Leaves;
pub(crate) use {closing::Closing, line::Line};
#[cfg(feature = "tokio")]
pub(crate) use {
    events::{Listening, Subscribed},
    lasting::Attempt,
    leader::{Guard, INBOX, LOOKS, Sent, SharedConnection, State, deadline_in},
    line::Terms,
    medium::{Bell, Medium},
    parts::Coming,
    pending::{Begun, Course as StartedCourse, Started},
    request::explain as explain_request,
};

pub use build::Build;
#[cfg(feature = "describe")]
pub use build::WhenDiffers;
pub use connect::Connect;
pub use events::{Event, Events, Renewal};
pub(crate) use fate::Fate;
pub use handlers::{PeerReply, PeerRequest};
pub use parts::Parts;
pub use pending::{Pending, wait_any};
pub use raw::{RawDatagrams, RawStream};
pub use reconnect::{Reconnect, Reconnected};
pub(crate) use relay::{Contact, Relay};
pub use request::RequestBuilder;
pub use serving::PeerResponder;
pub(crate) use summons::{Effort, Summons};

/// A connection to a server, for any number of threads: share it by reference or in an `Arc`.
///
/// Calls of several threads travel on the one connection at the same time (v1), and each gets
/// its own reply as soon as it comes. There is no thread behind this: one of the waiting threads
/// reads for all, and hands over when its own reply is there.
///
/// On a datagram endpoint the threads ask one after the other. Datagrams can get lost, and are not
/// sent again: a call then times out, executed or not.
///
/// A handler must not call its own server, which would have to answer while it waits: connecting there,
/// and calls on a connection that was opened elsewhere, fail at once with
/// [`is_invalid_input`](Error::is_invalid_input) where the client sees that it runs on the thread
/// that serves there. Threads that a handler waits for do not see it, and stall.
///
/// Every call has a time limit, 30 s unless set otherwise. A connection that has ended stays
/// ended, unless [`Connect::reconnect`] says otherwise.
///
/// ```no_run
/// use sidewire::Client;
///
/// const GET: u16 = 1;
/// let client = Client::connect("local:com.example.app")?;
/// let text = client.call(GET, b"")?.into_payload();
/// # Ok::<(), sidewire::Error>(())
/// ```
///
/// # Platform-specific behavior
/// Unix: a child that is forked must not call through its copy. When it drops that, the connection goes on.
#[derive(Debug)]
pub struct Client {
    link: Link,
    call_timeout: Option<Duration>,
    /// Whom to tell of its end.
    closing: Option<Closing>,
}

#[derive(Debug)]
enum Link {
    Stream(Line),
    Datagrams(Box<DatagramCalls>),
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    rc: ResultCode,
    payload: Payload,
    is_text: bool,
    may_be_refusal: bool,
    attached: Option<Parcel>,
}

impl Response {
    /// The result code: 0 is fine.
    #[must_use]
    pub fn result_code(&self) -> ResultCode {
        self.rc
    }

    /// What came with it.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The same, to keep. One of 64 KiB or more is moved to the beginning of its memory for that, which costs as much as a copy.
    #[must_use]
    pub fn into_payload(self) -> Vec<u8> {
        self.payload.into_vec()
    }

    /// What came with it besides its payload, for whoever asks first, of all that are clones of each other: open files,
    /// ends of pipes, sockets. Nothing comes unless [`Connect::attachments`] says so.
    #[must_use]
    pub fn take_attachments(&self) -> Vec<Attachment> {
        self.attached.as_ref().and_then(crate::attached::take).unwrap_or_default()
    }

    /// Whether this may be the server's refusal instead of a handler's answer: "not permitted" or
    /// "busy" without data, where there is no handshake in which to say so. On a classic connection
    /// only the first reply can be one, over datagrams each.
    #[must_use]
    pub fn may_be_refusal(&self) -> bool {
        self.may_be_refusal
    }

    /// As an error if the code is not 0.
    #[inline]
    pub(crate) fn checked(self, endpoint: &Endpoint) -> Result<Response> {
        self.checked_as("call", endpoint)
    }

    /// The same of another operation than a call.
    #[inline]
    pub(crate) fn checked_as(self, operation: &'static str, endpoint: &Endpoint) -> Result<Response> {
        if self.rc.is_ok() { Ok(self) } else { Err(self.into_error(operation, endpoint)) }
    }

    #[cold]
    fn into_error(self, operation: &'static str, endpoint: &Endpoint) -> Error {
        let Response { rc, payload, is_text, may_be_refusal, .. } = self;
        let payload = payload.into_vec();
        Error::new(operation, endpoint, Kind::Answered { rc, payload, is_text, may_be_refusal })
    }

    /// The same as one of whose request it is known whether replies to such can be refusals.
    fn with_doubt(mut self, is_possible: bool) -> Response {
        let is_code = matches!(self.rc, ResultCode::NOT_PERMITTED | ResultCode::BUSY);
        self.may_be_refusal = is_possible && is_code && (self.is_text || self.payload.is_empty());
        self
    }

    /// Whether the payload is no data but a text that explains the result code (v1).
    #[must_use]
    pub fn is_explanation(&self) -> bool {
        self.is_text
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Response {
        let Reply { rc, payload, is_text, is_classic_first, attached, .. } = reply;
        // Who is refused is told so at once, in reply to whatever it asks first.
        Response { rc, payload, is_text, may_be_refusal: false, attached }.with_doubt(is_classic_first)
    }
}

impl Client {
    /// Connects to a server of the same user, within 5 s. [`Connect`] has options.
    ///
    /// # Errors
    /// [`is_not_listening`](Error::is_not_listening), [`is_refused`](Error::is_refused) (the
    /// server does not let us in, or belongs to another user),
    /// [`is_version_mismatch`](Error::is_version_mismatch), [`is_timeout`](Error::is_timeout),
    /// [`is_protocol`](Error::is_protocol) (it is no Sidewire server),
    /// [`is_invalid_input`](Error::is_invalid_input) (no endpoint, or one whose server can't be
    /// verified: TCP needs [`Connect::access`] with [`Access::Anyone`](crate::Access::Anyone)).
    pub fn connect<E>(endpoint: E) -> Result<Client>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Connect::to(endpoint)?.open()
    }

    /// Sends a request and waits for its reply, within the client's call timeout: the short form of
    /// [`request`](Client::request)`(msg_type).send(payload)`.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub fn call(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Response> {
        self.request(msg_type).send(payload)
    }

    /// Starts a call, to be waited for later: the short form of
    /// [`request`](Client::request)`(msg_type).start(payload)`.
    ///
    /// # Errors
    /// As [`RequestBuilder::start`].
    pub fn start(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Pending> {
        self.request(msg_type).start(payload)
    }

    /// Starts a call whose reply comes in parts: the short form of
    /// [`request`](Client::request)`(msg_type).stream(payload)`.
    ///
    /// # Errors
    /// As [`RequestBuilder::stream`].
    pub fn stream(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Parts> {
        self.request(msg_type).stream(payload)
    }

    /// Sends what was [started](Client::start) and has not left, and waits until the system has taken it,
    /// within the client's call timeout. Whoever waits for a reply need not do this.
    ///
    /// # Errors
    /// [`is_timeout`](Error::is_timeout), [`is_peer_gone`](Error::is_peer_gone).
    pub fn flush(&self) -> Result<()> {
        let Link::Stream(line) = &self.link else { return Ok(()) };
        // Nobody would make room meanwhile.
        let timeout = if self.waits_for_itself() { Some(Duration::ZERO) } else { self.call_timeout };
        at_once(line.flush(timeout))
    }

    /// Reads on this thread, and [handles](Connect::on) what the server asks, until the connection is over: for
    /// programs whose server has more to say to them than they to it. Others may call meanwhile.
    ///
    /// Returns when the server has said goodbye, or somebody has [closed](Client::close) this. With
    /// [`Connect::reconnect`] it connects anew in place of that, until it gives up.
    ///
    /// # Errors
    /// Any other end: [`is_peer_gone`](Error::is_peer_gone), [`is_protocol`](Error::is_protocol),
    /// [`is_timeout`](Error::is_timeout). [`is_invalid_input`](Error::is_invalid_input) as with
    /// [`spawn_reader`](Client::spawn_reader), and in a handler of that very server.
    pub fn run(&self) -> Result<()> {
        at_once(self.reads_alone()?.run())
    }

    /// Starts a thread that reads all the time, so that what the server asks is
    /// [handled](Connect::on) as it comes, whether somebody calls or not; several, so that several handlers run at
    /// a time. They end with the client, at the latest when this is dropped; with [`Connect::reconnect`] they connect
    /// anew.
    ///
    /// Without one, handlers run on threads that wait for something on this connection, and only then.
    ///
    /// # Errors
    /// If the thread can't be started; [`is_invalid_input`](Error::is_invalid_input) over datagrams and in the
    /// classic layout, where nothing comes that was not asked for.
    pub fn spawn_reader(&self) -> Result<()> {
        serving::spawn_reader(self.reads_alone()?)
    }

    /// What can be read from although nobody has asked.
    fn reads_alone(&self) -> Result<&Line> {
        match &self.link {
            Link::Stream(line) => line.check_reads_alone().map(|()| line),
            Link::Datagrams(calls) => Err(nothing_comes(calls.endpoint())),
        }
    }

    /// Closes the connection, for all threads: what they wait for ends at once, with
    /// [`is_closed`](Error::is_closed), and so does all that is begun later. [`executed`](Error::executed)
    /// tells whether a call may have been executed. The server is told as far as that goes without waiting.
    ///
    /// Dropping a client closes it, too.
    ///
    /// # Platform-specific behavior
    /// Windows: the server of a pipe sees the end when the client and all that it has started are dropped; before
    /// that it knows from the goodbye, which the classic layout has not.
    pub fn close(&self) {
        match &self.link {
            Link::Stream(line) => line.close(),
            Link::Datagrams(calls) => calls.close(),
        }
        if let Some(closing) = &self.closing {
            closing.tell(&Error::new("call", self.endpoint(), Kind::Closed));
        }
    }

    /// Whether it has come to its end, so that nothing can be begun any more. What the server has said of it is
    /// looked at first. With [`Connect::reconnect`]: whether no new connection will be sought.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.link {
            Link::Stream(line) => line.is_closed(),
            Link::Datagrams(calls) => calls.is_closed(),
        }
    }

    /// Subscribes to a topic, within the client's call timeout. [`Events::add`] adds more of them.
    ///
    /// # Errors
    /// [`result_code`](Error::result_code) is -2 if the server has no such topic, and -1 if it has no such type;
    /// [`is_invalid_input`](Error::is_invalid_input) where there are no events: in the classic layout, and over
    /// datagrams; otherwise as [`RequestBuilder::send`].
    pub fn subscribe(&self, topic: u16) -> Result<Events> {
        match &self.link {
            Link::Stream(line) => Events::of(line, topic, self.call_timeout),
            Link::Datagrams(calls) => {
                let kind = Kind::InvalidInput("datagrams bring no events".into());
                Err(Error::new("subscribe", calls.endpoint(), kind).of_type(topic))
            }
        }
    }

    /// Sends a request that wants no answer: the short form of
    /// [`request`](Client::request)`(msg_type).notify(payload)`.
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`].
    pub fn notify(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        self.request(msg_type).notify(payload)
    }

    /// Begins a request of this type that is to have options of its own.
    pub fn request(&self, msg_type: u16) -> RequestBuilder<'_> {
        RequestBuilder::new(self, msg_type, self.call_timeout)
    }

    /// Whose process the server is, as far as the system tells; of the last one, if it has gone.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match &self.link {
            Link::Stream(line) => line.peer(),
            Link::Datagrams(calls) => calls.peer().clone(),
        }
    }

    /// What the server's application says of itself in its hello: [`ServerBuilder::app`](crate::ServerBuilder::app).
    /// Nobody checks it. `None` if it says nothing, and where there is no hello: in the classic layout, over
    /// datagrams.
    #[must_use]
    pub fn peer_app(&self) -> Option<App> {
        match &self.link {
            Link::Stream(line) => line.peer_app(),
            Link::Datagrams(_) => None,
        }
    }

    /// The server's address, numerically (getpeername(2)).
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn peer_address(&self) -> Result<Address> {
        match &self.link {
            Link::Stream(line) => line.peer_address(),
            Link::Datagrams(calls) => calls.addresses().server,
        }
    }

    /// Our own address, numerically (getsockname(2)). Never waits for a call that is under way.
    ///
    /// Over datagrams in the classic layout, where a late answer can't be told from the next call's, a call
    /// that got none is followed by a new socket, and that has an address of its own: until the next call begins,
    /// this is still the old one.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn local_address(&self) -> Result<Address> {
        match &self.link {
            Link::Stream(line) => line.local_address(),
            Link::Datagrams(calls) => calls.addresses().local,
        }
    }

    /// The endpoint that it is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        match &self.link {
            Link::Stream(line) => line.endpoint(),
            Link::Datagrams(calls) => calls.endpoint(),
        }
    }

    /// The layout that it speaks.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match &self.link {
            Link::Stream(line) => line.layout(),
            Link::Datagrams(calls) => calls.layout(),
        }
    }

    /// Most bytes of payload that a request may have: what the server's hello says, or in the classic
    /// layout what this client sends, and what fits into its own `outbox_hard`. `None` on datagram endpoints,
    /// where only sending shows it, and to a [helper](crate::Helper) that was not ready yet.
    #[must_use]
    pub fn request_limit(&self) -> Option<usize> {
        match &self.link {
            Link::Stream(line) => line.request_limit(),
            Link::Datagrams(_) => None,
        }
    }

    /// Whether this thread may wait for the server, which could not answer in the middle of one of its own handlers.
    #[inline]
    fn check_thread(&self, operation: &'static str) -> Result<()> {
        if self.waits_for_itself() {
            return Err(loops::waits_for_itself(operation, self.endpoint()));
        }
        Ok(())
    }

    /// Whether the server could not answer as long as this thread waits.
    #[inline]
    fn waits_for_itself(&self) -> bool {
        loops::is_serving() && self.waits_for_its_own()
    }

    fn waits_for_its_own(&self) -> bool {
        match &self.link {
            Link::Stream(line) => line.current().is_some_and(|connection| connection.waits_for_itself()),
            Link::Datagrams(calls) => {
                loops::serves_peer(calls.peer(), calls.endpoint(), || calls.addresses().server.ok())
            }
        }
    }
}

/// What outlives it has an end. If nothing does, the connection closes itself. A program that it has started is waited for.
impl Drop for Client {
    fn drop(&mut self) {
        if let Some(closing) = &self.closing {
            closing.forget();
        }
        let Link::Stream(line) = &self.link else { return };
        let is_shared = line.is_shared();
        if is_shared {
            line.close();
        }
        line.end_program(is_shared);
    }
}
