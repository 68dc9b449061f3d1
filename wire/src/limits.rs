//! What one connection may hold and how long it may take, with the defaults and why.

use std::time::Duration;

/// What a connection's owner allows the other side, in bytes, counts and times. Both sides of a
/// connection have their own.
///
/// The defaults suit a helper process on a desktop: generous for honest peers, bounded for others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Bytes of payload in one v1 frame, either way; advertised in the hello. Default 16 MiB.
    pub max_payload: u32,
    /// Calls of a v1 peer that may be unanswered at a time; advertised. Default 4,096.
    pub max_in_flight: u32,
    /// Payload bytes of these calls together; advertised. Default 64 MiB.
    pub max_in_flight_bytes: u32,
    /// Bytes waiting to be read by a peer at which a classic link, or a stream without frames, is
    /// no longer read from; and at which our own client adds no more. Default 1 MiB.
    pub outbox_soft: usize,
    /// Bytes waiting to be read by a peer at which its connection is closed. Default 64 MiB.
    pub outbox_hard: usize,
    /// From a peer's first byte to the end of its hello. Default 5 s.
    pub hello_timeout: Duration,
    /// From the first byte of a frame to its last. Default 10 s: at the largest payload that is
    /// 1.6 MiB/s, far below what any local transport does. Like all time limits it counts what came in
    /// time, even if this side was held up, by a handler or a debugger, and could not look.
    pub partial_frame_timeout: Duration,
    /// How long a peer may take nothing while something waits for it. Default 30 s.
    pub write_stall_timeout: Duration,
    /// How long a connection may be silent both ways. Default `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection that was ended in order may take to read its last bytes and to
    /// close its side. Default 2 s.
    pub linger: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            max_payload: 16 << 20,
            max_in_flight: 4_096,
            max_in_flight_bytes: 64 << 20,
            outbox_soft: 1 << 20,
            outbox_hard: 64 << 20,
            hello_timeout: Duration::from_secs(5),
            partial_frame_timeout: Duration::from_secs(10),
            write_stall_timeout: Duration::from_secs(30),
            idle_timeout: None,
            linger: Duration::from_secs(2),
        }
    }
}

/// How long a refused connection may take to send the four bytes that tell its layout.
pub const REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// Who judges a deadline this much too late has been held up, and may have held up the other side.
pub const LATE: Duration = Duration::from_millis(100);
