//! One table of conversations, and both clients have each of them: the one for threads, and the one for tasks on
//! either kind of runtime.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{
    App, Build, Connect, ConnectionLimits, Endpoint, Executed, Failure, Limits, Reconnect, RefusedBy,
    Renewal, ResultCode, Server, Unsent, WhenSlow,
};

use crate::either::{Driver, How, SAFE, Talks, with_each, within};
use crate::util::fake::{Fake, answer, send, take, take_hello, take_request, wait_for_the_end};
use crate::util::{
    Dialect, Gate, PATIENCE, all_streams, connect, frame, fresh, in_every_dialect, on_every_stream, start,
    store, store_with, until, usual, watchdog,
};

const CHANGED: u16 = 1;
const SET: u16 = 2;
const ECHO: u16 = 4;
/// Kinds of frames.
const REPLY: u8 = 2;
const CANCEL: u8 = 7;
const GOODBYE: u8 = 12;
const SOON: Duration = Duration::from_secs(60);

fn client(driver: &Driver, endpoint: &Endpoint) -> Box<dyn Talks> {
    driver.open(connect(endpoint)).expect("connect")
}

#[test]
fn calls_of_all_sizes_in_every_dialect() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        in_every_dialect(&Limits::default(), |dialect, endpoint| {
            let client = driver.open(dialect.connect(endpoint)).expect("connect");
            let most = [512, 1000, 3 << 20]
                [(dialect != Dialect::Fixed) as usize + (dialect == Dialect::V1) as usize];
            for size in [0, 1, 511, 1000, 65_520, 65_536, 3 << 20].into_iter().filter(|size| *size <= most) {
                let payload = vec![size as u8; size];
                assert!(client.call(ECHO, &payload).expect("a reply").payload() == payload, "{size}");
            }
            let error = client.call(9, b"").expect_err("no handler");
            assert_eq!(error.result_code(), Some(ResultCode::NO_HANDLER), "{error}");
            let reply = client.exchange(9, b"", How::default()).expect("a reply");
            assert_eq!(reply.result_code(), ResultCode::NO_HANDLER);
        });
    });
}

#[test]
fn many_at_a_time_and_more_than_the_server_takes() {
    let _watchdog = watchdog(60);
    let mut limits = Limits::default();
    limits.listener.connection.max_in_flight = 8;
    with_each(|driver| {
        on_every_stream(
            store_with(limits.clone()),
            |listen| listen,
            |endpoint| {
                let client = client(driver, endpoint);
                thread::scope(|scope| {
                    for thread in 0..8_u32 {
                        let client = &client;
                        scope.spawn(move || {
                            for round in 0..20_u32 {
                                let payload = [thread.to_le_bytes(), round.to_le_bytes()].concat();
                                assert_eq!(client.call(ECHO, &payload).expect("a reply").payload(), payload);
                            }
                        });
                    }
                });
                let calls: Vec<_> = (0..100_u32)
                    .map(|number| client.start(ECHO, &number.to_le_bytes(), How::default()).expect("start"))
                    .collect();
                for (number, call) in calls.into_iter().enumerate() {
                    assert_eq!(call.wait().expect("a reply").payload(), (number as u32).to_le_bytes());
                }
            },
        );
    });
}

/// Both sides have more to say than the system holds.
#[test]
fn large_calls_at_a_time_go_both_ways() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        on_every_stream(
            store(),
            |listen| listen,
            |endpoint| {
                let (client, payload) = (client(driver, endpoint), vec![7; 3 << 20]);
                thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| {
                            assert!(client.call(ECHO, &payload).expect("a reply").payload() == payload);
                        });
                    }
                });
            },
        );
    });
}

/// PROTOCOL K6
#[test]
fn what_is_dropped_is_cancelled_and_what_is_cancelled_says_so() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let fake = Fake::v1(|stream| {
            let ids = [(); 2].map(|()| {
                let id = take_request(stream);
                assert_eq!(take(stream, 16), frame(CANCEL, 0, id, 0, b""));
                id
            });
            ids.into_iter().for_each(|id| send(stream, &frame(REPLY, 1, id, -8, b"")));
            let last = take_request(stream);
            send(stream, &frame(REPLY, 1, last, 0, b"fine"));
            wait_for_the_end(stream);
        });
        let client = driver.open(fake.connect()).expect("connect");
        drop(client.start(1, b"", How::default()).expect("start"));
        let mut call = client.start(1, b"", How::default()).expect("start");
        call.cancel();
        let error = call.wait().expect_err("cancelled");
        assert_eq!(error.result_code(), Some(ResultCode::CANCELLED), "{error}");
        assert_eq!(client.call(1, b"").expect("a reply").payload(), b"fine");
        drop(client);
        fake.join();
    });
}

