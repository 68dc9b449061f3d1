//! How a client connects: its options.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::Endpoint;

use super::Reconnect;
use super::build::Build;
#[cfg(feature = "describe")]
use super::build::WhenDiffers;
use super::closing::{Closing, Told};
use super::given::Given;
use super::handlers::{Handlers, PeerReply, PeerRequest};
use super::summons::Summons;
use crate::access::Access;
use crate::error::{Error, Kind, Result};
#[cfg(feature = "token")]
use crate::token::Token;
use sidewire_wire::{App, Classic, ConnectionLimits, Failure};

/// A connection to be opened, with options. [`Client::connect`](super::Client::connect) is the short form.
///
/// ```no_run
/// use std::time::Duration;
/// use sidewire::{Access, Connect};
///
/// let client = Connect::to("tcp:127.0.0.1:4711")?
///     .access(Access::Anyone)
///     .timeout(Duration::from_secs(1))
///     .open()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before open()"]
pub struct Connect {
    pub(super) endpoint: Endpoint,
    pub(super) access: Access,
    /// `None`: v1.
    pub(super) classic: Option<Classic>,
    pub(super) lower_integrity: bool,
    /// Whether whoever is told of an error can say whom we talk to.
    pub(super) has_choice: bool,
    pub(super) timeout: Option<Duration>,
    /// Whether frames may carry something.
    pub(super) attachments: bool,
    pub(super) call_timeout: Option<Duration>,
    pub(super) spin: Duration,
    pub(super) limits: ConnectionLimits,
    pub(super) app: Option<App>,
    pub(super) handlers: Handlers,
    pub(super) reconnect: Option<Reconnect>,
    on_closed: OnClosed,
    /// A channel that is there already.
    pub(super) given: Option<Given>,
    pub(super) build: Build,
    /// The hash of the contract that it keeps to.
    #[cfg(feature = "describe")]
    pub(super) contract: Option<([u8; 32], WhenDiffers)>,
    pub(super) summons: Option<Arc<dyn Summons>>,
    /// What both sides are to prove that they know.
    #[cfg(feature = "token")]
    pub(super) token: Option<Token>,
}

/// Whom to tell of the client's end.
#[derive(Clone, Default)]
struct OnClosed(Option<Arc<Told>>);

impl fmt::Debug for OnClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Payload bytes of a classic reply that a client takes unless told otherwise.
const CLASSIC_MAX: u32 = 16 << 20;

