//! Limits in counts and bytes, and that whoever passes one is the only one to feel it.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use sidewire::{Client, Endpoint, Executed, Limits, ListenerLimits, ResultCode};

use crate::util::{
    Dialect, PATIENCE, Raw, classic, client, connect, frame, fresh, hello, in_every_dialect, on_every_stream,
    start, store_with, until, usual, watchdog,
};

const GET: u16 = 1;
const SET: u16 = 2;
const ECHO: u16 = 4;
const GOODBYE: u8 = 12;

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    limits.listener.connection.linger = Duration::from_millis(500);
    change(&mut limits);
    limits
}

fn works(client: &Client) -> bool {
    client.call(ECHO, b"x").is_ok()
}

/// Tries until the server has noticed that there is room.
fn until_admitted(dialect: Dialect, endpoint: &Endpoint) -> Client {
    let mut admitted = None;
    until("there is room again", || {
        admitted = dialect.connect(endpoint).open().ok().filter(works);
        admitted.is_some()
    });
    admitted.expect("just so")
}

/// PROTOCOL B4, B5, L1
#[test]
fn connections_beyond_the_limit_are_told_so() {
    let _watchdog = watchdog(60);
    in_every_dialect(&limits(|limits| limits.listener.max_connections = 2), |dialect, endpoint| {
        let (first, second) = (dialect.client(endpoint), dialect.client(endpoint));
        assert!(works(&first) && works(&second));
        // The classic layout has no handshake: there it is the first call that is told.
        let third = dialect.connect(endpoint).open();
        let error = third.and_then(|client| client.call(ECHO, b"x")).expect_err("full");
        assert!(error.is_refused() && error.to_string().contains("busy"), "{error}");
        // Where it comes as a reply, a handler may have said it.
        assert_eq!(error.executed() == Executed::Perhaps, dialect != Dialect::V1, "{error}");
        assert!(works(&first) && works(&second));
        drop(first);
        let third = until_admitted(dialect, endpoint);
        assert!(works(&second) && works(&third));
    });
}

#[test]
fn a_refused_peer_gets_four_bytes_time() {
    let _watchdog = watchdog(60);
    in_every_dialect(&limits(|limits| limits.listener.max_connections = 1), |dialect, endpoint| {
        let first = dialect.client(endpoint);
        assert!(works(&first));
        let bytes = match dialect {
            Dialect::V1 => hello(1, 1),
            Dialect::Classic | Dialect::Fixed => dialect.request(1, ECHO, b"")[..4].to_vec(),
        };
        // It has a second: a machine that takes longer to say four bytes proves nothing.
        let raw = (0..10).find_map(|_| {
            let begun = Instant::now();
            let raw = Raw::connect(endpoint);
            let is_silent = raw.is_silent(Duration::from_millis(100));
            let is_sent = raw.try_send(&bytes).is_ok();
            let is_in_time = begun.elapsed() < Duration::from_millis(900);
            assert!(!is_in_time || (is_silent && is_sent), "it was not given a second");
            is_in_time.then_some(raw)
        });
        let raw = raw.expect("a machine that says four bytes within a second");
        match dialect {
            Dialect::V1 => {
                let answer = raw.receive_to_end();
                assert_eq!(answer[48..52], ResultCode::BUSY.code().to_le_bytes());
            }
            Dialect::Classic | Dialect::Fixed => {
                let reply = dialect.receive(&raw);
                assert_eq!((reply.msg_type, reply.rc), (ECHO.into(), ResultCode::BUSY.code()));
                raw.expect_end();
            }
        }
    });
}

/// Nothing comes, so nothing says what to answer: it is dropped after a second.
/// PROTOCOL B3
#[test]
fn a_refused_peer_that_says_nothing_is_dropped() {
    let _watchdog = watchdog(60);
    let server = store_with(limits(|limits| limits.listener.max_connections = 1));
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let first = client(endpoint);
            assert!(works(&first));
            let (silent, halting) = (Raw::connect(endpoint), Raw::connect(endpoint));
            halting.send(&[1, 2]);
            let begun = Instant::now();
            silent.expect_end();
            halting.expect_end();
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        },
    );
}

