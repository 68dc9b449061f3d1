//! One call: from the broker to the local server, and its reply back.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{Message, Subject};
use bytes::Bytes;
use futures_util::Stream;
use sidewire::tokio::Parts;
use sidewire::{App, Error, Executed, Failure, ResultCode};
use tokio::time::{Instant, timeout};

use super::room::Held;
use super::tenure::Serving;
use crate::broker::{self, Unsent};
use crate::message::{self, CREDIT, FIRST_SIGN, Headers, Malformed, PART, RC, TEXT, TIMEOUT, Told};

/// How long a call may wait until the local server has room for it. All that comes behind it waits, too, so that the order remains.
const ROOM: Duration = Duration::from_millis(100);
/// The client reads so much at a time, and a payload keeps all of it alive: smaller ones that wait are copied.
const READ: usize = 64 << 10;

/// What a caller says besides its payload.
#[derive(Debug)]
struct Terms {
    timeout: Option<Duration>,
    credit: Option<u32>,
    app: Option<App>,
}

impl Terms {
    fn read(told: Told<'_>) -> Result<Terms, Malformed> {
        let timeout = told.number::<u32>(TIMEOUT)?.filter(|ms| *ms > 0);
        let timeout = timeout.map(|ms| Duration::from_millis(ms.into()));
        Ok(Terms { timeout, credit: told.number(CREDIT)?, app: told.app()? })
    }
}

/// How a call ends.
#[derive(Debug)]
pub(super) enum Last {
    Reply(Vec<u8>),
    Code(ResultCode, Vec<u8>, bool),
    /// The caller has said that it needs none.
    None,
}

impl From<Failure> for Last {
    fn from(failure: Failure) -> Last {
        Last::Code(failure.result_code(), failure.text().as_bytes().to_vec(), true)
    }
}

impl Last {
    /// With a result code of the toolkit's own.
    fn is_error(&self) -> bool {
        matches!(self, Last::Code(rc, ..) if rc.code() < 0)
    }

    fn length(&self) -> usize {
        match self {
            Last::Reply(payload) | Last::Code(_, payload, _) => payload.len(),
            Last::None => 0,
        }
    }

    /// As it goes to the broker, behind so many parts.
    fn into_message(self, reply: &str, parts: u32) -> Option<OutboundMessage> {
        let (rc, payload, is_text) = match self {
            Last::Reply(payload) => (ResultCode::OK, payload, false),
            Last::Code(rc, payload, is_text) => (rc, payload, is_text),
            Last::None => return None,
        };
        Some(broker::message(reply, final_headers(rc, is_text, parts), payload))
    }
}

/// What has come and may wait for its turn.
#[derive(Debug)]
pub(super) struct Admitted {
    subject: Subject,
    reply: Option<Subject>,
    payload: Bytes,
    terms: Result<Terms, Malformed>,
    received: Instant,
    held: Held,
}

impl Admitted {
    pub(super) fn new(message: Message, received: Instant, held: Held) -> Admitted {
        let Message { subject, reply, payload, headers, .. } = message;
        let terms = Terms::read(Told(headers.as_ref()));
        Admitted { subject, reply, payload, terms, received, held }
    }

    /// To wait for its turn.
    pub(super) fn kept(mut self) -> Admitted {
        if self.payload.len() < READ {
            self.payload = Bytes::copy_from_slice(&self.payload);
        }
        self
    }

    pub(super) async fn refuse(self, serving: &Serving, why: &str) {
        serving.refuse(self.reply, why).await;
    }

    /// The same, unless too much waits for the broker already.
    pub(super) fn refuse_now(self, serving: &Serving, why: &str) {
        serving.refuse_now(self.reply, why);
    }
}

