//! What this side owes an answer later.
//!
//! A call that is answered at once never comes here. One that is deferred has one entry until it ends: by
//! its owner's reply, or without him, and then he is told why when he asks. Meanwhile it may be answered in parts.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::credit::{credited, part_cost};
use crate::memory::{self, NoMemory};
use crate::outbox::Left;
use crate::reply::Ticket;

/// Names a deferred call among all of its connection, for maps of those who work on it. Means nothing
/// any more when the call has ended. Later ones are greater, for some four thousand million calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwedId {
    serial: u32,
    /// The call's id on the wire, which may come again.
    id: u32,
}

impl OwedId {
    /// The call's id in frames.
    pub(crate) fn on_the_wire(self) -> u32 {
        self.id
    }
}

/// News of a deferred call. All but one say that it has ended without its owner's reply: there is nothing left
/// to do for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owed {
    /// The caller has cancelled it, and was answered "cancelled" (-8).
    Cancelled(OwedId),
    /// The caller's time for it is over: it was answered "timed out" (-7).
    TimedOut(OwedId),
    /// The connection is at its end: nobody waits for an answer, and none was sent.
    Dropped(OwedId),
    /// It has not ended: the next part that had to wait may be [sent](crate::Connection::push_part) now.
    MayGoOn(OwedId),
}

impl Owed {
    /// Which call it was.
    #[must_use]
    pub fn id(self) -> OwedId {
        match self {
            Owed::Cancelled(id) | Owed::TimedOut(id) | Owed::Dropped(id) | Owed::MayGoOn(id) => id,
        }
    }
}

/// The deferred calls of one connection.
#[derive(Debug, Default)]
pub(crate) struct Register {
    /// By their ids on the wire. Classic ones have 0: of them there is never more than one.
    calls: HashMap<u32, Call>,
    /// When whose time is over.
    deadlines: BTreeSet<(Instant, u32)>,
    /// Those that have ended without their owners, who have not asked yet. There is always room in it for
    /// all that have not ended.
    ended: VecDeque<Owed>,
    /// Those whose next part waits for room in the outbox, in the order in which they get it. With room, too.
    waiting: VecDeque<OwedId>,
    last_serial: u32,
}

#[derive(Debug)]
struct Call {
    serial: u32,
    ticket: Ticket,
    deadline: Option<Instant>,
    /// How its credit for parts differs from what it began with.
    balance: i64,
    next_part: NextPart,
}

/// What the next part of a reply has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextPart {
    Nothing,
    Credit,
    /// The call is among those that [wait](Register::waiting).
    Room,
}

/// Whether a part may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    Go,
    Wait,
    /// The call has ended.
    Never,
}

impl Register {
    /// Bytes of memory held, as far as they can be known.
    pub(crate) fn held(&self) -> usize {
        self.calls.capacity() * size_of::<(u32, Call)>()
            + self.ended.capacity() * size_of::<Owed>()
            + self.waiting.capacity() * size_of::<OwedId>()
            + self.deadlines.len() * 2 * size_of::<(Instant, u32)>()
    }

