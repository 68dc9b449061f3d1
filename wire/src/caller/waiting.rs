//! Who wants what, and what becomes of it.

use std::time::Instant;

use super::admission::Admission;
use super::listeners::Listener;
use super::seats::{Call, Seat, State};
use super::step::{Outcome, Purpose, Reply, Step};
use super::waiter::{Patience, Waiter};
use super::{Caller, Wake};
use crate::executed::Executed;
use crate::layout::Layout;
use crate::memory::NoMemory;
use crate::parcel::Parcel;

/// Taking a seat.
impl<W: Wake> Caller<W> {
    /// Takes a seat in the queue.
    pub fn ask(&mut self, purpose: Purpose, deadline: Option<Instant>, waker: W) -> Seat {
        self.seats.enqueue(purpose, Waiter::new(waker, deadline))
    }

    /// Takes a seat for one who reads whatever comes, and [attends](Caller::attend) it, until the connection is
    /// over.
    pub fn stand_by(&mut self, waker: W) -> Seat {
        self.seats.add_reader(Waiter::new(waker, None))
    }

    /// Begins a call, which [`may_begin`](Caller::may_begin) or whose seat in the queue was
    /// [ready](Outcome::Ready), and attends it. Returns its id, which tells its [seat](Seat::Call).
    #[inline]
    pub fn begin(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        deadline: Option<Instant>,
        waker: W,
    ) -> Result<u32, NoMemory> {
        let waiter = Waiter::new(waker, deadline);
        self.push_call(msg_type, payload, timeout_ms, deadline, Some(waiter))
    }

    /// The same as [`begin`](Caller::begin) of a request with which something goes, which it
    /// [may](Caller::may_attach). It [costs](Parcel::cost) a few bytes more of payload.
    pub fn begin_attached(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        deadline: Option<Instant>,
        (parcel, waker): (Parcel, W),
    ) -> Result<u32, NoMemory> {
        let id = self.connection.push_request_attached(msg_type, payload, timeout_ms, parcel)?;
        self.add_call(id, deadline, Some(Waiter::new(waker, deadline)));
        Ok(id)
    }

    /// The same, but nobody waits yet.
    #[inline]
    pub fn start(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        deadline: Option<Instant>,
    ) -> Result<u32, NoMemory> {
        self.push_call(msg_type, payload, timeout_ms, deadline, None)
    }

    #[inline]
    fn push_call(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        deadline: Option<Instant>,
        waiter: Option<Waiter<W>>,
    ) -> Result<u32, NoMemory> {
        let id = self.connection.push_request(msg_type, payload, timeout_ms)?;
        self.add_call(id, deadline, waiter);
        Ok(id)
    }

    /// Of which the last bytes in the outbox ask.
    #[inline]
    pub(super) fn add_call(&mut self, id: u32, deadline: Option<Instant>, waiter: Option<Waiter<W>>) {
        let end = self.taken + self.connection.waiting() as u64;
        self.seats.add_call(id, Call { end, deadline, state: State::Open(waiter), parts: None });
    }

    /// Puts a request that wants no answer into the outbox, on the same condition.
    pub fn notify(&mut self, msg_type: u16, payload: &[u8]) -> Result<(), NoMemory> {
        self.connection.push_notify(msg_type, payload)
    }
}

/// With attachments.
impl<W: Wake> Caller<W> {
    /// The same as [`notify`](Caller::notify), with something that goes with it, which it [may](Caller::may_attach).
    pub fn notify_attached(&mut self, msg_type: u16, payload: &[u8], parcel: Parcel) -> Result<(), NoMemory> {
        self.connection.push_notify_attached(msg_type, payload, parcel)
    }
}

/// Waiting at it.
impl<W: Wake> Caller<W> {
    /// Waits at this seat from now on, but no longer than `until`, in place of whoever did. Then
    /// [`poll`](Caller::poll). Nothing happens if it has no need for anybody: then `poll` says what there is.
    pub fn attend(&mut self, seat: Seat, until: Option<Instant>, waker: W) {
        self.seats.attend(seat, until, waker);
    }

    /// How whoever waits at this seat is woken, to be changed by himself: a task may have moved.
    pub fn waker_mut(&mut self, seat: Seat) -> Option<&mut W> {
        Some(&mut self.seats.waiter_mut(seat)?.waker)
    }

    /// Nobody waits at these seats any more; they stay.
    pub fn detach(&mut self, seats: impl IntoIterator<Item = Seat>) {
        self.seats.detach(seats);
    }

    /// Whether it is decided what becomes of the seat, so that [`poll`](Caller::poll) gives its outcome.
    pub fn is_decided(&self, seat: Seat) -> bool {
        match seat {
            Seat::Call(id) => self.seats.call(id).is_some_and(|call| match call.state {
                State::Answered(_) | State::Lost => true,
                State::Open(_) => call.has_parts() || !self.course.may_answer(id),
            }),
            Seat::Reader(_) => self.is_over(),
            Seat::Events(number) => {
                self.course.end().is_some()
                    || self.seats.listeners.get(number).is_some_and(Listener::has_events)
            }
            Seat::Queue(_) => false,
            Seat::Ping(id) => self.ping_outcome(id).is_some(),
        }
    }

    /// The reply to the call at this seat, if it is there: the seat is gone then. Otherwise [`poll`](Caller::poll), which
    /// tells the same and all the rest, and needs to know the time.
    #[inline]
    pub fn take_reply(&mut self, seat: Seat) -> Option<Reply> {
        match seat {
            Seat::Call(id) => self.seats.take_reply(id),
            Seat::Queue(_) | Seat::Reader(_) | Seat::Events(_) | Seat::Ping(_) => None,
        }
    }

