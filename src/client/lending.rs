//! Large payloads, which are sent from where they lie while their caller waits.

use std::io::{self, IoSlice};
use std::time::Instant;

use super::leader::{Guard, SharedConnection, WRITER_CHECK, is_past, remaining};
use sidewire_wire::Borrowed;
use sidewire_wire::caller::Seat;
use sidewire_wire::frame::HEADER_LEN;

impl SharedConnection {
    /// Sends a request that has just been begun and whose payload is not in the outbox. Others leave what they have to say
    /// behind it meanwhile. Returns when all of it has left, or nothing more can, or the time is up: then the rest is copied.
    #[inline(never)]
    pub(super) fn send_borrowed<'a>(
        &'a self,
        mut state: Guard<'a>,
        seat: Seat,
        payload: &[u8],
        deadline: Option<Instant>,
    ) -> Guard<'a> {
        let mut head = [0; HEADER_LEN];
        loop {
            let Some(Borrowed { before, rest, .. }) = state.caller.borrowed() else { return state };
            let count = before.len().min(HEADER_LEN);
            head[..count].copy_from_slice(&before[..count]);
            // Only a header stands before it; the payload does not go before all of that has.
            let rest = if count == before.len() { payload.get(rest) } else { None };
            let pieces = [IoSlice::new(&head[..count]), IoSlice::new(rest.unwrap_or_default())];
            let asked = Instant::now();
            state.caller.begin_write(Some(seat), asked);
            drop(state);
            let patience = remaining(deadline).map_or(WRITER_CHECK, |left| left.min(WRITER_CHECK));
            let result = self.channel().send_pieces(&pieces, Some(patience));
            state = self.lock();
            state.now = Instant::now();
            let now = state.now;
            match result {
                Ok(count) => {
                    state.caller.sent(count, now);
                    // A reader that saw a failure meanwhile could not close in the middle of our bytes.
                    self.close_if_failed(&mut state);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    state.caller.sent_nothing(asked, now);
                    if is_past(deadline) {
                        state.caller.end_borrowing(payload, now);
                        self.close_if_failed(&mut state);
                        state.caller.give_up_sending();
                        return state;
                    }
                    state = self.look_meanwhile(state, seat);
                }
                Err(error) => self.broken_pipe(&mut state, &error),
            }
        }
    }

    /// Takes what is there, since the server may be stuck writing. Nobody sends anything meanwhile.
    fn look_meanwhile<'a>(&'a self, mut state: Guard<'a>, seat: Seat) -> Guard<'a> {
        if state.caller.borrowed().is_some() {
            let now = state.now;
            state.caller.begin_write(Some(seat), now);
            state = self.read_what_is_there(state, Some(seat));
            let now = state.now;
            state.caller.sent(0, now);
        }
        self.close_if_failed(&mut state);
        state
    }
}
