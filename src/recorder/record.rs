//! One record: what its numbers mean, to who writes and to who reads.

use std::fmt;
use std::time::Duration;

use sidewire_platform::RecordCells;
use sidewire_wire::{Layout, ResultCode};

use super::writing::NOBODY;

/// Places of the numbers in [`RecordCells`]. What those of one turn have in common stands with the first of them only, and
/// again with one in some hundreds: that it does is told by [`MARK`](narrow::MARK).
pub(super) mod wide {
    /// Counts up by the size of a record. 0: there is none. Written last.
    pub(in crate::recorder) const NUMBER: usize = 0;
    /// Nanoseconds that all those took together behind which the clock was read.
    pub(in crate::recorder) const TOOK: usize = 1;
    /// Of a mark: nanoseconds from the server's beginning to the turn's.
    pub(in crate::recorder) const BEGUN: usize = 2;
    /// Of a mark: the same to what the clock said last.
    pub(in crate::recorder) const AT: usize = 3;
}

pub(super) mod narrow {
    /// The kind, with [`DEFERRED`](super::DEFERRED) and [`SLOW`](super::SLOW).
    pub(in crate::recorder) const KIND: usize = 0;
    pub(in crate::recorder) const TYPE: usize = 1;
    /// Of the call; of a new connection the peer's process.
    pub(in crate::recorder) const ID: usize = 2;
    pub(in crate::recorder) const LENGTH: usize = 3;
    pub(in crate::recorder) const RC: usize = 4;
    /// 0: it runs. 1: it is over. More: so are as many less one, this the last of them, and then the clock was read.
    pub(in crate::recorder) const PROGRESS: usize = 5;
    /// Of a mark: whose turn it is.
    pub(in crate::recorder) const CONNECTION: usize = 6;
    /// The lower half of its own number: it is a mark.
    pub(in crate::recorder) const MARK: usize = 7;
}

/// Where a record stands in its turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// What is known from here on: whose turn it is, when it began, and what the clock had said last.
    pub(super) mark: Option<(u32, u64, u64)>,
    /// How many ran up to this one since the clock had been read, and how long they took.
    pub(super) looked: Option<(u64, u64)>,
}

pub(super) const DEFERRED: u32 = 1 << 16;
pub(super) const SLOW: u32 = 1 << 17;

/// Bytes of a record, by which numbers count.
pub(super) const STEP: u64 = RecordCells::BYTES as u64;

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum RecordKind {
    /// A connection has come: [`Record::id`] is the peer's process, if the system tells.
    Opened = 1,
    /// The same, of one that was told "no".
    Refused = 2,
    /// A connection has ended.
    Closed = 3,
    /// A request.
    Request = 4,
    /// A request that wants no answer.
    Notify = 5,
    /// A request that was [deferred](crate::Reply::defer) was answered.
    Answer = 6,
    /// The handler of new connections ran.
    Connect = 7,
    /// The handler of ended connections ran.
    Disconnect = 8,
    /// The closure for the answer to a call of the server's own, or to its ping, ran.
    Callback = 9,
    /// Bytes of a stream without frames.
    Bytes = 10,
    /// A datagram without frames.
    Message = 11,
    /// A closure for the state: [`Remote::with`](crate::Remote::with) and its like.
    Errand = 12,
}

impl RecordKind {
    fn of(code: u32) -> Option<RecordKind> {
        use RecordKind::*;
        let all = [
            Opened, Refused, Closed, Request, Notify, Answer, Connect, Disconnect, Callback, Bytes, Message,
            Errand,
        ];
        all.into_iter().find(|kind| *kind as u32 == code & 0xFF)
    }
}

/// In a word: `request`.
impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RecordKind::Opened => "opened",
            RecordKind::Refused => "refused",
            RecordKind::Closed => "closed",
            RecordKind::Request => "request",
            RecordKind::Notify => "notify",
            RecordKind::Answer => "answer",
            RecordKind::Connect => "on_connect",
            RecordKind::Disconnect => "on_disconnect",
            RecordKind::Callback => "callback",
            RecordKind::Bytes => "bytes",
            RecordKind::Message => "message",
            RecordKind::Errand => "closure",
        })
    }
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordState {
    /// Its handler runs; in the recording of a dead server: this is where it died.
    Running,
    /// Its handler has returned, or it has none.
    Done,
    /// Its handler has returned, and left the answer for later.
    Deferred,
}

/// One thing that a server did: the header of a request and how it went, or one of the other [kinds](RecordKind).
///
/// The loop reads its clock when it turns to a connection, behind each of the first handlers of that turn and then behind every 16th at
/// most; the recorder has no other. So times are those of the last such look.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Counts up from 1.
    pub number: u64,
    /// When its handler was begun, since the server began, to a millisecond: what the loop's clock had said last, which is less than
    /// 16 handlers ago.
    pub at: Duration,
    /// What it is.
    pub kind: RecordKind,
    /// How far it is.
    pub state: RecordState,
    /// The layout of a frame.
    pub layout: Option<Layout>,
    /// The connection's number, as in the log: `#3`. `None`: a datagram, or nobody's.
    pub connection: Option<u32>,
    /// The message type of a request, a notify, an answer.
    pub msg_type: Option<i32>,
    /// The call's id, 0 where there is none; of a new connection the peer's process.
    pub id: u32,
    /// Bytes of its payload.
    pub length: u32,
    /// With what it was answered.
    pub rc: Option<ResultCode>,
    /// For how long it had waited for others of the same connection: since the loop turned to it, or since it was left over for a
    /// later turn.
    pub queued: Duration,
    /// How long its handler took: the mean of those that ran between two looks at the clock.
    pub took: Option<Duration>,
    /// Whether the loop was held for longer than [`Limits::slow_handler`](crate::Limits::slow_handler), by it or by one of those
    /// that ran between the same two looks.
    pub is_slow: bool,
}

