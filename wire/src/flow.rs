//! What every stream has, with frames or without: bytes that wait, in and out, when the other side last
//! took or sent some, and why it is beyond repair.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::ProtocolError;
use crate::outbox::{Buffer, Left, Outbox};
use crate::settings::Settings;

/// What a [`Connection`](crate::Connection) and a [`Plain`](crate::Plain) have in common.
#[derive(Debug)]
pub struct Flow {
    pub(crate) settings: Arc<Settings>,
    /// Bytes that were received and not handled: the beginning of a frame or a line, or whole ones that
    /// had to wait. Owns no memory while it is empty.
    pub(crate) stash: Vec<u8>,
    pub(crate) outbox: Outbox,
    /// Boxed, like the next: most streams of a server are idle, and have neither.
    failure: Option<Box<Failing>>,
    /// Since when the outbox holds something and the peer has taken nothing.
    stalled_since: Option<Box<Instant>>,
    /// When bytes last came or left.
    last_active: Instant,
}

/// Why a stream is beyond repair: the first reason that was found.
#[derive(Debug)]
enum Failing {
    /// What is ready still goes out.
    Told(ProtocolError),
    /// The peer does not read: there is no point in flushing.
    Hopeless(ProtocolError),
}

impl Flow {
    pub(crate) fn new(settings: Arc<Settings>, now: Instant) -> Flow {
        Flow {
            settings,
            stash: Vec::new(),
            outbox: Outbox::default(),
            failure: None,
            stalled_since: None,
            last_active: now,
        }
    }

    /// Why it is beyond repair, if it is.
    #[inline]
    #[must_use]
    pub fn failure(&self) -> Option<&ProtocolError> {
        match self.failure.as_deref()? {
            Failing::Told(error) | Failing::Hopeless(error) => Some(error),
        }
    }

    /// Whether there is no point in flushing: the peer does not read.
    #[inline]
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        matches!(self.failure.as_deref(), Some(Failing::Hopeless(_)))
    }

    /// It is beyond repair. The first reason stays, but a later one can take the last hope.
    pub(crate) fn fail(&mut self, error: ProtocolError) {
        let is_hopeless = error.is_hopeless() || self.is_hopeless();
        let first = match self.failure.take().map(|failing| *failing) {
            Some(Failing::Told(first) | Failing::Hopeless(first)) => first,
            None => error,
        };
        let failing = if is_hopeless { Failing::Hopeless(first) } else { Failing::Told(first) };
        self.failure = Some(Box::new(failing));
    }

    /// Whether so much waits to be sent that no more should be added.
    #[inline]
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.outbox.len() >= self.settings.limits.outbox_soft.max(1)
    }

    /// Bytes that wait to be sent.
    #[inline]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Whether they lie in several pieces.
    #[inline]
    #[must_use]
    pub fn is_in_pieces(&self) -> bool {
        self.outbox.is_in_pieces()
    }

    /// Lends the outbox memory out of `spare`.
    #[inline]
    pub fn lend(&mut self, spare: &mut Vec<Buffer>) {
        self.outbox.lend(spare);
    }

    /// Takes the outbox's memory back, if it has nothing to send. If something that had to be sent could not be kept,
    /// the stream is beyond repair from here on.
    #[inline]
    pub fn reclaim(&mut self) -> Option<Buffer> {
        let mut buffer = self.outbox.reclaim()?;
        if buffer.end_starving() {
            self.fail(ProtocolError::STARVED);
        }
        Some(buffer)
    }

    /// Bytes of memory held for what has come and what is to leave.
    #[inline]
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.stash.capacity() + self.outbox.capacity()
    }

    /// Whether the socket would take no more when it was last asked.
    #[inline]
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Whether nothing waits, nothing has failed, and nobody is to be watched.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.failure.is_none()
            && self.stalled_since.is_none()
            && self.stash.is_empty()
            && self.outbox.is_empty()
            && self.settings.limits.idle_timeout.is_none()
    }

    /// How long a peer that was told everything may take to close.
    #[must_use]
    pub fn linger_deadline(&self) -> Option<Instant> {
        self.silent_for(Some(self.settings.limits.linger))
    }

    /// Something has come, or the peer is given time from now on.
    #[inline]
    pub(crate) fn touch(&mut self, now: Instant) {
        self.last_active = now;
    }

    /// The socket took `count` bytes, perhaps none. Says which replies have left with them.
    #[inline]
    pub(crate) fn mark_sent(&mut self, count: usize, now: Instant) -> Left {
        let left = self.outbox.mark_sent(count);
        if self.outbox.is_empty() {
            self.stalled_since = None;
        } else if count > 0 || self.stalled_since.is_none() {
            self.wait_since(now);
        }
        if count > 0 {
            self.last_active = now;
        }
        left
    }

    /// From now on the peer has its time to take something.
    pub(crate) fn wait_since(&mut self, now: Instant) {
        self.stalled_since = Some(Box::new(now));
    }

    /// Nobody will take what is in the outbox.
    pub(crate) fn discard(&mut self) -> Left {
        self.stalled_since = None;
        self.outbox.mark_sent(self.outbox.len())
    }

    /// When the peer has taken nothing for too long.
    pub(crate) fn stall_deadline(&self) -> Option<Instant> {
        after(self.stalled_since.as_deref().copied(), self.settings.limits.write_stall_timeout)
    }

    /// When nothing has come or left for so long.
    pub(crate) fn silent_for(&self, limit: Option<Duration>) -> Option<Instant> {
        after(Some(self.last_active), limit?)
    }
}

/// A limit beyond what the clock can say is none.
pub(crate) fn after(since: Option<Instant>, limit: Duration) -> Option<Instant> {
    since?.checked_add(limit)
}
