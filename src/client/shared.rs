//! One connection under many threads: leader and followers.
//!
//! Of the threads that wait for a reply one, the leader, reads from the channel, without the
//! lock. It hands the others their replies, and when its own has come, or its time is up, it
//! wakes one of them to take its place. Whoever has something to send sends it itself; if the
//! system takes no more, that thread becomes the writer and waits for room, while others leave
//! their bytes in the outbox behind it.

mod state;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidewire_platform::{Channel, Endpoint};

use super::Response;
use super::journal::Asked;
use crate::error::{Error, Kind, Result};
use crate::maker::Maker;
use sidewire_wire::ResultCode;
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{Connection, Executed, LATE, Layout};
use state::{State, Waiter};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Shared {
    channel: Channel,
    endpoint: Endpoint,
    state: Mutex<State>,
    maker: Maker,
}

/// Of one whose time is up.
#[derive(Clone, Copy, Debug)]
enum LastLook {
    Due,
    /// The leader's, which is waited for.
    Leaders {
        until: Instant,
    },
    Taken,
}

type Guard<'a> = MutexGuard<'a, State>;

/// Reads that take what is there, and no more, should it never end: more than the system's buffers hold.
const LOOKS: usize = 256;
/// Bytes that one read asks for.
const INBOX: usize = 64 << 10;
/// Reads of at least this size go straight into the frame's own buffer.
const LARGE: usize = 64 << 10;
/// Bytes that the writer takes along while it waits without the lock.
const WRITE_CHUNK: usize = 256 << 10;
/// How long a thread waits at most in one go while something is not out: the leader for what comes,
/// should the writer's time be up meanwhile; the writer for room, should nobody read meanwhile.
const WRITER_CHECK: Duration = Duration::from_millis(100);

