//! What a connection's bytes go over, and who waits at it: threads at a channel that blocks, or tasks at one that
//! tells them when to come again.
//!
//! What a client does that takes waiting, but need not be as fast as a call, is written once, as `async` code over a
//! [`Medium`]. A thread blocks where a task is told to come again, so for threads such code is through when it is polled
//! first: see [`at_once`].

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use sidewire_platform::{Address, Attachment, Carried, Channel, Endpoint, Peer};

use super::Response;
use super::lasting::Attempt;
use super::leader::{Guard, SharedConnection, State, Waiting, remaining};
use crate::error::Result;
use sidewire_wire::caller::{Outcome, Seat, Wake};

/// A channel, by what can be done with it without waiting.
pub(crate) trait Medium: fmt::Debug + Send + Sync + Sized + 'static {
    /// Who waits at it.
    type Waiting: Wake + Clone + fmt::Debug + Send;
    /// Wakes those who wait for another connection.
    type Bell: Bell;
    /// Whether whoever waits here blocks.
    const BLOCKS: bool;

    fn over(channel: Channel) -> io::Result<Self>;
    fn peer(&self) -> &Peer;
    fn peer_address(&self) -> io::Result<Address>;
    fn local_address(&self) -> io::Result<Address>;

    /// Sends what the system takes at once; timed out: nothing.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Says, before anything is sent, that the server may attach something to what it sends.
    fn expect_attachments(&self) {}

    /// The same as [`send_now`](Medium::send_now), with what goes with the first byte.
    fn send_attached_now(&self, _bytes: &[u8], _attachments: &[Attachment]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing more is to be sent or received.
    fn shutdown(&self);

    /// The same when both sides have said and heard all.
    fn hang_up(&self);

    /// What is to become of bytes that the channel does not take now, when nobody waits for that.
    fn leave_rest(connection: &SharedConnection<Self>, state: &mut State<Self::Waiting>);

    /// Reads what is there, if nobody else reads.
    fn look<'a>(
        connection: &'a SharedConnection<Self>,
        state: Guard<'a, Self::Waiting>,
    ) -> Guard<'a, Self::Waiting>;

    /// Sends an answer on that was given outside of a handler.
    fn send_answer(connection: &SharedConnection<Self>);

    /// Asks the server something, for a handler, and waits for the answer.
    fn call_for_handler(
        connection: &SharedConnection<Self>,
        msg_type: u16,
        payload: &[u8],
    ) -> Result<Response>;

    /// Tells it something, for a handler.
    fn notify_for_handler(connection: &SharedConnection<Self>, msg_type: u16, payload: &[u8]) -> Result<()>;

    /// Whoever asks.
    async fn here() -> Self::Waiting;

    /// Waits for what becomes of the seat, whose time limit is this. Who does not wait for it any more gives it up.
    async fn wait(
        connection: &SharedConnection<Self>,
        seat: Seat,
        deadline: Option<Instant>,
    ) -> (Guard<'_, Self::Waiting>, Outcome);

    /// Does something that blocks where it holds nobody up.
    async fn aside<T: Send + 'static>(
        endpoint: &Endpoint,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T>;

    /// Makes this attempt to connect anew, for all who wait for it.
    async fn make(endpoint: &Endpoint, attempt: Attempt<Self>, deadline: Option<Instant>) -> Result<()>;

    /// Lets it come out that the connection has ended, where that takes a moment.
    async fn settle() {}
}

/// A channel that blocks: what threads can do at it besides.
pub(crate) trait Blocking: Medium<Waiting = Waiting> {
    fn recv(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<usize>;

    /// Appends at most so many bytes.
    fn recv_append(&self, buf: &mut Vec<u8>, most: usize, timeout: Option<Duration>) -> io::Result<usize>;

    fn recv_attached(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<(usize, Carried)>;

    fn send(&self, bytes: &[u8], patience: Duration) -> io::Result<usize>;

    fn send_attached(
        &self,
        bytes: &[u8],
        attachments: &[Attachment],
        patience: Duration,
    ) -> io::Result<usize>;
}

/// Wakes all who wait for it.
pub(crate) trait Bell: fmt::Debug + Default + Send + Sync {
    fn ring(&self);

    /// Asks this about the state until there is an answer: at once, whenever the bell has rung, and at the time that
    /// it says.
    async fn until<S, T>(
        &self,
        state: &Mutex<S>,
        ask: impl FnMut(&mut S) -> ControlFlow<T, Option<Instant>>,
    ) -> T;
}

/// What a thread gets that does what is written for threads and tasks. It waits in the middle of it.
pub(super) fn at_once<T>(waiting: impl Future<Output = T>) -> T {
    match pin!(waiting).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("threads wait by blocking"),
    }
}

impl Medium for Channel {
    type Waiting = Waiting;
    type Bell = Condvar;
    const BLOCKS: bool = true;

