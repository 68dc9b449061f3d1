//! The protocol, driven in memory with a clock of its own.
//!
//! [`Side`] is one connection and what became of it; the tests of single rules feed it bytes made
//! by hand. [`pair`] joins two of them.

mod attached;
mod attacks;
mod caller;
mod classic;
mod codec;
mod datagram;
mod deferred;
mod events;
mod frames;
mod goodbye;
mod hello;
mod large;
mod limits;
mod memory;
mod named;
mod orders;
mod ordinary;
mod pair;
mod parts;
mod plain;
mod properties;
mod tasks;
mod time;
mod token;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Input};
use super::error::ProtocolError;
use super::event::Event;
use super::frame::{Header, Kind};
use super::hello::{Allowance, Answer, Hello};
use super::layout::Classic;
use super::rc::ResultCode;
use super::reply::Ticket;
use super::settings::Settings;
use super::task::Task;
use crate::limits::ConnectionLimits;

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Request { msg_type: i32, payload: Vec<u8> },
    Notify { msg_type: u16, payload: Vec<u8> },
    Pong(u32),
    Reply { id: u32, rc: i32, is_text: bool, payload: Vec<u8> },
    Subscribe { topic: i32 },
    Unsubscribe { topic: i32 },
    Published { topic: u16, sequence: u32, dropped: u32, payload: Vec<u8> },
    Part { id: u32, payload: Vec<u8> },
    LostReply { id: u32 },
    Opened,
    Asks(Task),
    TakesOver,
    Goodbye { rc: i32, last_id: u32 },
}

/// What a side does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// Sends the payload back at once; takes every subscription.
    Echo,
    /// Keeps the ticket.
    Later,
}

/// One connection and its owner.
#[derive(Debug)]
struct Side {
    connection: Connection,
    now: Instant,
    answers: Answers,
    /// Units that one call of `receive` may handle.
    budget: usize,
    /// Partial frames that lack so much are read in place.
    large: usize,
    seen: Vec<Seen>,
    tickets: Vec<Ticket>,
}

impl Side {
    fn new(connection: Connection, now: Instant) -> Side {
        Side {
            connection,
            now,
            answers: Answers::Echo,
            budget: usize::MAX,
            large: usize::MAX,
            seen: Vec::new(),
            tickets: Vec::new(),
        }
    }

    fn responder(settings: Arc<Settings>) -> Side {
        let now = Instant::now();
        Side::new(Connection::responder(settings, now), now)
    }

    fn initiator(settings: Arc<Settings>) -> Side {
        let now = Instant::now();
        Side::new(Connection::initiator(settings, [7; 16], now), now)
    }

    fn classic_initiator(settings: Arc<Settings>) -> Side {
        let now = Instant::now();
        Side::new(Connection::classic_initiator(settings, now), now)
    }

    /// A responder behind the hello of a generous peer.
    fn open_responder(settings: Arc<Settings>) -> Side {
        let mut side = Side::responder(settings);
        side.feed(&hello(GENEROUS));
        side.sent();
        side
    }

    /// An initiator behind the hello of a generous peer.
    fn open_initiator(settings: Arc<Settings>) -> Side {
        let mut side = Side::initiator(settings);
        side.sent();
        side.feed(&answer(GENEROUS));
        assert_eq!(side.seen(), [Seen::Opened]);
        side
    }

