//! Signals that were ignored at the start, and those that were not: the tool and every example.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::getset::example;
use crate::stage::{SIDEWIRE, Stage, signal};
use crate::util::{Process, watchdog};

/// Each server with an endpoint that it serves.
const SERVERS: [(&str, &str); 5] = [
    ("sidewire", "unix"),
    ("getset", "unix"),
    ("echo", "unix"),
    ("terminal", "unix"),
    ("datagram", "unixgram"),
];

/// Starts it from a shell that ignores these signals.
fn start(stage: &Stage, name: &str, scheme: &str, ignored: &str) -> Process {
    let program = if name == "sidewire" { SIDEWIRE.into() } else { example(name) };
    let endpoint = format!("{scheme}:{}", stage.path("x").display());
    let script = format!("trap '' {ignored}; exec \"$0\" serve \"$1\"");
    let mut command: Command = stage.command("/bin/sh", ["-c", &script]);
    Process::start(command.arg(program).arg(endpoint).stderr(Stdio::inherit()), 1)
}

const HUP: u32 = 1;
const INT: u32 = 2;

/// Whether the system throws this signal away when it is sent.
fn is_ignored(process: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("SigIgn");
    u64::from_str_radix(line.trim(), 16).expect("a mask") & 1 << (signal - 1) != 0
}

/// nohup, and the background jobs of a script.
#[test]
fn ignored_signals_stay_ignored() {
    let _watchdog = watchdog(60);
    for (name, scheme) in SERVERS {
        let stage = Stage::new();
        let mut server = start(&stage, name, scheme, "HUP INT");
        for name in ["HUP", "INT", "HUP", "INT"] {
            signal(name, server.child.id());
        }
        for signal in [HUP, INT] {
            assert!(is_ignored(server.child.id(), signal), "{name} does not ignore signal {signal}");
        }
        assert!(server.child.try_wait().expect("look").is_none(), "{name} ends at an ignored signal");
        signal("TERM", server.child.id());
        assert_eq!(server.wait(Duration::from_secs(30)).code(), Some(0), "{name}");
        assert_eq!(stage.files(), [""; 0], "{name}");
    }
}

#[test]
fn each_signal_ends_each_server_in_order() {
    let _watchdog = watchdog(60);
    for (name, scheme) in SERVERS {
        for sent in ["HUP", "INT", "TERM"] {
            assert!((0..20).any(|_| ends(name, scheme, sent)), "too busy to send two signals at once");
        }
    }
}

/// False: a busy machine sent the second signal so late that it may have counted as another request.
fn ends(name: &str, scheme: &str, sent: &str) -> bool {
    let stage = Stage::new();
    let mut server = start(&stage, name, scheme, "USR1");
    let since = Instant::now();
    // Twice, as timeout(1) and closing terminals do.
    let script = "kill -$0 $1; kill -$0 $1 2>/dev/null";
    let id = server.child.id().to_string();
    Command::new("/bin/sh").args(["-c", script, sent, &id]).status().expect("a shell");
    let is_one_request = since.elapsed() < Duration::from_millis(200);
    let status = server.wait(Duration::from_secs(30));
    if is_one_request {
        assert_eq!(status.code(), Some(0), "{name} at SIG{sent}");
        assert_eq!(stage.files(), [""; 0], "{name}");
    }
    is_one_request
}
