//! Programs that know nothing of Sidewire: C, Python, nc and socat.

use std::path::{Path, PathBuf};
use std::process::Command;

use sidewire::Endpoint;

use crate::program::{Server, Talk};
use crate::stage::{all, fresh, largest, lines};
use crate::util::watchdog;

/// Builds `old.c`.
fn old(folder: &Path) -> PathBuf {
    let program = folder.join("old");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/datagrams/old.c");
    let mut command = Command::new("cc");
    command
        .args(["-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(source);
    Talk::new(&mut command).finish().expect(0);
    program
}

/// How these programs are told where the server is.
fn place(endpoint: &Endpoint) -> [String; 2] {
    match endpoint {
        Endpoint::UnixGram(path) => ["unix".to_owned(), path.display().to_string()],
        Endpoint::AbstractGram(name) => ["abstract".to_owned(), name.escape_ascii().to_string()],
        Endpoint::Udp { port, .. } => ["udp".to_owned(), port.to_string()],
        other => panic!("{other} carries no datagrams"),
    }
}

fn output(talk: Talk) -> String {
    String::from_utf8(talk.wait().expect(0).stdout).expect("text")
}

fn datagram(endpoint: &Endpoint, options: &[&str]) -> Server {
    Server::start("datagram", &[&[endpoint.to_string().as_str()], options].concat())
}

#[test]
fn c_clients_send_their_whole_struct() {
    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let program = old(folder.path());
    for endpoint in all() {
        let server = Server::start("getset", &[&endpoint.to_string()]);
        let mut command = Command::new(&program);
        let printed = output(Talk::new(command.arg("getset-client").args(place(&server.endpoints[0]))));
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(
            lines,
            [
                "type 1 rc 0: hello, this is server!",
                "type 2 rc 0: ",
                "type 1 rc 0: set from C",
                "type 3 rc 0: set from C",
                "type 1 rc 0: once more",
                "type 99 rc -2: ",
                "type 1000 rc -1: ",
                "type -1 rc -1: ",
            ]
        );
    }
}

#[test]
fn c_clients_are_echoed() {
    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let program = old(folder.path());
    for endpoint in all() {
        let server = datagram(&endpoint, &["--echo"]);
        let mut command = Command::new(&program);
        let client = Talk::new(command.arg("echo-client").args(place(&server.endpoints[0])));
        let text = format!("one\ntwo\n{}\n", "long ".repeat(6_000));
        assert_eq!(output(client.say_all(text.clone().into())), text);
        let lines = lines(&server, 3);
        assert!(lines[0].ends_with(": one") && lines[1].ends_with(": two"), "{lines:?}");
        match &endpoint {
            Endpoint::Udp { .. } => assert!(lines[0].starts_with("ip: 127.0.0.1 , port: "), "{lines:?}"),
            _ => assert!(lines[0].starts_with("/tmp/old-"), "{lines:?}"),
        }
    }
}

#[test]
fn c_servers_are_understood() {
    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let server = Talk::new(Command::new(old(folder.path())).args(["print-server", "udp"]));
    server.wait_for("\n");
    let endpoint = format!("udp:127.0.0.1:{}", server.printed().trim_end());
    let mut client = Talk::example("datagram", &["send", &endpoint]);
    client.say("hello\n");
    client.wait_for("\nthanks\nsend: ");
    client.say("end\nexit\n");
    client.wait().expect(0);
    let printed = String::from_utf8(server.wait().expect(0).stdout).expect("text");
    assert_eq!(printed.split_once('\n').expect("a port").1, "hello\nend\n");
}

/// How to reach a server with Python's `socket`, connected or not.
const PYTHON: &str = r#"
import os, socket, struct, sys
family, where, is_connected, largest = sys.argv[1], sys.argv[2], sys.argv[3] == "yes", int(sys.argv[4])
if family == "udp":
    to, server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), ("127.0.0.1", int(where))
else:
    to, server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), where
    to.bind("" if sys.platform == "linux" else "/tmp/py-%d.sock" % os.getpid())
    if family == "abstract": server = b"\0" + where.encode()
to.settimeout(10)
if is_connected: to.connect(server)
send = to.send if is_connected else lambda bytes: to.sendto(bytes, server)
def ask(bytes):
    send(bytes)
    return to.recv(1 << 18)
"#;

fn python(script: &str, endpoint: &Endpoint, is_connected: bool) -> String {
    let connected = if is_connected { "yes" } else { "no" };
    let largest = largest(endpoint).to_string();
    let mut command = Command::new("python3");
    command.arg("-c").arg(format!("{PYTHON}{script}")).args(place(endpoint)).args([connected, &largest]);
    output(Talk::new(&mut command))
}

#[test]
fn python_is_echoed() {
    const SCRIPT: &str = r#"
for size in [0, 1, 20, 1000, 9000, 60000, largest]:
    bytes = os.urandom(size)
    assert ask(bytes) == bytes, size
if family != "udp":
    # Nobody reads meanwhile, and nothing is lost, merged or overtaken.
    for number in range(1000): send(b"%d" % number * 10)
    for number in range(1000):
        assert to.recv(1 << 18) == b"%d" % number * 10, number
print("done")
"#;
    let _watchdog = watchdog(60);
    for endpoint in all() {
        for is_connected in [false, true] {
            let server = datagram(&endpoint, &["--echo"]);
            assert_eq!(python(SCRIPT, &server.endpoints[0], is_connected), "done\n");
            let count = if matches!(endpoint, Endpoint::Udp { .. }) { 7 } else { 1_007 };
            lines(&server, count);
        }
    }
}

