//! A helper process: started, looked after, and ended for the program that needs it.
//!
//! | file | what it knows |
//! |---|---|
//! | `builder` | what the user says |
//! | `keeping` | one helper over all its runs: starts, restarts, stops |
//! | `run` | one run: the process, its channel, how it ends |
//! | `draining` | its streams, read all the time (`words` the last lines, `telling` how many the log gets) |
//! | `states` | what is told of it |
//! | `typed` | asking it with values |

mod builder;
pub(super) mod draining;
mod keeping;
mod run;
mod states;
mod telling;
#[cfg(feature = "serde")]
mod typed;
pub(super) mod words;

use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::client::{Client, Events, Parts, Pending, RequestBuilder, Response};
use crate::error::{Error, Kind, Result};
use crate::maker::Maker;
use keeping::{Keeping, Patience};

pub use builder::HelperBuilder;
pub use states::{HelperState, HelperStates};

/// A helper process, for this program alone: started with a private channel, called like any server, and ended with us.
///
/// The helper is a program that serves its parent: [`Server::from_parent`](crate::Server::from_parent), or calls it:
/// [`Client::from_parent`](crate::Client::from_parent). Both sides
/// may call. The channel has no name and nobody else can open it; what the helper prints is not part of it.
///
/// ```no_run
/// use std::process::Command;
/// use sidewire::Helper;
///
/// const RESIZE: u16 = 1;
///
/// let helper = Helper::spawn(Command::new("resize-helper"))?; // it is ready
/// let picture = helper.call(RESIZE, "cat.png")?.into_payload();
/// helper.stop()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
///
/// **Ready.** A helper is starting until it has said hello, which it does when its handlers are there. [`Helper::spawn`]
/// waits for that, 10 s at most; [`HelperBuilder::start`] does not, and then calls wait for it. One that ends before
/// that is an error with its exit status and its last words.
///
/// **What it prints.** Its standard output and standard error are read all the time, and go to our log, line by line,
/// under the target `sidewire::helper` and its name, at the level "info". Of a flood the log gets 20 lines a second. Its standard input is empty.
///
/// **Its end.** When the process has ended, all that wait for an answer get an error that says how: with
/// [`exit_status`](Error::exit_status) and [`last_words`](Error::last_words). So do calls that are begun later,
/// unless it is [restarted](HelperBuilder::restart): then they wait for the next run within their time limit, or
/// [fail](RequestBuilder::fail_fast), and of those that were under way are sent again which had not left, or are marked as
/// [safe](RequestBuilder::idempotent). A helper that closes its channel and lives on, or that breaks the protocol, is
/// ended.
///
/// **Ours.** When we end, in whatever way, the helper and all that it has started end with us; when it ends, what it
/// has started ends, too. Dropping this [stops](Helper::stop) it, with shorter deadlines: a second at most, unless the
/// system can't end it.
///
/// There are four threads behind it: one waits for the process, two read what it prints, one looks after the channel. If
/// we have [handlers](HelperBuilder::on) that one reads all the time and runs them; then each call's reply comes by way of
/// another thread, which takes longer. Otherwise whoever waits for a reply reads it himself, and [events](Events) come
/// when somebody waits for something.
///
/// # Platform-specific behavior
/// Unix: the helper leads a process group of its own; what leaves that group (setsid(2)) is out of reach.
/// Windows: it is in a job that ends with the last handle to it, and has no console window.
#[derive(Debug)]
pub struct Helper {
    client: Client,
    keeping: Arc<Keeping>,
    maker: Maker,
}

impl Helper {
    /// Starts a helper, and waits until it is ready: the short form of
    /// [`builder`](Helper::builder)`(command).spawn()`.
    ///
    /// # Errors
    /// As [`HelperBuilder::spawn`].
    pub fn spawn(command: Command) -> Result<Helper> {
        Helper::builder(command).spawn()
    }

    /// Begins a helper that is to have options. What the command says of its standard streams and its process group
    /// means nothing here.
    ///
    /// # Platform-specific behavior
    /// Windows: only the command's program, arguments, environment and folder count. A program that says no folder is
    /// looked for as [`Command`] does, never in the current folder.
    pub fn builder(command: Command) -> HelperBuilder {
        HelperBuilder::new(command)
    }

    /// Has a thread look after it.
    fn begin(keeping: Keeping, command: Command) -> Result<Helper> {
        let keeping = Arc::new(keeping);
        let client = Client::relayed(keeping.connect(), Arc::clone(keeping.relay()));
        let kept = Arc::clone(&keeping);
        let builder = thread::Builder::new().name("sidewire-keeper".into());
        let spawned = builder.spawn(move || kept.keep(command));
        spawned.map_err(|error| Error::system("start a helper's keeper", error))?;
        Ok(Helper { client, keeping, maker: Maker::here() })
    }

