//! `local:` is one name for a user, whatever the environment.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::process::Command;

use crate::stage::{GREETING, Stage, Started};
use crate::util::{Process, unique, watchdog};

/// The tool with this folder of the stage as its `$XDG_RUNTIME_DIR`, or without one.
fn with(stage: &Stage, folder: Option<&str>, args: &[&str]) -> Command {
    let mut command = stage.sidewire(args);
    match folder {
        Some(folder) => command.env("XDG_RUNTIME_DIR", stage.path(folder)),
        None => command.env_remove("XDG_RUNTIME_DIR"),
    };
    command
}

#[test]
fn a_server_is_found_and_not_doubled_from_every_environment() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for folder in ["a", "b"] {
        fs::DirBuilder::new().mode(0o700).create(stage.path(folder)).expect("a folder");
    }
    const ENVIRONMENTS: [Option<&str>; 3] = [None, Some("a"), Some("b")];
    for first in ENVIRONMENTS {
        let endpoint = format!("local:{}", unique("tool"));
        let server = Process::start(&mut with(&stage, first, &["serve", &endpoint]), 1);
        for other in ENVIRONMENTS {
            let call = Started::new(&mut with(&stage, other, &["call", &endpoint, "1"]), b"").finish();
            call.expect(0).prints(GREETING);
            let second = Started::new(&mut with(&stage, other, &["serve", &endpoint]), b"").finish();
            second.expect(1).prints("").mentions("another server is there already");
        }
        drop(server);
    }
}

/// Read-only, or without room for one file more.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_socket_is_passed_over() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    fs::create_dir(stage.path("run")).expect("a folder");
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        return println!("no right to make namespaces: this test does nothing");
    }
    let run = stage.path("run").display().to_string();
    for prepare in [
        format!("mount -t tmpfs -o mode=700 none {run} && mount -o remount,ro {run}"),
        format!("mount -t tmpfs -o mode=700,nr_inodes=1 none {run}"),
    ] {
        let endpoint = format!("local:{}", unique("tool"));
        let script = format!("{prepare} && export XDG_RUNTIME_DIR={run} && exec \"$@\"");
        let args = ["-m", "sh", "-c", &script, "sh", crate::stage::SIDEWIRE, "serve", &endpoint];
        let server = Process::start(&mut stage.command("unshare", args), 1);
        stage.run(["call", &endpoint, "1"]).expect(0).prints(GREETING);
        drop(server);
    }
}
