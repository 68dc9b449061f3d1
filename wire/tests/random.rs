//! The targets of `fuzz/` with random bytes: in each run others, for as long as `SIDEWIRE_FUZZ_SECONDS` says.

#![allow(clippy::disallowed_methods, reason = "tests have a clock of their own, which starts now")]

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Seconds for each target.
const USUAL: Duration = Duration::from_millis(300);

/// xorshift64*: fast, and good enough to be surprised by.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Bytes of which many say something: whole headers, with kinds, flags and lengths that may be right.
    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.next() % 24 {
            let word = self.next().to_le_bytes();
            match word[0] % 8 {
                0 => bytes.extend_from_slice(&word),
                1 => bytes.extend_from_slice(&[0xD1, 0x53, 0x57, 0xD1]),
                2 => bytes.extend_from_slice(&vec![word[1] % 5; usize::from(word[2] % 64)]),
                3 => bytes.push(word[1] % 40),
                _ => {
                    let length = word[1] % 40;
                    let is_extended = word[2].is_multiple_of(3);
                    bytes.extend_from_slice(&[0x80 | word[7], word[6] % 17, 16 + length]);
                    bytes.extend_from_slice(&[
                        length,
                        0,
                        0,
                        0,
                        1 + word[3] % 13,
                        if is_extended { 2 } else { word[4] % 8 },
                    ]);
                    bytes.extend_from_slice(&[
                        word[5] % 4,
                        0,
                        bytes.len() as u8,
                        (bytes.len() >> 8) as u8,
                        0,
                        0,
                        0,
                        0,
                        0,
                        0,
                    ]);
                    if is_extended {
                        bytes.extend_from_slice(&[5, 0, 1, 0x80, 1, 0, word[6] % 17]);
                    }
                }
            }
        }
        bytes
    }
}

#[test]
fn no_target_is_surprised_by_random_bytes() {
    let seconds = std::env::var("SIDEWIRE_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = seconds.map_or(USUAL, Duration::from_secs);
    let seed = getrandom::u64().expect("randomness") | 1;
    let mut random = Random(seed);
    for (name, target) in targets::ALL {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let bytes = random.bytes();
            if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                panic!("{name} panics, with seed {seed}, at {}", bytes.escape_ascii());
            }
        }
    }
}
