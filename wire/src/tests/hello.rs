//! The handshake, who is refused, and how.

use std::cell::Cell;

use super::{GENEROUS, Kind, Seen, Side, answer, classic_request, defaults, hello, settings};
use crate::app::App;
use crate::classic;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::push_tlv;
use crate::hello::{Allowance, Answer, Hello, VERSIONS};
use crate::layout::{Classic, Layout};
use crate::rc::ResultCode;

/// A hello with TLVs or numbers that ours never has.
fn odd_hello(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = hello(GENEROUS);
    change(&mut bytes);
    let length = (bytes.len() as u16).to_le_bytes();
    bytes[4..6].copy_from_slice(&length);
    bytes
}

/// What a responder says to this hello, after which it must be over.
fn refusal_of(bytes: &[u8]) -> Answer {
    let mut side = Side::responder(defaults());
    side.feed(bytes);
    let (_, answer) = Hello::decode_answer(&side.sent()).expect("a hello");
    assert!(side.connection.is_finished());
    assert_eq!(side.failure().rc(), answer.status);
    answer
}

/// PROTOCOL L5a
#[test]
fn a_hello_is_answered_with_what_we_allow() {
    let mut side = Side::responder(settings(|settings| {
        settings.limits.max_payload = 11;
        settings.limits.max_in_flight = 12;
        settings.limits.max_in_flight_bytes = 13;
        settings.limits.stream_credit = 14;
    }));
    side.feed(&hello(GENEROUS));
    let (theirs, answer) = Hello::decode_answer(&side.sent()).unwrap();
    let allowance =
        Allowance { max_payload: 11, max_in_flight: 12, max_in_flight_bytes: 13, stream_credit: 14 };
    assert_eq!((theirs.allowance, theirs.versions), (allowance, VERSIONS));
    assert_eq!((answer.status, answer.version, answer.instance), (ResultCode::OK, 1, [9; 16]));
    assert_eq!(side.connection.layout(), Some(Layout::V1));
    assert_eq!(side.seen(), []);
}

#[test]
fn an_initiator_speaks_first_and_opens_with_the_answer() {
    let mut side = Side::initiator(defaults());
    let ours = Hello::decode(&side.sent()).unwrap();
    assert_eq!(ours.nonce, [7; 16]);
    assert!(!side.connection.may_call(0), "nothing is allowed before the answer");
    let allowance =
        Allowance { max_payload: 100, max_in_flight: 2, max_in_flight_bytes: 50, stream_credit: 60 };
    side.feed(&answer(allowance));
    assert_eq!(side.seen(), [Seen::Opened]);
    assert_eq!(side.connection.request_limit(), 50);
    assert!(side.connection.may_call(50) && !side.connection.may_call(51));
    side.call(1, &[0; 30]);
    assert!(side.connection.may_call(20) && !side.connection.may_call(21));
    side.call(1, &[0; 20]);
    assert!(!side.connection.may_call(0));
}

#[test]
fn no_common_version_names_both_ranges() {
    let refused = refusal_of(&odd_hello(|bytes| bytes[6..8].copy_from_slice(&[2, 5])));
    assert_eq!((refused.status, refused.version), (ResultCode::NO_COMMON_VERSION, 0));
    assert!(refused.text.contains("1 to 1") && refused.text.contains("2 to 5"), "{}", refused.text);
    // A range that is none, and one that only a later version could parse further.
    assert_eq!(
        refusal_of(&odd_hello(|bytes| bytes[6..8].copy_from_slice(&[5, 0]))).status,
        ResultCode::NO_COMMON_VERSION
    );
    for length in [8, 9, 47, 200, 1024] {
        let later = odd_hello(|bytes| {
            bytes.resize(length, 0xFF);
            bytes[6..8].copy_from_slice(&[2, 2]);
        });
        assert_eq!(refusal_of(&later).status, ResultCode::NO_COMMON_VERSION, "{length} bytes");
    }
}

