//! The client's core: one connection, those who wait on it, and how it ended. No threads, no channel, no
//! clock.
//!
//! Whoever wants something takes a [`Seat`], and then does what [`poll`](Caller::poll) says until that
//! says [`Done`](Step::Done): first in the queue ([`ask`](Caller::ask)), unless the request
//! [may begin](Caller::may_begin) anyway; then that of the call ([`begin`](Caller::begin)). One who gives up
//! before [leaves](Caller::leave) his seat.
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
//!             Step::Wait { .. } => unreachable!("nobody else reads"),
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

mod course;
mod seats;
mod step;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::{Connection, Input};
use crate::event::Event;
use crate::executed::Executed;
use crate::frame::HEADER_LEN;
use crate::hello::Hello;
use crate::layout::{Classic, Layout};
use crate::memory::{self, NoMemory};
use crate::rc::ResultCode;
use crate::settings::Settings;
use course::Course;
use seats::{Call, Patience, Seats, Waiter};

pub use course::End;
pub use seats::Seat;
pub use step::{Bound, Came, Outcome, Purpose, Reply, Step};

/// Whoever waits: a thread, a task.
pub trait Wake {
    /// Lets it [`poll`](Caller::poll) again. That it is awake already does no harm.
    fn wake(&self);
}

/// One connection of a client and all who wait on it, each of whom is woken through a `W`.
#[derive(Debug)]
pub struct Caller<W> {
    connection: Connection,
    settings: Arc<Settings>,
    course: Course,
    seats: Seats<W>,
    hello: Option<Box<Hello>>,
}

/// How long whoever reads waits in one go while something is not out, should nobody else send it.
const WRITER_CHECK: Duration = Duration::from_millis(100);

impl<W: Wake> Caller<W> {
    /// Over v1; `nonce` is random. The hello is on its way.
    pub fn v1(settings: Arc<Settings>, nonce: [u8; 16], now: Instant) -> Caller<W> {
        let connection = Connection::initiator(Arc::clone(&settings), nonce, now);
        Caller::new(connection, settings)
    }

    /// In the classic layout.
    pub fn classic(settings: Arc<Settings>, now: Instant) -> Caller<W> {
        let connection = Connection::classic_initiator(Arc::clone(&settings), now);
        Caller::new(connection, settings)
    }

    fn new(connection: Connection, settings: Arc<Settings>) -> Caller<W> {
        Caller { connection, settings, course: Course::Open, seats: Seats::new(), hello: None }
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

    /// Why the connection is at its end, or will be once the server has answered what it accepted.
    pub fn end(&self) -> Option<&End> {
        self.course.end()
    }

    /// Whether nothing more can come or go.
    pub fn is_over(&self) -> bool {
        self.course.is_over()
    }
}

/// Those who wait.
impl<W: Wake> Caller<W> {
    /// Whether there is no need to queue: nothing is in the way of a request, and no time limit is near.
    pub fn may_begin(&self, purpose: Purpose) -> bool {
        self.admits(purpose) == Admission::Now && self.connection.next_deadline().is_none()
    }

    /// Takes a seat in the queue.
    pub fn ask(&mut self, purpose: Purpose, deadline: Option<Instant>, waker: W) -> Seat {
        self.seats.enqueue(purpose, Waiter::new(waker, deadline))
    }

    /// Begins a call, which [`may_begin`](Caller::may_begin) or whose seat in the queue was
    /// [ready](Outcome::Ready). Returns its id, which tells its [seat](Seat::Call).
    pub fn begin(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        deadline: Option<Instant>,
        waker: W,
    ) -> Result<u32, NoMemory> {
        let id = self.connection.push_request(msg_type, payload, timeout_ms)?;
        self.seats.add_call(id, Waiter::new(waker, deadline));
        Ok(id)
    }

    /// Puts a request that wants no answer into the outbox, on the same condition.
    pub fn notify(&mut self, msg_type: u16, payload: &[u8]) -> Result<(), NoMemory> {
        self.connection.push_notify(msg_type, payload)
    }

    /// What the owner of this seat does next. Ask again once that is done.
    pub fn poll(&mut self, seat: Seat, now: Instant) -> Step {
        if let Some(outcome) = self.outcome(seat, now) {
            self.seats.leave(seat);
            return Step::Done(outcome);
        }
        let is_read = self.seats.is_somebody_reading();
        let is_overdue = self.is_overdue(now);
        let Some(waiter) = self.seats.waiter_mut(seat) else {
            debug_assert!(false, "nobody sits at {seat:?}");
            return Step::Done(Outcome::Ended(Executed::Perhaps));
        };
        match waiter.poll_deadline(now, is_read) {
            Patience::Waits => {}
            Patience::Last(step) => return step,
            Patience::Ends => {
                self.leave(seat);
                let executed = match seat {
                    Seat::Queue(_) => Executed::Never,
                    Seat::Call(_) => Executed::Perhaps,
                };
                return Step::Done(Outcome::TimedOut(executed));
            }
        }
        let deadline = waiter.deadline();
        match seat {
            _ if is_read => Step::Wait { until: deadline },
            Seat::Queue(_) if is_overdue => Step::Look,
            // Whoever sends makes room, and reads meanwhile.
            Seat::Queue(_) if self.connection.flow().is_backed_up() => Step::Wait { until: deadline },
            Seat::Queue(_) | Seat::Call(_) => Step::Read { until: earliest(deadline, self.look_at(now)) },
        }
    }

