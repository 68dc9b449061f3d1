//! Calls that are started and waited for later, and clients that are closed.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Client, Error, Executed, Pending, ResultCode, wait_any};

use crate::util::fake::{Fake, send, take, take_request, wait_for_the_end};
use crate::util::{
    Dialect, Gate, all_streams, client, connect, frame, fresh, in_every_dialect, start, store, usual,
    watchdog,
};

const ECHO: u16 = 4;
const REPLY: u8 = 2;
const CANCEL: u8 = 7;
const GOODBYE: u8 = 12;
/// More than any machine takes for a wake.
const AT_ONCE: Duration = Duration::from_secs(60);

fn limits() -> sidewire::Limits {
    sidewire::Limits::default()
}

fn start_echoes(client: &Client, count: u32) -> Vec<Pending> {
    (0..count).map(|number| client.start(ECHO, number.to_le_bytes()).expect("start")).collect()
}

#[test]
fn replies_are_kept_in_whatever_order_they_are_asked_for() {
    let _watchdog = watchdog(60);
    in_every_dialect(&limits(), |dialect, endpoint| {
        let client = dialect.client(endpoint);
        for is_reversed in [false, true] {
            let mut calls: Vec<_> = start_echoes(&client, 200).into_iter().enumerate().collect();
            if is_reversed {
                calls.reverse();
            }
            assert_eq!(client.call(ECHO, b"between").expect("a reply").payload(), b"between");
            for (number, call) in calls {
                assert_eq!(call.wait().expect("its reply").payload(), (number as u32).to_le_bytes());
            }
        }
    });
}

#[test]
fn more_calls_than_the_server_takes_at_once_wait_for_room() {
    let _watchdog = watchdog(60);
    let mut limits = limits();
    limits.listener.connection.max_in_flight = 8;
    in_every_dialect(&limits, |dialect, endpoint| {
        let client = dialect.client(endpoint);
        for (number, call) in start_echoes(&client, 100).into_iter().enumerate() {
            assert_eq!(call.wait().expect("its reply").payload(), (number as u32).to_le_bytes());
        }
    });
}

#[test]
fn large_calls_need_nobody_who_waits_for_room() {
    let _watchdog = watchdog(60);
    in_every_dialect(&limits(), |dialect, endpoint| {
        if dialect == Dialect::Fixed {
            return;
        }
        let (client, payload) = (dialect.client(endpoint), vec![7; 1000]);
        let calls: Vec<_> = (0..2000).map(|_| client.start(ECHO, &payload).expect("start")).collect();
        for call in calls {
            assert_eq!(call.wait().expect("its reply").payload(), payload);
        }
    });
}

#[test]
fn any_of_several_is_the_one_that_is_there() {
    let _watchdog = watchdog(60);
    let (first_taken, may_answer) = mpsc::channel::<()>();
    let fake = Fake::v1(move |stream| {
        let ids = [(); 3].map(|()| take_request(stream));
        send(stream, &frame(REPLY, 1, ids[1], 0, b"second"));
        may_answer.recv().expect("the test goes on");
        send(stream, &frame(REPLY, 1, ids[2], -2, b""));
        send(stream, &frame(REPLY, 1, ids[0], 0, b"first"));
        wait_for_the_end(stream);
    });
    let client = fake.client();
    let mut calls: Vec<_> = [0, 1, 2].iter().map(|_| client.start(1, b"").expect("start")).collect();
    assert_eq!(wait_any(&mut calls, None).expect("one"), 1);
    assert_eq!(calls.remove(1).wait().expect("its reply").payload(), b"second");
    let error = wait_any(&mut calls, Duration::from_millis(30)).expect_err("none of them");
    assert!(error.is_timeout(), "{error}");
    assert!(calls[0].wait_timeout(Duration::from_millis(10)).is_none());
    first_taken.send(()).expect("the fake server waits");
    let mut ends = Vec::new();
    while !calls.is_empty() {
        let index = wait_any(&mut calls, AT_ONCE).expect("one");
        ends.push(calls.swap_remove(index).wait().map(|reply| reply.payload().to_vec()));
    }
    let failed = |result: &Result<Vec<u8>, Error>| {
        result.as_ref().is_err_and(|error| error.result_code() == Some(ResultCode::NO_HANDLER))
    };
    assert!(
        ends.iter().any(failed) && ends.iter().any(|end| end.as_ref().is_ok_and(|text| text == b"first"))
    );
    assert!(wait_any(&mut calls, None).expect_err("none is left").is_invalid_input());
    drop(client);
    fake.join();
}

