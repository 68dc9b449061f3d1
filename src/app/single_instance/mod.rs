//! One instance of an app: whoever starts it again reaches the one that runs.
//!
//! The system decides who it is ([`InstanceLock`]). Whoever is not meets the one at its endpoint, as a client of
//! the server that runs in it. `acquiring` is the way to either; `queue` holds what has come until the app takes
//! it; `activation` is what is handed over, and its bytes.

mod acquiring;
mod activation;
mod queue;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::{Endpoint, InstanceLock};

use crate::error::Result;
use crate::maker::Maker;
use crate::server::Running;
use queue::Queue;

pub use activation::Activation;

/// The one instance of an app, for as long as this is kept.
///
/// ```
/// use sidewire::{Acquired, SingleInstance};
///
/// # fn main() -> sidewire::Result<()> {
/// # let id = format!("com.example.app-{}", std::process::id());
/// # let id = id.as_str(); // in an app: "com.example.app"
/// let instance = match SingleInstance::acquire(id)? {
///     Acquired::First(instance) => instance,
///     Acquired::Other(other) => {
///         println!("{other} does it"); // it has taken our arguments: there is nothing left to do
///         return Ok(());
///     }
/// };
/// // Later, in the app: somebody has started it again.
/// if let Some(activation) = instance.try_next() {
///     println!("open {:?}", activation.arguments());
/// }
/// # Ok(())
/// # }
/// ```
///
/// Of any number of processes that start at the same moment exactly one becomes the instance. It holds a right that
/// the system takes back when its process ends, however it does, so a crashed instance blocks nobody. All others
/// hand over what they were started with, an [`Activation`], and wait until the app has taken it. If the instance
/// ends before that, they try again, and one of them becomes the next: nothing is lost in silence.
///
/// Activations come to a thread of the instance's own, and wait there until the app takes them:
/// [`activations`](SingleInstance::activations), [`next_timeout`](SingleInstance::next_timeout) or
/// [`try_next`](SingleInstance::try_next), on any thread; for a loop of the app's own,
/// [`on_activation`](SingleInstance::on_activation) says when to look. An activation counts as handed over, and its
/// sender is told so, when it is taken. One whose sender has given up meanwhile is not delivered.
/// An instance that is dropped sends those away that nobody has taken.
///
/// # Who can send activations
/// Processes of the same user only (and root or SYSTEM), by the system's word; not from other machines. What they
/// send is checked and bounded, but it is what another process says: an argument is no order.
///
/// # Platform-specific behavior
/// Unix: one instance for each user, who is the effective one. The right is a lock on `APP.instance.lock` in each of the
/// user's private folders (`$XDG_RUNTIME_DIR`, `/run/user/UID`, `/tmp/sidewire-UID`), and the instance
/// listens on `local:APP.instance`. All sessions of the user share it, as they share
/// `$XDG_RUNTIME_DIR`; an app that wants one for each display puts that into its id. The lock belongs to the
/// process that acquired it: programs that it starts do not keep it, a child that is merely forked does as long
/// as it lives. Inside Flatpak the folder is `$XDG_RUNTIME_DIR/app/$FLATPAK_ID`, which all
/// sandboxes of the app share; a sandbox without it gets an error.
///
/// Windows: one instance for each user in each session. The right is the object `Local\sidewire-SID-APP.instance`,
/// open to the user and SYSTEM only, and the instance listens on `pipe:sidewire-SID-APP.instance-SESSION`. Upper and lower
/// case of the id are the same there. An instance may put its window in front when it is activated, if the process
/// that was started might have (`AllowSetForegroundWindow`). An elevated instance is out of reach for processes
/// that are not, and does not take the place of one that is not: both are told, see
/// [`acquire`](SingleInstance::acquire).
pub struct SingleInstance {
    queue: Arc<Queue>,
    endpoint: Endpoint,
    maker: Maker,
    /// Before the lock: when that is free again, nobody is here any more.
    _server: Running<()>,
    _lock: InstanceLock,
}

/// What came of [`SingleInstance::acquire`].
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Acquired {
    /// This process is the instance.
    First(SingleInstance),
    /// Another one is, and has taken what this process was started with.
    Other(OtherInstance),
}

impl Acquired {
    /// The instance, if it is this process: for apps that have nothing to do otherwise.
    #[must_use]
    pub fn first(self) -> Option<SingleInstance> {
        match self {
            Acquired::First(instance) => Some(instance),
            Acquired::Other(_) => None,
        }
    }
}

/// The instance that runs, which has taken our activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherInstance {
    pid: Option<u32>,
}

impl OtherInstance {
    /// Its process, where the system tells.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }
}

/// `the instance, pid 4711`.
impl fmt::Display for OtherInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "the instance, pid {pid}"),
            None => f.write_str("the instance"),
        }
    }
}

/// An instance to be acquired with options: from [`SingleInstance::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens before acquire()"]
pub struct SingleInstanceBuilder {
    app: String,
    deadline: Duration,
    arguments: Option<Vec<OsString>>,
    environment: Vec<OsString>,
}

