//! Waiting inside a system call, for a limited time.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags};

use crate::deadline::Deadline;

/// The SO_RCVTIMEO or SO_SNDTIMEO that a blocking socket has (socket(7)), in microseconds; 0 is
/// none. Remembered so that equal timeouts in a row cost one system call each, not two.
#[derive(Debug)]
pub(super) struct SocketTimeout {
    which: Timeout,
    micros: AtomicU64,
}

/// Whether a call may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Yes,
    No,
}

impl Wait {
    /// The flag that says so (recv(2)).
    pub(super) fn recv_flags(self) -> RecvFlags {
        match self {
            Wait::Yes => RecvFlags::empty(),
            Wait::No => RecvFlags::DONTWAIT,
        }
    }

    /// The same for send(2).
    pub(super) fn send_flags(self) -> SendFlags {
        match self {
            Wait::Yes => SendFlags::empty(),
            Wait::No => SendFlags::DONTWAIT,
        }
    }
}

impl SocketTimeout {
    /// Of a socket that is new.
    pub(super) fn new(which: Timeout) -> SocketTimeout {
        SocketTimeout { which, micros: AtomicU64::new(0) }
    }

    /// Makes a call that may block, at most for `timeout`; then it fails with [`Errno::AGAIN`].
    ///
    /// A process that was stopped, or that did not get to run, may wake up long behind its deadline.
    /// What it waited for may have come in time: so the last call is one that does not wait, behind
    /// the deadline.
    #[inline]
    pub(super) fn bound<T>(
        &self,
        socket: impl AsFd,
        timeout: Option<Duration>,
        mut call: impl FnMut(Wait) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        if timeout == Some(Duration::ZERO) {
            return retry_on_intr(|| call(Wait::No));
        }
        let deadline = Deadline::after(timeout);
        let mut wait = timeout;
        loop {
            self.set(&socket, wait)?;
            match call(Wait::Yes) {
                // With a timeout set, any signal handler ends the call, and so does a stop (signal(7)).
                Err(Errno::INTR | Errno::AGAIN) => match deadline.remaining() {
                    Some(Duration::ZERO) => return retry_on_intr(|| call(Wait::No)),
                    left => wait = left,
                },
                done => return done,
            }
        }
    }

    fn set(&self, socket: impl AsFd, timeout: Option<Duration>) -> rustix::io::Result<()> {
        let micros = timeout.map_or(0, micros);
        if self.micros.load(Ordering::Relaxed) != micros {
            let value = (micros != 0).then(|| Duration::from_micros(micros));
            set_socket_timeout(socket, self.which, value)?;
            self.micros.store(micros, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// At least one: for the kernel, zero means without end. Rounded up: never to return too early.
pub(super) fn micros(timeout: Duration) -> u64 {
    let part = u64::from(timeout.subsec_nanos().div_ceil(1000));
    timeout.as_secs().saturating_mul(1_000_000).saturating_add(part).max(1)
}

/// A timeout of ours is EAGAIN here. ETIMEDOUT is TCP giving up on a peer, and must not look like it.
pub(super) fn error_of(error: Errno) -> io::Error {
    match error {
        Errno::AGAIN => io::ErrorKind::TimedOut.into(),
        Errno::TIMEDOUT => {
            io::Error::new(io::ErrorKind::ConnectionAborted, "the peer no longer answers (ETIMEDOUT)")
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says of each call whether it may wait, and fails until the answers are used up.
    fn calls(timeout: Duration, answers: &[(Duration, Errno)]) -> (Vec<Wait>, rustix::io::Result<()>) {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let (mut seen, mut answers) = (Vec::new(), answers.iter());
        let result = SocketTimeout::new(Timeout::Recv).bound(&socket, Some(timeout), |wait| {
            seen.push(wait);
            let Some((taken, error)) = answers.next() else { return Ok(()) };
            std::thread::sleep(*taken);
            Err(*error)
        });
        (seen, result)
    }

    #[test]
    fn the_last_look_is_behind_the_deadline() {
        let (time, long) = (Duration::from_millis(10), Duration::from_millis(20));
        // Stopped for longer than the timeout; or told too late that the time was up.
        for error in [Errno::INTR, Errno::AGAIN] {
            assert_eq!(calls(time, &[(long, error)]), (vec![Wait::Yes, Wait::No], Ok(())));
        }
        let nothing = [(long, Errno::INTR), (Duration::ZERO, Errno::AGAIN)];
        assert_eq!(calls(time, &nothing), (vec![Wait::Yes, Wait::No], Err(Errno::AGAIN)));
        // Interrupted before: it goes on waiting.
        let early = [(Duration::ZERO, Errno::INTR)];
        assert_eq!(calls(Duration::from_secs(60), &early), (vec![Wait::Yes, Wait::Yes], Ok(())));
        assert_eq!(calls(Duration::ZERO, &nothing[1..]), (vec![Wait::No], Err(Errno::AGAIN)));
    }

    #[test]
    fn timeouts_are_rounded_up_and_never_to_none() {
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_nanos(1001)), 2);
        assert_eq!(micros(Duration::MAX), u64::MAX);
    }
}
