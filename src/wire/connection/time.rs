//! Time limits.

use std::time::{Duration, Instant};

use super::{Connection, Phase};
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
        let what = match expired {
            Expired::Hello => "hello",
            Expired::PartialFrame => "end of a frame",
            Expired::WriteStall => "progress of writing",
            Expired::Idle => "sign of life",
            Expired::Refusal => "first bytes",
        };
        if self.phase == Phase::Finishing {
            self.failure.get_or_insert(Box::new(ProtocolError::TimedOut(what)));
        }
        self.fail(ProtocolError::TimedOut(what).into());
        Some(expired)
    }

    fn deadlines(&self) -> [Option<(Instant, Expired)>; 4] {
        let limits = &self.settings.limits;
        let after = |since: Option<Instant>, limit: Duration, what| since.map(|since| (since + limit, what));
        let partial = match self.phase {
            Phase::Opening => after(self.partial_since, limits.hello_timeout, Expired::Hello),
            _ => after(self.partial_since, limits.partial_frame_timeout, Expired::PartialFrame),
        };
        let refusal = match self.phase {
            Phase::Refusing { until, .. } => Some((until, Expired::Refusal)),
            _ => None,
        };
        let idle = limits.idle_timeout.map(|limit| (self.last_heard + limit, Expired::Idle));
        [refusal, partial, after(self.stalled_since, limits.write_stall_timeout, Expired::WriteStall), idle]
    }
}
