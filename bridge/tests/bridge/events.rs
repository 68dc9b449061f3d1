//! Events.

use std::time::Duration;

use futures_util::StreamExt;
use sidewire::{Event, Events, Server, WhenSlow};

use crate::util::{Line, Nats, PATIENCE, client, start, until, watchdog};

const PUBLISH: u16 = 1;
const BURST: u16 = 2;
const NEWS: u16 = 50;
const OTHER: u16 = 51;
/// More than one turn of a task may do, and less than any queue takes.
const AT_ONCE: u32 = 1500;

fn server() -> Server<()> {
    let mut server = Server::new(());
    server.on(PUBLISH, |(), request, _reply| {
        request.publish(NEWS, request.payload())?;
        request.publish(OTHER, "other")
    });
    server.on(BURST, |(), request, _reply| {
        for n in 1..=AT_ONCE {
            request.publish(NEWS, n.to_string())?;
        }
        Ok(())
    });
    server.topic(NEWS, WhenSlow::DropNewest);
    server.topic(OTHER, WhenSlow::DropNewest);
    server
}

fn next(events: &mut Events) -> (u16, u32, u32, Vec<u8>) {
    let event: Event =
        events.next_timeout(PATIENCE).expect("the connection is good").expect("an event in time");
    (event.topic(), event.sequence(), event.dropped(), event.into_payload())
}

#[test]
fn events_reach_whoever_subscribes_anywhere() {
    let _watchdog = watchdog();
    let (line, _running) = Line::over(Nats::with("max_payload: 100000"), server(), &[]);
    let (_second, other) = line.nats.connect("other", &[]);
    let clients = [client(&line.far), client(&other)];
    let mut subscribed = clients.each_ref().map(|client| client.subscribe(NEWS).expect("a topic"));
    for n in 1..=50 {
        line.client.call(PUBLISH, n.to_string()).expect("an answer");
    }
    // One that the broker does not take is counted.
    line.client.call(PUBLISH, vec![0; 150_000]).expect_err("too large a request");
    let near = client(&line.near);
    near.call(PUBLISH, vec![0; 150_000]).expect("an answer");
    near.call(PUBLISH, vec![0; 150_000]).expect("an answer");
    near.call(PUBLISH, "51").expect("an answer");
    for events in &mut subscribed {
        for n in 1..=50 {
            assert_eq!(next(events), (NEWS, n, 0, n.to_string().into_bytes()));
        }
        assert_eq!(next(events), (NEWS, 51, 2, b"51".to_vec()));
    }
}

/// All that is published is either passed on or counted.
#[test]
fn what_is_published_while_the_broker_is_away_is_counted() {
    let _watchdog = watchdog();
    let (mut line, _running) = Line::to(server());
    let mut events = line.client.subscribe(NEWS).expect("a topic");
    let near = client(&line.near);
    let mut published = 0;
    let mut publish = || {
        published += 1;
        near.call(PUBLISH, published.to_string()).expect("an answer");
        published
    };
    publish();
    assert_eq!(next(&mut events), (NEWS, 1, 0, b"1".to_vec()));
    line.nats.kill();
    line.serve.line_with("the connection is lost");
    (0..3).for_each(|_| _ = publish());
    line.nats.start_again();
    line.serve.line_with("connected again");
    let mut event = None;
    until("an event comes again", || {
        publish();
        event = events.next_timeout(Duration::from_millis(200)).expect("the connection is good");
        event.is_some()
    });
    let event = event.expect("it came");
    let number: u32 = std::str::from_utf8(event.payload()).expect("a number").parse().expect("a number");
    assert!(number > 4 && event.dropped() == number - 2, "{number} behind {}", event.dropped());
}

/// Whoever has read that it is served may publish: that is heard.
#[test]
fn what_is_published_as_soon_as_it_is_served_comes() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    let publisher = client(&near);
    let stranger = nats.stranger();
    let mut heard = stranger.runtime.block_on(stranger.client.subscribe("sw.thing.ev.50")).expect("a topic");
    stranger.settle();
    let _serve = nats.serve(&near, &[]);
    publisher.call(PUBLISH, "at once").expect("an answer");
    let event = stranger.runtime.block_on(heard.next()).expect("an event");
    assert_eq!(event.payload, "at once");
}

/// No queue is full, and so none is dropped.
#[test]
fn many_events_at_once_come_all() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server());
    let mut events = line.client.subscribe(NEWS).expect("a topic");
    for burst in 0..10 {
        line.client.call(BURST, "").expect("an answer");
        for n in 1..=AT_ONCE {
            assert_eq!(next(&mut events), (NEWS, burst * AT_ONCE + n, 0, n.to_string().into_bytes()));
        }
    }
}

/// More than wait for the connecting bridge's server, and all of them in one go: it stands still while they come.
#[test]
fn more_events_than_the_server_takes_in_one_go_come_all() {
    const MANY: u32 = 6000;
    let _watchdog = watchdog();
    let nats = Nats::start();
    let (connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    let mut events = client.subscribe(NEWS).expect("a topic");
    let stranger = nats.stranger();
    connect.signal("-STOP");
    for n in 1..=MANY {
        let sent = stranger.client.publish("sw.thing.ev.50", n.to_string().into());
        stranger.runtime.block_on(sent).expect("it is sent");
    }
    stranger.settle();
    connect.signal("-CONT");
    for n in 1..=MANY {
        assert_eq!(next(&mut events), (NEWS, n, 0, n.to_string().into_bytes()));
    }
}

#[test]
fn what_was_lost_on_the_way_is_counted() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server());
    let mut events = line.client.subscribe(NEWS).expect("a topic");
    let stranger = line.nats.stranger();
    let publish = |number: &str, dropped: &str, payload: &str| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Sw-Instance", "somebody");
        headers.insert("Sw-Sequence", number);
        headers.insert("Sw-Dropped", dropped);
        let payload = payload.to_owned().into();
        let sent = stranger.client.publish_with_headers("sw.thing.ev.50", headers, payload);
        stranger.runtime.block_on(sent).expect("it is sent");
    };
    publish("7", "0", "first");
    publish("8", "1", "dropped there");
    publish("11", "0", "lost on the way");
    publish("no number", "0", "nonsense");
    publish("12", "0", "last");
    assert_eq!(next(&mut events), (NEWS, 1, 0, b"first".to_vec()));
    assert_eq!(next(&mut events), (NEWS, 2, 1, b"dropped there".to_vec()));
    assert_eq!(next(&mut events), (NEWS, 3, 2, b"lost on the way".to_vec()));
    assert_eq!(next(&mut events), (NEWS, 4, 0, b"last".to_vec()));
}
