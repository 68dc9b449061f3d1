//! Those who listen to events: what each of them has not taken yet.

use std::collections::VecDeque;
use std::time::Instant;

use super::seats::Seat;
use super::step::{Outcome, Published};
use super::waiter::Waiter;
use super::{Caller, Wake};
use crate::by_id::ById;
use crate::event::Event;
use crate::executed::Executed;
use crate::memory::{self, NoMemory};

/// One who listens, to any number of topics.
#[derive(Debug)]
pub(super) struct Listener<W> {
    topics: Vec<Topic>,
    /// Those that came and were not taken, in this order.
    queue: VecDeque<Published>,
    /// What they count for.
    bytes: usize,
    pub(super) waiter: Option<Waiter<W>>,
}

#[derive(Debug)]
struct Topic {
    number: u16,
    /// Events that were lost here since the last one in the queue.
    lost: u32,
}

/// All of a connection.
#[derive(Debug)]
pub(super) struct Listeners<W> {
    by_number: ById<Listener<W>>,
    last_number: u32,
    /// Topics to which nobody listens any more, and of which the server has not been told so.
    unwanted: Vec<u16>,
}

/// For what each event counts besides its payload.
const OVERHEAD: usize = 64;

impl<W> Listeners<W> {
    pub(super) fn new() -> Listeners<W> {
        Listeners { by_number: ById::default(), last_number: 0, unwanted: Vec::new() }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    fn add(&mut self) -> u32 {
        self.last_number = self.last_number.wrapping_add(1);
        let (topics, queue) = (Vec::new(), VecDeque::new());
        self.by_number.insert(self.last_number, Listener { topics, queue, bytes: 0, waiter: None });
        self.last_number
    }

    pub(super) fn get(&self, number: u32) -> Option<&Listener<W>> {
        self.by_number.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Listener<W>> {
        self.by_number.get_mut(&number)
    }

    /// Those who wait for an event.
    pub(super) fn waiters(&self) -> impl Iterator<Item = (Seat, &Waiter<W>)> {
        self.by_number.iter().filter_map(|(number, listener)| {
            Some((Seat::Events(*number), listener.waiter.as_ref().filter(|_| listener.queue.is_empty())?))
        })
    }

    fn is_wanted(&self, topic: u16) -> bool {
        self.by_number.values().any(|listener| listener.listens_to(topic))
    }
}

impl<W: Wake> Listeners<W> {
    /// Gives an event to all who listen, and says whether all of them wait for one. `most`: bytes that may wait for
    /// each of them.
    pub(super) fn take(&mut self, event: &Event<'_>, most: usize) -> bool {
        let Event::Published { topic, sequence, dropped, payload } = *event else { return true };
        let mut are_waiting = true;
        for listener in self.by_number.values_mut() {
            are_waiting &= listener.take(topic, sequence, dropped, payload, most);
        }
        are_waiting
    }
}

impl<W> Listener<W> {
    pub(super) fn has_events(&self) -> bool {
        !self.queue.is_empty()
    }

    fn listens_to(&self, topic: u16) -> bool {
        self.topics.iter().any(|listened| listened.number == topic)
    }

    fn next(&mut self) -> Option<Published> {
        let event = self.queue.pop_front()?;
        self.bytes -= cost(&event.payload);
        Some(event)
    }
}

impl<W: Wake> Listener<W> {
    /// Says whether there is nobody who will have to be told of it.
    fn take(&mut self, topic: u16, sequence: u32, dropped: u32, payload: &[u8], most: usize) -> bool {
        let Some(listened) = self.topics.iter_mut().find(|listened| listened.number == topic) else {
            return true;
        };
        let dropped = dropped.saturating_add(listened.lost);
        // One is taken however large it is.
        let fits = self.queue.is_empty() || self.bytes.saturating_add(cost(payload)) <= most;
        let copied = if fits { copy(&mut self.queue, payload) } else { Err(NoMemory) };
        let Ok(payload) = copied else {
            listened.lost = dropped.saturating_add(1);
            return true;
        };
        listened.lost = 0;
        self.bytes += cost(&payload);
        self.queue.push_back(Published { topic, sequence, dropped, payload });
        let Some(waiter) = &self.waiter else { return false };
        waiter.waker.wake();
        true
    }
}

/// A copy that has a place in the queue.
fn copy(queue: &mut VecDeque<Published>, payload: &[u8]) -> Result<Vec<u8>, NoMemory> {
    memory::reserve_entries(queue, 1)?;
    memory::copy(payload)
}

fn cost(payload: &[u8]) -> usize {
    payload.len().saturating_add(OVERHEAD)
}

/// Listening.
impl<W: Wake> Caller<W> {
    /// Takes a seat for one who will listen to events. [`poll`](Caller::poll) gives him the next one, as often as
    /// he [attends](Caller::attend) it, until he [leaves](Caller::leave) it.
    pub fn listen(&mut self) -> Seat {
        Seat::Events(self.seats.listeners.add())
    }

    /// Subscribes whoever has this seat to a topic, on the condition of a [call](Caller::begin) without payload
    /// over v1. Returns the id of that call, which is answered like any other, and is not attended yet.
    pub fn subscribe(&mut self, seat: Seat, topic: u16, deadline: Option<Instant>) -> Result<u32, NoMemory> {
        let id = self.connection.push_subscribe(topic)?;
        self.add_call(id, deadline, None);
        self.seats.listeners.unwanted.retain(|unwanted| *unwanted != topic);
        if let Seat::Events(number) = seat
            && let Some(listener) = self.seats.listeners.get_mut(number)
            && !listener.listens_to(topic)
        {
            listener.topics.push(Topic { number: topic, lost: 0 });
        }
        Ok(id)
    }

    /// Whoever has this seat listens to this topic no more.
    pub fn unsubscribe(&mut self, seat: Seat, topic: u16) {
        let Seat::Events(number) = seat else { return };
        let Some(listener) = self.seats.listeners.get_mut(number) else { return };
        listener.topics.retain(|listened| listened.number != topic);
        self.want_no_more(topic);
    }

    pub(super) fn leave_events(&mut self, number: u32) {
        let Some(listener) = self.seats.listeners.by_number.remove(&number) else { return };
        for topic in listener.topics {
            self.want_no_more(topic.number);
        }
    }

    /// If nobody else listens to it, the server is told as soon as there is room.
    fn want_no_more(&mut self, topic: u16) {
        let listeners = &mut self.seats.listeners;
        if self.connection.is_subscribing(topic) && !listeners.is_wanted(topic) {
            listeners.unwanted.push(topic);
        }
        self.unsubscribe_unwanted();
    }

    /// Tells the server to what nobody listens any more, as far as there is room.
    #[inline]
    pub(super) fn unsubscribe_unwanted(&mut self) {
        if !self.seats.listeners.unwanted.is_empty() {
            self.unsubscribe_each();
        }
    }

    fn unsubscribe_each(&mut self) {
        while let Some(topic) = self.seats.listeners.unwanted.last().copied() {
            if self.course.end().is_some() {
                return self.seats.listeners.unwanted.clear();
            }
            if !self.connection.may_call(0) || self.connection.flow().is_backed_up() {
                return;
            }
            let Ok(id) = self.connection.push_unsubscribe(topic) else { return };
            // Nobody waits for the answer.
            self.connection.abandon_call(id);
            self.seats.listeners.unwanted.pop();
        }
    }

    pub(super) fn events_outcome(&mut self, number: u32) -> Option<Outcome> {
        let is_ended = self.course.end().is_some();
        let next = self.seats.listeners.get_mut(number)?.next();
        let ended = || is_ended.then_some(Outcome::Ended(Executed::Perhaps));
        next.map(Outcome::Event).or_else(ended)
    }
}
