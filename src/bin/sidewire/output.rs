//! Standard output and standard error: whatever they are, nothing panics, and nothing is lost in silence.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Says on standard error what went wrong. If that fails there is nobody left to tell: the exit
/// status says it all the same.
pub(crate) fn complain(error: &dyn Display) {
    write_error(&format!("sidewire: {error}\n"));
}

/// How long an unwilling standard error may hold us up.
const ERROR_PATIENCE: Duration = Duration::from_secs(1);

fn write_error(text: &str) {
    let until = Some(Instant::now() + ERROR_PATIENCE);
    // In one piece, so that what several processes say does not mix.
    let _ = Patient { file: io::stderr().lock(), until }.write_all(text.as_bytes());
}

/// What the reader of standard output has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    Whole,
    /// The reader had enough and closed its end, as head(1) does. Nobody misses anything.
    ReaderLeft,
    /// Not all, and it was said so on standard error.
    Lost,
}

impl Printed {
    /// The exit status of a command that has done all but that.
    pub(crate) fn status(self) -> ExitCode {
        match self {
            Printed::Whole | Printed::ReaderLeft => ExitCode::SUCCESS,
            Printed::Lost => ExitCode::from(7),
        }
    }
}

/// Writes to standard output, for as long as its reader takes.
pub(crate) fn print(bytes: &[u8]) -> Printed {
    if bytes.is_empty() {
        return Printed::Whole;
    }
    if !sidewire_platform::has_standard_output() {
        complain(&"standard output: it is closed");
        return Printed::Lost;
    }
    let mut out = Patient::new(io::stdout().lock());
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Printed::Whole,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Printed::ReaderLeft,
        Err(error) => {
            complain(&format!("standard output: {error}"));
            Printed::Lost
        }
    }
}

pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// What clap has to say: help on standard output, a usage error on standard error. Returns the
/// exit status.
pub(crate) fn print_usage(usage: &clap::Error) -> u8 {
    let text = usage.render();
    let text = |on_terminal| if on_terminal { text.ansi().to_string() } else { text.to_string() };
    if usage.use_stderr() {
        write_error(&text(io::stderr().is_terminal()));
    } else if print(text(is_terminal()).as_bytes()) == Printed::Lost {
        return 7;
    }
    u8::try_from(usage.exit_code()).unwrap_or(2)
}

/// Standard input or output of which somebody may have made the open file non-blocking: another process
/// that shares it, for instance. Waits all the same.
pub(crate) struct Patient<T> {
    file: T,
    /// `None`: for as long as it takes.
    until: Option<Instant>,
}

impl<T> Patient<T> {
    pub(crate) fn new(file: T) -> Patient<T> {
        Patient { file, until: None }
    }

    /// Tries again: nothing tells when it no longer would block, on terminals, pipes and files of
    /// every system.
    fn persist<R>(&mut self, mut attempt: impl FnMut(&mut T) -> io::Result<R>) -> io::Result<R> {
        loop {
            match attempt(&mut self.file) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.until.is_some_and(|until| until <= Instant::now()) {
                        return Err(error);
                    }
                    std::thread::sleep(POLL);
                }
                result => return result,
            }
        }
    }
}

/// Between two tries.
const POLL: Duration = Duration::from_millis(10);

impl<T: Read> Read for Patient<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.persist(|file| file.read(bytes))
    }
}

impl<T: Write> Write for Patient<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.persist(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.persist(T::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does a few bytes at every third try.
    struct Reluctant {
        tries: usize,
        bytes: Vec<u8>,
    }

    impl Reluctant {
        fn allow(&mut self, length: usize) -> io::Result<usize> {
            self.tries += 1;
            match self.tries % 3 {
                0 => Ok(length.min(4)),
                1 => Err(ErrorKind::WouldBlock.into()),
                _ => Err(ErrorKind::Interrupted.into()),
            }
        }
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.allow(bytes.len())?;
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Reluctant {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let count = self.allow(bytes.len().min(self.bytes.len()))?;
            self.bytes.drain(..count).zip(bytes).for_each(|(from, to)| *to = from);
            Ok(count)
        }
    }

    #[test]
    fn nothing_is_lost_or_repeated() {
        let mut file = Patient::new(Reluctant { tries: 0, bytes: Vec::new() });
        file.write_all(b"one, two, three").unwrap();
        assert_eq!(file.file.bytes, b"one, two, three");
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"one, two, three");
    }

    #[test]
    fn patience_may_end() {
        let file = Reluctant { tries: 0, bytes: Vec::new() };
        let mut file = Patient { file, until: Some(Instant::now()) };
        assert_eq!(file.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
