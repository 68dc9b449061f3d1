//! Opening, driving and configuring a server.

use std::cell::Cell;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{
    Access, Client, Endpoint, Listen, Message, MessageReply, ResultCode, Server, Session, on_data,
};

use crate::util::{
    Dialect, PATIENCE, all_streams, client, connect, fresh, on_every_stream, start, store, until, usual,
    watchdog,
};

const GET: u16 = 1;
const SET: u16 = 2;
const ECHO: u16 = 4;

#[test]
fn several_listeners_share_one_state() {
    let _watchdog = watchdog(60);
    let listen = all_streams().into_iter().chain(all_streams()).map(|endpoint| usual(&endpoint));
    let mut server = store();
    let bound: Vec<_> = listen.map(|listen| server.listen(listen).expect("listen")).collect();
    assert_eq!(server.endpoints(), bound);
    let running = server.spawn().expect("spawn");
    let clients: Vec<_> = bound.iter().map(client).collect();
    for (number, writer) in clients.iter().enumerate() {
        writer.call(SET, format!("value {number}")).expect("set");
        for reader in &clients {
            assert_eq!(reader.call(GET, b"").expect("get").payload(), format!("value {number}").as_bytes());
        }
    }
    drop(clients);
    assert_eq!(
        running.stop().expect("the server ends well"),
        format!("value {}", bound.len() - 1).as_bytes()
    );
}

#[test]
fn what_is_bound_is_reported() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let bound = store().listen(usual(&endpoint)).expect("listen");
        match &bound {
            Endpoint::Tcp { host, port } => assert!(host == "127.0.0.1" && *port != 0, "{bound}"),
            _ => assert_eq!(bound, endpoint),
        }
    }
}

#[test]
fn requests_know_where_they_came_from() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    server.on(1, |(), request, reply| {
        let (layout, endpoint, peer) = (request.layout(), request.endpoint(), request.peer());
        let known = peer.credentials().is_some();
        reply.write(format!("{} {layout:?} {endpoint} {known}", request.msg_type()));
        Ok(())
    });
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            for (dialect, layout) in [(Dialect::V1, "V1"), (Dialect::Classic, "Classic")] {
                let told = dialect.client(endpoint).call(1, b"").expect("call").into_payload();
                let known = endpoint.has_credentials();
                assert_eq!(String::from_utf8_lossy(&told), format!("1 {layout} {endpoint} {known}"));
            }
        },
    );
}

#[test]
fn a_live_server_is_never_displaced() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = store();
        let bound = server.listen(usual(&endpoint)).expect("listen");
        let again = |server: &mut Server<_>, who: &str| {
            let error = server.listen(usual(&bound)).expect_err(who);
            assert!(error.is_in_use(), "{who} on {bound}: {error}");
            assert_eq!(error.endpoint(), Some(&bound));
        };
        again(&mut server, "the same server");
        again(&mut store(), "another one");
        let running = server.spawn().expect("spawn");
        again(&mut store(), "another one, while it runs");
        assert_eq!(client(&bound).call(ECHO, b"alive").expect("call").payload(), b"alive");
        running.stop().expect("the server ends well");
        store().listen(usual(&bound)).expect("afterwards the place is free");
    }
}

#[test]
fn tcp_needs_a_decision() {
    let _watchdog = watchdog(60);
    let tcp = fresh("tcp");
    let mut server = store();
    for listen in [Listen::from(&tcp), Listen::from(&tcp).access(Access::SameUser)] {
        let error = server.listen(listen).expect_err("nobody can tell who connects");
        assert!(error.is_invalid_input() && error.to_string().contains("Access::Anyone"), "{error}");
    }
    let bound = server.listen(usual(&tcp)).expect("listen");
    let error = Client::connect(&bound).expect_err("nobody can tell who serves");
    assert!(error.is_invalid_input() && error.to_string().contains("Access::Anyone"), "{error}");
}

