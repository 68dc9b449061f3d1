//! Who is told of what: the topics that somebody has subscribed to, and the fan-out of events.
//!
//! A topic keeps its subscribers, so that an event costs nothing for anybody else. What is published waits in
//! the mailbox until the link whose handler published it has written: a handler's reply precedes its events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::link::Task;
use super::slots::Key;
use super::system::System;
use super::{Reactor, Service};
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{Protocol, WhenSlow};

/// Something for all who have subscribed to a topic: one copy for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) topic: u16,
    pub(crate) payload: Arc<Vec<u8>>,
    /// How many before it were lost where it comes from.
    pub(crate) missed: u32,
    /// Its number among all that was published.
    pub(crate) number: u64,
}

impl Publication {
    /// One copy of it.
    pub(crate) fn of(topic: u16, payload: &[u8]) -> Result<Publication, NoMemory> {
        Ok(Publication { topic, payload: Arc::new(memory::copy(payload)?), missed: 0, number: 0 })
    }
}

/// The topics that somebody has subscribed to.
#[derive(Debug)]
pub(crate) struct Topics {
    by_type: HashMap<u16, Topic>,
    audience: Audience,
    fan_out: Option<FanOut>,
}

/// Whether anybody has subscribed to anything: what is published for nobody is not even copied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audience(Arc<AtomicUsize>);

impl Audience {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

#[derive(Debug)]
struct Topic {
    slow: WhenSlow,
    /// Whose it is from which publication on: what was published before somebody subscribed is not for him.
    subscribers: BTreeMap<Key, u64>,
}

impl Topics {
    pub(crate) fn new(audience: Audience) -> Topics {
        Topics { by_type: HashMap::new(), audience, fan_out: None }
    }

    /// `from`: the number of the next publication. That it subscribes twice changes nothing.
    pub(crate) fn join(&mut self, topic: u16, slow: WhenSlow, key: Key, from: u64) {
        let topic = self.by_type.entry(topic).or_insert_with(|| Topic { slow, subscribers: BTreeMap::new() });
        topic.subscribers.entry(key).or_insert(from);
        self.audience.0.store(self.by_type.len(), Ordering::Release);
    }

    pub(crate) fn leave(&mut self, number: u16, key: Key) {
        let Some(topic) = self.by_type.get_mut(&number) else { return };
        topic.subscribers.remove(&key);
        if topic.subscribers.is_empty() {
            self.by_type.remove(&number);
        }
        self.audience.0.store(self.by_type.len(), Ordering::Release);
    }

    /// Whether this is for the link, and then what becomes of it if too much waits there already.
    pub(crate) fn slow(&self, publication: &Publication, key: Key) -> Option<WhenSlow> {
        let topic = self.by_type.get(&publication.topic)?;
        topic.subscribers.get(&key).filter(|from| publication.number >= **from).map(|_| topic.slow)
    }

    /// Whether some are still to be told of what was published. Until then no mail is read, so that all are told
    /// in the order in which it was published, and publishers don't get ahead.
    #[inline]
    pub(super) fn is_fanning_out(&self) -> bool {
        self.fan_out.is_some()
    }

    /// All who have subscribed to one of these.
    fn subscribers(&self, publications: &[Publication]) -> BTreeSet<Key> {
        let mut topics: Vec<u16> = publications.iter().map(|publication| publication.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
            .iter()
            .filter_map(|topic| self.by_type.get(topic))
            .flat_map(|topic| topic.subscribers.keys())
            .copied()
            .collect()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.by_type.values().map(|topic| topic.subscribers.len()).sum()
    }
}

/// Something on its way to all who have subscribed.
#[derive(Debug)]
struct FanOut {
    publications: Vec<Publication>,
    /// Who has not been told yet.
    left: std::vec::IntoIter<Key>,
}

/// How many are told before others get their turn.
const PER_TURN: usize = 256;
/// How much is told in one go.
pub(super) const TOGETHER: usize = 64;

impl<Y: System> Reactor<Y> {
    /// Tells all who have subscribed, each with one write for all of these. If they are many, some of them
    /// only in later turns: see [`is_fanning_out`](Topics::is_fanning_out).
    pub(super) fn publish(&mut self, publications: &mut Vec<Publication>, service: &mut impl Service) {
        if publications.is_empty() {
            return;
        }
        self.publish_all(service);
        let left = self.topics.subscribers(publications).into_iter().collect::<Vec<_>>().into_iter();
        self.topics.fan_out = Some(FanOut { publications: std::mem::take(publications), left });
        self.fan_out(service);
    }

    /// Goes on with it.
    #[inline]
    pub(super) fn fan_out(&mut self, service: &mut impl Service) {
        if let Some(fan_out) = self.topics.fan_out.take() {
            self.go_on_with(fan_out, service);
        }
    }

    #[cold]
    fn go_on_with(&mut self, mut fan_out: FanOut, service: &mut impl Service) {
        for key in fan_out.left.by_ref().take(PER_TURN) {
            self.with_link(key, Task::Publish(&fan_out.publications), service);
        }
        if fan_out.left.len() > 0 {
            self.topics.fan_out = Some(fan_out);
        }
        if self.memory.is_short() {
            self.shed_memory(service);
        }
    }

    /// Tells all who are left.
    pub(super) fn publish_all(&mut self, service: &mut impl Service) {
        while self.topics.is_fanning_out() {
            self.fan_out(service);
        }
    }

    /// Behind the end of a link.
    pub(super) fn leave_topics(&mut self, key: Key, protocol: &Protocol) {
        if let Protocol::Framed(connection) = protocol {
            connection.subscribed().for_each(|topic| self.topics.leave(topic, key));
        }
    }
}
