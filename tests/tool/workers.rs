//! The example `workers`.

#[cfg(unix)]
use std::process::Stdio;

use crate::getset::example;
#[cfg(unix)]
use crate::stage::signal;
use crate::stage::{Outcome, Stage, Started};
use crate::util::{Process, watchdog};

const SOURCE: &str = include_str!("../../examples/workers.rs");

fn count(stage: &Stage, limit: &str, endpoint: &str) -> Outcome {
    Started::new(&mut stage.command(example("workers"), ["count", limit, endpoint]), b"").finish()
}

#[test]
fn it_is_short() {
    assert!(SOURCE.lines().count() < 100);
}

#[test]
fn workers_count_for_many_at_once() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.verified_streams().remove(0);
    let server = Process::start(&mut stage.command(example("workers"), ["serve", &endpoint]), 1);
    let endpoint = server.endpoints[0].to_string();
    for (limit, primes) in [("0", "0\n"), ("3", "1\n"), ("100", "25\n"), ("100000", "9592\n")] {
        count(&stage, limit, &endpoint).expect(0).prints(primes);
    }
    count(&stage, "many", &endpoint).expect(1).prints("").mentions("malformed (-4)");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| count(&stage, "20000", &endpoint).expect(0).prints("2262\n"));
        }
    });
}

/// Whoever is killed does not want to know any more, and frees a worker.
#[cfg(unix)]
#[test]
fn workers_do_not_work_for_who_has_gone() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.verified_streams().remove(0);
    let mut serve = stage.command(example("workers"), ["serve", &endpoint]);
    let mut server = Process::start(&mut serve, 1);
    let endpoint = server.endpoints[0].to_string();
    let workers = std::thread::available_parallelism().expect("how many").get();
    for _ in 0..workers {
        let mut forever = stage.command(example("workers"), ["count", "1000000000000000", &endpoint]);
        let mut client = forever.stdout(Stdio::null()).spawn().expect("start a client");
        // It is at work, or will be.
        count(&stage, "malformed", &endpoint).expect(1);
        client.kill().expect("kill it");
        client.wait().expect("its end");
    }
    count(&stage, "100", &endpoint).expect(0).prints("25\n");
    signal("TERM", server.child.id());
    assert_eq!(server.wait(std::time::Duration::from_secs(30)).code(), Some(0));
}
