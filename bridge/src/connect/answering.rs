//! How one local caller is answered.

use std::collections::VecDeque;

use sidewire::{Cancellation, Failure, ReplyStream, Responder, ResultCode, Unsent};

use crate::message::cost;

/// Who waits.
#[derive(Debug)]
pub(super) enum Answering {
    /// A caller that takes parts.
    Parts(ReplyStream),
    /// One of the classic layout.
    Whole(Responder),
}

/// The end of a call.
#[derive(Debug)]
pub(super) enum Final {
    Reply(ResultCode, Vec<u8>),
    Failure(Failure),
}

impl Answering {
    pub(super) fn cancellation(&self) -> Cancellation {
        match self {
            Answering::Parts(stream) => stream.cancellation(),
            Answering::Whole(responder) => responder.cancellation(),
        }
    }

    pub(super) fn end(self, last: Final) {
        match (self, last) {
            (Answering::Parts(stream), Final::Reply(rc, payload)) => stream.finish(rc, payload),
            (Answering::Parts(stream), Final::Failure(failure)) => stream.fail(failure),
            (Answering::Whole(responder), Final::Reply(rc, payload)) => responder.finish(rc, payload),
            (Answering::Whole(responder), Final::Failure(failure)) => responder.fail(failure),
        }
    }
}

/// What has come of a call and waits until its caller takes more: no more than it was given credit for.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    parts: VecDeque<Vec<u8>>,
    last: Option<Final>,
}

/// What became of handing it on.
#[derive(Debug)]
pub(super) enum Handed {
    /// All that there was is with the local server, so many bytes; more may come.
    All(ReplyStream, u32),
    /// The caller is slow: it goes on when the stream is ready.
    Slow(ReplyStream, u32),
    /// It has ended, or nobody needs it.
    Ended,
}

impl Backlog {
    pub(super) fn push(&mut self, part: Vec<u8>) {
        self.parts.push_back(part);
    }

    pub(super) fn end(&mut self, last: Final) {
        self.last = Some(last);
    }

    /// What waits is worth nothing any more.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.parts.clear();
        self.last = Some(Final::Failure(failure));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.last.is_none()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.last.is_some()
    }

    /// The end, for one who takes no parts; without an end there were some.
    pub(super) fn take_last(&mut self) -> Final {
        let parts = || {
            let text = "the reply comes in parts, which this caller does not take; it may have been executed";
            Final::Failure(Failure::new(ResultCode::FEATURE_MISSING, text))
        };
        self.last.take().unwrap_or_else(parts)
    }

    /// Hands on what the stream takes.
    pub(super) fn hand_on(&mut self, mut stream: ReplyStream) -> Handed {
        let mut taken = 0;
        while let Some(part) = self.parts.front() {
            match stream.try_send(part) {
                Ok(()) => {
                    taken += cost(part.len());
                    self.parts.pop_front();
                }
                Err(Unsent::Full) => return Handed::Slow(stream, taken),
                Err(_) => return Handed::Ended,
            }
        }
        match self.last.take() {
            None => Handed::All(stream, taken),
            Some(last) => {
                Answering::Parts(stream).end(last);
                Handed::Ended
            }
        }
    }
}
