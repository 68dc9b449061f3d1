//! Topics, events and who listens to them.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{
    Client, ConnectionLimits, Endpoint, Event, Events, Limits, Reconnect, ResultCode, Server, WhenSlow,
};
use sidewire_platform::raise_descriptor_limit;

use crate::util::{
    Dialect, Raw, client, connect, frame, fresh, on_every_stream, start, store, until, usual, watchdog,
};

const CHANGED: u16 = 1;
const SET: u16 = 2;
const SET_AND_GET: u16 = 3;
const ECHO: u16 = 4;
const SOON: Duration = Duration::from_secs(60);

/// Kinds of frames.
const EVENT: u8 = 4;
const SUBSCRIBE: u8 = 5;
const UNSUBSCRIBE: u8 = 6;

fn next(events: &mut Events) -> Event {
    events.next_timeout(SOON).expect("the connection is good").expect("an event in time")
}

fn told(event: &Event) -> (u16, u32, u32, String) {
    let text = String::from_utf8_lossy(event.payload()).into_owned();
    (event.topic(), event.sequence(), event.dropped(), text)
}

#[test]
fn subscribers_are_told_in_order() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let (one, other, publisher) = (client(endpoint), client(endpoint), client(endpoint));
            let mut listeners =
                [one.subscribe(CHANGED), other.subscribe(CHANGED)].map(|events| events.expect("a topic"));
            for number in 1..=20 {
                publisher.call(SET, format!("{number}")).expect("set");
            }
            publisher.call(SET_AND_GET, "21").expect("set");
            for events in &mut listeners {
                for number in 1..=21 {
                    assert_eq!(told(&next(events)), (CHANGED, number, 0, number.to_string()));
                }
                assert_eq!(events.next_timeout(Duration::ZERO).expect("good"), None);
            }
            // Who has unsubscribed goes on otherwise.
            let [events, mut left] = listeners;
            drop(events);
            one.call(ECHO, "still here").expect("a reply");
            publisher.call(SET, "22").expect("set");
            assert_eq!(told(&next(&mut left)), (CHANGED, 22, 0, "22".into()));
            let mut anew = one.subscribe(CHANGED).expect("a topic");
            publisher.call(SET, "23").expect("set");
            assert_eq!(told(&next(&mut anew)), (CHANGED, 1, 0, "23".into()));
        },
    );
}

/// PROTOCOL V1, V2, V5, F4, F5, F6
#[test]
fn a_reply_precedes_the_events_of_its_handler() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let raw = Dialect::V1.raw(endpoint);
            raw.send(
                &[
                    frame(SUBSCRIBE, CHANGED, 1, 0, b"whatever"),
                    frame(1, SET, 2, 0, b"a"),
                    frame(1, SET, 3, 0, b"b"),
                    frame(UNSUBSCRIBE, CHANGED, 4, 0, b""),
                ]
                .concat(),
            );
            let frames =
                || std::iter::repeat_with(|| raw.receive_frame()).map(|frame| (frame.kind, frame.id));
            // What was published before all four were handled is for those who are left, who may be none. A turn may
            // end between any two of them.
            let mut replied = 0;
            let mut told = 0;
            for (kind, id) in frames().take_while(|last| *last != (2, 4)) {
                match kind {
                    2 => replied += 1,
                    _ => told += 1,
                }
                assert!([(2, replied), (EVENT, told)].contains(&(kind, id)), "{kind} {id}");
                assert!(told < replied, "event {told} is from behind reply {replied}");
            }
            assert_eq!(replied, 3);
            raw.send(&frame(SUBSCRIBE, CHANGED, 5, 0, b""));
            assert_eq!(raw.receive_frame().id, 5);
            raw.send(&[frame(1, SET, 6, 0, b"c"), frame(1, SET, 7, 0, b"d")].concat());
            let frames: Vec<_> =
                (0..4).map(|_| raw.receive_frame()).map(|frame| (frame.kind, frame.id)).collect();
            let replies_first = [(2, 6), (2, 7), (EVENT, 1), (EVENT, 2)];
            let one_by_one = [(2, 6), (EVENT, 1), (2, 7), (EVENT, 2)];
            assert!(frames == replies_first || frames == one_by_one, "{frames:?}");
        },
    );
}

