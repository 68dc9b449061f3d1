//! Who is told what: the peer's subscriptions, which we serve, and ours, which the peer serves.
//!
//! Most connections have neither, and own nothing of this.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::by_id::IdHasher;
use crate::memory::{self, NoMemory};
use crate::rc::ResultCode;

type ByTopic<V> = HashMap<u16, V, BuildHasherDefault<IdHasher>>;

/// What becomes of an event for whose subscriber too much waits already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenSlow {
    /// It is dropped: who reads slowly misses what comes meanwhile.
    #[default]
    DropNewest,
    /// It is kept until there is room, in place of an older one: who reads slowly misses what lies between,
    /// and always gets the last one.
    KeepLatest,
    /// The connection ends: nobody ever misses an event without knowing.
    Disconnect,
}

/// What has become of one event for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "an owner that counts has to know them all")]
pub enum Pushed {
    /// It waits to be sent.
    Queued,
    /// It is kept until there is room.
    Kept,
    /// It is kept, and one that was kept before is dropped.
    Replaced,
    /// It is dropped: too much waits already, or the peer never takes so many bytes.
    Dropped,
    /// Too much waits already, and so the connection is at its end.
    Ended,
    /// The peer has not subscribed to this topic, or the connection is at its end.
    Nobody,
}

/// The subscriptions of one connection, in both directions.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    served: ByTopic<Served>,
    /// Topics of which an event is kept, in the order in which they will be sent.
    kept: VecDeque<u16>,
    /// Subscribes of ours without an answer: id, topic.
    asked: Vec<(u32, u16)>,
    /// Those that were answered with yes, and how many events got lost here since the last one.
    ours: ByTopic<u32>,
}

/// A subscription of the peer.
#[derive(Debug, Default)]
struct Served {
    /// Of the last event that was sent.
    sequence: u32,
    /// Events dropped since then.
    dropped: u32,
    kept: Option<Arc<Vec<u8>>>,
}

/// What stands in an event's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) sequence: u32,
    pub(crate) dropped: i32,
}

/// The peer's.
impl Subscriptions {
    /// From now on the peer is told of this topic. That it was already changes nothing.
    pub(crate) fn serve(&mut self, topic: u16) -> Result<(), NoMemory> {
        if !self.served.contains_key(&topic) {
            memory::reserve_entry(&mut self.served)?;
            memory::reserve_entries(&mut self.kept, self.served.len() + 1)?;
            self.served.insert(topic, Served::default());
        }
        Ok(())
    }

    pub(crate) fn stop_serving(&mut self, topic: u16) {
        if self.served.remove(&topic).is_some_and(|served| served.kept.is_some()) {
            self.kept.retain(|kept| *kept != topic);
        }
    }

    pub(crate) fn serves(&self, topic: u16) -> bool {
        self.served.contains_key(&topic)
    }

    pub(crate) fn served(&self) -> impl Iterator<Item = u16> {
        self.served.keys().copied()
    }

    /// The header of the topic's next event, unless one is kept that comes before it.
    pub(crate) fn stamp(&self, topic: u16) -> Option<Stamp> {
        let served = self.served.get(&topic).filter(|served| served.kept.is_none())?;
        Some(served.stamp())
    }

    /// The event with this stamp was sent.
    pub(crate) fn sent(&mut self, topic: u16, stamp: Stamp) {
        if let Some(served) = self.served.get_mut(&topic) {
            (served.sequence, served.dropped) = (stamp.sequence, 0);
        }
    }

    pub(crate) fn drop_one(&mut self, topic: u16) {
        self.miss(topic, 1);
    }

    /// The next event tells of so many more that never came.
    pub(crate) fn miss(&mut self, topic: u16, count: u32) {
        if let Some(served) = self.served.get_mut(&topic) {
            served.dropped = served.dropped.saturating_add(count);
        }
    }

    /// Keeps an event until there is room. Says whether another one was dropped for it.
    pub(crate) fn keep(&mut self, topic: u16, payload: &Arc<Vec<u8>>) -> bool {
        let Some(served) = self.served.get_mut(&topic) else { return false };
        let is_replaced = served.kept.replace(Arc::clone(payload)).is_some();
        match is_replaced {
            true => served.dropped = served.dropped.saturating_add(1),
            // There is room for all that are served.
            false => self.kept.push_back(topic),
        }
        is_replaced
    }

