//! Replies in parts, whoever produces them and however they are taken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sidewire::{Client, Endpoint, Failure, ReplyStream, Result, ResultCode, Server, Unsent, Unwanted};

use crate::util::{alone, client, connect, fresh, on_every_stream, start, usual, watchdog};

/// Streamed by a thread: as many parts as the payload says.
const WORKER: u16 = 1;
/// The same, without a thread.
const LOOP: u16 = 2;
/// Streams without end. What the thread that does hears at last is sent on.
const ENDLESS: u16 = 3;
/// Two parts and a failure.
const FAILS: u16 = 4;
/// Two parts, and then it is dropped.
const DROPPED: u16 = 5;
const ECHO: u16 = 6;
/// Tries what is not allowed, and answers with what came of it.
const TRIES: u16 = 7;

/// One part, and then nothing until nobody waits for more.
const HELD: u16 = 8;

/// What a part of the endless one has.
const LARGE: usize = 64 << 10;

fn number(payload: &[u8]) -> std::result::Result<u64, Failure> {
    let text = std::str::from_utf8(payload).unwrap_or_default();
    text.parse().map_err(|_| Failure::new(ResultCode::MALFORMED, "no number"))
}

fn count(mut stream: ReplyStream, from: u64, last: u64) {
    for number in from..=last {
        match stream.try_send(number.to_string()) {
            Ok(()) => {}
            Err(Unsent::Full) => return stream.on_ready(move |stream| count(stream, number, last)),
            Err(_) => return,
        }
    }
    stream.reply("end");
}

fn server(ends: mpsc::Sender<Unsent>) -> Server<()> {
    let mut server = Server::new(());
    server.on(WORKER, |(), request, reply| {
        let last = number(request.payload())?;
        let mut stream = reply.stream()?;
        std::thread::spawn(move || {
            for number in 1..=last {
                stream.send(number.to_string())?;
            }
            stream.reply("end");
            Ok::<_, Unsent>(())
        });
        Ok(())
    });
    server.on(LOOP, |(), request, reply| {
        let last = number(request.payload())?;
        count(reply.stream()?, 1, last);
        Ok(())
    });
    let held = ends.clone();
    server.on(HELD, move |(), _, reply| {
        let (mut stream, ends) = (reply.stream()?, held.clone());
        stream.send("one")?;
        std::thread::spawn(move || {
            let why = stream.cancellation().wait(Duration::from_secs(60));
            ends.send(why.map_or(Unsent::Full, Unsent::Unwanted))
        });
        Ok(())
    });
    server.on(ENDLESS, move |(), _, reply| {
        let (mut stream, ends) = (reply.stream()?, ends.clone());
        std::thread::spawn(move || {
            let end = loop {
                if let Err(end) = stream.send(vec![7; LARGE]) {
                    break end;
                }
            };
            ends.send(end)
        });
        Ok(())
    });
    server.on(FAILS, |(), _, reply| {
        let mut stream = reply.stream()?;
        stream.send("one")?;
        stream.send("two")?;
        stream.fail(Failure::new(ResultCode::new(9), "that was all"));
        Ok(())
    });
    server.on(DROPPED, |(), _, reply| {
        let mut stream = reply.stream()?;
        stream.send("one")?;
        Ok(stream.send("two")?)
    });
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(TRIES, |(), _, reply| {
        let mut stream = reply.stream()?;
        let room = reply.room();
        assert_eq!(stream.send(vec![0; room + 1]), Err(Unsent::TooLarge { limit: room }));
        // The server's own thread would wait for itself.
        while stream.send(vec![0; LARGE]).is_ok() {}
        assert_eq!(stream.send("x"), Err(Unsent::Full));
        stream.reply("end");
        Ok(())
    });
    server
}

fn serving() -> (Server<()>, mpsc::Receiver<Unsent>) {
    let (sender, ends) = mpsc::channel();
    (server(sender), ends)
}

/// One client of a server of its own.
fn conversing(converse: impl FnOnce(&Endpoint, &Client, &mpsc::Receiver<Unsent>)) {
    let (server, ends) = serving();
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    converse(&bound[0], &client(&bound[0]), &ends);
    running.stop().expect("the server ends well");
}

