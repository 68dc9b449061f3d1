//! Clients in other network namespaces, as in a container that shares a folder with the server.

use std::process::Command;

use crate::stage::{GREETING, Outcome, SIDEWIRE, Stage, Started};
use crate::util::watchdog;

/// Runs the tool in a network and a mount namespace of its own, behind a shell command.
fn elsewhere(stage: &Stage, prepare: &str, args: &[&str]) -> Outcome {
    let script = format!("{prepare} && exec \"$@\"");
    let namespaces = ["-n", "-m", "sh", "-c", &script, "sh", SIDEWIRE];
    Started::new(&mut stage.command("unshare", namespaces.iter().chain(args)), b"").finish()
}

fn has_namespaces() -> bool {
    let has =
        Command::new("unshare").args(["-n", "-m", "true"]).status().is_ok_and(|status| status.success());
    if !has {
        println!("no right to make namespaces: this test does nothing");
    }
    has
}

/// An abstract name could not be answered there; a path can.
#[test]
fn a_client_in_another_network_namespace_is_answered() {
    let _watchdog = watchdog(60);
    if !has_namespaces() {
        return;
    }
    let stage = Stage::new();
    let endpoint = format!("unixgram:{}", stage.path("socket").display());
    let _server = stage.serve(&[&endpoint], &[]);
    for layout in [&[][..], &["--classic"]] {
        let call = |args: &[&str]| elsewhere(&stage, "true", &[&["call", &endpoint], args, layout].concat());
        call(&["2", "from elsewhere"]).expect(0);
        assert_eq!(
            call(&["3", std::str::from_utf8(GREETING).expect("text")]).expect(0).stdout,
            b"from elsewhere"
        );
    }
    assert_eq!(stage.files(), ["socket"], "nothing is left behind");
}

/// Where the server does not find the client's path, nothing is executed that the client would not
/// hear of.
#[test]
fn what_could_not_be_answered_is_not_executed() {
    let _watchdog = watchdog(60);
    if !has_namespaces() {
        return;
    }
    let stage = Stage::new();
    for folder in ["shared", "mounted"] {
        std::fs::create_dir(stage.path(folder)).expect("a folder");
    }
    let endpoint = |folder: &str| format!("unixgram:{}", stage.path(folder).join("socket").display());
    let _server = stage.serve(&[endpoint("shared")], &[]);
    let prepare =
        format!("mount --bind {} {}", stage.path("shared").display(), stage.path("mounted").display());
    for layout in [&[][..], &["--classic"]] {
        let mounted = endpoint("mounted");
        let args = [&["call", &mounted, "2", "lost", "--timeout", "0.5"], layout].concat();
        elsewhere(&stage, &prepare, &args).expect(3).mentions("another network namespace");
        assert_eq!(stage.run(["call", &endpoint("shared"), "1"]).expect(0).stdout, GREETING);
    }
}
