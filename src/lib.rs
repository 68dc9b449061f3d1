//! Sidewire lets two processes on one machine talk: a desktop app and its helper.
//!
//! A [`Server`] listens on any number of [`Endpoint`]s and hands each request to the handler of
//! its message type; a [`Client`] calls it. Everything has a time limit, every request has a
//! [`ResultCode`], and by default only processes of the same user can talk to each other.
//!
//! ```
//! use sidewire::{Client, Server};
//!
//! const GET: u16 = 1;
//!
//! # let name = format!("local:tour-{}", std::process::id());
//! # let name = name.as_str(); // in an app: "local:com.example.app"
//! let mut server = Server::new(String::from("hello"));
//! server.on(GET, |text, _request, reply| {
//!     reply.write(text);
//!     Ok(())
//! });
//! server.listen(name)?;
//! let running = server.spawn()?; // or run() on this thread, or turn() in a loop of one's own
//!
//! let client = Client::connect(name)?;
//! assert_eq!(client.call(GET, b"")?.into_payload(), b"hello");
//! # drop(client);
//! # running.stop()?;
//! # Ok::<(), sidewire::Error>(())
//! ```
//!
//! Options are set where things are made: [`Server::builder`] takes [`Limits`], [`Listen`] opens an endpoint
//! with options, [`Connect`] connects with options, [`Client::request`] asks with options. Everything
//! that can fail returns the one [`Error`], which clones and says whether a request was
//! [`executed`](Error::executed).
//!
//! A server that several programs share need not run all the time: [`Client::connect_or_start`] starts it when somebody
//! needs it, and [`Server::exit_when_idle`] has it leave when nobody does. A newer server takes over from
//! one that runs: [`Listen::take_over`]. An app that runs only once, and hands a second
//! start over to the first, is a [`SingleInstance`].
//!
//! Handlers run one after the other on the server's thread. They answer at once, or [defer](Reply::defer) the
//! answer to a thread that has the time. A server runs in a loop of its own ([`Server::run`], [`Server::spawn`]) or in
//! the program's ([`Server::turn`], [`Server::poll_descriptor`]); so does a client
//! ([`Client::turn`], [`Client::poll_descriptor`]), or it wakes such a loop with [`Connect::on_arrival`]. A service takes the sockets that its manager has opened with [`Listen::activated`], and
//! says that it is ready with [`Server::notify_service_manager`]; `docs/systemd` has units to begin with. A connection that
//! the program has already is served by [`Server::serve_stream`], and called over by [`Connect::over`]. What the library
//! does not do is listed in the README.
//!
//! An app that starts its server itself, as its helper, begins with [`Helper`] and its [guide](helper_guide).
//!
//! # Features
//! None is on unless it is asked for; what each costs is in the README.
//!
//! | feature | what it adds |
//! |---|---|
//! | `serde` | `sidewire::typed`: messages and events that are Rust types, and a guide, `sidewire::typed_guide` |
//! | `json` | their encoding in JSON, `typed::Json` |
//! | `describe` | `sidewire::describe`: servers that describe themselves, and contracts |
//! | `tokio` | `sidewire::tokio`: the client for tasks |
//! | `harness` | `sidewire::harness`: tests of handlers in memory |
//! | `cli` | the command-line tool, and nothing in the library |
//!
//! # More
//! What is on the wire is described in [`PROTOCOL.md`](protocol), so that programs in other languages
//! can take part, and rule by rule in its [reference](protocol::reference); how the library is built, in
//! [`ARCHITECTURE.md`](architecture).

#![forbid(unsafe_code)]

#[cfg(doc)]
#[doc = include_str!("../PROTOCOL.md")]
pub mod protocol {
    #[doc = include_str!("../docs/protocol/README.md")]
    #[doc = include_str!("../docs/protocol/connecting.md")]
    #[doc = include_str!("../docs/protocol/classic.md")]
    #[doc = include_str!("../docs/protocol/v1.md")]
    #[doc = include_str!("../docs/protocol/ends-and-limits.md")]
    #[doc = include_str!("../docs/protocol/datagrams.md")]
    #[doc = include_str!("../docs/protocol/store.md")]
    #[doc = include_str!("../docs/protocol/clients.md")]
    #[doc = include_str!("../docs/protocol/conversations.md")]
    #[allow(rustdoc::invalid_codeblock_attributes, reason = "the settings of its conversations")]
    pub mod reference {}
}

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/guide-helper.md")]
pub mod helper_guide {}

