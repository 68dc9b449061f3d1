//! What a client does when its server asks: handlers by message type, and what they are given.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sidewire_platform::{Endpoint, Tally};

use super::Response;
use super::serving::{Asker, PeerResponder};
use crate::error::Result;
use sidewire_wire::{Failure, OwedId, ResultCode};

/// The handlers of a client. Its clones share them.
#[derive(Clone, Default)]
pub(super) struct Handlers {
    table: BTreeMap<u16, Arc<Handler>>,
    /// For what handlers ask in turn.
    pub(super) call_timeout: Option<Duration>,
    /// How often they have panicked.
    pub(super) panics: Arc<Tally>,
    /// How often notifies were dropped.
    pub(super) dropped: Arc<Tally>,
    /// Is told that something has come for which nobody waits.
    pub(super) arrival: Option<Arc<Arrival>>,
}

/// What is told that something has come.
pub(super) type Arrival = dyn Fn() + Send + Sync;

type Handler = dyn Fn(&PeerRequest<'_>, &mut PeerReply) -> Result<(), Failure> + Send + Sync;

impl Handlers {
    pub(super) fn set<F>(&mut self, msg_type: u16, handler: F)
    where
        F: Fn(&PeerRequest<'_>, &mut PeerReply) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.table.insert(msg_type, Arc::new(handler));
    }

    pub(super) fn get(&self, msg_type: u16) -> Option<&Handler> {
        self.table.get(&msg_type).map(|handler| &**handler)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether somebody has to read all the time.
    pub(super) fn want_a_reader(&self) -> bool {
        !self.is_empty() || self.arrival.is_some()
    }

    /// Under no lock: whoever is told may use the client.
    pub(super) fn tell_arrival(&self) {
        if let Some(told) = &self.arrival {
            told();
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.table.keys()).finish()
    }
}

/// A request or a notify of the server, as a [handler](super::Connect::on) of its client sees it.
#[derive(Debug)]
pub struct PeerRequest<'a> {
    pub(super) connection: &'a dyn Asker,
    pub(super) msg_type: u16,
    pub(super) payload: &'a [u8],
    pub(super) owed: Option<OwedId>,
}

impl PeerRequest<'_> {
    /// The number that picked the handler.
    #[must_use]
    pub fn msg_type(&self) -> u16 {
        self.msg_type
    }

    /// What the server sent.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload
    }

    /// Whether it is a notify: what the handler answers goes nowhere.
    #[must_use]
    pub fn is_notify(&self) -> bool {
        self.owed.is_none()
    }

    /// Whether nobody waits for the answer: the server has cancelled, its time is over, or it has gone.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.owed.is_none_or(|owed| !self.connection.is_owed(owed))
    }

    /// The endpoint that the client is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.connection.endpoint()
    }

    /// Asks the server something on the same connection, within the client's call timeout. While it waits,
    /// this thread may be given further requests of the server; so a handler holds no lock meanwhile that
    /// another one takes.
    ///
    /// # Errors
    /// As [`Client::call`](super::Client::call).
    pub fn call(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Response> {
        self.connection.call(msg_type, payload.as_ref())
    }

    /// Tells the server something that wants no answer.
    ///
    /// # Errors
    /// As [`Client::notify`](super::Client::notify).
    pub fn notify(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        self.connection.notify(msg_type, payload.as_ref()).map_err(|error| error.of_type(msg_type))
    }
}

/// What a [handler](super::Connect::on) of a client answers. It leaves when the handler has returned.
#[derive(Debug)]
pub struct PeerReply {
    pub(super) connection: Weak<dyn Asker>,
    pub(super) to: To,
    pub(super) payload: Vec<u8>,
    pub(super) rc: ResultCode,
}

/// Who gets it.
#[derive(Debug)]
pub(super) enum To {
    /// The server, when the handler returns; nobody, if it was a notify.
    Server(Option<OwedId>),
    /// Whoever waits, from a responder.
    Later,
}

impl PeerReply {
    /// Appends to the reply's payload. One that is larger than the server takes is sent as "too large" (-3).
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.payload.extend_from_slice(bytes.as_ref());
    }

    /// Sets the result code that the reply is sent with, together with its payload. 0 unless set; positive
    /// codes are the application's to choose.
    pub fn set_result(&mut self, rc: impl Into<ResultCode>) {
        self.rc = rc.into();
    }

    /// Leaves the answer for later: whoever has the responder gives it, from any thread. What was written
    /// here goes nowhere.
    ///
    /// # Errors
    /// "Handler failed" (-10) the second time.
    pub fn defer(&mut self) -> Result<PeerResponder, Failure> {
        match std::mem::replace(&mut self.to, To::Later) {
            To::Server(owed) => Ok(PeerResponder::new(self.connection.clone(), owed)),
            To::Later => Err(Failure::other("the request was deferred already")),
        }
    }
}

/// For `write!` and [`io::copy`].
impl io::Write for PeerReply {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        PeerReply::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
