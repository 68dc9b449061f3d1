//! How tasks wait on a connection.
//!
//! What they wait for, and who is woken, is the business of the wire's [`Caller`](sidewire_wire::caller::Caller); here is
//! what tasks add to it. All of it happens under the connection's one lock, and nothing in here blocks.
//!
//! No task reads for the others: one that was polled once need never be polled again, and they would wait for it. As
//! long as anybody waits for something to come, the runtime tells the connection's [`Bell`] when it may have, and
//! the bell's ring reads for all, wherever the runtime rings it, and wakes whom it concerns. What the channel does not
//! take at once goes on in the same way. Tasks look themselves when they are polled, before they wait; and when a time
//! limit passes, since a bell that is late says nothing of what has come.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use ::tokio::task::coop::{poll_proceed, unconstrained};
use ::tokio::time::{Sleep, sleep_until};
use sidewire_platform::{Address, AsyncChannel, Channel, Peer};

use crate::client::{Bell as Rings, Guard, INBOX, LOOKS, Medium, Response, Sent, SharedConnection, State};
use crate::error::{Error, Kind, Result};
use sidewire_wire::caller::{Caller, Outcome, Purpose, Seat, Step, Wake};
use sidewire_wire::memory::NoMemory;

/// A connection that tasks call on.
pub(super) type Connection = SharedConnection<Tasks>;

/// A channel that wakes tasks, and by way of which bell.
#[derive(Debug)]
pub(crate) struct Tasks {
    channel: AsyncChannel,
    input: OnceLock<Waker>,
    room: OnceLock<Waker>,
}

/// A task that waits.
#[derive(Debug)]
pub(crate) struct Task(Waker);

impl Task {
    pub(super) fn of(context: &Context<'_>) -> Task {
        Task(context.waker().clone())
    }

    /// It may have moved.
    fn update(&mut self, context: &Context<'_>) {
        self.0.clone_from(context.waker());
    }
}

impl Wake for Task {
    fn wake(&self) {
        self.0.wake_by_ref();
    }
}

/// Wakes those who wait for another connection.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Vec<Waker>>);

impl Waiters {
    pub(super) fn add(&self, waker: &Waker) {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiters.iter().any(|waiter| waiter.will_wake(waker)) {
            waiters.push(waker.clone());
        }
    }
}

impl Rings for Waiters {
    fn ring(&self) {
        let waiters = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        waiters.into_iter().for_each(Waker::wake);
    }
}

impl Medium for Tasks {
    type Waiting = Task;
    type Bell = Waiters;

    fn over(channel: Channel) -> io::Result<Tasks> {
        Ok(Tasks { channel: AsyncChannel::new(channel)?, input: OnceLock::new(), room: OnceLock::new() })
    }

    fn peer(&self) -> &Peer {
        self.channel.peer()
    }

    fn peer_address(&self) -> io::Result<Address> {
        self.channel.peer_address()
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
    fn leave_rest(connection: &Connection, state: &mut State<Task>) {
        connection.send(state);
    }

    fn look<'a>(connection: &'a Connection, mut state: Guard<'a, Task>) -> Guard<'a, Task> {
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
        let purpose = Purpose::Notify(payload.len());
        if !state.caller.may_begin_at(purpose, Instant::now()) {
            let outcome = Outcome::TimedOut(sidewire_wire::Executed::Never);
            return Err(connection.explain(&state, "notify", outcome));
        }
        let pushed = connection.push_notify(&mut state.caller, msg_type, payload);
        connection.begun("notify", pushed)?;
        connection.offer(&mut state);
        Ok(())
    }
}

impl Tasks {
    pub(super) fn local_address(&self) -> io::Result<Address> {
        self.channel.local_address()
    }

    /// Not bound by what the runtime grants a task at a time: where that is used up it would ring the bell at once, under
    /// our lock.
    fn poll_recv(&self, connection: &Weak<Connection>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let bell = self.input.get_or_init(|| Bell::waker(connection, Rung::Input));
        let receive = poll_fn(|bell| self.channel.poll_recv(bell, buf));
        pin!(unconstrained(receive)).poll(&mut Context::from_waker(bell))
    }