    fn over(channel: Channel) -> io::Result<Channel> {
        Ok(channel)
    }

    fn peer(&self) -> &Peer {
        self.peer()
    }

    fn peer_address(&self) -> io::Result<Address> {
        self.peer_address()
    }

    fn local_address(&self) -> io::Result<Address> {
        self.local_address()
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, Some(Duration::ZERO))
    }

    fn expect_attachments(&self) {
        self.expect_attachments();
    }

    fn send_attached_now(&self, bytes: &[u8], attachments: &[Attachment]) -> io::Result<usize> {
        self.send_attached(bytes, attachments, Some(Duration::ZERO))
    }

    fn shutdown(&self) {
        self.shutdown();
    }

    fn hang_up(&self) {
        self.hang_up();
    }

    fn leave_rest(_: &SharedConnection, state: &mut State) {
        // Whoever waits for room does so for these bytes, too.
        state.caller.give_up_sending();
    }

    fn look<'a>(connection: &'a SharedConnection, state: Guard<'a>) -> Guard<'a> {
        connection.read_what_is_there(state, None)
    }

    fn send_answer(connection: &SharedConnection) {
        let deadline = connection.deadline();
        drop(connection.flush(connection.lock(), None, deadline));
    }

    fn call_for_handler(connection: &SharedConnection, msg_type: u16, payload: &[u8]) -> Result<Response> {
        connection.call_for_handler(msg_type, payload)
    }

    fn notify_for_handler(connection: &SharedConnection, msg_type: u16, payload: &[u8]) -> Result<()> {
        connection.notify(msg_type, payload, connection.deadline())
    }

    async fn here() -> Waiting {
        Waiting::here()
    }

    async fn wait(
        connection: &SharedConnection,
        seat: Seat,
        deadline: Option<Instant>,
    ) -> (Guard<'_>, Outcome) {
        connection.wait(connection.lock(), seat, deadline)
    }

    async fn aside<T: Send + 'static>(_: &Endpoint, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        Ok(work())
    }

    async fn make(_: &Endpoint, attempt: Attempt<Channel>, deadline: Option<Instant>) -> Result<()> {
        attempt.make(deadline).await;
        Ok(())
    }
}

impl Blocking for Channel {
    #[inline]
    fn recv(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<usize> {
        self.recv(buf, timeout)
    }

    #[inline]
    fn recv_append(&self, buf: &mut Vec<u8>, most: usize, timeout: Option<Duration>) -> io::Result<usize> {
        self.recv_append(buf, most, timeout)
    }

    fn recv_attached(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<(usize, Carried)> {
        self.recv_attached(buf, timeout)
    }

    #[inline]
    fn send(&self, bytes: &[u8], patience: Duration) -> io::Result<usize> {
        self.send(bytes, Some(patience))
    }

    fn send_attached(
        &self,
        bytes: &[u8],
        attachments: &[Attachment],
        patience: Duration,
    ) -> io::Result<usize> {
        self.send_attached(bytes, attachments, Some(patience))
    }
}

impl Bell for Condvar {
    fn ring(&self) {
        self.notify_all();
    }

    async fn until<S, T>(
        &self,
        state: &Mutex<S>,
        mut ask: impl FnMut(&mut S) -> ControlFlow<T, Option<Instant>>,
    ) -> T {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let until = match ask(&mut state) {
                ControlFlow::Break(answer) => return answer,
                ControlFlow::Continue(until) => until,
            };
            state = match remaining(until) {
                None => self.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}
