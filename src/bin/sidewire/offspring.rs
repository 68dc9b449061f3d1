//! This program once more, in a process of its own, with another command: the servers of `demo` and `soak`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use sidewire::Server;

use crate::output::{Patient, complain};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How long it may take to get ready, and to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The same where something has gone wrong already.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// What its hook says of a panic; see `log`.
const PANIC: &str = " panicked at ";

/// Ends when its standard input does, so it never outlives us; see [`stop_with_input`].
pub(crate) struct Offspring {
    child: Child,
    lines: Receiver<String>,
    /// Panics that it has told of, if anybody reads what it complains of.
    panics: Arc<AtomicU64>,
}

impl Offspring {
    pub(crate) fn start(command: &str, arguments: impl IntoIterator<Item = String>) -> Outcome<Offspring> {
        Offspring::new(Command::new(std::env::current_exe()?).arg(command).args(arguments))
    }

    /// The same, with its complaints looked through for panics and passed on.
    pub(crate) fn start_watched(
        command: &str,
        arguments: impl IntoIterator<Item = String>,
    ) -> Outcome<Offspring> {
        let mut program = Command::new(std::env::current_exe()?);
        if std::env::var_os("RUST_LOG").is_none() {
            // What its clients do wrong is no news.
            program.env("RUST_LOG", "error");
        }
        let mut this = Offspring::new(program.arg(command).args(arguments).stderr(Stdio::piped()))?;
        if let Some(stderr) = this.child.stderr.take() {
            let panics = Arc::clone(&this.panics);
            read_lines(stderr, move |line| {
                panics.fetch_add(u64::from(line.contains(PANIC)), Ordering::Relaxed);
                complain(&format!("the server says: {}", line.escape_debug()));
                true
            })?;
        }
        Ok(this)
    }

    fn new(program: &mut Command) -> Outcome<Offspring> {
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        let (sender, lines) = mpsc::channel();
        let this = Offspring { child, lines, panics: Arc::default() };
        let Some(stdout) = stdout else { return Err("the process has no output".into()) };
        read_lines(stdout, move |line| sender.send(line).is_ok())?;
        Ok(this)
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// The next line that it prints.
    pub(crate) fn line(&self, until: Instant) -> Outcome<String> {
        Ok(self.printed(until).ok_or("the helper process did not get ready")?)
    }

    /// The line that it prints for one on its standard input; see [`stop_with_input`].
    pub(crate) fn ask(&self, until: Instant) -> Outcome<String> {
        let mut input = self.child.stdin.as_ref().ok_or("the helper process is about to end")?;
        input.write_all(b"\n")?;
        Ok(self.printed(until).ok_or("the helper process does not answer")?)
    }

    fn printed(&self, until: Instant) -> Option<String> {
        self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }

    /// Its status, if it has ended.
    pub(crate) fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Closing its standard input tells it to end.
    pub(crate) fn stop(&mut self) -> Outcome<ExitStatus> {
        self.wait(PATIENCE)?.ok_or_else(|| "the helper process did not end".into())
    }

    fn wait(&mut self, time: Duration) -> io::Result<Option<ExitStatus>> {
        drop(self.child.stdin.take());
        let until = Instant::now() + time;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() > until {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Offspring {
    /// Lets it tidy up, if it does so at once.
    fn drop(&mut self) {
        if !matches!(self.wait(LAST_PATIENCE), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Hands on each line, on a thread of its own, while it is told to.
fn read_lines(
    from: impl Read + Send + 'static,
    mut each: impl FnMut(String) -> bool + Send + 'static,
) -> io::Result<()> {
    let mut lines = BufReader::new(from).lines().map_while(Result::ok);
    thread::Builder::new().spawn(move || lines.all(&mut each)).map(drop)
}

/// In the process: so that it never outlives its parent, however that ends. Until then it does this for each line that comes.
pub(crate) fn stop_with_input<S: 'static>(
    server: &mut Server<S>,
    mut on_line: impl FnMut() + Send + 'static,
) -> sidewire::Result<()> {
    let remote = server.remote()?;
    thread::spawn(move || {
        let lines = BufReader::new(Patient::new(io::stdin().lock())).split(b'\n');
        lines.map_while(Result::ok).for_each(|_line| on_line());
        let _ = remote.stop();
    });
    Ok(())
}
