//! The examples and programs that know nothing of Sidewire: old C programs, Python, nc and socat.

use std::path::{Path, PathBuf};
use std::process::Command;

use sidewire::Endpoint;

use crate::program::{Server, Talk, endpoints};
use crate::util::watchdog;
use crate::witness::pattern;

/// Builds `old.c`.
fn old(folder: &Path) -> PathBuf {
    let program = folder.join("old");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/old.c");
    let mut command = Command::new("cc");
    command
        .args(["-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(source);
    Talk::new(&mut command).finish().expect(0);
    program
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// An old server, and the port that it has printed.
fn old_server(program: &Path, mode: &str) -> (Talk, String) {
    let server = Talk::new(Command::new(program).arg(mode));
    server.wait_for("\n");
    let endpoint = format!("tcp:127.0.0.1:{}", server.printed().trim_end());
    (server, endpoint)
}

fn port(server: &Server) -> String {
    match &server.endpoints[0] {
        Endpoint::Tcp { port, .. } => port.to_string(),
        other => panic!("{other} has no port"),
    }
}

#[test]
fn old_terminal_clients() {
    let _watchdog = watchdog(60);
    let folder = folder();
    let program = old(folder.path());
    let server = Server::start("terminal", &["tcp:127.0.0.1:0", "--record", "50"]);
    let long = "a line that is longer than the buffer, and is therefore cut: 一二三四五六七八九十";
    for _ in 0..3 {
        let mut client = Talk::new(Command::new(&program).arg("terminal-client").arg(port(&server)));
        client.wait_for("hello \n");
        client.say("a first line, rather long\n");
        server.wait_for(": a first line, rather long");
        client.say(format!("short\n{long}\nthree\nexit\nnot sent\n"));
        assert_eq!(client.finish().expect(0).stdout, b"hello \n");
        let lines = server.wait_for_logout();
        let name = lines[0].strip_prefix("client login. ").expect("a login");
        let texts: Vec<&str> = lines[1..lines.len() - 1]
            .iter()
            .map(|line| line.strip_prefix(name).and_then(|line| line.strip_prefix(": ")).expect("the name"))
            .collect();
        assert_eq!(texts[..2], ["a first line, rather long", "short"]);
        assert_eq!(texts[2..texts.len() - 1].concat(), long);
        assert_eq!(texts.last(), Some(&"three"));
    }
}

#[test]
fn old_terminal_servers() {
    let _watchdog = watchdog(60);
    let folder = folder();
    let (server, endpoint) = old_server(&old(folder.path()), "terminal-server");
    let said = format!("one\n{}\nthree\n", "two ".repeat(100));
    let mut client = Talk::example("terminal", &["connect", &endpoint]);
    client.wait_for("hello \n");
    client.say(&said);
    client.finish().expect(0);
    let printed = String::from_utf8(server.finish().expect(0).stdout).expect("text");
    assert_eq!(printed.split_once('\n').expect("a port").1, said);
}

#[test]
fn old_echo_clients() {
    let _watchdog = watchdog(120);
    let folder = folder();
    let program = old(folder.path());
    let server = Server::start("echo", &["tcp:127.0.0.1:0"]);
    for length in [0, 1, 1_024, 8 << 20] {
        let client = Talk::new(Command::new(&program).arg("echo-client").arg(port(&server)));
        let sent = pattern(length);
        assert!(client.say_all(sent.clone()).wait().expect(0).stdout == sent, "{length} bytes");
        server.wait_for_count(1, &format!("{length} bytes from"));
    }
}

#[test]
fn old_echo_servers() {
    let _watchdog = watchdog(120);
    let folder = folder();
    let program = old(folder.path());
    for length in [0, 1, 1_024, 8 << 20] {
        let (server, endpoint) = old_server(&program, "echo-server");
        let sent = pattern(length);
        let client = Talk::example("echo", &["send", &endpoint]).say_all(sent.clone());
        assert!(client.wait().expect(0).stdout == sent, "{length} bytes");
        server.finish().expect(0);
    }
}

/// How to reach it with Python's `socket`.
const PYTHON: &str = r#"
import socket, sys, threading
family, *where = sys.argv[1:]
if family == "tcp":
    to = socket.create_connection((where[0], int(where[1])), 10)
else:
    to = socket.socket(socket.AF_UNIX)
    to.settimeout(10)
    to.connect(where[0] if family == "unix" else "\0" + where[0])
def rest():
    chunks = []
    while chunk := to.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)
"#;

/// Runs a script with `to`, a socket that is connected there.
fn python(endpoint: &Endpoint, script: &str) {
    if let Some(script) = start_python(endpoint, script) {
        script.finish().expect(0);
    }
}

/// The same, to be talked to.
fn start_python(endpoint: &Endpoint, script: &str) -> Option<Talk> {
    let place = match endpoint {
        Endpoint::Tcp { host, port } => vec!["tcp".to_owned(), host.clone(), port.to_string()],
        Endpoint::Unix(path) => vec!["unix".to_owned(), path.display().to_string()],
        Endpoint::Abstract(name) => vec!["abstract".to_owned(), name.escape_ascii().to_string()],
        // Python need not know where its socket is.
        Endpoint::Local(_) => return None,
        other => panic!("Python knows no {other}"),
    };
    let script = format!("{PYTHON}{script}");
    Some(Talk::new(Command::new("python3").arg("-c").arg(script).args(place)))
}

#[test]
fn python_and_echo() {
    let _watchdog = watchdog(120);
    let endpoints = endpoints();
    let server = Server::start("echo", &endpoints.iter().map(String::as_str).collect::<Vec<_>>());
    for endpoint in &server.endpoints {
        python(
            endpoint,
            r#"
sent = bytes(range(256)) * 32768
def send():
    to.sendall(sent)
    to.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
assert rest() == sent
"#,
        );
    }
    server.wait_for_count(server.endpoints.len() - 1, "8388608 bytes from");
}

#[test]
fn python_and_the_terminal() {
    let _watchdog = watchdog(60);
    for endpoint in endpoints() {
        let server = Server::start("terminal", &[&endpoint, "--record", "50"]);
        if endpoint.starts_with("local:") {
            continue;
        }
        python(
            &server.endpoints[0],
            r#"
assert to.recv(100) == b"hello \n"
record = lambda text: (text + b"\0" + b"JUNK\n" * 10)[:50]
to.sendall(record(b"one") + record(b"two\n") + record(b"thr")[:20])
to.sendall(record(b"thr")[20:])
to.sendall(b"unfinished")
to.shutdown(socket.SHUT_WR)
assert rest() == b""
"#,
        );
        let lines = server.wait_for_logout();
        let texts: Vec<_> = lines[1..lines.len() - 1].iter().map(|line| line.rsplit(": ").next()).collect();
        assert_eq!(texts, [Some("one"), Some("two"), Some("thr"), Some("unfinished")], "{lines:#?}");
        assert!(lines[5].starts_with("client logout. ip: "), "{lines:#?}");
    }
}

/// A reset by force: SO_LINGER with no time at all.
#[test]
fn python_resets() {
    let _watchdog = watchdog(60);
    const SCRIPT: &str = r#"
import struct
assert to.recv(100) == b"hello \n"
to.sendall(b"boo\nhalf a word")
input()
to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
to.close()
"#;
    for options in [&[][..], &["--record", "50"]] {
        let server = Server::start("terminal", &[&["tcp:127.0.0.1:0"], options].concat());
        for _ in 0..5 {
            let mut client = start_python(&server.endpoints[0], SCRIPT).expect("TCP");
            // Then all has been read, and no reset can take it away.
            server.wait_for(": boo");
            client.say("\n");
            client.finish().expect(0);
            let lines = server.wait_for_logout();
            assert_eq!(lines.len(), 4, "{lines:#?}");
            assert!(lines[1].ends_with(": boo") && lines[2].ends_with(": half a word"), "{lines:#?}");
            assert!(lines[3].contains(": broken: "), "{lines:#?}");
        }
    }
}

/// Sends its input there, half-closes, and prints what comes back.
fn through(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    Talk::new(Command::new(program).args(args)).say_all(input.to_vec()).wait().expect(0).stdout
}

#[test]
fn nc_and_socat() {
    let _watchdog = watchdog(120);
    let endpoints = endpoints();
    let server = Server::start("echo", &endpoints.iter().map(String::as_str).collect::<Vec<_>>());
    let sent = pattern(8 << 20);
    let mut count = 0;
    for endpoint in &server.endpoints {
        let (nc, socat) = match endpoint {
            Endpoint::Tcp { host, port } => {
                (vec![host.clone(), port.to_string()], format!("TCP:{host}:{port}"))
            }
            Endpoint::Unix(path) => {
                let path = path.display().to_string();
                (vec!["-U".to_owned(), path.clone()], format!("UNIX-CONNECT:{path}"))
            }
            // nc knows no abstract names.
            Endpoint::Abstract(name) => (vec![], format!("ABSTRACT-CONNECT:{}", name.escape_ascii())),
            _ => continue,
        };
        if !nc.is_empty() {
            let args: Vec<&str> = ["-N"].into_iter().chain(nc.iter().map(String::as_str)).collect();
            assert!(through("nc", &args, &sent) == sent, "nc on {endpoint}");
            assert_eq!(through("nc", &args, b"few\n"), b"few\n");
            count += 1;
        }
        assert!(through("socat", &["-t30", "-", &socat], &sent) == sent, "socat on {endpoint}");
        assert_eq!(through("socat", &["-t30", "-", &socat], b""), b"");
        count += 1;
    }
    let lines = server.wait_for_count(count, "8388608 bytes from");
    assert!(lines.iter().all(|line| line.ends_with(": closed in order")), "{lines:#?}");
}

#[test]
fn nc_and_the_terminal() {
    let _watchdog = watchdog(60);
    let server = Server::start("terminal", &["tcp:127.0.0.1:0"]);
    let said = "grüße von nc\n".as_bytes();
    assert_eq!(through("nc", &["-N", "127.0.0.1", &port(&server)], said), b"hello \n");
    let lines = server.wait_for_logout();
    assert!(lines[1].ends_with(": grüße von nc") && lines[2].ends_with(": closed in order"), "{lines:#?}");
}
