//! The examples `datagram` and `getset`, as people use them.

use std::time::{Duration, Instant};

use sidewire::{Address, Endpoint};

use crate::program::{Server, Talk};
use crate::stage::{Socket, all, is_udp, largest, lines};
use crate::util::watchdog;

/// How long the example waits for an answer to what it has just sent.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a sender is named in front of its text.
fn name(address: &Address) -> String {
    match address {
        Address::Inet(address) => format!("ip: {} , port: {}", address.ip(), address.port()),
        name => name.to_string(),
    }
}

fn serve(endpoint: &Endpoint, options: &[&str]) -> Server {
    Server::start("datagram", &[&[endpoint.to_string().as_str()], options].concat())
}

#[test]
fn each_text_is_printed_with_its_sender() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let server = serve(&endpoint, &[]);
        let socket = Socket::connect(&server.endpoints[0]);
        let who = name(&socket.address());
        let thousand = "é".repeat(500);
        for (bytes, text) in [
            (&b"hello"[..], "hello"),
            (b"", ""),
            (b"\0hidden", ""),
            (b"seen\0hidden", "seen"),
            ("grüße, 世界".as_bytes(), "grüße, 世界"),
            (b"bell\x07 escape\x1b[2J delete\x7f tab\t", r"bell\u{7} escape\u{1b}[2J delete\u{7f} tab\t"),
            ("next line\u{85}".as_bytes(), r"next line\u{85}"),
            (b"two\nlines\r\n", r"two\nlines\r\n"),
            (b"no \xff\xfe UTF-8 \xc3", r"no \xff\xfe UTF-8 \xc3"),
            (thousand.as_bytes(), &thousand),
        ] {
            socket.send(bytes);
            assert_eq!(lines(&server, 1), [format!("{who}: {text}")]);
        }
        // What is longer is cut, though not through a character.
        for (bytes, start) in [
            ("x".repeat(1_001), "x".repeat(1_000)),
            (format!("x{}", "é".repeat(1_000)), format!("x{}", "é".repeat(499))),
            ("y".repeat(largest(&endpoint)), "y".repeat(1_000)),
        ] {
            socket.send(bytes.as_bytes());
            let rest = bytes.len() - start.len();
            assert_eq!(lines(&server, 1), [format!("{who}: {start} (and {rest} bytes more)")]);
        }
        // None of them was answered.
        socket.expect_nothing();
    }
}

#[test]
fn echo_is_unchanged_and_uncut() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let server = serve(&endpoint, &["--echo"]);
        let socket = Socket::connect(&server.endpoints[0]);
        let large: Vec<u8> = (0..largest(&endpoint)).map(|at| (at * 7 % 256) as u8).collect();
        for bytes in [&b"hello"[..], b"", b"a\0b\xff\n", &large[..60_000], &large] {
            assert!(socket.ask(bytes) == bytes, "{} bytes", bytes.len());
        }
        lines(&server, 5);
    }
}

#[test]
fn a_burst_is_printed_in_order() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let server = serve(&endpoint, &["--echo"]);
        let socket = Socket::connect(&server.endpoints[0]);
        let count = if is_udp(&endpoint) { 100 } else { 1_000 };
        (0..count).for_each(|number| socket.send(format!("number {number}").as_bytes()));
        for number in 0..count {
            assert_eq!(socket.receive(), format!("number {number}").as_bytes());
        }
        for (number, line) in lines(&server, count).iter().enumerate() {
            assert!(line.ends_with(&format!(": number {number}")), "{line}");
        }
    }
}

#[test]
fn a_conversation() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let server = serve(&endpoint, &["--echo"]);
        let bound = server.endpoints[0].to_string();
        let mut client = Talk::example("datagram", &["send", &bound]);
        client.wait_for("send: ");
        client.say("first\r\n");
        client.wait_for("sent from ");
        client.wait_for("\nfirst\nsend: ");
        client.say("second, with ünïcödé\n");
        client.wait_for("\nsecond, with ünïcödé\nsend: ");
        client.say("exit\nnever sent\n");
        let printed = String::from_utf8(client.wait().expect(0).stdout).expect("text");
        assert_eq!(printed.matches("sent from ").count(), 1, "{printed}");
        let own = printed.lines().find_map(|line| line.split_once("sent from ")).expect("its address").1;
        assert_eq!(lines(&server, 2), [format!("{own}: first"), format!("{own}: second, with ünïcödé")]);
        assert_eq!(own.starts_with("ip: 127.0.0.1 , port: "), is_udp(&endpoint), "{own}");
    }
}