/// As when it lets its endpoint go just then.
#[test]
fn a_goodbye_right_behind_the_hello_is_a_refusal() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let fake = Fake::new(|stream| {
            take_hello(stream);
            send(stream, &[answer(0, 1, 1), frame(GOODBYE, 0, 0, -9, b"")].concat());
            wait_for_the_end(stream);
        });
        let error = driver.open(fake.connect()).err().expect("it leaves");
        assert_eq!(error.refused_by(), Some(RefusedBy::Server(ResultCode::SHUTTING_DOWN)), "{error}");
        assert_eq!(error.executed(), Executed::Never, "{error}");
        assert!(error.to_string().contains("try again"), "{error}");
        fake.join();
    });
}

#[test]
fn replies_in_parts() {
    const COUNT: u16 = 1;
    const ENDLESS: u16 = 2;
    const FAILS: u16 = 3;
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let (sender, ends) = mpsc::channel();
        let mut server = Server::new(());
        server.on(COUNT, |(), _, reply| {
            let mut stream = reply.stream()?;
            thread::spawn(move || {
                (0..500_u32).try_for_each(|number| stream.send(vec![number as u8; 1000]))?;
                stream.reply("end");
                Ok::<_, Unsent>(())
            });
            Ok(())
        });
        server.on(ENDLESS, move |(), _, reply| {
            let (mut stream, sender) = (reply.stream()?, sender.clone());
            thread::spawn(move || {
                while stream.send(vec![7; 64 << 10]).is_ok() {}
                sender.send(())
            });
            Ok(())
        });
        server.on(FAILS, |(), _, reply| {
            let mut stream = reply.stream()?;
            stream.send("one")?;
            stream.fail(Failure::new(ResultCode::new(9), "that was all"));
            Ok(())
        });
        on_every_stream(
            server,
            |listen| listen,
            |endpoint| {
                let client = client(driver, endpoint);
                let mut parts = client.stream(COUNT, b"", How::default()).expect("a stream");
                for number in 0..500_u32 {
                    let part = parts.next().expect("a part").expect("no failure");
                    assert!(part == vec![number as u8; 1000], "{number}");
                }
                assert!(parts.next().is_none() && parts.next().is_none());
                assert_eq!(parts.response().expect("the last word"), b"end");
                let mut parts = client.stream(FAILS, b"", How::default()).expect("a stream");
                assert_eq!(parts.next().expect("a part").expect("no failure"), b"one");
                let error = parts.next().expect("the end").expect_err("a failure");
                assert_eq!(error.result_code(), Some(ResultCode::new(9)), "{error}");
                assert!(parts.next().is_none() && parts.response().is_none());
                // Dropped, or cancelled.
                let mut parts = client.stream(ENDLESS, b"", How::default()).expect("a stream");
                parts.next().expect("a part").expect("no failure");
                drop(parts);
                ends.recv().expect("it was told");
                let mut parts = client.stream(ENDLESS, b"", How::default()).expect("a stream");
                parts.next().expect("a part").expect("no failure");
                parts.cancel();
                let last = std::iter::from_fn(|| parts.next()).last().expect("the end");
                assert_eq!(last.expect_err("cancelled").result_code(), Some(ResultCode::CANCELLED));
                ends.recv().expect("it was told");
            },
        );
    });
}

#[test]
fn a_part_that_does_not_come_in_time() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let fake = Fake::v1(|stream| {
            let id = take_request(stream);
            assert_eq!(take(stream, 16), frame(CANCEL, 0, id, 0, b""));
            wait_for_the_end(stream);
        });
        let client = driver.open(fake.connect()).expect("connect");
        let mut parts = client.stream(1, b"", within(Duration::from_millis(50))).expect("a stream");
        let error = parts.next().expect("the end").expect_err("no part");
        assert!(error.is_timeout() && parts.next().is_none(), "{error}");
        drop(client);
        fake.join();
    });
}

