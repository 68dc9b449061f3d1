//! Bugs that were there once: a test for each. What shows only where a test holds the system in its hands
//! stands among the loop's rules: a goodbye that was cut off when its link was shed
//! (`who_is_shed_gets_all_that_its_socket_takes`), input that was unread when the last word was said
//! (`what_was_unread_when_it_was_refused_is_read_too`), both in `src/reactor/tests`.

#[path = "util/mod.rs"]
mod util;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{
    Access, Connect, ConnectionLimits, Endpoint, Executed, Limits, Listen, ResultCode, Server, Session,
    StreamHandler,
};

use util::fake::{Fake, answer, send, take, take_hello, take_request, wait_for_the_end};
use util::{
    Dialect, PATIENCE, Raw, all_streams, client, connect, frame, fresh, on_every_stream, start, store_with,
    until, usual, watchdog,
};

const ECHO: u16 = 4;

/// Turns a server's loop until something is so.
fn turn_until<S: 'static>(server: &mut Server<S>, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() && Instant::now() < patience {
        assert!(server.turn(Some(Duration::from_millis(10))).expect("turn"));
    }
}

/// A classic peer that had made the server pause, and half-closed, was never told the end: the
/// replies left at once, and no event came for what was left unread behind the pause.
#[test]
fn an_end_behind_a_pause_is_seen() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut limits = Limits::default();
        limits.listener.connection.outbox_soft = 100;
        let mut server = store_with(limits);
        let bound = server.listen(usual(&endpoint)).expect("listen");
        let raw = Raw::connect(&bound);
        if !raw.0.has_half_close() {
            continue; // Pipes.
        }
        raw.send_classic(ECHO.into(), &[b'x'; 200]);
        raw.0.shutdown_write().expect("half-close");
        // Request and end are both there when the server first looks.
        let counters = server.counters();
        turn_until(&mut server, || counters.requests() > 0 && counters.connections() == 0);
        assert_eq!(raw.receive_classic(), (ECHO.into(), 0, vec![b'x'; 200]));
        raw.expect_end();
    }
}

/// `[::]` was IPv6 alone on Windows, and both families on Linux unless `net.ipv6.bindv6only` was set.
#[test]
fn an_ipv6_wildcard_serves_both_families() {
    let _watchdog = watchdog(60);
    for scheme in ["tcp", "udp"] {
        let mut server = store_with(Limits::default());
        let listen = Listen::on(format!("{scheme}:[::]:0")).expect("an endpoint");
        let bound = match server.listen(listen.access(Access::Anyone).beyond_loopback()) {
            Err(error) if !error.is_in_use() => return println!("skipped: no IPv6 here: {error}"),
            bound => bound.expect("listen"),
        };
        let running = server.spawn().expect("spawn");
        let (Endpoint::Tcp { port, .. } | Endpoint::Udp { port, .. }) = bound else { panic!("{bound}") };
        for host in ["127.0.0.1", "[::1]"] {
            let there = Connect::to(format!("{scheme}:{host}:{port}")).expect("an endpoint");
            let client = there.access(Access::Anyone).open().expect("connect");
            assert_eq!(client.call(ECHO, host).expect("call").payload(), host.as_bytes(), "{scheme}");
        }
        running.stop().expect("the server ends well");
    }
}

/// Connections that had been turned away kept a place until they were closed.
#[test]
fn refused_connections_take_no_place() {
    let _watchdog = watchdog(60);
    let mut limits = Limits::default();
    limits.listener.max_connections = 2;
    limits.listener.connection.linger = Duration::from_secs(60);
    let server = store_with(limits);
    let counters = server.counters();
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let (first, second) = (client(endpoint), client(endpoint));
            let refused = [(); 3].map(|()| Raw::connect(endpoint));
            for raw in &refused {
                assert_eq!(raw.shake_hands()[48..52], ResultCode::BUSY.code().to_le_bytes());
            }
            drop(first);
            until("the first has gone", || counters.connections() <= 4);
            let third = connect(endpoint).open().expect("there is room for one");
            assert!(second.call(ECHO, b"x").is_ok() && third.call(ECHO, b"x").is_ok());
            drop((second, third, refused));
            until("all have left", || counters.connections() == 0);
        },
    );
}