#[test]
fn a_call_has_its_time_limit_and_who_waits_his() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(wait_for_the_end);
    let client = fake.client();
    let mut calls = [client.request(1).timeout(Duration::MAX).start(b"").expect("start")];
    assert!(calls[0].poll().is_none() && calls[0].wait_timeout(Duration::from_millis(20)).is_none());
    let begun = Instant::now();
    let mut call = client.request(1).timeout(Duration::from_millis(200)).start(b"").expect("start");
    let error = call.wait_timeout(AT_ONCE).expect("its own limit").expect_err("no reply");
    assert!(begun.elapsed() >= Duration::from_millis(200) && error.is_timeout(), "{error}");
    assert_eq!(error.executed(), Executed::Perhaps);
    let text = error.to_string();
    assert!(text.contains("(type 1)") && text.contains(&fake.endpoint.to_string()), "{text}");
    assert!(text.contains("within 200ms"), "{text}");
    // It is told once.
    assert!(call.poll().expect("an answer").expect_err("no reply").is_invalid_input());
    assert!(call.wait().expect_err("no reply").is_invalid_input());
    assert!(wait_any(&mut calls, Duration::ZERO).expect_err("not yet").is_timeout());
    drop((client, calls));
    fake.join();
}

/// PROTOCOL K6
#[test]
fn a_call_that_is_dropped_is_cancelled_and_its_reply_skipped() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| {
        let dropped = take_request(stream);
        assert_eq!(take(stream, 16), frame(CANCEL, 0, dropped, 0, b""));
        let cancelled = take_request(stream);
        assert_eq!(take(stream, 16), frame(CANCEL, 0, cancelled, 0, b""));
        send(stream, &frame(REPLY, 1, dropped, -8, b""));
        send(stream, &frame(REPLY, 1, cancelled, -8, b""));
        let last = take_request(stream);
        send(stream, &frame(REPLY, 1, last, 0, b"fine"));
        wait_for_the_end(stream);
    });
    let client = fake.client();
    drop(client.start(1, b"").expect("start"));
    let mut call = client.start(1, b"").expect("start");
    call.cancel();
    let error = call.wait().expect_err("cancelled");
    assert_eq!(error.result_code(), Some(ResultCode::CANCELLED), "{error}");
    assert_eq!(client.call(1, b"").expect("a reply").payload(), b"fine");
    drop(client);
    fake.join();
}

#[test]
fn a_call_is_waited_for_on_any_thread_and_with_others_of_its_client() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let (client, other) = (client(&bound[0]), client(&bound[0]));
    let calls = start_echoes(&client, 20);
    let threads: Vec<_> = calls.into_iter().map(|call| thread::spawn(|| call.wait())).collect();
    for (number, thread) in (0_u32..).zip(threads) {
        let reply = thread.join().expect("a thread").expect("its reply");
        assert_eq!(reply.payload(), number.to_le_bytes());
    }
    let mut mixed = [client.start(ECHO, b"").expect("start"), other.start(ECHO, b"").expect("start")];
    let error = wait_any(&mut mixed, None).expect_err("of two clients");
    assert!(error.is_invalid_input() && error.to_string().contains("several clients"), "{error}");
    drop((mixed, client, other));
    running.stop().expect("the server ends well");
}

#[test]
fn what_is_started_leaves_when_it_is_asked_to() {
    let _watchdog = watchdog(60);
    let (taken, was_taken) = mpsc::channel();
    let fake = Fake::v1(move |stream| {
        (0..2).for_each(|_| taken.send(take_request(stream)).expect("the test waits"));
        wait_for_the_end(stream);
    });
    let client = fake.client();
    let calls = [client.start(1, b"").expect("start"), client.start(1, b"").expect("start")];
    assert!(was_taken.recv_timeout(Duration::from_millis(50)).is_err(), "not before somebody waits");
    client.flush().expect("flush");
    was_taken.recv_timeout(AT_ONCE).expect("the first");
    was_taken.recv_timeout(AT_ONCE).expect("the second");
    drop((client, calls));
    fake.join();
}

