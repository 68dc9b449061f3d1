//! What a loop waits with: for pipes in a completion port of our own, for sockets in mio's.
//!
//! mio's port understands mio's packets only, and two ports can't be waited for at once ("GetQueuedCompletionStatus
//! function", learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-getqueuedcompletionstatus, knows one). So a
//! [`Poll`] waits where its sources are: in our port while it has pipes or nothing, in mio's while it has sockets alone.
//! Where it has both it waits in ours, and a thread that does nothing else turns mio's poll and brings what that tells.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::{Interest, Token};

use super::completions::{Completions, lock};
use super::sockets::Sockets;

/// What a loop waits with.
///
/// # Platform-specific behavior
///
/// Unix: mio's. Windows: one of our own, which waits for mio's where there are sockets.
pub struct Poll {
    registry: Registry,
}

/// What sources are registered with.
pub struct Registry(Arc<Core>);

/// Wakes a [`Poll`]: it tells an event with the token.
pub struct Waker(Arc<Core>);

struct Core {
    completions: Arc<Completions>,
    /// From the first socket on.
    sockets: OnceLock<Sockets>,
    /// A [`Place`].
    place: AtomicU8,
    /// Held by whoever changes that; the thread that brings what mio tells.
    moving: Mutex<Option<JoinHandle<()>>>,
    waker: OnceLock<Token>,
    /// Whether that is to be told of.
    is_woken: AtomicBool,
    is_closed: AtomicBool,
    /// Why the thread gave up.
    failure: Mutex<Option<io::Error>>,
}

/// Where a poll waits.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    /// In our port; there was neither pipe nor socket yet.
    Port,
    /// The same, for pipes.
    Pipes,
    /// In mio's.
    Sockets,
    /// In ours, and a thread in mio's.
    Both,
}

impl Poll {
    /// A poll without sources.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new() -> io::Result<Poll> {
        let core = Core {
            completions: Arc::new(Completions::new()?),
            sockets: OnceLock::new(),
            place: AtomicU8::new(Place::Port as u8),
            moving: Mutex::default(),
            waker: OnceLock::new(),
            is_woken: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            failure: Mutex::default(),
        };
        Ok(Poll { registry: Registry(Arc::new(core)) })
    }

    /// What sources are registered with.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Waits for events, for at most `timeout` (`None`: without end). There may be none although time is not up.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        let core = &*self.registry.0;
        match core.sockets.get() {
            Some(sockets) if core.place() == Place::Sockets => {
                let timeout =
                    if core.is_woken.load(Ordering::SeqCst) { Some(Duration::ZERO) } else { timeout };
                sockets.turn(events, timeout)?;
            }
            _ => core.completions.turn(timeout, || core.has_word())?,
        }
        core.completions.tell(events);
        if let Some(sockets) = core.sockets.get() {
            sockets.fetch(events);
        }
        if core.is_woken.swap(false, Ordering::SeqCst)
            && let Some(&token) = core.waker.get()
        {
            events.push(Event::new(token, Some(Interest::READABLE), End::None));
        }
        lock(&core.failure).take().map_or(Ok(()), Err)
    }
}

/// What operations of pipes are under way ends behind it.
impl Drop for Poll {
    fn drop(&mut self) {
        let core = &self.registry.0;
        core.is_closed.store(true, Ordering::SeqCst);
        let thread = lock(&core.moving).take();
        if let (Some(thread), Some(sockets)) = (thread, core.sockets.get()) {
            // If it can't be woken it is left to itself.
            match sockets.kick() {
                Ok(()) => drop(thread.join()),
                Err(error) => log::error!("waking the thread that watches sockets: {error}"),
            }
        }
        core.completions.desert();
    }
}

impl Registry {
    /// Another that sources of the same poll can be registered with.
    ///
    /// # Errors
    ///
    /// None on Windows.
    pub fn try_clone(&self) -> io::Result<Registry> {
        Ok(Registry(Arc::clone(&self.0)))
    }

    /// Where a pipe's operations end, for one that is about to begin some.
    pub(super) fn completions(&self) -> io::Result<&Arc<Completions>> {
        let core = &self.0;
        match core.place() {
            Place::Pipes | Place::Both => {}
            Place::Port | Place::Sockets => core.begin_pipes()?,
        }
        Ok(&core.completions)
    }

    /// What a socket is registered with.
    pub(super) fn sockets(&self) -> io::Result<&mio::Registry> {
        match (self.0.place(), self.0.sockets.get()) {
            (Place::Sockets | Place::Both, Some(sockets)) => Ok(sockets.registry()),
            _ => self.0.begin_sockets().map(Sockets::registry),
        }
    }
}

impl Core {
    fn place(&self) -> Place {
        match self.place.load(Ordering::SeqCst) {
            1 => Place::Pipes,
            2 => Place::Sockets,
            3 => Place::Both,
            _ => Place::Port,
        }
    }

    /// From here on there are pipes.
    fn begin_pipes(self: &Arc<Self>) -> io::Result<()> {
        let mut moving = lock(&self.moving);
        let next = match self.place() {
            Place::Port => Place::Pipes,
            Place::Sockets => Place::Both,
            Place::Pipes | Place::Both => return Ok(()),
        };
        if next == Place::Both {
            *moving = Some(self.start_moving()?);
        }
        self.move_to(next)
    }

