//! Bytes on their way out of one connection.

use crate::memory::{self, NoMemory};

/// The memory behind an outbox. A connection owns one only while it has something to send; in
/// between, its owner keeps it for the next connection, so that ten thousand idle ones cost nothing.
#[derive(Debug, Default)]
pub struct Buffer(Box<Memory>);

/// What it consists of.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    /// How many of `bytes` have left.
    sent: usize,
    /// Where in `bytes` the replies end whose requests count as in flight until then.
    marks: Vec<Mark>,
    /// How many of `marks` have left.
    marks_sent: usize,
    /// Something that had to be sent could not be kept. What follows it is worth nothing.
    is_starved: bool,
}

/// A reply that has not left: when it does, a call of so many bytes is no longer in flight.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: usize,
    cost: u32,
}

/// What has left with some bytes: so many replies, to requests of so many bytes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Replies, and so calls that are no longer in flight.
    pub(crate) calls: u32,
    /// Payload bytes of their requests.
    pub(crate) bytes: u32,
}

/// Buffers that have grown beyond this are given back to the system when they are empty.
const KEEP_CAPACITY: usize = 4 << 20;
/// Sent bytes are moved out of the way when they are more than this and more than what follows.
const COMPACT_AT: usize = 64 << 10;

impl Buffer {
    /// Whether it is worth keeping for another connection.
    #[inline]
    pub fn is_worth_keeping(&self) -> bool {
        self.0.capacity() <= KEEP_CAPACITY
    }
}

impl Memory {
    #[inline]
    fn capacity(&self) -> usize {
        self.bytes.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    /// Where new bytes go: only append, and only what was [reserved](Memory::reserve).
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Makes room for `count` more bytes.
    #[inline]
    pub(crate) fn reserve(&mut self, count: usize) -> Result<(), NoMemory> {
        if self.is_starved {
            return Err(NoMemory);
        }
        memory::reserve(&mut self.bytes, count)
    }

    /// Appends.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
        self.reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes room for a reply's header, its padding, and its [mark](Memory::mark). Where there is
    /// none the connection can't go on: see [`is_starved`](Outbox::is_starved).
    #[inline]
    pub(crate) fn reserve_reply(&mut self, count: usize) -> Result<(), NoMemory> {
        let has_room = count <= self.bytes.capacity() - self.bytes.len();
        if has_room && self.marks.len() < self.marks.capacity() && !self.is_starved {
            return Ok(());
        }
        self.grow_for_reply(count)
    }

    #[cold]
    fn grow_for_reply(&mut self, count: usize) -> Result<(), NoMemory> {
        let result = self.reserve(count).and_then(|()| Ok(self.marks.try_reserve(1)?));
        self.is_starved |= result.is_err();
        result
    }

    /// The bytes written so far end a reply; once they have left, `cost` is no longer in flight.
    #[inline]
    pub(crate) fn mark(&mut self, cost: u32) {
        self.marks.push(Mark { end: self.bytes.len(), cost });
    }

    /// So many more bytes have left. Says which calls ended with that.
    #[inline]
    fn mark_sent(&mut self, count: usize) -> Left {
        let mut left = Left::default();
        self.sent = (self.sent + count).min(self.bytes.len());
        while let Some(mark) = self.marks.get(self.marks_sent).filter(|mark| mark.end <= self.sent) {
            left.calls += 1;
            left.bytes += mark.cost;
            self.marks_sent += 1;
        }
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.marks.clear();
            (self.sent, self.marks_sent) = (0, 0);
        } else if self.sent > COMPACT_AT && self.sent > self.bytes.len() / 2 {
            self.compact();
        }
        left
    }

    /// Moves what has left out of the way.
    #[cold]
    fn compact(&mut self) {
        self.bytes.drain(..self.sent);
        self.marks.drain(..self.marks_sent);
        for mark in &mut self.marks {
            mark.end -= self.sent;
        }
        (self.sent, self.marks_sent) = (0, 0);
    }
}

/// The bytes that a connection still has to send, in order. Never shrinks what was accepted,
/// except that a frame under construction can be cut back to where it began.
#[derive(Debug, Default)]
pub struct Outbox(Option<Buffer>);

