//! One client: wire's core over a connection in memory.

use std::collections::HashMap;
use std::time::Instant;

use sidewire_platform::{Endpoint, Peer as Identity};

use crate::client::ends;
use crate::error::Error;
use crate::reactor::memory_system::{Caller as Line, Side};
use sidewire_wire::caller::{Caller, Came, Incoming, Outcome, Seat, Step, Wake};
use sidewire_wire::{Failure, ResultCode};

/// What a client answers to its server.
pub(super) type Handler = Box<dyn FnMut(&[u8]) -> Result<(ResultCode, Vec<u8>), Failure>>;

/// Nobody sleeps here.
#[derive(Debug)]
pub(super) struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

/// What a socket's buffer holds of what nobody reads.
const BUFFER: usize = 64 << 10;

/// One client, and its end of a connection.
pub(super) struct Peer {
    pub(super) caller: Caller<Awake>,
    line: Line,
    state: State,
    /// Of one who reads all the time, so that time limits are kept.
    reader: Seat,
    handlers: HashMap<u16, Handler>,
    /// Whom it talks to.
    pub(super) server: Identity,
    endpoint: Endpoint,
}

/// What it does at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reads,
    /// As a process that hangs, or is slow.
    Hangs,
    Closed,
}

/// What a look at a seat brings.
pub(super) enum Polled {
    Done(Outcome),
    /// Nothing yet; whoever waits there looks again then, at the latest.
    Later(Option<Instant>),
    /// Nothing in all the time that there was.
    NotInTime,
}

impl Peer {
    pub(super) fn new(
        line: Line,
        mut caller: Caller<Awake>,
        handlers: HashMap<u16, Handler>,
        server: Identity,
        endpoint: Endpoint,
    ) -> Peer {
        if !handlers.is_empty() {
            caller.serve();
        }
        let reader = caller.stand_by(Awake);
        Peer { caller, line, state: State::Reads, reader, handlers, server, endpoint }
    }

    /// Sends what there is to send, reads what has come, and answers what the server asks. Says whether there was
    /// anything.
    pub(super) fn exchange(&mut self, now: Instant) -> bool {
        if self.state == State::Closed {
            return false;
        }
        let has_sent = self.send(now);
        let has_come = self.state == State::Reads && self.read(now);
        while let Some(incoming) = self.caller.take_incoming() {
            self.handle(incoming);
        }
        if let Some(words) = self.caller.poll_close() {
            self.line.send(&words);
        }
        if self.caller.is_over() {
            self.hang_up();
        }
        has_sent || has_come
    }

    fn send(&mut self, now: Instant) -> bool {
        let mut has_sent = false;
        while let Some(bytes) = self.caller.to_send() {
            let count = bytes.len();
            self.line.send(bytes);
            self.caller.sent(count, now);
            has_sent = true;
        }
        has_sent
    }

    fn read(&mut self, now: Instant) -> bool {
        let bytes = self.line.receive();
        let came = match (&bytes[..], self.line.server()) {
            ([], Side::Open) => return false,
            ([], Side::Reset) => Came::Broken,
            ([], Side::ShutDown | Side::Closed | Side::Flushed) => Came::End,
            (bytes, _) => Came::Bytes { bytes, is_all: true },
        };
        self.take(None, came, now);
        true
    }

    fn take(&mut self, seat: Option<Seat>, came: Came<'_>, now: Instant) {
        // Large frames are read as small ones are.
        let large = self.caller.begin_read(usize::MAX);
        debug_assert!(large.is_none());
        self.caller.end_read(seat, came, now, now);
    }

    fn handle(&mut self, incoming: Incoming) {
        let Incoming { owed, msg_type, payload, .. } = incoming;
        let result = match self.handlers.get_mut(&msg_type) {
            Some(handler) => handler(&payload),
            None => Err(Failure::new(ResultCode::NO_HANDLER, format!("no handler for type {msg_type}"))),
        };
        let Some(mut reply) = owed.and_then(|owed| self.caller.begin_reply(owed)) else { return };
        match result {
            Ok((rc, payload)) => {
                reply.write(&payload);
                reply.finish(rc);
            }
            Err(failure) => {
                reply.fail(failure.result_code(), failure.text());
            }
        }
    }

    /// From now on it takes no more than lies in a socket's buffer, or reads again.
    pub(super) fn set_reads(&mut self, reads: bool) {
        if self.state == State::Closed {
            return;
        }
        let (state, room) = if reads { (State::Reads, usize::MAX) } else { (State::Hangs, BUFFER) };
        self.state = state;
        self.line.takes(room);
    }

    /// When one of the connection's own time limits passes.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        match self.caller.poll(self.reader, now) {
            Step::Read { until } | Step::Wait { until } => until,
            Step::Done(_) | Step::Look | Step::NotYet => None,
        }
    }

    /// Ends the connection if such a limit has passed; all that has come was read. Says whether that changed anything.
    pub(super) fn judge(&mut self, now: Instant) -> bool {
        let due = self.deadline(now).filter(|at| *at <= now);
        // Of one who does not read it is not known who is late.
        if due.is_none() || self.state == State::Hangs {
            return false;
        }
        self.take(None, Came::Nothing, now);
        self.deadline(now) != due
    }

    /// What becomes of the seat, of which all that has come was read.
    pub(super) fn poll(&mut self, seat: Seat, now: Instant) -> Polled {
        loop {
            match self.caller.poll(seat, now) {
                Step::Done(outcome) => return Polled::Done(outcome),
                Step::Read { until } | Step::Wait { until } => return Polled::Later(until),
                Step::NotYet => return Polled::NotInTime,
                Step::Look => self.take(Some(seat), Came::Nothing, now),
            }
        }
    }

    /// What it means for a request that it was not answered.
    pub(super) fn explain(&self, operation: &'static str, outcome: Outcome) -> Error {
        ends::explain(&self.caller, &self.endpoint, None, operation, outcome)
    }

    /// Says goodbye, and closes.
    pub(super) fn close(&mut self, now: Instant) {
        self.send(now);
        if let Some(goodbye) = self.caller.goodbye() {
            let count = goodbye.len();
            self.line.send(goodbye);
            self.caller.sent(count, now);
        }
        self.caller.close();
        self.hang_up();
    }

    /// Ends without a word, as a process that dies.
    pub(super) fn abort(&mut self) {
        self.caller.close();
        if self.state != State::Closed {
            self.state = State::Closed;
            self.line.reset();
        }
    }

    fn hang_up(&mut self) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.line.close();
        }
    }
}
