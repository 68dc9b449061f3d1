//! Clients that connect anew, and what is told of a client's end.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{
    Client, Connect, Endpoint, Error, Events, Executed, Reconnect, Reconnected, RefusedBy, Renewal,
    ResultCode, Server, wait_any,
};

use crate::util::fake::{answer, send, take_hello, take_request, wait_for_the_end};
use crate::util::{
    Dialect, PATIENCE, all_streams, connect, frame, fresh, start, store, until, usual, watchdog,
};

const CHANGED: u16 = 1;
const SET: u16 = 2;
const ECHO: u16 = 4;
const REPLY: u8 = 2;
/// More than any machine takes for what happens at once.
const AT_ONCE: Duration = Duration::from_secs(60);

/// With pauses that a test can wait for.
fn quick() -> Reconnect {
    Reconnect::new().pauses(Duration::from_millis(5), Duration::from_millis(50))
}

type Script = Box<dyn FnOnce(&mut TcpStream) + Send>;

/// A server that follows a script for each of its connections, one after the other.
fn scripted(scripts: Vec<Script>) -> (Endpoint, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("its address").port();
    let thread = thread::spawn(move || {
        for script in scripts {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
            script(&mut stream);
        }
    });
    (Endpoint::Tcp { host: "127.0.0.1".into(), port }, thread)
}

/// A connection in such a script that shakes hands first.
fn v1(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> Script {
    Box::new(|stream| {
        take_hello(stream);
        send(stream, &answer(0, 1, 1));
        script(stream);
    })
}

/// Takes a request and ends.
fn takes_one(stream: &mut TcpStream) {
    assert_ne!(take_request(stream), 0);
}

/// Answers so many requests and waits for the client's end.
fn answers(count: u32) -> impl FnOnce(&mut TcpStream) + Send + 'static {
    move |stream| {
        for _ in 0..count {
            let id = take_request(stream);
            send(stream, &frame(REPLY, ECHO, id, 0, b"answer"));
        }
        wait_for_the_end(stream);
    }
}

/// A client's end, as it is told.
fn telling(connect: Connect) -> (Connect, mpsc::Receiver<Error>) {
    let (told, ends) = mpsc::channel();
    (connect.on_closed(move |why| told.send(why.clone()).expect("the test waits")), ends)
}

#[test]
fn the_next_call_finds_the_next_server() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        for dialect in Dialect::ALL {
            let (running, bound) = start(store(), [dialect.listen(usual(&endpoint))]);
            let (told, reconnected) = mpsc::channel::<Reconnected>();
            let reconnect = quick().on_reconnected(move |it| told.send(it.clone()).expect("the test waits"));
            let client = dialect.connect(&bound[0]).reconnect(reconnect).open().expect("connect");
            for round in 0..3_u32 {
                let payload = round.to_le_bytes();
                assert_eq!(client.call(ECHO, payload).expect("a reply").payload(), payload);
            }
            running.stop().expect("the server ends well");
            let (running, _) = start(store(), [dialect.listen(usual(&bound[0]))]);
            assert!(reconnected.try_recv().is_err(), "nobody has asked yet");
            // It need not be safe: nothing of it had left.
            assert_eq!(
                client.call(ECHO, b"again").expect("a reply").payload(),
                b"again",
                "{endpoint} {dialect:?}"
            );
            let told = reconnected.try_recv().expect("whoever called was told");
            assert!(told.is_restarted() && told.reason().is_peer_gone(), "{told:?}");
            assert_eq!(told.attempts(), 1);
            assert_eq!(client.call(ECHO, b"more").expect("a reply").payload(), b"more");
            assert!(reconnected.try_recv().is_err() && !client.is_closed());
            drop(client);
            running.stop().expect("the server ends well");
        }
    }
}

#[test]
fn only_what_is_safe_is_sent_again() {
    let _watchdog = watchdog(60);
    let (endpoint, server) = scripted(vec![v1(takes_one), v1(takes_one), v1(answers(1))]);
    let restarts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&restarts);
    let reconnect = quick().on_reconnected(move |it| {
        counted.fetch_add(u32::from(it.is_restarted()), Ordering::Relaxed);
    });
    let client = connect(&endpoint).reconnect(reconnect).open().expect("connect");
    let error = client.call(ECHO, b"x").expect_err("the server took it and went");
    assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
    let reply = client.request(ECHO).idempotent().send(b"x").expect("the third has answered");
    assert_eq!(reply.payload(), b"answer");
    assert_eq!(restarts.load(Ordering::Relaxed), 0, "it always gives the same instance id");
    drop(client);
    server.join().expect("the server");
}