#[test]
fn any_thread_publishes() {
    let _watchdog = watchdog(60);
    const EACH: u32 = 200;
    let mut server = Server::new(0_u32);
    server.topic(7, WhenSlow::Disconnect);
    let (running, bound) = start(server, [usual(&fresh("tcp"))]);
    let client = client(&bound[0]);
    let mut events = client.subscribe(7).expect("a topic");
    thread::scope(|scope| {
        for thread in 0..4 {
            let remote = running.remote();
            scope.spawn(move || {
                for number in 0..EACH {
                    while remote.publish(7, format!("{thread} {number}")).is_err_and(|error| error.is_full())
                    {
                        thread::yield_now();
                    }
                }
            });
        }
    });
    let remote = running.remote();
    let within = remote.clone();
    remote
        .with(move |count| {
            *count += 1;
            within.publish(7, "loop").expect("the loop reads its own mail");
        })
        .expect("room");
    let mut seen = [0; 4];
    for sequence in 1..=4 * EACH {
        let (_, number, dropped, text) = told(&next(&mut events));
        assert_eq!((number, dropped), (sequence, 0));
        let (thread, number) = text.split_once(' ').expect("two numbers");
        let expected = &mut seen[thread.parse::<usize>().expect("a number")];
        assert_eq!(number, expected.to_string(), "thread {thread}'s come in its order");
        *expected += 1;
    }
    assert_eq!(told(&next(&mut events)).3, "loop");
    drop((events, client));
    assert_eq!(running.stop().expect("it ends well"), 1);
    assert!(remote.publish(7, "nobody").expect_err("nobody tells").is_stopped());
}

#[test]
fn what_is_no_topic_can_not_be_subscribed_to() {
    let _watchdog = watchdog(60);
    let datagrams = fresh("udp");
    let (running, bound) = start(store(), [usual(&fresh("tcp")), usual(&datagrams)]);
    let client = client(&bound[0]);
    let code = |topic| client.subscribe(topic).expect_err("no topic").result_code();
    assert_eq!(code(SET), Some(ResultCode::NO_HANDLER));
    assert_eq!(code(99), Some(ResultCode::UNKNOWN_TYPE));
    let text = client.subscribe(SET).expect_err("no topic").to_string();
    assert!(text.contains("subscribe") && text.contains("type 2") && text.contains("no topic"), "{text}");
    let mut events = client.subscribe(CHANGED).expect("a topic");
    assert!(events.add(99).is_err());
    client.call(SET, "x").expect("set");
    assert_eq!(told(&next(&mut events)), (CHANGED, 1, 0, "x".into()));
    assert!(Dialect::Classic.client(&bound[0]).subscribe(CHANGED).expect_err("classic").is_invalid_input());
    let error = connect(&bound[1]).open().expect("udp").subscribe(CHANGED).expect_err("datagrams");
    assert!(error.is_invalid_input(), "{error}");
    drop((events, client));
    running.stop().expect("it ends well");
}

/// One connection, two that listen to it and one that calls, on three threads.
#[test]
fn those_who_listen_and_those_who_call_read_for_each_other() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let client = client(endpoint);
            let listeners = [(); 2].map(|()| client.subscribe(CHANGED).expect("a topic"));
            thread::scope(|scope| {
                for mut events in listeners {
                    scope.spawn(move || {
                        for number in 1..=100 {
                            assert_eq!(told(&next(&mut events)), (CHANGED, number, 0, number.to_string()));
                        }
                    });
                }
                for number in 1..=100 {
                    let (number, text) = (number, client.call(ECHO, format!("{number}")).expect("echo"));
                    assert_eq!(text.payload(), number.to_string().as_bytes());
                    client.call(SET, format!("{number}")).expect("set");
                }
            });
        },
    );
}

