//! Servers that ask their clients, and clients that answer: on calling threads, on readers, later.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Connect, ConnectionId, Error, Executed, Failure, PeerHandle, ResultCode, Running, Server};
use sidewire_platform::Endpoint;

use crate::util::{Dialect, all_streams, connect, frame, fresh, start, until, usual, watchdog};

/// Tells the test which connection asks.
const HERE: u16 = 1;
/// Takes its time.
const SLOW: u16 = 2;
/// What clients serve.
const WHO: u16 = 5;

type State = Vec<String>;

/// A server whose clients are asked, and how to reach them.
struct Stage {
    running: Running<State>,
    endpoint: Endpoint,
    came: mpsc::Receiver<Option<ConnectionId>>,
}

/// An answer that owns what it says.
type Told = Result<(i32, Vec<u8>), Error>;

impl Stage {
    fn new(endpoint: &Endpoint) -> Stage {
        let mut server = Server::new(State::new());
        let (tell, came) = mpsc::channel();
        server.on(HERE, move |_, request, _| {
            tell.send(request.connection()).map_err(Failure::other)?;
            Ok(())
        });
        server.on(SLOW, |_, _, _| {
            thread::sleep(Duration::from_millis(300));
            Ok(())
        });
        let (running, bound) = start(server, [usual(endpoint)]);
        Stage { running, endpoint: bound[0].clone(), came }
    }

    fn local() -> Stage {
        Stage::new(&fresh("local"))
    }

    fn client(&self) -> Connect {
        connect(&self.endpoint)
    }

    /// The connection of whoever has called [`HERE`].
    fn peer(&self) -> PeerHandle<State> {
        let id = self.came.recv().expect("a request").expect("a stream");
        self.running.remote().peer(id)
    }
}

/// Asks, and waits for what the closure is told.
fn ask(peer: &PeerHandle<State>, msg_type: u16, payload: &[u8], timeout: Option<Duration>) -> Told {
    let (tell, told) = mpsc::channel();
    let asked = peer.call(msg_type, payload, timeout, move |state: &mut State, answer| {
        let answer = answer.map(|answer| (answer.result_code().code(), answer.payload().to_vec()));
        state.push(format!("{msg_type}"));
        tell.send(answer).expect("somebody waits");
    });
    asked.expect("room");
    told.recv().expect("exactly one outcome")
}

const LONG: Option<Duration> = Some(Duration::from_secs(300));

#[test]
fn a_server_asks_who_only_listens_on_every_transport() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let stage = Stage::new(&endpoint);
        let client = stage.client().on(WHO, |request, reply| {
            reply.write(b"heard ");
            reply.write(request.payload());
            assert_eq!(
                (request.msg_type(), request.is_notify(), request.is_cancelled()),
                (WHO, false, false)
            );
            Ok(())
        });
        let client = client.open().expect("connect");
        client.call(HERE, b"").expect("call");
        let peer = stage.peer();
        client.spawn_reader().expect("a reader");
        for number in 0..20 {
            let text = format!("{number}");
            let answer = ask(&peer, WHO, text.as_bytes(), LONG).expect("an answer");
            assert_eq!(answer, (0, format!("heard {number}").into_bytes()));
        }
        let large = vec![7; 3 << 20];
        let (_, answer) = ask(&peer, WHO, &large, LONG).expect("an answer");
        assert!(answer.len() == large.len() + 6 && answer.ends_with(&large));
        drop(client);
        let state = stage.running.stop().expect("the server ends well");
        assert_eq!(state.len(), 21, "each closure runs once, with the state");
    }
}

