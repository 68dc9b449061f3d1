//! Who serves an app: one bridge alone, or several that have all said that they share it.
//!
//! The broker knows no locks, so those who serve agree among themselves, on one subject that all of them hear. Whoever wants
//! to serve listens there first, and then claims: of any two, the one whose claim the broker passes on later is heard by the
//! other, which answers. Who serves stays; of two who claim at the same time the smaller instance wins; so does it where two
//! have come to serve all the same, since they could not hear each other: the other one leaves.
//!
//! It holds as long as a word reaches the other one within the time that a claim takes. It does not where a broker's cluster
//! has come apart, or a bridge stood still for longer: until they hear each other again (each says every two seconds that it
//! serves) both serve.

use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::{Instant, interval_at, sleep_until};

use crate::Result;
use crate::broker::{self, Broker, News};
use crate::message::{Headers, Subjects};

/// Whether others may serve it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Alone,
    Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Claims,
    Serves,
}

/// What one says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    stage: Stage,
    side: Side,
    instance: String,
    process: u32,
}

/// What somebody's word means for us.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It has nothing to do with us.
    Nothing,
    /// They have to hear of us.
    Answer,
    /// We have to leave it to them.
    Yield,
}

/// A claim takes so long: whoever serves has as long to object.
const CLAIM: Duration = Duration::from_millis(1500);
/// And is said so often meanwhile.
const SAID: Duration = Duration::from_millis(300);
/// How often we say that we serve.
const REMIND: Duration = Duration::from_secs(2);

/// That we are the one who serves, or one of those who share.
#[derive(Debug)]
pub(super) struct Ownership {
    lost: mpsc::Receiver<String>,
    watching: JoinHandle<()>,
}

impl Ownership {
    /// Claims it, which takes a second and a half.
    ///
    /// # Errors
    /// Another one serves the app, or claims it at the same time.
    pub(super) async fn claim(
        broker: &Broker,
        subjects: &Subjects,
        instance: &str,
        side: Side,
    ) -> Result<Ownership> {
        let subject = subjects.owner();
        let heard = broker.subscribe(&subject, None).await?;
        let us =
            Word { stage: Stage::Claims, side, instance: instance.to_owned(), process: std::process::id() };
        let mut party = Party { broker: broker.clone(), subject, us, heard };
        // Here, too, all that has come is heard before more is read.
        unconstrained(party.claim()).await?;
        party.us.stage = Stage::Serves;
        let (told, lost) = mpsc::channel(1);
        let news = broker.news();
        let watching = tokio::spawn(unconstrained(async move {
            let why = party.watch(news).await;
            let _ = told.send(why).await;
        }));
        Ok(Ownership { lost, watching })
    }

