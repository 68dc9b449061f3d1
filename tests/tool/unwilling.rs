//! Standard streams that are full, closed, unread or non-blocking, of the tool and of every example.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use sidewire::Connect;

use crate::getset::example;
use crate::stage::{GREETING, Outcome, SIDEWIRE, Stage, Started, eventually};
use crate::util::{PATIENCE, Process, watchdog};

/// What the standard streams of a program are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// A pipe that is read: the usual thing.
    Reader,
    /// A device on which no space is left.
    Full,
    /// A pipe that nobody can read any more.
    Left,
}

/// Runs a program to its end with such an output and error. Returns its exit status and what
/// it said to those who read.
fn run(command: &mut Command, stdout: To, stderr: To) -> (Option<i32>, String, String) {
    let stdio = |to| match to {
        To::Reader => Stdio::piped(),
        To::Full => File::options().write(true).open("/dev/full").expect("/dev/full").into(),
        To::Left => Stdio::from(std::io::pipe().expect("a pipe").1),
    };
    let output =
        command.stdin(Stdio::null()).stdout(stdio(stdout)).stderr(stdio(stderr)).output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A stage with a served store, and its endpoint.
fn scene() -> (Stage, Process, String) {
    let stage = Stage::new();
    let server = stage.serve(&[stage.unix("x.sock")], &[]);
    let endpoint = server.endpoints[0].to_string();
    (stage, server, endpoint)
}

#[test]
fn what_output_loses_is_said_and_seen_by_the_status() {
    let _watchdog = watchdog(60);
    let (stage, _server, endpoint) = scene();
    let call = ["call", &endpoint, "1"];
    for (args, code) in [
        (&call[..], 7),
        (&["call", &endpoint, "1", "--hex"], 7),
        (&["--help"], 7),
        (&["call", "--help"], 7),
        (&["--version"], 7),
        (&["demo", "--echoes", "1"], 7),
        // There was nothing to print.
        (&["call", &endpoint, "2", "x"], 0),
        (&["call", &endpoint, "9"], 1),
    ] {
        let (status, _, stderr) = run(&mut stage.sidewire(args), To::Full, To::Reader);
        assert_eq!(status, Some(code), "{args:?}: {stderr}");
        assert_eq!(stderr.contains("standard output: No space left"), code == 7, "{args:?}: {stderr}");
    }
    // A result code is more than an output.
    let failing = sidewire_server_that_fails();
    let (status, _, stderr) = run(&mut stage.sidewire(["call", &failing.1, "1"]), To::Full, To::Reader);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("standard output"), "{stderr}");
}

/// Answers with a result code of its own and with bytes.
fn sidewire_server_that_fails() -> (sidewire::Running<()>, String) {
    let mut server = sidewire::Server::new(());
    server.on(1, |(), _request, reply| {
        reply.write("bytes");
        reply.set_result(7);
        Ok(())
    });
    let listen = sidewire::Listen::on("tcp:127.0.0.1:0").expect("an endpoint");
    let bound = server.listen(listen.access(sidewire::Access::Anyone)).expect("listen");
    (server.spawn().expect("spawn"), bound.to_string())
}

