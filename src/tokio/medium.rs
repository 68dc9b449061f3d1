//! What tasks wait at: a channel that rings a bell when there is something to do.
//!
//! No task reads for the others: one that was polled once need never be polled again, and they would wait for it. As
//! long as anybody waits for something to come, the runtime rings the connection's [`Bell`] when it may have; whoever
//! rings it, in whichever thread, reads for all and wakes whom it concerns. What the channel does not take at once goes
//! on in the same way. All of it happens under the connection's one lock, and nothing of it blocks.

use std::future::{Future, poll_fn};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use ::tokio::runtime::Handle;
use ::tokio::sync::Notify;
use ::tokio::task::coop::unconstrained;
use ::tokio::task::{JoinError, JoinSet, yield_now};
use ::tokio::time::timeout_at;
use sidewire_platform::{Address, AsyncChannel, Channel, Endpoint, Peer};

use super::waiting::Timer;
use crate::client::{Attempt, Guard, INBOX, LOOKS, Medium, Response, Sent, SharedConnection, State};
use crate::error::{Error, Kind, Result};
use sidewire_wire::Executed;
use sidewire_wire::caller::{Outcome, Purpose, Seat};

/// A connection that tasks call on.
pub(super) type Connection = SharedConnection<Tasks>;

/// A channel that wakes tasks, by way of its bell.
#[derive(Debug)]
pub(crate) struct Tasks {
    channel: AsyncChannel,
    bell: OnceLock<Waker>,
}

impl Medium for Tasks {
    type Waiting = Waker;
    type Bell = Notify;
    const BLOCKS: bool = false;

    fn over(channel: Channel) -> io::Result<Tasks> {
        Ok(Tasks { channel: AsyncChannel::new(channel)?, bell: OnceLock::new() })
    }

    fn peer(&self) -> &Peer {
        self.channel.peer()
    }

    fn peer_address(&self) -> io::Result<Address> {
        self.channel.peer_address()
    }

    fn local_address(&self) -> io::Result<Address> {
        self.channel.local_address()
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.channel.send_now(bytes)
    }

    fn shutdown(&self) {
        self.channel.shutdown();
    }

    fn hang_up(&self) {
        self.channel.hang_up();
    }

    /// The bell rings when there is room.
    fn leave_rest(connection: &Connection, state: &mut State<Waker>) {
        connection.send(state);
    }

    fn look<'a>(connection: &'a Connection, mut state: Guard<'a, Waker>) -> Guard<'a, Waker> {
        connection.look(&mut state);
        connection.tell_news(state)
    }

    fn send_answer(_: &Connection) {
        // What the channel did not take goes on by itself.
    }

    fn call_for_handler(connection: &Connection, msg_type: u16, _: &[u8]) -> Result<Response> {
        let why = "a handler of an async client can't wait; defer the answer, and ask in a task";
        let kind = Kind::InvalidInput(why.into());
        Err(Error::new("call", connection.endpoint(), kind).of_type(msg_type))
    }

    fn notify_for_handler(connection: &Connection, msg_type: u16, payload: &[u8]) -> Result<()> {
        let mut state = connection.lock();
        connection.check_notifies(&state)?;
        if !state.caller.may_begin_at(Purpose::Notify(payload.len()), Instant::now()) {
            return Err(connection.explain(&state, "notify", Outcome::TimedOut(Executed::Never)));
        }
        let pushed = connection.push_notify(&mut state.caller, msg_type, payload);
        connection.begun("notify", pushed)?;
        connection.offer(&mut state);
        Ok(())
    }

    async fn here() -> Waker {
        poll_fn(|context| Poll::Ready(context.waker().clone())).await
    }

    async fn wait(
        connection: &Connection,
        seat: Seat,
        deadline: Option<Instant>,
    ) -> (Guard<'_, Waker>, Outcome) {
        let (place, mut timer) = (Place { connection, seat }, Timer::until(deadline));
        let (state, outcome) = poll_fn(|context| connection.poll_seat(seat, &mut timer, context)).await;
        std::mem::forget(place);
        (state, outcome.unwrap_or(Outcome::TimedOut(Executed::Perhaps)))
    }

    /// On a thread that the runtime has for that. It ends by itself if nobody waits any more.
    async fn aside<T: Send + 'static>(
        endpoint: &Endpoint,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        done(endpoint, runtime(endpoint)?.spawn_blocking(work).await)
    }

    /// In a task of its own, since all others wait for it, whether or not this one is polled on. One that is dropped in
    /// the middle ends it, and leaves its turn to the next.
    async fn make(endpoint: &Endpoint, attempt: Attempt<Tasks>, deadline: Option<Instant>) -> Result<()> {
        let mut alone = JoinSet::new();
        alone.spawn_on(attempt.make(deadline), &runtime(endpoint)?);
        alone.join_next().await.map_or(Ok(()), |made| done(endpoint, made))
    }

    /// On some systems only the runtime's look at what has come tells of the end.
    async fn settle() {
        yield_now().await;
    }
}

impl crate::client::Bell for Notify {
    fn ring(&self) {
        self.notify_waiters();
    }

