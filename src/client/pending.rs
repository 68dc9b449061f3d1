//! Calls that are started now and waited for later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::Channel;

use super::Response;
use super::journal::Asked;
use super::leader::{SharedConnection, is_past};
use super::line::{Line, Terms};
use super::medium::{Medium, at_once};
use super::request;
use crate::error::{Error, Kind, Result};
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
pub struct Pending(Started);

impl Pending {
    pub(super) fn start(
        line: &Line,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        terms: Terms,
    ) -> Result<Pending> {
        let deadline = terms.deadline;
        if let Line::Once(connection) = line {
            let (seat, asked) = match connection.start(msg_type, payload, timeout, deadline) {
                Ok(started) => started,
                Err(error) => return connection.told(Err(error), deadline),
            };
            let (connection, course) = (Arc::clone(connection), Course::Open(seat));
            let call = Started { connection, msg_type, timeout, deadline, asked, course, again: None };
            return Ok(Pending(call));
        }
        let begun = line.carry_now("call", terms, |connection| {
            let (seat, asked) = connection.start(msg_type, payload, timeout, deadline)?;
            Ok((Arc::clone(connection), seat, asked))
        });
        let again = Again::of(line, payload, terms.is_safe);
        Ok(Pending(Started::of(begun?, (msg_type, timeout, deadline), again)))
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
        self.outcome_by(None).unwrap_or_else(|| Err(self.0.error(Kind::TimedOut)))
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
        self.0.cancel();
    }

    fn outcome_by(&mut self, until: Option<Instant>) -> Option<Result<Response>> {
        if let Course::Open(seat) = self.0.course
            && let Some(reply) = self.0.connection.take_reply(seat)
        {
            return Some(self.0.end(Ok(reply)));
        }
        self.wait_until(until)
    }

    fn wait_until(&mut self, until: Option<Instant>) -> Option<Result<Response>> {
        let until = until.into_iter().chain(self.0.deadline).min();
        loop {
            match self.0.course {
                Course::Open(seat) => {
                    let result = self.0.connection.outcome_of(seat, until)?;
                    if let Some(told) = self.0.came(result) {
                        return Some(told);
                    }
                }
                Course::Lost(_) => {
                    self.send_again(until);
                    if let Course::Lost(_) = self.0.course {
                        return None;
                    }
                }
                Course::Decided(_) | Course::Told => return Some(self.0.tell()),
            }
        }
    }

    /// Over the next connection, if there is one by then.
    #[cold]
    fn send_again(&mut self, until: Option<Instant>) {
        self.0.go_on(at_once(self.0.again(until)));
    }

    /// Looks what became of it, without waiting for that; but if it is to be sent again, for a connection.
    fn look(&mut self, until: Option<Instant>) {
        if self.is_decided()
            && let Some(result) = self.outcome_by(Some(Instant::now()))
        {
            self.0.course = Course::Decided(result);
        }
        if let Course::Lost(_) = self.0.course {
            self.send_again(until);
        }
    }

    /// Whether it is known what became of it, and was not told yet.
    fn is_decided(&self) -> bool {
        match self.0.course {
            Course::Open(seat) => self.0.connection.is_decided(seat),
            Course::Decided(_) => true,
            Course::Lost(_) | Course::Told => false,
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.0.course, Course::Lost(_))
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.0.endpoint()
    }

    fn check_thread(&self) -> Result<()> {
        self.0.connection.check_thread("call").map_err(|error| self.0.explained(error))
    }

    fn seat(&self) -> Option<Seat> {
        match self.0.course {
            Course::Open(seat) => Some(seat),
            Course::Lost(_) | Course::Decided(_) | Course::Told => None,
        }
    }
}

/// A call that was started, for threads or for tasks: all but how they wait for its reply.
#[derive(Debug)]
pub(crate) struct Started<M: Medium = Channel> {
    pub(crate) connection: Arc<SharedConnection<M>>,
    msg_type: u16,
    timeout: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
    asked: Asked,
    pub(crate) course: Course,
    /// Boxed, since most have none.
    again: Option<Box<Again<M>>>,
}

/// What has begun, and where.
pub(crate) type Begun<M> = (Arc<SharedConnection<M>>, Seat, Asked);

/// Of a call that goes again over the next connection when it was lost with one.
#[derive(Debug)]
struct Again<M: Medium> {
    line: Line<M>,
    payload: Vec<u8>,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Course {
    Open(Seat),
    /// Its connection has ended so, and it is to be sent again.
    Lost(Error),
    Decided(Result<Response>),
    /// Whoever asked has it.
    Told,
}

impl<M: Medium> Again<M> {
    fn of(line: &Line<M>, payload: &[u8], is_safe: bool) -> Option<Box<Again<M>>> {
        let goes_again = line.is_lasting() && is_safe;
        goes_again.then(|| Box::new(Again { line: line.clone(), payload: payload.to_vec() }))
    }
}

impl<M: Medium> Started<M> {
    #[cfg(feature = "tokio")]
    /// Begins it, if there is room for it in time, and sends it as far as that goes at once.
    pub(crate) async fn start(
        line: &Line<M>,
        (msg_type, payload): (u16, &[u8]),
        timeout: Option<Duration>,
        terms: Terms,
    ) -> Result<Started<M>> {
        let deadline = terms.deadline;
        let begun = begin(line, (msg_type, payload), deadline, terms).await?;
        Ok(Started::of(begun, (msg_type, timeout, deadline), Again::of(line, payload, terms.is_safe)))
    }

