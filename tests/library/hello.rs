//! The v1 handshake, byte by byte.

use std::time::Duration;

use sidewire::{Client, Endpoint, Limits, ResultCode, Server};

use crate::util::{
    Dialect, Raw, all_streams, frame, fresh, hello, on_every_stream, start, store_with, unique, until, usual,
    watchdog,
};

const ECHO: u16 = 4;

/// A responder's hello.
#[derive(Debug)]
struct Answer(Vec<u8>);

impl Answer {
    fn receive(raw: &Raw) -> Answer {
        let mut bytes = raw.receive(6);
        assert_eq!(bytes[..4], [0xD1, 0x53, 0x57, 0xD1]);
        let length = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        assert!((72..=1024).contains(&length), "a hello of {length} bytes");
        bytes.extend(raw.receive(length - 6));
        Answer(bytes)
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn versions(&self) -> [u8; 2] {
        [self.0[6], self.0[7]]
    }

    fn status(&self) -> ResultCode {
        ResultCode::new(self.number(48) as i32)
    }

    /// The value of this TLV.
    fn text(&self, tag: u16) -> Option<String> {
        let mut rest = &self.0[72..];
        while let [a, b, c, d, values @ ..] = rest {
            let (value, more) = values.split_at(usize::from(u16::from_le_bytes([*c, *d])));
            if u16::from_le_bytes([*a, *b]) == tag {
                return Some(String::from_utf8(value.to_vec()).expect("a text"));
            }
            rest = more;
        }
        None
    }
}

fn tlv(tag: u16, value: &[u8]) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value].concat()
}

/// An initiator's hello with this behind its fixed part.
fn hello_with(tlvs: &[u8]) -> Vec<u8> {
    let mut bytes = hello(1, 1);
    bytes.extend_from_slice(tlvs);
    let length = bytes.len() as u16;
    bytes[4..6].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// An initiator's hello that requires these features.
fn hello_requiring(bits: u32) -> Vec<u8> {
    let mut bytes = hello(1, 1);
    bytes[12..16].copy_from_slice(&bits.to_le_bytes());
    bytes
}

fn on_every_listener(test: impl Fn(&Endpoint)) {
    let mut limits = Limits::default();
    limits.listener.connection.linger = Duration::from_millis(500);
    limits.listener.connection.max_payload = 1111;
    limits.listener.connection.max_in_flight = 22;
    limits.listener.connection.max_in_flight_bytes = 3333;
    on_every_stream(store_with(limits), |listen| listen, test);
}

fn expect_refusal(endpoint: &Endpoint, bytes: &[u8], status: ResultCode) -> Answer {
    let raw = Raw::connect(endpoint);
    raw.send(bytes);
    let answer = Answer::receive(&raw);
    assert_eq!((answer.status(), answer.0[52]), (status, 0), "{answer:x?}");
    raw.expect_end();
    answer
}

fn expect_welcome(endpoint: &Endpoint, bytes: &[u8]) -> Answer {
    let raw = Raw::connect(endpoint);
    raw.send(bytes);
    let answer = Answer::receive(&raw);
    assert_eq!((answer.status(), answer.0[52]), (ResultCode::OK, 1), "{answer:x?}");
    assert_eq!(Dialect::V1.call(&raw, 1, ECHO, b"in"), Dialect::V1.good(1, ECHO, b"in"));
    answer
}

/// PROTOCOL H1, H1a, H3, H8, H17
#[test]
fn the_answer_says_what_the_server_takes() {
    let _watchdog = watchdog(60);
    on_every_listener(|endpoint| {
        let first = expect_welcome(endpoint, &hello(1, 1));
        assert_eq!(first.versions(), [1, 1]);
        let numbers = [8, 12, 16, 20, 24].map(|at| first.number(at));
        assert_eq!(numbers, [0, 0, 1111, 22, 3333]);
        assert_eq!(first.0[53..56], [0, 0, 0]);
        let software = first.text(2).expect("who it is");
        assert!(software.starts_with("sidewire/"), "{software}");
        let second = expect_welcome(endpoint, &hello(1, 1));
        assert_eq!(second.0[56..72], first.0[56..72], "one server is one instance");
        assert_ne!(first.0[56..72], [0; 16]);
        assert_ne!(first.0[32..48], second.0[32..48], "each hello has a nonce of its own");
    });
}

/// PROTOCOL H2
#[test]
fn each_start_is_another_instance() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("tcp");
    let mut instances = std::collections::HashSet::new();
    for _ in 0..3 {
        let (running, bound) = start(store_with(Limits::default()), [usual(&endpoint)]);
        instances.insert(expect_welcome(&bound[0], &hello(1, 1)).0[56..72].to_vec());
        running.stop().expect("the server ends well");
    }
    assert_eq!(instances.len(), 3);
}

/// PROTOCOL H11
#[test]
fn versions_without_one_in_common_are_refused_by_name() {
    let _watchdog = watchdog(60);
    on_every_listener(|endpoint| {
        for (min, max) in [(2, 2), (2, 255), (0, 0), (3, 1)] {
            let answer = expect_refusal(endpoint, &hello(min, max), ResultCode::NO_COMMON_VERSION);
            assert_eq!(answer.versions(), [1, 1]);
            let text = answer.text(3).expect("why");
            assert!(text.contains("1 to 1") && text.contains(&format!("{min} to {max}")), "{text}");
        }
        for (min, max) in [(0, 1), (1, 2), (0, 255)] {
            expect_welcome(endpoint, &hello(min, max));
        }
    });
}