impl Connect {
    /// To this endpoint, with the defaults.
    ///
    /// # Errors
    /// If it is a text that is no endpoint.
    pub fn to<E>(endpoint: E) -> Result<Connect>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Ok(Connect::at(endpoint.try_into()?))
    }

    /// The same.
    pub(crate) fn at(endpoint: Endpoint) -> Connect {
        Connect {
            endpoint,
            access: Access::default(),
            classic: None,
            lower_integrity: false,
            has_choice: true,
            timeout: Some(CONNECT_TIMEOUT),
            attachments: false,
            call_timeout: Some(CALL_TIMEOUT),
            spin: Duration::ZERO,
            limits: ConnectionLimits::default(),
            app: None,
            handlers: Handlers::default(),
            reconnect: None,
            on_closed: OnClosed::default(),
            given: None,
            build: Build::any(),
            #[cfg(feature = "describe")]
            contract: None,
            summons: None,
            #[cfg(feature = "token")]
            token: None,
        }
    }

    /// Asks the server to prove that it knows this token, and proves to it that we know it, before anything else is said.
    /// Where the system does not say who serves (`tcp:`), a token is what [`Access::SameUser`] hangs on. The server has to
    /// [ask for it](crate::Listen::token).
    ///
    /// # Errors
    /// [`open`](Connect::open) says [`is_protocol`](Error::is_protocol) if the server does not know it, or asks for none;
    /// nothing was sent to it then but a hello. [`is_invalid_input`](Error::is_invalid_input) for datagrams, streams
    /// without frames and the classic layout, and for a [file](crate::Token::file) that others may read.
    #[cfg(feature = "token")]
    pub fn token(mut self, token: Token) -> Connect {
        self.token = Some(token);
        self
    }

    /// Whether the server has to prove something.
    pub(super) fn has_token(&self) -> bool {
        #[cfg(feature = "token")]
        return self.token.is_some();
        #[cfg(not(feature = "token"))]
        return false;
    }

    /// What it has to prove that it knows.
    pub(super) fn key(&self) -> std::io::Result<Option<Arc<dyn sidewire_wire::Token>>> {
        #[cfg(feature = "token")]
        return self.token.as_ref().map(Token::of_client).transpose();
        #[cfg(not(feature = "token"))]
        return Ok(None);
    }

    /// The same, but there.
    pub(crate) fn for_endpoint(mut self, endpoint: Endpoint) -> Connect {
        self.endpoint = endpoint;
        self
    }

    /// Whose server it may be. Default [`Access::SameUser`]: the server's user is checked before
    /// the first byte is sent. TCP can't tell, and needs [`Access::Anyone`].
    pub fn access(mut self, access: Access) -> Connect {
        self.access = access;
        self
    }

    /// Talks to a server of the same user, too, whose pipe lets processes in whose integrity level is
    /// below ours, and which one of them may therefore have set up: an ordinary server as seen by an
    /// elevated client, or one that says [`Listen::lower_integrity`](crate::Listen::lower_integrity).
    ///
    /// # Platform-specific behavior
    /// Windows only; elsewhere there are no integrity levels and this changes nothing.
    pub fn lower_integrity(mut self) -> Connect {
        self.lower_integrity = true;
        self
    }

    /// For those whose own users can't say whom we talk to: errors do not suggest it.
    pub(crate) fn without_choice(mut self) -> Connect {
        self.has_choice = false;
        self
    }

    /// How long connecting may take, handshake included. Default 5 s; `None` waits without end.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Connect {
        self.timeout = timeout.into();
        self
    }

    /// How long a call may take, unless it says otherwise itself. Default 30 s; `None` waits as
    /// long as the server lives.
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Connect {
        self.call_timeout = timeout.into();
        self
    }

    /// How long a thread that waits for an answer looks for it, again and again, before it sleeps. Default zero: it
    /// sleeps at once.
    ///
    /// Whoever sleeps has to be woken, which takes longer than most answers do. Looking takes a whole processor
    /// meanwhile, so it pays only where the server has another one, answers within that time, and does the same
    /// ([`Limits::spin`](crate::Limits::spin)). On one processor for both it does harm. At most a second. Of the threads that
    /// share a client one looks, for all; a [reader](super::Client::spawn_reader) does so behind everything that comes. Over
    /// datagrams, and for tasks (`tokio`), this changes nothing.
    pub fn spin(mut self, time: Duration) -> Connect {
        self.spin = time;
        self
    }

    /// Speaks the classic layout with short frames, for servers that know no other.
    pub fn classic(mut self) -> Connect {
        self.classic = Some(Classic::Short(CLASSIC_MAX));
        self
    }

    /// Speaks the classic layout with frames of exactly `12 + bytes`, zero-padded.
    pub fn classic_fixed(mut self, bytes: u32) -> Connect {
        self.classic = Some(Classic::Fixed(bytes.min(CLASSIC_MAX)));
        self
    }

    /// Lets requests and replies carry attachments: open files, ends of pipes, sockets. Default: not. Only servers that
    /// [say so as well](crate::Listen::attachments) take part; what came with a reply is
    /// [taken](super::Response::take_attachments) from it, and what nobody takes is closed with it. A server may make that
    /// closing wait, as [`Listen::attachments`](crate::Listen::attachments) tells of clients.
    ///
    /// `open` fails with [`is_invalid_input`](Error::is_invalid_input) where they can't go: in the classic layout, over
    /// datagrams, over a channel that was [given](Connect::over), and for tasks.
    ///
    /// # Platform-specific behavior
    /// Unix: over Unix sockets (SCM_RIGHTS, unix(7)). Windows: handles over named pipes, but no sockets; both processes must be
    /// one user's and have one integrity level, see [`Listen::attachments`](crate::Listen::attachments).
    pub fn attachments(mut self, are_taken: bool) -> Connect {
        self.attachments = are_taken;
        self
    }

    /// Other limits for this connection. Not over datagrams, where there is none.
    ///
    /// What is for a server's peers holds for a client's server: what it may send, how long that may take
    /// it, how long it may take nothing, how long all may be silent. Of `outbox_hard` bytes that wait to be sent
    /// a request is refused that alone has more; others wait until there is room. `linger` means nothing here:
    /// a client that is dropped closes at once.
    ///
    /// A client has no thread of its own, so time limits are judged whenever somebody reads, writes or begins a
    /// call, after what had come was read. A connection that has been idle for too long therefore ends with the
    /// next call, which was not executed.
    pub fn limits(mut self, limits: ConnectionLimits) -> Connect {
        self.limits = limits;
        self
    }

    /// What our hello says of this application: see [`App`]. The server's handlers read it with
    /// [`Request::peer_app`](crate::Request::peer_app). Nowhere without a hello: in the classic layout, over datagrams,
    /// without frames.
    pub fn app(mut self, app: App) -> Connect {
        self.app = Some(app);
        self
    }

    /// Sets the handler of requests and notifies of this type that the server sends; a later one replaces it.
    /// Without any handler the server is told that nothing is served here, and its notifies are skipped.
    ///
    /// Handlers run on threads that wait for something on the connection (a call, say), and on those of
    /// [`Client::spawn_reader`](super::Client::spawn_reader); nowhere else, so a client that does neither answers when it
    /// next does. Several
    /// may run at a time. While one runs its thread does not go on, so one that takes long makes its caller wait
    /// beyond his time limit; it may [answer later](PeerReply::defer) instead. One that waits for a call of its own may
    /// be interrupted there by others, up to 16 deep. One that panics answers "handler failed" (-10).
    ///
    /// What the server asks and nobody has taken yet is bounded by what this client's hello says
    /// ([`ConnectionLimits::max_in_flight`] and `max_in_flight_bytes`); of notifies as much is kept, further ones
    /// are dropped, and the log says how many.
    ///
    /// ```
    /// # let name = format!("local:on-{}", std::process::id());
    /// # let name = name.as_str();
    /// use std::time::Duration;
    /// use sidewire::{Connect, Failure, Server};
    ///
    /// const NAME: u16 = 1;
    /// const ENROL: u16 = 2;
    /// # let mut server = Server::new(Vec::new());
    /// # let remote = server.remote()?;
    /// # server.on(ENROL, move |_names, request, _reply| {
    /// #     let client = remote.peer(request.connection().expect("a stream"));
    /// #     client.call(NAME, "", Duration::from_secs(1), |names: &mut Vec<String>, answer| {
    /// #         names.push(String::from_utf8_lossy(answer.expect("an answer").payload()).into());
    /// #     })?;
    /// #     Ok(())
    /// # });
    /// # server.on(3, |names, _request, reply| Ok(reply.write(names.concat())));
    /// # server.listen(name)?;
    /// # let running = server.spawn()?;
    /// let connect = Connect::to(name)?.on(NAME, |_request, reply| {
    ///     reply.write("Ada");
    ///     Ok(())
    /// });
    /// let client = connect.open()?;
    /// client.call(ENROL, "")?; // meanwhile, or later, the server asks for the name
    /// # while client.call(3, "")?.payload() != b"Ada" {}
    /// # drop(client);
    /// # running.stop()?;
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    pub fn on<F>(mut self, msg_type: u16, handler: F) -> Connect
    where
        F: Fn(&PeerRequest<'_>, &mut PeerReply) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.handlers.set(msg_type, handler);
        self
    }

    /// Calls this when something has come that nobody waits for: an event, the reply to a call that was
    /// [started](super::Client::start) or a part of one, the connection's end, or another connection behind that. It is for
    /// programs that wait for something else, such as the loop of a user interface: this wakes that loop, which
    /// then asks [`Events::next_timeout`](super::Events::next_timeout) until there are no more,
    /// [`Pending::poll`](super::Pending::poll) and [`Parts::poll`](super::Parts::poll), without waiting. What is asked
    /// for only later has not been missed: it is kept. It may be called for nothing. That a call's time is up is not
    /// told.
    ///
    /// Whoever reads runs it, so there has to be a [reader](super::Client::spawn_reader), and it should not take long. It
    /// may use the client, but not wait for it.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use sidewire::Connect;
    ///
    /// # use sidewire::{Server, WhenSlow};
    /// # fn main() -> sidewire::Result<()> {
    /// # let name = format!("local:arrival-{}", std::process::id());
    /// # let name = name.as_str();
    /// # let mut server = Server::new(());
    /// # server.topic(1, WhenSlow::DropNewest);
    /// # server.listen(name)?;
    /// # let running = server.spawn()?;
    /// const CHANGED: u16 = 1;
    /// # #[derive(PartialEq, Debug)]
    /// enum Input {
    ///     // What else the loop waits for, and:
    ///     Sidewire,
    /// }
    /// let (sender, inputs) = mpsc::channel(); // in an app: the event loop's proxy
    /// let client = Connect::to(name)?.on_arrival(move || drop(sender.send(Input::Sidewire))).open()?;
    /// let mut changes = client.subscribe(CHANGED)?;
    /// client.spawn_reader()?;
    /// # running.remote().publish(CHANGED, "x")?;
    /// for Input::Sidewire in inputs {
    ///     while let Some(change) = changes.next_timeout(Duration::ZERO)? {
    ///         println!("{} bytes", change.payload().len());
    /// #       return Ok(());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_arrival(mut self, told: impl Fn() + Send + Sync + 'static) -> Connect {
        self.handlers.arrival = Some(Arc::new(told));
        self
    }

    pub(super) fn tell_arrival(&self) {
        self.handlers.tell_arrival();
    }

    /// Connects anew when the connection has ended, which is else the end of the client. Not at first: if
    /// [`open`](Connect::open) finds nobody, it says so. Over datagrams there is no connection that could end, and this
    /// changes nothing.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Connect {
        self.reconnect = Some(reconnect);
        self
    }

    /// Calls this when the client has come to its end, with the reason: once, also if several threads find
    /// out. The connection has ended, or with [`reconnect`](Connect::reconnect) no new one was found; or somebody has
    /// called [`Client::close`](super::Client::close). That a client is dropped is not told.
    ///
    /// There is no thread behind a client. So the one that finds out runs this, in the call that fails with
    /// it, or in [`Client::is_closed`](super::Client::is_closed).
    pub fn on_closed(mut self, told: impl Fn(&Error) + Send + Sync + 'static) -> Connect {
        self.on_closed = OnClosed(Some(Arc::new(told)));
        self
    }

    /// By when an attempt that begins now has to be through.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// How long an attempt may take.
    pub(super) fn time_limit(&self) -> Option<Duration> {
        self.timeout
    }

    /// How long a call may take.
    pub(crate) fn call_time_limit(&self) -> Option<Duration> {
        self.call_timeout
    }

    /// Whom to tell of the client's end.
    pub(crate) fn closing(&self) -> Option<Closing> {
        self.on_closed.0.clone().map(Closing::new)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn takes_attachments(&self) -> bool {
        self.attachments
    }

    pub(crate) fn reconnects(&self) -> Option<Reconnect> {
        self.reconnect.clone()
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How the classic layout is to be spoken; `None`: v1.
    pub(super) fn classic_layout(&self) -> Option<Classic> {
        self.classic
    }

    pub(crate) fn invalid(&self, text: &str) -> Error {
        Error::new("connect to", &self.endpoint, Kind::InvalidInput(text.into()))
    }
}
