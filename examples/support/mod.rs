//! What the examples have in common: output that can't hurt them. `println!` and `eprintln!` panic
//! where nobody reads any more or the disk is full, and wait where a reader has stopped.

#![allow(dead_code, reason = "each example uses its own part of this")]

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What an example's `main` makes of its result; `None`: the arguments were nonsense.
pub(crate) fn finish(name: &str, usage: &str, result: Option<Result<(), Box<dyn Error>>>) -> ExitCode {
    match result {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            complain(format_args!("{name}: {error}"));
            ExitCode::FAILURE
        }
        None => {
            complain(usage);
            ExitCode::from(2)
        }
    }
}

/// Says on standard error what is wrong. If that fails, nobody is left to tell.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// For clients: prints at once, into pipes and files too. That it could not is an error; but not that
/// whoever reads has had enough, as head(1) does.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), Box<dyn Error>> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|error| format!("standard output: {error}").into()),
    }
}

/// For servers: a thread prints, so that a reader who has stopped holds nobody up. What finds no room
/// meanwhile is dropped, and how much that was is printed when there is room again.
pub(crate) struct Printer {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
}

/// What is not printed yet.
#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    dropped: usize,
    state: State,
}

#[derive(Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The server has ended, and nothing more comes.
    Last,
    /// All is printed.
    Done,
}

/// Bytes that may wait.
const ROOM: usize = 16 << 20;
/// How long the end of a server waits for its last lines to be printed.
const LAST_LINES: Duration = Duration::from_secs(1);

impl Printer {
    pub(crate) fn new() -> io::Result<Printer> {
        let shared = Arc::<(Mutex<Waiting>, Condvar)>::default();
        let printer = Printer { shared: Arc::clone(&shared) };
        thread::Builder::new().name("printer".into()).spawn(move || print_all(&shared))?;
        Ok(printer)
    }

    pub(crate) fn print(&self, text: impl AsRef<[u8]>) {
        let (waiting, news) = &*self.shared;
        let (mut waiting, text) = (lock(waiting), text.as_ref());
        if waiting.dropped > 0 || waiting.text.len() + text.len() > ROOM {
            waiting.dropped += 1;
        } else {
            waiting.text.extend_from_slice(text);
        }
        news.notify_all();
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let (waiting, news) = &*self.shared;
        let mut waiting = lock(waiting);
        waiting.state = State::Last;
        news.notify_all();
        let _ = news.wait_timeout_while(waiting, LAST_LINES, |waiting| waiting.state != State::Done);
    }
}

fn print_all(shared: &(Mutex<Waiting>, Condvar)) {
    let (waiting, news) = shared;
    loop {
        let nothing_new = |waiting: &mut Waiting| waiting.text.is_empty() && waiting.state == State::Open;
        let mut now = news.wait_while(lock(waiting), nothing_new).unwrap_or_else(PoisonError::into_inner);
        if now.text.is_empty() {
            now.state = State::Done;
            return news.notify_all();
        }
        let (mut text, dropped) = (std::mem::take(&mut now.text), std::mem::take(&mut now.dropped));
        drop(now);
        if dropped > 0 {
            text.extend(format!("({dropped} messages were not printed)\n").into_bytes());
        }
        // That nobody reads it any more is no reason not to serve.
        let _ = write_patiently(&text);
    }
}

/// Waits as well where another program has made the terminal or the pipe non-blocking.
fn write_patiently(mut text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    loop {
        let result = if text.is_empty() { stdout.flush().map(|()| 0) } else { stdout.write(text) };
        match result {
            Ok(_) if text.is_empty() => return Ok(()),
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => text = &text[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
