//! Frames in datagrams: calls that are as they should be.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use sidewire::{ResultCode, Server};

use crate::stage::{Socket, all, answer, client, connect, is_udp, largest, speaks, v1, v1_call, with_store};
use crate::util::{Dialect, FIXED, classic, start, store, until, usual, watchdog};

#[test]
fn one_client() {
    let _watchdog = watchdog(60);
    with_store(|dialect, endpoint| {
        let client = client(dialect, endpoint);
        client.call(2, b"tea").expect("set");
        assert_eq!(client.call(1, b"").expect("get").payload(), b"tea");
        assert_eq!(client.call(3, b"").expect("set and get").payload(), b"tea");
        assert_eq!(client.call(1, b"").expect("get").payload(), b"");
        for (msg_type, rc) in [(9, ResultCode::NO_HANDLER), (99, ResultCode::UNKNOWN_TYPE)] {
            let error = client.call(msg_type, b"x").expect_err("an error");
            assert_eq!(error.result_code(), Some(rc), "{error}");
            assert_eq!(error.payload().is_empty(), dialect != Dialect::V1, "{error}");
        }
        assert_eq!(client.call(4, b"still there").expect("echo").payload(), b"still there");
    });
}

#[test]
fn fifty_clients() {
    let _watchdog = watchdog(120);
    with_store(|dialect, endpoint| {
        thread::scope(|scope| {
            for number in 0..50 {
                scope.spawn(move || {
                    let client = client(dialect, endpoint);
                    for call in 0..20 {
                        let text = format!("{number}: {call}");
                        assert_eq!(client.call(4, &text).expect("echo").payload(), text.as_bytes());
                    }
                });
            }
        });
    });
}

#[test]
fn clients_that_die_before_their_answer_harm_nobody() {
    let _watchdog = watchdog(60);
    for dialect in Dialect::ALL {
        for endpoint in all() {
            let mut server = store();
            let counters = server.counters();
            let bound = server.listen(dialect.listen(usual(&endpoint))).expect("listen");
            for _ in 0..5 {
                let request = match dialect {
                    Dialect::V1 => v1_call(4, 1, b"x"),
                    Dialect::Classic | Dialect::Fixed => classic(4, 0, b"x"),
                };
                Socket::connect(&bound).send(&request);
            }
            until("they are served", || {
                server.turn(Some(Duration::ZERO)).expect("a turn");
                counters.requests() == 5
            });
            // UDP does not tell.
            assert_eq!(counters.datagrams_dropped(), if is_udp(&bound) { 0 } else { 5 });
            let running = server.spawn().expect("spawn");
            assert_eq!(client(dialect, &bound).call(4, b"y").expect("echo").payload(), b"y");
            running.stop().expect("the server ends well");
        }
    }
}

/// Programs that send their whole struct, whatever is in it.
/// PROTOCOL D4
#[test]
fn whole_structs() {
    let _watchdog = watchdog(60);
    with_store(|dialect, endpoint| {
        if dialect == Dialect::V1 {
            return;
        }
        let socket = Socket::connect(endpoint);
        for (msg_type, payload) in [(2, &b"tea"[..]), (1, b""), (4, b"echo"), (2, b""), (1, b"")] {
            let mut bytes = classic(msg_type, 77, payload);
            // What is behind the payload is junk.
            bytes.resize(12 + 1024, 0xAA);
            let reply = socket.ask(&bytes);
            if dialect == Dialect::Fixed {
                assert_eq!(reply.len(), 12 + FIXED as usize);
            }
            let answer = answer(&reply);
            assert_eq!((answer.msg_type, answer.rc), (msg_type, 0));
            match msg_type {
                4 => assert_eq!(answer.payload, b"echo"),
                2 => assert_eq!(answer.payload, b""),
                _ => {}
            }
        }
    });
}

/// PROTOCOL D5
#[test]
fn structs_that_fit_into_no_datagram_are_not_served() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let most = if is_udp(&endpoint) { 65_507 - 12 } else { 100_012 };
        let listen = |size| store().listen(usual(&endpoint).classic_fixed(size));
        listen(most).expect("they fit");
        let error = listen(most + 1).expect_err("one byte too many");
        assert!(error.is_invalid_input(), "{error}");
    }
}

#[test]
fn the_largest_payloads() {
    let _watchdog = watchdog(60);
    with_store(|dialect, endpoint| {
        let most = match dialect {
            Dialect::V1 if is_udp(endpoint) => 65_507 - 24,
            Dialect::V1 => 100_000,
            Dialect::Classic => 1_024,
            Dialect::Fixed => FIXED as usize,
        };
        let client = client(dialect, endpoint);
        let payload: Vec<u8> = (0..=most).map(|at| (at % 251) as u8).collect();
        assert!(client.call(4, &payload[..most]).expect("echo").payload() == &payload[..most]);
        let error = client.call(4, &payload).expect_err("one byte more");
        // What can't even be sent is our own fault, the rest the server says.
        match dialect {
            Dialect::V1 if is_udp(endpoint) => assert!(error.is_invalid_input(), "{error}"),
            Dialect::Fixed => assert!(error.is_invalid_input(), "{error}"),
            _ => assert_eq!(error.result_code(), Some(ResultCode::TOO_LARGE), "{error}"),
        }
        assert_eq!(client.call(4, b"x").expect("echo").payload(), b"x");
    });
}