#[test]
fn replies_in_every_dialect_skip_what_was_dropped() {
    let _watchdog = watchdog(60);
    in_every_dialect(&limits(), |dialect, endpoint| {
        let client = dialect.client(endpoint);
        let calls = start_echoes(&client, 100);
        for (number, call) in calls.into_iter().enumerate() {
            match number % 2 {
                0 => drop(call),
                _ => assert_eq!(call.wait().expect("a reply").payload(), (number as u32).to_le_bytes()),
            }
        }
        assert_eq!(client.call(ECHO, b"after them").expect("a reply").payload(), b"after them");
    });
}

/// Says of a call that it ended because of `close`.
#[track_caller]
fn expect_closed(result: sidewire::Result<sidewire::Response>, executed: Executed) {
    let error = result.expect_err("the client was closed");
    assert!(error.is_closed() && !error.is_peer_gone(), "{error}");
    assert_eq!(error.executed(), executed, "{error}");
    assert!(error.to_string().contains("(type "), "{error}");
}

/// A store whose type 5 is held up.
fn held_store(gate: &Gate) -> sidewire::Server<Vec<u8>> {
    let mut server = store();
    let gate = gate.clone();
    server.on(5, move |_, _request, _reply| {
        gate.pass();
        Ok(())
    });
    server
}

/// How long threads are given to send what they send: more, where a busy machine needs more. `works` says whether
/// they had time enough.
fn with_time_enough(works: impl FnMut(Duration) -> bool) {
    let pauses = [100, 1_000, 10_000].map(Duration::from_millis);
    assert!(pauses.into_iter().any(works), "this machine is too busy to send something in ten seconds");
}

#[test]
fn closing_ends_blocked_calls_at_once() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let gate = Gate::default();
        let (running, bound) = start(held_store(&gate), [usual(&endpoint)]);
        for dialect in [Dialect::V1, Dialect::Classic] {
            with_time_enough(|pause| {
                let (client, closed) = (dialect.client(&bound[0]), gate.close());
                let mut idle = client.start(5, b"").expect("start");
                let ends = thread::scope(|scope| {
                    let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| client.call(5, b""))).collect();
                    thread::sleep(pause);
                    client.close();
                    threads.into_iter().map(|thread| thread.join().expect("a thread")).collect::<Vec<_>>()
                });
                let is_sent = |error: &Error| error.executed() == Executed::Perhaps;
                if !ends.iter().all(|end| is_sent(end.as_ref().expect_err("closed"))) {
                    return false;
                }
                ends.into_iter().for_each(|end| expect_closed(end, Executed::Perhaps));
                expect_closed(idle.poll().expect("its end"), Executed::Perhaps);
                expect_closed(client.call(ECHO, b""), Executed::Never);
                assert!(client.start(ECHO, b"").expect_err("closed").is_closed());
                assert!(client.flush().expect_err("closed").is_closed());
                client.close();
                drop(closed);
                true
            });
        }
        running.stop().expect("the server ends well");
    }
}

#[test]
fn closing_ends_whoever_waits_until_the_server_takes_more() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let gate = Gate::default();
        let (running, bound) = start(held_store(&gate), [usual(&endpoint)]);
        let (client, closed) = (client(&bound[0]), gate.close());
        let slow = client.start(5, b"").expect("start");
        client.flush().expect("flush");
        // More than any system keeps for a server that is held up.
        let payload = vec![0; 12 << 20];
        thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| client.call(ECHO, &payload))).collect();
            thread::sleep(Duration::from_millis(100));
            client.close();
            for thread in threads {
                let error = thread.join().expect("a thread").expect_err("closed");
                assert!(error.is_closed(), "{error}");
            }
        });
        expect_closed(slow.wait(), Executed::Perhaps);
        drop(closed);
        running.stop().expect("the server ends well");
    }
}

