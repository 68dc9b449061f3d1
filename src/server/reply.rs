//! What a handler gives back.

use std::io;
use std::sync::Arc;

use sidewire_platform::Attachment;

use super::{ReplyStream, Responder};
use crate::attached;
use crate::reactor::{Aside, Attaching, CAN_NOT_GO, Call, Deferral, ReturnAddress, TOO_MANY_WAIT, Unwanted};
use sidewire_wire::{Failure, MAX_ATTACHED, ReplyWriter, ResultCode};

/// The answer to a request, written straight into the connection's outbox.
///
/// A handler that returns an error, or panics, has written nothing: the bytes are taken back.
#[derive(Debug)]
pub struct Reply<'a> {
    /// `None` for a request that wants no answer.
    writer: Option<ReplyWriter<'a>>,
    how: How,
    back: &'a ReturnAddress<'a>,
    rc: ResultCode,
}

/// How it gets to whoever asked.
#[derive(Debug)]
enum How {
    /// As what is written.
    Written,
    /// With these.
    Attached(Vec<Attachment>),
    /// From there in place of the writer, since it was deferred.
    Later(Arc<Call>),
}

/// One more, of those that go with one answer.
pub(super) fn add_to(these: &mut Vec<Attachment>, attachment: Attachment) -> Result<(), Failure> {
    if these.len() >= MAX_ATTACHED {
        return Err(Failure::new(ResultCode::TOO_LARGE, "16 attachments go with a reply, and no more"));
    }
    if let Some(error) = attached::objection(&attachment) {
        return Err(Failure::new(ResultCode::HANDLER_FAILED, error.to_string()));
    }
    these.push(attachment);
    Ok(())
}

impl<'a> Reply<'a> {
    pub(super) fn new(writer: ReplyWriter<'a>, back: &'a ReturnAddress<'a>) -> Reply<'a> {
        Reply { writer: Some(writer), how: How::Written, back, rc: ResultCode::OK }
    }

    pub(super) fn discarded(back: &'a ReturnAddress<'a>) -> Reply<'a> {
        Reply { writer: None, how: How::Written, back, rc: ResultCode::OK }
    }

    /// Whether this client takes [attachments](Reply::attach) now.
    #[must_use]
    pub fn can_attach(&self) -> bool {
        self.writer.is_some() && self.back.attaching() == Attaching::Fine
    }

    /// Has an open file, an end of a pipe or a socket go with the reply, to be the client's as well; up to 16. They do
    /// not if the reply fails, or is [deferred](Reply::defer): a deferred one has [its own](Responder::attach).
    ///
    /// Needs [`Listen::attachments`](super::Listen::attachments), and a client that takes them
    /// ([`Connect::attachments`](crate::Connect::attachments)).
    ///
    /// # Errors
    /// "Required feature missing" (-12), for the caller, where they can't go; "too large" (-3) from the seventeenth on;
    /// "busy" (-6) if 240 that this client was sent before have not left, as it does not read, or if all clients of its
    /// user have their share under way ([`max_attachments`](crate::ConnectionLimits::max_attachments)).
    pub fn attach(&mut self, attachment: impl Into<Attachment>) -> Result<(), Failure> {
        match self.back.attaching() {
            Attaching::Fine if self.writer.is_some() => {}
            Attaching::NotNow => {
                self.back.refuse_attachment();
                return Err(Failure::new(ResultCode::BUSY, TOO_MANY_WAIT));
            }
            Attaching::Fine | Attaching::Never => {
                return Err(Failure::new(ResultCode::FEATURE_MISSING, CAN_NOT_GO));
            }
        }
        if let How::Written = self.how {
            self.how = How::Attached(Vec::new());
        }
        match &mut self.how {
            How::Attached(these) => add_to(these, attachment.into()),
            How::Written | How::Later(_) => Err(Failure::other("the request was deferred")),
        }
    }

    /// Leaves the answer for later, to whoever has the [`Responder`]: a handler that would take long gives it to
    /// a thread that may, and the server goes on at once. What was written here is taken back. If the
    /// handler then fails all the same, that is the answer, and the responder hears that nobody waits
    /// ([`Unwanted::Failed`](crate::Unwanted::Failed)).
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
        if matches!(self.how, How::Later(_)) {
            return Err(Failure::other("the request was deferred already"));
        }
        let call = self.back.begin_call();
        let call = call.map_err(|_| {
            Failure::new(ResultCode::BUSY, "there is no room for one more that is answered later")
        })?;
        let responder = Responder::new(&call);
        self.how = How::Later(call);
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

    /// Appends to the reply's payload. A large piece (64 KiB or more) of the
    /// [request's own](super::Request::payload) goes back without a copy; other large ones can be [given](Reply::give).
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

    /// Appends to the reply's payload without a copy, if it is large (64 KiB or more).
    ///
    /// Fails as [`write`](Reply::write) does.
    pub fn give(&mut self, bytes: Vec<u8>) {
        if let Some(writer) = &mut self.writer {
            writer.give(bytes);
        }
    }

    /// As [`write`](Reply::write), and says at once if it does not fit, so that a handler can leave the state as it is:
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
    #[inline(always)]
    pub(super) fn finish(mut self, result: Result<(), Box<Failure>>) -> Result<ResultCode, Box<Aside>> {
        // In place: to move it about would cost more than all the rest.
        if let (Some(writer), How::Written, Ok(())) = (&mut self.writer, &self.how, &result) {
            let rc = writer.complete(self.rc);
            // Nothing is left in it to be dropped.
            std::mem::forget((self, result));
            return Ok(rc);
        }
        self.finish_otherwise(result)
    }

    #[cold]
    fn finish_otherwise(self, result: Result<(), Box<Failure>>) -> Result<ResultCode, Box<Aside>> {
        match (self.writer, self.how, result) {
            (None, ..) => Ok(self.rc),
            (Some(writer), how, Err(failure)) => {
                let rc = writer.fail(failure.result_code(), failure.text());
                if let How::Later(call) = how {
                    // For whoever works on an answer that nobody will get.
                    call.is_unwanted(Unwanted::Failed);
                }
                Ok(rc)
            }
            (Some(writer), How::Written, Ok(())) => Ok(writer.finish(self.rc)),
            (Some(mut writer), How::Attached(these), Ok(())) => {
                let parcel = match attached::parcel(these) {
                    Ok(parcel) => parcel,
                    Err(error) => return Ok(writer.fail(ResultCode::HANDLER_FAILED, &error.to_string())),
                };
                match writer.complete_attached(self.rc, &parcel) {
                    (rc, None) => Ok(rc),
                    (rc, Some(frame_len)) => Err(Box::new(Aside::Attached { rc, frame_len, parcel })),
                }
            }
            (Some(writer), How::Later(call), Ok(())) => {
                Err(Box::new(Aside::Deferred(Deferral { ticket: writer.withdraw(), call })))
            }
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
