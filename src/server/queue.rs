//! What goes along with letters and is typed by the server's state, of which the loop knows nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reactor::mailbox::Unposted;

/// Things for each of which there is a letter of one kind in the mailbox, in the same order.
pub(super) struct Queue<T>(Mutex<VecDeque<T>>);

/// The server's end of a queue. What is still in it when this is dropped is dropped, too, whoever else holds
/// the queue.
pub(super) struct Taking<T>(Arc<Queue<T>>);

impl<T> Taking<T> {
    pub(super) fn new() -> Taking<T> {
        Taking(Arc::new(Queue(Mutex::default())))
    }

    /// For whoever adds.
    pub(super) fn queue(&self) -> Arc<Queue<T>> {
        Arc::clone(&self.0)
    }

    /// Takes the next.
    pub(super) fn next(&self) -> Option<T> {
        self.0.lock().pop_front()
    }
}

impl<T> Drop for Taking<T> {
    fn drop(&mut self) {
        let items = std::mem::take(&mut *self.0.lock());
        // Whatever they hold may add more when it is dropped.
        drop(items);
    }
}

impl<T> Queue<T> {
    /// Adds one, if its letter can be posted. That only the waker fails is no failure: it is read all the same, and who
    /// heard of one would take it for dropped.
    pub(super) fn add(&self, item: T, post: impl FnOnce() -> Result<(), Unposted>) -> Result<(), Unposted> {
        let mut items = self.lock();
        // The loop can't look for it before the lock is free.
        let posted = post();
        if let Err(Unposted::NotWoken(error)) = &posted {
            log::error!("can't wake the server's loop, which reads its mail later: {error}");
        } else {
            posted?;
        }
        items.push_back(item);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_is_refused_is_dropped_and_what_stays_is_no_failure() {
        let taking = Taking::new();
        let queue = taking.queue();
        assert!(matches!(queue.add(1, || Err(Unposted::Full)), Err(Unposted::Full)));
        assert!(matches!(queue.add(2, || Err(Unposted::Closed)), Err(Unposted::Closed)));
        assert!(matches!(queue.add(3, || Err(Unposted::NoMemory)), Err(Unposted::NoMemory)));
        assert!(queue.add(4, || Err(Unposted::NotWoken(io::Error::other("no waker")))).is_ok());
        assert!(queue.add(5, || Ok(())).is_ok());
        assert_eq!([taking.next(), taking.next(), taking.next()], [Some(4), Some(5), None]);
    }
}
