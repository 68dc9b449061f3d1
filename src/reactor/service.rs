//! What the loop hands to whoever owns it.

use sidewire_platform::{Address, Endpoint, Peer};

use super::aside::Aside;
use super::asking::ReturnAddress;
use super::link::About;
use super::system::Ends;
use super::{CallNews, Closed, ConnectionId, Message, MessageReply, Order, Session};
use sidewire_wire::{App, Failure, Layout, Parcel, ReplyWriter, ResultCode, WhenSlow};

/// Handles what peers send. Sources are told apart by the numbers that they got when they were added.
pub(crate) trait Service {
    /// Handles a request. The reply is finished when this returns, which says how it went; or it comes later, by
    /// way of `incoming.back`.
    fn request(&mut self, incoming: &Incoming<'_>, reply: ReplyWriter<'_>) -> Result<ResultCode, Box<Aside>>;
    /// Handles a request that wants no answer.
    fn notify(&mut self, incoming: &Incoming<'_>);
    /// Runs the next of the closures that wait for the state.
    fn run(&mut self);
    /// The loop has been told to stop, and does from here on.
    fn stopping(&mut self);
    /// The next order for a single connection.
    fn next_order(&mut self) -> Option<Order>;
    /// What has become of the server's own calls on this connection, whose endpoint is known while it is there.
    fn call_news(&mut self, connection: ConnectionId, endpoint: Option<&Endpoint>, news: CallNews<'_>);
    /// A peer that speaks frames has been let in and has said so: its hello, or its first request, has come.
    /// Says whether a handler was told.
    fn connected(&mut self, visitor: &Visitor<'_>) -> bool;
    /// The end of such a connection.
    fn disconnected(&mut self, visitor: &Visitor<'_>, why: &Closed);
    /// What becomes of a topic's events for whom too much waits already; why it can't be subscribed to, if it
    /// can't.
    fn topic(&self, msg_type: i32) -> Result<WhenSlow, Failure>;
    /// A stream without frames is open.
    fn opened(&mut self, source: u16, session: &mut Session<'_>);
    /// Bytes or a line.
    fn data(&mut self, source: u16, session: &mut Session<'_>, bytes: &[u8]);
    /// The peer sends no more.
    fn half_closed(&mut self, source: u16, session: &mut Session<'_>);
    /// The end of a stream that was opened.
    fn closed(&mut self, source: u16, id: ConnectionId, why: &Closed);
    /// A datagram without frames.
    fn message(&mut self, source: u16, message: &Message<'_>, reply: &mut MessageReply<'_>);
}

/// Who has connected.
#[derive(Debug)]
pub(crate) struct Visitor<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: &'a Peer,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) layout: Layout,
    pub(crate) app: Option<&'a App>,
}

/// One request and where it came from.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) msg_type: i32,
    pub(crate) payload: &'a [u8],
    pub(crate) peer: &'a Peer,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) layout: Layout,
    /// For how many milliseconds its caller waits; 0 if for ever, or for nothing.
    pub(crate) timeout_ms: u32,
    pub(crate) origin: Origin<'a>,
    pub(crate) back: ReturnAddress<'a>,
}

/// By what way a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    Stream(Way<'a>),
    /// `None`: a sender without an address.
    Datagram(Option<&'a Address>),
}

/// A stream with frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) ends: &'a dyn Ends,
    pub(super) about: &'a Option<Box<About>>,
}

impl<'a> Way<'a> {
    /// What came with the frame that is handled now.
    pub(crate) fn attached(&self) -> Option<&'a Parcel> {
        self.about.as_ref()?.attached.as_ref()
    }

    /// What the peer's application says of itself.
    pub(crate) fn app(&self) -> Option<&'a App> {
        self.about.as_ref()?.app.as_ref()
    }
}
