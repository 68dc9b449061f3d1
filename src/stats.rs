//! What a server has done, as numbers of one moment, and who holds how much of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use sidewire_platform::User;
use sidewire_wire::ResultCode;

/// What a server has done since it was made: from [`Server::stats`](crate::Server::stats), or from
/// [`Counters::stats`](crate::Counters::stats) while it runs elsewhere.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are open now.
    pub connections: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Of those, and of senders of datagrams, the ones that were told "no": by policy, or for want of room.
    pub refused: u64,
    /// Connections that were ended because their client broke a rule or passed a limit.
    pub faulty: u64,
    /// Requests by their type. What lies beyond the dispatch table is in [`unknown`](Stats::unknown).
    pub requests: BTreeMap<u16, u64>,
    /// Requests of types beyond the dispatch table.
    pub unknown: u64,
    /// Requests that wanted no answer.
    pub notifies: u64,
    /// Requests that were answered with a result code other than 0, by their type and that code: of each of the
    /// first 1,024 such pairs, how many. `failed` counts all.
    pub failures: BTreeMap<(i32, ResultCode), u64>,
    /// All requests that were answered with a result code other than 0.
    pub failed: u64,
    /// Bytes that came over connections and in datagrams.
    pub bytes_received: u64,
    /// Bytes that left over connections.
    pub bytes_sent: u64,
    /// How long handlers took.
    pub handling: Histogram,
    /// How often handlers held the loop for longer than [`Limits::slow_handler`](crate::Limits::slow_handler).
    pub slow_handlers: u64,
    /// How often a client's socket took nothing more for the time being.
    pub stalls: u64,
    /// Events that were sent.
    pub events: u64,
    /// Events that were dropped, since who should have got them read too slowly.
    pub events_dropped: u64,
    /// How often a reply in parts had to wait until its caller had taken some.
    pub streams_stalled: u64,
    /// Datagrams that could not be delivered.
    pub datagrams_dropped: u64,
    /// Answers to deferred requests that nobody waited for any more.
    pub answers_to_nobody: u64,
    /// How often the system did not let the server accept a connection, watch it, or receive a datagram, for another
    /// reason than a lack of descriptors. The log has what it said.
    pub system_errors: u64,
    /// How often which limit turned somebody away, or ended a connection, by its name in [`Limits`](crate::Limits), and of
    /// what has no field there:
    ///
    /// - `max_buffered share`: of one user or address, see [`max_buffered`](crate::Limits::max_buffered);
    /// - `max_attachments share`: of one user or address, see
    ///   [`max_attachments`](crate::ConnectionLimits::max_attachments);
    /// - `unproven`: connections that had not proved yet that they know the token;
    /// - `descriptors`: the process had none left, and accepting rested;
    /// - `refusals at a time`: who was refused was not told so, since 64 others had not taken their answer;
    /// - `memory`: there was none;
    /// - `queued datagrams`: more answers waited than one socket keeps;
    /// - `deferred datagrams`: more requests waited for their answers than one socket keeps;
    /// - `datagram size`: a datagram without frames had more bytes than the loop's buffer, 256 KiB;
    /// - `unwanted requests`: one was not deferred, since those that nobody waits for any more, and that are still worked
    ///   on, hold 256 MiB ([`Reply::defer`](crate::Reply::defer));
    /// - `attachments leaving`: 240 that one client was sent, or more, had not left or were not taken
    ///   ([`Reply::attach`](crate::Reply::attach)).
    ///
    /// Each of them is also in the log, with who it was and how much he had: the first eight of a kind at an endpoint, and
    /// then fewer and fewer.
    ///
    /// A frame that is too large counts as `max_payload` in both layouts.
    pub limits: BTreeMap<&'static str, u64>,
    /// Who is connected, or holds memory: those with most connections first, at most 64.
    pub users: Vec<Usage>,
}

