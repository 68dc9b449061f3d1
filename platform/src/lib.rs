//! The operating-system layer of Sidewire.
//!
//! Everything that differs between systems lives in this package: every `cfg(unix)` and
//! `cfg(windows)`, every `unsafe`, every system call. Nothing here knows frames, result codes
//! or policy; it opens endpoints, moves bytes and reports facts about peers.
//!
//! # The contract
//!
//! Each operating-system folder (`unix/`, `windows/`; `unsupported.rs` for the rest) has the
//! same public files, beside helpers of its own, and exports the same names with the same signatures:
//!
//! | file | exports | what it is |
//! |---|---|---|
//! | `listener.rs` | [`Listener`] | a bound stream endpoint, a source of a [`Poll`] that yields [`Stream`]s |
//! | `stream.rs` | [`Stream`] | one accepted connection, non-blocking, a source of a [`Poll`] |
//! | `channel.rs` | [`Channel`] | one opened connection, blocking with timeouts, shared by threads |
//! | `async_channel.rs` | `AsyncChannel` (feature `tokio`) | the same for tasks of a Tokio runtime |
//! | `datagram.rs` | [`Datagrams`] | a bound datagram endpoint, non-blocking, a source of a [`Poll`] |
//! | `datagram_channel.rs` | [`DatagramChannel`] | datagrams to one server, blocking with timeouts |
//! | `child.rs` | [`ChildProcess`] | a program started with a channel of its own |
//! | `inherited.rs` | [`ParentChannel`] | that channel, in the program |
//! | `manager.rs` | [`activated`], [`tell_manager`] | the service manager: sockets that it hands over, what it is told |
//! | `detached.rs` | [`Program`], [`Started`] | a program that outlives whoever starts it |
//! | `foreign.rs` | [`ExpectedProcess`], [`ForeignProcess`] | the process that serves at the other end of a channel |
//! | `executable.rs` | [`Executable`] | which program a process runs |
//! | `start_lock.rs` | [`StartLock`] | who starts a server at an endpoint, or leaves |
//! | `identity.rs` | [`current_user`], [`current_integrity`], [`user_name`] | who we are, and how a user is called |
//! | `owned.rs` | [`Owned`] | what the program has opened itself, for the `from_owned` of listeners, streams, channels and datagram sockets |
//! | `instance.rs` | [`InstanceLock`], [`allow_foreground`] | who is the one instance of an app |
//! | `names.rs` | [`local_endpoints`] | endpoint names to system addresses, and which names there are |
//! | `poll.rs` | [`Poll`], [`Registry`], [`Events`], [`Event`], [`Waker`], [`PollDescriptor`] | what a loop waits with (on Unix mio's), and that as a descriptor for other loops |
//! | `async_poll.rs` | `AsyncPoll` (feature `tokio`) | the same for tasks of a Tokio runtime |
//! | `private.rs` | [`create_private_file`], [`read_private_file`] | files for secrets |
//! | `process.rs` | [`Reserve`], [`descriptor_limit`], [`raise_descriptor_limit`], [`is_descriptor_limit`], [`standard_error`] | descriptors |
//! | `recording.rs` | [`Recording`], [`recordings`] | a ring of records that outlives its process |
//! | `signals.rs` | (for [`StopSignals`]) | how a process is asked to end |
//! | `standard.rs` | `has_standard_input`, `has_standard_output` (feature `cli`) | whether the tool has its streams |
//! | `text.rs` | [`encode_text`], [`decode_text`] | texts of the system as bytes |
//! | `src/usage.rs` | `usage`, `is_wine` (feature `cli`) | memory and descriptors of a child process, one file for all systems |
//! | `src/counting.rs` | `CountingAllocator` (feature `cli`) | how much memory a program holds |
//! | `mod.rs` | [`stream_schemes`], [`datagram_schemes`] | which endpoints this system has |
//!
//! `contract.rs` holds these signatures, and what threads may do with the types, as constants that each
//! system compiles: whoever changes one side is told by the others. All of the types are `Send` and
//! `Sync`; no two threads get to change the same one, since what changes it takes `&mut self`, except
//! for the channels, which are made to be shared.
//!
//! **Listener.** [`Listener::bind`] creates the endpoint with its final access rights: there is
//! no moment at which others may connect who may not later. A live server is never displaced
//! ([`AddrInUse`](std::io::ErrorKind::AddrInUse)), what a dead one left behind is replaced. Dropping a listener
//! removes what it put into the file system, and only that; in a forked child it removes nothing.
//! What others may remove meanwhile ([`Listener::can_be_lost`]) is to be looked for every few seconds
//! ([`Listener::renew`], [`Datagrams::renew`]). [`Listener::accept`] never blocks
//! and is called until it says [`WouldBlock`](std::io::ErrorKind::WouldBlock); any other error concerns the one
//! connection that could not be accepted, except when [`is_descriptor_limit`] says that the
//! process is out of descriptors. A client that connects and leaves at once costs nothing. Behind
//! [`Listener::withdraw`] nobody finds the way any more, and who had found it is still accepted.
//! A listener goes to another process, with those who wait there, in four steps: one side's [`Listener::pass`], the other's
//! [`Listener::take_over`], which changes nothing yet, then [`Listener::hand_on`] and [`Listener::own`].
//!
//! **Poll.** [`Poll::poll`] may return early, and without events; what it has told, and not told, holds for the moment
//! at which it was called. Tokens and interests are mio's on every system.
//!
//! **Stream.** Registered with a [`Poll`], edge-triggered on every system. [`Stream::read`] and
//! [`Stream::write`] never block. Where [`Stream::SHORT_READ_DRAINS`] is true, a read that did
//! not fill its buffer has emptied the socket and the next arrival is a new event; elsewhere
//! only `WouldBlock` re-arms the event. A stream is deregistered before it is dropped. On
//! Windows a drop throws away what the client of a pipe has not read, and the handle really closes
//! when the poll turns: a server that ends turns it until [`Listener::is_gone`].
//!
//! **Channel.** [`Channel::recv`] and [`Channel::send`] may run at the same time on two threads;
//! two concurrent `recv` or two concurrent `send` are the caller's fault and are serialised at
//! best. A timeout is always reported as [`TimedOut`](std::io::ErrorKind::TimedOut), never as `WouldBlock`.
//!
//! **Datagrams.** [`Datagrams`] is the server's end, non-blocking and a source of a [`Poll`];
//! [`DatagramChannel`] the client's, blocking, bound to one server and to an address of its own so
//! that it can be answered. Each send is one message, received whole or marked as truncated.
//! [`Datagrams::send`] says `WouldBlock` when that one receiver takes no more; no event tells when it
//! does again, so try later. Addresses are what senders say they are: an answer to a path goes only to
//! a socket of the user who has sent, and what comes from our own address is dropped.
//!
//! **Child processes.** [`ChildProcess::spawn`] starts a program with a channel that has no name for
//! others and that no other process gets: [`ParentChannel::take`] is its other end. Nothing of it outlives the parent,
//! killed or not, nor what a child that has ended has started itself, unless it takes pains to. Its
//! id stays its own until it was waited for, and nothing is signalled afterwards. [`ChildProcess::spawn_on_standard`] starts
//! one that knows nothing of us: its standard input and output are the channel. On Unix such a one outlives a parent that is
//! killed, unless the end of its input ends it.
//!
//! **Foreign processes.** [`ForeignProcess`] is one that we have not started, by the system's own reference to it: what
//! is asked to end, or waited for, is never another one that has got its number since.
//!
//! **Instances.** [`InstanceLock::claim`] never waits; of any number of processes that ask at a time exactly one gets
//! the lock of an app, and has it until it drops it or ends, however it ends. Whoever does not, finds the one that does
//! at [`InstanceLock::endpoint`], as soon as that listens there.
//!
//! **Descriptors.** Nobody may attach any to what is sent to us (SCM_RIGHTS, unix(7)), since closing
//! one can stop the thread that received it for as long as its sender likes: SO_PASSRIGHTS, from Linux
//! 6.16 on. With older kernels, and where attachments were asked for, what a server's connections and datagrams bring and nobody
//! takes is closed by up to four threads of its own, and never by the one that received it ([`close_aside`]). What there is no
//! descriptor for the system still drops by the receiving thread, and so it is with what a client's server attaches.
//!
//! **Recordings.** [`Recording`] is memory of fixed size, of zeros at first, which may be a file that stays when the process is
//! killed. Whoever writes to it makes no system call. [`recordings`] finds those that are there, and reads them without
//! their servers' help.
//!
//! **Peers.** Facts only, as values: [`Peer`]. What takes the system longer is told when it is asked for:
//! [`Stream::is_member`], [`Stream::executable`], and the same of a [`Channel`]. What follows from them is the caller's policy.

