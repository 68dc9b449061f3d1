//! The connection to the broker.

use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::client::traits::Publisher;
use async_nats::connection::State;
use async_nats::message::OutboundMessage;
use async_nats::{Client, Event, ServerError, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sidewire_platform::Tally;
use tokio::sync::watch;

use crate::Result;
use crate::message::Headers;
use crate::options::BrokerOptions;

/// A connection that the client crate keeps, and makes anew where it is lost.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) client: Client,
    /// For people.
    pub(crate) name: String,
    news: watch::Receiver<News>,
}

/// How long the broker may take to say that nobody has something, and how often it is asked in vain.
const SETTLE: Duration = Duration::from_secs(1);
const SETTLE_TRIES: u32 = 2;

/// What became of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// How often it was made.
    pub(crate) connected: u64,
    /// Why it is of no more use.
    end: Option<String>,
}

/// How the broker's words begin that we do not hear what we have to. The first one names the subject.
const UNHEARD: [&str; 2] = ["Permissions Violation for Subscription to ", "maximum subscriptions exceeded"];

/// Why something was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// More than the broker takes, which is so many bytes with the headers.
    TooLarge(usize),
    /// There is no connection at the moment.
    Away,
    /// Too much waits for it already.
    Full,
}

impl Broker {
    /// Connects. So many messages of each subscription may wait to be looked at.
    ///
    /// # Errors
    /// If nobody is there, or does not want us; a lost connection later is none.
    pub(crate) async fn connect(options: &BrokerOptions, waiting: usize) -> Result<Broker> {
        let name = options.name();
        let (told, news) = watch::channel(News::default());
        let (place, often) = (name.clone(), Often::default());
        let connect = options.options(waiting).await?.event_callback(move |event| {
            tell(&told, &place, &event, &often);
            std::future::ready(())
        });
        let client = connect.connect(options.urls()).await;
        let client = client.map_err(|error| format!("connect to {name}: {error}"))?;
        Ok(Broker { client, name, news })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Whoever wants to hear of it.
    pub(crate) fn news(&self) -> watch::Receiver<News> {
        self.news.clone()
    }

    /// Until the connection is of no more use: it has ended for good, or we lack the right to hear what we have to.
    pub(crate) async fn closed(&self) -> String {
        let mut news = self.news();
        let end = news.wait_for(|news| news.end.is_some()).await;
        match end.map(|news| news.end.clone().unwrap_or_default()) {
            Ok(why) => format!("{}: {why}", self.name),
            Err(_) => std::future::pending().await,
        }
    }

    /// Puts a message into the client's queue, if there is a connection, and room.
    ///
    /// # Errors
    /// Nothing of it will be sent.
    pub(crate) fn send_now(&self, message: OutboundMessage) -> std::result::Result<(), Unsent> {
        if !self.is_connected() {
            return Err(Unsent::Away);
        }
        self.try_send(message)
    }

    /// The same, though it may have to wait there for a connection.
    ///
    /// # Errors
    /// Nothing of it will be sent.
    pub(crate) fn try_send(&self, message: OutboundMessage) -> std::result::Result<(), Unsent> {
        // Unconstrained: a task that has done much in its turn would otherwise find the queue full, since Tokio would have it rest.
        match tokio::task::unconstrained(self.client.publish_message(message)).now_or_never() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.unsent(&error)),
            None => Err(Unsent::Full),
        }
    }

    /// The same, and waits for room.
    pub(crate) async fn send(&self, message: OutboundMessage) -> std::result::Result<(), Unsent> {
        self.client.publish_message(message).await.map_err(|error| self.unsent(&error))
    }

    fn unsent(&self, error: &async_nats::PublishError) -> Unsent {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Unsent::TooLarge(self.client.max_payload()),
            _ => Unsent::Away,
        }
    }

    /// Waits until the broker knows all subscriptions that were made before: it is asked for what nobody has, and says so at
    /// a subject of this one. (The client's own `flush` waits until they were sent.) Where somebody hears everything, as
    /// `nats sub '>'` does, there is nothing that nobody has: then the time that was waited has to do.
    ///
    /// # Errors
    /// The connection has ended for good, or one of those subscriptions was refused.
    pub(crate) async fn settle(&self, heard: &mut Subscriber, reply: &str, nobody: &str) -> Result<()> {
        let mut silent = 0;
        while silent < SETTLE_TRIES {
            let mut question = message(nobody, Headers::none(), "");
            question.reply = Some(reply.into());
            let is_asked = self.send_now(question).is_ok();
            match tokio::time::timeout(SETTLE, heard.next()).await {
                Ok(Some(_)) => return self.check_rights().await,
                Ok(None) => return Err(format!("{}: the connection has ended", self.name)),
                // A broker that is away is waited for.
                Err(_) if is_asked && self.is_connected() => silent += 1,
                Err(_) => {}
            }
        }
        self.check_rights().await?;
        log::warn!(
            "{}: the broker does not say that nobody has {nobody}: either somebody hears everything there, and where nobody serves an \
             app callers wait as long as for silence, or we lack the right to ask",
            self.name
        );
        Ok(())
    }

    /// Behind an answer of the broker, which has said before what we may not hear.
    async fn check_rights(&self) -> Result<()> {
        // The client tells of that in a task of its own, which was woken before we were.
        tokio::task::yield_now().await;
        self.closed().now_or_never().map_or(Ok(()), Err)
    }

    /// Subscribes, and sends that.
    pub(crate) async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscriber> {
        let failed = |error: String| format!("subscribe to {subject} at {}: {error}", self.name);
        let subscriber = match group {
            None => self.client.subscribe(subject.to_owned()).await,
            Some(group) => self.client.queue_subscribe(subject.to_owned(), group.to_owned()).await,
        };
        let subscriber = subscriber.map_err(|error| failed(error.to_string()))?;
        self.client.flush().await.map_err(|error| failed(error.to_string()))?;
        Ok(subscriber)
    }

    /// A name that nobody else has.
    pub(crate) fn unique(&self) -> String {
        self.client.new_inbox().rsplit('.').next().unwrap_or_default().to_owned()
    }
}

