//! Those who wait on a connection, and which of them reads for all.

use std::time::Instant;

use super::Wake;
use super::listeners::Listeners;
use super::parts::Parts;
use super::pings::Pings;
use super::step::{Purpose, Reply};
use super::waiter::Waiter;
use crate::by_id::ById;
use crate::parcel::Parcel;
use crate::payload::Payload;
use crate::rising::Rising;

/// The place of one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// In the queue, until a request may begin.
    Queue(u32),
    /// At a call, by its id.
    Call(u32),
    /// At no call: its owner reads for others, and handles what the server asks, until the end.
    Reader(u32),
    /// Of one who listens to events.
    Events(u32),
    /// Of one who waits for the answer to a ping.
    Ping(u32),
}

#[derive(Debug)]
pub(super) struct Seats<W> {
    calls: Rising<Call<W>>,
    /// At how many of them somebody waits.
    attended: usize,
    /// Those who only read; without a waiter while they handle something.
    standing: ById<Option<Waiter<W>>>,
    pub(super) listeners: Listeners<W>,
    pub(super) pings: Pings<W>,
    queue: Vec<Queued<W>>,
    last_number: u32,
    reading: Reading,
    writing: Writing,
}

/// A call that was begun.
#[derive(Debug)]
pub(super) struct Call<W> {
    /// Where its request ends in all that is sent.
    pub(super) end: u64,
    /// When its time is up.
    pub(super) deadline: Option<Instant>,
    pub(super) state: State<W>,
    /// Of its reply; `None`: it takes none.
    pub(super) parts: Option<Box<Parts>>,
}

/// How far a call is.
#[derive(Debug)]
pub(super) enum State<W> {
    /// It has no answer yet; perhaps somebody waits for that.
    Open(Option<Waiter<W>>),
    /// Its reply is kept until somebody asks.
    Answered(Reply),
    /// There was no memory for its reply.
    Lost,
}

/// Who has looked forward to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// Whoever waits at its seat, and was woken.
    Waiter,
    /// Whoever asks for it later.
    News,
    /// There is no such call.
    Nobody,
}

#[derive(Debug)]
struct Queued<W> {
    number: u32,
    purpose: Purpose,
    waiter: Waiter<W>,
}

/// Who reads for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nobody,
    /// Nobody yet: whoever waits at this seat is awake, and will.
    Appointed(Seat),
    Somebody,
}

/// Who waits until the channel takes more.
#[derive(Clone, Copy, Debug)]
enum Writing {
    Nobody,
    Somebody { seat: Option<Seat>, since: Instant },
}

impl<W> Call<W> {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether its time is up.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether parts of its reply are here that nobody has taken.
    pub(super) fn has_parts(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| !parts.is_empty())
    }

    fn is_attended(&self) -> bool {
        matches!(self.state, State::Open(Some(_)))
    }

    /// Who waits for something to come.
    fn waiter(&self) -> Option<&Waiter<W>> {
        match &self.state {
            State::Open(waiter) => waiter.as_ref().filter(|_| !self.has_parts()),
            State::Answered(_) | State::Lost => None,
        }
    }
}

