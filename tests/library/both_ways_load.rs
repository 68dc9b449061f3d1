//! Calls both ways at full load: nothing is lost, nothing confused, nobody waits for anybody.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sidewire::{Client, Connect, Failure, Running, Server};
use sidewire_platform::Endpoint;

use crate::util::{all_streams, connect, crowded_streams, fresh, start, usual, watchdog};

/// The server asks the client the same, and answers with its answer.
const BOUNCE: u16 = 1;
/// What clients serve: the payload, turned round.
const TURN: u16 = 2;
/// What the server serves at once: the payload, turned round.
const TURN_HERE: u16 = 3;

fn turned(payload: &[u8]) -> Vec<u8> {
    payload.iter().rev().copied().collect()
}

fn server(endpoint: &Endpoint) -> (Running<u64>, Endpoint) {
    let mut server = Server::new(0);
    let remote = server.remote().expect("a remote");
    server.on(BOUNCE, move |_, request, reply| {
        let peer = remote.peer(request.connection().expect("a stream"));
        let responder = reply.defer()?;
        let asked = peer.call(TURN, request.payload(), None, |bounced: &mut u64, answer| {
            *bounced += 1;
            match answer {
                Ok(answer) => responder.finish(answer.result_code(), answer.payload()),
                Err(error) => responder.fail(error),
            }
        });
        Ok(asked?)
    });
    server.on(TURN_HERE, |_, request, reply| {
        reply.write(turned(request.payload()));
        Ok(())
    });
    let (running, bound) = start(server, [usual(endpoint)]);
    (running, bound[0].clone())
}

/// A client whose handler fails on what comes twice.
fn client(endpoint: &Endpoint) -> (Client, Arc<AtomicUsize>) {
    let handled = Arc::new(AtomicUsize::new(0));
    let (count, seen) = (Arc::clone(&handled), Mutex::new(HashSet::new()));
    let connect: Connect = connect(endpoint).call_timeout(Some(Duration::from_secs(120)));
    let connect = connect.on(TURN, move |request, reply| {
        count.fetch_add(1, Ordering::Relaxed);
        if !seen
            .lock()
            .expect("nobody panics")
            .insert(request.payload()[..8.min(request.payload().len())].to_vec())
        {
            return Err(Failure::other("it came twice"));
        }
        reply.write(turned(request.payload()));
        Ok(())
    });
    (connect.open().expect("connect"), handled)
}

/// A payload of its own for each call, of such a length.
fn payload(thread: usize, number: usize, length: usize) -> Vec<u8> {
    let head = [thread as u32, number as u32].map(u32::to_le_bytes).concat();
    head.into_iter().chain((0..length).map(|byte| (byte * 7 + number) as u8)).collect()
}

#[test]
fn a_hundred_threads_call_both_ways_on_one_connection() {
    let _watchdog = watchdog(300);
    for (endpoint, each) in crowded_streams(if cfg!(windows) { 400 } else { 1000 }) {
        a_hundred_threads_call_both_ways(&endpoint, each);
    }
}

fn a_hundred_threads_call_both_ways(endpoint: &Endpoint, each: usize) {
    const THREADS: usize = 100;
    let (running, endpoint) = server(endpoint);
    let (client, handled) = client(&endpoint);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let client = &client;
            scope.spawn(move || {
                for number in 0..each {
                    let payload = payload(thread, number, number % 50);
                    let msg_type = if number % 4 == 3 { TURN_HERE } else { BOUNCE };
                    let answer = client.call(msg_type, &payload).expect("call");
                    assert_eq!(answer.payload(), turned(&payload), "thread {thread}, call {number}");
                }
            });
        }
    });
    let bounced = THREADS * (0..each).filter(|number| number % 4 != 3).count();
    assert_eq!(handled.load(Ordering::Relaxed), bounced);
    drop(client);
    assert_eq!(running.stop().expect("the server ends well"), bounced as u64);
}

