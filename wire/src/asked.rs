//! What this side asked and has no final reply to yet.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::call_rules;
use crate::credit::{credited, part_cost};
use crate::error::ProtocolError;
use crate::rising::Rising;

/// Our calls on one connection.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    last_id: u32,
    pending: Rising<Pending>,
    /// Classic replies carry no id: they come in the order of their requests.
    order: VecDeque<u32>,
    bytes: u64,
    /// How many of them are tombstones.
    abandoned: usize,
    /// Until when whose answer is waited for.
    deadlines: BTreeSet<(Instant, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    msg_type: i32,
    cost: u32,
    /// The caller has given up: a tombstone, which still counts as in flight.
    abandoned: bool,
    deadline: Option<Instant>,
    /// How its credit for parts differs from what it began with.
    balance: i64,
}

impl Asked {
    /// Calls in flight, tombstones included.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether this one is in flight.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.pending.contains(id)
    }

    /// Whether anybody waits for a reply.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.pending.len() > self.abandoned
    }

    /// Payload bytes in flight.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes a new v1 call and gives it an id.
    #[inline]
    pub(crate) fn begin(&mut self, msg_type: i32, cost: u32) -> u32 {
        let before = self.last_id;
        let mut pending = Pending { msg_type, cost, abandoned: false, deadline: None, balance: 0 };
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id == 0 {
                continue;
            }
            match self.pending.insert_new(self.last_id, pending) {
                Ok(()) => break,
                Err(again) => pending = again,
            }
        }
        debug_assert!(call_rules::id_follows(self.last_id, before), "ids rise");
        self.bytes += u64::from(cost);
        self.last_id
    }

    /// The same for a classic call, whose reply comes behind those of all earlier ones.
    pub(crate) fn begin_in_order(&mut self, msg_type: i32, cost: u32) -> u32 {
        let id = self.begin(msg_type, cost);
        self.order.push_back(id);
        id
    }

    /// The caller no longer waits for this one.
    pub(crate) fn abandon(&mut self, id: u32) {
        if let Some(pending) = self.pending.get_mut(id).filter(|pending| !pending.abandoned) {
            pending.abandoned = true;
            self.abandoned += 1;
            if let Some(at) = pending.deadline.take() {
                self.deadlines.remove(&(at, id));
            }
        }
    }

    /// This one is waited for until then.
    pub(crate) fn limit(&mut self, id: u32, at: Instant) {
        if let Some(pending) = self.pending.get_mut(id).filter(|pending| !pending.abandoned) {
            let before = pending.deadline.replace(at);
            if let Some(before) = before {
                self.deadlines.remove(&(before, id));
            }
            self.deadlines.insert((at, id));
        }
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

    /// One whose time is over by now.
    pub(crate) fn late(&self, now: Instant) -> Option<u32> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The peer has accepted none behind this one, and will answer none of them.
    pub(crate) fn forget_behind(&mut self, last_id: u32) {
        let Asked { pending, bytes, abandoned, deadlines, .. } = self;
        pending.retain(|id, call| {
            let is_accepted = !call_rules::is_behind(id, last_id);
            if !is_accepted {
                *bytes -= u64::from(call.cost);
                *abandoned -= usize::from(call.abandoned);
                if let Some(at) = call.deadline {
                    deadlines.remove(&(at, id));
                }
            }
            is_accepted
        });
    }

    /// A part of a reply has come, with so many bytes; `begun_with`: the credit that each call begins with. Says
    /// whether somebody waits for it.
    pub(crate) fn take_part(
        &mut self,
        id: u32,
        msg_type: i32,
        length: u32,
        begun_with: u32,
    ) -> Result<bool, ProtocolError> {
        let pending = self.pending.get_mut(id).ok_or(ProtocolError::UnknownReply(id))?;
        if pending.msg_type != msg_type {
            return Err(ProtocolError::WrongReplyType { asked: pending.msg_type, got: msg_type });
        }
        if i64::from(begun_with) + pending.balance <= 0 {
            return Err(ProtocolError::UnaskedPart(id));
        }
        pending.balance -= i64::from(part_cost(length));
        Ok(!pending.abandoned)
    }

    /// The peer may send so many bytes of parts more for this call. Says whether it is worth telling: somebody
    /// waits for them.
    pub(crate) fn give_credit(&mut self, id: u32, amount: u32, begun_with: u32) -> bool {
        let Some(pending) = self.pending.get_mut(id).filter(|pending| !pending.abandoned) else {
            return false;
        };
        pending.balance = credited(pending.balance, amount, begun_with);
        true
    }

    /// A v1 reply has come. Says whether somebody waits for it.
    pub(crate) fn finish(&mut self, id: u32, msg_type: i32) -> Result<bool, ProtocolError> {
        let pending = self.pending.remove(id).ok_or(ProtocolError::UnknownReply(id))?;
        self.bytes -= u64::from(pending.cost);
        self.abandoned -= usize::from(pending.abandoned);
        if let Some(at) = pending.deadline {
            self.deadlines.remove(&(at, id));
        }
        if pending.msg_type != msg_type {
            return Err(ProtocolError::WrongReplyType { asked: pending.msg_type, got: msg_type });
        }
        Ok(!pending.abandoned)
    }

    /// The same of one that is right and waited for, and has no time limit. False: it is not, and nothing has happened.
    #[inline]
    pub(crate) fn finish_plain(&mut self, id: u32, msg_type: u16) -> bool {
        let cost = self.pending.remove_for(id, |pending| {
            let is_right = pending.msg_type == i32::from(msg_type);
            (is_right && !pending.abandoned && pending.deadline.is_none()).then_some(pending.cost)
        });
        self.bytes -= u64::from(cost.unwrap_or(0));
        cost.is_some()
    }

    /// A classic reply has come. Says to which call, if somebody waits for it.
    pub(crate) fn finish_next(&mut self, msg_type: i32) -> Result<Option<u32>, ProtocolError> {
        let id = self.order.pop_front().ok_or(ProtocolError::UnaskedReply)?;
        Ok(self.finish(id, msg_type)?.then_some(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_find_their_calls() {
        let mut asked = Asked::default();
        let (a, b) = (asked.begin(1, 5), asked.begin(2, 7));
        assert!(a < b);
        assert_eq!((asked.len(), asked.bytes()), (2, 12));
        asked.abandon(a);
        assert_eq!(asked.finish(b, 2), Ok(true));
        assert_eq!(asked.finish(a, 1), Ok(false));
        assert_eq!(asked.finish(a, 1), Err(ProtocolError::UnknownReply(a)));
        assert_eq!((asked.len(), asked.bytes()), (0, 0));
        let c = asked.begin(9, 0);
        assert_eq!(asked.finish(c, 8), Err(ProtocolError::WrongReplyType { asked: 9, got: 8 }));
    }

    #[test]
    fn classic_replies_come_in_order() {
        let mut asked = Asked::default();
        let (a, b) = (asked.begin_in_order(1, 0), asked.begin_in_order(2, 0));
        asked.abandon(a);
        assert_eq!(asked.finish_next(1), Ok(None));
        assert_eq!(asked.finish_next(2), Ok(Some(b)));
        assert_eq!(asked.finish_next(2), Err(ProtocolError::UnaskedReply));
    }

    #[test]
    fn ids_wrap_without_meeting_zero_or_a_pending_one() {
        let mut asked = Asked { last_id: u32::MAX - 1, ..Asked::default() };
        assert_eq!(asked.begin(1, 0), u32::MAX);
        assert_eq!(asked.begin(1, 0), 1);
        asked.last_id = u32::MAX;
        assert_eq!(asked.begin(1, 0), 2);
    }
}
