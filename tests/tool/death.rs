//! Servers that die, or are as good as dead.

use std::process::Command;
use std::time::{Duration, Instant};

use sidewire::Executed;

#[cfg(target_os = "linux")]
use crate::stage::freeze;
use crate::stage::{Stage, Started, eventually, signal};
use crate::util::{PATIENCE, Process, unique, watchdog};

const CLIENTS: usize = 20;

/// Greets everybody who comes, counts the requests, and answers none of them.
const SLOW_SERVER: &str = r#"
import socket, struct, sys, threading
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
print("listening unix:" + sys.argv[1], flush=True)
lock, waiting = threading.Lock(), 0
def serve(stream):
    global waiting
    take = lambda length: stream.recv(length, socket.MSG_WAITALL)
    head = take(4)
    is_v1 = head == b"\xd1\x53\x57\xd1"
    if is_v1:
        length, _ = struct.unpack("<H2s", take(4))
        take(length - 8)
        stream.sendall(struct.pack("<4sHBBIIIIII16siB3s16s", head, 72, 1, 1, 0, 0, 1 << 20, 128, 1 << 20, 0,
                                   b"n" * 16, 0, 1, b"", b"i" * 16))
        head = take(4)
    while head:
        length = struct.unpack("<I", (head + take(12))[:4] if is_v1 else (head + take(8))[8:])[0]
        if length: take(length)
        with lock:
            waiting += 1
            open(sys.argv[1] + ".waiting", "w").write(str(waiting))
        head = take(4)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"#;

fn slow_server(stage: &Stage) -> Process {
    let path = stage.path("slow.sock").display().to_string();
    Process::start(Command::new("python3").args(["-c", SLOW_SERVER, &path]), 1)
}

/// Waits until the slow server has all their requests.
fn wait_for_requests(stage: &Stage, count: usize) {
    eventually(PATIENCE, "all calls wait", || {
        std::fs::read_to_string(stage.path("slow.sock.waiting")).is_ok_and(|text| text == count.to_string())
    });
}

/// In mid-call: greeted, and the request is with the server.
#[test]
fn calls_end_at_once_when_their_server_is_killed() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = slow_server(&stage);
    let endpoint = server.endpoints[0].to_string();
    let layout = |number| if number % 2 == 0 { &[][..] } else { &["--classic"] };
    let args = |number| [&["call", &endpoint, "4", "x", "--timeout", "50"], layout(number)].concat();
    let calls: Vec<_> =
        (0..CLIENTS).map(|number| Started::new(&mut stage.sidewire(args(number)), b"")).collect();
    wait_for_requests(&stage, CLIENTS);
    signal("KILL", server.child.id());
    for (number, call) in calls.into_iter().enumerate() {
        let outcome = call.finish().prints("").mentions(&endpoint).mentions("the peer has gone");
        assert_eq!(outcome.code, Some(6), "{:?}: {outcome}", layout(number));
    }
}

/// Twenty threads, each with a client of its own or all with the same one.
#[test]
fn threads_get_an_error_at_once_when_their_server_is_killed() {
    let _watchdog = watchdog(60);
    for is_shared in [true, false] {
        let stage = Stage::new();
        let server = slow_server(&stage);
        let clients: Vec<_> = (0..CLIENTS).map(|_| stage.client(&server.endpoints[0])).collect();
        let errors = std::thread::scope(|scope| {
            let call = |number: usize| clients[if is_shared { 0 } else { number }].call(1, b"");
            let threads: Vec<_> =
                (0..CLIENTS).map(|number| scope.spawn(move || (call(number), Instant::now()))).collect();
            wait_for_requests(&stage, CLIENTS);
            let killed = Instant::now();
            signal("KILL", server.child.id());
            let ended = threads.into_iter().map(|thread| thread.join().expect("a thread"));
            ended.map(|(result, at)| (result, at >= killed)).collect::<Vec<_>>()
        });
        for (result, is_after) in errors {
            let error = result.expect_err("nobody is there to answer");
            assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
            assert!(is_after, "before the server was killed: {error}");
        }
    }
}

/// What the issue of a server's death asks for: each call ends within a tenth of a second, and says so.
#[test]
fn a_hundred_outstanding_calls_end_within_a_tenth_of_a_second() {
    const LIMIT: Duration = Duration::from_millis(100);
    let _watchdog = watchdog(100);
    let mut tries = Vec::new();
    // A busy machine may let none of a hundred threads run for as long.
    while tries.len() < 5 {
        let longest = kill_with_calls_outstanding();
        println!("the last of 100 calls ended {longest:?} after its server's death");
        if longest <= LIMIT {
            return;
        }
        tries.push(longest);
    }
    panic!("{tries:?}");
}