/// Sends what came to the local server. `None`: nothing comes of it any more.
pub(super) async fn take(serving: &Serving, admitted: Admitted) -> Option<Call> {
    let Admitted { subject, reply, payload, terms, received, mut held } = admitted;
    let msg_type = message::number(&subject);
    let served = msg_type.filter(|msg_type| serving.local.offer.types.contains(*msg_type));
    let Some(reply) = reply else {
        if let (Some(msg_type), Ok(terms)) = (served, terms) {
            notify(serving, msg_type, &payload, terms).await;
        }
        return None;
    };
    if !message::is_answerable(&reply) {
        log::debug!("{subject}: not executed, no answer may go to {reply}");
        return None;
    }
    let begun = match served {
        Some(msg_type) => begin(serving, msg_type, &payload, terms, (received, &mut held)).await,
        None => {
            let (app, types) = (&serving.app, &serving.local.offer.types);
            let text = format!("{subject} is not served by {app}, which serves the types {types}");
            Err(Failure::new(ResultCode::NO_HANDLER, text))
        }
    };
    let msg_type = msg_type.unwrap_or_default();
    match begun {
        Ok(Begun { parts, deadline, credit }) => {
            Some(Call { msg_type, reply, parts, received, deadline, credit, _held: held })
        }
        Err(failure) => {
            let last = Last::from(failure);
            count(serving, msg_type, &last, received);
            // A broker that takes nothing holds up nobody who is asked to end: without a word it is silence.
            if timeout(ROOM, send_last(serving, &reply, 0, last)).await.is_err() {
                log::debug!("{reply}: that a call is refused was not sent in time");
            }
            None
        }
    }
}

async fn notify(serving: &Serving, msg_type: u16, payload: &[u8], terms: Terms) {
    let local = serving.local.of(terms.app).await;
    match within(ROOM, pin!(local.notify(msg_type, payload))).await {
        Some(Ok(())) => {}
        Some(Err(error)) => log::debug!("a notify of type {msg_type} was not sent: {error}"),
        None => log::debug!("a notify of type {msg_type} was not sent: the server has no room for it"),
    }
}

/// A call that has left for the local server.
struct Begun {
    parts: Parts,
    deadline: Option<Instant>,
    credit: Option<u32>,
}

async fn begin(
    serving: &Serving,
    msg_type: u16,
    payload: &[u8],
    terms: Result<Terms, Malformed>,
    (received, held): (Instant, &mut Held),
) -> Result<Begun, Failure> {
    let app = &serving.app;
    let Terms { timeout, credit, app: caller } = terms.map_err(|Malformed(header)| {
        Failure::new(ResultCode::MALFORMED, format!("the header {header} is none; not executed"))
    })?;
    if !held.begin_call() {
        let text = format!("the bridge that serves {app} has as many calls as it takes; not executed");
        return Err(Failure::new(ResultCode::BUSY, text));
    }
    let local = serving.local.of(caller).await;
    let deadline = timeout.map(|timeout| received + timeout);
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let text = "its time was over before its turn came; not executed";
        return Err(Failure::new(ResultCode::TIMED_OUT, text));
    }
    let mut request = local.request(msg_type).timeout(None);
    if may_last(received, deadline) {
        // It leaves with others, when all that have come are looked at.
        request = request.corked();
    }
    let start = pin!(request.stream(payload));
    match within(timeout.unwrap_or(ROOM).min(ROOM), start).await {
        Some(Ok(parts)) => Ok(Begun { parts, deadline, credit }),
        Some(Err(error)) => Err(not_begun(app, &error)),
        None => {
            let text = format!("the server of {app} has no room for it; not executed");
            Err(Failure::new(ResultCode::BUSY, text))
        }
    }
}

/// Whether a call has the time to last.
fn may_last(received: Instant, deadline: Option<Instant>) -> bool {
    deadline.is_none_or(|deadline| deadline >= received + FIRST_SIGN)
}

/// As `timeout`, but without a timer for what is ready at once.
async fn within<F: Future>(limit: Duration, mut work: Pin<&mut F>) -> Option<F::Output> {
    match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
        Poll::Ready(done) => Some(done),
        Poll::Pending => timeout(limit, work).await.ok(),
    }
}

fn not_begun(app: &str, error: &Error) -> Failure {
    match error.executed() {
        Executed::Never if error.is_invalid_input() => {
            Failure::new(ResultCode::TOO_LARGE, format!("the server of {app} does not take it: {error}"))
        }
        Executed::Never => Failure::new(ResultCode::BUSY, format!("not executed: {error}")),
        _ => lost(app, error),
    }
}