#[test]
fn what_nobody_takes_is_bounded_here_and_counted() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("tcp"))]);
    let mut limits = ConnectionLimits::default();
    limits.event_queue = 3 * (64 + 1000);
    let client = connect(&bound[0]).limits(limits).open().expect("a server");
    let mut events = client.subscribe(CHANGED).expect("a topic");
    for _ in 0..10 {
        client.call(SET, [b'x'; 1000]).expect("set");
    }
    client.call(ECHO, "").expect("the last event came before this");
    for number in 1..=3 {
        assert_eq!((next(&mut events).sequence(), number), (number, number));
    }
    assert_eq!(events.next_timeout(Duration::from_millis(10)).expect("good"), None);
    client.call(SET, "last").expect("set");
    assert_eq!(told(&next(&mut events)), (CHANGED, 11, 7, "last".into()));
    drop((events, client));
    running.stop().expect("it ends well");
}

#[test]
fn whoever_listens_learns_of_the_end() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            // The client's own.
            let client = client(endpoint);
            let mut events = client.subscribe(CHANGED).expect("a topic");
            thread::scope(|scope| {
                let waits = scope.spawn(|| (events.next(), events.next().is_none()));
                thread::sleep(Duration::from_millis(50));
                let begun = Instant::now();
                client.close();
                let (end, is_last) = waits.join().expect("no panic");
                assert!(end.expect("why").expect_err("closed").is_closed() && is_last);
                assert!(begun.elapsed() < SOON);
            });
        },
    );
    // The server's.
    let (running, bound) = start(store(), [usual(&fresh("tcp"))]);
    let client = client(&bound[0]);
    let mut events = client.subscribe(CHANGED).expect("a topic");
    client.call(SET, "last").expect("set");
    running.stop().expect("it ends well");
    assert_eq!(told(&events.next().expect("it came before").expect("good")).3, "last");
    let error = events.next().expect("why").expect_err("it has gone");
    assert!(error.is_peer_gone(), "{error}");
    assert!(events.next().is_none());
}

#[test]
fn a_handler_does_not_wait_for_its_own_server() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("tcp");
    let mut server = store();
    let bound = server.listen(usual(&endpoint)).expect("listen");
    let (give, take) = mpsc::channel::<(Client, Events)>();
    server.on(5, move |_, _, _| {
        let (client, mut events) = take.recv().expect("somebody gives them");
        assert!(client.subscribe(CHANGED).expect_err("would wait").is_invalid_input());
        assert!(events.next_timeout(SOON).expect_err("would wait").is_invalid_input());
        Ok(())
    });
    let running = server.spawn().expect("spawn");
    let own = client(&bound);
    let events = own.subscribe(CHANGED).expect("a topic");
    give.send((own, events)).expect("the handler lives");
    client(&bound).call(5, "").expect("no panic");
    running.stop().expect("it ends well");
}

