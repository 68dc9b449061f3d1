//! The example `echo`.

use std::thread;

use crate::program::{Server, Talk, endpoints};
use crate::util::{Raw, unique, watchdog};
use crate::witness::pattern;

const SOURCE: &str = include_str!("../../examples/echo.rs");

fn serve() -> Server {
    let endpoints = endpoints();
    let args: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let server = Server::start("echo", &args);
    assert_eq!(server.endpoints.len(), endpoints.len());
    server
}

#[test]
fn it_is_short() {
    assert!(SOURCE.lines().count() < 200);
}

#[test]
fn a_text_comes_back() {
    let _watchdog = watchdog(60);
    let server = serve();
    for endpoint in &server.endpoints {
        for text in ["hello", "grüße, \u{1b}[31m", ""] {
            let outcome = Talk::example("echo", &["send", &endpoint.to_string(), text]).finish().expect(0);
            assert_eq!(String::from_utf8_lossy(&outcome.stdout), format!("{text}\n"), "{endpoint}");
            let printed = server.wait_for_count(1, " bytes from ip: ");
            let expected = format!("{} bytes from ip: ", text.len());
            assert!(printed[0].starts_with(&expected) && printed[0].contains(" , port: "), "{printed:?}");
            assert!(printed[0].ends_with(": closed in order"), "{printed:?}");
        }
    }
}

#[test]
fn eight_mebibytes_come_back_unharmed() {
    let _watchdog = watchdog(240);
    let server = serve();
    let sent = pattern(8 << 20);
    for endpoint in &server.endpoints {
        for args in [&["send", &endpoint.to_string(), "-"][..], &["send", &endpoint.to_string()]] {
            let outcome = Talk::example("echo", args).say_all(sent.clone()).wait().expect(0);
            assert!(outcome.stdout == sent, "{endpoint}: {} bytes came back", outcome.stdout.len());
            server.wait_for_count(1, &format!("{} bytes from", 8 << 20));
        }
    }
}

#[test]
fn many_clients_at_once() {
    let _watchdog = watchdog(240);
    let server = serve();
    for endpoint in &server.endpoints {
        thread::scope(|scope| {
            for number in 0..20u8 {
                scope.spawn(move || {
                    let mut sent = pattern(100_000);
                    sent[..8].fill(number);
                    let talk = Talk::example("echo", &["send", &endpoint.to_string()]);
                    assert!(talk.say_all(sent.clone()).wait().expect(0).stdout == sent, "client {number}");
                });
            }
        });
        let lines = server.wait_for_count(20, "100000 bytes from");
        assert_eq!(lines.len(), 20, "{lines:#?}");
    }
}

/// Without a half-close it waits for more, and with one it closes once everything is returned.
#[test]
fn it_returns_each_byte_at_once() {
    let _watchdog = watchdog(60);
    let server = serve();
    for endpoint in &server.endpoints {
        let client = Raw::connect(endpoint);
        for byte in 0..=255 {
            client.send(&[byte]);
            assert_eq!(client.receive(1), [byte]);
        }
        if client.0.shutdown_write().is_ok() {
            client.expect_end();
        }
        drop(client);
        server.wait_for_count(1, "256 bytes from");
    }
}

#[test]
fn it_says_what_is_wrong() {
    let _watchdog = watchdog(60);
    let nobody = format!("local:{}", unique("nobody"));
    let run = |args: &[&str], code: i32, word: &str| {
        let outcome = Talk::example("echo", args).finish().expect(code);
        assert!(outcome.stdout.is_empty() && outcome.stderr.contains(word), "{args:?}: {outcome:?}");
    };
    run(&["send", &nobody, "x"], 1, "nobody listens there");
    run(&["send", "nonsense", "x"], 1, "nonsense");
    run(&["serve", "nonsense"], 1, "nonsense");
    run(&["serve", "udp:127.0.0.1:0"], 1, "udp:127.0.0.1:0");
    for args in [&[][..], &["give"], &["send", "local:x", "y", "z"]] {
        run(args, 2, "usage: echo serve [ENDPOINT]...");
        run(args, 2, "default tcp:127.0.0.1:27015");
    }
}
