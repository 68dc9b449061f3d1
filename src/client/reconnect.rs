//! What a user says about connecting anew, and is told of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use sidewire_wire::reconnecting::Rules;

/// How a client connects anew when its connection has ended; for [`Connect::reconnect`](super::Connect::reconnect).
///
/// There is no thread behind this: whoever next calls, or waits for something, connects, and the others who need
/// the connection wait for him. A call's own time limit holds for all of it.
///
/// **Attempts.** The first is made at once. Behind each that fails there is a pause, twice as long as the one before
/// and shortened at random by up to a half, so that clients that lost the same server do not come back all at the
/// same moment. After so many failed attempts, or so much time, the client gives up, and is closed for good: see
/// [`Connect::on_closed`](super::Connect::on_closed). It gives up at once where trying again is of no use: the
/// server, or our own policy, refuses the connection, or it speaks something else. A server that lets everybody in
/// and then ends counts as one that is not there. One that breaks the protocol is not tried again.
///
/// **Calls.** A call that finds no connection, or whose request had not left when its connection ended, is sent
/// over the next one; so is one of which the server has said, with its goodbye, that it was not executed. What may have
/// been executed and was not answered is reported: [`executed`](Error::executed) says so. Only what is
/// [marked as safe](super::RequestBuilder::idempotent) is then sent again. Calls
/// that were [started](super::Client::start) are reported even if they had not left, since those that were started before
/// perhaps were executed.
///
/// **Events.** Whoever waits for [`Events`](super::Events) connects as well, and subscribes to the same topics.
///
/// **The server.** It may be another process, with another state: [`Reconnected::is_restarted`].
///
/// ```no_run
/// use std::time::Duration;
/// use sidewire::{Connect, Reconnect};
///
/// let reconnect = Reconnect::new().attempts(10).within(Duration::from_secs(20)).on_reconnected(|reconnected| {
///     if reconnected.is_restarted() {
///         println!("the server was started anew");
///     }
/// });
/// let client = Connect::to("local:com.example.app")?.reconnect(reconnect).open()?;
/// let text = client.request(1).idempotent().send(b"")?;
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it is for Connect::reconnect"]
pub struct Reconnect {
    pub(super) rules: Rules,
    on_reconnected: OnReconnected,
}

#[derive(Clone, Default)]
struct OnReconnected(Option<Arc<Told>>);

type Told = dyn Fn(&Reconnected) + Send + Sync;

impl Reconnect {
    /// With the defaults: 20 attempts within a minute, with pauses from 50 ms to 5 s.
    pub fn new() -> Reconnect {
        Reconnect::default()
    }

    /// How many attempts may fail, one after the other. At least one is made.
    pub fn attempts(mut self, attempts: u32) -> Reconnect {
        self.rules.attempts = attempts;
        self
    }

    /// For how long after the first attempt others may be made. [`Duration::MAX`]: without end.
    pub fn within(mut self, within: Duration) -> Reconnect {
        self.rules.within = within;
        self
    }

    /// How long the pause is behind the first attempt that failed, and how long the longest is.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Reconnect {
        self.rules.first_pause = first;
        self.rules.longest_pause = longest.max(first);
        self
    }

    /// Calls this after each new connection, on the thread that made it and before its own call goes on. Others
    /// may use the connection already.
    pub fn on_reconnected(mut self, told: impl Fn(&Reconnected) + Send + Sync + 'static) -> Reconnect {
        self.on_reconnected = OnReconnected(Some(Arc::new(told)));
        self
    }

    pub(super) fn tell(&self, reconnected: &Reconnected) {
        if let OnReconnected(Some(told)) = &self.on_reconnected {
            told(reconnected);
        }
    }
}

impl fmt::Debug for OnReconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

/// A connection that took the place of one that had ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reconnected {
    pub(super) is_restarted: bool,
    pub(super) attempts: u32,
    pub(super) reason: Error,
}

impl Reconnected {
    /// Whether the server is not the one of before: it was started anew, or is another one. `false`: it is the same,
    /// and knows what it knew. In the classic layout nobody can tell, and it is `true`.
    #[must_use]
    pub fn is_restarted(&self) -> bool {
        self.is_restarted
    }

    /// How many attempts it took.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Why the connection before it had ended.
    #[must_use]
    pub fn reason(&self) -> &Error {
        &self.reason
    }
}
