//! The channel that a helper was started with, in the helper.

use std::env;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sidewire_platform::{Endpoint, ParentChannel};

use crate::access::Access;
use crate::client::{Client, Connect};
use crate::error::{Error, Kind, Result};
use crate::server::{Server, Threads};

/// Where a parent writes what channel its child has.
const CHANNEL: &str = "SIDEWIRE_CHANNEL";
/// How long a server may take to end in order whose parent has gone: less than its process has.
const ORPHANED: Duration = Duration::from_millis(400);

static OUTLIVES_PARENT: AtomicBool = AtomicBool::new(false);

/// Has this process live on when its parent has gone. To be called before [`Server::from_parent`],
/// [`Client::from_parent`] and their like, which otherwise see to it that it ends: half a second after the parent, and
/// all that it has started with it.
///
/// A server that serves nothing but its parent still returns from [`run`](Server::run) when the channel has ended.
///
/// # Platform-specific behavior
/// Windows: the parent's job object ends the process all the same.
pub fn outlive_parent() {
    OUTLIVES_PARENT.store(true, Ordering::Relaxed);
}

impl<S> Server<S> {
    /// A server in a [helper](crate::Helper): of this state, with the usual options, which serves the process that has
    /// started this one. The short form of [`Server::new`] with [`serve_parent`](Server::serve_parent).
    ///
    /// ```no_run
    /// use sidewire::Server;
    ///
    /// const RESIZE: u16 = 1;
    ///
    /// # fn resize(_name: &[u8]) -> Vec<u8> { Vec::new() }
    /// let mut server = Server::from_parent(())?;
    /// server.on(RESIZE, |(), request, reply| Ok(reply.write(resize(request.payload()))));
    /// server.run()?; // as long as the parent is there
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`serve_parent`](Server::serve_parent).
    pub fn from_parent(state: S) -> Result<Server<S>> {
        let mut server = Server::new(state);
        server.serve_parent()?;
        Ok(server)
    }
}

impl<S, T: Threads> Server<S, T> {
    /// Serves the process that has started this one, over the private channel that it was started with: see
    /// [`Helper`](crate::Helper). Call it early: until then programs that this one starts inherit the channel.
    ///
    /// The parent takes this process for ready when the server first turns: in [`run`](Server::run), or on the thread
    /// of [`spawn`](Server::spawn). So the handlers are to be set before. The parent can be asked, too, as any
    /// client that serves: [`on_connect`](Server::on_connect) is told of it, and [`Remote::peer`](crate::Remote::peer)
    /// asks.
    ///
    /// When the channel has ended, a server that has no other endpoint returns from [`run`](Server::run); one that
    /// [listens](Server::listen) goes on. When the parent itself has gone, which need not be the same, the server is
    /// stopped, and half a second later the process is ended, whatever it is busy with, with all that it has
    /// started; unless it has said [`outlive_parent`].
    ///
    /// # Errors
    /// [`is_invalid_input`](Error::is_invalid_input): this process was not started by a parent, or what it
    /// was told is meant for another process or makes no sense, or the channel was taken before: a process has one. The
    /// text says which. Otherwise what the system says.
    ///
    /// # Platform-specific behavior
    /// Unix: the descriptor that `SIDEWIRE_CHANNEL` names. Windows: the pipe that it names, which is opened here.
    pub fn serve_parent(&mut self) -> Result<()> {
        let stop = self.stopper(ORPHANED)?;
        let channel = take("serve", stop)?;
        let stream = channel.into_stream().map_err(|error| Error::os("serve", &parent(), error))?;
        self.bring_parent(stream, parent())
    }
}

impl Client {
    /// A client in a [helper](crate::Helper), of the process that has started this one. [`Connect::from_parent`] has
    /// options.
    ///
    /// # Errors
    /// As [`Client::connect`]; besides, [`is_invalid_input`](Error::is_invalid_input) if there is no such channel: see
    /// [`Server::serve_parent`].
    pub fn from_parent() -> Result<Client> {
        Connect::from_parent().open()
    }
}

impl Connect {
    /// To the process that has started this one, over the private channel that this one was started with: see
    /// [`Helper`](crate::Helper). With the defaults, as [`Connect::to`]. There is no
    /// [`reconnect`](Connect::reconnect), and no other layout than v1.
    ///
    /// The parent takes this process for ready when this is [opened](Connect::open). It answers
    /// requests by what it has set with [`HelperBuilder::on`](crate::HelperBuilder::on); it may ask as well, and then the
    /// handlers [here](Connect::on) run.
    ///
    /// When the parent has gone the process is ended, as [`Server::serve_parent`] says; when only the channel
    /// has, the client is at its end as any other.
    ///
    /// ```no_run
    /// use sidewire::{Connect, ResultCode};
    ///
    /// const PAUSE: u16 = 1;
    /// const NEXT_PAGE: u16 = 2;
    ///
    /// let parent = Connect::from_parent().on(PAUSE, |_request, _reply| Ok(())).open()?;
    /// while let Ok(page) = parent.call(NEXT_PAGE, "") {
    ///     println!("{} bytes", page.payload().len());
    /// }
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    pub fn from_parent() -> Connect {
        let take_channel = || {
            let channel = take("connect to", || log::info!("the parent has gone"))?.into_channel();
            channel.map_err(|error| Error::os("connect to", &parent(), error).not_executed())
        };
        // It has started us, so it is whose we are.
        Connect::over_v1(parent(), take_channel).access(Access::Anyone)
    }
}

/// What the channel is called, which leads to nobody else.
fn parent() -> Endpoint {
    Endpoint::Unnamed("parent".into())
}

/// Takes the channel, and has the parent watched.
fn take(operation: &'static str, on_death: impl FnOnce() + Send + 'static) -> Result<ParentChannel> {
    let invalid = |text: String| Error::new(operation, &parent(), Kind::InvalidInput(text)).not_executed();
    let os = |error| Error::os(operation, &parent(), error).not_executed();
    let is_set = env::var_os(CHANNEL).is_some();
    let mut channel = match ParentChannel::take() {
        Ok(Some(channel)) => channel,
        Ok(None) if !is_set => {
            return Err(invalid(format!("not started by a parent: {CHANNEL} is not set")));
        }
        Ok(None) => {
            return Err(invalid(format!(
                "not started by a parent: {CHANNEL} was inherited from another process, for which it is meant"
            )));
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidData) => {
            return Err(invalid(error.to_string()));
        }
        Err(error) => return Err(os(error)),
    };
    if !OUTLIVES_PARENT.load(Ordering::Relaxed) {
        channel.watch(Box::new(on_death)).map_err(os)?;
    }
    Ok(channel)
}
