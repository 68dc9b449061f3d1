//! Time limits.

use std::time::Instant;

use super::{Connection, OpenCalls, Phase};
use crate::error::{self, ProtocolError};
use crate::flow::after;
use crate::limits::{LATE, REFUSAL_WAIT};

/// Which time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    FirstByte,
    Hello,
    PartialFrame,
    WriteStall,
    Idle,
    Refusal,
}

/// What an owner has found at the socket, right before it judges whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "nothing lies between them")]
pub enum Input {
    /// Nothing.
    Quiet,
    /// Bytes, and all of them were handled.
    Fresh,
    /// More than was handled in this turn.
    Waiting,
}

/// A frame of which more has to come.
#[derive(Debug)]
pub(super) struct Partial {
    since: Instant,
    /// Whether it has got its time a second time.
    is_renewed: bool,
}

impl Partial {
    pub(super) fn since(now: Instant) -> Partial {
        Partial { since: now, is_renewed: false }
    }
}

impl Connection {
    /// When [`handle_timeout`](Connection::handle_timeout) is to be called, and
    /// [`poll_owed`](Connection::poll_owed), [`poll_asked`](Connection::poll_asked) and
    /// [`poll_pinged`](Connection::poll_pinged) to be asked, unless something happens before. Ask again after every other call.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.has_deadlines() {
            return None; // As for most, with every request.
        }
        self.earliest_deadline()
    }

    /// Whether any time limit may run, its own or one of calls.
    #[inline]
    pub(crate) fn has_deadlines(&self) -> bool {
        self.is_watched() || self.open_calls.as_ref().is_some_and(|calls| calls.has_deadlines())
    }

    /// Whether one of its own time limits may run.
    #[inline]
    fn is_watched(&self) -> bool {
        self.partial.is_some()
            || self.flow.is_stalled()
            || self.phase == Phase::Opening
            || self.flow.settings.limits.idle_timeout.is_some()
    }

    #[inline(never)]
    fn earliest_deadline(&self) -> Option<Instant> {
        let calls = self.open_calls.as_ref().and_then(|calls| calls.next_deadline());
        match self.is_watched() {
            true => self.deadlines().into_iter().flatten().map(|(at, _)| at).chain(calls).min(),
            false => calls,
        }
    }

    /// Ends the connection if a time limit has passed. Says whether one had. `now` is from before the socket
    /// was asked for `input`: what had come by then has come in time. While input waits to be
    /// handled, nobody is blamed for what may be in it; come again.
    #[inline]
    pub fn handle_timeout(&mut self, now: Instant, input: Input) -> bool {
        if input == Input::Fresh {
            self.renew_partial(now);
        }
        let counts = |what| input != Input::Waiting || what == Expired::WriteStall;
        let mut deadlines = self.deadlines().into_iter().flatten();
        let due = deadlines.find(|(at, what)| *at <= now && counts(*what));
        let Some((_, expired)) = due else { return false };
        self.fail(
            match expired {
                Expired::FirstByte => ProtocolError::TimedOut(error::FIRST_BYTE),
                Expired::Hello => ProtocolError::TimedOut(error::HELLO),
                Expired::PartialFrame => ProtocolError::TimedOut(error::PARTIAL_FRAME),
                Expired::WriteStall => ProtocolError::STALLED,
                Expired::Idle => ProtocolError::TimedOut(error::IDLE),
                Expired::Refusal => ProtocolError::TimedOut("first bytes"),
            }
            .into(),
        );
        // From here on the peer has time to close.
        self.flow.touch(now);
        true
    }

    /// A peer whose frame does not fit into the system's buffers can't go on while nobody reads. If
    /// we come late, and more of it is there, it gets its time anew; once, so that it has an end
    /// even if we always come late.
    pub fn renew_partial(&mut self, now: Instant) {
        let is_late = |(at, what): (Instant, Expired)| {
            matches!(what, Expired::Hello | Expired::PartialFrame) && now.saturating_duration_since(at) > LATE
        };
        if self.deadlines()[0].is_some_and(is_late)
            && let Some(partial) = self.partial.as_mut().filter(|partial| !partial.is_renewed)
        {
            **partial = Partial { since: now, is_renewed: true };
        }
    }

    fn deadlines(&self) -> [Option<(Instant, Expired)>; 3] {
        let limits = &self.flow.settings.limits;
        let partial_since = self.partial.as_ref().map(|partial| partial.since);
        let (partial, what) = match self.phase {
            Phase::Refusing(_) => (after(partial_since, REFUSAL_WAIT), Expired::Refusal),
            Phase::Opening if partial_since.is_none() => {
                (self.flow.silent_for(self.flow.settings.first_byte), Expired::FirstByte)
            }
            Phase::Opening | Phase::Proving => (after(partial_since, limits.hello_timeout), Expired::Hello),
            _ => (after(partial_since, limits.partial_frame_timeout), Expired::PartialFrame),
        };
        // Whom we owe an answer has every right to be silent.
        let may_idle = self.is_over() || self.owed() > 0;
        let idle = self.flow.silent_for(limits.idle_timeout.filter(|_| !may_idle));
        [
            partial.map(|at| (at, what)),
            self.flow.stall_deadline().map(|at| (at, Expired::WriteStall)),
            idle.map(|at| (at, Expired::Idle)),
        ]
    }
}

impl OpenCalls {
    #[inline]
    fn has_deadlines(&self) -> bool {
        self.asked.has_deadlines() || self.owed.has_deadlines() || self.pinged.has_deadlines()
    }

    /// When the time of one of them is over.
    #[inline]
    fn next_deadline(&self) -> Option<Instant> {
        let ours = earliest(self.asked.next_deadline(), self.pinged.next_deadline());
        earliest(self.owed.next_deadline(), ours)
    }
}

#[inline]
fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