fn taken(client: &Client, msg_type: u16, payload: &str) -> (Vec<Vec<u8>>, Result<Vec<u8>>) {
    let mut parts = client.stream(msg_type, payload).expect("begun");
    let mut came = Vec::new();
    for part in parts.by_ref() {
        match part {
            Ok(part) => came.push(part),
            Err(error) => return (came, Err(error)),
        }
    }
    (came, Ok(parts.response().expect("the final reply").payload().to_vec()))
}

fn counted(last: u64) -> Vec<Vec<u8>> {
    (1..=last).map(|number| number.to_string().into_bytes()).collect()
}

#[test]
fn parts_come_in_order_over_every_stream() {
    let _watchdog = watchdog(180);
    on_every_stream(
        serving().0,
        |listen| listen,
        |endpoint| {
            let client = client(endpoint);
            for msg_type in [WORKER, LOOP] {
                // More than the credit of a call, and more than may wait.
                for last in [0, 1, 3, 20_000] {
                    let (parts, end) = taken(&client, msg_type, &last.to_string());
                    assert_eq!(
                        (parts == counted(last), end.expect("fine")),
                        (true, b"end".to_vec()),
                        "{last}"
                    );
                }
            }
            for (msg_type, rc) in [(FAILS, 9), (DROPPED, -10)] {
                let (parts, end) = taken(&client, msg_type, "");
                let error = end.expect_err("it fails");
                assert_eq!(parts, [b"one", b"two"]);
                assert_eq!(error.result_code().map(ResultCode::code), Some(rc), "{error}");
            }
            // Who asks for no parts gets the end alone.
            assert_eq!(client.call(LOOP, "5000").expect("call").into_payload(), b"end");
            let none = taken(&client, ECHO, "at once");
            assert_eq!((none.0.len(), none.1.expect("fine")), (0, b"at once".to_vec()));
            assert_eq!(taken(&client, TRIES, "").1.expect("fine"), b"end");
        },
    );
}

#[test]
fn many_streams_share_one_connection() {
    let _watchdog = watchdog(120);
    conversing(|_, client, _| {
        std::thread::scope(|scope| {
            for thread in 0..16 {
                scope.spawn(move || {
                    let msg_type = [WORKER, LOOP][thread % 2];
                    let (parts, end) = taken(client, msg_type, "3000");
                    assert_eq!((parts == counted(3000), end.expect("fine")), (true, b"end".to_vec()));
                });
            }
        });
    });
}

#[test]
fn one_that_is_dropped_is_cancelled() {
    let _watchdog = watchdog(60);
    conversing(|_, client, ends| {
        let mut parts = client.stream(ENDLESS, "").expect("begun");
        assert_eq!(parts.next().expect("a part").expect("fine").len(), LARGE);
        drop(parts);
        assert_eq!(ends.recv(), Ok(Unsent::Unwanted(Unwanted::Cancelled)));
        // The same in so many words: what was under way comes, and then the end.
        let mut parts = client.stream(ENDLESS, "").expect("begun");
        parts.cancel();
        let last = parts.by_ref().find_map(|part| part.err()).expect("an end");
        assert_eq!(last.result_code(), Some(ResultCode::CANCELLED), "{last}");
        assert!(parts.next().is_none() && parts.response().is_none());
        assert_eq!(ends.recv(), Ok(Unsent::Unwanted(Unwanted::Cancelled)));
        assert_eq!(client.call(ECHO, "on").expect("call").into_payload(), b"on");
    });
}

#[test]
fn who_streams_hears_that_the_client_has_gone() {
    let _watchdog = watchdog(60);
    conversing(|endpoint, _, ends| {
        let other = client(endpoint);
        let parts = other.stream(ENDLESS, "").expect("begun");
        drop(other);
        drop(parts);
        let end = ends.recv().expect("an end");
        assert!(matches!(end, Unsent::Unwanted(_)), "{end:?}");
    });
}

