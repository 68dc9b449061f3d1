//! Bytes in: which of them are whole units, and where the others wait.

use std::time::Instant;

use super::{Connection, Event, Phase, Role};
use crate::wire::Layout;
use crate::wire::error::ProtocolError;

impl Connection {
    /// Takes bytes from the socket, and calls `each` for what they mean, in order, until they
    /// are used up, `budget` units were handled, or the connection is paused or over. What could
    /// not be handled yet is kept: see [`has_backlog`](Connection::has_backlog).
    pub(crate) fn receive(
        &mut self,
        fresh: &[u8],
        now: Instant,
        budget: &mut usize,
        each: &mut impl FnMut(&mut Connection, Event<'_>),
    ) {
        if !fresh.is_empty() {
            self.last_heard = now;
        }
        let before = *budget;
        let mut stash = std::mem::take(&mut self.stash);
        let mut rest = self.receive_behind(&mut stash, fresh, budget, each);
        if stash.is_empty() {
            self.parse(&mut rest, budget, each);
        }
        if self.is_finishing() {
            stash = Vec::new();
        } else if !rest.is_empty() {
            self.reserve(&mut stash, rest.len());
            stash.extend_from_slice(rest);
        }
        if stash.is_empty() || *budget == 0 || self.is_paused() {
            self.partial_since = None;
        } else if self.partial_since.is_none() || *budget != before {
            self.partial_since = Some(now);
        }
        if !stash.is_empty() {
            self.stash = stash;
        }
    }

    /// Handles the units that begin in `stash`, taking from `fresh` just what completes them.
    /// Returns what is left of `fresh`.
    fn receive_behind<'b>(
        &mut self,
        stash: &mut Vec<u8>,
        mut fresh: &'b [u8],
        budget: &mut usize,
        each: &mut impl FnMut(&mut Connection, Event<'_>),
    ) -> &'b [u8] {
        while !stash.is_empty() {
            let mut view = &stash[..];
            self.parse(&mut view, budget, each);
            let left = view.len();
            let missing = match self.decoder.measure(view) {
                Ok(length) if self.may_parse() && *budget > 0 => length.saturating_sub(left),
                _ => 0,
            };
            stash.drain(..stash.len() - left);
            let count = missing.min(fresh.len());
            if count == 0 {
                break;
            }
            self.reserve(stash, count);
            let (used, later) = fresh.split_at(count);
            stash.extend_from_slice(used);
            fresh = later;
        }
        fresh
    }

    fn parse(
        &mut self,
        input: &mut &[u8],
        budget: &mut usize,
        each: &mut impl FnMut(&mut Connection, Event<'_>),
    ) {
        while *budget > 0 && !input.is_empty() && self.may_parse() {
            if let Phase::Refusing { rc, .. } = self.phase {
                let Some(first) = input.first_chunk() else { return };
                return self.answer_refusal(*first, rc);
            }
            match self.decoder.next(input) {
                Ok(Some(unit)) => {
                    *budget -= 1;
                    if let Some(event) = self.interpret(unit) {
                        each(self, event);
                    }
                    let waiting = self.outbox.len();
                    if waiting > self.settings.limits.outbox_hard {
                        self.fail(ProtocolError::OutboxFull(waiting).into());
                    }
                }
                Ok(None) => return,
                Err(fatal) => self.fail(fatal),
            }
        }
    }

    pub(super) fn may_parse(&self) -> bool {
        self.phase != Phase::Finishing && !self.is_paused()
    }

    /// Whether reading rests until the peer has read: classic peers only, see PROTOCOL.md.
    pub(crate) fn is_paused(&self) -> bool {
        self.role == Role::Responder
            && self.layout() == Some(Layout::Classic)
            && self.outbox.len() >= self.settings.limits.outbox_soft
    }

    /// Whether units that came earlier wait to be handled: call [`receive`](Connection::receive)
    /// with no bytes before reading more.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.stash.is_empty()
            && self.may_parse()
            && self.decoder.measure(&self.stash).map_or(true, |length| length <= self.stash.len())
    }

    /// The beginning of a large frame that is still to come, and how many more bytes of it are
    /// worth reading now, straight behind it: `at_least` or more. To be given back with
    /// [`put_back`](Connection::put_back). Grows with what has really come, never by the header's
    /// word alone.
    pub(crate) fn take_large_partial(&mut self, at_least: usize) -> Option<(Vec<u8>, usize)> {
        if self.stash.is_empty() || !self.may_parse() {
            return None;
        }
        let missing = self.decoder.measure(&self.stash).ok()?.checked_sub(self.stash.len())?;
        let most = missing.min(self.stash.len().max(at_least));
        (missing >= at_least).then(|| (std::mem::take(&mut self.stash), most))
    }

    /// Takes the frame back, longer or not. Then [`receive`](Connection::receive) with no bytes.
    pub(crate) fn put_back(&mut self, partial: Vec<u8>) {
        self.stash = partial;
    }

    /// Makes room for `count` more bytes, doubling up to the frame's end and no further.
    fn reserve(&self, stash: &mut Vec<u8>, count: usize) {
        let end = self.decoder.measure(stash).unwrap_or(0).min(stash.len() * 2);
        stash.reserve_exact(count.max(end.saturating_sub(stash.len())));
    }

    /// The peer sends no more. What is ready still goes out; a partial frame is dropped.
    pub(crate) fn end_of_input(&mut self) {
        if self.phase == Phase::Finishing {
            return;
        }
        if !std::mem::take(&mut self.stash).is_empty() {
            self.failure.get_or_insert(Box::new(ProtocolError::CutOff));
        }
        self.finish();
    }

    pub(super) fn finish(&mut self) {
        self.phase = Phase::Finishing;
        self.decoder.expect_nothing();
        self.partial_since = None;
    }
}
