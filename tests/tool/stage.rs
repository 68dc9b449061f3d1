//! Where a test of the tool takes place: a private folder, programs run in it, and their outcome.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sidewire::{Client, Connect, Endpoint};
use tempfile::TempDir;

use crate::util::{Process, unique, usual_access};

/// The tool.
pub(crate) const SIDEWIRE: &str = env!("CARGO_BIN_EXE_sidewire");
/// What the store holds at first.
pub(crate) const GREETING: &[u8] = b"hello, this is server!";
/// No program of these tests takes as long, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for whatever the programs of a test put into the file system: `local:` endpoints,
/// temporary files, sockets. What is left in it at the end was left behind.
pub(crate) struct Stage(TempDir);

impl Stage {
    pub(crate) fn new() -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        // `local:` endpoints are only put into folders that are closed to others.
        #[cfg(unix)]
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("chmod");
        Stage(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// `unix:/…/NAME` in this folder.
    #[cfg(unix)]
    pub(crate) fn unix(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// The names of what lies in the folder, but for recordings, which those who are killed are to leave.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).expect("read the folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.ends_with(".recorder") && name != "Sidewire").collect()
    }

    /// Where the recordings of its programs are.
    pub(crate) fn recordings(&self) -> Vec<PathBuf> {
        let folder = if cfg!(windows) { self.path("Sidewire") } else { self.folder().to_owned() };
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "recorder")).collect()
    }

    /// One endpoint for each kind of stream that this system has, in this folder or with names
    /// that nobody else uses.
    pub(crate) fn all_streams(&self) -> Vec<String> {
        sidewire_platform::stream_schemes().iter().map(|scheme| self.endpoint(scheme)).collect()
    }

    /// The same for datagrams that can be answered.
    pub(crate) fn all_datagrams(&self) -> Vec<String> {
        let schemes = sidewire_platform::datagram_schemes().iter();
        schemes.filter(|scheme| **scheme != "mailslot").map(|scheme| self.endpoint(scheme)).collect()
    }

    fn endpoint(&self, scheme: &str) -> String {
        match scheme {
            "tcp" | "udp" => format!("{scheme}:127.0.0.1:0"),
            "unix" | "unixgram" => format!("{scheme}:{}", self.path(&format!("all.{scheme}")).display()),
            scheme => format!("{scheme}:{}", unique("tool")),
        }
    }

    /// Those of them on which the system tells who is there.
    pub(crate) fn verified_streams(&self) -> Vec<String> {
        self.all_streams().into_iter().filter(|endpoint| !endpoint.starts_with("tcp:")).collect()
    }

    /// A program that has its temporary files and its `local:` endpoints in this folder.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_remove("RUST_LOG");
        for variable in ["XDG_RUNTIME_DIR", "LOCALAPPDATA", "TMPDIR", "TMP", "TEMP"] {
            command.env(variable, self.folder());
        }
        command
    }

    pub(crate) fn sidewire<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.command(SIDEWIRE, args)
    }

    /// Runs the tool to its end, with nothing on its standard input.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        Started::new(&mut self.sidewire(args), b"").finish()
    }

    /// `sidewire serve` with these endpoints, listening.
    pub(crate) fn serve<E: AsRef<str>>(&self, endpoints: &[E], options: &[&str]) -> Process {
        let endpoints: Vec<&str> = endpoints.iter().map(AsRef::as_ref).collect();
        let args = [&["serve"], &endpoints[..], options].concat();
        Process::start(&mut self.sidewire(args), endpoints.len())
    }

    /// A `local:` endpoint is in this folder only for those who are told so; a library client in
    /// this process is not. It takes the path where there is one.
    pub(crate) fn seen_from_here(&self, endpoint: &Endpoint) -> Endpoint {
        match endpoint {
            Endpoint::Local(name) if cfg!(unix) => Endpoint::Unix(self.path(&format!("{name}.sock"))),
            other => other.clone(),
        }
    }

    /// A library client, also of a server for anyone where both of us are elevated.
    pub(crate) fn client(&self, endpoint: &Endpoint) -> Client {
        let connect = Connect::to(self.seen_from_here(endpoint)).expect("an endpoint").lower_integrity();
        connect.access(usual_access(endpoint)).open().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// What came of a program.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `None`: ended by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Outcome {
    /// Requires this exit status.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Outcome {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Requires that standard error mentions this.
    #[track_caller]
    pub(crate) fn mentions(self, text: &str) -> Outcome {
        assert!(self.stderr.contains(text), "no '{text}' in: {self}");
        self
    }

    /// Requires that standard output is exactly this.
    #[track_caller]
    pub(crate) fn prints(self, bytes: impl AsRef<[u8]>) -> Outcome {
        assert!(self.stdout == bytes.as_ref(), "not '{}': {self}", bytes.as_ref().escape_ascii());
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { code, stdout, stderr, took } = self;
        let shown = &stdout[..stdout.len().min(2000)];
        write!(f, "exit status {code:?} after {took:?}, output '{}', errors: {stderr}", shown.escape_ascii())
    }
}

/// A program under way, with everything it says collected. Killed when dropped.
pub(crate) struct Started {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    since: Instant,
}

impl Started {
    /// Starts it with these bytes on its standard input.
    pub(crate) fn new(command: &mut Command, input: &[u8]) -> Started {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let since = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let (stdin, input) = (child.stdin.take(), input.to_vec());
        // It need not read what it is given.
        std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        Started { child, stdout, stderr, since }
    }

    #[cfg(unix)]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    #[cfg(unix)]
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("look at a process").is_none()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for a process") {
                break status;
            }
            assert!(self.since.elapsed() < PATIENCE, "process {} does not end", self.child.id());
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.since.elapsed();
        let text = |pipe: Option<JoinHandle<Vec<u8>>>| pipe.map(|pipe| pipe.join().expect("read"));
        let stdout = text(self.stdout.take()).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&text(self.stderr.take()).unwrap_or_default()).into_owned();
        Outcome { code: status.code(), stdout, stderr, took }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    pipe.map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        })
    })
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(within: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < until, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal by its name without SIG.
#[cfg(unix)]
pub(crate) fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.expect("kill(1)").success(), "SIG{name} to {pid}");
}

/// Stops a program by its signal, and waits until it has stopped.
#[cfg(target_os = "linux")]
pub(crate) fn freeze(pid: u32) {
    signal("STOP", pid);
    eventually(Duration::from_secs(30), "the process stops", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc").contains(") T ")
    });
}

/// Text of a file of these tests that another program runs, found in the source folder.
#[cfg(unix)]
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tool").join(name)
}
