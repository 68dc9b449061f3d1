//! Memory whose amount others drive: a lack of it is an error of theirs, not the process' end.
//!
//! Rust ends a process that gets no memory. So whatever grows with what a peer sends, or with what it
//! does not read, is reserved here. Small things of a fixed size, a link, a timer, the text of an
//! error, are not: for them a margin is left.

use std::cell::Cell;
use std::collections::{HashMap, TryReserveError, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::hint::black_box;

/// There is no memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for it")]
#[allow(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct NoMemory;

impl From<TryReserveError> for NoMemory {
    fn from(_: TryReserveError) -> NoMemory {
        NoMemory
    }
}

/// What must be left over behind everything that is reserved here.
const MARGIN: usize = 512 << 10;
/// Bytes that are small: to see whether the margin is there costs more than such a copy, and need not be done for each.
const SMALL: usize = 4 << 10;
/// What copies of small ones may take of the margin on each thread before it is looked for anew: that of twenty threads is
/// little more than half of it.
const UNSEEN: usize = 16 << 10;
/// What the smallest counts for.
const LEAST: usize = 32;

thread_local! {
    /// What is left of that on this thread.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is const; Clippy errs where the system's keys are used")]
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

/// Makes room for `count` more bytes, and for some more if they are to be had, so that many small ones
/// are not moved each time.
#[inline]
pub fn reserve(bytes: &mut Vec<u8>, count: usize) -> Result<(), NoMemory> {
    match count <= bytes.capacity() - bytes.len() {
        true => Ok(()),
        false => grow(bytes, count.max(bytes.len())).or_else(|_| grow(bytes, count)),
    }
}

/// Makes room for `count` more bytes and no more.
#[inline]
pub fn reserve_exact(bytes: &mut Vec<u8>, count: usize) -> Result<(), NoMemory> {
    match count <= bytes.capacity() - bytes.len() {
        true => Ok(()),
        false => grow(bytes, count),
    }
}

/// Appends.
pub fn append(bytes: &mut Vec<u8>, more: &[u8]) -> Result<(), NoMemory> {
    reserve(bytes, more.len())?;
    bytes.extend_from_slice(more);
    Ok(())
}

/// A copy to keep.
#[inline]
pub fn copy(bytes: &[u8]) -> Result<Vec<u8>, NoMemory> {
    let (mut copy, left) = (Vec::new(), LEFT.get());
    if bytes.len() <= SMALL.min(left) {
        copy.try_reserve_exact(bytes.len())?;
        LEFT.set(left.saturating_sub(bytes.len().max(LEAST)));
    } else {
        reserve_exact(&mut copy, bytes.len())?;
        LEFT.set(UNSEEN);
    }
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Makes room for one more entry.
pub fn reserve_entry<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) -> Result<(), NoMemory> {
    if map.len() < map.capacity() {
        return Ok(());
    }
    may_have((map.capacity() + 1) * 2 * size_of::<(K, V)>()).then_some(()).ok_or(NoMemory)?;
    map.try_reserve(1)?;
    has_room(MARGIN).then_some(()).ok_or(NoMemory)
}

/// Makes room for so many more entries.
pub(crate) fn reserve_entries<T>(queue: &mut VecDeque<T>, count: usize) -> Result<(), NoMemory> {
    if count <= queue.capacity() - queue.len() {
        return Ok(());
    }
    may_have((queue.len() + count) * 2 * size_of::<T>()).then_some(()).ok_or(NoMemory)?;
    queue.try_reserve(count)?;
    has_room(MARGIN).then_some(()).ok_or(NoMemory)
}

/// A copy to be kept in place of a buffer that has much more memory than what is left in it needs, which will be `end`
/// bytes: it may have held all that waited behind a turn's budget. `None`: it is to be kept as it is.
pub(crate) fn trimmed(bytes: &Vec<u8>, end: usize) -> Option<Vec<u8>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    // Not shrunk in place: that can end the process.
    let is_roomy = bytes.capacity() / 4 > bytes.len().max(end).max(1024);
    is_roomy.then(|| copy(bytes).ok()).flatten()
}

/// Whether there is memory for so many bytes at this moment.
pub fn has_room(count: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    // Without the black box the compiler may do without the memory, and claim to have had it.
    may_have(count) && black_box(&mut probe).try_reserve_exact(count).is_ok()
}

#[cold]
fn grow(bytes: &mut Vec<u8>, count: usize) -> Result<(), NoMemory> {
    if !may_have(bytes.len().saturating_add(count)) {
        return Err(NoMemory);
    }
    bytes.try_reserve_exact(count)?;
    match has_room(MARGIN) {
        true => Ok(()),
        false => Err(NoMemory),
    }
}

#[cfg(not(test))]
fn may_have(_count: usize) -> bool {
    true
}

#[cfg(test)]
pub(crate) use tests::{may_have, with_at_most};

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        #[allow(clippy::missing_const_for_thread_local, reason = "it is const; Clippy errs where the system's keys are used")]
        static MOST: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    pub(crate) fn may_have(count: usize) -> bool {
        count <= MOST.get().max(MARGIN)
    }

    /// Runs `what` on a system that gives nobody more than `most` bytes in one piece. (Not less than
    /// the margin.)
    pub(crate) fn with_at_most<T>(most: usize, what: impl FnOnce() -> T) -> T {
        let before = MOST.replace(most);
        let result = what();
        MOST.set(before);
        result
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri ends where there is no memory")]
    fn what_is_not_there_is_an_error() {
        let mut bytes = vec![1; 10];
        assert_eq!(reserve(&mut bytes, usize::MAX / 2), Err(NoMemory));
        assert_eq!(reserve_exact(&mut bytes, usize::MAX), Err(NoMemory));
        assert!(!has_room(usize::MAX / 2) && has_room(1));
        assert_eq!(append(&mut bytes, &[2; 3]), Ok(()));
        assert_eq!((bytes.len(), copy(&bytes)), (13, Ok(bytes)));
        with_at_most(MARGIN, || {
            assert_eq!(copy(&vec![0; MARGIN + 1]), Err(NoMemory));
            // Growing by half is enough where there is not enough to double.
            let mut bytes = vec![0; MARGIN - 10];
            assert_eq!(append(&mut bytes, &[0; 10]), Ok(()));
            assert_eq!(append(&mut bytes, &[0]), Err(NoMemory));
        });
    }
}
