//! One connection under many threads: leader and followers.
//!
//! What they wait for, who reads and who is woken is the business of the wire's [`Caller`]; here is what
//! threads add to it: the lock, waiting at the channel without it, parking. One of the threads that
//! wait, the leader, reads for all. Whoever has something to send sends it itself; if the system takes
//! no more, that thread becomes the writer and waits for room, while others leave their bytes in the
//! outbox behind it.
//!
//! Which requests there are stands in `calls`, how a connection ends in `ends`.

use std::io;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use sidewire_platform::{Channel, Endpoint};

use super::attached;
use super::closing::Closing;
use super::fate::Fate;
use super::handlers::Handlers;
use super::medium::{Blocking, Medium};
use crate::error::Error;
use crate::maker::Maker;
use crate::sync::{self, Mutex, MutexGuard, Thread, now};
use sidewire_wire::caller::{Caller, Came, Outcome, Seat, Step, Wake};
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{App, Executed, Layout};

/// A connection that several threads call on.
#[derive(Debug)]
pub(crate) struct SharedConnection<M: Medium = Channel> {
    channel: M,
    endpoint: Endpoint,
    state: Mutex<State<M::Waiting>>,
    pub(super) maker: Maker,
    /// What the server may ask of us.
    pub(super) handlers: Handlers,
    /// For what outlives a call.
    pub(crate) me: Weak<SharedConnection<M>>,
    /// Whom to tell of its end.
    pub(super) closing: Option<Closing>,
    /// Who knows more of its end.
    pub(super) fate: Option<Arc<Fate>>,
}

/// What the threads share under the lock.
#[derive(Debug)]
pub(crate) struct State<W = Waiting> {
    pub(crate) caller: Caller<W>,
    /// What the leader reads into; taken out while it does.
    pub(crate) inbox: Vec<u8>,
    /// When the last thread came back from the channel or from its sleep: early enough to judge by whose
    /// time is up, and not one more look at the clock for each call.
    pub(crate) now: Instant,
    /// Whether something was read since the last turn, if a loop of the program's own takes turns.
    pub(super) has_come: bool,
    /// Whether the system did not take all in the last turn, and so has to say when it takes more.
    pub(super) is_stuck: bool,
    /// How the channel broke, if it did.
    pub(super) breakage: Option<Error>,
}

/// A thread that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting(Thread);

impl Waiting {
    pub(super) fn here() -> Waiting {
        Waiting(sync::current())
    }
}

impl Wake for Waiting {
    fn wake(&self) {
        self.0.unpark();
    }
}

pub(crate) type Guard<'a, W = Waiting> = MutexGuard<'a, State<W>>;

/// Reads that take what is there, and no more, should it never end: more than the system's buffers hold.
pub(crate) const LOOKS: usize = 256;
/// Bytes that one read asks for.
pub(crate) const INBOX: usize = 64 << 10;
/// Reads of at least this size go straight into the frame's own buffer.
const LARGE: usize = 64 << 10;
/// Bytes that the writer takes along while it waits without the lock.
const WRITE_CHUNK: usize = 256 << 10;
/// How long the writer waits for room in one go, should nobody read meanwhile.
pub(super) const WRITER_CHECK: Duration = Duration::from_millis(100);

