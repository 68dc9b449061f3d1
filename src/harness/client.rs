//! A client of a harness, and how it is made.

use std::cell::RefMut;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire_platform::{Credentials, Peer as Identity, User};

use super::Shared;
use super::calls::{Parts, Pending};
use super::events::Events;
use super::peer::{Awake, Handler, Peer};
use super::stage::{Stage, Turns, enter};
use crate::client::{Response, request};
use crate::error::{Error, Kind, Result};
use crate::random::random_id;
use sidewire_wire::caller::{Caller, Outcome, Purpose, Seat};
use sidewire_wire::frame::timeout_ms;
use sidewire_wire::memory::NoMemory;
use sidewire_wire::{App, Classic, ConnectionLimits, Executed, Failure, Layout, ResultCode, Settings};

/// A client that is to have other than the usual options: from [`Harness::client`](super::Harness::client).
#[must_use = "there is no client before connect()"]
pub struct ClientBuilder {
    stage: Shared,
    identity: Option<Identity>,
    settings: Settings,
    is_classic: bool,
    timeout: Duration,
    call_timeout: Option<Duration>,
    handlers: HashMap<u16, Handler>,
}

/// As those of [`Connect`](crate::Connect).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Payload bytes of a classic reply that a client takes.
const CLASSIC_MAX: u32 = 16 << 20;

impl ClientBuilder {
    pub(super) fn new(stage: Shared) -> ClientBuilder {
        let mut limits = ConnectionLimits::default();
        // A test takes them when it looks; a real client would leave them with the server as long.
        limits.event_queue = usize::MAX;
        ClientBuilder {
            stage,
            identity: None,
            settings: Settings::new(limits, Classic::default()),
            is_classic: false,
            timeout: CONNECT_TIMEOUT,
            call_timeout: Some(CALL_TIMEOUT),
            handlers: HashMap::new(),
        }
    }

    /// What its hello says of its application: see [`Connect::app`](crate::Connect::app).
    pub fn app(mut self, app: App) -> ClientBuilder {
        self.settings.app = Some(app);
        self
    }

    /// A process of this user.
    pub fn user(self, user: User) -> ClientBuilder {
        let own = enter(&self.stage).own.credentials().and_then(Credentials::integrity);
        let credentials = Credentials::new(user, Some(std::process::id()), own);
        self.peer(Identity::new(Some(credentials), None))
    }

    /// Whoever the system says is there. Default: this process.
    pub fn peer(mut self, peer: Identity) -> ClientBuilder {
        self.identity = Some(peer);
        self
    }

    /// Speaks the classic layout with short frames.
    pub fn classic(mut self) -> ClientBuilder {
        (self.settings.classic, self.is_classic) = (Classic::Short(CLASSIC_MAX), true);
        self
    }

    /// Other limits for this client's side of the connection. Unlike the default ones, those of harnesses keep all events
    /// until they are taken.
    pub fn limits(mut self, limits: ConnectionLimits) -> ClientBuilder {
        self.settings.limits = limits;
        self
    }

