//! Events of the local server, to all who listen at the broker.

use std::collections::HashMap;

use sidewire::tokio::Events;
use sidewire::{Error, Event};

use super::local::Local;
use crate::broker::{self, Broker};
use crate::message::{DROPPED, Headers, INSTANCE, SEQUENCE, Subjects};

/// The local server's events; `None` where no topic is there.
pub(super) type Subscribed = Result<Option<Events>, Error>;

/// Publishes them for as long as the connection lasts, and says why it has ended. What can't be sent, since the broker is away or slow
/// or takes no such size, is counted, and the next one tells.
pub(super) async fn publish(
    broker: &Broker,
    subjects: &Subjects,
    instance: &str,
    (local, subscribed): (&Local, Subscribed),
) -> String {
    let mut events = match subscribed {
        Ok(Some(events)) => events,
        Ok(None) => return std::future::pending().await,
        Err(error) => return error.to_string(),
    };
    let mut counts: HashMap<u16, Count> = HashMap::new();
    loop {
        match events.next().await {
            Some(Ok(event)) => {
                let count = counts.entry(event.topic()).or_default();
                count.publish(broker, &subjects.event(event.topic()), instance, event);
            }
            Some(Err(error)) => return error.to_string(),
            None => return format!("{}: the events have ended", local.endpoint()),
        }
    }
}

/// Subscribes to the topics that there are.
pub(super) async fn subscribe(local: &Local) -> Subscribed {
    let mut subscribed: Option<Events> = None;
    for topic in local.offer.events.iter() {
        let added = match &mut subscribed {
            Some(events) => events.add(topic).await,
            None => local.main.subscribe(topic).await.map(|events| subscribed = Some(events)),
        };
        match added {
            Err(error) if error.result_code().is_some() => {
                log::warn!("{error}; its events are not published")
            }
            other => other?,
        }
    }
    Ok(subscribed)
}

/// Of one topic.
#[derive(Debug, Default)]
struct Count {
    sent: u64,
    dropped: u32,
}

impl Count {
    fn publish(&mut self, broker: &Broker, subject: &str, instance: &str, event: Event) {
        let dropped = self.dropped.saturating_add(event.dropped());
        let mut headers = Headers::none().with(SEQUENCE, self.sent + 1).with(INSTANCE, instance);
        if dropped > 0 {
            headers = headers.with(DROPPED, dropped);
        }
        match broker.send_now(broker::message(subject, headers, event.into_payload())) {
            Ok(()) => *self = Count { sent: self.sent + 1, dropped: 0 },
            Err(why) => {
                log::debug!("{subject}: an event is dropped: {why:?}");
                self.dropped = dropped.saturating_add(1);
            }
        }
    }
}
