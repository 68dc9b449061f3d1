//! Bytes to keep, of which the memory may be that of the frame in which they came.

use std::fmt;
use std::mem;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::blocks::is_worth_keeping;
use crate::memory;

/// What came with a reply. A large one lies where it was read to, behind its header: it was not copied. When it is dropped
/// its connection, if that is still there, gets the memory back for the next one.
#[derive(Clone)]
pub struct Payload(Bytes);

#[derive(Clone)]
enum Bytes {
    Own(Vec<u8>),
    Lies(Within),
}

/// One that lies in the frame that brought it. It is there until it is dropped, and then out of the way of all that is small.
#[derive(Clone)]
struct Within(Option<Box<InFrame>>);

/// What is to be known of such a one.
struct InFrame {
    frame: Vec<u8>,
    /// Where it begins in that; it ends where that ends.
    start: usize,
    /// Whose memory it is.
    home: Weak<Mutex<Vec<u8>>>,
}

/// Memory that a connection keeps for its next large frame. Its pages are there already.
#[derive(Debug, Default)]
pub(crate) struct Home(Arc<Mutex<Vec<u8>>>);

impl Home {
    /// Of a piece of `frame`, of which the rest is not needed.
    pub(crate) fn payload(&self, mut frame: Vec<u8>, piece: Range<usize>) -> Payload {
        // It might be kept for long, and with it memory of which it needs but little.
        if frame.capacity() / 2 > piece.len()
            && let Ok(copy) = memory::copy(&frame[piece.clone()])
        {
            self.keep(frame);
            return copy.into();
        }
        frame.truncate(piece.end);
        let start = piece.start.min(frame.len());
        let within = InFrame { frame, start, home: Arc::downgrade(&self.0) };
        Payload(Bytes::Lies(Within(Some(Box::new(within)))))
    }

    /// Keeps the memory of a frame that is over, if it has the right size.
    pub(crate) fn keep(&self, memory: Vec<u8>) {
        keep(&self.0, memory);
    }

    /// What is kept, if it is at least so much.
    pub(crate) fn take(&self, at_least: usize) -> Option<Vec<u8>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.capacity() >= at_least).then(|| mem::take(&mut *kept))
    }

    #[cold]
    pub(crate) fn capacity(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).capacity()
    }
}

fn keep(home: &Mutex<Vec<u8>>, mut memory: Vec<u8>) {
    let mut kept = home.lock().unwrap_or_else(PoisonError::into_inner);
    if is_worth_keeping(&memory) && memory.capacity() > kept.capacity() {
        memory.clear();
        mem::swap(&mut *kept, &mut memory);
    }
    // Whatever is given to the system is given without the lock.
    drop(kept);
}

impl Payload {
    /// The same on its own: what lies behind a header is moved to its place.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Bytes::Own(bytes) => bytes,
            Bytes::Lies(mut within) => within.0.take().map(InFrame::into_vec).unwrap_or_default(),
        }
    }
}

impl InFrame {
    #[cold]
    #[allow(clippy::boxed_local, reason = "what is to be done about it stays out of the way, its box too")]
    fn into_vec(self: Box<Self>) -> Vec<u8> {
        let InFrame { mut frame, start, .. } = *self;
        frame.drain(..start);
        frame
    }

    #[cold]
    #[inline(never)]
    #[allow(clippy::boxed_local, reason = "the same")]
    fn go_home(self: Box<Self>) {
        if let Some(home) = self.home.upgrade() {
            keep(&home, self.frame);
        }
    }
}

impl Drop for Within {
    #[inline]
    fn drop(&mut self) {
        if let Some(within) = self.0.take() {
            within.go_home();
        }
    }
}

/// A copy is nobody else's.
impl Clone for InFrame {
    fn clone(&self) -> InFrame {
        InFrame { frame: self.frame[self.start..].to_vec(), start: 0, home: Weak::new() }
    }
}

impl Default for Payload {
    #[inline]
    fn default() -> Payload {
        Vec::new().into()
    }
}

impl From<Vec<u8>> for Payload {
    #[inline]
    fn from(bytes: Vec<u8>) -> Payload {
        Payload(Bytes::Own(bytes))
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Own(bytes) => bytes,
            Bytes::Lies(Within(within)) => {
                within.as_ref().map_or(&[], |within| &within.frame[within.start..])
            }
        }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Payload {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LARGE;

    /// Calls move it about.
    #[test]
    fn it_is_no_larger_than_a_vec() {
        assert_eq!(size_of::<Payload>(), size_of::<Vec<u8>>());
    }

    #[test]
    fn a_large_one_lies_in_its_frame_and_gives_the_memory_back() {
        let home = Home::default();
        let frame = vec![7; LARGE + 16];
        let place = frame.as_ptr();
        let payload = home.payload(frame, 16..LARGE + 16);
        assert_eq!((payload.as_ptr(), payload.len()), (place.wrapping_add(16), LARGE));
        assert_eq!(payload, vec![7; LARGE]);
        let copy = payload.clone();
        assert_eq!(home.capacity(), 0);
        drop(payload);
        assert!(home.take(LARGE + 17).is_none());
        assert_eq!(home.take(LARGE).map(|memory| (memory.as_ptr(), memory.len())), Some((place, 0)));
        drop(copy);
        assert_eq!(home.capacity(), 0, "a copy is nobody else's");
    }

    #[test]
    fn one_that_is_kept_as_a_vec_keeps_its_memory() {
        let home = Home::default();
        let frame: Vec<u8> = (0..=255).cycle().take(LARGE + 16).collect();
        let payload = home.payload(frame, 16..LARGE + 16).into_vec();
        assert_eq!((payload.len(), &payload[..3]), (LARGE, &[16, 17, 18][..]));
        assert_eq!(home.capacity(), 0);
        let left = home.payload(vec![1; LARGE + 16], 16..LARGE + 16);
        drop(home);
        assert_eq!(left, vec![1; LARGE], "its connection is gone");
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn little_of_much_is_copied_and_too_much_is_not_kept() {
        let home = Home::default();
        let payload = home.payload(Vec::from_iter([0; 4 * LARGE]), 16..LARGE);
        assert_eq!((payload.len(), home.capacity()), (LARGE - 16, 4 * LARGE));
        home.keep(vec![0; 2 * LARGE]);
        home.keep(Vec::with_capacity((4 << 20) + 1));
        assert_eq!(home.capacity(), 4 * LARGE, "the most that is worth it");
    }
}
