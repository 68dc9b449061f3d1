//! Helpers that are none, or that break: each a clear error, and a clean end.

use std::process::Command;
use std::time::{Duration, Instant};

use sidewire::{Helper, HelperState, Restart};

use crate::python::{CLOSE, ECHO, GARBAGE, ID, SILENCE, python};
use crate::util::{until, watchdog};

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
    let _watchdog = watchdog(60);
    // The first dies of the system's word, the second knows none.
    for script in ["echo here; exec sleep 600", "trap '' TERM; echo here; while true; do sleep 1; done"] {
        let limit = Duration::from_millis(300);
        let error = Helper::builder(sh(script)).ready_within(limit).spawn().expect_err("it is no helper");
        assert!(error.is_hung() && error.to_string().contains("not ready within 300ms"), "{error}");
        assert_eq!(error.last_words(), ["here"]);
    }
}

/// What it says first is no hello.
#[test]
fn one_that_speaks_something_else_is_ended() {
    let _watchdog = watchdog(60);
    let script = "number=${SIDEWIRE_CHANNEL#fd:}; number=${number%:*}; eval \"echo 'GET / HTTP/1.1' >&$number\"; exec sleep 600";
    let error = Helper::spawn(sh(script)).expect_err("it is no helper");
    assert!(error.is_protocol(), "{error}");
}

#[test]
fn garbage_ends_it() {
    let _watchdog = watchdog(60);
    let helper = Helper::spawn(python()).expect("a helper");
    let id = id(&helper);
    let error = helper.call(GARBAGE, "").expect_err("it breaks the protocol");
    assert!(error.is_protocol(), "{error}");
    let last = helper.states().last().expect("a state");
    assert!(matches!(&last, HelperState::Ended(why) if why.is_protocol()), "{last}");
    assert!(is_gone(id));
}

#[test]
fn one_that_closes_its_channel_and_lives_on_is_ended() {
    let _watchdog = watchdog(60);
    let helper = Helper::spawn(python()).expect("a helper");
    let id = id(&helper);
    let error = helper.call(CLOSE, "").expect_err("it leaves");
    assert!(error.is_peer_gone() && error.to_string().contains("closed its channel and lived on"), "{error}");
    let last = helper.states().last().expect("a state");
    assert!(matches!(last, HelperState::Ended(_)), "{last}");
    assert!(is_gone(id));
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

#[test]
fn one_that_crashes_in_a_loop_is_given_up() {
    let _watchdog = watchdog(60);
    let restart = Restart::new().pauses(Duration::from_millis(10), Duration::from_millis(40));
    let helper = Helper::builder(sh("echo it hurts; exit 9"))
        .name("crashes")
        .restart(restart)
        .start()
        .expect("a keeper");
    let states: Vec<String> = helper.states().map(|state| state.to_string()).collect();
    assert_eq!(states.len(), 12, "{states:#?}");
    assert!(states.iter().step_by(2).take(6).all(|state| state == "starting"), "{states:#?}");
    for state in states.iter().skip(1).step_by(2).take(5) {
        let why = ": its process has ended before it was ready: exit status: 9";
        assert!(state.starts_with("restarting in 0.0 s") && state.ends_with(why), "{state}");
    }
    assert_eq!(
        states[11],
        "gave up: its process has ended before it was ready: exit status: 9: given up after 5 restarts"
    );
    let error = helper.call(ECHO, "").expect_err("it was given up");
    assert_eq!(error.last_words(), ["it hurts"]);
    assert!(error.to_string().contains("given up after 5 restarts"), "{error}");
}

/// Calls wait for the next run or fail at once; what was lost with the last one is sent again if that is safe.
#[test]
fn one_that_is_killed_is_restarted() {
    let _watchdog = watchdog(60);
    let restart = Restart::new().pauses(Duration::from_millis(500), Duration::from_millis(500));
    let helper = Helper::builder(python()).restart(restart).spawn().expect("a helper");
    let (first, mut states) = (id(&helper), helper.states());
    assert!(matches!(states.next(), Some(HelperState::Ready)));
    let lost = helper.start(SILENCE, "").expect("started");
    let mut safe = helper.request(ECHO).idempotent().start("again").expect("started");
    // SAFETY: numbers.
    assert_eq!(unsafe { libc::kill(first as i32, libc::SIGKILL) }, 0);
    let error = lost.wait().expect_err("its helper was killed");
    assert!(error.exit_status().is_some() && error.to_string().contains("SIGKILL"), "{error}");
    assert!(matches!(states.next(), Some(HelperState::Restarting { .. })));
    let error = helper.request(ECHO).fail_fast().send("").expect_err("nobody is there");
    assert!(error.is_not_listening() && error.to_string().contains("SIGKILL"), "{error}");
    let second = helper.call(ID, "").expect("one that waits is answered").into_payload();
    assert_eq!(String::from_utf8_lossy(&second), id(&helper).to_string());
    assert_ne!(id(&helper), first);
    let again = safe.wait_timeout(Duration::from_secs(20)).expect("in time").expect("an answer");
    assert_eq!(again.payload(), b"again");
    assert!(states.by_ref().take(2).map(|state| state.to_string()).eq(["starting", "ready"]));
    // Nothing is started behind a stop.
    helper.stop().expect("a clean end");
    assert!(states.map(|state| state.to_string()).eq(["stopped"]));
    until("nothing is left of it", || is_gone(first));
}

/// A client that is closed needs no helper.
#[test]
fn whoever_closes_the_client_stops_the_helper() {
    let _watchdog = watchdog(60);
    let helper = Helper::builder(python()).restart(Restart::new()).spawn().expect("a helper");
    let id = id(&helper);
    helper.client().close();
    assert!(helper.call(ECHO, "").is_err_and(|error| error.is_closed()));
    assert!(matches!(helper.states().last(), Some(HelperState::Stopped)));
    assert!(is_gone(id));
}

/// 100 MB on standard error hold up nobody, and cost nothing.
#[test]
fn a_flood_costs_no_memory() {
    let _watchdog = watchdog(120);
    let mut command =
        sh("head -c 100000000 /dev/zero | tr '\\0' 'x' | fold -w 79 >&2; echo done >&2; exec python3 \"$0\"");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helper/helper.py"));
    let before = memory();
    let helper = Helper::builder(command).ready_within(Duration::from_secs(100)).spawn().expect("a helper");
    let grown = memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    assert_eq!(helper.call(ECHO, "x").expect("an answer").payload(), b"x");
    helper.stop().expect("a clean end");
}

/// Bytes that this process has in memory.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("our memory");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}