/// TCP beyond loopback is refused whatever the access.
/// PROTOCOL A7
#[test]
fn other_machines_stay_out() {
    let _watchdog = watchdog(60);
    let everywhere: Endpoint = "tcp:0.0.0.0:0".parse().expect("an endpoint");
    let error = store().listen(usual(&everywhere)).expect_err("not loopback");
    assert!(error.is_refused() && error.to_string().contains("loopback"), "{error}");
}

#[test]
fn endpoints_of_other_systems_say_where_they_work() {
    let _watchdog = watchdog(60);
    let here = sidewire_platform::stream_schemes();
    let foreign =
        ["local", "unix", "abstract", "pipe", "tcp"].into_iter().filter(|name| !here.contains(name));
    let mut seen = 0;
    for scheme in foreign {
        let endpoint = fresh(scheme);
        let listened = store().listen(usual(&endpoint)).expect_err("not here");
        let connected = connect(&endpoint).open().expect_err("not here");
        for error in [listened, connected] {
            let text = error.to_string();
            assert!(error.is_unsupported(), "{text}");
            assert!(text.contains("local:"), "'{text}' does not say what to use");
        }
        seen += 1;
    }
    assert!(seen > 0, "no system has them all");
}

#[test]
fn texts_that_are_no_endpoints() {
    for text in ["", "nonsense", "local:", "local:../x", "tcp:127.0.0.1", "unix:relative", "gopher:x"] {
        let error = store().listen(text).expect_err("no endpoint");
        assert!(error.is_invalid_input() && error.to_string().contains(text), "{error}");
        assert!(Client::connect(text).expect_err("no endpoint").is_invalid_input());
    }
}

#[test]
fn a_later_handler_replaces_an_earlier_one() {
    let _watchdog = watchdog(60);
    let mut server = store();
    server.on(GET, |_value, _request, reply| {
        reply.write(b"the later one");
        Ok(())
    });
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            assert_eq!(client(endpoint).call(GET, b"").expect("get").payload(), b"the later one");
            assert!(client(endpoint).call(ECHO, b"").is_ok(), "others stay");
        },
    );
}

#[test]
fn the_dispatch_table_is_as_large_as_it_was_made() {
    let _watchdog = watchdog(60);
    let answer = |types: usize, msg_type: u16| {
        let mut server = Server::builder(()).types(types).build().expect("a server");
        if let Some(last) = types.checked_sub(1) {
            server.on(last as u16, |(), _request, _reply| Ok(()));
        }
        let (running, bound) = start(server, [usual(&fresh("local"))]);
        let reply = client(&bound[0]).request(msg_type).timeout(None).exchange(b"").expect("a reply");
        running.stop().expect("the server ends well");
        reply.result_code()
    };
    assert_eq!(answer(0, 0), ResultCode::UNKNOWN_TYPE);
    assert_eq!(answer(1, 0), ResultCode::OK);
    assert_eq!(answer(1, 1), ResultCode::UNKNOWN_TYPE);
    assert_eq!(answer(256, 254), ResultCode::NO_HANDLER);
    assert_eq!(answer(256, 255), ResultCode::OK);
    assert_eq!(answer(256, 256), ResultCode::UNKNOWN_TYPE);
    assert_eq!(answer(65_536, 65_535), ResultCode::OK);
}

#[test]
fn a_table_can_not_be_larger_than_types_go() {
    let panics = |action: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(action)).is_err();
    let error = Server::builder(()).types(65_537).build().expect_err("too many");
    assert!(
        error.is_invalid_input() && error.to_string().contains("at most 65536 types, not 65537"),
        "{error}"
    );
    let mut server = Server::builder(()).types(8).build().expect("a server");
    assert!(!panics(&mut || server.on(7, |(), _request, _reply| Ok(()))));
    assert!(panics(&mut || server.on(8, |(), _request, _reply| Ok(()))));
}

