//! How a connection ends: what that means for who waits on it, and closing it from this side.

use std::time::Duration;

use sidewire_platform::Endpoint;

use super::leader::{SharedConnection, State};
use super::medium::Medium;
use crate::error::{Error, Kind};
use sidewire_wire::caller::{Bound, Caller, End, Outcome, Wake};
use sidewire_wire::reconnecting::Lost;
use sidewire_wire::{Executed, ResultCode};

/// Calls that follow each other faster need no look whether the connection has ended meanwhile. No server is started
/// anew in less.
const SILENCE: Duration = Duration::from_millis(1);

impl<W: Wake> State<W> {
    /// Whether it may have ended unseen since it was last used.
    pub(crate) fn is_silent(&self) -> bool {
        self.caller.end().is_none() && self.now.elapsed() >= SILENCE
    }
}

impl<M: Medium> SharedConnection<M> {
    /// What it means for a request that it was not answered.
    pub(crate) fn explain(
        &self,
        state: &State<M::Waiting>,
        operation: &'static str,
        outcome: Outcome,
    ) -> Error {
        explain(&state.caller, self.endpoint(), state.breakage.as_ref(), operation, outcome)
    }

    /// Whether it may have ended unseen.
    pub(crate) fn is_silent(&self) -> bool {
        self.lock().is_silent()
    }

    /// Whether it takes no more calls, as far as is known.
    pub(crate) fn is_known_to_end(&self) -> bool {
        self.lock().caller.end().is_some()
    }

    /// Whether it takes no more calls. What came since it was last used is looked at first: if it has ended
    /// meanwhile, nothing is sent to nobody. Under no lock: whoever is told of what has come may use the client.
    pub(crate) fn has_ended(&self) -> bool {
        let mut state = self.lock();
        if state.is_silent() {
            state = M::look(self, state);
        }
        state.caller.end().is_some()
    }

    /// Why it takes no more calls, if that is so.
    pub(crate) fn reason(&self, state: &State<M::Waiting>) -> Option<Error> {
        state.caller.end().is_some().then(|| self.end(state))
    }

    /// What tells one run of the server from another.
    pub(crate) fn instance(&self) -> Option<[u8; 16]> {
        self.lock().caller.hello()?.instance()
    }

    /// Why the connection is at its end.
    pub(crate) fn end(&self, state: &State<M::Waiting>) -> Error {
        end(&state.caller, self.endpoint(), state.breakage.as_ref())
    }

    /// Says goodbye, as far as that goes without waiting, and ends all that wait, in the channel or for others.
    pub(crate) fn close(&self) {
        if !self.maker.is_here() {
            return log::debug!("{}: left to the process that had connected", self.endpoint());
        }
        let mut state = self.lock();
        self.say_goodbye(&mut state);
        state.caller.close();
        drop(state);
        self.channel().shutdown();
        self.ask_why();
    }

    /// Says goodbye, as far as that goes without waiting. What is under way may still be answered.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        self.say_goodbye(&mut state);
    }

    fn say_goodbye(&self, state: &mut State<M::Waiting>) {
        let Some(goodbye) = state.caller.goodbye() else {
            return log::debug!("{}: closed without a goodbye", self.endpoint());
        };
        match self.channel().send_now(goodbye) {
            Ok(count) => {
                state.caller.sent(count, state.now);
                log::debug!("{}: closed", self.endpoint());
            }
            // That it has closed first is nothing to worry about.
            Err(_) => log::debug!("{}: closed; no goodbye reached the server", self.endpoint()),
        }
    }
}

/// Says goodbye, unless that was done. The channel closes itself.
impl<M: Medium> Drop for SharedConnection<M> {
    fn drop(&mut self) {
        if !self.maker.is_here() {
            return log::debug!("{}: left to the process that had connected", self.endpoint());
        }
        self.say_goodbye(&mut self.lock());
        self.ask_why();
    }
}

/// What it means for a request that it was not answered. `breakage`: how the channel broke, if it did.
pub(crate) fn explain<W: Wake>(
    caller: &Caller<W>,
    endpoint: &Endpoint,
    breakage: Option<&Error>,
    operation: &'static str,
    outcome: Outcome,
) -> Error {
    let error = |kind| Error::new(operation, endpoint, kind);
    match outcome {
        Outcome::TooLarge { length, bound: Bound::Server(limit) } => {
            let text = format!("the payload has {length} bytes, the server takes {limit}");
            error(Kind::InvalidInput(text))
        }
        Outcome::TooLarge { length, bound: Bound::Outbox(hard) } => {
            let text = format!("{length} bytes of payload do not fit into our outbox_hard ({hard})");
            error(Kind::InvalidInput(text))
        }
        Outcome::Lost => Error::no_memory(operation, endpoint, Executed::Perhaps),
        Outcome::TimedOut(Executed::Never) => error(Kind::TimedOut).not_executed(),
        Outcome::Ended(executed) => {
            let has_left = executed == Executed::Perhaps || matches!(caller.end(), Some(End::Goodbye(_)));
            let lost = if has_left { Lost::Sent(executed) } else { Lost::Unsent };
            end(caller, endpoint, breakage).for_request(operation, executed).with_lost(lost)
        }
        Outcome::TimedOut(Executed::Perhaps)
        | Outcome::Ready
        | Outcome::Reply(_)
        | Outcome::Part(_)
        | Outcome::Event(_) => error(Kind::TimedOut),
    }
}

/// Why a connection is at its end.
pub(crate) fn end<W: Wake>(caller: &Caller<W>, endpoint: &Endpoint, breakage: Option<&Error>) -> Error {
    let gone = |why| {
        let kind = Kind::PeerGone { executed: Executed::Perhaps, why };
        Error::new("read from", endpoint, kind)
    };
    match (caller.end(), breakage) {
        (Some(End::Goodbye(ResultCode::OK)), _) => gone("it said goodbye".into()),
        (Some(End::Goodbye(rc)), _) => gone(format!("it said goodbye: {rc}")),
        (Some(End::Failed(failure)), _) => {
            let error = Error::protocol("read from", endpoint, failure);
            match error.is_timeout() {
                true => error.with_note(|_| format!("{failure}, so the connection was ended")),
                false => error,
            }
        }
        (Some(End::Broken), Some(error)) => error.clone(),
        (Some(End::Ours), _) => Error::new("call", endpoint, Kind::Closed),
        (Some(End::Closed | End::Broken) | None, _) => gone("it closed the connection".into()),
    }
}