/// A message to be sent.
pub(crate) fn message(subject: &str, headers: Headers, payload: impl Into<Bytes>) -> OutboundMessage {
    OutboundMessage {
        subject: subject.into(),
        reply: None,
        headers: headers.into_map(),
        payload: payload.into(),
    }
}

/// What those on the broker can cause as often as they like.
#[derive(Debug, Default)]
struct Often {
    lost: Tally,
    refused: Tally,
}

fn tell(told: &watch::Sender<News>, name: &str, event: &Event, often: &Often) {
    match event {
        Event::Connected => {
            told.send_modify(|news| news.connected += 1);
            if told.borrow().connected > 1 {
                log::info!("{name}: connected again");
            }
        }
        Event::Disconnected => {
            log::warn!("{name}: the connection is lost; calls are refused until it is there again")
        }
        Event::Closed => end(told, "the connection has ended, and can't be made again".into()),
        Event::SlowConsumer(_) => {
            if let Some(count) = often.lost.next_worth_telling() {
                log::warn!("{name}: messages came faster than they were taken, {count} are lost so far");
            }
        }
        Event::ServerError(ServerError::Other(word))
            if UNHEARD.iter().any(|begin| word.starts_with(begin)) =>
        {
            end(told, format!("the broker says: {word}"));
        }
        Event::ServerError(error) => {
            if let Some(count) = often.refused.next_worth_telling() {
                log::warn!("{name}: the broker says: {error} ({count} such words so far)");
            }
        }
        // One for each try to connect.
        Event::ClientError(error) => log::debug!("{name}: {error}"),
        Event::LameDuckMode | Event::Draining => log::info!("{name}: {event}"),
    }
}

/// The first reason counts.
fn end(told: &watch::Sender<News>, why: String) {
    told.send_modify(|news| {
        news.end.get_or_insert(why);
    });
}
