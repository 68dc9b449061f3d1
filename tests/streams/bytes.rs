//! What goes in comes out, whole and in order, in pieces or lines.

use std::thread;

use sidewire::{Endpoint, Limits, Session};

use crate::util::{fresh, watchdog};
use crate::witness::{BOTH, Carry, Play, Stage, Why, content, everywhere, limits, text};

#[test]
fn one_client_gets_everything_back() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        everywhere(&Limits::default(), carry, Play::echo(carry), |stage| {
            let client = stage.connect();
            for length in [1, 100, 5_000, 100_000] {
                let sent = content(carry, length);
                client.send(&sent);
                assert!(client.receive(length) == sent, "{length} bytes came back changed");
            }
            drop(client);
            assert_eq!(stage.notes.end(), Why::InOrder);
        });
    }
}

/// All at once, and each with bytes of its own.
#[test]
fn fifty_clients_get_their_own_back() {
    let _watchdog = watchdog(120);
    for carry in BOTH {
        everywhere(&Limits::default(), carry, Play::echo(carry), |stage| {
            thread::scope(|scope| {
                for number in 0..50u8 {
                    scope.spawn(move || {
                        let client = stage.connect();
                        let mut sent = content(carry, 2_000);
                        sent[..8].copy_from_slice(&[b'0' + number; 8]);
                        for _ in 0..20 {
                            client.send(&sent);
                            assert!(client.receive(sent.len()) == sent, "client {number}");
                        }
                    });
                }
            });
            assert!(stage.notes.ends(50).iter().all(|why| *why == Why::InOrder));
        });
    }
}

#[test]
fn a_greeting_comes_before_the_client_says_anything() {
    let _watchdog = watchdog(60);
    for carry in BOTH {
        let greet = Play { opened: |session| session.write("hello \n"), ..Play::echo(carry) };
        everywhere(&Limits::default(), carry, greet, |stage| {
            let client = stage.connect();
            assert_eq!(client.receive(7), b"hello \n");
            client.send(b"hello yourself\n");
            assert_eq!(client.receive(15), b"hello yourself\n");
            drop(client);
            stage.notes.end();
        });
    }
}

/// Each byte on its own, in two pieces cut at every place, and in one. How many of the pieces are read
/// together is the system's affair; that each is read alone is tested in memory.
#[test]
fn lines_come_out_however_they_are_cut() {
    let _watchdog = watchdog(120);
    let all = "one\ntwo\r\n\n\r\n\rthree\r\r\nfo\0ur\n\u{fc}\nthe rest".as_bytes();
    let lines: [&[u8]; 8] =
        [b"one", b"two", b"", b"", b"\rthree\r", b"fo\0ur", "\u{fc}".as_bytes(), b"the rest"];
    for scheme in sidewire_platform::stream_schemes() {
        let say = |pieces: &[&[u8]]| {
            let stage = Stage::new(&fresh(scheme), Limits::default(), Carry::Lines(40), Play::silent());
            let client = stage.connect();
            for piece in pieces {
                client.send(piece);
            }
            drop(client);
            assert_eq!(stage.notes.end(), Why::InOrder);
            assert_eq!(stage.notes.pieces(), lines, "{scheme}, {pieces:?}");
            stage.end();
        };
        say(&[all]);
        say(&all.chunks(1).collect::<Vec<_>>());
        (1..all.len()).for_each(|cut| say(&[&all[..cut], &all[cut..]]));
    }
}

#[test]
fn an_unfinished_last_line_is_handed_out() {
    let _watchdog = watchdog(60);
    for (said, lines) in [("a\nb", &["a", "b"][..]), ("a\nb\r", &["a", "b"]), ("a\n", &["a"]), ("", &[])] {
        everywhere(&Limits::default(), Carry::Lines(80), Play::silent(), |stage| {
            stage.connect().send(said.as_bytes());
            assert_eq!(stage.notes.end(), Why::InOrder);
            let pieces: Vec<_> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
            assert_eq!(stage.notes.pieces(), pieces, "of {said:?}");
            assert!(stage.notes.is_half_closed());
        });
    }
}

/// More lines in one piece than are handled in one turn, with the end right behind them.
#[test]
fn small_turns_lose_nothing() {
    let _watchdog = watchdog(60);
    let small = limits(|limits| {
        limits.turn_frames = 3;
        limits.turn_bytes = 1_000;
    });
    for carry in BOTH {
        everywhere(&small, carry, Play::silent(), |stage| {
            let sent = text(300_000);
            stage.connect().send(&sent);
            assert_eq!(stage.notes.end(), Why::InOrder);
            let lines = sent.split(|byte| *byte == b'\n').collect::<Vec<_>>().concat();
            let received = stage.notes.data();
            assert!(received == if carry == Carry::Raw { sent } else { lines }, "{} bytes", received.len());
        });
    }
}

#[test]
fn a_listener_knows_who_is_there() {
    let _watchdog = watchdog(60);
    fn tell(session: &mut Session<'_>, _: &[u8]) {
        let theirs = session.peer_address().expect("getpeername");
        let ours = session.local_address().expect("getsockname");
        session.write(format!("{}|{theirs}|{ours}", session.peer()));
        session.finish();
    }
    everywhere(&Limits::default(), Carry::Raw, Play { data: tell, ..Play::silent() }, |stage| {
        let client = stage.connect();
        client.send(b"who am I?");
        let told = String::from_utf8(client.receive_to_end()).expect("text");
        let told: Vec<&str> = told.split('|').collect();
        match &stage.endpoint {
            Endpoint::Tcp { port, .. } => {
                let own = client.0.local_address().expect("getsockname").to_string();
                assert_eq!(told, [&own, &own, &format!("127.0.0.1:{port}")]);
            }
            Endpoint::Unix(path) => assert_eq!(told[1..], ["unnamed", &path.display().to_string()]),
            Endpoint::Abstract(name) => {
                assert_eq!(told[1..], ["unnamed", &format!("@{}", name.escape_ascii())])
            }
            _ => {}
        }
        if !matches!(stage.endpoint, Endpoint::Tcp { .. }) {
            assert!(told[0].contains(&format!("pid {}", std::process::id())), "{told:?}");
        }
        drop(client);
        assert_eq!(stage.notes.end(), Why::InOrder);
    });
}
