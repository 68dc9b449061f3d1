//! A stream without frames: raw bytes or lines of text, with the same outbox, limits and time
//! limits as a framed [`Connection`](super::Connection).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use super::connection::Input;
use super::error::ProtocolError;
use super::outbox::{Buffer, Outbox};
use super::settings::Settings;

use crate::memory::{self, NoMemory};

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

/// One such stream.
#[derive(Debug)]
pub struct Plain {
    settings: Arc<Settings>,
    cut: Cut,
    /// What came and could not be handed out yet.
    stash: Vec<u8>,
    /// So many bytes at its beginning are known to hold no end of a line: they are not looked at
    /// again with every byte that comes.
    searched: usize,
    outbox: Outbox,
    input: Half,
    output: Half,
    failure: Option<Box<ProtocolError>>,
    stalled_since: Option<Instant>,
    last_active: Instant,
    /// Whether nothing has come or left yet.
    is_untouched: bool,
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Open,
    /// Nothing more is taken (input), or written (output; what is in the outbox still goes out).
    Ended,
}

impl Plain {
    /// An open stream of which nothing has come yet.
    pub fn new(settings: Arc<Settings>, cut: Cut, now: Instant) -> Plain {
        Plain {
            settings,
            cut,
            stash: Vec::new(),
            searched: 0,
            outbox: Outbox::default(),
            input: Half::Open,
            output: Half::Open,
            failure: None,
            stalled_since: None,
            last_active: now,
            is_untouched: true,
        }
    }

    /// Takes bytes from the socket and calls `each` for every piece, until they are used up,
    /// `budget` pieces were handled, or the stream is paused or over; the rest is kept. `each` may
    /// end the turn before its time by setting `budget` to 0. Then [`received`](Plain::received).
    pub fn receive(&mut self, fresh: &[u8], budget: &Cell<usize>, each: &mut impl FnMut(&mut Plain, &[u8])) {
        let mut stash = std::mem::take(&mut self.stash);
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
        if self.input == Half::Ended || used == joined.len() {
            return;
        }
        if stash.is_empty() {
            match memory::copy(&fresh[used..]) {
                Ok(rest) => self.stash = rest,
                Err(NoMemory) => self.fail(ProtocolError::NoMemory("what it sends")),
            }
        } else {
            stash.drain(..used);
            self.stash = memory::trimmed(stash);
        }
    }

    /// When [`receive`](Plain::receive) was over: handlers may have taken their time in it.
    pub fn received(&mut self, now: Instant) {
        self.is_untouched = false;
        self.last_active = now;
    }

    /// Returns how many of the bytes were used.
    fn hand_out(
        &mut self,
        bytes: &[u8],
        budget: &Cell<usize>,
        each: &mut impl FnMut(&mut Plain, &[u8]),
    ) -> usize {
        let mut used = 0;
        while budget.get() > 0 && used < bytes.len() && self.input == Half::Open && !self.is_paused() {
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
    /// unfinished last line, which may be in one turn with so many others that nobody has looked at its
    /// length yet.
    pub fn end_of_input(&mut self, each: &mut impl FnMut(&mut Plain, &[u8])) {
        let rest = std::mem::take(&mut self.stash);
        self.searched = 0;
        let is_fine = match self.cut {
            Cut::Raw => true,
            Cut::Lines { max } => self.check_length(&rest, max).is_some(),
        };
        if is_fine && self.input == Half::Open && !rest.is_empty() {
            each(self, self.trimmed(&rest));
        }
        self.input = Half::Ended;
    }

    /// Appends to what is sent. After [`finish`](Plain::finish) it is thrown away.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.output == Half::Ended {
            return;
        }
        if self.outbox.append(bytes).is_err() {
            return self.fail(ProtocolError::STARVED);
        }
        let waiting = self.outbox.len();
        if waiting > self.settings.limits.outbox_hard {
            self.fail(ProtocolError::OutboxFull(waiting));
        }
    }

    /// Nothing more will be written; the peer is told when everything is out.
    pub fn finish(&mut self) {
        self.output = Half::Ended;
    }

