//! The log: what it shows, and that nobody needs to read it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use sidewire::{Client, Endpoint};

use crate::stage::{GREETING, Stage};
use crate::util::{Process, usual_access, watchdog};

fn knock(endpoint: &Endpoint) {
    let Endpoint::Tcp { host, port } = endpoint else { panic!("{endpoint}") };
    let mut stream = TcpStream::connect((host.as_str(), *port)).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n");
    let _ = stream.shutdown(Shutdown::Write);
    // Its end: the server has dealt with it.
    let _ = stream.read_to_end(&mut Vec::new());
}

fn get(stage: &Stage, endpoint: &Endpoint) {
    let client: Client = stage.client(endpoint);
    let timeout = Some(Duration::from_secs(30));
    let answer = client.request(1).timeout(timeout).send(b"").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(answer.payload(), GREETING);
}

/// A pipe holds 64 KiB: a server that waited in write(2) would answer nobody any more.
#[test]
fn a_server_whose_log_nobody_reads_goes_on_answering() {
    let _watchdog = watchdog(120);
    for level in ["warn", "trace"] {
        let stage = Stage::new();
        let args = ["serve", "tcp:127.0.0.1:0", "udp:127.0.0.1:0", "--access", "anyone"];
        let mut command = stage.sidewire(args);
        let mut server = Process::start(command.env("RUST_LOG", level).stderr(Stdio::piped()), 2);
        for _ in 0..600 {
            knock(&server.endpoints[0]);
        }
        for endpoint in &server.endpoints {
            assert!(matches!(usual_access(endpoint), sidewire::Access::Anyone));
            get(&stage, endpoint);
        }
        // Whoever reads at last finds what was kept, and how much was not.
        let mut stderr = server.child.stderr.take().expect("its log");
        server.child.kill().expect("kill");
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("text");
        assert!(text.contains("looks like"), "{text}");
        let lines = text.lines().filter(|line| line.contains("looks like")).count();
        assert!(level == "trace" || lines < 40, "{lines} lines at {level}");
    }
}

/// The program ends in time, with its own exit status, though nobody reads.
#[cfg(unix)]
#[test]
fn an_unread_log_does_not_hold_up_the_end() {
    use crate::stage::{eventually, signal};

    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let args = ["serve", "tcp:127.0.0.1:0", "--access", "anyone"];
    let mut server = Process::start(stage.sidewire(args).env("RUST_LOG", "trace").stderr(Stdio::piped()), 1);
    for _ in 0..800 {
        knock(&server.endpoints[0]);
    }
    signal("TERM", server.child.id());
    let mut status = None;
    eventually(Duration::from_secs(20), "the server ends", || {
        status = server.child.try_wait().expect("look");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// With RUST_LOG=debug both sides tell of the connection, the hello and the call, under the same id.
#[test]
fn debug_shows_a_good_call_on_both_sides_and_nothing_to_worry_about() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for endpoint in stage.all_streams() {
        let options = ["serve", &endpoint, "--access", "anyone"];
        let mut server =
            Process::start(stage.sidewire(options).env("RUST_LOG", "trace").stderr(Stdio::piped()), 1);
        let stderr = server.child.stderr.take().expect("its log");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let bound = server.endpoints[0].to_string();
        let mut calls = String::new();
        for _ in 0..10 {
            let call = ["call", &bound, "4", "secret-payload", "--access", "anyone"];
            let outcome =
                crate::stage::Started::new(stage.sidewire(call).env("RUST_LOG", "trace"), b"").finish();
            calls += &outcome.expect(0).stderr;
        }
        let mut served = String::new();
        while served.matches(" closed").count() < 10 {
            served += &lines.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{served}"));
            served.push('\n');
        }
        for (side, text) in [("server", &served), ("client", &calls)] {
            let said = |word: &str| text.lines().filter(|line| line.contains(word)).count();
            assert_eq!(said("hello of 'sidewire/"), 10, "{side}: {text}");
            assert_eq!(said("request type 4 id 1, 14 bytes"), 10, "{side}: {text}");
            assert_eq!(said("rc 0, "), 10, "{side}: {text}");
            assert_eq!(said("secret"), 0, "{side}: {text}");
            // Wine lacks one option of TCP sockets, which a line at the level trace says; and a busy machine
            // can take the processor from a handler.
            let harmless = ["SIO_TCP_INITIAL_RTO", "held the loop"];
            let said = |word: &str| {
                let is_harmless = |line: &str| harmless.iter().any(|harmless| line.contains(harmless));
                text.lines().filter(|line| line.contains(word) && !is_harmless(line)).count()
            };
            for scary in ["roken", "WARN", "ERROR", "reset", "os error"] {
                assert_eq!(said(scary), 0, "{side}: {text}");
            }
        }
        assert_eq!(served.lines().filter(|line| line.contains("accepted from")).count(), 10, "{served}");
        assert_eq!(calls.lines().filter(|line| line.contains("connected to")).count(), 10, "{calls}");
    }
}

/// That descriptors have run out is what an operator has to hear of: the log needs none then.
#[cfg(unix)]
#[test]
fn a_server_out_of_descriptors_says_so() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 20; exec \"$0\" \"$@\"", crate::stage::SIDEWIRE]);
    limited.args(["serve", "tcp:127.0.0.1:0", "--access", "anyone"]).env_remove("RUST_LOG");
    limited.current_dir(stage.folder()).stderr(Stdio::piped());
    let mut server = Process::start(&mut limited, 1);
    let Endpoint::Tcp { host, port } = &server.endpoints[0] else { panic!("a TCP endpoint") };
    let clients: Vec<_> =
        (0..30).map(|_| TcpStream::connect((host.as_str(), *port)).expect("connect")).collect();
    let mut line = String::new();
    let stderr = server.child.stderr.take().expect("its log");
    BufReader::new(stderr).read_line(&mut line).expect("a line");
    assert!(line.contains("out of descriptors"), "{line}");
    drop(clients);
}
