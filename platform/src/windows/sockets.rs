//! The sockets of one poll, which mio watches in a port of its own.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use mio::{Interest, Token};

use super::completions::lock;
use super::poll::{End, Event, Events};

/// Ends mio's wait; no socket has it.
const WAKER: Token = Token(usize::MAX);
/// Most events that mio tells at once.
const EVENTS: usize = 256;

#[derive(Debug)]
pub(super) struct Sockets {
    registry: mio::Registry,
    waker: mio::Waker,
    /// Locked by whoever turns it.
    turning: Mutex<Turning>,
    /// What a thread has brought from there.
    brought: Mutex<VecDeque<Event>>,
}

#[derive(Debug)]
struct Turning {
    poll: mio::Poll,
    events: mio::Events,
}

impl Sockets {
    pub(super) fn new() -> io::Result<Sockets> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKER)?;
        let turning = Mutex::new(Turning { poll, events: mio::Events::with_capacity(EVENTS) });
        Ok(Sockets { registry, waker, turning, brought: Mutex::default() })
    }

    pub(super) fn registry(&self) -> &mio::Registry {
        &self.registry
    }

    /// Ends the wait of whoever turns it, or the next one.
    pub(super) fn kick(&self) -> io::Result<()> {
        self.waker.wake()
    }

    /// Turns mio's poll. If another does so, that is left to him.
    pub(super) fn turn(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let mut turning = match self.turning.try_lock() {
            Ok(turning) => turning,
            Err(TryLockError::Poisoned(turning)) => turning.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        let Turning { poll, events: told } = &mut *turning;
        poll.poll(told, timeout)?;
        told.iter().filter_map(translated).for_each(|event| events.push(event));
        Ok(())
    }

    /// The same on a thread of its own: calls `bring` when there is something to [`fetch`](Sockets::fetch), until it
    /// says no.
    pub(super) fn keep_turning(&self, mut bring: impl FnMut() -> bool) -> io::Result<()> {
        let mut turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let Turning { poll, events } = &mut *turning;
        while bring() {
            match poll.poll(events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Err(_) => {}
                Ok(()) => lock(&self.brought).extend(events.iter().filter_map(translated)),
            }
        }
        Ok(())
    }

    pub(super) fn has_brought(&self) -> bool {
        !lock(&self.brought).is_empty()
    }

    /// As much of what was brought as there is room for.
    pub(super) fn fetch(&self, events: &mut Events) {
        let mut brought = lock(&self.brought);
        while events.has_room()
            && let Some(event) = brought.pop_front()
        {
            events.push(event);
        }
    }
}

/// `None`: it was only to wake.
fn translated(event: &mio::event::Event) -> Option<Event> {
    if event.token() == WAKER {
        return None;
    }
    let ready = match (event.is_readable(), event.is_writable()) {
        (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
        (true, false) => Some(Interest::READABLE),
        (false, true) => Some(Interest::WRITABLE),
        (false, false) => None,
    };
    let end = match (event.is_error(), event.is_read_closed()) {
        (true, _) => End::Error,
        (false, true) => End::ReadClosed,
        (false, false) => End::None,
    };
    Some(Event::new(event.token(), ready, end))
}
