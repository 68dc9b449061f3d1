//! What the tests have in common.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sidewire::{Client, Connect, Endpoint, Error, Pending, ResultCode, Running, Server};

/// Whatever takes longer is not there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What all apps of the tests are called: each has a broker of its own.
pub(crate) const APP: &str = "thing";

/// Ends the test process if a test hangs.
#[must_use = "it watches until it is dropped"]
pub(crate) fn watchdog() -> mpsc::Sender<()> {
    let (alive, gone) = mpsc::channel::<()>();
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        if gone.recv_timeout(PATIENCE * 6) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs, and is ended");
            std::process::abort();
        }
    });
    alive
}

/// Waits for a fact.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) lines: mpsc::Receiver<String>,
}

impl Process {
    /// What it says on both outputs is shown if the test fails.
    pub(crate) fn start(command: &mut Command) -> Process {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (said, lines) = mpsc::channel();
        let (output, errors) = (child.stdout.take().expect("output"), child.stderr.take().expect("errors"));
        let also = said.clone();
        std::thread::spawn(move || tell(BufReader::new(output), &said));
        std::thread::spawn(move || tell(BufReader::new(errors), &also));
        Process { child, lines }
    }

    /// Waits for a line with this in it, and gives it.
    pub(crate) fn line_with(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => others.push(line),
                Err(_) => panic!("no line with {text:?}, but {others:#?}"),
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Has it stand still, or go on: `-STOP`, `-CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("kill");
        assert!(sent.success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("its end");
    }

    /// How, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its end")
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("a process ends", || {
            status = self.ended();
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tell(lines: impl BufRead, said: &mpsc::Sender<String>) {
    // Where nobody asks any more it is still read, so that the process is not held up.
    lines.lines().map_while(Result::ok).for_each(|line| {
        eprintln!("    {line}");
        let _ = said.send(line);
    });
}

/// A nats-server on 127.0.0.1, and a folder for sockets.
#[derive(Debug)]
pub(crate) struct Nats {
    folder: tempfile::TempDir,
    process: Option<Process>,
    port: u16,
    config: String,
}

impl Nats {
    pub(crate) fn start() -> Nats {
        Nats::with("")
    }

    /// With these lines in its configuration.
    pub(crate) fn with(config: &str) -> Nats {
        let folder = tempfile::tempdir().expect("a folder");
        let mut nats = Nats { folder, process: None, port: 0, config: config.to_owned() };
        let process = nats.run("-1");
        let line = process.line_with("Listening for client connections on ");
        nats.port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
        nats.process = Some(process);
        nats
    }

    fn run(&self, port: &str) -> Process {
        let file = self.path("nats.conf");
        std::fs::write(&file, &self.config).expect("a file");
        let mut command = Command::new("nats-server");
        Process::start(command.args(["-a", "127.0.0.1", "-p", port, "-c"]).arg(&file))
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    pub(crate) fn start_again(&mut self) {
        let process = self.run(&self.port.to_string());
        process.line_with("Server is ready");
        self.process = Some(process);
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn endpoint(&self, name: &str) -> Endpoint {
        format!("unix:{}", self.path(name).display()).parse().expect("an endpoint")
    }

    pub(crate) fn bridge(&self, command: &str, endpoint: &Endpoint, more: &[&str]) -> Process {
        self.bridge_to(&self.url(), command, endpoint, more)
    }

    pub(crate) fn bridge_to(&self, url: &str, command: &str, endpoint: &Endpoint, more: &[&str]) -> Process {
        Process::start(self.bridge_command(url, command, endpoint, more).env_remove("RUST_LOG"))
    }

    /// One that logs all that it can.
    pub(crate) fn talkative(&self, url: &str, command: &str, endpoint: &Endpoint, more: &[&str]) -> Process {
        Process::start(self.bridge_command(url, command, endpoint, more).env("RUST_LOG", "trace"))
    }

    fn bridge_command(&self, url: &str, command: &str, endpoint: &Endpoint, more: &[&str]) -> Command {
        let mut bridge = Command::new(env!("CARGO_BIN_EXE_sidewire-bridge"));
        bridge.arg(command).arg(endpoint.to_string());
        bridge.args(["--nats", url, "--app", APP]).args(more);
        bridge
    }

    pub(crate) fn serve(&self, endpoint: &Endpoint, more: &[&str]) -> Process {
        let types = ["--types", "0-40", "--events", "50,51"];
        let bridge = self.bridge("serve", endpoint, &[&types[..], more].concat());
        bridge.line_with("serving thing at ");
        bridge
    }

    pub(crate) fn connect(&self, name: &str, more: &[&str]) -> (Process, Endpoint) {
        let endpoint = self.endpoint(name);
        let bridge = self.bridge("connect", &endpoint, more);
        bridge.line_with("listening ");
        (bridge, endpoint)
    }

    /// What anybody on the broker can do.
    pub(crate) fn stranger(&self) -> Stranger {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(async_nats::connect(self.url())).expect("a connection");
        Stranger { client, runtime }
    }
}

pub(crate) struct Stranger {
    pub(crate) client: async_nats::Client,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Stranger {
    /// Until the broker knows its subscriptions: it answers what is asked behind them, that nobody has this.
    pub(crate) fn settle(&self) {
        let asked = self.client.request("nobody.has.this", "".into());
        self.runtime.block_on(asked).expect_err("nobody answers");
    }

    pub(crate) fn request(&self, subject: &str, payload: &str) -> async_nats::Message {
        let request = self.client.request(subject.to_owned(), payload.to_owned().into());
        self.runtime.block_on(request).expect("an answer")
    }
}

/// A server in this process.
pub(crate) fn start<S: Send + 'static>(mut server: Server<S>, endpoint: &Endpoint) -> Running<S> {
    server.listen(endpoint).expect("listen");
    server.spawn().expect("spawn")
}

/// A broker with both bridges, and a client at the far end of a server.
pub(crate) struct Line {
    pub(crate) client: Client,
    pub(crate) far: Endpoint,
    _connect: Process,
    pub(crate) serve: Process,
    pub(crate) near: Endpoint,
    pub(crate) nats: Nats,
}

impl Line {
    pub(crate) fn to<S: Send + 'static>(server: Server<S>) -> (Line, Running<S>) {
        Line::over(Nats::start(), server, &[])
    }

    pub(crate) fn over<S: Send + 'static>(
        nats: Nats,
        server: Server<S>,
        more: &[&str],
    ) -> (Line, Running<S>) {
        let near = nats.endpoint("near");
        let running = start(server, &near);
        let serve = nats.serve(&near, &[]);
        let (connect, far) = nats.connect("far", more);
        let client = client(&far);
        (Line { client, far, _connect: connect, serve, near, nats }, running)
    }
}

pub(crate) fn client(endpoint: &Endpoint) -> Client {
    Connect::to(endpoint).expect("an endpoint").call_timeout(PATIENCE).open().expect("a client")
}

/// A call that has left.
pub(crate) fn started(client: &Client, msg_type: u16) -> Pending {
    let call = client.start(msg_type, "").expect("a call");
    client.flush().expect("it is on its way");
    call
}

/// The result code, and the text that explains it.
pub(crate) fn refusal(error: &Error) -> (i32, String) {
    assert!(error.is_explanation(), "{error}");
    let code = error.result_code().map(ResultCode::code).unwrap_or_default();
    (code, String::from_utf8_lossy(error.payload()).into_owned())
}

pub(crate) fn write(file: &Path, text: &str) -> String {
    std::fs::write(file, text).expect("a file");
    file.display().to_string()
}
