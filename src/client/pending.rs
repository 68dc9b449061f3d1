//! Calls that are started now and waited for later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Response;
use super::journal::Asked;
use super::leader::{SharedConnection, is_past, remaining};
use super::line::{Line, Terms};
use super::request;
use crate::error::{Error, Kind, Result};
use crate::loops::WAITS_FOR_ITSELF;
use sidewire_wire::caller::Seat;

/// A call that was started; from [`Client::start`](super::Client::start).
///
/// Its reply is kept until somebody asks, and its time limit runs from when it was started. Dropped before
/// its end is known it is cancelled: the server is told that nobody needs the answer any more.
///
/// It is of its own, so that it can be kept anywhere and waited for on any thread. When its
/// [`Client`](super::Client) is closed or dropped it ends.
///
/// ```no_run
/// use std::time::Duration;
/// use sidewire::{Client, wait_any};
///
/// const RENDER: u16 = 7;
/// let client = Client::connect("local:com.example.app")?;
/// // Both leave together, as soon as somebody waits.
/// let mut calls = vec![client.start(RENDER, "page 1")?, client.start(RENDER, "page 2")?];
/// while !calls.is_empty() {
///     let index = wait_any(&mut calls, None)?;
///     let page = calls.swap_remove(index).wait()?;
///     println!("{} bytes", page.payload().len());
/// }
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a call is cancelled when this is dropped"]
pub struct Pending {
    connection: Arc<SharedConnection>,
    msg_type: u16,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    asked: Asked,
    course: Course,
    again: Option<Again>,
}

/// Of a call that goes again over the next connection when it was lost with one.
#[derive(Debug)]
struct Again {
    lasting: Line,
    payload: Vec<u8>,
}

/// How far it is.
#[derive(Debug)]
enum Course {
    Open(Seat),
    /// Its connection has ended so, and it is to be sent again.
    Lost(Error),
    Decided(Result<Response>),
    /// Whoever asked has it.
    Told,
}

impl Pending {
    pub(super) fn start(
        line: &Line,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        terms: Terms,
    ) -> Result<Pending> {
        let deadline = terms.deadline;
        let goes_again = line.is_lasting() && terms.is_safe;
        let again = goes_again.then(|| Again { lasting: line.clone(), payload: payload.to_vec() });
        line.carry("call", terms, |connection| {
            let (seat, asked) = connection.start(msg_type, payload, timeout, deadline, deadline)?;
            Ok((Arc::clone(connection), asked, Course::Open(seat)))
        })
        .map(|(connection, asked, course)| Pending {
            connection,
            msg_type,
            timeout,
            deadline,
            asked,
            course,
            again,
        })
    }

    /// What became of the call, if that is known by now; what has come is read first. Never waits, unless it is to a
    /// [helper](crate::Helper) that has just ended: then until it is known how, which is soon.
    ///
    /// # Errors
    /// As [`wait`](Pending::wait).
    pub fn poll(&mut self) -> Option<Result<Response>> {
        self.outcome_by(Some(Instant::now()))
    }

    /// Waits for the reply, within the call's own time limit.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`](super::RequestBuilder::send); and
    /// [`is_invalid_input`](Error::is_invalid_input) if [`poll`](Pending::poll) or
    /// [`wait_timeout`](Pending::wait_timeout) have told what became of it before.
    pub fn wait(mut self) -> Result<Response> {
        self.check_thread()?;
        self.outcome_by(None).unwrap_or_else(|| Err(self.explain(self.error(Kind::TimedOut))))
    }

