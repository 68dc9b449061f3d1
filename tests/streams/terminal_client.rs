//! The example `terminal`: its client.

use std::io::Read;
use std::thread;

use sidewire::Limits;

use crate::program::{Server, Talk, endpoints};
use crate::util::{unique, watchdog};
use crate::witness::{Carry, Play, Why, everywhere};

/// Between a terminal server and a client, with everything that goes on.
fn on_each(test: impl Fn(&Server, &str)) {
    for endpoint in endpoints() {
        let server = Server::start("terminal", &[&endpoint]);
        test(&server, &server.endpoints[0].to_string());
    }
}

fn connect(endpoint: &str) -> Talk {
    Talk::example("terminal", &["connect", endpoint])
}

#[test]
fn lines_are_sent_and_the_greeting_is_printed() {
    let _watchdog = watchdog(60);
    on_each(|server, endpoint| {
        let mut client = connect(endpoint);
        client.wait_for("send: ");
        client.wait_for("hello \n");
        for line in ["one", "grüße", "three  "] {
            client.say(format!("{line}\n"));
            server.wait_for(&format!(": {line}"));
        }
        let outcome = client.finish().expect(0);
        let printed = String::from_utf8(outcome.stdout).expect("UTF-8");
        assert!(printed.matches("send: ").count() >= 4, "{printed}");
        assert_eq!(server.wait_for_logout().len(), 5);
    });
}

#[test]
fn three_ways_to_end() {
    let _watchdog = watchdog(120);
    on_each(|server, endpoint| {
        for end in ["exit\n", "\n", "exit\r\n", "\r\n", "exit", "", "last one\nexit\nnot sent\n"] {
            let mut client = connect(endpoint);
            client.wait_for("hello \n");
            client.say(end);
            let outcome = if end.ends_with('\n') { client.wait() } else { client.finish() };
            outcome.expect(0);
            let lines = server.wait_for_logout();
            assert_eq!(lines.len(), 2 + usize::from(end.len() > 10), "{end:?}: {lines:?}");
        }
    });
}

/// Its input is a file, and it is gone before anybody has looked.
#[test]
fn what_was_said_last_arrives() {
    let _watchdog = watchdog(60);
    on_each(|server, endpoint| {
        for _ in 0..5 {
            let outcome = connect(endpoint).say_all(b"first\nlast".to_vec()).wait().expect(0);
            assert!(String::from_utf8_lossy(&outcome.stdout).contains("hello \n"));
            let lines = server.wait_for_logout();
            assert!(lines[1].ends_with(": first") && lines[2].ends_with(": last"), "{lines:?}");
        }
    });
}

#[test]
fn a_long_line_is_sent_whole() {
    let _watchdog = watchdog(60);
    on_each(|server, endpoint| {
        let line = "x0123456789".repeat(50_000);
        let mut client = connect(endpoint);
        client.say(format!("{line}\n"));
        server.wait_for(&format!(": {line}"));
        client.finish().expect(0);
        assert_eq!(server.wait_for_logout().len(), 3);
    });
}

#[test]
fn twenty_clients_at_once() {
    let _watchdog = watchdog(240);
    on_each(|server, endpoint| {
        thread::scope(|scope| {
            for number in 0..20 {
                scope.spawn(move || {
                    let mut client = connect(endpoint);
                    client.wait_for("hello \n");
                    for line in 0..5 {
                        client.say(format!("line {line} of {number}\n"));
                        server.wait_for(&format!(": line {line} of {number}"));
                    }
                    client.finish().expect(0);
                });
            }
        });
        let lines = server.wait_for_count(20, "client logout");
        assert_eq!(lines.len(), 20 * 7, "{lines:#?}");
        for number in 0..20 {
            let is_from = |line: &&String| line.ends_with(&format!(" of {number}"));
            let own: Vec<&String> = lines.iter().filter(is_from).collect();
            let name = own[0].split(": line").next().expect("a name");
            for (count, line) in own.iter().enumerate() {
                assert_eq!(**line, format!("{name}: line {count} of {number}"));
            }
            assert_eq!(own.len(), 5);
            assert_eq!(lines.iter().filter(|line| line.contains(&format!("logout. {name}: "))).count(), 1);
        }
    });
}

