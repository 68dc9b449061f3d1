//! The dispatch table: message type to handler, a dense array.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Failure, Reply, Request};
use crate::counters::Counters;
use crate::reactor::{Incoming, Service};
use crate::wire::ReplyWriter;
use crate::wire::rc::ResultCode;

/// A handler, boxed: the table is the one place where a request goes through a `dyn`.
pub(super) type Handler<S> =
    Box<dyn FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + Send>;

/// The state and what is done to it.
pub(super) struct Dispatch<S> {
    pub(super) state: S,
    pub(super) table: Vec<Option<Handler<S>>>,
    pub(super) counters: Counters,
}

impl<S> Dispatch<S> {
    /// Runs the handler. A panic is caught and becomes "handler failed".
    fn run(&mut self, incoming: &Incoming<'_>, reply: &mut Reply<'_>) -> Result<(), Failure> {
        let msg_type = incoming.msg_type;
        let entry = usize::try_from(msg_type).ok().and_then(|index| self.table.get_mut(index));
        let handler = match entry {
            Some(Some(handler)) => handler,
            Some(None) => {
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
        catch_unwind(AssertUnwindSafe(|| handler(state, &request, reply))).unwrap_or_else(|_| {
            log::error!("the handler of type {msg_type} panicked");
            Err(Failure::new(ResultCode::HANDLER_FAILED, "the handler panicked"))
        })
    }
}

impl<S> Service for Dispatch<S> {
    fn request(&mut self, incoming: &Incoming<'_>, writer: ReplyWriter<'_>) {
        let mut reply = Reply::new(writer);
        let result = self.run(incoming, &mut reply);
        let rc = reply.finish(result);
        self.counters.request(!rc.is_ok());
    }

    fn notify(&mut self, incoming: &Incoming<'_>) {
        self.counters.notify();
        let result = self.run(incoming, &mut Reply::discarded());
        if let Err(failure) = result {
            log::debug!("a notify of type {} failed: {failure}", incoming.msg_type);
        }
    }
}
