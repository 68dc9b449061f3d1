//! Replies in parts: what came of each, and was not taken yet.

use std::collections::VecDeque;
use std::time::Instant;

use super::seats::{Answered, Seats, State};
use super::{Caller, Wake};
use crate::connection::Connection;
use crate::credit::part_cost;
use crate::memory::{self, NoMemory};

/// Parts of one reply.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Those that came and were not taken, in this order. The credit that we give bounds them.
    queue: VecDeque<Vec<u8>>,
    /// What those that were taken cost, as far as it was not given back.
    taken: u32,
}

impl Parts {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), NoMemory> {
        memory::reserve_entries(&mut self.queue, 1)?;
        self.queue.push_back(memory::copy(payload)?);
        Ok(())
    }
}

impl<W: Wake> Seats<W> {
    /// A part of a call's reply has come. Who did not [ask for parts](Caller::stream) gets none: his credit is given back
    /// at once.
    pub(super) fn take_part(&mut self, connection: &mut Connection, id: u32, payload: &[u8]) -> Answered {
        let Some(call) = self.call_mut(id) else { return Answered::Nobody };
        let Some(parts) = &mut call.parts else {
            connection.give_credit(id, cost(payload));
            return Answered::Nobody;
        };
        if parts.push(payload).is_err() {
            connection.push_cancel(id);
            connection.abandon_call(id);
            return self.answer(id, || State::Lost);
        }
        let State::Open(Some(waiter)) = &call.state else { return Answered::News };
        waiter.waker.wake();
        Answered::Waiter
    }
}

impl<W: Wake> Caller<W> {
    /// Starts a call whose reply may come in parts. [`poll`](Caller::poll) gives the next one, as often as its
    /// seat is [attended](Caller::attend), and then the final reply. The server gets credit back as they are taken.
    pub fn stream(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        deadline: Option<Instant>,
    ) -> Result<u32, NoMemory> {
        let id = self.start(msg_type, payload, timeout_ms, deadline)?;
        if let Some(call) = self.seats.call_mut(id) {
            call.parts = Some(Box::default());
        }
        Ok(id)
    }

    pub(super) fn next_part(&mut self, id: u32) -> Option<Vec<u8>> {
        let parts = self.seats.call_mut(id)?.parts.as_mut()?;
        let part = parts.queue.pop_front()?;
        parts.taken = parts.taken.saturating_add(cost(&part));
        // Not each by itself: a frame for many.
        if parts.taken > self.settings.limits.stream_credit / 2 {
            self.connection.give_credit(id, std::mem::take(&mut parts.taken));
        }
        Some(part)
    }
}

fn cost(part: &[u8]) -> u32 {
    // It came in a frame, whose header says its length.
    part_cost(part.len() as u32)
}
