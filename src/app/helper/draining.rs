//! Reads what a helper prints, all the time, so that it never waits for anybody to do so.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::telling::Telling;
use super::words::{LastWords, Line, Lines};

/// What the log's lines are found by.
const TARGET: &str = "sidewire::helper";
/// Bytes that one read takes: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// The streams of one run of a helper, of which each is read on a thread of its own.
#[derive(Debug, Default)]
pub(in crate::app) struct Draining {
    pub(in crate::app) words: LastWords,
    open: Mutex<usize>,
    has_ended: Condvar,
}

impl Draining {
    /// Reads a stream to its end.
    pub(in crate::app) fn drain(self: &Arc<Self>, name: &str, stream: File) -> io::Result<()> {
        let (draining, name) = (Arc::clone(self), name.to_owned());
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let spawned = thread::Builder::new().name("sidewire-words".into()).spawn(move || {
            read(&name, stream, &draining.words);
            draining.end_one();
        });
        if spawned.is_err() {
            self.end_one();
        }
        spawned.map(drop)
    }

    /// Waits until all are at their end. Somebody whom the helper has started may hold one open for longer.
    pub(in crate::app) fn wait(&self, limit: Duration) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.has_ended.wait_timeout_while(open, limit, |open| *open > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn end_one(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.has_ended.notify_all();
    }
}

fn read(name: &str, mut stream: File, words: &LastWords) {
    let (mut chunk, mut lines, mut telling) = (vec![0; CHUNK], Lines::default(), Telling::default());
    let mut tell = |line: &Line| {
        if log::log_enabled!(target: TARGET, log::Level::Info)
            && let Some(left_out) = telling.next(Instant::now())
        {
            if left_out > 0 {
                log::warn!(target: TARGET, "{name}: {left_out} lines were left out here");
            }
            log::info!(target: TARGET, "{name}: {}", line.escaped());
        }
    };
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => lines.take(&chunk[..count], words, &mut tell),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                log::debug!("{name}: what it prints can't be read: {error}");
                break;
            }
        }
    }
    lines.end(words, &mut tell);
    if telling.left_out() > 0 {
        log::warn!(target: TARGET, "{name}: {} lines were left out here", telling.left_out());
    }
}