    /// Gives the seat up.
    pub fn leave(&mut self, seat: Seat) {
        if let Seat::Call(id) = seat {
            self.connection.abandon_call(id);
        }
        self.seats.leave(seat);
    }

    fn outcome(&mut self, seat: Seat, now: Instant) -> Option<Outcome> {
        match seat {
            Seat::Call(id) => match self.seats.call_mut(id) {
                Some(call @ (Call::Answered(_) | Call::Lost)) => match std::mem::replace(call, Call::Lost) {
                    Call::Answered(reply) => Some(Outcome::Reply(reply)),
                    Call::Waiting(_) | Call::Lost => Some(Outcome::Lost),
                },
                Some(Call::Waiting(_)) | None => {
                    let is_ended = !self.course.may_answer(id);
                    is_ended.then(|| Outcome::Ended(self.course.executed(id)))
                }
            },
            Seat::Queue(number) => match self.admits(self.seats.purpose(number)?) {
                // Whoever reads judges what is overdue.
                Admission::Now if !self.is_overdue(now) || self.seats.is_somebody_reading() => {
                    Some(Outcome::Ready)
                }
                Admission::Now | Admission::Later => None,
                Admission::Never(outcome) => Some(outcome),
            },
        }
    }

    fn admits(&self, purpose: Purpose) -> Admission {
        if self.course.end().is_some() {
            return Admission::Never(Outcome::Ended(Executed::Never));
        }
        let (length, may_call) = match purpose {
            _ if self.connection.layout().is_none() => return Admission::Later,
            Purpose::Open => return Admission::Now,
            Purpose::Call(length) => {
                (length, u32::try_from(length).is_ok_and(|length| self.connection.may_call(length)))
            }
            Purpose::Notify(length) => (length, true),
        };
        let too_large = |bound| Admission::Never(Outcome::TooLarge { length, bound });
        let limit = self.connection.request_limit() as usize;
        if length > limit {
            return too_large(Bound::Server(limit));
        }
        let (size, hard) = (self.size(length), self.settings.limits.outbox_hard);
        if size > hard {
            return too_large(Bound::Outbox(hard));
        }
        let fits = !self.connection.flow().is_backed_up() && self.connection.waiting() <= hard - size;
        if fits && may_call { Admission::Now } else { Admission::Later }
    }

    /// Bytes that a request with so much payload takes in the outbox.
    fn size(&self, length: usize) -> usize {
        let payload = match (self.connection.layout(), self.settings.classic) {
            (Some(Layout::Classic), Classic::Fixed(size)) => length.max(size as usize),
            _ => length,
        };
        HEADER_LEN.saturating_add(payload)
    }

    /// Whether a time limit of the connection has passed, unless there is more input.
    fn is_overdue(&self, now: Instant) -> bool {
        self.seats.writing_since().is_none() && self.connection.next_deadline().is_some_and(|at| at <= now)
    }

    /// When whoever reads looks up although nothing has come.
    fn look_at(&self, now: Instant) -> Option<Instant> {
        match self.connection.has_unsent() {
            true => Some(now + WRITER_CHECK),
            false => self.connection.next_deadline(),
        }
    }
}

/// Whether a request may begin.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Now,
    Later,
    Never(Outcome),
}

/// The channel.
impl<W: Wake> Caller<W> {
    /// Whether somebody waits for input.
    pub fn is_somebody_reading(&self) -> bool {
        self.seats.is_somebody_reading()
    }

    /// Somebody reads from now on. If a large frame is on its way, gives its beginning and how much is to
    /// be read straight behind it; to be given [back](Caller::put_back).
    pub fn begin_read(&mut self, at_least: usize) -> Option<(Vec<u8>, usize)> {
        self.seats.begin_read();
        self.connection.take_large_partial(at_least)
    }

    /// Takes the large frame back, before [`end_read`](Caller::end_read).
    pub fn put_back(&mut self, partial: Vec<u8>) {
        self.connection.put_back(partial);
    }

    /// What the read found that began at `asked`. `seat` is the reader's, if he has one.
    pub fn end_read(&mut self, seat: Option<Seat>, came: Came<'_>, asked: Instant, now: Instant) {
        self.seats.end_read();
        match came {
            Came::Nothing => self.judge(asked, Input::Quiet),
            Came::Bytes { bytes, is_all } => {
                self.receive(bytes, now);
                self.judge(asked, if is_all { Input::Fresh } else { Input::Waiting });
                self.seats.wake_queue();
            }
            Came::End => {
                self.connection.end_of_input();
                self.close(End::Closed);
            }
            Came::Broken => {
                self.connection.end_of_input();
                self.close(End::Broken);
            }
        }
        self.seats.appoint(seat);
    }

