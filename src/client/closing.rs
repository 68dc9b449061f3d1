//! Telling the application, once, that its client has come to its end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::leader::SharedConnection;
use super::medium::Medium;
use crate::error::{Error, Result};

/// Whoever is to be told, as long as nobody was.
#[derive(Clone)]
pub(crate) struct Closing(Arc<Inner>);

struct Inner {
    is_told: AtomicBool,
    told: Arc<Told>,
}

/// What is told why a client has come to its end.
pub(super) type Told = dyn Fn(&Error) + Send + Sync;

impl Closing {
    pub(super) fn new(told: Arc<Told>) -> Closing {
        Closing(Arc::new(Inner { is_told: AtomicBool::new(false), told }))
    }

    /// Tells nobody.
    pub(crate) fn forget(&self) {
        self.0.is_told.store(true, Ordering::Release);
    }

    /// Tells why; not again. Under no lock: whoever is told may use the client.
    pub(crate) fn tell(&self, why: &Error) {
        if !self.0.is_told.swap(true, Ordering::AcqRel) {
            (self.0.told)(why);
        }
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").field("is_told", &self.0.is_told).finish_non_exhaustive()
    }
}

impl<M: Medium> SharedConnection<M> {
    /// Tells of the connection's end, if that is why this has failed. If more is known of it, or will be soon and before
    /// the deadline, that becomes the error.
    #[inline]
    pub(crate) fn told<T>(&self, result: Result<T>, deadline: Option<Instant>) -> Result<T> {
        match result {
            Err(error) if error.lost().is_some() || error.is_closed() => {
                self.tell_end();
                Err(if error.lost().is_some() { self.explain_end(error, deadline) } else { error })
            }
            result => result,
        }
    }

    /// Closes a connection that no other follows.
    pub(crate) fn close_and_tell(&self) {
        self.close();
        self.tell_end();
    }

    /// Whether one that no other follows has ended; what has come is looked at first.
    pub(crate) fn is_over(&self) -> bool {
        let has_ended = self.has_ended();
        if has_ended {
            self.tell_end();
        }
        has_ended
    }

    /// Tells of the connection's end, if it has come.
    pub(crate) fn tell_end(&self) {
        let Some(closing) = &self.closing else { return };
        let reason = self.reason(&self.lock());
        if let Some(reason) = reason {
            closing.tell(&reason);
        }
    }
}
