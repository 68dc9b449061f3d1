//! Servers and clients that look before they sleep.

use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Limits, ResultCode, Server};

use crate::util::{all_streams, connect, fresh, start, usual, watchdog};

const ECHO: u16 = 1;
/// Answers on another thread.
const LATER: u16 = 2;

fn server(spin: Duration) -> Server<()> {
    let mut limits = Limits::default();
    limits.spin = spin;
    let mut server = Server::builder(()).limits(limits).build().expect("limits that go together");
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(LATER, |(), request, reply| {
        let payload = request.to_vec()?;
        let responder = reply.defer()?;
        thread::spawn(move || responder.reply(payload));
        Ok(())
    });
    server
}

/// Whoever looks, and for however long: what comes is seen, while they look and when they sleep again.
#[test]
fn who_looks_sees_all_that_comes() {
    let _watchdog = watchdog(60);
    let short = Duration::from_micros(50);
    for endpoint in all_streams() {
        for (servers, clients) in [(short, short), (short, Duration::ZERO), (Duration::ZERO, short)] {
            let (running, bound) = start(server(servers), [usual(&endpoint)]);
            let client = connect(&bound[0]).spin(clients).open().expect("connect");
            for round in 0u8..20 {
                let answer = client.call(ECHO, [round]).expect("an answer");
                assert_eq!(answer.payload(), [round]);
                let answer = client.call(LATER, [round]).expect("an answer from another thread");
                assert_eq!(answer.payload(), [round]);
                if round % 8 == 7 {
                    // Both have long fallen asleep.
                    thread::sleep(Duration::from_millis(2));
                }
            }
            drop(client);
            running.stop().expect("it hears of it");
        }
    }
}

/// A wait ends when its time is up, also when that is less than it would look.
#[test]
fn looking_holds_no_time_limit_up() {
    let _watchdog = watchdog(60);
    let mut server = server(Duration::from_millis(20));
    server.on(3, |(), _request, reply| {
        // Never answered while the client waits.
        let responder = reply.defer()?;
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            drop(responder);
        });
        Ok(())
    });
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    for spin in [5, 1000].map(Duration::from_millis) {
        let client = connect(&bound[0]).spin(spin).open().expect("connect");
        let start = Instant::now();
        let limit = Duration::from_millis(40);
        let error = client.request(3).timeout(limit).send("").expect_err("nobody answers");
        // The server was told the limit, and may say first that it is over.
        let is_over = error.is_timeout() || error.result_code() == Some(ResultCode::TIMED_OUT);
        assert!(is_over && start.elapsed() >= limit, "{error}");
    }
    running.stop().expect("it hears of it");
}

#[test]
fn nobody_looks_for_ever() {
    let long = Duration::from_secs(2);
    let mut limits = Limits::default();
    limits.spin = long;
    let error = Server::builder(()).limits(limits).build().expect_err("it would never sleep");
    assert!(error.is_invalid_input() && error.to_string().contains("spin (2s)"), "{error}");
    let error = connect(&fresh("local")).spin(long).open().expect_err("the same");
    assert!(error.is_invalid_input() && error.to_string().contains("spin (2s)"), "{error}");
}
