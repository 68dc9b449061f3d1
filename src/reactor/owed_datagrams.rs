//! Requests in datagrams that are answered later.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Reactor;
use super::datagram::Receiving;
use super::deferred::{Answer, Call, Deferral, Unwanted};
use super::outgoing::{Receiver, To};
use super::schedule::{Target, Wakeup};
use super::system::System;
use crate::counters::Limit;
use crate::limits::{MAX_DEFERRED_DATAGRAMS, MAX_DEFERRED_OF_ONE, RETRY_AFTER};
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{ResultCode, Ticket};

/// What one socket owes. Nothing tells here that a sender has gone, so all of them together are bounded, and
/// each of them is.
#[derive(Debug, Default)]
pub(super) struct OwedDatagrams {
    /// By the numbers that they were given.
    requests: HashMap<u64, Owed>,
    /// The numbers of each sender's.
    senders: HashMap<Receiver, Vec<u64>>,
    /// When whose time is over.
    deadlines: BTreeSet<(Instant, u64)>,
    last: u64,
    pub(super) wakeup: Wakeup,
}

#[derive(Debug)]
struct Owed {
    ticket: Ticket,
    to: Receiver,
    call: Arc<Call>,
    deadline: Option<Instant>,
}

impl OwedDatagrams {
    /// The number of the next one that comes, should it be deferred.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Takes one in, which had come at `since`. Gives its ticket back if there is no room for it.
    fn add(
        &mut self,
        number: u64,
        to: To<'_>,
        deferral: Deferral,
        since: Instant,
    ) -> Result<(), (Limit, Deferral)> {
        let to = to.to_owned();
        if let Err(limit) = self.reserve(&to) {
            return Err((limit, deferral));
        }
        let Deferral { ticket, call } = deferral;
        call.is_for(&ticket);
        let timeout = Some(ticket.timeout_ms).filter(|timeout| *timeout > 0);
        let deadline = timeout.and_then(|timeout| since.checked_add(Duration::from_millis(timeout.into())));
        self.deadlines.extend(deadline.map(|at| (at, number)));
        self.senders.entry(to.clone()).or_default().push(number);
        self.requests.insert(number, Owed { ticket, to, call, deadline });
        Ok(())
    }

    fn reserve(&mut self, to: &Receiver) -> Result<(), Limit> {
        let of_one = self.senders.get(to).map_or(0, Vec::len);
        if self.requests.len() >= MAX_DEFERRED_DATAGRAMS || of_one >= MAX_DEFERRED_OF_ONE {
            return Err(Limit::DeferredDatagrams);
        }
        let reserved = memory::reserve_entry(&mut self.requests);
        reserved.and_then(|()| memory::reserve_entry(&mut self.senders)).map_err(|NoMemory| Limit::Memory)
    }

    fn take(&mut self, number: u64) -> Option<Owed> {
        let owed = self.requests.remove(&number)?;
        if let Some(at) = owed.deadline {
            self.deadlines.remove(&(at, number));
        }
        if let Some(numbers) = self.senders.get_mut(&owed.to) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.senders.remove(&owed.to);
            }
        }
        Some(owed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// A sender's own ones with this id.
    fn with_id(&self, to: To<'_>, id: u32) -> Vec<u64> {
        let numbers = self.senders.get(&to.to_owned()).into_iter().flatten().copied();
        let has_id = |number: &u64| self.requests.get(number).is_some_and(|owed| owed.ticket.id == id);
        numbers.filter(has_id).collect()
    }

    /// One whose time is over by now.
    fn overdue(&self, now: Instant) -> Option<u64> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, number)| *number)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The loop has ended without a word.
    pub(super) fn forget_all(&mut self) {
        for owed in std::mem::take(self).requests.into_values() {
            owed.call.is_unwanted(Unwanted::Disconnected);
        }
    }
}