#[test]
fn handlers_fail_in_several_ways() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let client = stage.client();
    let client = client.on(10, |_, reply| {
        reply.write(b"kept");
        reply.set_result(ResultCode::new(7));
        Ok(())
    });
    let client = client.on(11, |_, reply| {
        reply.write(b"not sent");
        Err(Failure::new(8, "a reason"))
    });
    let client = client.on(12, |_, _| panic!("on purpose"));
    let client = client.on(13, |_, reply| {
        drop(reply.defer()?);
        assert!(reply.defer().is_err());
        Ok(())
    });
    let client = client.on(14, |_, reply| {
        reply.write(vec![0; 17 << 20]);
        Ok(())
    });
    let client = client.open().expect("connect");
    client.call(HERE, b"").expect("call");
    client.spawn_reader().expect("a reader");
    let peer = stage.peer();
    for (msg_type, rc, text) in [
        (10, 7, "kept"),
        (11, 8, "a reason"),
        (12, -10, "the handler panicked"),
        (13, -10, "it was left unanswered"),
        (14, -3, "bytes that the caller takes"),
        (15, -2, "this client has no handler for type 15"),
    ] {
        let (code, payload) = ask(&peer, msg_type, b"", LONG).expect("an answer");
        let payload = String::from_utf8(payload).expect("a text");
        assert!(code == rc && payload.contains(text), "type {msg_type}: {code} {payload}");
    }
}

/// PROTOCOL K12
#[test]
fn who_has_no_handlers_says_so_and_skips_notifies() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let client = stage.client().open().expect("connect");
    client.call(HERE, b"").expect("call");
    let peer = stage.peer();
    peer.notify(WHO, b"skipped").expect("room");
    client.spawn_reader().expect("a reader");
    assert_eq!(ask(&peer, WHO, b"", LONG).expect("an answer").0, -2);
    assert_eq!(client.call(SLOW, b"").expect("call").payload(), b"");
}

#[test]
fn a_thread_that_waits_for_a_call_handles_what_comes() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let own = thread::current().id();
    let client = stage.client().on(WHO, move |_, reply| {
        assert_eq!(thread::current().id(), own);
        reply.write(b"in between");
        Ok(())
    });
    let client = client.open().expect("connect");
    client.call(HERE, b"").expect("call");
    let peer = stage.peer();
    let asking = thread::spawn(move || ask(&peer, WHO, b"", LONG));
    until("it was asked", || {
        client.call(SLOW, b"").expect("call");
        asking.is_finished()
    });
    assert_eq!(asking.join().expect("it does not panic").expect("an answer"), (0, b"in between".to_vec()));
}

#[test]
fn answers_come_later_and_from_anywhere() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let (keep, kept) = mpsc::channel();
    let client = stage.client().on(WHO, move |_, reply| {
        keep.send(reply.defer()?).map_err(Failure::other)?;
        Ok(())
    });
    let client = client.open().expect("connect");
    client.call(HERE, b"").expect("call");
    client.spawn_reader().expect("a reader");
    let peer = stage.peer();
    let asking: Vec<_> =
        (0..3).map(|_| peer.clone()).map(|peer| thread::spawn(move || ask(&peer, WHO, b"", LONG))).collect();
    let responders: Vec<_> = (0..3).map(|_| kept.recv().expect("a responder")).collect();
    assert!(responders.iter().all(|responder| !responder.is_cancelled()));
    for (responder, rc) in responders.into_iter().zip([0, 7, -6]) {
        match rc {
            0 => responder.reply(b"done"),
            7 => responder.finish(7, b"done"),
            _ => responder.fail(Failure::new(ResultCode::BUSY, "done")),
        }
    }
    let mut codes: Vec<_> =
        asking.into_iter().map(|asking| asking.join().expect("no panic").expect("an answer").0).collect();
    codes.sort_unstable();
    assert_eq!(codes, [-6, 0, 7]);

    // One whose caller has given up is told, and its answer goes nowhere.
    match ask(&peer, WHO, b"", Some(Duration::from_millis(50))) {
        Ok((rc, _)) => assert_eq!(rc, -7, "the client keeps its time, too"),
        Err(error) => assert!(error.is_timeout() && error.executed() == Executed::Perhaps, "{error}"),
    }
    let responder = kept.recv().expect("a responder");
    until("it hears of it", || responder.is_cancelled());
    responder.reply(b"too late");
    // So does one behind the end.
    let asking = thread::spawn(move || ask(&peer, WHO, b"", LONG));
    let responder = kept.recv().expect("a responder");
    drop(client);
    let error = asking.join().expect("no panic").expect_err("it has gone");
    assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
    assert!(responder.is_cancelled());
    responder.reply(b"too late");
}

