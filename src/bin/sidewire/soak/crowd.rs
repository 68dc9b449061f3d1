//! The clients of bad manners: many threads that bring one after the other, and keep some of them there.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sidewire::Endpoint;
use sidewire_platform::{Channel, DatagramChannel};

use super::ledger::Ledger;
use super::manners::{self, Then};
use super::pause::Pause;
use super::probes::Fault;
use super::{datagram_manners, locked};

/// Threads that bring clients.
pub(super) const HOSTS: usize = 4;
/// How long a client tries to connect.
const PATIENCE: Duration = Duration::from_secs(5);

/// What clients come over.
pub(super) trait Medium: Sized + 'static {
    /// All manners, by the names that the report has.
    const MANNERS: &'static [(&'static str, Manner<Self>)];

    fn connect(endpoint: &Endpoint) -> io::Result<Self>;
}

/// What one of them does.
pub(super) type Manner<M> = fn(&M, &mut Rng) -> io::Result<Then>;

impl Medium for Channel {
    const MANNERS: &'static [(&'static str, Manner<Channel>)] = &manners::MANNERS;

    fn connect(endpoint: &Endpoint) -> io::Result<Channel> {
        Channel::connect(endpoint, Some(PATIENCE))
    }
}

impl Medium for DatagramChannel {
    const MANNERS: &'static [(&'static str, Manner<DatagramChannel>)] = &datagram_manners::MANNERS;

    fn connect(endpoint: &Endpoint) -> io::Result<DatagramChannel> {
        DatagramChannel::connect(endpoint)
    }
}

/// What has come of them.
#[derive(Default)]
pub(super) struct Tally {
    /// Those that connected, by their manner.
    pub(super) came: Vec<(&'static str, AtomicU64)>,
    /// Those that did not get so far.
    pub(super) kept_out: AtomicU64,
    /// Those that are connected, as far as we know.
    pub(super) open: AtomicU64,
}

impl Tally {
    pub(super) fn of<M: Medium>() -> Tally {
        let came = M::MANNERS.iter().map(|(name, _)| (*name, AtomicU64::default())).collect();
        Tally { came, ..Tally::default() }
    }

    pub(super) fn total(&self) -> u64 {
        self.came.iter().map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}

/// Who comes, and how many.
#[derive(Clone, Copy)]
pub(super) struct Crowd<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// Most that are connected at a time.
    pub(super) most: usize,
    /// Clients in a second.
    pub(super) rate: u32,
    pub(super) tally: &'a Tally,
    pub(super) ledger: &'a Mutex<Ledger>,
}

impl<'a> Crowd<'a> {
    /// Starts the threads, which end with the pause and take their clients along.
    pub(super) fn start<'scope, M: Medium>(
        self,
        scope: &'scope thread::Scope<'scope, 'a>,
        pause: &'a Pause,
    ) -> std::io::Result<()>
    where
        'a: 'scope,
    {
        for number in 0..HOSTS {
            let name = format!("crowd {number}");
            thread::Builder::new().name(name).spawn_scoped(scope, move || self.host::<M>(number, pause))?;
        }
        Ok(())
    }

    /// One thread: brings clients of all manners in turn.
    fn host<M: Medium>(&self, number: usize, pause: &Pause) {
        let (mut random, mut guests) = (Rng::new(), VecDeque::<M>::new());
        let (places, each) = (self.most.div_ceil(HOSTS), Duration::from_secs(HOSTS as u64) / self.rate);
        let mut due = Instant::now();
        let mut next = number * M::MANNERS.len() / HOSTS;
        while !pause.wait(due.saturating_duration_since(Instant::now())) {
            // Who was held up does not catch up.
            due = (due + each).max(Instant::now());
            if guests.len() == places {
                guests.pop_front();
                self.tally.open.fetch_sub(1, Ordering::Relaxed);
            }
            next = (next + 1) % M::MANNERS.len();
            if let Some(guest) = self.bring(next, &mut random) {
                guests.push_back(guest);
                self.tally.open.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.tally.open.fetch_sub(guests.len() as u64, Ordering::Relaxed);
    }

    /// One client; whether it stays.
    fn bring<M: Medium>(&self, manner: usize, random: &mut Rng) -> Option<M> {
        let Ok(channel) = M::connect(self.endpoint) else {
            self.tally.kept_out.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.tally.came[manner].1.fetch_add(1, Ordering::Relaxed);
        let (name, behave) = M::MANNERS[manner];
        match behave(&channel, random) {
            Ok(Then::Stays) => Some(channel),
            // That the server shuts the door on them is what it is there for.
            Ok(Then::Leaves) | Err(_) => None,
            Ok(Then::Wronged(how)) => {
                locked(self.ledger).note(Fault::Wrong(format!("{name}: {how}")));
                None
            }
        }
    }
}
