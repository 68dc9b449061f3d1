//! What errors say, and what others make of them.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use sidewire_platform::EndpointError;

use super::{Error, Inner, Kind};
use sidewire_wire::Executed;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::InvalidInput(text) if text.is_empty() => f.write_str("this can't be done"),
            Kind::InvalidInput(text) => f.write_str(text),
            Kind::Unsupported => f.write_str("not on this system"),
            Kind::InUse => f.write_str("another server is there already"),
            Kind::NotListening => f.write_str("nobody listens there"),
            Kind::Refused { why, .. } if why.is_empty() => f.write_str("refused"),
            Kind::Refused { why, .. } => write!(f, "refused: {why}"),
            Kind::Version(text) | Kind::Protocol(text) => f.write_str(text),
            Kind::TimedOut | Kind::Hung => f.write_str("timed out"),
            Kind::PeerGone { why, .. } if why.is_empty() => f.write_str("the peer has gone"),
            Kind::PeerGone { why, .. } => write!(f, "the peer has gone: {why}"),
            Kind::Closed => f.write_str("this side has closed the connection"),
            Kind::Busy(text) => f.write_str(text),
            Kind::Full => f.write_str("too much waits for its loop already"),
            Kind::Stopped => f.write_str("it has stopped"),
            Kind::Answered { rc, payload, is_text, may_be_refusal } => {
                let what = if *may_be_refusal { "refused:" } else { "the server answered" };
                match is_text {
                    true => write!(f, "{what} {rc}: {}", String::from_utf8_lossy(payload).escape_debug()),
                    false => write!(f, "{what} {rc}"),
                }?;
                if *may_be_refusal { f.write_str(", by the server or by its handler") } else { Ok(()) }
            }
            Kind::OtherBuild { why, .. } => write!(f, "the server is of another build: {why}"),
            Kind::NotStarted => f.write_str("its program did not come to serve"),
            Kind::Os => f.write_str("the system failed"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, endpoint, msg_type, kind, note, source, .. } = &*self.0;
        if operation.is_empty() {
            return kind.fmt(f);
        }
        f.write_str(operation)?;
        if let Some(endpoint) = endpoint {
            write!(f, " {endpoint}")?;
        }
        if let Some(msg_type) = msg_type {
            write!(f, " (type {msg_type})")?;
        }
        match (kind, source) {
            (Kind::Os | Kind::InvalidInput(_), Some(source)) => write!(f, ": {source}"),
            // The system's own words for these say nothing more.
            (Kind::TimedOut | Kind::InUse, Some(source)) if source.get_ref().is_none() => {
                write!(f, ": {kind}")
            }
            (kind, Some(source)) => write!(f, ": {kind} ({source})"),
            (kind, None) => write!(f, ": {kind}"),
        }?;
        if !note.is_empty() {
            write!(f, ": {note}")?;
        }
        // Whoever reads of a call that the connection's end took along asks this next.
        let is_lost = matches!(kind, Kind::PeerGone { .. } | Kind::Closed | Kind::NotListening);
        match (msg_type, self.executed()) {
            (Some(_), Executed::Never) if is_lost => f.write_str("; it was not executed"),
            (Some(_), Executed::Perhaps) if is_lost => f.write_str("; it may have been executed"),
            _ => Ok(()),
        }?;
        if !self.last_words().is_empty() {
            f.write_str("\nits last words:")?;
        }
        self.last_words().iter().try_for_each(|line| write!(f, "\n  | {line}"))
    }
}

impl Error {
    /// Why, without what was to be done and what was said last: for one line.
    pub(crate) fn reason(&self) -> String {
        let Inner { kind, note, source, .. } = &*self.0;
        let mut text = match (kind, source) {
            (Kind::PeerGone { why, .. }, _) if !why.is_empty() => why.clone(),
            (Kind::Os, Some(source)) => source.to_string(),
            (kind, _) => kind.to_string(),
        };
        if !note.is_empty() {
            text.push_str(": ");
            text.push_str(note);
        }
        text
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

impl From<EndpointError> for Error {
    fn from(error: EndpointError) -> Error {
        let kind = Kind::InvalidInput(error.to_string());
        Error::assemble("", None, kind, None)
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Error {
        match never {}
    }
}

/// Keeps the operating system's error kind, or the closest there is.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let from_source = error.0.source.as_deref();
        let kind = match (&error.0.kind, from_source) {
            (_, Some(source)) => source.kind(),
            (Kind::InvalidInput(_), _) => io::ErrorKind::InvalidInput,
            (Kind::Unsupported | Kind::Version(_) | Kind::OtherBuild { .. }, _) => io::ErrorKind::Unsupported,
            (Kind::InUse, _) => io::ErrorKind::AddrInUse,
            (Kind::NotListening, _) => io::ErrorKind::ConnectionRefused,
            (Kind::Refused { .. } | Kind::Answered { may_be_refusal: true, .. }, _) => {
                io::ErrorKind::PermissionDenied
            }
            (Kind::TimedOut | Kind::Hung, _) => io::ErrorKind::TimedOut,
            (Kind::PeerGone { .. }, _) => io::ErrorKind::UnexpectedEof,
            (Kind::Closed, _) => io::ErrorKind::ConnectionAborted,
            (Kind::Full | Kind::Busy(_), _) => io::ErrorKind::WouldBlock,
            (Kind::Stopped, _) => io::ErrorKind::NotConnected,
            (Kind::Protocol(_), _) => io::ErrorKind::InvalidData,
            (Kind::Answered { .. } | Kind::NotStarted | Kind::Os, _) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
