//! What a handler gives back.

use std::io;

use sidewire_wire::{Failure, ReplyWriter, ResultCode};

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
