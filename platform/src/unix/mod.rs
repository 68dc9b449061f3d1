//! Unix: sockets, descriptors, user ids. Linux first; the other systems where they differ little.

#[cfg(feature = "tokio")]
mod async_channel;
#[cfg(feature = "tokio")]
mod async_poll;
mod attachment;
mod bound;
mod channel;
mod child;
mod connecting;
#[path = "../contract.rs"]
mod contract;
mod datagram;
mod datagram_channel;
mod detached;
mod disposal;
mod executable;
mod file;
mod folders;
mod foreign;
mod identity;
mod inherited;
mod instance;
mod lifecycle;
mod listener;
mod local;
mod lock;
mod manager;
mod message;
mod names;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod namespace;
mod owned;
mod owner;
mod passing;
mod placed;
mod poll;
mod private;
mod process;
mod reasons;
mod recording;
mod rights;
mod signals;
mod socket;
#[cfg(feature = "cli")]
mod standard;
mod start_lock;
mod stream;
mod text;
mod timeout;

#[cfg(feature = "tokio")]
pub use async_channel::AsyncChannel;
#[cfg(feature = "tokio")]
pub use async_poll::AsyncPoll;
pub use attachment::{Attachment, PeerProcess, carries_attachments};
pub use channel::Channel;
pub use child::ChildProcess;
pub use datagram::Datagrams;
pub use datagram_channel::DatagramChannel;
pub use detached::{Program, Started};
pub use disposal::close_aside;
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

/// The schemes of the stream endpoints that this system has, the most recommended first.
///
/// # Platform-specific behavior
///
/// Unix: `local`, `unix` and `tcp`, and on Linux `abstract`.
#[must_use]
pub fn stream_schemes() -> &'static [&'static str] {
    if names::HAS_ABSTRACT { &["local", "unix", "abstract", "tcp"] } else { &["local", "unix", "tcp"] }
}

/// The schemes of the datagram endpoints that this system has, the most recommended first.
///
/// # Platform-specific behavior
///
/// Unix: `unixgram` and `udp`, and on Linux `abstractgram`.
#[must_use]
pub fn datagram_schemes() -> &'static [&'static str] {
    if names::HAS_ABSTRACT { &["unixgram", "abstractgram", "udp"] } else { &["unixgram", "udp"] }
}

/// Compiled with the tests only, so that a change of the contract can't forget it.
#[cfg(test)]
#[allow(dead_code, unreachable_pub, clippy::duplicate_mod)] // It is held to the contract, too.
#[path = "../unsupported.rs"]
mod unsupported;
