//! One call: from the broker to the local server, and its reply back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use sidewire::tokio::Parts;
use sidewire::{App, Error, Executed, Failure, ResultCode};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::tenure::Serving;
use crate::broker::{self, Unsent};
use crate::message::{
    self, CREDIT, FIRST_SIGN, Headers, Malformed, PART, RC, SIGN, TAKEN, TEXT, TIMEOUT, Told, Word,
};

/// How long a call may wait until the local server has room for it. All that comes behind it waits, too, so that the order remains.
const ROOM: Duration = Duration::from_millis(100);
/// The client reads so much at a time, and a payload keeps all of it alive: smaller ones are copied.
const READ: usize = 64 << 10;
/// A time limit that is as good as none.
const LONG: Duration = Duration::from_secs(365 * 86_400);

/// What the other side has said of a call.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Bytes of parts that it has taken.
    taken: AtomicU64,
    is_cancelled: AtomicBool,
    /// Nothing comes of it any more: we leave.
    is_lost: AtomicBool,
    bell: Notify,
}

impl Line {
    pub(super) fn tell(&self, word: Word) {
        match word {
            Word::Cancel => self.is_cancelled.store(true, Ordering::Release),
            Word::Credit(bytes) => {
                self.taken.fetch_max(bytes, Ordering::AcqRel);
            }
        }
        self.bell.notify_one();
    }

    /// Whoever waits here, for credit perhaps, is to wait no longer.
    pub(super) fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
        self.bell.notify_one();
    }
}

/// A call of which words may come.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) serving: Arc<Serving>,
    pub(super) token: String,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.serving.unlist(&self.token);
    }
}

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
enum Last {
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

/// What has come and may wait for its turn.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Without its headers.
    message: Message,
    terms: Result<Terms, Malformed>,
    received: Instant,
    /// Of the room for all that has come.
    memory: OwnedSemaphorePermit,
}

/// Lets in what comes, at once, so that no more waits for the local server than there is room for: the client's own queue
/// counts messages, however large they are. Until the subscription ends, which it does soon when we leave.
pub(super) async fn admit(
    serving: Arc<Serving>,
    mut calls: Subscriber,
    admitted: mpsc::UnboundedSender<Admitted>,
    mut leaving: oneshot::Receiver<()>,
) {
    let mut is_leaving = false;
    loop {
        let message = tokio::select! {
            message = calls.next() => message,
            _ = &mut leaving, if !is_leaving => {
                is_leaving = true;
                let _ = calls.drain().await;
                continue;
            }
        };
        let Some(message) = message else { return };
        let kib = u32::try_from(message.length / 1024).unwrap_or(u32::MAX).saturating_add(1);
        match Arc::clone(&serving.memory).try_acquire_many_owned(kib) {
            // Where the broker takes nothing, either, it becomes silence: waiting here would have more pile up unread.
            Err(_) => serving.refuse_now(message, "as much as its bridge takes waits for its server"),
            Ok(memory) => {
                // Who would take it is gone only where nothing is served any more.
                let _ = admitted.send(Admitted::new(message, memory));
            }
        }
    }
}

impl Admitted {
    fn new(mut message: Message, memory: OwnedSemaphorePermit) -> Admitted {
        let headers = message.headers.take();
        if message.payload.len() < READ {
            message.payload = Bytes::copy_from_slice(&message.payload);
        }
        Admitted { message, terms: Terms::read(Told(headers.as_ref())), received: Instant::now(), memory }
    }

    pub(super) async fn refuse(self, serving: &Serving, why: &str) {
        serving.refuse(self.message, why).await;
    }
}

/// Takes what came. It is sent to the local server here, and not in a task of its own, so that the order remains.
pub(super) async fn take(serving: &Arc<Serving>, admitted: Admitted) {
    let Admitted { message, terms, received, memory } = admitted;
    let Some(reply) = message.reply.clone() else { return notify(serving, message, terms).await };
    if !message::is_answerable(&reply) {
        return log::debug!("{}: not executed, no answer may go to {reply}", message.subject);
    }
    let msg_type = message::number(&message.subject);
    let begun = begin(serving, msg_type, (&message, terms), (received, memory)).await;
    match begun {
        Ok((call, parts)) => {
            tokio::spawn(call.run(reply, parts));
        }
        Err(failure) => {
            let last = Last::from(failure);
            count(serving, msg_type.unwrap_or_default(), &last, received);
            // A broker that takes nothing holds up nobody who is asked to end: without a word it is silence.
            if tokio::time::timeout(ROOM, send_last(serving, &reply, 0, last)).await.is_err() {
                log::debug!("{reply}: that a call is refused was not sent in time");
            }
        }
    }
}

