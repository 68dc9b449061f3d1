//! C programs as people write them for Windows, built by `ci/windows`.

use std::path::{Path, PathBuf};
use std::process::Command;

use sidewire::Endpoint;

use crate::program::Server as Example;
use crate::stage::{GREETING, SIDEWIRE, Stage, Started};
use crate::util::{Process, unique, until, watchdog};

/// Set where they can't be built.
const WITHOUT: &str = "SIDEWIRE_NO_C";

/// Where `ci/windows` puts them: beside the profile's folder. `None` where nobody can build them.
fn program(name: &str) -> Option<PathBuf> {
    if std::env::var_os(WITHOUT).is_some() {
        eprintln!("left out: {WITHOUT} is set");
        return None;
    }
    let folder = Path::new(SIDEWIRE).ancestors().nth(2).expect("the target's folder").join("c");
    let program = folder.join(name).with_extension("exe");
    let path = program.display();
    assert!(program.exists(), "{path} is missing: ci/windows builds it; set {WITHOUT} to do without");
    Some(program)
}

/// What it prints, by line.
fn run(program: &Path, args: &[&str]) -> Vec<String> {
    let outcome = Started::new(Command::new(program).args(args), b"").finish().expect(0);
    assert_eq!(outcome.stderr, "");
    outcome.text().lines().map(str::to_owned).collect()
}

/// As the C program is told where to go.
fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Pipe(name) | Endpoint::Mailslot(name) => name.clone(),
        Endpoint::Tcp { port, .. } | Endpoint::Udp { port, .. } => port.to_string(),
        other => panic!("the C programs know no {other}"),
    }
}

/// Get, set, set-and-get, and what is answered to what can't be; in short structs and whole ones.
fn converse(name: &str, endpoint: &str) {
    let Some(program) = program(name) else { return };
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let greeting = std::str::from_utf8(GREETING).expect("text");
    let longest = "x".repeat(1024);
    for (how, options) in [("short", &[][..]), ("whole", &["--classic-fixed", "1024"])] {
        let server = stage.serve(&[endpoint], &[&["--access", "anyone"], options].concat());
        let place = place(&server.endpoints[0]);
        let args = [how, &place, "1", "", "2", "good day", "1", "", "3", &longest, "3", greeting];
        let expected =
            [("1", greeting), ("2", ""), ("1", "good day"), ("3", "good day"), ("3", longest.as_str())]
                .map(|(msg_type, text)| format!("{msg_type} 0 {text}"));
        assert_eq!(run(&program, &args), expected, "{how}");
        // Another connection, after which the server is as it was.
        let args = [how, &place, "9", "x", "16", "x", "-7", "", "65537", "", "1", ""];
        let unharmed = format!("1 0 {greeting}");
        let expected = ["9 -2 ", "16 -1 ", "-7 -1 ", "65537 -1 ", unharmed.as_str()];
        assert_eq!(run(&program, &args), expected, "{how}");
    }
}

#[test]
fn a_client_of_pipes() {
    converse("pipe_client", &format!("pipe:{}", unique("c")));
}

/// The program of the protocol's reference.
#[test]
fn the_sample_of_the_document() {
    let Some(program) = program("pipe_sample") else { return };
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let server = stage.serve(&[format!("pipe:{}", unique("c"))], &[]);
    let greeting = std::str::from_utf8(GREETING).expect("text");
    assert_eq!(run(&program, &[&place(&server.endpoints[0])]), [format!("rc 0: {greeting}")]);
}

/// The client of `PROTOCOL.md`: calls, an event, a reply in parts, a cancel, and a call back.
#[test]
fn the_client_of_the_page() {
    let Some(program) = program("page_client") else { return };
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let greeting = std::str::from_utf8(GREETING).expect("text");
    for endpoint in [format!("pipe:{}", unique("c")), "tcp:127.0.0.1:0".to_owned()] {
        let access = if endpoint.starts_with("tcp") { &["--access", "anyone"][..] } else { &[] };
        let server = stage.serve(&[&endpoint], access);
        let mut lines = run(&program, &[&server.endpoints[0].to_string()]);
        // The text of an error is no part of the contract.
        let slept = lines.iter_mut().find(|line| line.starts_with("sleep: -8 ")).expect("a cancelled call");
        slept.truncate("sleep: -8".len());
        let got = format!("get: 0 {greeting}");
        let expected = [
            &got,
            "subscribe: 0 ",
            "set: 0 ",
            "event 1, number 1: tea",
            "count: 0 1",
            "count: 0 2",
            "count: 0 3",
            "count: 0 ",
            "sleep: -8",
            "call me back: 0 ping",
        ];
        assert_eq!(lines, expected, "{endpoint}");
    }
}

