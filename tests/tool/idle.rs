//! Ten thousand connections that do nothing, and what they cost.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use sidewire::Endpoint;

use crate::stage::{GREETING, SIDEWIRE, Stage, eventually, source};
use crate::util::{Process, watchdog};

const CONNECTIONS: usize = 10_000;
/// KiB of resident memory that each may cost.
const MOST: f64 = 0.30;
/// And that we would like it to cost.
const GOAL: f64 = 0.25;

/// A script that holds connections until it is dropped.
struct Crowd {
    child: Child,
    _stdin: Option<ChildStdin>,
}

impl Crowd {
    fn gather(stage: &Stage, layout: &str, endpoint: &Endpoint, count: usize) -> Crowd {
        let Endpoint::Unix(path) = endpoint else { panic!("not a path: {endpoint}") };
        let mut command = stage.command("python3", [source("idle_clients.py")]);
        command.arg(layout).arg(path).arg(count.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let crowd = Crowd { child, _stdin: stdin };
        let mut line = String::new();
        BufReader::new(stdout.expect("its output")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "the clients could not all connect: {:?}", crowd.child);
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resident_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// How many descriptors the process may raise its limit to.
fn hard_limit(pid: u32) -> usize {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("/proc");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    line.split_whitespace().nth(4).and_then(|hard| hard.parse().ok()).unwrap_or(usize::MAX)
}

fn measure(layout: &str) {
    let _watchdog = watchdog(100);
    let stage = Stage::new();
    // As a login shell would start it: it has to raise its own limit of descriptors.
    let script = "ulimit -Sn 1024; exec \"$0\" serve \"$@\"";
    let mut command = stage.command("sh", ["-c", script, SIDEWIRE]);
    command.args([stage.unix("crowd.sock"), stage.unix("other.sock")]);
    let server = Process::start(&mut command, 2);
    let [crowded, other] = &server.endpoints[..] else { panic!("two endpoints") };
    let client = stage.client(other);
    let connections = || -> u64 {
        let statistics: serde_json::Value =
            serde_json::from_slice(client.call(5, b"").expect("statistics").payload()).expect("JSON");
        statistics["connections"].as_u64().expect("a number")
    };
    assert!(hard_limit(server.child.id()) > CONNECTIONS + 100, "this test needs a higher 'ulimit -Hn'");
    // The loop's own buffers are not what is measured.
    drop(Crowd::gather(&stage, layout, crowded, 8));
    eventually(Duration::from_secs(30), "the first ones leave", || connections() == 1);

    let before = resident_kib(server.child.id());
    let crowd = Crowd::gather(&stage, layout, crowded, CONNECTIONS);
    assert_eq!(connections(), CONNECTIONS as u64 + 1);
    assert_eq!(client.call(1, b"").expect("a reply").payload(), GREETING);
    stage.run(["call", &other.to_string(), "1"]).expect(0).prints(GREETING);
    let each = (resident_kib(server.child.id()) - before) / CONNECTIONS as f64;
    println!(
        "{layout}: {each:.3} KiB for each of {CONNECTIONS} idle connections (goal {GOAL}, limit {MOST})"
    );
    assert!(each <= MOST, "{layout}: {each:.3} KiB for each idle connection, over {MOST}");

    drop(crowd);
    eventually(Duration::from_secs(20), "the server sees them leave", || connections() == 1);
}

#[test]
fn classic_connections_cost_little() {
    measure("classic");
}

#[test]
fn v1_connections_cost_little() {
    measure("v1");
}