/// PROTOCOL H5, H6, H9, H10, H12
#[test]
fn hellos_of_all_lengths() {
    let _watchdog = watchdog(60);
    on_every_listener(|endpoint| {
        // As long as can be, in two TLVs that may be skipped.
        let filler = [tlv(0x7FFF, &[1; 500]), tlv(4, &[2; 1024 - 48 - 504 - 4])].concat();
        let longest = hello_with(&filler);
        assert_eq!(longest.len(), 1024);
        expect_welcome(endpoint, &longest);
        expect_welcome(endpoint, &hello_with(&tlv(2, unique("a-test").as_bytes())));
        expect_welcome(endpoint, &hello_with(&tlv(9, b"")));
        for length in [0u16, 7, 8, 47, 1025, u16::MAX] {
            let mut bytes = hello(1, 1);
            bytes[4..6].copy_from_slice(&length.to_le_bytes());
            // Of one that is too long not even the rest of the first 48 bytes is waited for.
            let most = if length > 1024 { 8 } else { usize::from(length).max(8) };
            expect_refusal(endpoint, &bytes[..most], ResultCode::MALFORMED);
        }
    });
}

/// PROTOCOL H13
#[test]
fn broken_tlvs_are_malformed() {
    let _watchdog = watchdog(60);
    on_every_listener(|endpoint| {
        for broken in [&[2][..], &[2, 0, 0], &[2, 0, 5, 0, b'x'], &[2, 0, 0xFF, 0xFF]] {
            expect_refusal(endpoint, &hello_with(broken), ResultCode::MALFORMED);
        }
    });
}

/// PROTOCOL H6, H14, H15
#[test]
fn what_must_be_understood_and_is_not_is_refused() {
    let _watchdog = watchdog(60);
    on_every_listener(|endpoint| {
        let answer = expect_refusal(
            endpoint,
            &hello_with(&[tlv(9, b"may be skipped"), tlv(0x8009, b"may not")].concat()),
            ResultCode::FEATURE_MISSING,
        );
        assert!(answer.text(3).expect("why").contains("0x8009"), "{answer:x?}");
        // Not the tag 2, which is known.
        expect_refusal(endpoint, &hello_with(&tlv(0x8002, b"x")), ResultCode::FEATURE_MISSING);
        let mut required = hello(1, 1);
        required[12] = 4;
        let answer = expect_refusal(endpoint, &required, ResultCode::FEATURE_MISSING);
        assert!(answer.text(3).expect("why").contains("0x00000004"), "{answer:x?}");
        // Offering what we do not know is fine.
        let mut offered = hello(1, 1);
        offered[8] = 4;
        expect_welcome(endpoint, &offered);
    });
}

/// The version comes first: a newer peer may well require what we do not know.
/// PROTOCOL H9
#[test]
fn the_version_is_looked_at_before_all_else() {
    let _watchdog = watchdog(60);
    on_every_listener(|endpoint| {
        let mut newer = hello_with(&tlv(0x8009, b""));
        newer[6..8].copy_from_slice(&[2, 3]);
        newer[12] = 4;
        expect_refusal(endpoint, &newer, ResultCode::NO_COMMON_VERSION);
    });
}

#[test]
fn a_second_hello_is_no_frame() {
    let _watchdog = watchdog(60);
    on_every_listener(|endpoint| {
        let raw = Dialect::V1.raw(endpoint);
        raw.send(&hello(1, 1));
        // Its bytes 4 to 5 are the kind 48 and no flags.
        let goodbye = raw.receive_frame();
        assert_eq!((goodbye.kind, goodbye.rc), (12, ResultCode::MALFORMED.code()), "{goodbye:?}");
        raw.expect_end();
    });
}

/// PROTOCOL J5, J8
#[test]
fn a_server_that_may_be_stopped_is_by_whom_the_system_knows() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = Server::builder(()).may_be_stopped().build().expect("a server");
        let bound = server.listen(usual(&endpoint)).expect("listen");
        let running = server.spawn().expect("spawn");
        if let Endpoint::Tcp { .. } = bound {
            let answer = expect_refusal(&bound, &hello_requiring(1), ResultCode::NOT_PERMITTED);
            assert!(answer.text(3).is_some_and(|text| text.contains("stop")), "{answer:x?}");
            running.stop().expect("it ran");
            continue;
        }
        let raw = Raw::connect(&bound);
        raw.send(&hello_requiring(1));
        assert_eq!(Answer::receive(&raw).status(), ResultCode::OK, "{bound}");
        let goodbye = raw.receive_frame();
        assert_eq!((goodbye.kind, goodbye.rc), (12, ResultCode::SHUTTING_DOWN.code()));
        raw.send(&frame(12, 0, 0, 0, b""));
        drop(raw);
        until("the server has gone", || {
            Client::connect(bound.clone()).is_err_and(|error| error.is_not_listening())
        });
    }
}

/// PROTOCOL J6
#[cfg(unix)]
#[test]
fn whoever_is_at_a_channel_of_the_programs_own_stops_nothing() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    let _watchdog = watchdog(60);
    let mut server = Server::builder(()).may_be_stopped().build().expect("a server");
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    server.serve_stream(theirs, sidewire::Access::SameUser).expect("a stream");
    let running = server.spawn().expect("spawn");
    ours.write_all(&hello_requiring(1)).expect("it reads");
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).expect("an answer");
    assert_eq!(Answer(answer).status(), ResultCode::NOT_PERMITTED);
    running.stop().expect("it ran");
}