/// What one user, or one address, has of a server now: of all its listeners together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Who it is.
    pub party: Party,
    /// Connections that are open.
    pub connections: u64,
    /// Bytes that they hold in unfinished frames and outboxes.
    pub buffered: u64,
    /// Attachments that go with their frames: that came and were not taken yet, and that wait to leave.
    pub attachments: u64,
}

/// All peers that count as one, where a server's places and memory are [shared](crate::Limits::max_buffered).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Party {
    /// A user, where the system names it.
    User(User),
    /// An IP address: of IPv6 the first 64 bits, of this machine's own always 127.0.0.1.
    Address(IpAddr),
    /// Those at such an address who have proved that they know the token that a listener asks for, where the system names no
    /// users. They may hold as much as the server's own user.
    TokenHolder(IpAddr),
    /// All others.
    Unknown,
}

/// `uid 1000`, `192.0.2.1`, `2001:db8::/64`, `192.0.2.1 with the token`.
impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::User(user) => user.fmt(f),
            Party::Address(address @ IpAddr::V6(_)) => write!(f, "{address}/64"),
            Party::Address(address) => address.fmt(f),
            Party::TokenHolder(address) => write!(f, "{} with the token", Party::Address(*address)),
            Party::Unknown => f.write_str("unknown"),
        }
    }
}

/// How many of them are told of.
pub(crate) const MAX_USERS: usize = 64;

/// How many times lie in which range. Each range goes up to twice as long as the one before.
///
/// A server times handlers where it looks at the clock anyway: one for itself, where a client waits for each
/// answer; of those that come in one go up to sixteen together, each of which then counts for its share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(pub(crate) Vec<u64>);

impl Histogram {
    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Ranges that are not empty, shortest first: what all in it are shorter than, and how many they are.
    pub fn ranges(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.0
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (upper(index), *count))
    }

    /// What this share of all times, 0.5 for half of them, is shorter than. Zero if there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut so_far = 0;
        let found = self.0.iter().position(|count| {
            so_far += count;
            so_far >= wanted.max(1)
        });
        found.map_or(Duration::ZERO, upper)
    }
}

/// Ranges of a histogram: the last goes on for ever.
pub(crate) const RANGES: usize = 40;

/// In which range a time lies.
#[inline]
pub(crate) fn range_of(nanos: u64) -> usize {
    ((u64::BITS - nanos.leading_zeros()) as usize).min(RANGES - 1)
}

/// What a range's times are shorter than.
fn upper(index: usize) -> Duration {
    Duration::from_nanos(1 << index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_have_names() {
        let names = [
            Party::User(User::Uid(7)),
            Party::Address([192, 0, 2, 1].into()),
            Party::Address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0].into()),
            Party::TokenHolder([192, 0, 2, 1].into()),
            Party::Unknown,
        ];
        let texts = ["uid 7", "192.0.2.1", "2001:db8::/64", "192.0.2.1 with the token", "unknown"];
        assert_eq!(names.map(|party| party.to_string()), texts);
    }

    #[test]
    fn times_lie_below_what_their_range_goes_up_to() {
        for nanos in [0, 1, 2, 3, 4, 1000, 1023, 1024, 1_000_000_000] {
            let index = range_of(nanos);
            assert!(Duration::from_nanos(nanos) < upper(index), "{nanos}");
            assert!(index == 0 || Duration::from_nanos(nanos) >= upper(index - 1), "{nanos}");
        }
        assert_eq!(range_of(u64::MAX), RANGES - 1);
    }

    #[test]
    fn a_quantile_is_where_so_many_are_shorter() {
        let mut counts = vec![0; RANGES];
        (counts[10], counts[20]) = (90, 10);
        let histogram = Histogram(counts);
        let at = |share| histogram.quantile(share).as_nanos();
        assert_eq!(
            [at(0.0), at(0.5), at(0.9), at(0.91), at(1.0)],
            [1 << 10, 1 << 10, 1 << 10, 1 << 20, 1 << 20]
        );
        assert_eq!((histogram.count(), histogram.ranges().count()), (100, 2));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