#[test]
fn payloads_over_what_the_server_takes_are_not_even_sent() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store_with(limits(|limits| limits.listener.connection.max_payload = 100)),
        |listen| listen,
        |endpoint| {
            let client = client(endpoint);
            let error = client.call(ECHO, [0; 101]).expect_err("too much");
            assert!(error.is_invalid_input() && error.executed() == Executed::Never, "{error}");
            assert!(error.to_string().contains("101") && error.to_string().contains("100"), "{error}");
            assert!(client.notify(SET, [0; 101]).expect_err("too much").is_invalid_input());
            assert_eq!(client.call(ECHO, [7; 100]).expect("call").payload(), [7; 100]);
        },
    );
}

/// The replies of what was accepted come first; nothing behind is executed.
/// PROTOCOL K8, X7, L4
#[test]
fn too_many_calls_in_flight_are_fatal() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store_with(limits(|limits| limits.listener.connection.max_in_flight = 4)),
        |listen| listen,
        |endpoint| {
            let is_fatal = || {
                client(endpoint).call(SET, b"as before").expect("set");
                let raw = Dialect::V1.raw(endpoint);
                let calls = (1..=4).map(|id| frame(1, ECHO, id, 0, b"fine")).collect::<Vec<_>>();
                let behind = [frame(1, SET, 5, 0, b"too many"), frame(1, SET, 6, 0, b"behind")];
                raw.send(&[calls.concat(), behind.concat()].concat());
                for id in 1..=4 {
                    assert_eq!(Dialect::V1.receive(&raw), Dialect::V1.good(id, ECHO, b"fine"));
                }
                let next = raw.receive_frame();
                if next.kind != GOODBYE {
                    assert_eq!(next.id, 5);
                    return false;
                }
                assert_eq!((next.rc, next.id), (ResultCode::BUSY.code(), 4));
                raw.expect_end();
                assert_eq!(client(endpoint).call(GET, b"").expect("get").payload(), b"as before");
                true
            };
            // Replies of a slow turn may have left before the next request is looked at: then again.
            assert!((0..20).any(|_| is_fatal()), "there were never more in flight than are allowed");
        },
    );
}

/// PROTOCOL X7, L5
#[test]
fn too_many_bytes_in_flight_are_fatal() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store_with(limits(|limits| {
            limits.listener.connection.max_payload = 100;
            limits.listener.connection.max_in_flight_bytes = 100;
        })),
        |listen| listen,
        |endpoint| {
            let raw = Dialect::V1.raw(endpoint);
            raw.send(&[frame(1, ECHO, 1, 0, &[1; 60]), frame(1, ECHO, 2, 0, &[2; 40])].concat());
            assert_eq!(Dialect::V1.receive(&raw), Dialect::V1.good(1, ECHO, &[1; 60]));
            assert_eq!(Dialect::V1.receive(&raw), Dialect::V1.good(2, ECHO, &[2; 40]));
            // They count no longer, and those of a slow turn may have left before the next is looked at: then again.
            let first = (3..40).step_by(2).find(|id| {
                raw.send(&[frame(1, ECHO, *id, 0, &[3; 60]), frame(1, ECHO, id + 1, 0, &[4; 41])].concat());
                assert_eq!(Dialect::V1.receive(&raw), Dialect::V1.good(*id, ECHO, &[3; 60]));
                let next = raw.receive_frame();
                assert!(next.kind == GOODBYE || next.id == id + 1, "{next:?}");
                next.kind == GOODBYE && (next.rc, next.id) == (ResultCode::BUSY.code(), *id)
            });
            assert!(first.is_some(), "there was never more in flight than is allowed");
            raw.expect_end();
        },
    );
}

