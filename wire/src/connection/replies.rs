//! What we ask, and what answers us.

use std::time::Instant;

use super::{Connection, Phase, Role};
use crate::classic;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{self, Extension, Header, Kind, flags, split_extension};
use crate::layout::{Classic, Layout};
use crate::memory::NoMemory;
use crate::outbox::Borrowed;
use crate::rc::ResultCode;

impl Connection {
    /// Most payload bytes of a request of ours.
    #[inline]
    pub fn request_limit(&self) -> u32 {
        match (self.layout(), self.flow.settings.classic) {
            (Some(Layout::V1), _) => self.allowance.max_payload.min(self.allowance.max_in_flight_bytes),
            (_, Classic::Short(limit) | Classic::Fixed(limit)) => limit,
            (_, Classic::Refused) => 0,
        }
    }

    /// Whether this side can ask anything now: the hellos were exchanged, nobody has said goodbye, and in
    /// the classic layout it is the initiator.
    pub fn may_ask(&self) -> bool {
        match self.layout() {
            Some(Layout::V1) => self.phase == Phase::Open,
            Some(Layout::Classic) => self.phase == Phase::Open && self.role == Role::Initiator,
            None => false,
        }
    }

    /// Whether the peer's allowance leaves room for a call with so much payload.
    #[inline]
    pub fn may_call(&self, payload_len: u32) -> bool {
        let (calls, bytes) =
            self.open_calls.as_ref().map_or((0, 0), |calls| (calls.asked.len(), calls.asked.bytes()));
        self.layout() == Some(Layout::Classic)
            || (calls < self.allowance.max_in_flight as usize
                && bytes + u64::from(payload_len) <= u64::from(self.allowance.max_in_flight_bytes))
    }

