//! Who starts a server, or leaves: one at a time for each endpoint.

use crate::endpoint::Endpoint;

/// What whoever holds the [`StartLock`](crate::StartLock) of an endpoint is at, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Busy {
    /// Not known, or not known yet.
    Unknown,
    /// Somebody starts a server, which is this process.
    Starting(u32),
    /// A server, which is this process, leaves.
    Leaving(u32),
}

#[cfg(unix)]
impl Busy {
    /// For whoever asks meanwhile.
    pub(crate) fn note(self) -> String {
        match self {
            Busy::Unknown => String::new(),
            Busy::Starting(pid) => format!("starting {pid}"),
            Busy::Leaving(pid) => format!("leaving {pid}"),
        }
    }

    pub(crate) fn read(note: &str) -> Busy {
        let Some((what, pid)) = note.split_once(' ') else { return Busy::Unknown };
        match (what, pid.parse()) {
            ("starting", Ok(pid)) => Busy::Starting(pid),
            ("leaving", Ok(pid)) => Busy::Leaving(pid),
            _ => Busy::Unknown,
        }
    }
}

/// What stands for an endpoint in the names of locks: of fixed length, and of no characters that mean anything. Two
/// that share one only wait for each other.
#[cfg(any(unix, windows))]
pub(crate) fn key(endpoint: &Endpoint) -> String {
    // However the host is written.
    let text = match endpoint {
        Endpoint::Tcp { port, .. } => format!("tcp:{port}"),
        other => other.to_string(),
    };
    // FNV-1a, which is the same in each build.
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn notes_are_read_as_they_were_written() {
        for busy in [Busy::Starting(1), Busy::Leaving(u32::MAX), Busy::Unknown] {
            assert_eq!(Busy::read(&busy.note()), busy);
        }
        assert_eq!(Busy::read("starting -1"), Busy::Unknown);
    }

    #[cfg(any(unix, windows))]
    #[test]
    fn endpoints_have_keys_of_their_own() {
        let key = |text: &str| key(&text.parse().unwrap());
        assert_eq!(key("tcp:127.0.0.1:80"), key("tcp:localhost:80"));
        assert_ne!(key("abstract:a"), key("abstract:b"));
        assert_eq!(key("abstract:a").len(), 16);
    }
}
