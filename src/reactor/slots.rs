//! Where listeners and links live, under tokens that can't be mistaken for later ones.

use mio::Token;
use slab::Slab;

/// Names one occupant of a slot. The generation tells it from earlier ones in the same slot,
/// so that an event or a timer that comes late finds nobody instead of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// A token is half index, half generation.
const HALF: u32 = usize::BITS / 2;
const MASK: usize = (1 << HALF) - 1;

/// The highest number of a reserved token.
pub(crate) const LAST_RESERVED: u32 = MASK as u32;

/// A token that no slot ever has, for sources that live elsewhere.
pub(crate) fn reserved_token(number: u32) -> Token {
    Token(MASK << HALF | number as usize)
}

/// The number of a reserved token.
pub(crate) fn reserved_number(token: Token) -> Option<u32> {
    (token.0 >> HALF == MASK).then_some((token.0 & MASK) as u32)
}

impl Key {
    pub(crate) fn token(self) -> Token {
        Token((self.generation as usize & MASK) << HALF | self.index as usize)
    }

    fn matches(self, token_generation: u32) -> bool {
        (self.generation as usize & MASK) == token_generation as usize
    }
}

/// A slab whose entries know their generation.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Slab<(u32, T)>,
    next_generation: u32,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Slots<T> {
        Slots { entries: Slab::new(), next_generation: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn insert(&mut self, item: T) -> Key {
        let generation = self.next_generation;
        // All ones are kept for reserved tokens.
        self.next_generation = (generation + 1) % (MASK as u32);
        let entry = self.entries.vacant_entry();
        let key = Key { index: entry.key() as u32, generation };
        entry.insert((generation, item));
        key
    }

    pub(crate) fn find(&self, token: Token) -> Option<Key> {
        let index = token.0 & MASK;
        let (generation, _) = self.entries.get(index)?;
        let key = Key { index: index as u32, generation: *generation };
        key.matches((token.0 >> HALF) as u32).then_some(key)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.entries
            .get(key.index as usize)
            .filter(|(generation, _)| *generation == key.generation)
            .map(|(_, item)| item)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize) {
            Some((generation, item)) if *generation == key.generation => Some(item),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.entries.try_remove(key.index as usize).map(|(_, item)| item)
    }

    /// Who has the largest `measure`. Looks at everyone.
    pub(crate) fn largest_by<N: Ord>(&self, measure: impl Fn(&T) -> N) -> Option<Key> {
        let largest = self.entries.iter().max_by_key(|(_, (_, item))| measure(item));
        largest.map(|(index, (generation, _))| Key { index: index as u32, generation: *generation })
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        let key = |(index, entry): (usize, &(u32, T))| Key { index: index as u32, generation: entry.0 };
        self.entries.iter().map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_token_finds_nobody() {
        let mut slots = Slots::new();
        let old = slots.insert('a');
        assert_eq!(slots.find(old.token()), Some(old));
        assert_eq!(slots.remove(old), Some('a'));
        let new = slots.insert('b');
        assert_eq!(old.index, new.index);
        assert_eq!(slots.find(old.token()), None);
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut 'b'));
    }
}