/// A reply that does not fit is "too large", never lost.
/// PROTOCOL D19
#[test]
fn replies_that_do_not_fit() {
    let _watchdog = watchdog(60);
    for dialect in [Dialect::V1, Dialect::Classic] {
        for endpoint in all() {
            let mut server = Server::new(());
            server.on(1, |(), request, reply| {
                let count: usize = std::str::from_utf8(request.payload())?.parse()?;
                reply.write(vec![7; count]);
                Ok(())
            });
            let (running, bound) = start(server, [usual(&endpoint).classic_max(1 << 20)]);
            let client = client(dialect, &bound[0]);
            let most = match (dialect, is_udp(&endpoint)) {
                (Dialect::V1, true) => 65_507 - 24,
                (_, true) => 65_507 - 12,
                (Dialect::V1, false) => 100_000,
                (_, false) => 100_012,
            };
            assert_eq!(client.call(1, most.to_string()).expect("it fits").payload().len(), most);
            for count in [most + 1, 200_000, 5_000_000] {
                let error = client.call(1, count.to_string()).expect_err("too large");
                assert_eq!(error.result_code(), Some(ResultCode::TOO_LARGE), "{error}");
            }
            running.stop().expect("the server ends well");
        }
    }
}

/// Frames of a fixed size that no datagram holds could never be answered.
#[test]
fn listeners_that_could_never_answer_are_not_opened() {
    for endpoint in all() {
        let most = if is_udp(&endpoint) { 65_507 - 12 } else { 100_012 };
        let mut server = Server::new(());
        let error = server.listen(usual(&endpoint).classic_fixed(most + 1)).expect_err("too large");
        assert!(error.is_invalid_input(), "{error}");
        server.listen(usual(&endpoint).classic_fixed(most)).expect("just fits");
        // Without frames it means nothing.
        let endpoint = crate::stage::fresh(endpoint.scheme());
        server.listen_messages(usual(&endpoint).classic_fixed(most + 1), |(), _, _| {}).expect("listen");
    }
}

#[test]
fn pings_and_notifies() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let server = store();
        let counters = server.counters();
        let (running, bound) = start(server, [usual(&endpoint)]);
        let socket = Socket::connect(&bound[0]);
        for id in [0, 7, u32::MAX] {
            assert_eq!(socket.ask(&v1(9, 0, 0, id, 0, b"")), v1(10, 0, 0, id, 0, b""));
        }
        let client = client(Dialect::V1, &bound[0]);
        client.notify(2, b"by notify").expect("notify");
        assert_eq!(client.call(1, b"").expect("get").payload(), b"by notify");
        // One without a handler hurts nobody, and nobody is told.
        socket.send(&v1(3, 0, 99, 0, 0, b""));
        until("it is counted", || counters.notifies() == 2);
        assert_eq!(socket.ask(&v1(9, 0, 0, 8, 0, b"")), v1(10, 0, 0, 8, 0, b""));
        // The classic layout has none.
        let classic = speaks(Dialect::Classic, connect(&bound[0])).open().expect("connect");
        assert!(classic.notify(2, b"x").expect_err("no notifies").is_invalid_input());
        running.stop().expect("the server ends well");
    }
}

/// There is no connection, so ids mean nothing to the server: it returns them.
/// PROTOCOL D8
#[test]
fn any_id_will_do() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), all().iter().map(usual));
    for endpoint in &bound {
        let socket = Socket::connect(endpoint);
        for id in [u32::MAX, 1, 1, 5, 4] {
            let answer = answer(&socket.ask(&v1_call(4, id, b"x")));
            assert_eq!((answer.id, answer.rc, &answer.payload[..]), (id, 0, &b"x"[..]));
        }
    }
    running.stop().expect("the server ends well");
}

#[test]
fn requests_know_their_addresses() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    server.on(1, |(), request, reply| {
        assert_eq!(request.connection(), None);
        let (ours, theirs) = (request.local_address()?, request.peer_address()?);
        reply.write(format!("{theirs} > {ours}"));
        Ok(())
    });
    let (running, bound) = start(server, all().iter().map(usual));
    for endpoint in &bound {
        let socket = Socket::connect(endpoint);
        let server = socket.0.peer_address().expect("an address");
        let answer = answer(&socket.ask(&v1_call(1, 1, b"")));
        assert_eq!(String::from_utf8_lossy(&answer.payload), format!("{} > {server}", socket.address()));
    }
    running.stop().expect("the server ends well");
}

/// Calls that come while others flood the socket are answered, and so are streams.
#[test]
fn a_flood_starves_nobody() {
    let _watchdog = watchdog(60);
    let streams = crate::util::all_streams();
    let (running, bound) = start(store(), all().iter().chain(&streams).map(usual));
    const CALLS: usize = 200;
    let (calling, served) = (bound.iter().filter(|to| !crate::stage::is_datagrams(to)), AtomicUsize::new(0));
    let all = calling.count() * CALLS;
    let (is_over, served) = (|| served.load(Relaxed) == all, &served);
    thread::scope(|scope| {
        for endpoint in bound.iter().filter(|endpoint| crate::stage::is_datagrams(endpoint)) {
            scope.spawn(move || {
                let socket = Socket::connect(endpoint);
                let request = v1(3, 0, 2, 0, 0, &vec![7; largest(endpoint) / 2]);
                while !is_over() {
                    socket.send(&request);
                }
            });
        }
        for endpoint in bound.iter().filter(|endpoint| !crate::stage::is_datagrams(endpoint)) {
            scope.spawn(move || {
                let client = crate::util::client(endpoint);
                for _ in 0..CALLS {
                    client.call(4, b"x").expect("echo");
                    served.fetch_add(1, Relaxed);
                }
            });
        }
    });
    running.stop().expect("the server ends well");
}
