//! The short way of ordinary requests: whole in what was read, and nothing about them that there is a rule for.
//!
//! A request that takes it is handled just as the [long way](Connection::receive) would handle it; whatever is not
//! plain, what has to be refused above all, is left to that. So this knows no errors, and no rule that is not the
//! long way's own.

use super::input::Turn;
use super::{Connection, Phase, Role};
use crate::decoder::Unit;
use crate::recipient::Recipient;
use crate::reply::Ticket;

impl Connection {
    /// Hands over the requests at the front of `input`, as long as they are ordinary and the turn goes on.
    #[inline(always)]
    pub(super) fn take_ordinary<R: Recipient>(&mut self, input: &mut &[u8], turn: &mut Turn<'_, R>) {
        while !input.is_empty() && turn.budget.get() > 0 && self.takes_ordinary() {
            let Some((unit, rest)) = self.decoder.next_ordinary(input) else { return };
            let (ticket, payload) = match unit {
                Unit::V1(header, payload) if self.keeps_call_rules(&header) => {
                    self.count_call(&header);
                    (Ticket::v1(&header, header.length), payload)
                }
                Unit::Classic(header, payload) if self.role == Role::Responder && !self.is_paused() => {
                    self.in_flight += 1;
                    (Ticket::classic(header.msg_type), payload)
                }
                _ => return,
            };
            *input = rest;
            turn.budget.set(turn.budget.get() - 1);
            turn.each.request(self, ticket, payload);
            self.judge_turn(turn);
        }
    }

    /// Whether requests are served now as they come.
    #[inline]
    fn takes_ordinary(&self) -> bool {
        self.phase == Phase::Open && is_in_use()
    }
}

#[cfg(not(test))]
pub(super) fn is_in_use() -> bool {
    true
}

#[cfg(test)]
pub(crate) use tests::{is_in_use, without};

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    thread_local! {
        #[allow(clippy::missing_const_for_thread_local, reason = "it is const; Clippy errs where the system's keys are used")]
        static IN_USE: Cell<bool> = const { Cell::new(true) };
    }

    pub(crate) fn is_in_use() -> bool {
        IN_USE.get()
    }

    /// Runs `what` where everything goes the long way.
    pub(crate) fn without<T>(what: impl FnOnce() -> T) -> T {
        IN_USE.set(false);
        let result = what();
        IN_USE.set(true);
        result
    }
}
