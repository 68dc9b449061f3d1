//! What a link speaks: frames, or bytes without frames. One interface for whoever owns the socket.

use std::time::Instant;

use super::connection::{Connection, Input};
use super::error::ProtocolError;
use super::outbox::Buffer;
use super::plain::Plain;
use super::rc::ResultCode;

/// See the module's text. The methods are described at [`Connection`] and [`Plain`].
#[derive(Debug)]
pub enum Protocol {
    Framed(Connection),
    Plain(Plain),
}

impl Protocol {
    #[inline]
    pub fn failure(&self) -> Option<&ProtocolError> {
        match self {
            Protocol::Framed(connection) => connection.failure(),
            Protocol::Plain(plain) => plain.failure(),
        }
    }

    #[inline]
    pub fn is_hopeless(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.is_hopeless(),
            Protocol::Plain(plain) => plain.is_hopeless(),
        }
    }

    /// Whether the peer knows what a goodbye is, and closes first after one.
    pub fn says_goodbye(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.has_opened_v1(),
            Protocol::Plain(_) => false,
        }
    }

    /// Whether nothing more is taken: input is thrown away.
    #[inline]
    pub fn is_finishing(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.is_finishing(),
            Protocol::Plain(plain) => plain.is_finishing(),
        }
    }

    /// Whether everything that will ever be written has left.
    #[inline]
    pub fn output_is_done(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.is_finished(),
            Protocol::Plain(plain) => plain.output_is_done(),
        }
    }

    #[inline]
    pub fn is_paused(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.is_paused(),
            Protocol::Plain(plain) => plain.is_paused(),
        }
    }

    #[inline]
    pub fn has_backlog(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.has_backlog(),
            Protocol::Plain(plain) => plain.has_backlog(),
        }
    }

    #[inline]
    pub fn take_large_partial(&mut self, at_least: usize) -> Option<(Vec<u8>, usize)> {
        match self {
            Protocol::Framed(connection) => connection.take_large_partial(at_least),
            Protocol::Plain(_) => None,
        }
    }

    pub fn put_back(&mut self, partial: Vec<u8>) {
        if let Protocol::Framed(connection) = self {
            connection.put_back(partial);
        }
    }

    /// Answers "no" and ends. A stream without frames has no words for it and just ends.
    pub fn refuse(&mut self, rc: ResultCode, now: Instant) {
        match self {
            Protocol::Framed(connection) => connection.refuse(rc, now),
            Protocol::Plain(plain) => plain.fail(ProtocolError::Refused { rc, text: String::new() }),
        }
    }

    /// Ends, and gives back the memory of what came and was not handled yet.
    pub fn shed(&mut self, error: ProtocolError) {
        match self {
            Protocol::Framed(connection) => connection.shed(error),
            Protocol::Plain(plain) => plain.fail(error),
        }
    }

    /// No more requests are taken, and the peer is told so as far as the protocol can.
    pub fn goodbye(&mut self, rc: ResultCode) {
        match self {
            Protocol::Framed(connection) => connection.goodbye(rc),
            Protocol::Plain(plain) => plain.fail(ProtocolError::Refused { rc, text: String::new() }),
        }
    }

    #[inline]
    pub fn unsent(&mut self) -> &[u8] {
        match self {
            Protocol::Framed(connection) => connection.unsent(),
            Protocol::Plain(plain) => plain.unsent(),
        }
    }

    #[inline]
    pub fn has_unsent(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.has_unsent(),
            Protocol::Plain(plain) => plain.has_unsent(),
        }
    }

    #[inline]
    pub fn mark_sent(&mut self, count: usize, now: Instant) {
        match self {
            Protocol::Framed(connection) => connection.mark_sent(count, now),
            Protocol::Plain(plain) => plain.mark_sent(count, now),
        }
    }

    #[inline]
    pub fn is_stalled(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.is_stalled(),
            Protocol::Plain(plain) => plain.is_stalled(),
        }
    }

    #[inline]
    pub fn lend(&mut self, spare: &mut Vec<Buffer>) {
        match self {
            Protocol::Framed(connection) => connection.lend(spare),
            Protocol::Plain(plain) => plain.lend(spare),
        }
    }

    #[inline]
    pub fn reclaim(&mut self) -> Option<Buffer> {
        match self {
            Protocol::Framed(connection) => connection.reclaim(),
            Protocol::Plain(plain) => plain.reclaim(),
        }
    }

    #[inline]
    pub fn buffered(&self) -> usize {
        match self {
            Protocol::Framed(connection) => connection.buffered(),
            Protocol::Plain(plain) => plain.buffered(),
        }
    }

    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self {
            Protocol::Framed(connection) => connection.next_deadline(),
            Protocol::Plain(plain) => plain.next_deadline(),
        }
    }

    pub fn linger_deadline(&self) -> Option<Instant> {
        match self {
            Protocol::Framed(connection) => connection.linger_deadline(),
            Protocol::Plain(plain) => plain.linger_deadline(),
        }
    }

    #[inline]
    pub fn received(&mut self, now: Instant) {
        match self {
            Protocol::Framed(connection) => connection.received(now),
            Protocol::Plain(plain) => plain.received(now),
        }
    }

    /// More of a frame that is overdue was there: see [`Connection::renew_partial`].
    pub fn renew_partial(&mut self, now: Instant) {
        if let Protocol::Framed(connection) = self {
            connection.renew_partial(now);
        }
    }

    /// Whether a time limit has passed.
    pub fn handle_timeout(&mut self, now: Instant, input: Input) -> bool {
        match self {
            Protocol::Framed(connection) => connection.handle_timeout(now, input).is_some(),
            Protocol::Plain(plain) => plain.handle_timeout(now, input),
        }
    }
}
