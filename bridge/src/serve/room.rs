//! How much may be under way: calls that the local server has, and what these and all that waits have brought along.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What has come and is not done may have brought so much along, in all.
const MOST_BYTES: usize = 64 << 20;
/// What each of them counts, at least: what it takes to keep track of one.
const LEAST_BYTES: usize = 1 << 10;

#[derive(Debug)]
pub(super) struct Room {
    most_calls: usize,
    taken: Mutex<Taken>,
    /// Rings when the last call is done.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    calls: usize,
    bytes: usize,
}

/// What one holds of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    bytes: usize,
    is_call: bool,
}

impl Room {
    pub(super) fn for_calls(most_calls: usize) -> Arc<Room> {
        Arc::new(Room { most_calls, taken: Mutex::default(), emptied: Notify::new() })
    }

    /// Room for a message of so many bytes, if there is some.
    pub(super) fn admit(self: &Arc<Room>, bytes: usize) -> Option<Held> {
        let bytes = bytes.saturating_add(LEAST_BYTES);
        let mut taken = self.lock();
        let after = taken.bytes.checked_add(bytes).filter(|after| *after <= MOST_BYTES)?;
        taken.bytes = after;
        drop(taken);
        Some(Held { room: Arc::clone(self), bytes, is_call: false })
    }

    /// Until no calls are left.
    pub(super) async fn emptied(&self) {
        while self.lock().calls > 0 {
            self.emptied.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether there is room for a call that the local server has. This is one then.
    pub(super) fn begin_call(&mut self) -> bool {
        let mut taken = self.room.lock();
        let has_room = taken.calls < self.room.most_calls;
        if has_room && !self.is_call {
            taken.calls += 1;
            self.is_call = true;
        }
        has_room
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.bytes -= self.bytes;
        if self.is_call {
            taken.calls -= 1;
            if taken.calls == 0 {
                self.room.emptied.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_done_makes_room() {
        let room = Room::for_calls(2);
        let mut held: Vec<Held> = (0..3).map(|_| room.admit(0).expect("room")).collect();
        assert!(held[0].begin_call() && held[1].begin_call());
        assert!(!held[2].begin_call(), "two are all");
        assert_eq!(room.emptied().now_or_never(), None);
        held.remove(0);
        assert!(held[1].begin_call());
        held.clear();
        assert_eq!(room.emptied().now_or_never(), Some(()));
    }

    #[test]
    fn bytes_are_bounded_however_few_have_brought_them() {
        let room = Room::for_calls(1);
        assert!(room.admit(MOST_BYTES).is_none() && room.admit(usize::MAX).is_none());
        let all = room.admit(MOST_BYTES - LEAST_BYTES);
        assert!(all.is_some() && room.admit(0).is_none());
        drop(all);
        assert!(room.admit(0).is_some());
    }
}
