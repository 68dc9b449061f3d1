//! Answering one request: written straight into the connection's outbox.

use super::frame::{self, Kind, flags};
use super::outbox::Outbox;
use super::rc::ResultCode;
use super::{Layout, classic};

/// Names one accepted request that is owed exactly one final reply.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "every request is answered"]
pub(crate) struct Ticket {
    /// The call's id (v1), 0 on the classic layout.
    pub(crate) id: u32,
    /// As it came: classic types may be negative or huge, and are echoed all the same.
    pub(crate) msg_type: i32,
    /// Payload bytes that count as in flight until the reply has left.
    pub(crate) cost: u32,
    pub(crate) layout: Layout,
}

/// A reply under construction: the header is reserved, the payload is appended behind it, and the
/// header is filled in at the end. Dropping it unfinished answers "handler failed": whatever
/// happens, a request gets its one reply.
#[derive(Debug)]
pub(crate) struct ReplyWriter<'c> {
    outbox: &'c mut Outbox,
    ticket: Ticket,
    limit: usize,
    /// Classic fixed: payloads are padded to this.
    pad_to: Option<usize>,
    start: usize,
    finished: bool,
    overflowed: bool,
}

impl<'c> ReplyWriter<'c> {
    pub(crate) fn begin(outbox: &'c mut Outbox, ticket: Ticket, limit: u32, pad_to: Option<u32>) -> Self {
        let header_len = header_len(ticket.layout);
        let bytes = outbox.bytes();
        let start = bytes.len();
        bytes.resize(start + header_len, 0);
        let pad_to = pad_to.map(|size| size as usize);
        ReplyWriter {
            outbox,
            ticket,
            limit: limit as usize,
            pad_to,
            start,
            finished: false,
            overflowed: false,
        }
    }

    /// Appends to the payload. What does not fit into the peer's limit is not written, and
    /// the reply becomes "too large" when it is finished.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if self.overflowed || bytes.len() > self.room() {
            self.overflowed = true;
            return;
        }
        self.outbox.bytes().extend_from_slice(bytes);
    }

    /// Payload bytes so far.
    pub(crate) fn len(&mut self) -> usize {
        self.outbox.bytes().len() - self.payload_start()
    }

    /// Payload bytes that may follow.
    pub(crate) fn room(&mut self) -> usize {
        self.limit - self.len()
    }

    /// Throws the payload written so far away.
    pub(crate) fn clear(&mut self) {
        self.overflowed = false;
        let start = self.payload_start();
        self.outbox.bytes().truncate(start);
    }

    /// Completes the reply with its result code.
    /// Says which code it really got: one that is too large fails.
    pub(crate) fn finish(mut self, rc: ResultCode) -> ResultCode {
        if self.overflowed {
            let text = format!("the reply has more than the {} bytes that the caller takes", self.limit);
            return self.fail(ResultCode::TOO_LARGE, &text);
        }
        self.seal(rc, 0)
    }

    /// Completes the reply with a result code and, where the layout has a place for it, a text
    /// that explains it; what was written before is thrown away.
    pub(crate) fn fail(mut self, rc: ResultCode, text: &str) -> ResultCode {
        self.seal_failure(rc, text)
    }

    fn payload_start(&self) -> usize {
        self.start + header_len(self.ticket.layout)
    }

    fn seal_failure(&mut self, rc: ResultCode, text: &str) -> ResultCode {
        self.clear();
        let text = &text[..text.floor_char_boundary(self.limit.min(MAX_TEXT))];
        if self.ticket.layout == Layout::Classic || text.is_empty() || rc.is_ok() {
            return self.seal(rc, 0);
        }
        self.outbox.bytes().extend_from_slice(text.as_bytes());
        self.seal(rc, flags::TEXT)
    }

    fn seal(&mut self, rc: ResultCode, flags: u8) -> ResultCode {
        let length = self.len();
        let (start, payload_start) = (self.start, self.payload_start());
        let bytes = self.outbox.bytes();
        match self.ticket.layout {
            Layout::Classic => {
                let header =
                    classic::Header { msg_type: self.ticket.msg_type, rc: rc.0, length: length as i32 };
                bytes[start..payload_start].copy_from_slice(&header.encode());
                if let Some(size) = self.pad_to {
                    bytes.resize(payload_start + size, 0);
                }
            }
            Layout::V1 => {
                let header = frame::Header {
                    length: length as u32,
                    kind: Kind::Reply as u8,
                    flags,
                    msg_type: self.ticket.msg_type as u16,
                    id: self.ticket.id,
                    rc: rc.0,
                };
                bytes[start..payload_start].copy_from_slice(&header.encode());
            }
        }
        self.outbox.charge(self.ticket.cost);
        self.finished = true;
        rc
    }
}

impl Drop for ReplyWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.seal_failure(ResultCode::HANDLER_FAILED, "");
        }
    }
}

/// Most bytes of a text that explains a result code.
const MAX_TEXT: usize = 1024;

fn header_len(layout: Layout) -> usize {
    match layout {
        Layout::Classic => classic::HEADER_LEN,
        Layout::V1 => frame::HEADER_LEN,
    }
}
