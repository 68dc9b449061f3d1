//! How many system calls a request takes, as strace counts them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sidewire::Client;

use crate::stage::{Stage, signal};
use crate::util::{Process, Raw, client, frame, watchdog};

const ECHOES: u32 = 10_000;
/// System calls of the server for each request: epoll_wait, read, write, and little else.
const MOST: f64 = 3.2;
const GOAL: f64 = 3.0;

/// Whether strace is not to be used here: ptrace may be forbidden.
fn is_excused() -> bool {
    let excused = std::env::var_os("SIDEWIRE_NO_STRACE").is_some();
    if excused {
        println!("SIDEWIRE_NO_STRACE is set: system calls are not counted");
    }
    excused
}

/// strace, attached to all threads of a process.
struct Tracer {
    strace: Child,
    report: std::path::PathBuf,
}

impl Tracer {
    fn attach(stage: &Stage, server: &Process, options: &[&str]) -> Tracer {
        let pid = server.child.id();
        let report = stage.path("strace");
        let mut command = Command::new("strace");
        command.args(options).arg("-f").arg("-p").arg(pid.to_string()).arg("-o").arg(&report);
        let errors = std::fs::File::create(stage.path("strace.errors")).expect("a file");
        let strace = command.stdin(Stdio::null()).stderr(errors).spawn();
        let strace = strace.unwrap_or_else(|error| panic!("strace: {error}; {ADVICE}"));
        let mut tracer = Tracer { strace, report };
        let until = Instant::now() + Duration::from_secs(60);
        while !has_tracer(pid) {
            let ended = tracer.strace.try_wait().expect("look at strace");
            if ended.is_some() || Instant::now() > until {
                let why = std::fs::read_to_string(stage.path("strace.errors")).expect("its errors");
                panic!("strace can't attach ({ended:?}): {why}; {ADVICE}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        tracer
    }

    /// Detaches, and returns what it has written.
    fn report(mut self) -> String {
        signal("INT", self.strace.id());
        self.strace.wait().expect("wait for strace");
        std::fs::read_to_string(&self.report).expect("strace's report")
    }
}

const ADVICE: &str = "set SIDEWIRE_NO_STRACE=1 where ptrace is forbidden";

/// Whether every thread of a process is being traced.
fn has_tracer(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("/proc");
    tasks
        .map(|task| std::fs::read_to_string(task.expect("a thread").path().join("status")))
        .all(|status| status.is_ok_and(|status| !status.lines().any(|line| line == "TracerPid:\t0")))
}

/// The lines `% time, seconds, usecs/call, calls, [errors], syscall` of strace -c, summed up.
fn count_calls(summary: &str) -> u32 {
    let total = summary.lines().find(|line| line.trim_end().ends_with(" total")).expect("a sum");
    total.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).expect("a number of calls")
}

#[test]
fn three_for_a_request() {
    if is_excused() {
        return;
    }
    let _watchdog = watchdog(100);
    let stage = Stage::new();
    let server = stage.serve(&[stage.unix("x.sock")], &[]);
    let client = stage.client(&server.endpoints[0]);
    client.call(4, [0; 64]).expect("a reply");
    let tracer = Tracer::attach(&stage, &server, &["-c"]);
    for number in 0..ECHOES {
        let payload = [number.to_le_bytes(); 16].concat();
        assert_eq!(client.call(4, &payload).expect("a reply").payload(), payload);
    }
    let summary = tracer.report();
    let each = f64::from(count_calls(&summary)) / f64::from(ECHOES);
    println!("{each:.4} system calls for each of {ECHOES} echoes (goal {GOAL}, limit {MOST})\n{summary}");
    assert!(each <= MOST, "{each:.4} system calls for each request, over {MOST}");
}

#[test]
fn requests_that_arrive_together_leave_together() {
    if is_excused() {
        return;
    }
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&[stage.unix("x.sock")], &[]);
    let raw = Raw::connect(&server.endpoints[0]);
    raw.shake_hands();
    // A turn has a time, too: on a busy machine its end may come before that of the requests.
    let mut tries = Vec::new();
    while tries.len() < 5 {
        let exchange = exchange_together(&stage, &server, &raw, tries.len() as u32 * TOGETHER + 1);
        if exchange.reads == 1 && exchange.writes == 1 {
            return;
        }
        tries.push(exchange);
    }
    panic!("{tries:#?}");
}

const TOGETHER: u32 = 64;

/// What the server did for many requests at once.
#[derive(Debug)]
struct Exchange {
    reads: usize,
    writes: usize,
    #[expect(dead_code, reason = "shown when the test fails")]
    trace: String,
}

fn exchange_together(stage: &Stage, server: &Process, raw: &Raw, first: u32) -> Exchange {
    let trace = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,sendmmsg";
    let tracer = Tracer::attach(stage, server, &["-e", trace]);
    let ids = first..first + TOGETHER;
    let requests: Vec<u8> = ids.clone().flat_map(|id| frame(1, 4, id, 0, &id.to_le_bytes())).collect();
    raw.send(&requests);
    for id in ids {
        let reply = raw.receive_frame();
        assert_eq!((reply.id, reply.rc, reply.payload), (id, 0, id.to_le_bytes().to_vec()));
    }
    let (trace, thread) = (tracer.report(), format!("{} ", server.child.id()));
    let count = |names: &[&str]| {
        let is_one = |line: &&str| names.iter().any(|name| line.contains(&format!("{name}(")));
        // The loop's thread is the first; another one waits for signals.
        trace.lines().filter(|line| line.starts_with(&thread)).filter(is_one).count()
    };
    let writes = count(&["write", "writev", "sendto", "sendmsg", "sendmmsg"]);
    Exchange { reads: count(&["read", "readv", "recvfrom", "recvmsg"]), writes, trace }
}

/// Where the client of a second run connects to.
const ENDPOINT: &str = "SIDEWIRE_TEST_ENDPOINT";

/// How often a client has sent and received, hello and goodbye included.
#[derive(Debug, PartialEq, Eq)]
struct Trips {
    sends: usize,
    receives: usize,
}

/// Runs `body` with a client of its own in a process under strace: this test binary once more, with this
/// test only. `None` in there.
fn trips(name: &str, body: impl FnOnce(&Client)) -> Option<Trips> {
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        body(&client(&endpoint.parse().expect("an endpoint")));
        return None;
    }
    let stage = Stage::new();
    let server = stage.serve(&[stage.unix("x.sock")], &[]);
    let report = stage.path("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=sendto,recvfrom,sendmsg,recvmsg", "-o"]).arg(&report);
    command.arg(std::env::current_exe().expect("the test binary"));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let output = command.env(ENDPOINT, server.endpoints[0].to_string()).output().expect(ADVICE);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{output:?}");
    let report = std::fs::read_to_string(&report).expect("strace's report");
    let count = |name: &str| report.lines().filter(|line| line.contains(&format!("{name}("))).count();
    Some(Trips { sends: count("sendto") + count("sendmsg"), receives: count("recvfrom") + count("recvmsg") })
}