    /// What a loop does with bytes from a socket.
    fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            while self.connection.has_backlog() {
                self.receive(&[]);
            }
            if bytes.is_empty() {
                return;
            }
            match self.connection.take_large_partial(self.large) {
                Some((mut partial, most)) => {
                    let (now, later) = bytes.split_at(most.min(bytes.len()));
                    partial.extend_from_slice(now);
                    bytes = later;
                    self.connection.put_back(partial);
                    self.receive(&[]);
                }
                None => self.receive(std::mem::take(&mut bytes)),
            }
        }
    }

    fn receive(&mut self, fresh: &[u8]) {
        let Side { connection, now, answers, seen, tickets, .. } = self;
        connection.receive(fresh, &Cell::new(self.budget), &mut |connection, event| match event {
            Event::Request { ticket, payload } => {
                seen.push(Seen::Request { msg_type: ticket.msg_type, payload: payload.to_vec() });
                match answers {
                    Answers::Echo => echo(connection, ticket, payload),
                    Answers::Later => tickets.push(ticket),
                }
            }
            Event::Notify { msg_type, payload } => {
                seen.push(Seen::Notify { msg_type, payload: payload.to_vec() });
            }
            Event::Reply { id, rc, is_text, payload } => {
                seen.push(Seen::Reply { id, rc: rc.code(), is_text, payload: payload.to_vec() });
            }
            Event::Subscribe { ticket } => {
                seen.push(Seen::Subscribe { topic: ticket.msg_type });
                match answers {
                    Answers::Echo => drop(connection.accept_subscription(ticket)),
                    Answers::Later => tickets.push(ticket),
                }
            }
            Event::Unsubscribe { ticket } => {
                seen.push(Seen::Unsubscribe { topic: ticket.msg_type });
                connection.end_subscription(ticket);
            }
            Event::Published { topic, sequence, dropped, payload } => {
                seen.push(Seen::Published { topic, sequence, dropped, payload: payload.to_vec() });
            }
            Event::Part { id, payload } => seen.push(Seen::Part { id, payload: payload.to_vec() }),
            Event::LostReply { id } => seen.push(Seen::LostReply { id }),
            Event::Pong { id } => seen.push(Seen::Pong(id)),
            Event::Opened(_) => seen.push(Seen::Opened),
            Event::Greeted(_) => {}
            Event::Asks { task, .. } => {
                seen.push(Seen::Asks(task));
                connection.grant();
            }
            Event::TakesOver => seen.push(Seen::TakesOver),
            Event::Attached { .. } => unreachable!("nothing here attaches"),
            Event::Goodbye { rc, last_id } => seen.push(Seen::Goodbye { rc: rc.code(), last_id }),
        });
        connection.received(*now);
    }

    /// What was seen since the last time.
    fn seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Takes up to `most` bytes, as a socket would.
    fn take(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = self.connection.unsent().to_vec();
        bytes.truncate(most);
        self.connection.mark_sent(bytes.len(), self.now);
        bytes
    }

    /// Takes all there is.
    fn sent(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.has_unsent() {
            bytes.extend(self.take(usize::MAX));
        }
        bytes
    }

    /// Takes all there is, as v1 frames.
    fn frames(&mut self) -> Vec<Frame> {
        frames(&self.sent())
    }

    /// Feeds v1 bytes and returns the frames that come back.
    fn ask(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.feed(bytes);
        self.frames()
    }

    /// Asserts that the connection ended with a goodbye of this code behind `last_id`, and that it
    /// says no more.
    fn assert_fatal(&mut self, rc: ResultCode, last_id: u32) {
        let frames = self.frames();
        let last = frames.last().expect("a goodbye");
        assert_eq!((last.kind, last.rc, last.id), (Kind::Goodbye as u8, rc.code(), last_id), "{last:?}");
        assert!(self.connection.flow().failure().is_some());
        self.seen();
        self.feed(&request(u32::MAX / 2, 1, b"behind"));
        assert_eq!((self.seen(), self.sent()), (vec![], vec![]));
        assert!(self.connection.is_finished());
    }

    fn failure(&self) -> &ProtocolError {
        self.connection.flow().failure().expect("a failure")
    }

    fn call(&mut self, msg_type: u16, payload: &[u8]) -> u32 {
        assert!(self.connection.may_call(payload.len() as u32));
        self.connection.push_request(msg_type, payload, 0).expect("memory")
    }

    /// Lets time pass and times out what has run out of it.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut expired = 0;
        while self.connection.next_deadline().is_some_and(|at| at <= self.now) {
            assert!(self.connection.handle_timeout(self.now, Input::Quiet));
            expired += 1;
            assert!(expired < 5, "a loop would never come to rest");
        }
    }
}

