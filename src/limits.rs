//! Every number a user may set, with its default and why.

use std::time::Duration;

use sidewire_wire::{ConnectionLimits, Contradiction};

use crate::access::Access;

/// What a server allows: all its connections together, each of its listeners, each connection.
///
/// They lie in each other as what they bind does. The defaults suit a helper process on a desktop:
/// generous for honest peers, bounded for others. Change single fields:
///
/// ```
/// use std::time::Duration;
/// use sidewire::{Limits, Server};
///
/// let mut limits = Limits::default();
/// limits.max_buffered = 256 << 20;
/// limits.listener.max_connections = 64;
/// limits.listener.connection.idle_timeout = Some(Duration::from_secs(600));
/// let server = Server::builder(()).limits(limits).build()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
///
/// They are looked at when they are used: numbers that contradict each other, or that nobody could keep, are
/// an error that names them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Of every listener that has none of its own ([`Listen::limits`](crate::Listen::limits)).
    pub listener: ListenerLimits,
    /// Bytes that all connections of a server may hold in unfinished frames and outboxes
    /// together. At more the largest are closed, and told so ("busy", -6) if their sockets take that at once: of others
    /// than our own user and the system's, as long as one of them holds more than a share; else of whoever holds most.
    /// Default 1 GiB.
    ///
    /// The share of one user or address is three quarters of what all others leave beyond a sixteenth, or a 1,024th
    /// (1 MiB) if that is more. Who is farthest beyond it pays first, which is who holds most of those.
    /// Who counts as one is said at [`max_connections_per_peer`](ListenerLimits::max_connections_per_peer). Over TCP, whoever
    /// has proved that he knows the token that is asked for counts as our own user, and pays for no stranger of his address.
    ///
    /// Where the system gives less than that, a request or a reply for which there is no memory is
    /// answered "busy" (-6), and the server goes on. Small things of a fixed size (a connection, a
    /// timer, the text of an error) are not guarded so; for them half a MiB is left over.
    pub max_buffered: usize,
    /// Bytes read from one connection before others get their turn. Default 1 MiB.
    pub turn_bytes: usize,
    /// Frames handled for one connection before others get their turn. Default 4,096; fewer if their
    /// handlers take longer than 2 ms together.
    pub turn_frames: usize,
    /// How long a handler may hold the loop, in which time nobody else is served, before the log says so, with its
    /// message type, and it is [counted](crate::Stats::slow_handlers). Default 100 ms; at least 2 ms are looked for;
    /// `Duration::MAX` says nothing.
    pub slow_handler: Duration,
    /// How long the loop looks for something to do, again and again, before it sleeps. Default zero: it sleeps at once.
    ///
    /// Whoever sleeps has to be woken, which takes longer than a small request does: a loop that looks answers sooner,
    /// and so does one that is told something by other threads ([`Responder`](crate::Responder),
    /// [`Remote`](crate::Remote)). It takes a whole processor meanwhile, so it pays only where there is one to spare, and
    /// where the next request usually comes within that time, from clients that do the same
    /// ([`Connect::spin`](crate::Connect::spin)). On one processor for both it does harm, since who looks keeps the other
    /// from answering.
    ///
    /// It is for each time that the loop would sleep, also when nobody is connected; so it is at most a second. A
    /// [`turn`](crate::Server::turn) that is not to wait does not look for longer, either.
    pub spin: Duration,
}

