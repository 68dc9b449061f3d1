//! Bytes in: which of them are whole units, and where the others wait.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Instant;

use super::time::Partial;
use super::{Connection, Phase, Role};
use crate::blocks::LARGE;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::layout::Layout;
use crate::memory::{self, NoMemory};
use crate::recipient::{Each, Recipient};
use crate::{classic, frame};

/// What one call of [`Connection::receive`] may do, and with what.
pub(super) struct Turn<'t, R> {
    pub(super) budget: &'t Cell<usize>,
    /// Bytes waiting to be sent at which the turn ends before its budget does.
    outbox_most: usize,
    pub(super) each: &'t mut R,
}

impl Connection {
    /// Takes bytes from the socket, and calls `each` for what they mean, in order, until they
    /// are used up, `budget` units were handled, or the connection is paused or over. What could
    /// not be handled yet is kept: see [`has_backlog`](Connection::has_backlog). `each` may end the
    /// turn before its time by setting `budget` to 0. Then [`received`](Connection::received).
    ///
    /// One whose outbox grows by the soft mark spends what is left of `budget`, so that the socket is offered
    /// the replies before the hard mark judges the peer by them.
    #[inline]
    pub fn receive(
        &mut self,
        fresh: &[u8],
        budget: &Cell<usize>,
        each: &mut impl FnMut(&mut Connection, Event<'_>),
    ) {
        self.receive_for(fresh, budget, &mut Each(each));
    }

    /// The same for somebody who gets requests in another way than the rest.
    #[inline]
    pub fn receive_for(&mut self, fresh: &[u8], budget: &Cell<usize>, each: &mut impl Recipient) {
        let before = budget.get();
        let outbox_most = self.flow.outbox.len().saturating_add(self.flow.settings.limits.outbox_soft);
        let mut turn = Turn { budget, outbox_most, each };
        if self.flow.stash.is_empty() {
            let mut rest = fresh;
            self.parse(&mut rest, &mut turn);
            self.keep(Vec::new(), rest);
        } else {
            let mut stash = std::mem::take(&mut self.flow.stash);
            let mut rest = self.receive_behind(&mut stash, fresh, &mut turn);
            if stash.is_empty() {
                self.parse(&mut rest, &mut turn);
            }
            self.keep(stash, rest);
        }
        if budget.get() != before {
            self.partial = None;
        }
    }

    /// When [`receive`](Connection::receive) was over: handlers may have taken their time in it.
    #[inline]
    pub fn received(&mut self, now: Instant) {
        // Who was not judged has not been found to be the right one.
        self.deny("nobody here grants that");
        self.flow.touch(now);
        self.watch_partial(now);
        self.check_accounts();
    }

    /// Handles the units that begin in `stash`, taking from `fresh` just what completes them.
    /// Returns what is left of `fresh`.
    fn receive_behind<'b, R: Recipient>(
        &mut self,
        stash: &mut Vec<u8>,
        mut fresh: &'b [u8],
        turn: &mut Turn<'_, R>,
    ) -> &'b [u8] {
        while !stash.is_empty() {
            let lends = stash.len() >= LARGE && self.lend_frame(stash);
            let mut view = &stash[..];
            self.parse(&mut view, turn);
            let left = view.len();
            let missing = self.decoder.measure(view).map_or(0, |length| length.saturating_sub(left));
            if lends && let Some(blocks) = self.flow.outbox.blocks() {
                blocks.end_lending(stash);
            }
            stash.drain(..stash.len().saturating_sub(left));
            let count = missing.min(fresh.len());
            if self.lost.is_none() && count > 0 && self.reserve(stash, count).is_err() {
                *stash = self.lose(stash);
            }
            if let Some(lost) = self.lost {
                fresh = self.skip(stash, lost, fresh, turn);
                if fresh.is_empty() {
                    break;
                }
                continue;
            }
            if count == 0 {
                break;
            }
            let (used, later) = fresh.split_at(count);
            stash.extend_from_slice(used);
            fresh = later;
        }
        if stash.is_empty() && stash.capacity() >= LARGE {
            self.keep_memory(std::mem::take(stash));
        }
        fresh
    }

    /// Where `stash` is one whole frame: its reply may have its memory.
    fn lend_frame(&mut self, stash: &[u8]) -> bool {
        let is_one = self.decoder.measure(stash) == Ok(stash.len());
        if is_one && let Some(blocks) = self.flow.outbox.blocks() {
            blocks.lend(stash);
            return true;
        }
        false
    }

    /// Has the next large frame find the memory of one that is over. A server's loop sees to it that it is given back in
    /// the end; a client has it as long as it is connected.
    fn keep_memory(&mut self, frame: Vec<u8>) {
        if let Some(blocks) = self.flow.outbox.blocks() {
            blocks.keep(frame);
        }
    }

    /// Moves the beginning of a large frame to memory that was kept, if there is any. That has its pages already, so it
    /// is no more than the process has anyway, whatever the header says.
    fn reuse_memory(&mut self, frame: &mut Vec<u8>, length: usize) {
        if length >= LARGE
            && length > frame.capacity()
            && let Some(blocks) = self.flow.outbox.blocks()
        {
            blocks.reuse(frame);
        }
    }

    /// Keeps what could not be handled yet.
    #[inline]
    fn keep(&mut self, stash: Vec<u8>, rest: &[u8]) {
        let is_used_up = stash.is_empty() && rest.is_empty();
        if !is_used_up && !self.is_finishing() {
            self.stash(stash, rest);
        }
    }

    fn stash(&mut self, mut stash: Vec<u8>, rest: &[u8]) {
        if stash.is_empty() {
            let length = self.decoder.measure(rest).unwrap_or(0);
            self.reuse_memory(&mut stash, length);
        }
        if self.reserve(&mut stash, rest.len()).is_ok() {
            stash.extend_from_slice(rest);
            self.put_back(stash);
        } else if stash.is_empty() && self.decoder.measure(rest).is_ok_and(|length| length > rest.len()) {
            self.flow.stash = self.lose(rest);
        } else {
            // Whole requests that wait for their turn.
            let first = stash.first_chunk().or(rest.first_chunk());
            self.end_for(ProtocolError::NoMemory("its requests"), first);
        }
    }

    /// There is no memory for the rest of the frame that begins so: from here on its payload is thrown
    /// away, and in the end its sender is told. Returns its header, to be kept.
    fn lose(&mut self, frame: &[u8]) -> Vec<u8> {
        self.decoder.settle_layout(frame);
        let head = match self.layout() {
            Some(Layout::V1) => frame::HEADER_LEN,
            Some(Layout::Classic) => classic::HEADER_LEN,
            None => usize::MAX,
        };
        match (frame.get(..head), self.decoder.measure(frame)) {
            (Some(head), Ok(length)) => {
                let missing = u32::try_from(length - frame.len()).unwrap_or(u32::MAX);
                self.lost = NonZeroU32::new(missing);
                head.to_vec()
            }
            _ => {
                let what = ProtocolError::NoMemory("the beginning of its frame");
                self.end_for(what, frame.first_chunk());
                Vec::new()
            }
        }
    }

    /// Throws away what belongs to the payload that is being lost. Returns what is behind it.
    fn skip<'b, R: Recipient>(
        &mut self,
        stash: &mut Vec<u8>,
        lost: NonZeroU32,
        fresh: &'b [u8],
        turn: &mut Turn<'_, R>,
    ) -> &'b [u8] {
        let Some((_, behind)) = fresh.split_at_checked(lost.get() as usize) else {
            // The subtrahend is less than what is lost.
            self.lost = NonZeroU32::new(lost.get() - fresh.len() as u32);
            return &[];
        };
        turn.budget.set(turn.budget.get().saturating_sub(1));
        self.lost = None;
        if let Some(event) = self.interpret_lost(&std::mem::take(stash)) {
            turn.each.event(self, event);
        }
        self.judge_turn(turn);
        behind
    }

    fn parse<R: Recipient>(&mut self, input: &mut &[u8], turn: &mut Turn<'_, R>) {
        loop {
            self.take_ordinary(input, turn);
            self.take_answers(input, turn);
            if input.is_empty() || turn.budget.get() == 0 || !self.may_parse() || !self.parse_one(input, turn)
            {
                return;
            }
        }
    }

    /// Handles the next unit, if it is whole. Says whether it was.
    #[inline(never)]
    fn parse_one<R: Recipient>(&mut self, input: &mut &[u8], turn: &mut Turn<'_, R>) -> bool {
        if let Phase::Refusing(rc) = self.phase {
            if let Some(first) = input.first_chunk() {
                self.answer_refusal(*first, rc);
            }
            return false;
        }
        match self.decoder.next(input) {
            Ok(Some(unit)) => {
                turn.budget.set(turn.budget.get() - 1);
                if let Some(event) = self.interpret(unit) {
                    turn.each.event(self, event);
                }
                self.judge_turn(turn);
            }
            Ok(None) => return false,
            // Whatever else there is, is no proof.
            Err(_) if self.phase == Phase::Proving => self.fail(ProtocolError::Unproven.into()),
            Err(fatal) => self.fail(fatal),
        }
        true
    }

    /// Looks at what the replies have come to, and ends a turn that has made enough of them.
    #[inline]
    pub(super) fn judge_turn<R>(&mut self, turn: &mut Turn<'_, R>) {
        if self.judge_outbox() >= turn.outbox_most {
            turn.budget.set(0);
        }
    }

    #[inline]
    pub(super) fn may_parse(&self) -> bool {
        !self.is_finishing() && !self.is_paused()
    }

    /// Whether reading rests: a classic peer has replies to read, or one to wait for, before more
    /// is taken from it.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.role == Role::Responder
            && self.layout() == Some(Layout::Classic)
            && (self.owed() > 0 || self.flow.is_backed_up())
    }

    /// Whether units that came earlier wait to be handled: call [`receive`](Connection::receive)
    /// with no bytes before reading more.
    #[inline]
    pub fn has_backlog(&self) -> bool {
        !self.flow.stash.is_empty()
            && self.may_parse()
            && self.decoder.measure(&self.flow.stash).map_or(true, |length| length <= self.flow.stash.len())
    }

    /// The beginning of a large frame that is still to come, and how many more bytes of it are
    /// worth reading now, straight behind it: `at_least` or more. To be given back with
    /// [`put_back`](Connection::put_back). Grows with what has really come, never by the header's
    /// word alone. Behind a large frame it may be empty: memory that was kept, to read into whatever comes.
    #[inline]
    pub fn take_large_partial(&mut self, at_least: usize) -> Option<(Vec<u8>, usize)> {
        match self.flow.stash.is_empty() {
            true if !self.expects_large => None,
            _ if self.phase == Phase::Proving => self.take_proof_so_far(),
            true => self.take_kept_memory(at_least),
            false => self.take_partial(at_least),
        }
    }

    #[inline(never)]
    fn take_partial(&mut self, at_least: usize) -> Option<(Vec<u8>, usize)> {
        if self.lost.is_some() || !self.may_parse() {
            return None;
        }
        let missing = self.decoder.measure(&self.flow.stash).ok()?.checked_sub(self.flow.stash.len())?;
        if missing < at_least {
            return None;
        }
        let mut partial = std::mem::take(&mut self.flow.stash);
        let length = partial.len() + missing;
        self.reuse_memory(&mut partial, length);
        let room = partial.capacity() - partial.len();
        let most = missing.min(partial.len().max(at_least).max(room));
        if self.reserve(&mut partial, most).is_err() {
            self.flow.stash = self.lose(&partial);
            return None;
        }
        Some((partial, most))
    }

    /// Where peers send one large frame after the other, the next one begins where it is to lie.
    #[inline(never)]
    fn take_kept_memory(&mut self, at_least: usize) -> Option<(Vec<u8>, usize)> {
        if !self.may_parse() {
            return None;
        }
        let memory = self.flow.outbox.blocks()?.take_kept(at_least)?;
        let most = memory.capacity();
        Some((memory, most))
    }

    /// Takes the frame back, or whatever has come. Then [`receive`](Connection::receive) with no bytes.
    #[inline]
    pub fn put_back(&mut self, partial: Vec<u8>) {
        if partial.is_empty() {
            return self.keep_memory(partial);
        }
        let length = self.decoder.measure(&partial).unwrap_or(0);
        self.expects_large = length >= LARGE || self.phase == Phase::Proving;
        let end = if self.expects_large { length } else { 0 };
        self.flow.stash = match memory::trimmed(&partial, end) {
            Some(trimmed) => {
                self.keep_memory(partial);
                trimmed
            }
            None => partial,
        };
    }

    /// Makes room for `count` more bytes, doubling up to the frame's end and no further.
    #[inline]
    fn reserve(&self, stash: &mut Vec<u8>, count: usize) -> Result<(), NoMemory> {
        if stash.capacity() - stash.len() >= count {
            return Ok(());
        }
        let end = self.decoder.measure(stash).unwrap_or(0).min(stash.len() * 2);
        memory::reserve_exact(stash, count.max(end.saturating_sub(stash.len())))
    }

    /// The clock of an incomplete frame runs from its first byte, and rests while reading does.
    #[inline]
    pub(super) fn watch_partial(&mut self, now: Instant) {
        // As behind most requests.
        if self.flow.stash.is_empty() && self.partial.is_none() && self.phase != Phase::Proving {
            return;
        }
        self.judge_partial(now);
    }

    fn judge_partial(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Refusing(_)) {
            return;
        }
        if self.phase == Phase::Proving {
            // With what is to come behind it, the hello is not whole yet.
            self.partial.get_or_insert_with(|| Box::new(Partial::since(now)));
        } else if self.flow.stash.is_empty() || !self.may_parse() || self.has_backlog() {
            self.partial = None;
        } else {
            self.partial.get_or_insert_with(|| Box::new(Partial::since(now)));
        }
    }
}