/// Half of the calls have a thread each, the others were started by one that waits for any. Gives the time from
/// the server's death to the end of the last call.
fn kill_with_calls_outstanding() -> Duration {
    const HALF: usize = 50;
    let stage = Stage::new();
    let mut server = slow_server(&stage);
    let client = stage.client(&server.endpoints[0]);
    let mut started: Vec<_> = (0..HALF).map(|_| client.start(1, b"").expect("start")).collect();
    let ends = std::thread::scope(|scope| {
        let client = &client;
        let threads: Vec<_> =
            (0..HALF).map(|_| scope.spawn(move || (client.call(1, b""), Instant::now()))).collect();
        let started = scope.spawn(move || {
            let mut ends = Vec::new();
            while !started.is_empty() {
                let index = sidewire::wait_any(&mut started, None).expect("one of them");
                ends.push((started.swap_remove(index).wait(), Instant::now()));
            }
            ends
        });
        wait_for_requests(&stage, 2 * HALF);
        server.child.kill().expect("kill");
        let killed = Instant::now();
        let mut ends: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a thread")).collect();
        ends.extend(started.join().expect("a thread"));
        ends.into_iter()
            .map(|(result, at)| (result, at.saturating_duration_since(killed)))
            .collect::<Vec<_>>()
    });
    assert_eq!(ends.len(), 2 * HALF);
    for (result, _) in &ends {
        let error = result.as_ref().expect_err("nobody is there to answer");
        assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
        assert!(error.to_string().contains("(type 1)"), "{error}");
    }
    ends.into_iter().map(|(_, took)| took).max().expect("a hundred")
}

/// Who has not been greeted yet has found nobody.
#[cfg(target_os = "linux")] // `freeze` and this look into /proc.
#[test]
fn calls_that_were_not_let_in_end_at_once_too() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let (path, name) = (stage.path("x.sock").display().to_string(), unique("x"));
    let server = stage.serve(&[format!("unix:{path}"), format!("abstract:{name}")], &[]);
    freeze(server.child.id());
    let endpoint = |number: usize| server.endpoints[number % 2].to_string();
    let args = |number| ["call".to_owned(), endpoint(number), "1".into(), "--timeout".into(), "50".into()];
    let mut calls: Vec<_> =
        (0..CLIENTS).map(|number| Started::new(&mut stage.sidewire(args(number)), b"")).collect();
    eventually(PATIENCE, "all have connected", || {
        [&path, &format!("@{name}")].into_iter().map(|name| not_let_in(name)).sum::<usize>() == CLIENTS
    });
    assert!(calls.iter_mut().all(Started::is_running));
    signal("KILL", server.child.id());
    for call in calls {
        call.finish().expect(3).prints("").mentions("the peer has gone");
    }
}

/// How many have connected to this Unix socket, and were not accepted yet: connecting, as unix(7) calls it in
/// /proc/net/unix.
#[cfg(target_os = "linux")]
fn not_let_in(name: &str) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("/proc");
    let is_one = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(5) == Some(&"02") && fields.get(7) == Some(&name)
    };
    sockets.lines().filter(is_one).count()
}

/// The time limit holds against a server that is stopped, before and after its greeting.
#[cfg(target_os = "linux")] // `freeze` looks into /proc.
#[test]
fn calls_to_a_stopped_server_time_out() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoints = stage.all_streams();
    let server = stage.serve(&endpoints, &["--access", "anyone"]);
    freeze(server.child.id());
    for endpoint in &server.endpoints {
        for layout in [&[][..], &["--classic"]] {
            let endpoint = endpoint.to_string();
            let args = [&["call", &endpoint, "1", "--timeout", "0.5"], layout].concat();
            let outcome = stage.run(args).expect(4).prints("").mentions(&endpoint).mentions("timed out");
            assert!(outcome.took >= Duration::from_millis(500), "{endpoint} {layout:?}: {outcome}");
        }
    }
    signal("CONT", server.child.id());
    stage.run(["call", &server.endpoints[0].to_string(), "1"]).expect(0);
}

/// A Unix socket whose queue is full never becomes writable, so waiting for that would hang.
#[cfg(target_os = "linux")] // Elsewhere a full queue refuses.
#[test]
fn calls_to_a_full_queue_time_out() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let script = r#"
import signal, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(0)
clients = [socket.socket(socket.AF_UNIX) for _ in range(8)]
for client in clients:
    client.setblocking(False)
    try: client.connect(sys.argv[1])
    except BlockingIOError: break
else: sys.exit("the queue does not fill")
print("listening unix:" + sys.argv[1], flush=True)
signal.pause()
"#;
    let path = stage.path("full.sock").display().to_string();
    let server = Process::start(Command::new("python3").args(["-c", script, &path]), 1);
    let outcome = stage.run(["call", &server.endpoints[0].to_string(), "1", "--timeout", "0.5"]).expect(4);
    assert!(outcome.took >= Duration::from_millis(500), "{outcome}");
}
