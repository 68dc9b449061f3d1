//! What the peer asks, and how it is answered.

use super::{Connection, Phase, Role};
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{Extension, Header, flags, split_extension};
use crate::layout::{Classic, Layout};
use crate::limits::ConnectionLimits;
use crate::rc::ResultCode;
use crate::reply::{ReplyWriter, Ticket};
use crate::task::Task;
use crate::{call_rules, classic};

impl Connection {
    /// Starts the answer to a request of the peer.
    #[inline(always)]
    pub fn begin_reply(&mut self, ticket: Ticket) -> ReplyWriter<'_> {
        let (limit, pad_to) = match (ticket.layout, self.flow.settings.classic) {
            (Layout::V1, _) => (self.allowance.max_payload, None),
            (Layout::Classic, Classic::Short(limit)) => (limit, None),
            (Layout::Classic, Classic::Fixed(size)) => (size, Some(size)),
            (Layout::Classic, Classic::Refused) => (0, None),
        };
        ReplyWriter::begin(&mut self.flow.outbox, ticket, limit, pad_to)
    }

    /// A request. What can't be served is told so, and costs nothing else.
    #[inline]
    pub(super) fn take_request<'b>(
        &mut self,
        header: Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        if !self.accept_call(&header)? {
            return Ok(None);
        }
        match call_rules::check(&header, payload) {
            Ok(payload) => Ok(Some(Event::Request { ticket: Ticket::v1(&header, header.length), payload })),
            Err(failure) => {
                let ticket = Ticket::v1(&header, header.length);
                self.begin_reply(ticket).fail(failure.result_code(), failure.text());
                Ok(None)
            }
        }
    }

    /// Classic peers have no ids, and no limits in flight: until one request is answered, no other is taken.
    #[inline]
    pub(super) fn take_classic_request<'b>(
        &mut self,
        header: classic::Header,
        payload: &'b [u8],
    ) -> Event<'b> {
        if self.phase == Phase::Opening {
            self.phase = Phase::Open;
        }
        self.in_flight += 1;
        Event::Request { ticket: Ticket::classic(header.msg_type), payload }
    }

    /// Counts a call of the peer, which is to be answered. False: it is not, since it comes behind our goodbye.
    #[inline]
    pub(super) fn accept_call(&mut self, header: &Header) -> Result<bool, ProtocolError> {
        if !self.takes_calls()? {
            return Ok(false);
        }
        if !self.keeps_call_rules(header) {
            return Err(self.broken_call_rule(header));
        }
        self.count_call(header);
        Ok(true)
    }

    /// Whether a call's id is behind the last one, and not in use; and whether one more may be in flight.
    #[inline]
    pub(super) fn keeps_call_rules(&self, header: &Header) -> bool {
        let ConnectionLimits { max_in_flight, max_in_flight_bytes, .. } = self.flow.settings.limits;
        call_rules::id_follows(header.id, self.last_id)
            && !self.owes(header.id)
            && self.in_flight < max_in_flight
            && header.length <= max_in_flight_bytes - self.in_flight_bytes
    }

    /// Ids may wrap, but not into a call that is still open.
    #[inline]
    fn owes(&self, id: u32) -> bool {
        self.open_calls.as_ref().is_some_and(|calls| calls.owed.holds(id))
    }

    /// The first rule that such a call breaks.
    #[cold]
    fn broken_call_rule(&self, header: &Header) -> ProtocolError {
        let ConnectionLimits { max_in_flight, max_in_flight_bytes, .. } = self.flow.settings.limits;
        if !call_rules::id_follows(header.id, self.last_id) || self.owes(header.id) {
            ProtocolError::BadId { id: header.id, last: self.last_id }
        } else if self.in_flight >= max_in_flight {
            ProtocolError::TooManyInFlight { what: "calls", limit: max_in_flight }
        } else {
            ProtocolError::TooManyInFlight { what: "bytes", limit: max_in_flight_bytes }
        }
    }

    /// Such a call is in flight from here on.
    #[inline]
    pub(super) fn count_call(&mut self, header: &Header) {
        self.in_flight += 1;
        self.in_flight_bytes += header.length;
        self.last_id = header.id;
    }

    /// A notify that could not be executed as it is meant has nobody to be told.
    pub(super) fn take_notify<'b>(
        &self,
        header: Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        if self.is_takeover(&header) {
            return Ok(Some(Event::TakesOver));
        }
        if !self.takes_calls()? || header.flags & !flags::EXT != 0 {
            return Ok(None);
        }
        Ok(match split_extension(header.flags, payload) {
            Extension::Fine(payload) => Some(Event::Notify { msg_type: header.msg_type, payload }),
            Extension::NotUnderstood(_) | Extension::Malformed => None,
        })
    }

    /// The one notify that there is on a connection for more than calls.
    fn is_takeover(&self, header: &Header) -> bool {
        self.phase == Phase::Administering(Task::Handover)
            && self.role == Role::Responder
            && (header.msg_type, header.flags, header.length) == (0, 0, 0)
    }

    pub(super) fn answer_lost(&mut self, ticket: Ticket) -> Option<Event<'static>> {
        self.begin_reply(ticket).fail(ResultCode::BUSY, "there is no memory for so large a request now");
        None
    }

    /// Answers the beginning of a classic request that will not be taken.
    pub(super) fn answer_classic(&mut self, msg_type: i32, rc: ResultCode) {
        self.in_flight += 1;
        self.begin_reply(Ticket::classic(msg_type)).finish(rc);
        if self.flow.outbox.is_starved() {
            self.abandon(ProtocolError::STARVED);
        }
    }
}
