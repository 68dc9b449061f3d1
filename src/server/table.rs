//! The dispatch table: message type to handler, a dense array; beside it who handles what has no frames.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use sidewire_platform::{Endpoint, Peer, Tally};

use super::connected::{Connected, Locals};
use super::manager::Manager;
use super::peers::{self, Answer, Asked, Callback, OfCall, OfPing};
use super::queue::Taking;
use super::remote::Errand;
use super::threads::Threads;
use super::{Reply, Request, StreamHandler};
use crate::counters::Counters;
use crate::error::{Error, Kind};
#[cfg(feature = "describe")]
use crate::limits::DESCRIPTION;
use crate::reactor::{
    Aside, CallNews, Closed, ConnectionId, Incoming, Message, MessageReply, NotSent, Order, Service, Session,
    Visitor,
};
use sidewire_wire::{Excerpt, Failure, Layout, ReplyWriter, ResultCode, WhenSlow};

/// The state and what is done to it.
pub(super) struct Dispatch<S, T: Threads> {
    pub(super) state: S,
    pub(super) table: Vec<Option<T::Handler<S>>>,
    /// Who handles streams without frames, by the number of their source in the loop.
    pub(super) streams: HashMap<u16, T::Streams<S>>,
    /// Who handles datagrams without frames, by the number of their source in the loop.
    pub(super) messages: HashMap<u16, T::Messages<S>>,
    /// What can be subscribed to.
    pub(super) topics: HashMap<u16, WhenSlow>,
    /// What the server says of itself.
    #[cfg(feature = "describe")]
    pub(super) description: Option<Box<str>>,
    pub(super) counters: Counters,
    /// What other threads want to be run with the state.
    pub(super) errands: Taking<Errand<S>>,
    /// What the server asks clients.
    pub(super) asked: Asked<S>,
    /// Who is told of connections with frames.
    pub(super) on_connect: Option<T::Connect<S>>,
    pub(super) on_disconnect: Option<T::Disconnect<S>>,
    pub(super) manager: Manager,
    locals: Locals,
    padding: Padding,
    panics: Panics,
}

impl<S, T: Threads> Dispatch<S, T> {
    pub(super) fn new(state: S, types: usize) -> Dispatch<S, T> {
        let mut table = Vec::new();
        table.resize_with(types, || None);
        Dispatch {
            state,
            table,
            streams: HashMap::new(),
            messages: HashMap::new(),
            topics: HashMap::new(),
            #[cfg(feature = "describe")]
            description: None,
            counters: Counters::new(types),
            errands: Taking::new(),
            asked: Asked::new(),
            on_connect: None,
            on_disconnect: None,
            manager: Manager::default(),
            locals: Locals::default(),
            padding: Padding::default(),
            panics: Panics::default(),
        }
    }

    /// Runs the handler. A panic is caught and becomes "handler failed". Failures are boxed, so that those who have
    /// none carry little.
    #[inline(always)]
    fn handle(&mut self, incoming: &Incoming<'_>, reply: &mut Reply<'_>) -> Result<(), Box<Failure>> {
        let entry = usize::try_from(incoming.msg_type).ok().and_then(|index| self.table.get_mut(index));
        let Some(Some(handler)) = entry else {
            return self.without_handler(incoming, reply).map_err(Box::new);
        };
        let state = &mut self.state;
        let request = Request::new(incoming, &self.locals);
        match caught(|| handler(state, &request, reply).map_err(Box::new)) {
            Ok(result) => result,
            Err(panic) => Err(self.panicked(incoming, &panic)),
        }
    }

    #[cold]
    fn panicked(&mut self, incoming: &Incoming<'_>, panic: &Panic) -> Box<Failure> {
        self.panics.tell(Handler::Type(incoming.msg_type), incoming.endpoint, panic);
        Box::new(Failure::new(ResultCode::HANDLER_FAILED, "the handler panicked"))
    }

    /// Nobody handles this type, or the table has none like it.
    #[cold]
    fn without_handler(&mut self, incoming: &Incoming<'_>, reply: &mut Reply<'_>) -> Result<(), Failure> {
        let msg_type = incoming.msg_type;
        if self.describe(msg_type, reply)? {
            return Ok(());
        }
        if usize::try_from(msg_type).map_or(true, |index| index >= self.table.len()) {
            return Err(beyond(msg_type));
        }
        self.padding.notice(incoming);
        Err(Failure::new(ResultCode::NO_HANDLER, format!("type {msg_type} has no handler")))
    }