#[cfg(all(any(doc, doctest), feature = "serde"))]
#[doc = include_str!("../docs/guide-typed.md")]
pub mod typed_guide {}

/// Its examples are to compile, those of features, too.
#[cfg(all(doctest, feature = "serde", feature = "tokio"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(doc)]
#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

mod access;
mod app;
mod attached;
mod client;
mod counters;
#[cfg(feature = "describe")]
pub mod describe;
mod error;
#[cfg(feature = "harness")]
pub mod harness;
mod limits;
mod loops;
mod maker;
mod random;
mod reactor;
pub mod recorder;
mod server;
mod signals;
pub mod stats;
mod sync;
#[cfg(feature = "token")]
mod token;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "serde")]
pub mod typed;

pub use access::{Access, Rules, current_user};
pub use app::{
    Acquired, Activation, Activations, Helper, HelperBuilder, HelperState, HelperStates, OtherInstance,
    Presence, Restart, SingleInstance, SingleInstanceBuilder, Start, Stopped, outlive_parent, stop_server,
};
pub use client::{
    Build, Client, Connect, Event, Events, Parts, PeerReply, PeerRequest, PeerResponder, Pending,
    RawDatagrams, RawStream, Reconnect, Reconnected, Renewal, RequestBuilder, Response, wait_any,
};
pub use counters::Counters;
pub use error::{Error, RefusedBy, Result};
pub use limits::{DESCRIPTION, Limits, ListenerLimits};
pub use reactor::{Closed, ConnectionId, Message, MessageReply, PeerInfo, Session, Unsent, Unwanted};
pub use server::{
    Answer, AnyThread, Cancellation, Connected, Handles, HandlesConnects, HandlesDisconnects,
    HandlesMessages, HandlesStreams, IntoListen, Listen, OneThread, PeerHandle, Remote, Reply, ReplyStream,
    Request, Responder, Running, Server, ServerBuilder, StreamHandler, Threads, on_data,
};
pub use sidewire_platform::{
    Address, Attachment, CommandEndpoint, Credentials, Endpoint, EndpointError, EndpointKind, Group, Owned,
    Peer, PollDescriptor, Sid, User, user_name,
};
pub use sidewire_wire::{App, ConnectionLimits, Executed, Failure, Layout, ResultCode, WhenSlow};
pub use signals::StopSignals;
pub use stats::{Histogram, Stats};
#[cfg(feature = "token")]
pub use token::Token;

/// What other threads may be given, on every system. Only what a handler is lent stays on its thread:
/// `Request`, `Session` and `MessageReply` reach into the loop.
const _: () = {
    const fn sent<T: Send>() {}
    const fn shared<T: Send + Sync>() {}

    shared::<(Access, Group, Rules)>();
    shared::<(
        Address,
        App,
        Closed,
        CommandEndpoint,
        Counters,
        Credentials,
        Endpoint,
        EndpointError,
        EndpointKind,
    )>();
    shared::<(
        Error,
        Executed,
        Failure,
        Layout,
        Owned,
        Peer,
        PollDescriptor,
        ResultCode,
        ConnectionId,
        Sid,
        User,
    )>();
    shared::<(Limits, ListenerLimits, ConnectionLimits)>();
    shared::<(Build, Presence, Start, Stopped)>();
    shared::<(Client, Connect, RawDatagrams, RawStream, RequestBuilder<'_>, Response)>();
    shared::<(Answer<'_>, PeerHandle<()>, PeerInfo, PeerReply, PeerRequest<'_>, PeerResponder)>();
    shared::<(Event, Events, Parts, Pending, Reconnect, Reconnected, RefusedBy, Renewal, WhenSlow)>();
    shared::<(Histogram, Stats)>();
    shared::<(Acquired, Activation, Activations<'_>, OtherInstance, SingleInstance, SingleInstanceBuilder)>();
    shared::<(Helper, HelperBuilder, HelperState, HelperStates, Restart)>();
    shared::<(Listen, Remote<()>, Running<()>, ServerBuilder<()>, ServerBuilder<(), OneThread>, StopSignals)>(
    );
    shared::<(AnyThread, OneThread, Message<'_>)>();
    shared::<(recorder::Record, recorder::Recording)>();
    shared::<(Cancellation, Responder, ReplyStream, Unsent, Unwanted)>();
    sent::<(Server<()>, Reply<'_>)>();
};
