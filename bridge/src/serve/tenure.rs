//! The time in which a local server is there and its types are served.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{Message, StatusCode};
use futures_util::StreamExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::Instant;

use super::Args;
use super::call::{self, Admitted, Line, Listed};
use super::discovery::{self, Question, Service};
use super::events;
use super::local::Local;
use crate::broker::{self, Broker};
use crate::message::{Headers, RC, Subjects, TEXT, Word, is_answerable};
use crate::{Result, say};

/// The queue group of all who serve an app.
pub(super) const GROUP: &str = "sidewire";

/// Why one ended.
pub(super) enum Ended {
    LocalGone(String),
    Stopped,
    Failed(String),
}

/// What those share who work on calls.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) broker: Broker,
    pub(super) app: String,
    pub(super) instance: String,
    pub(super) local: Local,
    pub(super) service: Service,
    pub(super) room: Arc<Semaphore>,
    /// In KiB, of what has come and is not done.
    pub(super) memory: Arc<Semaphore>,
    pub(super) subjects: Subjects,
    most: usize,
    tokens: Tokens,
    /// Calls that we have said we have, by the last token of their lines.
    open: Mutex<HashMap<String, Arc<Line>>>,
}

pub(super) struct Tenure {
    serving: Arc<Serving>,
    streams: tokio::sync::Mutex<Streams>,
    /// Says to those who let in calls that we leave.
    leaving: Option<oneshot::Sender<()>>,
    _tasks: [Task; 3],
}

struct Streams {
    calls: mpsc::UnboundedReceiver<Admitted>,
    questions: mpsc::Receiver<Question>,
    events: events::Subscribed,
}

/// One that takes all that has come before more is read. Ends when it is dropped.
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(unconstrained(work)))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Last tokens of lines. Whoever has heard some of them guesses no other: words to it would be obeyed.
#[derive(Debug, Default)]
struct Tokens {
    next: AtomicU64,
    /// From random bytes of the system.
    key: RandomState,
}

impl Tokens {
    fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{number:x}x{:016x}", self.key.hash_one(number))
    }
}

/// What has come and is not done may have brought so much along, in all.
const MEMORY_KIB: usize = 64 << 10;
/// Calls are taken for so long in one go, before all else is looked at.
const TURN: Duration = Duration::from_millis(5);
/// What was taken has so long to be answered when we leave.
const GRACE: Duration = Duration::from_secs(5);
/// For what comes while the broker is told that we leave.
const LEAVING: Duration = Duration::from_secs(1);

impl Tenure {
    /// From here on calls come.
    pub(super) async fn begin(
        args: &Args,
        broker: &Broker,
        subjects: &Subjects,
        instance: &str,
        local: Local,
    ) -> Result<Tenure> {
        let serving = Arc::new(Serving::new(args, broker, subjects, instance, local));
        // In tasks of their own from the beginning, so that no more waits than has a bound: a call that waits for room with the
        // local server must not hold up the words that make some, and the local server not what anybody asks of us.
        let (asked, questions) = mpsc::channel(discovery::WAITING_QUESTIONS);
        let heard = serving.service.listen(broker).await?;
        let asking = Task::spawn(discovery::hear(heard, asked));
        let mut words = broker.subscribe(&subjects.lines(instance), None).await?;
        let calls = broker.subscribe(&subjects.calls(), Some(GROUP)).await?;
        let ((admitted, taking), (leaving, left)) = (mpsc::unbounded_channel(), oneshot::channel());
        let admitting = Task::spawn(call::admit(Arc::clone(&serving), calls, admitted, left));
        let settled = subjects.line(&format!("{instance}.settled"));
        broker.settle(&mut words, &settled, &broker.client.new_inbox()).await?;
        let hears = Arc::clone(&serving);
        let hearing = Task::spawn(async move {
            while let Some(word) = words.next().await {
                hears.hear(&word);
            }
        });
        let Serving { app, local, .. } = &*serving;
        // Before anybody hears that it is served: what is published behind that is published here.
        let events = events::subscribe(local).await;
        say(&format!(
            "serving {app} at {}: {}, types {}, events {}",
            broker.name,
            local.endpoint(),
            local.offer.types,
            if local.offer.events.is_empty() { "none".into() } else { local.offer.events.to_string() },
        ));
        let streams = tokio::sync::Mutex::new(Streams { calls: taking, questions, events });
        let tasks = [asking, admitting, hearing];
        Ok(Tenure { serving, streams, leaving: Some(leaving), _tasks: tasks })
    }

    /// Serves until the local server is gone, or something else ends it: not in the middle of taking a call.
    pub(super) async fn serve(&self, ended: impl Future<Output = Ended>) -> Ended {
        let Serving { broker, local, service, subjects, instance, .. } = &*self.serving;
        let mut streams = self.streams.lock().await;
        let Streams { calls, questions, events } = &mut *streams;
        let events = (local, std::mem::replace(events, Ok(None)));
        let mut events = std::pin::pin!(events::publish(broker, subjects, instance, events));
        let mut ended = std::pin::pin!(ended);
        let mut gone = std::pin::pin!(local.main.run());
        let mut answering = std::pin::pin!(service.answer(broker, &local.offer, questions));
        let mut is_answering = true;
        loop {
            tokio::select! {
                Some(admitted) = calls.recv() => {
                    let begun = Instant::now();
                    call::take(&self.serving, admitted).await;
                    while begun.elapsed() < TURN && let Ok(admitted) = calls.try_recv() {
                        call::take(&self.serving, admitted).await;
                    }
                }
                ended = &mut ended => return ended,
                result = &mut gone => return Ended::LocalGone(match result {
                    Ok(()) => format!("{}: the connection has ended", local.endpoint()),
                    Err(error) => error.to_string(),
                }),
                why = &mut events => return Ended::LocalGone(why),
                () = &mut answering, if is_answering => is_answering = false,
            }
        }
    }

