//! The client for Node.js (`bindings/node`), with what `ci/windows` has fetched for Wine, or with what is installed.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::stage::{SIDEWIRE, Stage};
use crate::util::{unique, watchdog};

/// The oldest that the package is for.
const OLDEST: u32 = 18;

/// Longer than the player lets itself take.
const LIMIT: u64 = 400;

fn node() -> PathBuf {
    let fetched = Path::new(SIDEWIRE).ancestors().nth(2).expect("the target's folder").join("node/node.exe");
    if fetched.exists() { fetched } else { "node".into() }
}

/// It with these arguments, which prints into files: under Wine it can't write into pipes. `None`: it is not there.
fn run(args: &[&str]) -> Option<(bool, String)> {
    let mut printed = tempfile::tempfile().expect("a file");
    let copy = |file: &File| Stdio::from(file.try_clone().expect("a handle"));
    let mut command = Command::new(node());
    // Wine says that it is older than it is.
    command.args(args).env("NODE_SKIP_PLATFORM_CHECK", "1");
    let status = command.stdin(Stdio::null()).stdout(copy(&printed)).stderr(copy(&printed)).status().ok()?;
    let mut text = String::new();
    printed.rewind().expect("its beginning");
    printed.read_to_string(&mut text).expect("text");
    Some((status.success(), text))
}

#[test]
fn it_plays_the_calls() {
    let _watchdog = watchdog(LIMIT);
    let Some((is_fine, version)) = run(&["--version"]) else {
        return eprintln!("skipped: there is no Node.js for Windows here");
    };
    assert!(is_fine, "{version}");
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < OLDEST) {
        return eprintln!("skipped: Node.js is {}, and {OLDEST} or later is needed", version.trim());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let player = root.join("bindings/node/test/play.js").display().to_string();
    let calls = std::fs::read_dir(root.join("tests/conversations/calls")).expect("the folder");
    let calls = calls.map(|file| file.expect("a file").path().display().to_string());
    let calls: Vec<_> = calls.filter(|path| path.ends_with(".calls")).collect();
    let stage = Stage::new();
    // Not local:, for which it asks the system's whoami for the user: Wine's does not tell.
    for (endpoint, options) in [
        (format!("pipe:{}", unique("node")), &[][..]),
        ("tcp:127.0.0.1:0".to_owned(), &["--access", "anyone"]),
    ] {
        let server = stage.serve(&[endpoint], options);
        let place = server.endpoints[0].to_string();
        let args: Vec<_> =
            [player.as_str(), place.as_str()].into_iter().chain(calls.iter().map(String::as_str)).collect();
        let (is_fine, text) = run(&args).expect("it was there before");
        let right = text.lines().filter(|line| line.ends_with(": ok")).count();
        assert!(is_fine && right == calls.len() && right > 0, "Node.js {version}{place}: {text}");
    }
}
