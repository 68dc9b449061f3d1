//! A stream without frames: raw bytes or lines of text, with the same outbox, limits and time
//! limits as a framed [`Connection`](super::Connection).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::connection::Input;
use crate::error::{IDLE, ProtocolError};
use crate::flow::Flow;
use crate::memory::{self, NoMemory};
use crate::settings::Settings;

/// How the bytes of a stream without frames are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// As they come.
    Raw,
    /// In lines that end with `\n` (or `\r\n`), with at most so many bytes.
    Lines {
        /// Bytes of the longest line that is taken, without its end.
        max: usize,
    },
}

/// A stream without frames: raw bytes or lines of text. It is driven as a
/// [`Connection`](crate::Connection) is, with the same outbox, limits and time limits; but there is nothing to
/// answer, and each direction ends for itself.
#[derive(Debug)]
pub struct Plain {
    flow: Flow,
    cut: Cut,
    /// So many bytes at the stash's beginning are known to hold no end of a line: they are not looked at
    /// again with every byte that comes.
    searched: usize,
    input: Incoming,
    output: Outgoing,
}

/// What is taken from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incoming {
    /// Everything; but nothing has come or left yet.
    Untouched,
    Taken,
    Ended,
}

/// What is written to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    Open,
    /// What is in the outbox still goes out.
    Ended,
}

impl Plain {
    /// An open stream of which nothing has come yet.
    pub fn new(settings: Arc<Settings>, cut: Cut, now: Instant) -> Plain {
        Plain {
            flow: Flow::new(settings, now),
            cut,
            searched: 0,
            input: Incoming::Untouched,
            output: Outgoing::Open,
        }
    }

    /// What it has in common with streams of frames.
    #[inline]
    #[must_use]
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// The same, to lend it memory and take it back.
    #[inline]
    pub fn flow_mut(&mut self) -> &mut Flow {
        &mut self.flow
    }

    /// Takes bytes from the socket and calls `each` for every piece, until they are used up,
    /// `budget` pieces were handled, or the stream is paused or over; the rest is kept. `each` may
    /// end the turn before its time by setting `budget` to 0. Then [`received`](Plain::received).
    pub fn receive(&mut self, fresh: &[u8], budget: &Cell<usize>, each: &mut impl FnMut(&mut Plain, &[u8])) {
        let mut stash = std::mem::take(&mut self.flow.stash);
        let joined = match stash.is_empty() {
            true => fresh,
            false => {
                if memory::append(&mut stash, fresh).is_err() {
                    return self.fail(ProtocolError::NoMemory("what it sends"));
                }
                &stash
            }
        };
        let used = self.hand_out(joined, budget, each);
        if self.input == Incoming::Ended || used == joined.len() {
            return;
        }
        if stash.is_empty() {
            match memory::copy(&fresh[used..]) {
                Ok(rest) => self.flow.stash = rest,
                Err(NoMemory) => self.fail(ProtocolError::NoMemory("what it sends")),
            }
        } else {
            stash.drain(..used);
            self.flow.stash = memory::trimmed(&stash, 0).unwrap_or(stash);
        }
    }

    /// When [`receive`](Plain::receive) was over: handlers may have taken their time in it.
    pub fn received(&mut self, now: Instant) {
        self.touched();
        self.flow.touch(now);
    }

    fn touched(&mut self) {
        if self.input == Incoming::Untouched {
            self.input = Incoming::Taken;
        }
    }

    /// Returns how many of the bytes were used.
    fn hand_out(
        &mut self,
        bytes: &[u8],
        budget: &Cell<usize>,
        each: &mut impl FnMut(&mut Plain, &[u8]),
    ) -> usize {
        let mut used = 0;
        while budget.get() > 0 && used < bytes.len() && self.input != Incoming::Ended && !self.is_paused() {
            let Some(piece) = self.next_piece(&bytes[used..]) else { break };
            budget.set(budget.get() - 1);
            used += piece.len();
            each(self, self.trimmed(piece));
        }
        used
    }

