//! What whoever waits wants, does next and gets.

use std::time::Instant;

use crate::executed::Executed;
use crate::parcel::Parcel;
use crate::payload::Payload;
use crate::rc::ResultCode;

/// What a seat in the queue is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To wait until the connection is open.
    Open,
    /// To call, with so many bytes of payload.
    Call(usize),
    /// To send a request that wants no answer.
    Notify(usize),
    /// To wait until all that waits to be sent has left.
    Flush,
}

/// What the owner of a seat does next.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// This is the end of it; the seat is gone.
    Done(Outcome),
    /// Reads, and waits for bytes. Polls again afterwards.
    Read {
        /// How long at most.
        until: Option<Instant>,
    },
    /// Reads what is there without waiting, up to the point where there is nothing more; then polls again.
    Look,
    /// Polls again when it is woken.
    Wait {
        /// Or then.
        until: Option<Instant>,
    },
    /// Goes: nobody [waits](super::Caller::attend) at this seat, or whoever did has waited for as long as he
    /// wanted to. The call goes on, and keeps its seat.
    NotYet,
}

/// What became of a seat.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The connection is open, or the request may begin, if that is done at once.
    Ready,
    /// The request can never be sent.
    TooLarge {
        /// Bytes of payload that it has.
        length: usize,
        /// What it may have.
        bound: Bound,
    },
    /// The call was answered.
    Reply(Reply),
    /// The next event has come. The seat stays.
    Event(Published),
    /// The next part of the call's reply has come. The seat stays.
    Part(Vec<u8>),
    /// It was answered, but there was no memory for the payload.
    Lost,
    /// Its time was up.
    TimedOut(Executed),
    /// The connection has come to its [end](super::Caller::end).
    Ended(Executed),
}

/// How large a request may be at most, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The server takes no larger payload.
    Server(usize),
    /// Frames of more than our own `outbox_hard` never fit in.
    Outbox(usize),
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The result code.
    pub rc: ResultCode,
    /// Whether the payload is a text that explains it.
    pub is_text: bool,
    /// What came with it.
    pub payload: Payload,
    /// Whether it is the first reply of a classic connection, as which a refusal comes.
    pub is_classic_first: bool,
    /// What came with it besides bytes.
    pub attached: Option<Parcel>,
}

/// What a server told those who had subscribed to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Which.
    pub topic: u16,
    /// Its number within the subscription, from 1; behind the last number 1 comes again.
    pub sequence: u32,
    /// How many events of the topic got lost since the one before it, on whichever side.
    pub dropped: u32,
    /// What it told.
    pub payload: Vec<u8>,
}

/// What a read found.
#[derive(Clone, Copy, Debug)]
pub enum Came<'b> {
    /// Nothing, in all the time.
    Nothing,
    /// More of the stream.
    Bytes {
        /// Empty if they were read in place.
        bytes: &'b [u8],
        /// Whether, when these were taken, there were no more.
        is_all: bool,
    },
    /// The end of the stream.
    End,
    /// The channel is broken.
    Broken,
}
