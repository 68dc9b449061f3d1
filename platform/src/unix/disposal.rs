//! Closing what others have attached, on a thread of its own: the system may take as long for it as they like.
//!
//! So it is with a file of their own file system (FUSE), or of a server that does not answer (NFS), and with a terminal that
//! still has something to print; with a socket as well, but for what is done about that here.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use socket2::SockRef;

use super::Attachment;

/// How many may wait for the thread. Those beyond that are closed by whoever brings them.
const MOST: usize = 256;
/// It calls nothing but what is here.
const STACK: usize = 128 * 1024;

/// The process's.
static DISPOSAL: Disposal = Disposal::new(MOST, close);

/// Who closes, and what waits for that.
struct Disposal {
    state: Mutex<State>,
    /// Something waits.
    more: Condvar,
    /// How many may wait.
    most: usize,
    close: fn(OwnedFd),
}

struct State {
    waiting: VecDeque<OwnedFd>,
    has_thread: bool,
}

/// Closes these, which came from somebody else and that nobody wants, without waiting for that.
///
/// # Platform-specific behavior
///
/// Unix: a thread does it, which is there from the first time on; if 256 descriptors wait for it already, or it can't be had,
/// the calling one. A socket is no longer waited for (SO_LINGER, socket(7)). Windows: closed at once, which waits for nobody.
pub fn close_aside(attachments: Vec<Attachment>) {
    dispose(attachments.into_iter().map(OwnedFd::from).collect());
}

/// The same of bare descriptors.
pub(super) fn dispose(descriptors: Vec<OwnedFd>) {
    DISPOSAL.take(descriptors);
}

impl Disposal {
    const fn new(most: usize, close: fn(OwnedFd)) -> Disposal {
        let state = State { waiting: VecDeque::new(), has_thread: false };
        Disposal { state: Mutex::new(state), more: Condvar::new(), most, close }
    }

    fn take(&'static self, descriptors: Vec<OwnedFd>) {
        if descriptors.is_empty() {
            return;
        }
        let mut left = descriptors.into_iter();
        let mut state = self.state();
        if self.has_thread(&mut state) {
            let room = self.most.saturating_sub(state.waiting.len());
            state.waiting.extend(left.by_ref().take(room));
            self.more.notify_one();
        }
        drop(state);
        left.for_each(self.close);
    }

    /// Whether somebody sees to it; begins that, if nobody has.
    fn has_thread(&'static self, state: &mut State) -> bool {
        if !state.has_thread {
            let builder = thread::Builder::new().name("sidewire-closing".into()).stack_size(STACK);
            state.has_thread = builder
                .spawn(|| self.run())
                .inspect_err(|error| log::debug!("a thread that closes what others attach: {error}"))
                .is_ok();
        }
        state.has_thread
    }

    fn run(&self) {
        loop {
            let none = |state: &mut State| state.waiting.is_empty();
            let waited = self.more.wait_while(self.state(), none);
            let next = waited.unwrap_or_else(PoisonError::into_inner).waiting.pop_front();
            next.into_iter().for_each(self.close);
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
    use std::io::{PipeReader, Read, pipe};
    use std::time::Duration;

    use super::*;

    /// As long as this is held, the thread of the test's disposal closes nothing.
    static GATE: Mutex<()> = Mutex::new(());

    fn closes_when_it_may(descriptor: OwnedFd) {
        if thread::current().name() == Some("sidewire-closing") {
            drop(GATE.lock().unwrap_or_else(PoisonError::into_inner));
        }
        drop(descriptor);
    }

    fn ends(count: usize) -> (Vec<PipeReader>, Vec<OwnedFd>) {
        (0..count).map(|_| pipe().unwrap()).map(|(reader, writer)| (reader, writer.into())).unzip()
    }

    /// Waits until its other end is closed.
    fn expect_closed(mut reader: PipeReader) {
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn who_brings_them_does_not_wait_but_for_those_beyond_the_bound() {
        const MOST: usize = 4;
        static TESTED: Disposal = Disposal::new(MOST, closes_when_it_may);
        let gate = GATE.lock().unwrap();
        let (first, descriptors) = ends(2);
        // This returns although none of them can be closed.
        TESTED.take(descriptors);
        while TESTED.state().waiting.len() > 1 {
            thread::sleep(Duration::from_millis(1));
        }
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        TESTED.take((1..MOST).map(|_| null()).collect());
        assert_eq!(TESTED.state().waiting.len(), MOST);
        let (beyond, descriptors) = ends(3);
        TESTED.take(descriptors);
        assert_eq!(TESTED.state().waiting.len(), MOST);
        beyond.into_iter().for_each(expect_closed);
        drop(gate);
        first.into_iter().for_each(expect_closed);
    }
}
