//! Helpers that are none, or that break: each a clear error, and a clean end.

use std::process::Command;
use std::time::{Duration, Instant};

use sidewire::{Helper, HelperState};

use crate::python::{ECHO, SILENCE, python};
use crate::util::watchdog;

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    command
}

/// Whether nothing is left of that process, not even a zombie.
fn is_gone(id: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{id}")).exists()
}

fn id(helper: &Helper) -> u32 {
    helper.id().expect("it runs")
}

#[test]
fn no_such_program() {
    let _watchdog = watchdog(60);
    let error = Helper::spawn(Command::new("/nowhere/resize")).expect_err("there is none");
    assert!(error.to_string().starts_with("start helper resize: No such file"), "{error}");
    assert_eq!((error.exit_status(), error.last_words().len()), (None, 0));
}

#[test]
fn one_that_exits_at_once_is_not_waited_for() {
    let _watchdog = watchdog(60);
    // Somebody else still has its end of the channel.
    for script in ["echo oops >&2; exit 3", "sleep 600 & echo oops; exit 3"] {
        let begun = Instant::now();
        let patience = Duration::from_secs(100);
        let error = Helper::builder(sh(script)).ready_within(patience).spawn().expect_err("it is no helper");
        assert!(error.is_peer_gone() && error.to_string().contains("before it was ready"), "{error}");
        assert_eq!(error.exit_status().and_then(|status| status.code()), Some(3));
        assert_eq!(error.last_words(), ["oops"]);
        assert!(begun.elapsed() < patience, "the time to become ready");
    }
}

#[test]
fn one_that_never_becomes_ready_is_ended() {
    let _watchdog = watchdog(180);
    // The first dies of the system's word, the second knows none.
    for script in ["echo here; exec sleep 600", "trap '' TERM; echo here; while true; do sleep 1; done"] {
        let ended = |limit| {
            let builder = Helper::builder(sh(script)).ready_within(limit);
            let error = builder.spawn().expect_err("it is no helper");
            let text = format!("not ready within {limit:?}");
            assert!(error.is_hung() && error.to_string().contains(&text), "{error}");
            error
        };
        // On a machine that is busy it has not begun yet after the first.
        let mut limits = [300, 3_000, 30_000].map(Duration::from_millis).into_iter();
        assert!(limits.any(|limit| ended(limit).last_words() == ["here"]), "{script}");
    }
}

/// Also one that can't hear of it.
#[test]
fn one_that_is_frozen_is_stopped() {
    let _watchdog = watchdog(60);
    for is_dropped in [false, true] {
        let helper = Helper::builder(python())
            .stop_within(Duration::from_millis(100), Duration::from_secs(50))
            .spawn()
            .expect("a helper");
        let id = id(&helper);
        // SAFETY: numbers.
        assert_eq!(unsafe { libc::kill(id as i32, libc::SIGSTOP) }, 0);
        let error =
            helper.request(ECHO).timeout(Duration::from_millis(100)).send("").expect_err("it is frozen");
        assert!(error.is_timeout(), "{error}");
        let begun = Instant::now();
        if is_dropped {
            drop(helper);
        } else {
            helper.stop().expect("a clean end");
            assert!(matches!(helper.state(), HelperState::Stopped));
        }
        assert!(is_gone(id));
        assert!(begun.elapsed() < Duration::from_secs(50), "SIGTERM, and SIGCONT so that it gets it");
    }
}

/// It hangs, and does not care for SIGTERM.
#[test]
fn one_that_hears_nothing_is_killed() {
    let _watchdog = watchdog(60);
    let mut command = sh("trap '' TERM; exec python3 \"$0\"");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helper/helper.py"));
    let helper = Helper::builder(command)
        .stop_within(Duration::from_millis(50), Duration::from_millis(50))
        .spawn()
        .expect("a helper");
    let id = id(&helper);
    // SAFETY: numbers.
    assert_eq!(unsafe { libc::kill(id as i32, libc::SIGSTOP) }, 0);
    let waits = helper.start(SILENCE, "").expect("started");
    helper.stop().expect("a clean end");
    let error = waits.wait().expect_err("it was stopped");
    assert!(error.is_closed() && error.to_string().contains("the helper was stopped"), "{error}");
    assert!(is_gone(id));
}
