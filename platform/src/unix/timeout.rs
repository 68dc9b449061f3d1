//! Waiting inside a system call, for a limited time.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::deadline::Deadline;

/// The SO_RCVTIMEO or SO_SNDTIMEO that a blocking socket has (socket(7)), in microseconds; 0 is
/// none. Remembered so that equal timeouts in a row cost one system call each, not two.
#[derive(Debug)]
pub(super) struct SocketTimeout {
    which: Timeout,
    micros: AtomicU64,
}

impl SocketTimeout {
    /// Of a socket that is new.
    pub(super) fn new(which: Timeout) -> SocketTimeout {
        SocketTimeout { which, micros: AtomicU64::new(0) }
    }

    /// Makes a call that may block, at most for `timeout`; then it fails with [`Errno::AGAIN`]. Not
    /// for zero, which a flag of the call itself is for.
    pub(super) fn bound<T>(
        &self,
        socket: impl AsFd,
        timeout: Option<Duration>,
        mut call: impl FnMut() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let deadline = Deadline::after(timeout);
        let mut wait = timeout;
        loop {
            self.set(&socket, wait)?;
            match call() {
                Err(Errno::INTR) if deadline.has_passed() => return Err(Errno::AGAIN),
                // With a timeout set, any signal handler ends the call (signal(7)).
                Err(Errno::INTR) => wait = deadline.remaining(),
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
    u64::try_from(timeout.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
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

    #[test]
    fn timeouts_are_rounded_up_and_never_to_none() {
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_nanos(1001)), 2);
        assert_eq!(micros(Duration::MAX), u64::MAX);
    }
}
