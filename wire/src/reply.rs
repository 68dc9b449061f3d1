//! Answering one request: written straight into the connection's outbox.

use super::classic;
use super::frame::{self, Kind, flags};
use super::layout::Layout;
use super::outbox::{Memory, Outbox};
use super::rc::ResultCode;
use crate::blocks::LARGE;
use crate::memory::NoMemory;
use crate::parcel::Parcel;

/// Names one accepted request that is owed exactly one final reply.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "every request is answered"]
#[non_exhaustive]
pub struct Ticket {
    /// The call's id (v1), 0 on the classic layout.
    pub id: u32,
    /// As it came: classic types may be negative or huge, and are echoed all the same.
    pub msg_type: i32,
    /// Payload bytes that count as in flight until the reply has left.
    pub cost: u32,
    /// For how many milliseconds its caller waits, counted from its last byte on; 0 if for ever.
    pub timeout_ms: u32,
    /// In which layout it came, and is answered.
    pub layout: Layout,
}

impl Ticket {
    /// Of a classic request.
    #[inline]
    pub(crate) fn classic(msg_type: i32) -> Ticket {
        Ticket { id: 0, msg_type, cost: 0, timeout_ms: 0, layout: Layout::Classic }
    }

    /// Of a v1 call that counts so much in flight.
    #[inline]
    pub(crate) fn v1(header: &frame::Header, cost: u32) -> Ticket {
        Ticket {
            id: header.id,
            msg_type: i32::from(header.msg_type),
            cost,
            // A negative one is answered before anybody looks at this.
            timeout_ms: header.rc as u32,
            layout: Layout::V1,
        }
    }
}

/// A reply under construction: the header is reserved, the payload is appended behind it, and the
/// header is filled in at the end. Dropping it unfinished answers "handler failed": whatever
/// happens, a request gets its one reply.
#[derive(Debug)]
pub struct ReplyWriter<'c> {
    /// The outbox's.
    memory: &'c mut Memory,
    ticket: Ticket,
    limit: u32,
    /// Classic fixed: payloads are padded to this.
    pad_to: Option<u32>,
    /// Where the payload begins, behind the header.
    start: usize,
    fate: Fate,
}

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// It has more bytes than the peer takes.
    TooLarge,
    /// There is no memory for all of it, only for its header.
    NoMemory,
    /// There is none for that either: the outbox is starved.
    Lost,
    /// It is complete.
    Sealed,
}

impl<'c> ReplyWriter<'c> {
    /// Behind what `outbox` holds. `limit`: bytes of payload that the caller takes; `pad_to`: to which
    /// classic frames of one size are filled up.
    #[inline(always)]
    pub(crate) fn begin(outbox: &'c mut Outbox, ticket: Ticket, limit: u32, pad_to: Option<u32>) -> Self {
        let memory = outbox.memory_mut();
        let header_len = header_len(ticket.layout);
        let fate = match memory.reserve_reply(header_len + pad_to.unwrap_or(0) as usize) {
            Ok(()) => {
                // As of a reply that says nothing: what there is more is filled in at the end.
                match ticket.layout {
                    Layout::Classic => memory.bytes().extend_from_slice(&classic_header(&ticket).encode()),
                    Layout::V1 => memory.bytes().extend_from_slice(&v1_header(&ticket).encode()),
                }
                Fate::Fine
            }
            Err(NoMemory) => Fate::Lost,
        };
        let start = memory.bytes().len();
        ReplyWriter { memory, ticket, limit, pad_to, start, fate }
    }

