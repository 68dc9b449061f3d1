//! In each order in which threads can meet on one connection: each gets its own reply or hears of the end, and none
//! sleeps for ever. Loom calls it a deadlock when all do. `ci/deep` runs them.
//!
//! What is tried is `leader` and the wire's `Caller`; the channel is in memory, and time passes only where a read waits in
//! vain. Not tried: attachments, large frames, handlers, a channel that takes no more.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Condvar};
use std::time::{Duration, Instant};

use loom::model::Builder;
use loom::thread;

use sidewire_platform::{Address, Attachment, Carried, Channel, Endpoint, Peer};

use super::Response;
use super::handlers::Handlers;
use super::lasting::Attempt;
use super::leader::{Guard, SharedConnection, State, Waiting};
use super::medium::{Blocking, Medium};
use crate::error::Result;
use crate::sync::{Mutex, now, pass};
use sidewire_wire::caller::{Caller, Outcome, Purpose, Seat};
use sidewire_wire::{Classic, Connection, ConnectionLimits, Event, Executed, ResultCode, Settings};

/// Types of requests: answered at once, when the server is told to, and never.
const AT_ONCE: u16 = 1;
const LATER: u16 = 2;
const NEVER: u16 = 3;

const SECOND: Duration = Duration::from_secs(1);

/// A channel whose other end is a server in the same memory.
#[derive(Debug)]
struct Wire {
    ends: Mutex<Ends>,
    /// Something has come for one side.
    came: Came,
}

#[derive(Debug)]
struct Ends {
    server: Connection,
    /// On its way to the client.
    sent: Vec<u8>,
    /// What is to be answered when the server is told to.
    owed: Vec<sidewire_wire::OwedId>,
    is_shut: bool,
}

#[derive(Default)]
struct Came(loom::sync::Condvar);

impl std::fmt::Debug for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Came")
    }
}

impl Ends {
    fn serve(&mut self, bytes: &[u8]) {
        let Ends { server, owed, .. } = self;
        server.receive(bytes, &Cell::new(usize::MAX), &mut |server, event| {
            let Event::Request { ticket, payload } = event else { return };
            match ticket.msg_type {
                i if i == i32::from(AT_ONCE) => {
                    let mut reply = server.begin_reply(ticket);
                    reply.write(payload);
                    reply.finish(ResultCode::OK);
                }
                i => {
                    let id = server.defer(ticket, now()).expect("it has asked for an answer");
                    if i == i32::from(LATER) {
                        owed.push(id);
                    }
                }
            }
        });
        server.received(now());
        self.send();
    }

    fn send(&mut self) {
        let unsent = self.server.unsent();
        let count = unsent.len();
        self.sent.extend_from_slice(unsent);
        self.server.mark_sent(count, now());
    }
}

impl Wire {
    fn new() -> Wire {
        let server = Connection::responder(settings(), now());
        let ends = Ends { server, sent: Vec::new(), owed: Vec::new(), is_shut: false };
        Wire { ends: Mutex::new(ends), came: Came::default() }
    }

    /// The server answers one of those that wait for that, as soon as there is one.
    fn answer_one(&self) {
        let mut ends = self.ends.lock().unwrap();
        let id = loop {
            match ends.owed.pop() {
                Some(id) => break id,
                None => ends = self.came.0.wait(ends).unwrap(),
            }
        };
        let mut reply = ends.server.begin_owed_reply(id).expect("nobody has answered it");
        reply.write(b"later");
        reply.finish(ResultCode::OK);
        ends.send();
        self.came.0.notify_all();
    }
}

impl Medium for Wire {
    type Waiting = Waiting;
    type Bell = Condvar;
    const BLOCKS: bool = true;

    fn over(_: Channel) -> io::Result<Wire> {
        unreachable!("it is made here")
    }

    fn peer(&self) -> &Peer {
        unreachable!("nobody asks")
    }

    fn peer_address(&self) -> io::Result<Address> {
        unreachable!("nobody asks")
    }

