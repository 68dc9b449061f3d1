//! One call: from the broker to the local server, and its reply back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_nats::Message;
use sidewire::tokio::Parts;
use sidewire::{App, Error, Executed, Failure, ResultCode};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::tenure::Serving;
use crate::broker::{self, Unsent};
use crate::message::{
    self, CREDIT, FIRST_SIGN, Headers, Malformed, PART, RC, SIGN, TAKEN, TEXT, TIMEOUT, Told, Word,
};

/// How long a call that brings no time limit may wait until the local server has room for it.
const ROOM: Duration = Duration::from_secs(30);
/// A time limit that is as good as none.
const LONG: Duration = Duration::from_secs(365 * 86_400);

/// What the other side has said of a call.
#[derive(Debug)]
pub(super) struct Line {
    credit: AtomicI64,
    is_cancelled: AtomicBool,
    bell: Notify,
}

impl Line {
    pub(super) fn tell(&self, word: Word) {
        match word {
            Word::Cancel => self.is_cancelled.store(true, Ordering::Release),
            Word::Credit(bytes) => {
                // As much as a peer likes to say, and no more than a number holds.
                let add = |credit: i64| Some(credit.saturating_add(bytes.into()).min(u32::MAX.into()));
                let _ = self.credit.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
            }
        }
        self.bell.notify_one();
    }
}

/// A call in the register.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) serving: Arc<Serving>,
    pub(super) reply: String,
    pub(super) line: Arc<Line>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.serving.close(&self.reply);
    }
}

/// What a caller says besides its payload.
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

/// Takes what came. It is sent to the local server here, and not in a task of its own, so that the order remains.
pub(super) async fn take(serving: &Arc<Serving>, message: Message) {
    let received = Instant::now();
    let Some(reply) = message.reply.clone() else { return notify(serving, message).await };
    let msg_type = message::number(&message.subject);
    let begun = begin(serving, msg_type, &message, received).await;
    match begun {
        Ok((call, parts)) => drop(tokio::spawn(call.run(parts))),
        Err(failure) => {
            let last = Last::from(failure);
            count(serving, msg_type.unwrap_or_default(), &last, received);
            send_last(serving, &reply, 0, last).await;
        }
    }
}

async fn notify(serving: &Serving, message: Message) {
    let served =
        message::number(&message.subject).filter(|msg_type| serving.local.offer.types.contains(*msg_type));
    let (Some(msg_type), Ok(terms)) = (served, Terms::read(Told(message.headers.as_ref()))) else { return };
    let local = serving.local.of(terms.app).await;
    if let Err(error) = local.notify(msg_type, &message.payload).await {
        log::debug!("{}: a notify was not sent: {error}", message.subject);
    }
}

async fn begin(
    serving: &Arc<Serving>,
    msg_type: Option<u16>,
    message: &Message,
    received: Instant,
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
    let terms = Terms::read(Told(message.headers.as_ref())).map_err(|Malformed(header)| {
        Failure::new(ResultCode::MALFORMED, format!("the header {header} is none; not executed"))
    })?;
    let Ok(permit) = Arc::clone(&serving.room).try_acquire_owned() else {
        let text = format!("the bridge that serves {app} has as many calls as it takes; not executed");
        return Err(Failure::new(ResultCode::BUSY, text));
    };
    let reply = message.reply.as_ref().map(|reply| reply.as_str()).unwrap_or_default();
    let credit = AtomicI64::new(terms.credit.unwrap_or_default().into());
    let line = Line { credit, is_cancelled: AtomicBool::new(false), bell: Notify::new() };
    let taken = serving.open(reply, line).ok_or_else(|| {
        Failure::new(
            ResultCode::MALFORMED,
            "there is a call already whose reply goes to the same subject; not executed",
        )
    })?;
    let local = serving.local.of(terms.app).await;
    let deadline = terms.timeout.map(|timeout| received + timeout);
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
    let takes_parts = terms.credit.is_some();
    Ok((
        Call { taken, msg_type, received, deadline, takes_parts, sent: 0, is_told: false, _permit: permit },
        parts,
    ))
}