/// Programs over our library for C.
#[test]
fn the_examples_of_the_library() {
    let (Some(client), Some(server)) = (program("library-client"), program("library-server")) else { return };
    let _watchdog = watchdog(120);
    let server = Process::start(Command::new(server).arg(format!("local:{}", unique("c"))), 1);
    let place = server.endpoints[0].to_string();
    assert_eq!(run(&client, &[&place]), ["rc 0: 42", "changed: 40", "changed: 42"]);
}

/// Handles that go along with a call and with its reply.
#[test]
fn the_library_takes_handles_along() {
    let Some(program) = program("library-handles") else { return };
    let _watchdog = watchdog(120);
    let place = format!("pipe:{}", unique("c"));
    let server = Process::start(Command::new(&program).args(["serve", &place]), 1);
    assert_eq!(run(&program, &["call", &server.endpoints[0].to_string()]), ["hello and back"]);
}

/// The files of calls, with the tool's store and with one over that library.
#[test]
fn the_library_plays_the_calls() {
    let (Some(play), Some(store)) = (program("library-play"), program("library-store")) else { return };
    let _watchdog = watchdog(300);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations/calls");
    let files = std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "calls"));
    let files: Vec<_> = files.map(|path| path.display().to_string()).collect();
    assert!(!files.is_empty());
    let stage = Stage::new();
    let tool = stage.serve(&[format!("pipe:{}", unique("c"))], &[]);
    let in_c = Process::start(Command::new(store).arg(format!("pipe:{}", unique("c"))), 1);
    for place in [&tool, &in_c].map(|server| server.endpoints[0].to_string()) {
        let args: Vec<_> = [place.as_str()].into_iter().chain(files.iter().map(String::as_str)).collect();
        let lines = run(&play, &args);
        assert!(lines.iter().all(|line| line.ends_with(": ok")), "{place}: {lines:?}");
        assert_eq!(lines.len(), files.len(), "{place}: {lines:?}");
    }
}

#[test]
fn a_client_by_tcp() {
    converse("tcp_client", "tcp:127.0.0.1:0");
}

#[test]
fn a_client_by_udp() {
    converse("udp_client", "udp:127.0.0.1:0");
}

#[test]
fn plain_datagrams() {
    let Some(program) = program("udp_client") else { return };
    let _watchdog = watchdog(120);
    let server = Example::start("datagram", &["udp:127.0.0.1:0", "--echo"]);
    let texts = ["first", "", "x y z"];
    let place = place(&server.endpoints[0]);
    let args = [&["text", place.as_str()], &texts[..]].concat();
    assert_eq!(run(&program, &args), texts);
    until("all are printed", || server.lines().len() == 3);
    for (line, text) in server.take_lines().iter().zip(texts) {
        assert!(line.starts_with("ip: 127.0.0.1 , port: "), "{line}");
        assert!(line.ends_with(&format!(": {text}")), "{line}");
    }
}

#[test]
fn texts_by_mailslot() {
    let Some(program) = program("mailslot_writer") else { return };
    let _watchdog = watchdog(120);
    let endpoint = format!("mailslot:{}", unique("c"));
    let server = Example::start("datagram", &[&endpoint]);
    let long = "x".repeat(1000);
    let texts = ["first", "second", "x y z", &long, "last"];
    run(&program, &[&["text", &place(&server.endpoints[0])], &texts[..]].concat());
    until("all are printed", || server.lines().len() == texts.len());
    assert_eq!(server.take_lines(), texts);
}

/// Classic requests in a mailslot, which nobody answers.
#[test]
fn requests_by_mailslot() {
    let Some(program) = program("mailslot_writer") else { return };
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let endpoints = [format!("mailslot:{}", unique("c")), format!("pipe:{}", unique("c"))];
    let server = stage.serve(&endpoints, &["--access", "anyone"]);
    run(&program, &["set", &place(&server.endpoints[0]), "tea", "coffee"]);
    let client = stage.client(&server.endpoints[1]);
    until("both are served", || client.call(1, b"").expect("get").payload() == b"coffee");
}