/// A reader that takes nothing for a while holds up that producer, and nobody's calls.
#[test]
fn a_reader_that_rests_holds_up_one_producer() {
    let _watchdog = watchdog(60);
    let (server, _ends) = serving();
    let counters = server.counters();
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let client = client(&bound[0]);
    let mut parts = client.stream(ENDLESS, "").expect("begun");
    let mut stalled = 0;
    for _ in 0..20 {
        // It waits for us; others don't.
        while counters.streams_stalled() == stalled {
            assert_eq!(client.call(ECHO, "others").expect("call").into_payload(), b"others");
        }
        stalled = counters.streams_stalled();
        let mut taken = 0;
        while taken < 8 * LARGE {
            taken += parts.next().expect("more").expect("fine").len();
        }
    }
    drop((parts, client));
    running.stop().expect("the server ends well");
}

/// Both sides are in this process: neither keeps more than a few windows of a download, however long it is.
#[test]
fn a_gibibyte_through_a_reader_that_sleeps_takes_no_memory_and_holds_up_nobody() {
    const ALL: usize = 1 << 30;
    let _watchdog = watchdog(300);
    alone("streams::a_gibibyte_through_a_reader_that_sleeps_takes_no_memory_and_holds_up_nobody", || {
        conversing(|_, client, _| {
            let done = AtomicBool::new(false);
            let read = |most: usize| {
                let mut bytes = 0;
                for (number, part) in client.stream(ENDLESS, "").expect("begun").enumerate() {
                    bytes += part.expect("fine").len();
                    if bytes >= most {
                        return;
                    }
                    if number % 256 == 0 {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            };
            read(ALL / 64);
            let before = peak_kib();
            let answered = std::thread::scope(|scope| {
                scope.spawn(|| {
                    read(ALL);
                    done.store(true, Ordering::Relaxed);
                });
                let mut answered = 0;
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(client.call(ECHO, "others").expect("call").into_payload(), b"others");
                    answered += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                answered
            });
            assert!(answered > 50, "only {answered} calls were answered meanwhile");
            let grown = peak_kib() - before;
            assert!(grown < 4096, "{grown} KiB more at most");
        });
    });
}

/// The most memory that this process has had so far; 0 where the system does not tell.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[test]
fn a_part_that_does_not_come_in_time_ends_the_call() {
    let _watchdog = watchdog(60);
    conversing(|_, client, ends| {
        let limit = Duration::from_millis(500);
        let mut parts = client.request(HELD).timeout(limit).stream("").expect("begun");
        assert_eq!(parts.next().expect("a part").expect("in time"), b"one");
        let error = parts.next().expect("an end").expect_err("nothing more comes");
        assert!(error.is_timeout() && parts.next().is_none(), "{error}");
        assert_eq!(ends.recv(), Ok(Unsent::Unwanted(Unwanted::Cancelled)));
        assert_eq!(client.call(ECHO, "on").expect("call").into_payload(), b"on");
    });
}

#[test]
fn a_server_that_stops_ends_streams_in_its_time() {
    let _watchdog = watchdog(60);
    let (mut server, ends) = serving();
    let remote = server.remote().expect("a remote");
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let client = client(&bound[0]);
    let mut parts = client.stream(ENDLESS, "").expect("begun");
    parts.next().expect("a part").expect("fine");
    remote.stop_within(Duration::from_millis(100)).expect("told");
    let last = parts.by_ref().find_map(|part| part.err()).expect("an end");
    let is_told = last.result_code() == Some(ResultCode::SHUTTING_DOWN) || last.is_peer_gone();
    assert!(is_told, "{last}");
    let end = ends.recv().expect("an end");
    assert!(matches!(end, Unsent::Unwanted(_)), "{end:?}");
    running.stop().expect("the server ends well");
}

#[test]
fn classic_clients_are_told_that_there_are_no_parts() {
    let _watchdog = watchdog(60);
    conversing(|endpoint, _, _| {
        let classic = connect(endpoint).classic().open().expect("connect");
        let (parts, end) = taken(&classic, LOOP, "3");
        assert_eq!(parts.len(), 0);
        assert_eq!(end.expect_err("none").result_code(), Some(ResultCode::FEATURE_MISSING));
        assert_eq!(taken(&classic, ECHO, "x").1.expect("fine"), b"x");
    });
}
