//! Helpers that are none, or that break: each a clear error, and a clean end. On every system.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::recorder::Recording;
use sidewire::{Error, Executed, Helper, HelperState, Restart};

use crate::child::{BUSY, ECHO, EXIT, ID, PRINT, SILENCE, own};
use crate::freeze::freeze;
use crate::system::{is_gone, kill};
use crate::util::{PATIENCE, until, watchdog};

/// How a status reads.
const STATUS: &str = if cfg!(unix) { "exit status" } else { "exit code" };

fn id(helper: &Helper) -> u32 {
    helper.id().expect("it runs")
}

fn said(error: &Error, line: &str) -> bool {
    error.last_words().iter().any(|said| said == line)
}

#[test]
fn one_that_exits_ends_the_call_with_status_and_last_words() {
    let _watchdog = watchdog(60);
    let helper = Helper::builder(own("serves")).name("brief").spawn().expect("a helper");
    for number in 0..30 {
        helper.call(PRINT, format!("word {number} \u{7}")).expect("an answer");
    }
    let error = helper.call(EXIT, "7").expect_err("it exits");
    assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
    assert_eq!(error.exit_status().and_then(|status| status.code()), Some(7));
    // What the test harness has said on standard output is read by another thread, on a busy machine as the last.
    let words: Vec<String> = (10..30).map(|number| format!("word {number} \\u{{7}}")).collect();
    let (said, others): (Vec<_>, Vec<_>) =
        error.last_words().iter().cloned().partition(|line| line.starts_with("word "));
    assert!(words.ends_with(&said) && said.len() + others.len() == 20 && others.len() < 5, "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("call helper brief (pid ") && text.contains(") (type 4): the peer has gone: "),
        "{text}"
    );
    assert!(text.contains("; it may have been executed\nits last words:\n  | "), "{text}");
    assert!(text.contains("\n  | word 29 \\u{7}"), "{text}");
    // Later ones are told the same, and were never sent.
    let later = helper.call(ECHO, "").expect_err("it has gone");
    assert_eq!((later.executed(), later.last_words().len()), (Executed::Never, 20), "{later}");
    let state = helper.state().to_string();
    let at = format!("ended: its process has ended: {STATUS}: 7; it was in the handler of type 4 (call ");
    assert!(state.starts_with(&at) && state.ends_with(" ago"), "{state}");
}

#[test]
fn one_that_exits_at_once_is_not_waited_for() {
    let _watchdog = watchdog(120);
    let (begun, patience) = (Instant::now(), Duration::from_secs(100));
    let error = Helper::builder(own("crashes")).ready_within(patience).spawn().expect_err("it is no helper");
    assert!(error.is_peer_gone() && error.to_string().contains("before it was ready"), "{error}");
    assert_eq!(error.exit_status().and_then(|status| status.code()), Some(9));
    assert!(said(&error, "it hurts"), "{error}");
    assert!(begun.elapsed() < patience, "the time to become ready");
}

#[test]
fn one_that_never_becomes_ready_is_ended() {
    let _watchdog = watchdog(180);
    let start = |limit| {
        let limit = Duration::from_secs(limit);
        Helper::builder(own("never ready")).ready_within(limit).start().expect("a keeper")
    };
    let helper = start(100);
    let error = helper.request(ECHO).fail_fast().send("").expect_err("it is not ready");
    assert!(error.is_not_listening() && error.executed() == Executed::Never, "{error}");
    drop(helper);
    // On a machine that is busy it has not begun yet after a second.
    let ended = |limit: u64| {
        let helper = start(limit);
        let error = helper.call(ECHO, "").expect_err("it will not be");
        let text = format!("it was not ready within {limit}s");
        assert!(error.is_hung() && error.to_string().contains(&text), "{error}");
        let last = helper.states().last().expect("a state");
        assert_eq!(last.to_string(), format!("ended: timed out: {text}"));
        error
    };
    assert!([1, 5, 25].into_iter().any(|limit| said(&ended(limit), "here")), "its last words");
}

/// Before and behind its hello.
#[test]
fn one_that_breaks_the_protocol_is_ended() {
    let _watchdog = watchdog(60);
    let error = Helper::spawn(own("garbage first")).expect_err("it is no helper");
    assert!(error.is_protocol(), "{error}");
    let helper = Helper::spawn(own("garbage later")).expect("a helper");
    let id = id(&helper);
    let error = helper.call(ECHO, "").expect_err("it breaks the protocol");
    assert!(error.is_protocol(), "{error}");
    let last = helper.states().last().expect("a state");
    assert!(matches!(&last, HelperState::Ended(why) if why.is_protocol()), "{last}");
    assert!(is_gone(id));
}

