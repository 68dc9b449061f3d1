//! Those who wait on a connection, and which of them reads for all.

use std::time::Instant;

use super::{Purpose, Reply, Step, Wake};
use crate::by_id::ById;
use crate::limits::LATE;

/// The place of one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// In the queue, until a request may begin.
    Queue(u32),
    /// At a call, by its id.
    Call(u32),
}

#[derive(Debug)]
pub(super) struct Seats<W> {
    calls: ById<Call<W>>,
    queue: Vec<Queued<W>>,
    last_number: u32,
    reading: Reading,
    writing: Writing,
}

/// A call that was begun.
#[derive(Debug)]
pub(super) enum Call<W> {
    Waiting(Waiter<W>),
    Answered(Reply),
    /// There was no memory for its reply.
    Lost,
}

#[derive(Debug)]
struct Queued<W> {
    number: u32,
    purpose: Purpose,
    waiter: Waiter<W>,
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter<W> {
    waker: W,
    deadline: Option<Instant>,
    last_look: LastLook,
}

/// Of one whose time is up. Nobody gives up before what has come was read: we may have been stopped, and
/// woken up long behind the deadline. If somebody else reads, he is left some time to do so, since he
/// was stopped along with us.
#[derive(Clone, Copy, Debug)]
enum LastLook {
    Due,
    Readers { until: Instant },
    Taken,
}

/// Who reads for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nobody,
    /// Nobody yet: this call's owner is awake, and will.
    Appointed(u32),
    Somebody,
}

/// Who waits until the channel takes more.
#[derive(Clone, Copy, Debug)]
enum Writing {
    Nobody,
    Somebody { seat: Option<Seat>, since: Instant },
}

impl<W> Waiter<W> {
    pub(super) fn new(waker: W, deadline: Option<Instant>) -> Waiter<W> {
        Waiter { waker, deadline, last_look: LastLook::Due }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether it is for others to go on: its time is up, and it has looked once more.
    pub(super) fn poll_deadline(&mut self, now: Instant, is_read: bool) -> Patience {
        let Some(late) = self.deadline.and_then(|deadline| now.checked_duration_since(deadline)) else {
            return Patience::Waits;
        };
        match self.last_look {
            LastLook::Due | LastLook::Readers { .. } if !is_read => {
                self.last_look = LastLook::Taken;
                Patience::Last(Step::Look)
            }
            LastLook::Due if late > LATE => {
                let until = now + LATE;
                self.last_look = LastLook::Readers { until };
                Patience::Last(Step::Wait { until: Some(until) })
            }
            LastLook::Readers { until } if now < until => Patience::Last(Step::Wait { until: Some(until) }),
            LastLook::Due | LastLook::Readers { .. } | LastLook::Taken => Patience::Ends,
        }
    }
}

/// What a deadline says.
#[derive(Debug)]
pub(super) enum Patience {
    Waits,
    /// It has passed, but first there is this to do.
    Last(Step),
    Ends,
}

impl<W: Wake> Call<W> {
    /// Somebody has looked forward to this.
    pub(super) fn answer(&mut self, answer: Call<W>) {
        if let Call::Waiting(waiter) = std::mem::replace(self, answer) {
            waiter.waker.wake();
        }
    }
}

impl<W: Wake> Seats<W> {
    pub(super) fn new() -> Seats<W> {
        Seats {
            calls: ById::default(),
            queue: Vec::new(),
            last_number: 0,
            reading: Reading::Nobody,
            writing: Writing::Nobody,
        }
    }

    pub(super) fn enqueue(&mut self, purpose: Purpose, waiter: Waiter<W>) -> Seat {
        self.last_number = self.last_number.wrapping_add(1);
        self.queue.push(Queued { number: self.last_number, purpose, waiter });
        Seat::Queue(self.last_number)
    }

    /// Its owner is awake, and reads if nobody does.
    pub(super) fn add_call(&mut self, id: u32, waiter: Waiter<W>) {
        self.calls.insert(id, Call::Waiting(waiter));
        if self.reading == Reading::Nobody {
            self.reading = Reading::Appointed(id);
        }
    }

    pub(super) fn call_mut(&mut self, id: u32) -> Option<&mut Call<W>> {
        self.calls.get_mut(&id)
    }

