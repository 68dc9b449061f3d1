//! Calls both ways at full load: nothing is lost, nothing confused, nobody waits for anybody.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sidewire::{Client, Connect, Failure, Running, Server};
use sidewire_platform::Endpoint;

use crate::util::{all_streams, connect, fresh, start, usual, watchdog};

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
    const THREADS: usize = 100;
    const EACH: usize = if cfg!(windows) { 100 } else { 1000 };
    let _watchdog = watchdog(300);
    let (running, endpoint) = server(&fresh("local"));
    let (client, handled) = client(&endpoint);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let client = &client;
            scope.spawn(move || {
                for number in 0..EACH {
                    let payload = payload(thread, number, number % 50);
                    let msg_type = if number % 4 == 3 { TURN_HERE } else { BOUNCE };
                    let answer = client.call(msg_type, &payload).expect("call");
                    assert_eq!(answer.payload(), turned(&payload), "thread {thread}, call {number}");
                }
            });
        }
    });
    let bounced = THREADS * EACH / 4 * 3;
    assert_eq!(handled.load(Ordering::Relaxed), bounced);
    drop(client);
    assert_eq!(running.stop().expect("the server ends well"), bounced as u64);
}

/// Much is under way in both directions, more than all buffers between the two hold.
#[test]
fn two_that_call_each_other_at_full_load_do_not_deadlock() {
    const THREADS: usize = 8;
    const EACH: usize = 12;
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
