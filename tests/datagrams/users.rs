//! Other users of the machine, by the kernel's word. Only root can play them all.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use sidewire::{Access, Endpoint, Listen, Server};

use crate::program::{Outcome, Talk, example};
use crate::stage::{Socket, answer, client, fresh, v1_call};
use crate::util::{Dialect, PATIENCE, Process, classic, start, store, unique, watchdog};

const ANNA: u32 = 12345;
const BERT: u32 = 12346;

/// The system's own: what else is in the path may be in a folder of root's.
const PYTHON: &str = "/usr/bin/python3";

/// Sends what is asked for and prints what comes back, in hex.
const SCRIPT: &str = r#"
import socket, struct, sys
where, what = sys.argv[1:]
server = b"\0" + where[1:].encode() if where[0] == "@" else where
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("")
s.settimeout(0.5)
v1 = lambda kind, id, payload: (b"\xd1SW\xd1\1\0\0\0"
    + struct.pack("<IBBHIi", len(payload), kind, 0, 2, id, 0) + payload)
messages = {
    "v1": v1(1, 7, b"by v1"),
    "notify": v1(3, 0, b"by notify"),
    "ping": v1(9, 7, b""),
    "classic": struct.pack("=iii", 2, 0, 10) + b"by classic",
    "malformed": struct.pack("=iii", 2, 0, -1),
    "garbage": b"?",
    "message": b"message",
    "forged": b"message",
}
try:
    if what == "forged":
        creds = struct.pack("=iII", 1, 0, 0)
        s.connect(server)
        s.sendmsg([messages[what]], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, creds)])
    else:
        s.sendto(messages[what], server)
    print(s.recv(100).hex())
except PermissionError: print("permission denied")
except TimeoutError: print("silence")
"#;

/// Sends one call from each of many fresh sockets, which stay open and read nothing.
const CROWD: &str = r#"
import resource, socket, struct, sys
where, count = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 64, count + 64))
server = b"\0" + where[1:].encode() if where[0] == "@" else where
call = b"\xd1SW\xd1\1\0\0\0" + struct.pack("<IBBHIi", 0, 1, 0, 1, 7, 0)
crowd = []
for number in range(count):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind("")
    s.connect(server)
    s.send(call)
    crowd.append(s)
print("sent", flush=True)
sys.stdin.read()
"#;

fn cannot_play() -> bool {
    let is_root = sidewire_platform::current_user().expect("who we are").is_superuser();
    if !is_root {
        println!("not root: nobody else's processes can be started, and this test does nothing");
    }
    !is_root
}

fn command(user: u32, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
    command.arg("--").arg(program.as_ref()).env_remove("XDG_RUNTIME_DIR").current_dir("/");
    command
}

fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::UnixGram(path) => path.display().to_string(),
        Endpoint::AbstractGram(name) => format!("@{}", name.escape_ascii()),
        other => panic!("the script knows no {other}"),
    }
}

