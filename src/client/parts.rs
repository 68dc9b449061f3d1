//! Replies that come in parts.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sidewire_platform::Channel;

use super::journal::Asked;
use super::leader::{SharedConnection, deadline_in};
use super::line::{Line, Terms};
use super::medium::{Medium, at_once};
use super::{Response, request};
use crate::error::{Error, Kind, Result};
use sidewire_wire::caller::{Caller, Outcome, Seat};

/// The parts of one reply, as they come; from [`Client::stream`](super::Client::stream). Dropped before its end,
/// it cancels the call.
///
/// As an iterator it waits for each part, for as long as the request's time limit says; the whole may take as
/// long as it likes. It ends behind the last part. If the call went wrong, with a result code other than 0 or
/// because the server has gone, that is the last item. What the final reply says besides is the
/// [`response`](Parts::response).
///
/// What is taken slowly comes slowly: the server may send
/// [`ConnectionLimits::stream_credit`](crate::ConnectionLimits::stream_credit) bytes ahead, and then waits; other calls on the
/// connection go on meanwhile.
///
/// ```no_run
/// use sidewire::Client;
///
/// const DOWNLOAD: u16 = 7;
/// let client = Client::connect("local:com.example.app")?;
/// let mut bytes = 0;
/// for part in client.stream(DOWNLOAD, "everything")? {
///     bytes += part?.len();
/// }
/// println!("{bytes} bytes");
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the call is cancelled when this is dropped"]
pub struct Parts(Coming);

impl Parts {
    pub(super) fn start(
        line: &Line,
        asked: (u16, &[u8]),
        timeout: Option<Duration>,
        terms: Terms,
    ) -> Result<Parts> {
        at_once(Coming::start(line, asked, timeout, terms)).map(Parts)
    }

    /// The final reply, once all parts were taken, if its result code is 0.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        self.0.response()
    }

    /// Tells the server that nobody needs more. Parts that were under way still come, and then the end: usually
    /// "cancelled" (-8). Who waits for neither just drops it.
    pub fn cancel(&mut self) {
        self.0.cancel();
    }

    /// The next part, if it has come; `Ready(None)` behind the end. What has come is read first. Never waits, and no
    /// time limit counts.
    pub fn poll(&mut self) -> Poll<Option<Result<Vec<u8>>>> {
        let Some(seat) = self.0.seat() else { return Poll::Ready(None) };
        match self.0.connection.next_part(seat, Some(Duration::ZERO)) {
            None => Poll::Pending,
            outcome => Poll::Ready(self.0.come(outcome)),
        }
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.0.endpoint()
    }
}

impl Iterator for Parts {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Result<Vec<u8>>> {
        let (seat, connection) = (self.0.seat()?, &self.0.connection);
        if let Err(error) = connection.check_thread("call") {
            return Some(Err(self.0.explained(error)));
        }
        let outcome = connection.next_part(seat, self.0.timeout);
        self.0.come(outcome)
    }
}

/// A reply in parts, for threads and tasks: all but how they wait for it.
#[derive(Debug)]
pub(crate) struct Coming<M: Medium = Channel> {
    pub(crate) connection: Arc<SharedConnection<M>>,
    msg_type: u16,
    pub(crate) timeout: Option<Duration>,
    asked: Asked,
    course: Course,
}

/// How far it is.
#[derive(Debug)]
enum Course {
    Open(Seat),
    Answered(Response),
    /// The last item said why.
    Failed,
}

impl<M: Medium> Coming<M> {
    /// Begins a call whose reply may come in parts, each of which may take so long.
    pub(crate) async fn start(
        line: &Line<M>,
        (msg_type, payload): (u16, &[u8]),
        timeout: Option<Duration>,
        terms: Terms,
    ) -> Result<Coming<M>> {
        // Who has taken some of it would get those again.
        let terms = Terms { is_safe: false, ..terms };
        let begun = line.carry("call", terms, |connection| async move {
            let stream = |caller: &mut Caller<_>| caller.stream(msg_type, payload, 0, None);
            let begun = connection
                .start_with((msg_type, payload.len()), (terms.deadline, terms.leaves), stream)
                .await?;
            Ok((connection, begun))
        });
        let (connection, (seat, asked)) = begun.await?;
        Ok(Coming { connection, msg_type, timeout, asked, course: Course::Open(seat) })
    }

    /// Where the next part comes; `None` behind the end.
    pub(crate) fn seat(&self) -> Option<Seat> {
        match self.course {
            Course::Open(seat) => Some(seat),
            Course::Answered(_) | Course::Failed => None,
        }
    }

    pub(crate) fn response(&self) -> Option<&Response> {
        match &self.course {
            Course::Answered(response) => Some(response),
            Course::Open(_) | Course::Failed => None,
        }
    }

    pub(crate) fn cancel(&mut self) {
        if let Course::Open(seat) = self.course {
            self.connection.cancel(seat);
        }
    }

    /// The item that this is. `None`: nothing came in time.
    pub(crate) fn come(&mut self, outcome: Option<Outcome>) -> Option<Result<Vec<u8>>> {
        let seat = self.seat()?;
        let result = match outcome {
            Some(Outcome::Part(part)) => return Some(Ok(part)),
            Some(outcome) => self.connection.result(&self.connection.lock(), outcome),
            None => {
                self.connection.drop_call(seat);
                Err(Error::new("call", self.connection.endpoint(), Kind::TimedOut))
            }
        };
        let asked = std::mem::take(&mut self.asked);
        // The limit is one for each part.
        let terms = (self.msg_type, self.timeout, deadline_in(self.timeout));
        match self.connection.concluded(asked, result, terms) {
            Ok(response) => {
                self.course = Course::Answered(response);
                None
            }
            Err(error) => {
                self.course = Course::Failed;
                Some(Err(error))
            }
        }
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.connection.endpoint()
    }

    fn explained(&self, error: Error) -> Error {
        request::explain(error, self.msg_type, self.timeout, self.connection.channel().peer())
    }
}

/// Nobody waits for more.
impl<M: Medium> Drop for Coming<M> {
    fn drop(&mut self) {
        if let Course::Open(seat) = self.course {
            self.connection.drop_call(seat);
        }
    }
}

impl SharedConnection {
    /// What comes next at this seat. `None`: nothing in so much time.
    fn next_part(&self, seat: Seat, timeout: Option<Duration>) -> Option<Outcome> {
        let (mut state, outcome) = self.attend(seat, |now| now.checked_add(timeout?));
        // The credit that was given back.
        self.offer(&mut state);
        outcome
    }
}