    /// The same, but waits no longer than `timeout`. `None`: by then it was not known, and the call goes on.
    ///
    /// # Errors
    /// As [`wait`](Pending::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<Response>> {
        if let Err(error) = self.check_thread() {
            return Some(Err(error));
        }
        self.outcome_by(Instant::now().checked_add(timeout))
    }

    /// Tells the server that nobody needs the answer any more. It may still give one; if not, the call is
    /// answered "cancelled" (-8), which [`wait`](Pending::wait) tells. Who waits for neither just drops it.
    ///
    /// In the classic layout there is no such word, and nothing happens.
    pub fn cancel(&mut self) {
        if let Course::Open(seat) = self.course {
            self.connection.cancel(seat);
        }
    }

    fn outcome_by(&mut self, until: Option<Instant>) -> Option<Result<Response>> {
        let until = until.into_iter().chain(self.deadline).min();
        loop {
            match std::mem::replace(&mut self.course, Course::Told) {
                Course::Open(seat) => match self.connection.outcome_of(seat, until) {
                    None => {
                        self.course = Course::Open(seat);
                        return None;
                    }
                    Some(Err(error)) if error.lost().is_some() && self.again.is_some() => {
                        self.course = Course::Lost(error);
                    }
                    Some(result) => return Some(self.end(result)),
                },
                Course::Lost(why) => {
                    self.course = self.next_course(why, until);
                    if let Course::Lost(_) = self.course {
                        return None;
                    }
                }
                Course::Decided(result) => return Some(result),
                Course::Told => {
                    let text = "what became of this call was told before";
                    return Some(Err(self.explain(self.error(Kind::InvalidInput(text.into())))));
                }
            }
        }
    }

    /// Sends it once more.
    fn send_again(&mut self, until: Option<Instant>) -> Result<Seat> {
        let Some(Again { lasting, payload }) = &self.again else { return Err(self.error(Kind::Closed)) };
        let (connection, seat, asked) = lasting.carry("call", Terms::until(until, true), |connection| {
            let timeout = remaining(self.deadline);
            let (seat, asked) = connection.start(self.msg_type, payload, timeout, self.deadline, until)?;
            Ok((Arc::clone(connection), seat, asked))
        })?;
        (self.connection, self.asked) = (connection, asked);
        Ok(seat)
    }

    /// Looks what became of it, without waiting for that; but if it is to be sent again, for a connection.
    fn look(&mut self, until: Option<Instant>) {
        if self.is_decided()
            && let Some(result) = self.outcome_by(Some(Instant::now()))
        {
            self.course = Course::Decided(result);
        }
        if let Course::Lost(why) = &self.course {
            self.course = self.next_course(why.clone(), until);
        }
    }

    /// How one that was lost goes on: over the next connection, if there is one by then.
    fn next_course(&mut self, why: Error, until: Option<Instant>) -> Course {
        match self.send_again(until) {
            Ok(seat) => Course::Open(seat),
            Err(error) if error.is_timeout() && !is_past(self.deadline) => Course::Lost(why),
            Err(error) => Course::Decided(self.end(Err(error.for_request("call", why.executed())))),
        }
    }

    /// Whether it is known what became of it, and was not told yet.
    fn is_decided(&self) -> bool {
        match self.course {
            Course::Open(seat) => self.connection.is_decided(seat),
            Course::Decided(_) => true,
            Course::Lost(_) | Course::Told => false,
        }
    }

    /// What is told of this end.
    fn end(&mut self, result: Result<Response>) -> Result<Response> {
        let asked = std::mem::take(&mut self.asked);
        self.connection.concluded(asked, result, (self.msg_type, self.timeout))
    }

    fn explain(&self, error: Error) -> Error {
        request::explain(error, self.msg_type, self.timeout, self.connection.channel().peer())
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.connection.endpoint()
    }

    fn error(&self, kind: Kind) -> Error {
        Error::new("call", self.connection.endpoint(), kind)
    }

    fn check_thread(&self) -> Result<()> {
        if self.connection.waits_for_itself() {
            return Err(self.explain(self.error(Kind::InvalidInput(WAITS_FOR_ITSELF.into()))));
        }
        Ok(())
    }

    fn seat(&self) -> Option<Seat> {
        match self.course {
            Course::Open(seat) => Some(seat),
            Course::Lost(_) | Course::Decided(_) | Course::Told => None,
        }
    }
}

/// Nobody waits for it any more.
impl Drop for Pending {
    fn drop(&mut self) {
        if let Course::Open(seat) = self.course {
            self.connection.drop_call(seat);
        }
    }
}

/// Waits until it is known what became of one of these calls, and says which: [`Pending::poll`] then tells
/// what. Those whose end was told already are passed over. `None` waits as long as they may take.
///
/// # Errors
/// [`is_timeout`](Error::is_timeout): none of them within `timeout`. [`is_invalid_input`](Error::is_invalid_input):
/// there is none to wait for, or they are of several clients.
pub fn wait_any(calls: &mut [Pending], timeout: impl Into<Option<Duration>>) -> Result<usize> {
    let until = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        // Those that were lost with a connection go on over the next one, if there is one already.
        calls.iter_mut().filter(|call| call.again.is_some()).for_each(|call| call.look(Some(Instant::now())));
        if let Some(index) = calls.iter().position(Pending::is_decided) {
            return Ok(index);
        }
        if let Some(lost) = calls.iter_mut().find(|call| matches!(call.course, Course::Lost(_))) {
            lost.look(until);
            if let Course::Lost(_) = lost.course {
                return Err(Error::new(OPERATION, lost.connection.endpoint(), Kind::TimedOut));
            }
            continue;
        }
        let index = wait_at_one(calls, until)?;
        if calls[index].again.is_none() {
            return Ok(index);
        }
    }
}

const OPERATION: &str = "wait for one of several calls";

/// Waits until something is known of one of them, all of which are calls on one connection.
fn wait_at_one(calls: &mut [Pending], until: Option<Instant>) -> Result<usize> {
    let open = calls.iter().enumerate().filter_map(|(index, call)| Some((index, call.seat()?)));
    let (mut indices, mut seats): (Vec<_>, Vec<_>) = open.unzip();
    let has_least_time =
        |index: &usize| calls[indices[*index]].deadline.map_or((1, None), |at| (0, Some(at)));
    let Some(first) = (0..indices.len()).min_by_key(has_least_time) else {
        return Err(Error::invalid(OPERATION, "there is none to wait for"));
    };
    indices.swap(0, first);
    seats.swap(0, first);
    let Pending { connection, deadline, .. } = &calls[indices[0]];
    let error = |kind| Error::new(OPERATION, connection.endpoint(), kind);
    if indices.iter().any(|index| !Arc::ptr_eq(&calls[*index].connection, connection)) {
        return Err(error(Kind::InvalidInput("they are calls of several clients".into())));
    }
    calls[indices[0]].check_thread()?;
    let until = until.into_iter().chain(*deadline).min();
    match connection.wait_any(&seats, until) {
        None => Err(error(Kind::TimedOut)),
        Some((which, None)) => Ok(indices[which]),
        Some((which, Some(result))) => {
            let call = &mut calls[indices[which]];
            call.course = match result {
                Err(error) if error.lost().is_some() && call.again.is_some() => Course::Lost(error),
                result => Course::Decided(call.end(result)),
            };
            Ok(indices[which])
        }
    }
}
