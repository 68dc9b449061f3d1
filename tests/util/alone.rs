//! Tests that measure their own process, and so need one to themselves.

use std::process::Command;

use sidewire::Endpoint;

use super::Process;

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

/// The same with at most so many descriptors, which the shell sets for us (std can't).
#[cfg(unix)] // Windows has no such limit.
pub(crate) fn alone_with(name: &str, descriptors: u32, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    run(name, &mut own_with(descriptors));
}

#[cfg(unix)]
fn own_with(descriptors: u32) -> Command {
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(own_path());
    command
}

/// Runs `serve` in such a process with at most so many descriptors, and waits until it has [announced](announce) `count` endpoints.
#[cfg(unix)] // Windows has no such limit.
pub(crate) fn serve_alone(name: &str, descriptors: u32, count: usize, serve: impl FnOnce()) -> Process {
    if std::env::var_os(MARK).is_some() {
        serve();
        std::process::exit(0);
    }
    Process::start(this_test_only(name, &mut own_with(descriptors)), count)
}

/// Says where such a server listens.
pub(crate) fn announce(endpoints: &[Endpoint]) {
    println!(); // The test harness has begun a line of its own.
    endpoints.iter().for_each(|endpoint| println!("listening {endpoint}"));
}

fn own_path() -> std::path::PathBuf {
    std::env::current_exe().expect("the test binary")
}

fn run(name: &str, command: &mut Command) {
    let output = this_test_only(name, command).output().expect("run this test once more");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "there is no test called {name}:\n{out}");
}

fn this_test_only<'c>(name: &str, command: &'c mut Command) -> &'c mut Command {
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(MARK, "1")
}
