//! What a handler is given, and what it gives back.

use std::io;

use sidewire_platform::{Address, Endpoint, Peer};

use crate::error::Error;
use crate::reactor::{Incoming, Origin, address_of};
use sidewire_wire::ResultCode;
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{Failure, Layout, ReplyWriter};

/// A request, as its handler sees it. The payload is borrowed from the bytes that came in.
#[derive(Debug)]
pub struct Request<'a> {
    incoming: &'a Incoming<'a>,
}

impl<'a> Request<'a> {
    pub(super) fn new(incoming: &'a Incoming<'a>) -> Request<'a> {
        Request { incoming }
    }

    /// The number that picked the handler.
    #[must_use]
    pub fn msg_type(&self) -> u16 {
        // A handler was found, so it lies within the table.
        self.incoming.msg_type as u16
    }

    /// What the client sent.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.incoming.payload
    }

    /// A copy of [`payload`](Request::payload), to keep. Where the client may send more than there is memory
    /// for, better than `payload().to_vec()`, which then ends the process.
    ///
    /// # Errors
    /// "Busy" (-6), for the caller, if there is no memory for it.
    pub fn to_vec(&self) -> Result<Vec<u8>, Failure> {
        let copy = memory::copy(self.payload());
        copy.map_err(|NoMemory| Failure::new(ResultCode::BUSY, "the server has no memory for the payload"))
    }

    /// Who asks, as far as the system tells.
    #[must_use]
    pub fn peer(&self) -> &'a Peer {
        self.incoming.peer
    }

    /// The endpoint that the client connected to.
    #[must_use]
    pub fn endpoint(&self) -> &'a Endpoint {
        self.incoming.endpoint
    }

    /// The client's address, numerically (getpeername(2), or a datagram's sender).
    ///
    /// # Errors
    /// If the connection has ended meanwhile, or a datagram came from a sender without an address.
    pub fn peer_address(&self) -> crate::Result<Address> {
        let address = match self.incoming.origin {
            Origin::Stream(stream) => stream.peer_address(),
            Origin::Datagram(Some(address)) => Ok(address.clone()),
            Origin::Datagram(None) => Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        address.map_err(|error| Error::os("look up a client's address on", self.endpoint(), error))
    }

    /// Our own address, numerically (getsockname(2)).
    ///
    /// # Errors
    /// If the connection has ended meanwhile; for a mailslot, which has only a name.
    pub fn local_address(&self) -> crate::Result<Address> {
        let address = match self.incoming.origin {
            Origin::Stream(stream) => stream.local_address(),
            Origin::Datagram(_) => {
                address_of(self.incoming.endpoint).ok_or(io::ErrorKind::AddrNotAvailable.into())
            }
        };
        address.map_err(|error| Error::os("look up our address on", self.endpoint(), error))
    }

    /// The layout that the client speaks.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.incoming.layout
    }
}

/// The answer to a request, written straight into the connection's outbox.
///
/// A handler that returns an error, or panics, has written nothing: the bytes are taken back.
#[derive(Debug)]
pub struct Reply<'a> {
    /// `None` for a request that wants no answer.
    writer: Option<ReplyWriter<'a>>,
    rc: ResultCode,
}

impl<'a> Reply<'a> {
    pub(super) fn new(writer: ReplyWriter<'a>) -> Reply<'a> {
        Reply { writer: Some(writer), rc: ResultCode::OK }
    }

    pub(super) fn discarded() -> Reply<'a> {
        Reply { writer: None, rc: ResultCode::OK }
    }

    /// Appends to the reply's payload.
    ///
    /// Never fails. A reply that gets longer than [`room`](Reply::room) allows is answered "too
    /// large" (-3) and without payload; one that there is no memory for, "busy" (-6). What the handler has
    /// changed in the state by then stays changed: see [`try_write`](Reply::try_write).
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        if let Some(writer) = &mut self.writer {
            writer.write(bytes.as_ref());
        }
    }

    /// The same, and says at once if it does not fit, so that a handler can leave the state as it is:
    ///
    /// ```
    /// # let mut server = sidewire::Server::new(Vec::new());
    /// server.on(3, |value, request, reply| {
    ///     let new = request.to_vec()?;
    ///     reply.try_write(&*value)?; // or the old one would be lost
    ///     *value = new;
    ///     Ok(())
    /// });
    /// ```
    ///
    /// # Errors
    /// "Too large" (-3) or "busy" (-6), for the caller.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        self.write(bytes);
        match self.writer.as_ref().and_then(ReplyWriter::shortfall) {
            None => Ok(()),
            Some((rc, text)) => Err(Failure::new(rc, text)),
        }
    }

    /// Sets the result code that the reply is sent with, together with its payload. 0 unless
    /// set; positive codes are the application's to choose.
    pub fn set_result(&mut self, rc: impl Into<ResultCode>) {
        self.rc = rc.into();
    }

    /// How many more bytes of payload this client takes: what its hello said, or the classic
    /// maximum of the listener.
    #[must_use]
    pub fn room(&mut self) -> usize {
        self.writer.as_mut().map_or(usize::MAX, ReplyWriter::room)
    }

    /// Sends it. Says with what result code.
    pub(super) fn finish(self, result: Result<(), Failure>) -> ResultCode {
        let Some(writer) = self.writer else { return self.rc };
        match result {
            Ok(()) => writer.finish(self.rc),
            Err(failure) => writer.fail(failure.result_code(), failure.text()),
        }
    }
}

/// For `write!` and [`io::copy`]. A payload that is too large fails when the reply is sent.
impl io::Write for Reply<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Reply::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
