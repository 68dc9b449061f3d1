//! What only the async client has: runtimes, tasks, futures that are dropped or not polled any more.

#[cfg(unix)]
use std::fs::File;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sidewire::tokio::{Client, Events, Pending};
use sidewire::{Endpoint, Reconnect, Server};
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};

#[cfg(unix)]
use crate::util::alone_with;
use crate::util::fake::{Fake, send, take, take_request, wait_for_the_end};
use crate::util::{Gate, PATIENCE, connect, frame, fresh, on_every_stream, start, store, usual, watchdog};

const CHANGED: u16 = 1;
const SET: u16 = 2;
const ECHO: u16 = 4;
const REPLY: u8 = 2;
const EVENT: u8 = 4;
const UNSUBSCRIBE: u8 = 6;
const CANCEL: u8 = 7;

/// Both flavours.
pub(crate) fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()]
        .map(|mut builder| builder.worker_threads(2).enable_all().build().expect("a runtime"))
}

fn on_both(test: impl AsyncFn()) {
    for runtime in runtimes() {
        crate::either::where_reads_complete(|| runtime.block_on(test()));
    }
}

async fn open(endpoint: &Endpoint) -> Client {
    connect(endpoint).open_async().await.expect("connect")
}

#[test]
fn tasks_call_on_every_transport_and_either_runtime() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            on_both(async || {
                let client = Arc::new(open(endpoint).await);
                let tasks: Vec<_> = (0..50_u32)
                    .map(|number| {
                        let client = Arc::clone(&client);
                        tokio::spawn(async move {
                            for round in 0..20_u32 {
                                let payload = [number.to_le_bytes(), round.to_le_bytes()].concat();
                                let reply = client.call(ECHO, &payload).await.expect("a reply");
                                assert_eq!(reply.payload(), payload);
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("a task");
                }
                let large = vec![7; 3 << 20];
                let reply = client.call(ECHO, &large).await.expect("a reply");
                assert!(reply.payload() == large, "3 MiB come back");
            });
        },
    );
}

/// PROTOCOL K6
#[test]
fn whoever_drops_a_future_cancels_its_call() {
    let _watchdog = watchdog(60);
    on_both(async || {
        let fake = Fake::v1(|stream| {
            for _ in 0..2 {
                let dropped = take_request(stream);
                assert_eq!(take(stream, 16), frame(CANCEL, 0, dropped, 0, b""));
                send(stream, &frame(REPLY, 1, dropped, -8, b""));
            }
            let last = take_request(stream);
            send(stream, &frame(REPLY, 1, last, 0, b"fine"));
            wait_for_the_end(stream);
        });
        let client = fake.connect().open_async().await.expect("connect");
        // One that is waited for, and one that was only started.
        assert!(polled_once(pin!(client.call(1, b""))).await.is_pending());
        drop(client.start(1, b"").await.expect("start"));
        assert_eq!(client.call(1, b"").await.expect("a reply").payload(), b"fine");
        drop(client);
        fake.join();
    });
}

#[test]
fn what_is_corked_leaves_with_what_is_waited_for_or_when_it_is_asked_to() {
    let _watchdog = watchdog(60);
    on_both(async || {
        let (taken, was_taken) = mpsc::channel();
        let fake = Fake::v1(move |stream| {
            for _ in 0..5 {
                let id = take_request(stream);
                taken.send(id).expect("the test waits");
                send(stream, &frame(REPLY, 1, id, 0, b"fine"));
            }
            wait_for_the_end(stream);
        });
        let client = fake.connect().open_async().await.expect("connect");
        let corked = || client.request(1).corked();
        let (first, mut parts) =
            (corked().start(b"").await.expect("start"), corked().stream(b"").await.expect("start"));
        // Other threads of a runtime may look at what has come before.
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            assert!(was_taken.recv_timeout(Duration::from_millis(50)).is_err(), "not before somebody waits");
        }
        client.flush().await.expect("flush");
        for _ in 0..2 {
            was_taken.recv_timeout(PATIENCE).expect("both have left");
        }
        let (second, other) =
            (corked().start(b"").await.expect("start"), corked().start(b"").await.expect("start"));
        // For any of them.
        assert_eq!(first.await.expect("a reply").payload(), b"fine");
        assert!(parts.next().await.is_none());
        assert_eq!(corked().send(b"").await.expect("a reply").payload(), b"fine");
        for call in [second, other] {
            assert_eq!(call.await.expect("a reply").payload(), b"fine");
        }
        drop(client);
        fake.join();
    });
}