async fn notify(serving: &Serving, message: Message, terms: Result<Terms, Malformed>) {
    let served =
        message::number(&message.subject).filter(|msg_type| serving.local.offer.types.contains(*msg_type));
    let (Some(msg_type), Ok(terms)) = (served, terms) else { return };
    let local = serving.local.of(terms.app).await;
    match tokio::time::timeout(ROOM, local.notify(msg_type, &message.payload)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("{}: a notify was not sent: {error}", message.subject),
        Err(_) => log::debug!("{}: a notify was not sent: the server has no room for it", message.subject),
    }
}

async fn begin(
    serving: &Arc<Serving>,
    msg_type: Option<u16>,
    (message, terms): (&Message, Result<Terms, Malformed>),
    (received, memory): (Instant, OwnedSemaphorePermit),
) -> Result<(Call, Parts), Failure> {
    let app = &serving.app;
    let served = msg_type.filter(|msg_type| serving.local.offer.types.contains(*msg_type));
    let Some(msg_type) = served else {
        let text = format!(
            "{} is not served by {app}, which serves the types {}",
            message.subject, serving.local.offer.types
        );
        return Err(Failure::new(ResultCode::NO_HANDLER, text));
    };
    let terms = terms.map_err(|Malformed(header)| {
        Failure::new(ResultCode::MALFORMED, format!("the header {header} is none; not executed"))
    })?;
    let Ok(room) = Arc::clone(&serving.room).try_acquire_owned() else {
        let text = format!("the bridge that serves {app} has as many calls as it takes; not executed");
        return Err(Failure::new(ResultCode::BUSY, text));
    };
    let local = serving.local.of(terms.app).await;
    let deadline = terms.timeout.map(|timeout| received + timeout);
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let text = "its time was over before its turn came; not executed";
        return Err(Failure::new(ResultCode::TIMED_OUT, text));
    }
    let start = local.request(msg_type).timeout(None).stream(&message.payload);
    let started = tokio::time::timeout(terms.timeout.unwrap_or(ROOM).min(ROOM), start).await;
    let parts = match started {
        Ok(Ok(parts)) => parts,
        Ok(Err(error)) => return Err(not_begun(app, &error)),
        Err(_) => {
            let text = format!("the server of {app} has no room for it; not executed");
            return Err(Failure::new(ResultCode::BUSY, text));
        }
    };
    let call = Call {
        serving: Arc::clone(serving),
        msg_type,
        received,
        deadline,
        credit: terms.credit,
        sent: 0,
        spent: 0,
        line: Arc::default(),
        listed: None,
        _permits: [room, memory],
    };
    Ok((call, parts))
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