    async fn until<S, T>(
        &self,
        state: &Mutex<S>,
        mut ask: impl FnMut(&mut S) -> ControlFlow<T, Option<Instant>>,
    ) -> T {
        loop {
            let rung = self.notified();
            let asked = ask(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
            match asked {
                ControlFlow::Break(answer) => return answer,
                ControlFlow::Continue(None) => rung.await,
                ControlFlow::Continue(Some(until)) => drop(timeout_at(until.into(), rung).await),
            }
        }
    }
}

/// A seat that is given up if nobody waits any more for what becomes of it.
struct Place<'c> {
    connection: &'c Connection,
    seat: Seat,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        match self.seat {
            Seat::Call(_) => self.connection.drop_call(self.seat),
            _ => self.connection.lock().caller.leave(self.seat),
        }
    }
}

fn runtime(endpoint: &Endpoint) -> Result<Handle> {
    Handle::try_current().map_err(|_| impossible(endpoint, "there is no Tokio runtime here"))
}

/// A panic goes on in whoever has waited.
fn done<T>(endpoint: &Endpoint, done: Result<T, JoinError>) -> Result<T> {
    done.map_err(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => impossible(endpoint, "the Tokio runtime ends"),
    })
}

fn impossible(endpoint: &Endpoint, text: &str) -> Error {
    Error::new("connect to", endpoint, Kind::InvalidInput(text.into())).not_executed()
}

impl Tasks {
    /// Not bound by what the runtime grants a task at a time: where that is used up it would ring the bell at once, under
    /// our lock.
    fn poll<T>(
        &self,
        connection: &Weak<Connection>,
        operation: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let bell = self.bell.get_or_init(|| Waker::from(Arc::new(Bell(Weak::clone(connection)))));
        pin!(unconstrained(poll_fn(operation))).poll(&mut Context::from_waker(bell))
    }
}

/// What the runtime rings when something may have come, or when there may be room. Never under the connection's lock.
struct Bell(Weak<Connection>);

impl std::task::Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        let Some(connection) = self.0.upgrade() else { return };
        let mut state = connection.lock();
        state.now = Instant::now();
        connection.send(&mut state);
        if state.caller.is_somebody_reading() {
            // If there is more than this reads, whoever is to read on was woken.
            let _ = connection.read_for_all(&mut state);
            // What was read may have been answered on the spot: pings, and what nobody here has a handler for.
            connection.send(&mut state);
        }
        // What is told is the application's, and the thread that rings is not.
        let told = catch_unwind(AssertUnwindSafe(|| drop(connection.tell_news(state))));
        if told.is_err() {
            log::error!("{}: what was told that something has come panicked", connection.endpoint());
        }
    }
}

/// Reading and sending.
impl Connection {
    /// Reads as long as anybody waits for it and there is something, and then has the bell ring.
    ///
    /// Pending: there is more than one should read in one go, so whoever waits was woken to read on.
    pub(super) fn read_for_all(&self, state: &mut State<Waker>) -> Poll<()> {
        for _ in 0..LOOKS {
            if state.caller.is_over() || !state.caller.is_read_wanted() {
                state.caller.stop_reading();
                return Poll::Ready(());
            }
            if !state.caller.is_somebody_reading() {
                let none = state.caller.begin_read(usize::MAX);
                debug_assert!(none.is_none(), "large frames are read as others are");
            }
            let channel = self.channel();
            let receive =
                |inbox: &mut [u8]| channel.poll(&self.me, |bell| channel.channel.poll_recv(bell, inbox));
            if self.read(state, receive).is_pending() {
                return Poll::Ready(());
            }
        }
        state.caller.stop_reading();
        state.caller.give_up_sending();
        Poll::Pending
    }

    /// Takes what is there, whatever the runtime knows of it, and judges what is overdue.
    pub(super) fn look(&self, state: &mut State<Waker>) {
        for _ in 0..LOOKS {
            let receive = |inbox: &mut [u8]| Poll::Ready(self.channel().channel.recv_now(inbox));
            if state.caller.is_over() || self.read(state, receive) != Poll::Ready(true) {
                return;
            }
        }
    }

    /// Reads once. Whether something came.
    fn read(
        &self,
        state: &mut State<Waker>,
        receive: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<bool> {
        let asked = state.now;
        let mut inbox = std::mem::take(&mut state.inbox);
        inbox.resize(INBOX, 0);
        let read = receive(&mut inbox).map(|result| {
            let length = result.as_ref().map_or(0, |count| *count);
            self.take_in(state, result, (&inbox[..length], INBOX), |caller, came, now| {
                caller.read_on(came, asked, now);
            })
        });
        state.inbox = inbox;
        if state.caller.has_incoming() {
            // One of those who wait handles it.
            state.caller.give_up_sending();
        }
        read
    }

    /// Sends what the channel takes; the bell rings when it takes more.
    pub(super) fn send(&self, state: &mut State<Waker>) {
        while let Sent::Blocked = self.send_at_once(state) {
            let Some(unsent) = state.caller.to_send() else { return };
            let (now, channel) = (state.now, self.channel());
            match channel.poll(&self.me, |bell| channel.channel.poll_send(bell, unsent)) {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) => state.caller.sent(count, now),
                Poll::Ready(Err(error)) => return self.broken_pipe(state, &error),
            }
        }
    }
}
