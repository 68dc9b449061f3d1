//! The short way of ordinary answers: whole in what was read, and nothing about them that there is a rule for.
//!
//! As with [requests](super::ordinary) it has no rules of its own, and knows no errors: what is not plain is left where
//! it is, and the long way looks at it anew.

use super::input::Turn;
use super::ordinary::is_in_use;
use super::{Connection, Phase};
use crate::frame::flags;
use crate::rc::ResultCode;
use crate::recipient::Recipient;

impl Connection {
    /// Hands over the answers at the front of `input`, as long as they are ordinary and the turn goes on.
    #[inline]
    pub(super) fn take_answers<R: Recipient>(&mut self, input: &mut &[u8], turn: &mut Turn<'_, R>) {
        while !input.is_empty() && turn.budget.get() > 0 && self.phase == Phase::Open && is_in_use() {
            let Some(calls) = &mut self.open_calls else { return };
            let Some((header, payload, rest)) = self.decoder.next_answer(input) else { return };
            if !calls.topics.are_answered() || !calls.asked.finish_plain(header.id, header.msg_type) {
                return;
            }
            *input = rest;
            turn.budget.set(turn.budget.get() - 1);
            let is_text = header.flags & flags::TEXT != 0;
            turn.each.reply(self, header.id, ResultCode::new(header.rc), is_text, payload);
            self.judge_turn(turn);
        }
    }
}
