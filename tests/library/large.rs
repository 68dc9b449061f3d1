//! Large payloads of Sidewire's own client: requests leave from where they lie, and replies stay where they were read to.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Client, Executed};

use crate::util::fake::{Fake, take};
use crate::util::{PATIENCE, all_streams, client, start, store, usual, watchdog};

const ECHO: u16 = 4;
const HOLD: u16 = 5;
/// Of a call that nobody reads.
const TIMEOUT: Duration = Duration::from_millis(300);

fn payload(seed: usize, length: usize) -> Vec<u8> {
    (seed..seed + length).map(|at| (at % 251) as u8).collect()
}

fn echoes(client: &Client, payload: &[u8]) {
    let reply = client.call(ECHO, payload).expect("an echo");
    assert!(reply.payload() == payload, "{} bytes", payload.len());
}

#[test]
fn threads_share_a_connection() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let client = client(&bound[0]);
        thread::scope(|scope| {
            for thread in 0..3 {
                let client = &client;
                scope.spawn(move || {
                    for round in 0..12 {
                        echoes(client, &payload(thread * 7 + round, (64 << 10) + round * 100_003));
                    }
                });
                scope.spawn(move || (0..300).for_each(|round| echoes(client, &payload(round, 100))));
            }
        });
        running.stop().expect("the server ends well");
    }
}

/// What a program keeps stays as it is, whatever comes later.
#[test]
fn replies_that_are_kept_stay_what_they_are() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let client = client(&bound[0]);
        let all: Vec<_> = (0..6).map(|at| payload(at, 200_000 + at * 50_000)).collect();
        let kept: Vec<_> = all.iter().map(|payload| client.call(ECHO, payload).expect("an echo")).collect();
        let copy = kept[1].clone();
        drop(client);
        running.stop().expect("the server ends well");
        assert!(copy.payload() == all[1] && copy == kept[1]);
        for (reply, payload) in kept.into_iter().zip(&all) {
            assert!(reply.payload() == payload && reply.into_payload() == *payload);
        }
    }
}

/// Its rest leaves later, and what others had to say behind that.
#[test]
fn one_that_times_out_while_it_leaves_spoils_nothing() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (held, is_held) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let mut server = store();
        server.on(HOLD, move |_, _request, _reply| {
            held.send(())?;
            Ok(may_go_on.recv()?)
        });
        let (running, bound) = start(server, [usual(&endpoint)]);
        let (client, other) = (client(&bound[0]), client(&bound[0]));
        // Others than TCP hold little.
        let large = payload(3, if endpoint.scheme() == "tcp" { 15 << 20 } else { 2 << 20 });
        thread::scope(|scope| {
            scope.spawn(|| other.call(HOLD, "").expect("it is held up"));
            is_held.recv_timeout(PATIENCE).expect("it is held up");
            let lent = scope.spawn(|| client.request(ECHO).timeout(TIMEOUT).send(&large));
            thread::sleep(TIMEOUT / 3);
            scope.spawn(|| echoes(&client, b"behind it"));
            let error = lent.join().expect("a thread").expect_err("nobody reads");
            assert!(error.is_timeout() && error.executed() == Executed::Perhaps, "{error}");
            go_on.send(()).expect("it waits");
        });
        echoes(&client, b"small");
        echoes(&client, &large);
        running.stop().expect("the server ends well");
    }
}

#[test]
fn a_server_that_goes_in_the_middle_is_missed_at_once() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| drop(take(stream, 100_000)));
    let client = fake.client();
    let begun = Instant::now();
    let error = client.call(ECHO, payload(1, 12 << 20)).expect_err("it has gone");
    assert!(error.is_peer_gone(), "{error}");
    assert!(begun.elapsed() < PATIENCE);
    fake.join();
}
