//! The dispatch table: message type to handler, a dense array.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sidewire_platform::{Peer, Tally};

use super::{Reply, Request, StreamHandler};
use crate::counters::Counters;
use crate::reactor::{Closed, Incoming, Message, MessageReply, Service, Session, SessionId};
use sidewire_wire::Excerpt;
use sidewire_wire::ResultCode;
use sidewire_wire::{Failure, Layout, ReplyWriter};

/// A handler, boxed: the table is the one place where a request goes through a `dyn`.
pub(super) type Handler<S> =
    Box<dyn FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + Send>;

/// A handler of datagrams without frames.
pub(super) type MessageHandler<S> = Box<dyn FnMut(&mut S, &Message<'_>, &mut MessageReply<'_>) + Send>;

/// The state and what is done to it.
pub(super) struct Dispatch<S> {
    pub(super) state: S,
    pub(super) table: Vec<Option<Handler<S>>>,
    /// Who handles streams without frames, by the number of their listener.
    pub(super) streams: HashMap<u32, Box<dyn StreamHandler<S>>>,
    /// Who handles datagrams without frames, by the number of their port.
    pub(super) messages: HashMap<u32, MessageHandler<S>>,
    pub(super) counters: Counters,
    /// Clients that send zeros in place of a request, and the last of them.
    pub(super) zeros: Tally,
    pub(super) last_with_zeros: Option<Peer>,
    /// How often each handler panicked.
    pub(super) panics: HashMap<Handles, Tally>,
}

/// What a handler handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Handles {
    /// Requests of this type.
    Type(i32),
    /// The streams of the listener with this number.
    Stream(u32),
    /// The messages of the port with this number.
    Messages(u32),
}

impl fmt::Display for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Handles::Type(msg_type) => write!(f, "the handler of type {msg_type}"),
            Handles::Stream(_) => f.write_str("the stream handler"),
            Handles::Messages(_) => f.write_str("the message handler"),
        }
    }
}

/// Whoever calls can make a handler panic again and again, so this is tallied.
fn panicked(
    panics: &mut HashMap<Handles, Tally>,
    who: Handles,
    place: &dyn fmt::Display,
    panic: &(dyn Any + Send),
) {
    let Some(count) = panics.entry(who).or_default().next_worth_telling() else { return };
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = Excerpt::new(text.unwrap_or("no text"));
    log::error!("{place}: {who} panicked: {text}; {count} times so far");
}

impl<S> Dispatch<S> {
    pub(super) fn new(state: S, types: usize) -> Dispatch<S> {
        let mut table = Vec::new();
        table.resize_with(types, || None);
        Dispatch {
            state,
            table,
            streams: HashMap::new(),
            messages: HashMap::new(),
            counters: Counters::default(),
            zeros: Tally::new(),
            last_with_zeros: None,
            panics: HashMap::new(),
        }
    }

    /// Runs the handler. A panic is caught and becomes "handler failed".
    fn run(&mut self, incoming: &Incoming<'_>, reply: &mut Reply<'_>) -> Result<(), Failure> {
        let msg_type = incoming.msg_type;
        let entry = usize::try_from(msg_type).ok().and_then(|index| self.table.get_mut(index));
        let handler = match entry {
            Some(Some(handler)) => handler,
            Some(None) => {
                if let (0, Layout::Classic, []) = (msg_type, incoming.layout, incoming.payload) {
                    self.hint_at_padding(incoming);
                }
                return Err(Failure::new(ResultCode::NO_HANDLER, format!("type {msg_type} has no handler")));
            }
            None => {
                let text = format!("type {msg_type} is beyond the dispatch table");
                return Err(Failure::new(ResultCode::UNKNOWN_TYPE, text));
            }
        };
        let state = &mut self.state;
        let request = Request::new(incoming);
        // The state may be half-changed after a panic; the docs of `Server::on` say so.
        catch_unwind(AssertUnwindSafe(|| handler(state, &request, reply))).unwrap_or_else(|panic| {
            panicked(&mut self.panics, Handles::Type(msg_type), incoming.endpoint, &*panic);
            Err(Failure::new(ResultCode::HANDLER_FAILED, "the handler panicked"))
        })
    }
}

impl<S> Dispatch<S> {
    /// Twelve zero bytes are a request, too; who sends them as a rule pads its struct, and so sends
    /// many in a row.
    fn hint_at_padding(&mut self, incoming: &Incoming<'_>) {
        if self.last_with_zeros.as_ref() == Some(incoming.peer) {
            return;
        }
        self.last_with_zeros = Some(incoming.peer.clone());
        if let Some(count) = self.zeros.next_worth_telling() {
            log::warn!(
                "{}: {} sends zeros where a request should be: if it writes its whole struct of 12 + N bytes, it \
                 needs a listener with `classic_fixed(N)`; {count} so far",
                incoming.endpoint,
                incoming.peer
            );
        }
    }
}

impl<S> Service for Dispatch<S> {
    fn request(&mut self, incoming: &Incoming<'_>, writer: ReplyWriter<'_>) -> ResultCode {
        let mut reply = Reply::new(writer);
        let result = self.run(incoming, &mut reply);
        let rc = reply.finish(result);
        self.counters.request(!rc.is_ok());
        rc
    }

    fn notify(&mut self, incoming: &Incoming<'_>) {
        self.counters.notify();
        let result = self.run(incoming, &mut Reply::discarded());
        if let Err(failure) = result {
            log::debug!(
                "a notify of type {} failed: {}",
                incoming.msg_type,
                Excerpt::new(&failure.to_string())
            );
        }
    }

    fn opened(&mut self, listener: u32, session: &mut Session<'_>) {
        self.stream(listener, session, |handler, state, session| handler.opened(state, session));
    }

    fn data(&mut self, listener: u32, session: &mut Session<'_>, bytes: &[u8]) {
        self.stream(listener, session, |handler, state, session| handler.data(state, session, bytes));
    }

    fn half_closed(&mut self, listener: u32, session: &mut Session<'_>) {
        self.stream(listener, session, |handler, state, session| handler.half_closed(state, session));
    }

    fn closed(&mut self, listener: u32, id: SessionId, why: &Closed) {
        let Some(handler) = self.streams.get_mut(&listener) else { return };
        let state = &mut self.state;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| handler.closed(state, id, why))) {
            panicked(&mut self.panics, Handles::Stream(listener), &"the end of a stream", &*panic);
        }
    }

    fn message(&mut self, port: u32, message: &Message<'_>, reply: &mut MessageReply<'_>) {
        let Some(handler) = self.messages.get_mut(&port) else { return };
        let state = &mut self.state;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| handler(state, message, reply))) {
            panicked(&mut self.panics, Handles::Messages(port), message.endpoint(), &*panic);
        }
    }
}

impl<S> Dispatch<S> {
    /// Runs a stream handler. One that panics ends this connection, and the server goes on.
    fn stream<'s>(
        &mut self,
        listener: u32,
        session: &mut Session<'s>,
        run: impl FnOnce(&mut dyn StreamHandler<S>, &mut S, &mut Session<'s>),
    ) {
        let Some(handler) = self.streams.get_mut(&listener) else { return };
        let state = &mut self.state;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&mut **handler, state, session))) {
            panicked(&mut self.panics, Handles::Stream(listener), session.endpoint(), &*panic);
            session.handler_failed();
        }
    }
}
