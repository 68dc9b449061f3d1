//! Calls that are started now and waited for later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Response;
use super::journal::Asked;
use super::leader::SharedConnection;
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
}

/// How far it is.
#[derive(Debug)]
enum Course {
    Open(Seat),
    Decided(Result<Response>),
    /// Whoever asked has it.
    Told,
}

impl Pending {
    pub(super) fn start(
        connection: &Arc<SharedConnection>,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<Pending> {
        let (seat, asked) = connection.start(msg_type, payload, timeout, deadline)?;
        let (connection, course) = (Arc::clone(connection), Course::Open(seat));
        Ok(Pending { connection, msg_type, timeout, deadline, asked, course })
    }

    /// What became of the call, if that is known by now; what has come is read first. Never waits.
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
        match std::mem::replace(&mut self.course, Course::Told) {
            Course::Open(seat) => {
                let until = until.into_iter().chain(self.deadline).min();
                let Some(result) = self.connection.outcome_of(seat, until) else {
                    self.course = Course::Open(seat);
                    return None;
                };
                Some(self.end(result))
            }
            Course::Decided(result) => Some(result),
            Course::Told => {
                let text = "what became of this call was told before";
                Some(Err(self.explain(self.error(Kind::InvalidInput(text.into())))))
            }
        }
    }

    /// What is told of this end.
    fn end(&mut self, result: Result<Response>) -> Result<Response> {
        std::mem::take(&mut self.asked).end(self.connection.endpoint(), &result);
        let result = result.and_then(|response| response.checked(self.connection.endpoint()));
        result.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: Error) -> Error {
        request::explain(error, self.msg_type, self.timeout, self.connection.channel().peer())
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
            Course::Decided(_) | Course::Told => None,
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
    const OPERATION: &str = "wait for one of several calls";
    if let Some(index) = calls.iter().position(|call| matches!(call.course, Course::Decided(_))) {
        return Ok(index);
    }
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
    let until = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
    let until = until.into_iter().chain(*deadline).min();
    match connection.wait_any(&seats, until) {
        None => Err(error(Kind::TimedOut)),
        Some((which, None)) => Ok(indices[which]),
        Some((which, Some(result))) => {
            let call = &mut calls[indices[which]];
            call.course = Course::Decided(call.end(result));
            Ok(indices[which])
        }
    }
}
