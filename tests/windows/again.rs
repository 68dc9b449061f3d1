//! This test binary once more, as a process that plays another part in the same test.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use sidewire::Endpoint;

/// Tells such a process which part it plays: the endpoints it talks to, or nothing.
const PART: &str = "SIDEWIRE_TEST_PART";

/// The endpoints that this process was given, if it is such a process.
pub(crate) fn part() -> Option<Vec<Endpoint>> {
    let part = std::env::var(PART).ok()?;
    Some(part.split_whitespace().map(|endpoint| endpoint.parse().expect("an endpoint")).collect())
}

/// The test of this whole name, `module::function`, in a process of its own, in which [`part`]
/// returns these endpoints.
pub(crate) fn command(name: &str, endpoints: &[Endpoint]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    let part = endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(" ");
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(PART, part);
    command
}

/// Such a process, which says when it is ready and then may wait for us. Killed when dropped.
pub(crate) struct Again {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Again {
    pub(crate) fn start(name: &str, endpoints: &[Endpoint]) -> Again {
        let mut command = command(name, endpoints);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start a process");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        Again { child, stdin, stdout }
    }

    /// Waits until it is [ready](say_ready_and_wait).
    #[track_caller]
    pub(crate) fn wait_until_ready(&mut self) {
        let mut line = String::new();
        while line != READY {
            line.clear();
            assert_ne!(self.stdout.read_line(&mut line).expect("read"), 0, "it ends and was never ready");
        }
    }

    /// Lets it go on.
    pub(crate) fn go(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().expect("wait for a process")
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait for a process");
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const READY: &str = "ready\n";

/// In such a process: says that it is ready, and waits until it is told to [go](Again::go).
pub(crate) fn say_ready_and_wait() {
    print!("\n{READY}"); // The test harness has begun a line of its own.
    let _ = std::io::stdin().lines().count();
}
