//! Replies in parts, both ways, and the credit that they spend.

use super::Connection;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{self, Header, Kind, flags};
use crate::layout::Layout;
use crate::owed::{May, OwedId};
use crate::rc::ResultCode;

/// What has become of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "an owner has to know what to do with each")]
pub enum Parted {
    /// It waits to be sent.
    Queued,
    /// Nothing: the caller has to take earlier ones first. [`poll_owed`](Connection::poll_owed) tells when it is
    /// worth trying [again](crate::Owed::MayGoOn).
    Later,
    /// Nothing: it has more bytes than [fit](Connection::part_limit).
    TooLarge,
    /// Nothing: the call has ended, and [`poll_owed`](Connection::poll_owed) tells how, or did.
    Ended,
    /// Nothing: there was no memory for it, and the call was answered "busy" (-6).
    Lost,
}

/// The peer asks, and we answer.
impl Connection {
    /// Whether replies can have parts here.
    pub fn has_parts(&self) -> bool {
        self.layout() == Some(Layout::V1)
    }

    /// Most bytes of a part: what the peer takes, and the outbox beyond its soft mark.
    pub fn part_limit(&self) -> usize {
        self.flow.settings.limits.part_limit().min(self.allowance.max_payload as usize)
    }

    /// Sends a part of the answer to a [deferred](Connection::defer) call (v1 only). The last one is followed by
    /// the final reply ([`begin_owed_reply`](Connection::begin_owed_reply)), which never has to wait.
    ///
    /// A part is queued while the caller has given credit, and less than the soft mark waits to be sent: so a
    /// slow reader holds up this producer and nothing else.
    pub fn push_part(&mut self, id: OwedId, payload: &[u8]) -> Parted {
        debug_assert!(self.has_parts(), "whoever asks has looked at the layout");
        self.judge_outbox();
        if payload.len() > self.part_limit() {
            return Parted::TooLarge;
        }
        let (begun_with, has_room) = (self.allowance.stream_credit, !self.flow.is_backed_up());
        let Some(calls) = &mut self.open_calls else { return Parted::Ended };
        match calls.owed.may_send(id, begun_with, has_room) {
            May::Go => {}
            May::Wait => {
                if self.is_finishing() {
                    self.end_credit();
                }
                return if self.is_owed(id) { Parted::Later } else { Parted::Ended };
            }
            May::Never => return Parted::Ended,
        }
        if self.flow.outbox.reserve(frame::HEADER_LEN + payload.len()).is_err() {
            if let Some(reply) = self.begin_owed_reply(id) {
                reply.fail(ResultCode::BUSY, "there is no memory for a part of the reply");
            }
            return Parted::Lost;
        }
        let Some(calls) = &mut self.open_calls else { return Parted::Ended };
        // Not over the limit, and so not over what a header can say.
        calls.owed.spend(id, payload.len() as u32);
        let Some(msg_type) = calls.owed.msg_type(id) else { return Parted::Ended };
        // It came in a v1 frame, which has room for no more.
        self.push_frame(Kind::Reply, flags::MORE, msg_type as u16, id.on_the_wire(), 0, payload);
        Parted::Queued
    }

    /// Whether [`poll_owed`](Connection::poll_owed) would tell of one that may go on.
    #[inline]
    pub fn has_room_for_parts(&self) -> bool {
        self.has_waiting_parts() && !self.flow.is_backed_up()
    }

    /// Whether a reply's next part waits for room in the outbox.
    #[inline]
    pub fn has_waiting_parts(&self) -> bool {
        self.open_calls.as_ref().is_some_and(|calls| calls.owed.has_waiting())
    }

    /// The caller takes more parts.
    #[cold]
    pub(super) fn take_credit(&mut self, header: Header, payload: &[u8]) -> Result<(), ProtocolError> {
        if header.length != 4 {
            return Err(ProtocolError::BadCredit(header.length));
        }
        let Some(amount) = payload.first_chunk() else {
            return Err(ProtocolError::NoMemory("the credit that it gave"));
        };
        if let Some(calls) = &mut self.open_calls {
            let begun_with = self.allowance.stream_credit;
            calls.owed.credit(header.id, u32::from_le_bytes(*amount), begun_with);
        }
        Ok(())
    }

    /// No more credit can come: whoever has none left, and needs some, has no caller.
    #[cold]
    pub(super) fn end_credit(&mut self) {
        while let Some(id) = self.open_calls.as_ref().and_then(|calls| calls.owed.waits_for_credit()) {
            self.take_cancel(id);
        }
    }
}

/// We ask, and the peer answers.
impl Connection {
    /// Lets the peer send so many bytes of parts more for this call of ours, usually as many as parts that have
    /// been taken [cost](crate::part_cost). Nothing happens if it has its final reply.
    pub fn give_credit(&mut self, id: u32, amount: u32) {
        let begun_with = self.flow.settings.limits.stream_credit;
        let Some(calls) = &mut self.open_calls else { return };
        if amount > 0 && calls.asked.give_credit(id, amount, begun_with) && !self.is_finishing() {
            self.push_frame(Kind::Credit, 0, 0, id, 0, &amount.to_le_bytes());
        }
    }

    /// A part has come. Says whether somebody waits for it.
    pub(super) fn count_part(&mut self, header: Header) -> Result<bool, ProtocolError> {
        let Some(calls) = &mut self.open_calls else { return Err(ProtocolError::UnknownReply(header.id)) };
        let begun_with = self.flow.settings.limits.stream_credit;
        calls.asked.take_part(header.id, i32::from(header.msg_type), header.length, begun_with)
    }

    /// There was no memory for a part's payload: what follows it is worth nothing.
    pub(super) fn lose_part(&mut self, header: Header) -> Result<Option<Event<'static>>, ProtocolError> {
        if !self.count_part(header)? {
            return Ok(None);
        }
        self.push_cancel(header.id);
        self.abandon_call(header.id);
        Ok(Some(Event::LostReply { id: header.id }))
    }
}
