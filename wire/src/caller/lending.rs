//! Requests whose payload is not copied: whoever waits for the reply sends it himself.

use std::time::Instant;

use super::{Caller, Wake};
use crate::connection::Input;
use crate::layout::Layout;
use crate::memory::NoMemory;
use crate::outbox::Borrowed;

use super::waiter::Waiter;

impl<W: Wake> Caller<W> {
    /// Whether a request may be [begun](Caller::begin_borrowed) so: nobody else sends, and nothing is to be sent before it.
    pub fn may_borrow(&self) -> bool {
        self.layout() == Some(Layout::V1) && !self.is_somebody_writing() && !self.connection.has_unsent()
    }

    /// The same as [`begin`](Caller::begin) of a request whose payload stays where it is, where it
    /// [may](Caller::may_borrow). Whoever asks is the one to send it at once, with nobody in between: between
    /// [`begin_write`](Caller::begin_write) and `sent` or `sent_nothing` he sends what [`borrowed`](Caller::borrowed) says,
    /// until that says nothing. If he can't go on, he [copies](Caller::end_borrowing) the rest.
    pub fn begin_borrowed(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        deadline: Option<Instant>,
        waker: W,
    ) -> Result<u32, NoMemory> {
        let id = self.connection.push_request_borrowed(msg_type, payload, timeout_ms)?;
        self.add_call(id, deadline, Some(Waiter::new(waker, deadline)));
        Ok(id)
    }

    /// What is to be sent next of the request whose payload is borrowed. `None`: all of it has left, or nothing more can.
    pub fn borrowed(&self) -> Option<Borrowed<'_>> {
        if self.is_over() { None } else { self.connection.borrowed() }
    }

    /// Whoever has lent this payload goes: what has not left of it is copied, and others send it. Where there is no memory
    /// for that the connection fails.
    pub fn end_borrowing(&mut self, payload: &[u8], now: Instant) {
        self.connection.end_borrowing(payload);
        self.judge(now, Input::Waiting);
    }
}
