//! The calls that are open: who waits for what, who has them, and when they count as lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use sidewire::{Failure, ReplyStream, ResultCode};

use super::answering::{Answering, Backlog, Final, Handed};
use crate::Result;
use crate::broker::{self, Broker};
use crate::message::{Headers, Malformed, PART, RC, Subjects, TAKEN, TEXT, Told, Word, cost, is_line};

/// What all open calls may be together, and how long nothing may be heard of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) silence: Duration,
    pub(super) calls: usize,
    pub(super) bytes: usize,
}

/// What parts of a reply may come ahead, in bytes.
pub(super) const AHEAD: u32 = 256 << 10;

#[derive(Debug)]
pub(super) struct Calls {
    broker: Broker,
    subjects: Subjects,
    /// Replies go to subjects below this one.
    inbox: String,
    bounds: Bounds,
    next: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    calls: HashMap<u64, Call>,
    bytes: usize,
}

#[derive(Debug)]
struct Call {
    waits: Waits,
    /// Of its request.
    bytes: usize,
    /// Where whoever has the call hears of it, once that is said.
    line: Option<String>,
    heard: Instant,
    next_part: u32,
    /// What parts may still come, and what the caller's side has taken, in bytes.
    credit: i64,
    taken: u64,
    backlog: Backlog,
}

/// Who waits for it.
#[derive(Debug)]
enum Waits {
    Here(Answering),
    /// The caller is slow, and what has come waits: the stream comes back when it is ready, or it is being handed to.
    Slowly,
    /// Nobody any more; whoever has the call is told as soon as we know who that is.
    Nobody,
}

/// A message about a call.
enum News {
    /// With how many parts have been sent.
    Taken(String, Option<u32>),
    Part(u32, Vec<u8>),
    Final(u32, Final),
}

impl Calls {
    /// With what brings the replies.
    pub(super) async fn open(
        broker: &Broker,
        subjects: &Subjects,
        bounds: Bounds,
    ) -> Result<(Arc<Calls>, Subscriber)> {
        let inbox = broker.client.new_inbox();
        let replies = broker.subscribe(&format!("{inbox}.*"), None).await?;
        let calls = Calls {
            broker: broker.clone(),
            subjects: subjects.clone(),
            inbox,
            bounds,
            next: AtomicU64::new(1),
            open: Mutex::default(),
        };
        Ok((Arc::new(calls), replies))
    }

    /// Where the reply to a call is to go.
    pub(super) fn subject(&self, id: u64) -> String {
        [&self.inbox, ".", &id.to_string()].concat()
    }