#[test]
fn a_reader_who_has_had_enough_is_no_fault() {
    let _watchdog = watchdog(60);
    let (stage, _server, endpoint) = scene();
    stage.client(&endpoint.parse().expect("an endpoint")).call(2, vec![b'x'; 1 << 20]).expect("set");
    for args in [
        &["call", &endpoint, "1"][..],
        &["call", &endpoint, "1", "--hex"],
        &["--help"],
        &["--version"],
        &["demo", "--echoes", "1"],
    ] {
        let (status, _, stderr) = run(&mut stage.sidewire(args), To::Left, To::Reader);
        assert_eq!((status, stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn the_status_holds_whatever_becomes_of_standard_error() {
    let _watchdog = watchdog(60);
    let (stage, _server, endpoint) = scene();
    let nobody = stage.unix("nobody");
    for to in [To::Full, To::Left] {
        for (args, code) in [
            (&["call", &nobody, "1"][..], 3),
            (&["call", &endpoint, "9"], 1),
            (&["call", "nonsense", "1"], 2),
            (&["call"], 2),
            (&[], 2),
            (&["serve", "nonsense"], 2),
            (&["serve", "tcp:127.0.0.1:0"], 2),
            (&["serve", "unix:/no/such/folder/x"], 1),
            (&["serve", &endpoint], 1),
            (&["demo", "--echoes", "0"], 2),
        ] {
            let (status, ..) = run(&mut stage.sidewire(args), To::Reader, to);
            assert_eq!(status, Some(code), "{args:?} to {to:?}");
        }
        let (status, ..) = run(&mut stage.sidewire(["call", &endpoint, "1"]), To::Full, to);
        assert_eq!(status, Some(7), "{to:?}");
    }
}

#[test]
fn closed_descriptors_are_no_panic() {
    let _watchdog = watchdog(60);
    let (stage, _server, endpoint) = scene();
    let script = "exec \"$0\" \"$@\" <&- >&- 2>&-";
    for (args, code) in [
        // There is a reply, and nowhere to put it.
        (vec!["call", &endpoint, "1"], 7),
        (vec!["call", &endpoint, "2", "x"], 0),
        (vec!["call", &endpoint, "2", "-"], 2),
        (vec!["call", &endpoint, "9"], 1),
        (vec!["call", "nonsense"], 2),
        (vec!["--help"], 7),
    ] {
        let args = [vec!["-c", script, SIDEWIRE], args].concat();
        let outcome = Started::new(&mut stage.command("/bin/sh", args), b"").finish();
        assert_eq!(outcome.code, Some(code), "{outcome}");
    }
    // Standard error says what became of the others.
    for (args, closed, what, code) in [
        (["call", &endpoint, "1"].as_slice(), ">&-", "standard output: it is closed", 7),
        (&["demo", "--echoes", "1"], ">&-", "standard output: it is closed", 7),
        (&["call", &endpoint, "2", "-"], "<&-", "standard input: it is closed", 2),
    ] {
        let script = format!("exec \"$0\" \"$@\" {closed}");
        let args = [&["-c", &script, SIDEWIRE], args].concat();
        let outcome = Started::new(&mut stage.command("/bin/sh", args), b"").finish();
        assert_eq!((outcome.code, outcome.stderr.matches(what).count()), (Some(code), 1), "{outcome}");
    }
    stage.run(["call", &endpoint, "1"]).expect(0).prints("x");
}

/// The flag belongs to the open file: whoever shares it may have set it.
#[test]
fn non_blocking_streams_are_waited_for() {
    let _watchdog = watchdog(60);
    let (stage, _server, endpoint) = scene();
    let bytes: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    let (mut reader, stdout) = UnixStream::pair().expect("sockets");
    let (mut writer, stdin) = UnixStream::pair().expect("sockets");
    stdout.set_nonblocking(true).expect("fcntl");
    stdin.set_nonblocking(true).expect("fcntl");
    let mut command = stage.sidewire(["call", &endpoint, "4", "-", "--timeout", "50"]);
    command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).stderr(Stdio::piped());
    let child = command.spawn().expect("start");
    drop(command); // It holds the other ends open.
    let stat = format!("/proc/{}/stat", child.id());
    let waits = move || std::fs::read_to_string(&stat).expect("/proc").contains(") S ");
    let waits_for_more = waits.clone();
    let mut sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        let rest = sent.split_off(1000);
        writer.write_all(&sent).expect("write");
        eventually(PATIENCE, "it waits for more input", waits_for_more);
        writer.write_all(&rest).expect("write");
        writer.shutdown(Shutdown::Write).expect("shutdown");
    });
    let mut received = vec![0];
    reader.read_exact(&mut received).expect("read");
    eventually(PATIENCE, "its output is full", waits);
    reader.read_to_end(&mut received).expect("read");
    writing.join().expect("the writer");
    let output = child.wait_with_output().expect("wait");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
}

#[test]
fn an_input_that_cannot_be_read_is_not_sent() {
    let _watchdog = watchdog(60);
    let (stage, _server, endpoint) = scene();
    let mut command = stage.sidewire(["call", &endpoint, "2", "-"]);
    let output = command.stdin(File::open("/").expect("a folder")).output().expect("run");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input: Is a directory"));
    stage.run(["call", &endpoint, "1"]).expect(0).prints(GREETING);
    // As for the examples: an error, and no panic.
    let echo = stage.serve_example("echo", &[&stage.unix("echo")]);
    for (name, args) in [
        ("echo", vec!["send".to_owned(), echo.endpoints[0].to_string()]),
        ("terminal", vec!["connect".to_owned(), echo.endpoints[0].to_string()]),
    ] {
        let mut command = stage.command(example(name), &args);
        let output = command.stdin(File::open("/").expect("a folder")).output().expect("run");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("Is a directory") && !stderr.contains("panicked"), "{name}: {stderr}");
    }
}