/// How long it may take to become the instance or to hand over, unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(5);

impl SingleInstance {
    /// Becomes the instance of this app, or hands over to the one that runs: with the arguments of this process (but
    /// for the first, the program's name) and its working folder.
    ///
    /// `app` names the app for the user, best as `com.example.app`: 1 to 55 ASCII letters, digits, `.`, `_` and
    /// `-`; the first is neither `.` nor `-`, the last is not `.`.
    ///
    /// # Errors
    /// [`is_invalid_input`](crate::Error::is_invalid_input): it is no such name, or the activation has over 1 MiB
    /// (on Windows each character counts twice). [`is_hung`](crate::Error::is_hung): an instance runs, but in 5 s
    /// nobody there has taken the activation. If the instance answers at all, it has forgotten it by then: so the
    /// app can report that, or go on alone.
    /// [`is_refused`](crate::Error::is_refused): the one that runs is elevated and this process is not
    /// ([`RefusedBy::Elevated`](crate::RefusedBy::Elevated)); it is not elevated and this process is
    /// ([`RefusedBy::OurAccess`](crate::RefusedBy::OurAccess)); it belongs to another user; or there is no private folder
    /// ([`RefusedBy::System`](crate::RefusedBy::System)).
    pub fn acquire(app: &str) -> Result<Acquired> {
        SingleInstance::builder(app).acquire()
    }

    /// The same with options.
    pub fn builder(app: &str) -> SingleInstanceBuilder {
        SingleInstanceBuilder {
            app: app.to_owned(),
            deadline: DEADLINE,
            arguments: None,
            environment: Vec::new(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The activations as they come: waits for each. It ends only if the instance's own thread does, which the log then
    /// tells.
    pub fn activations(&self) -> Activations<'_> {
        Activations { queue: &self.queue }
    }

    /// Waits for an activation, for at most so long.
    #[must_use = "its sender is told that it was taken"]
    pub fn next_timeout(&self, timeout: Duration) -> Option<Activation> {
        self.queue.take(Instant::now().checked_add(timeout))
    }

    /// The next activation, if one waits.
    #[must_use = "its sender is told that it was taken"]
    pub fn try_next(&self) -> Option<Activation> {
        self.next_timeout(Duration::ZERO)
    }

    /// Calls this whenever an activation has come, so that a loop of the app's own can be woken to take it: on the
    /// instance's thread, which it must not hold up. Also at once, and here, if one waits already. A later one replaces it.
    ///
    /// ```no_run
    /// # use sidewire::SingleInstance;
    /// # struct Proxy;
    /// # impl Proxy { fn send_event(&self, _event: &str) {} }
    /// # let proxy = Proxy;
    /// let Some(instance) = SingleInstance::acquire("com.example.app")?.first() else { return Ok(()) };
    /// instance.on_activation(move || proxy.send_event("look"));
    /// // The loop, when it gets that event:
    /// while let Some(activation) = instance.try_next() {
    ///     println!("raise the window, open {:?}", activation.arguments());
    /// }
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    pub fn on_activation(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.queue.set_wake(Arc::new(wake));
    }
}

impl Drop for SingleInstance {
    /// Who waits here goes elsewhere; then the server ends, then the right to be the instance.
    fn drop(&mut self) {
        if self.maker.is_here() {
            self.queue.close();
        }
    }
}

impl fmt::Debug for SingleInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleInstance").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The activations of an instance as they come; from [`SingleInstance::activations`].
#[derive(Clone, Debug)]
pub struct Activations<'i> {
    queue: &'i Queue,
}

impl Iterator for Activations<'_> {
    type Item = Activation;

    fn next(&mut self) -> Option<Activation> {
        self.queue.take(None)
    }
}

impl SingleInstanceBuilder {
    /// How long it may take to become the instance or to hand over. Default 5 s.
    pub fn deadline(mut self, deadline: Duration) -> SingleInstanceBuilder {
        self.deadline = deadline;
        self
    }

    /// What the instance is given as arguments, in place of this process's own.
    pub fn arguments<I>(mut self, arguments: I) -> SingleInstanceBuilder
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.arguments = Some(arguments.into_iter().map(Into::into).collect());
        self
    }

    /// Variables of the environment that the instance is to have, those that are set: by default none. What a desktop
    /// hands to a program that may put its window in front are `XDG_ACTIVATION_TOKEN` and `DESKTOP_STARTUP_ID`.
    pub fn environment<I>(mut self, names: I) -> SingleInstanceBuilder
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.environment.extend(names.into_iter().map(|name| name.as_ref().to_owned()));
        self
    }

    /// Becomes the instance, or hands over to the one that runs.
    ///
    /// # Errors
    /// As [`SingleInstance::acquire`].
    pub fn acquire(self) -> Result<Acquired> {
        acquiring::acquire(self)
    }
}