use std::time::Duration;

mod attachment;
#[cfg(feature = "cli")]
mod counting;
mod datagram;
#[cfg(any(unix, windows))]
mod deadline;
pub mod endpoint;
#[cfg(test)]
mod fault;
mod hosts;
#[cfg(any(unix, windows))]
mod inherited;
mod instance;
mod manager;
pub mod peer;
#[cfg(any(unix, windows))]
mod private;
mod recording;
mod spin;
mod start;
mod stop;
mod tally;
#[cfg(feature = "cli")]
mod usage;

#[cfg(not(any(unix, windows)))]
#[path = "unsupported.rs"]
mod os;
#[cfg(unix)]
#[path = "unix/mod.rs"]
mod os;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod os;

pub use attachment::{Carried, MAX_ATTACHMENTS};
#[cfg(feature = "cli")]
pub use counting::CountingAllocator;
pub use datagram::{Received, SendBuffer};
pub use endpoint::{CommandEndpoint, Endpoint, EndpointError, EndpointKind};
pub use instance::{Claim, Holder};
pub use manager::Notice;
#[cfg(feature = "tokio")]
pub use os::{AsyncChannel, AsyncPoll};
pub use os::{
    Attachment, Channel, ChildProcess, DatagramChannel, Datagrams, Event, Events, Executable,
    ExpectedProcess, ForeignProcess, InstanceLock, Listener, Owned, ParentChannel, PeerProcess, Poll,
    PollDescriptor, Program, Registry, Reserve, StartLock, Started, Stream, Waker, activated,
    allow_foreground, carries_attachments, close_aside, create_private_file, current_integrity, current_user,
    datagram_schemes, decode_text, descriptor_limit, encode_text, is_descriptor_limit, local_endpoints,
    raise_descriptor_limit, read_private_file, recordings, standard_error, stream_schemes, tell_manager,
    user_name,
};
#[cfg(feature = "cli")]
pub use os::{has_standard_input, has_standard_output};
pub use peer::{Address, Credentials, Group, Peer, Sid, User};
pub use recording::{RING_RECORDS, RecordCells, Recording, RecordingFile, Ring};
pub use spin::Look;
pub use start::Busy;
pub use stop::StopSignals;
pub use tally::Tally;
#[cfg(feature = "cli")]
pub use usage::{Usage, is_wine, usage};

