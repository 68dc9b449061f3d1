//! A stream without frames, as its handler sees it.

use std::fmt;

use sidewire_platform::{Address, Endpoint, Peer};

use super::slots::Key;
use super::system::Ends;
use crate::error::{Error, Result};
use sidewire_wire::{Plain, ProtocolError, ResultCode};

/// Names one connection of a server, among all that it ever has. For maps in the server's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) Key);

#[cfg(test)]
impl ConnectionId {
    /// Of two connections.
    pub(crate) fn two() -> [ConnectionId; 2] {
        let mut slots = super::slots::Slots::new();
        [(); 2].map(|()| ConnectionId(slots.insert((), Default::default()).expect("room")))
    }
}

/// As the log names it.
impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One connection without frames, while its handler is called.
#[derive(Debug)]
pub struct Session<'a> {
    pub(super) id: ConnectionId,
    pub(super) peer: &'a Peer,
    pub(super) stream: &'a dyn Ends,
    pub(super) endpoint: &'a Endpoint,
    pub(super) plain: &'a mut Plain,
}

impl Session<'_> {
    /// Which connection this is.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Who is there, as far as the system tells.
    ///
    /// # Platform-specific behavior
    /// On a Windows pipe nothing is known before the first bytes have come.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// The endpoint that the client connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.endpoint
    }

    /// The client's address (getpeername(2)).
    ///
    /// # Errors
    /// If the connection has ended meanwhile.
    pub fn peer_address(&self) -> Result<Address> {
        let address = self.stream.peer_address();
        address.map_err(|error| Error::os("look up a client's address on", self.endpoint, error))
    }

    /// Our own address (getsockname(2)).
    ///
    /// # Errors
    /// If the connection has ended meanwhile.
    pub fn local_address(&self) -> Result<Address> {
        let address = self.stream.local_address();
        address.map_err(|error| Error::os("look up our address on", self.endpoint, error))
    }

    /// Appends to what is sent. Never waits: while the client does not read, nothing is read from
    /// it beyond [`ConnectionLimits::outbox_soft`](crate::ConnectionLimits::outbox_soft), so that an answer to what
    /// it sends can't grow without end.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.plain.write(bytes.as_ref());
    }

    /// Nothing more will be written: the client sees the end once it has read everything. What it
    /// still sends is handed out as before.
    ///
    /// # Platform-specific behavior
    /// A Windows pipe has no such half-close; there it is closed like [`close`](Session::close).
    pub fn finish(&mut self) {
        self.plain.finish();
    }

    /// Ends the connection once everything written is out; what the client still sends is thrown
    /// away.
    pub fn close(&mut self) {
        self.plain.close();
    }

    /// Ends the connection because its handler has panicked.
    pub(crate) fn handler_failed(&mut self) {
        let text = "the handler panicked".to_owned();
        self.plain.fail(ProtocolError::Refused { rc: ResultCode::HANDLER_FAILED, text });
    }
}

/// Why a connection is over.
#[derive(Debug)]
#[non_exhaustive]
pub enum Closed {
    /// Both sides had said what they had to say.
    InOrder,
    /// It broke: a reset, or the peer died.
    Broken(Error),
    /// The server ended it: a limit, a time limit, its own end.
    Ended(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::InOrder => f.write_str("closed in order"),
            Closed::Broken(error) => write!(f, "broken: {error}"),
            Closed::Ended(why) => f.write_str(why),
        }
    }
}
