//! Every number a user may set, with its default and why.

use std::time::Duration;

use sidewire_wire::ConnectionLimits;

use crate::access::Access;

/// What a server or client allows, in bytes, counts and times.
///
/// The defaults suit a helper process on a desktop: generous for honest peers, bounded for
/// others. Change single fields:
///
/// ```
/// use std::time::Duration;
///
/// let mut limits = sidewire::Limits::default();
/// limits.max_connections = 64;
/// limits.idle_timeout = Some(Duration::from_secs(600));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections that one listener holds at a time. Further ones are answered "busy" (-6) and
    /// closed. Default 16,384: an idle one costs about a quarter of a KiB besides its descriptor.
    pub max_connections: usize,
    /// Of these places, how many connections of one peer may hold on a listener for
    /// [`Access::Anyone`](crate::Access::Anyone): of one user where the system names it, else of one IP
    /// address (IPv6: of one /64; all loopback addresses are one). Further ones are answered "busy" (-6).
    /// Our own user and the system's may hold all, where the system names them. Default `None`: all but a
    /// quarter of them, or of the descriptors that the process may have when it listens, if those are
    /// fewer. Over TCP all users of this machine look alike.
    pub max_connections_per_peer: Option<usize>,
    /// Bytes of payload in one v1 frame, either way; advertised in the hello. Default 16 MiB.
    pub max_payload: u32,
    /// Calls of one v1 peer that may be unanswered at a time; advertised. Default 4,096.
    pub max_in_flight: u32,
    /// Payload bytes of these calls together; advertised. Default 64 MiB.
    pub max_in_flight_bytes: u32,
    /// Bytes waiting to be read by a peer at which a classic link, or a stream without frames, is
    /// no longer read from; and at which our own client adds no more.
    /// Default 1 MiB.
    pub outbox_soft: usize,
    /// Bytes waiting to be read by a peer at which its connection is closed. Default 64 MiB.
    pub outbox_hard: usize,
    /// Bytes that all connections of a server may hold in unfinished frames and outboxes
    /// together. At more those that hold most are closed, and told so ("busy", -6) if their sockets take
    /// that at once. Default 1 GiB.
    ///
    /// Where the system gives less than that, a request or a reply for which there is no memory is
    /// answered "busy" (-6), and the server goes on. Small things of a fixed size (a connection, a
    /// timer, the text of an error) are not guarded so; for them half a MiB is left over.
    pub max_buffered: usize,
    /// From the connection to the peer's first byte; on streams without frames to the first byte either
    /// way. Default `None`: on listeners for [`Access::Anyone`](crate::Access::Anyone) 10 s, or a minute
    /// without frames, where people may type; on others no limit. A time that is set holds on all
    /// listeners; `Some(Duration::MAX)` is no limit.
    pub first_byte_timeout: Option<Duration>,
    /// From a peer's first byte to the end of its hello. Default 5 s.
    pub hello_timeout: Duration,
    /// From the first byte of a frame to its last. Default 10 s: at the largest payload that is
    /// 1.6 MiB/s, far below what any local transport does. Like all time limits it counts what came in
    /// time, even if the server was held up, by a handler or a debugger, and could not look.
    pub partial_frame_timeout: Duration,
    /// How long a peer may take nothing while something waits for it. Default 30 s.
    pub write_stall_timeout: Duration,
    /// How long a connection may be silent both ways. Default `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection that was ended in order may take to read its last bytes and to
    /// close its side. Default 2 s.
    pub linger: Duration,
    /// Bytes read from one connection before others get their turn. Default 1 MiB.
    pub turn_bytes: usize,
    /// Frames handled for one connection before others get their turn. Default 4,096; fewer if their
    /// handlers take longer than 2 ms together.
    pub turn_frames: usize,
}

