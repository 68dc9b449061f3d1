//! The client's core: one connection, those who wait on it, and how it ended. No threads, no channel, no
//! clock.
//!
//! Whoever wants something takes a [`Seat`], and then does what [`poll`](Caller::poll) says until that
//! says [`Done`](Step::Done): first in the queue ([`ask`](Caller::ask)), unless the request
//! [may begin](Caller::may_begin) anyway; then that of the call ([`begin`](Caller::begin)). One who gives up
//! before [leaves](Caller::leave) his seat.
//!
//! A call's seat needs nobody on it: one that was [started](Caller::start) goes on by itself, and its reply
//! is kept until somebody asks. Who wants to wait for it [attends](Caller::attend), as often as he likes,
//! and goes ([`detach`](Caller::detach)) without giving it up.
//!
//! One of those who wait reads for all: between [`begin_read`](Caller::begin_read) and
//! [`end_read`](Caller::end_read) it waits at the channel, and others do what they like here. Whoever
//! stops reading polls again, or somebody else is woken to take his place.
//!
//! Whoever has something to send sends it: what [`to_send`](Caller::to_send) gives, then
//! [`sent`](Caller::sent). If the channel takes no more, one waits for it between
//! [`begin_write`](Caller::begin_write) and `sent` or [`sent_nothing`](Caller::sent_nothing).
//!
//! Time limits of the connection are judged where something was read or written, since only then it is
//! known what has come. [`poll_close`](Caller::poll_close) says what is left to do behind such an end.
//!
//! One that waits alone, at a channel that is always ready:
//!
//! ```
//! use std::cell::Cell;
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use sidewire_wire::caller::{Caller, Came, Outcome, Purpose, Seat, Step, Wake};
//! use sidewire_wire::{Classic, Connection, ConnectionLimits, Event, ResultCode, Settings};
//!
//! /// Nobody else can wake it.
//! struct Alone;
//!
//! impl Wake for Alone {
//!     fn wake(&self) {}
//! }
//!
//! /// Takes the client's bytes and answers each request with its payload. Returns the server's bytes.
//! fn serve(server: &mut Connection, bytes: &[u8], now: Instant) -> Vec<u8> {
//!     server.receive(bytes, &Cell::new(usize::MAX), &mut |server, event| {
//!         if let Event::Request { ticket, payload } = event {
//!             let mut reply = server.begin_reply(ticket);
//!             reply.write(payload);
//!             reply.finish(ResultCode::OK);
//!         }
//!     });
//!     server.received(now);
//!     let answer = server.unsent().to_vec();
//!     server.mark_sent(answer.len(), now);
//!     answer
//! }
//!
//! /// Does what it is told until its seat is gone.
//! fn wait(caller: &mut Caller<Alone>, seat: Seat, server: &mut Connection) -> Outcome {
//!     let mut inbox = Vec::new();
//!     loop {
//!         let now = Instant::now();
//!         while let Some(bytes) = caller.to_send() {
//!             let count = bytes.len();
//!             inbox.extend(serve(server, bytes, now));
//!             caller.sent(count, now);
//!         }
//!         match caller.poll(seat, now) {
//!             Step::Done(outcome) => return outcome,
//!             Step::Wait { .. } | Step::NotYet => unreachable!("nobody else reads, and this waits"),
//!             Step::Read { .. } | Step::Look => {
//!                 // Large frames are read as small ones are.
//!                 let large = caller.begin_read(usize::MAX);
//!                 assert!(large.is_none());
//!                 let bytes = std::mem::take(&mut inbox);
//!                 let came = match &bytes[..] {
//!                     [] => Came::Nothing,
//!                     bytes => Came::Bytes { bytes, is_all: true },
//!                 };
//!                 caller.end_read(Some(seat), came, now, Instant::now());
//!             }
//!         }
//!     }
//! }
//!
//! let settings = Arc::new(Settings::new(ConnectionLimits::default(), Classic::default()));
//! let mut server = Connection::responder(settings.clone(), Instant::now());
//! let mut caller = Caller::v1(settings, [7; 16], Instant::now());
//!
//! // In the queue, until both hellos were said and the server has room for the call.
//! let seat = caller.ask(Purpose::Call(5), None, Alone);
//! assert_eq!(wait(&mut caller, seat, &mut server), Outcome::Ready);
//!
//! let id = caller.begin(4, b"hello", 0, None, Alone)?;
//! let Outcome::Reply(reply) = wait(&mut caller, Seat::Call(id), &mut server) else { panic!("no reply") };
//! assert_eq!(reply.payload, b"hello");
//! # Ok::<(), sidewire_wire::memory::NoMemory>(())
//! ```

#![allow(clippy::exhaustive_enums, reason = "whoever drives it has to know all that there is")]

