//! `sidewire serve`: its lines, its options, its end.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
#[cfg(unix)]
use std::time::{Duration, Instant};

use sidewire::Endpoint;

use crate::stage::{GREETING, Stage};
#[cfg(unix)]
use crate::stage::{eventually, signal};
#[cfg(unix)]
use crate::util::Process;
use crate::util::{Raw, classic, unique, watchdog};

#[test]
fn it_says_where_it_listens() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let asked = stage.all_streams();
    let server = stage.serve(&asked, &["--access", "anyone"]);
    for (asked, bound) in asked.iter().zip(&server.endpoints) {
        match bound {
            Endpoint::Tcp { port, .. } => assert_ne!(*port, 0),
            bound => assert_eq!(bound.to_string(), *asked),
        }
        // An elevated client does not take a server for anyone for its own otherwise.
        stage.run(["call", &bound.to_string(), "1", "--access", "anyone"]).expect(0).prints(GREETING);
    }
}

/// Datagram endpoints are announced and called like the others; mailslots answer nothing.
#[test]
fn it_serves_datagrams_too() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.all_datagrams(), &["--access", "anyone"]);
    for endpoint in &server.endpoints {
        let endpoint = endpoint.to_string();
        stage.run(["call", &endpoint, "3", "new"]).expect(0).prints(GREETING);
        stage.run(["call", &endpoint, "9"]).expect(1).mentions("no handler (-2)");
        stage.run(["call", &endpoint, "3", "hello, this is server!"]).expect(0).prints("new");
    }
}

/// By the first line every endpoint is open, not just the one that it names; and no other line
/// begins with that word.
#[test]
fn all_are_open_before_the_first_line() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let asked: Vec<String> = (0..3).flat_map(|_| [format!("local:{}", unique("tool"))]).collect();
    let mut command = stage.sidewire([&["serve".to_owned()], &asked[..]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("start");
    let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, format!("listening {}\n", asked[0]));
    for endpoint in asked.iter().rev() {
        stage.run(["call", endpoint, "1"]).expect(0).prints(GREETING);
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    stdout.read_to_string(&mut line).expect("text");
    let listening: Vec<&str> = line.lines().filter_map(|line| line.strip_prefix("listening ")).collect();
    assert_eq!(listening, asked);
}

#[test]
fn tcp_needs_to_be_told_that_anyone_may() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let local = format!("local:{}", unique("tool"));
    for options in
        [&["tcp:127.0.0.1:0"][..], &["tcp:127.0.0.1:0", "--access", "same-user"], &[&local, "tcp:[::1]:0"]]
    {
        let outcome = stage.run([&["serve"], options].concat()).expect(2).prints("");
        outcome.mentions("--access anyone").mentions("tcp:");
    }
    assert_eq!(stage.files(), [""; 0]);
}

/// What refuses an address names the option that allows it, and that one works.
#[test]
fn other_machines_may_be_let_in() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for everywhere in ["tcp:0.0.0.0:0", "udp:0.0.0.0:0"] {
        let outcome = stage.run(["serve", everywhere, "--access", "anyone"]).expect(1).prints("");
        outcome.mentions("--beyond-loopback").mentions("0.0.0.0 is not a loopback address");
        let server = stage.serve(&[everywhere], &["--access", "anyone", "--beyond-loopback"]);
        let here = server.endpoints[0].to_string().replace("0.0.0.0", "127.0.0.1");
        stage.run(["call", &here, "1"]).expect(0).prints(GREETING);
    }
    // Where it means nothing it is not passed over in silence.
    let local = format!("local:{}", unique("tool"));
    stage
        .run(["serve", &local, "--beyond-loopback"])
        .expect(2)
        .mentions("--beyond-loopback is for tcp and udp");
}

#[test]
fn what_cannot_be_is_a_usage_error() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let foreign = if cfg!(windows) { "abstract:x" } else { "pipe:x" };
    for args in [
        &["nonsense"][..],
        &["nonsense:x"],
        &["local:"],
        &["local:a/b"],
        &["tcp:127.0.0.1"],
        &["tcp:127.0.0.1:70000"],
        &["unix:relative"],
        &[foreign],
        &["--access", "nobody"],
        &["--classic-max", "-1"],
        &["--classic-max", "x"],
        &["--classic-max", "1", "--classic-fixed", "1"],
        &["--no-such-option"],
    ] {
        let outcome = stage.run([&["serve"], args].concat()).expect(2).prints("");
        assert!(!outcome.stderr.is_empty(), "{args:?}");
    }
    assert_eq!(stage.files(), [""; 0]);
}

/// Nothing is announced before all are bound, and what was bound is gone.
#[test]
fn one_endpoint_that_fails_ends_it() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let good = format!("local:{}", unique("tool"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = format!("tcp:{}", taken.local_addr().expect("its address"));
    let outcome = stage.run(["serve", &good, &busy, "tcp:127.0.0.1:0", "--access", "anyone"]).expect(1);
    outcome.prints("").mentions(&busy);
    stage.run(["call", &good, "1"]).expect(3);
    assert_eq!(stage.files(), [""; 0]);
}

#[test]
fn classic_max_holds_both_ways() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &["--classic-max", "22"]);
    let endpoint = server.endpoints[0].to_string();
    let call = |args: &[&str]| stage.run([&["call", &endpoint], args].concat());
    call(&["1", "--classic"]).expect(0).prints(GREETING);
    call(&["4", "1234567890123456789012", "--classic"]).expect(0).prints("1234567890123456789012");
    call(&["4", "12345678901234567890123", "--classic"]).expect(1).prints("").mentions("too large (-3)");
    // A v1 client may set more than a classic one can get.
    call(&["2", "12345678901234567890123"]).expect(0).prints("");
    call(&["1", "--classic"]).expect(1).prints("").mentions("too large (-3)");
    call(&["1"]).expect(0).prints("12345678901234567890123");

    let raw = Raw::connect(&stage.seen_from_here(&server.endpoints[0]));
    raw.send(&classic(4, 0, &[0; 23])[..12]);
    assert_eq!(raw.receive_to_end(), classic(4, -3, b""), "answered without the payload, and closed");
}