#[test]
fn events_in_order_and_to_many() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let mut server = store();
        server.topic(7, WhenSlow::DropNewest);
        server.on(7, |_, request, _| request.publish(7, request.payload()));
        on_every_stream(
            server,
            |listen| listen,
            |endpoint| {
                let [one, other, publisher] = [(); 3].map(|()| client(driver, endpoint));
                let mut listeners = [&one, &other].map(|client| client.subscribe(7).expect("a topic"));
                for number in 1..=20_u32 {
                    publisher.call(7, number.to_string().as_bytes()).expect("published");
                }
                for events in &mut listeners {
                    for number in 1..=20 {
                        let event = events.next().expect("one").expect("an event");
                        assert_eq!((event.topic(), event.sequence(), event.dropped()), (7, number, 0));
                        assert_eq!(event.payload(), number.to_string().as_bytes());
                    }
                    assert!(events.next_within(Duration::from_millis(1)).expect("it is good").is_none());
                }
                let [mut both, left] = listeners;
                both.add(CHANGED).expect("a topic");
                drop(left);
                publisher.call(SET, b"x").expect("set");
                let event = both.next_within(SOON).expect("it is good").expect("an event");
                assert_eq!((event.topic(), event.sequence(), event.payload()), (CHANGED, 1, &b"x"[..]));
                let error = one.subscribe(9).err().expect("no topic");
                assert_eq!(error.result_code(), Some(ResultCode::NO_HANDLER), "{error}");
                // It ends with the connection, and says why.
                one.close();
                let error = both.next().expect("the end").expect_err("closed");
                assert!(error.is_closed() && both.next().is_none(), "{error}");
            },
        );
    });
}

/// Those that nobody takes are counted.
#[test]
fn events_that_come_faster_than_they_are_taken() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let mut server = store();
        server.topic(7, WhenSlow::DropNewest);
        server.on(7, |_, request, _| request.publish(7, request.payload()));
        let (running, bound) = start(server, [usual(&fresh("local"))]);
        let mut limits = ConnectionLimits::default();
        limits.event_queue = 4096;
        let client = driver.open(connect(&bound[0]).limits(limits)).expect("connect");
        let mut events = client.subscribe(7).expect("a topic");
        for _ in 0..100 {
            client.call(7, &[7; 500]).expect("published, and read along with what came before");
        }
        let (mut taken, mut dropped) = (0, 0);
        while let Some(event) = events.next_within(Duration::from_millis(1)).expect("it is good") {
            taken += 1;
            dropped += event.dropped();
        }
        assert!((2..100).contains(&taken), "{taken}");
        client.call(7, b"last").expect("published");
        // On a busy machine the event of the call before may come as late as this.
        loop {
            let event = events.next().expect("one").expect("an event");
            taken += 1;
            dropped += event.dropped();
            if event.payload() == b"last" {
                break;
            }
        }
        assert_eq!(taken + dropped, 101);
        drop(client);
        running.stop().expect("the server ends well");
    });
}

#[test]
fn a_call_that_takes_too_long_leaves_the_connection_good() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let (late, may_answer) = mpsc::channel::<()>();
        let fake = Fake::v1(move |stream| {
            let first = take_request(stream);
            may_answer.recv().expect("the test goes on");
            send(stream, &frame(REPLY, 1, first, 0, b"too late"));
            let mut second = take_request(stream);
            // It may have been cancelled first.
            if second == first {
                second = take_request(stream);
            }
            send(stream, &frame(REPLY, 1, second, 0, b"in time"));
            wait_for_the_end(stream);
        });
        let (client, limit) = (driver.open(fake.connect()).expect("connect"), Duration::from_millis(50));
        let begun = Instant::now();
        let error = client.send(1, b"", within(limit)).expect_err("no reply");
        assert!(error.is_timeout() && error.executed() == Executed::Perhaps && begun.elapsed() >= limit);
        assert!(
            error.to_string().contains("within 50ms") && error.to_string().contains("(type 1)"),
            "{error}"
        );
        late.send(()).expect("the fake waits");
        assert_eq!(client.call(1, b"").expect("a reply").payload(), b"in time");
        drop(client);
        fake.join();
    });
}

