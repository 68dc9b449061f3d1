//! A call in a task of its own: one that lasts longer, or whose reply comes in parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sidewire::{Failure, ResultCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::{Call, Came, Last, too_large};
use super::tenure::Serving;
use crate::broker::{self, Unsent};
use crate::message::{self, CREDIT, Headers, PART, SIGN, TAKEN, Word};

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

/// What its task knows of it.
#[derive(Debug)]
pub(super) struct Relay {
    serving: Arc<Serving>,
    call: Call,
    /// Parts, and what they have cost.
    sent: u32,
    spent: u64,
    line: Arc<Line>,
    /// From the first sign of life on.
    listed: Option<Listed>,
}

impl Relay {
    pub(super) fn of(call: Call, serving: Arc<Serving>) -> Relay {
        Relay { serving, call, sent: 0, spent: 0, line: Arc::default(), listed: None }
    }

    /// To its end, from what has come of it already.
    pub(super) async fn run(mut self, came: Option<Came>) {
        let last = self.relay(came).await;
        let Relay { serving, call, sent, .. } = self;
        call.end(&serving, sent, last).await;
    }

    /// Parts, as far as there is credit, signs of life, and how it ends.
    async fn relay(&mut self, mut came: Option<Came>) -> Last {
        let line = Arc::clone(&self.line);
        let late = self.call.deadline.unwrap_or(self.call.received + LONG);
        let sign = if self.call.credit.is_some() { self.call.first_sign() } else { late };
        let mut clock = std::pin::pin!(tokio::time::sleep_until(sign.min(late)));
        loop {
            let has_credit = self.has_credit();
            let next = match came.take() {
                Some(came) => came,
                None => tokio::select! {
                    biased;
                    () = line.bell.notified() => {
                        if line.is_cancelled.load(Ordering::Acquire) {
                            return Last::None;
                        }
                        if line.is_lost.load(Ordering::Acquire) {
                            return self.left().into();
                        }
                        continue;
                    }
                    () = &mut clock => {
                        let now = Instant::now();
                        if now >= late {
                            let text = "its time is over; it may have been executed";
                            return Failure::new(ResultCode::TIMED_OUT, text).into();
                        }
                        if self.call.credit.is_some() {
                            self.say_taken().await;
                        }
                        clock.as_mut().reset(late.min(now + SIGN));
                        continue;
                    }
                    part = self.call.parts.next(), if has_credit => part,
                },
            };
            let part = match next {
                Some(Ok(part)) => part,
                ended => return self.call.last(&self.serving, &ended),
            };
            if let Err(failure) = self.send_part(part).await {
                return failure.into();
            }
        }
    }

    /// Whether the next part may come. Where none has come it may be the end, which costs nothing.
    fn has_credit(&self) -> bool {
        let ahead = u64::from(self.call.credit.unwrap_or_default());
        self.sent == 0 || self.spent < self.line.taken.load(Ordering::Acquire).saturating_add(ahead)
    }

    /// We leave before it has ended.
    fn left(&self) -> Failure {
        let text = format!("{} is not served here any more; it may have been executed", self.serving.app);
        Failure::new(ResultCode::HANDLER_FAILED, text)
    }

    async fn send_part(&mut self, part: Vec<u8>) -> Result<(), Failure> {
        if self.call.credit.unwrap_or_default() == 0 {
            let text = format!(
                "the reply comes in parts, and there is no {CREDIT} for them; it may have been executed"
            );
            return Err(Failure::new(ResultCode::FEATURE_MISSING, text));
        }
        if self.listed.is_none() {
            self.say_taken().await;
        }
        let length = part.len();
        let headers = Headers::none().with(PART, self.sent);
        match self.serving.broker.send(broker::message(&self.call.reply, headers, part)).await {
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
    async fn say_taken(&mut self) {
        let Relay { serving, call, line, listed, sent, .. } = self;
        let listed = listed.get_or_insert_with(|| serving.list(line));
        let line = format!("{}.{}", serving.instance, listed.token);
        let subject = serving.subjects.line(&line);
        let headers = Headers::none().with(TAKEN, line).with(PART, *sent);
        let mut message = broker::message(&call.reply, headers, "");
        message.reply = Some(subject.into());
        let _ = serving.broker.send(message).await;
    }
}
