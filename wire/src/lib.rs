//! The protocol of Sidewire without sockets, without mio and without a clock.
//!
//! Bytes and the time go in; events, bytes and the next deadline come out. The server's links and
//! the blocking client drive the same [`Connection`]; tests drive two of them against each other
//! in memory, with a clock of their own. `PROTOCOL.md` describes what is on the wire.
//!
//! | module | what it knows |
//! |---|---|
//! | `settings`, `limits`, `layout` | what an owner chooses |
//! | `event` | what an owner is told |
//! | [`frame`] | the v1 header, kinds, flags, extensions |
//! | [`classic`] | the classic header |
//! | [`hello`] | the v1 handshake |
//! | `executed` | whether a request without an answer may have run |
//! | `failure` | why a request was not served |
//! | `decoder` | where the next unit ends, and whether it may |
//! | `outbox` | bytes on their way out |
//! | `calls` | what we asked and have no answer to yet |
//! | `connection` | all of these as one state machine |
//! | `plain` | streams without frames |
//! | `protocol` | one of the two: what a link speaks |
//! | `ending` | how a stream ends |
//! | [`datagram`] | one frame in one datagram |
//! | [`memory`] | memory that peers drive is reserved so that a lack of it is an error |

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "the rooms are being furnished")]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests have a clock of their own, which starts now")
)]

mod calls;
pub mod classic;
mod connection;
pub mod datagram;
mod decoder;
mod ending;
mod error;
mod event;
mod excerpt;
mod executed;
mod failure;
pub mod frame;
pub mod hello;
mod layout;
mod limits;
pub mod memory;
mod outbox;
mod plain;
mod protocol;
mod rc;
mod reply;
mod settings;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Input};
pub use decoder::Fatal;
pub use ending::{Close, Ending, Fact, Reading, Said, Step, Way};
pub use error::ProtocolError;
pub use event::Event;
pub use excerpt::Excerpt;
pub use executed::Executed;
pub use failure::Failure;
pub use layout::{Classic, Layout};
pub use limits::{ConnectionLimits, LATE, REFUSAL_WAIT};
pub use outbox::{Buffer, Outbox};
pub use plain::{Cut, Plain};
pub use protocol::Protocol;
pub use rc::ResultCode;
pub use reply::{ReplyWriter, Ticket};
pub use settings::Settings;
