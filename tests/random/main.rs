//! Endpoint texts and typed values of strangers: the corpus of `fuzz/`, which gives the same targets to libFuzzer, and
//! others that are right, of which a few bytes are changed.

#[path = "../../wire/tests/driver/mod.rs"]
mod driver;
mod targets;

use driver::{Play, play};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds");

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
    br#"exec:a 'b c' "it's \"\\\x" C:\d\"#,
    b"ssh:ada@build.example:2222 unix:/run/a b.sock",
    b"ssh:[2001:db8::1] local:x",
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
    play(CORPUS, &[Play { name: "endpoints", target: targets::endpoints, seeds: ENDPOINTS, make: None }]);
}

#[cfg(feature = "serde")]
#[test]
fn no_value_is_a_surprise() {
    play(CORPUS, &[Play { name: "typed", target: targets::typed, seeds: VALUES, make: None }]);
}
