//! The server: listeners, a dispatch table of handlers, and the loop that joins them.

mod brought;
mod builder;
mod connected;
#[cfg(feature = "describe")]
mod describing;
mod idle;
#[cfg(feature = "harness")]
mod in_memory;
#[cfg(feature = "tokio")]
mod in_task;
mod listen;
mod manager;
mod open;
mod own_loop;
mod peers;
mod queue;
mod recording;
mod remote;
mod reply;
mod reply_stream;
mod request;
mod responder;
mod streams;
mod table;
mod taking_over;
mod threads;
#[cfg(feature = "serde")]
mod types;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sidewire_platform::{Endpoint, StartLock};

use crate::counters::Counters;
use crate::error::{Error, Result};
#[cfg(feature = "describe")]
use crate::limits::DESCRIPTION;
use crate::limits::{DEFAULT_TYPES, Limits};
use crate::loops::{self, Served};
use crate::random::random_id;
use crate::reactor::{Carries, Closed, Message, MessageReply, PeerInfo, Reactor, STOP_GRACE};
use crate::signals::StopSignals;
use crate::stats::Stats;
use recording::Keeping;
use sidewire_wire::{App, Cut, Failure, Tasks, WhenSlow};
use table::Dispatch;

pub use builder::ServerBuilder;
pub use connected::Connected;
#[cfg(feature = "harness")]
pub(crate) use in_memory::InMemory;
pub use listen::{IntoListen, Listen};
pub use peers::{Answer, PeerHandle};
pub use remote::{Remote, Running};
pub use reply::Reply;
pub use reply_stream::ReplyStream;
pub use request::Request;
pub use responder::{Cancellation, Responder};
pub use streams::{StreamHandler, on_data};
#[cfg(feature = "serde")]
pub(crate) use types::TypeInfo;

pub use threads::{
    AnyThread, Handles, HandlesConnects, HandlesDisconnects, HandlesMessages, HandlesStreams, OneThread,
    Threads,
};

/// Serves a state of type `S` to any number of clients, in one thread.
///
/// Handlers are found by message type and get `&mut S`: there are no locks, and a request is
/// never interrupted by another. Clients that are slow, silent or hostile delay nobody; handlers
/// that take their time delay everybody: see [`on`](Server::on).
///
/// ```
/// use sidewire::{Client, Server};
///
/// const GET: u16 = 1;
/// const SET: u16 = 2;
///
/// # fn main() -> Result<(), sidewire::Error> {
/// # let name = format!("local:doc-{}", std::process::id());
/// # let name = name.as_str();
/// let mut server = Server::new(b"hello".to_vec());
/// server.on(GET, |text, _request, reply| {
///     reply.write(text);
///     Ok(())
/// });
/// server.on(SET, |text, request, _reply| {
///     *text = request.to_vec()?;
///     Ok(())
/// });
/// server.listen(name)?;
/// let running = server.spawn()?;
///
/// let client = Client::connect(name)?;
/// client.call(SET, b"good day")?;
/// assert_eq!(client.call(GET, b"")?.into_payload(), b"good day");
/// # drop(client);
/// assert_eq!(running.stop()?, b"good day");
/// # Ok(())
/// # }
/// ```
///
/// A server that stays on the thread that made it takes handlers that are not `Send`:
/// [`ServerBuilder::one_thread`]. `T` says which it is, and need not be written for others.
///
/// # Platform-specific behavior
/// Unix: a child that is forked has a copy, with the same descriptors. When it drops that, it only closes them:
/// socket files, connections and the loop stay its parent's. Only one of the two may go on serving; if that
/// is the child, its sockets' files stay behind when it ends, and the next server replaces them.
///
/// As long as there is a socket in the file system, the loop looks for its file every 2.5 s. If somebody has
/// removed it, it is bound again; if something else is in its place, that is left alone and the
/// log says so, and it is tried again every few seconds.
pub struct Server<S, T: Threads = AnyThread> {
    /// Before the rest: when this has gone, nobody is told that something will be done.
    core: Core,
    dispatch: Dispatch<S, T>,
    instance: [u8; 16],
    /// What its hellos say of the application.
    app: Option<App>,
    /// What its clients may ask of it besides calls.
    grants: Tasks,
    /// How long what was accepted may take when a newer server takes over, if it may.
    gives_way: Option<Duration>,
    endpoints: Vec<Endpoint>,
    keeping: Keeping,
    served: Arc<Served>,
    #[cfg(feature = "serde")]
    types: types::Types,
    /// Of endpoints that it has left. Behind the state, whose end belongs to the server's.
    start_locks: Vec<StartLock>,
    /// The last to be dropped: what waits for this waits for the end of all else.
    signals: Option<StopSignals>,
}

