//! Time limits of streams without frames.

use std::thread;
use std::time::{Duration, Instant};

use crate::util::{PATIENCE, watchdog};
use crate::witness::{BOTH, Event, Play, Stage, Why, everywhere_at_once, limits, stuff};

/// Says something and waits for the answer: the loop still turns.
#[track_caller]
fn expect_alive(stage: &Stage) {
    let client = stage.connect();
    client.send(b"hello\n");
    assert_eq!(client.receive(6), b"hello\n");
}

#[test]
fn a_silent_connection_ends_when_it_is_told_to() {
    let _watchdog = watchdog(60);
    let idle = limits(|limits| limits.listener.connection.idle_timeout = Some(Duration::from_secs(1)));
    for carry in BOTH {
        everywhere_at_once(&idle, carry, Play::echo(carry), |stage| {
            let client = stage.connect();
            let since = Instant::now();
            // Whoever says something now and then is not silent.
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(250));
                client.send(b"hello\n");
                client.receive(6);
            }
            let silent_since = Instant::now();
            client.expect_end();
            let (silent, whole) = (silent_since.elapsed(), since.elapsed());
            assert!(silent >= Duration::from_millis(700), "after {silent:?}");
            assert!(whole >= Duration::from_millis(2000), "after {whole:?}");
            drop(client);
            stage.notes.end().expect_ended("sign of life");
        });
    }
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let _watchdog = watchdog(120);
    let stall = limits(|limits| limits.listener.connection.write_stall_timeout = Duration::from_millis(300));
    for carry in BOTH {
        everywhere_at_once(&stall, carry, Play::echo(carry), |stage| {
            let client = stage.connect();
            // Where nothing goes for a moment, the server may only have had no processor.
            while stage.notes.count(|event| matches!(event, Event::Closed(_))) == 0 {
                stuff(&client);
            }
            stage.notes.end().expect_ended("writing");
            expect_alive(stage);
            drop(client);
            stage.notes.ends(2);
        });
    }
}

/// Both at once, in either order: the loop has to get over it.
#[test]
fn a_client_that_does_not_read_may_also_be_silent() {
    let _watchdog = watchdog(120);
    for (idle, stall) in [(600, 2400), (2400, 600)] {
        let both = limits(|limits| {
            limits.listener.connection.idle_timeout = Some(Duration::from_millis(idle));
            limits.listener.connection.write_stall_timeout = Duration::from_millis(stall);
            limits.listener.connection.linger = Duration::from_millis(100);
        });
        for carry in BOTH {
            everywhere_at_once(&both, carry, Play::echo(carry), |stage| {
                let client = stage.connect();
                stuff(&client);
                let mut alive = 0;
                let since = Instant::now();
                let is_ended = |event: &Event| matches!(event, Event::Closed(Why::Ended(_)));
                while stage.notes.count(is_ended) == 0 {
                    assert!(since.elapsed() < PATIENCE, "it is never closed");
                    expect_alive(stage);
                    alive += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                drop(client);
                expect_alive(stage);
                stage.notes.ends(alive + 2);
            });
        }
    }
}

/// It has been told of its end, does not listen, and does not close.
/// PROTOCOL L14
#[test]
fn nobody_is_waited_for_without_end() {
    let _watchdog = watchdog(60);
    let linger = limits(|limits| limits.listener.connection.linger = Duration::from_millis(200));
    for carry in BOTH {
        let close = Play { data: |session, _| session.close(), ..Play::silent() };
        everywhere_at_once(&linger, carry, close, |stage| {
            let client = stage.connect();
            client.send(b"x\n");
            assert_eq!(stage.notes.end(), Why::InOrder);
            client.expect_end();
        });
    }
}
