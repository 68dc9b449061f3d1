//! Instances that end, hang, or are killed.

use std::sync::mpsc;
use std::time::Duration;

use sidewire::{Acquired, SingleInstance, SingleInstanceBuilder};

use crate::freeze::freeze;
use crate::stage::{PATIENT, STARTS, Start, command, expect};
use crate::starts::left_over;
use crate::util::{unique, watchdog};

const SECOND: Duration = Duration::from_secs(1);

fn builder(app: &str, argument: &str) -> SingleInstanceBuilder {
    SingleInstance::builder(app).deadline(PATIENT).arguments([argument])
}

fn acquire(app: &str) -> SingleInstance {
    builder(app, "").acquire().expect("acquire").first().expect("nobody else is the instance")
}

/// Another process that is the instance.
fn started(command: &mut std::process::Command) -> Start {
    let (sender, said) = mpsc::channel();
    let mut start = Start::with(command, 0, sender);
    expect(&said, "ready");
    start.tell("go");
    expect(&said, "first");
    start
}

#[test]
fn what_nobody_has_taken_comes_to_the_next_one() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let instance = acquire(&app);
    let (arrived, arrivals) = mpsc::channel();
    instance.on_activation(move || arrived.send(()).expect("the test goes on"));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| builder(&app, "x").acquire().expect("acquire"));
        arrivals.recv_timeout(PATIENT).expect("an activation");
        drop(instance);
        assert!(matches!(other.join().expect("no panic"), Acquired::First(_)));
    });
    assert_eq!(left_over(&app), [""; 0]);
}

#[test]
fn an_app_that_takes_nothing_is_told_and_what_was_given_up_is_not_delivered() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let instance = acquire(&app);
    // Long enough for the instance to say that it has forgotten it, or once more.
    let given_up = || builder(&app, "given up").deadline(4 * SECOND).acquire().expect_err("nobody takes it");
    let errors =
        (0..5).map(|_| given_up()).inspect(|error| assert!(error.is_hung() && error.is_timeout(), "{error}"));
    let texts = errors.map(|error| error.to_string());
    let text = texts.into_iter().find(|text| text.contains("withdrawn")).expect("it answers");
    assert!(text.contains(&format!("pid {}", std::process::id())) && text.contains("its app"), "{text}");
    std::thread::scope(|scope| {
        let other = scope.spawn(|| builder(&app, "wanted").acquire().expect("acquire"));
        let activation = instance.next_timeout(PATIENT).expect("an activation");
        assert_eq!(activation.arguments(), ["wanted"]);
        assert!(other.join().expect("no panic").first().is_none());
    });
}

/// Nor does the instance's endpoint.
#[test]
fn an_instance_that_is_dropped_blocks_nobody() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    for _ in 0..20 {
        drop(acquire(&app));
    }
    assert_eq!(left_over(&app), [""; 0]);
}

#[test]
fn a_killed_instance_blocks_nobody_even_if_its_children_live_on() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    for starts in [None, Some("1")] {
        let mut command = command(&app, 0);
        if let Some(value) = starts {
            command.env(STARTS, value);
        }
        let mut start = started(&mut command);
        start.kill();
        drop(acquire(&app));
        assert_eq!(left_over(&app), [""; 0]);
    }
}

/// It is stopped: the system takes connections, and nobody answers.
#[test]
fn an_instance_that_hangs_is_told_and_replaced_when_it_is_killed() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let mut start = started(&mut command(&app, 0));
    let pid = start.child.id();
    freeze(pid);
    let error = builder(&app, "x").deadline(SECOND).acquire().expect_err("it is stopped");
    assert!(error.is_hung(), "{error}");
    assert!(error.to_string().contains(&format!("pid {pid}")), "{error}");
    std::thread::scope(|scope| {
        let other = scope.spawn(|| builder(&app, "x").acquire().expect("acquire"));
        start.kill();
        assert!(other.join().expect("no panic").first().is_some());
    });
    assert_eq!(left_over(&app), [""; 0]);
}

/// It has the lock, and has not come so far as to listen.
#[test]
fn an_instance_that_never_listens_is_told() {
    let _watchdog = watchdog(110);
    let app = unique("app");
    let claim = sidewire_platform::InstanceLock::claim(&app).expect("claim");
    assert!(matches!(claim, sidewire_platform::Claim::Ours(_)), "{claim:?}");
    let error = builder(&app, "x").deadline(SECOND).acquire().expect_err("nobody listens");
    assert!(error.is_hung(), "{error}");
    drop(claim);
    acquire(&app);
}
