//! What a server has done so far, readable from anywhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod limit;

use crate::stats::{self, Histogram, MAX_USERS, Party, RANGES, Stats, range_of};
use sidewire_wire::ResultCode;

pub(crate) use limit::Limit;

/// Counts of a server, from its start. Cheap to clone; all clones show the same numbers.
///
/// The numbers are read one by one while the server goes on: each is right, but they need not
/// be of the same moment.
#[derive(Clone, Debug)]
pub struct Counters(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    connections: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    faulty: AtomicU64,
    /// By type; behind them, all that lie beyond the table.
    requests: Box<[AtomicU64]>,
    failures: Mutex<BTreeMap<(i32, i32), u64>>,
    failed: AtomicU64,
    notifies: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    handling: [AtomicU64; RANGES],
    slow_handlers: AtomicU64,
    stalls: AtomicU64,
    datagrams_dropped: AtomicU64,
    answers_to_nobody: AtomicU64,
    events: AtomicU64,
    events_dropped: AtomicU64,
    streams_stalled: AtomicU64,
    system_errors: AtomicU64,
    limits: [AtomicU64; Limit::COUNT],
    /// By the number of their account.
    users: Mutex<BTreeMap<u16, (Party, Arc<Usage>)>>,
}

/// What one party holds, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) connections: Level,
    pub(crate) bytes: Level,
    pub(crate) attachments: Level,
}

/// A number that goes up and down. Only the loop's thread changes it.
#[derive(Debug, Default)]
pub(crate) struct Level(AtomicUsize);

impl Level {
    #[inline]
    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    #[inline]
    pub(crate) fn add(&self, count: usize) {
        self.0.store(self.get().wrapping_add(count), Relaxed);
    }

    #[inline]
    pub(crate) fn sub(&self, count: usize) {
        self.0.store(self.get().wrapping_sub(count), Relaxed);
    }
}

/// Pairs of a type and a result code that are counted each for itself.
const MAX_PAIRS: usize = 1024;

impl Counters {
    /// Of a server with so many types.
    pub(crate) fn new(types: usize) -> Counters {
        let zero = AtomicU64::default;
        Counters(Arc::new(Numbers {
            connections: zero(),
            accepted: zero(),
            refused: zero(),
            faulty: zero(),
            requests: (0..=types).map(|_| zero()).collect(),
            failures: Mutex::default(),
            failed: zero(),
            notifies: zero(),
            bytes_received: zero(),
            bytes_sent: zero(),
            handling: [(); RANGES].map(|()| zero()),
            slow_handlers: zero(),
            stalls: zero(),
            datagrams_dropped: zero(),
            answers_to_nobody: zero(),
            events: zero(),
            events_dropped: zero(),
            streams_stalled: zero(),
            system_errors: zero(),
            limits: [(); Limit::COUNT].map(|()| zero()),
            users: Mutex::default(),
        }))
    }

