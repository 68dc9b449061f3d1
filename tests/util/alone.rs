//! Tests that measure their own process, and so need one to themselves.

use std::process::Command;

/// Tells a test's second run from its first.
const MARK: &str = "SIDEWIRE_TEST_ALONE";

/// Runs `body` in a process in which nothing else happens: this test binary once more, with this
/// test only. `name` is the test's whole name, `module::function`.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    run(name, &mut Command::new(own_path()));
}

/// The same with at most so many descriptors, which the shell sets for us: std can't.
#[cfg(unix)] // Windows has no such limit.
pub(crate) fn alone_with_descriptors(name: &str, most: u32, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let script = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
    run(name, Command::new("/bin/sh").arg("-c").arg(script).arg(own_path()));
}

fn own_path() -> std::path::PathBuf {
    std::env::current_exe().expect("the test binary")
}

fn run(name: &str, command: &mut Command) {
    let output = command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("run this test once more");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "there is no test called {name}:\n{out}");
}
