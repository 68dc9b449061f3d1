//! What can go wrong on the wire, named by fault.

use super::rc::ResultCode;
use super::task::Task;

/// Why a connection is beyond repair. Sticky: nothing behind it is executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    // The peer broke the protocol.
    /// A classic header's length is below zero.
    #[error("the length is negative ({0})")]
    NegativeLength(i32),
    /// Whoever was to say hello speaks something else; its first bytes.
    #[error("this is not Sidewire: its first bytes are '{}'", .0.escape_ascii())]
    NotSidewire(Vec<u8>),
    /// The server took our hello for a classic request.
    #[error(
        "the server echoes the magic as a classic type: it speaks the classic layout only, so ask for that"
    )]
    ClassicServer,
    /// What came in place of a classic header reads as text.
    #[error("{length} bytes of payload where {limit} are allowed; the bytes look like text ('{}'), not like Sidewire", start.escape_ascii())]
    TextNotFrames {
        /// Bytes of payload, if it were a header.
        length: u32,
        /// Bytes that are allowed.
        limit: u32,
        /// What came.
        start: [u8; 12],
    },
    /// What is wrong with the hello.
    #[error("the hello is malformed: {0}")]
    BadHello(&'static str),
    /// A kind of frame that may not be skipped.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// A header's flags, some of which have no meaning.
    #[error("reserved flag bits are set ({0:#04x})")]
    ReservedFlags(u8),
    /// A request's id is 0, or does not rise.
    #[error("call id {id} does not follow {last}")]
    BadId {
        /// The request's.
        id: u32,
        /// That of the one before it.
        last: u32,
    },
    /// The reply's id.
    #[error("a reply to id {0}, which was never asked")]
    UnknownReply(u32),
    /// A reply names another type than its request.
    #[error("a reply of type {got} to a request of type {asked}")]
    WrongReplyType {
        /// The request's type.
        asked: i32,
        /// The reply's.
        got: i32,
    },
    /// The reply's id.
    #[error("a part of the reply to id {0}, for which there is no credit")]
    UnaskedPart(u32),
    /// A credit frame with so many bytes of payload.
    #[error("credit is 4 bytes, not {0}")]
    BadCredit(u32),
    /// A classic reply to nothing.
    #[error("a reply without a request")]
    UnaskedReply,
    /// A reply could not be read.
    #[error("the reply's extension block is malformed or needs what we do not have")]
    BadExtension,
    /// A call on a connection that is not for calls, but for this.
    #[error("a connection that asks a server to {0} carries no calls")]
    CarriesNoCalls(Task),
    /// What is wrong with descriptors or handles that came.
    #[error("attachments: {0}")]
    BadAttachments(&'static str),
    /// The other protocol's name.
    #[error("this looks like {0}, not like Sidewire; is the port right?")]
    OtherProtocol(&'static str),
    /// The peer ended in the middle of a frame.
    #[error("the connection ended inside a frame")]
    CutOff,
    // A limit was passed.
    /// A frame is larger than allowed.
    #[error("{length} bytes of payload where {limit} are allowed")]
    TooLarge {
        /// Bytes of its payload.
        length: u32,
        /// Bytes that are allowed.
        limit: u32,
    },
    /// The peer asks for more at a time than it was allowed.
    #[error("more than {limit} {what} in flight")]
    TooManyInFlight {
        /// What was counted: calls, or bytes.
        what: &'static str,
        /// How many of them are allowed.
        limit: u32,
    },
    /// Bytes that the peer has not read.
    #[error("{0} bytes are waiting to be read by the peer, over the hard mark")]
    OutboxFull(usize),
    /// It has subscribed to a topic that tolerates no gaps, and reads too slowly for it.
    #[error(
        "{waiting} bytes are waiting to be read by the peer, too many for one more event of type {topic}"
    )]
    SlowSubscriber {
        /// Of whose events it may miss none.
        topic: u16,
        /// Bytes that the peer has not read.
        waiting: usize,
    },
    /// For what there is none.
    #[error("there is no memory for {0}")]
    NoMemory(&'static str),
    /// Together the peers hold too much, and this one most.
    #[error(
        "it holds {own} bytes, the most of all connections, which together hold {all}, over the limit of {limit}"
    )]
    TooMuchBuffered {
        /// Bytes of this one.
        own: usize,
        /// Bytes of all.
        all: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// What did not come in time.
    #[error("no {0} within the time allowed")]
    TimedOut(&'static str),
    // The two sides do not fit.
    /// The lowest and highest versions of both sides do not meet.
    #[error("no common protocol version: we speak {} to {}, the peer {} to {}", ours.0, ours.1, theirs.0, theirs.1)]
    NoCommonVersion {
        /// Lowest and highest.
        ours: (u8, u8),
        /// Lowest and highest.
        theirs: (u8, u8),
    },
    /// The feature's name.
    #[error("the peer requires a feature that is not there: {0}")]
    FeatureMissing(String),
    /// What the initiator asks for with its hello is not for it to have; why.
    #[error("{0}")]
    NotGranted(String),
    /// The initiator does not prove that it knows the token.
    #[error("a token is asked for here, and the other side does not prove that it knows it")]
    Unproven,
    /// The system gives no random numbers, without which a proof of a token could be said again.
    #[error("the system has no random numbers, and so no token can be proved")]
    NoRandomness,
    /// The responder asks for a token, and we have none.
    #[error("the server asks for a token")]
    TokenNeeded,
    /// The responder does not prove that it knows our token.
    #[error("the server asks for no token, and so does not prove that it knows ours")]
    NoProof,
    /// It proves that it knows another one.
    #[error("the server has another token")]
    WrongProof,
    /// A classic peer where none is served.
    #[error("the classic layout is not served here")]
    ClassicRefused,
    // The peer's words must not drive anybody's terminal.
    /// The responder said no, in its own words.
    #[error("{rc}{}{}", if text.is_empty() { "" } else { ": " }, text.escape_debug())]
    Refused {
        /// The code that it gave.
        rc: ResultCode,
        /// Why, for people; chosen by the other side.
        text: String,
    },
}

impl ProtocolError {
    /// The peer does not read.
    pub const STALLED: ProtocolError = ProtocolError::TimedOut("progress of writing");

    /// What is to be sent to the peer can't be kept.
    pub const STARVED: ProtocolError = ProtocolError::NoMemory("what it is to read");

    /// Whether there is no point in telling the peer, since it does not read, or nothing more can be
    /// said to it.
    pub fn is_hopeless(&self) -> bool {
        matches!(self, ProtocolError::OutboxFull(_) | ProtocolError::SlowSubscriber { .. })
            || [ProtocolError::STALLED, ProtocolError::STARVED].contains(self)
    }

    /// Whether whoever runs the server should hear of it: a limit, or something else's client.
    pub fn is_noteworthy(&self) -> bool {
        matches!(
            self,
            ProtocolError::OtherProtocol(_)
                | ProtocolError::TextNotFrames { .. }
                | ProtocolError::OutboxFull(_)
                | ProtocolError::SlowSubscriber { .. }
                | ProtocolError::TooManyInFlight { .. }
                | ProtocolError::NoMemory(_)
                | ProtocolError::TooMuchBuffered { .. }
                | ProtocolError::Unproven
                | ProtocolError::NoRandomness
        )
    }

    /// What the peer is told.
    pub fn rc(&self) -> ResultCode {
        match self {
            ProtocolError::TooLarge { .. } | ProtocolError::TextNotFrames { .. } => ResultCode::TOO_LARGE,
            ProtocolError::TooManyInFlight { .. }
            | ProtocolError::OutboxFull(_)
            | ProtocolError::SlowSubscriber { .. }
            | ProtocolError::NoMemory(_)
            | ProtocolError::NoRandomness
            | ProtocolError::TooMuchBuffered { .. } => ResultCode::BUSY,
            ProtocolError::TimedOut(_) => ResultCode::TIMED_OUT,
            ProtocolError::NoCommonVersion { .. } => ResultCode::NO_COMMON_VERSION,
            ProtocolError::FeatureMissing(_) => ResultCode::FEATURE_MISSING,
            ProtocolError::ClassicRefused
            | ProtocolError::NotGranted(_)
            | ProtocolError::Unproven
            | ProtocolError::TokenNeeded
            | ProtocolError::NoProof
            | ProtocolError::WrongProof => ResultCode::NOT_PERMITTED,
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