/// The hello, the goodbye, and one for each of the rest.
fn with_hello(rounds: usize) -> Trips {
    Trips { sends: rounds + 2, receives: rounds + 1 }
}

#[test]
fn a_client_needs_one_write_and_one_read_for_an_echo() {
    if is_excused() {
        return;
    }
    let _watchdog = watchdog(60);
    let name = "system_calls::a_client_needs_one_write_and_one_read_for_an_echo";
    let trips = trips(name, |client| {
        for number in 0..1000_u32 {
            assert!(client.call(4, number.to_le_bytes()).is_ok());
        }
    });
    assert!(trips.as_ref().is_none_or(|trips| *trips == with_hello(1000)), "{trips:?}");
}

#[test]
fn calls_that_are_started_together_leave_in_one_write() {
    if is_excused() {
        return;
    }
    let _watchdog = watchdog(60);
    let trips = trips("system_calls::calls_that_are_started_together_leave_in_one_write", |client| {
        for _ in 0..10 {
            let start = |number: u32| client.start(4, number.to_le_bytes()).expect("start");
            let calls: Vec<_> = (0..64).map(start).collect();
            for (number, call) in (0_u32..).zip(calls) {
                assert_eq!(call.wait().expect("a reply").payload(), number.to_le_bytes());
            }
        }
    });
    // The server may need more than one turn on a busy machine; each is a read of ours.
    let is_right = |trips: &Trips| trips.sends == with_hello(10).sends && trips.receives < 10 * 64 / 4;
    assert!(trips.as_ref().is_none_or(is_right), "{trips:?}");
    println!("{trips:?} for ten windows of 64 calls");
}
