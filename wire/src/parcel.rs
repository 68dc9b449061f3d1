//! What goes with a frame and is no bytes: descriptors, handles. Here only how many they are counts.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::frame;

/// Most things that go with one frame.
pub const MAX_ATTACHED: usize = 16;
/// Most things that wait on one connection to leave with their frames, or to be fetched.
pub const MAX_ATTACHED_LEAVING: usize = 256;

/// Things that go with one frame. What they are only whoever puts them in and takes them out knows.
///
/// Clones have the same things: whoever [takes](Parcel::take) first has them. Those that nobody takes are dropped with
/// the last clone.
#[derive(Clone)]
pub struct Parcel(Arc<Inner>);

struct Inner {
    count: u8,
    /// What frames call them, where those [name](crate::Attachments::Named) what goes with them.
    names: Vec<u32>,
    things: Mutex<Option<Box<dyn Any + Send>>>,
    /// Where they are counted as long as they wait to be taken.
    scale: Mutex<Option<Scale>>,
}

/// How many things wait to be taken, of all that came on one connection.
#[derive(Clone, Debug, Default)]
struct Scale(Arc<AtomicU32>);

impl Parcel {
    /// So many things, which are these.
    pub fn new<T: Any + Send>(count: u8, things: T) -> Parcel {
        Parcel::with(count, Vec::new(), things)
    }

    /// These things, which frames call so; each name from 1 to 2,147,483,647.
    pub fn named<T: Any + Send>(names: Vec<u32>, things: T) -> Parcel {
        Parcel::with(names.len().try_into().unwrap_or(u8::MAX), names, things)
    }

    fn with<T: Any + Send>(count: u8, names: Vec<u32>, things: T) -> Parcel {
        let things: Box<dyn Any + Send> = Box::new(things);
        Parcel(Arc::new(Inner { count, names, things: Mutex::new(Some(things)), scale: Mutex::default() }))
    }

    pub(crate) fn names(&self) -> &[u32] {
        &self.0.names
    }

    /// Bytes that it costs in the payload of its frame.
    #[must_use]
    pub fn cost(&self) -> usize {
        frame::attached_cost(self)
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.0.count
    }

    /// The things, for whoever asks first.
    #[must_use]
    pub fn take<T: Any>(&self) -> Option<T> {
        let things = self.0.things.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        self.0.unweigh();
        things.downcast().ok().map(|things| *things)
    }

    /// Looks at them, if nobody has taken them.
    pub fn look<T: Any, R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let things = self.0.things.lock().unwrap_or_else(PoisonError::into_inner);
        Some(look(things.as_ref()?.downcast_ref()?))
    }

    /// Counts them from now on, until they are taken or dropped. Says how many there are then.
    fn weigh(&self, scale: &Scale) -> u32 {
        let count = u32::from(self.0.count);
        // One that comes from a connection and goes on over another has been counted there.
        self.0.unweigh();
        *self.0.scale.lock().unwrap_or_else(PoisonError::into_inner) = Some(scale.clone());
        scale.0.fetch_add(count, Ordering::Relaxed) + count
    }
}

