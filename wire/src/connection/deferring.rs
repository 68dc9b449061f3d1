//! Answers that come later.

use std::time::Instant;

use super::Connection;
use crate::error::ProtocolError;
use crate::owed::{Owed, OwedId};
use crate::rc::ResultCode;
use crate::reply::{ReplyWriter, Ticket};

impl Connection {
    /// Leaves the answer to a request for later. `received`: when the request was there in full, usually the
    /// time at which its event is handled; from then on its caller's time runs, if he has set himself one.
    ///
    /// The call ends in exactly one way: [`begin_owed_reply`](Connection::begin_owed_reply) answers it, or
    /// [`poll_owed`](Connection::poll_owed) tells that it was cancelled, has timed out or was dropped with
    /// its connection. Until then it counts as in flight, and behind a classic one no other is taken.
    ///
    /// `None`: it is over already. There is no memory to keep it, and it was answered "busy" (-6); or its
    /// peer has used its id twice while its ticket was kept elsewhere, and the connection is at its end.
    #[must_use]
    pub fn defer(&mut self, ticket: Ticket, received: Instant) -> Option<OwedId> {
        if self.open_calls.as_ref().is_some_and(|calls| calls.owed.holds(ticket.id)) {
            self.fail(ProtocolError::BadId { id: ticket.id, last: self.last_id }.into());
            return None;
        }
        match self.open_calls.get_or_insert_default().owed.add(ticket, received) {
            Ok(id) => {
                if self.is_over() {
                    self.drop_owed();
                }
                Some(id)
            }
            Err(ticket) => {
                self.begin_reply(ticket).fail(ResultCode::BUSY, "there is no memory to keep the request");
                None
            }
        }
    }

    /// Whether [`poll_owed`](Connection::poll_owed) is worth asking. Most connections have no deferred calls.
    #[inline]
    #[must_use]
    pub fn has_deferred(&self) -> bool {
        self.open_calls.as_ref().is_some_and(|calls| !calls.owed.is_idle())
    }

    /// Whether this deferred call has not ended.
    #[must_use]
    pub fn is_owed(&self, id: OwedId) -> bool {
        self.open_calls.as_ref().is_some_and(|calls| calls.owed.has(id))
    }

    /// Starts the answer to a deferred call. `None`: it has ended before, and whoever
    /// [asks](Connection::poll_owed) is told how, or was.
    #[must_use]
    pub fn begin_owed_reply(&mut self, id: OwedId) -> Option<ReplyWriter<'_>> {
        self.judge_outbox();
        let ticket = self.open_calls.as_mut()?.owed.take(id)?;
        Some(self.begin_reply(ticket))
    }

    /// Tells of a deferred call that has ended without its owner, each once; and of one whose next
    /// [part](Connection::push_part) had to wait and may go now, so that it is to be tried at once. Answers those
    /// whose time is over by `now`. Ask until there is none, whenever the table at [`Connection`] says so.
    #[inline]
    #[must_use]
    pub fn poll_owed(&mut self, now: Instant) -> Option<Owed> {
        if !self.has_deferred() {
            return None; // As on most connections.
        }
        self.poll_register(now)
    }

    fn poll_register(&mut self, now: Instant) -> Option<Owed> {
        self.judge_outbox();
        if let Some(ticket) = self.open_calls.as_mut()?.owed.expire(now) {
            self.begin_reply(ticket).fail(ResultCode::TIMED_OUT, "its time is over");
        }
        self.check_accounts();
        let has_room = !self.flow.is_backed_up();
        let owed = &mut self.open_calls.as_mut()?.owed;
        if let Some(ended) = owed.next_ended() {
            return Some(ended);
        }
        if has_room { owed.next_to_go_on().map(Owed::MayGoOn) } else { None }
    }

    /// The peer does not want the answer to this call any more. If it has it already, or will at once,
    /// this means nothing.
    #[cold]
    pub(super) fn take_cancel(&mut self, id: u32) {
        if let Some(ticket) = self.open_calls.as_mut().and_then(|calls| calls.owed.cancel(id)) {
            self.begin_reply(ticket).fail(ResultCode::CANCELLED, "its caller has cancelled it");
        }
    }

    /// Nobody waits for answers any more.
    #[cold]
    pub(super) fn drop_owed(&mut self) {
        if let Some(calls) = &mut self.open_calls {
            let left = calls.owed.drop_all();
            self.release(left);
        }
    }
}
