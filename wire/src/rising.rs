//! What is kept by ids that rise one by one: those of our own calls.

use crate::by_id::ById;

/// A map whose keys rise, and most of whose entries go about in the order in which they came: each has a place of its
/// own by the last bits of its id, and one that finds somebody there who has stayed goes to the others. So nearly always
/// it is one look into a table, however the ids wrap.
#[derive(Debug)]
pub(crate) struct Rising<V> {
    /// Their number is a power of two, or 0.
    places: Vec<Option<(u32, V)>>,
    others: ById<V>,
    len: usize,
}

/// Places of the first table.
const FEWEST: usize = 8;
/// Places that are kept while nobody is there.
const KEPT: usize = 1024;

impl<V> Default for Rising<V> {
    fn default() -> Rising<V> {
        Rising { places: Vec::new(), others: ById::default(), len: 0 }
    }
}

impl<V> Rising<V> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.get(id).is_some()
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&V> {
        match self.places.get(self.place(id)) {
            Some(Some((there, value))) if *there == id => Some(value),
            _ if self.others.is_empty() => None,
            _ => self.others.get(&id),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut V> {
        let place = self.place(id);
        match self.places.get_mut(place) {
            Some(Some((there, value))) if *there == id => Some(value),
            _ if self.others.is_empty() => None,
            _ => self.others.get_mut(&id),
        }
    }

    /// Of an id that is not here yet.
    #[inline]
    pub(crate) fn insert(&mut self, id: u32, value: V) {
        let inserted = self.insert_new(id, value);
        debug_assert!(inserted.is_ok(), "ids are not reused before their call is over");
    }

    /// Gives it back if the id is here.
    #[inline]
    pub(crate) fn insert_new(&mut self, id: u32, value: V) -> Result<(), V> {
        let place = self.place(id);
        match self.places.get_mut(place) {
            Some(free @ None) if self.others.is_empty() => *free = Some((id, value)),
            _ => return self.insert_beside(id, value),
        }
        self.len += 1;
        Ok(())
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: u32) -> Option<V> {
        let place = self.place(id);
        let removed = match self.places.get_mut(place) {
            Some(there) if there.as_ref().is_some_and(|(there, _)| *there == id) => there.take()?.1,
            _ if self.others.is_empty() => return None,
            _ => self.others.remove(&id)?,
        };
        self.shrink_by(1);
        Some(removed)
    }

    /// Removes it, if this is taken out of it.
    #[inline]
    pub(crate) fn remove_for<T>(&mut self, id: u32, take: impl FnOnce(&mut V) -> Option<T>) -> Option<T> {
        let place = self.place(id);
        let taken = match self.places.get_mut(place) {
            Some(there @ Some(_)) if there.as_ref().is_some_and(|(there, _)| *there == id) => {
                let (_, value) = there.as_mut()?;
                let taken = take(value)?;
                *there = None;
                taken
            }
            _ if self.others.is_empty() => return None,
            _ => self.remove_beside(id, take)?,
        };
        self.shrink_by(1);
        Some(taken)
    }

    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(u32, &mut V) -> bool) {
        for place in &mut self.places {
            if place.as_mut().is_some_and(|(id, value)| !keeps(*id, value)) {
                *place = None;
                self.len -= 1;
            }
        }
        let before = self.others.len();
        self.others.retain(|id, value| keeps(*id, value));
        self.len -= before - self.others.len();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        let placed = self.places.iter().flatten().map(|(id, value)| (*id, value));
        placed.chain(self.others.iter().map(|(id, value)| (*id, value)))
    }

    /// A large table is not kept for few: whoever goes through all of them goes through every place.
    #[inline]
    fn shrink_by(&mut self, count: usize) {
        self.len -= count;
        if self.len == 0 && self.places.len() > KEPT {
            self.places = Vec::new();
        }
    }

    #[inline]
    fn place(&self, id: u32) -> usize {
        id as usize & self.places.len().wrapping_sub(1)
    }

    #[cold]
    fn remove_beside<T>(&mut self, id: u32, take: impl FnOnce(&mut V) -> Option<T>) -> Option<T> {
        let taken = take(self.others.get_mut(&id)?)?;
        self.others.remove(&id);
        Some(taken)
    }

    /// Where its place is taken, or others are beside: in a larger table, unless this one has room enough for all.
    #[cold]
    fn insert_beside(&mut self, id: u32, value: V) -> Result<(), V> {
        if self.contains(id) {
            return Err(value);
        }
        self.len += 1;
        let place = self.place(id);
        if let Some(free @ None) = self.places.get_mut(place) {
            *free = Some((id, value));
            return Ok(());
        }
        if self.places.len() >= 2 * self.len {
            self.others.insert(id, value);
            return Ok(());
        }
        let room = (self.places.len() * 2).max(FEWEST);
        let placed =
            std::mem::replace(&mut self.places, std::iter::repeat_with(|| None).take(room).collect());
        let others = std::mem::take(&mut self.others);
        for (id, value) in placed.into_iter().flatten().chain(others).chain([(id, value)]) {
            let place = self.place(id);
            match &mut self.places[place] {
                free @ None => *free = Some((id, value)),
                Some(_) => drop(self.others.insert(id, value)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// As a map that has no such places.
    #[derive(Default)]
    struct Twice {
        rising: Rising<u32>,
        map: BTreeMap<u32, u32>,
    }

    impl Twice {
        fn insert(&mut self, id: u32) {
            self.rising.insert(id, !id);
            assert_eq!(self.rising.insert_new(id, 0), Err(0));
            self.map.insert(id, !id);
            self.check(id);
        }

        fn remove(&mut self, id: u32) {
            assert_eq!(self.rising.remove_for(id, |value| (*value != !id).then_some(())), None);
            let value = self.map.remove(&id);
            match id % 2 {
                0 => assert_eq!(self.rising.remove(id), value),
                _ => assert_eq!(self.rising.remove_for(id, |value| Some(*value)), value),
            }
            self.check(id);
        }

        fn check(&mut self, id: u32) {
            assert_eq!(self.rising.len(), self.map.len());
            for near in [id.wrapping_sub(8), id.wrapping_sub(1), id, id.wrapping_add(1)] {
                assert_eq!(self.rising.get(near), self.map.get(&near));
                assert_eq!(self.rising.get_mut(near), self.map.get_mut(&near));
            }
        }

        fn check_all(&self) {
            let all = self.rising.iter().map(|(id, value)| (id, *value)).collect::<BTreeMap<_, _>>();
            assert_eq!(all, self.map);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn a_window_moves_on_and_some_stay() {
        let mut twice = Twice::default();
        for id in (u32::MAX - 500..=u32::MAX).chain(1..500) {
            twice.insert(id);
            // One in seven stays for long, and some for ever.
            let (over, late) = (id.wrapping_sub(5), id.wrapping_sub(100));
            if over % 7 != 0 {
                twice.remove(over);
            }
            if late % 7 == 0 && late % 49 != 0 {
                twice.remove(late);
            }
        }
        twice.check_all();
        assert!(twice.rising.places.len() <= 8 * twice.rising.len());
        twice.rising.retain(|id, value| *value == !id && id % 2 == 0);
        twice.map.retain(|id, _| id % 2 == 0);
        twice.check(1);
        twice.check_all();
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn one_that_stays_costs_no_larger_table() {
        let mut rising = Rising::default();
        rising.insert(1, ());
        for id in 2..10_000 {
            rising.insert(id, ());
            assert_eq!(rising.remove(id), Some(()));
        }
        assert!(rising.places.len() <= FEWEST && rising.contains(1));
    }

    #[test]
    fn a_large_table_is_given_back_when_nobody_is_left() {
        for (many, kept) in [(KEPT as u32, KEPT), (KEPT as u32 + 1, 0)] {
            let mut rising = Rising::default();
            (0..many).for_each(|id| rising.insert(id, ()));
            for id in 0..many {
                assert!(rising.places.len() >= many as usize);
                assert_eq!(rising.remove(id), Some(()));
            }
            assert_eq!(rising.places.len(), kept);
            rising.insert(many, ());
            assert!(rising.contains(many));
        }
    }

    #[test]
    fn nothing_is_in_an_empty_one() {
        let mut rising = Rising::<u32>::default();
        assert_eq!((rising.get(0), rising.len(), rising.iter().count()), (None, 0, 0));
        assert_eq!(rising.remove(7), None);
    }
}
