//! The protocol of Sidewire without sockets, without mio and without a clock (sans-IO).
//!
//! Bytes and the time go in; events, bytes and the next deadline come out. The server's links and
//! the blocking client drive the same [`Connection`]; tests drive two of them against each other
//! in memory, with a clock of their own. `docs/protocol` of `sidewire` describes what is on the wire.
//!
//! # With a loop of your own
//!
//! You own the socket and the clock, and a [`Connection`] for each peer, made with [`Settings`] that many
//! can share. It neither reads nor writes nor waits; what it is shown, and when, is up to you:
//!
//! 1. When the socket has bytes, show them to [`receive`](Connection::receive), which hands out an
//!    [`Event`] for each whole thing that was said, then call [`received`](Connection::received) with the
//!    time. Answer each [`Event::Request`] through its [`Ticket`], at once or
//!    [later](Connection::defer). What could not be handled yet is kept: while
//!    [`has_backlog`](Connection::has_backlog) says so, call both again, with no bytes, before you read more.
//! 2. When [`has_unsent`](Connection::has_unsent) says so, offer the socket what is
//!    [`unsent`](Connection::unsent), and [`mark_sent`](Connection::mark_sent) what it took.
//! 3. When the socket is at its end, and there is no backlog, say so with
//!    [`end_of_input`](Connection::end_of_input).
//! 4. Wait for the socket, at most until [`next_deadline`](Connection::next_deadline); then read, write,
//!    and only then let [`handle_timeout`](Connection::handle_timeout) judge. Who defers answers asks
//!    [`poll_owed`](Connection::poll_owed) as well.
//! 5. When the connection [`is_finished`](Connection::is_finished), all is said. A socket that is closed at
//!    once may be reset, and the peer then loses what it has not read; [`Ending`] says how to close one so
//!    that this does not happen.
//!
//! [`Connection`] has a table of what is worth asking after each of these. Clients that let many wait on one
//! connection have all of it in a [`Caller`](caller::Caller).
//!
//! Two sides that talk over two byte queues, with no socket in between:
//!
//! ```
//! use std::cell::Cell;
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use sidewire_wire::{Classic, Connection, ConnectionLimits, Event, ResultCode, Settings};
//!
//! /// Carries what one side has to send to the other.
//! fn carry(from: &mut Connection, to: &mut Connection, each: &mut impl FnMut(&mut Connection, Event<'_>)) {
//!     let now = Instant::now();
//!     while from.has_unsent() {
//!         let bytes = from.unsent().to_vec();
//!         from.mark_sent(bytes.len(), now);
//!         to.receive(&bytes, &Cell::new(usize::MAX), each);
//!         to.received(now);
//!     }
//! }
//!
//! let settings = Arc::new(Settings::new(ConnectionLimits::default(), Classic::default()));
//! let mut client = Connection::initiator(settings.clone(), [7; 16], Instant::now());
//! let mut server = Connection::responder(settings, Instant::now());
//!
//! // The handshake: a hello each way.
//! carry(&mut client, &mut server, &mut |_, event| assert!(matches!(event, Event::Greeted(_))));
//! carry(&mut server, &mut client, &mut |_, event| assert!(matches!(event, Event::Opened(_))));
//!
//! // A call, which the server answers while it is told of it.
//! let asked = client.push_request(4, b"hello", 0)?;
//! carry(&mut client, &mut server, &mut |server, event| {
//!     let Event::Request { ticket, payload } = event else { panic!("{event:?}") };
//!     let mut reply = server.begin_reply(ticket);
//!     reply.write(&payload.to_ascii_uppercase());
//!     reply.finish(ResultCode::OK);
//! });
//! let mut answer = Vec::new();
//! carry(&mut server, &mut client, &mut |_, event| {
//!     let Event::Reply { id, rc, payload, .. } = event else { panic!("{event:?}") };
//!     assert!(id == asked && rc.is_ok());
//!     answer.extend_from_slice(payload);
//! });
//! assert_eq!(answer, b"HELLO");
//!
//! // Both say goodbye, and are done.
//! client.goodbye(ResultCode::OK);
//! carry(&mut client, &mut server, &mut |_, event| assert!(matches!(event, Event::Goodbye { .. })));
//! carry(&mut server, &mut client, &mut |_, event| assert!(matches!(event, Event::Goodbye { .. })));
//! assert!(client.is_finished() && server.is_finished());
//! # Ok::<(), sidewire_wire::memory::NoMemory>(())
//! ```
//!
//! # The rooms
//!
//! | module | what it knows |
//! |---|---|
//! | `settings`, `limits`, `layout` | what an owner chooses |
//! | `event` | what an owner is told |
//! | `recipient` | to whom it is told, and requests in a shorter way |
//! | [`frame`] | the v1 header, kinds, flags, extensions |
//! | [`classic`] | the classic header |
//! | `hello` | the v1 handshake |
//! | `app` | the application, as its hello names it |
//! | `task` | what a connection may be for besides calls |
//! | `token` | what both sides may have to prove that they know |
//! | `executed` | whether a request without an answer may have run |
//! | `failure` | why a request was not served |
//! | `by_id` | a map by our own calls' ids |
//! | `decoder` | where the next unit ends, and whether it may |
//! | `outbox` | bytes on their way out |
//! | `blocks` | large payloads among them, which stay where they are |
//! | `asked` | what we asked and have no answer to yet |
//! | `credit` | what a part of a reply costs, and how it is paid for |
//! | `owed` | what we owe an answer later |
//! | `parcel` | what goes with a frame and is no bytes |
//! | `subscriptions` | who is told of what, in both directions |
//! | `call_rules` | what a call may not say |
//! | `flow` | what every stream has: bytes that wait, time, an end |
//! | `connection` | all of these as one state machine |
//! | [`caller`] | the client's core: a connection, those who wait on it, and how it ended |
//! | [`reconnecting`] | when a client connects anew, and who of those who wait does |
//! | `plain` | streams without frames |
//! | `protocol` | one of the two: what a link speaks |
//! | `ending` | how a stream ends |
//! | [`datagram`] | one frame in one datagram |
//! | [`memory`] | memory that peers drive is reserved so that a lack of it is an error |

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests have a clock of their own, which starts now")
)]