    /// All numbers at once.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let numbers = &*self.0;
        let of = |number: &AtomicU64| number.load(Relaxed);
        let (unknown, known) =
            numbers.requests.split_last().map_or((0, &[][..]), |(last, all)| (of(last), all));
        let requests = (0..=u16::MAX).zip(known).map(|(msg_type, count)| (msg_type, of(count)));
        let failures = locked(&numbers.failures);
        let failures =
            failures.iter().map(|((msg_type, rc), count)| ((*msg_type, ResultCode::new(*rc)), *count));
        let limits = Limit::ALL.iter().zip(&numbers.limits).map(|(limit, count)| (limit.name(), of(count)));
        Stats {
            connections: of(&numbers.connections),
            accepted: of(&numbers.accepted),
            refused: of(&numbers.refused),
            faulty: of(&numbers.faulty),
            requests: requests.filter(|(_, count)| *count > 0).collect(),
            unknown,
            notifies: of(&numbers.notifies),
            failures: failures.collect(),
            failed: of(&numbers.failed),
            bytes_received: of(&numbers.bytes_received),
            bytes_sent: of(&numbers.bytes_sent),
            handling: Histogram(numbers.handling.iter().map(of).collect()),
            slow_handlers: of(&numbers.slow_handlers),
            stalls: of(&numbers.stalls),
            events: of(&numbers.events),
            events_dropped: of(&numbers.events_dropped),
            streams_stalled: of(&numbers.streams_stalled),
            datagrams_dropped: of(&numbers.datagrams_dropped),
            answers_to_nobody: of(&numbers.answers_to_nobody),
            system_errors: of(&numbers.system_errors),
            limits: limits.filter(|(_, count)| *count > 0).collect(),
            users: self.users(),
        }
    }

    /// Who holds most.
    fn users(&self) -> Vec<stats::Usage> {
        let users = locked(&self.0.users);
        let usage = |(party, usage): &(Party, Arc<Usage>)| {
            let levels = [&usage.connections, &usage.bytes, &usage.attachments];
            let [connections, buffered, attachments] = levels.map(|level| level.get() as u64);
            stats::Usage { party: party.clone(), connections, buffered, attachments }
        };
        let mut all: Vec<_> = users.values().map(usage).collect();
        all.retain(|usage| usage.connections > 0 || usage.buffered > 0);
        all.sort_by_key(|usage| std::cmp::Reverse((usage.connections, usage.buffered)));
        all.truncate(MAX_USERS);
        all
    }

    pub(crate) fn show_usage(&self, account: u16, party: Party, usage: Arc<Usage>) {
        locked(&self.0.users).insert(account, (party, usage));
    }

    pub(crate) fn hide_usage(&self, account: u16) {
        locked(&self.0.users).remove(&account);
    }

    /// Somebody was at this limit.
    #[cold]
    pub(crate) fn limit(&self, limit: Limit) {
        add(&self.0.limits[limit as usize], 1);
    }

    /// The system did not let us do what a server is for.
    #[cold]
    pub(crate) fn system_error(&self) {
        add(&self.0.system_errors, 1);
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Relaxed)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Relaxed)
    }

    /// Requests that reached the dispatch table so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.requests.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Those of them that were answered with a result code other than 0.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// Requests that wanted no answer.
    #[must_use]
    pub fn notifies(&self) -> u64 {
        self.0.notifies.load(Relaxed)
    }

    /// Datagrams that could not be delivered: their receiver had gone, or read too slowly.
    #[must_use]
    pub fn datagrams_dropped(&self) -> u64 {
        self.0.datagrams_dropped.load(Relaxed)
    }

    /// Answers to deferred requests that nobody waited for any more: the caller had cancelled or gone, or its
    /// time was over.
    #[must_use]
    pub fn answers_to_nobody(&self) -> u64 {
        self.0.answers_to_nobody.load(Relaxed)
    }

    /// How often a reply in parts had to wait until its caller had taken some.
    #[must_use]
    pub fn streams_stalled(&self) -> u64 {
        self.0.streams_stalled.load(Relaxed)
    }

    pub(crate) fn stream_stalled(&self) {
        add(&self.0.streams_stalled, 1);
    }

    pub(crate) fn answer_to_nobody(&self) {
        add(&self.0.answers_to_nobody, 1);
    }

    /// Events for subscribers, each counted for each of them; not those that were dropped at once.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.0.events.load(Relaxed)
    }

    /// Events that a subscriber did not get, since too much waited for it already.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.0.events_dropped.load(Relaxed)
    }

    pub(crate) fn event(&self) {
        add(&self.0.events, 1);
    }

    pub(crate) fn event_dropped(&self) {
        add(&self.0.events_dropped, 1);
    }

    pub(crate) fn datagram_dropped(&self, count: u64) {
        add(&self.0.datagrams_dropped, count);
    }

    pub(crate) fn connection_opened(&self) {
        add(&self.0.connections, 1);
        add(&self.0.accepted, 1);
    }

    pub(crate) fn connection_closed(&self) {
        add(&self.0.connections, u64::MAX);
    }

    /// A request has come.
    #[inline]
    pub(crate) fn request(&self, msg_type: i32) {
        // Negative ones lie far beyond.
        match self.0.requests.get(msg_type as u32 as usize) {
            Some(count) => add(count, 1),
            None => self.0.requests.last().into_iter().for_each(|count| add(count, 1)),
        }
    }

    /// One is answered.
    #[inline]
    pub(crate) fn answered(&self, msg_type: i32, rc: ResultCode) {
        if !rc.is_ok() {
            self.failed_with(msg_type, rc);
        }
    }

    #[cold]
    fn failed_with(&self, msg_type: i32, rc: ResultCode) {
        add(&self.0.failed, 1);
        let mut failures = locked(&self.0.failures);
        let pair = (msg_type, rc.code());
        // Which pairs there are is up to who calls.
        if failures.len() < MAX_PAIRS || failures.contains_key(&pair) {
            *failures.entry(pair).or_default() += 1;
        }
    }

    pub(crate) fn refused(&self) {
        add(&self.0.refused, 1);
    }

    pub(crate) fn faulty(&self) {
        add(&self.0.faulty, 1);
    }

    #[inline]
    pub(crate) fn bytes(&self, received: usize, sent: usize) {
        add(&self.0.bytes_received, received as u64);
        add(&self.0.bytes_sent, sent as u64);
    }

    /// So many handlers took so many nanoseconds together.
    #[inline]
    pub(crate) fn handling(&self, nanos: u64, handlers: u32) {
        let each = if handlers > 1 { nanos / u64::from(handlers) } else { nanos };
        add(&self.0.handling[range_of(each)], u64::from(handlers));
    }

    pub(crate) fn slow_handler(&self) {
        add(&self.0.slow_handlers, 1);
    }

    pub(crate) fn stall(&self) {
        add(&self.0.stalls, 1);
    }

    pub(crate) fn notify(&self) {
        add(&self.0.notifies, 1);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Only the loop's thread counts, so a plain load and store do; no locked instruction is needed.
#[inline]
fn add(number: &AtomicU64, count: u64) {
    number.store(number.load(Relaxed).wrapping_add(count), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_type_and_failures_by_type_and_code() {
        let counters = Counters::new(4);
        for (msg_type, rc) in [(1, 0), (1, 0), (3, -2), (4, -1), (-7, -1), (70_000, -1), (3, 9)] {
            counters.request(msg_type);
            counters.answered(msg_type, ResultCode::new(rc));
        }
        let stats = counters.stats();
        assert_eq!(stats.requests, BTreeMap::from([(1, 2), (3, 2)]));
        assert_eq!((stats.unknown, stats.failed, counters.requests(), counters.failed()), (3, 5, 7, 5));
        let failures = [((3, -2), 1), ((3, 9), 1), ((4, -1), 1), ((-7, -1), 1), ((70_000, -1), 1)];
        let failures = failures.map(|((msg_type, rc), count)| ((msg_type, ResultCode::new(rc)), count));
        assert_eq!(stats.failures, BTreeMap::from(failures));
    }

    /// Whoever calls chooses what is counted, but not how much of it is remembered.
    #[test]
    fn pairs_are_remembered_up_to_a_bound() {
        let counters = Counters::new(1);
        for rc in 1..5_000 {
            counters.answered(0, ResultCode::new(rc));
        }
        counters.answered(0, ResultCode::new(1));
        let stats = counters.stats();
        assert_eq!((stats.failures.len(), stats.failed), (MAX_PAIRS, 5_000));
        assert_eq!(stats.failures[&(0, ResultCode::new(1))], 2);
    }
}