/// A client took a goodbye for the end, and did not wait for the replies that were still owed.
#[test]
fn replies_behind_a_goodbye_count() {
    let _watchdog = watchdog(60);
    let (has_come, first_request) = mpsc::channel();
    let (has_ended, second_end) = mpsc::channel();
    let fake = Fake::v1(move |stream| {
        assert_eq!(take_request(stream), 1);
        has_come.send(()).expect("the test listens");
        assert_eq!(take_request(stream), 2);
        send(stream, &frame(12, 0, 1, ResultCode::SHUTTING_DOWN.code(), b""));
        second_end.recv().expect("the second call has ended");
        send(stream, &frame(2, ECHO, 1, 0, b"as promised"));
        wait_for_the_end(stream);
    });
    let client = fake.client();
    thread::scope(|scope| {
        let first = scope.spawn(|| client.call(ECHO, b"first"));
        first_request.recv().expect("the first request");
        let second = scope.spawn(|| client.call(ECHO, b"second"));
        let error = second.join().expect("a thread").expect_err("not accepted");
        assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");
        has_ended.send(()).expect("the server waits");
        assert_eq!(first.join().expect("a thread").expect("accepted").payload(), b"as promised");
    });
    assert!(client.call(ECHO, b"third").expect_err("it leaves").is_peer_gone());
    drop(client);
    fake.join();
}

/// A request that was never sent, because the server had broken the protocol before, was said to
/// have been executed perhaps.
#[test]
fn what_was_never_sent_was_not_executed() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| {
        take_request(stream);
        send(stream, &[0xEE; 64]);
        wait_for_the_end(stream);
    });
    let client = fake.client();
    let error = client.call(ECHO, b"sent").expect_err("garbage");
    assert!(error.is_protocol() && error.executed() == Executed::Perhaps, "{error}");
    let error = client.call(ECHO, b"not sent").expect_err("it has ended");
    assert!(error.is_protocol() && error.executed() == Executed::Never, "{error}");
    drop(client);
    fake.join();
}

/// On Windows a server that had stopped, and was not dropped yet, still let clients in: handles
/// close only when the poll turns.
#[test]
fn a_server_that_has_stopped_lets_nobody_in() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = store_with(Limits::default());
        let bound = server.listen(usual(&endpoint)).expect("listen");
        server.remote().expect("remote").stop().expect("stop");
        server.run().expect("run");
        let error = connect(&bound).open().expect_err("nobody is there");
        assert!(error.is_not_listening(), "{error}");
    }
}

/// Errors that were handed on had lost the system's own, and with it its kind.
#[test]
fn errors_that_are_handed_on_keep_their_source() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let bound = store_with(Limits::default()).listen(usual(&endpoint)).expect("listen");
        let error = connect(&bound).open().expect_err("nobody is there");
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
        let kind = source.map(std::io::Error::kind).expect("the system's error");
        assert_eq!(std::io::Error::from(error).kind(), kind);
    }
}

/// When all connections together hold too much, whoever holds most is closed, not whoever happens
/// to work next; and is told so: the goodbye stayed in the outbox, which nobody flushed.
#[test]
fn the_largest_holder_of_memory_is_closed() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut limits = Limits::default();
        limits.max_buffered = 1 << 20;
        limits.listener.connection.max_payload = 1 << 20;
        limits.listener.connection.outbox_hard = 1 << 20;
        let mut server = store_with(limits);
        let bound = server.listen(usual(&endpoint)).expect("listen");
        let counters = server.counters();
        let running = server.spawn().expect("spawn");
        let greedy = Raw::connect(&bound);
        greedy.shake_hands();
        greedy.send(&frame(1, ECHO, 1, 0, &[0; 700_000])[..690_000]);
        // Then all of it has been read.
        client(&bound).call(ECHO, b"behind it").expect("call");
        until("only one is there", || counters.connections() == 1);
        let modest = Raw::connect(&bound);
        modest.shake_hands();
        let request = frame(1, ECHO, 1, 0, &[1; 500_000]);
        modest.send(&request[..450_000]);
        let goodbye = greedy.receive_frame();
        assert_eq!((goodbye.kind, goodbye.rc), (12, ResultCode::BUSY.code()), "{endpoint}");
        drop(greedy);
        until("one is closed", || counters.connections() == 1);
        modest.send(&request[450_000..]);
        assert_eq!(modest.receive_frame().payload.len(), 500_000);
        drop(modest);
        running.stop().expect("the server ends well");
    }
}

