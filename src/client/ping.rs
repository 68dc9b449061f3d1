//! Signs of life.

use std::time::{Duration, Instant};

use super::datagram::DatagramCalls;
use super::leader::{SharedConnection, State, Waiting};
use super::line::Terms;
use super::medium::Medium;
use super::{Client, Link};
use crate::error::{Error, Kind, Result};
use crate::loops::WAITS_FOR_ITSELF;
use sidewire_wire::Layout;
use sidewire_wire::caller::{Outcome, Purpose};

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
        if self.waits_for_itself() {
            return Err(Error::new("ping", self.endpoint(), Kind::InvalidInput(WAITS_FOR_ITSELF.into())));
        }
        let (timeout, begun) = (timeout.into(), Instant::now());
        let deadline = timeout.and_then(|timeout: Duration| begun.checked_add(timeout));
        let answered = match &self.link {
            Link::Stream(line) => {
                let terms = Terms::until(deadline, true);
                line.carry("ping", terms, |connection| connection.ping(deadline))
            }
            Link::Datagrams(calls) => calls.ping(deadline),
        };
        let explain = |error: Error| match timeout {
            Some(timeout) if error.is_timeout() => {
                error.with_note(|_| format!("no sign of life from {} within {timeout:?}", self.peer()))
            }
            _ => error,
        };
        answered.map_err(explain)?;
        Ok(begun.elapsed())
    }
}

impl SharedConnection {
    fn ping(&self, deadline: Option<Instant>) -> Result<()> {
        let state = self.lock();
        self.check_pings(&state)?;
        let mut state = self.wait_for_leave(state, "ping", Purpose::Notify(0), deadline)?;
        let seat = state.caller.ping(deadline, Waiting::here());
        let seat = self.begun("ping", seat)?;
        match self.wait(state, seat, deadline) {
            (_, Outcome::Ready) => Ok(()),
            (state, outcome) => Err(self.explain(&state, "ping", outcome)),
        }
    }
}

impl<M: Medium> SharedConnection<M> {
    pub(crate) fn check_pings(&self, state: &State<M::Waiting>) -> Result<()> {
        if state.caller.layout() == Some(Layout::Classic) {
            return Err(Error::new("ping", self.endpoint(), Kind::InvalidInput(NONE_IN_CLASSIC.into())));
        }
        Ok(())
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