mod admission;
mod channel;
mod course;
mod incoming;
mod lending;
mod listeners;
mod parts;
mod pings;
mod receiving;
mod seats;
mod step;
mod waiter;
mod waiting;

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::connection::Connection;
use crate::frame::HEADER_LEN;
use crate::hello::Hello;
use crate::layout::Layout;
use crate::parcel::{Arrived, Fetch};
use crate::settings::{Attachments, Settings};
use course::Course;
use seats::Seats;

pub use course::End;
pub use incoming::Incoming;
pub use seats::Seat;
pub use step::{Bound, Came, Outcome, Published, Purpose, Reply, Step};

/// Whoever waits: a thread, a task.
pub trait Wake {
    /// Lets it [`poll`](Caller::poll) again. That it is awake already does no harm.
    fn wake(&self);
}

impl Wake for Waker {
    fn wake(&self) {
        self.wake_by_ref();
    }
}

/// One connection of a client and all who wait on it, each of whom is woken through a `W`.
///
/// | room | what it knows |
/// |---|---|
/// | `waiting` | who wants what, and what becomes of it |
/// | `admission` | whether a request may begin |
/// | `channel` | reading and sending, and what that says of the connection's end |
/// | `receiving` | whose each thing is that comes |
/// | `incoming` | what the server asks of us |
/// | `listeners` | who listens to which events, and has not taken them yet |
/// | `lending` | requests whose payload is not copied |
/// | `parts` | what came of streamed replies, and was not taken yet |
/// | `seats` | the places of all, and which of them reads for all |
/// | `pings` | who waits for a sign of life |
/// | `waiter` | one who waits, and how long |
/// | `course` | how the connection goes |
#[derive(Debug)]
pub struct Caller<W> {
    connection: Connection,
    settings: Arc<Settings>,
    course: Course,
    seats: Seats<W>,
    hello: Option<Box<Hello>>,
    /// `None`: nothing is served here.
    incoming: Option<Box<incoming::Queue>>,
    /// What came with the bytes that are taken next.
    arrived: Option<Box<Arrived>>,
    /// Bytes that the channel has taken so far. A request behind them has not left.
    taken: u64,
    /// Whether something has come for which nobody waits.
    has_news: bool,
}

impl<W: Wake> Caller<W> {
    /// Over v1; `nonce` is random. The hello is on its way.
    pub fn v1(settings: Arc<Settings>, nonce: [u8; 16], now: Instant) -> Caller<W> {
        let connection = Connection::initiator(Arc::clone(&settings), nonce, now);
        Caller::new(connection, settings)
    }

    /// Over v1 where the server says hello first, as a helper does on the channel that it was started with.
    pub fn v1_responder(settings: Arc<Settings>, now: Instant) -> Caller<W> {
        let connection = Connection::v1_responder(Arc::clone(&settings), now);
        Caller::new(connection, settings)
    }

    /// In the classic layout.
    pub fn classic(settings: Arc<Settings>, now: Instant) -> Caller<W> {
        let connection = Connection::classic_initiator(Arc::clone(&settings), now);
        Caller::new(connection, settings)
    }

    fn new(mut connection: Connection, settings: Arc<Settings>) -> Caller<W> {
        connection.serve_client();
        Caller {
            connection,
            settings,
            course: Course::Open,
            seats: Seats::new(),
            hello: None,
            incoming: None,
            arrived: None,
            taken: 0,
            has_news: false,
        }
    }

    /// The layout, once known.
    pub fn layout(&self) -> Option<Layout> {
        self.connection.layout()
    }

    /// What the server said of itself (v1).
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_deref()
    }

    /// Most payload bytes of a request: what the server takes, and our own outbox.
    pub fn request_limit(&self) -> usize {
        let ours = self.settings.limits.outbox_hard.saturating_sub(HEADER_LEN);
        (self.connection.request_limit() as usize).min(ours)
    }

    /// Whether so many things may go with a request: see [`Connection::may_attach`].
    pub fn may_attach(&self, count: usize) -> bool {
        self.connection.may_attach(count)
    }

    /// Who fetches what the server's frames name: see [`Connection::fetch_with`].
    pub fn fetch_with(&mut self, source: Box<dyn Fetch>) {
        self.connection.fetch_with(source);
    }

    /// Whether our hello says that something may come beside the bytes, so that it is to be looked for with each read.
    pub fn is_accompanied(&self) -> bool {
        self.settings.attachments == Attachments::Carried
    }

    /// Whether the server takes what goes with a request.
    pub fn attaches(&self) -> bool {
        self.connection.attaches()
    }

    /// Why the connection is at its end, or will be once the server has answered what it accepted.
    pub fn end(&self) -> Option<&End> {
        self.course.end()
    }

    /// Whether nothing more can come or go.
    pub fn is_over(&self) -> bool {
        self.course.is_over()
    }
}