/// What comes of a future if it is polled once, in the task that asks.
async fn polled_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// PROTOCOL K6. The other topics go on.
#[test]
fn whoever_drops_a_subscription_in_the_making_does_not_listen() {
    let _watchdog = watchdog(60);
    on_both(async || {
        let fake = Fake::v1(|stream| {
            let first = take_request(stream);
            send(stream, &frame(REPLY, 1, first, 0, b""));
            let dropped = take_request(stream);
            assert_eq!(take(stream, 16), frame(CANCEL, 0, dropped, 0, b""));
            // It had come too late.
            send(stream, &frame(REPLY, 2, dropped, 0, b""));
            send(stream, &frame(EVENT, 2, 1, 0, b"unwanted"));
            send(stream, &frame(EVENT, 1, 1, 0, b"wanted"));
            let unsubscribed = take(stream, 16);
            assert_eq!((unsubscribed[4], unsubscribed[6]), (UNSUBSCRIBE, 2));
            wait_for_the_end(stream);
        });
        let client = fake.connect().open_async().await.expect("connect");
        let mut events = client.subscribe(1).await.expect("a topic");
        assert!(polled_once(pin!(events.add(2))).await.is_pending());
        assert_eq!(events.next().await.expect("one").expect("an event").payload(), b"wanted");
        drop(client);
        fake.join();
    });
}

/// Each of them may have been the one that was to be woken.
#[test]
fn futures_that_nobody_polls_any_more_hold_nobody_up() {
    const KEEP: u16 = 5;
    const ANSWER_ALL: u16 = 6;
    let _watchdog = watchdog(60);
    let mut server = Server::new(Vec::new());
    server.on(KEEP, |kept, request, reply| {
        kept.push((reply.defer()?, request.payload().to_vec()));
        Ok(())
    });
    server.on(ANSWER_ALL, |kept: &mut Vec<(sidewire::Responder, Vec<u8>)>, request, _| {
        kept.drain(..).for_each(|(responder, payload)| responder.reply(payload));
        request.publish(CHANGED, b"changed")
    });
    server.on(ECHO, |_, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.topic(CHANGED, sidewire::WhenSlow::DropNewest);
    let _ = on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            on_both(async || {
                let client = open(endpoint).await;
                let mut events = client.subscribe(CHANGED).await.expect("a topic");
                let (mut next, mut call) = (pin!(events.next()), pin!(client.call(KEEP, b"left")));
                let mut started = client.start(KEEP, b"alone").await.expect("start");
                let mut nobody = Context::from_waker(Waker::noop());
                assert!(next.as_mut().poll(&mut nobody).is_pending());
                assert!(call.as_mut().poll(&mut nobody).is_pending());
                assert!(Pin::new(&mut started).poll(&mut nobody).is_pending());
                for number in 0..20_u32 {
                    let payload = number.to_le_bytes();
                    assert_eq!(client.call(ECHO, payload).await.expect("a reply").payload(), payload);
                }
                client.call(ANSWER_ALL, b"").await.expect("a reply");
                // Whoever comes back finds what has come, and who goes elsewhere is woken there.
                assert_eq!(call.await.expect("its reply").payload(), b"left");
                let started = tokio::spawn(started).await.expect("a task");
                assert_eq!(started.expect("its reply").payload(), b"alone");
                assert_eq!(next.await.expect("one").expect("an event").payload(), b"changed");
            });
        },
    );
}

/// The one that was first looks for the next server, which greets nobody as long as the gate is closed.
#[test]
#[allow(clippy::await_holding_lock, reason = "a server's thread waits for it, no task")]
fn a_future_that_nobody_polls_any_more_does_not_keep_others_from_connecting_anew() {
    const HOLD: u16 = 9;
    let _watchdog = watchdog(60);
    on_both(async || {
        let endpoint = fresh("local");
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let client = connect(&bound[0]).reconnect(Reconnect::new()).open_async().await.expect("connect");
        running.stop().expect("the server ends well");
        let (gate, mut server) = (Gate::default(), store());
        let held = gate.clone();
        server.on(HOLD, move |_, _, _| {
            held.pass();
            Ok(())
        });
        let (running, _) = start(server, [usual(&endpoint)]);
        {
            let closed = gate.close();
            open(&bound[0]).await.notify(HOLD, b"").await.expect("in the outbox");
            while gate.came() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let (mut dropped, mut first) =
                (Box::pin(client.call(ECHO, b"")), pin!(client.call(ECHO, b"first")));
            for _ in 0..2 {
                assert!(polled_once(dropped.as_mut()).await.is_pending());
            }
            drop(dropped);
            for _ in 0..2 {
                assert!(polled_once(first.as_mut()).await.is_pending());
            }
            drop(closed);
            let second = client.request(ECHO).timeout(Duration::from_secs(10)).send(b"second").await;
            assert_eq!(second.expect("a reply").payload(), b"second");
            assert_eq!(first.await.expect("a reply").payload(), b"first");
        }
        drop(client);
        running.stop().expect("the server ends well");
    });
}

