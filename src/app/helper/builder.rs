//! How a helper is started.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Helper;
use super::keeping::{Keeping, Options, Patience};
use super::words;
use crate::app::supervisor::Restart;
use crate::client::{Connect, PeerReply, PeerRequest};
use crate::error::Result;
use sidewire_platform::Endpoint;
use sidewire_wire::Failure;

/// A helper that is to be started, with options; from [`Helper::builder`].
///
/// ```no_run
/// use std::process::Command;
/// use std::time::Duration;
/// use sidewire::{Helper, Restart};
///
/// let helper = Helper::builder(Command::new("resize-helper"))
///     .name("resize")
///     .restart(Restart::new())
///     .on(1, |_request, reply| Ok(reply.write("the settings")))
///     .options(|connect| connect.call_timeout(Duration::from_secs(5)))
///     .spawn()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before spawn() or start()"]
pub struct HelperBuilder {
    command: Command,
    name: Option<String>,
    connect: Connect,
    ready_within: Duration,
    patience: Patience,
    restart: Option<Restart>,
}

impl HelperBuilder {
    pub(super) fn new(command: Command) -> HelperBuilder {
        HelperBuilder {
            command,
            name: None,
            connect: Connect::at(Endpoint::Unnamed("helper".into())),
            ready_within: Duration::from_secs(10),
            patience: Patience {
                asked: Duration::from_secs(3),
                terminated: Duration::from_secs(2),
                killed: Duration::from_secs(5),
            },
            restart: None,
        }
    }

    /// What it is called in errors and in the log, control characters escaped. The name of its program unless set.
    pub fn name(mut self, name: impl Into<String>) -> HelperBuilder {
        self.name = Some(name.into());
        self
    }

    /// How long it may take to become ready. Default 10 s. One that takes longer is ended.
    pub fn ready_within(mut self, limit: Duration) -> HelperBuilder {
        self.ready_within = limit;
        self
    }

    /// How long a [stop](Helper::stop) waits for it: when it was asked through its channel (default 3 s), and when it was
    /// then asked by the system (default 2 s). Then it is killed.
    pub fn stop_within(mut self, asked: Duration, terminated: Duration) -> HelperBuilder {
        (self.patience.asked, self.patience.terminated) = (asked, terminated);
        self
    }

    /// Starts it anew when it has ended, as often as this says. Otherwise its end is the end of all calls.
    pub fn restart(mut self, restart: Restart) -> HelperBuilder {
        self.restart = Some(restart);
        self
    }

    /// Sets the handler of requests and notifies of this type that the helper sends: [`Connect::on`]. It runs on a
    /// thread that belongs to the helper, or on one that waits for something of it.
    pub fn on<F>(mut self, msg_type: u16, handler: F) -> HelperBuilder
    where
        F: Fn(&PeerRequest<'_>, &mut PeerReply) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.connect = self.connect.on(msg_type, handler);
        self
    }

    /// Sets what clients have in general: limits, time limits of calls, what our hello says of us, of which build the
    /// helper has to be. What concerns endpoints
    /// and other users, the classic layout and reconnecting, means nothing here.
    pub fn options(mut self, options: impl FnOnce(Connect) -> Connect) -> HelperBuilder {
        self.connect = options(self.connect);
        self
    }

    /// Starts it, and waits until it is ready. One that fails at first is not restarted.
    ///
    /// # Errors
    /// If the program can't be started; if it ends before it is ready: then with its
    /// [`exit_status`](crate::Error::exit_status) and [`last_words`](crate::Error::last_words); if it is not ready in time
    /// ([`is_hung`](crate::Error::is_hung)), or speaks something else ([`is_protocol`](crate::Error::is_protocol)). The process has
    /// ended, then. [`is_invalid_input`](crate::Error::is_invalid_input) as [`Connect::open`].
    pub fn spawn(self) -> Result<Helper> {
        let helper = self.start()?;
        helper.wait_until_ready()?;
        Ok(helper)
    }

    /// Starts it, and waits for nothing: for a user interface that is to be there at once. Its
    /// [states](Helper::states) tell what becomes of it; calls wait for it, within their time limits.
    ///
    /// # Errors
    /// [`is_invalid_input`](crate::Error::is_invalid_input) as [`Connect::open`]; if no thread can be started.
    pub fn start(self) -> Result<Helper> {
        let HelperBuilder { command, name, connect, ready_within, patience, restart } = self;
        let program = Path::new(command.get_program());
        let name = name.or_else(|| Some(program.file_stem()?.to_string_lossy().into_owned()));
        let name = words::plain(&name.unwrap_or_else(|| "helper".into()));
        let connect = connect.for_endpoint(Endpoint::Unnamed(format!("helper {name}")));
        connect.check_helper_options()?;
        let options = Options { name, connect, ready_within, patience, restart };
        Helper::begin(Keeping::new(options), command)
    }
}
