//! The log on standard error, which nobody needs to read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use env_logger::{Builder, Env, Target};

/// A bounded queue of lines, and a thread that writes them: whoever logs never waits. What finds
/// the queue full is dropped and counted. Dropping this gives the last lines a moment to leave.
pub(crate) struct Log(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// For the writing thread. Taken before anything is logged: by then there may be no descriptor left.
    stderr: Option<File>,
    writer: Writer,
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines dropped since the last that went through.
    lost: u64,
}

/// What the writing thread does. It is started with the first line.
#[derive(Default, PartialEq, Eq)]
enum Writer {
    #[default]
    Missing,
    Waiting,
    Writing,
}

/// Bytes that wait at most.
const CAPACITY: usize = 256 << 10;
/// How long the end of the program waits for the last lines.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Between two attempts on a standard error that does not block.
const RETRY: Duration = Duration::from_millis(10);

impl Log {
    /// From here on what is logged, and what panics say, goes through the queue.
    pub(crate) fn start() -> Log {
        let queue = Arc::new(Queue::default());
        queue.lock().stderr = sidewire_platform::standard_error().ok();
        Builder::from_env(Env::default().default_filter_or("warn"))
            .target(Target::Pipe(Box::new(Line(Arc::clone(&queue)))))
            .init();
        let panics = Arc::clone(&queue);
        std::panic::set_hook(Box::new(move |panic| panics.push(describe(panic).as_bytes())));
        Log(queue)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let state = self.0.lock();
        let is_busy = |state: &mut State| state.writer == Writer::Writing || !state.lines.is_empty();
        // A reader that has stopped holds nobody up.
        drop(self.0.changed.wait_timeout_while(state, LAST_WORDS, is_busy));
    }
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let text = panic.payload_as_str().unwrap_or("no text").escape_debug();
    format!("sidewire: thread '{}' panicked at {place}: {text}\n", thread.name().unwrap_or("?"))
}

/// env_logger's end of the queue. It writes a line at a time.
struct Line(Arc<Queue>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn push(self: &Arc<Self>, line: &[u8]) {
        let mut state = self.lock();
        if state.writer == Writer::Missing {
            let queue = Arc::clone(self);
            let thread = thread::Builder::new().name("log".into());
            let stderr = state.stderr.take().map_or_else(sidewire_platform::standard_error, Ok);
            let started = stderr.and_then(|stderr| thread.spawn(move || queue.write_to(stderr)));
            match started {
                Ok(_) => state.writer = Writer::Waiting,
                Err(_) => return state.lost += 1,
            }
        }
        if state.bytes + line.len() > CAPACITY {
            return state.lost += 1;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        drop(state);
        self.changed.notify_all();
    }

    /// What the thread does, as long as the program lives.
    fn write_to(&self, mut stderr: impl Write) {
        loop {
            let mut state = self.lock();
            state.writer = Writer::Waiting;
            self.changed.notify_all();
            let has_nothing = |state: &mut State| state.lines.is_empty();
            let mut state =
                self.changed.wait_while(state, has_nothing).unwrap_or_else(PoisonError::into_inner);
            state.writer = Writer::Writing;
            let lines = std::mem::take(&mut state.lines);
            let lost = std::mem::take(&mut state.lost);
            state.bytes = 0;
            drop(state);
            for line in &lines {
                write_all(&mut stderr, line);
            }
            if lost > 0 {
                write_all(&mut stderr, format!("sidewire: {lost} lines of the log were lost\n").as_bytes());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a line, or gives it up: there is nobody to be told.
fn write_all(stderr: &mut impl Write, mut line: &[u8]) {
    while !line.is_empty() {
        match stderr.write(line) {
            Ok(count) if count > 0 => line = &line[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a line only when it is let.
    struct Reader {
        turns: mpsc::Receiver<()>,
        read: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.turns.recv();
            let _ = self.read.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_stopped_costs_lines_and_no_time() {
        let queue = Arc::new(Queue::default());
        let ((turns, let_it), (read, have_read)) = (mpsc::channel(), mpsc::channel());
        queue.lock().writer = Writer::Waiting;
        let writer = Arc::clone(&queue);
        thread::spawn(move || writer.write_to(Reader { turns: let_it, read }));
        let line = [b'x'; 1024];
        let count = 3 * CAPACITY / line.len();
        for _ in 0..count {
            queue.push(&line);
        }
        assert!(queue.lock().bytes <= CAPACITY);
        drop(Log(Arc::clone(&queue)));
        drop(turns);
        // How many were lost is said more than once, if the writer comes late to the first of them.
        let (mut whole, mut lost) = (0, 0);
        while whole + lost < count {
            let line = have_read.recv_timeout(Duration::from_secs(20)).expect("a line");
            let text = String::from_utf8(line).expect("text");
            match text.strip_prefix("sidewire: ").and_then(|rest| rest.split_once(' ')) {
                Some((said, _)) => lost += said.parse::<usize>().unwrap(),
                None => whole += 1,
            }
        }
        assert!(whole + lost == count && lost > 0, "{whole} and {lost}");
    }
}
