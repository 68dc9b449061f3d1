//! Well-behaved clients: each asks one thing after the other, and knows what has to come back and when it did.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sidewire::{Client, Endpoint, EndpointKind, Error, ResultCode};

use super::ledger::Ledger;
use super::pause::Pause;
use crate::count::COUNT;
use crate::sleep::SLEEP;
use crate::store::{ECHO, GET, GREETING, SET};
use crate::whom::Whom;

/// Between two exchanges of one probe, at most.
const BREATH: Duration = Duration::from_millis(10);
/// How many exchanges go over one connection, about.
const STAYS: u32 = 100;
/// Types without a handler, and beyond the table, with what is answered.
const REFUSED: [(u16, ResultCode); 2] = [(9, ResultCode::NO_HANDLER), (300, ResultCode::UNKNOWN_TYPE)];

/// Why an exchange was not as it should be.
#[derive(Debug)]
pub(super) enum Fault {
    /// Something else came.
    Wrong(String),
    /// Nothing came, or no connection.
    Failed(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Failed(error)
    }
}

type Exchange = fn(&Probe<'_>, &Client, &mut Rng) -> Result<(), Fault>;

/// All of them; each is as likely as the others.
const EXCHANGES: [Exchange; 8] =
    [small_echo, large_echo, window, parts, refusals, answered_later, ping, set_and_get];
/// The same over datagrams, which carry one frame each way. Each may be made once more.
const IN_DATAGRAMS: [Exchange; 6] = [small_echo, medium_echo, refusals, answered_later, ping, set_and_get];

/// How long a call waits over UDP, which may lose it, and how often it is made until it counts as failed.
const UDP_PATIENCE: Duration = Duration::from_secs(3);
const UDP_TRIES: u32 = 8;

/// Where the probes of one run are, and where they write down what they see.
#[derive(Clone, Copy)]
pub(super) struct Probe<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// After which nobody waits for an answer any more.
    pub(super) patience: Duration,
    pub(super) ledger: &'a Mutex<Ledger>,
}

