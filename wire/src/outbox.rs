//! Bytes on their way out of one connection.

use std::io::IoSlice;
use std::ops::Range;

use crate::blocks::Blocks;
use crate::frame::{HEADER_LEN, Header};
use crate::memory::{self, NoMemory};

/// The memory behind an outbox. A connection owns one only while it has something to send; in
/// between, its owner keeps it for the next connection, so that ten thousand idle ones cost nothing.
#[derive(Debug, Default)]
pub struct Buffer(Box<Memory>);

/// What it consists of.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    /// Large payloads that are sent between them. Those that stand last are still here when all of `bytes` has left, and
    /// was moved away perhaps.
    blocks: Blocks,
    /// How many of `bytes` have left.
    sent: usize,
    /// Where in `bytes` the replies end whose requests count as in flight until then.
    marks: Vec<Mark>,
    /// How many of `marks` have left.
    marks_sent: usize,
    /// What those that have not cost together.
    marked: u32,
    /// Something that had to be sent could not be kept. What follows it is worth nothing.
    is_starved: bool,
}

/// A reply that has not left: when it does, a call of so many bytes is no longer in flight.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: usize,
    cost: u32,
}

/// What whoever has lent a payload sends next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Borrowed<'b> {
    /// What goes before it: a header, or what is left of that.
    pub before: &'b [u8],
    /// What has not left of it.
    pub rest: Range<usize>,
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
/// What one of small frames has at most, for [`Buffer::is_large`].
const SMALL_CAPACITY: usize = 256 << 10;
/// Sent bytes are moved out of the way when they are more than this and more than what follows.
const COMPACT_AT: usize = 64 << 10;

impl Buffer {
    /// Whether it is worth keeping for another connection.
    #[inline]
    pub fn is_worth_keeping(&self) -> bool {
        self.0.own_capacity() <= KEEP_CAPACITY
    }

    /// Whoever takes it next has memory, as far as he knows. Whether that was not so.
    #[inline]
    pub(crate) fn end_starving(&mut self) -> bool {
        std::mem::take(&mut self.0.is_starved)
    }

    /// Whether it holds more than one that only small frames have gone through.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.0.capacity() > SMALL_CAPACITY
    }
}

impl Memory {
    #[inline]
    fn capacity(&self) -> usize {
        self.own_capacity() + self.blocks.capacity()
    }

    #[inline]
    fn own_capacity(&self) -> usize {
        self.bytes.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    /// Whether it has nothing to send.
    #[inline]
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.blocks.is_empty()
    }

