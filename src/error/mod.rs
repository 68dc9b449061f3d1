//! The one public error: what it knows, and how it is asked. `making` is how it comes about, `words` what it says.

mod making;
mod words;

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;

use sidewire_platform::Endpoint;

use sidewire_wire::reconnecting::Lost;
use sidewire_wire::{App, Executed, ResultCode};

/// A `Result` with Sidewire's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, doing what, on which endpoint.
///
/// Opaque, so that it can grow; ask it with the `is_…` methods. [`std::error::Error::source`]
/// gives the operating system's error where there is one, and it converts to [`io::Error`].
///
/// Its `Debug` is its `Display`, so that a `main` that returns it, boxed or not, ends with a sentence.
/// A clone is cheap: it is the same error.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

/// What all clones of an error share.
#[derive(Clone)]
struct Inner {
    operation: &'static str,
    endpoint: Option<Endpoint>,
    /// Of the call that it is about.
    msg_type: Option<u16>,
    kind: Kind,
    /// Who is at the other end, and what to do next; empty if there is nothing to say.
    note: String,
    /// The operating system's own error, which can't be cloned.
    source: Option<Arc<io::Error>>,
    /// Whether the request behind this may have been executed, where more is known of it than `kind` tells.
    executed: Option<Executed>,
    /// If the request was lost with its connection.
    lost: Option<Lost>,
    /// If a helper's process has ended.
    ended: Option<Arc<Ended>>,
}

/// What is known of a process that has ended.
#[derive(Clone, Debug)]
struct Ended {
    /// `None`: it never ran, or nobody knows.
    status: Option<ExitStatus>,
    /// Lines, escaped.
    last_words: Vec<String>,
}

/// What kind of thing went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The caller misused the API.
    InvalidInput(String),
    /// This system does not have such endpoints.
    Unsupported,
    /// Somebody else serves there.
    InUse,
    /// Nobody is there.
    NotListening,
    /// Policy, ours or theirs, says no; or the server is full.
    Refused {
        by: RefusedBy,
        why: String,
    },
    /// No protocol version, or no layout, in common.
    Version(String),
    TimedOut,
    /// Somebody is there, but did not say hello in time.
    Hung,
    /// The connection ended.
    PeerGone {
        executed: Executed,
        why: String,
    },
    /// We have closed the connection ourselves.
    Closed,
    /// Too much waits for the server's loop already.
    Full,
    /// Too much waits for the peer already.
    Busy(String),
    /// Our own server has stopped.
    Stopped,
    /// The peer broke the protocol.
    Protocol(String),
    /// The server is not of the build that we want.
    OtherBuild {
        theirs: Option<App>,
        why: String,
    },
    /// Its program could not be started, or has ended before it served.
    NotStarted,
    /// The server answered with a result code other than 0.
    Answered {
        rc: ResultCode,
        payload: Vec<u8>,
        is_text: bool,
        /// Where there is no handshake, a refusal looks like the answer of a handler.
        may_be_refusal: bool,
    },
    /// The operating system failed.
    Os,
}

/// By which rule a connection was [refused](Error::is_refused).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedBy {
    /// The server's, with this code: [`ResultCode::NOT_PERMITTED`], its [`Access`](crate::Access) does not admit
    /// this process; [`ResultCode::BUSY`], its limits leave no room; [`ResultCode::SHUTTING_DOWN`], it ends.
    Server(ResultCode),
    /// The system's: the socket's file or the pipe is not for this user.
    System,
    /// Our own [`Access`](crate::Access), which does not admit that server.
    OurAccess,
    /// The system's, since whoever holds the name runs elevated and we do not (Windows): of
    /// [`SingleInstance`](crate::SingleInstance).
    Elevated,
}

impl Error {
    /// What was to be done: `"connect to"`, `"call"`. Empty if that says nothing.
    #[must_use]
    pub fn operation(&self) -> &str {
        self.0.operation
    }

