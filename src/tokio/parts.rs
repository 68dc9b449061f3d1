//! Replies that come in parts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
#[cfg(feature = "serde")]
use sidewire_platform::Endpoint;

use super::line::{Line, deadline_in};
use super::waiting::{Connection, Timer};
use crate::client::{Asked, Carried, Medium, Response, explain_request};
use crate::error::{Error, Kind, Result};
use sidewire_wire::caller::{Outcome, Seat};

/// The parts of one reply, as a [`Stream`]; from [`Client::stream`](super::Client::stream). Dropped before its end, it
/// cancels the call.
///
/// It waits for each part for as long as the request's time limit says, from when it is asked for; the whole may take as
/// long as it likes. It ends behind the last part. If the call went wrong, with a result code other than 0 or because the
/// server has gone, that is the last item. What the final reply says besides is the [`response`](Parts::response).
///
/// What is taken slowly comes slowly: the server may send
/// [`ConnectionLimits::stream_credit`](crate::ConnectionLimits::stream_credit) bytes ahead, and then waits.
#[derive(Debug)]
#[must_use = "the call is cancelled when this is dropped"]
pub struct Parts {
    connection: Arc<Connection>,
    msg_type: u16,
    timeout: Option<Duration>,
    /// Of the part that is waited for.
    deadline: Option<Instant>,
    asked: Asked,
    course: Course,
    timer: Timer,
}

#[derive(Debug)]
enum Course {
    Open(Seat),
    Answered(Response),
    /// The last item said why.
    Failed,
}

impl Parts {
    pub(super) async fn start(
        line: &Line,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
    ) -> Result<Parts> {
        let deadline = deadline_in(timeout);
        let mut carried = Carried::begin("call", false);
        loop {
            let connection = line.connection("call", deadline).await;
            let connection = connection.map_err(|error| carried.stranded(error))?;
            match connection.start_stream(msg_type, payload, deadline).await {
                Err(error) if line.is_lasting() && carried.goes_on(&error) => {}
                Err(error) => return connection.told(Err(error)),
                Ok((seat, asked)) => {
                    let (course, timer) = (Course::Open(seat), Timer::default());
                    return Ok(Parts { connection, msg_type, timeout, deadline: None, asked, course, timer });
                }
            }
        }
    }

    /// The final reply, once all parts were taken, if its result code is 0.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        match &self.course {
            Course::Answered(response) => Some(response),
            Course::Open(_) | Course::Failed => None,
        }
    }

    /// Tells the server that nobody needs more. Parts that were under way still come, and then the end: usually
    /// "cancelled" (-8). Who waits for neither just drops it.
    pub fn cancel(&mut self) {
        if let Course::Open(seat) = self.course {
            self.connection.cancel(seat);
        }
    }

    /// The next part; `None` behind the last.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    #[cfg(feature = "serde")]
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.connection.endpoint()
    }

    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>>> {
        let Course::Open(seat) = self.course else { return Poll::Ready(Ok(None)) };
        if self.deadline.is_none() {
            self.deadline = deadline_in(self.timeout);
        }
        let Parts { connection, deadline, timer, .. } = self;
        let (mut state, outcome) = ready!(connection.poll_seat(seat, *deadline, timer, context));
        let outcome = match outcome {
            Some(Outcome::Part(part)) => {
                // The credit that was given back.
                connection.offer(&mut state);
                drop(state);
                self.deadline = None;
                return Poll::Ready(Ok(Some(part)));
            }
            None => {
                drop(state);
                connection.drop_call(seat);
                Err(Error::new("call", connection.endpoint(), Kind::TimedOut))
            }
            Some(outcome) => {
                let result = connection.result(&state, outcome);
                drop(state);
                result
            }
        };
        self.course = Course::Failed;
        std::mem::take(&mut self.asked).end(self.connection.endpoint(), &outcome);
        self.course = Course::Answered(outcome?.checked(self.connection.endpoint())?);
        Poll::Ready(Ok(None))
    }
}

impl Stream for Parts {
    type Item = Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.poll_part(context));
        let next = self.connection.told(next).map_err(|error| {
            explain_request(error, self.msg_type, self.timeout, self.connection.channel().peer())
        });
        Poll::Ready(next.transpose())
    }
}

/// Nobody waits for more.
impl Drop for Parts {
    fn drop(&mut self) {
        if let Course::Open(seat) = self.course {
            self.connection.drop_call(seat);
        }
    }
}