/// What one listener allows; part of [`Limits`], or its own by [`Listen::limits`](crate::Listen::limits).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerLimits {
    /// Of each connection.
    pub connection: ConnectionLimits,
    /// Connections that it holds at a time. Further ones are answered "busy" (-6) and
    /// closed. Default 16,384: an idle one costs about a quarter of a KiB besides its descriptor.
    pub max_connections: usize,
    /// Of these places, how many connections of one peer may hold on a listener for others than our own
    /// user ([`Access`](crate::Access)): of one user where the system names it, else of one IP
    /// address (IPv6: of one /64; all loopback addresses are one). Further ones are answered "busy" (-6).
    /// Our own user and the system's may hold all, where the system names them. Over TCP all users of this machine look
    /// alike; where a token is asked for (`Listen::token`), it is what tells them apart: those who have proved that they know it
    /// may hold all places, unless this is set, and those who have not yet at most half of them, or of the descriptors; beyond that
    /// the oldest of these is closed ("busy") for each newcomer.
    ///
    /// Default `None`: a share of what is left. A peer may have one more as long as its connections, at all listeners of
    /// the server together, are fewer than three quarters of what all others leave of this listener's places beyond a
    /// sixteenth of them, which is kept for newcomers; or fewer than a 1,024th of the places, which are 16. So the first may
    /// have 11,520 of the default, the next three quarters of what is left then, and it takes more than sixty users to
    /// leave nothing for one more. The same is asked of the descriptors that the process may have when it listens, and of all
    /// connections of the server.
    pub max_connections_per_peer: Option<usize>,
    /// From the connection to the peer's first byte; on streams without frames to the first byte either
    /// way. Default `None`: on listeners for others than our own user 10 s, or a minute
    /// without frames, where people may type; on others no limit. A time that is set holds whoever may
    /// connect; `Some(Duration::MAX)` is no limit.
    pub first_byte_timeout: Option<Duration>,
}

impl Limits {
    /// Whether a server can work with these.
    pub(crate) fn check(&self) -> Result<(), Contradiction> {
        if self.turn_bytes == 0 {
            return Err(Contradiction::new("turn_bytes is 0: nothing could ever be read"));
        }
        if self.turn_frames == 0 {
            return Err(Contradiction::new("turn_frames is 0: nothing could ever be handled"));
        }
        if self.spin > MAX_SPIN {
            return Err(Contradiction::new(format!(
                "spin ({:?}) is more than {MAX_SPIN:?}: that would be a loop that never sleeps",
                self.spin
            )));
        }
        self.check_listener(&self.listener)
    }

    /// Whether a listener of this server can work with these of its own. One that lets nobody in is merely
    /// strict.
    pub(crate) fn check_listener(&self, listener: &ListenerLimits) -> Result<(), Contradiction> {
        let ListenerLimits { connection, first_byte_timeout, .. } = listener;
        connection.check()?;
        if *first_byte_timeout == Some(Duration::ZERO) {
            return Err(Contradiction::new("first_byte_timeout is 0: nobody could be in time"));
        }
        let held =
            [("max_payload", connection.max_payload as usize), ("outbox_hard", connection.outbox_hard)];
        match held.into_iter().find(|(_, bytes)| self.max_buffered < *bytes) {
            Some((name, bytes)) => Err(Contradiction::new(format!(
                "max_buffered ({}), of all connections together, is less than {name} ({bytes}), which a single \
                 one may hold",
                self.max_buffered
            ))),
            None => Ok(()),
        }
    }
}

impl ListenerLimits {
    /// How many places of a listener one peer may hold, in a process that may have so many descriptors.
    pub(crate) fn per_peer(&self, access: &Access, descriptors: u64) -> PerPeer {
        match (access.lets_in_others(), self.max_connections_per_peer) {
            (false, _) => PerPeer::All,
            (true, Some(most)) => PerPeer::Most(most),
            (true, None) => PerPeer::Share {
                places: self.max_connections,
                descriptors: usize::try_from(descriptors).unwrap_or(usize::MAX),
            },
        }
    }

    /// How many connections may be here of whom nobody knows yet whether they know the token that is asked for, in a process
    /// that may have so many descriptors: half of them all, so that the other half is left for those who have proved it, and
    /// that those who all come in one turn find room to prove it.
    pub(crate) fn unproven(&self, descriptors: u64) -> usize {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        (self.max_connections.min(descriptors) / 2).max(1)
    }

    /// How long a peer may be silent at first.
    pub(crate) fn first_byte(&self, access: &Access, has_frames: bool) -> Option<Duration> {
        match (self.first_byte_timeout, access.lets_in_others(), has_frames) {
            (Some(time), ..) => Some(time),
            (None, false, _) => None,
            (None, true, true) => Some(FIRST_BYTE),
            (None, true, false) => Some(FIRST_BYTE_OF_PEOPLE),
        }
    }
}

