//! What goes along with letters and is typed by the server's state, of which the loop knows nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::reactor::mailbox::Unposted;

/// Things for each of which there is a letter of one kind in the mailbox, in the same order.
pub(super) struct Queue<T>(Mutex<VecDeque<T>>);

impl<T> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue(Mutex::default())
    }

    /// Adds one, if its letter can be posted. (Where only the waker fails, it is read all the same.)
    pub(super) fn add(&self, item: T, post: impl FnOnce() -> Result<(), Unposted>) -> Result<(), Unposted> {
        let mut items = self.lock();
        // The loop can't look for it before the lock is free.
        let posted = post();
        if !matches!(posted, Err(Unposted::Full | Unposted::Closed)) {
            items.push_back(item);
        }
        posted
    }

    /// Takes the next.
    pub(super) fn next(&self) -> Option<T> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
