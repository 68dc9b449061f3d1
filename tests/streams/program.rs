//! The examples as processes, with everything that they print and when they do.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sidewire::Endpoint;

use crate::util::{PATIENCE, all_streams, until};

/// Where cargo has put an example: beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test binary");
    let folder = own.ancestors().nth(2).expect("the profile's folder").join("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing: run 'cargo build --examples' first", program.display());
    program
}

/// One endpoint of each kind of stream, as text.
pub(crate) fn endpoints() -> Vec<String> {
    all_streams().iter().map(Endpoint::to_string).collect()
}

/// A program that serves, with the lines that it has printed.
pub(crate) struct Server {
    child: Child,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
    pub endpoints: Vec<Endpoint>,
}

impl Server {
    /// Starts `NAME serve ARGS…` and waits until it listens.
    pub(crate) fn start(name: &str, args: &[&str]) -> Server {
        let mut command = Command::new(example(name));
        command.arg("serve").args(args).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start a server");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let lines = Arc::<Mutex<Vec<_>>>::default();
        let collected = Arc::clone(&lines);
        thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                // A peer must not bring anything else in: see `expect_clean`.
                let line = String::from_utf8(line).expect("UTF-8");
                collected.lock().expect("the lines").push((Instant::now(), line));
            }
        });
        let mut server = Server { child, lines, endpoints: Vec::new() };
        let expected = args.iter().filter(|arg| arg.parse::<Endpoint>().is_ok()).count();
        until("it listens", || server.lines().len() >= expected);
        for line in server.take_lines() {
            let endpoint = line.strip_prefix("listening ").expect("nothing is printed before it listens");
            server.endpoints.push(endpoint.parse().expect("an endpoint"));
        }
        server
    }

    /// All lines that were printed and not taken yet.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("the lines").iter().map(|(_, line)| line.clone()).collect()
    }

    pub(crate) fn take_lines(&self) -> Vec<String> {
        let lines = std::mem::take(&mut *self.lines.lock().expect("the lines"));
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Waits for a line that ends so. Says when it was printed.
    #[track_caller]
    pub(crate) fn wait_for(&self, end: &str) -> Instant {
        let patience = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines.lock().expect("the lines").clone();
            if let Some((at, _)) = lines.iter().find(|(_, line)| line.ends_with(end)) {
                return *at;
            }
            assert!(Instant::now() < patience, "no line ends with '{end}': {lines:#?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for so many lines with this word, and takes all.
    #[track_caller]
    pub(crate) fn wait_for_count(&self, count: usize, word: &str) -> Vec<String> {
        self.wait_for_lines(count, word, |line| line.contains(word))
    }

    #[track_caller]
    fn wait_for_lines(&self, count: usize, what: &str, is_one: impl Fn(&str) -> bool) -> Vec<String> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines();
            if lines.iter().filter(|line| is_one(line)).count() >= count {
                return self.take_lines();
            }
            assert!(Instant::now() < patience, "not {count} times '{what}': {lines:#?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ctrl-C. Only on Unix.
    pub(crate) fn interrupt(&self) {
        let kill = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill(1)").success());
    }

    /// Waits for the logout of the only client, and takes all lines.
    #[track_caller]
    pub(crate) fn wait_for_logout(&self) -> Vec<String> {
        self.wait_for_lines(1, "client logout", |line| line.starts_with("client logout"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The chance to remove its socket files; Windows has neither.
        if cfg!(unix) {
            let _ = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(2) && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(2));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program under way that is talked to through its standard input. Killed when dropped.
pub(crate) struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Outcome {
        let text = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.status.code(), Some(code), "printed '{text}', errors: {}", self.stderr);
        self
    }
}

impl Talk {
    pub(crate) fn new(command: &mut Command) -> Talk {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (stdout, first) = collect(child.stdout.take().expect("its output"));
        let (stderr, second) = collect(child.stderr.take().expect("its errors"));
        Talk { stdin: child.stdin.take(), child, stdout, stderr, readers: vec![first, second] }
    }

    /// An example with these arguments.
    pub(crate) fn example(name: &str, args: &[&str]) -> Talk {
        Talk::new(Command::new(example(name)).args(args))
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush()).expect("it takes its input");
    }

    /// Says it on a thread of its own, since it may not be taken before the output is; then ends
    /// the input.
    pub(crate) fn say_all(mut self, bytes: Vec<u8>) -> Talk {
        let mut stdin = self.stdin.take().expect("its input is open");
        thread::spawn(move || stdin.write_all(&bytes));
        self
    }

    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().expect("the output")).into_owned()
    }

    /// Waits until this is printed, or said to standard error.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let patience = Instant::now() + PATIENCE;
        let said = || [&self.stdout, &self.stderr].map(|bytes| bytes.lock().expect("what it says").clone());
        let is_said = || said().iter().any(|bytes| String::from_utf8_lossy(bytes).contains(text));
        while !is_said() {
            assert!(Instant::now() < patience, "'{text}' is never printed: {:?}", self.printed());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends its input and waits for its end.
    pub(crate) fn finish(mut self) -> Outcome {
        drop(self.stdin.take());
        self.wait()
    }

    /// Waits for its end, with its input open.
    pub(crate) fn wait(mut self) -> Outcome {
        let patience = Instant::now() + PATIENCE * 3;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for a process") {
                break status;
            }
            assert!(Instant::now() < patience, "it does not end; so far: {:?}", self.printed());
            thread::sleep(Duration::from_millis(2));
        };
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader"));
        let stdout = std::mem::take(&mut *self.stdout.lock().expect("the output"));
        let stderr = String::from_utf8_lossy(&self.stderr.lock().expect("the errors")).into_owned();
        Outcome { status, stdout, stderr }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let bytes = Arc::<Mutex<Vec<u8>>>::default();
    let collected = Arc::clone(&bytes);
    let reader = thread::spawn(move || {
        let mut chunk = vec![0; 65536];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            collected.lock().expect("the output").extend_from_slice(&chunk[..count]);
        }
    });
    (bytes, reader)
}