/// How a server's end is opened; see [`Listener::bind`] and [`Datagrams::bind`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BindOptions {
    /// Whether users other than the owner may connect or send. Widens a Unix socket to mode 0666 and a
    /// pipe's descriptor to "everyone may read and write" (0x12019b), with a label of medium integrity
    /// even if we are elevated; the default is the owner alone (and SYSTEM on Windows).
    pub anyone: bool,
    /// Other users who may connect or send, besides the owner. A pipe's descriptor names them. A Unix socket has no list
    /// of users: it gets mode 0666, and who is there is to be asked for ([`Stream::peer`]).
    pub users: Vec<User>,
    /// Groups whose members may. A pipe's descriptor names them; a Unix socket is given to the group, with mode 0660, if
    /// it is only one, no other users are named, and we may give it away; else it gets mode 0666
    /// ([`Stream::is_member`]).
    pub groups: Vec<Group>,
    /// Whether peers may attach something to what they send (SCM_RIGHTS, unix(7)), which we then read with
    /// [`Stream::read_attached`]; on Windows, have us fetch it ([`PeerProcess`]). Otherwise the system keeps it out, where it can (SO_PASSRIGHTS, Linux 6.16), or it is closed ([`close_aside`]).
    pub attachments: bool,
    /// How many connections the system queues before they are accepted (sockets).
    /// See listen(2); Linux cuts it to `net.core.somaxconn`.
    pub backlog: u32,
    /// How many pipe instances wait for a client at any time (named pipes).
    pub pending_instances: u32,
    /// Whether TCP and UDP may bind an address that is not loopback.
    pub beyond_loopback: bool,
    /// On Windows: accept clients whose integrity level is below ours. Sets the mandatory label.
    pub lower_integrity: bool,
    /// Bytes that the system keeps for us on each socket until we read them (SO_RCVBUF). `None`:
    /// its own default for streams, 1 MiB for datagrams. Linux doubles the number for its own
    /// bookkeeping, cuts it to `net.core.rmem_max`, and does not look at it on Unix sockets, where
    /// the sender's buffer counts (socket(7), unix(7)). Windows pipes ignore it.
    pub recv_buffer: Option<u32>,
    /// Bytes that the system takes from us on each socket before the peer has read them
    /// (SO_SNDBUF). `None`: its own default for streams, 1 MiB for datagrams, of which a single one
    /// can't be larger than this. Linux doubles it and cuts it to `net.core.wmem_max` (socket(7)).
    /// Windows pipes ignore it.
    pub send_buffer: Option<u32>,
    /// TCP: whether small writes leave at once instead of being collected (TCP_NODELAY, tcp(7)).
    /// Everything but TCP ignores it.
    pub nodelay: bool,
    /// TCP: after how long a silence the system asks whether the peer is still there (SO_KEEPALIVE,
    /// TCP_KEEPIDLE, tcp(7)), in whole seconds from 1 to 32,767, rounded up. `None`: never.
    /// Everything but TCP ignores it.
    pub keepalive: Option<Duration>,
}

impl BindOptions {
    /// Whether others than the owner may reach it.
    #[must_use]
    pub fn lets_in_others(&self) -> bool {
        self.anyone || !self.users.is_empty() || !self.groups.is_empty()
    }
}

impl Default for BindOptions {
    fn default() -> Self {
        BindOptions {
            anyone: false,
            users: Vec::new(),
            groups: Vec::new(),
            attachments: false,
            backlog: i32::MAX as u32,
            pending_instances: 4,
            beyond_loopback: false,
            lower_integrity: false,
            recv_buffer: None,
            send_buffer: None,
            nodelay: true,
            keepalive: None,
        }
    }
}