#[test]
fn what_the_server_asks_is_answered() {
    const HERE: u16 = 1;
    const WHO: u16 = 5;
    const LATER: u16 = 6;
    const FAILS: u16 = 7;
    const TOLD: u16 = 8;
    let _watchdog = watchdog(60);
    with_each(|driver| {
        for endpoint in all_streams() {
            let mut server = Server::new(());
            let (tell, came) = mpsc::channel();
            server.on(HERE, move |(), request, _| {
                tell.send(request.connection()).map_err(Failure::other)?;
                Ok(())
            });
            let (running, bound) = start(server, [usual(&endpoint)]);
            let (tell, told) = mpsc::channel();
            let connect = connect(&bound[0])
                .on(WHO, |request, reply| {
                    reply.write(b"heard ");
                    reply.write(request.payload());
                    Ok(())
                })
                .on(LATER, |_, reply| {
                    let responder = reply.defer()?;
                    thread::spawn(move || responder.reply("later"));
                    Ok(())
                })
                .on(FAILS, |_, _| Err(Failure::new(ResultCode::new(9), "no")))
                .on(TOLD, move |request, _| {
                    request.notify(HERE, b"").map_err(Failure::other)?;
                    tell.send(request.payload().to_vec()).map_err(Failure::other)
                });
            let client = driver.open(connect).expect("connect");
            client.call(HERE, b"").expect("call");
            let peer = running.remote().peer(came.recv().expect("a request").expect("a stream"));
            client.handle();
            let ask = |msg_type: u16, payload: &[u8]| {
                let (tell, told) = mpsc::channel();
                let asked = peer.call(msg_type, payload, SOON, move |(), answer| {
                    let answer =
                        answer.map(|answer| (answer.result_code().code(), answer.payload().to_vec()));
                    tell.send(answer).expect("somebody waits");
                });
                asked.expect("room");
                told.recv().expect("one outcome").expect("an answer")
            };
            for number in 0..20 {
                assert_eq!(
                    ask(WHO, format!("{number}").as_bytes()),
                    (0, format!("heard {number}").into_bytes())
                );
            }
            let large = vec![7; 3 << 20];
            assert!(ask(WHO, &large).1.ends_with(&large));
            assert_eq!(ask(LATER, b""), (0, b"later".to_vec()));
            assert_eq!(ask(FAILS, b"").0, 9);
            assert_eq!(ask(99, b"").0, ResultCode::NO_HANDLER.code());
            peer.notify(TOLD, b"this").expect("room");
            assert_eq!(told.recv().expect("it was told"), b"this");
            came.recv().expect("what its handler told");
            drop(client);
            running.stop().expect("the server ends well");
        }
    });
}

/// PROTOCOL E1
#[test]
fn a_goodbye_tells_each_call_whether_it_may_have_been_executed() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let fake = Fake::v1(|stream| {
            let ids = [(); 4].map(|()| take_request(stream));
            send(stream, &frame(GOODBYE, 0, ids[1], 0, b""));
            send(stream, &frame(REPLY, 1, ids[0], 0, b""));
            stream.shutdown(Shutdown::Write).expect("the end");
            wait_for_the_end(stream);
        });
        let client = driver.open(fake.connect()).expect("connect");
        let calls = [(); 4].map(|()| client.start(1, b"", How::default()).expect("start"));
        client.flush().expect("flush");
        let ends = calls.map(|call| call.wait());
        assert!(ends[0].is_ok());
        let executed = ends[1..].iter().map(|end| end.as_ref().expect_err("it has gone"));
        let executed: Vec<_> = executed.map(|error| (error.is_peer_gone(), error.executed())).collect();
        assert_eq!(executed, [(true, Executed::Perhaps), (true, Executed::Never), (true, Executed::Never)]);
        drop(client);
        fake.join();
    });
}