/// Answers are waited for if something was just sent, and only then.
#[test]
fn it_does_not_wait_for_what_will_not_come() {
    let _watchdog = watchdog(60);
    let server = serve(&crate::stage::fresh("udp"), &["--echo"]);
    let took = || {
        let mut client = Talk::example("datagram", &["send", &server.endpoints[0].to_string()]);
        client.say("first\n");
        client.wait_for("\nfirst\nsend: ");
        std::thread::sleep(LAST_WORDS);
        let since = Instant::now();
        client.finish().expect(0);
        since.elapsed()
    };
    // The best of many, for a machine that is busy.
    assert!((0..20).any(|_| took() < LAST_WORDS));
}

#[test]
fn what_is_piped_in_is_sent_and_answered() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let server = serve(&endpoint, &["--echo"]);
        let bound = server.endpoints[0].to_string();
        for (input, sent) in [("one\ntwo", 2), ("one\n\ntwo\n", 1), ("exit\n", 0), ("", 0)] {
            let client = Talk::example("datagram", &["send", &bound]).say_all(input.into());
            let outcome = client.wait().expect(0);
            assert_eq!(outcome.stderr, "");
            let printed = String::from_utf8(outcome.stdout).expect("text");
            assert_eq!(printed.matches("\none\n").count(), sent.min(1), "{printed}");
            assert_eq!(printed.matches("\ntwo\n").count(), sent / 2, "{printed}");
            lines(&server, sent);
        }
    }
}

#[test]
fn a_line_that_is_too_long_is_not_the_last() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let server = serve(&endpoint, &["--echo"]);
        let bound = server.endpoints[0].to_string();
        let most = "x".repeat(largest(&endpoint));
        let input = format!("{}\n{most}\nlast\n", "y".repeat(20 << 20));
        let client = Talk::example("datagram", &["send", &bound]).say_all(input.into());
        let outcome = client.wait().expect(0);
        assert!(outcome.stderr.contains("too large"), "{}", outcome.stderr);
        let printed = String::from_utf8(outcome.stdout).expect("text");
        assert!(printed.contains("\nlast\n"));
        assert!(printed.contains(&format!("{} (and {} bytes more)", &most[..1_000], most.len() - 1_000)));
    }
}

#[test]
fn a_client_that_nobody_answers() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let server = serve(&endpoint, &[]);
        let bound = server.endpoints[0].clone();
        let mut client = Talk::example("datagram", &["send", &bound.to_string()]);
        client.say("hello\n");
        server.wait_for(": hello");
        drop(server);
        client.say("anybody?\n");
        if is_udp(&bound) {
            // Wine does not tell that nobody was there.
            if !cfg!(windows) {
                client.wait_for("\ndatagram: ");
            }
            // Somebody may come.
            client.say("exit\n");
            client.wait().expect(0);
        } else {
            assert!(client.wait().expect(1).stderr.starts_with("datagram: "));
        }
    }
}

#[test]
fn what_can_not_be_is_said() {
    let _watchdog = watchdog(60);
    for (args, code, word) in [
        (&[][..], 2, "usage"),
        (&["serve", "a", "b"], 2, "usage"),
        (&["send", "udp:127.0.0.1:1", "more"], 2, "usage"),
        (&["serve", "nonsense"], 1, "nonsense"),
        (&["serve", "tcp:127.0.0.1:0"], 1, "stream"),
        (&["send", "tcp:127.0.0.1:1"], 1, "stream"),
        (&["serve", "udp:0.0.0.0:0"], 1, "loopback"),
    ] {
        let outcome = Talk::example("datagram", args).finish().expect(code);
        assert!(outcome.stderr.contains(word), "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, b"");
    }
}

#[test]
fn getset_over_datagrams() {
    let _watchdog = watchdog(60);
    let endpoints: Vec<String> = all().iter().map(Endpoint::to_string).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let server = Server::start("getset", &endpoints);
    let ask = |args: &[&str], endpoint: &str| {
        let outcome = Talk::example("getset", &[args, &[endpoint]].concat()).finish().expect(0);
        String::from_utf8(outcome.stdout).expect("text")
    };
    let mut value = "hello, this is server!".to_owned();
    for endpoint in server.endpoints.iter().map(Endpoint::to_string) {
        assert_eq!(ask(&["get"], &endpoint), format!("{value}\n"));
        assert_eq!(ask(&["set", "tea"], &endpoint), "");
        assert_eq!(ask(&["setget", "coffee"], &endpoint), "tea\n");
        value = format!("what came by {endpoint}");
        assert_eq!(ask(&["setget", &value], &endpoint), "coffee\n");
    }
}

/// Ctrl-C ends it in order.
#[cfg(unix)]
#[test]
fn an_interrupted_server_leaves_nothing_behind() {
    let _watchdog = watchdog(60);
    let endpoint = crate::stage::fresh("unixgram");
    let server = serve(&endpoint, &[]);
    let Endpoint::UnixGram(path) = &endpoint else { panic!("no path") };
    assert!(path.exists());
    server.interrupt();
    crate::util::until("its file is gone", || !path.exists());
}