impl Record {
    /// Which handler it was for, in words: `the handler of type 7`.
    #[must_use]
    pub fn handler(&self) -> Option<String> {
        Ran::of(self.kind, self.msg_type.unwrap_or_default()).map(|ran| ran.to_string())
    }

    /// Out of the bytes of a ring's place, where it is none, or no whole one, out of nothing. What the turn's mark says is not
    /// in it yet.
    pub(super) fn read(bytes: &[u8], place: usize) -> Option<(Record, Place)> {
        let wide = |index: usize| number(bytes, index * 8, 8);
        let narrow = |index: usize| number(bytes, 32 + index * 4, 4) as u32;
        let number = wide(wide::NUMBER);
        let is_here = number != 0 && number % STEP == 0 && (number / STEP) % PLACES == place as u64;
        let code = narrow(narrow::KIND);
        let kind = RecordKind::of(code).filter(|_| is_here)?;
        let progress = narrow(narrow::PROGRESS);
        let state = match progress {
            0 => RecordState::Running,
            _ if code & DEFERRED != 0 => RecordState::Deferred,
            _ => RecordState::Done,
        };
        let has_type = matches!(kind, RecordKind::Request | RecordKind::Notify | RecordKind::Answer);
        let has_rc = matches!(kind, RecordKind::Request | RecordKind::Answer) && state == RecordState::Done;
        let record = Record {
            number: number / STEP,
            at: Duration::ZERO,
            kind,
            state,
            // In v1 a call has an id, and what has none is a notify.
            layout: match (kind, narrow(narrow::ID)) {
                (RecordKind::Request | RecordKind::Answer, 0) => Some(Layout::Classic),
                (RecordKind::Request | RecordKind::Answer | RecordKind::Notify, _) => Some(Layout::V1),
                _ => None,
            },
            connection: None,
            msg_type: has_type.then(|| narrow(narrow::TYPE).cast_signed()),
            id: narrow(narrow::ID),
            length: narrow(narrow::LENGTH),
            rc: has_rc.then(|| ResultCode::new(narrow(narrow::RC).cast_signed())),
            queued: Duration::ZERO,
            took: None,
            is_slow: code & SLOW != 0,
        };
        let is_mark = narrow(narrow::MARK) == number as u32;
        let mark = is_mark.then(|| (narrow(narrow::CONNECTION), wide(wide::BEGUN), wide(wide::AT)));
        let looked = progress.checked_sub(1).filter(|count| *count > 0);
        Some((record, Place { mark, looked: looked.map(|count| (count.into(), wide(wide::TOOK))) }))
    }

    /// What is known of its turn: whose it is, when it began, and what the clock had said last.
    pub(super) fn is_of(&mut self, (connection, begun, at): (u32, u64, u64)) {
        self.connection = Some(connection).filter(|connection| *connection != NOBODY);
        self.at = Duration::from_nanos(at);
        self.queued = Duration::from_nanos(at.saturating_sub(begun));
    }
}

const PLACES: u64 = sidewire_platform::RING_RECORDS as u64;

/// A number as the machine has it; 0 if it is not all there.
fn number(bytes: &[u8], offset: usize, length: usize) -> u64 {
    let Some(bytes) = bytes.get(offset..offset + length) else { return 0 };
    match (bytes.try_into(), bytes.try_into()) {
        (Ok(wide), _) => u64::from_ne_bytes(wide),
        (_, Ok(narrow)) => u32::from_ne_bytes(narrow).into(),
        _ => 0,
    }
}

/// Which handler ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ran {
    /// Of requests and notifies of this type.
    Type(i32),
    /// Of new connections.
    Connect,
    /// Of ended connections.
    Disconnect,
    /// Of answers to the server's own calls.
    Callback,
    /// Of streams without frames.
    Stream,
    /// Of datagrams without frames.
    Messages,
    /// A closure for the state.
    Errand,
}

impl Ran {
    /// `None`: none runs for this.
    pub(super) fn of(kind: RecordKind, msg_type: i32) -> Option<Ran> {
        Some(match kind {
            RecordKind::Opened | RecordKind::Refused | RecordKind::Closed | RecordKind::Answer => {
                return None;
            }
            RecordKind::Request | RecordKind::Notify => Ran::Type(msg_type),
            RecordKind::Connect => Ran::Connect,
            RecordKind::Disconnect => Ran::Disconnect,
            RecordKind::Callback => Ran::Callback,
            RecordKind::Bytes => Ran::Stream,
            RecordKind::Message => Ran::Messages,
            RecordKind::Errand => Ran::Errand,
        })
    }

    /// The same of the numbers of a record.
    pub(super) fn of_cells(cells: &RecordCells) -> Option<Ran> {
        let number = |index: usize| cells.narrow()[index].load(std::sync::atomic::Ordering::Relaxed);
        Ran::of(RecordKind::of(number(narrow::KIND))?, number(narrow::TYPE).cast_signed())
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ran::Type(msg_type) => write!(f, "the handler of type {msg_type}"),
            Ran::Connect => f.write_str("the handler of new connections"),
            Ran::Disconnect => f.write_str("the handler of ended connections"),
            Ran::Callback => f.write_str("the closure for the answer to a call"),
            Ran::Stream => f.write_str("the stream handler"),
            Ran::Messages => f.write_str("the message handler"),
            Ran::Errand => f.write_str("a closure for the state"),
        }
    }
}
