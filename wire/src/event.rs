//! What a connection tells its owner.

use crate::hello::Hello;
use crate::rc::ResultCode;
use crate::reply::Ticket;

/// What came in. Payloads borrow from the bytes that were received.
#[derive(Debug)]
pub enum Event<'b> {
    /// To be answered, now or later, by [`Connection::begin_reply`] with this ticket.
    Request { ticket: Ticket, payload: &'b [u8] },
    /// A request that wants no answer.
    Notify { msg_type: u16, payload: &'b [u8] },
    /// The final reply to a call of ours for which somebody waits.
    Reply { id: u32, rc: ResultCode, is_text: bool, payload: &'b [u8] },
    /// The same, but there was no memory for its payload.
    LostReply { id: u32 },
    /// The responder's hello: the connection is open.
    Opened(Box<Hello>),
    /// The initiator's hello, which is answered: the connection is open.
    Greeted(Box<Hello>),
    /// The peer will send no more requests, and executed none of ours behind `last_id`.
    Goodbye { rc: ResultCode, last_id: u32 },
}