    /// Takes a call that is about to be sent.
    ///
    /// # Errors
    /// There are too many, or they have brought too much.
    pub(super) fn begin(&self, answering: Answering, bytes: usize) -> std::result::Result<u64, Failure> {
        let Bounds { calls, bytes: most, .. } = self.bounds;
        let mut open = self.lock();
        if open.calls.len() >= calls || (open.bytes + bytes > most && open.bytes > 0) {
            let text = format!(
                "{} calls with {} bytes are open on this bridge, which takes {calls} with {most}; not executed",
                open.calls.len(),
                open.bytes
            );
            drop(open);
            return Err(Failure::new(ResultCode::BUSY, text));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        open.bytes += bytes;
        let (waits, heard) = (Waits::Here(answering), Instant::now());
        let (credit, backlog) = (AHEAD.into(), Backlog::default());
        let call = Call { waits, bytes, line: None, heard, next_part: 0, credit, taken: 0, backlog };
        open.calls.insert(id, call);
        Ok(id)
    }

    /// It was not sent.
    pub(super) fn forget(&self, id: u64) {
        let call = self.lock().remove(id);
        drop(call);
    }

    /// Nobody waits for it any more.
    pub(super) fn unwanted(&self, id: u64) {
        let mut open = self.lock();
        let Some(call) = open.calls.get_mut(&id) else { return };
        let waited = std::mem::replace(&mut call.waits, Waits::Nobody);
        call.backlog = Backlog::default();
        if call.line.is_some() {
            let call = open.remove(id);
            drop(open);
            self.cancel(call.and_then(|call| call.line));
        } else {
            drop(open);
        }
        drop(waited);
    }

    /// Hands on what comes, until the subscription ends.
    pub(super) async fn take_replies(self: Arc<Calls>, mut replies: Subscriber) {
        while let Some(message) = replies.next().await {
            let id = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
            if let Some(id) = id {
                self.take(id, message);
            }
        }
    }

    fn take(self: &Arc<Calls>, id: u64, message: Message) {
        let news = match self.read(message) {
            Ok(news) => news,
            Err(Malformed(header)) => {
                let text = format!("the reply has a header {header} that is none; it may have been executed");
                News::Final(0, Final::Failure(Failure::new(ResultCode::MALFORMED, text)))
            }
        };
        let mut open = self.lock();
        let Some(call) = open.calls.get_mut(&id) else {
            drop(open);
            // Whoever still works on it has not heard that nobody waits.
            if let News::Taken(line, _) = news {
                self.cancel(Some(line));
            }
            return;
        };
        call.heard = Instant::now();
        match news {
            News::Taken(_, Some(number)) | News::Part(number, _) | News::Final(number, Final::Reply(..))
                if number != call.next_part && !matches!(call.waits, Waits::Nobody) =>
            {
                let text = "a part of the reply was lost on the way; it may have been executed";
                self.fail(open, id, Failure::new(ResultCode::TIMED_OUT, text));
            }
            News::Taken(line, _) => {
                let word = match call.waits {
                    Waits::Nobody => Some(Word::Cancel),
                    // Perhaps it has not heard of that yet.
                    _ => (call.taken > 0).then_some(Word::Credit(call.taken)),
                };
                call.line = Some(line.clone());
                if word == Some(Word::Cancel) {
                    open.remove(id);
                }
                drop(open);
                if let Some(word) = word {
                    self.tell(&line, word);
                }
            }
            News::Part(..) if call.credit <= 0 => {
                let text = "more parts came than were asked for; it may have been executed";
                self.fail(open, id, Failure::new(ResultCode::MALFORMED, text));
            }
            News::Part(_, part) => {
                call.next_part = call.next_part.wrapping_add(1);
                call.credit -= i64::from(cost(part.len()));
                call.backlog.push(part);
                self.hand_on(open, id);
            }
            News::Final(_, last) => match call.waits {
                // As most end.
                Waits::Here(_) if call.backlog.is_empty() => {
                    let call = open.remove(id);
                    drop(open);
                    if let Some(Call { waits: Waits::Here(answering), .. }) = call {
                        answering.end(last);
                    }
                }
                _ => {
                    call.backlog.end(last);
                    self.hand_on(open, id);
                }
            },
        }
    }

    fn read(&self, message: Message) -> std::result::Result<News, Malformed> {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            let text = format!("nobody serves this at {}; not executed", self.broker.name);
            return Ok(News::Final(0, Final::Failure(Failure::new(ResultCode::BUSY, text))));
        }
        let told = Told(message.headers.as_ref());
        let part = told.number::<u32>(PART)?;
        if let Some(line) = told.text(TAKEN) {
            return if is_line(line) {
                Ok(News::Taken(line.to_owned(), part))
            } else {
                Err(Malformed(TAKEN))
            };
        }
        let rc = told.number::<i32>(RC)?;
        let payload = Vec::from(message.payload);
        Ok(match (part, rc) {
            (Some(number), None) => News::Part(number, payload),
            (number, rc) => {
                let rc = ResultCode::new(rc.unwrap_or_default());
                let last = match told.text(TEXT) {
                    Some(_) if !rc.is_ok() => {
                        Final::Failure(Failure::new(rc, String::from_utf8_lossy(&payload)))
                    }
                    _ => Final::Reply(rc, payload),
                };
                News::Final(number.unwrap_or_default(), last)
            }
        })
    }