impl Shared {
    pub(super) fn new(channel: Channel, endpoint: Endpoint, connection: Connection) -> Shared {
        Shared { channel, endpoint, state: Mutex::new(State::new(connection)), maker: Maker::here() }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn layout(&self) -> Layout {
        self.lock().connection.layout().unwrap_or(Layout::V1)
    }

    pub(super) fn request_limit(&self) -> u32 {
        self.lock().connection.request_limit()
    }

    /// Waits for the server's hello.
    pub(super) fn shake_hands(&self, deadline: Option<Instant>) -> Result<()> {
        let (mut state, mut last_look) = (self.lock(), LastLook::Due);
        while state.connection.layout().is_none() {
            state = self.flush(state, deadline);
            if let Some(end) = &state.end {
                return Err(end.error.for_request("connect to", Executed::Never));
            }
            if is_past(deadline) {
                let looked = self.look_once_more(state, &mut last_look, deadline);
                let timed_out = |_| Error::new("connect to", &self.endpoint, Kind::TimedOut).not_executed();
                state = looked.map_err(timed_out)?;
                continue;
            }
            state = self.read(state, deadline);
        }
        match &state.end {
            Some(end) => Err(end.error.for_request("connect to", Executed::Never)),
            None => Ok(()),
        }
    }

    /// Sends a request and waits for its reply.
    pub(super) fn exchange(
        &self,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        let mut state = self.wait_for_room(self.lock(), "call", payload.len(), deadline)?;
        let pushed = state.connection.push_request(msg_type, payload, super::request::timeout_ms(timeout));
        let id = pushed.map_err(|NoMemory| Error::no_memory("call", &self.endpoint, Executed::Never))?;
        let asked = Asked::begin(&self.endpoint, msg_type, id, payload.len());
        state.waiters.insert(id, Waiter { thread: std::thread::current(), reply: None });
        let mut last_look = LastLook::Due;
        let result = loop {
            state = self.flush(state, deadline);
            if let Some(reply) = state.waiters.get_mut(&id).and_then(|waiter| waiter.reply.take()) {
                // Who is refused is told so at once, in reply to whatever it asks first.
                let is_first = id == 1 && state.connection.layout() == Some(Layout::Classic);
                break reply
                    .map(|reply| reply.with_doubt(is_first))
                    .map_err(|NoMemory| Error::no_memory("call", &self.endpoint, Executed::Perhaps));
            }
            if let Some(end) = state.end.as_ref().filter(|end| !end.may_be_answered(id)) {
                break Err(end.error.for_request("call", end.executed(id)));
            }
            if is_past(deadline) {
                match self.look_once_more(state, &mut last_look, deadline) {
                    Ok(looked) => state = looked,
                    Err(unlooked) => {
                        state = unlooked;
                        state.connection.abandon_call(id);
                        break Err(Error::new("call", &self.endpoint, Kind::TimedOut));
                    }
                }
                continue;
            }
            state = match state.reading {
                true => self.follow(state, deadline),
                false => self.read(state, deadline),
            };
        };
        state.waiters.remove(&id);
        state.appoint_successor();
        drop(state);
        asked.end(&self.endpoint, &result);
        result
    }

    /// Sends a request that wants no answer.
    pub(super) fn notify(&self, msg_type: u16, payload: &[u8], deadline: Option<Instant>) -> Result<()> {
        let mut state = self.lock();
        if state.connection.layout() == Some(Layout::Classic) {
            let text = "the classic layout has no requests without an answer";
            return Err(Error::new("notify", &self.endpoint, Kind::InvalidInput(text.into())));
        }
        loop {
            self.check(&state, "notify", payload.len())?;
            if !state.connection.is_backed_up() {
                break;
            }
            state = self.wait_for_writer(state, "notify", deadline)?;
        }
        let pushed = state.connection.push_notify(msg_type, payload);
        pushed.map_err(|NoMemory| Error::no_memory("notify", &self.endpoint, Executed::Never))?;
        log::debug!("{}: notify type {msg_type}, {} bytes", self.endpoint, payload.len());
        state = self.flush(state, deadline);
        if let Some(end) = &state.end {
            return Err(end.error.for_request("notify", Executed::Perhaps));
        }
        if state.connection.has_unsent() && !state.writing {
            return Err(Error::new("notify", &self.endpoint, Kind::TimedOut));
        }
        Ok(())
    }

    /// Whether a request of this size may be sent at all.
    fn check(&self, state: &State, operation: &'static str, length: usize) -> Result<()> {
        if let Some(end) = &state.end {
            return Err(end.error.for_request(operation, Executed::Never));
        }
        let limit = state.connection.request_limit();
        if length > limit as usize {
            let text = format!("the payload has {length} bytes, the server takes {limit}");
            return Err(Error::new(operation, &self.endpoint, Kind::InvalidInput(text)));
        }
        Ok(())
    }

    /// Waits until the server's limits, and what it has not read yet, leave room for one more call.
    fn wait_for_room<'a>(
        &'a self,
        mut state: Guard<'a>,
        operation: &'static str,
        length: usize,
        deadline: Option<Instant>,
    ) -> Result<Guard<'a>> {
        loop {
            self.check(&state, operation, length)?;
            if state.connection.is_backed_up() {
                state = self.wait_for_writer(state, operation, deadline)?;
                continue;
            }
            if state.connection.may_call(length as u32) {
                return Ok(state);
            }
            self.check_time(operation, deadline)?;
            if !state.reading {
                // Nobody waits for what fills the limits: those who asked have given up.
                state = self.read(state, deadline);
                state.appoint_successor();
                continue;
            }
            state.queue.push(std::thread::current());
            state = self.follow(state, deadline);
        }
    }

    /// Nothing is added to what a server does not read: sends, or waits for whoever is at it.
    fn wait_for_writer<'a>(
        &'a self,
        mut state: Guard<'a>,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<Guard<'a>> {
        self.check_time(operation, deadline)?;
        if !state.writing {
            return Ok(self.flush(state, deadline));
        }
        state.queue.push(std::thread::current());
        let soon = Instant::now() + WRITER_CHECK;
        Ok(self.follow(state, Some(deadline.map_or(soon, |deadline| deadline.min(soon)))))
    }

    /// Whether there is time left for a request of which nothing is sent yet.
    fn check_time(&self, operation: &'static str, deadline: Option<Instant>) -> Result<()> {
        match is_past(deadline) {
            true => Err(Error::new(operation, &self.endpoint, Kind::TimedOut).not_executed()),
            false => Ok(()),
        }
    }

    /// Leaves reading to the leader until somebody wakes us.
    fn follow<'a>(&'a self, state: Guard<'a>, deadline: Option<Instant>) -> Guard<'a> {
        drop(state);
        match remaining(deadline) {
            Some(left) => std::thread::park_timeout(left),
            None => std::thread::park(),
        }
        self.lock()
    }

    /// Leads: reads once, and hands out what came.
    fn read<'a>(&'a self, mut state: Guard<'a>, deadline: Option<Instant>) -> Guard<'a> {
        let mut timeout = remaining(deadline);
        if state.connection.has_unsent() {
            timeout = Some(timeout.map_or(WRITER_CHECK, |left| left.min(WRITER_CHECK)));
        }
        state.reading = true;
        let mut inbox = std::mem::take(&mut state.inbox);
        let large = state.connection.take_large_partial(LARGE);
        drop(state);
        let (result, large) = match large {
            Some((mut partial, most)) => {
                let result = self.channel.recv_append(&mut partial, most, timeout);
                (result, Some(partial))
            }
            None => {
                inbox.resize(INBOX, 0);
                (self.channel.recv(&mut inbox, timeout), None)
            }
        };
        let mut state = self.lock();
        state.reading = false;
        state.has_read = result.is_ok();
        let fresh = match (&result, large) {
            (_, Some(partial)) => {
                state.connection.put_back(partial);
                &[]
            }
            (Ok(count), None) => &inbox[..*count],
            (Err(_), None) => &[],
        };
        match result {
            Ok(0) => state.hang_up(&self.endpoint, None),
            Ok(_) => state.receive(fresh, &self.endpoint),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => state.hang_up(&self.endpoint, Some(error)),
        }
        state.inbox = inbox;
        state
    }

    /// Sends what is in the outbox, unless another thread is at it. Returns when all is sent,
    /// or the time is up, or the channel is broken.
    fn flush<'a>(&'a self, mut state: Guard<'a>, deadline: Option<Instant>) -> Guard<'a> {
        while !state.writing && !state.is_at_its_end() && state.connection.has_unsent() {
            // Usually the system takes it at once, and the lock need not be let go.
            let mut result = self.channel.send(state.connection.unsent(), Some(Duration::ZERO));
            if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                let unsent = state.connection.unsent();
                let chunk = &unsent[..unsent.len().min(WRITE_CHUNK)];
                let chunk = memory::copy(chunk).unwrap_or_else(|NoMemory| chunk[..1].to_vec());
                state.writing = true;
                drop(state);
                let patience = remaining(deadline).map_or(WRITER_CHECK, |left| left.min(WRITER_CHECK));
                result = self.channel.send(&chunk, Some(patience));
                state = self.lock();
                state.writing = false;
            }
            match result {
                Ok(count) => state.connection.mark_sent(count, Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    if is_past(deadline) {
                        // Whoever still has something to send takes over: all of them look, since
                        // one that reads, or that leaves as well, would not.
                        state.wake_all();
                        return state;
                    }
                    state = self.read_what_is_there(state);
                }
                // What the server said before it left is still to be read, and tells more.
                Err(error) => {
                    log::debug!("sending to {}: {error}", self.endpoint);
                    state.connection.discard_output();
                }
            }
        }
        state
    }

    /// A server that is stuck writing does not read: takes what it says, if nobody else does.
    fn read_what_is_there<'a>(&'a self, mut state: Guard<'a>) -> Guard<'a> {
        state.has_read = true;
        for _ in 0..LOOKS {
            if !state.has_read || state.reading || state.is_at_its_end() {
                break;
            }
            state = self.read(state, Some(Instant::now()));
        }
        state
    }

    /// Nobody's time is up before what has come was read: we may have been stopped, and woken up long
    /// behind the deadline. If another thread reads, it is left some time to do so, since it was stopped
    /// along with us. An error when there was a last look already.
    fn look_once_more<'a>(
        &'a self,
        state: Guard<'a>,
        last_look: &mut LastLook,
        deadline: Option<Instant>,
    ) -> std::result::Result<Guard<'a>, Guard<'a>> {
        let now = Instant::now();
        let is_late = deadline.is_some_and(|deadline| now.saturating_duration_since(deadline) > LATE);
        match *last_look {
            LastLook::Due | LastLook::Leaders { .. } if !state.reading => {
                *last_look = LastLook::Taken;
                Ok(self.read_what_is_there(state))
            }
            LastLook::Due if is_late => {
                *last_look = LastLook::Leaders { until: now + LATE };
                Ok(self.follow(state, Some(now + LATE)))
            }
            LastLook::Leaders { until } if now < until => Ok(self.follow(state, Some(until))),
            LastLook::Due | LastLook::Leaders { .. } | LastLook::Taken => Err(state),
        }
    }

    fn lock(&self) -> Guard<'_> {
        // Nothing in here panics half-way; if it did, the connection's own checks hold.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says goodbye, as far as that goes without waiting.
impl Drop for Shared {
    fn drop(&mut self) {
        if !self.maker.is_here() {
            return log::debug!("{}: left to the process that had connected", self.endpoint);
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.is_at_its_end() {
            return log::debug!("{}: closed; the server had ended the connection", self.endpoint);
        }
        state.connection.goodbye(ResultCode::OK);
        match self.channel.send(state.connection.unsent(), Some(Duration::ZERO)) {
            Ok(_) => log::debug!("{}: closed", self.endpoint),
            // That it has closed first is nothing to worry about.
            Err(_) => log::debug!("{}: closed; no goodbye reached the server", self.endpoint),
        }
    }
}

/// What is left, in whole milliseconds: a channel remembers the time limit that it last set, so
/// that calls with the same limit, one after the other, need not set it again.
pub(super) fn remaining(deadline: Option<Instant>) -> Option<Duration> {
    let left = deadline?.saturating_duration_since(Instant::now());
    Some(Duration::from_millis(left.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX)))
}

pub(super) fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}
