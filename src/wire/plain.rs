//! A stream without frames: raw bytes or lines of text, with the same outbox, limits and time
//! limits as a framed [`Connection`](super::Connection).

use std::sync::Arc;
use std::time::Instant;

use super::connection::Settings;
use super::error::ProtocolError;
use super::outbox::{Buffer, Outbox};

/// How the bytes of a stream without frames are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// As they come.
    Raw,
    /// In lines that end with `\n` (or `\r\n`), with at most so many bytes.
    Lines { max: usize },
}

/// One such stream.
#[derive(Debug)]
pub(crate) struct Plain {
    settings: Arc<Settings>,
    cut: Cut,
    stash: Vec<u8>,
    outbox: Outbox,
    input: Half,
    output: Half,
    failure: Option<Box<ProtocolError>>,
    stalled_since: Option<Instant>,
    last_heard: Instant,
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Open,
    /// Nothing more is taken (input), or written (output; what is in the outbox still goes out).
    Ended,
}

impl Plain {
    pub(crate) fn new(settings: Arc<Settings>, cut: Cut, now: Instant) -> Plain {
        Plain {
            settings,
            cut,
            stash: Vec::new(),
            outbox: Outbox::default(),
            input: Half::Open,
            output: Half::Open,
            failure: None,
            stalled_since: None,
            last_heard: now,
        }
    }

    /// Takes bytes from the socket and calls `each` for every piece, until they are used up,
    /// `budget` pieces were handled, or the stream is paused or over; the rest is kept.
    pub(crate) fn receive(
        &mut self,
        fresh: &[u8],
        now: Instant,
        budget: &mut usize,
        each: &mut impl FnMut(&mut Plain, &[u8]),
    ) {
        if !fresh.is_empty() {
            self.last_heard = now;
        }
        let mut stash = std::mem::take(&mut self.stash);
        // Where a search for the end of the line has something to find: not in what was searched.
        let searched = stash.len();
        let joined = match stash.is_empty() {
            true => fresh,
            false => {
                stash.extend_from_slice(fresh);
                &stash
            }
        };
        let from = if fresh.is_empty() { 0 } else { searched };
        let used = self.hand_out(joined, from, budget, each);
        if self.input == Half::Ended || used == joined.len() {
            return;
        }
        if stash.is_empty() {
            self.stash = fresh[used..].to_vec();
        } else {
            stash.drain(..used);
            self.stash = stash;
        }
    }

    /// Returns how many of the bytes were used.
    fn hand_out(
        &mut self,
        bytes: &[u8],
        mut from: usize,
        budget: &mut usize,
        each: &mut impl FnMut(&mut Plain, &[u8]),
    ) -> usize {
        let mut used = 0;
        while *budget > 0 && used < bytes.len() && self.input == Half::Open && !self.is_paused() {
            let piece = match self.cut {
                Cut::Raw => bytes.len(),
                Cut::Lines { max } => {
                    let end = bytes[from.max(used)..].iter().position(|byte| *byte == b'\n');
                    let length = end.map_or(bytes.len(), |end| from.max(used) + end) - used;
                    if length > max + 1 {
                        let error = ProtocolError::TooLarge { length: length as u32, limit: max as u32 };
                        self.fail(error);
                        return used;
                    }
                    let Some(end) = end else { return used };
                    from.max(used) + end + 1
                }
            };
            *budget -= 1;
            from = 0;
            each(self, self.trimmed(&bytes[used..piece]));
            used = piece;
            let waiting = self.outbox.len();
            if waiting > self.settings.limits.outbox_hard {
                self.fail(ProtocolError::OutboxFull(waiting));
            }
        }
        used
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

    /// The peer sends no more. Hands out an unfinished last line.
    pub(crate) fn end_of_input(&mut self, each: &mut impl FnMut(&mut Plain, &[u8])) {
        let rest = std::mem::take(&mut self.stash);
        if self.input == Half::Open && !rest.is_empty() {
            each(self, self.trimmed(&rest));
        }
        self.input = Half::Ended;
    }

    /// Appends to what is sent. After [`finish`](Plain::finish) it is thrown away.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if self.output == Half::Open {
            self.outbox.bytes().extend_from_slice(bytes);
        }
    }

    /// Nothing more will be written; the peer is told when everything is out.
    pub(crate) fn finish(&mut self) {
        self.output = Half::Ended;
    }

    /// Nothing more is taken, and nothing written behind what already is.
    pub(crate) fn close(&mut self) {
        self.input = Half::Ended;
        self.output = Half::Ended;
        self.stash = Vec::new();
    }

    /// Ends both directions for a reason.
    pub(crate) fn fail(&mut self, error: ProtocolError) {
        self.failure.get_or_insert(Box::new(error));
        self.close();
    }

    pub(crate) fn failure(&self) -> Option<&ProtocolError> {
        self.failure.as_deref()
    }

    pub(crate) fn is_hopeless(&self) -> bool {
        self.failure().is_some_and(ProtocolError::is_hopeless)
    }

    /// Whether nothing more is taken.
    pub(crate) fn is_finishing(&self) -> bool {
        self.input == Half::Ended
    }

    /// Whether everything that will ever be written has left.
    pub(crate) fn output_is_done(&self) -> bool {
        self.output == Half::Ended && self.outbox.is_empty()
    }

    /// Whether reading rests until the peer has read.
    pub(crate) fn is_paused(&self) -> bool {
        self.outbox.len() >= self.settings.limits.outbox_soft
    }

    /// Whether pieces that came earlier wait to be handed out.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.stash.is_empty()
            && self.input == Half::Open
            && !self.is_paused()
            && (self.cut == Cut::Raw || self.stash.contains(&b'\n'))
    }

    pub(crate) fn unsent(&self) -> &[u8] {
        self.outbox.unsent()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(crate) fn mark_sent(&mut self, count: usize, now: Instant) {
        self.outbox.mark_sent(count);
        if self.outbox.is_empty() {
            self.stalled_since = None;
        } else if count > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
        if count > 0 {
            self.last_heard = now;
        }
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    pub(crate) fn lend(&mut self, spare: &mut Vec<Buffer>) {
        self.outbox.lend(spare);
    }

    pub(crate) fn reclaim(&mut self) -> Option<Buffer> {
        self.outbox.reclaim()
    }

    pub(crate) fn buffered(&self) -> usize {
        self.stash.capacity() + self.outbox.capacity()
    }

    /// When [`handle_timeout`](Plain::handle_timeout) is to be called.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let limits = &self.settings.limits;
        let stall = self.stalled_since.map(|since| since + limits.write_stall_timeout);
        let idle = limits.idle_timeout.map(|limit| self.last_heard + limit);
        stall.into_iter().chain(idle).min()
    }

    /// Ends the stream if a time limit has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        let stalled =
            self.stalled_since.is_some_and(|since| since + self.settings.limits.write_stall_timeout <= now);
        self.fail(if stalled { ProtocolError::STALLED } else { ProtocolError::TimedOut("sign of life") });
    }
}
