//! Events from the broker to the local subscribers.

use std::collections::HashMap;

use async_nats::Subscriber;
use futures_util::{FutureExt, StreamExt};
use sidewire::Remote;

use crate::message::{self, DROPPED, INSTANCE, Malformed, SEQUENCE, Told};

/// Publishers and topics of which the last number is known. Beyond that it is begun anew: what was lost meanwhile is not
/// told of.
const KNOWN: usize = 4096;

/// Has nothing wait of what comes before anybody can subscribe. It does not end.
pub(super) async fn pass_over(news: &mut Subscriber) {
    while news.next().await.is_some() {}
    std::future::pending().await
}

/// Publishes what comes, with what was lost before it, until the subscription ends.
pub(super) async fn pass_on(mut news: Subscriber, remote: Remote<()>) {
    let (mut losses, mut may_wait) = (Losses::default(), true);
    loop {
        let message = match news.next().now_or_never() {
            Some(message) => message,
            None => {
                may_wait = true;
                news.next().await
            }
        };
        let Some(message) = message else { return };
        let Some(topic) = message::number(&message.subject) else { continue };
        let told = Told(message.headers.as_ref());
        let missed = match read(told) {
            Ok((instance, number, dropped)) => losses.before(topic, instance, number, dropped),
            Err(Malformed(header)) => {
                log::debug!("{}: an event whose header {header} is none", message.subject);
                continue;
            }
        };
        let publish = || remote.publish_behind(missed, topic, &message.payload);
        let mut published = publish();
        if published.as_ref().is_err_and(sidewire::Error::is_full) && may_wait {
            // The server, a task of this thread, makes room. Only once until all that has come is looked at: more comes meanwhile.
            may_wait = false;
            tokio::task::yield_now().await;
            published = publish();
        }
        if let Err(error) = published {
            log::debug!("{}: an event is dropped: {error}", message.subject);
            losses.add(topic, missed.saturating_add(1));
        }
    }
}

fn read(told: Told<'_>) -> Result<(&str, u64, u32), Malformed> {
    let number = told.number(SEQUENCE)?.unwrap_or_default();
    // Instances are remembered, so what is none of ours is not taken.
    let instance = told.text(INSTANCE).unwrap_or_default();
    if instance.len() > 64 {
        return Err(Malformed(INSTANCE));
    }
    Ok((instance, number, told.number(DROPPED)?.unwrap_or_default()))
}

/// What was lost of each topic.
#[derive(Debug, Default)]
struct Losses {
    last: HashMap<(u16, String), u64>,
    /// What local subscribers have not been told of yet.
    untold: HashMap<u16, u32>,
}

impl Losses {
    /// How many were lost before this one.
    fn before(&mut self, topic: u16, instance: &str, number: u64, dropped: u32) -> u32 {
        let mut missed = self.untold.remove(&topic).unwrap_or_default().saturating_add(dropped);
        if number == 0 {
            return missed; // Somebody else's, who does not count.
        }
        if self.last.len() >= KNOWN {
            self.last.clear();
        }
        if let Some(last) = self.last.insert((topic, instance.to_owned()), number) {
            let gap = number.saturating_sub(last.saturating_add(1));
            missed = missed.saturating_add(u32::try_from(gap).unwrap_or(u32::MAX));
        }
        missed
    }

    fn add(&mut self, topic: u16, count: u32) {
        let untold = self.untold.entry(topic).or_default();
        *untold = untold.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_told_once() {
        let mut losses = Losses::default();
        assert_eq!(losses.before(1, "a", 7, 0), 0, "what came before we did is nobody's loss");
        assert_eq!(losses.before(1, "a", 8, 2), 2, "dropped there");
        assert_eq!(losses.before(1, "a", 11, 1), 3, "lost on the way, too");
        assert_eq!(losses.before(1, "b", 1, 0), 0, "another instance counts for itself");
        assert_eq!(losses.before(2, "a", 1, 0), 0, "and so does another topic");
        losses.add(1, 4);
        assert_eq!(losses.before(1, "a", 12, 0), 4, "dropped here");
        assert_eq!(losses.before(1, "a", 3, 0), 0, "numbers that go back are no loss");
        assert_eq!(losses.before(1, "", 0, 0), 0);
        (0..2 * KNOWN as u64).for_each(|n| assert_eq!(losses.before(1, &n.to_string(), 1, 0), 0));
        assert!(losses.last.len() <= KNOWN);
    }
}