/// Requests without an answer piled up in a client whose server did not read, without end.
#[test]
fn a_server_that_does_not_read_bounds_what_its_client_takes() {
    let _watchdog = watchdog(60);
    let (is_done, done) = mpsc::channel::<()>();
    let fake = Fake::v1(move |_| assert!(done.recv().is_err(), "until it is dropped"));
    let client = fake.connect().call_timeout(Some(Duration::from_millis(20))).open().expect("connect");
    let notify = || client.notify(ECHO, vec![0; 64 << 10]);
    // Far more than the system's buffers and the client's own outbox hold together.
    let refused = (0..2_000).filter_map(|_| notify().err()).find(|error| error.executed() == Executed::Never);
    let error = refused.expect("at some point nothing more is added");
    assert!(error.is_timeout(), "{error}");
    drop((client, is_done));
    fake.join();
}

/// A line that was longer than it may be was handed out if it came behind more lines than one turn
/// takes, and the peer had ended its side.
#[test]
fn a_last_line_has_a_length_too() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut limits = Limits::default();
        limits.turn_frames = 10;
        let mut server =
            sidewire::Server::builder(Vec::new()).types(1).limits(limits).build().expect("a server");
        let bound = server.listen_lines(usual(&endpoint), 100, Lines).expect("listen");
        let raw = Raw::connect(&bound);
        if !raw.0.has_half_close() {
            continue; // Pipes.
        }
        raw.send(&[&b"short\n".repeat(10)[..], &[b'x'; 5_000]].concat());
        raw.0.shutdown_write().expect("half-close");
        let counters = server.counters();
        turn_until(&mut server, || counters.accepted() > 0 && counters.connections() == 0);
        assert_eq!(*server.state(), vec!["short".len(); 10]);
        drop(raw);
    }
}

/// Notes how long lines are.
struct Lines;

impl sidewire::StreamHandler<Vec<usize>> for Lines {
    fn data(&mut self, seen: &mut Vec<usize>, _session: &mut sidewire::Session<'_>, line: &[u8]) {
        seen.push(line.len());
    }
}

/// A reply -5 or -6 in the classic layout, and over datagrams in both, counted as a refusal whichever it was,
/// "certainly not executed", and lost its payload.
#[test]
fn a_handler_that_says_busy_has_run() {
    let _watchdog = watchdog(60);
    let handlers = || {
        let mut server = Server::new(());
        server.on(1, |(), _request, reply| {
            reply.write("ask the other one");
            reply.set_result(ResultCode::BUSY);
            Ok(())
        });
        server.on(2, |(), _request, _reply| Err(ResultCode::NOT_PERMITTED.into()));
        server
    };
    for (dialect, scheme) in
        [(Dialect::Classic, "local"), (Dialect::Classic, "udp"), (Dialect::V1, "udp"), (Dialect::V1, "local")]
    {
        let (running, bound) = start(handlers(), [dialect.listen(usual(&fresh(scheme)))]);
        let client = dialect.client(&bound[0]);
        for _ in 0..2 {
            let error = client.call(1, b"").expect_err("busy");
            assert!(!error.is_refused() && error.executed() == Executed::Perhaps, "{scheme}: {error}");
            assert_eq!(
                (error.payload(), error.result_code()),
                (&b"ask the other one"[..], Some(ResultCode::BUSY))
            );
        }
        // Without data it looks like a refusal where there is no handshake, but on a stream only at first.
        let error = client.call(2, b"").expect_err("not permitted");
        assert_eq!((error.is_refused(), error.executed()), (scheme == "udp", Executed::Perhaps), "{error}");
        drop(client);
        running.stop().expect("the server ends well");
    }
}

/// A URL's `//127.0.0.1` went to the resolver as the name of a host.
#[test]
fn no_host_is_called_like_a_url() {
    let error = "tcp://127.0.0.1:1".parse::<Endpoint>().expect_err("a URL");
    assert!(error.to_string().contains("write tcp:127.0.0.1:1"), "{error}");
}

