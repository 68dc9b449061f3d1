//! How other threads reach the loop: a bounded queue and a waker.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mio::{Registry, Token, Waker};

/// What other threads ask of the loop.
#[derive(Debug)]
pub(crate) enum Mail {
    /// End: no new requests, and everything that is under way is finished within this time.
    Stop { grace: Duration },
    /// The datagram socket with this index has something (mailslots, which can't be polled).
    Ready(u32),
}

/// Shared by the loop and everyone who writes to it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<VecDeque<Mail>>,
    waker: Waker,
}

/// Most messages that wait at a time.
const CAPACITY: usize = 4096;

impl Mailbox {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Arc<Mailbox>> {
        Ok(Arc::new(Mailbox { queue: Mutex::default(), waker: Waker::new(registry, token)? }))
    }

    /// Leaves a message and wakes the loop. Never waits: a full mailbox is `WouldBlock`.
    pub(crate) fn post(&self, mail: Mail) -> io::Result<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= CAPACITY {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        queue.push_back(mail);
        drop(queue);
        self.waker.wake()
    }

    /// Takes everything out.
    pub(crate) fn drain(&self) -> VecDeque<Mail> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
