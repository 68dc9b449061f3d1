//! What only tests of the loop have a world do: things that go wrong, come late, or are small; and datagrams.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use sidewire_platform::{Address, Attachment, SendBuffer};

use super::loop_side::{MemoryDatagrams, MemoryStream};
use super::{Caller, Failure, Passes, Side, Socket, Tells, Waiting, World, process_of};

impl World {
    /// How often the loop has polled.
    pub(crate) fn polls(&self) -> usize {
        self.0.polls.get()
    }

    /// From now on a poll that does not sleep and finds nothing takes so long.
    pub(crate) fn looks_take(&self, time: Duration) {
        self.0.look.set(time);
    }

    pub(crate) fn interrupt_polls(&self, count: usize) {
        self.0.interrupted.set(count);
    }

    pub(crate) fn tells(&self, tells: Tells) {
        self.0.identity.set(tells);
    }

    /// From now on streams are like pipes: their two directions end together.
    pub(crate) fn without_half_close(&self) {
        self.0.half_close.set(false);
    }

    pub(crate) fn passes(&self, passes: Passes) {
        self.0.passes.set(passes);
    }

    /// Whether somebody else has the listener with this index.
    pub(crate) fn is_handed_on(&self, listener: usize) -> bool {
        self.0.listeners.borrow()[listener].is_handed_on
    }

    pub(crate) fn leave_reserves(&self, count: usize) {
        self.0.reserves.set(count);
    }

    /// Somebody connects right when a loop has all locks that it needs to leave.
    pub(crate) fn comes_when_locked(&self) {
        self.0.comes_late.set(true);
    }

    pub(crate) fn starts(&self, is_starting: bool) {
        self.0.is_starting.set(is_starting);
    }

    pub(crate) fn datagrams(&self) -> MemoryDatagrams {
        let mut sockets = self.0.sockets.borrow_mut();
        sockets.push(Socket {
            token: None,
            incoming: VecDeque::new(),
            receive_errors: VecDeque::new(),
            sent: Vec::new(),
            is_told: true,
            room: Vec::new(),
            buffer: None,
        });
        MemoryDatagrams { world: self.clone(), index: sockets.len() - 1 }
    }

    /// Connects to the listener with this index, as a process of this user.
    pub(crate) fn connect_as(&self, listener: usize, user: u32) -> Caller {
        self.connect(listener, process_of(user))
    }

    /// A stream that came in at no listener, and a process of this user at its other end.
    pub(crate) fn pair(&self, user: u32) -> (MemoryStream, Caller) {
        let caller = self.connected(process_of(user));
        (MemoryStream { world: self.clone(), index: caller.index }, caller)
    }

    /// So many connections can't be accepted.
    pub(crate) fn fail_accepts(&self, listener: usize, count: usize, failure: Failure) {
        for _ in 0..count {
            self.wait_at(listener, Waiting::Failure(failure));
        }
    }

    /// How many wait to be accepted.
    pub(crate) fn waiting(&self, listener: usize) -> usize {
        self.0.listeners.borrow()[listener].waiting.len()
    }

    /// Whether nobody finds the way there any more.
    pub(crate) fn is_withdrawn(&self, listener: usize) -> bool {
        self.0.listeners.borrow()[listener].is_withdrawn
    }

    /// Somebody sends a datagram to the socket with this index.
    pub(crate) fn datagram(&self, socket: usize, from: &Address, user: u32, bytes: &[u8]) {
        let socket = &mut self.0.sockets.borrow_mut()[socket];
        socket.incoming.push_back((bytes.to_vec(), from.clone(), user));
        socket.is_told = false;
    }

    /// So many of the next attempts to receive there fail like this.
    pub(crate) fn fail_receives(&self, socket: usize, count: usize, kind: io::ErrorKind) {
        self.0.sockets.borrow_mut()[socket].receive_errors.extend(std::iter::repeat_n(kind, count));
    }

    /// Takes what was sent from the socket with this index.
    pub(crate) fn sent(&self, socket: usize) -> Vec<(Vec<u8>, Address)> {
        std::mem::take(&mut self.0.sockets.borrow_mut()[socket].sent)
    }

    /// From now on this receiver takes nothing, or takes everything again.
    pub(crate) fn stick(&self, socket: usize, who: &Address, is_stuck: bool) {
        self.takes(socket, who, if is_stuck { 0 } else { usize::MAX });
    }

    /// This receiver takes so many datagrams more.
    pub(crate) fn takes(&self, socket: usize, who: &Address, datagrams: usize) {
        let room = &mut self.0.sockets.borrow_mut()[socket].room;
        room.retain(|(other, _)| other != who);
        room.push((who.clone(), datagrams));
    }

    /// So much of this socket's send buffer is unread, of so much.
    pub(crate) fn fill(&self, socket: usize, unread: usize, size: usize) {
        self.0.sockets.borrow_mut()[socket].buffer = Some(SendBuffer::new(unread, size));
    }
}

impl Caller {
    /// With what is sent next.
    pub(crate) fn attach(&self, attachments: Vec<Attachment>) {
        self.pipe().attached = attachments;
    }

    /// Bytes that have come and were not taken.
    pub(crate) fn unread_by_caller(&self) -> usize {
        self.pipe().to_caller.len()
    }

    /// One write to it takes so many bytes at most.
    pub(crate) fn takes_at_a_time(&self, bytes: usize) {
        self.pipe().write_at_most = bytes;
    }

    /// One read of it brings so many bytes at most.
    pub(crate) fn comes_at_a_time(&self, bytes: usize) {
        self.pipe().read_at_most = bytes;
    }

    /// So many of the loop's next reads fail like this; behind each that says "not now" an event says that it is.
    pub(crate) fn fail_reads(&self, count: usize, kind: io::ErrorKind) {
        self.pipe().read_errors.extend(std::iter::repeat_n(kind, count));
    }

    /// The same of writes.
    pub(crate) fn fail_writes(&self, count: usize, kind: io::ErrorKind) {
        self.pipe().write_errors.extend(std::iter::repeat_n(kind, count));
    }

    /// Bytes that the loop has not read yet.
    pub(crate) fn unread(&self) -> usize {
        self.pipe().to_loop.len()
    }

    /// Sends no more, but still reads.
    pub(crate) fn shut_down(&self) {
        self.ends(Side::ShutDown);
    }

    /// The listener that has come along.
    pub(crate) fn passed(&self) -> Option<usize> {
        self.pipe().passed
    }

    /// How long the flush may take behind which the loop's side was closed.
    pub(crate) fn flushes_within(&self) -> Option<Duration> {
        self.pipe().flushes_within
    }
}
