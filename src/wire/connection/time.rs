//! Time limits.

use std::time::{Duration, Instant};

use super::{Connection, Phase};
use crate::limits::REFUSAL_WAIT;
use crate::wire::error::ProtocolError;

/// Which time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    Hello,
    PartialFrame,
    WriteStall,
    Idle,
    Refusal,
}

impl Connection {
    /// When [`handle_timeout`](Connection::handle_timeout) is to be called, unless something
    /// happens before. Ask again after every other call.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines().into_iter().flatten().map(|(at, _)| at).min()
    }

    /// Ends the connection if a time limit has passed. Says which.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Expired> {
        let (_, expired) = self.deadlines().into_iter().flatten().find(|(at, _)| *at <= now)?;
        self.fail(
            match expired {
                Expired::Hello => ProtocolError::TimedOut("hello"),
                Expired::PartialFrame => ProtocolError::TimedOut("end of a frame"),
                Expired::WriteStall => ProtocolError::STALLED,
                Expired::Idle => ProtocolError::TimedOut("sign of life"),
                Expired::Refusal => ProtocolError::TimedOut("first bytes"),
            }
            .into(),
        );
        Some(expired)
    }

    fn deadlines(&self) -> [Option<(Instant, Expired)>; 3] {
        let limits = &self.settings.limits;
        // A limit beyond what the clock can say is none.
        let after = |since: Option<Instant>, limit: Duration, what| Some((since?.checked_add(limit)?, what));
        let (partial_since, stalled_since) =
            (self.partial_since.as_deref().copied(), self.stalled_since.as_deref().copied());
        let partial = match self.phase {
            Phase::Refusing(_) => after(partial_since, REFUSAL_WAIT, Expired::Refusal),
            Phase::Opening => after(partial_since, limits.hello_timeout, Expired::Hello),
            _ => after(partial_since, limits.partial_frame_timeout, Expired::PartialFrame),
        };
        let stall = after(stalled_since, limits.write_stall_timeout, Expired::WriteStall);
        let silent_since = (!self.is_over()).then_some(self.last_active);
        let idle = limits.idle_timeout.and_then(|limit| after(silent_since, limit, Expired::Idle));
        [partial, stall, idle]
    }
}
