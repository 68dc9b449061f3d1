//! The pipes of one poll: where their operations end, and who is to be told of what.
//!
//! A pipe that is dropped with operations under way leaves them here until their packets have come: OVERLAPPED and
//! buffers are the system's until then, and CancelIoEx only asks ("CancelIoEx function",
//! learn.microsoft.com/windows/win32/fileio/cancelioex-func). Should the poll be dropped earlier, a thread waits for
//! what is left.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, mem, thread};

use windows_sys::Win32::System::IO::OVERLAPPED_ENTRY;

use super::poll::Events;
use super::polled::{self, Shared};
use super::port::Port;
use super::timeout::millis;
use super::wait::Event;
use crate::deadline::Deadline;

/// Most packets that are taken at once.
const BATCH: usize = 64;
/// How long the drop of a poll, or of a pipe behind it, waits for operations that were cancelled.
const PATIENCE: Duration = Duration::from_millis(50);
const STACK: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Completions {
    port: Port,
    /// Those for whom the next turn begins to read.
    wanted: Mutex<VecDeque<Arc<Shared>>>,
    /// Those who have something to tell.
    news: Mutex<VecDeque<Arc<Shared>>>,
    /// Whether a turn waits, or is about to, so that what others bring needs a packet.
    sleeps: AtomicBool,
    /// Reads and writes under way.
    under_way: AtomicUsize,
    /// Operations of pipes that were dropped.
    orphans: AtomicUsize,
    /// Whether the poll has gone.
    is_deserted: AtomicBool,
    /// Whether a thread waits for the orphans.
    has_thread: AtomicBool,
    /// For reads that end before their call returns.
    event: Mutex<Event>,
}

impl Completions {
    pub(super) fn new() -> io::Result<Completions> {
        Ok(Completions {
            port: Port::new()?,
            wanted: Mutex::default(),
            news: Mutex::default(),
            sleeps: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            orphans: AtomicUsize::new(0),
            is_deserted: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            event: Mutex::new(Event::new()?),
        })
    }

    pub(super) fn port(&self) -> &Port {
        &self.port
    }

    pub(super) fn event(&self) -> MutexGuard<'_, Event> {
        lock(&self.event)
    }

    /// Begins the reads that are wanted, and takes what has ended, waiting for at most so long; not at all if something
    /// is to be told, or `is_due` says so.
    pub(super) fn turn(&self, timeout: Option<Duration>, is_due: impl Fn() -> bool) -> io::Result<()> {
        // Not those that come meanwhile: a peer that writes nothing, again and again, holds up nobody.
        let count = lock(&self.wanted).len();
        for _ in 0..count {
            let pipe = lock(&self.wanted).pop_front();
            pipe.inspect(Shared::begin_wanted);
        }
        // Who brings something does so first, and then asks whether we sleep: one of us sees the other.
        self.sleeps.store(true, Ordering::SeqCst);
        let must_not_wait = is_due() || !lock(&self.news).is_empty() || !lock(&self.wanted).is_empty();
        let timeout = if must_not_wait { Some(Duration::ZERO) } else { timeout };
        let taken = self.take(millis(Deadline::after(timeout)));
        self.sleeps.store(false, Ordering::SeqCst);
        taken
    }

    /// Takes all that has ended, waiting for the first: whoever judges by what a turn has told relies on that. With one
    /// read under way that is its packet, and asking for more would be a call that finds none.
    fn take(&self, millis: u32) -> io::Result<()> {
        let mut packets = [OVERLAPPED_ENTRY::default(); BATCH];
        let mut room = if self.under_way.load(Ordering::SeqCst) <= 1 { 1 } else { BATCH };
        let mut millis = millis;
        loop {
            let count = self.port.take(&mut packets[..room], millis)?;
            // What comes from here on is looked at before the next sleep, and needs no packet.
            self.sleeps.store(false, Ordering::SeqCst);
            for packet in packets[..count].iter().filter(|packet| !packet.lpOverlapped.is_null()) {
                // SAFETY: the packet was just taken from the port, to which only pipes belong, each under its own key.
                unsafe { polled::ended(packet.lpCompletionKey, packet.lpOverlapped) };
            }
            let is_all = self.under_way.load(Ordering::SeqCst) == 0 && !self.has_orphans();
            if is_all || count < room {
                return Ok(());
            }
            (room, millis) = (BATCH, 0);
        }
    }

    /// As much of the news as there is room for.
    pub(super) fn tell(&self, events: &mut Events) {
        while events.has_room() {
            let Some(pipe) = lock(&self.news).pop_front() else { return };
            if let Some((token, ready)) = pipe.take_news() {
                events.push_ready(token, ready);
            }
        }
    }

    /// Ends a wait, or the next one.
    pub(super) fn kick(&self) -> io::Result<()> {
        if self.sleeps.load(Ordering::SeqCst) { self.port.post() } else { Ok(()) }
    }

    pub(super) fn has_news_of(&self, pipe: Arc<Shared>) {
        if self.is_deserted.load(Ordering::SeqCst) {
            return;
        }
        lock(&self.news).push_back(pipe);
        if let Err(error) = self.kick() {
            log::error!("waking a poll: {error}");
        }
    }

    pub(super) fn want(&self, pipe: Arc<Shared>) {
        if self.is_deserted.load(Ordering::SeqCst) {
            return;
        }
        lock(&self.wanted).push_back(pipe);
        if let Err(error) = self.kick() {
            log::error!("waking a poll: {error}");
        }
    }

    /// A read or a write goes on.
    pub(super) fn begins(&self) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn ends(&self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn orphaned(&self, operations: usize) {
        self.orphans.fetch_add(operations, Ordering::SeqCst);
    }

    pub(super) fn orphan_ended(&self) {
        self.orphans.fetch_sub(1, Ordering::SeqCst);
    }

    /// The poll goes. Its pipes tell nothing any more; what they have under way is waited for when they are dropped.
    pub(super) fn desert(self: &Arc<Self>) {
        self.is_deserted.store(true, Ordering::SeqCst);
        // They share this, and this them.
        drop((mem::take(&mut *lock(&self.wanted)), mem::take(&mut *lock(&self.news))));
        self.see_off();
    }

    /// Where no poll does, waits for the ends of what pipes have left: shortly here, and then on a thread.
    pub(super) fn see_off(self: &Arc<Self>) {
        if !self.is_deserted.load(Ordering::SeqCst) {
            return;
        }
        let deadline = Deadline::after(Some(PATIENCE));
        while self.has_orphans() && !deadline.has_passed() {
            if let Err(error) = self.take(millis(deadline)) {
                return log::error!("waiting for the ends of operations: {error}");
            }
        }
        if self.has_orphans() && !self.has_thread.swap(true, Ordering::SeqCst) {
            let completions = Arc::clone(self);
            let thread = thread::Builder::new().name("pipe-ends".into()).stack_size(STACK);
            // Without it a little memory is lost, and a handle.
            if let Err(error) = thread.spawn(move || completions.wait_for_orphans()) {
                log::error!("waiting for the ends of operations: {error}");
            }
        }
    }

    fn wait_for_orphans(&self) {
        loop {
            while self.has_orphans() {
                // Another may take the last one's packet.
                if let Err(error) = self.take(1_000) {
                    return log::error!("waiting for the ends of operations: {error}");
                }
            }
            self.has_thread.store(false, Ordering::SeqCst);
            if !self.has_orphans() || self.has_thread.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    fn has_orphans(&self) -> bool {
        self.orphans.load(Ordering::SeqCst) > 0
    }
}

/// What these locks guard is whole at every moment, so a panic elsewhere does no harm.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
