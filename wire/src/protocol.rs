//! What a link speaks: frames, or bytes without frames. One interface for whoever owns the socket.

use std::io::IoSlice;
use std::time::Instant;

use crate::connection::{Connection, Input};
use crate::error::ProtocolError;
use crate::flow::Flow;
use crate::plain::Plain;
use crate::rc::ResultCode;

/// What a link speaks. Here stands what the two do each in its own way, described at [`Connection`] and
/// [`Plain`]; what they have in common is reached through [`flow`](Protocol::flow).
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "an owner has to know both")]
pub enum Protocol {
    /// Frames, classic or v1.
    Framed(Connection),
    /// Bytes or lines.
    Plain(Plain),
}

impl Protocol {
    /// What both have: bytes that wait, when something last moved, and why it is beyond repair.
    #[inline]
    #[must_use]
    pub fn flow(&self) -> &Flow {
        match self {
            Protocol::Framed(connection) => connection.flow(),
            Protocol::Plain(plain) => plain.flow(),
        }
    }

    /// The same, to lend it memory and take it back.
    #[inline]
    pub fn flow_mut(&mut self) -> &mut Flow {
        match self {
            Protocol::Framed(connection) => connection.flow_mut(),
            Protocol::Plain(plain) => plain.flow_mut(),
        }
    }

    /// Bytes of memory held.
    #[inline]
    #[must_use]
    pub fn buffered(&self) -> usize {
        match self {
            Protocol::Framed(connection) => connection.buffered(),
            Protocol::Plain(plain) => plain.flow().buffered(),
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

    /// Whether reading rests until the peer has read.
    #[inline]
    pub fn is_paused(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.is_paused(),
            Protocol::Plain(plain) => plain.is_paused(),
        }
    }

    /// Whether what came earlier waits to be handled.
    #[inline]
    pub fn has_backlog(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.has_backlog(),
            Protocol::Plain(plain) => plain.has_backlog(),
        }
    }

    /// Whether replies in parts may go on: see [`Connection::poll_owed`].
    #[inline]
    #[must_use]
    pub fn has_room_for_parts(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.has_room_for_parts(),
            Protocol::Plain(_) => false,
        }
    }

    /// Whether something may go with its frames that is no bytes: see [`Connection::attaches`].
    #[inline]
    #[must_use]
    pub fn attaches(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.attaches(),
            Protocol::Plain(_) => false,
        }
    }

    /// Whether something may come and go beside the bytes: see [`Connection::is_accompanied`].
    #[inline]
    #[must_use]
    pub fn is_accompanied(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.is_accompanied(),
            Protocol::Plain(_) => false,
        }
    }

    /// The beginning of a large frame, to be read on in place: see [`Connection::take_large_partial`].
    #[inline]
    pub fn take_large_partial(&mut self, at_least: usize) -> Option<(Vec<u8>, usize)> {
        match self {
            Protocol::Framed(connection) => connection.take_large_partial(at_least),
            Protocol::Plain(_) => None,
        }
    }

    /// Takes that frame back.
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

    /// What the socket should take next.
    #[inline]
    pub fn unsent(&mut self) -> &[u8] {
        match self {
            Protocol::Framed(connection) => connection.unsent(),
            Protocol::Plain(plain) => plain.unsent(),
        }
    }

    /// The same in the pieces that it lies in: see [`Connection::unsent_pieces`].
    pub fn unsent_pieces<'a>(&'a mut self, pieces: &mut [IoSlice<'a>]) -> usize {
        match self {
            Protocol::Framed(connection) => connection.unsent_pieces(pieces),
            Protocol::Plain(plain) => match (plain.unsent(), pieces) {
                ([], _) | (_, []) => 0,
                (unsent, [first, ..]) => {
                    *first = IoSlice::new(unsent);
                    1
                }
            },
        }
    }

    /// Whether something waits to be sent.
    #[inline]
    pub fn has_unsent(&self) -> bool {
        match self {
            Protocol::Framed(connection) => connection.has_unsent(),
            Protocol::Plain(plain) => plain.has_unsent(),
        }
    }

    /// The socket took so many bytes of it, perhaps none.
    #[inline]
    pub fn mark_sent(&mut self, count: usize, now: Instant) {
        match self {
            Protocol::Framed(connection) => connection.mark_sent(count, now),
            Protocol::Plain(plain) => plain.mark_sent(count, now),
        }
    }

    /// When [`handle_timeout`](Protocol::handle_timeout) is to be called.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self {
            Protocol::Framed(connection) => connection.next_deadline(),
            Protocol::Plain(plain) => plain.next_deadline(),
        }
    }

    /// When what was received is handled.
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
            Protocol::Framed(connection) => connection.handle_timeout(now, input),
            Protocol::Plain(plain) => plain.handle_timeout(now, input),
        }
    }
}