#[test]
fn what_has_no_room_leaves_by_itself() {
    let _watchdog = watchdog(60);
    send_without_room(|| ());
}

/// Watching for room takes one.
#[cfg(unix)] // Windows has no such limit.
#[test]
fn what_has_no_room_leaves_by_itself_without_descriptors() {
    let _watchdog = watchdog(60);
    let name = "tasks::what_has_no_room_leaves_by_itself_without_descriptors";
    alone_with(name, 64, || {
        send_without_room(|| std::iter::from_fn(|| File::open("/dev/null").ok()).collect::<Vec<_>>())
    });
}

/// Sends more than a server takes that stands still, and then goes on. `meanwhile`: what is held while it does not take all.
#[allow(clippy::await_holding_lock, reason = "a server's thread waits for it, no task")]
fn send_without_room<T>(meanwhile: impl Fn() -> T) {
    let gate = Gate::default();
    let mut server = Server::new(0_usize);
    let held = gate.clone();
    server.on(1, move |bytes, request, _| {
        held.pass();
        *bytes += request.payload().len();
        Ok(())
    });
    server.on(2, |bytes, _, reply| {
        reply.write(bytes.to_string());
        Ok(())
    });
    let counters = server.counters();
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    for runtime in runtimes() {
        runtime.block_on(async {
            let client = connect(&bound[0]).limits(roomy()).open_async().await.expect("connect");
            let closed = gate.close();
            let (before, held) = (counters.notifies(), meanwhile());
            for _ in 0..40 {
                client.notify(1, vec![0; 100_000]).await.expect("in the outbox");
            }
            drop(closed);
            // Nobody waits on this connection.
            while counters.notifies() < before + 40 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(held);
            client.flush().await.expect("all has left");
            client.call(2, b"").await.expect("a reply");
        });
    }
    assert_eq!(running.stop().expect("the server ends well"), 2 * 40 * 100_000);
}

fn roomy() -> sidewire::ConnectionLimits {
    let mut limits = sidewire::ConnectionLimits::default();
    limits.outbox_soft = 8 << 20;
    limits.outbox_hard = 16 << 20;
    limits
}

#[test]
fn a_client_that_is_closed_or_dropped_ends_what_its_tasks_wait_for() {
    let _watchdog = watchdog(60);
    on_both(async || {
        for is_dropped in [false, true] {
            let (sender, taken) = std::sync::mpsc::channel();
            let fake = Fake::v1(move |stream| {
                sender.send(take_request(stream)).expect("the test waits");
                wait_for_the_end(stream);
            });
            let client = fake.connect().open_async().await.expect("connect");
            let call = tokio::spawn(client.start(1, b"").await.expect("start"));
            // The fake needs no runtime, so the thread of this one may wait.
            taken.recv().expect("it was sent");
            match is_dropped {
                true => drop(client),
                false => client.close(),
            }
            let error = call.await.expect("a task").expect_err("closed");
            assert!(error.is_closed(), "{error}");
            fake.join();
        }
    });
}

#[test]
fn without_a_runtime_it_says_so() {
    let mut context = Context::from_waker(Waker::noop());
    let opening = pin!(Client::connect("local:nobody")).poll(&mut context);
    let Poll::Ready(Err(error)) = opening else { panic!("{opening:?}") };
    assert!(error.is_invalid_input() && error.to_string().contains("runtime"), "{error}");
    for runtime in runtimes() {
        let error = runtime.block_on(Client::connect("udp:127.0.0.1:4711")).expect_err("no stream");
        assert!(error.is_invalid_input() && error.to_string().contains("datagrams"), "{error}");
    }
}

#[test]
fn a_client_survives_its_runtime_as_one_whose_connection_has_ended() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    for runtime in runtimes() {
        let client = runtime.block_on(open(&bound[0]));
        let waiting = runtime.spawn(runtime.block_on(client.start(ECHO, b"x")).expect("start"));
        drop(runtime);
        drop(waiting);
        for other in runtimes() {
            let error =
                other.block_on(client.call(ECHO, b"x")).expect_err("nobody tells when something comes");
            assert!(!error.is_timeout(), "{error}");
        }
    }
    running.stop().expect("the server ends well");
}

