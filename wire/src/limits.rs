//! What one connection may hold and how long it may take, with the defaults and why.

use std::fmt;
use std::time::Duration;

use crate::frame::HEADER_LEN;

/// What a connection's owner allows the other side, in bytes, counts and times. Both sides of a
/// connection have their own.
///
/// The defaults suit a helper process on a desktop: generous for honest peers, bounded for others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Bytes of payload in one v1 frame, either way; advertised in the hello. Default 16 MiB.
    pub max_payload: u32,
    /// Calls of a v1 peer that may be unanswered at a time; advertised. A server has no more of its own open
    /// either, whatever its client says that it takes. Default 4,096.
    pub max_in_flight: u32,
    /// Payload bytes of these calls together; advertised. Default 64 MiB.
    pub max_in_flight_bytes: u32,
    /// Bytes of a streamed reply that may be under way to this side before it has taken them, for each of its
    /// calls; advertised. The last part may take it beyond that. 0: its calls are never answered in parts. At most
    /// 2,147,483,647. Default 256 KiB: enough to keep a local reader busy.
    pub stream_credit: u32,
    /// Bytes waiting to be read by a peer at which a classic link, or a stream without frames, is
    /// no longer read from; and at which our own client adds no more. Default 1 MiB.
    pub outbox_soft: usize,
    /// Bytes waiting to be read by a peer at which its connection is closed; our own client adds no request
    /// that would lead there. Default 64 MiB.
    pub outbox_hard: usize,
    /// Bytes of events that wait in a client until whoever subscribed takes them, for each subscriber; each counts
    /// for 64 bytes more than its payload. Beyond that new ones are dropped, and counted. Default 1 MiB.
    pub event_queue: usize,
    /// Attachments, descriptors or handles, that have come with frames of the peer and that nobody has taken yet; beyond
    /// that the connection is closed. Default 256.
    ///
    /// A server also counts those under way on all connections of a user together: what came and was not taken, and what
    /// waits to leave. Of others than its own user and the system's one may have a share, three quarters of what all
    /// others leave of half of the descriptors that the process may have, beyond a sixteenth of that half; a connection that
    /// brings more is closed ("busy", -6), and no more go to its clients ("busy", to handlers).
    pub max_attachments: u32,
    /// From a peer's first byte to the end of its hello. Default 5 s.
    pub hello_timeout: Duration,
    /// From the first byte of a frame to its last. Default 10 s: at the largest payload that is
    /// 1.6 MiB/s, far below what any local transport does. Like all time limits it counts what came in
    /// time, even if this side was held up, by a handler or a debugger, and could not look.
    pub partial_frame_timeout: Duration,
    /// How long a peer may take nothing while something waits for it. Default 30 s.
    pub write_stall_timeout: Duration,
    /// How long a connection may be silent both ways. Default `None`: for ever.
    /// A connection whose peer waits for an answer that was deferred is not idle.
    pub idle_timeout: Option<Duration>,
    /// How long a connection that was ended in order may take to read its last bytes and to
    /// close its side. Default 2 s.
    pub linger: Duration,
}

/// Limits that contradict each other, or that nobody could keep: which, with their numbers, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction(String);