#[test]
fn an_initiator_names_both_ranges_too() {
    for status in [ResultCode::OK, ResultCode::NO_COMMON_VERSION] {
        let mut side = Side::initiator(defaults());
        side.sent();
        let mut bytes = Vec::new();
        let answer = Answer { status, version: 3, instance: [0; 16], text: String::new(), proof: None };
        Hello { versions: (3, 4), ..Hello::ours(GENEROUS, [0; 16], None) }.encode(Some(&answer), &mut bytes);
        side.feed(&bytes);
        let text = side.failure().to_string();
        assert!(text.contains("1 to 1") && text.contains("3 to 4"), "{text}");
        assert_eq!((side.seen(), side.sent()), (vec![], vec![]));
    }
}

#[test]
fn unknown_demands_of_an_initiator_are_refused() {
    let required = refusal_of(&odd_hello(|bytes| bytes[12..16].copy_from_slice(&4u32.to_le_bytes())));
    assert_eq!(required.status, ResultCode::FEATURE_MISSING);
    assert!(required.text.contains("0x00000004"), "{}", required.text);
    let tag = refusal_of(&odd_hello(|bytes| push_tlv(bytes, 0x8077, b"x")));
    assert_eq!(tag.status, ResultCode::FEATURE_MISSING);
    assert!(tag.text.contains("0x8077"), "{}", tag.text);

    let mut side = Side::responder(defaults());
    side.feed(&odd_hello(|bytes| push_tlv(bytes, 0x0077, b"x")));
    assert_eq!(Hello::decode_answer(&side.sent()).unwrap().1.status, ResultCode::OK);
}

/// PROTOCOL H20
#[test]
fn unknown_demands_of_a_responder_end_with_a_goodbye() {
    let answer = |change: fn(&mut Vec<u8>)| {
        let mut bytes = answer(GENEROUS);
        change(&mut bytes);
        let length = (bytes.len() as u16).to_le_bytes();
        bytes[4..6].copy_from_slice(&length);
        bytes
    };
    for bytes in [answer(|bytes| bytes[12] = 1), answer(|bytes| push_tlv(bytes, 0x8001, b""))] {
        let mut side = Side::initiator(defaults());
        side.sent();
        side.feed(&bytes);
        assert_eq!(side.seen(), []);
        side.assert_fatal(ResultCode::FEATURE_MISSING, 0);
    }
    let mut side = Side::initiator(defaults());
    side.feed(&answer(|bytes| push_tlv(bytes, 0x0123, b"may be skipped")));
    assert_eq!(side.seen(), [Seen::Opened]);
}

