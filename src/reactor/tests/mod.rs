//! The loop's rules, in memory and in virtual time: no socket, no sleep, no wall clock.
//!
//! A test builds a [`Stage`] with the limits that it is about, has callers [connect](Stage::connect) and send,
//! and lets the loop [turn](Stage::turn) once or [run](Stage::run) for a while. Then it looks at what the
//! callers got, what the handlers saw ([`Recorder`]), and what time it is. Time passes only where a loop would
//! sleep, where a test says so ([`World::pass`]), and in handlers that are told to be [slow](Recorder::takes).
//!
//! ```text
//! let mut stage = Stage::new(|limits| limits.turn_frames = 10);
//! let caller = stage.connect();
//! caller.send(&request(1, b"hello").repeat(25));
//! stage.turn();
//! assert_eq!(stage.service.requests, 10);
//! stage.run(Duration::from_millis(1));
//! assert_eq!(caller.receive(), reply(1, 0, b"hello").repeat(25));
//! ```
//!
//! What the system itself does (who is there, what a close resets) belongs to tests with real sockets; so
//! do clients, threads and processes.

mod attachments;
mod brought;
mod calls;
mod datagrams;
mod deadlines;
mod deferred;
mod ends;
mod events;
mod fairness;
mod files;
mod handover;
mod identity;
mod idle;
mod limits;
mod numbers;
mod parties;
mod parts;
mod pings;
mod places;
mod recorded;
mod seam;
mod spinning;
mod stops;
mod streams;
mod tasks;
mod unproven;
mod visits;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sidewire_platform::{Endpoint, Peer, User};

use super::system::memory::{Caller, Memory, World};
use super::*;
use crate::access::{Access, OwnIdentity, Policy};
use sidewire_wire::{Classic, Cut, Failure, ReplyWriter, ResultCode, Settings, WhenSlow};

/// Our own user.
const WE: u32 = 1000;
/// Somebody else.
const OTHERS: u32 = 2000;

/// A loop on a system in memory, with one listener at the beginning.
struct Stage {
    world: World,
    limits: Limits,
    reactor: Reactor<Memory>,
    service: Recorder,
    counters: Counters,
}

/// A service that answers each request with its payload, and notes what it saw.
struct Recorder {
    world: World,
    /// How long each handler takes.
    takes: Duration,
    /// How long the one with this number takes besides.
    slow_at: Option<(usize, Duration)>,
    /// Bytes of each reply in place of the request's own.
    replies: Option<usize>,
    /// The topic of which each request's payload is published.
    publishes: Option<u16>,
    requests: usize,
    /// Bytes of the streams without frames, and what they were handed out in.
    data: usize,
    pieces: Vec<Vec<u8>>,
    /// What is done with each piece.
    on_data: fn(&mut Session<'_>, &[u8]),
    opened: usize,
    closed: Vec<String>,
    messages: usize,
    /// Whether requests are to be answered later, and those that are.
    defers: bool,
    deferred: Vec<Arc<Call>>,
    /// Closures that were run.
    errands: usize,
    /// How often it was told that the loop stops.
    stops: usize,
    /// What is to be done for single connections, and what was said of the calls among it.
    orders: VecDeque<Order>,
    news: Vec<String>,
    /// Who has come and gone.
    visits: Vec<String>,
}

impl Service for Recorder {
    fn request(
        &mut self,
        incoming: &Incoming<'_>,
        mut reply: ReplyWriter<'_>,
    ) -> Result<ResultCode, Box<Aside>> {
        self.requests += 1;
        self.world.pass(self.takes);
        if let Some((number, time)) = self.slow_at
            && number == self.requests
        {
            self.world.pass(time);
        }
        if let Some(topic) = self.publishes {
            incoming.back.publish(topic, incoming.payload).expect("room");
        }
        if self.defers {
            let Ok(call) = incoming.back.begin_call() else {
                return Ok(reply.fail(ResultCode::BUSY, "too many"));
            };
            self.deferred.push(Arc::clone(&call));
            return Err(Box::new(Aside::Deferred(Deferral { ticket: reply.withdraw(), call })));
        }
        match self.replies {
            Some(length) => reply.write(&vec![b'r'; length]),
            None => reply.write(incoming.payload),
        }
        Ok(reply.finish(ResultCode::OK))
    }