/// The local server went away with the call.
fn lost(app: &str, error: &Error) -> Failure {
    match error.executed() {
        Executed::Never => {
            Failure::new(ResultCode::BUSY, format!("the server of {app} has gone; not executed: {error}"))
        }
        _ => Failure::new(
            ResultCode::HANDLER_FAILED,
            format!("the server of {app} has gone; it may have been executed: {error}"),
        ),
    }
}

/// What has come of a call and was not dealt with: a part, why there is no reply, or its end.
pub(super) type Came = Option<Result<Vec<u8>, Error>>;

/// A call that the local server has.
#[derive(Debug)]
pub(super) struct Call {
    msg_type: u16,
    pub(super) reply: Subject,
    pub(super) parts: Parts,
    pub(super) received: Instant,
    pub(super) deadline: Option<Instant>,
    /// Bytes of parts that may come ahead. `None`: the caller knows neither parts nor signs of life.
    pub(super) credit: Option<u32>,
    _held: Held,
}

impl Call {
    /// When it is one that lasts.
    pub(super) fn first_sign(&self) -> Instant {
        self.received + FIRST_SIGN
    }

    pub(super) fn may_last(&self) -> bool {
        may_last(self.received, self.deadline)
    }

    /// Answers it, where its reply has come in one piece and the broker takes it at once. If not, gives what has come.
    pub(super) fn poll_answer(
        &mut self,
        serving: &Serving,
        context: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Option<Came>> {
        let came = ready!(Pin::new(&mut self.parts).poll_next(context));
        if let Some(Ok(_)) = came {
            return Poll::Ready(Some(came));
        }
        let last = self.last(serving, &came);
        let is_error = last.is_error();
        let Some(message) = last.into_message(&self.reply, 0) else { return Poll::Ready(None) };
        if serving.broker.try_send(message).is_err() {
            return Poll::Ready(Some(came));
        }
        serving.service.count(self.msg_type, is_error, now - self.received);
        Poll::Ready(None)
    }

    /// How it ends, behind the last part.
    pub(super) fn last(&self, serving: &Serving, ended: &Came) -> Last {
        match ended {
            Some(Err(error)) => match error.result_code() {
                Some(rc) => Last::Code(rc, error.payload().to_vec(), error.is_explanation()),
                None => lost(&serving.app, error).into(),
            },
            _ => {
                let payload = self.parts.response().map(|response| response.payload().to_vec());
                Last::Reply(payload.unwrap_or_default())
            }
        }
    }

    /// Says how it has ended, behind so many parts.
    pub(super) async fn end(self, serving: &Serving, parts: u32, last: Last) {
        count(serving, self.msg_type, &last, self.received);
        send_last(serving, &self.reply, parts, last).await;
    }
}

pub(super) fn too_large(what: &str, length: usize, limit: usize) -> Failure {
    let text =
        format!("{what} has {length} bytes, and the broker takes {limit} with the headers; it was executed");
    Failure::new(ResultCode::TOO_LARGE, text)
}

async fn send_last(serving: &Serving, reply: &str, parts: u32, last: Last) {
    let length = last.length();
    let Some(message) = last.into_message(reply, parts) else { return };
    let failure = match serving.broker.send(message).await {
        Ok(()) => return,
        Err(Unsent::TooLarge(limit)) => too_large("the reply", length, limit),
        // The client has ended for good, and so do we.
        Err(why) => return log::warn!("{reply}: a reply was not sent: {why:?}"),
    };
    let Some(message) = Last::from(failure).into_message(reply, parts) else { return };
    if let Err(why) = serving.broker.send(message).await {
        log::warn!("{reply}: a reply was not sent: {why:?}");
    }
}

fn final_headers(rc: ResultCode, is_text: bool, parts: u32) -> Headers {
    let mut headers = Headers::none();
    if !rc.is_ok() || parts > 0 {
        headers = headers.with(RC, rc.code());
    }
    if is_text {
        headers = headers.with(TEXT, 1);
    }
    if parts > 0 {
        headers = headers.with(PART, parts);
    }
    headers
}

fn count(serving: &Serving, msg_type: u16, last: &Last, received: Instant) {
    if !matches!(last, Last::None) {
        serving.service.count(msg_type, last.is_error(), received.elapsed());
    }
}