    /// The endpoint that it concerns.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.0.endpoint.as_ref()
    }

    /// The message type of the call that it concerns.
    #[must_use]
    pub fn msg_type(&self) -> Option<u16> {
        self.0.msg_type
    }

    /// Whether the caller asked for something that can't be: a bad endpoint, a payload over the
    /// limit, an unsafe combination of options.
    #[must_use]
    pub fn is_invalid_input(&self) -> bool {
        matches!(self.0.kind, Kind::InvalidInput(_))
    }

    /// Whether this system does not have endpoints of that scheme.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.0.kind == Kind::Unsupported
    }

    /// Whether another live server holds the endpoint.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.0.kind == Kind::InUse
    }

    /// Whether nobody listens there.
    #[must_use]
    pub fn is_not_listening(&self) -> bool {
        self.0.kind == Kind::NotListening
    }

    /// Whether policy says no: the server refused us, or we refused the server.
    ///
    /// Where there is no handshake, in the classic layout and over datagrams, a refusal comes as the
    /// reply. A handler may have answered with the same code: then this is `true`, and
    /// [`executed`](Error::executed) says [`Executed::Perhaps`].
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.0.kind, Kind::Refused { .. } | Kind::Answered { may_be_refusal: true, .. })
    }

    /// By which rule, if it was [refused](Error::is_refused).
    #[must_use]
    pub fn refused_by(&self) -> Option<RefusedBy> {
        match self.0.kind {
            Kind::Refused { by, .. } => Some(by),
            Kind::Answered { may_be_refusal: true, rc, .. } => Some(RefusedBy::Server(rc)),
            _ => None,
        }
    }

    /// Whether the two sides have no protocol version in common.
    #[must_use]
    pub fn is_version_mismatch(&self) -> bool {
        matches!(self.0.kind, Kind::Version(_))
    }

    /// Whether the time was up. A request that was on its way may have been executed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, Kind::TimedOut | Kind::Hung)
    }

    /// Whether a process is there that took the connection and said no hello in time: it hangs, or speaks
    /// something else. Of [`SingleInstance`](crate::SingleInstance) also, whether the app of the instance that runs
    /// did nothing in time. This is a [timeout](Error::is_timeout), too.
    #[must_use]
    pub fn is_hung(&self) -> bool {
        self.0.kind == Kind::Hung
    }

    /// Whether the other side has gone. See [`executed`](Error::executed).
    #[must_use]
    pub fn is_peer_gone(&self) -> bool {
        matches!(self.0.kind, Kind::PeerGone { .. })
    }

    /// Whether too much waits for our own server's loop already, or for the client that the server asks: it may
    /// be tried again a little later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.0.kind, Kind::Full | Kind::Busy(_))
    }

    /// Whether our own server has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.kind == Kind::Stopped
    }

    /// Whether this side has closed the connection itself. See [`executed`](Error::executed).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.kind == Kind::Closed
    }

    /// Whether the peer broke the protocol: it speaks something else, or is broken; or the two
    /// have no version in common.
    #[must_use]
    pub fn is_protocol(&self) -> bool {
        matches!(self.0.kind, Kind::Protocol(_) | Kind::Version(_))
    }

    /// Whether the server is not of the [build that was asked for](crate::Connect::build). The text names both; see
    /// [`server_app`](Error::server_app).
    #[must_use]
    pub fn is_other_build(&self) -> bool {
        matches!(self.0.kind, Kind::OtherBuild { .. })
    }

    /// What the server says of itself that is [of another build](Error::is_other_build), if it says anything.
    #[must_use]
    pub fn server_app(&self) -> Option<&App> {
        match &self.0.kind {
            Kind::OtherBuild { theirs, .. } => theirs.as_ref(),
            _ => None,
        }
    }

    /// Whether the server's program, which was [to be started](crate::Client::connect_or_start), could not be, or has
    /// ended before it served: see [`exit_status`](Error::exit_status).
    #[must_use]
    pub fn is_not_started(&self) -> bool {
        self.0.kind == Kind::NotStarted
    }

    /// What is known of the request behind this error: [`Executed::Never`] means that it certainly was not
    /// executed and will not be, so that it can be sent again.
    #[must_use]
    pub fn executed(&self) -> Executed {
        self.0.executed.unwrap_or(match &self.0.kind {
            Kind::PeerGone { executed, .. } => *executed,
            Kind::TimedOut | Kind::Answered { .. } | Kind::Protocol(_) | Kind::Closed => Executed::Perhaps,
            _ => Executed::Never,
        })
    }

    /// The result code, other than 0, that the server answered with.
    #[must_use]
    pub fn result_code(&self) -> Option<ResultCode> {
        match &self.0.kind {
            Kind::Answered { rc, .. } => Some(*rc),
            _ => None,
        }
    }

    /// The bytes that came with [`result_code`](Error::result_code).
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.0.kind {
            Kind::Answered { payload, .. } => payload,
            _ => &[],
        }
    }

    /// Whether those bytes are no data but a text that explains the code (v1).
    #[must_use]
    pub fn is_explanation(&self) -> bool {
        matches!(self.0.kind, Kind::Answered { is_text: true, .. })
    }

    /// With what status the helper, or the server's program, has ended that this is about: its exit code, or the
    /// signal that ended it. See [`Helper`](crate::Helper) and [`is_not_started`](Error::is_not_started). `None` if it has not, or was never started.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.0.ended.as_ref()?.status
    }

    /// What the helper that this is about has printed last: up to 20 lines of its standard output and its standard
    /// error, in the order in which they came. Control characters are escaped, and long lines are cut. `Display`
    /// shows them, too.
    #[must_use]
    pub fn last_words(&self) -> &[String] {
        self.0.ended.as_ref().map_or(&[], |ended| &ended.last_words)
    }

    /// Of a program that has ended, or is about to.
    pub(crate) fn with_end(mut self, status: Option<ExitStatus>, last_words: Vec<String>) -> Error {
        self.inner_mut().ended = Some(Arc::new(Ended { status, last_words }));
        self
    }

    /// At this endpoint, unless it is known at which.
    #[cfg(feature = "serde")]
    pub(crate) fn at(mut self, endpoint: &Endpoint) -> Error {
        if self.0.endpoint.is_none() {
            self.inner_mut().endpoint = Some(endpoint.clone());
        }
        self
    }

    /// Of a call of this type, whatever it is that has failed for it.
    pub(crate) fn of_type(mut self, msg_type: u16) -> Error {
        self.inner_mut().msg_type = Some(msg_type);
        self
    }

    /// With who is at the other end, and what to do next, unless that is known already.
    pub(crate) fn with_note(mut self, note: impl FnOnce(&Error) -> String) -> Error {
        if self.0.note.is_empty() {
            let note = note(&self);
            self.inner_mut().note = note;
        }
        self
    }

    /// Whether the server said in its hello that it does not let us in, and with this code.
    pub(crate) fn was_refused_with(&self, rc: ResultCode) -> bool {
        matches!(self.0.kind, Kind::Refused { by: RefusedBy::Server(said), .. } if said == rc)
    }

    /// With this, too.
    pub(crate) fn with_more(mut self, more: &str) -> Error {
        let note = &mut self.inner_mut().note;
        if !note.is_empty() {
            note.push_str("; ");
        }
        note.push_str(more);
        self
    }

    /// Of a request that was lost with its connection.
    pub(crate) fn with_lost(mut self, lost: Lost) -> Error {
        self.inner_mut().lost = Some(lost);
        self
    }

    /// What had become of the request, if it was lost with its connection.
    pub(crate) fn lost(&self) -> Option<Lost> {
        self.0.lost
    }

    /// Of a handshake: if its time was up, whoever is there hangs.
    pub(crate) fn without_a_hello(mut self) -> Error {
        if self.0.kind == Kind::TimedOut {
            self.inner_mut().kind = Kind::Hung;
        }
        self
    }

    /// Of a request of which certainly nothing was sent.
    pub(crate) fn not_executed(self) -> Error {
        self.with_executed(Executed::Never)
    }

    /// What is behind a connection's end, for one of the callers that waited on it: of its request it is
    /// known whether it may have been executed.
    pub(crate) fn for_request(&self, operation: &'static str, executed: Executed) -> Error {
        let mut error = self.clone();
        error.inner_mut().operation = operation;
        error.with_executed(executed)
    }

    /// The same failure of the same request, now that the reason is known better.
    pub(crate) fn because_of(&self, known: &Error) -> Error {
        let mut error = known.clone();
        let Inner { operation, msg_type, lost, .. } = &*self.0;
        let inner = error.inner_mut();
        (inner.operation, inner.msg_type, inner.lost) = (operation, *msg_type, *lost);
        error.with_executed(self.executed())
    }

    pub(crate) fn with_executed(mut self, executed: Executed) -> Error {
        self.inner_mut().executed = Some(executed);
        self
    }

    /// To say more of it: of this one, where others share it.
    fn inner_mut(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_rule_it_was() {
        let endpoint = Endpoint::Unix("/run/app.sock".into());
        let system = Error::os("connect to", &endpoint, io::ErrorKind::PermissionDenied.into());
        assert!(system.is_refused() && system.refused_by() == Some(RefusedBy::System), "{system}");
        let kind = Kind::Refused { by: RefusedBy::OurAccess, why: "it belongs to another user".into() };
        let ours = Error::new("connect to", &endpoint, kind);
        assert_eq!((ours.is_refused(), ours.refused_by()), (true, Some(RefusedBy::OurAccess)));
        let absent = Error::os("connect to", &endpoint, io::ErrorKind::NotFound.into());
        assert_eq!((absent.is_refused(), absent.refused_by()), (false, None));
    }
}
