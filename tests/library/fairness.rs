//! Whoever sends as fast as it can must not keep others waiting.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Endpoint, Limits};

use crate::util::{Dialect, Raw, client, in_every_dialect, watchdog};

const ECHO: u16 = 4;

/// Far more than a call takes on a loaded machine, far less than for ever.
const BOUND: Duration = Duration::from_secs(30);

/// Keeps the server busy: one thread sends without end, the other reads.
struct Flood<'a> {
    raw: &'a Raw,
    dialect: Dialect,
    over: &'a AtomicBool,
    replies: &'a AtomicUsize,
}

impl Flood<'_> {
    fn send(&self) {
        for first in (1u32..).step_by(100) {
            let last = first + 99;
            let requests = (first..=last).flat_map(|id| self.dialect.request(id, ECHO, &[b'f'; 400]));
            let requests = requests.collect::<Vec<_>>();
            // Never more v1 calls than the server takes at a time: that would be an offence.
            while self.dialect == Dialect::V1 && last as usize > self.replies.load(Relaxed) + 4000 {
                if self.over.load(Relaxed) {
                    return;
                }
                thread::yield_now();
            }
            if self.raw.try_send(&requests).is_err() {
                return assert!(self.over.load(Relaxed), "the flooder was cut off");
            }
        }
    }

    fn read(&self) {
        while !self.over.load(Relaxed) {
            let reply = self.dialect.receive(self.raw);
            assert_eq!((reply.rc, reply.payload.len()), (0, 400));
            self.replies.fetch_add(1, Relaxed);
        }
        self.raw.0.shutdown();
    }
}

fn longest_call_beside_a_flood(dialect: Dialect, endpoint: &Endpoint) -> Duration {
    let (raws, over) = ([dialect.raw(endpoint), dialect.raw(endpoint)], AtomicBool::new(false));
    let replies = [AtomicUsize::new(0), AtomicUsize::new(0)];
    thread::scope(|scope| {
        for (raw, replies) in raws.iter().zip(&replies) {
            let flood = || Flood { raw, dialect, over: &over, replies };
            let (sender, reader) = (flood(), flood());
            scope.spawn(move || sender.send());
            scope.spawn(move || reader.read());
        }
        let client = client(endpoint);
        let call = || {
            let begun = Instant::now();
            client.call(ECHO, b"me too").expect("call");
            begun.elapsed()
        };
        let begun = Instant::now();
        let mut longest = Duration::ZERO;
        let is_flood = || replies.iter().all(|replies| replies.load(Relaxed) > 500);
        while begun.elapsed() < Duration::from_millis(400) || !is_flood() {
            longest = longest.max(call());
        }
        over.store(true, Relaxed);
        longest
    })
}

#[test]
fn floods_do_not_starve_others() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        let longest = longest_call_beside_a_flood(dialect, endpoint);
        assert!(longest < BOUND, "a call took {longest:?}");
    });
}

/// The same where each turn of a connection is short, so that the loop has to come back often.
#[test]
fn small_turns_lose_nothing() {
    let _watchdog = watchdog(60);
    let mut limits = Limits::default();
    limits.turn_bytes = 1000;
    limits.turn_frames = 2;
    in_every_dialect(&limits, |dialect, endpoint| {
        let raws = [(); 4].map(|()| dialect.raw(endpoint));
        let requests = (1..=200).flat_map(|id| dialect.request(id, ECHO, &id.to_le_bytes()));
        let requests: Vec<u8> = requests.collect();
        raws.iter().for_each(|raw| raw.send(&requests));
        for raw in &raws {
            for id in 1..=200u32 {
                assert_eq!(dialect.receive(raw), dialect.good(id, ECHO, &id.to_le_bytes()));
            }
        }
    });
}