/// PROTOCOL E10
#[test]
fn what_the_server_says_it_has_not_executed_is_sent_again() {
    let _watchdog = watchdog(60);
    const GOODBYE: u8 = 12;
    let leaves = |stream: &mut TcpStream| {
        let last = take_request(stream);
        send(stream, &frame(GOODBYE, 0, last - 1, ResultCode::SHUTTING_DOWN.code(), b""));
        wait_for_the_end(stream);
    };
    let (endpoint, server) = scripted(vec![v1(leaves), v1(leaves), v1(answers(1))]);
    let client = connect(&endpoint).reconnect(quick()).open().expect("connect");
    assert_eq!(client.call(ECHO, b"x").expect("the third has answered").payload(), b"answer");
    drop(client);
    server.join().expect("the server");
    // Without that it is reported.
    let (endpoint, server) = scripted(vec![v1(leaves)]);
    let client = connect(&endpoint).open().expect("connect");
    let error = client.call(ECHO, b"x").expect_err("it has left");
    assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");
    drop(client);
    server.join().expect("the server");
}

#[test]
fn of_started_calls_only_what_is_safe_goes_on() {
    let _watchdog = watchdog(60);
    let takes_three = |stream: &mut TcpStream| {
        for _ in 0..3 {
            take_request(stream);
        }
    };
    let (endpoint, server) = scripted(vec![v1(takes_three), v1(answers(2))]);
    let client = connect(&endpoint).reconnect(quick()).open().expect("connect");
    let plain = client.start(ECHO, b"1").expect("start");
    let safe = client.request(ECHO).idempotent().start(b"2").expect("start");
    let mut others = vec![client.request(ECHO).idempotent().start(b"3").expect("start")];
    let error = plain.wait().expect_err("the server took it and went");
    assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
    assert_eq!(wait_any(&mut others, AT_ONCE).expect("one of them"), 0);
    assert_eq!(others.remove(0).wait().expect("its reply").payload(), b"answer");
    assert_eq!(safe.wait().expect("its reply").payload(), b"answer");
    drop(client);
    server.join().expect("the server");
}

/// Polling connects to nobody, but finds the connection that others have made.
#[test]
fn a_call_that_is_polled_goes_on_when_others_connect() {
    let _watchdog = watchdog(60);
    let (endpoint, server) = scripted(vec![v1(takes_one), v1(answers(2))]);
    let client = connect(&endpoint).reconnect(quick()).open().expect("connect");
    let mut safe = client.request(ECHO).idempotent().start(b"x").expect("start");
    client.flush().expect("it leaves");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(100) {
        assert!(safe.poll().is_none(), "nobody has connected");
    }
    assert_eq!(client.call(ECHO, b"y").expect("a reply").payload(), b"answer");
    until("it has its reply", || {
        safe.poll().is_some_and(|result| result.expect("a reply").payload() == b"answer")
    });
    drop(client);
    server.join().expect("the server");
}

#[test]
fn one_that_finds_nobody_gives_up_and_says_so_once() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let (connect, ends) = telling(connect(&bound[0]));
        let client = connect.reconnect(quick().attempts(4)).open().expect("connect");
        client.call(ECHO, b"x").expect("a reply");
        running.stop().expect("the server ends well");
        let begun = Instant::now();
        let error = client.call(ECHO, b"x").expect_err("nobody is there");
        assert!(error.is_not_listening() && error.executed() == Executed::Never, "{error}");
        for words in ["call ", "(type 4)", "after 4 attempts", "the peer has gone", "it was not executed"] {
            assert!(error.to_string().contains(words), "no '{words}' in: {error}");
        }
        // Three pauses, half of each at least.
        assert!(begun.elapsed() >= Duration::from_micros(17_500), "{:?}", begun.elapsed());
        let again = client.call(ECHO, b"x").expect_err("it has given up");
        assert!(again.is_not_listening() && client.is_closed(), "{again}");
        assert!(ends.try_recv().expect("it was told").is_not_listening());
        client.close();
        assert!(ends.try_recv().is_err(), "once");
    }
}

