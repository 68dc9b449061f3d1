//! The example `terminal`: its server.

use std::time::{Duration, Instant};

use sidewire::{Address, Endpoint};

use crate::program::{Server, endpoints};
use crate::util::{Raw, until, watchdog};

const SOURCE: &str = include_str!("../../examples/terminal.rs");
/// Bytes in a record of the old clients.
const RECORD: usize = 50;

/// A server with a client on each kind of stream in turn, which is greeted.
fn on_each(options: &[&str], test: impl Fn(&Server, Raw, &str)) {
    for endpoint in endpoints() {
        eprintln!("on {endpoint}");
        let server = Server::start("terminal", &[&[endpoint.as_str()], options].concat());
        assert_eq!(server.endpoints.len(), 1);
        let client = Raw::connect(&server.endpoints[0]);
        assert_eq!(client.receive(7), b"hello \n");
        until("the login is printed", || !server.lines().is_empty());
        let [login] = &server.take_lines()[..] else { panic!("more than a login") };
        let name = name(&server.endpoints[0], &client);
        match name.ends_with("port: ") {
            // A pipe's client is known only when it has said something.
            true => assert!(login.starts_with(&format!("client login. {name}")), "{login}"),
            false => assert_eq!(*login, format!("client login. {name}")),
        }
        test(&server, client, &name);
    }
}

/// What the server calls it; on Windows pipes the beginning of that.
fn name(endpoint: &Endpoint, client: &Raw) -> String {
    match (endpoint, client.0.local_address().expect("getsockname")) {
        (Endpoint::Tcp { .. }, Address::Inet(own)) => format!("ip: {} , port: {}", own.ip(), own.port()),
        _ if cfg!(unix) => format!("ip: local , port: {}", std::process::id()),
        _ => "ip: local , port: ".to_owned(),
    }
}

/// The texts of messages, all of which are from `name`.
#[track_caller]
fn texts(lines: &[String], name: &str) -> Vec<String> {
    let text = |line: &String| {
        let rest = line.strip_prefix(name).unwrap_or_else(|| panic!("'{line}' is not from {name}"));
        rest.split_once(": ").expect("a colon behind the name").1.to_owned()
    };
    lines.iter().map(text).collect()
}

/// Takes the messages of a client that has logged out, and checks the logout.
#[track_caller]
fn texts_until_logout(server: &Server, name: &str) -> Vec<String> {
    let mut lines = server.wait_for_logout();
    let logout = lines.pop().expect("a line");
    assert!(logout.starts_with(&format!("client logout. {name}")), "{logout}");
    let reason = logout.rsplit(": ").next().expect("a reason");
    assert!(!reason.is_empty(), "{logout}");
    texts(&lines, name)
}

/// A record: text, a NUL, and what was in the buffer before.
fn record(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    if bytes.len() < RECORD {
        bytes.push(0);
    }
    bytes.extend(b"JUNK\n\x1b[2Jand\0more JUNK ".iter().cycle().take(RECORD - bytes.len()));
    bytes
}

#[test]
fn it_is_readable_in_five_minutes() {
    assert!(SOURCE.lines().count() < 320);
}

#[test]
fn it_greets_listens_and_never_answers() {
    let _watchdog = watchdog(60);
    on_each(&[], |server, client, name| {
        client.send("good day\ngrüß Gott\r\n".as_bytes());
        server.wait_for("grüß Gott");
        client.send(b"NUL ends it too\0and\n\n\0\0this comes la");
        server.wait_for(": and");
        client.send(b"ter\n");
        server.wait_for(": this comes later");
        client.send(b"unfinished");
        if client.0.shutdown_write().is_ok() {
            client.expect_end(); // And not a word before it.
        }
        drop(client);
        let expected = ["good day", "grüß Gott", "NUL ends it too", "and", "this comes later", "unfinished"];
        assert_eq!(texts_until_logout(server, name), expected);
    });
}

#[test]
fn another_greeting() {
    let _watchdog = watchdog(60);
    for (greeting, args) in [("wie geht's?", &["--greeting", "wie geht's?"][..]), ("", &["--greeting", ""])] {
        let server = Server::start("terminal", &[args, &["tcp:127.0.0.1:0"]].concat());
        let client = Raw::connect(&server.endpoints[0]);
        assert_eq!(client.receive(greeting.len()), greeting.as_bytes());
        client.0.shutdown_write().expect("half-close");
        client.expect_end();
        server.wait_for_logout();
    }
}

