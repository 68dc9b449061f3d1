//! The targets of `fuzz/` on any compiler: their corpus, and bytes that come of it, in each run others, for as long as
//! `SIDEWIRE_FUZZ_SECONDS` says.

#![allow(clippy::disallowed_methods, reason = "tests have a clock of their own, which starts now")]

mod driver;
mod targets;

use std::collections::BTreeSet;

use driver::{Play, Random, play};

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");

#[test]
fn no_target_is_surprised_by_random_bytes() {
    let play_of = |&(name, target)| Play { name, target, seeds: &[], make: Some(headers) };
    let plays: Vec<_> = targets::ALL.iter().map(play_of).collect();
    play(&format!("{FUZZ}/seeds"), &plays);
}

/// A target that only libFuzzer knew would be tried by few.
#[test]
fn each_target_of_the_fuzzer_is_played_somewhere() {
    let files = std::fs::read_dir(format!("{FUZZ}/targets")).expect("the folder is there");
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        file.expect("it can be listed").path().file_stem().expect("a name").to_string_lossy().into_owned()
    };
    // Those two are played by the tests/random of the package above.
    let played = targets::ALL.iter().map(|(name, _)| *name).chain(["endpoints", "typed"]).map(String::from);
    assert_eq!(files.map(name).collect::<BTreeSet<_>>(), played.collect());
}

/// Bytes of which many say something: whole headers, with kinds, flags and lengths that may be right.
fn headers(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.next() % 24 {
        let word = random.next().to_le_bytes();
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