impl<S> Server<S> {
    /// A server of this state with the usual options: a dispatch table of 256 types, the default [`Limits`].
    #[must_use]
    pub fn new(state: S) -> Server<S> {
        Server::assemble(state, DEFAULT_TYPES, Limits::default())
    }

    /// A server of this state with other options.
    pub fn builder(state: S) -> ServerBuilder<S> {
        ServerBuilder::new(state)
    }

    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn spawn(mut self) -> Result<Running<S>>
    where
        S: Send + 'static,
    {
        let remote = self.remote()?;
        let thread = std::thread::Builder::new().name("sidewire".into()).spawn(move || {
            let result = self.run();
            (result, self.dispatch.state)
        });
        let thread = thread.map_err(|error| Error::system("start the server's thread", error))?;
        Ok(Running::new(remote, thread))
    }
}

impl<S, T: Threads> Server<S, T> {
    fn assemble(state: S, types: usize, limits: Limits) -> Server<S, T> {
        let dispatch = Dispatch::new(state, types);
        let core = Core { limits, counters: dispatch.counters.clone(), reactor: None };
        let (instance, endpoints, served) = (random_id(), Vec::new(), Arc::default());
        let start_locks = Vec::new();
        let grants = Tasks::default();
        Server {
            dispatch,
            core,
            instance,
            app: None,
            grants,
            gives_way: None,
            endpoints,
            keeping: Keeping::default(),
            served,
            #[cfg(feature = "serde")]
            types: types::Types::default(),
            start_locks,
            signals: None,
        }
    }

    /// Sets the handler of a message type; a later one replaces it.
    ///
    /// The handler returns `Ok(())` to send its reply, or a [`Failure`]. One that panics answers
    /// "handler failed" (-10) and the server goes on; what it had changed in the state by then
    /// stays changed. (Where panics abort the process, they abort it.)
    ///
    /// What panics say is logged, and not for each of many. Rust's own panic hook also writes it to
    /// standard error, each time, and waits there if nobody reads: a program whose standard error may
    /// be left unread sets another one ([`std::panic::set_hook`]).
    ///
    /// While a handler runs, the server does nothing else, and all other clients wait. So handlers answer at once, or
    /// leave the answer to a thread that may take its time. One that holds the loop for longer than
    /// [`Limits::slow_handler`] is logged with its type, and [counted](crate::Stats::slow_handlers).
    ///
    /// ```
    /// use sidewire::{Failure, ResultCode, Server};
    ///
    /// const SIZE: u16 = 1;
    /// const RENDER: u16 = 2;
    ///
    /// let mut server = Server::new(vec![String::from("page one")]);
    /// // At once: what it needs is in memory.
    /// server.on(SIZE, |pages: &mut Vec<String>, _request, reply| {
    ///     reply.write(pages.len().to_string());
    ///     Ok(())
    /// });
    /// // Later: this takes long, so another thread does it, and a caller that gives up is no reason to go on.
    /// server.on(RENDER, |pages, _request, reply| {
    ///     let page = pages.first().cloned().ok_or(Failure::from(ResultCode::new(1)))?;
    ///     let responder = reply.defer()?;
    ///     std::thread::spawn(move || {
    ///         let cancellation = responder.cancellation();
    ///         let lines = page.split(' ').take_while(|_| !cancellation.is_cancelled());
    ///         let rendered = lines.collect::<Vec<_>>().join("\n");
    ///         responder.reply(rendered);
    ///     });
    ///     Ok(())
    /// });
    /// ```
    ///
    /// A handler that wants to end its server uses
    /// [`Remote::stop`]; one that calls its own server gets an error, see [`Client`](crate::Client).
    ///
    /// # Panics
    /// If `msg_type` lies beyond the dispatch table: see [`ServerBuilder::types`].
    pub fn on<F>(&mut self, msg_type: u16, handler: F)
    where
        F: FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + 'static,
        T: Handles<S, F>,
    {
        let types = self.dispatch.table.len();
        let Some(entry) = self.dispatch.table.get_mut(usize::from(msg_type)) else {
            panic!("type {msg_type} lies beyond a dispatch table of {types} types");
        };
        #[cfg(feature = "describe")]
        assert!(
            msg_type != DESCRIPTION || self.dispatch.description.is_none(),
            "type {msg_type} is how this server is asked to describe itself: give the handler another"
        );
        *entry = Some(T::handler(handler));
        #[cfg(feature = "serde")]
        self.types.messages.remove(&msg_type);
    }