    /// What is handed out next, with its end: everything, or a line if there is a whole one.
    fn next_piece<'b>(&mut self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let Cut::Lines { max } = self.cut else { return Some(bytes) };
        let from = std::mem::take(&mut self.searched);
        let end = bytes[from..].iter().position(|byte| *byte == b'\n').map(|end| from + end + 1);
        // What has no end yet may still turn out to end in \r\n.
        self.check_length(&bytes[..end.unwrap_or(bytes.len())], max)?;
        if end.is_none() {
            self.searched = bytes.len();
        }
        end.map(|end| &bytes[..end])
    }

    /// `None`, and the end of the stream, for a line that is longer than it may be.
    fn check_length(&mut self, line: &[u8], max: usize) -> Option<()> {
        let length = self.trimmed(line).len();
        if length > max {
            self.fail(ProtocolError::TooLarge { length: saturated(length), limit: saturated(max) });
            return None;
        }
        Some(())
    }

    /// A line without its end.
    fn trimmed<'b>(&self, piece: &'b [u8]) -> &'b [u8] {
        match self.cut {
            Cut::Raw => piece,
            Cut::Lines { .. } => {
                let line = piece.strip_suffix(b"\n").unwrap_or(piece);
                line.strip_suffix(b"\r").unwrap_or(line)
            }
        }
    }

    /// The peer sends no more; call this when there is no [backlog](Plain::has_backlog). Hands out an
    /// unfinished last line, measured like all others.
    pub fn end_of_input(&mut self, each: &mut impl FnMut(&mut Plain, &[u8])) {
        let rest = std::mem::take(&mut self.flow.stash);
        self.searched = 0;
        let is_fine = match self.cut {
            Cut::Raw => true,
            Cut::Lines { max } => self.check_length(&rest, max).is_some(),
        };
        if is_fine && self.input != Incoming::Ended && !rest.is_empty() {
            each(self, self.trimmed(&rest));
        }
        self.input = Incoming::Ended;
    }

    /// Appends to what is sent. After [`finish`](Plain::finish) it is thrown away.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.output == Outgoing::Ended {
            return;
        }
        if self.flow.outbox.append(bytes).is_err() {
            return self.fail(ProtocolError::STARVED);
        }
        let waiting = self.flow.outbox.len();
        if waiting > self.flow.settings.limits.outbox_hard {
            self.fail(ProtocolError::OutboxFull(waiting));
        }
    }

    /// Nothing more will be written; the peer is told when everything is out.
    pub fn finish(&mut self) {
        self.output = Outgoing::Ended;
    }

    /// Nothing more is taken, and nothing written behind what already is.
    pub fn close(&mut self) {
        self.input = Incoming::Ended;
        self.output = Outgoing::Ended;
        self.flow.stash = Vec::new();
        self.searched = 0;
    }

    /// Ends both directions for a reason. The first one counts, but a later one can take the hope that
    /// what is ready still goes out.
    pub fn fail(&mut self, error: ProtocolError) {
        self.flow.fail(error);
        self.close();
    }

    /// Whether nothing more is taken.
    pub fn is_finishing(&self) -> bool {
        self.input == Incoming::Ended
    }

    /// Whether everything that will ever be written has left.
    pub fn output_is_done(&self) -> bool {
        self.output == Outgoing::Ended && self.flow.outbox.is_empty()
    }

    /// Whether reading rests until the peer has read.
    pub fn is_paused(&self) -> bool {
        self.flow.is_backed_up()
    }

    /// Whether pieces that came earlier wait to be handed out, or a line to be refused for its length.
    pub fn has_backlog(&self) -> bool {
        let stash = &self.flow.stash;
        !stash.is_empty()
            && self.input != Incoming::Ended
            && !self.is_paused()
            && match self.cut {
                Cut::Raw => true,
                Cut::Lines { max } => {
                    stash[self.searched..].contains(&b'\n') || self.trimmed(stash).len() > max
                }
            }
    }

    /// What the socket should take next.
    pub fn unsent(&self) -> &[u8] {
        self.flow.outbox.unsent()
    }

    /// Whether something waits to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.flow.outbox.is_empty()
    }

    /// The socket took so many bytes of [`unsent`](Plain::unsent), perhaps none.
    pub fn mark_sent(&mut self, count: usize, now: Instant) {
        self.flow.mark_sent(count, now);
        if count > 0 {
            self.touched();
        }
    }

    /// When [`handle_timeout`](Plain::handle_timeout) is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.silence().into_iter().chain(self.flow.stall_deadline()).min()
    }

    /// When nobody has said anything for too long. Once it has failed, only the peer's taking of what is
    /// ready is waited for.
    fn silence(&self) -> Option<Instant> {
        if self.flow.failure().is_some() {
            return None;
        }
        let Settings { limits, first_byte, .. } = &*self.flow.settings;
        let first = first_byte.filter(|_| self.input == Incoming::Untouched);
        self.flow.silent_for(limits.idle_timeout.into_iter().chain(first).min())
    }

    /// Ends the stream if a time limit has passed, and says so. `now` and `input` are as for
    /// [`Connection::handle_timeout`](super::Connection::handle_timeout).
    pub fn handle_timeout(&mut self, now: Instant, input: Input) -> bool {
        let is_stalled = self.flow.stall_deadline().is_some_and(|at| at <= now);
        let is_due = self.next_deadline().is_some_and(|at| at <= now);
        if !is_stalled && (!is_due || input == Input::Waiting) {
            return false;
        }
        self.fail(if is_stalled { ProtocolError::STALLED } else { ProtocolError::TimedOut(IDLE) });
        // From here on the peer has time to close.
        self.flow.touch(now);
        true
    }
}

fn saturated(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Classic, ConnectionLimits};

    /// Who sends a long line byte by byte would have the server look at all of it with every byte.
    #[test]
    fn what_holds_no_end_of_a_line_is_looked_at_once() {
        let settings = Arc::new(Settings::new(ConnectionLimits::default(), Classic::default()));
        let mut plain = Plain::new(settings, Cut::Lines { max: 100 }, Instant::now());
        let mut receive = |bytes: &[u8]| {
            plain.receive(bytes, &Cell::new(9), &mut |_, _| ());
            plain.searched
        };
        assert_eq!([&b"ab"[..], b"c", b"d\ne", b"\n"].map(&mut receive), [2, 3, 1, 0]);
    }
}