    /// Leaves: others get what is sent from now on, and what was taken is answered as far as that goes.
    pub(super) async fn end(mut self, ended: &Ended) {
        drop(self.leaving.take());
        let mut streams = self.streams.lock().await;
        let calls = &mut streams.calls;
        let end = Instant::now() + LEAVING;
        while Instant::now() < end
            && let Ok(Some(admitted)) = tokio::time::timeout_at(end, calls.recv()).await
        {
            let why = match ended {
                Ended::Stopped => {
                    call::take(&self.serving, admitted).await;
                    continue;
                }
                Ended::LocalGone(_) => "its local server has gone",
                Ended::Failed(_) => "the bridge that served it has ended",
            };
            // The broker may take nothing any more.
            let _ = tokio::time::timeout_at(end, admitted.refuse(&self.serving, why)).await;
        }
        calls.close();
        let refuse = async {
            while let Some(admitted) = calls.recv().await {
                admitted.refuse(&self.serving, "the bridge that served it has ended").await;
            }
        };
        let _ = tokio::time::timeout(LEAVING, refuse).await;
        let all = u32::try_from(self.serving.most).unwrap_or(u32::MAX);
        if tokio::time::timeout(GRACE, self.serving.room.acquire_many(all)).await.is_err() {
            log::warn!("{}: left before all calls that were taken were answered", self.serving.app);
            // Those that wait for a slow reader would wait for ever, since nobody hears its credit when we have left.
            self.serving.lines().values().for_each(|line| line.lose());
            let _ = tokio::time::timeout(LEAVING, self.serving.room.acquire_many(all)).await;
        }
        self.serving.local.close().await;
        let _ = tokio::time::timeout(LEAVING, self.serving.broker.client.flush()).await;
    }
}

impl Serving {
    fn new(args: &Args, broker: &Broker, subjects: &Subjects, instance: &str, local: Local) -> Serving {
        let (app, most) = (args.broker.app.clone(), args.max_calls as usize);
        Serving {
            broker: broker.clone(),
            service: Service::new(&app, instance, subjects),
            app,
            instance: instance.to_owned(),
            local,
            room: Arc::new(Semaphore::new(most)),
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
            subjects: subjects.clone(),
            most,
            tokens: Tokens::default(),
            open: Mutex::default(),
        }
    }

    /// What the other side says of a call, or the broker, where that side is gone.
    fn hear(&self, message: &Message) {
        let word = match message.status {
            Some(StatusCode::NO_RESPONDERS) => Some(Word::Cancel),
            _ => Word::parse(&message.payload),
        };
        let token = message.subject.rsplit('.').next().unwrap_or_default();
        let line = self.lines().get(token).cloned();
        match (line, word) {
            (Some(line), Some(word)) => line.tell(word),
            _ => log::debug!("{}: {word:?} about a call that is not here", message.subject),
        }
    }

    /// Lists a call, of which words may come until that is dropped.
    pub(super) fn list(self: &Arc<Serving>, line: &Arc<Line>) -> Listed {
        let token = self.tokens.next();
        self.lines().insert(token.clone(), Arc::clone(line));
        Listed { serving: Arc::clone(self), token }
    }

    pub(super) fn unlist(&self, token: &str) {
        self.lines().remove(token);
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Line>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers busy (-6), not executed.
    pub(super) async fn refuse(&self, message: Message, why: &str) {
        let Some(refusal) = self.refusal(message, why) else { return };
        if let Err(why) = self.broker.send(refusal).await {
            log::debug!("that a call is refused was not sent: {why:?}");
        }
    }

    /// The same, unless too much waits for the broker already.
    pub(super) fn refuse_now(&self, message: Message, why: &str) {
        let Some(refusal) = self.refusal(message, why) else { return };
        if let Err(why) = self.broker.send_now(refusal) {
            log::debug!("that a call is refused was not sent: {why:?}");
        }
    }

    fn refusal(&self, message: Message, why: &str) -> Option<OutboundMessage> {
        let reply = message.reply.filter(|reply| is_answerable(reply))?;
        let text = format!("{} was not executed: {why}", self.app);
        let headers = Headers::none().with(RC, sidewire::ResultCode::BUSY.code()).with(TEXT, 1);
        Some(broker::message(&reply, headers, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::is_line;

    #[test]
    fn one_token_says_nothing_of_another() {
        let (one, other) = (Tokens::default(), Tokens::default());
        let tokens: Vec<String> = (0..100).flat_map(|_| [one.next(), other.next()]).collect();
        assert!(tokens.iter().all(|token| is_line(&format!("a.{token}"))));
        let secrets = tokens.iter().filter_map(|token| token.split_once('x')).map(|(_, secret)| secret);
        let secrets: std::collections::HashSet<&str> = secrets.collect();
        assert_eq!(secrets.len(), 200, "the same number has another secret at another instance");
    }
}