#[test]
fn a_call_waits_no_longer_than_its_own_time() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("local");
    let (running, bound) = start(store(), [usual(&endpoint)]);
    let (connect, ends) = telling(connect(&bound[0]));
    let client = connect.reconnect(quick().attempts(u32::MAX).within(Duration::MAX)).open().expect("connect");
    client.call(ECHO, b"x").expect("a reply");
    running.stop().expect("the server ends well");
    // A busy machine may find nobody only with more time.
    let found_nobody = (0..5).any(|doubled| {
        let (limit, begun) = (Duration::from_millis(150 << doubled), Instant::now());
        let error = client.request(ECHO).timeout(limit).send(b"x").expect_err("nobody");
        assert!(error.is_timeout() && error.executed() == Executed::Never, "{error}");
        assert!((limit..AT_ONCE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        error.to_string().contains("nobody listens there")
    });
    assert!(found_nobody, "the reason is not told");
    assert!(!client.is_closed() && ends.try_recv().is_err());
    let (running, _) = start(store(), [usual(&bound[0])]);
    assert_eq!(client.call(ECHO, b"back").expect("a reply").payload(), b"back");
    drop(client);
    running.stop().expect("the server ends well");
    assert!(ends.try_recv().is_err(), "nobody is told that it was dropped");
}

#[test]
fn many_threads_make_one_connection() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let times = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&times);
        let reconnect = quick().attempts(1000).on_reconnected(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let client = connect(&bound[0]).reconnect(reconnect).open().expect("connect");
        running.stop().expect("the server ends well");
        let running = thread::scope(|scope| {
            for number in 0..16_u32 {
                let client = &client;
                scope.spawn(move || {
                    let payload = number.to_le_bytes();
                    assert_eq!(client.call(ECHO, payload).expect("a reply").payload(), payload);
                });
            }
            thread::sleep(Duration::from_millis(50));
            start(store(), [usual(&bound[0])]).0
        });
        assert_eq!(times.load(Ordering::Relaxed), 1);
        drop(client);
        running.stop().expect("the server ends well");
    }
}

#[test]
fn one_that_is_refused_gives_up_at_once() {
    let _watchdog = watchdog(60);
    let refuses = Box::new(|stream: &mut TcpStream| {
        take_hello(stream);
        send(stream, &answer(ResultCode::NOT_PERMITTED.code(), 1, 1));
    });
    let (endpoint, server) = scripted(vec![v1(|_| {}), refuses]);
    let (connect, ends) = telling(connect(&endpoint));
    let client = connect.reconnect(quick().attempts(u32::MAX)).open().expect("connect");
    let error = client.request(ECHO).idempotent().send(b"x").expect_err("refused");
    assert_eq!(error.refused_by(), Some(RefusedBy::Server(ResultCode::NOT_PERMITTED)), "{error}");
    assert!(error.to_string().contains("after 1 attempt;"), "{error}");
    assert_eq!(ends.try_recv().expect("it was told").refused_by(), error.refused_by());
    assert!(client.is_closed());
    server.join().expect("the server");
}

/// One that has no room now may have some later.
#[test]
fn one_that_is_busy_is_asked_again() {
    let _watchdog = watchdog(60);
    let is_busy = Box::new(|stream: &mut TcpStream| {
        take_hello(stream);
        send(stream, &answer(ResultCode::BUSY.code(), 1, 1));
    });
    let (endpoint, server) = scripted(vec![v1(|_| {}), is_busy, v1(answers(1))]);
    let client = connect(&endpoint).reconnect(quick()).open().expect("connect");
    assert_eq!(client.request(ECHO).idempotent().send(b"x").expect("a reply").payload(), b"answer");
    drop(client);
    server.join().expect("the server");
}

/// A server that takes everything and ends is asked as often as one that is not there.
#[test]
fn a_server_that_ends_again_and_again_is_given_up() {
    let _watchdog = watchdog(60);
    const ATTEMPTS: u32 = 5;
    let scripts = (0..=ATTEMPTS).map(|_| v1(takes_one)).collect();
    let (endpoint, server) = scripted(scripts);
    // A connection that lasts longer than the longest pause is a new beginning.
    let reconnect = quick().pauses(Duration::from_millis(5), PATIENCE).attempts(ATTEMPTS);
    let client = connect(&endpoint).reconnect(reconnect).open().expect("connect");
    let error = client.request(ECHO).idempotent().send(b"x").expect_err("it never answers");
    assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
    assert!(client.is_closed());
    server.join().expect("the server");
}

#[test]
fn closing_ends_a_call_that_looks_for_a_server() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let (connect, ends) = telling(connect(&bound[0]));
    let reconnect = Reconnect::new().pauses(Duration::from_secs(30), Duration::from_secs(30));
    let client = connect.reconnect(reconnect).open().expect("connect");
    running.stop().expect("the server ends well");
    thread::scope(|scope| {
        let call = scope.spawn(|| client.request(ECHO).timeout(None).send(b"x"));
        thread::sleep(Duration::from_millis(100));
        assert!(!call.is_finished(), "it waits");
        let begun = Instant::now();
        client.close();
        let error = call.join().expect("a thread").expect_err("closed");
        assert!(error.is_closed() && error.executed() == Executed::Never, "{error}");
        assert!(begun.elapsed() < AT_ONCE);
    });
    assert!(ends.try_recv().expect("it was told").is_closed() && ends.try_recv().is_err());
}