    /// Sets who is told of each new connection with frames: when policy has let its client in, and its hello, or
    /// in the classic layout the first request, has come; before any of its requests is handled. A later handler
    /// replaces it.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use sidewire::{ConnectionId, Server};
    ///
    /// let mut server = Server::new(HashMap::<ConnectionId, String>::new());
    /// server.on_connect(|clients, connection| {
    ///     let name = connection.app().map(|app| app.name().to_owned());
    ///     clients.insert(connection.id(), name.unwrap_or_else(|| connection.peer().to_string()));
    /// });
    /// server.on_disconnect(|clients, connection, why| {
    ///     let name = clients.remove(&connection.id());
    ///     println!("{} has gone: {why}", name.unwrap_or_default());
    /// });
    /// ```
    ///
    /// Of streams without frames their [`StreamHandler`] is told.
    pub fn on_connect<F>(&mut self, handler: F)
    where
        F: FnMut(&mut S, &Connected<'_>) + 'static,
        T: HandlesConnects<S, F>,
    {
        self.dispatch.on_connect = Some(T::connect(handler));
    }

    /// Sets who is told of the end of each connection that [`on_connect`](Server::on_connect) is told of, and why:
    /// once, unless the server itself is dropped before. A later handler replaces it.
    pub fn on_disconnect<F>(&mut self, handler: F)
    where
        F: FnMut(&mut S, &Connected<'_>, &Closed) + 'static,
        T: HandlesDisconnects<S, F>,
    {
        self.dispatch.on_disconnect = Some(T::disconnect(handler));
    }

    /// Lets clients subscribe to a message type, and says what becomes of an event for one that reads too
    /// slowly: for whom [`outbox_soft`](crate::ConnectionLimits::outbox_soft) bytes wait already. Nobody else is held
    /// up by it, and the next event that it gets tells it how many it has missed. A type may have a handler, too.
    ///
    /// Events are published by handlers ([`Request::publish`]) and by any thread ([`Remote::publish`]). What a
    /// handler publishes comes behind its reply.
    ///
    /// # Panics
    /// If `msg_type` lies beyond the dispatch table: see [`ServerBuilder::types`].
    pub fn topic(&mut self, msg_type: u16, when_slow: WhenSlow) {
        let types = self.dispatch.table.len();
        assert!(
            usize::from(msg_type) < types,
            "type {msg_type} lies beyond a dispatch table of {types} types"
        );
        self.dispatch.topics.insert(msg_type, when_slow);
    }

    /// Opens an endpoint for clients, and returns the address really bound (TCP port 0 becomes
    /// the port that the system chose). From here on clients can connect; they are served once
    /// the loop runs.
    ///
    /// Takes a text, an [`Endpoint`], or a [`Listen`] with options. By default only processes of
    /// the same user get in; TCP, where the system can't tell users apart, therefore needs
    /// [`Access::Anyone`](crate::Access::Anyone).
    ///
    /// # Errors
    /// If the endpoint can't be opened: see [`Error`], in particular
    /// [`is_in_use`](Error::is_in_use) and [`is_unsupported`](Error::is_unsupported); also if limits of the
    /// listener contradict each other, and if the server has stopped.
    pub fn listen<L>(&mut self, listen: L) -> Result<Endpoint>
    where
        L: IntoListen,
    {
        Ok(self.open(&listen.into_listen()?, Carries::Frames)?.1)
    }

    /// Opens an endpoint that carries raw bytes in place of frames. Where a closure will do, wrap
    /// it in [`on_data`].
    ///
    /// ```
    /// use sidewire::{Server, on_data};
    ///
    /// # fn main() -> Result<(), sidewire::Error> {
    /// # let name = format!("local:echo-{}", std::process::id());
    /// # let name = name.as_str();
    /// let mut server = Server::new(0u64); // counts bytes, and sends them back
    /// let echo = on_data(|count: &mut u64, session, bytes| {
    ///     *count += bytes.len() as u64;
    ///     session.write(bytes);
    /// });
    /// server.listen_raw(name, echo)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// While a client does not read what is written to it, no more is read from it than
    /// [`ConnectionLimits::outbox_soft`](crate::ConnectionLimits::outbox_soft) leaves room for.
    ///
    /// # Errors
    /// As [`listen`](Server::listen).
    pub fn listen_raw<L, H>(&mut self, listen: L, handler: H) -> Result<Endpoint>
    where
        L: IntoListen,
        H: StreamHandler<S> + 'static,
        T: HandlesStreams<S, H>,
    {
        self.listen_plain(&listen.into_listen()?, Cut::Raw, T::streams(handler))
    }

    /// The same for text lines: the handler gets one line at a time, without its `\n` or `\r\n`.
    /// A line of more than `max` bytes ends its connection; an unfinished last line counts. People type
    /// lines, so an unfinished one may wait as long as
    /// [`ConnectionLimits::idle_timeout`](crate::ConnectionLimits::idle_timeout) lets it.
    ///
    /// # Errors
    /// As [`listen`](Server::listen).
    pub fn listen_lines<L, H>(&mut self, listen: L, max: usize, handler: H) -> Result<Endpoint>
    where
        L: IntoListen,
        H: StreamHandler<S> + 'static,
        T: HandlesStreams<S, H>,
    {
        self.listen_plain(&listen.into_listen()?, Cut::Lines { max }, T::streams(handler))
    }

    /// Opens a datagram endpoint that carries messages without frames: the handler gets each
    /// datagram as it came, and may answer its sender.
    ///
    /// Datagrams that are larger than 256 KiB are dropped and counted.
    ///
    /// # Errors
    /// As [`listen`](Server::listen); [`is_invalid_input`](Error::is_invalid_input) for an
    /// endpoint that carries streams.
    pub fn listen_messages<L, F>(&mut self, listen: L, handler: F) -> Result<Endpoint>
    where
        L: IntoListen,
        F: FnMut(&mut S, &Message<'_>, &mut MessageReply<'_>) + 'static,
        T: HandlesMessages<S, F>,
    {
        let (number, bound) = self.open(&listen.into_listen()?, Carries::Messages)?;
        self.dispatch.messages.insert(number, T::messages(handler));
        Ok(bound)
    }

    fn listen_plain(&mut self, listen: &Listen, cut: Cut, handler: T::Streams<S>) -> Result<Endpoint> {
        let (number, bound) = self.open(listen, Carries::Plain(cut))?;
        self.dispatch.streams.insert(number, handler);
        Ok(bound)
    }

    /// The endpoints that were opened, as really bound.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Who is connected now, for programs with a loop of their own; others ask [`Remote::peers`].
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.core.reactor.as_ref().map(Reactor::peers).unwrap_or_default()
    }

    /// What this server has done so far, as numbers of this moment. While it runs on another thread, ask its
    /// [`counters`](Server::counters), which are to be got before.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.dispatch.counters.stats()
    }