fn echo(connection: &mut Connection, ticket: Ticket, payload: &[u8]) {
    let mut reply = connection.begin_reply(ticket);
    reply.write(payload);
    reply.finish(ResultCode::OK);
}

/// A v1 frame as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    msg_type: u16,
    id: u32,
    rc: i32,
    payload: Vec<u8>,
}

impl Frame {
    fn reply(id: u32, msg_type: u16, rc: ResultCode, payload: &[u8]) -> Frame {
        Frame { kind: Kind::Reply as u8, flags: 0, msg_type, id, rc: rc.code(), payload: payload.to_vec() }
    }

    fn text(&self) -> &str {
        assert_eq!(self.flags, super::frame::flags::TEXT);
        std::str::from_utf8(&self.payload).expect("a text")
    }
}

/// Cuts bytes into v1 frames; there must be nothing left over.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let Header { length, kind, flags, msg_type, id, rc } = Header::decode(head);
        let (payload, rest) = rest.split_at(length as usize);
        frames.push(Frame { kind, flags, msg_type, id, rc, payload: payload.to_vec() });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame: {bytes:?}");
    frames
}

/// The bytes of a v1 frame.
fn frame(kind: Kind, flags: u8, msg_type: u16, id: u32, rc: i32, payload: &[u8]) -> Vec<u8> {
    raw_frame(kind as u8, flags, msg_type, id, rc, payload)
}

fn raw_frame(kind: u8, flags: u8, msg_type: u16, id: u32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let header = Header { length: payload.len() as u32, kind, flags, msg_type, id, rc };
    [&header.encode()[..], payload].concat()
}

fn request(id: u32, msg_type: u16, payload: &[u8]) -> Vec<u8> {
    frame(Kind::Request, 0, msg_type, id, 0, payload)
}

fn reply(id: u32, msg_type: u16, payload: &[u8]) -> Vec<u8> {
    frame(Kind::Reply, 0, msg_type, id, 0, payload)
}

/// The bytes of a classic frame, whatever length it claims.
fn classic_frame(msg_type: i32, rc: i32, length: i32, payload: &[u8]) -> Vec<u8> {
    let header = super::classic::Header { msg_type, rc, length };
    [&header.encode()[..], payload].concat()
}

fn classic_request(msg_type: i32, payload: &[u8]) -> Vec<u8> {
    classic_frame(msg_type, 0, payload.len() as i32, payload)
}

const GENEROUS: Allowance = Allowance {
    max_payload: 1 << 20,
    max_in_flight: 1 << 20,
    max_in_flight_bytes: 1 << 30,
    stream_credit: 100,
};

/// An initiator's hello.
fn hello(allowance: Allowance) -> Vec<u8> {
    let mut bytes = Vec::new();
    Hello::ours(allowance, [3; 16], None).encode(None, &mut bytes);
    bytes
}

/// A responder's hello that says yes.
fn answer(allowance: Allowance) -> Vec<u8> {
    let mut bytes = Vec::new();
    let answer =
        Answer { status: ResultCode::OK, version: 1, instance: [5; 16], text: String::new(), proof: None };
    Hello::ours(allowance, [4; 16], None).encode(Some(&answer), &mut bytes);
    bytes
}

/// The defaults, changed.
fn settings(change: impl FnOnce(&mut Settings)) -> Arc<Settings> {
    let mut settings = Settings::new(ConnectionLimits::default(), Classic::default());
    settings.instance = [9; 16];
    change(&mut settings);
    Arc::new(settings)
}

fn defaults() -> Arc<Settings> {
    settings(|_| {})
}