/// One that hangs in the middle of saying hello.
#[test]
fn closing_ends_an_attempt_that_hangs() {
    let _watchdog = watchdog(60);
    let (came, has_come) = mpsc::channel();
    let hangs = Box::new(move |stream: &mut TcpStream| {
        came.send(()).expect("the test waits");
        wait_for_the_end(stream);
    });
    let (endpoint, server) = scripted(vec![v1(|_| {}), hangs]);
    let client = connect(&endpoint).timeout(None).reconnect(quick()).open().expect("connect");
    thread::scope(|scope| {
        let call = scope.spawn(|| client.request(ECHO).idempotent().timeout(None).send(b"x"));
        has_come.recv_timeout(PATIENCE).expect("it tries");
        client.close();
        assert!(call.join().expect("a thread").expect_err("closed").is_closed());
    });
    drop(client);
    server.join().expect("the server");
}

#[test]
fn a_reader_connects_anew_by_itself() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let (told, reconnected) = mpsc::channel();
        let reconnect =
            quick().attempts(1000).on_reconnected(move |_| told.send(()).expect("the test waits"));
        let client = connect(&bound[0]).reconnect(reconnect).open().expect("connect");
        client.spawn_reader().expect("a thread");
        running.stop().expect("the server ends well");
        let (running, _) = start(store(), [usual(&bound[0])]);
        reconnected.recv_timeout(PATIENCE).expect("nobody called");
        assert_eq!(client.call(ECHO, b"x").expect("a reply").payload(), b"x");
        drop(client);
        // The reader has gone, or this would be sent.
        assert!(reconnected.recv_timeout(Duration::from_millis(100)).is_err());
        running.stop().expect("the server ends well");
    }
}

#[test]
fn whoever_finds_the_end_tells_it_once() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        // By a call.
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let (by_call, ends) = telling(connect(&bound[0]));
        let client = by_call.open().expect("connect");
        client.call(ECHO, b"x").expect("a reply");
        let (by_look, looked) = telling(connect(&bound[0]));
        let other = by_look.open().expect("connect");
        let (by_reader, read) = telling(connect(&bound[0]));
        let third = by_reader.open().expect("connect");
        third.spawn_reader().expect("a thread");
        assert!(!client.is_closed() && !other.is_closed() && !third.is_closed());
        running.stop().expect("the server ends well");
        assert!(ends.try_recv().is_err(), "nobody has looked");
        let error = client.call(ECHO, b"x").expect_err("the server has gone");
        assert!(error.is_peer_gone(), "{error}");
        let told = ends.try_recv().expect("it was told");
        assert!(told.is_peer_gone() && told.endpoint() == Some(&bound[0]), "{told}");
        client.call(ECHO, b"x").expect_err("the server has gone");
        client.close();
        assert!(ends.try_recv().is_err(), "once");
        // By looking.
        until("it sees the end", || other.is_closed());
        assert!(looked.try_recv().expect("it was told").is_peer_gone());
        // By a thread that reads.
        assert!(read.recv_timeout(PATIENCE).expect("it is told").is_peer_gone());
        // By closing.
    }
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let (connect, ends) = telling(connect(&bound[0]));
    let client = connect.open().expect("connect");
    client.close();
    assert!(ends.try_recv().expect("it was told").is_closed() && client.is_closed());
    running.stop().expect("the server ends well");
}

/// Whoever is told may use the client.
#[test]
fn no_lock_is_held_while_somebody_is_told() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let (give, take) = mpsc::channel::<Arc<sidewire::Client>>();
    let take = std::sync::Mutex::new(take);
    let (told, ends) = mpsc::channel();
    let client = connect(&bound[0])
        .on_closed(move |_| {
            let client = take.lock().expect("nobody has panicked").recv().expect("the client");
            told.send(client.call(ECHO, b"x").is_err() && client.is_closed()).expect("the test waits");
        })
        .open()
        .expect("connect");
    let client = Arc::new(client);
    give.send(Arc::clone(&client)).expect("somebody takes it");
    running.stop().expect("the server ends well");
    client.call(ECHO, b"x").expect_err("the server has gone");
    assert!(ends.try_recv().expect("it was told"));
}

