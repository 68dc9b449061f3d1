//! Tests of a server's handlers, without sockets, threads or sleeping (feature `harness`).
//!
//! A [`Harness`] takes the very [`Server`] that the app would run, with its handlers, its topics and its limits, and turns
//! its loop in memory. Clients [connect](Harness::connect) to it there, call it, listen to its events, and go. All that
//! lies between them is what an app ships: the loop, the protocol, access, limits, time limits. Only the system below is
//! none, and time passes when the test says so, or when somebody waits for something that takes time.
#![doc = include_str!("../../docs/guide-testing.md")]

mod calls;
mod client;
mod events;
mod peer;
mod stage;
#[cfg(test)]
mod tests;
#[cfg(feature = "serde")]
pub mod typed;

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use sidewire_platform::{Credentials, Peer as Identity, current_integrity, current_user};

use crate::error::{Error, Result};
use crate::reactor::PeerInfo;
use crate::reactor::memory_system::World;
use crate::server::{AnyThread, InMemory, IntoListen, Remote, Server, Threads};
use stage::{Stage, Turns, enter};

pub use calls::{Parts, Pending};
pub use client::{Client, ClientBuilder};
pub use events::Events;

/// A server in memory, whose time is the test's.
///
/// ```
/// use sidewire::harness::Harness;
/// use sidewire::{Failure, ResultCode, Server};
///
/// const TAKE: u16 = 1;
///
/// /// What the app runs, and the test, too.
/// fn shop() -> Server<u32> {
///     let mut server = Server::new(2);
///     server.on(TAKE, |left: &mut u32, _request, reply| {
///         *left = left.checked_sub(1).ok_or_else(|| Failure::new(ResultCode::new(1), "sold out"))?;
///         reply.write(left.to_string());
///         Ok(())
///     });
///     server
/// }
///
/// # fn main() -> Result<(), sidewire::Error> {
/// let harness = Harness::new(shop());
/// let client = harness.connect();
/// assert_eq!(client.call(TAKE, "")?.payload(), b"1");
/// assert_eq!(client.call(TAKE, "")?.payload(), b"0");
/// let error = client.call(TAKE, "").expect_err("there are no more");
/// assert_eq!(error.result_code(), Some(ResultCode::new(1)));
/// assert_eq!(*harness.state(), 0);
/// # Ok(())
/// # }
/// ```
///
/// It stays on the thread of its test. What is lent by [`state`](Harness::state) is given back before the next call.
pub struct Harness<S, T: Threads = AnyThread> {
    stage: Rc<RefCell<Stage<InMemory<S, T>>>>,
}

/// The stage as clients see it.
type Shared = Rc<RefCell<Stage<dyn Turns>>>;

/// Where clients find a server that was told nothing else.
const ENDPOINT: &str = "local:harness";
/// How long other threads may take unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

impl<S: 'static, T: Threads + 'static> Harness<S, T> {
    /// Takes this server, as one that listens for processes of the same user, with the usual options.
    ///
    /// # Panics
    /// If [`at`](Harness::at) fails: above all, if the server has opened an endpoint already.
    #[must_use]
    #[track_caller]
    pub fn new(server: Server<S, T>) -> Harness<S, T> {
        match Harness::at(server, ENDPOINT) {
            Ok(harness) => harness,
            Err(error) => panic!("{error}"),
        }
    }

    /// Takes this server, as one that listens there. Nothing is opened: of a [`Listen`](crate::Listen) its access, its
    /// limits, what it says of the classic layout and its name count.
    ///
    /// # Errors
    /// [`is_invalid_input`](Error::is_invalid_input) if the server has opened an endpoint, serves a stream or its parent
    /// already, if this is no endpoint for streams, or limits contradict each other. If the system has no descriptors
    /// left for a loop, on which the harness sleeps when it waits for other threads.
    pub fn at<L: IntoListen>(server: Server<S, T>, listen: L) -> Result<Harness<S, T>> {
        let world = World::new();
        let (server, endpoint) = InMemory::new(server, listen, &world)?;
        let user = current_user().map_err(|error| Error::system("set up a harness", error))?;
        let own = Credentials::new(user, Some(std::process::id()), current_integrity());
        let (own, begun) = (Identity::new(Some(own), None), world.now());
        let stage = Stage {
            world,
            endpoint,
            own,
            peers: Vec::new(),
            patience: PATIENCE,
            is_impatient: false,
            begun,
            server,
        };
        Ok(Harness { stage: Rc::new(RefCell::new(stage)) })
    }