    fn poll_send(&self, connection: &Weak<Connection>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let bell = self.room.get_or_init(|| Bell::waker(connection, Rung::Room));
        let send = poll_fn(|bell| self.channel.poll_send(bell, buf));
        pin!(unconstrained(send)).poll(&mut Context::from_waker(bell))
    }
}

/// What the runtime rings when the channel is ready. Never under the connection's lock.
struct Bell {
    connection: Weak<Connection>,
    rung: Rung,
}

#[derive(Clone, Copy)]
enum Rung {
    /// Something may have come.
    Input,
    /// There may be room.
    Room,
}

impl Bell {
    fn waker(connection: &Weak<Connection>, rung: Rung) -> Waker {
        Waker::from(Arc::new(Bell { connection: Weak::clone(connection), rung }))
    }
}

impl std::task::Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        let Some(connection) = self.connection.upgrade() else { return };
        let mut state = connection.lock();
        state.now = Instant::now();
        match self.rung {
            // Whoever is to read on was woken.
            Rung::Input if state.caller.is_somebody_reading() => {
                let _ = connection.read_for_all(&mut state);
            }
            Rung::Input => {}
            Rung::Room => connection.send(&mut state),
        }
        // What is told is the application's, and the thread that rings is not.
        let told = catch_unwind(AssertUnwindSafe(|| drop(connection.tell_news(state))));
        if told.is_err() {
            log::error!("{}: what was told that something has come panicked", connection.endpoint());
        }
    }
}

/// What wakes a task in time.
#[derive(Debug, Default)]
pub(super) struct Timer {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Whether it is that late; the task is woken when it is.
    pub(super) fn poll(&mut self, at: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(instant) = at else {
            self.at = None;
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(instant.into())));
        if self.at != at {
            sleep.as_mut().reset(instant.into());
            self.at = at;
        }
        sleep.as_mut().poll(context)
    }
}

/// Reading and sending.
impl Connection {
    /// Reads as long as anybody waits for it and there is something, and then has the bell ring.
    ///
    /// Pending: there is more than one should read in one go, so whoever waits was woken to read on.
    fn read_for_all(&self, state: &mut State<Task>) -> Poll<()> {
        for _ in 0..LOOKS {
            if state.caller.is_over() || !state.caller.is_read_wanted() {
                state.caller.stop_reading();
                return Poll::Ready(());
            }
            if !state.caller.is_somebody_reading() {
                let none = state.caller.begin_read(usize::MAX);
                debug_assert!(none.is_none(), "large frames are read as others are");
            }
            let read = self.read(state, |channel, inbox| channel.poll_recv(&self.me, inbox));
            if read.is_pending() {
                return Poll::Ready(());
            }
        }
        state.caller.stop_reading();
        state.caller.give_up_sending();
        Poll::Pending
    }

    /// Takes what is there, whatever the runtime knows of it, and judges what is overdue.
    fn look(&self, state: &mut State<Task>) {
        for _ in 0..LOOKS {
            if state.caller.is_over() {
                return;
            }
            match self.read(state, |channel, inbox| Poll::Ready(channel.channel.recv_now(inbox))) {
                Poll::Ready(true) => {}
                Poll::Ready(false) | Poll::Pending => return,
            }
        }
    }

    /// Reads once. Whether something came.
    fn read(
        &self,
        state: &mut State<Task>,
        receive: impl FnOnce(&Tasks, &mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<bool> {
        let asked = state.now;
        let mut inbox = std::mem::take(&mut state.inbox);
        inbox.resize(INBOX, 0);
        let received = receive(self.channel(), &mut inbox);
        let read = received.map(|result| {
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
    pub(super) fn send(&self, state: &mut State<Task>) {
        while let Sent::Blocked = self.send_at_once(state) {
            let Some(unsent) = state.caller.to_send() else { return };
            let now = state.now;
            match self.channel().poll_send(&self.me, unsent) {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) => state.caller.sent(count, now),
                Poll::Ready(Err(error)) => return self.broken_pipe(state, &error),
            }
        }
    }
}

/// A seat that is given up if whoever has it goes.
#[derive(Debug)]
pub(super) struct Place<'c> {
    connection: &'c Connection,
    seat: Option<Seat>,
    deadline: Option<Instant>,
    timer: Timer,
}

impl<'c> Place<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        seat: Option<Seat>,
        deadline: Option<Instant>,
    ) -> Place<'c> {
        Place { connection, seat, deadline, timer: Timer::default() }
    }

    /// Waits for what becomes of it, and gives what `make` makes of that.
    pub(super) async fn wait<T>(mut self, make: impl Fn(&State<Task>, Option<Outcome>) -> T) -> T {
        poll_fn(|context| {
            let Place { connection, seat, deadline, timer } = &mut self;
            let (state, outcome) = match *seat {
                Some(seat) => ready!(connection.poll_seat(seat, *deadline, timer, context)),
                None => (connection.lock(), None),
            };
            if outcome.is_some() {
                *seat = None;
            }
            Poll::Ready(make(&state, outcome))
        })
        .await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        match self.seat {
            Some(call @ Seat::Call(_)) => self.connection.drop_call(call),
            Some(events @ Seat::Events(_)) => self.connection.drop_events(events),
            Some(seat) => self.connection.lock().caller.leave(seat),
            None => {}
        }
    }
}