#[test]
fn one_that_closes_its_channel_and_lives_on_is_ended() {
    let _watchdog = watchdog(60);
    let helper = Helper::spawn(own("closes")).expect("a helper");
    let id = id(&helper);
    let error = helper.call(ECHO, "").expect_err("it leaves");
    assert!(error.is_peer_gone() && error.to_string().contains("closed its channel and lived on"), "{error}");
    let last = helper.states().last().expect("a state");
    assert!(matches!(last, HelperState::Ended(_)), "{last}");
    assert!(is_gone(id));
}

#[test]
fn one_that_crashes_in_a_loop_is_given_up() {
    let _watchdog = watchdog(120);
    let restart = Restart::new().pauses(Duration::from_millis(10), Duration::from_millis(40));
    let helper = Helper::builder(own("crashes")).restart(restart).start().expect("a keeper");
    let states: Vec<String> = helper.states().map(|state| state.to_string()).collect();
    assert_eq!(states.len(), 12, "{states:#?}");
    assert!(states.iter().step_by(2).take(6).all(|state| state == "starting"), "{states:#?}");
    let why = format!(": its process has ended before it was ready: {STATUS}: 9");
    for state in states.iter().skip(1).step_by(2).take(5) {
        assert!(state.starts_with("restarting in 0.0 s") && state.ends_with(&why), "{state}");
    }
    assert_eq!(states[11], format!("gave up{why}: given up after 5 restarts"));
    let error = helper.call(ECHO, "").expect_err("it was given up");
    assert!(said(&error, "it hurts") && error.to_string().contains("given up after 5 restarts"), "{error}");
}

/// Calls wait for the next run; what was lost with the last one is sent again if that is safe.
#[test]
fn one_that_is_killed_is_restarted() {
    let _watchdog = watchdog(120);
    let restart = Restart::new().pauses(Duration::from_millis(50), Duration::from_millis(50));
    let helper = Helper::builder(own("serves")).restart(restart).spawn().expect("a helper");
    let (first, mut states) = (id(&helper), helper.states());
    assert!(matches!(states.next(), Some(HelperState::Ready)));
    let lost = helper.start(SILENCE, "").expect("started");
    let safe = helper.request(SILENCE).idempotent().start("").expect("started");
    helper.call(ECHO, "").expect("it has got both before this");
    kill(first);
    let error = lost.wait().expect_err("its helper was killed");
    assert!(error.is_peer_gone() && error.exit_status().is_some(), "{error}");
    let second = helper.call(ID, "").expect("one that waits is answered").into_payload();
    assert_eq!(String::from_utf8_lossy(&second), id(&helper).to_string());
    assert_ne!(id(&helper), first);
    assert!(states.next().is_some_and(|state| state.to_string().starts_with("restarting in 0.")));
    assert!(states.by_ref().take(2).map(|state| state.to_string()).eq(["starting", "ready"]));
    // What is safe is with the second now, which is asked to end and so answers all that it has.
    let mut safe = safe;
    assert!(safe.wait_timeout(Duration::from_millis(1)).is_none());
    helper.stop().expect("a clean end");
    let error = safe.wait().expect_err("it was stopped");
    assert!(error.is_closed() || error.result_code().is_some(), "{error}");
    assert!(is_gone(first));
}

/// As if it had crashed; only that a stop is no crash.
#[test]
fn one_that_we_kill_ends_as_in_a_crash() {
    let _watchdog = watchdog(120);
    let restart = Restart::new().pauses(Duration::from_millis(50), Duration::from_millis(50));
    let helper = Helper::builder(own("serves")).restart(restart).spawn().expect("a helper");
    let (news, heard) = mpsc::channel();
    helper.on_state(move || _ = news.send(()));
    let (first, mut states) = (id(&helper), helper.states());
    let sleeper = helper.call(BUSY, "start").expect("it has a child").into_payload();
    let sleeper = String::from_utf8_lossy(&sleeper).parse().expect("an id");
    let busy = helper.start(BUSY, "").expect("started");
    helper.client().flush().expect("sent");
    helper.kill().expect("killed");
    let error = busy.wait().expect_err("its helper was killed");
    assert!(error.is_peer_gone() && error.exit_status().is_some(), "{error}");
    assert!(error.to_string().contains("it was killed on demand"), "{error}");
    let second = helper.call(ID, "").expect("the next one").into_payload();
    assert_ne!(String::from_utf8_lossy(&second), first.to_string());
    until("all have gone", || is_gone(first) && is_gone(sleeper));
    // Each state is told, also the one that there is at first.
    for expected in ["ready", "restarting in ", "starting", "ready"] {
        heard.recv_timeout(PATIENCE).expect("it is told");
        let state = states.next_timeout(Duration::ZERO).expect("a state").to_string();
        assert!(state.starts_with(expected), "{state}");
    }
    assert!(states.next_timeout(Duration::ZERO).is_none());
    // A helper that hangs is stopped at once, and for good, if it is killed meanwhile.
    let busy = helper.start(BUSY, "").expect("started");
    helper.client().flush().expect("sent");
    thread::scope(|scope| {
        let stopping = scope.spawn(|| helper.stop());
        // What has begun before waits as the first does.
        let call = || helper.request(ECHO).timeout(Duration::from_millis(10)).send("");
        until("it is stopping", || call().is_err_and(|error| error.is_closed()));
        helper.kill().expect("killed");
        stopping.join().expect("no panic").expect("stopped");
    });
    assert!(busy.wait().is_err());
    assert!(matches!(states.last(), Some(HelperState::Stopped)));
    helper.kill().expect("nobody is there");
}