/// What this user's program hears from the server.
fn say(user: u32, endpoint: &Endpoint, what: &str) -> String {
    let mut command = command(user, PYTHON);
    let Outcome { stdout, .. } =
        Talk::new(command.args(["-c", SCRIPT, &place(endpoint), what])).finish().expect(0);
    String::from_utf8(stdout).expect("text").trim().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a server answers that does not want to talk.
fn refusal(what: &str) -> String {
    match what {
        "v1" => hex(&crate::stage::v1(2, 0, 2, 7, -5, b"")),
        "classic" | "malformed" => hex(&classic(2, -5, b"")),
        _ => "silence".to_owned(),
    }
}

const ALL: [&str; 6] = ["v1", "notify", "ping", "classic", "malformed", "garbage"];

/// PROTOCOL D16
#[test]
fn strangers_are_refused_by_their_credentials() {
    let _watchdog = watchdog(60);
    if cannot_play() {
        return;
    }
    for scheme in ["abstractgram", "unixgram"] {
        let server = store();
        let counters = server.counters();
        let (running, bound) = start(server, [Listen::from(fresh(scheme))]);
        if let Endpoint::UnixGram(path) = &bound[0] {
            for what in ALL {
                assert_eq!(say(ANNA, &bound[0], what), "permission denied", "by the kernel");
            }
            // Someone opens the file to all: policy holds without its mode.
            std::fs::set_permissions(path, Permissions::from_mode(0o666)).expect("chmod");
        }
        for what in ALL {
            assert_eq!(say(ANNA, &bound[0], what), refusal(what), "{what} on {}", bound[0]);
        }
        assert_eq!((counters.requests(), counters.notifies()), (0, 0));
        assert_eq!(say(0, &bound[0], "v1"), hex(&crate::stage::v1(2, 0, 2, 7, 0, b"")));
        assert_eq!(client(Dialect::V1, &bound[0]).call(1, b"").expect("get").payload(), b"by v1");
        running.stop().expect("the server ends well");
    }
}

/// Those who are refused have no part in what the others wait for: no queue, no trial, and no more
/// of the send buffer than leaves plenty. Guests have a queue and a part of the buffer of their own.
#[test]
fn a_crowd_of_others_does_not_hold_up_the_owner() {
    let _watchdog = watchdog(60);
    if cannot_play() {
        return;
    }
    for (scheme, access) in [
        ("abstractgram", Access::SameUser),
        ("unixgram", Access::SameUser),
        ("abstractgram", Access::Anyone),
        ("unixgram", Access::Anyone),
    ] {
        let server = store();
        let counters = server.counters();
        let (running, bound) = start(server, [Listen::from(fresh(scheme)).access(access.clone())]);
        if let Endpoint::UnixGram(path) = &bound[0] {
            std::fs::set_permissions(path, Permissions::from_mode(0o666)).expect("chmod");
        }
        let mut crowd = command(ANNA, PYTHON)
            .args(["-c", CROWD, &place(&bound[0]), "1500"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut line = String::new();
        BufReader::new(crowd.stdout.take().expect("its output")).read_line(&mut line).expect("read");
        assert_eq!(line, "sent\n");
        let client = client(Dialect::V1, &bound[0]);
        for _ in 0..20 {
            let since = Instant::now();
            client.call(4, b"echo").expect("an answer");
            // Each of the crowd was once given 20 ms to read its refusal.
            assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
        }
        let dropped = counters.datagrams_dropped();
        drop(crowd.stdin.take());
        crowd.wait().expect("its end");
        assert_eq!(say(0, &bound[0], "ping"), hex(&crate::stage::v1(10, 0, 0, 7, 0, b"")));
        running.stop().expect("the server ends well");
        if access == Access::SameUser {
            assert_eq!(counters.datagrams_dropped(), dropped, "nothing of theirs has waited");
        }
    }
}

#[test]
fn strangers_messages_do_not_arrive() {
    let _watchdog = watchdog(60);
    if cannot_play() {
        return;
    }
    let mut server = Server::new(0);
    let bound = crate::stage::listen_echo(&mut server, Listen::from(fresh("abstractgram")));
    let running = server.spawn().expect("spawn");
    assert_eq!(say(ANNA, &bound, "message"), "silence");
    // The kernel does not let them lie.
    assert_eq!(say(ANNA, &bound, "forged"), "permission denied");
    assert_eq!(say(0, &bound, "message"), hex(b"message"));
    assert_eq!(running.stop().expect("the server ends well"), 1);
}

#[test]
fn anyone_means_anyone() {
    let _watchdog = watchdog(60);
    if cannot_play() {
        return;
    }
    for scheme in ["abstractgram", "unixgram"] {
        let (running, bound) = start(store(), [Listen::from(fresh(scheme)).access(Access::Anyone)]);
        for (user, what) in [(ANNA, "v1"), (BERT, "classic")] {
            let answer = say(user, &bound[0], what);
            assert!(!answer.contains(' ') && answer != refusal(what), "{answer}");
            let value = answer_of(&Socket::connect(&bound[0]));
            assert_eq!(value, format!("by {what}").as_bytes());
        }
        running.stop().expect("the server ends well");
    }
}

fn answer_of(socket: &Socket) -> Vec<u8> {
    answer(&socket.ask(&v1_call(1, 1, b""))).payload
}

/// Another user's server: root may, a third one may not.
#[test]
fn root_is_served_by_everybody() {
    let _watchdog = watchdog(60);
    if cannot_play() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("chmod");
    let program = folder.path().join("getset");
    std::fs::copy(example("getset"), &program).expect("copy the example");
    let endpoint = format!("abstractgram:{}", unique("anna"));
    let server = Process::start(command(ANNA, &program).args(["serve", &endpoint]), 1);
    let bound = &server.endpoints[0];
    for (user, is_served) in [(ANNA, true), (0, true), (BERT, false)] {
        let answer = say(user, bound, "v1");
        assert_eq!(answer == hex(&crate::stage::v1(2, 0, 2, 7, 0, b"")), is_served, "{user}: {answer}");
        assert_eq!(answer == refusal("v1"), !is_served, "{user}: {answer}");
    }
}

/// In a user namespace all strangers read as this one number: it is nobody, not even itself.
#[test]
fn the_overflow_uid_is_nobody() {
    const NOBODY: u32 = 65534;
    let _watchdog = watchdog(60);
    if cannot_play() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("chmod");
    let program = folder.path().join("getset");
    std::fs::copy(example("getset"), &program).expect("copy the example");
    let endpoint = format!("abstractgram:{}", unique("nobody"));
    let server = Process::start(command(NOBODY, &program).args(["serve", &endpoint]), 1);
    assert_eq!(say(NOBODY, &server.endpoints[0], "v1"), refusal("v1"));
}