impl Stage {
    fn serve_example(&self, name: &str, endpoints: &[&str]) -> Process {
        let args = [&["serve"], endpoints].concat();
        Process::start(&mut self.command(example(name), args), endpoints.len())
    }
}

/// Servers of the examples and of the tool, each with the kind of endpoint that it serves.
const SERVERS: [(&str, &str); 5] = [
    ("sidewire", "unix"),
    ("getset", "unix"),
    ("echo", "unix"),
    ("terminal", "unix"),
    ("datagram", "unixgram"),
];

fn server(stage: &Stage, name: &str, endpoint: &str) -> Command {
    let program = if name == "sidewire" { SIDEWIRE.into() } else { example(name) };
    stage.command(program, ["serve", endpoint])
}

/// Whether it serves: it lets us in, and does what it is there for.
fn serves(name: &str, endpoint: &str) -> bool {
    let Ok(connect) = Connect::to(endpoint) else { return false };
    let mut bytes = [0; 6];
    match name {
        "datagram" => connect.open_messages().is_ok_and(|server| server.send("x").is_ok()),
        "terminal" => connect.open_raw().is_ok_and(|mut server| server.read_exact(&mut bytes).is_ok()),
        "echo" => connect.open_raw().is_ok_and(|mut server| {
            server.write_all(b"hello!").is_ok()
                && server.read_exact(&mut bytes).is_ok()
                && bytes == *b"hello!"
        }),
        _ => connect.open().is_ok_and(|client| client.call(1, "").is_ok()),
    }
}

#[test]
fn servers_serve_whatever_their_output_is() {
    let _watchdog = watchdog(110);
    for (name, scheme) in SERVERS {
        for (stdout, stderr) in [(To::Full, To::Full), (To::Left, To::Left)] {
            let stage = Stage::new();
            let endpoint = format!("{scheme}:{}", stage.path("x").display());
            let mut command = server(&stage, name, &endpoint);
            let stdio = |to| match to {
                To::Full => Stdio::from(File::options().write(true).open("/dev/full").expect("/dev/full")),
                _ => Stdio::from(std::io::pipe().expect("a pipe").1),
            };
            let child = command.stdin(Stdio::null()).stdout(stdio(stdout)).stderr(stdio(stderr)).spawn();
            let mut process = Process { child: child.expect("start"), endpoints: Vec::new() };
            for _ in 0..3 {
                eventually(PATIENCE, &format!("{name} serves on {stdout:?}"), || serves(name, &endpoint));
            }
            crate::stage::signal("TERM", process.child.id());
            assert_eq!(process.wait(PATIENCE).code(), Some(0), "{name} on {stdout:?}");
            assert_eq!(stage.files(), [""; 0], "{name}");
        }
    }
}

/// A reader that has stopped, and 1 MiB for it: the server serves on, and says what it lost.
#[test]
fn examples_serve_though_their_output_is_stuck() {
    let _watchdog = watchdog(110);
    for (name, scheme) in [("terminal", "unix"), ("datagram", "unixgram"), ("echo", "unix")] {
        let stage = Stage::new();
        let endpoint = format!("{scheme}:{}", stage.path("x").display());
        let (mut reader, stdout) = std::io::pipe().expect("a pipe");
        let mut command = server(&stage, name, &endpoint);
        let child = command.stdin(Stdio::null()).stdout(stdout).spawn().expect("start");
        drop(command);
        let mut process = Process { child, endpoints: Vec::new() };
        eventually(PATIENCE, "it serves", || serves(name, &endpoint));
        let connect = || Connect::to(endpoint.as_str()).expect("an endpoint");
        match name {
            "datagram" => {
                let client = connect().open_messages().expect("connect");
                (0..1000).for_each(|_| client.send([b'x'; 1000]).expect("send"));
            }
            "terminal" => {
                let mut client = connect().open_raw().expect("connect");
                client.write_all(&[[b'x'; 999].as_slice(), b"\n"].concat().repeat(1000)).expect("send");
                client.shutdown_write().expect("shutdown");
                client.read_to_end(&mut Vec::new()).expect("until it has taken all");
            }
            // A line for each client.
            _ => (0..1500).for_each(|_| assert!(serves(name, &endpoint))),
        }
        assert!(serves(name, &endpoint), "{name}");
        // When it ends it waits for its reader, but not for ever.
        crate::stage::signal("TERM", process.child.id());
        assert_eq!(process.wait(PATIENCE).code(), Some(0), "{name}");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        assert!(text.starts_with("listening "), "{name}: {text:.100}");
    }
}