#[test]
fn a_call_ends_in_time_and_with_its_connection() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let client = stage.client().on(WHO, |_, _| Ok(())).open().expect("connect");
    client.call(HERE, b"").expect("call");
    let peer = stage.peer();
    // Nobody reads there.
    let begun = Instant::now();
    let error = ask(&peer, WHO, b"", Some(Duration::from_millis(100))).expect_err("no answer");
    assert!(error.is_timeout() && begun.elapsed() >= Duration::from_millis(100), "{error}");
    assert!(error.to_string().contains("type 5"), "{error}");
    let error = ask(&peer, WHO, &vec![0; 17 << 20], LONG).expect_err("too much");
    assert!(error.is_invalid_input() && error.executed() == Executed::Never, "{error}");
    let (tell, told) = mpsc::channel();
    let asked = peer.call(WHO, b"", None, move |_, answer| tell.send(answer.err()).expect("somebody waits"));
    asked.expect("room");
    let (tell, sent) = mpsc::channel();
    stage.running.remote().with(move |_| tell.send(()).expect("somebody waits")).expect("room");
    sent.recv().expect("it is sent");
    client.close();
    let error = told.recv().expect("exactly one outcome").expect("it has gone");
    // It has read nothing of it, and says so.
    assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");
    let error = ask(&peer, WHO, b"", LONG).expect_err("it has gone");
    assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");

    let (tell, told) = mpsc::channel();
    let other = stage.client().open().expect("connect");
    other.call(HERE, b"").expect("call");
    let peer = stage.peer();
    peer.call(WHO, b"", None, move |_, answer| tell.send(answer.is_err()).expect("somebody waits"))
        .expect("room");
    let state = stage.running.stop().expect("the server ends well");
    assert!(told.recv().expect("exactly one outcome"), "{state:?}");
    let stopped = peer.call(WHO, b"", None, |_, _| {}).expect_err("nobody is there");
    assert!(stopped.is_stopped(), "{stopped}");
}

#[test]
fn who_speaks_classic_can_t_be_asked() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let client = stage.client().classic().open().expect("connect");
    client.call(HERE, b"").expect("call");
    let error = ask(&stage.peer(), WHO, b"", LONG).expect_err("classic");
    assert!(error.is_invalid_input(), "{error}");
    assert!(client.spawn_reader().expect_err("nothing would come").is_invalid_input());
    let error = stage.client().classic().on(WHO, |_, _| Ok(())).open().expect_err("nobody asks");
    assert!(error.is_invalid_input(), "{error}");
}

#[test]
fn notifies_reach_their_handlers_in_order_and_what_is_too_much_is_dropped() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let mut limits = sidewire::ConnectionLimits::default();
    limits.max_in_flight = 10;
    let client = stage.client().limits(limits).on(WHO, move |request, reply| {
        assert!(request.is_notify() && request.is_cancelled());
        reply.write(b"nowhere");
        list.lock().expect("nobody panics").push(request.payload()[0]);
        Err(Failure::other("nowhere, too"))
    });
    let client = client.open().expect("connect");
    client.call(HERE, b"").expect("call");
    let peer = stage.peer();
    for number in 0..20 {
        peer.notify(WHO, [number]).expect("room");
    }
    // All have come before its answer; more is kept only if they came in pieces.
    client.call(SLOW, b"").expect("call");
    client.spawn_reader().expect("a reader");
    until("all that were kept are heard", || heard.lock().expect("nobody panics").len() >= 10);
    client.call(SLOW, b"").expect("call");
    let heard = heard.lock().expect("nobody panics");
    assert!(
        heard.is_sorted()
            && (10..=20).contains(&heard.len())
            && heard[..10] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
}

