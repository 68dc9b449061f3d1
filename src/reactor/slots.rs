//! Where links live, under tokens that can't be mistaken for later ones.

use mio::Token;
use slab::Slab;

use super::census::Visit;
use sidewire_wire::memory;

/// Names one occupant of a slot. The generation tells it from earlier ones in the same slot,
/// so that an event or a timer that comes late finds nobody instead of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    generation: u32,
    index: u32,
}

/// Bits of a token: as many of the generation as stay beside the index, without the highest bit: tokens
/// that have it are the platform's own. In 32 bits there is room for 15 of the generation, which is
/// enough for events that are a turn old; [`Key`]s, which are kept for longer, hold all of it.
const INDEX_BITS: u32 = usize::BITS / 2;
const GENERATION_BITS: u32 = INDEX_BITS - 1;
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// How many occupants there can be at a time: 65,535 where addresses have 32 bits.
const CAPACITY: usize = INDEX_MASK;

/// The highest number of a reserved token.
pub(crate) const LAST_RESERVED: u32 = u32::MAX >> (u32::BITS - INDEX_BITS);

/// A token that no slot ever has, for sources that live elsewhere.
pub(crate) fn reserved_token(number: u32) -> Token {
    pack(number, GENERATION_MASK)
}

/// The number of a reserved token.
pub(crate) fn reserved_number(token: Token) -> Option<u32> {
    let (index, generation) = unpack(token);
    (generation == GENERATION_MASK).then_some(index)
}

fn pack(index: u32, generation: u32) -> Token {
    Token((generation & GENERATION_MASK) as usize * (INDEX_MASK + 1) + index as usize)
}

fn unpack(token: Token) -> (u32, u32) {
    (low(token.0), low(token.0 >> INDEX_BITS))
}

/// An index, or what stands above it.
#[inline]
fn low(bits: usize) -> u32 {
    // It fits; and what does not would be nobody's.
    u32::try_from(bits & INDEX_MASK).unwrap_or(u32::MAX)
}

/// The generation behind this one. A token never gets the one of reserved tokens.
fn next(generation: u32) -> u32 {
    let next = generation.wrapping_add(1);
    if next & GENERATION_MASK == GENERATION_MASK { next.wrapping_add(1) } else { next }
}

/// The generation, which counts up: the number of a connection in log lines.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.generation.fmt(f)
    }
}

impl Key {
    /// The number of a connection, as log lines have it.
    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.generation
    }

    pub(crate) fn token(self) -> Token {
        pack(self.index, self.generation)
    }
}

/// A slab whose entries know their generation.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Slab<Entry<T>>,
    next_generation: u32,
    capacity: usize,
}

/// Who is there, and what is remembered of his visit. The rest of his [`Key`] is where this stands.
#[derive(Debug)]
struct Entry<T> {
    visit: Visit,
    item: T,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Slots<T> {
        Slots { entries: Slab::new(), next_generation: 0, capacity: CAPACITY }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it can hold no more: there is no token, or no memory, for one more.
    pub(crate) fn is_full(&self) -> bool {
        let (count, room) = (self.entries.len(), self.entries.capacity());
        let larger = (room + 1) * 2 * size_of::<Entry<T>>();
        count >= self.capacity || (count == room && !memory::has_room(larger))
    }

    /// `None` if there is no token for it. Whoever has asked whether it [is full](Slots::is_full) has the
    /// memory, too.
    pub(crate) fn insert(&mut self, item: T, mut visit: Visit) -> Option<Key> {
        if self.entries.len() >= self.capacity {
            return None;
        }
        let generation = self.next_generation;
        let entry = self.entries.vacant_entry();
        let key = Key { index: u32::try_from(entry.key()).ok()?, generation };
        visit.generation = generation;
        entry.insert(Entry { visit, item });
        self.next_generation = next(generation);
        Some(key)
    }

    #[inline]
    pub(crate) fn find(&self, token: Token) -> Option<Key> {
        let (index, token_generation) = unpack(token);
        let generation = self.entries.get(index as usize)?.visit.generation;
        (generation & GENERATION_MASK == token_generation).then_some(Key { generation, index })
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.index as usize)?;
        (entry.visit.generation == key.generation).then_some(&entry.item)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.visit_mut(key).map(|(item, _)| item)
    }

