//! Answers that come later, from other threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use sidewire::{Cancellation, Client, Failure, Responder, ResultCode, Server, Unwanted};
use sidewire_platform::{Channel, Endpoint};

use crate::util::{
    PATIENCE, Raw, all_streams, client, connect, crowded_streams, frame, fresh, on_every_stream, start,
    until, usual, watchdog,
};

/// Answered by a worker, with the payload backwards.
const LATER: u16 = 1;
/// Its responder is dropped.
const DROPPED: u16 = 2;
/// It is deferred, and its handler then fails.
const FAILS: u16 = 3;
/// The same with a panic.
const PANICS: u16 = 4;
/// Answered with what the worker finds wrong.
const WRONG: u16 = 5;
/// Answered at once with the payload.
const ECHO: u16 = 6;

type Job = (Vec<u8>, Responder);

/// A server whose workers answer, and how to give it work.
fn server(workers: usize) -> Server<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..workers {
        let queue = Arc::clone(&queue);
        std::thread::spawn(move || {
            loop {
                let job = queue.lock().expect("a lock").recv();
                let Ok((mut payload, responder)) = job else { return };
                payload.reverse();
                responder.reply(payload);
            }
        });
    }
    let mut server = Server::new(jobs);
    server.on(LATER, |jobs, request, reply| {
        reply.write("this is taken back");
        jobs.send((request.to_vec()?, reply.defer()?))?;
        Ok(())
    });
    server.on(DROPPED, |_, _, reply| {
        drop(reply.defer()?);
        Ok(())
    });
    server.on(FAILS, |jobs, _, reply| {
        jobs.send((b"late".to_vec(), reply.defer()?))?;
        Err(Failure::new(ResultCode::new(7), "on second thought"))
    });
    server.on(PANICS, |_, _, reply| {
        let _responder = reply.defer()?;
        panic!("on purpose");
    });
    server.on(WRONG, |_, _, reply| {
        let responder = reply.defer()?;
        assert_eq!(reply.defer().expect_err("once").result_code(), ResultCode::HANDLER_FAILED);
        std::thread::spawn(move || responder.fail(Failure::new(ResultCode::new(8), "no such thing")));
        Ok(())
    });
    server.on(ECHO, |_, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server
}

fn failure(client: &Client, msg_type: u16) -> (i32, String) {
    let response = client.request(msg_type).exchange(b"").expect("an answer");
    (response.result_code().code(), String::from_utf8_lossy(response.payload()).into_owned())
}

#[test]
fn a_deferred_request_has_exactly_one_answer_whatever_its_handler_does() {
    let _watchdog = watchdog(120);
    on_every_stream(
        server(2),
        |listen| listen,
        |endpoint| {
            for how in [connect(endpoint), connect(endpoint).classic()] {
                let client = how.open().expect("connect");
                let has_texts = client.layout() == sidewire::Layout::V1;
                for round in 0..3 {
                    let text = format!("round {round}");
                    let backwards: Vec<u8> = text.bytes().rev().collect();
                    assert_eq!(client.call(LATER, &text).expect("call").into_payload(), backwards);
                    for (msg_type, rc, text) in [
                        (DROPPED, -10, "whoever was to answer it has gone without a word"),
                        (FAILS, 7, "on second thought"),
                        (PANICS, -10, "the handler panicked"),
                        (WRONG, 8, "no such thing"),
                    ] {
                        let text = if has_texts { text } else { "" };
                        assert_eq!(failure(&client, msg_type), (rc, text.to_owned()), "type {msg_type}");
                    }
                    // Nothing is out of step.
                    assert_eq!(client.call(ECHO, b"x").expect("call").into_payload(), b"x");
                }
                if has_texts {
                    client.notify(LATER, b"nobody asks").expect("notify");
                    assert_eq!(client.call(ECHO, b"y").expect("call").into_payload(), b"y");
                }
            }
        },
    );
}

/// 100 threads with 1,000 deferred calls each on one connection: every reply right, none twice.
#[test]
fn a_hundred_threads_with_a_thousand_deferred_calls_each() {
    let _watchdog = watchdog(300);
    for (endpoint, calls) in crowded_streams(1000) {
        a_hundred_threads_with_deferred_calls(&endpoint, calls);
    }
}

fn a_hundred_threads_with_deferred_calls(endpoint: &Endpoint, calls: usize) {
    const THREADS: usize = 100;
    let server = server(4);
    let counters = server.counters();
    let (running, bound) = start(server, [usual(endpoint)]);
    let client = client(&bound[0]);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let client = &client;
            scope.spawn(move || {
                for call in 0..calls {
                    let text = format!("{thread}:{call}");
                    let reply = client.call(LATER, &text).expect("call").into_payload();
                    assert!(reply.iter().rev().eq(text.as_bytes()), "{text}: {reply:?}");
                }
            });
        }
    });
    drop(client);
    running.stop().expect("the server ends well");
    let told = (counters.requests(), counters.failed(), counters.answers_to_nobody());
    assert_eq!(told, ((THREADS * calls) as u64, 0, 0));
}