    /// What calls go through: for all that a client can do besides. Its connection is the channel to the helper, whichever
    /// run that is. To close it stops the helper.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request and waits for its reply: [`Client::call`].
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub fn call(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Response> {
        self.client.call(msg_type, payload)
    }

    /// Begins a request of this type that is to have options of its own: [`Client::request`].
    pub fn request(&self, msg_type: u16) -> RequestBuilder<'_> {
        self.client.request(msg_type)
    }

    /// Starts a call, to be waited for later: [`Client::start`].
    ///
    /// # Errors
    /// As [`RequestBuilder::start`].
    pub fn start(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Pending> {
        self.client.start(msg_type, payload)
    }

    /// Starts a call whose reply comes in parts: [`Client::stream`].
    ///
    /// # Errors
    /// As [`RequestBuilder::stream`].
    pub fn stream(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<Parts> {
        self.client.stream(msg_type, payload)
    }

    /// Sends a request that wants no answer: [`Client::notify`].
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`].
    pub fn notify(&self, msg_type: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        self.client.notify(msg_type, payload)
    }

    /// Subscribes to a topic: [`Client::subscribe`]. A restart renews it.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn subscribe(&self, topic: u16) -> Result<Events> {
        self.client.subscribe(topic)
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> HelperState {
        self.keeping.board().state()
    }

    /// What becomes of it, beginning with how it is doing now.
    #[must_use]
    pub fn states(&self) -> HelperStates {
        HelperStates::of(self.keeping.board())
    }

    /// Calls this whenever there is a state that [`states`](Helper::states) has not given yet, so that a loop of the app's
    /// own can be woken to look: on the helper's thread, which it must not hold up. Also at once, and here. A later one
    /// replaces it. That something else has come, a reply or an event, is told by
    /// [`Connect::on_arrival`](crate::Connect::on_arrival), set in [`options`](HelperBuilder::options).
    ///
    /// ```no_run
    /// # use sidewire::Helper;
    /// # use std::process::Command;
    /// # use std::time::Duration;
    /// # #[derive(Clone)]
    /// # struct Proxy;
    /// # impl Proxy { fn send_event(&self, _event: &str) {} }
    /// # let proxy = Proxy;
    /// let news = proxy.clone();
    /// let helper = Helper::builder(Command::new("resize-helper"))
    ///     .options(|connect| connect.on_arrival(move || news.send_event("look")))
    ///     .start()?;
    /// let mut states = helper.states();
    /// helper.on_state(move || proxy.send_event("look"));
    /// // The loop, when it gets that event:
    /// while let Some(state) = states.next_timeout(Duration::ZERO) {
    ///     println!("{state}");
    /// }
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    pub fn on_state(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.keeping.board().set_wake(Arc::new(wake));
    }

    /// The id of its process, if there is one now.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.keeping.id()
    }

    /// Waits until it is ready, or will not be without a restart.
    ///
    /// # Errors
    /// Why it will not be.
    fn wait_until_ready(&self) -> Result<()> {
        // The keeper ends one that takes too long; this is for a system that can't.
        let limit = self.keeping.ready_within().saturating_add(UNENDING);
        let mut states = self.states();
        while let Some(state) = states.next_timeout(limit) {
            match state {
                HelperState::Starting => {}
                HelperState::Ready => return Ok(()),
                HelperState::Restarting { why, .. } | HelperState::Ended(why) | HelperState::GaveUp(why) => {
                    return Err(why.for_request("start", why.executed()));
                }
                HelperState::Stopped => break,
            }
        }
        Err(Error::new("start", self.client.endpoint(), Kind::Hung))
    }

    /// Ends it, and waits until it has: asked through its channel, when that does not help by the system (SIGTERM, or
    /// what Windows has for that), and then it is killed. [`HelperBuilder::stop_within`] says how long each may take.
    /// Calls that it works on are answered if it does so in time; no call can be begun, and no restart follows. One that
    /// was stopped (SIGSTOP) or hangs ends, too.
    ///
    /// # Errors
    /// [`is_timeout`](Error::is_timeout): the system has not ended it although it was killed.
    pub fn stop(&self) -> Result<()> {
        self.keeping.stop(self.keeping.patience())
    }

    /// Kills its process, if there is one now, and all that it has started: at once, without asking, and without waiting
    /// for the end. What follows is what follows when it crashes: all that wait for an answer get an error, and it is
    /// restarted if that was asked for. So one that hangs makes room for the next. A call that is begun before it has ended
    /// may still go to this one, and get its error. [`stop`](Helper::stop) is for good, and
    /// this cuts it short.
    ///
    /// # Errors
    /// If the system can't.
    pub fn kill(&self) -> Result<()> {
        self.keeping.kill()
    }
}

const UNENDING: Duration = Duration::from_secs(10);

/// In a forked child this says nothing.
impl Drop for Helper {
    fn drop(&mut self) {
        if self.maker.is_here()
            && let Err(error) = self.keeping.stop(Patience::SHORT)
        {
            log::warn!("{error}");
        }
    }
}