/// Waiting.
impl Connection {
    /// What becomes of a seat, with the lock; `None`: there is nobody to wait any more.
    pub(super) fn poll_seat<'a>(
        &'a self,
        seat: Seat,
        deadline: Option<Instant>,
        timer: &mut Timer,
        context: &mut Context<'_>,
    ) -> Poll<(Guard<'a, Task>, Option<Outcome>)> {
        // Others get their turn, too, where everything is there already.
        let turn = ready!(poll_proceed(context));
        let mut state = self.lock();
        state.now = Instant::now();
        match state.caller.waker_mut(seat) {
            Some(task) => task.update(context),
            None => state.caller.attend(seat, deadline, Task::of(context)),
        }
        let now = state.now;
        let mut is_late = [timer.at, deadline].into_iter().flatten().any(|at| at <= now);
        loop {
            self.send(&mut state);
            if std::mem::take(&mut is_late) {
                self.look(&mut state);
                state = self.tell_news(state);
            }
            let now = state.now;
            let until = match state.caller.poll(seat, now) {
                Step::Done(outcome) => {
                    turn.made_progress();
                    return Poll::Ready((state, Some(outcome)));
                }
                Step::NotYet => return Poll::Ready((state, None)),
                Step::Look => {
                    self.look(&mut state);
                    continue;
                }
                Step::Read { until } | Step::Wait { until } => until,
            };
            if let Some(incoming) = self.take_work(&mut state) {
                state = self.serve(state, &[seat], deadline, incoming, || Task::of(context));
                continue;
            }
            if !state.caller.is_somebody_reading() {
                let read = self.read_for_all(&mut state);
                state = self.tell_news(state);
                match read {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            let until = until.into_iter().chain(state.caller.look_at(now)).min();
            if timer.poll(until, context).is_pending() {
                return Poll::Pending;
            }
            state.now = until.into_iter().chain([Instant::now()]).max().unwrap_or(now);
            is_late = true;
        }
    }

    /// Waits until such a request may begin, and begins it at once.
    pub(super) async fn begin<T>(
        &self,
        operation: &'static str,
        purpose: Purpose,
        deadline: Option<Instant>,
        begin: impl FnOnce(&mut Caller<Task>, Task) -> Result<T, NoMemory>,
    ) -> Result<T> {
        let (mut place, mut begin) = (Place::new(self, None, deadline), Some(begin));
        poll_fn(|context| {
            let (mut state, outcome) = match place.seat {
                Some(seat) => ready!(self.poll_seat(seat, deadline, &mut place.timer, context)),
                None => {
                    let mut state = self.lock();
                    state.now = Instant::now();
                    let now = state.now;
                    if state.caller.may_begin_at(purpose, now) {
                        (state, Some(Outcome::Ready))
                    } else {
                        let seat = state.caller.ask(purpose, deadline, Task::of(context));
                        place.seat = Some(seat);
                        drop(state);
                        ready!(self.poll_seat(seat, deadline, &mut place.timer, context))
                    }
                }
            };
            place.seat = None;
            Poll::Ready(match (outcome, begin.take()) {
                (Some(Outcome::Ready), Some(begin)) => {
                    self.begun(operation, begin(&mut state.caller, Task::of(context)))
                }
                (outcome, _) => {
                    let outcome = outcome.unwrap_or(Outcome::TimedOut(sidewire_wire::Executed::Never));
                    Err(self.unbegun(&state, operation, outcome))
                }
            })
        })
        .await
    }

    /// Waits until all has been sent.
    pub(super) async fn send_all(&self, operation: &'static str, deadline: Option<Instant>) -> Result<()> {
        let mut place = Place::new(self, None, deadline);
        poll_fn(|context| {
            let mut state = self.lock();
            state.now = Instant::now();
            self.send(&mut state);
            let is_done = !state.caller.has_unsent() || state.caller.end().is_some();
            if is_done || place.timer.poll(deadline, context).is_ready() {
                return Poll::Ready(self.check_sent(&state, operation));
            }
            // In the queue it is woken when there is room; and a server that is stuck sending is read from.
            match place.seat.and_then(|seat| state.caller.waker_mut(seat)) {
                Some(task) => task.update(context),
                None => {
                    place.seat = Some(state.caller.ask(Purpose::Notify(0), None, Task::of(context)));
                }
            }
            if !state.caller.is_somebody_reading() {
                // Either the bell is to ring now, or it was woken.
                let _ = self.read_for_all(&mut state);
                drop(self.tell_news(state));
            }
            Poll::Pending
        })
        .await
    }
}
