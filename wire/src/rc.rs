//! Result codes.

use std::fmt;

/// The result code of a request: 0 is fine, negative ones are Sidewire's own, positive ones are
/// the application's.
///
/// -1 to -999 are reserved; the constants here are those in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultCode(i32);

impl ResultCode {
    /// 0: done.
    pub const OK: ResultCode = ResultCode(0);
    /// -1: the type lies beyond the dispatch table, or is negative.
    pub const UNKNOWN_TYPE: ResultCode = ResultCode(-1);
    /// -2: the table has no handler for this type, or this side does not serve this kind of frame.
    pub const NO_HANDLER: ResultCode = ResultCode(-2);
    /// -3: request or reply is larger than allowed.
    pub const TOO_LARGE: ResultCode = ResultCode(-3);
    /// -4: the bytes are not what the protocol says.
    pub const MALFORMED: ResultCode = ResultCode(-4);
    /// -5: the peer may not talk to this server.
    pub const NOT_PERMITTED: ResultCode = ResultCode(-5);
    /// -6: a limit is reached; later it may work.
    pub const BUSY: ResultCode = ResultCode(-6);
    /// -7: a time limit has passed.
    pub const TIMED_OUT: ResultCode = ResultCode(-7);
    /// -8: the caller cancelled.
    pub const CANCELLED: ResultCode = ResultCode(-8);
    /// -9: the server is shutting down.
    pub const SHUTTING_DOWN: ResultCode = ResultCode(-9);
    /// -10: the handler failed.
    pub const HANDLER_FAILED: ResultCode = ResultCode(-10);
    /// -11: the two sides have no protocol version in common.
    pub const NO_COMMON_VERSION: ResultCode = ResultCode(-11);
    /// -12: one side asks for a feature that the other does not have.
    pub const FEATURE_MISSING: ResultCode = ResultCode(-12);

    /// The code with this number.
    #[must_use]
    #[inline]
    pub const fn new(code: i32) -> ResultCode {
        ResultCode(code)
    }

    /// Its number, as it stands on the wire.
    #[must_use]
    #[inline]
    pub const fn code(self) -> i32 {
        self.0
    }

    /// Whether this is 0.
    #[must_use]
    #[inline]
    pub fn is_ok(self) -> bool {
        self.0 == 0
    }

    fn name(self) -> Option<&'static str> {
        Some(match self {
            ResultCode::OK => "ok",
            ResultCode::UNKNOWN_TYPE => "unknown type",
            ResultCode::NO_HANDLER => "no handler",
            ResultCode::TOO_LARGE => "too large",
            ResultCode::MALFORMED => "malformed",
            ResultCode::NOT_PERMITTED => "not permitted",
            ResultCode::BUSY => "busy",
            ResultCode::TIMED_OUT => "timed out",
            ResultCode::CANCELLED => "cancelled",
            ResultCode::SHUTTING_DOWN => "shutting down",
            ResultCode::HANDLER_FAILED => "handler failed",
            ResultCode::NO_COMMON_VERSION => "no common version",
            ResultCode::FEATURE_MISSING => "required feature missing",
            _ => return None,
        })
    }
}

/// `unknown type (-1)`; codes without a name are `application error (7)` or `reserved code (-500)`.
impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.name() {
            Some(name) => name,
            None if self.0 > 0 => "application error",
            None => "reserved code",
        };
        write!(f, "{name} ({})", self.0)
    }
}

impl From<i32> for ResultCode {
    fn from(code: i32) -> Self {
        ResultCode::new(code)
    }
}