    /// What this server has done so far; the handle stays right while the server runs.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.dispatch.counters.clone()
    }

    /// A handle for other threads, by which they get at the state and stop the server.
    ///
    /// # Errors
    /// If the system has no descriptors left for a loop.
    pub fn remote(&mut self) -> Result<Remote<S>> {
        let (errands, orders) = (self.dispatch.errands.queue(), self.dispatch.asked.orders.queue());
        Ok(Remote::new(self.core.reactor()?.mailbox(), errands, orders))
    }

    /// Has this server stopped, as by [`Remote::stop`], when the user or the system asks this
    /// process to end: by Ctrl-C, SIGTERM (on Windows the event by which `sidewire stop` and
    /// [`stop_server`](crate::stop_server) ask), SIGHUP, or the end of the console. [`run`](Server::run) then
    /// returns, and what `main` still does is done in order; without this the process would end at
    /// once. Call it before the first [`listen`](Server::listen), so that a signal which comes early
    /// leaves no socket file either.
    ///
    /// Signals that are ignored when this is called stay ignored, as nohup(1) means it, and a second
    /// one ends the process if the first has not. It holds until the server is dropped; so does, on
    /// Windows, the end of the console wait, for 4 s at most. [`StopSignals`] says it in full, and
    /// is for programs that have more to stop than a server.
    ///
    /// ```no_run
    /// # use sidewire::Server;
    /// let mut server = Server::new(());
    /// server.stop_on_signals()?;
    /// server.listen("local:com.example.app")?;
    /// server.run()?;
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the system lacks a descriptor or a thread, or other code has a handler for these signals.
    pub fn stop_on_signals(&mut self) -> Result<()> {
        let mailbox = self.core.reactor()?.mailbox();
        let signals = StopSignals::watch(move || {
            if let Err(error) = mailbox.stop(STOP_GRACE) {
                log::error!("stop the server: {error}");
            }
        });
        self.signals = Some(signals?);
        Ok(())
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.dispatch.state
    }

    /// The state, to be changed between turns.
    #[must_use]
    pub fn state_mut(&mut self) -> &mut S {
        &mut self.dispatch.state
    }

    /// Serves until it is stopped through its [`Remote`]; if it [serves its parent](Server::serve_parent) and has no other
    /// endpoint, until that has ended the channel.
    ///
    /// # Errors
    /// As [`turn`](Server::turn).
    pub fn run(&mut self) -> Result<()> {
        let _serving = loops::begin_serving(&self.served);
        let reactor = self.core.reactor()?;
        reactor.mailbox().wakes_poll();
        let _turning = reactor.begin_turns();
        self.dispatch.manager.ready(self.endpoints.len());
        while self.turn_once(None)? {}
        Ok(())
    }

    #[inline]
    fn turn_once(&mut self, timeout: Option<Duration>) -> Result<bool> {
        self.take_turn(|reactor, dispatch| reactor.turn(timeout, dispatch))
    }

    #[inline]
    fn take_turn(
        &mut self,
        turn: impl FnOnce(&mut Reactor, &mut Dispatch<S, T>) -> io::Result<bool>,
    ) -> Result<bool> {
        let reactor = self.core.reactor()?;
        let turned = turn(reactor, &mut self.dispatch);
        if let Ok(false) = turned {
            self.start_locks.extend(reactor.take_locks());
        }
        turned.map_err(|error| Error::system("poll", error))
    }
}

/// The loop, with what it is made of when it is first needed: a server that does nothing yet asks nothing of
/// the system.
struct Core {
    limits: Limits,
    counters: Counters,
    reactor: Option<Reactor>,
}

impl Core {
    #[inline]
    fn reactor(&mut self) -> Result<&mut Reactor> {
        match self.reactor {
            Some(ref mut reactor) => Ok(reactor),
            None => self.begin(),
        }
    }

    #[cold]
    fn begin(&mut self) -> Result<&mut Reactor> {
        let made = Reactor::new(self.limits.clone(), self.counters.clone());
        Ok(self.reactor.insert(made.map_err(|error| Error::system("set up a loop", error))?))
    }
}

impl<S, T: Threads> std::fmt::Debug for Server<S, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