    /// Our calls that the peer has not answered, those included that nobody waits for any more.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.open_calls.as_ref().map_or(0, |calls| calls.asked.len())
    }

    /// Puts a request into the outbox and returns its id. The caller has looked at
    /// [`may_ask`](Connection::may_ask), [`request_limit`](Connection::request_limit) and
    /// [`may_call`](Connection::may_call).
    #[inline]
    pub fn push_request(&mut self, msg_type: u16, payload: &[u8], timeout_ms: i32) -> Result<u32, NoMemory> {
        if self.decoder.layout() == Some(Layout::Classic) {
            return self.push_classic_request(msg_type, payload);
        }
        let memory = self.flow.outbox.memory_mut();
        memory.reserve(frame::HEADER_LEN + payload.len())?;
        let asked = match &mut self.open_calls {
            Some(calls) => &mut calls.asked,
            none => &mut none.insert(Box::default()).asked,
        };
        let (length, kind) = (payload.len() as u32, Kind::Request as u8);
        let id = asked.begin(i32::from(msg_type), length);
        memory.push(&Header { length, kind, flags: 0, msg_type, id, rc: timeout_ms }, payload);
        Ok(id)
    }

    /// The same (v1 only) of a request whose payload is not copied: whoever asks sends it himself, as
    /// [`borrowed`](Connection::borrowed) says, and nobody else sends anything until then.
    pub(crate) fn push_request_borrowed(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
    ) -> Result<u32, NoMemory> {
        let memory = self.flow.outbox.memory_mut();
        memory.reserve_borrowed()?;
        let asked = &mut self.open_calls.get_or_insert_default().asked;
        let (length, kind) = (payload.len() as u32, Kind::Request as u8);
        let id = asked.begin(i32::from(msg_type), length);
        memory.push_borrowed(&Header { length, kind, flags: 0, msg_type, id, rc: timeout_ms });
        Ok(id)
    }

    /// What whoever has lent a payload sends next, until all of it has left.
    pub(crate) fn borrowed(&self) -> Option<Borrowed<'_>> {
        self.flow.outbox.borrowed()
    }

    /// Whoever has lent `payload` can't wait: what has not left of it is copied. Where there is no memory for that the
    /// connection can't go on.
    pub(crate) fn end_borrowing(&mut self, payload: &[u8]) {
        if self.flow.outbox.end_borrowing(payload).is_err() {
            self.abandon(ProtocolError::STARVED);
        }
    }

    #[cold]
    fn push_classic_request(&mut self, msg_type: u16, payload: &[u8]) -> Result<u32, NoMemory> {
        let padded = match self.flow.settings.classic {
            Classic::Fixed(size) => payload.len().max(size as usize),
            Classic::Short(_) | Classic::Refused => payload.len(),
        };
        self.flow.outbox.reserve(classic::HEADER_LEN + padded)?;
        let asked = &mut self.open_calls.get_or_insert_default().asked;
        let cost = payload.len() as u32;
        let id = asked.begin_in_order(i32::from(msg_type), cost);
        let header = classic::Header { msg_type: i32::from(msg_type), rc: 0, length: cost as i32 };
        let bytes = self.flow.outbox.bytes();
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len() + padded - payload.len(), 0);
        Ok(id)
    }

    /// Puts a notify (v1 only) into the outbox. The caller has looked at
    /// [`may_ask`](Connection::may_ask) and [`request_limit`](Connection::request_limit).
    pub fn push_notify(&mut self, msg_type: u16, payload: &[u8]) -> Result<(), NoMemory> {
        self.flow.outbox.reserve(frame::HEADER_LEN + payload.len())?;
        self.push_frame(Kind::Notify, 0, msg_type, 0, 0, payload);
        Ok(())
    }

    /// The caller no longer waits for the reply to this call of ours.
    pub fn abandon_call(&mut self, id: u32) {
        if let Some(calls) = &mut self.open_calls {
            calls.asked.abandon(id);
            self.part();
        }
    }

    /// Puts a word into the outbox (v1 only) that nobody needs the answer to this call of ours any more. Where
    /// there is no memory for it, the call just takes its time.
    pub fn push_cancel(&mut self, id: u32) {
        if self.flow.outbox.reserve(frame::HEADER_LEN).is_ok() {
            self.push_frame(Kind::Cancel, 0, 0, id, 0, &[]);
        }
    }

    /// Whether the peer is still to answer this call of ours.
    #[must_use]
    pub fn is_asked(&self, id: u32) -> bool {
        self.open_calls.as_ref().is_some_and(|calls| calls.asked.has(id))
    }

    /// Nobody waits for the reply to this call of ours any longer than until `at`; see
    /// [`poll_asked`](Connection::poll_asked).
    pub fn limit_call(&mut self, id: u32, at: Instant) {
        if let Some(calls) = &mut self.open_calls {
            calls.asked.limit(id, at);
        }
    }

    /// Gives up a call whose time is over by `now`, tells the peer so, and says which it was. Ask until there is
    /// none, whenever [`next_deadline`](Connection::next_deadline) has passed.
    #[must_use]
    pub fn poll_asked(&mut self, now: Instant) -> Option<u32> {
        let id = self.open_calls.as_ref()?.asked.late(now)?;
        if !self.is_finishing() {
            self.push_cancel(id);
        }
        self.abandon_call(id);
        Some(id)
    }

    pub(super) fn take_reply<'b>(
        &mut self,
        header: Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let Extension::Fine(payload) = split_extension(header.flags, payload) else {
            return Err(ProtocolError::BadExtension);
        };
        if header.flags & flags::MORE != 0 {
            let is_waited_for = self.count_part(header)?;
            return Ok(is_waited_for.then_some(Event::Part { id: header.id, payload }));
        }
        let Some(calls) = &mut self.open_calls else { return Err(ProtocolError::UnknownReply(header.id)) };
        let waited_for = calls.asked.finish(header.id, i32::from(header.msg_type))?;
        calls.topics.answered(header.id, ResultCode::new(header.rc));
        self.part();
        let is_text = header.flags & flags::TEXT != 0;
        let reply = Event::Reply { id: header.id, rc: ResultCode::new(header.rc), is_text, payload };
        Ok(waited_for.then_some(reply))
    }

    pub(super) fn take_classic_reply<'b>(
        &mut self,
        header: classic::Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let id = self.open_calls.get_or_insert_default().asked.finish_next(header.msg_type)?;
        Ok(id.map(|id| Event::Reply { id, rc: ResultCode::new(header.rc), is_text: false, payload }))
    }
}
