//! Replies that come in parts.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::journal::Asked;
use super::leader::SharedConnection;
use super::line::{Gap, Line, Terms};
use super::{Response, request};
use crate::error::{Error, Kind, Result};
use crate::loops::WAITS_FOR_ITSELF;
use sidewire_wire::Executed;
use sidewire_wire::caller::{Outcome, Purpose, Seat};
use sidewire_wire::memory::NoMemory;

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
pub struct Parts {
    connection: Arc<SharedConnection>,
    msg_type: u16,
    timeout: Option<Duration>,
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

impl Parts {
    pub(super) fn start(
        line: &Line,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        gap: Gap,
    ) -> Result<Parts> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let terms = Terms { deadline, is_safe: false, gap };
        line.carry("call", terms, |connection| {
            let (seat, asked) = connection.start_stream(msg_type, payload, deadline)?;
            let (connection, course) = (Arc::clone(connection), Course::Open(seat));
            Ok(Parts { connection, msg_type, timeout, asked, course })
        })
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

    /// The next part, if it has come; `Ready(None)` behind the end. What has come is read first. Never waits, and no
    /// time limit counts.
    pub fn poll(&mut self) -> Poll<Option<Result<Vec<u8>>>> {
        let Course::Open(seat) = self.course else { return Poll::Ready(None) };
        match self.connection.next_part(seat, Some(Duration::ZERO)) {
            None => Poll::Pending,
            Some(outcome) => {
                let next = self.come(outcome);
                Poll::Ready(self.explained(next).transpose())
            }
        }
    }

    #[cfg(feature = "serde")]
    pub(crate) fn endpoint(&self) -> &sidewire_platform::Endpoint {
        self.connection.endpoint()
    }

    fn next_part(&mut self, seat: Seat) -> Result<Option<Vec<u8>>> {
        let error = |kind| Error::new("call", self.connection.endpoint(), kind);
        if self.connection.waits_for_itself() {
            return Err(error(Kind::InvalidInput(WAITS_FOR_ITSELF.into())));
        }
        match self.connection.next_part(seat, self.timeout) {
            Some(outcome) => self.come(outcome),
            None => {
                self.connection.drop_call(seat);
                self.end(Err(error(Kind::TimedOut)))
            }
        }
    }

    fn come(&mut self, outcome: Outcome) -> Result<Option<Vec<u8>>> {
        match outcome {
            Outcome::Part(part) => Ok(Some(part)),
            Outcome::Reply(reply) => self.end(Ok(reply.into())),
            outcome => {
                let error = self.connection.explain(&self.connection.lock(), "call", outcome);
                self.end(Err(error))
            }
        }
    }

    fn end(&mut self, result: Result<Response>) -> Result<Option<Vec<u8>>> {
        self.course = Course::Failed;
        std::mem::take(&mut self.asked).end(self.connection.endpoint(), &result);
        self.course = Course::Answered(result?.checked(self.connection.endpoint())?);
        Ok(None)
    }

    fn explained<P>(&self, next: Result<P>) -> Result<P> {
        let peer = self.connection.channel().peer();
        let told = self.connection.told(next);
        told.map_err(|error| request::explain(error, self.msg_type, self.timeout, peer))
    }
}

impl Iterator for Parts {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Result<Vec<u8>>> {
        let Course::Open(seat) = self.course else { return None };
        let next = self.next_part(seat);
        self.explained(next).transpose()
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

impl SharedConnection {
    /// Begins a call whose reply may come in parts. Its request leaves at once, as far as the channel takes it.
    fn start_stream(
        &self,
        msg_type: u16,
        payload: &[u8],
        deadline: Option<Instant>,
    ) -> Result<(Seat, Asked)> {
        let purpose = Purpose::Call(payload.len());
        let mut state = self.wait_for_leave(self.lock(), "call", purpose, deadline)?;
        let started = state.caller.stream(msg_type, payload, 0, None);
        let id = started.map_err(|NoMemory| Error::no_memory("call", self.endpoint(), Executed::Never))?;
        self.offer(&mut state);
        Ok((Seat::Call(id), Asked::begin(self.endpoint(), msg_type, id, payload.len())))
    }

    /// What comes next at this seat. `None`: nothing in so much time.
    fn next_part(&self, seat: Seat, timeout: Option<Duration>) -> Option<Outcome> {
        let (mut state, outcome) = self.attend(seat, |now| now.checked_add(timeout?));
        // The credit that was given back.
        self.offer(&mut state);
        outcome
    }
}
