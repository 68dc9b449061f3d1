//! The time in which a local server is there and its types are served.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{Message, StatusCode, Subject};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::timeout;

use super::Args;
use super::discovery::{self, Question, Service};
use super::events;
use super::intake::{Intake, Leave, Signals};
use super::local::Local;
use super::relay::{Line, Listed};
use super::room::Room;
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
    pub(super) room: Arc<Room>,
    pub(super) subjects: Subjects,
    tokens: Tokens,
    /// Calls that we have said we have, by the last token of their lines.
    open: Mutex<HashMap<String, Arc<Line>>>,
}

pub(super) struct Tenure {
    serving: Arc<Serving>,
    questions: mpsc::Receiver<Question>,
    events: events::Subscribed,
    /// Says to the [`Intake`] that calls are to be taken; that we leave; and hears when none are taken any more.
    begin: Option<oneshot::Sender<()>>,
    leave: oneshot::Sender<Leave>,
    over: oneshot::Receiver<()>,
    _tasks: [Task; 3],
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

/// What was taken has so long to be answered when we leave.
const GRACE: Duration = Duration::from_secs(5);
/// For what is to leave with us.
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
        let ((begin, begun), (leave, left)) = (oneshot::channel(), oneshot::channel());
        let (is_over, over) = oneshot::channel();
        let signals = Signals { begin: begun, leave: left, over: is_over };
        let taking = Task::spawn(Intake::run(Arc::clone(&serving), calls, signals));
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
        let tasks = [asking, taking, hearing];
        Ok(Tenure { serving, questions, events, begin: Some(begin), leave, over, _tasks: tasks })
    }

    /// Serves until the local server is gone, or something else ends it.
    pub(super) async fn serve(&mut self, ended: impl Future<Output = Ended>) -> Ended {
        let Serving { broker, local, service, subjects, instance, .. } = &*self.serving;
        let events = (local, std::mem::replace(&mut self.events, Ok(None)));
        // Whoever does that is gone only where nothing is served any more.
        let _ = self.begin.take().map(|begin| begin.send(()));
        tokio::select! {
            ended = ended => ended,
            result = local.main.run() => Ended::LocalGone(match result {
                Ok(()) => format!("{}: the connection has ended", local.endpoint()),
                Err(error) => error.to_string(),
            }),
            why = events::publish(broker, subjects, instance, events) => Ended::LocalGone(why),
            _ = &mut self.over => Ended::Failed("calls are not taken any more".into()),
            never = service.answer(broker, &local.offer, &mut self.questions) => match never {},
        }
    }

    /// Leaves: others get what is sent from now on, and what was taken is answered as far as that goes.
    pub(super) async fn end(self, ended: &Ended) {
        let refusal = match ended {
            Ended::Stopped => None,
            Ended::LocalGone(_) => Some("its local server has gone"),
            Ended::Failed(_) => Some("the bridge that served it has ended"),
        };
        let _ = self.leave.send(Leave { refusal });
        if !self.over.is_terminated() {
            // That has limits of its own.
            let _ = self.over.await;
        }
        let room = &self.serving.room;
        if timeout(GRACE, room.emptied()).await.is_err() {
            log::warn!("{}: left before all calls that were taken were answered", self.serving.app);
            // Those that wait for a slow reader would wait for ever, since nobody hears its credit when we have left.
            self.serving.lines().values().for_each(|line| line.lose());
            let _ = timeout(LEAVING, room.emptied()).await;
        }
        self.serving.local.close().await;
        if timeout(LEAVING, self.serving.broker.client.flush()).await.is_err() {
            log::warn!("{}: left before all that was to be sent had gone to the broker", self.serving.app);
        }
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
            room: Room::for_calls(most),
            subjects: subjects.clone(),
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
    pub(super) async fn refuse(&self, reply: Option<Subject>, why: &str) {
        let Some(refusal) = self.refusal(reply, why) else { return };
        if let Err(why) = self.broker.send(refusal).await {
            log::debug!("that a call is refused was not sent: {why:?}");
        }
    }

    /// The same, unless too much waits for the broker already.
    pub(super) fn refuse_now(&self, reply: Option<Subject>, why: &str) {
        let Some(refusal) = self.refusal(reply, why) else { return };
        if let Err(why) = self.broker.send_now(refusal) {
            log::debug!("that a call is refused was not sent: {why:?}");
        }
    }

    fn refusal(&self, reply: Option<Subject>, why: &str) -> Option<OutboundMessage> {
        let reply = reply.filter(|reply| is_answerable(reply))?;
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
