//! Windows: named pipes, mailslots and Winsock.
//!
//! | endpoint | what it is here |
//! |---|---|
//! | `local:NAME` | the named pipe `\\.\pipe\sidewire-SID-NAME`, SID being that of the current user |
//! | `pipe:NAME` | the named pipe `\\.\pipe\NAME` |
//! | `tcp:HOST:PORT` | a Winsock stream socket |
//! | `udp:HOST:PORT` | a Winsock datagram socket |
//! | `mailslot:NAME` | the mailslot `\\.\mailslot\NAME` |
//!
//! Servers wait with a [`Poll`]: [`Listener`] keeps several pipe instances pending, and each [`Stream`] is one of them
//! with a client. What is under way on pipes ends in a completion port of ours; sockets are mio's. Clients ([`Channel`]) wait on events of their own
//! with overlapped reads and writes, on pipes and on sockets alike.
//!
//! Datagrams are simpler: [`Datagrams`] is a UDP socket, or a mailslot that a thread
//! reads into a queue; [`DatagramChannel`] is a UDP socket that waits with WSAPoll, or an opened
//! mailslot.
//!
//! # What has been proven, and where
//!
//! The tests of this folder run under Wine. Wine does not enforce everything that Windows does, so
//! what follows is written to Microsoft's documentation and **not proven on real Windows** (the tests
//! in `tests/windows_enforcement.rs` will, wherever somebody runs them there):
//!
//! * that the DACL, the mandatory label and `PIPE_REJECT_REMOTE_CLIENTS` keep others out (under
//!   Wine the descriptor is stored and reads back as set, but nobody is refused by it);
//! * that `FILE_FLAG_FIRST_PIPE_INSTANCE` makes a second server fail (under Wine it does not; there
//!   the count of instances, which [`Listener::bind`] checks too, does the job);
//! * that `SECURITY_IDENTIFICATION` suffices to read a client's token, that a second
//!   ConnectNamedPipe could cost it (it is never made), and that integrity levels differ between peers.
//!   Before the first read nobody is asked, so what Windows says then does not matter;
//! * that an operation on a pipe that was pending puts one packet into its port, also if it was cancelled, one that was
//!   over at once none (`FILE_SKIP_COMPLETION_PORT_ON_SUCCESS`), and none that has an event with the lowest bit set: seen
//!   under Wine. A packet too many would be one of memory that is given back;
//! * that the clients of a server that was killed keep its pipe's name (under Wine they don't), that
//!   such a pipe can't be opened, which is how [`Listener::bind`] tells it from another server's, and
//!   that disconnecting them frees the name (the waiting itself is tested without a pipe);
//! * that groups which a token has for denying only are none of a client's, and what the name of a running program's
//!   file is once somebody has renamed that;
//! * that a refused TCP connect on loopback fails at once (`SIO_TCP_INITIAL_RTO`; Wine has no such
//!   delay in the first place), and that `SO_EXCLUSIVEADDRUSE` keeps others off a port (in which
//!   case a second server may be told WSAEACCES), and that a backlog over 200 needs a hint;
//! * that one write to a socket would take megabytes (Wine 8 takes what Linux' buffer takes), and
//!   that a socket closed right behind its last bytes may lose them (never under Wine);
//! * that a TCP reset reads as `ConnectionReset` (Wine 8 reads it as end of stream);
//! * about child processes: that no handle beside the standard streams is inherited, that a child is in its
//!   job from its first moment and ends with it, and that there is no window, are seen under Wine; that nobody
//!   else gets hold of pipe and event by their rights is not, nor of the event by which `sidewire stop` asks;
//! * that the object of an app's instance can be opened for reading only from below its integrity level, which is how
//!   an elevated instance is known; that sessions have objects of their own (the pipe has the session's number in its
//!   name); that `AllowSetForegroundWindow` lets the instance put its window in front (there is
//!   no display where the tests run);
//! * which pipes there are (`local_endpoints`): Wine 8 does not tell;
//! * about datagrams: what `udp.rs` and `mailslot.rs` list.

#[cfg(feature = "tokio")]
mod async_channel;
#[cfg(feature = "tokio")]
mod async_poll;
mod attachment;
mod channel;
mod child;
mod closing;
mod command_line;
mod completions;
#[path = "../contract.rs"]
mod contract;
mod copying;
mod creation;
mod datagram;
mod datagram_channel;
mod detached;
mod duplex;
mod environment;
mod executable;
mod foreign;
mod identity;
mod inet;
mod inherited;
mod instance;
mod job;
mod listener;
mod mailslot;
mod manager;
mod names;
mod overlapped;
mod owned;
mod pipe;
mod poll;
mod polled;
mod port;
mod private;
mod process;
mod reasons;
mod recording;
mod search;
mod security;
mod signals;
mod sockets;
#[cfg(feature = "cli")]
mod standard;
mod start;
mod start_lock;
mod stop_event;
mod stream;
mod tcp;
mod text;
mod timeout;
mod udp;
mod wait;

#[cfg(feature = "tokio")]
pub use async_channel::AsyncChannel;
#[cfg(feature = "tokio")]
pub use async_poll::AsyncPoll;
pub use attachment::{Attachment, PeerProcess, carries_attachments, close_aside};
pub use channel::Channel;
pub use child::ChildProcess;
pub use datagram::Datagrams;
pub use datagram_channel::DatagramChannel;
pub use detached::{Program, Started};
pub use executable::Executable;
pub use foreign::{ExpectedProcess, ForeignProcess};
pub(crate) use identity::overflow_id;
pub use identity::{current_integrity, current_user, user_name};
pub use inherited::ParentChannel;
pub use instance::{InstanceLock, allow_foreground};
pub use listener::Listener;
pub use manager::{activated, tell_manager};
pub use names::local_endpoints;
pub(crate) use names::os_string;
pub use owned::Owned;
pub use poll::{Event, Events, Poll, PollDescriptor, Registry, Waker};
pub use private::{create_private_file, read_private_file};
pub use process::{Reserve, descriptor_limit, is_descriptor_limit, raise_descriptor_limit, standard_error};
pub(crate) use recording::Mapped;
pub use recording::recordings;
pub(crate) use signals::{give_signals_back, take_signals};
#[cfg(feature = "cli")]
pub use standard::{has_standard_input, has_standard_output};
pub use start_lock::StartLock;
pub use stream::Stream;
pub use text::{decode_text, encode_text};

/// The schemes of stream endpoints that this system has, best first.
#[must_use]
pub fn stream_schemes() -> &'static [&'static str] {
    &["local", "pipe", "tcp"]
}

/// The schemes of datagram endpoints that this system has, best first.
#[must_use]
pub fn datagram_schemes() -> &'static [&'static str] {
    &["udp", "mailslot"]
}