#[test]
fn malformed_hellos_are_answered_with_one() {
    let with_length = |length: u16| {
        let mut bytes = hello(GENEROUS);
        bytes[4..6].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    for bytes in [
        with_length(0),
        with_length(7),
        with_length(47),
        with_length(1025),
        with_length(u16::MAX),
        odd_hello(|bytes| bytes.push(1)),
        odd_hello(|bytes| bytes.extend([2, 0, 200, 0])),
    ] {
        assert_eq!(refusal_of(&bytes).status, ResultCode::MALFORMED);
    }
}

/// PROTOCOL H19
#[test]
fn answers_that_make_no_sense_are_fatal() {
    let mut short = answer(GENEROUS);
    short.truncate(60);
    short[4..6].copy_from_slice(&60u16.to_le_bytes());
    let mut version = answer(GENEROUS);
    version[52] = 2;
    for bytes in [short, version, b"HTTP/1.1 200 OK".to_vec(), classic_request(1, b"x")] {
        let mut side = Side::initiator(defaults());
        side.sent();
        side.feed(&bytes);
        assert_eq!(side.failure().rc(), ResultCode::MALFORMED);
        assert_eq!((side.seen(), side.sent()), (vec![], vec![]));
        assert!(side.connection.is_finished());
    }
}

#[test]
fn a_refusal_keeps_its_code_and_its_text() {
    let mut bytes = Vec::new();
    let text = "not today".to_owned();
    let answer =
        Answer { status: ResultCode::NOT_PERMITTED, version: 0, instance: [0; 16], text, proof: None };
    Hello::ours(GENEROUS, [0; 16], None).encode(Some(&answer), &mut bytes);
    let mut side = Side::initiator(defaults());
    side.feed(&bytes);
    let expected = ProtocolError::Refused { rc: ResultCode::NOT_PERMITTED, text: "not today".into() };
    assert_eq!(*side.failure(), expected);
}

/// PROTOCOL B4, B5
#[test]
fn refusals_speak_the_layout_of_the_first_four_bytes() {
    for step in [1, 3, 4, 100] {
        let mut side = Side::responder(defaults());
        side.connection.refuse(ResultCode::BUSY, side.now);
        for piece in hello(GENEROUS).chunks(step) {
            side.feed(piece);
        }
        let (_, answer) = Hello::decode_answer(&side.sent()).unwrap();
        assert_eq!(answer.status, ResultCode::BUSY);
        assert!(side.connection.is_finished());

        let mut side = Side::responder(settings(|settings| settings.classic = Classic::Fixed(8)));
        side.connection.refuse(ResultCode::NOT_PERMITTED, side.now);
        let request = classic_request(-77, b"");
        side.feed(&request[..3]);
        assert!(!side.connection.has_unsent(), "three bytes tell nothing");
        side.feed(&request[3..4]);
        let header = classic::Header { msg_type: -77, rc: -5, length: 0 };
        assert_eq!(side.sent(), [&header.encode()[..], &[0; 8]].concat());
        side.feed(&request[4..]);
        assert_eq!((side.seen(), side.connection.is_finished()), (vec![], true));
        assert_eq!(side.connection.layout(), Some(Layout::Classic), "so that a pipe is closed as such");
    }
}

#[test]
fn refused_peers_that_leave_or_say_nothing_get_nothing() {
    let mut side = Side::responder(defaults());
    side.connection.refuse(ResultCode::BUSY, side.now);
    side.feed(&[1, 2]);
    side.connection.end_of_input();
    assert!(side.connection.is_finished() && side.sent().is_empty());
}

/// PROTOCOL S2, S3
#[test]
fn browsers_are_told_nothing_but_noticed() {
    for (first, name) in [
        (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
        (b"POST", "HTTP"),
        (b"OPTIONS", "HTTP"),
        (b"PRI * HTTP/2.0", "HTTP"),
        (&[0x16, 3, 1, 2, 0, 1], "TLS"),
    ] {
        let mut side = Side::responder(settings(|settings| settings.web_is_error = true));
        side.feed(&first[..3]);
        assert!(side.connection.flow().failure().is_none());
        side.feed(&first[3..]);
        assert_eq!(*side.failure(), ProtocolError::OtherProtocol(name));
        assert!(side.failure().to_string().contains(name));
        assert_eq!((side.seen(), side.sent()), (vec![], vec![]));
        // Elsewhere these are the first bytes of a classic type like any other.
        let mut side = Side::responder(defaults());
        side.feed(&first[..4]);
        assert!(side.connection.flow().failure().is_none());
    }
}

#[test]
fn a_second_hello_is_a_broken_frame() {
    let mut side = Side::open_responder(defaults());
    side.feed(&hello(GENEROUS));
    side.assert_fatal(ResultCode::MALFORMED, 0);
}

#[test]
fn classic_frames_behind_a_hello_are_broken_ones() {
    let mut side = Side::open_responder(defaults());
    side.feed(&classic_request(1, b"0123456789"));
    let last = side.frames().pop().expect("a goodbye");
    assert_eq!((last.kind, last.rc), (Kind::Goodbye as u8, ResultCode::MALFORMED.code()));
    assert_eq!(side.seen(), []);
}

/// PROTOCOL H7
#[test]
fn the_last_of_several_tlvs_counts() {
    let bytes = odd_hello(|bytes| {
        push_tlv(bytes, 2, b"first");
        push_tlv(bytes, 2, b"last");
    });
    assert_eq!(Hello::decode(&bytes).unwrap().software, "last");
}

/// PROTOCOL H8
#[test]
fn names_need_not_be_text() {
    let bytes = odd_hello(|bytes| push_tlv(bytes, 2, b"odd\xff"));
    assert_eq!(Hello::decode(&bytes).unwrap().software, "odd\u{fffd}");
}

/// PROTOCOL R2, L19
#[test]
fn a_long_text_in_a_hello_is_cut_between_characters() {
    let text = format!("x{}", "\u{20ac}".repeat(300));
    let answer =
        Answer { status: ResultCode::BUSY, version: 0, instance: [0; 16], text: text.clone(), proof: None };
    let mut bytes = Vec::new();
    Hello::ours(GENEROUS, [0; 16], None).encode(Some(&answer), &mut bytes);
    let (_, cut) = Hello::decode_answer(&bytes).unwrap();
    assert_eq!(cut.text, text[..511], "1 + 170 * 3 bytes, of 512");
}

/// PROTOCOL H8a
#[test]
fn apps_name_themselves_in_both_hellos() {
    let app = |side: u8| App::new(format!("app {side}"), "1.2").contract([side; 32]);
    let of = |side| settings(move |settings| settings.app = Some(app(side)));
    let (mut client, mut server) = (Side::initiator(of(1)), Side::responder(of(2)));
    let (hello, mut told) = (client.sent(), Vec::new());
    server.connection.receive(&hello, &Cell::new(usize::MAX), &mut |_, event| {
        if let Event::Greeted(hello) = event {
            told.push(hello.app().cloned());
        }
    });
    let answer = server.sent();
    client.connection.receive(&answer, &Cell::new(usize::MAX), &mut |_, event| {
        if let Event::Opened(hello) = event {
            assert_eq!(hello.instance(), Some([9; 16]));
            told.push(hello.app().cloned());
        }
    });
    assert_eq!(told, [Some(app(1)), Some(app(2))]);
    assert_eq!(Hello::decode(&self::hello(GENEROUS)).expect("a hello").app(), None);
}

/// PROTOCOL H8a
#[test]
fn parts_of_a_name_are_taken_as_they_come() {
    let hello = Hello::decode(&odd_hello(|bytes| push_tlv(bytes, 5, b"odd\xff"))).expect("a hello");
    let app = hello.app().expect("an app");
    assert_eq!((app.name(), app.version(), app.contract_hash()), ("", "odd\u{fffd}", None));
    let longest = "x".repeat(128);
    let hello = Hello::decode(&odd_hello(|bytes| push_tlv(bytes, 4, longest.as_bytes()))).expect("a hello");
    assert_eq!(hello.app().map(App::name), Some(&*longest));
}

/// PROTOCOL H13a
#[test]
fn apps_that_say_too_much_are_cut_or_malformed() {
    for (tag, length) in [(6, 31), (6, 33), (6, 0)] {
        let odd = odd_hello(|bytes| push_tlv(bytes, tag, &vec![b'x'; length]));
        assert_eq!(refusal_of(&odd).status, ResultCode::MALFORMED, "tag {tag}");
    }
    let long = format!("{}\u{20ac}", "x".repeat(127));
    let hello = Hello::decode(&odd_hello(|bytes| push_tlv(bytes, 4, long.as_bytes()))).expect("a hello");
    assert_eq!(hello.app().map(App::name), Some(&long[..127]));
    assert!(App::new("x".repeat(129), "").check().is_err() && App::new("", "x".repeat(128)).check().is_ok());
}

/// PROTOCOL H8b
#[test]
fn a_refusal_names_no_app() {
    let mut side = Side::responder(settings(|settings| settings.app = Some(App::new("secret", "1"))));
    side.connection.refuse(ResultCode::NOT_PERMITTED, side.now);
    side.feed(&hello(GENEROUS));
    let (theirs, answer) = Hello::decode_answer(&side.sent()).expect("a hello");
    assert_eq!((theirs.app(), answer.status), (None, ResultCode::NOT_PERMITTED));
}

/// The largest that ours can be, with an app and a refusal's text.
#[test]
fn the_largest_hello_fits() {
    let app = App::new("n".repeat(128), "v".repeat(128)).contract([1; 32]);
    let text = "t".repeat(600);
    let answer = Answer { status: ResultCode::BUSY, version: 0, instance: [0; 16], text, proof: None };
    let mut bytes = Vec::new();
    Hello::ours(GENEROUS, [0; 16], Some(app.clone())).encode(Some(&answer), &mut bytes);
    let (theirs, answer) = Hello::decode_answer(&bytes).expect("a hello");
    assert_eq!((theirs.app(), answer.text.len()), (Some(&app), 512));
}

/// PROTOCOL H1a
#[test]
fn each_hello_has_a_nonce_of_its_own() {
    let mut side = Side::responder(settings(|settings| settings.nonce = || [42; 16]));
    side.feed(&hello(GENEROUS));
    assert_eq!(Hello::decode_answer(&side.sent()).expect("a hello").0.nonce, [42; 16]);
}
