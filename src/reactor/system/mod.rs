//! What a loop stands on: streams, listeners, datagram sockets, a poll, a waker, and the clock.
//!
//! [`Os`] is the real one, from `sidewire_platform`. That of tests (`memory`) has none of them: its
//! peers are queues of bytes and its time passes when a test says so, or when the loop would sleep. What
//! these say is what the contract in `sidewire_platform` says of the functions of the same name.

#[cfg(any(test, feature = "harness"))]
pub(crate) mod memory;
mod os;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use mio::{Interest, Token};
use sidewire_platform::{Address, Attachment, Carried, Endpoint, Peer, Received, SendBuffer, User};

use super::mailbox::Waker;
use crate::access::Asked;

pub(crate) use os::Os;

/// All that a loop asks of the world outside it.
pub(crate) trait System: Sized {
    type Stream: StreamIo;
    type Listener: Debug;
    type Datagrams: DatagramIo;
    /// Room for what a poll tells.
    type Events: Debug;
    /// What is given up when the process is out of descriptors.
    type Reserve;
    /// The right to start a server at an endpoint, or to leave one.
    type StartLock: Debug;

    /// The time. Read where it is used, never carried over a handler.
    fn now(&self) -> Instant;
    fn poll(&mut self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()>;
    /// Room for so many events of one poll.
    fn events(capacity: usize) -> Self::Events;
    /// What the last poll told.
    fn told(events: &Self::Events) -> impl Iterator<Item = Told>;
    /// Has the poll tell of this token.
    fn waker(&self, token: Token) -> io::Result<Waker>;
    fn reserve(&self) -> io::Result<Self::Reserve>;
    fn is_descriptor_limit(error: &io::Error) -> bool;

    fn register(&self, stream: &mut Self::Stream, token: Token, interest: Interest) -> io::Result<()>;
    fn reregister(&self, stream: &mut Self::Stream, token: Token, interest: Interest) -> io::Result<()>;
    fn deregister(&self, stream: &mut Self::Stream) -> io::Result<()>;

    fn listen(&self, listener: &mut Self::Listener, token: Token) -> io::Result<()>;
    fn accept(&self, listener: &mut Self::Listener, token: Token) -> io::Result<Self::Stream>;
    /// Has nobody find the way to it any more; who had found it can be accepted.
    fn withdraw(&self, listener: &mut Self::Listener);
    /// Sends bytes to a peer, with what it needs to listen there as well. Says how many went along with that.
    fn pass(&self, listener: &Self::Listener, stream: &Self::Stream, bytes: &[u8]) -> io::Result<usize>;
    /// Leaves a listener to whoever has got that; who is ours alone can be accepted.
    fn hand_on(&self, listener: &mut Self::Listener);
    fn close_listener(&self, listener: Self::Listener) -> io::Result<()>;
    /// `None`: somebody has it.
    fn lock_start(&self, endpoint: &Endpoint) -> io::Result<Option<Self::StartLock>>;
    /// Whether nothing is left of a listener that was closed, nor of its streams.
    fn is_gone(&self, endpoint: &Endpoint) -> bool;
    fn listener_can_be_lost(listener: &Self::Listener) -> bool;
    fn renew_listener(&self, listener: &mut Self::Listener, token: Token) -> io::Result<bool>;

    fn watch(&self, socket: &mut Self::Datagrams, token: Token, ready: Ready) -> io::Result<()>;
    fn unwatch(&self, socket: &mut Self::Datagrams) -> io::Result<()>;
    fn renew_datagrams(&self, socket: &mut Self::Datagrams, token: Token) -> io::Result<bool>;
}

/// Is called where the poll can't watch a socket, when something has come.
pub(crate) type Ready = Box<dyn Fn() + Send + Sync>;

/// One thing that a poll tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) token: Token,
    /// The end of what comes, or an error, may stand behind what is there.
    pub(crate) is_end: bool,
}

/// The addresses of a connection's ends.
pub(crate) trait Ends: Debug {
    fn peer_address(&self) -> io::Result<Address>;
    fn local_address(&self) -> io::Result<Address>;
}

/// One accepted connection.
pub(crate) trait StreamIo: Ends + Asked {
    /// Whether a read that did not fill its buffer has emptied the connection.
    const SHORT_READ_DRAINS: bool;

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn read_append(&mut self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize>;
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
    /// The same as `read`, with what is attached to the bytes.
    fn read_attached(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Carried)>;
    /// The same as `write`, with what goes with the first byte.
    fn write_attached(&mut self, pieces: &[IoSlice<'_>], attachments: &[Attachment]) -> io::Result<usize>;
    fn has_half_close(&self) -> bool;

    /// Whether the other side still has its end open.
    fn is_connected(&self) -> bool;
    fn shutdown_write(&mut self) -> io::Result<()>;
    fn peer(&self) -> io::Result<Peer>;
    fn close_flushed(self, within: Duration);
    fn abort(self);
}

/// One bound datagram socket.
pub(crate) trait DatagramIo: Debug {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received>;
    fn send(&mut self, bytes: &[u8], to: &Address, owner: Option<&User>) -> io::Result<()>;
    fn send_buffer(&self) -> Option<SendBuffer>;
    fn can_be_lost(&self) -> bool;
}
