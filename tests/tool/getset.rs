//! The example `getset`.

use std::path::{Path, PathBuf};

#[cfg(unix)]
use crate::stage::signal;
use crate::stage::{GREETING, Outcome, SIDEWIRE, Stage, Started};
use crate::util::{Process, unique, watchdog};

const SOURCE: &str = include_str!("../../examples/getset.rs");

/// Where cargo has put an example: beside the tool.
pub(crate) fn example(name: &str) -> PathBuf {
    let folder = Path::new(SIDEWIRE).parent().expect("the tool's folder").join("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing: run 'cargo build --examples' first", program.display());
    program
}

fn program() -> PathBuf {
    example("getset")
}

fn run(stage: &Stage, args: &[&str]) -> Outcome {
    Started::new(&mut stage.command(program(), args), b"").finish()
}

#[test]
fn it_is_short() {
    assert!(SOURCE.lines().count() < 150);
}

#[test]
fn get_set_and_setget_over_every_endpoint() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoints = stage.all_streams();
    let args: Vec<&str> = ["serve"].into_iter().chain(endpoints.iter().map(String::as_str)).collect();
    let server = Process::start(&mut stage.command(program(), args), endpoints.len());
    let greeting = format!("{}\n", String::from_utf8_lossy(GREETING));
    for endpoint in &server.endpoints {
        let endpoint = endpoint.to_string();
        run(&stage, &["get", &endpoint]).expect(0).prints(&greeting);
        run(&stage, &["set", "good day", &endpoint]).expect(0).prints("");
        run(&stage, &["get", &endpoint]).expect(0).prints("good day\n");
        run(&stage, &["setget", greeting.trim_end(), &endpoint]).expect(0).prints("good day\n");
        // It speaks what the tool speaks.
        stage.run(["call", &endpoint, "1"]).expect(0).prints(GREETING);
    }
}

/// A client that can't be told the old text must not be the one who destroys it.
#[test]
fn a_text_that_does_not_fit_stays() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.all_streams().remove(0);
    let server = Process::start(&mut stage.command(program(), ["serve", &endpoint]), 1);
    let endpoint = server.endpoints[0].to_string();
    let old = "x".repeat(2000);
    run(&stage, &["set", &old, &endpoint]).expect(0);
    stage.run(["call", &endpoint, "3", "new", "--classic"]).expect(1).prints("").mentions("too large (-3)");
    run(&stage, &["get", &endpoint]).expect(0).prints(format!("{old}\n"));
    run(&stage, &["setget", "new", &endpoint]).expect(0).prints(format!("{old}\n"));
    run(&stage, &["get", &endpoint]).expect(0).prints("new\n");
}

#[test]
fn it_says_what_is_wrong() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let nobody = format!("local:{}", unique("nobody"));
    run(&stage, &["get", &nobody]).expect(1).prints("").mentions("nobody listens there");
    run(&stage, &["get", "nonsense"]).expect(1).prints("").mentions("nonsense");
    run(&stage, &["serve", "nonsense"]).expect(1).prints("").mentions("nonsense");
    for args in [&[][..], &["give"], &["set"], &["get", "local:x", "y"]] {
        run(&stage, args).expect(2).prints("").mentions("usage: getset");
    }
}

/// The default endpoint is a fixed name, which only on Unix the folder keeps to ourselves; and
/// there are no signals on Windows.
#[cfg(unix)]
#[test]
fn it_has_a_default_endpoint_and_ends_with_ctrl_c() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let mut server = Process::start(&mut stage.command(program(), ["serve"]), 1);
    run(&stage, &["set", "x"]).expect(0).prints("");
    run(&stage, &["setget", "y"]).expect(0).prints("x\n");
    run(&stage, &["get"]).expect(0).prints("y\n");
    signal("INT", server.child.id());
    assert_eq!(server.wait(std::time::Duration::from_secs(30)).code(), Some(0));
    assert_eq!(stage.files(), [""; 0]);
}