/// How many places one peer may hold that is none of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PerPeer {
    All,
    /// So many at the listener.
    Most(usize),
    /// A [share] of the listener's places, and of the descriptors, with its connections at all listeners.
    Share {
        places: usize,
        descriptors: usize,
    },
}

/// The most that one of many may hold of a whole of which all others hold so much: three quarters of what they leave.
/// So nobody has to be alone to be served well, and each newcomer finds something. That alone would leave nothing behind a
/// handful of greedy ones; so a part is only for those who have hardly anything, of which each gets a little.
pub(crate) fn share(whole: usize, others: usize) -> usize {
    let left = whole.saturating_sub(others);
    let to_share = left.saturating_sub(whole / KEPT_PART);
    (to_share - to_share / 4).max(little(whole)).min(left)
}

/// What each of them may hold as long as there is any.
pub(crate) fn little(whole: usize) -> usize {
    (whole / LITTLE_PART).max(1)
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            listener: ListenerLimits::default(),
            max_buffered: 1 << 30,
            turn_bytes: 1 << 20,
            turn_frames: 4_096,
            slow_handler: Duration::from_millis(100),
            spin: Duration::ZERO,
        }
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        ListenerLimits {
            connection: ConnectionLimits::default(),
            max_connections: 16_384,
            max_connections_per_peer: None,
            first_byte_timeout: None,
        }
    }
}

/// The part of what is [shared](share) that is kept for those who have less than a little: one in so many.
const KEPT_PART: usize = 16;
/// What a little is: one in so many. 64 newcomers get it out of what is kept.
const LITTLE_PART: usize = 1024;
/// How long strangers may be silent at first, unless told otherwise.
const FIRST_BYTE: Duration = Duration::from_secs(10);
const FIRST_BYTE_OF_PEOPLE: Duration = Duration::from_secs(60);
/// The part of the process's descriptors that attachments of others than our own user may have, on their way: one in so many.
pub(crate) const ATTACHMENTS_PART: usize = 2;
/// Refused connections that may wait for their answer at a time; beyond that they are just closed.
pub(crate) const MAX_REFUSING: usize = 64;
/// How long accepting rests when the process is out of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a handler, or all of one peer's together, may take before others get their turn: looked at now
/// and then, so that it is a target and no bound.
pub(crate) const TURN_TIME: Duration = Duration::from_millis(2);
/// How long anybody may look for something before he sleeps.
pub(crate) const MAX_SPIN: Duration = Duration::from_secs(1);
/// Bytes of the one buffer that a loop reads into.
pub(crate) const READ_BUFFER: usize = 256 << 10;
/// Memory that large frames have gone through is kept so long for the next ones, at most 8 MiB in each of eight buffers:
/// to have its pages made anew for each frame costs more than to copy it.
pub(crate) const KEEP_LARGE: Duration = Duration::from_secs(1);
/// Types in a dispatch table unless told otherwise.
pub(crate) const DEFAULT_TYPES: usize = 256;
/// Types in a dispatch table at most: what a u16 can say.
pub(crate) const MAX_TYPES: usize = 65_536;