/// Some give up at once, some a little later, some only look and never come back.
#[test]
fn crowds_of_whom_many_give_up_lose_no_reply() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            on_both(async || {
                let client = Arc::new(open(endpoint).await);
                let crowd: Vec<_> = (0..60_u32)
                    .map(|number| {
                        let client = Arc::clone(&client);
                        tokio::spawn(async move {
                            let mut left = Vec::new();
                            for round in 0..20_u32 {
                                let payload = [number.to_le_bytes(), round.to_le_bytes()].concat();
                                match (number + round) % 4 {
                                    0 => {
                                        let mut call = client.start(ECHO, &payload).await.expect("start");
                                        drop(polled_once(Pin::new(&mut call)).await);
                                        left.push(call);
                                    }
                                    1 => drop(polled_once(pin!(client.call(ECHO, &payload))).await),
                                    2 => {
                                        let limit = Duration::from_micros(u64::from(round) * 50);
                                        drop(tokio::time::timeout(limit, client.call(ECHO, &payload)).await);
                                    }
                                    _ => {
                                        let reply = client.call(ECHO, &payload).await.expect("a reply");
                                        assert_eq!(reply.payload(), payload);
                                    }
                                }
                            }
                        })
                    })
                    .collect();
                for task in crowd {
                    task.await.expect("a task");
                }
                assert_eq!(client.call(ECHO, b"last").await.expect("a reply").payload(), b"last");
            });
        },
    );
}

/// Values, in the same three ways.
#[cfg(feature = "serde")]
mod values {
    use sidewire::typed::{AskError, Fault, Part};
    use sidewire::{Server, Unsent, WhenSlow};

    use crate::util::{fresh, start, usual, watchdog};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Count(u32);

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct TooMany(u32);

    impl std::fmt::Display for TooMany {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} are too many", self.0)
        }
    }

    impl std::error::Error for TooMany {}

    impl Fault for TooMany {}

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Counted {
        to: u32,
    }

    sidewire::messages! {
        5 => Count -> String, progress u32, error TooMany;
    }

    sidewire::events! {
        6 => Counted;
    }

    #[test]
    fn tasks_ask_with_values() {
        let _watchdog = watchdog(60);
        let mut server = Server::new(());
        server.publishes::<Counted>(WhenSlow::DropNewest);
        let remote = server.remote().expect("a remote");
        server.serve_later::<Count>(move |(), Count(to), _request, mut responder| {
            if to > 100 {
                return responder.fail(TooMany(to));
            }
            let remote = remote.clone();
            std::thread::spawn(move || {
                for number in 1..=to {
                    responder.progress(number)?;
                }
                remote.publish_event(&Counted { to }).expect("room");
                responder.reply(format!("up to {to}"));
                Ok::<_, Unsent>(())
            });
        });
        let (running, bound) = start(server, [usual(&fresh("local"))]);
        super::on_both(async || {
            let client = super::open(&bound[0]).await;
            let mut events = client.subscribe_to::<Counted>().await.expect("a topic");
            assert_eq!(client.ask(&Count(3)).await.expect("an answer"), "up to 3");
            assert_eq!(events.next().await.expect("one").expect("an event").to, 3);
            let error = client.asking(&Count(101)).start().await.expect("start").await.expect_err("too many");
            assert!(matches!(error, AskError::App(TooMany(101))), "{error}");
            let mut parts = client.asking(&Count(2)).stream().await.expect("a stream");
            let mut seen = Vec::new();
            while let Some(part) = parts.next().await {
                seen.push(part.expect("no failure"));
            }
            assert_eq!(seen, [Part::Progress(1), Part::Progress(2), Part::Reply("up to 2".into())]);
            assert!(parts.wait(|_| panic!("the end was told")).await.expect_err("no more").call().is_some());
            let parts = client.asking(&Count(3)).stream().await.expect("a stream");
            let mut progress = 0;
            assert_eq!(parts.wait(|number| progress += number).await.expect("an answer"), "up to 3");
            assert_eq!(progress, 6);
        });
        running.stop().expect("the server ends well");
    }
}

