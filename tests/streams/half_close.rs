//! The two directions of a stream end separately.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use sidewire::{Limits, Session};

use crate::util::{until, watchdog};
use crate::witness::{BOTH, Carry, Event, Play, Why, content, everywhere, limits, where_halves_end};

#[test]
fn what_a_half_closed_client_waits_for_still_comes() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        where_halves_end(carry, Play::echo(carry), |stage| {
            let client = stage.connect();
            let sent = content(carry, 100_000);
            thread::scope(|scope| {
                scope.spawn(|| {
                    client.send(&sent);
                    client.0.shutdown_write().expect("half-close");
                });
                assert!(client.receive_to_end() == sent, "all comes back, and then the end");
            });
            assert_eq!(stage.notes.end(), Why::InOrder);
            assert!(stage.notes.is_half_closed());
        });
    }
}

/// Far more than fits into a socket, and written only when the client has had its say.
#[test]
fn a_server_may_answer_at_the_half_close() {
    let _watchdog = watchdog(60);
    const LENGTH: usize = 8 << 20;
    for carry in BOTH {
        let answer = Play { half_closed: |session| session.write(vec![7; LENGTH]), ..Play::silent() };
        where_halves_end(carry, answer, |stage| {
            let client = stage.connect();
            client.send(b"how much is it?");
            client.0.shutdown_write().expect("half-close");
            until("the server has seen it", || stage.notes.is_half_closed());
            let answer = client.receive_to_end();
            assert!(answer == vec![7; LENGTH], "{} bytes", answer.len());
            assert_eq!(stage.notes.data(), b"how much is it?");
            assert_eq!(stage.notes.end(), Why::InOrder);
        });
    }
}

#[test]
fn a_half_close_without_a_word() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        where_halves_end(carry, Play::echo(carry), |stage| {
            let client = stage.connect();
            client.0.shutdown_write().expect("half-close");
            client.expect_end();
            assert_eq!(stage.notes.end(), Why::InOrder);
            assert_eq!(stage.notes.events()[..2], [Event::Opened, Event::HalfClosed]);
        });
    }
}

/// `finish`: the client sees the end, and is listened to for as long as it likes.
#[test]
fn a_server_that_has_finished_goes_on_listening() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        let finish = Play {
            opened: |session| {
                session.write("that is all\n");
                session.finish();
                session.write("this is too late");
            },
            data: |session, _| session.write("this too"),
            ..Play::silent()
        };
        where_halves_end(carry, finish, |stage| {
            let client = stage.connect();
            assert_eq!(client.receive_to_end(), b"that is all\n");
            let sent = content(carry, 1 << 20);
            // Without the ends of lines, and without a last line that has no end yet.
            let handed_out = |bytes: &[u8]| match carry {
                Carry::Raw => bytes.len(),
                Carry::Lines(_) => {
                    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
                    bytes[..whole].iter().filter(|byte| **byte != b'\n').count()
                }
            };
            let (first, second) = sent.split_at(1 << 19);
            client.send(first);
            stage.notes.wait_for(handed_out(first));
            client.send(second);
            stage.notes.wait_for(handed_out(&sent));
            assert_eq!(stage.notes.count(|event| matches!(event, Event::Closed(_))), 0);
            drop(client);
            assert_eq!(stage.notes.end(), Why::InOrder);
            assert_eq!(stage.notes.received(), handed_out(&sent));
        });
    }
}

/// `close`: what was written arrives, and what the client still says is not handed out.
#[test]
fn a_server_that_closes_listens_no_more() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        let close = Play {
            data: |session, _| {
                session.write("goodbye\n");
                session.close();
                session.write("this is too late");
            },
            ..Play::silent()
        };
        everywhere(&Limits::default(), carry, close, |stage| {
            let client = stage.connect();
            client.send(b"first\n");
            assert_eq!(client.receive_to_end(), b"goodbye\n");
            let _ = client.try_send(b"second\n");
            drop(client);
            assert_eq!(stage.notes.end(), Why::InOrder);
            assert_eq!(stage.notes.pieces().len(), 1);
        });
    }
}

/// The client's end has come together with what makes the server close: there is nothing to wait for.
#[test]
fn closing_does_not_wait_for_an_end_that_is_there() {
    let _watchdog = watchdog(60);
    static MAY_GO_ON: AtomicBool = AtomicBool::new(false);
    fn wait_or_close(session: &mut Session<'_>, bytes: &[u8]) {
        match bytes.starts_with(b"wait") {
            true => until("it may go on", || MAY_GO_ON.swap(false, Relaxed)),
            false => session.close(),
        }
    }
    // If it waited, it would do so for longer than this test.
    let patient = limits(|limits| limits.listener.connection.linger = Duration::from_secs(3600));
    for carry in BOTH {
        everywhere(&patient, carry, Play { data: wait_or_close, ..Play::silent() }, |stage| {
            let (first, second) = (stage.connect(), stage.connect());
            until("both are there", || stage.notes.events().len() == 2);
            first.send(b"wait\n");
            until("the server is busy", || stage.notes.received() > 0);
            second.send(b"close\nand more\n");
            drop(second);
            MAY_GO_ON.store(true, Relaxed);
            assert_eq!(stage.notes.end(), Why::InOrder);
            drop(first);
            assert_eq!(stage.notes.pieces().len(), 2);
        });
    }
}
