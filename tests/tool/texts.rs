//! What the tool says about endpoints that are written otherwise, and servers that are something else.

use std::fs::File;

use crate::stage::Stage;
use crate::util::{Process, Raw, classic, unique, watchdog};

#[test]
fn other_spellings_are_pointed_at_ours() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for (text, ours) in [
        ("tcp://127.0.0.1:1", "tcp:127.0.0.1:1"),
        ("unix:///run/x", "unix:/run/x"),
        ("unix:@name", "abstract:name"),
        ("/tmp/x", "unix:/tmp/x"),
        ("http://localhost:80/", "tcp:localhost:80"),
        (r"\\.\pipe\x", "pipe:x"),
    ] {
        for verb in [&["call", text, "1"][..], &["serve", text]] {
            stage.run(verb).expect(2).mentions(ours);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn padded_names_are_served_and_called() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = format!("abstract-padded:{}", unique("tool"));
    let server = stage.serve(&[&endpoint], &[]);
    assert_eq!(server.endpoints[0].to_string(), endpoint);
    stage.run(["call", &endpoint, "1"]).expect(0).prints(crate::stage::GREETING);
}

/// What a server logs of these bytes.
fn log_of(bytes: &[u8], word: &str) -> String {
    let stage = Stage::new();
    let log = stage.path("log");
    let endpoint = format!("local:{}", unique("tool"));
    let mut command = stage.sidewire(["serve", &endpoint]);
    command.env("RUST_LOG", "info").stderr(File::create(&log).expect("a file"));
    let server = Process::start(&mut command, 1);
    let raw = Raw::connect(&stage.seen_from_here(&server.endpoints[0]));
    raw.send(bytes);
    crate::stage::eventually(std::time::Duration::from_secs(20), word, || {
        std::fs::read_to_string(&log).expect("the log").contains(word)
    });
    std::fs::read_to_string(&log).expect("the log")
}

/// A C program that writes its whole struct gets the right reply, and the server says what is odd.
#[test]
fn a_whole_struct_on_a_short_listener_is_hinted_at() {
    let _watchdog = watchdog(60);
    let mut whole = classic(1, 0, b"");
    whole.resize(12 + 1024, 0);
    let log = log_of(&whole, "classic_fixed");
    assert_eq!(log.matches("writes its whole struct").count(), 1, "{log}");
    assert!(log.contains("WARN"), "{log}");
}

#[test]
fn text_on_a_framed_listener_is_shown() {
    let _watchdog = watchdog(60);
    let log = log_of(b"{\"method\": \"get\", \"id\": 1}\n", "look like text");
    assert!(log.contains(r#"{\"method\": "#), "{log}");
}

/// Servers that never answer, or answer in another protocol.
#[cfg(unix)]
#[test]
fn servers_that_are_something_else_are_told() {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let path = stage.path("hung.sock");
    let server = UnixListener::bind(&path).expect("bind");
    let endpoint = format!("unix:{}", path.display());
    let hung = stage.run(["call", &endpoint, "1", "--timeout", "0.3"]).expect(4);
    hung.mentions("hung, or not Sidewire?").mentions("no hello");
    let answers = std::thread::spawn(move || {
        // The first is the one that has given up.
        for stream in server.incoming().skip(1).take(1) {
            stream.expect("accept").write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("answer");
        }
    });
    stage.run(["call", &endpoint, "1"]).expect(5).mentions(r"HTTP/1.1 400 Bad Request\r\n");
    answers.join().expect("the server");
    let file = stage.path("file");
    std::fs::write(&file, "").expect("a file");
    stage.run(["call", &format!("unix:{}", file.display()), "1"]).expect(3).mentions("no socket");
}
