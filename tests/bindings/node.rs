//! `bindings/node`: its tests, a file each. Node.js has to be there, 18 or later; otherwise each says that it is not.

use std::path::PathBuf;
use std::process::Command;

use crate::util::watchdog;

/// The oldest that the package is for.
const OLDEST: u32 = 18;

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bindings/node")
}

/// Why the tests can't be run, if so.
pub(crate) fn objection() -> Option<String> {
    let version = match Command::new("node").arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return Some(format!("node can't be started ({error})")),
    };
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    let is_enough = major.is_some_and(|major| major >= OLDEST);
    (!is_enough).then(|| format!("node is {version}, and {OLDEST} or later is needed"))
}

/// What fails is in what they print. They end by themselves if one of them hangs.
fn run(file: &str) {
    let _watchdog = watchdog(120);
    if let Some(why) = objection() {
        eprintln!("skipped: {why}");
        return;
    }
    let mut node = Command::new("node");
    node.arg(package().join("test").join(file)).env("SIDEWIRE", env!("CARGO_BIN_EXE_sidewire"));
    let output = node.output().expect("node");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{file}: {}\n{text}\n{errors}", output.status);
    assert!(
        text.contains("# fail 0") || text.contains("ℹ fail 0"),
        "{file} has run no tests:\n{text}\n{errors}"
    );
}

#[test]
fn the_core_holds_the_protocol() {
    run("protocol.test.js");
}

#[test]
fn what_waits_for_the_program_is_bounded() {
    run("parts-and-events.test.js");
}

#[test]
fn it_is_served() {
    run("server.test.js");
}

#[test]
fn strange_servers_do_it_no_harm() {
    run("fake.test.js");
}

#[test]
fn it_connects_anew() {
    run("reconnect.test.js");
}

#[test]
fn its_types_are_those_that_are_declared() {
    run("types.test.js");
}

/// It tells servers so, and npm.
#[test]
fn its_version_is_that_of_the_crate() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, text) in [
        ("package.json", format!("\"version\": \"{version}\"")),
        ("lib/connection.js", format!("\"sidewire-node/{version}\"")),
    ] {
        let found = std::fs::read_to_string(package().join(file)).expect(file);
        assert!(found.contains(&text), "{file} does not say {text}");
    }
}

#[test]
fn no_file_of_its_tests_is_left_out() {
    let files = std::fs::read_dir(package().join("test")).expect("its tests");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    for name in names.filter(|name| name.ends_with(".test.js")) {
        assert!(include_str!("node.rs").contains(&format!("run(\"{name}\")")), "{name}");
    }
}