/// It hears of nothing, neither by its channel nor by the system.
#[test]
fn one_that_is_frozen_is_stopped_or_killed() {
    let _watchdog = watchdog(120);
    let restart = Restart::new().pauses(Duration::from_millis(50), Duration::from_millis(50));
    let short = Duration::from_millis(100);
    let helper = Helper::builder(own("serves")).restart(restart).stop_within(short, short).spawn();
    let helper = helper.expect("a helper");
    let freeze = || {
        let id = id(&helper);
        freeze(id);
        let call = || helper.request(ECHO).timeout(short).send("");
        until("it is frozen", || call().is_err_and(|error| error.is_timeout()));
        id
    };
    let first = freeze();
    helper.kill().expect("killed");
    let second = helper.request(ID).idempotent().send("").expect("the next one").into_payload();
    assert_ne!(String::from_utf8_lossy(&second), first.to_string());
    let second = freeze();
    helper.stop().expect("a clean end");
    assert!(matches!(helper.state(), HelperState::Stopped));
    until("both have gone", || is_gone(first) && is_gone(second));
}

/// However long the pause is.
#[test]
fn nothing_is_started_behind_a_stop() {
    let _watchdog = watchdog(60);
    let restart = Restart::new().pauses(Duration::from_secs(3600), Duration::from_secs(3600));
    let helper = Helper::builder(own("serves")).restart(restart).spawn().expect("a helper");
    kill(id(&helper));
    let mut states = helper.states();
    assert!(states.any(|state| matches!(state, HelperState::Restarting { .. })));
    let error = helper.request(ECHO).fail_fast().send("").expect_err("nobody is there");
    assert!(error.is_not_listening() && error.executed() == Executed::Never, "{error}");
    assert!(error.to_string().contains("its process has ended"), "{error}");
    let limit = Duration::from_millis(10);
    let error = helper.request(ECHO).timeout(limit).send("").expect_err("an hour is too long");
    assert!(error.is_timeout() && error.executed() == Executed::Never, "{error}");
    helper.stop().expect("a clean end");
    assert!(states.map(|state| state.to_string()).eq(["stopped"]));
    assert_eq!(helper.id(), None);
}

/// A client that is closed needs no helper.
#[test]
fn whoever_closes_the_client_stops_the_helper() {
    let _watchdog = watchdog(60);
    let helper = Helper::builder(own("serves")).restart(Restart::new()).spawn().expect("a helper");
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
    #[cfg(target_os = "linux")] // It is told in /proc.
    let before = memory();
    let helper =
        Helper::builder(own("floods")).ready_within(Duration::from_secs(100)).spawn().expect("a helper");
    #[cfg(target_os = "linux")]
    {
        let grown = memory().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more");
    }
    let error = helper.call(EXIT, "1").expect_err("it exits");
    assert!(said(&error, "done"), "{error}");
}

/// Bytes that this process has in memory.
#[cfg(target_os = "linux")]
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("our memory");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// By its recorder, which a process that is killed leaves.
#[test]
fn the_error_names_the_handler_that_it_was_in() {
    let _watchdog = watchdog(60);
    let helper = Helper::builder(own("serves")).name("hangs").spawn().expect("a helper");
    helper.call(ECHO, "hello").expect("an answer");
    let id = id(&helper);
    kill(id);
    let error = helper.call(ECHO, "").expect_err("it was killed");
    let text = error.to_string();
    assert!(
        text.contains("; it was last in the handler of type 1 (call ") && text.contains(", rc 0, "),
        "{text}"
    );

    let helper = Helper::builder(own("serves")).name("hangs").spawn().expect("a helper");
    let busy = helper.start(BUSY, "").expect("started");
    helper.client().flush().expect("sent");
    let pid = helper.id().expect("it runs");
    let is_busy = |recording: &Recording| recording.doing().is_some_and(|doing| doing.contains("type 6"));
    until("it is in its handler", || Recording::of_process(pid).iter().any(is_busy));
    kill(pid);
    let error = busy.wait().expect_err("it was killed");
    let text = error.to_string();
    assert!(text.contains("; it was in the handler of type 6 (call ") && text.contains(" ago"), "{text}");
}
