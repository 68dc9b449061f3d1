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
        "it holds {own} bytes, the most of whoever holds most; all connections hold {all}, over the limit of {limit}"
    )]
    TooMuchBuffered {
        /// Bytes of this one.
        own: usize,
        /// Bytes of all.
        all: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// All connections of one user, or address, hold too much, and this one most.
    #[error(
        "it holds {own} bytes, the most of this user or address, whose connections hold {all}, over a share of {limit}"
    )]
    ShareOfBuffered {
        /// Bytes of this one.
        own: usize,
        /// Bytes of all of that user or address.
        all: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// All connections of one user have too many attachments under way, and this one brought more.
    #[error("its user's connections have {held} attachments under way, over a share of {limit}")]
    ShareOfAttachments {
        /// Of all of them.
        held: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// It has not proved yet that it knows the token, and others who have not either want its place.
    #[error("{0} others came behind it, before it had proved that it knows the token")]
    TooManyUnproven(usize),
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

/// What did not come in time, where a limit that can be set says how long that is.
pub(crate) const FIRST_BYTE: &str = "first byte";
pub(crate) const HELLO: &str = "hello";
pub(crate) const PARTIAL_FRAME: &str = "end of a frame";
pub(crate) const IDLE: &str = "sign of life";
const WRITING: &str = "progress of writing";

impl ProtocolError {
    /// The peer does not read.
    pub const STALLED: ProtocolError = ProtocolError::TimedOut(WRITING);

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
                | ProtocolError::ShareOfBuffered { .. }
                | ProtocolError::ShareOfAttachments { .. }
                | ProtocolError::TooManyUnproven(_)
                | ProtocolError::Unproven
                | ProtocolError::NoRandomness
        )
    }

    /// The limit that was passed, if one was, by its name in [`ConnectionLimits`](crate::ConnectionLimits) or in what a
    /// server's user may set besides.
    #[must_use]
    pub fn limit(&self) -> Option<&'static str> {
        Some(match self {
            ProtocolError::TooLarge { .. } | ProtocolError::TextNotFrames { .. } => "max_payload",
            ProtocolError::TooManyInFlight { what, .. } => match *what {
                "calls" => "max_in_flight",
                "bytes" => "max_in_flight_bytes",
                "attachments" => "max_attachments",
                other => other,
            },
            ProtocolError::UnaskedPart(_) => "stream_credit",
            ProtocolError::OutboxFull(_) => "outbox_hard",
            ProtocolError::SlowSubscriber { .. } => "outbox_soft",
            ProtocolError::NoMemory(_) => "memory",
            ProtocolError::TooMuchBuffered { .. } => "max_buffered",
            ProtocolError::ShareOfBuffered { .. } => "max_buffered share",
            ProtocolError::ShareOfAttachments { .. } => "max_attachments share",
            ProtocolError::TooManyUnproven(_) => "unproven",
            ProtocolError::TimedOut(what) => match *what {
                FIRST_BYTE => "first_byte_timeout",
                HELLO => "hello_timeout",
                PARTIAL_FRAME => "partial_frame_timeout",
                WRITING => "write_stall_timeout",
                IDLE => "idle_timeout",
                other => other,
            },
            _ => return None,
        })
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
            | ProtocolError::TooManyUnproven(_)
            | ProtocolError::ShareOfBuffered { .. }
            | ProtocolError::ShareOfAttachments { .. }
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
    fn limits_go_by_the_names_of_their_fields() {
        let limits = format!("{:?}", crate::ConnectionLimits::default());
        let passed = [
            ProtocolError::TooLarge { length: 2, limit: 1 },
            ProtocolError::TooManyInFlight { what: "calls", limit: 1 },
            ProtocolError::TooManyInFlight { what: "bytes", limit: 1 },
            ProtocolError::TooManyInFlight { what: "attachments", limit: 1 },
            ProtocolError::OutboxFull(1),
            ProtocolError::SlowSubscriber { topic: 1, waiting: 1 },
            ProtocolError::TimedOut(HELLO),
            ProtocolError::TimedOut(PARTIAL_FRAME),
            ProtocolError::TimedOut(IDLE),
            ProtocolError::STALLED,
        ];
        for error in passed {
            let name = error.limit().expect("a limit");
            assert!(limits.contains(&format!(" {name}: ")), "{name}");
        }
        assert_eq!(ProtocolError::TimedOut(FIRST_BYTE).limit(), Some("first_byte_timeout"));
        assert_eq!((ProtocolError::CutOff.limit(), ProtocolError::Unproven.limit()), (None, None));
    }

    #[test]
    fn a_refusals_text_drives_no_terminal() {
        let text = "\u{1b}]0;owned\u{7}\nno".to_owned();
        let shown = ProtocolError::Refused { rc: ResultCode::NOT_PERMITTED, text }.to_string();
        assert!(!shown.contains(char::is_control) && shown.ends_with("no"), "{shown}");
    }
}
