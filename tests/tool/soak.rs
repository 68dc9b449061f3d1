//! `sidewire soak`: a few seconds of it, and that it says what does not hold.

use crate::stage::{Outcome, Stage};
#[cfg(target_os = "linux")]
use crate::stage::{Started, eventually, signal};
use crate::util::watchdog;

/// What has to hold.
const NAMES: [&str; 10] = [
    "server lives",
    "no panic",
    "replies right",
    "all served",
    "memory flat",
    "resident flat",
    "descriptors bounded",
    "all let go",
    "latency p99",
    "latency longest",
];

/// Few clients, a few seconds; busy machines have their time.
fn soak(stage: &Stage, endpoint: &str, minutes: &str, longest: &str) -> Outcome {
    let few =
        ["--clients", "40", "--p99", "20", "--every", "0.5", "--minutes", minutes, "--longest", longest];
    stage.run([&["soak", endpoint], &few[..]].concat())
}

fn check(outcome: &Outcome) {
    let text = outcome.text();
    for name in NAMES {
        assert!(text.lines().any(|line| line.starts_with(&format!("held   {name} "))), "{name}: {outcome}");
    }
    assert!(text.contains(" answers, 0 wrong, 0 failed  ") && text.ends_with("\nall held\n"), "{outcome}");
    assert!(
        text.contains("  byte by byte ") && text.contains("p50 ") && text.contains("accepted "),
        "{outcome}"
    );
}

#[test]
fn all_holds_on_every_stream_of_this_system() {
    let _watchdog = watchdog(200);
    let stage = Stage::new();
    for endpoint in stage.all_streams() {
        let outcome = soak(&stage, &endpoint, "0.05", "30").expect(0);
        check(&outcome);
    }
    assert_eq!(stage.files(), [""; 0]);
}

/// The same over datagrams, of which the system may lose those by UDP.
#[test]
fn all_holds_over_datagrams_too() {
    let _watchdog = watchdog(200);
    let stage = Stage::new();
    for endpoint in stage.all_datagrams() {
        let outcome = soak(&stage, &endpoint, "0.05", "30").expect(0);
        let text = outcome.text();
        for name in NAMES {
            let holds = text.lines().any(|line| line.starts_with(&format!("held   {name} ")));
            assert!(holds, "{endpoint}: {name}: {outcome}");
        }
        assert!(text.ends_with("\nall held\n") && text.contains("  asks and vanishes "), "{outcome}");
        assert!(endpoint.starts_with("udp:") || !text.contains("asked again"), "{outcome}");
    }
    assert_eq!(stage.files(), [""; 0]);
}

#[test]
fn what_does_not_hold_is_named_and_the_exit_status() {
    let _watchdog = watchdog(100);
    let stage = Stage::new();
    let endpoint = stage.all_streams().remove(0);
    let outcome = soak(&stage, &endpoint, "0.03", "0.000001").expect(1);
    let text = outcome.text();
    let broken: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("BROKEN ")).collect();
    assert!(matches!(broken[..], [one] if one.starts_with("latency longest ")), "{outcome}");
    assert!(text.ends_with("\nNOT all held\n"), "{outcome}");
}

#[test]
fn what_answers_nothing_can_not_be_tried() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    stage.run(["soak", "mailslot:x"]).expect(2).prints("").mentions("nothing comes back there");
    let foreign = if cfg!(windows) { "unix:/x" } else { "pipe:x" };
    stage.run(["soak", foreign]).expect(2).prints("").mentions("this system has no such endpoint");
}

#[cfg(unix)]
#[test]
fn a_server_that_cannot_be_started_says_why() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let missing = format!("unix:{}", stage.path("missing/x").display());
    stage.run(["soak", &missing]).expect(1).prints("").mentions("missing");
}

/// With the report of what came so far, and nothing left behind.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_ends_it_early_with_the_report() {
    let _watchdog = watchdog(100);
    let stage = Stage::new();
    let socket = stage.unix("s");
    let args = ["soak", &socket, "--minutes", "60", "--clients", "20", "--p99", "20", "--longest", "30"];
    let soak = Started::new(&mut stage.sidewire(args), b"");
    eventually(std::time::Duration::from_secs(30), "the server listens", || {
        stage.files().contains(&"s".into())
    });
    signal("INT", soak.id());
    let outcome = soak.finish().expect(0);
    assert!(outcome.text().ends_with("\nall held\n"), "{outcome}");
    assert_eq!(stage.files(), [""; 0]);
}