/// A call that the local server has.
struct Call {
    serving: Arc<Serving>,
    msg_type: u16,
    received: Instant,
    deadline: Option<Instant>,
    /// Bytes of parts that may come ahead. `None`: the caller knows neither parts nor signs of life.
    credit: Option<u32>,
    /// Parts, and what they have cost.
    sent: u32,
    spent: u64,
    line: Arc<Line>,
    /// From the first sign of life on.
    listed: Option<Listed>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Call {
    async fn run(mut self, reply: Subject, parts: Parts) {
        let last = self.relay(&reply, parts).await;
        count(&self.serving, self.msg_type, &last, self.received);
        send_last(&self.serving, &reply, self.sent, last).await;
    }

    /// Parts, as far as there is credit, signs of life, and how it ends.
    async fn relay(&mut self, reply: &str, mut parts: Parts) -> Last {
        let line = Arc::clone(&self.line);
        let late = self.deadline.unwrap_or(self.received + LONG);
        let sign = if self.credit.is_some() { self.received + FIRST_SIGN } else { late };
        let mut clock = std::pin::pin!(tokio::time::sleep_until(sign.min(late)));
        loop {
            tokio::select! {
                biased;
                () = line.bell.notified() => {
                    if line.is_cancelled.load(Ordering::Acquire) {
                        return Last::None;
                    }
                    if line.is_lost.load(Ordering::Acquire) {
                        return self.left().into();
                    }
                }
                () = &mut clock => {
                    let now = Instant::now();
                    if now >= late {
                        let text = "its time is over; it may have been executed";
                        return Failure::new(ResultCode::TIMED_OUT, text).into();
                    }
                    if self.credit.is_some() {
                        self.say_taken(reply).await;
                    }
                    clock.as_mut().reset(late.min(now + SIGN));
                }
                part = parts.next(), if self.has_credit() => match part {
                    Some(Ok(part)) => {
                        if let Err(failure) = self.send_part(reply, part).await {
                            return failure.into();
                        }
                    }
                    Some(Err(error)) => return self.ended_badly(&error),
                    None => {
                        let payload = parts.response().map(|response| response.payload().to_vec());
                        return Last::Reply(payload.unwrap_or_default());
                    }
                },
            }
        }
    }

    /// Whether the next part may come. Where none has come it may be the end, which costs nothing.
    fn has_credit(&self) -> bool {
        let ahead = u64::from(self.credit.unwrap_or_default());
        self.sent == 0 || self.spent < self.line.taken.load(Ordering::Acquire).saturating_add(ahead)
    }

    fn ended_badly(&self, error: &Error) -> Last {
        match error.result_code() {
            Some(rc) => Last::Code(rc, error.payload().to_vec(), error.is_explanation()),
            None => lost(&self.serving.app, error).into(),
        }
    }

    /// We leave before it has ended.
    fn left(&self) -> Failure {
        let text = format!("{} is not served here any more; it may have been executed", self.serving.app);
        Failure::new(ResultCode::HANDLER_FAILED, text)
    }

    async fn send_part(&mut self, reply: &str, part: Vec<u8>) -> Result<(), Failure> {
        if self.credit.unwrap_or_default() == 0 {
            let text = format!(
                "the reply comes in parts, and there is no {CREDIT} for them; it may have been executed"
            );
            return Err(Failure::new(ResultCode::FEATURE_MISSING, text));
        }
        if self.listed.is_none() {
            self.say_taken(reply).await;
        }
        let length = part.len();
        let headers = Headers::none().with(PART, self.sent);
        match self.serving.broker.send(broker::message(reply, headers, part)).await {
            Ok(()) => {
                self.sent = self.sent.wrapping_add(1);
                self.spent = self.spent.saturating_add(message::cost(length).into());
                Ok(())
            }
            Err(Unsent::TooLarge(limit)) => Err(too_large("a part of the reply", length, limit)),
            Err(why) => {
                Err(Failure::new(ResultCode::HANDLER_FAILED, format!("a part was not sent: {why:?}")))
            }
        }
    }

    /// Says that we have it, and where words about it are heard.
    async fn say_taken(&mut self, reply: &str) {
        let Call { serving, line, listed, sent, .. } = self;
        let listed = listed.get_or_insert_with(|| serving.list(line));
        let line = format!("{}.{}", serving.instance, listed.token);
        let subject = serving.subjects.line(&line);
        let mut message = broker::message(reply, Headers::none().with(TAKEN, line).with(PART, *sent), "");
        message.reply = Some(subject.into());
        let _ = serving.broker.send(message).await;
    }
}

fn too_large(what: &str, length: usize, limit: usize) -> Failure {
    let text =
        format!("{what} has {length} bytes, and the broker takes {limit} with the headers; it was executed");
    Failure::new(ResultCode::TOO_LARGE, text)
}

async fn send_last(serving: &Serving, reply: &str, parts: u32, last: Last) {
    let (rc, payload, is_text) = match last {
        Last::Reply(payload) => (ResultCode::OK, payload, false),
        Last::Code(rc, payload, is_text) => (rc, payload, is_text),
        Last::None => return,
    };
    let length = payload.len();
    let sent = serving.broker.send(broker::message(reply, final_headers(rc, is_text, parts), payload)).await;
    let failure = match sent {
        Ok(()) => return,
        Err(Unsent::TooLarge(limit)) => too_large("the reply", length, limit),
        // The client has ended for good, and so do we.
        Err(why) => return log::warn!("{reply}: a reply was not sent: {why:?}"),
    };
    let headers = final_headers(failure.result_code(), true, parts);
    if let Err(why) = serving.broker.send(broker::message(reply, headers, failure.text().to_owned())).await {
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
    let is_error = matches!(last, Last::Code(rc, ..) if rc.code() < 0);
    if !matches!(last, Last::None) {
        serving.service.count(msg_type, is_error, received.elapsed());
    }
}
