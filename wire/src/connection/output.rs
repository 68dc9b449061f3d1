//! Bytes out.

use std::io::IoSlice;
use std::time::Instant;

use super::attached::NEVER_SENT;
use super::{Connection, OpenCalls};
use crate::error::ProtocolError;
use crate::frame::{self, Header, Kind};
use crate::memory::NoMemory;
use crate::outbox::Left;
use crate::payload::Payload;

impl Connection {
    /// What the socket should take next. Empty when there is nothing to do. Where a
    /// [payload is sent from where it lies](crate::ReplyWriter::give) there is more behind it:
    /// [`unsent_pieces`](Connection::unsent_pieces). What goes with its first byte says
    /// [`next_parcel`](Connection::next_parcel).
    #[inline]
    #[must_use]
    pub fn unsent(&mut self) -> &[u8] {
        self.settle();
        // Behind everything else, so that pings don't pile up pongs for who does not read them.
        if self.flow.outbox.is_empty() {
            self.push_pong();
        }
        let unsent = self.flow.outbox.unsent();
        match self.open_calls.as_deref() {
            Some(OpenCalls { parcels: Some(parcels), .. }) => &unsent[..unsent.len().min(parcels.until())],
            _ => unsent,
        }
    }

    /// The same in the pieces that it lies in, as many as there is room for. Says how many.
    pub fn unsent_pieces<'a>(&'a mut self, pieces: &mut [IoSlice<'a>]) -> usize {
        let first = self.unsent().len();
        if self.parcels().is_some_and(|parcels| parcels.until() < usize::MAX) {
            // Only the first, since something else goes with what is behind it.
            let Some(piece) = pieces.first_mut() else { return 0 };
            *piece = IoSlice::new(&self.flow.outbox.unsent()[..first]);
            return 1;
        }
        self.flow.outbox.gather(pieces)
    }

    /// From now on large payloads go as they do for a client: copied into what leaves as one piece, and kept by those
    /// they came for.
    pub(crate) fn serve_client(&mut self) {
        self.flow.outbox.memory_mut().blocks().serve_client();
    }

    /// Whoever is handed this payload keeps it where it lies, if it lies in a large frame of its own: so it does not become
    /// less while others are handed what they get, and [`take_frame`](Connection::take_frame) gives it afterwards.
    #[inline(never)]
    pub(crate) fn keep_frame(&mut self, payload: &[u8]) -> bool {
        self.flow.outbox.blocks().is_some_and(|blocks| blocks.keep_piece(payload))
    }

    pub(crate) fn take_frame(&mut self) -> Option<Payload> {
        self.flow.outbox.blocks()?.take_frame()
    }

    /// Bytes that wait to be sent.
    #[inline]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.flow.outbox.len()
    }

    /// Whether something waits to be sent.
    #[inline]
    pub fn has_unsent(&self) -> bool {
        self.pong_owed.is_some() || !self.flow.outbox.is_empty()
    }

    /// Somebody offers the socket what is unsent, while others may receive, until
    /// [`mark_sent`](Connection::mark_sent) says how much it took: the peer may have answered that by then.
    pub(crate) fn begin_write(&mut self) {
        if let Some(parcels) = self.parcels_mut() {
            parcels.begin_write();
        }
    }

    /// The socket took `count` bytes of [`unsent`](Connection::unsent), perhaps none.
    #[inline]
    pub fn mark_sent(&mut self, count: usize, now: Instant) {
        let left = self.flow.mark_sent(count, now);
        self.release(left);
        if let Some(calls) = &mut self.open_calls {
            if calls.parcels.as_mut().is_some_and(|parcels| !parcels.sent(count)) {
                return self.abandon(NEVER_SENT);
            }
            if calls.topics.keeps_some() {
                self.push_kept();
            }
        }
        self.watch_partial(now);
        self.check_accounts();
    }

    /// Gives a peer up that does not read its replies, or for whose replies there is no memory. Says how
    /// many bytes wait for it. What we asked ourselves is bounded by its hello, and not held against it.
    #[inline]
    pub(super) fn judge_outbox(&mut self) -> usize {
        let waiting = self.flow.outbox.len();
        if self.flow.outbox.is_starved() {
            self.abandon(ProtocolError::STARVED);
        } else if waiting > self.flow.settings.limits.outbox_hard.saturating_add(self.asked_bytes()) {
            self.abandon(ProtocolError::OutboxFull(waiting));
        }
        waiting
    }

    /// Bytes that our open calls may take in the outbox at most.
    #[inline]
    fn asked_bytes(&self) -> usize {
        let Some(calls) = &self.open_calls else { return 0 };
        calls.asked.len() * frame::HEADER_LEN + usize::try_from(calls.asked.bytes()).unwrap_or(usize::MAX / 2)
    }

    /// Nobody will take what is in the outbox.
    pub fn discard_output(&mut self) {
        self.pong_owed = None;
        if let Some(parcels) = self.parcels_mut() {
            parcels.discard();
        }
        let left = self.flow.discard();
        self.release(left);
    }

    /// These replies have left the outbox: their calls are over.
    #[inline]
    pub(super) fn release(&mut self, left: Left) {
        self.in_flight -= left.calls;
        self.in_flight_bytes -= left.bytes;
    }

    #[inline]
    pub(super) fn push_frame(
        &mut self,
        kind: Kind,
        flags: u8,
        msg_type: u16,
        id: u32,
        rc: i32,
        payload: &[u8],
    ) {
        debug_assert!(u32::try_from(payload.len()).is_ok(), "whoever asks has looked at the limit");
        let header = Header { length: payload.len() as u32, kind: kind as u8, flags, msg_type, id, rc };
        let memory = self.flow.outbox.memory_mut();
        if memory.reserve(frame::HEADER_LEN + payload.len()).is_err() {
            return self.abandon(ProtocolError::STARVED);
        }
        memory.push(&header, payload);
    }

    /// A frame of 16 bytes that answers each of the peer's of some kind: it is given up if it reads none of them.
    pub(super) fn push_word(&mut self, kind: u8, id: u32) -> Result<(), ProtocolError> {
        let (waiting, limits) = (self.flow.outbox.len(), &self.flow.settings.limits);
        if waiting > limits.outbox_hard.saturating_add(self.asked_bytes()) {
            return Err(ProtocolError::OutboxFull(waiting));
        }
        let memory = self.flow.outbox.memory_mut();
        memory.reserve(frame::HEADER_LEN).map_err(|NoMemory| ProtocolError::STARVED)?;
        memory.push(&Header { length: 0, kind, flags: 0, msg_type: 0, id, rc: 0 }, &[]);
        Ok(())
    }

    /// Asks the peer for a sign of life (v1): [`Event::Pong`](crate::Event::Pong). `id` goes up from ping to ping.
    pub fn push_ping(&mut self, id: u32) -> Result<(), NoMemory> {
        self.flow.outbox.reserve(frame::HEADER_LEN)?;
        self.push_frame(Kind::Ping, 0, 0, id, 0, &[]);
        Ok(())
    }

    pub(super) fn push_pong(&mut self) {
        if let Some(id) = self.pong_owed.take().map(u32::from_le_bytes) {
            self.push_frame(Kind::Pong, 0, 0, id, 0, &[]);
        }
    }
}
