//! The connection to the broker.

use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::client::traits::Publisher;
use async_nats::connection::State;
use async_nats::message::OutboundMessage;
use async_nats::{Client, Event, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// How often it was made.
    pub(crate) connected: u64,
    /// It is not made again: the broker does not want us.
    pub(crate) is_closed: bool,
}

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
    /// Connects.
    ///
    /// # Errors
    /// If nobody is there, or does not want us; a lost connection later is none.
    pub(crate) async fn connect(options: &BrokerOptions) -> Result<Broker> {
        let name = options.name();
        let (told, news) = watch::channel(News::default());
        let place = name.clone();
        let connect = options.options().await?.event_callback(move |event| {
            tell(&told, &place, &event);
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

    /// Until the connection has ended for good.
    pub(crate) async fn closed(&self) -> String {
        let mut news = self.news();
        if news.wait_for(|news| news.is_closed).await.is_err() {
            std::future::pending::<()>().await;
        }
        format!("{}: the connection has ended, and can't be made again", self.name)
    }

    /// Puts a message into the client's queue, if there is a connection, and room.
    ///
    /// # Errors
    /// Nothing of it will be sent.
    pub(crate) fn send_now(&self, message: OutboundMessage) -> std::result::Result<(), Unsent> {
        if !self.is_connected() {
            return Err(Unsent::Away);
        }
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
    /// The connection has ended for good.
    pub(crate) async fn settle(&self, heard: &mut Subscriber, reply: &str, nobody: &str) -> Result<()> {
        let mut silent = 0;
        while silent < SETTLE_TRIES {
            let mut question = message(nobody, Headers::none(), "");
            question.reply = Some(reply.into());
            let is_asked = self.send_now(question).is_ok();
            match tokio::time::timeout(SETTLE, heard.next()).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => return Err(format!("{}: the connection has ended", self.name)),
                // A broker that is away is waited for.
                Err(_) if is_asked && self.is_connected() => silent += 1,
                Err(_) => {}
            }
        }
        log::warn!(
            "{}: the broker does not say that nobody has {nobody}: either somebody hears everything there, and where nobody serves an \
             app callers wait as long as for silence, or we lack the right to ask or to hear",
            self.name
        );
        Ok(())
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

fn tell(told: &watch::Sender<News>, name: &str, event: &Event) {
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
        Event::Closed => {
            told.send_modify(|news| news.is_closed = true);
        }
        Event::SlowConsumer(_) => {
            log::warn!("{name}: messages came faster than they were taken, some are lost")
        }
        Event::ServerError(error) => log::warn!("{name}: the broker says: {error}"),
        // One for each try to connect.
        Event::ClientError(error) => log::debug!("{name}: {error}"),
        Event::LameDuckMode | Event::Draining => log::info!("{name}: {event}"),
    }
}