    /// With what is remembered of his visit.
    #[inline]
    pub(crate) fn visit_mut(&mut self, key: Key) -> Option<(&mut T, &mut Visit)> {
        match self.entries.get_mut(key.index as usize) {
            Some(entry) if entry.visit.generation == key.generation => {
                Some((&mut entry.item, &mut entry.visit))
            }
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.entries.try_remove(key.index as usize).map(|entry| entry.item)
    }

    /// Who has the largest `measure`. Looks at everyone.
    pub(crate) fn largest_by<N: Ord>(&self, measure: impl Fn(&T) -> N) -> Option<Key> {
        let largest = self.entries.iter().max_by_key(|(_, entry)| measure(&entry.item));
        largest.map(key_of)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.item)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.entries.iter().map(key_of).collect()
    }

    /// All, with what is remembered of their visits.
    pub(crate) fn visits(&self) -> impl Iterator<Item = (Key, &Visit, &T)> {
        self.entries.iter().map(|(index, entry)| (key_of((index, entry)), &entry.visit, &entry.item))
    }
}

/// Of whoever stands there.
fn key_of<T>((index, entry): (usize, &Entry<T>)) -> Key {
    Key { generation: entry.visit.generation, index: low(index) }
}

#[cfg(test)]
mod tests {
    use sidewire_platform::Stream;

    use super::*;
    use crate::reactor::link::Link;
    use crate::reactor::system::Os;

    /// What ten thousand idle connections cost, each.
    #[test]
    fn a_place_with_an_idle_link_is_small() {
        let ours = size_of::<Entry<Link<Os>>>() - size_of::<Stream>();
        assert!(ours <= 248, "{ours} bytes");
    }

    #[test]
    fn a_late_token_finds_nobody() {
        let mut slots = Slots::new();
        let old = slots.insert('a', Visit::default()).expect("room");
        assert_eq!(slots.find(old.token()), Some(old));
        assert_eq!(slots.remove(old), Some('a'));
        let new = slots.insert('b', Visit::default()).expect("room");
        assert_eq!(old.index, new.index);
        assert_eq!(slots.find(old.token()), None);
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut 'b'));
    }

    /// On Windows a poll wakes itself with such a token.
    #[test]
    fn the_highest_bit_of_a_token_is_never_set() {
        let mut slots = Slots::new();
        let top = 1 << (usize::BITS - 1);
        for number in [0, 1, LAST_RESERVED / 2, LAST_RESERVED] {
            assert_eq!(reserved_token(number).0 & top, 0);
            assert_eq!(reserved_number(reserved_token(number)), Some(number));
        }
        for generation in [0, GENERATION_MASK - 1, GENERATION_MASK + 1, u32::MAX - 1, u32::MAX / 2 + 7] {
            slots.next_generation = generation;
            let key = slots.insert(generation, Visit::default()).expect("room");
            assert_eq!((key.token().0 & top, slots.find(key.token())), (0, Some(key)));
            assert_eq!(reserved_number(key.token()), None);
        }
    }

    /// Tokens hold only a part of a generation; keys tell all of them apart.
    #[test]
    fn a_generation_behind_the_token_s_bits_is_another() {
        let mut slots = Slots::new();
        let old = slots.insert('a', Visit::default()).expect("room");
        slots.remove(old);
        slots.next_generation = GENERATION_MASK + 1;
        let new = slots.insert('b', Visit::default()).expect("room");
        assert_eq!((old.token(), slots.get(old)), (new.token(), None));
        assert_eq!((old == new, slots.find(old.token())), (false, Some(new)));
    }

    #[test]
    fn reserved_generations_are_left_out() {
        let mut generation = GENERATION_MASK - 2;
        for _ in 0..4 {
            generation = next(generation);
            assert_ne!(generation & GENERATION_MASK, GENERATION_MASK);
        }
        assert_eq!(next(u32::MAX - 1), 0);
    }

    #[test]
    fn what_has_no_token_gets_no_slot() {
        let mut slots = Slots { capacity: 2, ..Slots::new() };
        let first = slots.insert('a', Visit::default()).expect("room");
        slots.insert('b', Visit::default()).expect("room");
        assert_eq!((slots.is_full(), slots.insert('c', Visit::default())), (true, None));
        slots.remove(first);
        assert!(slots.insert('d', Visit::default()).is_some());
    }
}