    /// Whether there is no call, and nothing left of any: its memory is [given back](Register::next_ended) by
    /// whoever asks what has ended.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.calls.capacity() == 0
    }

    /// Calls that have not ended.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether the call with this id on the wire has not ended.
    #[inline]
    pub(crate) fn holds(&self, id: u32) -> bool {
        self.calls.contains_key(&id)
    }

    /// Whether this very call has not ended.
    pub(crate) fn has(&self, id: OwedId) -> bool {
        self.calls.get(&id.id).is_some_and(|call| call.serial == id.serial)
    }

    /// The type of a call that has not ended.
    pub(crate) fn msg_type(&self, id: OwedId) -> Option<i32> {
        self.calls.get(&id.id).filter(|call| call.serial == id.serial).map(|call| call.ticket.msg_type)
    }

    /// Takes a call in that had come in full at `since`. Gives it back if there is no memory for it.
    pub(crate) fn add(&mut self, ticket: Ticket, since: Instant) -> Result<OwedId, Ticket> {
        let Ok(()) = self.reserve() else { return Err(ticket) };
        self.last_serial = self.last_serial.wrapping_add(1);
        let (id, serial) = (ticket.id, self.last_serial);
        let timeout = Some(ticket.timeout_ms).filter(|timeout| *timeout > 0);
        let deadline = timeout.and_then(|timeout| since.checked_add(Duration::from_millis(timeout.into())));
        self.deadlines.extend(deadline.map(|at| (at, id)));
        let call = Call { serial, ticket, deadline, balance: 0, next_part: NextPart::Nothing };
        let before = self.calls.insert(id, call);
        debug_assert!(before.is_none(), "call {id} is owed twice");
        Ok(OwedId { id, serial })
    }

    fn reserve(&mut self) -> Result<(), NoMemory> {
        memory::reserve_entry(&mut self.calls)?;
        memory::reserve_entries(&mut self.waiting, self.calls.len() + 1)?;
        memory::reserve_entries(&mut self.ended, self.calls.len() + 1)
    }

    /// Its owner answers it. `None`: it has ended before.
    pub(crate) fn take(&mut self, id: OwedId) -> Option<Ticket> {
        self.calls.get(&id.id).filter(|call| call.serial == id.serial)?;
        self.remove(id.id).map(|(_, ticket)| ticket)
    }

    /// The caller does not want it any more. `None`: it has ended before, or was never deferred.
    pub(crate) fn cancel(&mut self, id: u32) -> Option<Ticket> {
        let (id, ticket) = self.remove(id)?;
        self.ended.push_back(Owed::Cancelled(id));
        Some(ticket)
    }

    /// One whose time is over by now.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Ticket> {
        let (_, id) = *self.deadlines.first().filter(|(at, _)| *at <= now)?;
        let (id, ticket) = self.remove(id)?;
        self.ended.push_back(Owed::TimedOut(id));
        Some(ticket)
    }

    /// Nobody waits for any of them. Says how many there were.
    pub(crate) fn drop_all(&mut self) -> Left {
        let mut left = Left::default();
        self.deadlines.clear();
        self.waiting.clear();
        let first = self.ended.len();
        for (id, Call { serial, ticket, .. }) in self.calls.drain() {
            self.ended.push_back(Owed::Dropped(OwedId { id, serial }));
            left.calls += 1;
            left.bytes += ticket.cost;
        }
        // In the order in which they were deferred.
        self.ended.make_contiguous()[first..].sort_by_key(|owed| owed.id().serial);
        left
    }

    /// Whether a part of the reply to this call may be sent. If not, it waits from now on. `begun_with`: the
    /// credit that each call begins with; `has_room`: whether the outbox takes any part.
    pub(crate) fn may_send(&mut self, id: OwedId, begun_with: u32, has_room: bool) -> May {
        let Some(call) = self.calls.get_mut(&id.id).filter(|call| call.serial == id.serial) else {
            return May::Never;
        };
        let before = call.next_part;
        if i64::from(begun_with) + call.balance <= 0 {
            call.next_part = NextPart::Credit;
        } else if has_room {
            call.next_part = NextPart::Nothing;
        } else {
            call.next_part = NextPart::Room;
        }
        let now = call.next_part;
        match (before, now) {
            (NextPart::Room, NextPart::Room) => {}
            (NextPart::Room, _) => self.waiting.retain(|waiting| *waiting != id),
            (_, NextPart::Room) => self.waiting.push_back(id),
            _ => {}
        }
        if now == NextPart::Nothing { May::Go } else { May::Wait }
    }

    /// A part was sent. It may overdraw the credit.
    pub(crate) fn spend(&mut self, id: OwedId, length: u32) {
        if let Some(call) = self.calls.get_mut(&id.id).filter(|call| call.serial == id.serial) {
            call.balance -= i64::from(part_cost(length));
        }
    }

    /// The caller takes so many bytes of parts more.
    pub(crate) fn credit(&mut self, id: u32, amount: u32, begun_with: u32) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.balance = credited(call.balance, amount, begun_with);
        if call.next_part == NextPart::Credit && i64::from(begun_with) + call.balance > 0 {
            call.next_part = NextPart::Room;
            self.waiting.push_back(OwedId { id, serial: call.serial });
        }
    }

    /// A call that waits for credit.
    pub(crate) fn waits_for_credit(&self) -> Option<u32> {
        let mut calls = self.calls.iter();
        calls.find(|(_, call)| call.next_part == NextPart::Credit).map(|(id, _)| *id)
    }

    /// Whether any waits for room.
    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next one that waits for room, which there is now.
    pub(crate) fn next_to_go_on(&mut self) -> Option<OwedId> {
        let id = self.waiting.pop_front()?;
        if let Some(call) = self.calls.get_mut(&id.id) {
            call.next_part = NextPart::Nothing;
        }
        Some(id)
    }

    /// One that has ended without its owner.
    pub(crate) fn next_ended(&mut self) -> Option<Owed> {
        let next = self.ended.pop_front();
        if next.is_none() && self.calls.is_empty() {
            // Nobody knows when there will be another.
            self.calls = HashMap::new();
            self.ended = VecDeque::new();
            self.waiting = VecDeque::new();
        }
        next
    }

    /// Whether one of them has a time limit.
    #[inline]
    pub(crate) fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// When the next one's time is over.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn remove(&mut self, id: u32) -> Option<(OwedId, Ticket)> {
        let Call { serial, ticket, deadline, next_part, .. } = self.calls.remove(&id)?;
        if next_part == NextPart::Room {
            self.waiting.retain(|waiting| waiting.id != id);
        }
        if let Some(at) = deadline {
            self.deadlines.remove(&(at, id));
        }
        Some((OwedId { id, serial }, ticket))
    }
}
