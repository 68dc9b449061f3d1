//! Why a request was not served.

use std::borrow::Cow;
use std::fmt;

use crate::error::ProtocolError;
use crate::rc::ResultCode;

/// Why a handler could not do what it was asked: a result code, and a text for people.
///
/// Every [`std::error::Error`] converts to it with `?`, as "handler failed" (-10) with the error's
/// text; for boxed errors and plain texts there is `.map_err(Failure::other)`. To answer
/// with a code of the application, return `Err(Failure::from(ResultCode::new(7)))`, or give a reason
/// too with [`Failure::new`]. Clients that speak the classic layout get the code only.
#[derive(Debug)]
pub struct Failure {
    rc: ResultCode,
    text: Cow<'static, str>,
}

impl Failure {
    /// A result code and a text that explains it. The code 0 would mean success; it is sent as
    /// "handler failed" (-10).
    #[must_use]
    pub fn new(rc: impl Into<ResultCode>, text: impl Into<String>) -> Failure {
        let rc = rc.into();
        let rc = if rc.is_ok() { ResultCode::HANDLER_FAILED } else { rc };
        Failure { rc, text: Cow::Owned(text.into()) }
    }

    /// What the protocol itself says; `rc` is not 0.
    pub(crate) fn fixed(rc: ResultCode, text: &'static str) -> Failure {
        Failure { rc, text: Cow::Borrowed(text) }
    }

    /// What the sender of something that breaks the protocol is told. (`from` would make a handler's
    /// failure of it.)
    pub(crate) fn of(error: &ProtocolError) -> Failure {
        Failure::new(error.rc(), error.to_string())
    }
}

impl Failure {
    /// "Handler failed" (-10), with a text.
    #[must_use]
    pub fn other(text: impl fmt::Display) -> Failure {
        Failure::new(ResultCode::HANDLER_FAILED, text.to_string())
    }

    /// The result code; never 0.
    #[must_use]
    #[inline]
    pub fn result_code(&self) -> ResultCode {
        self.rc
    }

    /// The text that explains it; empty if there is none.
    #[must_use]
    #[inline]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl From<ResultCode> for Failure {
    fn from(rc: ResultCode) -> Failure {
        Failure::new(rc, "")
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(ResultCode::HANDLER_FAILED, error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.text {
            "" => self.rc.fmt(f),
            text => write!(f, "{}: {text}", self.rc),
        }
    }
}