/// Ten thousand tasks on a hundred connections, or fewer where that would take long.
#[test]
fn a_crowd_of_tasks_is_served() {
    let _watchdog = watchdog(60);
    let (tasks, connections) =
        if sidewire_platform::stream_schemes().contains(&"pipe") { (500, 10) } else { (10_000, 100) };
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    for runtime in runtimes() {
        runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..connections {
                clients.push(Arc::new(open(&bound[0]).await));
            }
            let done = Arc::new(AtomicUsize::new(0));
            let crowd: Vec<_> = (0..tasks)
                .map(|number: usize| {
                    let (client, done) = (Arc::clone(&clients[number % connections]), Arc::clone(&done));
                    tokio::spawn(async move {
                        let payload = number.to_le_bytes();
                        for _ in 0..2 {
                            let reply = client.call(ECHO, payload).await.expect("a reply");
                            assert_eq!(reply.payload(), payload);
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            for task in crowd {
                task.await.expect("a task");
            }
            assert_eq!(done.load(Ordering::Relaxed), tasks);
        });
    }
    running.stop().expect("the server ends well");
}

/// Also while a connection's end is looked for, and whatever is told may ask.
#[test]
fn whoever_is_told_that_something_has_come_may_use_the_client() {
    let _watchdog = watchdog(20);
    on_both(async || {
        let endpoint = fresh("local");
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let (told, times) = (Arc::new(OnceLock::<Arc<Client>>::new()), Arc::new(AtomicUsize::new(0)));
        let (client, counted) = (Arc::clone(&told), Arc::clone(&times));
        let connect = connect(&bound[0]).reconnect(Reconnect::new()).on_arrival(move || {
            let _ = client.get().map(|client| client.is_closed());
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let client = Arc::new(connect.open_async().await.expect("connect"));
        told.set(Arc::clone(&client)).expect("once");
        running.stop().expect("the server ends well");
        let (running, _) = start(store(), [usual(&endpoint)]);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(client.call(ECHO, b"x").await.expect("a reply").payload(), b"x");
        assert!(times.load(Ordering::Relaxed) > 0);
        client.close();
        running.stop().expect("the server ends well");
    });
}

/// Whoever is dropped may have been woken for all. A wakeup that is lost is a call that takes too long.
#[test]
fn no_wakeup_is_lost_with_those_who_are_dropped() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("local");
    let mut server = store();
    server.on(SOON_AFTER, |_, request, reply| {
        let (responder, payload) = (reply.defer()?, request.payload().to_vec());
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(u64::from(payload[0])));
            responder.reply(payload);
        });
        Ok(())
    });
    let (running, bound) = start(server, [usual(&endpoint)]);
    for runtime in runtimes() {
        runtime.block_on(async {
            let connect =
                connect(&bound[0]).call_timeout(Duration::from_secs(10)).reconnect(Reconnect::new());
            let client = Arc::new(connect.open_async().await.expect("connect"));
            let tasks = (0..24_u64).map(|number| {
                let client = Arc::clone(&client);
                tokio::spawn(async move {
                    let mut random = number * 7919 + 1;
                    for _ in 0..60 {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        one_of_many(&client, (random >> 33) as u32).await;
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.expect("a task");
            }
            assert_eq!(client.call(ECHO, b"last").await.expect("a reply").payload(), b"last");
        });
    }
    running.stop().expect("the server ends well");
}

const SOON_AFTER: u16 = 9;

async fn one_of_many(client: &Client, random: u32) {
    let payload = vec![random as u8; if random.is_multiple_of(11) { 300_000 } else { 20 }];
    let patience = Duration::from_micros(u64::from(random >> 8) % 2000);
    let what = if random.is_multiple_of(3) { SOON_AFTER } else { ECHO };
    match random % 8 {
        0..4 => {
            let reply = client.call(what, &payload).await.expect("a reply");
            assert!(reply.payload() == payload);
        }
        4 => drop(tokio::time::timeout(patience, client.call(what, &payload)).await),
        5 => drop(polled_once(pin!(client.call(what, &payload))).await),
        6 => {
            let started = client.start(what, &payload).await.expect("start");
            if let Ok(reply) = tokio::time::timeout(patience, started).await {
                assert!(reply.expect("a reply").payload() == payload);
            }
        }
        _ => {
            let mut events = client.subscribe(CHANGED).await.expect("a topic");
            client.call(SET, b"x").await.expect("set");
            assert!(events.next().await.expect("one").is_ok());
            drop(polled_once(pin!(events.next())).await);
        }
    }
}

/// What tasks may be given.
const _: () = {
    const fn sent<T: Send>() {}
    const fn shared<T: Send + Sync>() {}
    shared::<(Client, sidewire::tokio::Parts)>();
    sent::<(Events, Pending)>();
};