    /// Hands on what waits, and asks for as much again as the caller's side has taken.
    fn hand_on(self: &Arc<Calls>, mut open: MutexGuard<'_, Open>, id: u64) {
        let Some(call) = open.calls.get_mut(&id) else { return };
        match std::mem::replace(&mut call.waits, Waits::Slowly) {
            Waits::Here(Answering::Parts(stream)) => self.hand_to(open, id, stream),
            Waits::Here(Answering::Whole(responder)) => {
                let last = call.backlog.take_last();
                let call = open.remove(id);
                drop(open);
                Answering::Whole(responder).end(last);
                drop(call);
            }
            Waits::Slowly => {}
            Waits::Nobody => {
                if call.backlog.has_ended() {
                    open.remove(id);
                } else {
                    call.waits = Waits::Nobody;
                    call.backlog = Backlog::default();
                }
            }
        }
    }

    fn hand_to(self: &Arc<Calls>, mut open: MutexGuard<'_, Open>, id: u64, stream: ReplyStream) {
        let Some(call) = open.calls.get_mut(&id) else { return };
        let (stream, is_slow, taken) = match call.backlog.hand_on(stream) {
            Handed::Ended => {
                let call = open.remove(id);
                drop(open);
                drop(call);
                return;
            }
            Handed::All(stream, taken) => (stream, false, taken),
            Handed::Slow(stream, taken) => (stream, true, taken),
        };
        call.credit += i64::from(taken);
        call.taken += u64::from(taken);
        let (all, line) = (call.taken, call.line.clone());
        if is_slow {
            drop(open);
            // It may be ready at once, and is called here then.
            let calls = Arc::clone(self);
            stream.on_ready(move |stream| calls.ready(id, stream));
        } else {
            call.waits = Waits::Here(Answering::Parts(stream));
            drop(open);
        }
        if let Some(line) = line.filter(|_| taken > 0) {
            self.tell(&line, Word::Credit(all));
        }
    }

    /// The caller takes more.
    fn ready(self: &Arc<Calls>, id: u64, stream: ReplyStream) {
        let open = self.lock();
        match open.calls.get(&id) {
            Some(call) if matches!(call.waits, Waits::Slowly) => self.hand_to(open, id, stream),
            _ => drop(open),
        }
    }

    /// Ends a call that went wrong on its way.
    fn fail(&self, mut open: MutexGuard<'_, Open>, id: u64, failure: Failure) {
        if let Some(call) = open.calls.get_mut(&id)
            && matches!(call.waits, Waits::Slowly)
        {
            // Its stream says so when it comes back.
            call.backlog.fail(failure);
            call.heard = Instant::now();
            let line = call.line.clone();
            drop(open);
            return self.cancel(line);
        }
        let Some(mut call) = open.remove(id) else { return };
        drop(open);
        if let Waits::Here(answering) = std::mem::replace(&mut call.waits, Waits::Nobody) {
            answering.end(Final::Failure(failure));
        }
        self.cancel(call.line);
    }

    fn cancel(&self, line: Option<String>) {
        if let Some(line) = line {
            self.tell(&line, Word::Cancel);
        }
    }

    /// Tells whoever has a call. Who did not hear it is told again with its next sign of life.
    fn tell(&self, line: &str, word: Word) {
        let subject = self.subjects.line(line);
        if let Err(why) = self.broker.send_now(broker::message(&subject, Headers::none(), word.to_string())) {
            log::debug!("{subject}: {word:?} was not sent: {why:?}");
        }
    }

    /// Answers calls of which nothing was heard for too long.
    pub(super) async fn watch_for_silence(self: Arc<Calls>) {
        let mut ticks = tokio::time::interval(self.bounds.silence.min(Duration::from_secs(1)) / 4);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let silent: Vec<u64> = {
                let open = self.lock();
                // Of what has come whole nothing more is to be heard, however slow its reader is.
                let is_silent =
                    |call: &Call| !call.backlog.has_ended() && call.heard.elapsed() >= self.bounds.silence;
                let silent = open.calls.iter().filter(|(_, call)| is_silent(call));
                silent.map(|(id, _)| *id).collect()
            };
            for id in silent {
                let text = format!(
                    "nothing was heard of it from {} for {:?}; it may have been executed",
                    self.broker.name, self.bounds.silence
                );
                self.fail(self.lock(), id, Failure::new(ResultCode::TIMED_OUT, text));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn remove(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        self.bytes -= call.bytes;
        Some(call)
    }
}