impl Inner {
    fn unweigh(&self) {
        if let Some(scale) = self.scale.lock().unwrap_or_else(PoisonError::into_inner).take() {
            scale.0.fetch_sub(u32::from(self.count), Ordering::Relaxed);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.unweigh();
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parcel").field(&self.0.count).finish()
    }
}

/// Whether they are clones of each other.
impl PartialEq for Parcel {
    fn eq(&self, other: &Parcel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Parcel {}

/// Fetches what frames name from where their sender has it.
pub trait Fetch: fmt::Debug + Send + Sync {
    /// As many things as there are names. `None`: one of them can't be had, and the others are let go.
    fn fetch(&self, names: &[u32]) -> Option<Parcel>;
}

/// What a read brought besides bytes.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "whoever reads has to say which it was")]
pub enum Arrived {
    /// Nothing.
    Nothing,
    /// These.
    Parcel(Parcel),
    /// More than could be taken, and so none.
    Cut,
}

/// The parcels of one connection.
#[derive(Debug, Default)]
pub(crate) struct Parcels {
    /// Came with bytes whose frames have not been handled yet.
    arrived: VecDeque<Parcel>,
    /// Where, counted from the next byte that leaves, their frames begin that have not begun to leave.
    leaving: VecDeque<(usize, Parcel)>,
    /// Their frames, which name them, have left, and the peer has not said yet that it has fetched them.
    kept: VecDeque<Parcel>,
    /// How many of those that have left the peer was done with.
    taken: u32,
    /// How many it says that it was done with: more than that while some of them may just be leaving.
    said: u32,
    /// Somebody sends, and has not said yet how much of it has left.
    is_writing: bool,
    /// How many frames that name something came and were dealt with.
    fetched: u32,
    /// Who fetches what the peer's frames name.
    source: Option<Box<dyn Fetch>>,
    /// Of all that came.
    held: Scale,
    /// How many may wait to leave or to be fetched, if that is fewer than ever.
    most: Option<usize>,
}

impl Parcels {
    /// One has come. False: with it too many wait to be taken.
    pub(crate) fn arrive(&mut self, parcel: Parcel, most: u32) -> bool {
        let is_fine = parcel.weigh(&self.held) <= most;
        self.arrived.push_back(parcel);
        is_fine
    }

    /// The one that came first.
    pub(crate) fn claim(&mut self) -> Option<Parcel> {
        self.arrived.pop_front()
    }

    pub(crate) fn fetch_with(&mut self, source: Box<dyn Fetch>) {
        self.source = Some(source);
    }

    pub(crate) fn can_fetch(&self) -> bool {
        self.source.is_some()
    }

    /// How many that came wait to be taken.
    pub(crate) fn held(&self) -> u32 {
        self.held.0.load(Ordering::Relaxed)
    }

    /// What a frame names.
    pub(crate) fn fetch(&mut self, names: &[u32]) -> Option<Parcel> {
        let parcel = self.source.as_ref()?.fetch(names)?;
        parcel.weigh(&self.held);
        Some(parcel)
    }

    /// One more frame that names something was dealt with. Says how many those are.
    pub(crate) fn count_fetched(&mut self) -> u32 {
        self.fetched = self.fetched.wrapping_add(1);
        self.fetched
    }

    /// How many no frame has claimed yet.
    pub(crate) fn unclaimed(&self) -> usize {
        self.arrived.len()
    }

    /// Nobody will claim them.
    pub(crate) fn drop_unclaimed(&mut self) {
        self.arrived.clear();
    }

    /// Whether so many more things may wait to leave.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        let most = self.most.map_or(MAX_ATTACHED_LEAVING, |most| most.min(MAX_ATTACHED_LEAVING));
        count <= MAX_ATTACHED && self.waiting() + count <= most
    }

    /// How many things wait to leave, or to be fetched.
    pub(crate) fn waiting(&self) -> usize {
        let parcels = self.leaving.iter().map(|(_, parcel)| parcel).chain(&self.kept);
        parcels.map(|parcel| usize::from(parcel.count())).sum()
    }

    /// So many more may wait from now on.
    pub(crate) fn leave_room(&mut self, more: usize) {
        self.most = Some(self.waiting().saturating_add(more));
    }

    /// One is to leave with the frame that begins there.
    pub(crate) fn send(&mut self, at: usize, parcel: Parcel) {
        self.leaving.push_back((at, parcel));
    }

    /// The one that goes with the next byte. Those that have names stay.
    pub(crate) fn next(&self) -> Option<&Parcel> {
        let (at, parcel) = self.leaving.front()?;
        (*at == 0 && parcel.names().is_empty()).then_some(parcel)
    }

    /// Bytes that leave before those with which another one goes.
    pub(crate) fn until(&self) -> usize {
        let mut going = self.leaving.iter().filter(|(at, parcel)| *at > 0 && parcel.names().is_empty());
        going.next().map_or(usize::MAX, |(at, _)| *at)
    }

    /// Somebody begins to send what waits, until [`sent`](Parcels::sent) says how much of it has left.
    pub(crate) fn begin_write(&mut self) {
        self.is_writing = true;
    }

    /// So many bytes have left, and what went with them. False: the peer has said it was done with more than has left.
    pub(crate) fn sent(&mut self, count: usize) -> bool {
        self.is_writing = false;
        while self.leaving.front().is_some_and(|(at, _)| *at < count) {
            let left = self.leaving.pop_front().map(|(_, parcel)| parcel);
            self.kept.extend(left.filter(|parcel| !parcel.names().is_empty()));
        }
        for (at, _) in &mut self.leaving {
            *at -= count;
        }
        self.said == self.taken || self.drop_taken(0)
    }

    /// Nothing more leaves. What has left may still be read, and fetched: it stays open as long as the connection, since
    /// what is open next under its name is something else.
    pub(crate) fn discard(&mut self) {
        self.leaving.clear();
        self.said = self.taken;
        self.is_writing = false;
    }

    /// Nothing more is fetched.
    pub(crate) fn let_go(&mut self) {
        self.kept.clear();
    }

    /// The peer is done with so many since the beginning, modulo 2^32. False: it can't be. While somebody
    /// [writes](Parcels::begin_write) it may be done with what waits to leave: how much of that has left is only known behind it.
    pub(crate) fn were_taken(&mut self, taken: u32) -> bool {
        let named = |(_, parcel): &&(usize, Parcel)| !parcel.names().is_empty();
        let leaving = if self.is_writing { self.leaving.iter().filter(named).count() } else { 0 };
        let is_rising = taken.wrapping_sub(self.taken) >= self.said.wrapping_sub(self.taken);
        self.said = taken;
        let is_fine = is_rising && self.drop_taken(leaving);
        if !is_fine {
            // Said once: what leaves behind it, a goodbye above all, is not held against it again.
            self.said = self.taken;
        }
        is_fine
    }

    /// Lets go what has left and was taken. False: the peer says it of more than that and of so many that are `leaving`.
    fn drop_taken(&mut self, leaving: usize) -> bool {
        let said = self.said.wrapping_sub(self.taken) as usize;
        let count = said.min(self.kept.len());
        let is_fine = said <= self.kept.len() + leaving;
        if is_fine {
            self.kept.drain(..count);
            self.taken = self.taken.wrapping_add(count as u32);
        }
        is_fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_is_taken_once_and_counted_until_then() {
        let mut parcels = Parcels::default();
        let (first, second) = (Parcel::new(2, vec!['a', 'b']), Parcel::new(1, vec!['c']));
        let clone = first.clone();
        assert!(clone == first && first != second);
        assert!(parcels.arrive(first, 3) && parcels.arrive(second, 3));
        assert!(!parcels.arrive(Parcel::new(1, vec!['d']), 3));
        assert_eq!(parcels.unclaimed(), 3);
        assert_eq!(clone.look(Vec::<char>::len), Some(2));
        let claimed = parcels.claim().expect("the first");
        assert_eq!(claimed.take::<Vec<char>>(), Some(vec!['a', 'b']));
        assert_eq!(clone.take::<Vec<char>>(), None);
        assert_eq!(parcels.held.0.load(Ordering::Relaxed), 2);
        parcels.drop_unclaimed();
        assert_eq!(parcels.held.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn parcels_leave_with_the_first_byte_of_their_frame() {
        let mut parcels = Parcels::default();
        let (first, second) = (Parcel::new(1, ()), Parcel::new(1, ()));
        parcels.send(3, first);
        parcels.send(10, second);
        assert_eq!((parcels.next(), parcels.until()), (None, 3));
        parcels.sent(3);
        assert_eq!((parcels.next().is_some(), parcels.until()), (true, 7));
        parcels.sent(1);
        assert_eq!((parcels.next(), parcels.until()), (None, 6));
        parcels.sent(6);
        assert_eq!((parcels.next().is_some(), parcels.until()), (true, usize::MAX));
        parcels.sent(100);
        assert_eq!((parcels.next(), parcels.until()), (None, usize::MAX));
        assert!(parcels.has_room(MAX_ATTACHED) && !parcels.has_room(MAX_ATTACHED + 1));
        (0..MAX_ATTACHED_LEAVING / MAX_ATTACHED)
            .for_each(|at| parcels.send(at, Parcel::new(MAX_ATTACHED as u8, ())));
        assert!(!parcels.has_room(1));
        parcels.discard();
        assert!(parcels.has_room(1));
        parcels.send(0, Parcel::new(2, ()));
        parcels.leave_room(3);
        assert!(parcels.has_room(3) && !parcels.has_room(4));
        parcels.discard();
        assert!(parcels.has_room(5) && !parcels.has_room(6));
        parcels.leave_room(usize::MAX);
        assert!(parcels.has_room(MAX_ATTACHED));
    }
}