    /// How long a call may take. Default 30 s, as for all clients; `None` waits for as long as anything can still
    /// happen.
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.call_timeout = timeout.into();
        self
    }

    /// Sets what answers requests of this type that the server [sends](crate::PeerHandle::call); notifies come here,
    /// too, and what is answered to those goes nowhere. Without any the server is told that nothing is served here.
    ///
    /// It is run as soon as the server has asked, whatever the test does at that time. It can't use the harness, nor its
    /// clients. A panic in it is one of the test.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sidewire::harness::Harness;
    /// # use sidewire::Server;
    /// const WHO: u16 = 1;
    /// let harness = Harness::new(Server::new(String::new()));
    /// let client = harness.client().on(WHO, |_payload| Ok(b"Ada".to_vec())).connect()?;
    /// let peer = harness.remote().peer(harness.peers()[0].connection);
    /// peer.call(WHO, "", Duration::from_secs(1), |name: &mut String, answer| {
    ///     *name = String::from_utf8_lossy(answer.expect("it answers").payload()).into();
    /// })?;
    /// harness.settle();
    /// assert_eq!(*harness.state(), "Ada");
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    pub fn on<F>(self, msg_type: u16, mut handler: F) -> ClientBuilder
    where
        F: FnMut(&[u8]) -> Result<Vec<u8>, Failure> + 'static,
    {
        self.answers(msg_type, move |payload| Ok((ResultCode::OK, handler(payload)?)))
    }

    /// The same for one that also says with what result code.
    pub(super) fn answers<F>(mut self, msg_type: u16, handler: F) -> ClientBuilder
    where
        F: FnMut(&[u8]) -> Result<(ResultCode, Vec<u8>), Failure> + 'static,
    {
        self.handlers.insert(msg_type, Box::new(handler));
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect): [`is_refused`](Error::is_refused),
    /// [`is_not_listening`](Error::is_not_listening) once the server has stopped; and
    /// [`is_invalid_input`](Error::is_invalid_input) for an app whose name is longer than a hello takes.
    pub fn connect(self) -> Result<Client> {
        let ClientBuilder { stage: shared, identity, settings, is_classic, timeout, call_timeout, handlers } =
            self;
        let mut stage = enter(&shared);
        stage.settle();
        let error = |kind| Error::new("connect to", &stage.endpoint, kind);
        if let Some(Err(contradiction)) = settings.app.as_ref().map(App::check) {
            return Err(error(Kind::InvalidInput(contradiction.to_string())));
        }
        if stage.server.has_stopped() {
            return Err(error(Kind::NotListening));
        }
        let (now, settings) = (stage.now(), Arc::new(settings));
        let caller = match is_classic {
            true => Caller::classic(settings, now),
            false => Caller::v1(settings, random_id(), now),
        };
        let line = stage.world.connect(0, identity.unwrap_or_else(|| stage.own.clone()));
        let peer = Peer::new(line, caller, handlers, stage.own.clone(), stage.endpoint.clone());
        let index = stage.peers.len();
        stage.peers.push(peer);
        drop(stage);
        let client = Client { at: Seated { stage: shared, index }, call_timeout };
        let deadline = client.at.stage().now() + timeout;
        let opened = client.at.admit("connect to", Purpose::Open, Some(deadline));
        opened.map(|_| ()).map_err(Error::without_a_hello)?;
        Ok(client)
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").finish_non_exhaustive()
    }
}

/// A client of a [`Harness`](super::Harness), which is one of its own like a [`Client`](crate::Client) of a real server, and
/// has its methods. Dropped, it says goodbye.
///
/// Where a real client waits, this one has the server do what can be done; if that brings no answer, it waits
/// for [other threads](super::Harness::set_patience), and then time passes, up to its call timeout.
#[derive(Debug)]
pub struct Client {
    pub(super) at: Seated,
    call_timeout: Option<Duration>,
}

