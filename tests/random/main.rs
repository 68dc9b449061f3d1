//! Endpoint texts and typed values of strangers, at random: seeds that are right, of which a few bytes are changed. `fuzz/`
//! gives the same targets to libFuzzer.

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// For each target; `SIDEWIRE_FUZZ_SECONDS` for longer.
const USUAL: Duration = Duration::from_millis(300);

const ENDPOINTS: &[&[u8]] = &[
    b"local:com.example.app",
    b"unix:/run/a b.sock",
    br#"unix:"/tmp/a\x0ab\xff""#,
    br#"abstract:"a\x00""#,
    b"abstract-padded:x",
    br"pipe:LOCAL\x",
    br"mailslot:a\b",
    b"tcp:127.0.0.1:0",
    b"tcp:[fe80::1%eth0]:80",
    b"udp:localhost:65535",
    "tcp:grün.example:1".as_bytes(),
    "pipe:e\u{301}".as_bytes(),
    "unix:/e\u{301}".as_bytes(),
    b"unixgram:/tmp/x",
    b"tcp://host:80",
    b"@name",
];

#[cfg(feature = "serde")]
const VALUES: &[&[u8]] = &[
    b"\x00",
    b"\x01\x01\x01\x00",
    b"\x01\x00\x02\x01\x00\x00\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x03\x01a\x01b\x00",
    b"\x01\x02\x03\x04\x05\x00\x00\x00\x00\x61\x03abc\x01\x01\x07\x02\x01\x01\x02\x09\x01\x01n\x01\x01k\x00",
    br#"{"numbers":[true,1,2,3,4,0.5,"a"],"text":"t","maybe":null,"nothings":[null],"lists":[["None"]],"map":{"k":"Leaf"}}"#,
    br#"[[[[]]]]"#,
    br#"{"Node":["Leaf",[]]}"#,
];

#[test]
fn no_text_is_a_surprise() {
    play("endpoints", targets::endpoints, ENDPOINTS);
}

#[cfg(feature = "serde")]
#[test]
fn no_value_is_a_surprise() {
    play("typed", targets::typed, VALUES);
}

fn play(name: &str, target: fn(&[u8]), seeds: &[&[u8]]) {
    let seconds = std::env::var("SIDEWIRE_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let end = Instant::now() + seconds.map_or(USUAL, Duration::from_secs);
    for seed in seeds {
        target(seed);
    }
    while Instant::now() < end {
        let bytes = changed(seeds);
        if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
            panic!("{name} panics at {}", bytes.escape_ascii());
        }
    }
}

/// One of the seeds with some bytes changed, left out, or put in from another.
fn changed(seeds: &[&[u8]]) -> Vec<u8> {
    let random = |below: usize| getrandom::u32().expect("randomness") as usize % below.max(1);
    let mut bytes = seeds[random(seeds.len())].to_vec();
    for _ in 0..random(4) {
        let at = random(bytes.len());
        match random(4) {
            0 if !bytes.is_empty() => bytes[at] = random(256) as u8,
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 => bytes.insert(at, [0, 0x7f, 0xff, b':', b'"', b'\\', b'[', b'%'][random(8)]),
            _ => {
                let other = seeds[random(seeds.len())];
                bytes.extend_from_slice(&other[random(other.len())..]);
            }
        }
    }
    bytes
}