fn not_begun(app: &str, error: &Error) -> Failure {
    match error.executed() {
        Executed::Never if error.is_invalid_input() || error.is_full() => {
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
    taken: Taken,
    msg_type: u16,
    received: Instant,
    deadline: Option<Instant>,
    takes_parts: bool,
    /// Parts.
    sent: u32,
    /// The caller's side knows who has it.
    is_told: bool,
    _permit: OwnedSemaphorePermit,
}

impl Call {
    async fn run(mut self, parts: Parts) {
        let last = self.relay(parts).await;
        let Taken { serving, reply, .. } = &self.taken;
        count(serving, self.msg_type, &last, self.received);
        send_last(serving, reply, self.sent, last).await;
    }

    /// Parts, as far as there is credit, signs of life, and how it ends.
    async fn relay(&mut self, mut parts: Parts) -> Last {
        let line = Arc::clone(&self.taken.line);
        let mut sign = std::pin::pin!(tokio::time::sleep_until(self.received + FIRST_SIGN));
        let mut late =
            std::pin::pin!(tokio::time::sleep_until(self.deadline.unwrap_or(self.received + LONG)));
        loop {
            let may_come = self.sent == 0 || line.credit.load(Ordering::Acquire) > 0;
            tokio::select! {
                biased;
                () = line.bell.notified() => {
                    if line.is_cancelled.load(Ordering::Acquire) {
                        return Last::None;
                    }
                }
                part = parts.next(), if may_come => match part {
                    Some(Ok(part)) => {
                        if let Err(failure) = self.send_part(part).await {
                            return failure.into();
                        }
                    }
                    Some(Err(error)) => return self.ended_badly(&error),
                    None => {
                        let payload = parts.response().map(|response| response.payload().to_vec());
                        return Last::Reply(payload.unwrap_or_default());
                    }
                },
                () = &mut late => {
                    let text = "its time is over; it may have been executed";
                    return Failure::new(ResultCode::TIMED_OUT, text).into();
                }
                () = &mut sign => {
                    self.say_taken().await;
                    sign.as_mut().reset(Instant::now() + SIGN);
                }
            }
        }
    }

    fn ended_badly(&self, error: &Error) -> Last {
        match error.result_code() {
            Some(rc) => Last::Code(rc, error.payload().to_vec(), error.is_explanation()),
            None => lost(&self.taken.serving.app, error).into(),
        }
    }

    async fn send_part(&mut self, part: Vec<u8>) -> Result<(), Failure> {
        if !self.takes_parts {
            let text = format!(
                "the reply comes in parts, and there is no {CREDIT} for them; it may have been executed"
            );
            return Err(Failure::new(ResultCode::FEATURE_MISSING, text));
        }
        if !self.is_told {
            self.say_taken().await;
        }
        let cost = i64::try_from(part.len()).unwrap_or(i64::MAX).max(1);
        self.taken.line.credit.fetch_sub(cost, Ordering::AcqRel);
        let length = part.len();
        let headers = Headers::none().with(PART, self.sent);
        let Taken { serving, reply, .. } = &self.taken;
        match serving.broker.send(broker::message(reply, headers, part)).await {
            Ok(()) => {
                self.sent = self.sent.wrapping_add(1);
                Ok(())
            }
            Err(Unsent::TooLarge(limit)) => Err(too_large("a part of the reply", length, limit)),
            Err(why) => {
                Err(Failure::new(ResultCode::HANDLER_FAILED, format!("a part was not sent: {why:?}")))
            }
        }
    }

    async fn say_taken(&mut self) {
        self.is_told = true;
        let Taken { serving, reply, .. } = &self.taken;
        let headers = Headers::none().with(TAKEN, &serving.instance);
        let _ = serving.broker.send(broker::message(reply, headers, "")).await;
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
