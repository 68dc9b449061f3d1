//! What a connection's bytes go over, and who waits at it: threads at a channel that blocks, or tasks at one that
//! tells them when to come again.

use std::fmt;
use std::io;
use std::sync::Condvar;
use std::time::Duration;

use sidewire_platform::{Address, Channel, Peer};

use super::Response;
use super::leader::{Guard, SharedConnection, State, Waiting};
use crate::error::Result;
use sidewire_wire::caller::Wake;

/// A channel, by what can be done with it without waiting.
pub(crate) trait Medium: fmt::Debug + Send + Sync + Sized + 'static {
    /// Who waits at it.
    type Waiting: Wake + fmt::Debug + Send;
    /// Wakes those who wait for another connection.
    type Bell: Bell;

    fn over(channel: Channel) -> io::Result<Self>;
    fn peer(&self) -> &Peer;
    fn peer_address(&self) -> io::Result<Address>;

    /// Sends what the system takes at once; timed out: nothing.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Nothing more is to be sent or received.
    fn shutdown(&self);

    /// The same when both sides have said and heard all.
    fn hang_up(&self);

    /// What is to become of bytes that the channel does not take now, when nobody waits for that.
    fn leave_rest(connection: &SharedConnection<Self>, state: &mut State<Self::Waiting>);

    /// Reads what is there, if nobody else reads.
    fn look<'a>(
        connection: &'a SharedConnection<Self>,
        state: Guard<'a, Self::Waiting>,
    ) -> Guard<'a, Self::Waiting>;

    /// Sends an answer on that was given outside of a handler.
    fn send_answer(connection: &SharedConnection<Self>);

    /// Asks the server something, for a handler, and waits for the answer.
    fn call_for_handler(
        connection: &SharedConnection<Self>,
        msg_type: u16,
        payload: &[u8],
    ) -> Result<Response>;

    /// Tells it something, for a handler.
    fn notify_for_handler(connection: &SharedConnection<Self>, msg_type: u16, payload: &[u8]) -> Result<()>;
}

/// Wakes all who wait for it.
pub(crate) trait Bell: fmt::Debug + Default + Send + Sync {
    fn ring(&self);
}

impl Medium for Channel {
    type Waiting = Waiting;
    type Bell = Condvar;

    fn over(channel: Channel) -> io::Result<Channel> {
        Ok(channel)
    }

    fn peer(&self) -> &Peer {
        self.peer()
    }

    fn peer_address(&self) -> io::Result<Address> {
        self.peer_address()
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, Some(Duration::ZERO))
    }

    fn shutdown(&self) {
        self.shutdown();
    }

    fn hang_up(&self) {
        self.hang_up();
    }

    fn leave_rest(_: &SharedConnection, state: &mut State) {
        // Whoever waits for room does so for these bytes, too.
        state.caller.give_up_sending();
    }

    fn look<'a>(connection: &'a SharedConnection, state: Guard<'a>) -> Guard<'a> {
        connection.read_what_is_there(state, None)
    }

    fn send_answer(connection: &SharedConnection) {
        let deadline = connection.deadline();
        drop(connection.flush(connection.lock(), None, deadline));
    }

    fn call_for_handler(connection: &SharedConnection, msg_type: u16, payload: &[u8]) -> Result<Response> {
        connection.call_for_handler(msg_type, payload)
    }

    fn notify_for_handler(connection: &SharedConnection, msg_type: u16, payload: &[u8]) -> Result<()> {
        connection.notify(msg_type, payload, connection.deadline())
    }
}

impl Bell for Condvar {
    fn ring(&self) {
        self.notify_all();
    }
}