    fn local_address(&self) -> io::Result<Address> {
        unreachable!("nobody asks")
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut ends = self.ends.lock().unwrap();
        if ends.is_shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        ends.serve(bytes);
        self.came.0.notify_all();
        Ok(bytes.len())
    }

    fn shutdown(&self) {
        self.ends.lock().unwrap().is_shut = true;
        self.came.0.notify_all();
    }

    fn hang_up(&self) {
        self.shutdown();
    }

    fn leave_rest(_: &SharedConnection<Wire>, state: &mut State) {
        state.caller.give_up_sending();
    }

    fn look<'a>(connection: &'a SharedConnection<Wire>, state: Guard<'a>) -> Guard<'a> {
        connection.read_what_is_there(state, None)
    }

    fn send_answer(_: &SharedConnection<Wire>) {
        unreachable!("nothing is served here")
    }

    fn call_for_handler(_: &SharedConnection<Wire>, _: u16, _: &[u8]) -> Result<Response> {
        unreachable!("nothing is served here")
    }

    fn notify_for_handler(_: &SharedConnection<Wire>, _: u16, _: &[u8]) -> Result<()> {
        unreachable!("nothing is served here")
    }

    async fn here() -> Waiting {
        Waiting::here()
    }

    async fn wait(
        connection: &SharedConnection<Wire>,
        seat: Seat,
        deadline: Option<Instant>,
    ) -> (Guard<'_>, Outcome) {
        connection.wait(connection.lock(), seat, deadline)
    }

    async fn aside<T: Send + 'static>(_: &Endpoint, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        Ok(work())
    }

    async fn make(_: &Endpoint, _: Attempt<Wire>, _: Option<Instant>) -> Result<()> {
        unreachable!("nobody connects anew")
    }
}

impl Blocking for Wire {
    fn recv(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<usize> {
        let mut ends = self.ends.lock().unwrap();
        loop {
            if ends.is_shut {
                return Ok(0);
            }
            let count = ends.sent.len();
            match timeout {
                _ if count > 0 => {
                    buf[..count].copy_from_slice(&ends.sent);
                    ends.sent.clear();
                    return Ok(count);
                }
                // What comes first, the bytes or the end of the time, is a matter of the order.
                Some(timeout) => {
                    pass(timeout);
                    return Err(io::ErrorKind::TimedOut.into());
                }
                None => ends = self.came.0.wait(ends).unwrap(),
            }
        }
    }

    fn recv_append(&self, _: &mut Vec<u8>, _: usize, _: Option<Duration>) -> io::Result<usize> {
        unreachable!("frames are small")
    }

    fn recv_attached(&self, _: &mut [u8], _: Option<Duration>) -> io::Result<(usize, Carried)> {
        unreachable!("nothing is attached")
    }

    fn send(&self, bytes: &[u8], _: Duration) -> io::Result<usize> {
        self.send_now(bytes)
    }

    fn send_attached(&self, _: &[u8], _: &[Attachment], _: Duration) -> io::Result<usize> {
        unreachable!("nothing is attached")
    }
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings::new(ConnectionLimits::default(), Classic::Refused))
}

/// A connection behind its hellos.
fn connect() -> Arc<SharedConnection<Wire>> {
    let caller = Caller::v1(settings(), [1; 16], now());
    let endpoint = "local:model".parse().expect("an endpoint");
    let connection = SharedConnection::new(Wire::new(), endpoint, caller, Handlers::default(), None, None);
    let mut state = connection.lock();
    let seat = state.caller.ask(Purpose::Open, None, Waiting::here());
    let (state, outcome) = connection.wait(state, seat, None);
    assert_eq!(outcome, Outcome::Ready);
    drop(state);
    connection
}

/// As `SharedConnection::exchange`.
fn call(
    connection: &SharedConnection<Wire>,
    msg_type: u16,
    payload: &[u8],
    time: Option<Duration>,
) -> Outcome {
    let mut state = connection.lock();
    let deadline = time.map(|time| now() + time);
    if !state.caller.may_begin(Purpose::Call(payload.len())) {
        return Outcome::Ended(Executed::Never);
    }
    let begun = state.caller.begin(msg_type, payload, 0, deadline, Waiting::here());
    connection.wait(state, Seat::Call(begun.expect("memory")), deadline).1
}