#[test]
fn a_half_close_is_a_logout_and_closes() {
    let _watchdog = watchdog(60);
    for options in [&[][..], &["--record", "50"]] {
        on_each(options, |server, client, name| {
            client.send(b"last words");
            if client.0.shutdown_write().is_err() {
                return; // A Windows pipe.
            }
            client.expect_end();
            assert_eq!(texts_until_logout(server, name), ["last words"]);
        });
    }
}

/// It leaves without reading its greeting, which the system shows as a reset.
#[test]
fn nothing_is_printed_twice() {
    let _watchdog = watchdog(120);
    for (options, words) in [(&[][..], b"boo\n".to_vec()), (&["--record", "50"], record(b"boo"))] {
        for endpoint in endpoints() {
            let server = Server::start("terminal", &[&[endpoint.as_str()], options].concat());
            for _ in 0..20 {
                let client = Raw::connect(&server.endpoints[0]);
                client.send(&words);
                server.wait_for(": boo");
                drop(client);
                let lines = server.wait_for_logout();
                let [login, message, logout] = &lines[..] else { panic!("{endpoint}: {lines:#?}") };
                assert!(login.starts_with("client login. ip: ") && message.ends_with(": boo"), "{lines:#?}");
                assert!(logout.starts_with("client logout. ip: "), "{lines:#?}");
            }
            // Nor later: the next that is printed is the next client.
            let next = Raw::connect(&server.endpoints[0]);
            assert_eq!(next.receive(7), b"hello \n");
            let lines = server.wait_for_count(1, "client login");
            assert_eq!(lines.len(), 1, "{lines:#?}");
        }
    }
}

#[test]
fn records_that_come_together() {
    let _watchdog = watchdog(60);
    on_each(&["--record", "50"], |server, client, name| {
        let full = "x".repeat(RECORD);
        let all = ["one", "two\n", "", "a\nb\n\nc", "\n", "grüße", &full, "after it", "\u{7}"];
        let records: Vec<Vec<u8>> = all.iter().map(|text| record(text.as_bytes())).collect();
        client.send(&records.concat());
        drop(client);
        let expected = ["one", "two", "a", "b", "c", "grüße", &full, "after it", "\\u{7}"];
        assert_eq!(texts_until_logout(server, name), expected);
    });
}

/// Cut in two at every place, and the first piece is read before the second is sent. If the machine is
/// slow the halves of a text may be printed as two messages, as they may when the client is; but nothing
/// is lost or doubled.
#[test]
fn records_that_come_in_pieces() {
    let _watchdog = watchdog(240);
    let text = "the text of grüße";
    let whole = record(text.as_bytes());
    on_each(&["--record", "50"], |server, client, name| {
        // What it says is printed behind what was sent before.
        let other = Raw::connect(&server.endpoints[0]);
        assert_eq!(other.receive(7), b"hello \n");
        server.wait_for_count(1, "client login");
        let mut whole_texts = 0;
        for cut in 1..RECORD {
            client.send(&whole[..cut]);
            other.send(&record(b"read"));
            server.wait_for(": read");
            // The second piece brings the beginning of the next record, which has no text at all.
            client.send(&whole[cut..]);
            client.send(&record(b"end")[..]);
            server.wait_for(": end");
            let mut lines = server.take_lines();
            lines.retain(|line| !line.ends_with(": read"));
            let mut texts = texts(&lines, name);
            assert_eq!(texts.pop().as_deref(), Some("end"));
            assert_eq!(texts.concat(), text, "cut at {cut}");
            whole_texts += usize::from(cut < text.len() && texts.len() == 1);
        }
        assert!(whole_texts > 0, "the first half of a text never waits for the second");
    });
}

#[test]
fn records_byte_by_byte() {
    let _watchdog = watchdog(120);
    on_each(&["--record", "50"], |server, client, name| {
        for byte in [record("grüße 一二三".as_bytes()), record(b"two")].concat() {
            client.send(&[byte]);
        }
        drop(client);
        let texts = texts_until_logout(server, name);
        assert_eq!(texts.concat(), "grüße 一二三two");
        assert_eq!(texts.last().map(String::as_str), Some("two"));
    });
}

