//! Calls that time out, and what becomes of the connection they were made on.

use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Client, Endpoint, Executed, Server};

use crate::util::{Dialect, Gate, everywhere, on_every_stream, start, until, usual, watchdog};

const ECHO: u16 = 1;
/// Echoes the payload once the gate is open.
const HELD: u16 = 2;
/// More than any answer takes that is under way.
const ENOUGH: u64 = 60_000;

fn echo(gate: &Gate) -> Server<()> {
    let mut server = Server::new(());
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    let gate = gate.clone();
    server.on(HELD, move |(), request, reply| {
        gate.pass();
        reply.write(request.payload());
        Ok(())
    });
    server
}

fn within(client: &Client, msg_type: u16, payload: &[u8], millis: u64) -> sidewire::Result<Vec<u8>> {
    let reply = client.request(msg_type).timeout(Duration::from_millis(millis)).send(payload)?;
    Ok(reply.into_payload())
}

/// Runs `test` in every dialect with a server, and a gate, of its own.
fn everywhere_gated(test: impl Fn(Dialect, &Endpoint, &Gate) + Sync) {
    everywhere(|dialect, endpoint| {
        let gate = Gate::default();
        let (running, bound) = start(echo(&gate), [dialect.listen(usual(endpoint))]);
        test(dialect, &bound[0], &gate);
        running.stop().expect("the server ends well");
    });
}

/// PROTOCOL C6, K6
#[test]
fn a_late_reply_is_skipped_and_the_connection_stays_good() {
    let _watchdog = watchdog(60);
    everywhere_gated(|dialect, endpoint, gate| {
        let client = dialect.client(endpoint);
        // A busy machine may not even send it in the first time limit.
        let is_sent = (0..5).any(|doubled| {
            let (millis, closed, begun) = (100 << doubled, gate.close(), Instant::now());
            let error = within(&client, HELD, b"z", millis).expect_err("a timeout");
            let took = begun.elapsed();
            assert!(error.is_timeout(), "{error}");
            assert!(took.as_millis() >= u128::from(millis), "{took:?} instead of {millis} ms");
            drop(closed);
            // Its reply comes first now, and is of the type that is asked next.
            assert_eq!(within(&client, HELD, b"next", ENOUGH).expect("call"), b"next");
            assert_eq!(within(&client, ECHO, b"and on", ENOUGH).expect("call"), b"and on");
            error.executed() == Executed::Perhaps
        });
        assert!(is_sent, "what was sent is said to be not executed");
    });
}

#[test]
fn several_late_replies_in_a_row_are_skipped() {
    let _watchdog = watchdog(60);
    everywhere_gated(|dialect, endpoint, gate| {
        let client = dialect.client(endpoint);
        let closed = gate.close();
        for _ in 0..3 {
            assert!(within(&client, HELD, b"late", 5).expect_err("a timeout").is_timeout());
        }
        drop(closed);
        assert_eq!(within(&client, ECHO, b"after them", ENOUGH).expect("call"), b"after them");
    });
}

#[test]
fn no_time_at_all_is_a_timeout_too() {
    let _watchdog = watchdog(60);
    let gate = Gate::default();
    on_every_stream(
        echo(&gate),
        |listen| listen,
        |endpoint| {
            let client = Dialect::V1.client(endpoint);
            let closed = gate.close();
            assert!(within(&client, HELD, b"late", 0).expect_err("a timeout").is_timeout());
            drop(closed);
            assert_eq!(within(&client, ECHO, b"after it", ENOUGH).expect("call"), b"after it");
        },
    );
}

/// While the server is held up, threads give up one after the other; whoever was reading for all hands over, and
/// who has time enough gets its reply.
#[test]
fn threads_with_different_time_limits() {
    let _watchdog = watchdog(60);
    everywhere_gated(|dialect, endpoint, gate| {
        let client = dialect.client(endpoint);
        let impatient = |millis: u64| {
            let begun = Instant::now();
            let error = within(&client, HELD, b"z", millis).expect_err("a timeout");
            let took = begun.elapsed().as_millis();
            assert!(error.is_timeout(), "{error}");
            assert!(took >= u128::from(millis), "{took} ms instead of {millis}");
        };
        let patient = |number: u8| {
            let text = [number; 9];
            assert_eq!(within(&client, ECHO, &text, ENOUGH).expect("call"), text);
        };
        thread::scope(|scope| {
            let closed = gate.close();
            // The first to read.
            scope.spawn(|| assert!(within(&client, HELD, b"first", ENOUGH).is_ok()));
            until("it is held up", || gate.came() == 1);
            let giving_up = [60, 100, 140, 180, 220].map(|millis| scope.spawn(move || impatient(millis)));
            (0..20).for_each(|number| drop(scope.spawn(move || patient(number))));
            giving_up.into_iter().for_each(|thread| thread.join().expect("it gives up"));
            drop(closed);
        });
    });
}

/// The one who reads for all is the one who gives up.
#[test]
fn a_leader_that_gives_up_hands_over() {
    let _watchdog = watchdog(60);
    everywhere_gated(|dialect, endpoint, gate| {
        let client = dialect.client(endpoint);
        thread::scope(|scope| {
            let closed = gate.close();
            let leader = scope.spawn(|| within(&client, HELD, b"leader", 200));
            until("it is held up", || gate.came() == 1);
            let follow = |number: u8| (number, within(&client, ECHO, &[number], ENOUGH));
            let followers = (0..10).map(|number| scope.spawn(move || follow(number))).collect::<Vec<_>>();
            assert!(leader.join().expect("the leader").expect_err("a timeout").is_timeout());
            drop(closed);
            for follower in followers {
                let (number, result) = follower.join().expect("a follower");
                assert_eq!(result.expect("its reply"), [number]);
            }
        });
    });
}