    /// Answers with the description, if that is what is asked for, and there is one.
    #[cfg(feature = "describe")]
    fn describe(&self, msg_type: i32, reply: &mut Reply<'_>) -> Result<bool, Failure> {
        let description = self.description.as_ref().filter(|_| msg_type == i32::from(DESCRIPTION));
        description.map_or(Ok(false), |description| reply.try_write(&**description).map(|()| true))
    }

    #[cfg(not(feature = "describe"))]
    fn describe(&self, _: i32, _: &mut Reply<'_>) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Tells whoever asked a client what became of it.
    fn tell(&mut self, endpoint: Option<&Endpoint>, msg_type: Option<u16>, callback: impl FnOnce(&mut S)) {
        let state = &mut self.state;
        if let Err(panic) = caught(|| callback(state)) {
            let place: &dyn fmt::Display = endpoint.map_or(&"the server", |endpoint| endpoint);
            self.panics.tell(Handler::Callback(msg_type), place, &panic);
        }
    }

    /// Tells who waits for the answer to a call, if somebody does.
    fn tell_answer(
        &mut self,
        endpoint: Option<&Endpoint>,
        callback: Option<OfCall<S>>,
        answer: crate::error::Result<Answer<'_>>,
    ) {
        let Some(callback) = callback else { return };
        self.tell(endpoint, Some(callback.msg_type), |state| callback.run(state, answer));
    }

    /// The same of a ping.
    fn tell_pong(
        &mut self,
        endpoint: Option<&Endpoint>,
        callback: Option<OfPing<S>>,
        took: crate::error::Result<Duration>,
    ) {
        let Some(callback) = callback else { return };
        self.tell(endpoint, None, |state| callback.run(state, took));
    }

    /// Tells that nothing became of something.
    fn tell_failure(&mut self, endpoint: Option<&Endpoint>, callback: Callback<S>, error: Error) {
        self.tell(endpoint, callback.msg_type(), |state| callback.fail(state, error));
    }

    /// Runs a stream handler. One that panics ends this connection, and the server goes on.
    fn stream<'s>(
        &mut self,
        listener: u16,
        session: &mut Session<'s>,
        run: impl FnOnce(&mut T::Streams<S>, &mut S, &mut Session<'s>),
    ) {
        let Some(handler) = self.streams.get_mut(&listener) else { return };
        let state = &mut self.state;
        if let Err(panic) = caught(|| run(handler, state, session)) {
            self.panics.tell(Handler::Stream(listener), session.endpoint(), &panic);
            session.handler_failed();
        }
    }
}

impl<S, T: Threads> Service for Dispatch<S, T> {
    #[inline(always)]
    fn request(
        &mut self,
        incoming: &Incoming<'_>,
        writer: ReplyWriter<'_>,
    ) -> Result<ResultCode, Box<Aside>> {
        self.counters.request(incoming.msg_type);
        let mut reply = Reply::new(writer, &incoming.back);
        let result = self.handle(incoming, &mut reply);
        let how = reply.finish(result);
        match &how {
            Ok(rc) => self.counters.answered(incoming.msg_type, *rc),
            Err(aside) => {
                if let Aside::Attached { rc, .. } = **aside {
                    self.counters.answered(incoming.msg_type, rc);
                }
            }
        }
        how
    }

    fn notify(&mut self, incoming: &Incoming<'_>) {
        self.counters.notify();
        let result = self.handle(incoming, &mut Reply::discarded(&incoming.back));
        if let Err(failure) = result {
            log::debug!(
                "a notify of type {} failed: {}",
                incoming.msg_type,
                Excerpt::new(&failure.to_string())
            );
        }
    }

    fn run(&mut self) {
        let Some(errand) = self.errands.next() else { return };
        let state = &mut self.state;
        if let Err(panic) = caught(|| errand(state)) {
            self.panics.tell(Handler::Errand, &"the server", &panic);
        }
    }

    fn stopping(&mut self) {
        self.manager.stopping();
    }

    fn next_order(&mut self) -> Option<Order> {
        self.asked.next_order()
    }

