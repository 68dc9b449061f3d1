//! Servers that can't accept connections.

use std::time::Duration;

use sidewire_platform::Channel;

use crate::lacking::denying;
use crate::stage::{Stage, eventually};
use crate::util::{Process, watchdog};

/// How often the threads of a process have gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("/proc").flatten();
    let status = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
    let count = |status: String| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse().ok()).expect("a count")
    };
    status.map(count).sum()
}

/// Who waits behind connections that could not be accepted is tried again, without anybody new:
/// the system tells only once that somebody waits.
#[test]
fn those_who_could_not_be_accepted_are_tried_again() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.unix("s");
    let mut command = denying(&stage, libc::SYS_accept4, libc::EPERM, &["serve", &endpoint]);
    let server = Process::start(&mut command, 1);
    let waiting = Channel::connect(&server.endpoints[0], Some(Duration::from_secs(5))).expect("connect");
    let pid = server.child.id();
    let before = sleeps(pid);
    eventually(Duration::from_secs(20), "it tries again and again", || sleeps(pid) >= before + 10);
    drop(waiting);
}
