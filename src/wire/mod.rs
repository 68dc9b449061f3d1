//! The protocol without sockets, without mio and without a clock.
//!
//! Bytes and the time go in; events, bytes and the next deadline come out. The server's links and
//! the blocking client drive the same [`Connection`]; tests drive two of them against each other
//! in memory, with a clock of their own. `PROTOCOL.md` describes what is on the wire.
//!
//! | module | what it knows |
//! |---|---|
//! | `frame` | the v1 header, kinds, flags, extensions |
//! | `classic` | the classic header |
//! | `hello` | the v1 handshake |
//! | `decoder` | where the next unit ends, and whether it may |
//! | `outbox` | bytes on their way out |
//! | `calls` | what we asked and have no answer to yet |
//! | `connection` | all of these as one state machine |
//! | `plain` | streams without frames |
//! | `protocol` | one of the two: what a link speaks |
//! | `datagram` | one frame in one datagram |

pub(crate) mod calls;
pub(crate) mod classic;
pub(crate) mod connection;
pub(crate) mod datagram;
pub(crate) mod decoder;
pub(crate) mod error;
pub(crate) mod frame;
pub(crate) mod hello;
pub(crate) mod outbox;
pub(crate) mod plain;
pub(crate) mod protocol;
pub(crate) mod rc;
pub(crate) mod reply;
#[cfg(test)]
mod tests;

pub(crate) use connection::{Connection, Event, Input, Settings};
pub(crate) use error::ProtocolError;
pub(crate) use outbox::{Buffer, Outbox};
pub(crate) use plain::{Cut, Plain};
pub(crate) use protocol::Protocol;
pub(crate) use reply::{ReplyWriter, Ticket};

use crate::memory;

/// A stash that has much more memory than what is left in it needs gives that back: it may have
/// held all that waited behind a turn's budget.
fn trimmed_stash(stash: Vec<u8>) -> Vec<u8> {
    if stash.is_empty() {
        return Vec::new();
    }
    if stash.capacity() / 4 > stash.len().max(1024) {
        // Not shrunk in place: that can end the process.
        return memory::copy(&stash).unwrap_or(stash);
    }
    stash
}

/// Which of the two layouts a peer speaks; see `PROTOCOL.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 12-byte header in the machine's byte order, no handshake, replies in order.
    Classic,
    /// 16-byte header, little-endian, with hello, call ids and pipelining.
    V1,
}

/// How a listener or client treats the classic layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Classic {
    /// Frames are 12 + length bytes; the payload, either way, has at most so many.
    Short(u32),
    /// Every frame, either way, is exactly 12 + N bytes, zero-padded.
    Fixed(u32),
    /// Classic peers are refused.
    Refused,
}

impl Default for Classic {
    fn default() -> Self {
        Classic::Short(1024)
    }
}