    /// From here on there are sockets.
    fn begin_sockets(self: &Arc<Self>) -> io::Result<&Sockets> {
        let mut moving = lock(&self.moving);
        if self.sockets.get().is_none() {
            // Nobody else sets it.
            let _ = self.sockets.set(Sockets::new()?);
        }
        let sockets = self.sockets.get().ok_or(io::ErrorKind::NotFound)?;
        match self.place() {
            Place::Port => self.move_to(Place::Sockets)?,
            Place::Pipes => {
                *moving = Some(self.start_moving()?);
                self.move_to(Place::Both)?;
            }
            Place::Sockets | Place::Both => {}
        }
        Ok(sockets)
    }

    /// Whoever waits elsewhere looks again.
    fn move_to(&self, place: Place) -> io::Result<()> {
        let before = self.place();
        self.place.store(place as u8, Ordering::SeqCst);
        self.kick_at(before)
    }

    fn start_moving(self: &Arc<Self>) -> io::Result<JoinHandle<()>> {
        const STACK: usize = 256 * 1024;
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the poll was dropped"));
        }
        let core = Arc::clone(self);
        thread::Builder::new()
            .name("sockets".into())
            .stack_size(STACK)
            .spawn(move || core.bring_from_sockets())
    }

    /// The thread that turns mio's poll.
    fn bring_from_sockets(&self) {
        let Some(sockets) = self.sockets.get() else { return };
        let bring = || {
            if sockets.has_brought()
                && let Err(error) = self.completions.kick()
            {
                log::error!("waking a poll: {error}");
            }
            !self.is_closed.load(Ordering::SeqCst)
        };
        if let Err(error) = sockets.keep_turning(bring) {
            *lock(&self.failure) = Some(error);
            if let Err(error) = self.completions.kick() {
                log::error!("waking a poll: {error}");
            }
        }
    }

    /// Whether there is something to tell beside what comes of pipes.
    fn has_word(&self) -> bool {
        self.is_woken.load(Ordering::SeqCst)
            || self.sockets.get().is_some_and(Sockets::has_brought)
            // It has moved.
            || self.place() == Place::Sockets
            || lock(&self.failure).is_some()
    }

    /// Has the poll return, if it waits. It may move meanwhile.
    fn kick(&self) -> io::Result<()> {
        let place = self.place();
        self.kick_at(place)?;
        let now = self.place();
        if now == place { Ok(()) } else { self.kick_at(now) }
    }

    fn kick_at(&self, place: Place) -> io::Result<()> {
        match (place, self.sockets.get()) {
            (Place::Sockets, Some(sockets)) => sockets.kick(),
            _ => self.completions.kick(),
        }
    }
}

impl Waker {
    /// A poll has one, which tells this token.
    ///
    /// # Errors
    ///
    /// When it has one already.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Waker> {
        let core = &registry.0;
        match core.waker.set(token) {
            Ok(()) => Ok(Waker(Arc::clone(core))),
            Err(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the poll has a waker already")),
        }
    }

    /// Has the poll return, now or as soon as it waits.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn wake(&self) -> io::Result<()> {
        let core = &self.0;
        // Who has set it before wakes it.
        if core.is_woken.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        core.kick().inspect_err(|_| core.is_woken.store(false, Ordering::SeqCst))
    }
}

/// What a poll has told.
#[derive(Debug)]
pub struct Events {
    list: Vec<Event>,
    most: usize,
}

impl Events {
    /// Room for about so many.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Events {
        Events { list: Vec::with_capacity(capacity), most: capacity.max(1) }
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.list.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.list.len() < self.most
    }

    pub(super) fn push(&mut self, event: Event) {
        self.list.push(event);
    }

    pub(super) fn push_ready(&mut self, token: Token, ready: Interest) {
        self.push(Event::new(token, Some(ready), End::None));
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One thing that a poll tells.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    token: Token,
    ready: Option<Interest>,
    end: End,
}

/// What is known of a source's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    None,
    ReadClosed,
    Error,
}

impl Event {
    pub(super) fn new(token: Token, ready: Option<Interest>, end: End) -> Event {
        Event { token, ready, end }
    }

    /// What the source was registered with.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether there may be something to read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.ready.is_some_and(Interest::is_readable)
    }

    /// Whether something may be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.ready.is_some_and(Interest::is_writable)
    }

    /// Whether the peer of a socket is known to send no more.
    #[must_use]
    pub fn is_read_closed(&self) -> bool {
        self.end == End::ReadClosed
    }

    /// Whether a socket has failed.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.end == End::Error
    }
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").finish_non_exhaustive()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}

/// Nothing: what a poll waits for, a completion port, is no handle that other loops could wait for, and neither is a
/// pipe.
#[derive(Debug)]
#[non_exhaustive]
pub enum PollDescriptor {}

impl PollDescriptor {
    /// There is none.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`], always.
    pub fn of(poll: &Poll) -> io::Result<PollDescriptor> {
        let _ = poll;
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "Windows has no descriptor that other loops could watch; let the server have a thread of its own",
        ))
    }

    pub(super) fn of_channel() -> io::Result<PollDescriptor> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "Windows has no descriptor that other loops could watch; let the client have a thread that reads",
        ))
    }
}