    fn call_news(&mut self, connection: ConnectionId, endpoint: Option<&Endpoint>, news: CallNews<'_>) {
        match news {
            CallNews::Sent { id } | CallNews::Pinged { id } => self.asked.begin(connection, id),
            CallNews::NotSent(why) => {
                if let Some(callback) = self.asked.give_up() {
                    let error = peers::not_sent(callback.operation(), endpoint, why);
                    self.tell_failure(endpoint, callback, error);
                }
            }
            CallNews::Answered { id, rc, is_text, payload } => {
                let callback = self.asked.end_call(connection, id);
                self.tell_answer(endpoint, callback, Ok(Answer::new(rc, is_text, payload)));
            }
            CallNews::Lost { id } => {
                let callback = self.asked.end_call(connection, id);
                self.tell_answer(endpoint, callback, Err(peers::lost(endpoint)));
            }
            CallNews::TimedOut { id } => {
                let callback = self.asked.end_call(connection, id);
                self.tell_answer(endpoint, callback, Err(Error::of_server("call", endpoint, Kind::TimedOut)));
            }
            CallNews::Ponged { id, took } => {
                let callback = self.asked.end_ping(connection, id);
                self.tell_pong(endpoint, callback, Ok(took));
            }
            CallNews::NoPong { id } => {
                let callback = self.asked.end_ping(connection, id);
                self.tell_pong(endpoint, callback, Err(Error::of_server("ping", endpoint, Kind::TimedOut)));
            }
            CallNews::Left { may_be_answered } => {
                for callback in self.asked.end_calls(connection, may_be_answered) {
                    let error = peers::not_sent(callback.operation(), endpoint, NotSent::Gone);
                    self.tell_failure(endpoint, callback, error);
                }
            }
            CallNews::Gone => {
                for callback in self.asked.end_all(connection) {
                    let error = peers::gone(callback.operation(), endpoint);
                    self.tell_failure(endpoint, callback, error);
                }
            }
        }
    }

    fn connected(&mut self, visitor: &Visitor<'_>) -> bool {
        let Some(handler) = &mut self.on_connect else { return false };
        let (state, connected) = (&mut self.state, Connected::new(visitor, &self.locals));
        if let Err(panic) = caught(|| handler(state, &connected)) {
            self.panics.tell(Handler::Connect, visitor.endpoint, &panic);
        }
        true
    }

    fn disconnected(&mut self, visitor: &Visitor<'_>, why: &Closed) {
        if let Some(handler) = &mut self.on_disconnect {
            let (state, connected) = (&mut self.state, Connected::new(visitor, &self.locals));
            if let Err(panic) = caught(|| handler(state, &connected, why)) {
                self.panics.tell(Handler::Disconnect, visitor.endpoint, &panic);
            }
        }
        self.locals.forget(visitor.connection);
    }

    fn topic(&self, msg_type: i32) -> Result<WhenSlow, Failure> {
        let index = usize::try_from(msg_type).ok().filter(|index| *index < self.table.len());
        let Some(index) = index else { return Err(beyond(msg_type)) };
        let topic = u16::try_from(index).ok().and_then(|topic| self.topics.get(&topic));
        let none = || Failure::new(ResultCode::NO_HANDLER, format!("type {msg_type} is no topic"));
        topic.copied().ok_or_else(none)
    }

    fn opened(&mut self, listener: u16, session: &mut Session<'_>) {
        self.stream(listener, session, |handler, state, session| handler.opened(state, session));
    }

    fn data(&mut self, listener: u16, session: &mut Session<'_>, bytes: &[u8]) {
        self.stream(listener, session, |handler, state, session| handler.data(state, session, bytes));
    }

    fn half_closed(&mut self, listener: u16, session: &mut Session<'_>) {
        self.stream(listener, session, |handler, state, session| handler.half_closed(state, session));
    }

    fn closed(&mut self, listener: u16, id: ConnectionId, why: &Closed) {
        let Some(handler) = self.streams.get_mut(&listener) else { return };
        let state = &mut self.state;
        if let Err(panic) = caught(|| handler.closed(state, id, why)) {
            self.panics.tell(Handler::Stream(listener), &"the end of a stream", &panic);
        }
    }

