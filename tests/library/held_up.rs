//! A loop that is held up, as by a debugger, a frozen process or a slow handler: whatever came in time
//! counts, however late it is looked at.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, sleep};
use std::time::Duration;

use sidewire::{Endpoint, Limits, Running};

use crate::util::{Dialect, PATIENCE, Raw, everywhere, frame, hello, start, store_with, usual, watchdog};

const ECHO: u16 = 4;
const HOLD: u16 = 5;

/// Every time limit; long enough to set a scene in, and to get back to work in.
const LIMIT: Duration = Duration::from_secs(3);
/// How long the loop is held up.
const AWAY: Duration = Duration::from_secs(4);

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.listener.connection.hello_timeout = LIMIT;
    limits.listener.connection.partial_frame_timeout = LIMIT;
    limits.listener.connection.write_stall_timeout = LIMIT;
    limits.listener.connection.idle_timeout = Some(LIMIT);
    limits
}

/// A store, and what holds its loop up.
struct Held {
    running: Running<Vec<u8>>,
    endpoint: Endpoint,
    is_held: Receiver<()>,
    go_on: Sender<()>,
}

impl Held {
    fn start(dialect: Dialect, endpoint: &Endpoint) -> Held {
        let (held, is_held) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let mut server = store_with(limits());
        server.on(HOLD, move |_, _request, _reply| {
            held.send(())?;
            Ok(may_go_on.recv()?)
        });
        let (running, bound) = start(server, [dialect.listen(usual(endpoint))]);
        Held { running, endpoint: bound[0].clone(), is_held, go_on }
    }

    /// What was sent to it so far has been read.
    fn catch_up(&self, dialect: Dialect) {
        dialect.client(&self.endpoint).call(ECHO, b"").expect("call");
    }

    /// Holds the loop up for longer than any limit, and does something meanwhile.
    fn hold(&self, dialect: Dialect, meanwhile: impl FnOnce()) {
        let client = dialect.client(&self.endpoint);
        thread::scope(|scope| {
            let call = scope.spawn(|| client.call(HOLD, b""));
            self.is_held.recv_timeout(PATIENCE).expect("it is held up");
            meanwhile();
            sleep(AWAY);
            self.go_on.send(()).expect("it waits");
            call.join().expect("a thread").expect("its own connection is not idle either");
        });
    }
}

#[test]
fn what_came_in_time_counts() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        let server = Held::start(dialect, endpoint);
        let request = dialect.request(1, ECHO, b"in time");
        let (idle, half) = (dialect.raw(&server.endpoint), dialect.raw(&server.endpoint));
        assert_eq!(dialect.call(&idle, 1, ECHO, b"x"), dialect.good(1, ECHO, b"x"));
        half.send(&request[..7]);
        let stranger = Raw::connect(&server.endpoint);
        let first = if dialect == Dialect::V1 { hello(1, 1) } else { request.clone() };
        stranger.send(&first[..7]);
        server.catch_up(dialect);
        server.hold(dialect, || {
            half.send(&request[7..]);
            stranger.send(&first[7..]);
            idle.send(&dialect.request(2, ECHO, b"still here"));
        });
        assert_eq!(dialect.receive(&half), dialect.good(1, ECHO, b"in time"));
        if dialect == Dialect::V1 {
            assert_eq!(stranger.receive(72)[..4], hello(1, 1)[..4]);
        } else {
            assert_eq!(dialect.receive(&stranger), dialect.good(1, ECHO, b"in time"));
        }
        assert_eq!(dialect.receive(&idle), dialect.good(2, ECHO, b"still here"));
        server.running.stop().expect("the server ends well");
    });
}

/// What has not come has not come.
#[test]
fn what_did_not_come_does_not() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        let server = Held::start(dialect, endpoint);
        let half = dialect.raw(&server.endpoint);
        half.send(&dialect.request(1, ECHO, b"never whole")[..7]);
        server.catch_up(dialect);
        server.hold(dialect, || {});
        drop(half.receive_to_end());
        server.running.stop().expect("the server ends well");
    });
}

/// The system's buffers hold only a part of it: its sender can't go on while nobody reads.
#[test]
fn a_large_frame_goes_on() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        if dialect != Dialect::V1 {
            return; // No large frames.
        }
        let server = Held::start(dialect, endpoint);
        let raw = dialect.raw(&server.endpoint);
        // Others than TCP hold little; and what is left has to get through in time on a busy machine.
        let size = if endpoint.scheme() == "tcp" { 8 << 20 } else { 1 << 20 };
        let request = dialect.request(1, ECHO, &vec![b'x'; size]);
        raw.send(&request[..100]);
        server.catch_up(dialect);
        thread::scope(|scope| {
            server.hold(dialect, || drop(scope.spawn(|| raw.send(&request[100..]))));
            assert_eq!(dialect.receive(&raw).payload.len(), size);
        });
        server.running.stop().expect("the server ends well");
    });
}

/// A reader that had made room in time did not stall.
#[test]
fn a_reader_goes_on() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        if dialect != Dialect::V1 {
            return; // Paused long before.
        }
        let server = Held::start(dialect, endpoint);
        let raw = dialect.raw(&server.endpoint);
        // More than the system's buffers hold, and no more than gets through in time on a busy machine.
        let payload = vec![b'x'; if endpoint.scheme() == "tcp" { 256 << 10 } else { 64 << 10 }];
        raw.send(&(1..=8).flat_map(|id| dialect.request(id, ECHO, &payload)).collect::<Vec<_>>());
        server.catch_up(dialect);
        thread::scope(|scope| {
            server.hold(dialect, || {
                scope.spawn(|| (1..=8).for_each(|id| assert_eq!(dialect.receive(&raw).id, id)));
            });
        });
        server.running.stop().expect("the server ends well");
    });
}

/// One poll tells of no more than 1,024.
#[cfg(unix)] // Thousands of pipes or sockets on Windows take their time.
#[test]
fn those_of_whom_the_poll_did_not_tell_yet_are_heard_too() {
    let _watchdog = watchdog(60);
    sidewire_platform::raise_descriptor_limit().expect("descriptors");
    let dialect = Dialect::Classic;
    let server = Held::start(dialect, &crate::util::fresh("unix"));
    let request = dialect.request(0, ECHO, b"in time");
    let raws = [(); 1500].map(|()| Raw::connect(&server.endpoint));
    raws.iter().for_each(|raw| raw.send(&request[..7]));
    server.catch_up(dialect);
    server.hold(dialect, || raws.iter().for_each(|raw| raw.send(&request[7..])));
    for raw in &raws {
        assert_eq!(dialect.receive(raw), dialect.good(0, ECHO, b"in time"));
    }
    drop(raws);
    server.running.stop().expect("the server ends well");
}

/// A goodbye, and what it ends, has its own time too.
#[test]
fn a_call_that_was_held_up_is_answered_before_the_end() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        let server = Held::start(dialect, endpoint);
        let raw = dialect.raw(&server.endpoint);
        if !raw.0.has_half_close() {
            return; // Pipes.
        }
        // Ended, but with something that nobody has read yet: closing now would reset it.
        server.hold(dialect, || {
            raw.send(&dialect.request(1, ECHO, b"last"));
            if dialect == Dialect::V1 {
                raw.send(&frame(12, 0, 0, 0, b""));
            }
            raw.0.shutdown_write().expect("half-close");
        });
        assert_eq!(dialect.receive(&raw), dialect.good(1, ECHO, b"last"));
        server.running.stop().expect("the server ends well");
    });
}