#[test]
fn a_client_that_goes_says_goodbye_and_its_end_is_told_once() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        for is_closed in [false, true] {
            let fake = Fake::v1(|stream| {
                take_request(stream);
                assert_eq!(take(stream, 16), frame(GOODBYE, 0, 0, 0, b""));
                wait_for_the_end(stream);
            });
            let (told, ends) = mpsc::channel();
            let connect =
                fake.connect().on_closed(move |why| told.send(why.clone()).expect("the test waits"));
            let client = driver.open(connect).expect("connect");
            let call = client.start(1, b"", How::default()).expect("start");
            client.flush().expect("flush");
            if is_closed {
                client.close();
                assert!(ends.try_recv().expect("it was told").is_closed() && client.is_closed());
                let error = client.call(1, b"").expect_err("closed");
                assert!(error.is_closed() && error.executed() == Executed::Never, "{error}");
            }
            drop(client);
            let error = call.wait().expect_err("closed");
            assert!(error.is_closed() && error.executed() == Executed::Perhaps, "{error}");
            fake.join();
        }
    });
}

/// With pauses that a test can wait for.
fn quick() -> Reconnect {
    Reconnect::new().pauses(Duration::from_millis(5), Duration::from_millis(50))
}

#[test]
fn the_next_call_finds_the_next_server() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        // Stopping takes its time, since this client does not hear of it.
        for endpoint in ["local", "tcp"].map(fresh) {
            let (running, bound) = start(store(), [usual(&endpoint)]);
            let times = Arc::new(AtomicU32::new(0));
            let counted = Arc::clone(&times);
            let reconnect = quick().attempts(1000).on_reconnected(move |it| {
                assert!(it.is_restarted());
                counted.fetch_add(1, Ordering::Relaxed);
            });
            let client = driver.open(connect(&bound[0]).reconnect(reconnect)).expect("connect");
            let mut events = client.subscribe(CHANGED).expect("a topic");
            assert_eq!(client.call(ECHO, b"1").expect("a reply").payload(), b"1");
            running.stop().expect("the server ends well");
            let running = thread::scope(|scope| {
                for number in 0..8_u32 {
                    let client = &client;
                    scope.spawn(move || {
                        let payload = number.to_le_bytes();
                        assert_eq!(client.call(ECHO, &payload).expect("a reply").payload(), payload);
                    });
                }
                start(store(), [usual(&bound[0])]).0
            });
            assert_eq!(times.load(Ordering::Relaxed), 1);
            // Whoever waits for events subscribes again.
            thread::scope(|scope| {
                let next = scope.spawn(|| events.next().expect("one").expect("an event"));
                until("it has subscribed again", || {
                    client.call(SET, b"new").expect("set");
                    next.is_finished()
                });
                let event = next.join().expect("a thread");
                assert_eq!((event.renewal(), event.payload()), (Some(Renewal::Restarted), &b"new"[..]));
            });
            drop(client);
            running.stop().expect("the server ends well");
        }
    });
}

type Script = Box<dyn FnOnce(&mut TcpStream) + Send>;

/// A server that follows a script for each of its connections.
fn scripted(scripts: Vec<Script>) -> (Endpoint, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("its address").port();
    let thread = thread::spawn(move || {
        for script in scripts {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
            take_hello(&mut stream);
            send(&mut stream, &answer(0, 1, 1));
            script(&mut stream);
        }
    });
    (Endpoint::Tcp { host: "127.0.0.1".into(), port }, thread)
}

#[test]
fn only_what_is_safe_is_sent_again() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let takes = |count: u32| {
            move |stream: &mut TcpStream| (0..count).for_each(|_| assert_ne!(take_request(stream), 0))
        };
        let (endpoint, server) = scripted(vec![
            Box::new(takes(1)),
            Box::new(takes(2)),
            Box::new(|stream| {
                for _ in 0..2 {
                    let id = take_request(stream);
                    send(stream, &frame(REPLY, ECHO, id, 0, b"answer"));
                }
                wait_for_the_end(stream);
            }),
        ]);
        let client = driver.open(connect(&endpoint).reconnect(quick())).expect("connect");
        let error = client.call(ECHO, b"x").expect_err("the server took it and went");
        assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
        let plain = client.start(ECHO, b"1", How::default()).expect("start");
        let safe = client.start(ECHO, b"2", SAFE).expect("start");
        let error = plain.wait().expect_err("the server took it and went");
        assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
        assert_eq!(safe.wait().expect("its reply").payload(), b"answer");
        assert_eq!(client.send(ECHO, b"3", SAFE).expect("a reply").payload(), b"answer");
        drop(client);
        server.join().expect("the server");
    });
}