/// Those who ask give up, and so does the server that asks them: each call ends once all the same.
#[test]
fn who_gives_up_in_either_direction_confuses_nobody() {
    const THREADS: usize = 32;
    const EACH: usize = 200;
    /// The server gives up soon on what it asks for this one; the client answers late.
    const SLOWLY: u16 = 4;
    const MOMENT: Duration = Duration::from_millis(1);
    let _watchdog = watchdog(300);
    let mut server = Server::new((0, 0));
    for (msg_type, patience) in [(BOUNCE, None), (SLOWLY, Some(MOMENT))] {
        let remote = server.remote().expect("a remote");
        server.on(msg_type, move |(asked, _): &mut (u64, u64), request, reply| {
            *asked += 1;
            let peer = remote.peer(request.connection().expect("a stream"));
            let responder = reply.defer()?;
            let told = move |(_, told): &mut (u64, u64), answer: sidewire::Result<sidewire::Answer<'_>>| {
                *told += 1;
                match answer {
                    Ok(answer) => responder.finish(answer.result_code(), answer.payload()),
                    Err(error) if error.is_timeout() => responder.finish(70, b""),
                    Err(error) => responder.fail(error),
                }
            };
            Ok(peer.call(msg_type, request.payload(), patience, told)?)
        });
    }
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let (later, late) = std::sync::mpsc::channel::<(sidewire::PeerResponder, Vec<u8>)>();
    let answering = thread::spawn(move || {
        for (number, (responder, answer)) in late.into_iter().enumerate() {
            if number % 8 == 0 {
                thread::sleep(MOMENT);
            }
            responder.reply(answer);
        }
    });
    let connect = connect(&bound[0]).call_timeout(Some(Duration::from_secs(120)));
    let connect = connect.on(BOUNCE, |request, reply| {
        reply.write(turned(request.payload()));
        Ok(())
    });
    let connect = connect.on(SLOWLY, move |request, reply| {
        later.send((reply.defer()?, turned(request.payload()))).map_err(Failure::other)
    });
    let client = connect.open().expect("connect");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let client = &client;
            scope.spawn(move || {
                for number in 0..EACH {
                    let payload = payload(thread, number, number % 50);
                    let check = |answer: sidewire::Response| match answer.result_code().code() {
                        0 => assert_eq!(answer.payload(), turned(&payload)),
                        rc => assert!([70, -7, -8].contains(&rc), "{rc}"),
                    };
                    match (thread + number) % 4 {
                        0 => check(client.request(BOUNCE).exchange(&payload).expect("an answer")),
                        1 => drop(client.start(BOUNCE, &payload).expect("start")),
                        2 => match client.request(BOUNCE).timeout(MOMENT).exchange(&payload) {
                            Ok(answer) => check(answer),
                            Err(error) => assert!(error.is_timeout(), "{error}"),
                        },
                        _ => check(client.request(SLOWLY).exchange(&payload).expect("an answer")),
                    }
                }
            });
        }
    });
    drop(client);
    let (asked, told) = running.stop().expect("the server ends well");
    assert!(asked == told && asked >= (THREADS * EACH / 2) as u64, "{asked} were asked, {told} told");
    answering.join().expect("no panic");
}

/// Much is under way in both directions, more than all buffers between the two hold.
#[test]
fn two_that_call_each_other_at_full_load_do_not_deadlock() {
    const THREADS: usize = 8;
    const EACH: usize = if cfg!(windows) { 4 } else { 12 };
    const LENGTH: usize = 150_000;
    let _watchdog = watchdog(300);
    for endpoint in all_streams() {
        for has_reader in [false, true] {
            let (running, endpoint) = server(&endpoint_like(&endpoint));
            let (client, _) = client(&endpoint);
            if has_reader {
                client.spawn_reader().expect("a reader");
            }
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let client = &client;
                    scope.spawn(move || {
                        let started: Vec<_> = (0..EACH)
                            .map(|number| {
                                let payload = payload(thread, number, LENGTH);
                                (client.start(BOUNCE, &payload).expect("start"), payload)
                            })
                            .collect();
                        for (call, payload) in started {
                            let answer = call.wait().expect("an answer");
                            assert!(answer.payload() == turned(&payload));
                        }
                    });
                }
            });
            drop(client);
            assert_eq!(running.stop().expect("the server ends well"), (THREADS * EACH) as u64);
        }
    }
}

/// Another one of the same kind.
fn endpoint_like(endpoint: &Endpoint) -> Endpoint {
    let text = endpoint.to_string();
    let (scheme, _) = text.split_once(':').expect("a scheme");
    fresh(scheme)
}