impl<M: Medium> SharedConnection<M> {
    pub(super) fn new(
        channel: M,
        endpoint: Endpoint,
        mut caller: Caller<M::Waiting>,
        handlers: Handlers,
        closing: Option<Closing>,
        fate: Option<Arc<Fate>>,
    ) -> Arc<SharedConnection<M>> {
        if !handlers.is_empty() {
            caller.serve();
        }
        let state = Mutex::new(State {
            caller,
            inbox: Vec::new(),
            now: now(),
            has_come: false,
            is_stuck: false,
            breakage: None,
        });
        let maker = Maker::here();
        Arc::new_cyclic(|me| SharedConnection {
            channel,
            endpoint,
            state,
            maker,
            handlers,
            closing,
            fate,
            me: me.clone(),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn channel(&self) -> &M {
        &self.channel
    }

    pub(crate) fn layout(&self) -> Layout {
        self.lock().caller.layout().unwrap_or(Layout::V1)
    }

    /// Most payload bytes of a request.
    pub(crate) fn request_limit(&self) -> usize {
        self.lock().caller.request_limit()
    }

    /// What the server's hello says of its application.
    pub(crate) fn peer_app(&self) -> Option<App> {
        self.lock().caller.hello()?.app().cloned()
    }

    /// Sends what the channel takes at once of what is in the outbox, unless somebody else is at it.
    pub(crate) fn offer(&self, state: &mut State<M::Waiting>) {
        if let Sent::Blocked = self.send_at_once(state) {
            M::leave_rest(self, state);
        }
    }

    /// The same, and says whether more is left. Whoever waits is to see to that.
    pub(crate) fn send_at_once(&self, state: &mut State<M::Waiting>) -> Sent {
        loop {
            let parcel = state.caller.next_parcel().cloned();
            let Some(unsent) = state.caller.to_send() else { break };
            let result = match parcel {
                None => self.channel.send_now(unsent),
                Some(parcel) => attached::send_now(&self.channel, unsent, &parcel),
            };
            state.now = now();
            let now = state.now;
            match result {
                Ok(count) => state.caller.sent(count, now),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    state.caller.sent_nothing(now, now);
                    self.close_if_failed(state);
                    return Sent::Blocked;
                }
                Err(error) => self.broken_pipe(state, &error),
            }
        }
        Sent::All
    }

    pub(crate) fn broken_pipe(&self, state: &mut State<M::Waiting>, error: &io::Error) {
        log::debug!("sending to {}: {error}", self.endpoint);
        state.caller.cannot_send();
        self.close_if_failed(state);
    }

    /// Behind a failure: tells the server, if that goes without waiting, and closes.
    pub(super) fn close_if_failed(&self, state: &mut State<M::Waiting>) {
        let Some(words) = state.caller.poll_close() else { return };
        if words.is_empty() {
            return self.channel.hang_up();
        }
        if self.channel.send_now(&words).is_err() {
            log::debug!("{}: no goodbye reached the server", self.endpoint);
        }
        self.channel.shutdown();
    }

    /// What a read gave. `most`: bytes that it asked for; `bytes`: empty if they were read in
    /// place.
    #[inline]
    pub(crate) fn take_in(
        &self,
        state: &mut State<M::Waiting>,
        result: io::Result<usize>,
        (bytes, most): (&[u8], usize),
        end_read: impl FnOnce(&mut Caller<M::Waiting>, Came<'_>, Instant),
    ) -> bool {
        state.now = now();
        let came = match &result {
            Ok(0) => Came::End,
            Ok(count) => Came::Bytes { bytes, is_all: *count < most },
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Came::Nothing,
            Err(_) => Came::Broken,
        };
        let (now, has_come) = (state.now, matches!(came, Came::Bytes { .. }));
        state.has_come |= has_come;
        end_read(&mut state.caller, came, now);
        if let (Came::Broken, Err(error)) = (came, result) {
            state.breakage.get_or_insert_with(|| Error::os("read from", &self.endpoint, error));
        }
        self.close_if_failed(state);
        has_come
    }

    /// Tells whoever wants to know that something has come for which nobody waits.
    pub(crate) fn tell_news<'a>(&'a self, mut state: Guard<'a, M::Waiting>) -> Guard<'a, M::Waiting> {
        if state.caller.take_news() && self.handlers.arrival.is_some() {
            drop(state);
            self.handlers.tell_arrival();
            state = self.lock();
        }
        state
    }

    pub(crate) fn lock(&self) -> Guard<'_, M::Waiting> {
        // Nothing in here panics half-way; if it did, the connection's own checks hold.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether something is left to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing, or somebody else is at it.
    All,
    /// The channel takes no more.
    Blocked,
}

impl<M: Blocking> SharedConnection<M> {
    /// What becomes of a seat that nobody need wait at: what is known is told at once, else this thread waits
    /// there until then, reckoned from now.
    pub(super) fn attend(
        &self,
        seat: Seat,
        until: impl FnOnce(Instant) -> Option<Instant>,
    ) -> (Guard<'_>, Option<Outcome>) {
        let mut state = self.lock();
        let now = now();
        state.now = now;
        match state.caller.poll(seat, now) {
            Step::Done(outcome) => (state, Some(outcome)),
            _ => {
                let until = until(now);
                state.caller.attend(seat, until, Waiting::here());
                self.wait_until(state, seat, until, |_| false)
            }
        }
    }

    /// Waits for what becomes of the seat, whose time limit is this.
    pub(super) fn wait<'a>(
        &'a self,
        state: Guard<'a>,
        seat: Seat,
        deadline: Option<Instant>,
    ) -> (Guard<'a>, Outcome) {
        let (state, outcome) = self.wait_until(state, seat, deadline, |_| false);
        (state, outcome.unwrap_or(Outcome::TimedOut(Executed::Perhaps)))
    }

    /// The same, but not longer than whoever waits there wants to, nor when there is another reason to go.
    pub(super) fn wait_until<'a>(
        &'a self,
        state: Guard<'a>,
        seat: Seat,
        until: Option<Instant>,
        may_go: impl Fn(&Caller<Waiting>) -> bool,
    ) -> (Guard<'a>, Option<Outcome>) {
        self.wait_at(state, seat, &[seat], until, may_go)
    }

    /// The same for one who waits at several seats, of which this one has the least time.
    pub(super) fn wait_at<'a>(
        &'a self,
        mut state: Guard<'a>,
        seat: Seat,
        seats: &[Seat],
        until: Option<Instant>,
        may_go: impl Fn(&Caller<Waiting>) -> bool,
    ) -> (Guard<'a>, Option<Outcome>) {
        loop {
            let before = state.now;
            state = self.flush(state, Some(seat), until);
            if may_go(&state.caller) {
                return (state, None);
            }
            let now = state.now;
            // Whoever has just sent something has just looked at the clock.
            let asked = (now != before).then_some(now);
            state = match state.caller.poll(seat, now) {
                Step::Done(outcome) => {
                    if matches!(&outcome, Outcome::Reply(reply) if reply.attached.is_some()) {
                        // The server hears that it need not keep them any more.
                        self.offer(&mut state);
                    }
                    return (state, Some(outcome));
                }
                Step::Read { until: next } => match self.take_work(&mut state) {
                    Some(incoming) => self.serve(state, seats, until, incoming, Waiting::here),
                    None => self.read(state, Some(seat), next, asked).0,
                },
                Step::Look => self.read_what_is_there(state, Some(seat)),
                Step::Wait { until } => self.follow(state, until),
                Step::NotYet => return (state, None),
            };
        }
    }

