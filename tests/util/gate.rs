//! Handlers that are held up for as long as a test wants.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by a test and a handler of its server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    closed: Arc<Mutex<()>>,
    came: Arc<AtomicUsize>,
}

impl Gate {
    /// For the handler: waits while the test keeps it closed.
    pub(crate) fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        drop(self.close());
    }

    /// Closed until what this returns is dropped.
    pub(crate) fn close(&self) -> MutexGuard<'_, ()> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have come to it so far, those who wait there included.
    pub(crate) fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}
