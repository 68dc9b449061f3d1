//! How a client connects.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::{Address, Channel, DatagramChannel, Endpoint, EndpointKind, Peer};

use super::build::Build;
use super::closing::{Closing, Told};
use super::datagram::DatagramCalls;
use super::given::Given;
use super::handlers::{Handlers, PeerReply, PeerRequest};
use super::lasting::Lasting;
use super::leader::SharedConnection;
use super::line::Line;
use super::relay::Fate;
use super::summons::Summons;
use super::{Client, Link, RawDatagrams, RawStream, Reconnect};
use crate::access::{Access, Denied, OwnIdentity};
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::loops::{self, WAITS_FOR_ITSELF};
use crate::random::random_id;
use sidewire_wire::caller::Caller;
use sidewire_wire::{App, Classic, ConnectionLimits, Failure, ResultCode, Settings};

/// A connection to be opened, with options. [`Client::connect`] is the short form.
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
    access: Access,
    /// `None`: v1.
    classic: Option<Classic>,
    lower_integrity: bool,
    pub(super) timeout: Option<Duration>,
    call_timeout: Option<Duration>,
    limits: ConnectionLimits,
    app: Option<App>,
    handlers: Handlers,
    reconnect: Option<Reconnect>,
    on_closed: OnClosed,
    /// A channel that is there already.
    pub(super) given: Option<Given>,
    pub(super) build: Build,
    pub(super) summons: Option<Arc<dyn Summons>>,
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
            timeout: Some(CONNECT_TIMEOUT),
            call_timeout: Some(CALL_TIMEOUT),
            limits: ConnectionLimits::default(),
            app: None,
            handlers: Handlers::default(),
            reconnect: None,
            on_closed: OnClosed::default(),
            given: None,
            build: Build::any(),
            summons: None,
        }
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
    /// [`Client::spawn_reader`]; nowhere else, so a client that does neither answers when it next does. Several
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
    /// [started](Client::start) or a part of one, the connection's end, or another connection behind that. It is for
    /// programs that wait for something else, such as the loop of a user interface: this wakes that loop, which
    /// then asks [`Events::next_timeout`](super::Events::next_timeout) until there are no more,
    /// [`Pending::poll`](super::Pending::poll) and [`Parts::poll`](super::Parts::poll), without waiting. What is asked
    /// for only later has not been missed: it is kept. It may be called for nothing. That a call's time is up is not
    /// told.
    ///
    /// Whoever reads runs it, so there has to be a [reader](Client::spawn_reader), and it should not take long.
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
    /// called [`Client::close`]. That a client is dropped is not told.
    ///
    /// There is no thread behind a client. So the one that finds out runs this, in the call that fails with
    /// it, or in [`Client::is_closed`].
    pub fn on_closed(mut self, told: impl Fn(&Error) + Send + Sync + 'static) -> Connect {
        self.on_closed = OnClosed(Some(Arc::new(told)));
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// See [`Client::connect`]; [`is_invalid_input`](Error::is_invalid_input) for limits that contradict
    /// each other, for an app whose name is longer than a hello takes, and for handlers in the classic layout or
    /// over datagrams, where no server asks.
    pub fn open(self) -> Result<Client> {
        let is_classic_or_datagrams = self.classic.is_some() || self.endpoint.kind() != EndpointKind::Stream;
        if is_classic_or_datagrams && !self.handlers.is_empty() {
            return Err(self.invalid("no server asks in the classic layout or over datagrams"));
        }
        if is_classic_or_datagrams && !self.build.is_any() {
            return Err(
                self.invalid("no server says of which build it is in the classic layout or over datagrams")
            );
        }
        self.check_options()?;
        self.check_given(self.classic.is_none())?;
        let call_timeout = self.call_timeout;
        let closing = self.closing();
        if self.endpoint.kind() != EndpointKind::Stream {
            self.check_unsummoned()?;
            let calls = Box::new(DatagramCalls::open(self)?);
            return Ok(Client { link: Link::Datagrams(calls), call_timeout, closing });
        }
        // What it tells of its end is the client's end unless others follow.
        let told = closing.clone().filter(|_| self.reconnect.is_none());
        let connection = self.strive(None, |connect| {
            let deadline = connect.deadline();
            let connection = connect.begin_stream(told.clone())?;
            connect.shake_hands(&connection, deadline).map(|()| connection)
        })?;
        let line = match self.reconnect.clone() {
            None => Line::Once(connection),
            Some(reconnect) => {
                Line::Lasting(Arc::new(Lasting::new(self, reconnect, closing.clone(), connection)))
            }
        };
        Ok(Client { link: Link::Stream(line), call_timeout, closing })
    }

    /// Whether its numbers and texts can be.
    pub(crate) fn check_options(&self) -> Result<()> {
        self.limits.check().map_err(|contradiction| self.invalid(&contradiction.to_string()))?;
        self.app.iter().try_for_each(App::check).map_err(|why| self.invalid(&why.to_string()))
    }

    /// Whether a channel that is there already can be used so.
    fn check_given(&self, is_v1: bool) -> Result<()> {
        let objection =
            self.given.as_ref().and_then(|given| given.objection(is_v1, self.reconnect.is_none()));
        objection.map_or(Ok(()), |objection| Err(self.invalid(objection)))
    }

    /// Over a channel to a child, which is to say hello.
    pub(super) fn adopt(
        &self,
        endpoint: Endpoint,
        channel: Channel,
        fate: Arc<Fate>,
    ) -> Arc<SharedConnection> {
        let mut handlers = self.handlers.clone();
        handlers.call_timeout = self.call_timeout;
        // Its first bytes are a hello, or nothing that is meant.
        let mut settings = Settings::new(self.limits.clone(), Classic::Refused);
        settings.app.clone_from(&self.app);
        (settings.instance, settings.nonce) = (random_id(), random_id);
        let now = Instant::now();
        let caller = Caller::v1_responder(Arc::new(settings), now);
        SharedConnection::new(channel, endpoint, caller, handlers, None, Some(fate))
    }

    /// Opens the channel and begins to say hello.
    pub(super) fn begin_stream(&self, closing: Option<Closing>) -> Result<Arc<SharedConnection>> {
        let channel = self.connect()?;
        let mut handlers = self.handlers.clone();
        handlers.call_timeout = self.call_timeout;
        let mut settings = Settings::new(self.limits.clone(), self.classic.unwrap_or_default());
        settings.app.clone_from(&self.app);
        let now = Instant::now();
        let caller = match self.classic {
            Some(_) => Caller::classic(Arc::new(settings), now),
            None => Caller::v1(Arc::new(settings), random_id(), now),
        };
        Ok(SharedConnection::new(channel, self.endpoint.clone(), caller, handlers, closing, None))
    }

    pub(super) fn shake_hands(&self, connection: &SharedConnection, deadline: Option<Instant>) -> Result<()> {
        let (server, shaken) = (connection.channel().peer(), connection.shake_hands(deadline));
        shaken.map_err(|error| explain(error, server, self.timeout))?;
        let held = self.build.check(self.app.as_ref(), connection.peer_app(), &self.endpoint);
        held.map_err(|error| error.with_note(|_| format!("that is {server}")))
    }

    /// Connects to a server that knows no frames.
    ///
    /// # Errors
    /// See [`Client::connect`]; [`is_invalid_input`](Error::is_invalid_input) for an endpoint
    /// that carries datagrams.
    pub fn open_raw(self) -> Result<RawStream> {
        if self.endpoint.kind() != EndpointKind::Stream {
            return Err(self.invalid("this endpoint carries datagrams, not a stream of bytes"));
        }
        self.check_given(false)?;
        self.check_unsummoned()?;
        let channel = self.connect()?;
        Ok(RawStream::new(channel, self.endpoint, self.call_timeout))
    }

    /// Opens a socket for datagrams without frames.
    ///
    /// # Errors
    /// See [`Client::connect`]; [`is_invalid_input`](Error::is_invalid_input) for an endpoint
    /// that carries a stream.
    pub fn open_messages(self) -> Result<RawDatagrams> {
        if self.endpoint.kind() == EndpointKind::Stream {
            return Err(self.invalid("this endpoint carries a stream of bytes, not datagrams"));
        }
        self.check_unsummoned()?;
        let socket = self.connect_datagrams()?;
        Ok(RawDatagrams::new(socket, self.endpoint, self.call_timeout))
    }

    /// Opens the channel, and holds the server to the policy before anything is sent.
    pub(crate) fn connect(&self) -> Result<Channel> {
        if let Some(given) = &self.given {
            let channel = given.take()?;
            self.check(channel.peer())?;
            log::debug!("{}: a channel to {}", self.endpoint, channel.peer());
            return Ok(channel);
        }
        self.check_verifiable()?;
        self.check_thread(|| None)?;
        let os = |error| Error::os("connect to", &self.endpoint, error).not_executed();
        let channel = Channel::connect(&self.endpoint, self.timeout).map_err(os)?;
        self.check(channel.peer())?;
        self.check_thread(|| channel.peer_address().ok())?;
        log::debug!("{}: connected to {}", self.endpoint, channel.peer().as_server());
        Ok(channel)
    }

    /// The same for datagrams.
    pub(super) fn connect_datagrams(&self) -> Result<DatagramChannel> {
        self.check_verifiable()?;
        let os = |error| Error::os("connect to", &self.endpoint, error);
        let socket = DatagramChannel::connect(&self.endpoint).map_err(os)?;
        self.check(socket.peer())?;
        log::debug!("{}: a socket for {}", self.endpoint, socket.peer());
        Ok(socket)
    }

    /// By when an attempt that begins now has to be through.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// How long an attempt may take.
    pub(super) fn time_limit(&self) -> Option<Duration> {
        self.timeout
    }

    /// How long a call may take.
    pub(super) fn call_time_limit(&self) -> Option<Duration> {
        self.call_timeout
    }

    /// Whom to tell of the client's end.
    pub(super) fn closing(&self) -> Option<Closing> {
        self.on_closed.0.clone().map(Closing::new)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How the classic layout is to be spoken; `None`: v1.
    pub(super) fn classic_layout(&self) -> Option<Classic> {
        self.classic
    }

    fn check_verifiable(&self) -> Result<()> {
        if let Endpoint::Tcp { port: 0, .. } | Endpoint::Udp { port: 0, .. } = self.endpoint {
            return Err(
                self.invalid("port 0 is for servers, for which the system chooses one; write that one")
            );
        }
        if self.access.needs_credentials() && !self.endpoint.can_verify_server() {
            return Err(
                self.invalid("nobody vouches for who serves there; say Access::Anyone if that may be anyone")
            );
        }
        Ok(())
    }

    /// Whether it is not this thread that would have to answer.
    fn check_thread(&self, address: impl FnOnce() -> Option<Address>) -> Result<()> {
        if loops::serves(&self.endpoint, address) {
            return Err(self.invalid(WAITS_FOR_ITSELF).not_executed());
        }
        Ok(())
    }

    fn check(&self, server: &Peer) -> Result<()> {
        let own_identity =
            OwnIdentity::look_up().map_err(|error| Error::os("connect to", &self.endpoint, error))?;
        self.access.admits_server(server, &own_identity, self.lower_integrity).map_err(|denied| {
            let denied_for_its_level = matches!(denied, Denied::LowerIntegrity { .. });
            let why = format!("we do not talk to that server: {denied}");
            Error::new("connect to", &self.endpoint, Kind::Refused { by: RefusedBy::OurAccess, why })
                .with_note(|_| {
                    let lower = match denied_for_its_level {
                        true => "; so would lower_integrity",
                        false => "",
                    };
                    format!(
                        "that is {}, this is {own_identity}; access for anyone would allow it{lower}",
                        server.as_server()
                    )
                })
        })
    }

    pub(crate) fn invalid(&self, text: &str) -> Error {
        Error::new("connect to", &self.endpoint, Kind::InvalidInput(text.into()))
    }
}

/// Says of a handshake that failed with whom it was, and what that may mean.
fn explain(error: Error, server: &Peer, timeout: Option<Duration>) -> Error {
    let server = server.as_server();
    error.without_a_hello().with_note(|error| {
        if error.was_refused_with(ResultCode::NOT_PERMITTED) {
            let us = OwnIdentity::look_up().map_or_else(|_| "another user".into(), |us| us.to_string());
            format!(
                "the server is {server}, this is {us}; unless it is told to let anyone in, it serves processes of \
                 its own user, and root"
            )
        } else if error.was_refused_with(ResultCode::BUSY) {
            format!("the server, {server}, has no room for another connection; try again later")
        } else if error.was_refused_with(ResultCode::SHUTTING_DOWN) {
            format!("the server, {server}, ends; try again, there may be another")
        } else if let (true, Some(timeout)) = (error.is_timeout(), timeout) {
            format!("connected to {server}, no hello within {timeout:?}: hung, or not Sidewire?")
        } else if error.is_peer_gone() {
            format!("connected to {server}, no hello before the end: not Sidewire?")
        } else {
            format!("connected to {server}")
        }
    })
}