    /// What is to be sent now, if nobody is at it.
    pub fn to_send(&mut self) -> Option<&[u8]> {
        let may_send =
            self.seats.writing_since().is_none() && !self.is_over() && self.connection.has_unsent();
        may_send.then(|| self.connection.unsent())
    }

    /// Whether somebody waits until the channel takes more.
    pub fn is_somebody_writing(&self) -> bool {
        self.seats.writing_since().is_some()
    }

    /// Whether something waits to be sent.
    pub fn has_unsent(&self) -> bool {
        self.connection.has_unsent()
    }

    /// Somebody waits until the channel takes more.
    pub fn begin_write(&mut self, seat: Option<Seat>, now: Instant) {
        self.seats.begin_write(seat, now);
    }

    /// The channel took so many bytes.
    pub fn sent(&mut self, count: usize, now: Instant) {
        let was_backed_up = self.connection.flow().is_backed_up();
        self.connection.mark_sent(count, now);
        self.seats.end_write();
        if !self.connection.has_unsent() || was_backed_up && !self.connection.flow().is_backed_up() {
            self.seats.wake_queue();
        }
    }

    /// The channel took nothing in all the time since it was offered something.
    pub fn sent_nothing(&mut self, asked: Instant, now: Instant) {
        self.connection.mark_sent(0, now);
        self.seats.end_write();
        self.judge(asked, Input::Waiting);
    }

    /// The channel takes nothing more. What the server said before it left is still to be read, and tells
    /// more: to those who had waited for room, too, since whoever has found this out may not read.
    pub fn cannot_send(&mut self) {
        self.connection.discard_output();
        self.seats.end_write();
        self.seats.wake_queue();
    }

    /// Whoever sent has no time left: others look what is to be sent, and all of them, since one that
    /// reads, or that leaves as well, would not.
    pub fn give_up_sending(&self) {
        self.seats.wake_all();
    }

    /// Behind a failure: what is to be sent if the channel takes it at once, before it is closed. Ask
    /// after each read and write.
    pub fn poll_close(&mut self) -> Option<Vec<u8>> {
        if self.is_somebody_writing() || !self.course.finish() {
            return None;
        }
        let words = memory::copy(self.connection.unsent()).unwrap_or_default();
        self.connection.discard_output();
        Some(words)
    }

    /// Says goodbye. Gives what is to be sent before the channel is closed, unless all is over.
    pub fn goodbye(&mut self) -> Option<&[u8]> {
        if self.is_over() {
            return None;
        }
        self.connection.goodbye(ResultCode::OK);
        Some(self.connection.unsent())
    }

    fn receive(&mut self, bytes: &[u8], now: Instant) {
        let Caller { connection, seats, hello, course, .. } = self;
        let mut is_left = false;
        connection.receive(bytes, &Cell::new(usize::MAX), &mut |connection, event| match event {
            Event::Reply { id, rc, is_text, payload } => {
                let Some(call) = seats.call_mut(id) else { return };
                let is_classic_first = id == 1 && connection.layout() == Some(Layout::Classic);
                call.answer(match memory::copy(payload) {
                    Ok(payload) => Call::Answered(Reply { rc, is_text, payload, is_classic_first }),
                    Err(NoMemory) => Call::Lost,
                });
            }
            Event::LostReply { id } => {
                if let Some(call) = seats.call_mut(id) {
                    call.answer(Call::Lost);
                }
            }
            Event::Goodbye { rc, last_id } => {
                course.leave(rc, last_id);
                is_left = true;
            }
            Event::Opened(theirs) => *hello = Some(theirs),
            Event::Request { ticket, .. } => {
                let reply = connection.begin_reply(ticket);
                reply.fail(ResultCode::NO_HANDLER, "this client serves no requests");
            }
            Event::Greeted(_) | Event::Notify { .. } => {}
        });
        connection.received(now);
        if is_left {
            seats.wake_all();
        }
    }

    /// Ends the connection if one of its time limits has passed. While somebody waits for the channel to
    /// take more, what has happened there is known only as of when he began.
    fn judge(&mut self, asked: Instant, input: Input) {
        let known = self.seats.writing_since().map_or(asked, |since| since.min(asked));
        if self.connection.next_deadline().is_some_and(|at| at <= known) {
            self.connection.handle_timeout(known, input);
        }
        if let Some(error) = self.connection.flow().failure()
            && !self.course.is_over()
        {
            self.course.fail(error.clone());
            self.seats.wake_all();
        }
    }

    fn close(&mut self, end: End) {
        let failure = self.connection.flow().failure().filter(|_| end == End::Closed);
        self.course.close(failure.map_or(end, |error| End::Failed(error.clone())));
        self.seats.wake_all();
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