/// The same with callers that give up: some cancel, some have no time. Each call ends once.
#[test]
fn a_hundred_threads_that_give_up_at_random() {
    let _watchdog = watchdog(300);
    for (endpoint, calls) in crowded_streams(1000) {
        a_hundred_threads_give_up(&endpoint, calls);
    }
}

fn a_hundred_threads_give_up(endpoint: &Endpoint, calls: usize) {
    const THREADS: usize = 100;
    let server = server(4);
    let counters = server.counters();
    let (running, bound) = start(server, [usual(endpoint)]);
    let client = client(&bound[0]);
    let [given_up, refused, answered] = [(); 3].map(|()| AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (client, given_up, refused, answered) = (&client, &given_up, &refused, &answered);
            scope.spawn(move || {
                let mut random = thread as u64 + 1;
                for call in 0..calls {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let text = format!("{thread}:{call}");
                    let backwards: Vec<u8> = text.bytes().rev().collect();
                    let request = client.request(LATER);
                    let result = match (random >> 33) % 4 {
                        0 => {
                            // Dropped: cancelled.
                            drop(request.start(&text).expect("start"));
                            continue;
                        }
                        1 => {
                            let mut pending = request.start(&text).expect("start");
                            pending.cancel();
                            pending.wait()
                        }
                        2 => request.timeout(Duration::from_millis(1 + (random >> 40) % 20)).send(&text),
                        _ => request.send(&text),
                    };
                    match result {
                        Ok(response) => {
                            assert_eq!(response.into_payload(), backwards, "{text}");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) if error.is_timeout() => {
                            given_up.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            let rc = error.result_code();
                            let expected = [ResultCode::CANCELLED, ResultCode::TIMED_OUT];
                            assert!(rc.is_some_and(|rc| expected.contains(&rc)), "{text}: {error}");
                            given_up.fetch_add(1, Ordering::Relaxed);
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    // And the connection is as good as ever.
    assert_eq!(client.call(ECHO, b"still there").expect("call").into_payload(), b"still there");
    assert!(given_up.into_inner() > 0);
    // The answer of a worker to whoever was answered by the server before is for nobody.
    let refused = refused.into_inner();
    until("the workers have answered", || counters.answers_to_nobody() >= refused);
    drop(client);
    running.stop().expect("the server ends well");
    // Of the others nobody knows which of the two it was.
    assert!(counters.answers_to_nobody() <= counters.requests() - answered.into_inner());
}

/// A request that is worked on holds up nobody.
#[test]
fn others_do_not_wait_for_a_deferred_request() {
    let _watchdog = watchdog(300);
    for endpoint in all_streams() {
        others_do_not_wait(&endpoint);
    }
}

fn others_do_not_wait(endpoint: &Endpoint) {
    const WORK: u16 = 1;
    let (begun, works) = mpsc::channel();
    let mut server = Server::new(());
    server.on(WORK, move |(), _, reply| Ok(begun.send(reply.defer()?)?));
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    let (running, bound) = start(server, [usual(endpoint)]);
    let (worker, other) = (client(&bound[0]), client(&bound[0]));
    let median = || {
        let time = |_| {
            let begun = Instant::now();
            for client in [&other, &worker] {
                client.call(ECHO, b"x").expect("call");
            }
            begun.elapsed()
        };
        let mut times: Vec<_> = (0..500).map(time).collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    // The best of some, for a machine that is busy with something else now and then.
    let is_as_fast = (0..5).any(|_| {
        let before = median();
        let pending = worker.start(WORK, b"").expect("start");
        worker.flush().expect("sent");
        let work = works.recv_timeout(PATIENCE).expect("it has begun");
        let meanwhile = median();
        work.reply("done");
        assert_eq!(pending.wait().expect("call").into_payload(), b"done");
        println!("{endpoint}: two calls: {before:?}, with one deferred {meanwhile:?}");
        meanwhile < before * 2 + Duration::from_millis(1)
    });
    assert!(is_as_fast, "a deferred request holds up others on {endpoint}");
    running.stop().expect("the server ends well");
}

/// Those who work on it are told in each of three ways.
#[test]
fn work_for_nobody_is_told_so() {
    const WORK: u16 = 1;
    let _watchdog = watchdog(120);
    for endpoint in all_streams() {
        let mut server = Server::new(());
        let (begun, tokens) = mpsc::channel::<(Cancellation, Responder)>();
        server.on(WORK, move |(), _, reply| {
            let responder = reply.defer()?;
            Ok(begun.send((responder.cancellation(), responder))?)
        });
        let (running, bound) = start(server, [usual(&endpoint)]);
        let connection = client(&bound[0]);

        let mut pending = connection.start(WORK, b"").expect("start");
        connection.flush().expect("flush");
        let (token, responder) = tokens.recv().expect("it is begun");
        assert!(!token.is_cancelled() && token.wait(Duration::from_millis(20)).is_none());
        pending.cancel();
        connection.flush().expect("flush");
        assert_eq!(token.wait(Duration::from_secs(30)), Some(Unwanted::Cancelled));
        responder.reply("too late");
        let error = pending.wait().expect_err("it is cancelled");
        assert_eq!(error.result_code(), Some(ResultCode::CANCELLED));

        let pending = connection.request(WORK).timeout(Duration::from_millis(50)).start(b"").expect("start");
        connection.flush().expect("flush");
        let (token, _responder) = tokens.recv().expect("it is begun");
        assert_eq!(token.wait(Duration::from_secs(30)), Some(Unwanted::TimedOut));
        assert!(pending.wait().is_err());

        let raw = Raw::connect(&bound[0]);
        raw.shake_hands();
        raw.send(&frame(1, WORK, 1, 0, b""));
        let (token, _responder) = tokens.recv().expect("it is begun");
        let (heard, hears) = mpsc::channel();
        token.on_cancel(move |why| heard.send(why).expect("somebody waits"));
        drop(raw);
        assert_eq!(hears.recv().expect("it is told"), Unwanted::Disconnected);
        let (late, hears_late) = mpsc::channel();
        token.on_cancel(move |why| late.send(why).expect("somebody waits"));
        assert_eq!(hears_late.recv().expect("at once"), Unwanted::Disconnected);
        running.stop().expect("the server ends well");
    }
}

/// What is done while the server stops is answered, what is not done in time is refused. A second word can end it
/// sooner.
///
/// PROTOCOL E7a
#[test]
fn a_server_that_stops_gives_deferred_requests_their_time() {
    const WORK: u16 = 1;
    let _watchdog = watchdog(120);
    for endpoint in all_streams() {
        for first in [0, 1, 2] {
            let mut server = Server::new(());
            let (begun, work) = mpsc::channel::<(usize, Responder)>();
            server.on(WORK, move |(), request, reply| {
                Ok(begun.send((usize::from(request.payload()[0]), reply.defer()?))?)
            });
            let (running, bound) = start(server, [usual(&endpoint)]);
            let client = connect(&bound[0]).call_timeout(PATIENCE).open().expect("connect");
            let classic = connect(&bound[0]).classic().call_timeout(PATIENCE).open().expect("connect");
            let calls = [(&client, 0), (&client, 1), (&classic, 2)];
            let calls = calls.map(|(client, number)| client.start(WORK, [number]).expect("start"));
            let mut calls = calls.map(Some);
            client.flush().and_then(|()| classic.flush()).expect("flush");
            let mut responders: Vec<_> = (0..3).map(|_| work.recv().expect("it is begun")).collect();
            let remote = running.remote();
            remote.stop_within(Duration::from_secs(3600)).expect("stop");
            // A pipe whose instances are all taken has waiting clients for as long as it is there.
            let a_moment = Some(Duration::from_millis(100));
            until("nobody is let in", || Channel::connect(&bound[0], a_moment).is_err());
            let (_, responder) =
                responders.remove(responders.iter().position(|(number, _)| *number == first).expect("it"));
            responder.reply("done");
            let done = calls[first].take().expect("a call").wait().expect("an answer");
            assert_eq!(done.into_payload(), b"done");
            // Others have time still, until it is taken from them.
            assert!(calls.iter_mut().flatten().all(|call| call.poll().is_none()), "on {endpoint}");
            remote.stop_within(Duration::from_millis(1)).expect("stop");
            for call in calls.into_iter().flatten() {
                let error = call.wait().expect_err("nobody answers it");
                // A pipe may be closed before a busy client has read its last bytes.
                let is_lost = error.is_peer_gone() && endpoint.scheme() != "tcp" && cfg!(windows);
                let is_refused = error.result_code() == Some(ResultCode::SHUTTING_DOWN);
                assert!(is_refused || is_lost, "on {endpoint}: {error}");
            }
            running.stop().expect("the server ends well");
        }
    }
}

/// A responder may outlive its server.
#[test]
fn an_answer_after_the_end_is_for_nobody() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    let (begun, work) = mpsc::channel::<Responder>();
    server.on(1, move |(), _, reply| Ok(begun.send(reply.defer()?)?));
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let client = client(&bound[0]);
    let pending = client.start(1, b"").expect("start");
    client.flush().expect("flush");
    let responder = work.recv().expect("it is begun");
    until("it has stopped", || running.remote().stop_within(Duration::ZERO).is_ok());
    running.stop().expect("the server ends well");
    responder.reply("nobody");
    assert!(pending.wait().is_err());
}
