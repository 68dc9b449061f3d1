//! Facts about one datagram, the same on every system.

use crate::peer::{Address, Credentials};

/// How full the buffer is that a socket's datagrams leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendBuffer {
    /// Bytes, as the system counts them, that receivers have not read yet.
    pub unread: usize,
    /// From how many on nothing more is taken, for whomever it is.
    pub size: usize,
}

impl SendBuffer {
    /// For whoever stands in for a system.
    #[must_use]
    pub fn new(unread: usize, size: usize) -> SendBuffer {
        SendBuffer { unread, size }
    }
}

/// What is known about a datagram that has just been received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// How many bytes of it are in the buffer. 0 is a message like any other.
    pub length: usize,
    /// It was longer than the buffer, and its end is lost (MSG_TRUNC, recvmsg(2); error 10040 on Windows).
    pub truncated: bool,
    /// Where an answer goes. `None` for a sender without an address: a Unix socket that is not
    /// bound, or a mailslot's client. It is what the sender chose, so answer there but never
    /// take it for proof of who sent. A path is answered only with its sender's user at hand: see
    /// [`Datagrams::send`](crate::Datagrams::send).
    pub from: Option<Address>,
    /// What the kernel says about the sender, where it says anything: see
    /// [`Datagrams::receive`](crate::Datagrams::receive).
    pub credentials: Option<Credentials>,
}

impl Received {
    /// A whole datagram of so many bytes, of which nothing else is known. For whoever stands in for a system.
    #[must_use]
    pub fn whole(length: usize) -> Received {
        Received { length, truncated: false, from: None, credentials: None }
    }
}
