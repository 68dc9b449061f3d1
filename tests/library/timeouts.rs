//! Calls that time out, and what becomes of the connection they were made on.

use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Client, Executed, Server};

use crate::util::{Dialect, everywhere_with, on_every_stream, watchdog};

const ECHO: u16 = 1;
/// Sleeps for four milliseconds per byte of payload, then echoes it.
const SLEEP: u16 = 2;

fn sleeper() -> Server<()> {
    let mut server = Server::new(());
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(SLEEP, |(), request, reply| {
        thread::sleep(Duration::from_millis(4) * request.payload().len() as u32);
        reply.write(request.payload());
        Ok(())
    });
    server
}

fn within(client: &Client, msg_type: u16, payload: &[u8], millis: u64) -> sidewire::Result<Vec<u8>> {
    let reply = client.request(msg_type).timeout(Duration::from_millis(millis)).send(payload)?;
    Ok(reply.into_payload())
}

/// PROTOCOL C6, K6
#[test]
fn a_late_reply_is_skipped_and_the_connection_stays_good() {
    let _watchdog = watchdog(60);
    everywhere_with(sleeper, |dialect, endpoint, _| {
        let client = dialect.client(endpoint);
        let begun = Instant::now();
        let error = within(&client, SLEEP, &[b'z'; 200], 50).expect_err("a timeout");
        let took = begun.elapsed();
        assert!(error.is_timeout() && error.executed() == Executed::Perhaps, "{error}");
        assert!(took.as_millis() >= 50, "{took:?} instead of 50 ms");
        // Its reply comes first now, and is of the type that is asked next.
        assert_eq!(within(&client, SLEEP, b"z", 5000).expect("call"), b"z");
        assert_eq!(within(&client, ECHO, b"and on", 5000).expect("call"), b"and on");
    });
}

#[test]
fn several_late_replies_in_a_row_are_skipped() {
    let _watchdog = watchdog(60);
    everywhere_with(sleeper, |dialect, endpoint, _| {
        let client = dialect.client(endpoint);
        for _ in 0..3 {
            assert!(within(&client, SLEEP, &[b'z'; 12], 5).expect_err("a timeout").is_timeout());
        }
        assert_eq!(within(&client, ECHO, b"after them", 5000).expect("call"), b"after them");
    });
}

#[test]
fn no_time_at_all_is_a_timeout_too() {
    let _watchdog = watchdog(60);
    on_every_stream(
        sleeper(),
        |listen| listen,
        |endpoint| {
            let client = Dialect::V1.client(endpoint);
            assert!(within(&client, SLEEP, b"zz", 0).expect_err("a timeout").is_timeout());
            assert_eq!(within(&client, ECHO, b"after it", 5000).expect("call"), b"after it");
        },
    );
}

/// While the server sleeps for a second, threads give up one after the other; whoever was reading
/// for all hands over, and who has time enough gets its reply.
#[test]
fn threads_with_different_time_limits() {
    let _watchdog = watchdog(60);
    everywhere_with(sleeper, |dialect, endpoint, _| {
        let client = dialect.client(endpoint);
        let begun = Instant::now();
        let impatient = |millis: u64| {
            let error = within(&client, SLEEP, b"z", millis).expect_err("a timeout");
            let took = begun.elapsed().as_millis() as u64;
            assert!(error.is_timeout(), "{error}");
            assert!(took >= millis, "{took} ms instead of {millis}");
        };
        let patient = |number: u8| {
            let text = [number; 9];
            assert_eq!(within(&client, ECHO, &text, 20_000).expect("call"), text);
        };
        thread::scope(|scope| {
            // Takes a second, and is the first to read.
            scope.spawn(|| assert!(within(&client, SLEEP, &[b'z'; 250], 20_000).is_ok()));
            thread::sleep(Duration::from_millis(30));
            for millis in [60, 100, 140, 180, 220] {
                scope.spawn(move || impatient(millis));
            }
            (0..20).for_each(|number| drop(scope.spawn(move || patient(number))));
        });
    });
}

/// The one who reads for all is the one who gives up.
#[test]
fn a_leader_that_gives_up_hands_over() {
    let _watchdog = watchdog(60);
    everywhere_with(sleeper, |dialect, endpoint, _| {
        let client = dialect.client(endpoint);
        thread::scope(|scope| {
            let leader = scope.spawn(|| within(&client, SLEEP, &[b'z'; 150], 60));
            thread::sleep(Duration::from_millis(20));
            let follow = |number: u8| (number, within(&client, ECHO, &[number], 20_000));
            let followers = (0..10).map(|number| scope.spawn(move || follow(number))).collect::<Vec<_>>();
            assert!(leader.join().expect("the leader").expect_err("a timeout").is_timeout());
            for follower in followers {
                let (number, result) = follower.join().expect("a follower");
                assert_eq!(result.expect("its reply"), [number]);
            }
        });
    });
}
