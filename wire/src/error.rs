//! What can go wrong on the wire, named by fault.

use super::rc::ResultCode;

/// Why a connection is beyond repair. Sticky: nothing behind it is executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    // The peer broke the protocol.
    #[error("the length is negative ({0})")]
    NegativeLength(i32),
    #[error("this is no Sidewire server: its first bytes are '{}'", .0.escape_ascii())]
    NotSidewire(Vec<u8>),
    #[error(
        "the server echoes the magic as a classic type: it speaks the classic layout only, so ask for that"
    )]
    ClassicServer,
    #[error("{length} bytes of payload where {limit} are allowed; the bytes look like text ('{}'), not like Sidewire", start.escape_ascii())]
    TextNotFrames { length: u32, limit: u32, start: [u8; 12] },
    #[error("the hello is malformed: {0}")]
    BadHello(&'static str),
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("reserved flag bits are set ({0:#04x})")]
    ReservedFlags(u8),
    #[error("call id {id} does not follow {last}")]
    BadId { id: u32, last: u32 },
    #[error("a reply to id {0}, which was never asked")]
    UnknownReply(u32),
    #[error("a reply of type {got} to a request of type {asked}")]
    WrongReplyType { asked: i32, got: i32 },
    #[error("a reply in parts to id {0}, for which no credit was given")]
    UnaskedPart(u32),
    #[error("a reply without a request")]
    UnaskedReply,
    #[error("the reply's extension block is malformed or needs what we do not have")]
    BadExtension,
    #[error("this looks like {0}, not like Sidewire; is the port right?")]
    OtherProtocol(&'static str),
    #[error("the connection ended inside a frame")]
    CutOff,
    // A limit was passed.
    #[error("{length} bytes of payload where {limit} are allowed")]
    TooLarge { length: u32, limit: u32 },
    #[error("more than {limit} {what} in flight")]
    TooManyInFlight { what: &'static str, limit: u32 },
    #[error("{0} bytes are waiting to be read by the peer, over the hard mark")]
    OutboxFull(usize),
    #[error("there is no memory for {0}")]
    NoMemory(&'static str),
    #[error(
        "it holds {own} bytes, the most of all connections, which together hold {all}, over the limit of {limit}"
    )]
    TooMuchBuffered { own: usize, all: usize, limit: usize },
    #[error("no {0} within the time allowed")]
    TimedOut(&'static str),
    // The two sides do not fit.
    #[error("no common protocol version: we speak {} to {}, the peer {} to {}", ours.0, ours.1, theirs.0, theirs.1)]
    NoCommonVersion { ours: (u8, u8), theirs: (u8, u8) },
    #[error("the peer requires a feature that is not there: {0}")]
    FeatureMissing(String),
    #[error("the classic layout is not served here")]
    ClassicRefused,
    // The peer's words must not drive anybody's terminal.
    #[error("{rc}{}{}", if text.is_empty() { "" } else { ": " }, text.escape_debug())]
    Refused { rc: ResultCode, text: String },
}

impl ProtocolError {
    /// The peer does not read.
    pub const STALLED: ProtocolError = ProtocolError::TimedOut("progress of writing");

    /// What is to be sent to the peer can't be kept.
    pub const STARVED: ProtocolError = ProtocolError::NoMemory("what it is to read");

    /// Whether there is no point in telling the peer, since it does not read, or nothing more can be
    /// said to it.
    pub fn is_hopeless(&self) -> bool {
        matches!(self, ProtocolError::OutboxFull(_))
            || [ProtocolError::STALLED, ProtocolError::STARVED].contains(self)
    }

    /// Whether whoever runs the server should hear of it: a limit, or something else's client.
    pub fn is_noteworthy(&self) -> bool {
        matches!(
            self,
            ProtocolError::OtherProtocol(_)
                | ProtocolError::TextNotFrames { .. }
                | ProtocolError::OutboxFull(_)
                | ProtocolError::TooManyInFlight { .. }
                | ProtocolError::NoMemory(_)
                | ProtocolError::TooMuchBuffered { .. }
        )
    }

    /// What the peer is told.
    pub fn rc(&self) -> ResultCode {
        match self {
            ProtocolError::TooLarge { .. } | ProtocolError::TextNotFrames { .. } => ResultCode::TOO_LARGE,
            ProtocolError::TooManyInFlight { .. }
            | ProtocolError::OutboxFull(_)
            | ProtocolError::NoMemory(_)
            | ProtocolError::TooMuchBuffered { .. } => ResultCode::BUSY,
            ProtocolError::TimedOut(_) => ResultCode::TIMED_OUT,
            ProtocolError::NoCommonVersion { .. } => ResultCode::NO_COMMON_VERSION,
            ProtocolError::FeatureMissing(_) => ResultCode::FEATURE_MISSING,
            ProtocolError::ClassicRefused => ResultCode::NOT_PERMITTED,
            ProtocolError::Refused { rc, .. } => *rc,
            _ => ResultCode::MALFORMED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusals_text_drives_no_terminal() {
        let text = "\u{1b}]0;owned\u{7}\nno".to_owned();
        let shown = ProtocolError::Refused { rc: ResultCode::NOT_PERMITTED, text }.to_string();
        assert!(!shown.contains(char::is_control) && shown.ends_with("no"), "{shown}");
    }
}