    /// Until another one serves the app who must not.
    pub(super) async fn lost(&mut self) -> String {
        match self.lost.recv().await {
            Some(why) => why,
            None => "nobody watches any more who serves the app".into(),
        }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

struct Party {
    broker: Broker,
    subject: String,
    us: Word,
    heard: Subscriber,
}

impl Party {
    /// Claims it until a claim has gone by over one connection: nobody hears what is said over none.
    async fn claim(&mut self) -> Result<()> {
        let news = self.broker.news();
        let mut before = news.borrow().connected;
        loop {
            self.claim_once().await?;
            let now = news.borrow().connected;
            if self.broker.is_connected() && now == before {
                return Ok(());
            }
            before = now;
        }
    }

    async fn claim_once(&mut self) -> Result<()> {
        let end = Instant::now() + CLAIM;
        let mut ticks = interval_at(Instant::now(), SAID);
        loop {
            tokio::select! {
                biased;
                message = self.heard.next() => {
                    let Some(message) = message else { return Err(self.closed()) };
                    self.hear(&message.payload).await?;
                }
                _ = ticks.tick() => self.say().await?,
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    /// Says that we serve, hears what others say, and returns why we have to stop.
    async fn watch(&mut self, mut news: watch::Receiver<News>) -> String {
        let mut ticks = interval_at(Instant::now(), REMIND);
        loop {
            let result = tokio::select! {
                message = self.heard.next() => match message {
                    Some(message) => self.hear(&message.payload).await,
                    None => Err(self.closed()),
                },
                _ = ticks.tick() => self.say().await,
                // Somebody may have claimed it while there was no connection.
                Ok(()) = news.changed() => self.say().await,
            };
            if let Err(why) = result {
                return why;
            }
        }
    }

    async fn hear(&mut self, payload: &[u8]) -> Result<()> {
        let Some(word) = Word::parse(payload) else { return Ok(()) };
        match self.us.judge(&word) {
            Verdict::Nothing => Ok(()),
            Verdict::Answer => self.say().await,
            Verdict::Yield => Err(self.yielded(&word)),
        }
    }

    fn yielded(&self, word: &Word) -> String {
        let Word { instance, process, .. } = word;
        let who = format!("bridge {instance} (process {process} of its machine)");
        let what = match (word.stage, word.side) {
            (Stage::Claims, _) => "was started at the same time to serve it",
            (Stage::Serves, Side::Alone) => "serves it",
            (Stage::Serves, Side::Shared) => "serves it with --shared",
        };
        format!(
            "{} at {}: {who} {what}; an app is served by one, unless all of them say --shared",
            self.subject, self.broker.name
        )
    }

    fn closed(&self) -> String {
        format!("{} at {}: the subscription has ended", self.subject, self.broker.name)
    }

    /// Where the broker is away nobody hears it, and it is said again when it is back.
    async fn say(&self) -> Result<()> {
        let message = broker::message(&self.subject, Headers::none(), self.us.to_string());
        let _ = self.broker.send_now(message);
        Ok(())
    }
}

impl Word {
    fn judge(&self, other: &Word) -> Verdict {
        if self.instance == other.instance || (self.side, other.side) == (Side::Shared, Side::Shared) {
            return Verdict::Nothing;
        }
        let we_stay = match (self.stage, other.stage) {
            (Stage::Serves, Stage::Claims) => true,
            (Stage::Claims, Stage::Serves) => false,
            _ => self.instance < other.instance,
        };
        if we_stay { Verdict::Answer } else { Verdict::Yield }
    }

    fn parse(payload: &[u8]) -> Option<Word> {
        let mut tokens = std::str::from_utf8(payload).ok()?.split(' ');
        let stage = match tokens.next()? {
            "claims" => Stage::Claims,
            "serves" => Stage::Serves,
            _ => return None,
        };
        let side = match tokens.next()? {
            "alone" => Side::Alone,
            "shared" => Side::Shared,
            _ => return None,
        };
        let instance = tokens.next().filter(|instance| is_instance(instance))?.to_owned();
        let process = tokens.next()?.parse().ok()?;
        tokens.next().is_none().then_some(Word { stage, side, instance, process })
    }
}

/// It is shown to people, so it is what we make and nothing else.
fn is_instance(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match self.stage {
            Stage::Claims => "claims",
            Stage::Serves => "serves",
        };
        let side = match self.side {
            Side::Alone => "alone",
            Side::Shared => "shared",
        };
        write!(f, "{stage} {side} {} {}", self.instance, self.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(stage: Stage, side: Side, instance: &str) -> Word {
        Word { stage, side, instance: instance.into(), process: 7 }
    }

    /// Of any two who must not both serve, exactly one yields, whoever hears whom first.
    #[test]
    fn exactly_one_of_two_yields() {
        for (one_stage, other_stage) in [
            (Stage::Claims, Stage::Claims),
            (Stage::Claims, Stage::Serves),
            (Stage::Serves, Stage::Claims),
            (Stage::Serves, Stage::Serves),
        ] {
            for (one_side, other_side) in
                [(Side::Alone, Side::Alone), (Side::Alone, Side::Shared), (Side::Shared, Side::Alone)]
            {
                let (one, other) = (word(one_stage, one_side, "a"), word(other_stage, other_side, "b"));
                let verdicts = [one.judge(&other), other.judge(&one)];
                assert!(
                    verdicts.contains(&Verdict::Yield) && verdicts.contains(&Verdict::Answer),
                    "{one} {other}"
                );
            }
        }
        let who_serves = word(Stage::Serves, Side::Alone, "b");
        assert_eq!(
            who_serves.judge(&word(Stage::Claims, Side::Alone, "a")),
            Verdict::Answer,
            "who serves stays"
        );
        let shared = word(Stage::Serves, Side::Shared, "a");
        assert_eq!(shared.judge(&word(Stage::Claims, Side::Shared, "b")), Verdict::Nothing);
        assert_eq!(shared.judge(&shared), Verdict::Nothing, "we hear ourselves, too");
    }

    #[test]
    fn words_are_read_as_they_are_said() {
        for stage in [Stage::Claims, Stage::Serves] {
            for side in [Side::Alone, Side::Shared] {
                let word = word(stage, side, "Ab9");
                assert_eq!(Word::parse(word.to_string().as_bytes()), Some(word));
            }
        }
        for wrong in [
            "",
            "serves",
            "serves alone a",
            "serves alone a x",
            "serves alone a 1 2",
            "owns alone a 1",
            "serves alone \u{1b}[2J 1",
            "serves alone  1",
        ] {
            assert_eq!(Word::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