/// Ten of a thousand never read: the others get every event in order, and the ten become what the topic says.
#[test]
fn a_thousand_subscribers_and_ten_deaf_ones() {
    const ALL: usize = if cfg!(unix) { 1000 } else { 100 };
    const DEAF: usize = 10;
    const EVENTS: u32 = 40;
    let _watchdog = watchdog(110);
    raise_descriptor_limit().expect("descriptors");
    let payload = vec![b'x'; 20_000];
    for slow in [WhenSlow::DropNewest, WhenSlow::KeepLatest, WhenSlow::Disconnect] {
        let mut limits = Limits::default();
        limits.listener.connection.outbox_soft = 100_000;
        let mut server = Server::builder(()).limits(limits).build().expect("a server");
        server.topic(7, slow);
        let counters = server.counters();
        let scheme = if cfg!(unix) { "unix" } else { "pipe" };
        let (running, bound) = start(server, [usual(&fresh(scheme))]);
        let subscribe = |endpoint: &Endpoint| {
            let raw = Dialect::V1.raw(endpoint);
            raw.send(&frame(SUBSCRIBE, 7, 1, 0, b""));
            assert_eq!(raw.receive_frame().rc, 0);
            raw
        };
        let raws: Vec<Raw> = (0..ALL).map(|_| subscribe(&bound[0])).collect();
        let (deaf, good) = raws.split_at(DEAF);
        for number in 1..=EVENTS {
            running.remote().publish(7, &payload).expect("room");
            for raw in good {
                let event = raw.receive_frame();
                assert_eq!((event.kind, event.id, event.rc), (EVENT, number, 0), "{slow:?}");
                assert_eq!(event.payload.len(), payload.len());
            }
        }
        let left = if slow == WhenSlow::Disconnect { ALL - DEAF } else { ALL };
        until("the deaf ones are handled", || counters.connections() == left as u64);
        let dropped = counters.events_dropped();
        match slow {
            WhenSlow::Disconnect => assert_eq!(dropped, DEAF as u64),
            _ => {
                // A socket's buffer, the soft mark, and one more.
                assert!(dropped >= DEAF as u64 * u64::from(EVENTS - 25), "{dropped} were dropped");
                let raw = &deaf[0];
                let (mut seen, mut missed) = (0, 0);
                while seen + missed < EVENTS {
                    // Until it has caught up, what it has missed is told by the next event only.
                    let is_last = seen + u32::try_from(dropped).expect("few") / DEAF as u32 == EVENTS;
                    if is_last {
                        running.remote().publish(7, "now").expect("room");
                    }
                    let event = raw.receive_frame();
                    seen += 1;
                    assert_eq!(event.id, seen, "{slow:?}");
                    missed += u32::try_from(event.rc).expect("a count");
                    if is_last {
                        break;
                    }
                }
                assert!(missed > 0, "{slow:?}");
            }
        }
        drop(raws);
        running.stop().expect("it ends well");
    }
}

/// Somebody waits while the server is away, and goes on with the next one, to the same topics.
#[test]
fn a_lasting_client_subscribes_anew() {
    let _watchdog = watchdog(60);
    let endpoint = fresh(sidewire_platform::stream_schemes()[0]);
    let serve = || {
        let mut server = store();
        server.topic(7, WhenSlow::DropNewest);
        start(server, [usual(&endpoint)]).0
    };
    let running = serve();
    let pauses = Reconnect::new().pauses(Duration::from_millis(5), Duration::from_millis(50));
    let lasting = connect(&endpoint).reconnect(pauses).open().expect("a server");
    let mut events = lasting.subscribe(CHANGED).expect("a topic");
    events.add(7).expect("a topic");
    client(&endpoint).call(SET, "one").expect("set");
    client(&endpoint).call(SET, "two").expect("set");
    assert_eq!(told(&next(&mut events)), (CHANGED, 1, 0, "one".into()));
    // Reads the second along: what is left unread in a pipe is lost when its server closes it.
    lasting.call(ECHO, "").expect("a reply");
    running.stop().expect("it ends well");
    // What had come is still told, and then nothing while nobody serves.
    assert_eq!(told(&next(&mut events)), (CHANGED, 2, 0, "two".into()));
    assert_eq!(events.next_timeout(Duration::from_millis(50)).expect("it goes on"), None);
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let mut anew = [false; 2];
            while anew != [true; 2] {
                let event = next(&mut events);
                anew[usize::from(event.topic() == 7)] |= event.sequence() == 1;
            }
        });
        thread::sleep(Duration::from_millis(20));
        let running = serve();
        let remote = running.remote();
        until("it is told", || {
            remote.publish(7, "seven").expect("room");
            client(&endpoint).call(SET, "three").expect("set");
            thread::sleep(Duration::from_millis(2));
            waits.is_finished()
        });
        waits.join().expect("both topics count anew");
        running.stop().expect("it ends well");
    });
    lasting.close();
    // Perhaps behind what was told last.
    assert!(events.find_map(Result::err).expect("why").is_closed());
    assert!(events.next().is_none());
}