    fn of(
        (connection, seat, asked): Begun<M>,
        (msg_type, timeout, deadline): (u16, Option<Duration>, Option<Instant>),
        again: Option<Box<Again<M>>>,
    ) -> Started<M> {
        Started { connection, msg_type, timeout, deadline, asked, course: Course::Open(seat), again }
    }

    pub(crate) fn cancel(&self) {
        if let Course::Open(seat) = self.course {
            self.connection.cancel(seat);
        }
    }

    /// What is told of this that came of it; `None`: it is to go [again](Started::again).
    pub(crate) fn came(&mut self, result: Result<Response>) -> Option<Result<Response>> {
        match result {
            Err(error) if error.lost().is_some() && self.again.is_some() => {
                self.course = Course::Lost(error);
                None
            }
            result => Some(self.end(result)),
        }
    }

    fn end(&mut self, result: Result<Response>) -> Result<Response> {
        self.course = Course::Told;
        let asked = std::mem::take(&mut self.asked);
        self.connection.concluded(asked, result, (self.msg_type, self.timeout, self.deadline))
    }

    /// Sends it once more, over the next connection, if there is one by then.
    pub(crate) fn again(&self, until: Option<Instant>) -> impl Future<Output = Result<Begun<M>>> + use<M> {
        let again = self.again.as_deref().map(|Again { line, payload }| (line.clone(), payload.clone()));
        let closed = self.error(Kind::Closed);
        let (msg_type, deadline) = (self.msg_type, self.deadline);
        async move {
            let Some((line, payload)) = again else { return Err(closed) };
            begin(&line, (msg_type, &payload), deadline, Terms::until(until, true)).await
        }
    }

    /// How one that was lost goes on, when this has come of sending it again.
    pub(crate) fn go_on(&mut self, begun: Result<Begun<M>>) {
        let Course::Lost(why) = &self.course else { return };
        match begun {
            Ok((connection, seat, asked)) => {
                (self.connection, self.asked, self.course) = (connection, asked, Course::Open(seat));
            }
            Err(error) if error.is_timeout() && !is_past(self.deadline) && !self.has_given_up() => {}
            Err(error) => {
                let error = error.for_request("call", why.executed());
                self.course = Course::Decided(self.end(Err(error)));
            }
        }
    }

    /// Whether no connection will come any more over which it could go.
    fn has_given_up(&self) -> bool {
        self.again.as_deref().is_none_or(|Again { line, .. }| line.is_closed())
    }

    /// What was decided, if nobody was told yet.
    pub(crate) fn tell(&mut self) -> Result<Response> {
        match std::mem::replace(&mut self.course, Course::Told) {
            Course::Decided(result) => result,
            Course::Open(_) | Course::Lost(_) | Course::Told => {
                Err(self.error(Kind::InvalidInput("what became of this call was told before".into())))
            }
        }
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.connection.endpoint()
    }

    fn error(&self, kind: Kind) -> Error {
        self.explained(Error::new("call", self.connection.endpoint(), kind))
    }

    fn explained(&self, error: Error) -> Error {
        request::explain(error, self.msg_type, self.timeout, self.connection.channel().peer())
    }
}

async fn begin<M: Medium>(
    line: &Line<M>,
    asked: (u16, &[u8]),
    deadline: Option<Instant>,
    terms: Terms,
) -> Result<Begun<M>> {
    let begun = line.carry("call", terms, |connection| async move {
        let (seat, asked) = connection.start_call(asked, deadline, (terms.deadline, terms.leaves)).await?;
        Ok((connection, seat, asked))
    });
    begun.await
}

/// Nobody waits for it any more.
impl<M: Medium> Drop for Started<M> {
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
        calls
            .iter_mut()
            .filter(|call| call.0.again.is_some())
            .for_each(|call| call.look(Some(Instant::now())));
        if let Some(index) = calls.iter().position(Pending::is_decided) {
            return Ok(index);
        }
        if let Some(lost) = calls.iter_mut().find(|call| call.is_lost()) {
            lost.look(until);
            if lost.is_lost() {
                return Err(Error::new(OPERATION, lost.0.connection.endpoint(), Kind::TimedOut));
            }
            continue;
        }
        let index = wait_at_one(calls, until)?;
        if calls[index].0.again.is_none() {
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
        |index: &usize| calls[indices[*index]].0.deadline.map_or((1, None), |at| (0, Some(at)));
    let Some(first) = (0..indices.len()).min_by_key(has_least_time) else {
        return Err(Error::invalid(OPERATION, "there is none to wait for"));
    };
    indices.swap(0, first);
    seats.swap(0, first);
    let Started { connection, deadline, .. } = &calls[indices[0]].0;
    let error = |kind| Error::new(OPERATION, connection.endpoint(), kind);
    if indices.iter().any(|index| !Arc::ptr_eq(&calls[*index].0.connection, connection)) {
        return Err(error(Kind::InvalidInput("they are calls of several clients".into())));
    }
    calls[indices[0]].check_thread()?;
    let until = until.into_iter().chain(*deadline).min();
    match connection.wait_any(&seats, until) {
        None => Err(error(Kind::TimedOut)),
        Some((which, None)) => Ok(indices[which]),
        Some((which, Some(result))) => {
            let call = &mut calls[indices[which]].0;
            if let Some(told) = call.came(result) {
                call.course = Course::Decided(told);
            }
            Ok(indices[which])
        }
    }
}
