//! Gives bytes to targets, without libFuzzer: the corpus in `fuzz/seeds`, then what comes of it by small changes, in each
//! run others, for as long as `SIDEWIRE_FUZZ_SECONDS` says. What it makes follows from a number, and `SIDEWIRE_FUZZ_SEED`
//! plays that again.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// For each target, unless said otherwise.
const USUAL: Duration = Duration::from_millis(300);
/// Bytes of an input, as for libFuzzer.
const LONGEST: usize = 4096;
/// Miri takes a thousand times as long: so many seeds, and as many changes.
const IN_MIRI: usize = 6;

/// What takes bytes, and where they come from.
pub(crate) struct Play<'p> {
    /// Its folder in the corpus.
    pub(crate) name: &'p str,
    pub(crate) target: fn(&[u8]),
    /// Besides those of the corpus.
    pub(crate) seeds: &'p [&'p [u8]],
    /// Makes one from nothing.
    pub(crate) make: Option<fn(&mut Random) -> Vec<u8>>,
}

/// Plays them, as many at a time as there are cores. `corpus`: the folder that has theirs.
pub(crate) fn play(corpus: &str, plays: &[Play<'_>]) {
    let (next, cores) = (AtomicUsize::new(0), thread::available_parallelism().map_or(1, NonZeroUsize::get));
    let work = || {
        while let Some(play) = plays.get(next.fetch_add(1, Ordering::Relaxed)) {
            play.play(&Path::new(corpus).join(play.name));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(plays.len())).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

impl Play<'_> {
    fn play(&self, folder: &Path) {
        let mut seeds = read(folder);
        seeds.extend(self.seeds.iter().map(|seed| seed.to_vec()));
        let count = if cfg!(miri) { IN_MIRI.min(seeds.len()) } else { seeds.len() };
        for seed in &seeds[..count] {
            self.show(seed, "a seed");
        }
        if let Some(number) = number("SIDEWIRE_FUZZ_SEED") {
            return self.show(&self.input(&seeds, number), "SIDEWIRE_FUZZ_SEED");
        }
        let first = getrandom::u64().expect("randomness");
        let end = Instant::now() + number("SIDEWIRE_FUZZ_SECONDS").map_or(USUAL, Duration::from_secs);
        let mut inputs = 0;
        while if cfg!(miri) { inputs < IN_MIRI as u64 } else { Instant::now() < end } {
            let number = first.wrapping_add(inputs);
            self.show(&self.input(&seeds, number), &format!("SIDEWIRE_FUZZ_SEED={number}"));
            inputs += 1;
        }
        println!("{}: {count} of {} seeds, {inputs} inputs made", self.name, seeds.len());
    }

    fn show(&self, bytes: &[u8], what: &str) {
        if catch_unwind(AssertUnwindSafe(|| (self.target)(bytes))).is_err() {
            panic!("{} panics at {what}: {}", self.name, bytes.escape_ascii());
        }
    }

    fn input(&self, seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
        let mut random = Random::new(number);
        let mut bytes = match self.make {
            Some(make) if random.below(4) == 0 => make(&mut random),
            _ => random.one(seeds).clone(),
        };
        for _ in 0..random.below(5) {
            let other = random.one(seeds);
            change(&mut bytes, other, &mut random);
        }
        bytes.truncate(LONGEST);
        bytes
    }
}

/// In an order that stays: the smallest first.
fn read(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read =
        |file: std::io::Result<std::fs::DirEntry>| std::fs::read(file.expect("it can be listed").path());
    let mut seeds: Vec<_> = files.map(|file| read(file).expect("a seed can be read")).collect();
    assert!(!seeds.is_empty(), "{} has no seed", folder.display());
    seeds.sort_unstable_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    seeds
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Numbers at which something ends.
const EDGES: [u32; 12] = [0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF];

/// One small change.
fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = at + random.below(bytes.len() - at + 1).min(64);
    let begin = random.below(other.len() + 1);
    let piece = &other[begin..begin + random.below(other.len() - begin + 1).min(256)];
    match random.below(8) {
        0 => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        1 => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte = random.next() as u8),
        2 => bytes.insert(at, random.next() as u8),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        5 => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[begin..]);
        }
        6 => drop(bytes.splice(at..at, piece.iter().copied())),
        _ => {
            let edge = random.one(&EDGES).to_le_bytes();
            let length = [1, 2, 4][random.below(3)];
            let end = bytes.len().min(at + length);
            drop(bytes.splice(at..end, edge[..length].iter().copied()));
        }
    }
}

/// xorshift64*: fast, and good enough to be surprised by.
pub(crate) struct Random(u64);

impl Random {
    fn new(number: u64) -> Random {
        // Numbers that follow each other begin far from each other (splitmix64); zero would stay zero.
        let mut state = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Random((state ^ (state >> 31)) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Zero if there is nothing below.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