    fn notify(&mut self, _incoming: &Incoming<'_>) {}

    fn stopping(&mut self) {
        self.stops += 1;
    }

    fn run(&mut self) {
        self.errands += 1;
    }

    fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    fn call_news(&mut self, _connection: ConnectionId, _endpoint: Option<&Endpoint>, news: CallNews<'_>) {
        self.news.push(match news {
            CallNews::Sent { id } => format!("{id} sent"),
            CallNews::Pinged { id } => format!("ping {id} sent"),
            CallNews::Ponged { id, took } => format!("ping {id} took {took:?}"),
            CallNews::NoPong { id } => format!("ping {id} timed out"),
            CallNews::NotSent(why) => format!("not sent: {why:?}"),
            CallNews::Answered { id, rc, payload, .. } => format!("{id} answered {}: {payload:?}", rc.code()),
            CallNews::Lost { id } => format!("{id} lost"),
            CallNews::TimedOut { id } => format!("{id} timed out"),
            CallNews::Left { may_be_answered } => format!("left: {}", may_be_answered(1)),
            CallNews::Gone => return,
        });
    }

    fn connected(&mut self, visitor: &Visitor<'_>) -> bool {
        let app = visitor.app.map(|app| format!(", {app}")).unwrap_or_default();
        self.visits.push(format!("{} {:?}{app}", visitor.connection, visitor.layout));
        true
    }

    fn disconnected(&mut self, visitor: &Visitor<'_>, why: &Closed) {
        self.visits.push(format!("{} {why}", visitor.connection));
    }

    fn topic(&self, msg_type: i32) -> Result<WhenSlow, Failure> {
        match u16::try_from(msg_type) {
            Ok(events::DROPS) => Ok(WhenSlow::DropNewest),
            Ok(events::KEEPS) => Ok(WhenSlow::KeepLatest),
            Ok(events::ENDS) => Ok(WhenSlow::Disconnect),
            _ => Err(Failure::new(ResultCode::NO_HANDLER, "no such")),
        }
    }

    fn opened(&mut self, _source: u16, _session: &mut Session<'_>) {
        self.opened += 1;
    }

    fn data(&mut self, _source: u16, session: &mut Session<'_>, bytes: &[u8]) {
        self.data += bytes.len();
        self.pieces.push(bytes.to_vec());
        self.world.pass(self.takes);
        (self.on_data)(session, bytes);
    }

    fn half_closed(&mut self, _source: u16, _session: &mut Session<'_>) {}

    fn closed(&mut self, _source: u16, _id: ConnectionId, why: &Closed) {
        self.closed.push(why.to_string());
    }

    fn message(&mut self, _source: u16, message: &Message<'_>, reply: &mut MessageReply<'_>) {
        self.messages += 1;
        self.world.pass(self.takes);
        reply.send(message.bytes());
    }
}

impl Stage {
    /// With a listener for our own user.
    fn new(set: impl FnOnce(&mut Limits)) -> Stage {
        Stage::with(set, Access::SameUser, Carries::Frames)
    }

    fn with(set: impl FnOnce(&mut Limits), access: Access, carries: Carries) -> Stage {
        let mut stage = Stage::bare(set);
        stage.listen(access, carries);
        stage
    }

    /// Without any listener.
    fn bare(set: impl FnOnce(&mut Limits)) -> Stage {
        let (world, counters) = (World::new(), Counters::new(16));
        let mut limits = Limits::default();
        set(&mut limits);
        let reactor = Reactor::over(world.system(), limits.clone(), counters.clone()).expect("a loop");
        let service = Recorder {
            world: world.clone(),
            takes: Duration::ZERO,
            slow_at: None,
            replies: None,
            publishes: None,
            requests: 0,
            data: 0,
            pieces: Vec::new(),
            on_data: |_, _| {},
            opened: 0,
            closed: Vec::new(),
            messages: 0,
            defers: false,
            deferred: Vec::new(),
            errands: 0,
            stops: 0,
            orders: VecDeque::new(),
            news: Vec::new(),
            visits: Vec::new(),
        };
        Stage { world, limits, reactor, service, counters }
    }

    /// Adds a listener; they count up from 0.
    fn listen(&mut self, access: Access, carries: Carries) {
        let site = self.site("local:memory", access, carries);
        self.reactor.add_listener(self.world.listener(), site).expect("a listener");
    }

    /// Adds a datagram socket; they count up from 0.
    fn bind(&mut self, access: Access, carries: Carries) {
        let site = self.site("unixgram:/memory", access, carries);
        self.reactor.add_datagrams(self.world.datagrams(), site).expect("a socket");
    }

    fn site(&self, endpoint: &str, access: Access, carries: Carries) -> Site {
        let mut settings = Settings::new(self.limits.listener.connection.clone(), Classic::default());
        settings.first_byte = self.limits.listener.first_byte(&access, carries == Carries::Frames);
        Site {
            endpoint: endpoint.parse::<Endpoint>().expect("an endpoint"),
            carries,
            is_adopted: false,
            gives_way: None,
            greets: Greets::They,
            policy: Policy::of(&access, OwnIdentity::of(User::Uid(WE), None), false).expect("a policy"),
            settings: Arc::new(settings),
            max_connections: self.limits.listener.max_connections,
            per_peer: self.limits.listener.per_peer(&access, u64::MAX),
            descriptors: usize::MAX,
            unproven: None,
            counters: self.counters.clone(),
            tallies: Tallies::default(),
        }
    }

    /// One of our own user's processes connects, and is accepted in the next turn.
    fn connect(&self) -> Caller {
        self.world.connect_as(0, WE)
    }

    /// The same, and it is accepted already.
    fn accepted(&mut self) -> Caller {
        let caller = self.connect();
        self.turn();
        caller
    }

    /// One turn that does not sleep. Says whether the loop goes on.
    fn turn(&mut self) -> bool {
        self.turn_within(Duration::ZERO)
    }

    fn turn_within(&mut self, timeout: Duration) -> bool {
        let goes_on = self.reactor.turn(Some(timeout), &mut self.service).expect("a turn");
        self.reactor.check_accounts();
        goes_on
    }

    /// The loop lives for so long. Says whether it goes on.
    fn run(&mut self, time: Duration) -> bool {
        let until = self.world.now() + time;
        while self.world.now() < until {
            let left = until - self.world.now();
            if !self.turn_within(left) {
                return false;
            }
        }
        // And what was due at the very end, and what came of that.
        self.turn() && self.turn() && self.turn()
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A classic frame.
fn frame(msg_type: i32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let length = i32::try_from(payload.len()).expect("short");
    let header = [msg_type, rc, length].map(i32::to_ne_bytes).concat();
    [header, payload.to_vec()].concat()
}

fn request(msg_type: i32, payload: &[u8]) -> Vec<u8> {
    frame(msg_type, 0, payload)
}

fn reply(msg_type: i32, rc: ResultCode, payload: &[u8]) -> Vec<u8> {
    frame(msg_type, rc.code(), payload)
}

/// A hello of one that takes 64 calls at a time.
fn v1_hello() -> Vec<u8> {
    let mut hello = vec![0xD1, 0x53, 0x57, 0xD1, 48, 0, 1, 1];
    hello.extend([0; 8]);
    for number in [16u32 << 20, 64, 64 << 20, 0] {
        hello.extend(number.to_le_bytes());
    }
    hello.extend([9; 16]);
    hello
}

/// A v1 request of type 1.
fn v1_request(id: u32, length: u32) -> Vec<u8> {
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend([1, 0, 1, 0]);
    frame.extend(id.to_le_bytes());
    frame.extend([0; 4]);
    frame.extend(vec![b'x'; length as usize]);
    frame
}