    /// Whether an event is kept until there is room.
    #[inline]
    pub(crate) fn keeps_some(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The kept event that is to be sent first.
    pub(crate) fn first_kept(&self) -> Option<(u16, Stamp, Arc<Vec<u8>>)> {
        let topic = *self.kept.front()?;
        let served = self.served.get(&topic)?;
        Some((topic, served.stamp(), served.kept.clone()?))
    }

    /// It was sent, or is given up.
    pub(crate) fn forget_first_kept(&mut self) {
        if let Some(served) = self.kept.pop_front().and_then(|topic| self.served.get_mut(&topic)) {
            served.kept = None;
        }
    }
}

impl Served {
    fn stamp(&self) -> Stamp {
        // 0 is left out when it wraps.
        let sequence = self.sequence.checked_add(1).unwrap_or(1);
        Stamp { sequence, dropped: i32::try_from(self.dropped).unwrap_or(i32::MAX) }
    }
}

/// Ours.
impl Subscriptions {
    pub(crate) fn reserve(&mut self) -> Result<(), NoMemory> {
        Ok(self.asked.try_reserve(1)?)
    }

    /// We ask for this topic.
    pub(crate) fn ask(&mut self, id: u32, topic: u16) {
        self.asked.push((id, topic));
    }

    /// We want no more of this topic, whatever was asked before.
    pub(crate) fn ask_no_more(&mut self, topic: u16) {
        self.asked.retain(|(_, asked)| *asked != topic);
        self.ours.remove(&topic);
    }

    /// Whether we have asked for this topic, and not been refused.
    pub(crate) fn is_ours(&self, topic: u16) -> bool {
        self.ours.contains_key(&topic) || self.asked.iter().any(|(_, asked)| *asked == topic)
    }

    /// Whether no subscribe waits for its answer.
    #[inline]
    pub(crate) fn are_answered(&self) -> bool {
        self.asked.is_empty()
    }

    /// A reply has come, perhaps to a subscribe.
    #[inline]
    pub(crate) fn answered(&mut self, id: u32, rc: ResultCode) {
        if self.asked.is_empty() {
            return; // As behind most replies.
        }
        let Some(index) = self.asked.iter().position(|(asked, _)| *asked == id) else { return };
        let (_, topic) = self.asked.swap_remove(index);
        if rc.is_ok() {
            self.ours.entry(topic).or_default();
        }
    }

    /// An event has come that says so many were dropped before it. `None`: nobody waits for it.
    /// Otherwise how many of the topic are missing, with those that got lost here.
    pub(crate) fn take(&mut self, topic: u16, dropped: i32) -> Option<u32> {
        let lost = self.ours.get_mut(&topic)?;
        let dropped = u32::try_from(dropped).unwrap_or(0);
        Some(std::mem::take(lost).saturating_add(dropped))
    }

    /// There was no memory for an event.
    pub(crate) fn lose(&mut self, topic: u16, dropped: i32) {
        if let Some(lost) = self.ours.get_mut(&topic) {
            let dropped = u32::try_from(dropped).unwrap_or(0);
            *lost = lost.saturating_add(dropped).saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_without_meeting_zero() {
        let mut served = Served { sequence: u32::MAX - 1, dropped: u32::MAX, kept: None };
        assert_eq!(served.stamp(), Stamp { sequence: u32::MAX, dropped: i32::MAX });
        served.sequence = u32::MAX;
        assert_eq!(served.stamp().sequence, 1);
    }

    #[test]
    fn an_unsubscribe_undoes_the_subscribes_before_it_and_no_other() {
        let mut ours = Subscriptions::default();
        ours.ask(1, 7);
        ours.ask(2, 7);
        ours.ask_no_more(7);
        ours.ask(4, 7);
        ours.answered(1, ResultCode::OK);
        ours.answered(2, ResultCode::OK);
        assert_eq!(ours.take(7, 0), None);
        ours.answered(4, ResultCode::OK);
        assert_eq!(ours.take(7, 3), Some(3));
        ours.lose(7, 2);
        assert_eq!((ours.take(7, -5), ours.take(7, 0)), (Some(3), Some(0)));
    }

    #[test]
    fn one_of_several_subscribes_is_enough() {
        let mut ours = Subscriptions::default();
        ours.ask(1, 7);
        ours.ask(2, 7);
        ours.answered(1, ResultCode::NO_HANDLER);
        assert_eq!(ours.take(7, 0), None);
        ours.answered(2, ResultCode::OK);
        assert_eq!(ours.take(7, 0), Some(0));
    }
}