impl Outbox {
    /// Whether everything has left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that have not left.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory().map_or(0, |memory| memory.bytes.len() - memory.sent)
    }

    /// Bytes of memory held.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.memory().map_or(0, Memory::capacity)
    }

    /// What is to be sent next.
    #[inline]
    pub fn unsent(&self) -> &[u8] {
        self.memory().map_or(&[], |memory| &memory.bytes[memory.sent..])
    }

    /// Replies that have not left.
    #[inline]
    pub(crate) fn replies(&self) -> usize {
        self.memory().map_or(0, |memory| memory.marks.len() - memory.marks_sent)
    }

    /// Empties it, and keeps the memory: what it held was sent as a whole, or is given up.
    #[inline]
    pub fn clear(&mut self) {
        self.mark_sent(self.len());
    }

    /// `count` bytes of [`unsent`](Outbox::unsent) have left. Says which calls ended with that.
    #[inline]
    pub(crate) fn mark_sent(&mut self, count: usize) -> Left {
        self.0.as_mut().map_or_else(Left::default, |buffer| buffer.0.mark_sent(count))
    }

    /// The memory to write into.
    #[inline]
    pub(crate) fn memory_mut(&mut self) -> &mut Memory {
        &mut self.0.get_or_insert_default().0
    }

    /// Where new bytes go: only append, and only what was [reserved](Outbox::reserve).
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        self.memory_mut().bytes()
    }

    /// Makes room for `count` more bytes.
    #[inline]
    pub(crate) fn reserve(&mut self, count: usize) -> Result<(), NoMemory> {
        self.memory_mut().reserve(count)
    }

    /// Appends.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
        self.memory_mut().append(bytes)
    }

    /// Whether a reply could not be kept, so that no other can follow either.
    #[inline]
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.memory().is_some_and(|memory| memory.is_starved)
    }

    /// Lends it memory to write into, if it has none.
    #[inline]
    pub(crate) fn lend(&mut self, spare: &mut Vec<Buffer>) {
        if self.0.is_none() {
            self.0 = spare.pop();
        }
    }

    /// Takes its memory back if it has nothing to send.
    #[inline]
    pub(crate) fn reclaim(&mut self) -> Option<Buffer> {
        let mut buffer = self.0.take_if(|buffer| buffer.0.bytes.is_empty())?;
        buffer.0.is_starved = false;
        Some(buffer)
    }

    #[inline]
    fn memory(&self) -> Option<&Memory> {
        self.0.as_ref().map(|buffer| &*buffer.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_end_when_their_reply_has_left() {
        let mut outbox = Outbox::default();
        for cost in [10, 20] {
            outbox.bytes().extend_from_slice(&[0; 100]);
            outbox.memory_mut().mark(cost);
        }
        assert_eq!(outbox.mark_sent(99), Left { calls: 0, bytes: 0 });
        assert_eq!(outbox.mark_sent(1), Left { calls: 1, bytes: 10 });
        assert!(outbox.reclaim().is_none());
        assert_eq!(outbox.mark_sent(100), Left { calls: 1, bytes: 20 });
        assert!(outbox.is_empty());
        assert!(outbox.reclaim().is_some());
    }

    #[test]
    fn compaction_moves_marks() {
        let mut outbox = Outbox::default();
        outbox.bytes().extend_from_slice(&vec![1; COMPACT_AT * 2]);
        outbox.memory_mut().mark(1);
        outbox.bytes().extend_from_slice(&[2; 10]);
        outbox.memory_mut().mark(2);
        assert_eq!(outbox.mark_sent(COMPACT_AT * 2), Left { calls: 1, bytes: 1 });
        outbox.bytes().push(3);
        assert_eq!(outbox.unsent(), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
        assert_eq!(outbox.mark_sent(10), Left { calls: 1, bytes: 2 });
        assert_eq!(outbox.unsent(), [3]);
    }

    /// How much of what has left is still held.
    fn sent(outbox: &Outbox) -> usize {
        outbox.memory().expect("memory").sent
    }

    #[test]
    fn what_has_left_is_moved_away_once_it_is_much() {
        let much = 64 << 10;
        for (count, sent_later) in [(much, much), (much + 1, 0)] {
            let mut outbox = Outbox::default();
            outbox.bytes().resize(much + 2, 7);
            outbox.mark_sent(count);
            assert_eq!(sent(&outbox), sent_later);
        }
        // And more than what follows, or large outboxes would be moved over and over.
        for (follows, sent_later) in [(much * 2, much * 2), (much * 2 - 1, 0)] {
            let mut outbox = Outbox::default();
            outbox.bytes().resize(much * 2 + follows, 7);
            outbox.mark_sent(much * 2);
            assert_eq!(sent(&outbox), sent_later);
        }
    }

    #[test]
    fn memory_of_up_to_four_megabytes_is_worth_keeping() {
        for (capacity, is_kept) in [(4 << 20, true), ((4 << 20) + 1, false)] {
            let mut outbox = Outbox::default();
            outbox.bytes().reserve_exact(capacity);
            assert_eq!(outbox.capacity(), capacity);
            assert_eq!(outbox.reclaim().expect("its memory").is_worth_keeping(), is_kept);
        }
    }
}
