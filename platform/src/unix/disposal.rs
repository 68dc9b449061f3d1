//! Closing what others have attached, on threads of its own: the system may take as long for it as they like.
//!
//! So it is with a file of their own file system (FUSE), or of a server that does not answer (NFS), and with a terminal that
//! still has something to print; with a socket as well, but for what is done about that here.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use socket2::SockRef;

use super::Attachment;
use crate::Tally;

/// How many threads there are at most: so many closes may never return until nothing is closed any more. Even then nobody
/// waits: a server out of descriptors rests, and one whose loop hangs does not.
const THREADS: usize = 4;
/// When so many wait, somebody should know.
const MANY: usize = 256;
/// They call nothing but what is here.
const STACK: usize = 128 * 1024;

/// The process's, never freed. Null: nothing was to be closed yet.
static DISPOSAL: AtomicPtr<Disposal> = AtomicPtr::new(ptr::null_mut());

/// Who closes, and what waits for that.
struct Disposal {
    /// Whose threads these are: a forked child has a copy of all this, but no threads.
    process: u32,
    state: Mutex<State>,
    /// Something waits.
    more: Condvar,
    crowded: Tally,
    close: fn(OwnedFd),
}

#[derive(Default)]
struct State {
    waiting: VecDeque<OwnedFd>,
    threads: usize,
    /// How many of them are in no close.
    free: usize,
}

/// Closes these, which came from somebody else and that nobody wants, without waiting for that.
///
/// # Platform-specific behavior
///
/// Unix: up to four threads do it. While all are in closes that do not return, or where none can be had, what comes stays
/// open. A socket is no longer waited for (SO_LINGER, socket(7)). Windows: closed at once, which waits for nobody.
pub fn close_aside(attachments: Vec<Attachment>) {
    dispose(attachments.into_iter().map(OwnedFd::from).collect());
}

/// The same of bare descriptors.
pub(super) fn dispose(descriptors: Vec<OwnedFd>) {
    if !descriptors.is_empty() {
        Disposal::of_this_process().take(descriptors);
    }
}

impl Disposal {
    fn new(close: fn(OwnedFd)) -> &'static Disposal {
        let (process, state, more) = (process::id(), Mutex::default(), Condvar::new());
        Box::leak(Box::new(Disposal { process, state, more, crowded: Tally::new(), close }))
    }

    /// A new one in a forked child, where nobody would ever give back a lock that was held meanwhile.
    fn of_this_process() -> &'static Disposal {
        let known = DISPOSAL.load(Ordering::Acquire);
        // SAFETY: null, or made by `new`, and so there for ever.
        if let Some(disposal) = unsafe { known.as_ref() }
            && disposal.process == process::id()
        {
            return disposal;
        }
        let disposal = Disposal::new(close);
        let made = ptr::from_ref(disposal).cast_mut();
        match DISPOSAL.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => disposal,
            // SAFETY: as above; another thread was faster.
            Err(other) => unsafe { other.as_ref() }.unwrap_or(disposal),
        }
    }

    fn take(&'static self, descriptors: Vec<OwnedFd>) {
        let mut state = self.state();
        state.waiting.extend(descriptors);
        self.start_threads(&mut state);
        let waiting = state.waiting.len();
        drop(state);
        self.more.notify_all();
        if waiting >= MANY
            && let Some(times) = self.crowded.next_worth_telling()
        {
            log::warn!("{waiting} descriptors that others have attached wait to be closed ({times} times)");
        }
    }

    /// One for each that waits, as far as there may be: any of them may take for ever.
    fn start_threads(&'static self, state: &mut State) {
        while state.free < state.waiting.len() && state.threads < THREADS {
            let builder = thread::Builder::new().name("sidewire-closing".into()).stack_size(STACK);
            if let Err(error) = builder.spawn(|| self.run()) {
                return log::debug!("a thread that closes what others attach: {error}");
            }
            (state.threads, state.free) = (state.threads + 1, state.free + 1);
        }
    }

    fn run(&'static self) {
        loop {
            let none = |state: &mut State| state.waiting.is_empty();
            let waited = self.more.wait_while(self.state(), none);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let next = state.waiting.pop_front();
            state.free -= 1;
            drop(state);
            next.into_iter().for_each(self.close);
            self.state().free += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(descriptor: OwnedFd) {
    // Of what is no socket this is an error, and of no interest.
    let _ = SockRef::from(&descriptor).set_linger(None);
    drop(descriptor);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{PipeReader, Read, pipe};
    use std::os::fd::{AsRawFd, RawFd};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use super::*;

    /// Closing these takes for ever.
    static ENDLESS: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

    fn closes_most(descriptor: OwnedFd) {
        let is_endless = ENDLESS.lock().unwrap().contains(&descriptor.as_raw_fd());
        if is_endless {
            loop {
                thread::park();
            }
        }
        drop(descriptor);
    }

    fn endless() -> OwnedFd {
        let descriptor = OwnedFd::from(File::open("/dev/null").unwrap());
        ENDLESS.lock().unwrap().push(descriptor.as_raw_fd());
        descriptor
    }

    fn ends(count: usize) -> (Vec<PipeReader>, Vec<OwnedFd>) {
        (0..count).map(|_| pipe().unwrap()).map(|(reader, writer)| (reader, writer.into())).unzip()
    }

    /// Waits until their other ends are closed.
    fn expect_closed(readers: Vec<PipeReader>) {
        for mut reader in readers {
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        }
    }

    /// Where many descriptors disturb no other test. It has a minute.
    fn in_a_child(body: impl FnOnce()) {
        // SAFETY: both are called with nothing but numbers. The child leaves by _exit(2), so the test harness does not run
        // on in it; it takes no locks that others may hold but the allocator's, which fork sees to.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: a number.
            unsafe { libc::alarm(60) };
            let is_well = catch_unwind(AssertUnwindSafe(body)).is_ok();
            // SAFETY: a number.
            unsafe { libc::_exit(i32::from(!is_well)) };
        }
        let mut status = 0;
        // SAFETY: the pointer is to a local that outlives the call.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0));
    }

    #[test]
    fn closes_that_never_return_hold_up_nobody() {
        in_a_child(|| {
            let _ = crate::raise_descriptor_limit();
            let tested = Disposal::new(closes_most);
            let (readers, mut writers) = ends(1);
            tested.take(writers);
            expect_closed(readers);
            for _ in 1..THREADS {
                // What waits behind it is closed although nothing more comes.
                let (readers, others) = ends(MANY + 1);
                writers = vec![endless()];
                writers.extend(others);
                tested.take(writers);
                expect_closed(readers);
            }
            tested.take(vec![endless()]);
            while tested.state().free > 0 {
                thread::sleep(Duration::from_millis(1));
            }
            // These stay open, and we go on.
            for count in 1..=MANY + 1 {
                tested.take(vec![File::open("/dev/null").unwrap().into()]);
                let state = tested.state();
                assert_eq!((state.waiting.len(), state.threads), (count, THREADS));
            }
        });
    }

    #[test]
    fn a_forked_child_has_threads_of_its_own() {
        let closes = || {
            let (readers, writers) = ends(1);
            dispose(writers);
            expect_closed(readers);
        };
        closes();
        let held = Disposal::of_this_process().state();
        in_a_child(closes);
        drop(held);
        closes();
    }
}
