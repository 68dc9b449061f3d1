//! Bytes out: replies, requests, and how a connection ends.

use std::time::Instant;

use super::{Connection, Phase, Role};
use crate::decoder::Fatal;
use crate::error::ProtocolError;
use crate::frame::{self, Header, Kind, flags};
use crate::hello::{Allowance, Answer, Hello};
use crate::layout::{Classic, Layout};
use crate::memory::NoMemory;
use crate::outbox::Buffer;
use crate::rc::ResultCode;
use crate::reply::{ReplyWriter, Ticket};
use crate::{classic, hello};

impl Connection {
    /// Starts the answer to a request of the peer.
    pub fn begin_reply(&mut self, ticket: Ticket) -> ReplyWriter<'_> {
        let (limit, pad_to) = match (ticket.layout, self.settings.classic) {
            (Layout::V1, _) => (self.allowance.max_payload, None),
            (Layout::Classic, Classic::Short(limit)) => (limit, None),
            (Layout::Classic, Classic::Fixed(size)) => (size, Some(size)),
            (Layout::Classic, Classic::Refused) => (0, None),
        };
        ReplyWriter::begin(&mut self.outbox, ticket, limit, pad_to)
    }

    /// Most payload bytes of a request of ours.
    pub fn request_limit(&self) -> u32 {
        match (self.layout(), self.settings.classic) {
            (Some(Layout::V1), _) => self.allowance.max_payload.min(self.allowance.max_in_flight_bytes),
            (_, Classic::Short(limit) | Classic::Fixed(limit)) => limit,
            (_, Classic::Refused) => 0,
        }
    }

    /// Whether the peer's allowance leaves room for a call with so much payload.
    pub fn may_call(&self, payload_len: u32) -> bool {
        let (calls, bytes) = self.calls.as_ref().map_or((0, 0), |calls| (calls.len(), calls.bytes()));
        self.layout() == Some(Layout::Classic)
            || (calls < self.allowance.max_in_flight as usize
                && bytes + u64::from(payload_len) <= u64::from(self.allowance.max_in_flight_bytes))
    }

    /// Puts a request into the outbox and returns its id. The caller has looked at
    /// [`request_limit`](Connection::request_limit) and [`may_call`](Connection::may_call).
    pub fn push_request(&mut self, msg_type: u16, payload: &[u8], timeout_ms: i32) -> Result<u32, NoMemory> {
        let padded = match (self.decoder.layout(), self.settings.classic) {
            (Some(Layout::Classic), Classic::Fixed(size)) => payload.len().max(size as usize),
            _ => payload.len(),
        };
        self.outbox.reserve(frame::HEADER_LEN + padded)?;
        let calls = self.calls.get_or_insert_default();
        let cost = payload.len() as u32;
        if self.decoder.layout() != Some(Layout::Classic) {
            let id = calls.begin(i32::from(msg_type), cost);
            self.push_frame(Kind::Request, 0, msg_type, id, timeout_ms, payload);
            return Ok(id);
        }
        let id = calls.begin_in_order(i32::from(msg_type), cost);
        let header = classic::Header { msg_type: i32::from(msg_type), rc: 0, length: cost as i32 };
        let bytes = self.outbox.bytes();
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len() + padded - payload.len(), 0);
        Ok(id)
    }

    /// Nobody will take what is in the outbox.
    pub fn discard_output(&mut self) {
        self.pong_owed = None;
        self.stalled_since = None;
        self.release(self.outbox.len());
    }

    /// Puts a notify (v1 only) into the outbox.
    pub fn push_notify(&mut self, msg_type: u16, payload: &[u8]) -> Result<(), NoMemory> {
        self.outbox.reserve(frame::HEADER_LEN + payload.len())?;
        self.push_frame(Kind::Notify, 0, msg_type, 0, 0, payload);
        Ok(())
    }

    /// The caller no longer waits for the reply to this call of ours.
    pub fn abandon_call(&mut self, id: u32) {
        if let Some(calls) = &mut self.calls {
            calls.abandon(id);
        }
    }

    /// No more requests are taken; v1 peers are told so. Nothing to do where no goodbye exists:
    /// then the connection is just finished.
    pub fn goodbye(&mut self, rc: ResultCode) {
        match self.phase {
            Phase::Open if self.layout() == Some(Layout::V1) => {
                self.push_frame(Kind::Goodbye, 0, 0, self.last_id, rc.code(), &[]);
                if self.phase == Phase::Open {
                    self.phase = Phase::Leaving;
                }
            }
            Phase::Open => self.conclude(false),
            Phase::Refusing(_) | Phase::Opening => self.finish(),
            Phase::Leaving | Phase::Concluding { .. } | Phase::Finishing | Phase::Abandoned => {}
        }
    }

    /// Takes nothing more, and ends once everything accepted is answered.
    pub(super) fn conclude(&mut self, goodbye: bool) {
        self.decoder.expect_nothing();
        self.partial = None;
        self.phase = Phase::Concluding { goodbye };
        self.settle();
    }

    /// Finishes if the peer's last call has its answer and that was all that was missing.
    #[inline]
    fn settle(&mut self) {
        let Phase::Concluding { goodbye } = self.phase else { return };
        if self.owed() > 0 {
            return;
        }
        self.push_pong();
        if goodbye {
            self.push_frame(Kind::Goodbye, 0, 0, self.last_id, ResultCode::OK.code(), &[]);
        }
        self.finish();
    }

    fn push_pong(&mut self) {
        if let Some(id) = self.pong_owed.take() {
            self.push_frame(Kind::Pong, 0, 0, id, 0, &[]);
        }
    }

    /// What the socket should take next. Empty when there is nothing to do.
    #[inline]
    #[must_use]
    pub fn unsent(&mut self) -> &[u8] {
        self.settle();
        // Behind everything else, so that pings don't pile up pongs for who does not read them.
        if self.outbox.is_empty() {
            self.push_pong();
        }
        self.outbox.unsent()
    }

    /// Whether so much waits to be sent that no more should be added.
    pub fn is_backed_up(&self) -> bool {
        self.outbox.len() >= self.settings.limits.outbox_soft.max(1)
    }

    /// Bytes that wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Whether something waits to be sent.
    #[inline]
    pub fn has_unsent(&self) -> bool {
        self.pong_owed.is_some() || !self.outbox.is_empty()
    }

    /// The socket took `count` bytes of [`unsent`](Connection::unsent), perhaps none.
    #[inline]
    pub fn mark_sent(&mut self, count: usize, now: Instant) {
        self.release(count);
        if self.outbox.is_empty() {
            self.stalled_since = None;
        } else if count > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(Box::new(now));
        }
        if count > 0 {
            self.last_active = now;
        }
        self.watch_partial(now);
    }

    /// So many bytes have left the outbox; the calls whose replies they were are over.
    #[inline]
    fn release(&mut self, count: usize) {
        let (calls, bytes) = self.outbox.mark_sent(count);
        self.in_flight -= calls;
        self.in_flight_bytes -= bytes;
    }

    /// Whether the socket would take no more when it was last asked.
    #[inline]
    pub fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Lends the outbox memory out of `spare`.
    #[inline]
    pub fn lend(&mut self, spare: &mut Vec<Buffer>) {
        self.outbox.lend(spare);
    }

    /// Takes the outbox's memory back, if it has nothing to send.
    #[inline]
    pub fn reclaim(&mut self) -> Option<Buffer> {
        self.outbox.reclaim()
    }

    /// Bytes of memory that this connection holds for frames, in and out.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.stash.capacity() + self.outbox.capacity()
    }

    /// Ends the connection for a reason that is the peer's fault or a limit's; it is told.
    pub(super) fn fail(&mut self, fatal: Fatal) {
        let Fatal { error, answer_to } = fatal;
        if error.is_hopeless() {
            return self.abandon(error);
        }
        if self.is_over() {
            return;
        }
        match (answer_to, self.layout(), self.phase) {
            (Some(msg_type), ..) if self.role == Role::Responder => {
                self.answer_classic(msg_type, error.rc());
            }
            (_, Some(Layout::V1), Phase::Open | Phase::Leaving | Phase::Concluding { .. }) => {
                let text = error.to_string();
                let text = &text[..text.floor_char_boundary(self.allowance.max_payload as usize)];
                let flags = if text.is_empty() { 0 } else { flags::TEXT };
                self.push_frame(Kind::Goodbye, flags, 0, self.last_id, error.rc().code(), text.as_bytes());
            }
            (_, None, Phase::Opening) if self.role == Role::Responder && speaks_hello(&error) => {
                self.push_answer(error.rc(), 0, error.to_string());
            }
            _ => {}
        }
        self.finish();
        if !self.is_hopeless() {
            self.failure = Some(Box::new(error));
        }
    }

    /// Ends the connection without a word, since the peer does not read.
    fn abandon(&mut self, error: ProtocolError) {
        self.finish();
        self.discard_output();
        self.phase = Phase::Abandoned;
        self.failure.get_or_insert(Box::new(error));
    }

    /// Answers the beginning of a classic request that will not be taken.
    fn answer_classic(&mut self, msg_type: i32, rc: ResultCode) {
        self.in_flight += 1;
        let ticket = Ticket { id: 0, msg_type, cost: 0, layout: Layout::Classic };
        self.begin_reply(ticket).finish(rc);
        if self.outbox.is_starved() {
            self.abandon(ProtocolError::STARVED);
        }
    }

    /// Tells a refused peer so, in the layout that its first four bytes announce.
    pub(super) fn answer_refusal(&mut self, first: [u8; 4], rc: ResultCode) {
        if first == hello::MAGIC {
            self.push_answer(rc, 0, String::new());
        } else {
            self.decoder.learn(Layout::Classic);
            self.answer_classic(classic::msg_type(&first), rc);
        }
        self.finish();
    }

    pub(super) fn our_allowance(&self) -> Allowance {
        let limits = &self.settings.limits;
        Allowance {
            max_payload: limits.max_payload,
            max_in_flight: limits.max_in_flight,
            max_in_flight_bytes: limits.max_in_flight_bytes,
        }
    }

    pub(super) fn push_answer(&mut self, status: ResultCode, version: u8, text: String) {
        let answer = Answer { status, version, instance: self.settings.instance, text };
        if self.outbox.reserve(hello::MAX_LEN).is_err() {
            return self.abandon(ProtocolError::STARVED);
        }
        // The nonce only matters where a token is asked for, which this version never does.
        let ours = Hello::ours(self.our_allowance(), [0; 16]);
        ours.encode(Some(&answer), self.outbox.bytes());
    }

    pub(super) fn push_frame(
        &mut self,
        kind: Kind,
        flags: u8,
        msg_type: u16,
        id: u32,
        rc: i32,
        payload: &[u8],
    ) {
        let header = Header { length: payload.len() as u32, kind: kind as u8, flags, msg_type, id, rc };
        if self.outbox.reserve(frame::HEADER_LEN + payload.len()).is_err() {
            return self.abandon(ProtocolError::STARVED);
        }
        let bytes = self.outbox.bytes();
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(payload);
    }
}

/// Whether a responder that has seen no whole hello yet answers this with one: it does unless
/// nobody there would understand it.
fn speaks_hello(error: &ProtocolError) -> bool {
    !matches!(error, ProtocolError::OtherProtocol(_) | ProtocolError::TimedOut(_) | ProtocolError::CutOff)
}
