//! What the threads share under the lock: the connection, who waits for what, and how it ended.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::thread::Thread;
use std::time::Instant;

use sidewire_platform::Endpoint;

use crate::client::Response;
use crate::error::{Error, Kind, Result};
use sidewire_wire::ResultCode;
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{Connection, Event, Executed};

/// See the module's text.
#[derive(Debug)]
pub(super) struct State {
    pub(super) connection: Connection,
    /// Whether a thread reads from the channel.
    pub(super) reading: bool,
    /// Whether the last read found something.
    pub(super) has_read: bool,
    /// Whether a thread waits until the channel takes more.
    pub(super) writing: bool,
    pub(super) waiters: HashMap<u32, Waiter>,
    /// Threads that wait for room under the server's limits.
    pub(super) queue: Vec<Thread>,
    /// What the leader reads into; taken out while it does.
    pub(super) inbox: Vec<u8>,
    pub(super) end: Option<End>,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) thread: Thread,
    pub(super) reply: Option<Result<Response, NoMemory>>,
}

/// The connection is over, or will be once the server has answered what it accepted.
#[derive(Debug)]
pub(super) struct End {
    pub(super) error: Error,
    /// The last request that the server accepted, if it said so: later ones were not executed.
    pub(super) last_accepted: Option<u32>,
    /// Whether nothing more can come.
    pub(super) is_final: bool,
}

impl End {
    /// Whether the request with this id may have been executed.
    pub(super) fn executed(&self, id: u32) -> Executed {
        match self.last_accepted {
            // Half the number space counts as "before", since ids wrap.
            Some(last) if last.wrapping_sub(id) > u32::MAX / 2 => Executed::Never,
            Some(_) | None => Executed::Perhaps,
        }
    }

    /// Whether its reply may still come.
    pub(super) fn may_be_answered(&self, id: u32) -> bool {
        !self.is_final && self.executed(id) == Executed::Perhaps
    }
}

impl State {
    pub(super) fn new(connection: Connection) -> State {
        State {
            connection,
            reading: false,
            has_read: false,
            writing: false,
            waiters: HashMap::new(),
            queue: Vec::new(),
            inbox: Vec::new(),
            end: None,
        }
    }

    /// Hands out what has come.
    pub(super) fn receive(&mut self, bytes: &[u8], endpoint: &Endpoint) {
        let State { connection, waiters, end, .. } = self;
        let mut goodbye = None;
        connection.receive(bytes, &Cell::new(usize::MAX), &mut |_, event| match event {
            Event::Reply { id, rc, is_text, payload } => {
                if let Some(waiter) = waiters.get_mut(&id) {
                    let payload = memory::copy(payload);
                    waiter.reply =
                        Some(payload.map(|payload| Response { rc, payload, is_text, may_be_refusal: false }));
                    waiter.thread.unpark();
                }
            }
            Event::LostReply { id } => {
                if let Some(waiter) = waiters.get_mut(&id) {
                    waiter.reply = Some(Err(NoMemory));
                    waiter.thread.unpark();
                }
            }
            Event::Goodbye { rc, last_id } => goodbye = Some((rc, last_id)),
            Event::Opened(hello) => log::debug!("{endpoint}: {hello}"),
            // A client serves nothing.
            _ => {}
        });
        connection.received(Instant::now());
        for thread in self.queue.drain(..) {
            thread.unpark();
        }
        if let Some(failure) = connection.failure() {
            let error = Error::protocol("read from", endpoint, failure);
            end.get_or_insert(End { error, last_accepted: None, is_final: true }).is_final = true;
        } else if let Some((rc, last_id)) = goodbye {
            let why = match rc {
                ResultCode::OK => "it said goodbye".into(),
                rc => format!("it said goodbye: {rc}"),
            };
            let kind = Kind::PeerGone { executed: Executed::Perhaps, why };
            let error = Error::new("read from", endpoint, kind);
            end.get_or_insert(End { error, last_accepted: Some(last_id), is_final: false });
        }
        if self.end.is_some() {
            self.wake_all();
        }
    }

    /// The channel is at its end.
    pub(super) fn hang_up(&mut self, endpoint: &Endpoint, error: Option<io::Error>) {
        self.connection.end_of_input();
        let error = match (error, self.connection.failure()) {
            (Some(error), _) => Error::os("read from", endpoint, error),
            (None, Some(failure)) => Error::protocol("read from", endpoint, failure),
            (None, None) => {
                let why = "it closed the connection".into();
                Error::new("read from", endpoint, Kind::PeerGone { executed: Executed::Perhaps, why })
            }
        };
        self.end.get_or_insert(End { error, last_accepted: None, is_final: true }).is_final = true;
        self.wake_all();
    }

    /// Whether nothing more can come or go.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_final)
    }

    /// Whoever was reading stops: one of those who still wait takes over.
    pub(super) fn appoint_successor(&mut self) {
        if !self.reading {
            self.wake_follower();
        }
    }

    fn wake_follower(&mut self) {
        match self.waiters.values().find(|waiter| waiter.reply.is_none()) {
            Some(waiter) => waiter.thread.unpark(),
            None => self.queue.drain(..).for_each(|thread| thread.unpark()),
        }
    }

    pub(super) fn wake_all(&mut self) {
        self.waiters.values().for_each(|waiter| waiter.thread.unpark());
        self.queue.drain(..).for_each(|thread| thread.unpark());
    }
}