/// Newline or not, and whatever the sizes of what comes.
#[test]
fn text_is_printed_within_100_ms() {
    let _watchdog = watchdog(60);
    on_each(&["--record", "50"], |server, client, name| {
        // The best of many, for a machine that is busy.
        let mut best = Duration::MAX;
        for number in 0..200 {
            if number >= 8 && best < Duration::from_millis(100) {
                break;
            }
            let text = format!("text {number}");
            let at = Instant::now();
            client.send(text.as_bytes());
            best = best.min(server.wait_for(&text).duration_since(at));
            // Only the rest is printed when the rest comes.
            client.send(b" and more");
            server.wait_for(&" and more"[1..]);
            client.send(&record(b"")[..RECORD - text.len() - 9]);
            let texts = texts(&server.take_lines(), name);
            assert_eq!(texts, [text, " and more".to_owned()]);
        }
        assert!(best < Duration::from_millis(100), "the best time was {best:?}");
    });
}

/// A text that an old client cuts where its buffer ends, in the middle of a character.
#[test]
fn characters_are_put_together() {
    let _watchdog = watchdog(60);
    let text = "一二三四五六七八九十".repeat(10);
    on_each(&["--record", "50"], |server, client, name| {
        for chunk in text.as_bytes().chunks(RECORD - 1) {
            client.send(&record(chunk));
        }
        drop(client);
        let texts = texts_until_logout(server, name);
        assert_eq!(texts.concat(), text);
        assert_eq!(texts.len(), text.len().div_ceil(RECORD - 1));
    });
    on_each(&[], |server, client, name| {
        for byte in text.bytes() {
            client.send(&[byte]);
        }
        client.send(b"\n");
        drop(client);
        assert_eq!(texts_until_logout(server, name), [text.as_str()]);
    });
}

#[test]
fn nobody_drives_the_terminal() {
    let _watchdog = watchdog(60);
    let nasty: &[u8] = b"\x1b[2J\x07\x08\x7f\ta\rb\x9b31m\xc2\x9b31m\xff\xc3(\xe4\xb8\xf0\x9f\x98";
    let shown = r"\u{1b}[2J\u{7}\u{8}\u{7f}\ta\rb\x9b31m\u{9b}31m\xff\xc3(\xe4\xb8\xf0\x9f\x98";
    on_each(&[], |server, client, name| {
        client.send(&[nasty, b"\n", nasty, b"\0"].concat());
        client.send("client logout. ip: 1.2.3.4 , port: 5\n\u{2028}😀\n".as_bytes());
        client.send(nasty);
        drop(client);
        let forged = "client logout. ip: 1.2.3.4 , port: 5";
        assert_eq!(texts_until_logout(server, name), [shown, shown, forged, "\u{2028}😀", shown]);
    });
    on_each(&["--record", "50"], |server, client, name| {
        client.send(&record(&[nasty, b"\n"].concat()));
        drop(client);
        assert_eq!(texts_until_logout(server, name), [shown]);
    });
}

/// Its length is no reason to lose or double anything.
#[test]
fn a_very_long_message() {
    let _watchdog = watchdog(60);
    let long = "0123456789".repeat(100_000);
    let longer = "一".repeat(1 << 20);
    on_each(&[], |server, client, name| {
        client.send(long.as_bytes());
        client.send(b"\n");
        client.send(longer.as_bytes());
        drop(client);
        let texts = texts_until_logout(server, name);
        assert!(texts[0] == long, "{} bytes of it", texts[0].len());
        assert!(texts[1..].concat() == longer, "in {} pieces", texts.len() - 1);
    });
}

#[test]
fn a_stop_logs_everybody_out() {
    let _watchdog = watchdog(60);
    if !cfg!(unix) {
        return; // There is no signal to send.
    }
    on_each(&[], |server, client, name| {
        server.interrupt();
        client.expect_end();
        let [logout] = &server.wait_for_logout()[..] else { panic!("more than a logout") };
        assert_eq!(*logout, format!("client logout. {name}: shutting down (-9)"));
    });
}
