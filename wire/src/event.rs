//! What a connection tells its owner.

use crate::hello::Hello;
use crate::parcel::Parcel;
use crate::rc::ResultCode;
use crate::reply::Ticket;
use crate::task::Task;

/// What came in. Payloads borrow from the bytes that were received.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'b> {
    /// To be answered, now or later, by `Connection::begin_reply` with this ticket.
    Request {
        /// Names the request to whoever answers it.
        ticket: Ticket,
        /// For the handler.
        payload: &'b [u8],
    },
    /// A request that wants no answer.
    Notify {
        /// Picks the handler.
        msg_type: u16,
        /// For the handler.
        payload: &'b [u8],
    },
    /// The peer wants to be told of a topic, which is the ticket's type. To be answered like a request: with
    /// `Connection::accept_subscription`, or with a failure.
    Subscribe {
        /// Names the call and the topic.
        ticket: Ticket,
    },
    /// It wants to be told no more: `Connection::end_subscription`, or a failure.
    Unsubscribe {
        /// Names the call and the topic.
        ticket: Ticket,
    },
    /// The peer tells of a topic that we have subscribed to.
    Published {
        /// Which.
        topic: u16,
        /// Its number within the subscription, from 1; behind the last number 1 comes again.
        sequence: u32,
        /// How many events of the topic got lost since the one before it.
        dropped: u32,
        /// What is told.
        payload: &'b [u8],
    },
    /// The final reply to a call of ours for which somebody waits.
    Reply {
        /// The call's, as `Connection::push_request` gave it.
        id: u32,
        /// How it went.
        rc: ResultCode,
        /// Whether the payload is a text that explains the code.
        is_text: bool,
        /// The answer, or that text.
        payload: &'b [u8],
    },
    /// A part of the reply to a call of ours for which somebody waits; more follow. What it takes in
    /// [credit](crate::part_cost) is to be given back with `Connection::give_credit` once it has been taken.
    Part {
        /// The call's.
        id: u32,
        /// What this part says.
        payload: &'b [u8],
    },
    /// The same as the final reply, but there was no memory for its payload; or for that of a part, and then
    /// the call was cancelled.
    LostReply {
        /// The call's.
        id: u32,
    },
    /// A sign of life, which answers our ping with this id and all before it.
    Pong {
        /// As `Connection::push_ping` was given it, or `Connection::begin_ping` gave it, if the peer keeps to the rules.
        id: u32,
    },
    /// The responder's hello: the connection is open.
    Opened(Box<Hello>),
    /// The initiator's hello, which is answered: the connection is open.
    Greeted(Box<Hello>),
    /// The initiator's hello, which asks for something that the [settings](crate::Settings) grant, if it is the
    /// right one who asks. To be answered at once, by `Connection::grant` or `Connection::deny`; otherwise it is
    /// denied. Granted, the connection is open, and no requests come.
    Asks {
        /// For what.
        task: Task,
        /// Who, by his own word.
        hello: Box<Hello>,
    },
    /// The initiator that was [granted](crate::Task::Handover) the endpoint has what it needs to serve there: from here on
    /// it is its own. It waits for a goodbye, which with 0 says that it may have it.
    TakesOver,
    /// Something besides its bytes has come with a frame, on a connection that [attaches](crate::Connection::attaches).
    Attached {
        /// What.
        parcel: Parcel,
        /// What the frame says; `None` if there is nobody to be told.
        then: Option<Box<Event<'b>>>,
    },
    /// The peer will send no more requests, and executed none of ours behind `last_id`.
    Goodbye {
        /// Why: 0 if it is just done.
        rc: ResultCode,
        /// The last call of ours that it accepted; 0 if there was none.
        last_id: u32,
    },
}