#[test]
fn python_speaks_both_layouts() {
    const SCRIPT: &str = r#"
def classic(kind, payload, whole):
    bytes = struct.pack("=iii", kind, 0, len(payload)) + payload
    answer = ask(bytes.ljust(12 + 1024, b"j") if whole else bytes)
    echoed, rc, length = struct.unpack("=iii", answer[:12])
    assert echoed == kind and len(answer) == 12 + length
    return rc, answer[12:]
def v1(kind, id, payload):
    answer = ask(b"\xd1SW\xd1" + struct.pack("<BBHIBBHIi", 1, 0, 0, len(payload), 1, 0, kind, id, 0) + payload)
    magic, version, zero, length, reply, flags, echoed, same, rc = struct.unpack("<4sB3sIBBHIi", answer[:24])
    assert (magic, version, zero, reply, echoed, same) == (b"\xd1SW\xd1", 1, b"\0\0\0", 2, kind, id)
    assert len(answer) == 24 + length
    return rc, answer[24:]
for whole in [False, True]:
    assert classic(2, b"tea", whole) == (0, b"")
    assert classic(1, b"", whole) == (0, b"tea")
    assert classic(3, b"coffee", whole) == (0, b"tea")
    assert classic(9, b"", whole) == (-2, b"")
assert v1(1, 7, b"") == (0, b"coffee")
assert v1(3, 7, b"milk") == (0, b"coffee")
assert v1(9, 1, b"")[0] == -2
assert v1(999, 1, b"")[0] == -1
assert v1(2, 8, b"x" * (largest - 24)) == (0, b"")
assert v1(1, 9, b"") == (0, b"x" * (largest - 24))
print("done")
"#;
    let _watchdog = watchdog(60);
    for endpoint in all() {
        for is_connected in [false, true] {
            let server = Server::start("getset", &[&endpoint.to_string()]);
            assert_eq!(python(SCRIPT, &server.endpoints[0], is_connected), "done\n");
        }
    }
}

/// Some that connect and never read, some that don't connect: others are served.
#[test]
fn python_that_never_reads() {
    const SCRIPT: &str = r#"
for size in [10, 1000, 10000]:
    for _ in range(600): send(b"x" * size)
print("done")
sys.stdout.flush()
sys.stdin.read()
"#;
    let _watchdog = watchdog(60);
    // Not over UDP, which never waits for a reader, and loses what comes faster than it is taken.
    for endpoint in all().into_iter().filter(|endpoint| !matches!(endpoint, Endpoint::Udp { .. })) {
        for is_connected in ["yes", "no"] {
            let server = datagram(&endpoint, &["--echo"]);
            let bound = &server.endpoints[0];
            let mut command = Command::new("python3");
            command.arg("-c").arg(format!("{PYTHON}{SCRIPT}")).args(place(bound)).args([is_connected, "0"]);
            let hog = Talk::new(&mut command);
            hog.wait_for("done");
            let client = crate::stage::messages(bound);
            for number in 0..50_u8 {
                client.send([number]).expect("send");
                assert_eq!(crate::stage::next(&client), [number]);
            }
        }
    }
}

/// A Unix socket without a name has no address, and gets no answer.
#[test]
fn senders_without_a_name_are_printed_as_such() {
    const SCRIPT: &str = r#"
unnamed = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
unnamed.sendto(b"from nobody", server)
print(ask(b"from somebody").decode())
"#;
    let _watchdog = watchdog(60);
    for endpoint in all().into_iter().filter(|endpoint| !matches!(endpoint, Endpoint::Udp { .. })) {
        let server = datagram(&endpoint, &["--echo"]);
        assert_eq!(python(SCRIPT, &server.endpoints[0], false), "from somebody\n");
        let lines = lines(&server, 2);
        assert_eq!(lines[0], "unnamed: from nobody");
        assert!(lines[1].ends_with(": from somebody"), "{lines:?}");
    }
}

fn needs(program: &str) {
    let found = Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status();
    assert!(found.expect("sh").success(), "this test needs {program}; install it");
}

/// It sends a line, prints what comes back, and ends after a silence.
fn line_through(mut command: Command, server: &Server) {
    let mut talk = Talk::new(&mut command);
    talk.say("hello\n");
    talk.wait_for("hello\n");
    talk.say("again\n");
    talk.wait_for("again\n");
    let lines = lines(server, 2);
    assert!(lines[0].ends_with(r": hello\n") && lines[1].ends_with(r": again\n"), "{lines:?}");
}

#[test]
fn nc_is_echoed() {
    let _watchdog = watchdog(60);
    needs("nc");
    for scheme in ["udp", "unixgram"] {
        let server = datagram(&fresh(scheme), &["--echo"]);
        let mut command = Command::new("nc");
        let [_, place] = place(&server.endpoints[0]);
        match scheme {
            "udp" => command.args(["-u", "127.0.0.1", &place]),
            _ => command.args(["-u", "-U", &place]),
        };
        line_through(command, &server);
    }
}

#[test]
fn socat_is_echoed() {
    let _watchdog = watchdog(60);
    needs("socat");
    let folder = tempfile::tempdir().expect("a folder");
    for endpoint in all() {
        let server = datagram(&endpoint, &["--echo"]);
        let own = folder.path().join(endpoint.scheme()).display().to_string();
        let address = match &server.endpoints[0] {
            Endpoint::Udp { port, .. } => format!("UDP:127.0.0.1:{port}"),
            Endpoint::UnixGram(path) => format!("UNIX-SENDTO:{},bind={own}", path.display()),
            // It binds abstract names only.
            Endpoint::AbstractGram(name) => format!("ABSTRACT-SENDTO:{},bind={own}", name.escape_ascii()),
            other => panic!("socat knows no {other}"),
        };
        let mut command = Command::new("socat");
        command.args(["-", &address]);
        line_through(command, &server);
    }
}