fn event(events: &mut Events) -> (u16, u32, Option<Renewal>, Vec<u8>) {
    let event = events.next_timeout(PATIENCE).expect("the client is good").expect("an event in time");
    (event.topic(), event.sequence(), event.renewal(), event.into_payload())
}

/// Whoever waits for events connects anew, and subscribes again.
#[test]
fn subscriptions_are_renewed() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let client = connect(&bound[0]).reconnect(quick().attempts(1000)).open().expect("connect");
        let mut events = client.subscribe(CHANGED).expect("a topic");
        client.call(SET, b"one").expect("set");
        client.call(SET, b"two").expect("set");
        assert_eq!(event(&mut events), (CHANGED, 1, None, b"one".to_vec()));
        // Reads the second along: what is left unread in a pipe is lost when its server closes it.
        client.call(ECHO, b"").expect("a reply");
        running.stop().expect("the server ends well");
        // What had come is there, and then nothing, for now.
        assert_eq!(event(&mut events), (CHANGED, 2, None, b"two".to_vec()));
        assert_eq!(events.next_timeout(Duration::from_millis(30)).expect("it goes on"), None);
        assert_eq!(events.next_timeout(Duration::ZERO).expect("it goes on"), None);
        let (running, _) = start(store(), [usual(&bound[0])]);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| event(&mut events));
            until("it has subscribed", || {
                client.call(SET, b"three").expect("set");
                thread::sleep(Duration::from_millis(10));
                waiting.is_finished()
            });
            let (topic, sequence, renewal, payload) = waiting.join().expect("an event");
            assert_eq!((topic, sequence, payload), (CHANGED, 1, b"three".to_vec()));
            assert_eq!(renewal, Some(Renewal::Restarted));
        });
        client.call(SET, b"four").expect("set");
        until("it is the next one", || {
            let (_, _, renewal, payload) = event(&mut events);
            assert_eq!(renewal, None, "only the first is told of it");
            payload == b"four"
        });
        drop((client, events));
        running.stop().expect("the server ends well");
    }
}

#[test]
fn a_subscription_ends_when_its_client_gives_up() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let (connect, ends) = telling(connect(&bound[0]));
    let client = connect.reconnect(quick().attempts(2)).open().expect("connect");
    let mut events = client.subscribe(CHANGED).expect("a topic");
    running.stop().expect("the server ends well");
    let error = events.next().expect("the reason").expect_err("nobody is there");
    assert!(error.is_not_listening(), "{error}");
    assert!(events.next().is_none() && ends.try_recv().expect("it was told").is_not_listening());
    // Without connecting anew it ends with the connection, and tells of it.
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let (once, ends) = telling(crate::util::connect(&bound[0]));
    let client = once.open().expect("connect");
    let mut events = client.subscribe(CHANGED).expect("a topic");
    running.stop().expect("the server ends well");
    assert!(events.next().expect("the reason").expect_err("the server has gone").is_peer_gone());
    assert!(events.next().is_none() && ends.try_recv().expect("it was told").is_peer_gone());
    drop(client);
}

/// The other server may not have it.
#[test]
fn a_topic_that_has_gone_ends_its_subscription() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let client = connect(&bound[0]).reconnect(quick().attempts(1000)).open().expect("connect");
    let mut events = client.subscribe(CHANGED).expect("a topic");
    running.stop().expect("the server ends well");
    let (running, _) = start(Server::builder(()).build().expect("a server"), [usual(&bound[0])]);
    let error = events.next().expect("the reason").expect_err("no topic");
    assert_eq!(error.result_code(), Some(ResultCode::NO_HANDLER), "{error}");
    assert!(events.next().is_none() && !client.is_closed());
    drop((client, events));
    running.stop().expect("the server ends well");
}

/// Also of an end that the next call finds.
#[test]
fn whoever_is_told_that_something_has_come_may_use_the_client() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let told = Arc::new(OnceLock::<Arc<Client>>::new());
    let (client, (sender, times)) = (Arc::clone(&told), mpsc::channel());
    let connect = connect(&bound[0]).reconnect(quick().attempts(1000)).on_arrival(move || {
        let _ = client.get().map(|client| client.is_closed());
        let _ = sender.send(());
    });
    let client = Arc::new(connect.open().expect("connect"));
    told.set(Arc::clone(&client)).expect("once");
    running.stop().expect("the server ends well");
    let (running, _) = start(store(), [usual(&bound[0])]);
    assert_eq!(client.call(ECHO, b"x").expect("a reply").payload(), b"x");
    times.try_recv().expect("it was told");
    client.close();
    running.stop().expect("the server ends well");
}