    /// Leaves reading to the leader until somebody wakes us.
    fn follow<'a>(&'a self, state: Guard<'a>, until: Option<Instant>) -> Guard<'a> {
        drop(state);
        match remaining(until) {
            Some(left) => sync::park_timeout(left),
            None => sync::park(),
        }
        let mut state = self.lock();
        state.now = now();
        state
    }

    /// Leads: reads once. Says whether bytes came. `asked`: the time, if it is known.
    pub(super) fn read<'a>(
        &'a self,
        mut state: Guard<'a>,
        seat: Option<Seat>,
        until: Option<Instant>,
        asked: Option<Instant>,
    ) -> (Guard<'a>, bool) {
        if state.caller.is_accompanied() {
            return self.read_attached(state, seat, until, asked);
        }
        let large = state.caller.begin_read(LARGE);
        let mut inbox = std::mem::take(&mut state.inbox);
        drop(state);
        let asked = asked.unwrap_or_else(now);
        let timeout = until.map(|until| whole_millis(until.saturating_duration_since(asked)));
        let (result, most, large) = match large {
            Some((mut partial, most)) => {
                let result = self.channel.recv_append(&mut partial, most, timeout);
                (result, most, Some(partial))
            }
            None => {
                if inbox.len() != INBOX {
                    inbox.resize(INBOX, 0);
                }
                (self.channel.recv(&mut inbox, timeout), INBOX, None)
            }
        };
        let mut state = self.lock();
        let length = if large.is_some() { 0 } else { result.as_ref().map_or(0, |count| *count) };
        if let Some(partial) = large {
            state.caller.put_back(partial);
        }
        let has_come = self.take_in(&mut state, result, (&inbox[..length], most), |caller, came, now| {
            caller.end_read(seat, came, asked, now);
        });
        state.inbox = inbox;
        (self.tell_news(state), has_come)
    }

    /// Takes what is there, if nobody else reads: for one whose time is up, or who waits for a server
    /// that is stuck writing and does not read.
    pub(super) fn read_what_is_there<'a>(&'a self, mut state: Guard<'a>, seat: Option<Seat>) -> Guard<'a> {
        for _ in 0..LOOKS {
            if state.caller.is_somebody_reading() || state.caller.is_over() {
                break;
            }
            let (read, has_come) = self.read(state, seat, Some(now()), None);
            state = read;
            if !has_come {
                break;
            }
        }
        state
    }

    /// Sends what is in the outbox, unless another thread is at it. Returns when all is sent,
    /// or the time is up, or the channel is broken.
    pub(super) fn flush<'a>(
        &'a self,
        mut state: Guard<'a>,
        seat: Option<Seat>,
        deadline: Option<Instant>,
    ) -> Guard<'a> {
        loop {
            let parcel = state.caller.next_parcel().cloned();
            let Some(unsent) = state.caller.to_send() else { break };
            // Usually the system takes it at once, and the lock need not be let go.
            let mut result = attached::send(&self.channel, unsent, parcel.as_ref(), Duration::ZERO);
            let mut asked = None;
            if is_timeout(&result) {
                let chunk = &unsent[..unsent.len().min(WRITE_CHUNK)];
                let chunk = memory::copy(chunk).unwrap_or_else(|NoMemory| chunk[..1].to_vec());
                let now = *asked.insert(now());
                state.caller.begin_write(seat, now);
                drop(state);
                let patience = remaining(deadline).map_or(WRITER_CHECK, |left| left.min(WRITER_CHECK));
                result = attached::send(&self.channel, &chunk, parcel.as_ref(), patience);
                state = self.lock();
            }
            state.now = now();
            let now = state.now;
            match result {
                Ok(count) if asked.is_none() => state.caller.sent(count, now),
                Ok(count) => {
                    state.caller.sent(count, now);
                    // A reader that saw a failure meanwhile could not close in the middle of our bytes.
                    self.close_if_failed(&mut state);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    state.caller.sent_nothing(asked.unwrap_or(now), now);
                    self.close_if_failed(&mut state);
                    if deadline.is_some_and(|deadline| deadline <= now) {
                        state.caller.give_up_sending();
                        return state;
                    }
                    state = self.read_what_is_there(state, seat);
                }
                Err(error) => self.broken_pipe(&mut state, &error),
            }
        }
        state
    }
}

fn is_timeout<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// When something is over that begins now.
#[inline]
pub(crate) fn deadline_in(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| now().checked_add(timeout))
}

/// What is left, in whole milliseconds.
pub(crate) fn remaining(deadline: Option<Instant>) -> Option<Duration> {
    Some(whole_millis(deadline?.saturating_duration_since(now())))
}

/// A channel remembers the time limit that it last set, so that calls with the same limit, one after the
/// other, need not set it again.
pub(super) fn whole_millis(left: Duration) -> Duration {
    let part = u64::from(left.subsec_nanos().div_ceil(1_000_000));
    Duration::from_millis(left.as_secs().saturating_mul(1000).saturating_add(part))
}

pub(super) fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= now())
}