    /// Connects a client: a process of the same user, which speaks v1 and has no name.
    ///
    /// # Panics
    /// If the server does not let it in. [`client`](Harness::client) says so by an error.
    #[must_use = "it leaves when this is dropped"]
    #[track_caller]
    pub fn connect(&self) -> Client {
        match self.client().connect() {
            Ok(client) => client,
            Err(error) => panic!("{error}"),
        }
    }

    /// Begins a client that is to have options of its own.
    pub fn client(&self) -> ClientBuilder {
        ClientBuilder::new(Rc::clone(&self.stage) as Shared)
    }

    /// Lets so much time pass. All that is due in between happens when it is due: time limits of calls and connections,
    /// goodbyes, what the server does when it is idle.
    ///
    /// Handlers that ask the system for the time get that of the wall, of which none passes.
    pub fn advance(&self, time: Duration) {
        enter(&self.stage).advance(time);
    }

    /// How much time has passed since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let stage = self.stage.borrow();
        stage.now().saturating_duration_since(stage.begun)
    }

    /// Has the server handle all that has come, also from its [`Remote`], in no time. Whatever is done here or with a
    /// client does this first and last, so that it is of use behind a `Remote` only.
    pub fn settle(&self) {
        enter(&self.stage).settle();
    }

    /// Waits, by the wall's clock, until another thread has asked something of the server: has answered a request that
    /// was [deferred](crate::Reply::defer), published something or had a closure run; and has it handled. Says whether one
    /// has within so much time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sidewire::harness::Harness;
    /// # use sidewire::Server;
    /// const IMPORT: u16 = 1;
    /// let mut server = Server::new(Vec::new());
    /// let remote = server.remote()?;
    /// server.on(IMPORT, move |_lines, _request, _reply| {
    ///     let remote = remote.clone();
    ///     std::thread::spawn(move || remote.with(|lines| lines.push("a line")));
    ///     Ok(())
    /// });
    /// let harness = Harness::new(server);
    /// harness.connect().call(IMPORT, "")?;
    /// while harness.state().is_empty() {
    ///     assert!(harness.wait_for_threads(Duration::from_secs(30)));
    /// }
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    pub fn wait_for_threads(&self, limit: Duration) -> bool {
        let mut stage = enter(&self.stage);
        stage.settle();
        let has_mail = stage.server.wait_for_mail(limit);
        stage.settle();
        has_mail
    }

    /// How long a client that waits for an answer that was [deferred](crate::Reply::defer) waits for other threads to give
    /// it, by the wall's clock, before time passes instead. Default 10 s. With none at all nobody waits for threads: for
    /// servers whose handlers keep such requests in their state, and answer them when something else comes.
    pub fn set_patience(&self, patience: Duration) {
        enter(&self.stage).patience = patience;
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> Ref<'_, S> {
        Ref::map(self.stage.borrow(), |stage| stage.server.state())
    }

    /// The state, to be changed between requests.
    #[must_use]
    pub fn state_mut(&self) -> RefMut<'_, S> {
        RefMut::map(enter(&self.stage), |stage| stage.server.state_mut())
    }

    /// The server's handle for other threads, and for [`peer`](Remote::peer): to ask clients something.
    #[must_use]
    pub fn remote(&self) -> Remote<S> {
        self.stage.borrow().server.remote()
    }

    /// Tells something to all who have subscribed to a topic.
    ///
    /// # Errors
    /// As [`Remote::publish`].
    pub fn publish(&self, topic: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        self.remote().publish(topic, payload)?;
        self.settle();
        Ok(())
    }

    /// Who is connected.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        let mut stage = enter(&self.stage);
        stage.settle();
        stage.server.peers()
    }

    /// Stops the server as [`Remote::stop`] does: clients are told goodbye, requests that wait for their answers are
    /// refused when half a second has passed. The state stays.
    pub fn stop(&self) {
        let mut stage = enter(&self.stage);
        let grace = stage.server.stop();
        stage.settle();
        if !stage.server.has_stopped() {
            stage.advance(grace);
        }
    }

    /// Whether the server has stopped, by itself or because it was told to.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        let mut stage = enter(&self.stage);
        stage.settle();
        stage.server.has_stopped()
    }
}

impl<S, T: Threads> fmt::Debug for Harness<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").finish_non_exhaustive()
    }
}
