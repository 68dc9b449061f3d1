//! Calls of a client that are waited for later, or piece by piece.

use std::task::Poll;
use std::time::{Duration, Instant};

#[cfg(feature = "serde")]
use sidewire_platform::Endpoint;

use super::client::Seated;
use super::peer::Awake;
use crate::client::Response;
use crate::error::{Error, Kind, Result};
use sidewire_wire::caller::{Outcome, Purpose, Seat};
use sidewire_wire::frame::timeout_ms;

/// A call that was started; from [`Client::start`](super::Client::start). Dropped before its end is known it is cancelled.
#[derive(Debug)]
#[must_use = "a call is cancelled when this is dropped"]
pub struct Pending {
    client: Seated,
    msg_type: u16,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// `None`: its end was told.
    seat: Option<Seat>,
}

impl Pending {
    pub(super) fn start(
        client: &Seated,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Pending> {
        let deadline = client.deadline(timeout);
        let begin = || {
            let mut stage = client.admit("call", Purpose::Call(payload.len()), deadline)?;
            let id = client.begin(&mut stage, "call", |caller| {
                caller.start(msg_type, payload, timeout_ms(timeout), deadline)
            })?;
            stage.settle();
            Ok(Seat::Call(id))
        };
        let seat = begin().map_err(|error| client.explain(error, msg_type, timeout))?;
        Ok(Pending { client: client.clone(), msg_type, timeout, deadline, seat: Some(seat) })
    }

    /// What became of the call, if that is known by now. No time passes.
    ///
    /// # Errors
    /// As [`Client::call`](super::Client::call); [`is_invalid_input`](Error::is_invalid_input) if it was told before.
    pub fn poll(&mut self) -> Option<Result<Response>> {
        let Some(seat) = self.seat else { return Some(Err(self.told())) };
        let now = self.client.stage().now();
        // Whoever does not wait there hears nothing of its time limit.
        self.client.caller(|caller| caller.attend(seat, Some(now), Awake));
        let outcome = self.client.look(seat)?;
        Some(self.end(Some(outcome)))
    }

    /// Waits for the reply, as [`Client::call`](super::Client::call) does.
    ///
    /// # Errors
    /// As [`poll`](Pending::poll).
    pub fn wait(mut self) -> Result<Response> {
        let seat = self.seat.ok_or_else(|| self.told())?;
        self.client.caller(|caller| caller.attend(seat, self.deadline, Awake));
        let outcome = self.client.stage().wait(self.client.index(), seat);
        self.end(outcome)
    }

    /// Tells the server that nobody needs the answer any more. It may still give one; if not, the call is
    /// answered "cancelled" (-8).
    pub fn cancel(&mut self) {
        if let Some(seat) = self.seat {
            self.client.caller(|caller| caller.cancel(seat));
            self.client.stage().settle();
        }
    }

    #[cfg(feature = "serde")]
    pub(super) fn endpoint(&self) -> Endpoint {
        self.client.stage().endpoint.clone()
    }

    fn end(&mut self, outcome: Option<Outcome>) -> Result<Response> {
        let response = match outcome {
            Some(Outcome::Reply(reply)) => Response::from(reply).checked(&self.client.stage().endpoint),
            outcome => Err(self.client.stage().explain(self.client.index(), "call", outcome)),
        };
        self.seat = None;
        response.map_err(|error| self.client.explain(error, self.msg_type, self.timeout))
    }

    fn told(&self) -> Error {
        self.client.invalid("call", "what became of this call was told before").of_type(self.msg_type)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        drop_call(&self.client, self.seat);
    }
}

/// The parts of one reply; from [`Client::stream`](super::Client::stream). As an iterator it waits for each, and ends behind
/// the last; if the call went wrong, that is the last item. Dropped before its end it cancels the call.
#[derive(Debug)]
#[must_use = "the call is cancelled when this is dropped"]
pub struct Parts {
    client: Seated,
    msg_type: u16,
    timeout: Option<Duration>,
    course: Course,
}

#[derive(Debug)]
enum Course {
    Open(Seat),
    Answered(Response),
    /// The last item said why.
    Failed,
}

impl Parts {
    pub(super) fn start(
        client: &Seated,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Parts> {
        let deadline = client.deadline(timeout);
        let begin = || {
            let mut stage = client.admit("call", Purpose::Call(payload.len()), deadline)?;
            let id = client.begin(&mut stage, "call", |caller| caller.stream(msg_type, payload, 0, None))?;
            stage.settle();
            Ok(Course::Open(Seat::Call(id)))
        };
        let course = begin().map_err(|error| client.explain(error, msg_type, timeout))?;
        Ok(Parts { client: client.clone(), msg_type, timeout, course })
    }

    /// The final reply, once all parts were taken, if its result code is 0.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        match &self.course {
            Course::Answered(response) => Some(response),
            Course::Open(_) | Course::Failed => None,
        }
    }

    /// Tells the server that nobody needs more.
    pub fn cancel(&mut self) {
        if let Course::Open(seat) = self.course {
            self.client.caller(|caller| caller.cancel(seat));
            self.client.stage().settle();
        }
    }

    /// The next part, if it has come; `Ready(None)` behind the end. No time passes.
    pub fn poll(&mut self) -> Poll<Option<Result<Vec<u8>>>> {
        let Course::Open(seat) = self.course else { return Poll::Ready(None) };
        match self.client.look(seat) {
            None => Poll::Pending,
            Some(outcome) => Poll::Ready(self.come(Some(outcome)).transpose()),
        }
    }

    #[cfg(feature = "serde")]
    pub(super) fn endpoint(&self) -> Endpoint {
        self.client.stage().endpoint.clone()
    }

    fn come(&mut self, outcome: Option<Outcome>) -> Result<Option<Vec<u8>>> {
        if let Some(Outcome::Part(part)) = outcome {
            // The credit that was given back may bring more.
            self.client.stage().settle();
            return Ok(Some(part));
        }
        self.course = Course::Failed;
        let ended = match outcome {
            Some(Outcome::Reply(reply)) => Response::from(reply).checked(&self.client.stage().endpoint),
            Some(outcome) => Err(self.client.stage().explain(self.client.index(), "call", Some(outcome))),
            None => Err(Error::new("call", &self.client.stage().endpoint, Kind::TimedOut)),
        };
        let ended = ended.map_err(|error| self.client.explain(error, self.msg_type, self.timeout));
        self.course = Course::Answered(ended?);
        Ok(None)
    }
}

impl Iterator for Parts {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Result<Vec<u8>>> {
        let Course::Open(seat) = self.course else { return None };
        let until = self.client.deadline(self.timeout);
        self.client.caller(|caller| caller.attend(seat, until, Awake));
        let outcome = self.client.stage().wait(self.client.index(), seat);
        if outcome.is_none() {
            drop_call(&self.client, Some(seat));
        }
        self.come(outcome).transpose()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Course::Open(seat) = self.course {
            drop_call(&self.client, Some(seat));
        }
    }
}

/// Nobody waits for it any more.
fn drop_call(client: &Seated, seat: Option<Seat>) {
    let (Some(seat), Some(mut stage)) = (seat, client.stage_at_the_end()) else { return };
    let caller = &mut stage.peers[client.index()].caller;
    caller.cancel(seat);
    caller.leave(seat);
    stage.settle();
}