/// What was opened behind the end of a server accepted connections that nobody served.
#[test]
fn nothing_is_opened_for_a_server_that_has_stopped() {
    let _watchdog = watchdog(60);
    let (first, late) = (fresh("local"), fresh("local"));
    let mut server = store_with(Limits::default());
    server.listen(usual(&first)).expect("listen");
    server.remote().expect("a remote").stop().expect("stop");
    // Told before it runs, as by a signal that comes early, it still ends in order.
    let early = server.listen(usual(&fresh("local"))).expect("it has not stopped yet");
    server.run().expect("the server ends well");
    let error = server.listen(usual(&late)).expect_err("nobody would serve it");
    assert!(error.to_string().contains("the server has stopped"), "{error}");
    assert!(connect(&late).open().is_err() && connect(&early).open().is_err());
}

/// The word to stop waited among the letters of a bounded mailbox, and could be refused.
#[test]
fn no_word_to_stop_is_refused() {
    let _watchdog = watchdog(60);
    let mut server = store_with(Limits::default());
    server.listen(usual(&fresh("local"))).expect("listen");
    let remote = server.remote().expect("a remote");
    for _ in 0..5_000 {
        remote.stop().expect("never refused");
    }
    server.run().expect("the server ends well");
}

/// Limits that contradict each other were accepted, and shown as connections that broke.
#[test]
fn limits_that_contradict_each_other_are_refused() {
    let too_much = "max_in_flight_bytes (10) is less than max_payload (16777216)";
    let mut limits = Limits::default();
    limits.listener.connection.max_in_flight_bytes = 10;
    let error = sidewire::Server::builder(()).limits(limits.clone()).build().expect_err("no request fits");
    assert!(error.is_invalid_input() && error.to_string().contains(too_much), "{error}");
    let endpoint = fresh("local");
    let listen = usual(&endpoint).limits(limits.listener.clone());
    let error = sidewire::Server::new(()).listen(listen).expect_err("no request fits");
    assert!(error.is_invalid_input() && error.to_string().contains(too_much), "{error}");
    let connect = Connect::to(endpoint).expect("an endpoint").limits(limits.listener.connection);
    let error = connect.open().expect_err("no request fits");
    assert!(error.is_invalid_input() && error.to_string().contains(too_much), "{error}");
}

/// A datagram client that was asked for an address waited for the call under way, without a limit.
#[test]
fn addresses_do_not_wait_for_a_call() {
    let _watchdog = watchdog(60);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = silent.local_addr().expect("its address");
    for dialect in [Dialect::V1, Dialect::Classic] {
        let client = dialect.client(&Endpoint::Udp { host: "127.0.0.1".into(), port: address.port() });
        let ours = client.local_address().expect("our address").to_string();
        thread::scope(|scope| {
            let call = scope.spawn(|| client.call(1, b""));
            let mut bytes = [0; 100];
            let (length, from) = silent.recv_from(&mut bytes).expect("the request");
            assert_eq!(client.local_address().expect("our address").to_string(), ours);
            assert_eq!(client.peer_address().expect("the server's").to_string(), address.to_string());
            assert_eq!(from.to_string(), ours);
            assert!(!call.is_finished(), "the call is under way");
            // In the classic layout a request is a reply as well.
            if dialect == Dialect::V1 {
                bytes[12] = 2;
                bytes[20..24].fill(0); // Its time limit.
            }
            silent.send_to(&bytes[..length], from).expect("send");
            call.join().expect("a thread").expect("a reply");
        });
    }
}

/// A call over UDP that the server's machine reset was said to be certainly not executed, though the server
/// may have taken it, and gone before it had answered.
#[cfg(unix)] // Wine tells a UDP client nothing of a server that has gone.
#[test]
fn a_reset_behind_a_request_says_nothing_of_it() {
    let _watchdog = watchdog(60);
    for dialect in [Dialect::V1, Dialect::Classic] {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = server.local_addr().expect("its address").port();
        let client = dialect.client(&Endpoint::Udp { host: "127.0.0.1".into(), port });
        drop(server);
        for _ in 0..2 {
            let error = client.call(1, b"").expect_err("nobody is there");
            assert!(error.is_not_listening() && error.executed() == Executed::Perhaps, "{error}");
        }
    }
    // Where the system tells at once that it sends nothing, nothing was executed.
    let (running, bound) = start(store_with(Limits::default()), [usual(&fresh("unixgram"))]);
    let client = client(&bound[0]);
    running.stop().expect("the server ends well");
    let error = client.call(ECHO, b"").expect_err("nobody is there");
    assert!(error.is_not_listening() && error.executed() == Executed::Never, "{error}");
}