    fn message(&mut self, socket: u16, message: &Message<'_>, reply: &mut MessageReply<'_>) {
        let Some(handler) = self.messages.get_mut(&socket) else { return };
        let state = &mut self.state;
        if let Err(panic) = caught(|| handler(state, message, reply)) {
            self.panics.tell(Handler::Messages(socket), message.endpoint(), &panic);
        }
    }
}

/// Nobody handles a type like this.
fn beyond(msg_type: i32) -> Failure {
    Failure::new(ResultCode::UNKNOWN_TYPE, format!("type {msg_type} is beyond the dispatch table"))
}

/// What a handler panicked with.
struct Panic(Box<dyn Any + Send>);

/// Runs a handler. One that panics may leave the state half-changed; the docs of `Server::on` say so.
#[inline]
fn caught<R>(run: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(run)).map_err(Panic)
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.downcast_ref::<&str>().copied();
        let text = text.or_else(|| self.0.downcast_ref::<String>().map(String::as_str));
        Excerpt::new(text.unwrap_or("no text")).fmt(f)
    }
}

/// Which handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Handler {
    /// Of requests of this type.
    Type(i32),
    /// Of the streams of the listener with this number.
    Stream(u16),
    /// Of the messages on the socket with this number.
    Messages(u16),
    /// Of new connections, and of their ends.
    Connect,
    Disconnect,
    /// None: what another thread wants to be run.
    Errand,
    /// Of answers to the server's calls of this type, or to its pings.
    Callback(Option<u16>),
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Handler::Type(msg_type) => write!(f, "the handler of type {msg_type}"),
            Handler::Stream(_) => f.write_str("the stream handler"),
            Handler::Messages(_) => f.write_str("the message handler"),
            Handler::Connect => f.write_str("the handler of new connections"),
            Handler::Disconnect => f.write_str("the handler of ended connections"),
            Handler::Callback(Some(msg_type)) => {
                write!(f, "the closure for the answer to a call of type {msg_type}")
            }
            Handler::Callback(None) => f.write_str("the closure for the answer to a ping"),
            Handler::Errand => f.write_str("a closure for the state"),
        }
    }
}

/// How often each handler panicked.
#[derive(Default)]
struct Panics(HashMap<Handler, Tally>);

impl Panics {
    /// Whoever calls can make a handler panic again and again, so this is tallied.
    fn tell(&mut self, handler: Handler, place: &dyn fmt::Display, panic: &Panic) {
        let Some(count) = self.0.entry(handler).or_default().next_worth_telling() else { return };
        log::error!("{place}: {handler} panicked: {panic}; {count} times so far");
    }
}

/// Clients that send zeros in place of a request.
#[derive(Default)]
struct Padding {
    tally: Tally,
    /// The last of them.
    last: Option<Peer>,
}

impl Padding {
    /// Twelve zero bytes are a request, too; who sends them as a rule pads its struct, and so sends
    /// many in a row.
    fn notice(&mut self, incoming: &Incoming<'_>) {
        let is_zeros =
            matches!((incoming.msg_type, incoming.layout, incoming.payload), (0, Layout::Classic, []));
        if !is_zeros || self.last.as_ref() == Some(incoming.peer) {
            return;
        }
        self.last = Some(incoming.peer.clone());
        if let Some(count) = self.tally.next_worth_telling() {
            log::warn!(
                "{}: {} sends zeros where a request should be: if it writes its whole struct of 12 + N bytes, it \
                 needs a listener with `classic_fixed(N)`; {count} so far",
                incoming.endpoint,
                incoming.peer
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sidewire_platform::{Credentials, Endpoint, User};

    use super::*;
    use crate::reactor::mailbox::Mailbox;
    use crate::reactor::{Origin, ReturnAddress};

    #[test]
    fn one_client_that_pads_its_struct_is_told_of_once() {
        let endpoint: Endpoint = "local:store".parse().expect("an endpoint");
        let peer = |pid| Peer::new(Some(Credentials::new(User::Uid(1000), Some(pid), None)), None);
        let mailbox = Arc::new(Mailbox::new(Box::new(|| Ok(()))));
        let back = ReturnAddress::nobody(&mailbox, b"");
        let mut padding = Padding::default();
        let mut sends_zeros = |peer: &Peer| {
            let (layout, origin) = (Layout::Classic, Origin::Datagram(None));
            padding.notice(&Incoming {
                msg_type: 0,
                payload: &[],
                peer,
                endpoint: &endpoint,
                layout,
                timeout_ms: 0,
                origin,
                back,
            });
        };
        (0..3).for_each(|_| sends_zeros(&peer(1)));
        sends_zeros(&peer(2));
        assert_eq!(padding.tally.next_worth_telling(), Some(3), "two clients, and this question");
    }
}
