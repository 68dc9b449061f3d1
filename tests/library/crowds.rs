//! Many clients, many threads, many connections one after the other.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use sidewire::Limits;
use sidewire_platform::raise_descriptor_limit;

use crate::util::{
    Dialect, PATIENCE, Raw, client, in_every_dialect, on_every_stream, store, store_with, until, watchdog,
};

const GET: u16 = 1;
const SET: u16 = 2;
const ECHO: u16 = 4;

#[test]
fn two_hundred_clients_at_once() {
    let _watchdog = watchdog(60);
    raise_descriptor_limit().expect("descriptors");
    let all_are_there = Barrier::new(200);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        let ask = |number: usize| {
            let client = dialect.client(endpoint);
            all_are_there.wait();
            for round in 0..3 {
                let text = format!("client {number}, round {round}");
                let reply = client.call(ECHO, &text).expect("call");
                assert_eq!(reply.payload(), text.as_bytes());
            }
            all_are_there.wait();
        };
        thread::scope(|scope| (0..200).for_each(|number| drop(scope.spawn(move || ask(number)))));
    });
}

#[test]
fn a_thousand_connect_and_leave() {
    let _watchdog = watchdog(60);
    let server = store();
    let counters = server.counters();
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let before = counters.accepted();
            for _ in 0..1000 {
                drop(Raw::connect(endpoint));
            }
            let reply = client(endpoint).call(ECHO, b"still there").expect("call");
            assert_eq!(reply.payload(), b"still there");
            until("all have left", || counters.connections() == 0);
            // A pipe may not even notice those who leave before they are let in.
            let accepted = counters.accepted() - before;
            assert!((1..=1001).contains(&accepted), "{accepted} were accepted");
        },
    );
}

#[test]
fn three_hundred_threads_share_one_client() {
    const ROUNDS: usize = if cfg!(windows) { 5 } else { 20 };
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        let client = dialect.client(endpoint);
        let work = |number: usize| {
            for round in 0..ROUNDS {
                // Of many lengths, so that a reply that goes astray does not fit.
                let text = format!("{number}/{round}:").repeat(1 + (number + round) % 7);
                let reply = client.call(ECHO, &text).expect("call");
                assert_eq!(reply.payload(), text.as_bytes());
            }
        };
        thread::scope(|scope| (0..300).for_each(|number| drop(scope.spawn(move || work(number)))));
    });
}

/// Small calls must not wait in vain behind large ones, nor large ones be torn apart.
#[test]
fn small_and_large_calls_of_one_client_do_not_mix() {
    // Under Wine a pipe takes long.
    const ROUNDS: usize = if cfg!(windows) { 2 } else { 5 };
    let _watchdog = watchdog(60);
    let large = (0..3_000_000u32).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let client = client(endpoint);
            let work = |number: usize| {
                let size = if number.is_multiple_of(4) { large.len() } else { number };
                for _ in 0..ROUNDS {
                    let reply = client.call(ECHO, &large[..size]).expect("call");
                    assert!(reply.payload() == &large[..size], "{size} bytes come back as others");
                }
            };
            thread::scope(|scope| (0..16).for_each(|number| drop(scope.spawn(move || work(number)))));
        },
    );
}

#[test]
fn more_threads_than_the_server_takes_calls() {
    let _watchdog = watchdog(60);
    let mut limits = Limits::default();
    limits.listener.connection.max_in_flight = 2;
    limits.listener.connection.max_payload = 100;
    limits.listener.connection.max_in_flight_bytes = 100;
    on_every_stream(
        store_with(limits),
        |listen| listen,
        |endpoint| {
            let client = client(endpoint);
            let work = |number: u8| {
                for _ in 0..20 {
                    let reply = client.call(ECHO, [number; 60]).expect("call");
                    assert_eq!(reply.payload(), [number; 60]);
                }
            };
            thread::scope(|scope| (0..24).for_each(|number| drop(scope.spawn(move || work(number)))));
        },
    );
}

/// The server's writes from many connections must not interleave: each stored value is whole.
#[test]
fn every_value_that_was_stored_is_whole() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            client(endpoint).call(SET, vec![0; 100_000]).expect("set");
            let write = |number: u8| {
                let client = client(endpoint);
                (0..10).for_each(|_| drop(client.call(SET, vec![number; 100_000]).expect("set")));
            };
            let read = || {
                let client = client(endpoint);
                for _ in 0..20 {
                    let value = client.call(GET, b"").expect("get").into_payload();
                    assert!(value.len() == 100_000 && value.iter().all(|byte| *byte == value[0]));
                }
            };
            thread::scope(|scope| {
                (1..5).for_each(|number| drop(scope.spawn(move || write(number))));
                (0..4).for_each(|_| drop(scope.spawn(read)));
            });
        },
    );
}

/// Connections that are held open, silent, while the server serves another.
#[test]
fn idle_connections_delay_nobody() {
    let _watchdog = watchdog(60);
    raise_descriptor_limit().expect("descriptors");
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let silent = (0..300).map(|_| Raw::connect(endpoint)).collect::<Vec<_>>();
            let begun = Instant::now();
            let client = client(endpoint);
            (0..100).for_each(|_| drop(client.call(ECHO, b"x").expect("call")));
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            // They were not forgotten.
            let last = silent.last().expect("one");
            last.shake_hands();
            let reply = Dialect::V1.call(last, 1, ECHO, b"me too");
            assert_eq!(reply, Dialect::V1.good(1, ECHO, b"me too"));
        },
    );
}
