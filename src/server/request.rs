//! What a handler is given.

use std::any::Any;
use std::fmt;
use std::io;
use std::time::Duration;

use sidewire_platform::{Address, Attachment, Endpoint, Peer};

use super::connected::Locals;
use crate::attached;
use crate::error::Error;
use crate::reactor::{ConnectionId, Incoming, Origin, address_of};
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{App, Failure, Layout, ResultCode};

/// A request, as its handler sees it. The payload is borrowed from the bytes that came in.
pub struct Request<'a> {
    incoming: &'a Incoming<'a>,
    locals: &'a Locals,
}

impl<'a> Request<'a> {
    pub(super) fn new(incoming: &'a Incoming<'a>, locals: &'a Locals) -> Request<'a> {
        Request { incoming, locals }
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

    /// What came with the request besides its payload, for whoever asks first: open files, ends of pipes, sockets. Those
    /// that nobody takes are closed when the handler returns; on Unix by another thread, since that may take long, on Windows
    /// at once. Nothing comes unless the listener [takes attachments](super::Listen::attachments).
    #[must_use]
    pub fn take_attachments(&self) -> Vec<Attachment> {
        let came = match self.incoming.origin {
            Origin::Stream(way) => way.attached(),
            Origin::Datagram(_) => None,
        };
        came.and_then(attached::take).unwrap_or_default()
    }

    /// For how long its caller waits, counted from when the server has had all of it: the answer is worth nothing later.
    /// A [deferred](super::Reply::defer) call whose time is over is answered "timed out" (-7) by the server itself, so
    /// this is for those who ask others in turn, and tell them. `None`: for as long as it takes, which is what callers of
    /// [`stream`](crate::RequestBuilder::stream) and of the classic layout say, or it is a notify.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let milliseconds = self.incoming.timeout_ms;
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
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

    /// The connection that it came over, by which the server tells it from all others that it ever has;
    /// `None` for a datagram.
    #[must_use]
    pub fn connection(&self) -> Option<ConnectionId> {
        match self.incoming.origin {
            Origin::Stream(way) => Some(way.connection),
            Origin::Datagram(_) => None,
        }
    }

    /// Runs this with what the app keeps for this connection, one value of each type; made when it is first asked
    /// for, and dropped when the connection has ended. `None` for a datagram.
    ///
    /// ```
    /// use sidewire::Server;
    ///
    /// #[derive(Default)]
    /// struct Asked(u32);
    ///
    /// let mut server = Server::new(());
    /// server.on(1, |(), request, reply| {
    ///     request.with_data(|asked: &mut Asked| {
    ///         asked.0 += 1;
    ///         reply.write(format!("you have asked {} times", asked.0));
    ///     });
    ///     Ok(())
    /// });
    /// ```
    ///
    /// It may be asked for another type in there, but not for the same once more.
    pub fn with_data<D: Any + Default + Send, R>(&self, run: impl FnOnce(&mut D) -> R) -> Option<R> {
        Some(self.locals.with(self.connection()?, run))
    }

    /// What the client's application says of itself in its hello: [`Connect::app`](crate::Connect::app). Nobody
    /// checks it. `None` if it says nothing, and where there is no hello: in the classic layout, over datagrams.
    #[must_use]
    pub fn peer_app(&self) -> Option<&'a App> {
        match self.incoming.origin {
            Origin::Stream(way) => way.app(),
            Origin::Datagram(_) => None,
        }
    }

    /// The client's address, numerically (getpeername(2), or a datagram's sender).
    ///
    /// # Errors
    /// If the connection has ended meanwhile, or a datagram came from a sender without an address.
    pub fn peer_address(&self) -> crate::Result<Address> {
        let address = match self.incoming.origin {
            Origin::Stream(way) => way.ends.peer_address(),
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
            Origin::Stream(way) => way.ends.local_address(),
            Origin::Datagram(_) => {
                address_of(self.incoming.endpoint).ok_or(io::ErrorKind::AddrNotAvailable.into())
            }
        };
        address.map_err(|error| Error::os("look up our address on", self.endpoint(), error))
    }

    /// Tells something to all who have subscribed to a [topic](super::Server::topic): once the loop is done with
    /// this client for now, so that the reply to this request precedes the event. Encoded once, however many they are.
    ///
    /// From elsewhere: [`Remote::publish`](super::Remote::publish).
    ///
    /// # Errors
    /// "Busy" (-6), for the caller, if there is no memory for it.
    pub fn publish(&self, topic: u16, payload: impl AsRef<[u8]>) -> Result<(), Failure> {
        let published = self.incoming.back.publish(topic, payload.as_ref());
        published.map_err(|_| Failure::new(ResultCode::BUSY, "the server has no memory for the event"))
    }

    /// The layout that the client speaks.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.incoming.layout
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Request").field(self.incoming).finish()
    }
}
