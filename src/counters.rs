//! What a server has done so far, readable from anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of a server, from its start. Cheap to clone; all clones show the same numbers.
///
/// The numbers are read one by one while the server goes on: each is right, but they need not
/// be of the same moment.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    connections: AtomicU64,
    accepted: AtomicU64,
    requests: AtomicU64,
    failed: AtomicU64,
    notifies: AtomicU64,
    datagrams_dropped: AtomicU64,
    answers_to_nobody: AtomicU64,
    events: AtomicU64,
    events_dropped: AtomicU64,
}

impl Counters {
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
        self.0.requests.load(Relaxed)
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

    pub(crate) fn request(&self, failed: bool) {
        add(&self.0.requests, 1);
        add(&self.0.failed, u64::from(failed));
    }

    /// One that was deferred is answered.
    pub(crate) fn deferred(&self, failed: bool) {
        add(&self.0.failed, u64::from(failed));
    }

    pub(crate) fn notify(&self) {
        add(&self.0.notifies, 1);
    }
}

/// Only the loop's thread counts, so a plain load and store do; no locked instruction is needed.
fn add(number: &AtomicU64, count: u64) {
    number.store(number.load(Relaxed).wrapping_add(count), Relaxed);
}
