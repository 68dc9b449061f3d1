//! Clients in a loop that waits for something else, and is told that something has come.

use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use sidewire::{Client, Connect, Endpoint, Reconnect, Running, Server, WhenSlow};

use crate::util::{all_streams, connect, fresh, start, until, usual, watchdog};

const TOPIC: u16 = 1;
const LATER: u16 = 2;
const PARTS: u16 = 3;

fn server(at: &Endpoint) -> (Running<()>, Endpoint) {
    let mut server = Server::new(());
    server.topic(TOPIC, WhenSlow::KeepLatest);
    server.on(LATER, |(), _request, reply| {
        let responder = reply.defer()?;
        thread::spawn(move || responder.reply("later"));
        Ok(())
    });
    server.on(PARTS, |(), _request, reply| {
        let mut stream = reply.stream()?;
        thread::spawn(move || {
            for part in ["one", "two", "three"] {
                stream.send(part).expect("somebody wants it");
            }
            stream.finish(0, "");
        });
        Ok(())
    });
    let (running, bound) = start(server, [usual(at)]);
    (running, bound.into_iter().next().expect("an endpoint"))
}

/// A client with a reader, and what its loop waits for.
fn in_a_loop(connect: Connect) -> (Client, mpsc::Receiver<()>) {
    let (told, news) = mpsc::channel();
    let client = connect.on_arrival(move || told.send(()).unwrap_or_default()).open().expect("connect");
    client.spawn_reader().expect("a reader");
    (client, news)
}

/// No event stays behind, however many come while the loop is about something else.
#[test]
fn a_loop_that_waits_for_the_word_gets_all_events() {
    const COUNT: u32 = 500;
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = server(&endpoint);
        let (client, news) = in_a_loop(connect(&bound));
        let mut events = client.subscribe(TOPIC).expect("subscribe");
        let remote = running.remote();
        let publisher = thread::spawn(move || {
            for number in 1..=COUNT {
                until("there is room", || remote.publish(TOPIC, number.to_string()).is_ok());
            }
        });
        let mut last = String::new();
        while last != COUNT.to_string() {
            news.recv().expect("the client lives");
            while let Some(event) = events.next_timeout(Duration::ZERO).expect("an event") {
                last = String::from_utf8(event.into_payload()).expect("a number");
            }
        }
        publisher.join().expect("no panic");
        drop((events, client));
        running.stop().expect("the server ends well");
    }
}

#[test]
fn replies_and_their_parts_are_told_of() {
    let _watchdog = watchdog(60);
    let (running, bound) = server(&fresh("local"));
    let (client, news) = in_a_loop(connect(&bound));
    for _ in 0..20 {
        let mut call = client.start(LATER, "").expect("start");
        let reply = loop {
            if let Some(reply) = call.poll() {
                break reply.expect("a reply");
            }
            news.recv().expect("the client lives");
        };
        assert_eq!(reply.payload(), b"later");
    }
    let (mut parts, mut seen) = (client.stream(PARTS, "").expect("start"), Vec::new());
    loop {
        match parts.poll() {
            Poll::Pending => news.recv().expect("the client lives"),
            Poll::Ready(Some(part)) => seen.push(part.expect("a part")),
            Poll::Ready(None) => break,
        }
    }
    assert_eq!(seen, [&b"one"[..], b"two", b"three"]);
    assert!(parts.response().is_some());
    drop((parts, client));
    running.stop().expect("the server ends well");
}

/// Who waits himself needs no word.
#[test]
fn replies_that_somebody_waits_for_are_not_told_of() {
    let _watchdog = watchdog(60);
    let (running, bound) = server(&fresh("local"));
    let (client, news) = in_a_loop(connect(&bound));
    for _ in 0..50 {
        assert_eq!(client.call(LATER, "").expect("a reply").payload(), b"later");
    }
    assert_eq!(news.try_recv(), Err(mpsc::TryRecvError::Empty));
    drop(client);
    running.stop().expect("the server ends well");
}

#[test]
fn the_end_is_told_of() {
    let _watchdog = watchdog(60);
    let (running, bound) = server(&fresh("local"));
    let (client, news) = in_a_loop(connect(&bound));
    let mut events = client.subscribe(TOPIC).expect("subscribe");
    running.stop().expect("the server ends well");
    let error = loop {
        match events.next_timeout(Duration::ZERO) {
            Ok(_) => news.recv().expect("the client lives"),
            Err(error) => break error,
        }
    };
    assert!(error.is_peer_gone(), "{error}");
}

/// So is the next connection, over which subscriptions are renewed by whoever asks.
#[test]
fn the_next_connection_is_told_of() {
    let _watchdog = watchdog(60);
    let (running, bound) = server(&fresh("local"));
    let reconnect =
        Reconnect::new().pauses(Duration::from_millis(10), Duration::from_millis(50)).attempts(10_000);
    let (client, news) = in_a_loop(connect(&bound).reconnect(reconnect));
    let mut events = client.subscribe(TOPIC).expect("subscribe");
    running.stop().expect("the server ends well");
    let (running, _) = server(&bound);
    let remote = running.remote();
    let (done, is_done) = mpsc::channel::<()>();
    let publisher = thread::spawn(move || {
        while is_done.try_recv() == Err(mpsc::TryRecvError::Empty) {
            remote.publish(TOPIC, "anew").expect("room");
            thread::sleep(Duration::from_millis(5));
        }
    });
    let event = loop {
        match events.next_timeout(Duration::ZERO).expect("an event") {
            None => news.recv().expect("the client lives"),
            Some(event) => break event,
        }
    };
    assert!(event.renewal().is_some() && event.payload() == b"anew");
    drop(done);
    publisher.join().expect("no panic");
    drop((events, client));
    running.stop().expect("the server ends well");
}
