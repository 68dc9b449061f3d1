//! NATS' own service discovery: `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, of all services, of those with our name, and of us.
//!
//! The documents are those that NATS' tools read (io.nats.micro.v1). The client crate has this, too, with a subscription for
//! each type; ours has one for all of them, so that calls of one caller stay in their order.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Subject, Subscriber};
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::local::Offer;
use crate::Result;
use crate::broker::{self, Broker};
use crate::message::{Headers, Subjects, is_answerable};

/// Of one instance that serves.
#[derive(Debug)]
pub(super) struct Service {
    app: String,
    instance: String,
    subjects: Subjects,
    started: SystemTime,
    counts: Mutex<BTreeMap<u16, Counts>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    /// Those with a result code of the toolkit's own.
    errors: u64,
    took: Duration,
}

/// Types with an entry of their own: a document has to fit into a message.
const SHOWN: usize = 256;
const VERBS: [&str; 3] = ["PING", "INFO", "STATS"];
/// Questions that wait for their answers. Those beyond get none.
pub(super) const WAITING_QUESTIONS: usize = 64;

/// What somebody wants to know.
#[derive(Debug)]
pub(super) struct Question {
    verb: &'static str,
    reply: Subject,
}

impl Service {
    pub(super) fn new(app: &str, instance: &str, subjects: &Subjects) -> Service {
        let (app, instance, subjects) = (app.to_owned(), instance.to_owned(), subjects.clone());
        Service { app, instance, subjects, started: SystemTime::now(), counts: Mutex::default() }
    }

    /// A call was answered.
    pub(super) fn count(&self, msg_type: u16, is_error: bool, took: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.entry(msg_type).or_default();
        counts.requests += 1;
        counts.errors += u64::from(is_error);
        counts.took += took;
    }

    pub(super) async fn listen(&self, broker: &Broker) -> Result<SelectAll<Subscriber>> {
        let mut heard = Vec::new();
        for verb in VERBS {
            let of_us = [
                format!("$SRV.{verb}"),
                format!("$SRV.{verb}.{}", self.app),
                format!("$SRV.{verb}.{}.{}", self.app, self.instance),
            ];
            for subject in of_us {
                heard.push(broker.subscribe(&subject, None).await?);
            }
        }
        Ok(select_all(heard))
    }

    /// Answers those who ask.
    pub(super) async fn answer(
        &self,
        broker: &Broker,
        offer: &Offer,
        questions: &mut mpsc::Receiver<Question>,
    ) -> Infallible {
        while let Some(Question { verb, reply }) = questions.recv().await {
            let document = match verb {
                "PING" => self.document("ping", offer, json!({})),
                "INFO" => self.document("info", offer, self.info(offer)),
                _ => self.document("stats", offer, self.stats(offer)),
            };
            let answer = broker::message(&reply, Headers::none(), document.to_string());
            if let Err(why) = broker.send_now(answer) {
                log::debug!("{verb}: not answered: {why:?}");
            }
        }
        // Nobody [hears](hear) them any more.
        std::future::pending().await
    }

    fn document(&self, kind: &str, offer: &Offer, more: Value) -> Value {
        let mut document = json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": self.app,
            "id": self.instance,
            "version": offer.version,
            "metadata": { "sidewire-types": offer.types.to_string(), "sidewire-events": offer.events.to_string() },
        });
        if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
            document.extend(more);
        }
        document
    }

    fn info(&self, offer: &Offer) -> Value {
        let endpoints: Vec<Value> =
            offer.types.iter().take(SHOWN).map(|msg_type| self.endpoint(msg_type)).collect();
        json!({ "description": "A Sidewire server, behind sidewire-bridge", "endpoints": endpoints })
    }

    fn stats(&self, offer: &Offer) -> Value {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let endpoints = offer.types.iter().take(SHOWN).map(|msg_type| {
            let Counts { requests, errors, took } = counts.get(&msg_type).copied().unwrap_or_default();
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            let mut endpoint = self.endpoint(msg_type);
            if let Some(endpoint) = endpoint.as_object_mut() {
                endpoint.insert("num_requests".into(), requests.into());
                endpoint.insert("num_errors".into(), errors.into());
                endpoint.insert("last_error".into(), "".into());
                endpoint.insert("processing_time".into(), nanos.into());
                endpoint.insert(
                    "average_processing_time".into(),
                    nanos.checked_div(requests).unwrap_or_default().into(),
                );
            }
            endpoint
        });
        json!({ "started": time(self.started), "endpoints": endpoints.collect::<Vec<_>>() })
    }

    fn endpoint(&self, msg_type: u16) -> Value {
        json!({
            "name": format!("type-{msg_type}"),
            "subject": self.subjects.call(msg_type),
            "queue_group": super::tenure::GROUP,
            "metadata": null,
        })
    }
}

/// Hears those who ask, until the subscriptions end. What they ask waits for whoever answers it, as far as there is room, and
/// nothing else that has come does: anybody may ask, as often as he likes and with any payload.
pub(super) async fn hear(mut heard: SelectAll<Subscriber>, questions: mpsc::Sender<Question>) {
    while let Some(message) = heard.next().await {
        let Some(reply) = message.reply.filter(|reply| is_answerable(reply)) else { continue };
        let verb = message.subject.split('.').nth(1);
        let Some(verb) = VERBS.into_iter().find(|known| Some(*known) == verb) else { continue };
        if questions.try_send(Question { verb, reply }).is_err() {
            log::debug!("{verb}: not answered: too many ask");
        }
    }
}

/// RFC 3339, in UTC.
fn time(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Of so many days since 1970-01-01: eras of 400 years that begin with March, so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