impl Limits {
    /// Those of a single connection.
    pub(crate) fn connection(&self) -> ConnectionLimits {
        let mut limits = ConnectionLimits::default();
        limits.max_payload = self.max_payload;
        limits.max_in_flight = self.max_in_flight;
        limits.max_in_flight_bytes = self.max_in_flight_bytes;
        limits.outbox_soft = self.outbox_soft;
        limits.outbox_hard = self.outbox_hard;
        limits.hello_timeout = self.hello_timeout;
        limits.partial_frame_timeout = self.partial_frame_timeout;
        limits.write_stall_timeout = self.write_stall_timeout;
        limits.idle_timeout = self.idle_timeout;
        limits.linger = self.linger;
        limits
    }

    /// How many places of a listener one peer may hold, in a process that may have so many descriptors.
    pub(crate) fn share(&self, access: Access, descriptors: u64) -> usize {
        let places = self.max_connections.min(usize::try_from(descriptors).unwrap_or(usize::MAX));
        match access {
            Access::SameUser => usize::MAX,
            Access::Anyone => self.max_connections_per_peer.unwrap_or(places - places / 4),
        }
    }

    /// How long a peer may be silent at first.
    pub(crate) fn first_byte(&self, access: Access, has_frames: bool) -> Option<Duration> {
        match (self.first_byte_timeout, access, has_frames) {
            (Some(time), ..) => Some(time),
            (None, Access::SameUser, _) => None,
            (None, Access::Anyone, true) => Some(FIRST_BYTE),
            (None, Access::Anyone, false) => Some(FIRST_BYTE_OF_PEOPLE),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 16_384,
            max_connections_per_peer: None,
            max_payload: 16 << 20,
            max_in_flight: 4_096,
            max_in_flight_bytes: 64 << 20,
            outbox_soft: 1 << 20,
            outbox_hard: 64 << 20,
            max_buffered: 1 << 30,
            first_byte_timeout: None,
            hello_timeout: Duration::from_secs(5),
            partial_frame_timeout: Duration::from_secs(10),
            write_stall_timeout: Duration::from_secs(30),
            idle_timeout: None,
            linger: Duration::from_secs(2),
            turn_bytes: 1 << 20,
            turn_frames: 4_096,
        }
    }
}

/// How long strangers may be silent at first, unless told otherwise.
const FIRST_BYTE: Duration = Duration::from_secs(10);
const FIRST_BYTE_OF_PEOPLE: Duration = Duration::from_secs(60);
/// Refused connections that may wait for their answer at a time; beyond that they are just closed.
pub(crate) const MAX_REFUSING: usize = 64;
/// How long accepting rests when the process is out of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a handler, or all of one peer's together, may take before others get their turn: looked at now
/// and then, so that it is a target and no bound.
pub(crate) const TURN_TIME: Duration = Duration::from_millis(2);
/// Bytes of the one buffer that a loop reads into.
pub(crate) const READ_BUFFER: usize = 256 << 10;
/// Types in a dispatch table unless told otherwise.
pub(crate) const DEFAULT_TYPES: usize = 256;
/// Types in a dispatch table at most: what a u16 can say.
pub(crate) const MAX_TYPES: usize = 65_536;
/// Answers that wait for one datagram sender whose queue is full.
pub(crate) const MAX_QUEUED_DATAGRAMS: usize = 1024;
/// Bytes of all such answers of one socket together.
pub(crate) const MAX_QUEUED_BYTES: usize = 256 << 20;
/// After how long they are tried again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_has_its_share_of_places_or_of_descriptors() {
        let mut limits = Limits { max_connections: 100, ..Limits::default() };
        let share = |limits: &Limits, descriptors| limits.share(Access::Anyone, descriptors);
        assert_eq!([u64::MAX, 100, 40, 0].map(|descriptors| share(&limits, descriptors)), [75, 75, 30, 0]);
        assert_eq!(limits.share(Access::SameUser, 40), usize::MAX);
        limits.max_connections_per_peer = Some(90);
        assert_eq!(share(&limits, 40), 90, "who sets it has decided");
    }
}