impl Client {
    /// Sends a request and takes its reply: see [`Client::call`](crate::Client::call).
    ///
    /// # Errors
    /// As [`RequestBuilder::send`](crate::RequestBuilder::send). Of a call without a time limit also
    /// [`is_timeout`](Error::is_timeout): nothing more can happen.
    pub fn call(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Response> {
        let response = self.exchange(msg_type, payload)?;
        response.checked(&self.at.stage().endpoint).map_err(|error| error.of_type(msg_type))
    }

    /// The same, whatever its result code is.
    ///
    /// # Errors
    /// As [`call`](Client::call), but for result codes.
    pub fn exchange(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Response> {
        let exchanged = self.at.exchange(msg_type, payload.as_ref(), self.call_timeout);
        exchanged.map_err(|error| self.at.explain(error, msg_type, self.call_timeout))
    }

    /// Starts a call, to be waited for later. It leaves at once, and its time limit runs.
    ///
    /// # Errors
    /// As [`call`](Client::call), of which nothing was sent then.
    pub fn start(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Pending> {
        Pending::start(&self.at, msg_type, payload.as_ref(), self.call_timeout)
    }

    /// Starts a call whose reply comes in parts. The time limit is that of each part.
    ///
    /// # Errors
    /// As [`start`](Client::start).
    pub fn stream(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Parts> {
        Parts::start(&self.at, msg_type, payload.as_ref(), self.call_timeout)
    }

    /// Sends a request that wants no answer, and has it handled.
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`](crate::RequestBuilder::notify).
    pub fn notify(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        let notified = self.at.notify(payload.as_ref(), msg_type, self.call_timeout);
        notified.map_err(|error| error.of_type(msg_type))
    }

    /// Subscribes to a topic.
    ///
    /// # Errors
    /// As [`Client::subscribe`](crate::Client::subscribe).
    pub fn subscribe(&self, topic: u16) -> Result<Events> {
        let mut events = Events::of(&self.at, self.call_timeout);
        events.add(topic)?;
        Ok(events)
    }

    /// What the server's application says of itself in its hello.
    #[must_use]
    pub fn peer_app(&self) -> Option<App> {
        self.at.stage().peers[self.at.index].caller.hello()?.app().cloned()
    }

    /// Whether its connection has come to its end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let mut stage = self.at.stage();
        stage.settle();
        stage.peers[self.at.index].caller.end().is_some()
    }

    /// Reads no more, as a process that hangs or is slow: what the server sends fills a buffer of 64 KiB, and then waits with
    /// the server, until that drops it or gives the client up. What the server asks is not answered. Until this client
    /// [reads on](Client::read_on), nothing that it waits for comes, and time passes.
    ///
    /// ```
    /// # use sidewire::harness::Harness;
    /// # use sidewire::{Server, WhenSlow};
    /// const CHANGED: u16 = 1;
    /// let mut server = Server::new(());
    /// server.topic(CHANGED, WhenSlow::KeepLatest);
    /// let harness = Harness::new(server);
    /// let slow = harness.connect();
    /// let mut changes = slow.subscribe(CHANGED)?;
    /// slow.stop_reading();
    /// for number in 0..1000_u32 {
    ///     harness.publish(CHANGED, format!("{number:10000}"))?;
    /// }
    /// slow.read_on();
    /// let last = changes.last().expect("what was kept");
    /// assert!(last.payload().ends_with(b"999") && last.dropped() > 0);
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    pub fn stop_reading(&self) {
        self.at.stage().peers[self.at.index].set_reads(false);
    }

    /// Reads all that has come meanwhile, and goes on.
    pub fn read_on(&self) {
        let mut stage = self.at.stage();
        stage.peers[self.at.index].set_reads(true);
        stage.settle();
    }

    /// Leaves in order, as one that is dropped does.
    pub fn close(&self) {
        self.at.stage().leave(self.at.index);
    }

    /// Ends without a word, as a process that dies: what was on its way to it is lost.
    pub fn abort(self) {
        let mut stage = self.at.stage();
        stage.peers[self.at.index].abort();
        stage.settle();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(mut stage) = self.at.stage_at_the_end() {
            stage.leave(self.at.index);
        }
    }
}

impl Stage<dyn Turns> {
    fn leave(&mut self, client: usize) {
        self.settle();
        let now = self.now();
        self.peers[client].close(now);
        self.settle();
    }
}

/// Which client it is, for all that is its.
#[derive(Clone)]
pub(super) struct Seated {
    stage: Shared,
    index: usize,
}

impl fmt::Debug for Seated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.index)
    }
}

impl Seated {
    pub(super) fn stage(&self) -> RefMut<'_, Stage<dyn Turns>> {
        enter(&self.stage)
    }