    /// Nothing more is taken, and nothing written behind what already is.
    pub fn close(&mut self) {
        self.input = Half::Ended;
        self.output = Half::Ended;
        self.stash = Vec::new();
        self.searched = 0;
    }

    /// Ends both directions for a reason. The first one counts, unless a later one leaves no hope
    /// that what is ready still goes out.
    pub fn fail(&mut self, error: ProtocolError) {
        if self.failure.is_none() || (error.is_hopeless() && !self.is_hopeless()) {
            self.failure = Some(Box::new(error));
        }
        self.close();
    }

    /// How long a peer that was told everything may take to close.
    pub fn linger_deadline(&self) -> Option<Instant> {
        self.last_active.checked_add(self.settings.limits.linger)
    }

    /// Why the stream was ended, if it was for a reason.
    pub fn failure(&self) -> Option<&ProtocolError> {
        self.failure.as_deref()
    }

    /// Whether there is no point in flushing: the peer does not read.
    pub fn is_hopeless(&self) -> bool {
        self.failure().is_some_and(ProtocolError::is_hopeless)
    }

    /// Whether nothing more is taken.
    pub fn is_finishing(&self) -> bool {
        self.input == Half::Ended
    }

    /// Whether everything that will ever be written has left.
    pub fn output_is_done(&self) -> bool {
        self.output == Half::Ended && self.outbox.is_empty()
    }

    /// Whether reading rests until the peer has read.
    pub fn is_paused(&self) -> bool {
        self.outbox.len() >= self.settings.limits.outbox_soft.max(1)
    }

    /// Whether pieces that came earlier wait to be handed out.
    pub fn has_backlog(&self) -> bool {
        !self.stash.is_empty()
            && self.input == Half::Open
            && !self.is_paused()
            && (self.cut == Cut::Raw || self.stash[self.searched..].contains(&b'\n'))
    }

    /// What the socket should take next.
    pub fn unsent(&self) -> &[u8] {
        self.outbox.unsent()
    }

    /// Whether something waits to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The socket took so many bytes of [`unsent`](Plain::unsent), perhaps none.
    pub fn mark_sent(&mut self, count: usize, now: Instant) {
        self.outbox.mark_sent(count);
        if self.outbox.is_empty() {
            self.stalled_since = None;
        } else if count > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
        if count > 0 {
            self.is_untouched = false;
            self.last_active = now;
        }
    }

    /// Whether the socket would take no more when it was last asked.
    pub fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Lends the outbox memory out of `spare`.
    pub fn lend(&mut self, spare: &mut Vec<Buffer>) {
        self.outbox.lend(spare);
    }

    /// Takes the outbox's memory back, if it has nothing to send.
    pub fn reclaim(&mut self) -> Option<Buffer> {
        self.outbox.reclaim()
    }

    /// Bytes of memory that this stream holds, in and out.
    pub fn buffered(&self) -> usize {
        self.stash.capacity() + self.outbox.capacity()
    }

    /// When [`handle_timeout`](Plain::handle_timeout) is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        // Once it has failed, only the peer's taking of what is ready is waited for.
        let idle = self.settings.limits.idle_timeout.filter(|_| self.failure.is_none());
        let first = self.settings.first_byte.filter(|_| self.is_untouched && self.failure.is_none());
        let silence = idle.into_iter().chain(first).min();
        let silence = silence.and_then(|limit| self.last_active.checked_add(limit));
        self.stall().into_iter().chain(silence).min()
    }

    fn stall(&self) -> Option<Instant> {
        self.stalled_since?.checked_add(self.settings.limits.write_stall_timeout)
    }

    /// Ends the stream if a time limit has passed, and says so. `now` and `input` are as for
    /// [`Connection::handle_timeout`](super::Connection::handle_timeout).
    pub fn handle_timeout(&mut self, now: Instant, input: Input) -> bool {
        let is_stalled = self.stall().is_some_and(|at| at <= now);
        let is_due = self.next_deadline().is_some_and(|at| at <= now);
        if !is_stalled && (!is_due || input == Input::Waiting) {
            return false;
        }
        self.fail(if is_stalled { ProtocolError::STALLED } else { ProtocolError::TimedOut("sign of life") });
        // From here on the peer has time to close.
        self.last_active = now;
        true
    }
}

fn saturated(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
