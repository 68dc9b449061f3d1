//! How connections end, and that their end is told once and with its reason.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use sidewire::{Limits, Session};

use crate::program::example;
use crate::util::{Raw, until, watchdog};
use crate::witness::{BOTH, Carry, Event, Play, Stage, Why, everywhere, limits};

/// A reset, or an end, as the system tells. (Wine shows a reset as the end.)
#[track_caller]
fn expect_gone(why: &Why) {
    assert!(matches!(why, Why::InOrder | Why::Broken(_)), "{why:?}");
}

#[test]
fn a_client_that_leaves_with_input_unread() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        let greet = Play { opened: |session| session.write("hello \n"), ..Play::silent() };
        everywhere(&Limits::default(), carry, greet, |stage| {
            for _ in 0..20 {
                let client = stage.connect();
                client.send(b"my last words\n");
                until("they have come", || stage.notes.received() >= 13);
                // The greeting is there, and most of it is never read.
                client.receive(1);
                drop(client);
                expect_gone(&stage.notes.end());
                // Whatever the system says about the end, nothing is handed out twice.
                let words = stage.notes.data();
                assert_eq!(
                    words,
                    if carry == Carry::Raw { &b"my last words\n"[..] } else { b"my last words" }
                );
                stage.notes.forget_the_dead();
            }
        });
    }
}

#[test]
fn a_client_that_leaves_at_once() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        everywhere(&Limits::default(), carry, Play::echo(carry), |stage| {
            (0..20).for_each(|_| drop(stage.connect()));
            let client = stage.connect();
            client.send(b"still there\n");
            assert_eq!(client.receive(12), b"still there\n");
            // Those that had gone before they were accepted need not have been seen.
            let closed = || stage.notes.count(|event| matches!(event, Event::Closed(_)));
            let opened = || stage.notes.count(|event| *event == Event::Opened);
            until("only one is left", || opened() == closed() + 1);
        });
    }
}

/// While the server has much to say to it.
#[test]
fn a_client_that_leaves_in_the_middle_of_an_answer() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        let flood = Play { data: |session, _| session.write(vec![b'x'; 16 << 20]), ..Play::silent() };
        everywhere(&Limits::default(), carry, flood, |stage| {
            let client = stage.connect();
            client.send(b"tell me everything\n");
            client.receive(1_000);
            drop(client);
            expect_gone(&stage.notes.end());
        });
    }
}

/// A process that is killed: the system tells the server.
#[test]
fn a_client_process_that_dies() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        let greet = Play { opened: |session| session.write("hello \n"), ..Play::silent() };
        everywhere(&Limits::default(), carry, greet, |stage| {
            let mut command = Command::new(example("terminal"));
            command
                .args(["connect", &stage.endpoint.to_string()])
                .stdout(Stdio::piped())
                .stdin(Stdio::piped());
            let mut client = command.spawn().expect("start a client");
            let mut lines = BufReader::new(client.stdout.take().expect("its output")).lines();
            assert!(lines.any(|line| line.expect("read") == "hello "), "it is greeted");
            assert_eq!(stage.notes.events(), [Event::Opened]);
            client.kill().expect("kill");
            client.wait().expect("wait");
            expect_gone(&stage.notes.end());
        });
    }
}

/// A handler that panics ends that connection; what it had written before arrives.
#[test]
fn a_panic_ends_one_connection_only() {
    let _watchdog = watchdog(60);
    fn on_demand(session: &mut Session<'_>, bytes: &[u8]) {
        session.write(bytes);
        assert!(!bytes.starts_with(b"panic"), "this panic is part of the test");
    }
    for carry in BOTH {
        everywhere(&Limits::default(), carry, Play { data: on_demand, ..Play::silent() }, |stage| {
            let (first, second) = (stage.connect(), stage.connect());
            second.send(b"x\n");
            second.receive(1);
            first.send(b"panic\n");
            assert_eq!(first.receive_to_end().trim_ascii_end(), b"panic");
            drop(first);
            stage.notes.end().expect_ended("panicked");
            second.send(b"still there\n");
            second.receive(11);
            let third = stage.connect();
            third.send(b"so am I\n");
            third.receive(7);
        });
    }
}

#[test]
fn a_panic_at_the_beginning_or_the_half_close() {
    let _watchdog = watchdog(60);
    let opened = Play { opened: |_| panic!("this panic is part of the test"), ..Play::silent() };
    let half_closed = Play { half_closed: |_| panic!("this panic is part of the test"), ..Play::silent() };
    for (carry, play) in BOTH.into_iter().flat_map(|carry| [(carry, opened), (carry, half_closed)]) {
        everywhere(&Limits::default(), carry, play, |stage| {
            for _ in 0..3 {
                let client = stage.connect();
                let _ = client.0.shutdown_write();
                drop(client);
            }
            stage.notes.ends(3).iter().for_each(|why| why.expect_ended("panicked"));
        });
    }
}

#[test]
fn a_line_that_is_too_long_ends_its_connection() {
    let _watchdog = watchdog(60);
    let carry = Carry::Lines(10);
    let say = |stage: &Stage, words: &str, answer: &str| -> Raw {
        let client = stage.connect();
        client.send(words.as_bytes());
        assert_eq!(String::from_utf8_lossy(&client.receive(answer.len())), answer, "to {words:?}");
        client
    };
    everywhere(&Limits::default(), carry, Play::echo(carry), |stage| {
        let other = stage.connect();
        let fine = say(stage, "0123456789\n0123456789\r\n", "0123456789\n0123456789\n");
        for words in ["ok\n01234567890\n", "ok\n01234567890\r\nmore\n", "ok\n01234567890"] {
            let client = say(stage, words, "ok\n");
            client.expect_end();
            drop(client);
            stage.notes.end().expect_ended("11 bytes");
            stage.notes.forget_the_dead();
        }
        other.send(b"not me\n");
        assert_eq!(other.receive(7), b"not me\n");
        fine.send(b"me too\n");
        assert_eq!(fine.receive(7), b"me too\n");
    });
}

/// Whom there is no room for gets no greeting, and nobody hears of them.
#[test]
fn a_full_server_closes_at_once() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        let greet = Play { opened: |session| session.write("hello \n"), ..Play::silent() };
        everywhere(&limits(|limits| limits.listener.max_connections = 2), carry, greet, |stage| {
            let inside = [stage.connect(), stage.connect()];
            inside.iter().for_each(|client| assert_eq!(client.receive(7), b"hello \n"));
            (0..5).for_each(|_| stage.connect().expect_end());
            assert_eq!(stage.notes.count(|event| *event == Event::Opened), 2);
            drop(inside);
            stage.notes.ends(2);
            assert_eq!(stage.connect().receive(7), b"hello \n");
        });
    }
}

/// Everybody is told, whatever they are doing.
#[test]
fn a_server_that_stops_closes_everything() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        everywhere(&Limits::default(), carry, Play::echo(carry), |stage| {
            let idle = stage.connect();
            let busy = stage.connect();
            for client in [&idle, &busy] {
                client.send(b"hello\n");
                client.receive(6);
            }
            // What is answered shows that all was read.
            busy.send(b"finished\nunfinished");
            assert_eq!(busy.receive(9), b"finished\n");
            stage.remote.stop().expect("stop");
            if carry == Carry::Raw {
                assert_eq!(busy.receive(10), b"unfinished");
            }
            idle.expect_end();
            busy.expect_end();
            drop((idle, busy));
            stage.notes.ends(2).iter().for_each(|why| why.expect_ended("shutting down"));
        });
    }
}
