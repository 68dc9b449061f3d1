//! Faults by script: what the next system calls of a thread answer, for tests only.
//!
//! A wrapper of a system call asks here first, in a line that only unit tests compile:
//!
//! ```text
//! #[cfg(test)]
//! fault::strikes(Call::Accept)?;
//! ```
//!
//! A test says what happens, and everything that it says has to happen before its script is dropped:
//!
//! ```text
//! let script = fault::script(&[(Call::Accept, Answer::Fails(EMFILE)), (Call::Accept, Answer::Passes)]);
//! ```
//!
//! Calls of other kinds, those behind the end of a script and those of other threads go to the system.
//! The numbers are the system's own, so each side has tests of its own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;

/// A kind of system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), allow(dead_code, reason = "some are made on Unix only"))]
pub(crate) enum Call {
    /// accept(2); on Windows also the creation of one more pipe instance.
    Accept,
    Bind,
    Connect,
    Read,
    Write,
    /// A wait until a socket takes more (poll(2)).
    Wait,
    /// flock(2).
    Lock,
    /// The other lock, by fcntl(2).
    RecordLock,
    /// fchmod(2) of a socket without a name.
    SetMode,
    /// The reservation of a file's room (fallocate(2)).
    Reserve,
}

/// What a call answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It fails with this error of the system, and does nothing.
    Fails(i32),
    /// It is made, but with so many bytes at most.
    Short(usize),
    /// It is made as if nobody had said anything.
    Passes,
}

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "it is, and some clippies do not see it")]
    static SCRIPT: RefCell<VecDeque<(Call, Answer)>> = const { RefCell::new(VecDeque::new()) };
}

/// What was said, until this is dropped.
#[must_use = "a script ends when it is dropped"]
pub(crate) struct Script(PhantomData<*const ()>);

/// Each call of a kind takes the first answer of its kind that is left.
pub(crate) fn script(answers: &[(Call, Answer)]) -> Script {
    SCRIPT.with_borrow_mut(|script| {
        assert!(script.is_empty(), "there is a script already: {script:?}");
        script.extend(answers);
    });
    Script(PhantomData)
}

impl Drop for Script {
    fn drop(&mut self) {
        let left = SCRIPT.take();
        assert!(left.is_empty() || std::thread::panicking(), "these calls were not made: {left:?}");
    }
}

/// An error of the system, for whichever type the wrapper has.
#[derive(Debug)]
pub(crate) struct Fault(i32);

impl From<Fault> for io::Error {
    fn from(Fault(code): Fault) -> io::Error {
        io::Error::from_raw_os_error(code)
    }
}

#[cfg(unix)]
impl From<Fault> for rustix::io::Errno {
    fn from(Fault(code): Fault) -> rustix::io::Errno {
        rustix::io::Errno::from_raw_os_error(code)
    }
}

/// Asked before a call that moves no bytes.
pub(crate) fn strikes(call: Call) -> Result<(), Fault> {
    most(call).map(drop)
}

/// Asked before bytes are written: these are.
pub(crate) fn cut(call: Call, bytes: &[u8]) -> Result<&[u8], Fault> {
    Ok(&bytes[..most(call)?.min(bytes.len())])
}

/// Asked before bytes are read: so many may be.
pub(crate) fn most(call: Call) -> Result<usize, Fault> {
    let answer = SCRIPT.with_borrow_mut(|script| {
        let next = script.iter().position(|(kind, _)| *kind == call)?;
        script.remove(next)
    });
    match answer {
        Some((_, Answer::Fails(code))) => Err(Fault(code)),
        Some((_, Answer::Short(bytes))) => Ok(bytes),
        Some((_, Answer::Passes)) | None => Ok(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_by_kind_and_in_order() {
        let script = script(&[
            (Call::Read, Answer::Short(2)),
            (Call::Write, Answer::Fails(5)),
            (Call::Read, Answer::Passes),
            (Call::Write, Answer::Short(1)),
        ]);
        assert_eq!(cut(Call::Write, b"abc").map_err(io::Error::from).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(most(Call::Read).unwrap(), 2);
        assert_eq!(cut(Call::Write, b"abc").unwrap(), b"a");
        strikes(Call::Connect).unwrap();
        std::thread::spawn(|| assert_eq!(most(Call::Read).unwrap(), usize::MAX)).join().unwrap();
        assert_eq!(most(Call::Read).unwrap(), usize::MAX);
        drop(script);
        assert_eq!(cut(Call::Write, b"abc").unwrap(), b"abc");
    }

    #[test]
    #[should_panic(expected = "were not made")]
    fn what_is_left_of_a_script_is_told() {
        drop(script(&[(Call::Accept, Answer::Passes)]));
    }
}