#[test]
fn handlers_that_wait_lie_sixteen_deep_on_one_thread_and_the_next_one_waits() {
    const KEEP: u16 = 3;
    const ASKED: usize = 20;
    let _watchdog = watchdog(60);
    let (keep, kept) = mpsc::channel();
    let (tell, came) = mpsc::channel();
    let mut server = Server::new(State::new());
    server.on(KEEP, move |_, request, reply| {
        tell.send(request.connection()).map_err(Failure::other)?;
        keep.send(reply.defer()?).map_err(Failure::other)?;
        Ok(())
    });
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let depth = Arc::new(AtomicUsize::new(0));
    let client = connect(&bound[0]).on(WHO, {
        let depth = Arc::clone(&depth);
        move |request, _| {
            depth.fetch_add(1, Ordering::SeqCst);
            request.call(KEEP, b"").map_err(Failure::other)?;
            Ok(())
        }
    });
    let client = client.open().expect("connect");
    let calling = thread::spawn(move || client.call(KEEP, b"").map(drop));
    let peer = running.remote().peer(came.recv().expect("a call").expect("a stream"));
    let (tell, told) = mpsc::channel();
    for _ in 0..ASKED {
        let tell = tell.clone();
        peer.call(WHO, b"", LONG, move |_, answer| tell.send(answer.is_ok()).expect("somebody waits"))
            .expect("room");
    }
    // Its own call, and one for each handler that waits.
    let mut responders: Vec<_> = (0..=16).map(|_| kept.recv().expect("a call")).collect();
    assert!(kept.recv_timeout(Duration::from_millis(100)).is_err(), "the others wait");
    assert_eq!(depth.load(Ordering::SeqCst), 16);
    // The innermost goes on, and makes room for the next.
    let own = responders.remove(0);
    responders.into_iter().rev().for_each(|responder| responder.reply(b""));
    (16..ASKED).for_each(|_| kept.recv().expect("a call").reply(b""));
    (0..ASKED).for_each(|_| assert!(told.recv().expect("exactly one outcome")));
    own.reply(b"");
    calling.join().expect("no panic").expect("an answer");
    running.stop().expect("the server ends well");
}

#[test]
fn a_client_that_only_serves_runs_until_the_end() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let client = stage.client().on(WHO, |_, _| Ok(())).open().expect("connect");
    client.call(HERE, b"").expect("call");
    let peer = stage.peer();
    thread::scope(|scope| {
        let running = scope.spawn(|| client.run());
        assert_eq!(ask(&peer, WHO, b"", LONG).expect("an answer").0, 0);
        client.close();
        running.join().expect("no panic").expect("we have closed it");
    });
    let other = stage.client().open().expect("connect");
    let running = thread::spawn(move || other.run());
    stage.running.stop().expect("the server ends well");
    running.join().expect("no panic").expect("it said goodbye");
    client.run().expect("we have closed it long ago");
}

/// Goodbye comes behind what was accepted, and the client knows what it means.
#[test]
fn a_server_closes_one_connection() {
    let _watchdog = watchdog(60);
    let stage = Stage::local();
    let client = stage.client().open().expect("connect");
    let other = stage.client().open().expect("connect");
    client.call(HERE, b"").expect("call");
    stage.peer().close().expect("room");
    let raw = Dialect::V1.raw(&stage.endpoint);
    raw.send(&frame(1, HERE, 1, 0, b""));
    stage.peer().close().expect("room");
    let kinds = [raw.receive_frame(), raw.receive_frame()].map(|frame| (frame.kind, frame.id, frame.rc));
    assert_eq!(kinds, [(2, 1, 0), (12, 1, 0)]);
    raw.expect_end();
    until("it has gone", || client.call(SLOW, b"").is_err());
    let error = client.call(SLOW, b"").expect_err("closed");
    assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");
    other.call(SLOW, b"").expect("others stay");
}