    /// Appends to the payload. A large piece of the request's own payload is not copied, once. What does not
    /// fit into the peer's limit is not written, and the reply becomes "too large" when it is finished; "busy"
    /// if there is no memory for it.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        if self.fate != Fate::Fine {
            return;
        }
        if bytes.len() > self.room() {
            self.fate = Fate::TooLarge;
            return;
        }
        let written = match bytes.len() < LARGE {
            true => self.memory.append(bytes),
            false => self.memory.append_large(bytes),
        };
        if written.is_err() {
            self.fate = Fate::NoMemory;
        }
    }

    /// The same without a copy, if they are many.
    pub fn give(&mut self, bytes: Vec<u8>) {
        if bytes.len() < LARGE || self.fate != Fate::Fine {
            return self.write(&bytes);
        }
        if bytes.len() > self.room() {
            self.fate = Fate::TooLarge;
        } else if self.memory.give(bytes).is_err() {
            self.fate = Fate::NoMemory;
        }
    }

    /// Payload bytes so far.
    #[inline]
    pub fn written(&mut self) -> usize {
        self.memory.len_behind(self.start)
    }

    /// Payload bytes that may follow.
    #[inline]
    pub fn room(&mut self) -> usize {
        self.limit as usize - self.written()
    }

    /// Throws the payload written so far away.
    #[inline]
    pub fn clear(&mut self) {
        // What is lost has not even a header: the payload of the reply before it may stand here.
        if self.fate != Fate::Lost {
            self.fate = Fate::Fine;
            self.memory.cut(self.start);
        }
    }

    /// Why not everything that was written is there.
    #[inline]
    pub fn shortfall(&self) -> Option<(ResultCode, String)> {
        match self.fate {
            Fate::TooLarge => {
                let text = format!("the reply has more than the {} bytes that the caller takes", self.limit);
                Some((ResultCode::TOO_LARGE, text))
            }
            Fate::NoMemory | Fate::Lost => {
                Some((ResultCode::BUSY, "the server has no memory for the reply".to_owned()))
            }
            Fate::Fine | Fate::Sealed => None,
        }
    }

    /// Takes everything back, also the place in line: the ticket is answered later, or
    /// [deferred](crate::Connection::defer).
    pub fn withdraw(mut self) -> Ticket {
        if self.fate != Fate::Lost {
            self.memory.cut(self.start);
            // Only bytes: where this header begins the payload of the reply before it may stand.
            self.memory.bytes().truncate(self.start - header_len(self.ticket.layout));
        }
        self.fate = Fate::Sealed;
        std::mem::replace(&mut self.ticket, Ticket::classic(0))
    }

    /// Completes the reply with its result code.
    /// Says which code it really got: one that is too large fails.
    #[inline]
    pub fn finish(mut self, rc: ResultCode) -> ResultCode {
        self.complete(rc)
    }

    /// The same for who can't give it away. What is written behind this is lost.
    #[inline]
    pub fn complete(&mut self, rc: ResultCode) -> ResultCode {
        if self.fate == Fate::Fine {
            return self.seal(rc, 0);
        }
        self.complete_otherwise(rc)
    }

    #[cold]
    fn complete_otherwise(&mut self, rc: ResultCode) -> ResultCode {
        match self.shortfall() {
            Some((rc, text)) => self.seal_failure(rc, &text),
            None => self.seal(rc, 0),
        }
    }

    /// Completes a reply (v1) with which this goes. Says which code it got, and how many bytes its frame has,
    /// to be told with what goes with it to [`attach`](crate::Connection::attach); `None`: it failed, and they do not go.
    pub fn complete_attached(&mut self, rc: ResultCode, parcel: &Parcel) -> (ResultCode, Option<usize>) {
        if self.fate == Fate::Fine && self.room() < parcel.cost() {
            self.fate = Fate::TooLarge;
        }
        if self.fate == Fate::Fine && self.memory.insert(self.start, &frame::announce(parcel)).is_err() {
            self.fate = Fate::NoMemory;
        }
        if let Some((rc, text)) = self.shortfall() {
            return (self.seal_failure(rc, &text), None);
        }
        let length = frame::HEADER_LEN + self.written();
        (self.seal(rc, flags::EXT), Some(length))
    }

    /// Completes the reply with a result code and, where the layout has a place for it, a text
    /// that explains it; what was written before is thrown away.
    pub fn fail(mut self, rc: ResultCode, text: &str) -> ResultCode {
        self.seal_failure(rc, text)
    }

    #[cold]
    fn seal_failure(&mut self, rc: ResultCode, text: &str) -> ResultCode {
        self.clear();
        let text = &text[..text.floor_char_boundary(MAX_TEXT.min(self.limit as usize))];
        let takes_text = self.ticket.layout == Layout::V1 && !text.is_empty() && !rc.is_ok();
        let has_text = takes_text && self.memory.append(text.as_bytes()).is_ok();
        self.seal(rc, if has_text { flags::TEXT } else { 0 })
    }

    #[inline]
    fn seal(&mut self, rc: ResultCode, flags: u8) -> ResultCode {
        if self.fate == Fate::Lost {
            return ResultCode::BUSY;
        }
        let length = self.written();
        let (before, _) = self.memory.bytes().split_at_mut(self.start);
        match self.ticket.layout {
            Layout::Classic => {
                if let Some(header) = before.last_chunk_mut() {
                    classic::complete(header, rc.code(), length as i32);
                }
                if let Some(size) = self.pad_to {
                    let bytes = self.memory.bytes();
                    bytes.resize(bytes.len() + (size as usize).saturating_sub(length), 0);
                }
            }
            Layout::V1 => {
                if let Some(header) = before.last_chunk_mut() {
                    frame::complete(header, length as u32, flags, rc.code());
                }
            }
        }
        self.memory.mark(self.ticket.cost);
        self.fate = Fate::Sealed;
        rc
    }
}

impl Drop for ReplyWriter<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.fate != Fate::Sealed {
            self.seal_failure(ResultCode::HANDLER_FAILED, "");
        }
    }
}

/// Most bytes of a text that explains a result code.
const MAX_TEXT: usize = 1024;

/// The header of an empty reply.
#[inline]
fn v1_header(ticket: &Ticket) -> frame::Header {
    let msg_type = ticket.msg_type as u16;
    frame::Header { length: 0, kind: Kind::Reply as u8, flags: 0, msg_type, id: ticket.id, rc: 0 }
}

/// The same in the classic layout.
#[inline]
fn classic_header(ticket: &Ticket) -> classic::Header {
    classic::Header { msg_type: ticket.msg_type, rc: 0, length: 0 }
}

#[inline]
fn header_len(layout: Layout) -> usize {
    match layout {
        Layout::Classic => classic::HEADER_LEN,
        Layout::V1 => frame::HEADER_LEN,
    }
}
