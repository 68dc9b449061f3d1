//! `sidewire demo`: two processes talk over every endpoint.

use crate::stage::{Outcome, Stage, Started};
#[cfg(target_os = "linux")]
use crate::stage::{eventually, signal};
use crate::util::watchdog;

#[test]
fn it_succeeds_on_every_endpoint_of_this_system() {
    let _watchdog = watchdog(110);
    let stage = Stage::new();
    // As many as it does by itself take a minute under Wine.
    let arguments: &[&str] = if cfg!(windows) { &["demo", "--echoes", "1000"] } else { &["demo"] };
    let outcome = stage.run(arguments).expect(0);
    check(&stage, &outcome);
}

#[test]
fn two_side_by_side_both_succeed() {
    let _watchdog = watchdog(110);
    let stage = Stage::new();
    let demos = [(); 2].map(|()| Started::new(&mut stage.sidewire(["demo", "--echoes", "1000"]), b""));
    let outcomes = demos.map(|demo| demo.finish().expect(0));
    for outcome in &outcomes {
        check(&stage, outcome);
    }
    assert_ne!(helper(&outcomes[0]), helper(&outcomes[1]));
}

/// Wherever temporary files are said to go: what has a path goes where it fits.
#[cfg(unix)]
#[test]
fn it_succeeds_wherever_temporary_files_go() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let _watchdog = watchdog(110);
    let stage = Stage::new();
    let (long, odd) = (stage.path(&"x".repeat(90)), stage.path("").join(OsStr::from_bytes(b"\xff")));
    let (two_lines, missing) = (stage.path("a\nlistening local:b"), stage.path("missing"));
    let read_only = std::path::PathBuf::from("/proc");
    for folder in [&long, &odd, &two_lines] {
        std::fs::create_dir(folder).expect("a folder");
    }
    for folder in [&long, &odd, &two_lines, &missing, &read_only, &"relative".into(), &"".into()] {
        let mut command = stage.sidewire(["demo", "--echoes", "10"]);
        let outcome = Started::new(command.env("TMPDIR", folder), b"").finish().expect(0);
        assert_eq!(complaints(&outcome), [""; 0], "{folder:?}");
        assert!(outcome.text().ends_with("\nall right\n"), "{folder:?}: {outcome}");
        assert_eq!(outcome.text().lines().filter(|line| line.contains("µs")).count(), 7, "{outcome}");
    }
}

/// Endpoints that can't be shown are no reason not to show the others.
#[cfg(target_os = "linux")]
#[test]
fn rows_that_cannot_be_shown_say_why() {
    let _watchdog = watchdog(110);
    let stage = Stage::new();
    // With so few descriptors some endpoints can be opened, and others can't.
    let some = (12..30).any(|descriptors| {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" demo --echoes 1");
        let args = ["-c", &script, crate::stage::SIDEWIRE];
        let outcome = Started::new(&mut stage.command("/bin/sh", args), b"").finish();
        let text = outcome.text();
        let shown = text.lines().filter(|line| line.contains("µs")).count();
        let others = text.lines().filter(|line| line.contains("NOT SHOWN: ")).count();
        if shown == 0 || others == 0 {
            return false;
        }
        assert_eq!((outcome.code, shown + others), (Some(1), 7), "{outcome}");
        assert!(text.contains("Too many open files") && text.contains("NOT all right"), "{outcome}");
        true
    });
    assert!(some, "all or nothing, with every number of descriptors");
}

/// A row for each endpoint, all steps right, and nothing left behind.
fn check(stage: &Stage, outcome: &Outcome) {
    assert_eq!(complaints(outcome), [""; 0]);
    let text = outcome.text();
    let schemes = [sidewire_platform::stream_schemes(), sidewire_platform::datagram_schemes()].concat();
    // A mailslot answers nothing.
    let schemes: Vec<_> = schemes.into_iter().filter(|scheme| *scheme != "mailslot").collect();
    for scheme in &schemes {
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{scheme}:"))).collect();
        let [row] = rows[..] else { panic!("not one row of {scheme}: {text}") };
        assert_eq!(row.split_whitespace().filter(|word| *word == "ok").count(), 6, "{row}");
        assert!(row.contains("µs") && !row.contains("BAD"), "{row}");
    }
    let rows = text.lines().filter(|line| line.split_whitespace().any(|word| word == "ok")).count();
    assert_eq!(rows, schemes.len(), "{text}");
    assert_eq!(stage.files(), [""; 0]);
    #[cfg(target_os = "linux")] // Elsewhere there is no /proc to look into.
    assert!(!is_alive(helper(outcome)), "{text}");
}

/// What it complains of, but for handlers that a busy machine has kept from going on.
fn complaints(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter(|line| !line.contains(" held the loop for ")).collect()
}

/// The helper's process id.
fn helper(outcome: &Outcome) -> u32 {
    helper_in(&outcome.text()).unwrap_or_else(|| panic!("no helper: {outcome}"))
}

fn helper_in(text: &str) -> Option<u32> {
    text.split("helper process ").nth(1)?.split_whitespace().next()?.parse().ok()
}

#[cfg(target_os = "linux")]
fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// However the demo ends, its helper does not outlive it. (Needs /proc and signals.)
#[cfg(target_os = "linux")]
#[test]
fn a_demo_that_is_killed_leaves_no_helper() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    use std::time::Duration;

    let _watchdog = watchdog(60);
    for name in ["KILL", "INT"] {
        let stage = Stage::new();
        let mut command = stage.sidewire(["demo", "--echoes", "1000000"]);
        let mut demo = command.stdout(Stdio::piped()).spawn().expect("start");
        let mut line = String::new();
        BufReader::new(demo.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let helper = helper_in(&line).expect("the helper's line");
        assert!(is_alive(helper));
        signal(name, demo.id());
        demo.wait().expect("wait");
        eventually(Duration::from_secs(30), "the helper ends", || !is_alive(helper));
        assert_eq!(stage.files(), [""; 0]);
    }
}