/// However long it may take: the client connects to nobody else any more.
#[test]
fn a_started_call_ends_with_a_client_that_gives_up_on_a_silent_server() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("its address").port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            take_hello(&mut stream);
            send(&mut stream, &answer(0, 1, 1));
            assert_ne!(take_request(&mut stream), 0);
            drop(stream);
            // The next one hears nothing.
            wait_for_the_end(&mut listener.accept().expect("accept").0);
        });
        let connect = connect(&Endpoint::Tcp { host: "127.0.0.1".into(), port }).call_timeout(None);
        let connect = connect.timeout(Duration::from_millis(200)).reconnect(quick().attempts(1));
        let client = driver.open(connect).expect("connect");
        let error = client.start(ECHO, b"x", SAFE).expect("start").wait().expect_err("nobody says hello");
        assert!(client.is_closed() && error.to_string().contains("after 1 attempt"), "{error}");
        server.join().expect("the server");
    });
}

#[test]
fn one_that_finds_nobody_waits_as_long_as_it_may_and_gives_up() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let (running, bound) = start(store(), [usual(&fresh("local"))]);
        let open =
            |reconnect: Reconnect| driver.open(connect(&bound[0]).reconnect(reconnect)).expect("connect");
        let [patient, other] = [u32::MAX, 3].map(|attempts| open(quick().attempts(attempts)));
        for client in [&patient, &other] {
            client.call(ECHO, b"x").expect("a reply");
        }
        running.stop().expect("the server ends well");
        let error = patient.send(ECHO, b"x", within(Duration::from_millis(100))).expect_err("nobody");
        assert!(error.is_timeout() && error.executed() == Executed::Never && !patient.is_closed(), "{error}");
        let error = other.call(ECHO, b"x").expect_err("nobody");
        assert!(error.is_not_listening() && error.to_string().contains("after 3 attempts"), "{error}");
        assert!(other.is_closed() && error.executed() == Executed::Never);
        patient.close();
        assert!(patient.call(ECHO, b"x").expect_err("closed").is_closed());
    });
}

/// A server that takes nothing: what has no room waits within its limit, and what never has is refused.
#[test]
fn no_request_takes_more_than_there_is_room_for() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let gate = Gate::default();
        let mut server = store();
        let held = gate.clone();
        server.on(5, move |_, _, _| {
            held.pass();
            Ok(())
        });
        let (running, bound) = start(server, [usual(&fresh("local"))]);
        let mut limits = ConnectionLimits::default();
        (limits.outbox_soft, limits.outbox_hard) = (1 << 20, 4 << 20);
        let client = driver.open(connect(&bound[0]).limits(limits)).expect("connect");
        let error = client.call(ECHO, &vec![0; 5 << 20]).expect_err("too large for us");
        assert!(error.is_invalid_input() && error.to_string().contains("outbox_hard"), "{error}");
        let error = client.call(ECHO, &vec![0; 20 << 20]).expect_err("too large for the server");
        assert!(error.is_invalid_input() && error.to_string().contains("the server takes"), "{error}");
        let closed = gate.close();
        let held = client.start(5, b"", How::default()).expect("start");
        client.flush().expect("flush");
        let mut calls = Vec::new();
        let error = loop {
            match client.start(ECHO, &vec![1; 3 << 20], within(Duration::from_millis(200))) {
                Ok(call) => calls.push(call),
                Err(error) => break error,
            }
            assert!(calls.len() < 100, "it takes everything");
        };
        assert!(error.is_timeout() && error.executed() == Executed::Never, "{error}");
        drop((calls, closed));
        held.wait().expect("a reply");
        assert_eq!(client.call(ECHO, b"still good").expect("a reply").payload(), b"still good");
        drop(client);
        running.stop().expect("the server ends well");
    });
}

/// What a connection's own time limits end.
#[test]
fn a_connection_that_is_silent_for_too_long_ends() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let (running, bound) = start(store(), [usual(&fresh("local"))]);
        let mut limits = ConnectionLimits::default();
        limits.idle_timeout = Duration::from_millis(100).into();
        let client = driver.open(connect(&bound[0]).limits(limits)).expect("connect");
        let mut events = client.subscribe(CHANGED).expect("a topic");
        let error = events.next().expect("the end").expect_err("nothing comes");
        assert!(error.is_timeout(), "{error}");
        let error = client.call(ECHO, b"x").expect_err("it has ended");
        assert!(error.executed() == Executed::Never && client.is_closed(), "{error}");
        drop((events, client));
        running.stop().expect("the server ends well");
    });
}