/// A client took no notice of its own limits of time, nor of what its outbox may hold.
/// PROTOCOL L23
#[test]
fn a_client_keeps_to_its_limits() {
    const SHORT: Duration = Duration::from_millis(200);
    const TIMED_OUT: i32 = ResultCode::TIMED_OUT.code();
    // Long enough for a busy machine to shake hands in.
    const IDLE: Duration = Duration::from_secs(1);
    let _watchdog = watchdog(60);
    let limited = |fake: &Fake, change: fn(&mut ConnectionLimits)| {
        let mut limits = ConnectionLimits::default();
        change(&mut limits);
        fake.connect().timeout(None).call_timeout(None).limits(limits)
    };

    let fake = Fake::new(|stream| {
        take_hello(stream);
        send(stream, &answer(0, 1, 1)[..20]);
        wait_for_the_end(stream);
    });
    let error = limited(&fake, |limits| limits.hello_timeout = SHORT).open().expect_err("half a hello");
    assert!(error.is_timeout() && error.executed() == Executed::Never, "{error}");
    fake.join();

    // The server is told why, and then the connection is closed.
    let fake = Fake::v1(|stream| {
        let id = take_request(stream);
        send(stream, &frame(2, ECHO, id, 0, b"never whole")[..20]);
        let goodbye = take(stream, 16);
        assert_eq!((goodbye[4], &goodbye[12..16]), (12, &TIMED_OUT.to_le_bytes()[..]));
        wait_for_the_end(stream);
    });
    let client = limited(&fake, |limits| limits.partial_frame_timeout = SHORT).open().expect("connect");
    let error = client.call(ECHO, b"").expect_err("half a reply");
    assert!(error.is_timeout() && error.executed() == Executed::Perhaps, "{error}");
    assert!(error.to_string().contains("no end of a frame within the time allowed"), "{error}");
    fake.join();

    let fake = Fake::v1(wait_for_the_end);
    let client = limited(&fake, |limits| limits.idle_timeout = Some(IDLE)).open().expect("connect");
    thread::sleep(IDLE);
    let error = client.call(ECHO, b"").expect_err("it was silent");
    assert!(error.is_timeout() && error.executed() == Executed::Never, "{error}");
    fake.join();

    let (is_done, done) = mpsc::channel::<()>();
    let fake = Fake::v1(move |_| assert!(done.recv().is_err(), "until it is dropped"));
    let client = limited(&fake, |limits| limits.write_stall_timeout = SHORT).open().expect("connect");
    // Far more than the system's buffers and the client's own outbox hold together.
    let error = (0..2_000).find_map(|_| client.notify(ECHO, vec![0; 64 << 10]).err()).expect("a stall");
    assert!(error.is_timeout() && error.executed() == Executed::Perhaps, "{error}");
    let error = client.call(ECHO, b"").expect_err("it has ended");
    assert!(error.is_timeout() && error.executed() == Executed::Never, "{error}");
    drop(is_done);
    fake.join();

    let fake = Fake::v1(wait_for_the_end);
    let client = limited(&fake, |limits| (limits.outbox_soft, limits.outbox_hard) = (1, 1000)).open();
    let client = client.expect("connect");
    let error = client.call(ECHO, [0; 1000]).expect_err("too large");
    assert!(error.is_invalid_input() && error.to_string().contains("outbox_hard (1000)"), "{error}");
    client.notify(ECHO, vec![0; client.request_limit().expect("a limit")]).expect("it fits");
    drop(client);
    fake.join();
}