    /// What the owner of this seat does next. Ask again once that is done.
    pub fn poll(&mut self, seat: Seat, now: Instant) -> Step {
        if let Some(outcome) = self.outcome(seat, now) {
            match seat {
                Seat::Events(_) => self.seats.detach([seat]),
                Seat::Call(_) if matches!(outcome, Outcome::Part(_)) => self.seats.detach([seat]),
                Seat::Call(_) if matches!(outcome, Outcome::Reply(_)) => {}
                Seat::Queue(_) | Seat::Call(_) | Seat::Reader(_) | Seat::Ping(_) => self.seats.leave(seat),
            }
            return Step::Done(outcome);
        }
        let is_read = self.seats.is_somebody_reading();
        let Some(waiter) = self.seats.waiter_mut(seat) else { return Step::NotYet };
        match waiter.poll_patience(now, is_read) {
            Patience::Waits => {}
            Patience::Last(step) => return step,
            Patience::Ends => return self.give_up(seat, now),
        }
        let until = waiter.until();
        match seat {
            _ if is_read => Step::Wait { until },
            Seat::Queue(_) if self.is_overdue(now) => Step::Look,
            Seat::Queue(number) if self.is_for_the_sender(number) => Step::Wait { until },
            Seat::Queue(_) | Seat::Call(_) | Seat::Reader(_) | Seat::Events(_) | Seat::Ping(_) => {
                Step::Read { until: earliest(until, self.look_at(now)) }
            }
        }
    }

    /// Whether one in the queue waits for whoever sends, who makes room, and reads meanwhile.
    fn is_for_the_sender(&self, number: u32) -> bool {
        let flushes = || self.seats.purpose(number) == Some(Purpose::Flush);
        self.connection.flow().is_backed_up() || self.is_somebody_writing() && flushes()
    }

    /// Whoever waits at the seat has waited for as long as he wanted to.
    fn give_up(&mut self, seat: Seat, now: Instant) -> Step {
        let executed = match seat {
            Seat::Queue(_) | Seat::Reader(_) | Seat::Ping(_) => Executed::Never,
            Seat::Call(id) if self.seats.call(id).is_some_and(|call| !call.is_late(now)) => {
                self.seats.detach([seat]);
                return Step::NotYet;
            }
            Seat::Events(_) => {
                self.seats.detach([seat]);
                return Step::NotYet;
            }
            Seat::Call(_) => Executed::Perhaps,
        };
        self.leave(seat);
        Step::Done(Outcome::TimedOut(executed))
    }

    /// Tells the server that nobody needs the answer to this call any more. It may still give one, and else
    /// answers "cancelled". In the classic layout nothing can be said.
    pub fn cancel(&mut self, seat: Seat) {
        if let Seat::Call(id) = seat
            && self.seats.call(id).is_some_and(Call::is_open)
            && self.course.end().is_none()
            && self.connection.layout() == Some(Layout::V1)
        {
            self.connection.push_cancel(id);
        }
    }

    /// Gives the seat up. Should a reply to its call come, it is thrown away.
    pub fn leave(&mut self, seat: Seat) {
        match seat {
            Seat::Call(id) => self.connection.abandon_call(id),
            Seat::Events(number) => self.leave_events(number),
            Seat::Queue(_) | Seat::Reader(_) | Seat::Ping(_) => {}
        }
        self.seats.leave(seat);
    }
}

/// What becomes of a seat.
impl<W: Wake> Caller<W> {
    fn outcome(&mut self, seat: Seat, now: Instant) -> Option<Outcome> {
        match seat {
            Seat::Call(id) => self.call_outcome(id),
            Seat::Events(number) => self.events_outcome(number),
            Seat::Queue(number) => self.queue_outcome(number, now),
            Seat::Ping(id) => self.ping_outcome(id),
            Seat::Reader(_) => self.is_over().then_some(Outcome::Ended(Executed::Never)),
        }
    }

    fn call_outcome(&mut self, id: u32) -> Option<Outcome> {
        if let Some(reply) = self.seats.take_reply(id) {
            return Some(Outcome::Reply(reply));
        }
        if let Some(part) = self.next_part(id) {
            return Some(Outcome::Part(part));
        }
        let call = self.seats.call(id)?;
        match call.state {
            // Whose reply is there has parts that were not taken.
            State::Answered(_) => None,
            State::Lost => Some(Outcome::Lost),
            State::Open(_) => {
                let is_ended = !self.course.may_answer(id);
                is_ended.then(|| Outcome::Ended(self.executed(id, call.end)))
            }
        }
    }

    /// Whether a call may have been executed that will not be answered. `end`: where its request ends in
    /// all that is sent.
    fn executed(&self, id: u32, end: u64) -> Executed {
        // What somebody is sending right now may have left.
        let has_left = end <= self.taken || self.is_somebody_writing() || !self.course.is_finished();
        if has_left { self.course.executed(id) } else { Executed::Never }
    }

    fn queue_outcome(&self, number: u32, now: Instant) -> Option<Outcome> {
        match self.admits(self.seats.purpose(number)?) {
            // Whoever reads judges what is overdue.
            Admission::Now if !self.is_overdue(now) || self.seats.is_somebody_reading() => {
                Some(Outcome::Ready)
            }
            Admission::Now | Admission::Later => None,
            Admission::Never(outcome) => Some(outcome),
        }
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