impl Contradiction {
    /// This text says it: the fields by name, with their numbers.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Contradiction {
        Contradiction(text.into())
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Contradiction {}

impl ConnectionLimits {
    /// Whether a connection can work with these. What is merely strict is fine: payloads of no bytes, an
    /// outbox that holds less than the largest reply, no time to linger.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Contradiction> {
        let ConnectionLimits { max_payload, max_in_flight, max_in_flight_bytes, .. } = *self;
        let ConnectionLimits { stream_credit, outbox_soft, outbox_hard, idle_timeout, .. } = *self;
        let times = [
            ("hello_timeout", Some(self.hello_timeout)),
            ("partial_frame_timeout", Some(self.partial_frame_timeout)),
            ("write_stall_timeout", Some(self.write_stall_timeout)),
            ("idle_timeout", idle_timeout),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time == Some(Duration::ZERO)) {
            return Err(Contradiction(format!("{name} is 0: nobody could be in time")));
        }
        if max_in_flight == 0 {
            return Err(Contradiction::new("max_in_flight is 0: nobody could ask anything"));
        }
        if max_in_flight_bytes < max_payload {
            return Err(Contradiction(format!(
                "max_in_flight_bytes ({max_in_flight_bytes}) is less than max_payload ({max_payload}): the \
                 largest request could never be sent"
            )));
        }
        if stream_credit > MAX_CREDIT {
            return Err(Contradiction(format!(
                "stream_credit ({stream_credit}) is more than the {MAX_CREDIT} that a call can have"
            )));
        }
        if outbox_soft == 0 {
            return Err(Contradiction::new("outbox_soft is 0: nothing could ever be sent"));
        }
        if outbox_hard < outbox_soft {
            return Err(Contradiction(format!(
                "outbox_hard ({outbox_hard}) is less than outbox_soft ({outbox_soft}): a connection would be closed \
                 before it is held up"
            )));
        }
        Ok(())
    }
}

impl ConnectionLimits {
    /// Most bytes of a part of a reply that the outbox takes: it fits in between the two marks.
    #[must_use]
    pub fn part_limit(&self) -> usize {
        self.outbox_hard.saturating_sub(self.outbox_soft).saturating_sub(HEADER_LEN)
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            max_payload: 16 << 20,
            max_in_flight: 4_096,
            max_in_flight_bytes: 64 << 20,
            stream_credit: 256 << 10,
            outbox_soft: 1 << 20,
            outbox_hard: 64 << 20,
            event_queue: 1 << 20,
            max_attachments: 256,
            hello_timeout: Duration::from_secs(5),
            partial_frame_timeout: Duration::from_secs(10),
            write_stall_timeout: Duration::from_secs(30),
            idle_timeout: None,
            linger: Duration::from_secs(2),
        }
    }
}

/// Most credit of a call for replies in parts.
pub(crate) const MAX_CREDIT: u32 = i32::MAX as u32;
/// How long a refused connection may take to send the four bytes that tell its layout.
pub const REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// Who judges a deadline this much too late has been held up, and may have held up the other side.
pub const LATE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the default with one thing changed.
    fn said(change: impl FnOnce(&mut ConnectionLimits)) -> String {
        let mut limits = ConnectionLimits::default();
        change(&mut limits);
        limits.check().err().map_or_else(String::new, |contradiction| contradiction.to_string())
    }

    #[test]
    fn contradictions_are_named_with_their_numbers() {
        assert_eq!(said(|_| ()), "");
        for (said, words) in [
            (
                said(|limits| limits.max_in_flight_bytes = 10),
                "max_in_flight_bytes (10) is less than max_payload (16777216)",
            ),
            (said(|limits| limits.outbox_hard = 0), "outbox_hard (0) is less than outbox_soft (1048576)"),
            (
                said(|limits| limits.outbox_soft = 65 << 20),
                "outbox_hard (67108864) is less than outbox_soft (68157440)",
            ),
            (
                said(|limits| limits.stream_credit = 1 << 31),
                "stream_credit (2147483648) is more than the 2147483647",
            ),
            (said(|limits| limits.outbox_soft = 0), "outbox_soft is 0"),
            (said(|limits| limits.max_in_flight = 0), "max_in_flight is 0"),
            (said(|limits| limits.hello_timeout = Duration::ZERO), "hello_timeout is 0"),
            (said(|limits| limits.partial_frame_timeout = Duration::ZERO), "partial_frame_timeout is 0"),
            (said(|limits| limits.write_stall_timeout = Duration::ZERO), "write_stall_timeout is 0"),
            (said(|limits| limits.idle_timeout = Some(Duration::ZERO)), "idle_timeout is 0"),
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn what_is_merely_strict_is_fine() {
        let strict = said(|limits| {
            (limits.max_payload, limits.max_in_flight, limits.max_in_flight_bytes) = (0, 1, 0);
            (limits.outbox_soft, limits.outbox_hard) = (1, 1);
            limits.linger = Duration::ZERO;
        });
        assert_eq!(strict, "");
    }
}
