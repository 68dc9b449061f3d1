//! Who dies, and who is told, and who goes along.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Error, Executed, Helper};

use crate::child::{ECHO, SILENCE, own};
use crate::system::{held, held_by, is_gone, kill};
use crate::util::{alone, until, watchdog};

/// The numbers are the issue's; of a few tries, since others use this machine, too.
const TRIES: usize = 10;

/// How long after the kill the last of a hundred calls has ended; and what they were told.
fn kill_with_calls_outstanding() -> (Duration, Vec<Error>) {
    let helper = Helper::spawn(own("serves")).expect("a helper");
    let calls: Vec<_> = (0..100).map(|_| helper.start(SILENCE, "").expect("started")).collect();
    helper.call(ECHO, "").expect("it has got all before this");
    let waiting: Vec<_> = calls
        .into_iter()
        .map(|call| {
            thread::spawn(move || {
                let error = call.wait().expect_err("its helper was killed");
                (Instant::now(), error)
            })
        })
        .collect();
    let id = helper.id().expect("it runs");
    let killed = Instant::now();
    kill(id);
    let ends: Vec<_> = waiting.into_iter().map(|waits| waits.join().expect("a thread")).collect();
    let last = ends.iter().map(|(at, _)| at.saturating_duration_since(killed)).max().expect("a hundred");
    (last, ends.into_iter().map(|(_, error)| error).collect())
}

#[test]
fn each_of_a_hundred_calls_ends_within_100_ms_with_the_status() {
    let _watchdog = watchdog(120);
    let status = if cfg!(unix) { "signal: 9 (SIGKILL)" } else { "exit code: 9" };
    let mut all = Vec::new();
    while all.len() < TRIES {
        let (last, errors) = kill_with_calls_outstanding();
        assert_eq!(errors.len(), 100);
        for error in errors {
            assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
            assert!(error.exit_status().is_some_and(|status| !status.success()), "{error}");
            assert!(error.to_string().contains(status), "{error}");
        }
        println!("the last of 100 calls ended {last:?} behind the kill");
        if last <= Duration::from_millis(100) {
            return;
        }
        all.push(last);
    }
    panic!("none of these is within 100 ms: {all:?}");
}

/// How long after its parent's death a helper lives whose handler is busy, and its own child.
fn kill_the_parent() -> Duration {
    let mut parent = own("parent").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a parent");
    let mut lines = BufReader::new(parent.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let mut id = |what: &str| -> u32 {
        let line = lines.find_map(|line| line.strip_prefix(what).map(str::to_owned)).expect("a line");
        line.trim().parse().expect("a number")
    };
    let (helper, sleeper) = (id("helper "), id("its "));
    assert!(!is_gone(helper) && !is_gone(sleeper));
    let killed = Instant::now();
    parent.kill().expect("it runs");
    parent.wait().expect("it was killed");
    until("both have gone", || is_gone(helper) && is_gone(sleeper));
    killed.elapsed()
}

#[test]
fn nothing_survives_its_parent_by_a_second() {
    let _watchdog = watchdog(180);
    let mut all = Vec::new();
    while all.len() < TRIES {
        let lived = kill_the_parent();
        println!("a busy helper and its child lived {lived:?} longer");
        if lived <= Duration::from_secs(1) {
            return;
        }
        all.push(lived);
    }
    panic!("none of these is within a second: {all:?}");
}

/// Neither zombies nor descriptors nor threads, nor files; on Windows, handles.
#[test]
fn a_hundred_helpers_leave_nothing() {
    let _watchdog = watchdog(180);
    alone("deaths::a_hundred_helpers_leave_nothing", || {
        for number in 0..3 {
            end(number);
        }
        let before = held();
        (0..100).for_each(end);
        // The last thread may still be on its way out.
        until("all is given back", || held() <= before);
    });
}

/// In one of the three ways.
fn end(number: u32) {
    let helper = Helper::builder(own("serves")).name(format!("number {number}")).spawn().expect("a helper");
    match number % 3 {
        0 => helper.stop().expect("a clean end"),
        1 => drop(helper),
        _ => {
            kill(helper.id().expect("it runs"));
            helper.call(SILENCE, "").expect_err("it was killed");
        }
    }
}

/// How much a child has that other code of the app starts.
fn held_by_another() -> usize {
    let mut child = own("sleeps").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "asleep"));
    let held = held_by(child.id());
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    held
}

/// Another part of the app starts children of its own all the time.
#[test]
fn other_children_inherit_nothing_of_a_helper() {
    let _watchdog = watchdog(180);
    alone("deaths::other_children_inherit_nothing_of_a_helper", || {
        let before = held_by_another();
        let others = thread::spawn(|| (0..20).map(|_| held_by_another()).collect::<Vec<_>>());
        let mut helpers = Vec::new();
        while helpers.len() < 2 || !others.is_finished() && helpers.len() < 20 {
            helpers.push(Helper::spawn(own("serves")).expect("a helper"));
        }
        assert_eq!(others.join().expect("a thread"), [before; 20]);
        // Nor does one helper have anything of another.
        let [first, .., last] = &helpers[..] else { panic!("two at least") };
        let [first, last] = [first, last].map(|helper| held_by(helper.id().expect("it runs")));
        assert_eq!(first, last);
    });
}