impl<W: Wake> Seats<W> {
    pub(super) fn new() -> Seats<W> {
        Seats {
            calls: Rising::default(),
            attended: 0,
            standing: ById::default(),
            listeners: Listeners::new(),
            pings: Pings::new(),
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
    pub(super) fn add_reader(&mut self, waiter: Waiter<W>) -> Seat {
        self.last_number = self.last_number.wrapping_add(1);
        self.standing.insert(self.last_number, Some(waiter));
        self.expect(Seat::Reader(self.last_number));
        Seat::Reader(self.last_number)
    }

    /// Whoever waits for it is awake, and reads if nobody does.
    #[inline]
    pub(super) fn add_call(&mut self, id: u32, call: Call<W>) {
        let is_attended = call.is_attended();
        // Ids come round, and a reply of long ago may never have been taken.
        if let Err(call) = self.calls.insert_new(id, call) {
            self.calls.remove(id);
            self.calls.insert(id, call);
        }
        if is_attended {
            self.attended += 1;
            self.expect(Seat::Call(id));
        }
    }

    /// Somebody may have looked forward to this. Says whether anybody did; nor did he whose call is not there any more.
    #[inline]
    pub(super) fn answer(&mut self, id: u32, answer: impl FnOnce() -> State<W>) -> Answered {
        let Some(call) = self.calls.get_mut(id) else { return Answered::Nobody };
        let State::Open(Some(waiter)) = std::mem::replace(&mut call.state, answer()) else {
            return Answered::News;
        };
        self.attended -= 1;
        waiter.waker.wake();
        Answered::Waiter
    }

    /// This came with a call's answer.
    #[cold]
    pub(super) fn attach(&mut self, id: u32, parcel: Parcel) {
        if let Some(Call { state: State::Answered(reply), .. }) = self.calls.get_mut(id) {
            reply.attached = Some(parcel);
        }
    }

    /// And this, which is large and was left where it lay, is its payload.
    #[cold]
    pub(super) fn fill(&mut self, id: u32, payload: Payload) {
        if let Some(Call { state: State::Answered(reply), .. }) = self.calls.get_mut(id) {
            reply.payload = payload;
        }
    }

    /// A call's reply, if it is there and no parts of it are left. Its seat is gone then.
    #[inline]
    pub(super) fn take_reply(&mut self, id: u32) -> Option<Reply> {
        let reply = self.calls.remove_for(id, |call| {
            let State::Answered(Reply { rc, is_text, is_classic_first, payload, attached }) = &mut call.state
            else {
                return None;
            };
            let (rc, is_text, is_classic_first) = (*rc, *is_text, *is_classic_first);
            if call.parts.as_ref().is_some_and(|parts| !parts.is_empty()) {
                return None;
            }
            let (payload, attached) = (std::mem::take(payload), attached.take());
            Some(Reply { rc, is_text, is_classic_first, payload, attached })
        })?;
        self.replace_reader();
        Some(reply)
    }

    /// The same for a seat that is there already.
    pub(super) fn attend(&mut self, seat: Seat, until: Option<Instant>, waker: W) {
        match seat {
            Seat::Call(id) => {
                let Some(call) = self.calls.get_mut(id).filter(|call| !call.has_parts()) else { return };
                let State::Open(waiter) = &mut call.state else { return };
                self.attended += usize::from(waiter.is_none());
                *waiter = Some(Waiter::new(waker, until.into_iter().chain(call.deadline).min()));
            }
            Seat::Reader(number) => {
                let Some(waiter) = self.standing.get_mut(&number) else { return };
                *waiter = Some(Waiter::new(waker, until));
            }
            Seat::Events(number) => {
                let Some(listener) = self.listeners.get_mut(number) else { return };
                if listener.has_events() {
                    return;
                }
                listener.waiter = Some(Waiter::new(waker, until));
            }
            Seat::Queue(_) | Seat::Ping(_) => return,
        }
        self.expect(seat);
    }

    /// Nobody waits there any more. If one of them was to read, somebody else is.
    pub(super) fn detach(&mut self, seats: impl IntoIterator<Item = Seat>) {
        for seat in seats {
            match seat {
                Seat::Call(id) => {
                    if let Some(Call { state: State::Open(waiter), .. }) = self.calls.get_mut(id) {
                        self.attended -= usize::from(waiter.take().is_some());
                    }
                }
                Seat::Reader(number) => {
                    if let Some(waiter) = self.standing.get_mut(&number) {
                        *waiter = None;
                    }
                }
                Seat::Events(number) => {
                    if let Some(listener) = self.listeners.get_mut(number) {
                        listener.waiter = None;
                    }
                }
                Seat::Queue(_) | Seat::Ping(_) => {}
            }
        }
        self.replace_reader();
    }

    pub(super) fn call(&self, id: u32) -> Option<&Call<W>> {
        self.calls.get(id)
    }

    pub(super) fn call_mut(&mut self, id: u32) -> Option<&mut Call<W>> {
        self.calls.get_mut(id)
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
            Seat::Call(id) => match &mut self.calls.get_mut(id)?.state {
                State::Open(waiter) => waiter.as_mut(),
                State::Answered(_) | State::Lost => None,
            },
            Seat::Reader(number) => self.standing.get_mut(&number)?.as_mut(),
            Seat::Events(number) => self.listeners.get_mut(number)?.waiter.as_mut(),
            Seat::Ping(id) => self.pings.waiter_mut(id),
        }
    }

    /// Gives the seat up. If whoever waited there was to read, somebody else is.
    pub(super) fn leave(&mut self, seat: Seat) {
        match seat {
            Seat::Queue(number) => self.queue.retain(|queued| queued.number != number),
            Seat::Call(id) => {
                let was_attended = self.calls.remove(id).is_some_and(|call| call.is_attended());
                self.attended -= usize::from(was_attended);
            }
            Seat::Reader(number) => drop(self.standing.remove(&number)),
            Seat::Ping(id) => self.pings.remove(id),
            // Its listener is gone already.
            Seat::Events(_) => {}
        }
        self.replace_reader();
    }

    /// All who wait for something that only a read can bring: one of them reads. Those in the queue are not
    /// among them, who come themselves when they are woken.
    fn readers(&self) -> impl Iterator<Item = (Seat, &Waiter<W>)> {
        let standing = self.standing.iter();
        let standing =
            standing.filter_map(|(number, waiter)| Some((Seat::Reader(*number), waiter.as_ref()?)));
        let most = if self.attended == 0 { 0 } else { usize::MAX };
        let calls = self.calls.iter().take(most);
        let calls = calls.filter_map(|(id, call)| Some((Seat::Call(id), call.waiter()?)));
        standing.chain(calls).chain(self.listeners.waiters()).chain(self.pings.waiters())
    }

    /// Whether none of them is there, as is plain to see.
    #[inline]
    fn are_none_waiting(&self) -> bool {
        self.attended == 0 && self.standing.is_empty() && self.listeners.is_empty() && self.pings.is_empty()
    }

    fn waits_for_a_read(&self, seat: Seat) -> bool {
        match seat {
            Seat::Call(id) => self.calls.get(id).is_some_and(|call| call.waiter().is_some()),
            Seat::Reader(number) => self.standing.get(&number).is_some_and(Option::is_some),
            Seat::Events(number) => {
                let listener = self.listeners.get(number);
                listener.is_some_and(|listener| listener.waiter.is_some() && !listener.has_events())
            }
            Seat::Ping(id) => self.pings.waiter(id).is_some(),
            Seat::Queue(_) => false,
        }
    }

    /// Whoever waits at this seat is awake, and polls next.
    #[inline]
    pub(super) fn expect(&mut self, seat: Seat) {
        if self.reading == Reading::Nobody {
            self.reading = Reading::Appointed(seat);
        }
    }

    /// Behind the going of somebody who may have been the one to read. If it was not he, there is nothing
    /// to do: where nobody is to read, nobody waits for it.
    #[inline]
    fn replace_reader(&mut self) {
        match self.reading {
            Reading::Somebody => {}
            Reading::Appointed(_) => self.appoint(None),
            Reading::Nobody => self.wake_queue(),
        }
    }

    /// Sees to it that somebody reads, if anybody waits for a reply. `awake` is whoever asks, and polls
    /// next. Somebody who waits for the channel to take more is passed over; he comes again.
    pub(super) fn appoint(&mut self, awake: Option<Seat>) {
        debug_assert_eq!(
            self.attended,
            self.calls.iter().filter(|(_, call)| call.is_attended()).count(),
            "who waits at calls is counted"
        );
        match self.reading {
            Reading::Somebody => return,
            Reading::Appointed(seat) if self.can_read(seat) => return,
            Reading::Appointed(_) | Reading::Nobody => {}
        }
        if self.are_none_waiting() {
            self.appoint_nobody(awake);
            return;
        }
        if let Some(seat) = awake
            && self.can_read(seat)
        {
            self.reading = Reading::Appointed(seat);
            return;
        }
        let writer = self.writer();
        let successor = self.readers().find(|(seat, _)| Some(*seat) != writer);
        let successor = successor.map(|(seat, waiter)| {
            waiter.waker.wake();
            seat
        });
        if let Some(seat) = successor {
            self.reading = Reading::Appointed(seat);
            return;
        }
        self.appoint_nobody(awake);
    }

    #[inline]
    fn appoint_nobody(&mut self, awake: Option<Seat>) {
        self.reading = Reading::Nobody;
        // Nobody waits for what fills the limits: those who asked have given up.
        if awake.is_none() {
            self.wake_queue();
        }
    }

    pub(super) fn is_read_wanted(&self) -> bool {
        !self.queue.is_empty() || self.readers().next().is_some()
    }

    fn can_read(&self, seat: Seat) -> bool {
        self.waits_for_a_read(seat) && self.writer() != Some(seat)
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
        if let (Some(writer), Reading::Appointed(reader)) = (seat, self.reading)
            && writer == reader
        {
            self.appoint(None);
        }
    }

    pub(super) fn end_write(&mut self) {
        // All others have somebody who reads; only the writer was passed over.
        if let Writing::Somebody { seat: Some(seat), .. } =
            std::mem::replace(&mut self.writing, Writing::Nobody)
            && self.reading == Reading::Nobody
            && self.can_read(seat)
        {
            self.reading = Reading::Appointed(seat);
        }
    }

    pub(super) fn wake_queue(&self) {
        self.queue.iter().for_each(|queued| queued.waiter.waker.wake());
    }

    pub(super) fn wake_all(&self) {
        self.readers().for_each(|(_, waiter)| waiter.waker.wake());
        self.wake_queue();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rc::ResultCode;

    impl Wake for () {
        fn wake(&self) {}
    }

    fn call(state: State<()>) -> Call<()> {
        Call { end: 0, deadline: None, state, parts: None }
    }

    /// Ids come round.
    #[test]
    fn a_call_takes_the_place_of_a_reply_that_nobody_took() {
        let mut seats = Seats::new();
        let old = Reply {
            rc: ResultCode::OK,
            is_text: false,
            payload: b"long ago".to_vec().into(),
            is_classic_first: false,
            attached: None,
        };
        seats.add_call(7, call(State::Answered(old)));
        seats.add_call(7, call(State::Open(None)));
        assert_eq!(seats.take_reply(7), None, "it has no answer yet");
        assert!(seats.calls.get(7).is_some_and(Call::is_open));
        assert_eq!(seats.calls.len(), 1);
    }
}
