//! A system in memory, with a clock that passes when a test says so.
//!
//! So are rules of the loop tested, and handlers of applications (`harness`). A [`World`] is the test's hand on it. The loop's side is the [`Memory`] that [`World::system`] gives; the
//! peers' are a [`Caller`] for a stream and [`World::datagram`] for a message. Events are edge-triggered, as
//! the real ones: one for each arrival, and one for room that has come back. A poll that finds nothing
//! sleeps, which takes no time: the clock is set forward by as much. So a loop that is turned with a
//! timeout lives through exactly the deadlines that it has set, and one that would sleep for ever panics.
//!
//! Scripted (`script`, for tests of the loop) are errors of `accept` ([`World::fail_accepts`]), how much a peer takes ([`Caller::takes`]), what
//! one write takes at most and one read brings, what reads and writes fail with, resets, polls that are interrupted, and when the
//! system tells who is there.
//! [`World::pass`] within a handler is a slow handler. `reactor::tests` says how a whole test is written.

mod loop_side;
#[cfg(test)]
mod script;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Interest, Token};
use sidewire_platform::{Address, Attachment, Credentials, Peer, SendBuffer, User};

use super::Told;
#[cfg(test)]
pub(crate) use loop_side::MemoryDatagrams;
pub(crate) use loop_side::{Memory, MemoryListener};

/// The test's hand on a system in memory. Cheap to clone: all clones are one world.
#[derive(Clone, Debug)]
pub(crate) struct World(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    now: Cell<Instant>,
    polls: Cell<usize>,
    /// How long a poll takes that does not sleep and finds nothing.
    look: Cell<Duration>,
    /// Polls that are interrupted before one is not.
    interrupted: Cell<usize>,
    waker: RefCell<Option<(Token, Arc<AtomicBool>)>>,
    listeners: RefCell<Vec<Listening>>,
    pipes: RefCell<Vec<Pipe>>,
    sockets: RefCell<Vec<Socket>>,
    identity: Cell<Tells>,
    half_close: Cell<bool>,
    /// Descriptors that the process may take into reserve.
    reserves: Cell<usize>,
    /// Whether somebody is starting a server.
    is_starting: Cell<bool>,
    /// Whether somebody connects when that is not so.
    comes_late: Cell<bool>,
    passes: Cell<Passes>,
}

/// How listeners are passed on.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests of the loop script it"))]
pub(crate) enum Passes {
    /// With the first bytes.
    Along,
    /// Nothing has to go along with any bytes.
    Apart,
    Never,
}

/// When the system tells who a caller is.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests of the loop script it"))]
pub(crate) enum Tells {
    AtOnce,
    /// As Windows does of the clients of a pipe: once something was read.
    Late,
    /// Not even then, but an error of this kind.
    Never(io::ErrorKind),
}

#[derive(Debug, Default)]
struct Listening {
    token: Option<Token>,
    waiting: VecDeque<Waiting>,
    is_told: bool,
    is_withdrawn: bool,
    is_handed_on: bool,
}

#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests of the loop script it"))]
enum Waiting {
    Caller(usize),
    Failure(Failure),
}

/// Why a connection could not be accepted.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests of the loop script it"))]
pub(crate) enum Failure {
    Aborted,
    OutOfDescriptors,
}

/// One connection: its two directions and what the loop has asked for.
#[derive(Debug)]
struct Pipe {
    to_loop: VecDeque<u8>,
    /// What comes with the first of these bytes.
    attached: Vec<Attachment>,
    to_caller: Vec<u8>,
    caller: Side,
    server: Side,
    /// Bytes that the caller takes until it is told to take more.
    room: usize,
    /// Bytes that one write takes at most, and that one read brings.
    write_at_most: usize,
    read_at_most: usize,
    /// What the next reads and writes of the loop say in place of anything else.
    read_errors: VecDeque<io::ErrorKind>,
    write_errors: VecDeque<io::ErrorKind>,
    watched: Option<(Token, Interest)>,
    is_readable_told: bool,
    is_writable_told: bool,
    was_read: bool,
    /// How long the flush behind which it was closed may take.
    flushes_within: Option<Duration>,
    /// The listener that came along with bytes to the caller.
    passed: Option<usize>,
    peer: Peer,
}

/// How far one side of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Open,
    /// It has shut its writing down.
    ShutDown,
    Closed,
    /// Closed, with input left that it had not read, or on purpose.
    Reset,
    /// Closed behind a flush.
    Flushed,
}

#[derive(Debug)]
struct Socket {
    token: Option<Token>,
    incoming: VecDeque<(Vec<u8>, Address, u32)>,
    /// What the next attempts to receive say in place of anything else.
    receive_errors: VecDeque<io::ErrorKind>,
    sent: Vec<(Vec<u8>, Address)>,
    is_told: bool,
    /// Who takes so many more and no others.
    room: Vec<(Address, usize)>,
    /// As Linux counts what is unread in the send buffer, if it is looked at.
    buffer: Option<SendBuffer>,
}

impl World {
    pub(crate) fn new() -> World {
        World(Rc::new(Inner {
            now: Cell::new(Instant::now()),
            polls: Cell::new(0),
            look: Cell::new(Duration::ZERO),
            interrupted: Cell::new(0),
            waker: RefCell::default(),
            listeners: RefCell::default(),
            pipes: RefCell::default(),
            sockets: RefCell::default(),
            identity: Cell::new(Tells::AtOnce),
            half_close: Cell::new(true),
            reserves: Cell::new(usize::MAX),
            is_starting: Cell::new(false),
            comes_late: Cell::new(false),
            passes: Cell::new(Passes::Along),
        }))
    }

