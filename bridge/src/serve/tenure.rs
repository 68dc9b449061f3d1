//! The time in which a local server is there and its types are served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Args;
use super::call::{self, Line, Listed};
use super::discovery::Service;
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
    /// In KiB, of what calls have brought.
    pub(super) memory: Arc<Semaphore>,
    pub(super) subjects: Subjects,
    most: usize,
    /// Calls that we have said we have, by the last token of their lines.
    open: Mutex<HashMap<String, Arc<Line>>>,
}

pub(super) struct Tenure {
    serving: Arc<Serving>,
    streams: tokio::sync::Mutex<Streams>,
    _hearing: Hearing,
}

struct Streams {
    calls: Subscriber,
    asked: SelectAll<Subscriber>,
    events: events::Subscribed,
}

/// Ends when it is dropped.
struct Hearing(JoinHandle<()>);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What open calls may have brought along together.
const MEMORY_KIB: usize = 64 << 10;
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
        let app = args.broker.app.clone();
        let most = args.max_calls as usize;
        let service = Service::new(&app, instance, subjects);
        let asked = service.listen(broker).await?;
        let mut words = broker.subscribe(&subjects.lines(instance), None).await?;
        let calls = broker.subscribe(&subjects.calls(), Some(GROUP)).await?;
        let settled = subjects.line(&format!("{instance}.settled"));
        broker.settle(&mut words, &settled, &broker.client.new_inbox()).await?;
        // Before anybody hears that it is served: what is published behind that is published here.
        let events = events::subscribe(&local).await;
        say(&format!(
            "serving {app} at {}: {}, types {}, events {}",
            broker.name,
            local.endpoint(),
            local.offer.types,
            if local.offer.events.is_empty() { "none".into() } else { local.offer.events.to_string() },
        ));
        let serving = Serving {
            broker: broker.clone(),
            app,
            instance: instance.to_owned(),
            local,
            service,
            room: Arc::new(Semaphore::new(most)),
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
            subjects: subjects.clone(),
            most,
            open: Mutex::default(),
        };
        let (serving, streams) =
            (Arc::new(serving), tokio::sync::Mutex::new(Streams { calls, asked, events }));
        // In a task of its own: a call that waits for room with the local server must not hold up the words that make some.
        let hears = Arc::clone(&serving);
        let hearing = tokio::spawn(async move {
            while let Some(word) = words.next().await {
                hears.hear(&word);
            }
        });
        Ok(Tenure { serving, streams, _hearing: Hearing(hearing) })
    }

    /// Serves until the local server is gone, or something else ends it: not in the middle of taking a call.
    pub(super) async fn serve(&self, ended: impl Future<Output = Ended>) -> Ended {
        let Serving { broker, local, service, subjects, instance, .. } = &*self.serving;
        let mut streams = self.streams.lock().await;
        let Streams { calls, asked, events } = &mut *streams;
        let events = (local, std::mem::replace(events, Ok(None)));
        let mut events = std::pin::pin!(events::publish(broker, subjects, instance, events));
        let mut ended = std::pin::pin!(ended);
        let mut gone = std::pin::pin!(local.main.run());
        let mut answering = std::pin::pin!(service.answer(broker, &local.offer, asked));
        let mut is_answering = true;
        loop {
            tokio::select! {
                Some(message) = calls.next() => call::take(&self.serving, message).await,
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
    pub(super) async fn end(self, ended: &Ended) {
        let mut streams = self.streams.lock().await;
        let calls = &mut streams.calls;
        let _ = calls.drain().await;
        let leave = async {
            while let Some(message) = calls.next().await {
                match ended {
                    Ended::Stopped => call::take(&self.serving, message).await,
                    Ended::LocalGone(_) => self.serving.refuse(message, "its local server has gone"),
                    Ended::Failed(_) => self.serving.refuse(message, "the bridge that served it has ended"),
                }
            }
        };
        let _ = tokio::time::timeout(LEAVING, leave).await;
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
        let token = self.broker.unique();
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
    fn refuse(&self, message: Message, why: &str) {
        let Some(reply) = message.reply.filter(|reply| is_answerable(reply)) else { return };
        let text = format!("{} was not executed: {why}", self.app);
        let headers = Headers::none().with(RC, sidewire::ResultCode::BUSY.code()).with(TEXT, 1);
        let _ = self.broker.send_now(broker::message(&reply, headers, text));
    }
}