/// The whole turn had one clock: whoever began to speak while a handler ran longer than the hello limit was
/// cut off for it.
#[test]
fn a_long_handler_takes_nobodys_time() {
    let _watchdog = watchdog(60);
    let mut limits = Limits::default();
    // With so much time left for the rest of a hello that even a busy machine sends it.
    limits.listener.connection.hello_timeout = Duration::from_secs(2);
    let (began, begun) = std::sync::mpsc::channel();
    let mut server = Server::builder(()).limits(limits).build().expect("a server");
    server.on(1, move |(), _request, _reply| {
        let _ = began.send(());
        thread::sleep(Duration::from_millis(2500));
        Ok(())
    });
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let slow = client(&bound[0]);
    thread::scope(|scope| {
        let call = scope.spawn(|| slow.call(1, b"").expect("call"));
        begun.recv().expect("the handler runs");
        let stranger = Raw::connect(&bound[0]);
        let hello = util::hello(1, 1);
        stranger.send(&hello[..20]);
        call.join().expect("a thread");
        // Then its first half has been read.
        slow.call(2, b"").expect_err("no such type");
        stranger.send(&hello[20..]);
        assert_eq!(stranger.receive(4), hello[..4], "it is answered");
    });
    drop(slow);
    running.stop().expect("the server ends well");
}

/// 4,000 pipelined calls of a 1 ms handler were worked off before anybody else was heard.
#[test]
fn slow_calls_of_one_client_delay_others_by_milliseconds() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    server.on(1, |(), _request, _reply| {
        thread::sleep(Duration::from_millis(1));
        Ok(())
    });
    let counters = server.counters();
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let (raw, other) = (Raw::connect(&bound[0]), client(&bound[0]));
    raw.shake_hands();
    raw.send(&(1..=4000).flat_map(|id| frame(1, 1, id, 0, b"")).collect::<Vec<_>>());
    until("it is at work", || counters.requests() > 0);
    let before = counters.requests();
    other.call(1, b"").expect("call");
    let done = counters.requests() - before;
    // A few, and not nearly all, however late a busy machine lets the other one ask.
    assert!(done < 2000, "{done} of 4000 were worked off first");
    drop((raw, other));
    running.remote().stop_within(Duration::ZERO).expect("stop");
    running.stop().expect("the server ends well");
}

/// A line that was too long before its end had come, behind others that had used up the turn, was not
/// looked at before more came: its client waited for the end.
#[test]
fn an_unfinished_line_too_long_behind_a_full_turn_ends_its_stream() {
    struct Silent;
    impl StreamHandler<()> for Silent {
        fn data(&mut self, (): &mut (), _session: &mut Session<'_>, _line: &[u8]) {}
    }

    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut limits = Limits::default();
        limits.turn_frames = 1;
        let mut server = Server::builder(()).limits(limits).build().expect("a server");
        let bound = server.listen_lines(usual(&endpoint), 10, Silent).expect("listen");
        let running = server.spawn().expect("spawn");
        let raw = Raw::connect(&bound);
        raw.send(b"ok\n01234567890");
        raw.expect_end();
        drop(raw);
        running.stop().expect("the server ends well");
    }
}

/// A client for tasks that waited sent what it answers on the spot, to pings and to calls that it has no handler for, only
/// when it next had something else to send: its server heard nothing.
#[cfg(feature = "tokio")]
#[test]
fn a_task_that_waits_answers_pings_and_what_nobody_handles() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    let remote = server.remote().expect("a remote");
    let peer = remote.clone();
    server.on(1, move |(), request, reply| {
        let (client, responder) = (peer.peer(request.connection().expect("a stream")), reply.defer()?);
        Ok(client.call(9, "", PATIENCE, |(), answer| match answer {
            Ok(answer) => responder.finish(answer.result_code(), ""),
            Err(error) => responder.fail(error),
        })?)
    });
    server.on(2, move |(), request, reply| {
        let (client, responder) = (remote.peer(request.connection().expect("a stream")), reply.defer()?);
        Ok(client.ping(PATIENCE, |(), answer| match answer {
            Ok(_) => responder.reply("it lives"),
            Err(error) => responder.fail(error),
        })?)
    });
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let told = runtime.expect("a runtime").block_on(async {
        let client = sidewire::tokio::Client::connect(&bound[0]).await.expect("connect");
        let nobody = client.request(1).exchange("").await.expect("an answer");
        (nobody.result_code(), client.call(2, "").await.expect("an answer").into_payload())
    });
    assert_eq!(told, (ResultCode::NO_HANDLER, b"it lives".to_vec()));
    running.stop().expect("the server ends well");
}
