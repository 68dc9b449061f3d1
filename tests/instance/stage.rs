//! Processes that start an app: this test binary once more, with one test only, which does as it is told.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use sidewire::{Acquired, SingleInstance};

const APP: &str = "SIDEWIRE_TEST_APP";
const INDEX: &str = "SIDEWIRE_TEST_INDEX";
/// What a start hands over as an argument, besides its index, and which variable.
pub(crate) const ARGUMENT: &str = "SIDEWIRE_TEST_ARGUMENT";
pub(crate) const VALUE: &str = "SIDEWIRE_TEST_VALUE";
pub(crate) const UNSET: &str = "SIDEWIRE_TEST_UNSET";
/// Starts a program of its own once it is the instance, which lives as long as standard input.
pub(crate) const STARTS: &str = "SIDEWIRE_TEST_STARTS";
const SLEEPS: &str = "SIDEWIRE_TEST_SLEEPS";

/// Longer than any machine takes, so that no test hangs on how fast it is.
pub(crate) const PATIENT: Duration = Duration::from_secs(100);

/// One process that starts the app.
pub(crate) struct Start {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
}

/// What the one with this index says.
pub(crate) type Said = (usize, String);

impl Start {
    /// Begins, and waits to be told to [go](Start::tell) on. All that it says comes to `said`.
    pub(crate) fn new(app: &str, index: usize, said: Sender<Said>) -> Start {
        Start::with(&mut command(app, index), index, said)
    }

    pub(crate) fn with(command: &mut Command, index: usize, said: Sender<Said>) -> Start {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start a process");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("its output"));
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines
                .filter_map(|line| line.strip_prefix('@').map(str::to_owned))
                .try_for_each(|line| said.send((index, line)))
        });
        Start { child, input }
    }

    /// `go`, `take 3`, `take all`.
    pub(crate) fn tell(&mut self, what: &str) {
        let input = self.input.as_mut().expect("it was not told to end");
        writeln!(input, "{what}").expect("it listens");
    }

    /// Ends in order, as an instance.
    pub(crate) fn end(&mut self) {
        self.input = None;
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    pub(crate) fn expect_success(&mut self) {
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This test binary as a process that starts the app.
pub(crate) fn command(app: &str, index: usize) -> Command {
    let mut command = this_binary();
    command.env(APP, app).env(INDEX, index.to_string()).env_remove("RUST_LOG");
    command
}

fn this_binary() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args(["--exact", "stage::a_process", "--nocapture", "--test-threads=1"]);
    command
}

/// The next thing that is said, by whom.
pub(crate) fn hear(said: &Receiver<Said>) -> Said {
    said.recv_timeout(PATIENT).expect("somebody says something")
}

/// Waits for this of one.
pub(crate) fn expect(said: &Receiver<Said>, wanted: &str) {
    let (_, line) = hear(said);
    assert_eq!(line, wanted);
}

/// No test, but the process that others start.
#[test]
fn a_process() {
    if std::env::var_os(SLEEPS).is_some() {
        std::io::stdin().lines().for_each(drop);
    } else if let Some(app) = std::env::var_os(APP) {
        start(app.to_str().expect("a name"));
    }
}

fn say(what: &str) {
    // In one write, and behind what the test harness has begun to print.
    let line = format!("\n@{what}\n");
    let mut output = std::io::stdout().lock();
    output.write_all(line.as_bytes()).and_then(|()| output.flush()).expect("the test listens");
}

fn start(app: &str) {
    say("ready");
    let mut orders = BufReader::new(std::io::stdin()).lines().map_while(Result::ok);
    assert_eq!(orders.next().as_deref(), Some("go"));
    let arguments = [INDEX, ARGUMENT].into_iter().filter_map(std::env::var_os);
    let builder = SingleInstance::builder(app).deadline(PATIENT).arguments(arguments);
    match builder.environment([VALUE, UNSET]).acquire() {
        Ok(Acquired::First(instance)) => be_the_instance(&instance, orders),
        Ok(Acquired::Other(other)) => say(&format!("handed {}", other.pid().expect("local"))),
        Err(error) => say(&format!("error {error}")),
    }
}

fn be_the_instance(instance: &SingleInstance, mut orders: impl Iterator<Item = String> + Send) {
    let mut grandchild = std::env::var_os(STARTS).map(|_| {
        this_binary()
            .env(SLEEPS, "1")
            .stdin(Stdio::inherit())
            .stdout(Stdio::null())
            .spawn()
            .expect("start a process")
    });
    say("first");
    match orders.next().as_deref() {
        Some("take all") => std::thread::scope(|scope| {
            let end = scope.spawn(|| orders.for_each(drop));
            while !end.is_finished() {
                take(instance, Duration::from_millis(100));
            }
        }),
        Some(count) => {
            let count: usize = count.strip_prefix("take ").and_then(|n| n.parse().ok()).expect("an order");
            (0..count).for_each(|_| take(instance, PATIENT));
            orders.for_each(drop);
        }
        None => {}
    }
    if let Some(grandchild) = &mut grandchild {
        let _ = grandchild.wait();
    }
}

fn take(instance: &SingleInstance, within: Duration) {
    if let Some(activation) = instance.next_timeout(within) {
        let index: &OsString = activation.arguments().first().expect("an index");
        say(&format!("took {}", index.display()));
    }
}
