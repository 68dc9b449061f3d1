//! Signs of life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::Peer;

use super::datagram::DatagramCalls;
use super::leader::{SharedConnection, deadline_in};
use super::line::{Line, Terms};
use super::medium::{Medium, at_once};
use super::{Client, Link};
use crate::error::{Error, Kind, Result};
use sidewire_wire::Layout;
use sidewire_wire::caller::{Caller, Outcome, Purpose};

const NONE_IN_CLASSIC: &str = "the classic layout has no pings";

impl Client {
    /// Asks the server for a sign of life, and says how long it took: over the channel, through the server's loop
    /// and back, but no handler. Behind what this connection has to send already, and what the server has.
    ///
    /// `None` waits as long as the server lives.
    ///
    /// # Errors
    /// [`is_timeout`](Error::is_timeout): nothing came in time; the connection stays good. Otherwise as
    /// [`RequestBuilder::notify`](crate::RequestBuilder::notify); [`is_invalid_input`](Error::is_invalid_input) also in
    /// the classic layout, which has no pings, and on a mailslot, from which nothing comes back.
    pub fn ping(&self, timeout: impl Into<Option<Duration>>) -> Result<Duration> {
        let (timeout, begun) = (timeout.into(), Instant::now());
        match &self.link {
            Link::Stream(line) => at_once(line.ping(timeout)),
            Link::Datagrams(calls) => {
                self.check_thread("ping")?;
                measured(begun, calls.ping(deadline_in(timeout)), timeout, calls.peer())
            }
        }
    }
}

impl<M: Medium> Line<M> {
    /// Asks the server for a sign of life, over the next connection if there is no other.
    pub(crate) async fn ping(&self, timeout: Option<Duration>) -> Result<Duration> {
        self.check_thread("ping")?;
        let (begun, deadline) = (Instant::now(), deadline_in(timeout));
        let terms = Terms::until(deadline, true);
        let ping = |connection: Arc<SharedConnection<M>>| async move { connection.ping(deadline).await };
        measured(begun, self.carry("ping", terms, ping).await, timeout, &self.peer())
    }
}

/// How long it took, or who gave no sign.
fn measured(
    begun: Instant,
    answered: Result<()>,
    timeout: Option<Duration>,
    peer: &Peer,
) -> Result<Duration> {
    match (answered, timeout) {
        (Ok(()), _) => Ok(begun.elapsed()),
        (Err(error), Some(timeout)) if error.is_timeout() => {
            Err(error.with_note(|_| format!("no sign of life from {peer} within {timeout:?}")))
        }
        (Err(error), _) => Err(error),
    }
}

impl<M: Medium> SharedConnection<M> {
    pub(super) async fn ping(&self, deadline: Option<Instant>) -> Result<()> {
        if self.layout() == Layout::Classic {
            return Err(Error::new("ping", self.endpoint(), Kind::InvalidInput(NONE_IN_CLASSIC.into())));
        }
        let ping = |caller: &mut Caller<_>, here| caller.ping(deadline, here);
        let seat = self.begin("ping", Purpose::Notify(0), deadline, ping).await?;
        match M::wait(self, seat, deadline).await {
            (_, Outcome::Ready) => Ok(()),
            (state, outcome) => Err(self.explain(&state, "ping", outcome)),
        }
    }
}

impl DatagramCalls {
    fn ping(&self, deadline: Option<Instant>) -> Result<()> {
        match self.layout() {
            Layout::V1 => self.ask_for_life(deadline),
            _ => Err(Error::new("ping", self.endpoint(), Kind::InvalidInput(NONE_IN_CLASSIC.into()))),
        }
    }
}