/// The type by which a server is asked to describe itself; one that does not answers as to any type without a handler.
/// The answer is a JSON document: which messages the server knows, with their schemas. With the feature `describe` a
/// server has one, and answers this of itself.
pub const DESCRIPTION: u16 = u16::MAX;
/// Answers that wait for one datagram sender whose queue is full.
pub(crate) const MAX_QUEUED_DATAGRAMS: usize = 1024;
/// Bytes of all such answers of one socket together.
pub(crate) const MAX_QUEUED_BYTES: usize = 256 << 20;
/// Requests that one datagram socket owes an answer later, and those of one sender among them.
pub(crate) const MAX_DEFERRED_DATAGRAMS: usize = 4096;
pub(crate) const MAX_DEFERRED_OF_ONE: usize = 1024;
/// Bytes of payload, and [`UNWANTED_OVERHEAD`] for each, of requests that were deferred, that nobody waits for any more,
/// and on which somebody still works. Beyond that no more are deferred. As much of notifies.
pub(crate) const MAX_UNWANTED: usize = 256 << 20;
pub(crate) const UNWANTED_OVERHEAD: usize = 1024;
/// After how long answers that wait are tried again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_has_its_share_of_places_or_of_descriptors() {
        let mut limits = ListenerLimits { max_connections: 100, ..ListenerLimits::default() };
        assert_eq!(limits.per_peer(&Access::Anyone, 40), PerPeer::Share { places: 100, descriptors: 40 });
        assert_eq!(limits.per_peer(&Access::SameUser, 40), PerPeer::All);
        limits.max_connections_per_peer = Some(90);
        assert_eq!(limits.per_peer(&Access::Anyone, 40), PerPeer::Most(90), "who sets it has decided");
        let unproven = |max_connections, descriptors| {
            ListenerLimits { max_connections, ..limits.clone() }.unproven(descriptors)
        };
        assert_eq!([0, 1, 16, 16_384].map(|places| unproven(places, u64::MAX)), [1, 1, 8, 8192]);
        assert_eq!(unproven(16_384, 1024), 512, "which would be used up before");
    }

    #[test]
    fn a_share_is_most_of_what_is_left_and_always_something() {
        assert_eq!(
            [0, 11_520, 14_400, 15_000, 16_380, 16_384].map(|others| share(16_384, others)),
            [11_520, 2_880, 720, 270, 4, 0]
        );
        // Of a few one may have all: there is nothing to share.
        assert_eq!([0, 1, 2, 3, 4, 100].map(|whole| share(whole, 0)), [0, 1, 2, 3, 3, 71]);
        assert!((4..5000).all(|whole| share(whole, 0) < whole));
        assert_eq!(share(1 << 30, 0), 720 << 20);
        assert!(share(usize::MAX, 1) > 1 << 30, "no sum is too large");
    }

    #[test]
    fn strangers_may_be_silent_for_so_long_at_first() {
        let first = |set, access, has_frames| {
            let limits = ListenerLimits { first_byte_timeout: set, ..ListenerLimits::default() };
            limits.first_byte(&access, has_frames).map(|time| time.as_secs())
        };
        assert_eq!([true, false].map(|has_frames| first(None, Access::SameUser, has_frames)), [None, None]);
        assert_eq!(first(None, Access::Anyone, true), Some(10));
        assert_eq!(first(None, Access::Anyone, false), Some(60), "people may type there");
        for access in [Access::SameUser, Access::Anyone] {
            assert_eq!(first(Some(Duration::from_secs(3)), access, true), Some(3), "who sets it has decided");
        }
    }

    #[test]
    fn contradictions_are_named_with_their_numbers() {
        let said = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.check().err().map_or_else(String::new, |contradiction| contradiction.to_string())
        };
        assert_eq!(said(|limits| limits.listener.max_connections = 0), "", "merely strict");
        assert!(said(|limits| limits.turn_bytes = 0).contains("turn_bytes is 0"));
        assert!(said(|limits| limits.spin = Duration::from_secs(2)).contains("spin (2s) is more than 1s"));
        assert_eq!(said(|limits| limits.spin = Duration::from_secs(1)), "");
        assert!(said(|limits| limits.turn_frames = 0).contains("turn_frames is 0"));
        assert!(said(|limits| limits.listener.connection.max_in_flight = 0).contains("max_in_flight is 0"));
        let first_byte = said(|limits| limits.listener.first_byte_timeout = Some(Duration::ZERO));
        assert!(first_byte.contains("first_byte_timeout is 0"), "{first_byte}");
        let frames = said(|limits| limits.max_buffered = (16 << 20) - 1);
        assert!(
            frames.contains("max_buffered (16777215)") && frames.contains("max_payload (16777216)"),
            "{frames}"
        );
        let replies = said(|limits| limits.max_buffered = 16 << 20);
        assert!(replies.contains("outbox_hard (67108864)"), "{replies}");
    }
}