    /// The same when something is dropped; not if that is because the test has failed.
    pub(super) fn stage_at_the_end(&self) -> Option<RefMut<'_, Stage<dyn Turns>>> {
        (!thread::panicking()).then(|| self.stage())
    }

    pub(super) fn deadline(&self, timeout: Option<Duration>) -> Option<Instant> {
        self.stage().now().checked_add(timeout?)
    }

    /// Waits until such a request may begin, which it then has to at once.
    pub(super) fn admit(
        &self,
        operation: &'static str,
        purpose: Purpose,
        deadline: Option<Instant>,
    ) -> Result<RefMut<'_, Stage<dyn Turns>>> {
        let mut stage = self.stage();
        stage.settle();
        let now = stage.now();
        let caller = &mut stage.peers[self.index].caller;
        if caller.may_begin_at(purpose, now) {
            return Ok(stage);
        }
        let seat = caller.ask(purpose, deadline, Awake);
        match stage.wait(self.index, seat) {
            Some(Outcome::Ready) => Ok(stage),
            outcome => Err(stage.explain(self.index, operation, outcome)),
        }
    }

    /// Begins something, or says that there is no memory for it.
    pub(super) fn begin<R>(
        &self,
        stage: &mut Stage<dyn Turns>,
        operation: &'static str,
        begin: impl FnOnce(&mut Caller<Awake>) -> Result<R, NoMemory>,
    ) -> Result<R> {
        let begun = begin(&mut stage.peers[self.index].caller);
        begun.map_err(|NoMemory| Error::no_memory(operation, &stage.endpoint, Executed::Never))
    }

    fn exchange(&self, msg_type: u16, payload: &[u8], timeout: Option<Duration>) -> Result<Response> {
        let deadline = self.deadline(timeout);
        let mut stage = self.admit("call", Purpose::Call(payload.len()), deadline)?;
        let id = self.begin(&mut stage, "call", |caller| {
            caller.begin(msg_type, payload, timeout_ms(timeout), deadline, Awake)
        })?;
        self.reply(&mut stage, "call", Seat::Call(id))
    }

    /// Waits for the reply at this seat.
    pub(super) fn reply(
        &self,
        stage: &mut Stage<dyn Turns>,
        operation: &'static str,
        seat: Seat,
    ) -> Result<Response> {
        match stage.wait(self.index, seat) {
            Some(Outcome::Reply(reply)) => Ok(reply.into()),
            outcome => Err(stage.explain(self.index, operation, outcome)),
        }
    }

    fn notify(&self, payload: &[u8], msg_type: u16, timeout: Option<Duration>) -> Result<()> {
        if self.stage().peers[self.index].caller.layout() == Some(Layout::Classic) {
            return Err(self.invalid("notify", "the classic layout has no requests without an answer"));
        }
        let deadline = self.deadline(timeout);
        let mut stage = self.admit("notify", Purpose::Notify(payload.len()), deadline)?;
        self.begin(&mut stage, "notify", |caller| caller.notify(msg_type, payload))?;
        stage.settle();
        Ok(())
    }

    pub(super) fn invalid(&self, operation: &'static str, text: &str) -> Error {
        Error::new(operation, &self.stage().endpoint, Kind::InvalidInput(text.into()))
    }

    /// Says which call it was, and of whom nothing came.
    pub(super) fn explain(&self, error: Error, msg_type: u16, timeout: Option<Duration>) -> Error {
        let stage = self.stage();
        request::explain(error, msg_type, timeout, &stage.peers[self.index].server)
    }

    /// What has come at a seat that nobody waits at.
    pub(super) fn look(&self, seat: Seat) -> Option<Outcome> {
        self.stage().look(self.index, seat)
    }

    pub(super) fn caller<R>(&self, ask: impl FnOnce(&mut Caller<Awake>) -> R) -> R {
        ask(&mut self.stage().peers[self.index].caller)
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }
}

impl Stage<dyn Turns> {
    /// What it means for a request of this client that it came to this.
    pub(super) fn explain(&self, client: usize, operation: &'static str, outcome: Option<Outcome>) -> Error {
        match outcome {
            Some(outcome @ Outcome::TimedOut(_)) if self.is_impatient => {
                let patience = self.patience;
                self.peers[client].explain(operation, outcome).with_note(|_| {
                    format!("the answer is to come later, but no other thread gave it in {patience:?}, so time passed")
                })
            }
            Some(outcome) => self.peers[client].explain(operation, outcome),
            None => Error::new(operation, &self.endpoint, Kind::TimedOut)
                .with_note(|_| "nothing more can happen here that would answer it".into()),
        }
    }
}