#[test]
fn classic_fixed_takes_and_gives_whole_structs() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &["--classic-fixed", "64"]);
    let raw = Raw::connect(&stage.seen_from_here(&server.endpoints[0]));
    let whole = |msg_type: i32, payload: &[u8]| {
        let mut bytes = classic(msg_type, 0, payload);
        bytes.resize(12 + 64, 0);
        bytes
    };
    raw.send(&[whole(1, b""), whole(3, b"new"), whole(1, b"")].concat());
    for (msg_type, payload) in [(1, GREETING), (3, GREETING), (1, b"new")] {
        assert_eq!(raw.receive(76), whole(msg_type, payload));
    }
    // v1 is served all the same.
    stage.run(["call", &server.endpoints[0].to_string(), "1"]).expect(0).prints("new");
    for endpoint in &server.endpoints {
        let endpoint = endpoint.to_string();
        let call = |args: &[&str]| stage.run([&["call", &endpoint, "--classic-fixed", "64"], args].concat());
        call(&["3", "newer"]).expect(0).prints("new");
        call(&["3", "new"]).expect(0).prints("newer");
        call(&["4", &"x".repeat(65)]).expect(2).mentions("65 bytes");
        call(&["1", "--classic"]).expect(2);
    }
}

/// Someone who does not read the lines is no reason to stop.
#[test]
fn it_serves_though_nobody_reads_its_output() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = format!("local:{}", unique("tool"));
    let mut command = stage.sidewire(["serve", &endpoint]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start");
    drop(child.stdout.take());
    crate::stage::eventually(crate::util::PATIENCE, "it answers", || {
        stage.run(["call", &endpoint, "1"]).stdout == GREETING
    });
    child.kill().expect("kill");
    child.wait().expect("wait");
}

/// Signals: Ctrl-C does not reach a program of a headless Wine.
#[cfg(unix)]
#[test]
fn signals_end_it_and_nothing_is_left() {
    let _watchdog = watchdog(60);
    for name in ["INT", "TERM"] {
        let stage = Stage::new();
        let endpoints = [stage.all_streams(), stage.all_datagrams()].concat();
        let mut server = stage.serve(&endpoints, &["--access", "anyone"]);
        assert_eq!(stage.files().len(), 3, "the sockets of local:, unix: and unixgram:");
        let took = end(&mut server, name);
        println!("SIG{name} without clients: {took:?}");
        assert_eq!(stage.files(), [""; 0]);
    }
}

#[cfg(unix)]
fn end(server: &mut Process, name: &str) -> Duration {
    let start = Instant::now();
    signal(name, server.child.id());
    let status = server.wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0));
    start.elapsed()
}

/// Clients that never say a word, or said hello, or asked something, and do not close.
#[cfg(unix)]
#[test]
fn fifty_idle_clients_do_not_hold_it_up() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let mut server = stage.serve(&[stage.unix("x.sock"), "tcp:127.0.0.1:0".into()], &["--access", "anyone"]);
    let clients: Vec<Raw> = (0..50).map(|number| Raw::connect(&server.endpoints[number % 2])).collect();
    for (number, client) in clients.iter().enumerate() {
        match number % 3 {
            0 => {}
            1 => drop(client.shake_hands()),
            _ => {
                client.send_classic(1, b"");
                client.receive_classic();
            }
        }
    }
    let took = end(&mut server, "TERM");
    println!("SIGTERM with 50 idle clients: {took:?}");
    assert_eq!(stage.files(), [""; 0]);
    for client in &clients {
        client.receive_to_end();
    }
}

/// At whatever moment of its start the signal comes: no socket and no lock stay behind.
#[cfg(unix)]
#[test]
fn a_signal_while_it_starts_leaves_nothing() {
    let _watchdog = watchdog(90);
    let stage = Stage::new();
    for round in 0..60 {
        let mut command =
            stage.sidewire(["serve", &stage.unix("x.sock"), &format!("local:{}", unique("tool"))]);
        let mut child = command.stdout(Stdio::null()).spawn().expect("start");
        std::thread::sleep(Duration::from_micros(250 * round));
        signal("TERM", child.id());
        child.wait().expect("wait");
        assert_eq!(stage.files(), [""; 0], "after {round}/4 ms");
    }
}

/// The default endpoint is a fixed name, and only on Unix does the folder keep it to ourselves.
#[cfg(unix)]
#[test]
fn the_default_endpoint_is_local_sidewire() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let is_free = || stage.run(["call", "local:sidewire", "1"]).code == Some(3);
    eventually(Duration::from_secs(50), "nobody else serves under that name", is_free);
    let server = Process::start(&mut stage.sidewire(["serve"]), 1);
    assert_eq!(server.endpoints, ["local:sidewire".parse().expect("an endpoint")]);
    stage.run(["call", "local:sidewire", "1"]).expect(0).prints(GREETING);
}