fn payload_of(outcome: Outcome) -> Vec<u8> {
    match outcome {
        Outcome::Reply(reply) => reply.payload.to_vec(),
        other => panic!("no reply: {other:?}"),
    }
}

/// Tries all orders in which so many threads at most are stopped in the middle.
fn try_all(most: usize, model: fn()) {
    let mut builder = Builder::new();
    (builder.preemption_bound, builder.max_branches) = (Some(most), 10_000);
    builder.check(move || start(model).join().expect("it does not panic"));
}

/// With a stack of 512 KiB; loom has 32 unless told otherwise.
fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().stack_size(64 << 10).spawn(work).expect("it is one of loom's")
}

fn spawn<T: Send + 'static>(
    connection: &Arc<SharedConnection<Wire>>,
    work: impl FnOnce(&SharedConnection<Wire>) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let connection = Arc::clone(connection);
    start(move || work(&connection))
}

#[test]
fn each_gets_its_own_reply() {
    try_all(3, || {
        let connection = connect();
        let other = spawn(&connection, |connection| payload_of(call(connection, AT_ONCE, b"b", None)));
        assert_eq!(payload_of(call(&connection, AT_ONCE, b"a", None)), b"a");
        assert_eq!(other.join().expect("it does not panic"), b"b");
    });
}

/// Whoever reads leaves with his reply, and the other has none yet.
#[test]
fn a_leader_that_leaves_has_a_successor() {
    try_all(3, || {
        let connection = connect();
        let server = spawn(&connection, |connection| {
            connection.channel().answer_one();
            connection.channel().answer_one();
        });
        let other = spawn(&connection, |connection| payload_of(call(connection, LATER, b"", None)));
        assert_eq!(payload_of(call(&connection, LATER, b"", None)), b"later");
        assert_eq!(other.join().expect("it does not panic"), b"later");
        server.join().expect("it does not panic");
    });
}

/// At any moment, also as the other one comes, sleeps or is to take over.
#[test]
fn a_leader_whose_time_is_up_has_a_successor() {
    try_all(3, || {
        let connection = connect();
        let server = spawn(&connection, |connection| connection.channel().answer_one());
        let other = spawn(&connection, |connection| payload_of(call(connection, LATER, b"", None)));
        assert_eq!(call(&connection, NEVER, b"", Some(SECOND)), Outcome::TimedOut(Executed::Perhaps));
        assert_eq!(other.join().expect("it does not panic"), b"later");
        server.join().expect("it does not panic");
    });
}

/// A reply that comes as the time is over is had, or the time is over: never neither.
#[test]
fn a_reply_comes_at_the_last_moment_or_too_late() {
    try_all(3, || {
        let connection = connect();
        let server = spawn(&connection, |connection| connection.channel().answer_one());
        match call(&connection, LATER, b"", Some(SECOND)) {
            Outcome::Reply(reply) => assert_eq!(reply.payload, b"later"),
            outcome => assert_eq!(outcome, Outcome::TimedOut(Executed::Perhaps)),
        }
        server.join().expect("it does not panic");
        assert_eq!(payload_of(call(&connection, AT_ONCE, b"after it", None)), b"after it");
    });
}

#[test]
fn all_hear_of_the_end() {
    try_all(3, || {
        let connection = connect();
        let closer = spawn(&connection, |connection| connection.channel().shutdown());
        let other = spawn(&connection, |connection| call(connection, NEVER, b"", None));
        let outcome = call(&connection, NEVER, b"", None);
        assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
        let outcome = other.join().expect("it does not panic");
        assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
        closer.join().expect("it does not panic");
    });
}

#[test]
fn all_hear_that_it_was_closed() {
    try_all(3, || {
        let connection = connect();
        let closer = spawn(&connection, |connection| connection.close());
        let other = spawn(&connection, |connection| call(connection, NEVER, b"", None));
        let outcome = call(&connection, NEVER, b"", None);
        assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
        let outcome = other.join().expect("it does not panic");
        assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
        closer.join().expect("it does not panic");
    });
}