mod app;
mod asked;
mod blocks;
mod by_id;
mod call_rules;
pub mod caller;
pub mod classic;
mod connection;
mod credit;
pub mod datagram;
mod decoder;
mod ending;
mod error;
mod event;
mod excerpt;
mod executed;
mod failure;
mod flow;
pub mod frame;
mod hello;
mod layout;
mod limits;
pub mod memory;
mod outbox;
mod owed;
mod parcel;
mod payload;
mod pinged;
mod plain;
mod protocol;
mod rc;
mod recipient;
pub mod reconnecting;
mod reply;
mod rising;
mod settings;
mod subscriptions;
mod task;
#[cfg(test)]
mod tests;
mod token;

pub use app::App;
pub use blocks::LARGE;
pub use connection::{Connection, Input, Parted};
pub use credit::part_cost;
pub use ending::{Close, Ending, Fact, Reading, Said, Step, Way};
pub use error::ProtocolError;
pub use event::Event;
pub use excerpt::Excerpt;
pub use executed::Executed;
pub use failure::Failure;
pub use flow::Flow;
pub use hello::Hello;
pub use layout::{Classic, Layout};
pub use limits::{ConnectionLimits, Contradiction, LATE, REFUSAL_WAIT};
pub use outbox::{Borrowed, Buffer, Outbox};
pub use owed::{Owed, OwedId};
pub use parcel::{Arrived, Fetch, MAX_ATTACHED, MAX_ATTACHED_LEAVING, Parcel};
pub use payload::Payload;
pub use plain::{Cut, Plain};
pub use protocol::Protocol;
pub use rc::ResultCode;
pub use recipient::Recipient;
pub use reply::{ReplyWriter, Ticket};
pub use settings::{Attachments, Settings};
pub use subscriptions::{Pushed, WhenSlow};
pub use task::{Task, Tasks};
pub use token::{PROOF_LEN, Token};
