//! How errors are made.

use std::io;
use std::sync::Arc;

use sidewire_platform::Endpoint;

use super::{Error, Inner, Kind, RefusedBy};
use crate::reactor::mailbox::Unposted;
use sidewire_wire::{Executed, ProtocolError};

const START: &str = "start a server on";

impl Error {
    pub(crate) fn new(operation: &'static str, endpoint: &Endpoint, kind: Kind) -> Error {
        Error::assemble(operation, Some(endpoint.clone()), kind, None)
    }

    pub(super) fn assemble(
        operation: &'static str,
        endpoint: Option<Endpoint>,
        kind: Kind,
        source: Option<Arc<io::Error>>,
    ) -> Error {
        let (msg_type, note, executed, lost, ended) = (None, String::new(), None, None, None);
        Error(Arc::new(Inner { operation, endpoint, msg_type, kind, note, source, executed, lost, ended }))
    }

    pub(crate) fn os(operation: &'static str, endpoint: &Endpoint, source: io::Error) -> Error {
        let kind = match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Kind::NotListening,
            io::ErrorKind::PermissionDenied => Kind::Refused { by: RefusedBy::System, why: String::new() },
            io::ErrorKind::AddrInUse => Kind::InUse,
            io::ErrorKind::TimedOut => Kind::TimedOut,
            io::ErrorKind::Unsupported => Kind::Unsupported,
            io::ErrorKind::InvalidInput => Kind::InvalidInput(String::new()),
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Kind::PeerGone { executed: Executed::Never, why: String::new() }
            }
            _ => Kind::Os,
        };
        Error::assemble(operation, Some(endpoint.clone()), kind, Some(Arc::new(source)))
    }

    /// The same for opening an endpoint of our own, where "not found" says nothing of a server.
    pub(crate) fn bind(endpoint: &Endpoint, source: io::Error) -> Error {
        let mut error = Error::os("listen on", endpoint, source);
        if matches!(error.0.kind, Kind::NotListening | Kind::TimedOut) {
            error.inner_mut().kind = Kind::Os;
        }
        error
    }

    /// A program can't be started.
    pub(crate) fn not_started(helper: &Endpoint, source: io::Error) -> Error {
        Error::assemble("start", Some(helper.clone()), Kind::Os, Some(Arc::new(source)))
    }

    /// An operating system's error that concerns no endpoint.
    pub(crate) fn system(operation: &'static str, source: io::Error) -> Error {
        let kind = match source.kind() {
            io::ErrorKind::Unsupported => Kind::Unsupported,
            _ => Kind::Os,
        };
        Error::assemble(operation, None, kind, Some(Arc::new(source)))
    }

    /// The program of a server can't be started.
    pub(crate) fn server_not_started(endpoint: &Endpoint, source: io::Error) -> Error {
        Error::assemble(START, Some(endpoint.clone()), Kind::NotStarted, Some(Arc::new(source)))
    }

    /// A server was to be started, and this went wrong.
    pub(crate) fn starting(endpoint: &Endpoint, kind: Kind) -> Error {
        Error::new(START, endpoint, kind)
    }

    /// The same of what the system says, which has nothing to do with who listens.
    pub(crate) fn starting_failed(endpoint: &Endpoint, source: io::Error) -> Error {
        Error::assemble(START, Some(endpoint.clone()), Kind::Os, Some(Arc::new(source)))
    }

    /// The loop of our own server was not reached.
    pub(crate) fn unreached(why: Unposted) -> Error {
        let operation = "reach the server";
        match why {
            Unposted::Full => Error::assemble(operation, None, Kind::Full, None),
            Unposted::Closed => Error::assemble(operation, None, Kind::Stopped, None),
            Unposted::NoMemory => Error::system(operation, io::ErrorKind::OutOfMemory.into()),
            Unposted::NotWoken(error) => Error::system(operation, error),
        }
    }

    /// Of a server's call to a client, whose endpoint is not known any more when it has gone.
    pub(crate) fn of_server(operation: &'static str, endpoint: Option<&Endpoint>, kind: Kind) -> Error {
        Error::assemble(operation, endpoint.cloned(), kind, None)
    }

    /// The caller misused the API, in something that concerns no endpoint.
    pub(crate) fn invalid(operation: &'static str, text: &str) -> Error {
        let kind = Kind::InvalidInput(text.to_owned());
        Error::assemble(operation, None, kind, None)
    }

    /// There is no memory for what was to be sent, or for what came: then the request was `executed`.
    pub(crate) fn no_memory(operation: &'static str, endpoint: &Endpoint, executed: Executed) -> Error {
        Error::os(operation, endpoint, io::ErrorKind::OutOfMemory.into()).with_executed(executed)
    }

    pub(crate) fn protocol(operation: &'static str, endpoint: &Endpoint, source: &ProtocolError) -> Error {
        let text = source.to_string();
        let kind = match source {
            ProtocolError::NoCommonVersion { .. } | ProtocolError::FeatureMissing(_) => Kind::Version(text),
            ProtocolError::Refused { rc, .. } => Kind::Refused { by: RefusedBy::Server(*rc), why: text },
            ProtocolError::TimedOut(_) => Kind::TimedOut,
            ProtocolError::CutOff => Kind::PeerGone { executed: Executed::Perhaps, why: text },
            _ => Kind::Protocol(text),
        };
        Error::new(operation, endpoint, kind)
    }
}