impl Probe<'_> {
    /// Goes on until the pause is over.
    pub(super) fn run(&self, pause: &Pause) {
        let mut random = Rng::new();
        let mut client = None;
        while !pause.wait(Duration::from_micros(random.u64(..BREATH.as_micros() as u64))) {
            if let Err(fault) = self.exchange_over(&mut client, &mut random) {
                self.ledger().note(fault);
                client = None;
                // Where nothing works it need not fail a million times.
                pause.wait(Duration::from_millis(100));
            }
        }
    }

    /// One exchange over this connection, or over a new one.
    fn exchange_over(&self, client: &mut Option<Client>, random: &mut Rng) -> Result<(), Fault> {
        if random.u32(..STAYS) == 0 {
            *client = None;
        }
        if random.u32(..STAYS) == 0 {
            return self.classic(random);
        }
        let client = match client {
            Some(client) => client,
            None => client.insert(self.connect()?),
        };
        let exchanges = self.exchanges();
        self.try_it(exchanges[random.usize(..exchanges.len())], client, random)
    }

    fn exchanges(&self) -> &'static [Exchange] {
        if self.endpoint.kind() == EndpointKind::Stream { &EXCHANGES } else { &IN_DATAGRAMS }
    }

    /// Once, or until an answer comes where one may be lost.
    fn try_it(&self, exchange: Exchange, client: &Client, random: &mut Rng) -> Result<(), Fault> {
        let mut tries = 1;
        loop {
            match exchange(self, client, random) {
                Err(Fault::Failed(error)) if self.may_lose() && error.is_timeout() && tries < UDP_TRIES => {
                    self.ledger().lost += 1;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    fn may_lose(&self) -> bool {
        matches!(self.endpoint, Endpoint::Udp { .. })
    }

    fn patience(&self) -> Duration {
        if self.may_lose() { self.patience.min(UDP_PATIENCE) } else { self.patience }
    }

    /// Each exchange once, so that what a server makes only once is there.
    pub(super) fn do_all_once(&self) -> Result<(), Fault> {
        let (client, mut random) = (self.connect()?, Rng::new());
        for exchange in self.exchanges() {
            self.try_it(*exchange, &client, &mut random)?;
        }
        self.classic(&mut random)
    }

    fn connect(&self) -> Result<Client, Error> {
        let begun = Instant::now();
        let client = Whom::default().connect_to(self.endpoint, self.patience())?;
        self.ledger().took(begun.elapsed());
        Ok(client)
    }

    /// A newcomer that speaks the classic layout.
    fn classic(&self, random: &mut Rng) -> Result<(), Fault> {
        let client = Whom::default().within(self.endpoint, Some(self.patience()))?.classic().open()?;
        self.try_it(classic_echo, &client, random)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        super::locked(self.ledger)
    }

    /// Writes down an answer that has come, and compares it.
    fn answered(&self, begun: Instant, got: &[u8], expected: &[u8]) -> Result<(), Fault> {
        self.ledger().took(begun.elapsed());
        if got == expected { Ok(()) } else { Err(Fault::Wrong(difference(got, expected))) }
    }
}

fn difference(got: &[u8], expected: &[u8]) -> String {
    let at = got.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
    let shown = |bytes: &[u8]| bytes[at..bytes.len().min(at + 20)].escape_ascii().to_string();
    format!(
        "{} bytes came where {} should, with '{}' in place of '{}' at {at}",
        got.len(),
        expected.len(),
        shown(got),
        shown(expected)
    )
}

/// Up to so many, no two alike.
fn bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(..=most)];
    random.fill(&mut bytes);
    bytes
}

fn echo(probe: &Probe<'_>, client: &Client, payload: &[u8]) -> Result<(), Fault> {
    let begun = Instant::now();
    probe.answered(begun, client.call(ECHO, payload)?.payload(), payload)
}

fn small_echo(probe: &Probe<'_>, client: &Client, random: &mut Rng) -> Result<(), Fault> {
    echo(probe, client, &bytes(random, 200))
}

fn classic_echo(probe: &Probe<'_>, client: &Client, random: &mut Rng) -> Result<(), Fault> {
    echo(probe, client, &bytes(random, 1000))
}

/// Fits into any datagram.
fn medium_echo(probe: &Probe<'_>, client: &Client, random: &mut Rng) -> Result<(), Fault> {
    echo(probe, client, &bytes(random, 60_000))
}

fn large_echo(probe: &Probe<'_>, client: &Client, random: &mut Rng) -> Result<(), Fault> {
    let most = if random.u8(..20) == 0 { 1 << 20 } else { 64 << 10 };
    echo(probe, client, &bytes(random, most))
}

/// Several at a time.
fn window(probe: &Probe<'_>, client: &Client, random: &mut Rng) -> Result<(), Fault> {
    let payloads: Vec<_> = (0..random.usize(1..=16)).map(|_| bytes(random, 500)).collect();
    let begun = Instant::now();
    let calls = payloads.iter().map(|payload| client.start(ECHO, payload)).collect::<Result<Vec<_>, _>>()?;
    for (call, payload) in calls.into_iter().zip(&payloads) {
        probe.answered(begun, call.wait()?.payload(), payload)?;
    }
    Ok(())
}

/// A reply in parts: none is missing, none comes twice.
fn parts(probe: &Probe<'_>, client: &Client, random: &mut Rng) -> Result<(), Fault> {
    let last = random.u32(1..=50);
    let begun = Instant::now();
    let mut number = 0;
    for part in client.stream(COUNT, last.to_string())? {
        number += 1;
        let part = part?;
        if part != number.to_string().as_bytes() {
            return Err(Fault::Wrong(difference(&part, number.to_string().as_bytes())));
        }
    }
    probe.answered(begun, number.to_string().as_bytes(), last.to_string().as_bytes())
}

/// What can't be done is answered with why.
fn refusals(probe: &Probe<'_>, client: &Client, _random: &mut Rng) -> Result<(), Fault> {
    for (msg_type, expected) in REFUSED {
        let begun = Instant::now();
        let rc = client.request(msg_type).exchange(b"")?.result_code();
        probe.answered(begun, rc.to_string().as_bytes(), expected.to_string().as_bytes())?;
    }
    Ok(())
}

/// By another thread of the server. What it is asked to take does not count.
fn answered_later(probe: &Probe<'_>, client: &Client, random: &mut Rng) -> Result<(), Fault> {
    let milliseconds = random.u64(..20);
    let begun = Instant::now() + Duration::from_millis(milliseconds);
    let response = client.call(SLEEP, milliseconds.to_string())?;
    if Instant::now() < begun {
        return Err(Fault::Wrong(format!("an answer came before its {milliseconds} ms were over")));
    }
    probe.answered(begun, response.payload(), milliseconds.to_string().as_bytes())
}

fn ping(probe: &Probe<'_>, client: &Client, _random: &mut Rng) -> Result<(), Fault> {
    let time = client.ping(probe.patience())?;
    probe.ledger().took(time);
    Ok(())
}

/// The value is that which some probe has set, whole: all that they set can be told from anything else.
fn set_and_get(probe: &Probe<'_>, client: &Client, random: &mut Rng) -> Result<(), Fault> {
    let begun = Instant::now();
    let nothing = client.call(SET, value(random.u64(..)))?;
    probe.answered(begun, nothing.payload(), b"")?;
    let begun = Instant::now();
    let got = client.call(GET, b"")?.into_payload();
    probe.ledger().took(begun.elapsed());
    is_value(&got).then_some(()).ok_or_else(|| {
        Fault::Wrong(format!(
            "the value is none that a probe has set: {}",
            got[..got.len().min(40)].escape_ascii()
        ))
    })
}

/// A value that its first bytes determine.
fn value(seed: u64) -> Vec<u8> {
    let mut bytes = seed.to_le_bytes().to_vec();
    let mut random = Rng::with_seed(seed);
    bytes.extend((0..random.usize(..4000)).map(|_| random.u8(..)));
    bytes
}

fn is_value(bytes: &[u8]) -> bool {
    let seed = bytes.first_chunk().map(|seed| u64::from_le_bytes(*seed));
    bytes == GREETING || seed.is_some_and(|seed| bytes == value(seed))
}

/// Starts so many of them, which end with the pause.
pub(super) fn start<'scope, 'a: 'scope>(
    scope: &'scope thread::Scope<'scope, 'a>,
    count: usize,
    probe: Probe<'a>,
    pause: &'a Pause,
) -> std::io::Result<()> {
    for number in 0..count {
        let name = format!("probe {number}");
        thread::Builder::new().name(name).spawn_scoped(scope, move || probe.run(pause))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_probes_can_be_told() {
        let whole = value(7);
        assert!(is_value(&whole) && is_value(GREETING) && is_value(&value(u64::MAX)));
        let mut changed = whole.clone();
        changed[whole.len() - 1] ^= 1;
        assert!(
            !is_value(&changed) && !is_value(&whole[..whole.len() - 1]) && !is_value(b"said after goodbye")
        );
        assert!(!is_value(b""));
    }

    #[test]
    fn a_difference_is_shown_where_it_begins() {
        let text = difference(b"one two", b"one 2");
        assert_eq!(text, "7 bytes came where 5 should, with 'two' in place of '2' at 4");
    }
}
