//! What the server asks of this side: kept in order until one of those who read takes it.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Caller, Wake};
use crate::connection::Connection;
use crate::limits::ConnectionLimits;
use crate::memory::{self, NoMemory};
use crate::owed::OwedId;
use crate::rc::ResultCode;
use crate::reply::{ReplyWriter, Ticket};

/// A request or a notify of the server.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incoming {
    /// To answer it by; `None`: it wants no answer.
    pub owed: Option<OwedId>,
    /// Picks the handler.
    pub msg_type: u16,
    /// For the handler.
    pub payload: Vec<u8>,
}

/// Those that nobody has taken yet. Requests are bounded by what our hello allows, notifies by the same numbers.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Incoming>,
    notifies: usize,
    notify_bytes: usize,
    dropped: u64,
}

impl Queue {
    pub(super) fn request(
        &mut self,
        connection: &mut Connection,
        ticket: Ticket,
        payload: &[u8],
        now: Instant,
    ) {
        let (msg_type, room) = (ticket.msg_type as u16, memory::reserve_entries(&mut self.waiting, 1));
        let (Ok(payload), Ok(())) = (memory::copy(payload), room) else {
            let reply = connection.begin_reply(ticket);
            reply.fail(ResultCode::BUSY, "there is no memory to keep the request");
            return;
        };
        if let Some(owed) = connection.defer(ticket, now) {
            self.waiting.push_back(Incoming { owed: Some(owed), msg_type, payload });
        }
    }

    pub(super) fn notify(&mut self, limits: &ConnectionLimits, msg_type: u16, payload: &[u8]) {
        let bytes = self.notify_bytes.saturating_add(payload.len());
        let has_room =
            self.notifies < limits.max_in_flight as usize && bytes <= limits.max_in_flight_bytes as usize;
        let reserved = memory::reserve_entries(&mut self.waiting, 1);
        match memory::copy(payload) {
            Ok(payload) if has_room && reserved.is_ok() => {
                self.notifies += 1;
                self.notify_bytes = bytes;
                self.waiting.push_back(Incoming { owed: None, msg_type, payload });
            }
            Ok(_) | Err(NoMemory) => self.dropped += 1,
        }
    }

    fn take(&mut self) -> Option<Incoming> {
        let incoming = self.waiting.pop_front()?;
        if incoming.owed.is_none() {
            self.notifies -= 1;
            self.notify_bytes -= incoming.payload.len();
        }
        Some(incoming)
    }
}

/// Serving.
impl<W: Wake> Caller<W> {
    /// Keeps what the server asks until somebody [takes](Caller::take_incoming) it. Without this it is told that
    /// nothing is served here.
    pub fn serve(&mut self) {
        self.incoming.get_or_insert_default();
    }

    /// The next request or notify of the server, for whoever is about to read. Requests whose caller does not
    /// want an answer any more are left out.
    pub fn take_incoming(&mut self) -> Option<Incoming> {
        let Caller { connection, incoming, .. } = self;
        let queue = incoming.as_mut()?;
        loop {
            let incoming = queue.take()?;
            if incoming.owed.is_none_or(|owed| connection.is_owed(owed)) {
                return Some(incoming);
            }
        }
    }

    /// Whether there is such a one, perhaps.
    pub fn has_incoming(&self) -> bool {
        self.incoming.as_ref().is_some_and(|queue| !queue.waiting.is_empty())
    }

    /// Whether the server still waits for the answer to this request.
    pub fn is_owed(&self, id: OwedId) -> bool {
        !self.is_over() && self.connection.is_owed(id)
    }

    /// Starts the answer to a request of the server; from any thread, once. `None`: nobody waits for it any
    /// more.
    pub fn begin_reply(&mut self, id: OwedId) -> Option<ReplyWriter<'_>> {
        if self.is_over() {
            return None;
        }
        self.connection.begin_owed_reply(id)
    }

    #[cfg(test)]
    pub(crate) fn kept_incoming(&self) -> usize {
        self.incoming.as_ref().map_or(0, |queue| queue.waiting.len())
    }

    /// How many notifies were dropped since this was last asked, because nobody took those before.
    pub fn take_dropped(&mut self) -> u64 {
        self.incoming.as_mut().map_or(0, |queue| std::mem::take(&mut queue.dropped))
    }

    /// Ends requests of the server that were cancelled, or whose time is over.
    pub(super) fn judge_owed(&mut self, now: Instant) {
        let Caller { connection, incoming: Some(queue), .. } = self else { return };
        if connection.poll_owed(now).is_none() {
            return; // As behind most reads.
        }
        while connection.poll_owed(now).is_some() {}
        // They make room for others, and so must not stay until somebody takes them.
        queue.waiting.retain(|incoming| incoming.owed.is_none_or(|owed| connection.is_owed(owed)));
    }
}