#[test]
fn clients_of_the_examples_say_what_they_lost() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let getset = stage.serve_example("getset", &[&stage.unix("getset")]);
    let echo = stage.serve_example("echo", &[&stage.unix("echo")]);
    let (getset, echo) = (getset.endpoints[0].to_string(), echo.endpoints[0].to_string());
    for (name, args) in [
        ("getset", ["get", &getset].as_slice()),
        ("getset", &["setget", "x", &getset]),
        ("echo", &["send", &echo, "x"]),
    ] {
        let command = || stage.command(example(name), args);
        let (status, _, stderr) = run(&mut command(), To::Full, To::Reader);
        assert_eq!(status, Some(1), "{name}: {stderr}");
        assert!(stderr.contains("standard output: No space left"), "{name}: {stderr}");
        let (status, ..) = run(&mut command(), To::Full, To::Full);
        assert_eq!(status, Some(1), "{name}");
        let (status, _, stderr) = run(&mut command(), To::Left, To::Reader);
        assert_eq!((status, stderr.as_str()), (Some(0), ""), "{name}");
    }
    for name in ["getset", "echo", "terminal", "datagram"] {
        let (status, ..) = run(&mut stage.command(example(name), ["nonsense"]), To::Full, To::Full);
        assert_eq!(status, Some(2), "{name}");
    }
}

/// Arguments that are no UTF-8: data is taken as it is, and so is the path of a socket.
#[test]
fn arguments_need_not_be_utf_8() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;

    let _watchdog = watchdog(60);
    let (stage, _server, endpoint) = scene();
    let odd = OsStr::from_bytes(b"\xff\xfe");
    let ran = |program: &OsStr, args: &[&OsStr]| -> Outcome {
        Started::new(&mut stage.command(program, args), b"").finish()
    };
    let os = OsStr::new;
    ran(os(SIDEWIRE), &[os("call"), os(&endpoint), os("4"), odd]).expect(0).prints(b"\xff\xfe");
    for args in [
        [os("call"), odd, os("1")].as_slice(),
        &[os("call"), os(&endpoint), odd],
        &[odd],
        &[os("serve"), odd],
    ] {
        ran(os(SIDEWIRE), args).expect(2).prints("");
    }
    // The path of a socket.
    let mut path = OsString::from("unix:");
    path.push(stage.path("odd").join(""));
    let path = OsString::from(path.to_str().expect("text").trim_end_matches('/'));
    let path = [path.as_bytes(), b"\xff"].concat();
    let path = OsStr::from_bytes(&path);
    let mut process = stage.command(SIDEWIRE, [os("serve"), path]);
    let mut process =
        Process { child: process.stdout(Stdio::null()).spawn().expect("start"), endpoints: Vec::new() };
    eventually(PATIENCE, "it serves", || ran(os(SIDEWIRE), &[os("call"), path, os("1")]).stdout == GREETING);
    crate::stage::signal("TERM", process.child.id());
    assert_eq!(process.wait(PATIENCE).code(), Some(0));

    let program = |name| example(name).into_os_string();
    ran(&program("getset"), &[os("set"), odd, os(&endpoint)]).expect(0);
    stage.run(["call", &endpoint, "1"]).expect(0).prints(b"\xff\xfe");
    for name in ["getset", "echo", "terminal", "datagram"] {
        for args in [
            &[odd][..],
            &[os("serve"), odd],
            &[os("send"), odd, odd],
            &[os("connect"), odd],
            &[os("get"), odd],
        ] {
            let outcome = ran(&program(name), args);
            assert!(matches!(outcome.code, Some(1 | 2)), "{name} {args:?}: {outcome}");
            assert!(!outcome.stderr.is_empty() && !outcome.stderr.contains("panicked"), "{name}: {outcome}");
        }
    }
}