impl<Y: System> Receiving<'_, Y> {
    /// Leaves the answer for later.
    pub(super) fn defer(&mut self, number: u64, to: Option<To<'_>>, deferral: Deferral) {
        // Nobody without an address can be answered, but who works on it need not know.
        let Some(to) = to else { return };
        let now = self.system.now();
        if let Err((limit, Deferral { ticket, call })) = self.socket.owed.add(number, to, deferral, now) {
            let text = "too many requests wait for their answers already";
            let waiting = self.socket.owed.requests.len();
            let what =
                format_args!("no room for one more request of {to} to be answered later, {waiting} are");
            self.site.at_limit(limit, what);
            self.write_refusal(ticket, ResultCode::BUSY, text);
            self.send_scratch(Some(to));
            call.is_unwanted(Unwanted::Disconnected);
        }
    }

    /// Somebody has answered one. `None`: nobody waits for it any more.
    fn answer(&mut self, number: u64, answer: &Answer) -> Option<ResultCode> {
        let Owed { ticket, to, .. } = self.socket.owed.take(number)?;
        let rc = answer.write(self.begin_reply(ticket));
        self.send_scratch(Some(to.borrow()));
        Some(rc)
    }

    /// A sender does not want the answers to its requests with this id any more.
    pub(super) fn cancel(&mut self, to: Option<To<'_>>, id: u32) {
        let numbers = to.map(|to| self.socket.owed.with_id(to, id)).unwrap_or_default();
        for number in numbers {
            self.refuse_owed(number, ResultCode::CANCELLED, Unwanted::Cancelled);
        }
    }

    /// Answers those whose time is over by now.
    fn expire(&mut self, now: Instant) {
        while let Some(number) = self.socket.owed.overdue(now) {
            self.refuse_owed(number, ResultCode::TIMED_OUT, Unwanted::TimedOut);
        }
    }

    /// The loop ends.
    pub(super) fn refuse_all_owed(&mut self) {
        let mut numbers: Vec<_> = self.socket.owed.requests.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            self.refuse_owed(number, ResultCode::SHUTTING_DOWN, Unwanted::ShuttingDown);
        }
    }

    fn refuse_owed(&mut self, number: u64, rc: ResultCode, why: Unwanted) {
        let Some(Owed { ticket, to, call, .. }) = self.socket.owed.take(number) else { return };
        self.site.counters.answered(ticket.msg_type, rc);
        self.write_refusal(ticket, rc, &why.to_string());
        self.send_scratch(Some(to.borrow()));
        call.is_unwanted(why);
    }
}

impl<Y: System> Reactor<Y> {
    /// Somebody has answered a request that had come to the datagram socket with this number.
    pub(super) fn answer_datagram(
        &mut self,
        source: u16,
        number: u64,
        answer: &Answer,
    ) -> Option<ResultCode> {
        let mut receiving =
            self.sources.get_mut(usize::from(source))?.receiving(&self.system, &self.mailbox)?;
        let rc = receiving.answer(number, answer);
        self.arm_datagrams(source);
        rc
    }

    /// The time of some request may be over.
    pub(super) fn expire_datagrams(&mut self, source: u16, now: Instant) {
        let receiving = self.sources.get_mut(usize::from(source));
        let Some(mut receiving) = receiving.and_then(|source| source.receiving(&self.system, &self.mailbox))
        else {
            return;
        };
        receiving.socket.owed.wakeup.rang();
        receiving.expire(now);
        self.arm_datagrams(source);
    }

    /// Sees to it that what waits on a datagram socket goes on.
    pub(super) fn arm_datagrams(&mut self, source: u16) {
        let receiving = self.sources.get_mut(usize::from(source));
        let Some(receiving) = receiving.and_then(|source| source.receiving(&self.system, &self.mailbox))
        else {
            return;
        };
        let socket = receiving.socket;
        if !socket.out.is_empty() {
            let later = self.system.now() + RETRY_AFTER;
            self.schedule.arm(Target::Outgoing(source), later, &mut socket.retry);
        }
        if let Some(at) = socket.owed.next_deadline() {
            self.schedule.arm(Target::Owed(source), at, &mut socket.owed.wakeup);
        }
    }
}