#[test]
fn a_client_that_goes_says_goodbye_and_ends_what_it_started() {
    let _watchdog = watchdog(60);
    for is_closed in [false, true] {
        let fake = Fake::v1(|stream| {
            take_request(stream);
            assert_eq!(take(stream, 16), frame(GOODBYE, 0, 0, 0, b""));
            wait_for_the_end(stream);
        });
        let client = fake.client();
        let call = client.start(1, b"").expect("start");
        if is_closed {
            client.close();
        }
        drop(client);
        expect_closed(call.wait(), Executed::Perhaps);
        fake.join();
    }
}

/// PROTOCOL E1
#[test]
fn a_goodbye_tells_each_started_call_whether_it_may_have_been_executed() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| {
        let ids = [(); 4].map(|()| take_request(stream));
        send(stream, &frame(GOODBYE, 0, ids[1], 0, b""));
        send(stream, &frame(REPLY, 1, ids[0], 0, b""));
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        wait_for_the_end(stream);
    });
    let client = fake.client();
    let calls = [(); 4].map(|()| client.start(1, b"").expect("start"));
    client.flush().expect("flush");
    let ends = calls.map(Pending::wait);
    assert!(ends[0].is_ok());
    let executed = ends[1..].iter().map(|end| end.as_ref().expect_err("it has gone"));
    let executed: Vec<_> = executed.map(|error| (error.is_peer_gone(), error.executed())).collect();
    assert_eq!(executed, [(true, Executed::Perhaps), (true, Executed::Never), (true, Executed::Never)]);
    drop(client);
    fake.join();
}

/// A server that stops need not wait until the client is dropped.
#[test]
fn a_client_closes_once_both_have_said_goodbye() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| {
        let ids = [(); 2].map(|()| take_request(stream));
        send(stream, &frame(GOODBYE, 0, ids[0], -9, b""));
        assert_eq!(take(stream, 16), frame(GOODBYE, 0, 0, 0, b""));
        send(stream, &frame(REPLY, 1, ids[0], 0, b""));
        assert_eq!(std::io::Read::read(stream, &mut [0]).expect("its end"), 0);
    });
    let client = fake.client();
    let [first, second] = [(); 2].map(|()| client.start(1, b"").expect("start"));
    assert!(first.wait().is_ok());
    assert_eq!(second.wait().expect_err("not accepted").executed(), Executed::Never);
    fake.join();
    let error = client.call(1, b"").expect_err("it has gone");
    assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");
}

#[test]
fn over_datagrams_no_call_is_started_and_closing_ends_the_one_that_waits() {
    let _watchdog = watchdog(60);
    for scheme in sidewire_platform::datagram_schemes().iter().filter(|scheme| **scheme != "mailslot") {
        let gate = Gate::default();
        let (running, bound) = start(held_store(&gate), [usual(&fresh(scheme))]);
        let open = || connect(&bound[0]).access(sidewire::Access::Anyone).open().expect("connect");
        let client = open();
        let error = client.start(ECHO, b"").expect_err("not over datagrams");
        assert!(error.is_invalid_input() && error.to_string().contains("(type 4)"), "{error}");
        client.flush().expect("there is nothing to do");
        assert!(client.call(ECHO, b"").is_ok());
        with_time_enough(|pause| {
            let (client, _closed) = (open(), gate.close());
            let ends = thread::scope(|scope| {
                let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| client.call(5, b""))).collect();
                thread::sleep(pause);
                client.close();
                threads.into_iter().map(|thread| thread.join().expect("a thread")).collect::<Vec<_>>()
            });
            expect_closed(client.call(ECHO, b""), Executed::Never);
            let executed = ends.into_iter().map(|end| {
                let error = end.expect_err("closed");
                assert!(error.is_closed(), "{error}");
                error.executed()
            });
            // One has asked, the others wait for their turn.
            match executed.filter(|executed| *executed == Executed::Never).count() {
                3 => false,
                count => count == 2 || panic!("{count} have not asked"),
            }
        });
        drop(client);
        running.stop().expect("the server ends well");
    }
}