    /// Bytes that have not left.
    #[inline]
    fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.blocks.len()
    }

    /// What is to be sent next: all of it, or up to where something else stands between.
    #[inline]
    fn unsent(&self) -> &[u8] {
        match self.blocks.first_at() {
            None => &self.bytes[self.sent..],
            Some(at) if at > self.sent => &self.bytes[self.sent..at],
            Some(_) => self.blocks.first(),
        }
    }

    /// Large payloads between the bytes.
    #[inline]
    pub(crate) fn blocks(&mut self) -> &mut Blocks {
        &mut self.blocks
    }

    /// How many bytes stand behind the first `start` ones, none of which has left.
    #[inline]
    pub(crate) fn len_behind(&self, start: usize) -> usize {
        let own = self.bytes.len() - start;
        if self.blocks.is_empty() { own } else { own + self.blocks.len_behind(start) }
    }

    /// Throws away all behind the first `start` bytes.
    #[inline]
    pub(crate) fn cut(&mut self, start: usize) {
        self.bytes.truncate(start);
        if !self.blocks.is_empty() {
            self.blocks.cut(start);
        }
    }

    /// Appends so many bytes, which are large: without a copy, if they belong to the frame that is being handled.
    pub(crate) fn append_large(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
        match self.blocks.give_back(self.bytes.len(), bytes) {
            true => Ok(()),
            false => self.append(bytes),
        }
    }

    /// Appends without a copy.
    pub(crate) fn give(&mut self, bytes: Vec<u8>) -> Result<(), NoMemory> {
        if self.is_starved {
            return Err(NoMemory);
        }
        if self.blocks.are_copied() {
            return self.append(&bytes);
        }
        self.blocks.give(self.bytes.len(), bytes)
    }

    /// Where new bytes go: only append, and only what was [reserved](Memory::reserve).
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// As if there were no memory any more.
    #[cfg(test)]
    pub(crate) fn starve(&mut self) {
        self.is_starved = true;
    }

    /// Makes room for `count` more bytes.
    #[inline]
    pub(crate) fn reserve(&mut self, count: usize) -> Result<(), NoMemory> {
        if self.is_starved {
            return Err(NoMemory);
        }
        memory::reserve(&mut self.bytes, count)
    }

    /// Appends a frame, for which there is room.
    #[inline]
    pub(crate) fn push(&mut self, header: &Header, payload: &[u8]) {
        self.bytes.extend_from_slice(&header.encode());
        self.bytes.extend_from_slice(payload);
    }

    /// Makes room for a frame whose payload somebody sends himself.
    pub(crate) fn reserve_borrowed(&mut self) -> Result<(), NoMemory> {
        self.reserve(HEADER_LEN)?;
        self.blocks.reserve()
    }

    /// Appends one.
    pub(crate) fn push_borrowed(&mut self, header: &Header) {
        self.blocks.borrow(self.bytes.len() + HEADER_LEN, header.length as usize);
        self.bytes.extend_from_slice(&header.encode());
    }

    /// Copies what has not left of `payload`, which is the first that is borrowed.
    fn end_borrowing(&mut self, payload: &[u8]) -> Result<(), NoMemory> {
        let Some((at, rest)) = self.blocks.borrowed() else { return Ok(()) };
        let rest = payload.get(rest).unwrap_or_default();
        self.reserve(rest.len())?;
        self.blocks.end_borrowing();
        self.bytes.splice(at..at, rest.iter().copied());
        self.blocks.move_behind(at, rest.len());
        for mark in self.marks.iter_mut().filter(|mark| mark.end > at) {
            mark.end += rest.len();
        }
        Ok(())
    }

    /// Appends.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
        if bytes.len() <= self.bytes.capacity() - self.bytes.len() && !self.is_starved {
            self.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        self.append_beyond(bytes)
    }

    /// Puts a few bytes behind the first `start`, before those that were appended since.
    pub(crate) fn insert(&mut self, start: usize, bytes: &[u8]) -> Result<(), NoMemory> {
        self.reserve(bytes.len())?;
        self.bytes.splice(start..start, bytes.iter().copied());
        self.blocks.move_behind(start, bytes.len());
        Ok(())
    }

    #[cold]
    fn append_beyond(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
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
        self.marked += cost;
    }

    /// So many more bytes have left. Says which calls ended with that.
    #[inline]
    fn mark_sent(&mut self, count: usize) -> Left {
        if !self.blocks.is_empty() {
            return self.mark_pieces_sent(count);
        }
        self.sent = (self.sent + count).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            let left = Left { calls: (self.marks.len() - self.marks_sent) as u32, bytes: self.marked };
            self.bytes.clear();
            self.marks.clear();
            (self.sent, self.marks_sent, self.marked) = (0, 0, 0);
            return left;
        }
        self.mark_some_sent()
    }

    /// The same where something is left.
    #[cold]
    fn mark_some_sent(&mut self) -> Left {
        let mut left = Left::default();
        while let Some(mark) = self.marks.get(self.marks_sent).filter(|mark| mark.end <= self.sent) {
            left.calls += 1;
            left.bytes += mark.cost;
            self.marks_sent += 1;
        }
        self.marked -= left.bytes;
        self.tidy();
        left
    }

    /// Takes the bytes that have left out of the memory, when they are most of it.
    #[inline]
    fn tidy(&mut self) {
        if self.sent > COMPACT_AT && self.sent > self.bytes.len() / 2 {
            self.compact();
        }
    }

    /// The same where large payloads stand between the bytes.
    fn mark_pieces_sent(&mut self, count: usize) -> Left {
        let mut count = count.min(self.len());
        while let Some(at) = self.blocks.first_at() {
            let before = count.min(at - self.sent);
            self.sent += before;
            count -= before;
            if self.sent < at {
                break;
            }
            count -= self.blocks.advance(count);
            if count == 0 {
                break;
            }
        }
        let Some(at) = self.blocks.first_at() else { return self.mark_sent(count) };
        let mut left = Left::default();
        // The reply that a payload belongs to ends where that stands, or behind it.
        let has_left = |mark: &&Mark| mark.end <= self.sent && mark.end < at;
        while let Some(mark) = self.marks.get(self.marks_sent).filter(has_left) {
            left.calls += 1;
            left.bytes += mark.cost;
            self.marks_sent += 1;
        }
        self.marked -= left.bytes;
        self.tidy();
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
        self.blocks.shift(self.sent);
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
        self.memory().map_or(0, Memory::len)
    }

    /// Bytes of memory held.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.memory().map_or(0, Memory::capacity)
    }

    /// What is to be sent next. Behind that more may stand elsewhere: see [`unsent_pieces`](crate::Connection::unsent_pieces).
    #[inline]
    pub fn unsent(&self) -> &[u8] {
        self.memory().map_or(&[], Memory::unsent)
    }

    /// What is to be sent next, where that is of a frame whose payload is borrowed.
    pub(crate) fn borrowed(&self) -> Option<Borrowed<'_>> {
        let memory = self.memory()?;
        let (at, rest) = memory.blocks.borrowed()?;
        Some(Borrowed { before: &memory.bytes[memory.sent..at], rest })
    }

    /// Copies what has not left of the payload that is borrowed.
    pub(crate) fn end_borrowing(&mut self, payload: &[u8]) -> Result<(), NoMemory> {
        self.memory_mut().end_borrowing(payload)
    }

    /// Whether [`unsent`](Outbox::unsent) is not all.
    #[inline]
    pub(crate) fn is_in_pieces(&self) -> bool {
        self.memory().is_some_and(|memory| !memory.blocks.is_empty())
    }

    /// The pieces that are to be sent next, as many as there is room for. Says how many.
    pub(crate) fn gather<'a>(&'a self, pieces: &mut [IoSlice<'a>]) -> usize {
        self.memory().map_or(0, |memory| memory.blocks.gather(&memory.bytes, memory.sent, pieces))
    }

    /// Large payloads and their memory, unless it has none at all.
    #[inline]
    pub(crate) fn blocks(&mut self) -> Option<&mut Blocks> {
        self.0.as_mut().map(|buffer| &mut buffer.0.blocks)
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
        self.0.take_if(|buffer| buffer.0.is_empty())
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
    #[cfg_attr(miri, ignore = "takes too long")]
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