/// A server that stays on one thread takes what can't be sent to another: state, and handlers of each kind.
#[test]
fn on_one_thread_nothing_need_be_send() {
    let _watchdog = watchdog(60);
    let served = Rc::new(Cell::new(0));
    let count = || {
        let served = Rc::clone(&served);
        move || served.set(served.get() + 1)
    };
    let mut server = Server::builder(Rc::new("state")).one_thread().build().expect("a server");
    let (request, stream, message) = (count(), count(), count());
    server.on(GET, move |state, _request, reply| {
        request();
        reply.write(&***state);
        Ok(())
    });
    let frames = server.listen(usual(&fresh("local"))).expect("listen");
    let lines = on_data(move |_: &mut Rc<&str>, session: &mut Session<'_>, line: &[u8]| {
        stream();
        session.write(line);
    });
    let lines = server.listen_lines(usual(&fresh("tcp")), 80, lines).expect("listen");
    let echo = move |_: &mut Rc<&str>, asked: &Message<'_>, reply: &mut MessageReply<'_>| {
        message();
        reply.send(asked.bytes());
    };
    let messages = server.listen_messages(usual(&fresh("udp")), echo).expect("listen");
    let remote = server.remote().expect("a remote");
    let asking = std::thread::spawn(move || {
        assert_eq!(client(&frames).call(GET, b"").expect("get").payload(), b"state");
        let mut answer = [0; 2];
        let stream = connect(&lines).open_raw().expect("connect");
        (&stream).write_all(b"hi\n").expect("write");
        (&stream).read_exact(&mut answer).expect("read");
        let socket = connect(&messages).open_messages().expect("connect");
        socket.send(b"hi").expect("send");
        assert_eq!(socket.receive(&mut answer).expect("receive"), 2);
        remote.stop().expect("stop");
    });
    server.run().expect("the server ends well");
    asking.join().expect("all are answered");
    assert_eq!(served.get(), 3);
}

/// A program with a loop of its own: it looks at the state between turns.
#[test]
fn turns_serve_and_let_go() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = store();
        let bound = server.listen(usual(&endpoint)).expect("listen");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let client = client(&bound);
                client.call(SET, b"from outside").expect("set");
                while client.call(GET, b"").expect("get").payload() != b"from inside" {}
                done.store(true, Relaxed);
            });
            while !done.load(Relaxed) && !asking.is_finished() {
                assert!(server.turn(Some(Duration::from_millis(20))).expect("turn"));
                if server.state() == b"from outside" {
                    *server.state_mut() = b"from inside".to_vec();
                }
            }
            asking.join().expect("the client");
        });
    }
}

#[test]
fn a_turn_takes_no_longer_than_it_may() {
    let _watchdog = watchdog(60);
    let mut server = store();
    server.listen(usual(&fresh("local"))).expect("listen");
    for (timeout, least) in [(Duration::ZERO, 0), (Duration::from_millis(60), 59)] {
        let begun = Instant::now();
        assert!(server.turn(Some(timeout)).expect("turn"));
        let took = begun.elapsed();
        assert!(took.as_millis() >= least && took < PATIENCE, "{took:?} of {timeout:?}");
    }
}

#[test]
fn counters_count() {
    let _watchdog = watchdog(60);
    let server = store();
    let counters = server.counters();
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let (one, other) = (client(&bound[0]), client(&bound[0]));
    one.call(ECHO, b"").expect("call");
    other.call(99, b"").expect_err("unknown");
    one.notify(SET, b"x").expect("notify");
    one.call(ECHO, b"").expect("call");
    assert_eq!((counters.connections(), counters.accepted()), (2, 2));
    assert_eq!((counters.requests(), counters.failed(), counters.notifies()), (3, 1, 1));
    drop((one, other));
    until("they have left", || counters.connections() == 0);
    assert_eq!(counters.accepted(), 2);
    running.stop().expect("the server ends well");
}
