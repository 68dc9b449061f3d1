//! What a handler gives back.

use std::io;
use std::sync::Arc;

use super::{ReplyStream, Responder};
use crate::reactor::{Call, Deferral, ReturnAddress};
use sidewire_wire::memory::NoMemory;
use sidewire_wire::{Failure, ReplyWriter, ResultCode};

/// The answer to a request, written straight into the connection's outbox.
///
/// A handler that returns an error, or panics, has written nothing: the bytes are taken back.
#[derive(Debug)]
pub struct Reply<'a> {
    /// `None` for a request that wants no answer.
    writer: Option<ReplyWriter<'a>>,
    /// Where it comes from in place of the writer, if it was deferred.
    later: Option<Arc<Call>>,
    back: &'a ReturnAddress<'a>,
    rc: ResultCode,
}

impl<'a> Reply<'a> {
    pub(super) fn new(writer: ReplyWriter<'a>, back: &'a ReturnAddress<'a>) -> Reply<'a> {
        Reply { writer: Some(writer), later: None, back, rc: ResultCode::OK }
    }

    pub(super) fn discarded(back: &'a ReturnAddress<'a>) -> Reply<'a> {
        Reply { writer: None, later: None, back, rc: ResultCode::OK }
    }

    /// Leaves the answer for later, to whoever has the [`Responder`]: a handler that would take long gives it to
    /// a thread that may, and the server goes on at once. What was written here is taken back. If the
    /// handler then fails all the same, that is the answer.
    ///
    /// A client of the classic layout gets its replies in order: behind a request that is deferred its next
    /// ones wait. Over datagrams at most 4,096 requests of one endpoint, and 1,024 of one sender, wait for their
    /// answers; those beyond are answered "busy" (-6), and their responders told that nobody waits.
    ///
    /// # Errors
    /// "Busy" (-6), for the caller, if there is no memory for it, or responders of requests that nobody waits for
    /// any more hold 256 MiB of them (1 KiB each, and their payloads): callers that cancel, or go, can ask again, and
    /// so whoever works on them had better look whether they are [cancelled](Responder::cancellation). Notifies may hold
    /// as much. "Handler failed" (-10) the second time.
    pub fn defer(&mut self) -> Result<Responder, Failure> {
        if self.later.is_some() {
            return Err(Failure::other("the request was deferred already"));
        }
        let call = self.back.begin_call();
        let call = call.map_err(|NoMemory| {
            Failure::new(ResultCode::BUSY, "there is no room for one more that is answered later")
        })?;
        let responder = Responder::new(&call);
        self.later = Some(call);
        Ok(responder)
    }

    /// Leaves the answer for later like [`defer`](Reply::defer), to come in parts.
    ///
    /// # Errors
    /// As [`defer`](Reply::defer); "required feature missing" (-12) in the classic layout and over datagrams, where
    /// there are no parts.
    pub fn stream(&mut self) -> Result<ReplyStream, Failure> {
        let room = self.room();
        let Some(limit) = self.back.part_limit(room) else {
            return Err(Failure::new(ResultCode::FEATURE_MISSING, "replies here have no parts"));
        };
        let responder = self.defer()?;
        responder.call().begin_stream(limit);
        Ok(ReplyStream::new(responder))
    }

    /// Appends to the reply's payload.
    ///
    /// Never fails. A reply that gets longer than [`room`](Reply::room) allows is answered "too
    /// large" (-3) and without payload; one that there is no memory for, "busy" (-6). What the handler has
    /// changed in the state by then stays changed: see [`try_write`](Reply::try_write).
    #[inline]
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

    /// Sends it, and says with what result code; unless it comes later.
    #[inline]
    pub(super) fn finish(mut self, result: Result<(), Failure>) -> Result<ResultCode, Box<Deferral>> {
        // In place: to move it about would cost more than all the rest.
        match (&mut self.writer, &self.later, result) {
            (Some(writer), None, Ok(())) => Ok(writer.complete(self.rc)),
            (_, _, result) => self.finish_otherwise(result),
        }
    }

    #[cold]
    fn finish_otherwise(self, result: Result<(), Failure>) -> Result<ResultCode, Box<Deferral>> {
        match (self.writer, self.later, result) {
            (None, ..) => Ok(self.rc),
            (Some(writer), _, Err(failure)) => Ok(writer.fail(failure.result_code(), failure.text())),
            (Some(writer), None, Ok(())) => Ok(writer.finish(self.rc)),
            (Some(writer), Some(call), Ok(())) => Err(Box::new(Deferral { ticket: writer.withdraw(), call })),
        }
    }
}

/// For `write!` and [`io::copy`]. A payload that is too large fails when the reply is sent.
impl io::Write for Reply<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Reply::write(self, bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Reply::write(self, bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