/// It is refused by its header, and its sender still at it: closing would reset the connection, fail
/// the sender's write, and eat the answer. So the server reads on, and the end comes in order.
/// PROTOCOL E1, X5
#[test]
fn who_is_still_sending_is_not_cut_off() {
    let _watchdog = watchdog(60);
    const MUCH: usize = 8 << 20;
    let limits = limits(|limits| {
        limits.listener.connection.max_payload = 1024;
        limits.listener.connection.linger = Duration::from_secs(30);
    });
    in_every_dialect(&limits, |dialect, endpoint| {
        let raw = dialect.raw(endpoint);
        if !raw.0.has_half_close() {
            return; // A pipe can't tell its end and still be read.
        }
        raw.send(&match dialect {
            Dialect::V1 => frame(1, ECHO, 1, 0, &vec![b'x'; MUCH]),
            Dialect::Classic | Dialect::Fixed => classic(ECHO.into(), 0, &vec![b'x'; MUCH]),
        });
        match dialect {
            Dialect::V1 => {
                let goodbye = raw.receive_frame();
                assert_eq!(
                    (goodbye.kind, goodbye.rc),
                    (GOODBYE, ResultCode::TOO_LARGE.code()),
                    "{goodbye:?}"
                );
            }
            Dialect::Classic | Dialect::Fixed => {
                let reply = dialect.receive(&raw);
                assert_eq!((reply.msg_type, reply.rc), (ECHO.into(), ResultCode::TOO_LARGE.code()));
            }
        }
        raw.expect_end();
    });
}

/// All connections together hold no more than a single one may.
fn hold(limits: &mut Limits, bytes: u32) {
    limits.max_buffered = bytes as usize;
    let connection = &mut limits.listener.connection;
    (connection.max_payload, connection.outbox_soft) = (bytes, bytes as usize);
    connection.outbox_hard = bytes as usize;
}

/// A listener with limits of its own leaves the others theirs.
#[test]
fn each_listener_may_have_its_own() {
    let _watchdog = watchdog(60);
    let mut small = ListenerLimits::default();
    small.connection.max_payload = 100;
    small.connection.linger = Duration::from_millis(200);
    small.max_connections = 1;
    let listen = [usual(&fresh("local")).limits(small), usual(&fresh("local"))];
    let (running, bound) = start(store_with(limits(|limits| limits.listener.max_connections = 2)), listen);
    let clients = bound.iter().map(client).collect::<Vec<_>>();
    assert_eq!(clients[0].request_limit(), Some(100));
    assert_eq!(clients[1].request_limit(), Some(16 << 20));
    assert!(connect(&bound[0]).open().expect_err("there is no second place").is_refused());
    assert!(works(&client(&bound[1])));
    running.stop().expect("the server ends well");
}

/// What a flood's requests and replies carry.
const FLOOD: [u8; 1000] = [b'f'; 1000];

/// Sends requests and reads nothing, until the server closes or has taken nothing for so long. Returns how many
/// were sent whole, and why it has ended.
fn flood(raw: &Raw, dialect: Dialect, patience: Duration) -> (u32, ErrorKind) {
    for sent in 0.. {
        let request = dialect.request(sent + 1, ECHO, &FLOOD);
        let mut rest = &request[..];
        while !rest.is_empty() {
            match raw.0.send(rest, Some(patience)) {
                Ok(count) => rest = &rest[count..],
                Err(error) => return (sent, error.kind()),
            }
        }
    }
    unreachable!("ids do not run out")
}

/// PROTOCOL X13, L7
#[test]
fn a_v1_peer_that_never_reads_is_closed_at_the_hard_mark() {
    let _watchdog = watchdog(60);
    let server = store_with(limits(|limits| {
        limits.listener.connection.outbox_hard = 1 << 20;
        limits.listener.connection.max_in_flight = u32::MAX;
    }));
    let counters = server.counters();
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let bystander = client(endpoint);
            let raw = Dialect::V1.raw(endpoint);
            let (_, end) = flood(&raw, Dialect::V1, PATIENCE);
            assert_ne!(end, ErrorKind::TimedOut, "the server has not ended it");
            until("it is closed", || counters.connections() == 1);
            assert!(works(&bystander));
        },
    );
}

/// PROTOCOL C4, L6
#[test]
fn a_classic_peer_that_never_reads_is_not_read_from_and_loses_nothing() {
    let _watchdog = watchdog(60);
    let server = store_with(limits(|limits| {
        limits.listener.connection.outbox_soft = 64 << 10;
        // Were it read from all the same, it would be closed.
        limits.listener.connection.outbox_hard = 256 << 10;
    }));
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let bystander = client(endpoint);
            let raw = Raw::connect(endpoint);
            // Until nobody takes any more: the server's outbox, and what the system holds.
            let (sent, end) = flood(&raw, Dialect::Classic, Duration::from_millis(700));
            assert!(sent > 128 && end == ErrorKind::TimedOut, "only {sent}: {end}");
            assert!(works(&bystander));
            for number in 0..sent {
                let reply = Dialect::Classic.receive(&raw);
                assert_eq!(reply, Dialect::Classic.good(0, ECHO, &FLOOD), "request {number} of {sent}");
            }
        },
    );
}

