//! Calls that are started now and waited for later.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

#[cfg(feature = "serde")]
use sidewire_platform::Endpoint;

use super::line::Line;
use super::requests::Request;
use super::waiting::{Connection, Timer};
use crate::client::{Asked, Response};
use crate::error::{Error, Kind, Result};
use sidewire_wire::caller::Seat;

/// A call that was started; from [`Client::start`](super::Client::start). It is a future, which gives the reply.
///
/// Its time limit runs from when it was started. Dropped before its end is known it is cancelled: the server is told
/// that nobody needs the answer any more. When its [`Client`](super::Client) is closed or dropped it ends.
///
/// ```no_run
/// # async fn example() -> sidewire::Result<()> {
/// const RENDER: u16 = 7;
/// let client = sidewire::tokio::Client::connect("local:com.example.app").await?;
/// let (first, second) = (client.start(RENDER, "page 1").await?, client.start(RENDER, "page 2").await?);
/// println!("{} and {} bytes", first.await?.payload().len(), second.await?.payload().len());
/// # Ok(())
/// # }
/// ```
#[must_use = "a call is cancelled when this is dropped"]
pub struct Pending {
    connection: Arc<Connection>,
    msg_type: u16,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    asked: Asked,
    course: Course,
    timer: Timer,
    again: Option<Again>,
}

/// Of a call that goes again over the next connection when it was lost with one.
struct Again {
    line: Line,
    payload: Vec<u8>,
}

enum Course {
    Open(Seat),
    /// Its connection has ended, and it goes over the next one.
    Again(Pin<Box<dyn Future<Output = Result<Response>> + Send>>),
    Told,
}

impl Pending {
    pub(super) async fn start(line: &Line, request: &Request<'_>) -> Result<Pending> {
        let goes_again = line.is_lasting() && request.is_safe;
        let again = goes_again.then(|| Again { line: line.clone(), payload: request.payload.to_vec() });
        let (connection, seat, asked) = request.start(line).await?;
        let Request { msg_type, timeout, deadline, .. } = *request;
        let (course, timer) = (Course::Open(seat), Timer::default());
        Ok(Pending { connection, msg_type, timeout, deadline, asked, course, timer, again })
    }

    /// Tells the server that nobody needs the answer any more. It may still give one; if not, the call is
    /// answered "cancelled" (-8). Who waits for neither just drops it.
    ///
    /// In the classic layout there is no such word, and nothing happens.
    pub fn cancel(&mut self) {
        if let Course::Open(seat) = self.course {
            self.connection.cancel(seat);
        }
    }

    #[cfg(feature = "serde")]
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.connection.endpoint()
    }

    fn poll_open(&mut self, seat: Seat, context: &mut Context<'_>) -> Poll<Result<Response>> {
        let Pending { connection, deadline, timer, .. } = self;
        let (state, outcome) = ready!(connection.poll_seat(seat, *deadline, timer, context));
        Poll::Ready(connection.answer(&state, outcome, *deadline))
    }

    /// Over the next connection.
    fn begin_again(&self, Again { line, payload }: Again, why: &Error) -> Course {
        let Pending { msg_type, timeout, deadline, .. } = *self;
        let executed = why.executed();
        Course::Again(Box::pin(async move {
            let request = Request { msg_type, payload: &payload, timeout, deadline, is_safe: true };
            let response = request.exchange(&line).await;
            response.map_err(|error| error.for_request("call", executed))
        }))
    }
}

impl Future for Pending {
    type Output = Result<Response>;

    /// # Panics
    /// Never; asked again behind its end it says so.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Response>> {
        loop {
            let result = match &mut self.course {
                Course::Open(seat) => {
                    let seat = *seat;
                    ready!(self.poll_open(seat, context))
                }
                Course::Again(going) => ready!(going.as_mut().poll(context)),
                Course::Told => {
                    let text = "what became of this call was told before";
                    Err(Error::new("call", self.connection.endpoint(), Kind::InvalidInput(text.into())))
                }
            };
            self.course = Course::Told;
            match (result, self.again.take()) {
                (Err(error), Some(again)) if error.lost().is_some() => {
                    self.course = self.begin_again(again, &error);
                }
                (result, _) => {
                    let asked = std::mem::take(&mut self.asked);
                    let of = (self.msg_type, self.timeout);
                    return Poll::Ready(self.connection.concluded(asked, result, of));
                }
            }
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("msg_type", &self.msg_type).finish_non_exhaustive()
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
