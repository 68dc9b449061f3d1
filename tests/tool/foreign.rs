//! Programs that move bytes and know no protocol: nc (OpenBSD's) and socat.

use std::process::Command;

use sidewire::Endpoint;

use crate::stage::{GREETING, Outcome, Stage, Started};
use crate::util::{classic, unique, until, watchdog};

fn pipe_through(program: &str, args: &[&str], input: &[u8]) -> Outcome {
    let found = Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status();
    assert!(found.expect("sh").success(), "this test needs {program}; install it");
    Started::new(Command::new(program).args(args), input).finish()
}

/// They send, close their writing side, and must get everything that was asked for by then.
fn half_closed(program: &str, args: &[&str]) {
    let requests = [classic(1, 0, b""), classic(9, 77, b"x"), classic(4, 0, &[7; 1024]), classic(1, 0, b"")];
    let replies =
        [classic(1, 0, GREETING), classic(9, -2, b""), classic(4, 0, &[7; 1024]), classic(1, 0, GREETING)];
    pipe_through(program, args, &requests[0]).expect(0).prints(&replies[0]);
    pipe_through(program, args, &requests.concat()).expect(0).prints(replies.concat());
    // A partial frame at the end is dropped.
    let cut = [&requests[0][..], &classic(2, 0, b"never stored")[..20]].concat();
    pipe_through(program, args, &cut).expect(0).prints(&replies[0]);
    pipe_through(program, args, &requests[0]).expect(0).prints(&replies[0]);
    pipe_through(program, args, b"").expect(0).prints("");
}

fn endpoints(stage: &Stage) -> Vec<String> {
    let mut endpoints = vec![stage.unix("nc.sock"), "tcp:127.0.0.1:0".to_owned()];
    if cfg!(target_os = "linux") {
        endpoints.push(format!("abstract:{}", unique("nc")));
    }
    endpoints
}

#[test]
fn nc_gets_its_replies() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&endpoints(&stage), &["--access", "anyone"]);
    for endpoint in &server.endpoints {
        match endpoint {
            Endpoint::Unix(path) => half_closed("nc", &["-U", "-N", path.to_str().expect("text")]),
            Endpoint::Tcp { port, .. } => half_closed("nc", &["-N", "127.0.0.1", &port.to_string()]),
            // nc knows no abstract names.
            _ => {}
        }
    }
}

#[test]
fn socat_gets_its_replies() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&endpoints(&stage), &["--access", "anyone"]);
    for endpoint in &server.endpoints {
        let address = match endpoint {
            Endpoint::Unix(path) => format!("UNIX-CONNECT:{}", path.display()),
            Endpoint::Abstract(name) => format!("ABSTRACT-CONNECT:{}", name.escape_ascii()),
            Endpoint::Tcp { host, port } => format!("TCP:{host}:{port}"),
            other => panic!("socat knows no {other}"),
        };
        half_closed("socat", &["-t10", "-", &address]);
    }
}

/// Bytes that look like a browser's are no request on TCP: closed, and the log says why.
#[test]
fn browsers_are_sent_away() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let log = stage.path("log");
    let mut command = stage.sidewire(["serve", "tcp:127.0.0.1:0", "--access", "anyone"]);
    command.env("RUST_LOG", "info").stderr(std::fs::File::create(&log).expect("a file"));
    let server = crate::util::Process::start(&mut command, 1);
    let Endpoint::Tcp { port, .. } = &server.endpoints[0] else { panic!("not tcp") };
    for request in
        [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
    {
        pipe_through("socat", &["-t10", "-", &format!("TCP:127.0.0.1:{port}")], request).expect(0).prints("");
    }
    // The client is told before the log is.
    let read = || std::fs::read_to_string(&log).expect("the log");
    until("both are logged", || read().contains("HTTP") && read().contains("TLS"));
    assert!(read().contains(&server.endpoints[0].to_string()), "{}", read());
}
