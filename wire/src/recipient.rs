//! To whom a connection hands what it has received.

use crate::connection::Connection;
use crate::event::Event;
use crate::rc::ResultCode;
use crate::reply::Ticket;

/// To whom [`Connection::receive_for`] hands what came in: somebody who has a way of his own for requests, which are
/// most of what a server gets.
pub trait Recipient {
    /// What [`Event::Request`] says, in pieces: to put it together would cost more than much of the rest.
    #[inline]
    fn request(&mut self, connection: &mut Connection, ticket: Ticket, payload: &[u8]) {
        self.event(connection, Event::Request { ticket, payload });
    }

    /// What [`Event::Reply`] says, in pieces.
    #[inline]
    fn reply(&mut self, connection: &mut Connection, id: u32, rc: ResultCode, is_text: bool, payload: &[u8]) {
        self.event(connection, Event::Reply { id, rc, is_text, payload });
    }

    /// Anything. Requests and replies come here too, where something else is not as usual.
    fn event(&mut self, connection: &mut Connection, event: Event<'_>);
}

/// A closure, which has no way of its own.
pub(crate) struct Each<'f, F>(pub(crate) &'f mut F);

impl<F: FnMut(&mut Connection, Event<'_>)> Recipient for Each<'_, F> {
    fn event(&mut self, connection: &mut Connection, event: Event<'_>) {
        (self.0)(connection, event);
    }
}