    /// The loop's side.
    pub(crate) fn system(&self) -> Memory {
        Memory(self.clone())
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// So much time passes.
    pub(crate) fn pass(&self, time: Duration) {
        self.0.now.set(self.now() + time);
    }

    pub(crate) fn listener(&self) -> MemoryListener {
        let mut listeners = self.0.listeners.borrow_mut();
        listeners.push(Listening::default());
        MemoryListener { world: self.clone(), index: listeners.len() - 1 }
    }

    /// Connects to the listener with this index, as this.
    pub(crate) fn connect(&self, listener: usize, peer: Peer) -> Caller {
        let caller = self.connected(peer);
        self.wait_at(listener, Waiting::Caller(caller.index));
        caller
    }

    fn connected(&self, peer: Peer) -> Caller {
        let mut pipes = self.0.pipes.borrow_mut();
        pipes.push(Pipe {
            to_loop: VecDeque::new(),
            attached: Vec::new(),
            to_caller: Vec::new(),
            caller: Side::Open,
            server: Side::Open,
            room: usize::MAX,
            write_at_most: usize::MAX,
            read_at_most: usize::MAX,
            read_errors: VecDeque::new(),
            write_errors: VecDeque::new(),
            watched: None,
            is_readable_told: true,
            is_writable_told: true,
            was_read: false,
            flushes_within: None,
            passed: None,
            peer,
        });
        let index = pipes.len() - 1;
        drop(pipes);
        Caller { world: self.clone(), index }
    }

    /// Whether the next poll of streams would tell nothing, but for letters.
    #[cfg(feature = "harness")]
    pub(crate) fn is_quiet(&self) -> bool {
        let waits = self.0.listeners.borrow().iter().any(|listening| listening.news().is_some());
        !waits && self.0.pipes.borrow().iter().all(|pipe| pipe.news().is_none())
    }

    fn wait_at(&self, listener: usize, waiting: Waiting) {
        let listening = &mut self.0.listeners.borrow_mut()[listener];
        listening.waiting.push_back(waiting);
        listening.is_told = false;
    }

    fn pipe(&self, index: usize) -> RefMut<'_, Pipe> {
        RefMut::map(self.0.pipes.borrow_mut(), |pipes| &mut pipes[index])
    }

    /// What has happened since the last poll.
    fn told(&self, events: &mut Vec<Told>) {
        let tell = |token| Told { token, is_end: false };
        for listening in self.0.listeners.borrow_mut().iter_mut() {
            if let Some(token) = listening.news() {
                listening.is_told = true;
                events.push(tell(token));
            }
        }
        for socket in self.0.sockets.borrow_mut().iter_mut() {
            if let Some(token) = socket.token.filter(|_| !socket.is_told) {
                socket.is_told = true;
                events.push(tell(token));
            }
        }
        for pipe in self.0.pipes.borrow_mut().iter_mut() {
            if let Some((token, readable, writable)) = pipe.news() {
                pipe.is_readable_told |= readable;
                pipe.is_writable_told |= writable;
                events.push(Told { token, is_end: pipe.caller != Side::Open });
            }
        }
        // The last, as no real system promises that it is not.
        if let Some((token, _)) =
            self.0.waker.borrow().as_ref().filter(|(_, woken)| woken.swap(false, Ordering::SeqCst))
        {
            events.push(tell(*token));
        }
    }
}

impl Listening {
    /// Whom to tell that somebody waits here.
    fn news(&self) -> Option<Token> {
        self.token.filter(|_| !self.is_told)
    }
}

impl Pipe {
    /// Whom to tell of it, and whether it can be read, and written to.
    fn news(&self) -> Option<(Token, bool, bool)> {
        let (token, interest) = self.watched?;
        let readable = !self.is_readable_told && interest.is_readable();
        let writable = !self.is_writable_told && interest.is_writable();
        (readable || writable).then_some((token, readable, writable))
    }
}

/// Whoever the system says is there when a process of this user is.
fn process_of(user: u32) -> Peer {
    Peer::new(Some(Credentials::new(User::Uid(user), Some(1), None)), None)
}

/// Somebody who has connected.
#[derive(Debug)]
pub(crate) struct Caller {
    world: World,
    index: usize,
}

impl Caller {
    fn pipe(&self) -> RefMut<'_, Pipe> {
        self.world.pipe(self.index)
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut pipe = self.pipe();
        pipe.to_loop.extend(bytes);
        pipe.is_readable_told = false;
    }

    /// Takes what has come.
    pub(crate) fn receive(&self) -> Vec<u8> {
        std::mem::take(&mut self.pipe().to_caller)
    }

    /// Takes so many bytes more, and no others.
    pub(crate) fn takes(&self, bytes: usize) {
        let mut pipe = self.pipe();
        pipe.room = bytes;
        pipe.is_writable_told = bytes == 0;
    }

    pub(crate) fn close(&self) {
        self.ends(Side::Closed);
    }

    /// Goes without having read everything, as a process that dies.
    pub(crate) fn reset(&self) {
        self.ends(Side::Reset);
    }

    fn ends(&self, how: Side) {
        let mut pipe = self.pipe();
        pipe.caller = how;
        pipe.is_readable_told = false;
        pipe.is_writable_told = false;
    }

    /// What the loop's side has come to.
    pub(crate) fn server(&self) -> Side {
        self.pipe().server
    }
}