/// PROTOCOL L8
#[test]
fn a_server_whose_buffers_are_full_closes_who_fills_them() {
    let _watchdog = watchdog(60);
    let server = store_with(limits(|limits| hold(limits, 1 << 20)));
    let counters = server.counters();
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let bystander = client(endpoint);
            assert!(works(&bystander));
            // Three unfinished frames of 400 kB are too much together, one alone is not.
            let peers = [(); 3].map(|()| Dialect::V1.raw(endpoint));
            for raw in &peers {
                let unfinished = &frame(1, ECHO, 1, 0, &[0; 800_000])[..400_000];
                let _ = raw.try_send(unfinished);
            }
            until("one is closed", || counters.connections() < 4);
            assert!(works(&bystander));
            std::thread::sleep(Duration::from_millis(50));
            assert!(counters.connections() > 1, "nobody is left but the bystander");
            drop((bystander, peers));
            until("all have left", || counters.connections() == 0);
        },
    );
}

/// Whoever holds most is told why, as far as its socket takes that.
/// PROTOCOL X12, L8
#[test]
fn who_fills_the_buffers_is_told_so_before_the_end() {
    let _watchdog = watchdog(60);
    let server = store_with(limits(|limits| hold(limits, 300_000)));
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let modest = Dialect::V1.raw(endpoint);
            modest.send(&frame(1, ECHO, 1, 0, &[0; 300_000])[..60_000]);
            let raw = Dialect::V1.raw(endpoint);
            let _ = raw.try_send(&frame(1, ECHO, 1, 0, &[0; 300_000])[..290_000]);
            let goodbye = raw.receive_frame();
            assert_eq!((goodbye.kind, goodbye.rc), (12, ResultCode::BUSY.code()), "{goodbye:?}");
            // Over TCP the system names no user, and one of many has only a share.
            let limit =
                if endpoint.has_credentials() { "over the limit of 300000" } else { "over a share of" };
            assert!(String::from_utf8_lossy(&goodbye.payload).contains(limit), "{goodbye:?}");
            raw.expect_end();
        },
    );
}

/// The largest frames are within what is buffered by default.
#[test]
fn one_connection_reads_and_answers_the_largest_frames() {
    let _watchdog = watchdog(120);
    // A pipe moves 64 KiB at a time, and Wine takes long for it; that is not what this is about.
    let patience = Duration::from_secs(60);
    let limits = limits(|limits| {
        limits.max_buffered = 40 << 20;
        limits.listener.connection.outbox_hard = 40 << 20;
        limits.listener.connection.partial_frame_timeout = patience;
    });
    let ours = limits.listener.connection.clone();
    let (running, bound) = start(store_with(limits), crate::util::all_streams().iter().map(usual));
    for endpoint in &bound {
        let client = connect(endpoint).limits(ours.clone()).open().expect("connect");
        for _ in 0..2 {
            let reply = client.call(ECHO, vec![1; 16 << 20]).expect("call");
            assert_eq!(reply.payload().len(), 16 << 20);
        }
    }
    running.stop().expect("the server ends well");
}

/// How a send ends on a connection that was closed.
#[test]
fn sending_to_a_closed_connection_fails_soon() {
    let _watchdog = watchdog(60);
    in_every_dialect(&limits(|_| {}), |dialect, endpoint| {
        let raw = dialect.raw(endpoint);
        match dialect {
            Dialect::V1 => raw.send(&frame(13, 0, 0, 0, b"")),
            Dialect::Classic | Dialect::Fixed => raw.send(&[0xFF; 12]),
        }
        let ended = raw.receive_to_end();
        assert!(!ended.is_empty(), "it was told why");
        let mut kind = None;
        until("sending fails", || {
            kind = raw.0.send(&[0; 1000], Some(Duration::from_millis(10))).err().map(|error| error.kind());
            kind.is_some_and(|kind| kind != ErrorKind::TimedOut)
        });
    });
}