/// Meanwhile: while the user thinks.
#[test]
fn what_the_server_says_is_printed_meanwhile() {
    let _watchdog = watchdog(60);
    let talkative = Play {
        opened: |session| session.write("wel"),
        data: |session, bytes| {
            session.write("you said: ");
            session.write(bytes);
            session.write(b"grusel \x1b[2J\xff\x07 gr\xc3");
            session.write(b"\xbc\xc3\x9f Gott\r\nbye\n");
        },
        ..Play::silent()
    };
    everywhere(&Limits::default(), Carry::Raw, talkative, |stage| {
        let mut client = connect(&stage.endpoint.to_string());
        client.wait_for("wel");
        client.say("hi\n");
        client.wait_for("you said: hi\n");
        client.wait_for(r"grusel \u{1b}[2J\xff\u{7} grüß Gott");
        client.wait_for("bye\n");
        let outcome = client.finish().expect(0);
        assert!(outcome.stdout.iter().all(|byte| *byte >= b' ' || *byte == b'\n'), "{outcome:?}");
        assert_eq!(stage.notes.end(), Why::InOrder);
        assert_eq!(stage.notes.data(), b"hi\n");
    });
}

/// Nobody has to press a key.
#[test]
fn it_ends_when_the_server_closes() {
    let _watchdog = watchdog(60);
    let close = Play {
        data: |session, _| {
            session.write("go away\n");
            session.close();
        },
        ..Play::silent()
    };
    everywhere(&Limits::default(), Carry::Raw, close, |stage| {
        let mut client = connect(&stage.endpoint.to_string());
        client.say("hi\n");
        let outcome = client.wait().expect(0);
        let printed = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert!(printed.contains("go away\n"), "{printed}");
        // Whoever reads the keys may ask for more in the moment before the program ends.
        assert!(printed.trim_end_matches("send: ").ends_with("\nconnection closed\n"), "{printed}");
    });
}

/// A server that does not care about a half-close is left after a while.
#[test]
fn it_does_not_wait_for_a_server_that_never_closes() {
    let _watchdog = watchdog(60);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoint = format!("tcp:{}", listener.local_addr().expect("getsockname"));
    let mut client = connect(&endpoint);
    let (mut server, _) = listener.accept().expect("accept");
    client.say("hi\n");
    let mut words = [0; 3];
    server.read_exact(&mut words).expect("its words");
    assert_eq!(&words, b"hi\n");
    client.finish().expect(0);
}

#[test]
fn it_says_what_is_wrong() {
    let _watchdog = watchdog(60);
    let nobody = format!("local:{}", unique("nobody"));
    let run = |args: &[&str], code: i32, word: &str| {
        let outcome = Talk::example("terminal", args).finish().expect(code);
        assert!(outcome.stdout.is_empty() && outcome.stderr.contains(word), "{args:?}: {outcome:?}");
    };
    run(&["connect", &nobody], 1, "nobody listens there");
    run(&["connect", "nonsense"], 1, "nonsense");
    run(&["serve", "nonsense"], 1, "nonsense");
    let bad: [&[&str]; 9] = [
        &[],
        &["give"],
        &["connect", "local:x", "y"],
        &["serve", "local:x", "local:y"],
        &["serve", "--record"],
        &["serve", "--record", "0"],
        &["serve", "--record", "x"],
        &["serve", "--greeting"],
        &["serve", "--other"],
    ];
    for args in bad {
        run(args, 2, "usage: terminal serve [ENDPOINT] [--record N] [--greeting TEXT]");
        run(args, 2, "default tcp:127.0.0.1:9100");
    }
}