#[test]
fn signs_of_life_and_what_classic_has_not() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        on_every_stream(
            store(),
            |listen| listen,
            |endpoint| {
                let client = client(driver, endpoint);
                client.ping(SOON).expect("a sign of life");
                client.notify(SET, b"told").expect("sent");
                until("it was told", || client.call(1, b"").expect("a reply").payload() == b"told");
                let classic = driver.open(connect(endpoint).classic()).expect("connect");
                assert!(classic.ping(SOON).expect_err("no pings").is_invalid_input());
                assert!(classic.notify(SET, b"x").expect_err("no notifies").is_invalid_input());
                assert!(classic.subscribe(CHANGED).err().expect("no events").is_invalid_input());
            },
        );
        let fake = Fake::v1(wait_for_the_end);
        let client = driver.open(fake.connect()).expect("connect");
        let error = client.ping(Duration::from_millis(20)).expect_err("no sign");
        assert!(error.is_timeout() && error.to_string().contains("no sign of life"), "{error}");
        drop(client);
        fake.join();
    });
}

/// A connection that the program has already.
#[test]
fn over_a_connection_that_is_there() {
    let _watchdog = watchdog(60);
    with_each(|driver| {
        let (running, bound) = start(store(), [usual(&fresh("tcp"))]);
        let Endpoint::Tcp { port, .. } = bound[0] else { panic!("{bound:?}") };
        let over = || Connect::over(TcpStream::connect(("127.0.0.1", port)).expect("connect"));
        let error = driver.open(over()).err().expect("nobody knows whose it is");
        assert!(error.is_refused() || error.is_invalid_input(), "{error}");
        let client = driver.open(over().access(sidewire::Access::Anyone)).expect("connect");
        assert_eq!(client.call(ECHO, b"here").expect("a reply").payload(), b"here");
        drop(client);
        running.stop().expect("the server ends well");
    });
}

/// The same words, too.
#[test]
fn connections_that_do_not_come_about() {
    let _watchdog = watchdog(60);
    let told = Driver::all().into_iter().map(|driver| {
        let mut errors = Vec::new();
        let mut open = |connect: Connect| errors.push(driver.open(connect).err().expect("no connection"));
        open(connect(&"local:sidewire-nobody".parse().expect("an endpoint")));
        open(connect(&"udp:127.0.0.1:0".parse().expect("an endpoint")));
        open(Connect::to("tcp:127.0.0.1:1").expect("an endpoint"));
        open(connect(&"local:sidewire-nobody".parse().expect("an endpoint")).classic().on(1, |_, _| Ok(())));
        for (status, version) in [(ResultCode::NOT_PERMITTED, 1), (ResultCode::NO_COMMON_VERSION, 0)] {
            let fake = Fake::new(move |stream| {
                take_hello(stream);
                send(stream, &answer(status.code(), version, 2));
                wait_for_the_end(stream);
            });
            open(fake.connect());
            fake.join();
        }
        let fake = Fake::new(wait_for_the_end);
        open(fake.connect().timeout(Duration::from_millis(50)));
        fake.join();
        let fake = Fake::v1(wait_for_the_end);
        open(fake.connect().app(App::new("app", "1")).build(Build::same_version()));
        fake.join();
        errors
    });
    let kinds: Vec<_> = told
        .map(|errors| {
            assert!(errors[1].is_invalid_input() && errors[6].is_timeout(), "{errors:?}");
            let kinds = errors.iter().map(|error| {
                [
                    error.is_not_listening(),
                    error.is_invalid_input(),
                    error.is_refused(),
                    error.is_version_mismatch(),
                    error.is_timeout(),
                    error.is_other_build(),
                ]
            });
            kinds.collect::<Vec<_>>()
        })
        .collect();
    assert!(kinds.windows(2).all(|pair| pair[0] == pair[1]), "{kinds:?}");
    assert!(kinds[0].iter().all(|kinds| kinds.iter().any(|is| *is)), "{kinds:?}");
}