    pub(super) fn purpose(&self, number: u32) -> Option<Purpose> {
        Some(self.queue.iter().find(|queued| queued.number == number)?.purpose)
    }

    pub(super) fn waiter_mut(&mut self, seat: Seat) -> Option<&mut Waiter<W>> {
        match seat {
            Seat::Queue(number) => {
                let queued = self.queue.iter_mut().find(|queued| queued.number == number)?;
                Some(&mut queued.waiter)
            }
            Seat::Call(id) => match self.calls.get_mut(&id)? {
                Call::Waiting(waiter) => Some(waiter),
                Call::Answered(_) | Call::Lost => None,
            },
        }
    }

    /// Gives the seat up. If its owner was to read, somebody else is.
    pub(super) fn leave(&mut self, seat: Seat) -> Option<Call<W>> {
        let call = match seat {
            Seat::Queue(number) => {
                self.queue.retain(|queued| queued.number != number);
                None
            }
            Seat::Call(id) => self.calls.remove(&id),
        };
        self.appoint(None);
        call
    }

    /// Sees to it that somebody reads, if anybody waits for a reply. `awake` is whoever asks, and polls
    /// next. Somebody who waits for the channel to take more is passed over; he comes again.
    pub(super) fn appoint(&mut self, awake: Option<Seat>) {
        match self.reading {
            Reading::Somebody => return,
            Reading::Appointed(id) if self.can_read(id) => return,
            Reading::Appointed(_) | Reading::Nobody => {}
        }
        if let Some(Seat::Call(id)) = awake
            && self.can_read(id)
        {
            self.reading = Reading::Appointed(id);
            return;
        }
        let writer = self.writer();
        let mut calls = self.calls.iter().filter(|(id, _)| Some(Seat::Call(**id)) != writer);
        let successor = calls.find_map(|(id, call)| match call {
            Call::Waiting(waiter) => Some((*id, waiter)),
            Call::Answered(_) | Call::Lost => None,
        });
        if let Some((id, waiter)) = successor {
            self.reading = Reading::Appointed(id);
            waiter.waker.wake();
            return;
        }
        self.reading = Reading::Nobody;
        // Nobody waits for what fills the limits: those who asked have given up.
        if awake.is_none() {
            self.wake_queue();
        }
    }

    fn can_read(&self, id: u32) -> bool {
        matches!(self.calls.get(&id), Some(Call::Waiting(_))) && self.writer() != Some(Seat::Call(id))
    }

    fn writer(&self) -> Option<Seat> {
        match self.writing {
            Writing::Somebody { seat, .. } => seat,
            Writing::Nobody => None,
        }
    }

    pub(super) fn is_somebody_reading(&self) -> bool {
        self.reading == Reading::Somebody
    }

    pub(super) fn begin_read(&mut self) {
        self.reading = Reading::Somebody;
    }

    pub(super) fn end_read(&mut self) {
        self.reading = Reading::Nobody;
    }

    /// Since when somebody has waited until the channel takes more.
    pub(super) fn writing_since(&self) -> Option<Instant> {
        match self.writing {
            Writing::Somebody { since, .. } => Some(since),
            Writing::Nobody => None,
        }
    }

    pub(super) fn begin_write(&mut self, seat: Option<Seat>, now: Instant) {
        self.writing = Writing::Somebody { seat, since: now };
        if let (Some(Seat::Call(writer)), Reading::Appointed(reader)) = (seat, self.reading)
            && writer == reader
        {
            self.appoint(None);
        }
    }

    pub(super) fn end_write(&mut self) {
        // All others have somebody who reads; only the writer was passed over.
        if let Writing::Somebody { seat: Some(Seat::Call(id)), .. } =
            std::mem::replace(&mut self.writing, Writing::Nobody)
            && self.reading == Reading::Nobody
            && self.can_read(id)
        {
            self.reading = Reading::Appointed(id);
        }
    }

    pub(super) fn wake_queue(&self) {
        self.queue.iter().for_each(|queued| queued.waiter.waker.wake());
    }

    pub(super) fn wake_all(&self) {
        for call in self.calls.values() {
            if let Call::Waiting(waiter) = call {
                waiter.waker.wake();
            }
        }
        self.wake_queue();
    }
}
