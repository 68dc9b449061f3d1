//! A hundred calls, and a hundred helpers.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use sidewire::{Error, Executed, Helper};

use crate::python::{ECHO, SILENCE, python};
use crate::util::{alone, until, watchdog};

/// How long after the kill the last of a hundred calls has ended; and what they were told.
fn kill_with_calls_outstanding() -> (Duration, Vec<Error>) {
    let helper = Helper::builder(python()).spawn().expect("a helper");
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
    // SAFETY: numbers.
    assert_eq!(unsafe { libc::kill(id as i32, libc::SIGKILL) }, 0);
    let ends: Vec<_> = waiting.into_iter().map(|waits| waits.join().expect("a thread")).collect();
    let last = ends.iter().map(|(at, _)| at.saturating_duration_since(killed)).max().expect("a hundred");
    (last, ends.into_iter().map(|(_, error)| error).collect())
}

/// The number is the issue's; the best of a few tries, since others use this machine, too.
#[test]
fn each_of_a_hundred_calls_ends_within_100_ms_with_the_status() {
    let _watchdog = watchdog(120);
    let mut all = Vec::new();
    for _ in 0..10 {
        let (last, errors) = kill_with_calls_outstanding();
        assert_eq!(errors.len(), 100);
        for error in errors {
            assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
            assert!(error.exit_status().is_some_and(|status| status.code().is_none()), "{error}");
            assert!(error.to_string().contains("signal: 9 (SIGKILL)"), "{error}");
        }
        println!("the last of 100 calls ended {last:?} behind the kill");
        if last <= Duration::from_millis(100) {
            return;
        }
        all.push(last);
    }
    panic!("none of these is within 100 ms: {all:?}");
}

/// What this process has: descriptors, threads and children, zombies among them.
fn holdings() -> [usize; 3] {
    let count = |path: &str| fs::read_dir(path).expect(path).count();
    let children = fs::read_dir("/proc/self/task").expect("our threads").flatten().map(|task| {
        let children = fs::read_to_string(task.path().join("children"));
        children.map_or(0, |children| children.split_whitespace().count())
    });
    [count("/proc/self/fd"), count("/proc/self/task"), children.sum()]
}

fn files() -> BTreeSet<std::ffi::OsString> {
    let folders = [std::env::var_os("XDG_RUNTIME_DIR"), Some(std::env::temp_dir().into())];
    let listed = folders.into_iter().flatten().filter_map(|folder| fs::read_dir(folder).ok());
    listed.flatten().flatten().map(|entry| entry.file_name()).collect()
}

#[test]
fn a_hundred_helpers_leave_nothing() {
    let _watchdog = watchdog(120);
    alone("hundred::a_hundred_helpers_leave_nothing", || {
        drop(Helper::spawn(python()));
        let (before, ours) = (holdings(), format!("sidewire-{}", std::process::id()));
        for number in 0..100 {
            let helper =
                Helper::builder(python()).name(format!("number {number}")).spawn().expect("a helper");
            match number % 3 {
                0 => helper.stop().expect("a clean end"),
                1 => drop(helper),
                _ => {
                    // SAFETY: numbers.
                    assert_eq!(unsafe { libc::kill(helper.id().expect("it runs") as i32, libc::SIGKILL) }, 0);
                    assert!(helper.call(SILENCE, "").is_err());
                }
            }
        }
        // The last thread may still be on its way out.
        until("all is given back", || holdings() == before);
        assert!(!files().iter().any(|name| name.to_string_lossy().contains(&ours)));
    });
}

/// The descriptors that a child has which other code starts.
fn inherited() -> String {
    let output = Command::new("ls").arg("/proc/self/fd").output().expect("ls");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Another part of the app starts children of its own all the time.
#[test]
fn other_children_inherit_nothing_of_it() {
    let _watchdog = watchdog(120);
    alone("hundred::other_children_inherit_nothing_of_it", || {
        let before = inherited();
        let others = thread::spawn(|| (0..200).map(|_| inherited()).collect::<Vec<_>>());
        let mut helpers = Vec::new();
        while !others.is_finished() && helpers.len() < 20 {
            helpers.push(Helper::spawn(python()).expect("a helper"));
        }
        for meanwhile in others.join().expect("a thread") {
            assert_eq!(meanwhile, before);
        }
        // Nor does one helper have anything of another.
        let id = helpers.last().and_then(Helper::id).expect("it runs");
        let own = fs::read_dir(format!("/proc/{id}/fd")).expect("its descriptors").flatten();
        let targets: Vec<_> = own.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        let sockets = targets.iter().filter(|target| target.to_string_lossy().starts_with("socket:")).count();
        assert_eq!(sockets, 1, "{targets:?}");
    });
}
