//! v1 frames: what each kind does, and what ends the connection.

use super::{
    Answers, Frame, GENEROUS, Kind, Seen, Side, defaults, frame, hello, raw_frame, reply, request, settings,
};
use crate::error::ProtocolError;
use crate::frame::{flags, push_tlv};
use crate::hello::Allowance;
use crate::layout::Layout;
use crate::rc::ResultCode;

fn open() -> Side {
    Side::open_responder(defaults())
}

/// An extension block with one TLV, and a payload behind it.
fn extended(tag: u16, value: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    push_tlv(&mut block, tag, value);
    [&(block.len() as u16).to_le_bytes()[..], &block, payload].concat()
}

#[test]
fn pipelined_calls_are_answered_in_one_piece() {
    let mut side = open();
    let calls = [request(1, 10, b"a"), request(2, 11, b""), request(3, 10, b"ccc")].concat();
    let ok = ResultCode::OK;
    let expected =
        [Frame::reply(1, 10, ok, b"a"), Frame::reply(2, 11, ok, b""), Frame::reply(3, 10, ok, b"ccc")];
    assert_eq!(side.ask(&calls), expected);
    assert_eq!(side.seen().len(), 3);
}

#[test]
fn requests_may_come_with_the_hello() {
    let mut side = Side::responder(defaults());
    side.feed(&[hello(GENEROUS), request(1, 1, b"x")].concat());
    assert_eq!(side.seen(), [Seen::Request { msg_type: 1, payload: b"x".into() }]);
    assert_eq!(side.connection.layout(), Some(Layout::V1));
}

/// PROTOCOL K1, X6
#[test]
fn ids_must_rise() {
    for (first, second) in [(5, 5), (5, 4), (5, 1), (2, u32::MAX), (1, 0), (7, 7 + (1 << 31))] {
        let mut side = open();
        side.feed(&[request(first, 1, b"one"), request(second, 1, b"two")].concat());
        assert_eq!(side.seen().len(), 1);
        side.assert_fatal(ResultCode::MALFORMED, first);
    }
    let mut side = open();
    side.feed(&request(0, 1, b""));
    side.assert_fatal(ResultCode::MALFORMED, 0);
}

#[test]
fn ids_may_begin_anywhere_jump_and_wrap() {
    let mut side = open();
    let ids = [0x9000_0000, 0x9000_0001, 0xFFFF_FFFF, 1, 0x7FFF_FFFF];
    for id in ids {
        assert_eq!(side.ask(&request(id, 1, b"")), [Frame::reply(id, 1, ResultCode::OK, b"")]);
    }
}

/// PROTOCOL K11, X8
#[test]
fn replies_nobody_asked_for_are_fatal() {
    let mut side = open();
    side.feed(&reply(1, 1, b""));
    assert_eq!(*side.failure(), ProtocolError::UnknownReply(1));
    side.assert_fatal(ResultCode::MALFORMED, 0);

    let mut side = Side::open_initiator(defaults());
    let id = side.call(7, b"");
    side.sent();
    side.feed(&reply(id, 8, b""));
    assert_eq!(*side.failure(), ProtocolError::WrongReplyType { asked: 7, got: 8 });
    side.assert_fatal(ResultCode::MALFORMED, 0);

    let mut side = Side::open_initiator(defaults());
    let id = side.call(7, b"");
    side.sent();
    side.feed(&[reply(id, 7, b"yes"), reply(id, 7, b"again")].concat());
    let once = Seen::Reply { id, rc: 0, is_text: false, payload: b"yes".into() };
    assert_eq!(side.seen(), [once]);
    side.assert_fatal(ResultCode::MALFORMED, 0);
}

/// PROTOCOL F22
#[test]
fn replies_may_be_texts_or_extended() {
    let mut side = Side::open_initiator(defaults());
    let (a, b) = (side.call(1, b""), side.call(2, b""));
    side.feed(&frame(Kind::Reply, flags::EXT, 2, b, 3, &extended(9, b"zz", b"proper")));
    side.feed(&frame(Kind::Reply, flags::TEXT, 1, a, -10, b"why"));
    let expected = [
        Seen::Reply { id: b, rc: 3, is_text: false, payload: b"proper".into() },
        Seen::Reply { id: a, rc: -10, is_text: true, payload: b"why".into() },
    ];
    assert_eq!(side.seen(), expected);
    for payload in [extended(0x8009, b"zz", b"proper"), vec![9, 0, 1]] {
        let mut side = Side::open_initiator(defaults());
        let id = side.call(1, b"");
        side.sent();
        side.feed(&frame(Kind::Reply, flags::EXT, 1, id, 0, &payload));
        assert_eq!(*side.failure(), ProtocolError::BadExtension);
    }
}

/// PROTOCOL K6
#[test]
fn tombstones_count_and_their_replies_are_skipped() {
    let mut side = Side::initiator(defaults());
    side.sent();
    side.feed(&super::answer(Allowance { max_in_flight: 2, ..GENEROUS }));
    side.seen();
    let (a, b) = (side.call(1, b"aa"), side.call(1, b"bb"));
    side.connection.abandon_call(a);
    assert!(!side.connection.may_call(0), "a tombstone is in flight");
    side.feed(&reply(a, 1, b"late"));
    assert_eq!((side.seen(), side.connection.may_call(0)), (vec![], true));
    side.feed(&reply(b, 1, b"fine"));
    assert_eq!(side.seen(), [Seen::Reply { id: b, rc: 0, is_text: false, payload: b"fine".into() }]);
    side.connection.abandon_call(b);
    side.connection.abandon_call(12345);
}

/// PROTOCOL F18, F22, N1
#[test]
fn notifies_get_no_answer() {
    let mut side = open();
    let mut bytes = frame(Kind::Notify, 0, 5, 0, 0, b"note");
    bytes.extend(frame(Kind::Notify, flags::EXT, 6, 0, 0, &extended(1, b"?", b"more")));
    // What can't be executed as it is meant is not executed.
    bytes.extend(frame(Kind::Notify, flags::EXT, 7, 0, 0, &extended(0x8001, b"?", b"more")));
    bytes.extend(frame(Kind::Notify, flags::EXT, 7, 0, 0, &[1]));
    bytes.extend(frame(Kind::Notify, flags::MORE, 7, 0, 0, b"part"));
    bytes.extend(frame(Kind::Notify, flags::TEXT, 7, 0, 0, b"text"));
    assert_eq!(side.ask(&bytes), []);
    let expected = [
        Seen::Notify { msg_type: 5, payload: b"note".into() },
        Seen::Notify { msg_type: 6, payload: b"more".into() },
    ];
    assert_eq!(side.seen(), expected);
}

/// PROTOCOL P1, P2
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn pings_are_answered_one_pong_at_a_time() {
    let mut side = open();
    let pong = |id| Frame { kind: Kind::Pong as u8, flags: 0, msg_type: 0, id, rc: 0, payload: vec![] };
    assert_eq!(side.ask(&frame(Kind::Ping, 0, 0, 9, 0, b"payload is dropped")), [pong(9)]);
    let flood: Vec<u8> = (1..=1000).flat_map(|id| frame(Kind::Ping, 0, 0, id, 0, b"")).collect();
    assert_eq!(side.ask(&flood), [pong(1000)]);
    // One that does not read its replies is owed one pong, however often it is written to.
    side.feed(&request(1, 1, b"x"));
    for _ in 0..100 {
        side.feed(&flood);
        assert_eq!(side.connection.unsent().len(), 17);
        side.connection.mark_sent(0, side.now);
    }
    assert_eq!(side.frames(), [Frame::reply(1, 1, ResultCode::OK, b"x"), pong(1000)]);
}

/// PROTOCOL P1, P4
#[test]
fn either_side_pings() {
    let (mut client, mut server) = (Side::open_initiator(defaults()), Side::open_responder(defaults()));
    for _ in 0..2 {
        std::mem::swap(&mut client, &mut server);
        let (from, to) = (&mut client, &mut server);
        from.connection.push_ping(5).expect("memory");
        from.connection.push_ping(6).expect("memory");
        to.feed(&from.sent());
        from.feed(&to.sent());
        assert_eq!((from.seen(), to.seen()), (vec![Seen::Pong(6)], vec![]));
    }
}

#[test]
fn an_oversized_frame_is_fatal_with_its_header() {
    let mut side = Side::open_responder(settings(|settings| settings.limits.max_payload = 100));
    assert_eq!(side.ask(&request(1, 1, &[0; 100])).len(), 1);
    side.feed(&request(2, 1, &[0; 101])[..16]);
    assert_eq!(*side.failure(), ProtocolError::TooLarge { length: 101, limit: 100 });
    side.assert_fatal(ResultCode::TOO_LARGE, 1);
    // Kinds that are skipped have no larger ones.
    let mut side = Side::open_responder(settings(|settings| settings.limits.max_payload = 100));
    side.feed(&raw_frame(0x80, 0, 0, 0, 0, &[0; 101])[..16]);
    side.assert_fatal(ResultCode::TOO_LARGE, 0);
}

#[test]
fn what_can_not_be_served_is_answered_and_the_link_goes_on() {
    let (malformed, none, missing) =
        (ResultCode::MALFORMED, ResultCode::NO_HANDLER, ResultCode::FEATURE_MISSING);
    let too_long = [9, 0, 1, 0, 9, 0, b'x', b'y', b'z'];
    for (bytes, rc) in [
        (frame(Kind::Request, 0, 4, 1, -1, b"x"), malformed),
        (frame(Kind::Request, 0, 4, 1, i32::MIN, b"x"), malformed),
        (frame(Kind::Request, flags::TEXT, 4, 1, 0, b"x"), malformed),
        (frame(Kind::Request, flags::MORE, 4, 1, 0, b"x"), none),
        (frame(Kind::Request, flags::EXT, 4, 1, 0, b""), malformed),
        (frame(Kind::Request, flags::EXT, 4, 1, 0, &[3, 0, 1, 2]), malformed),
        (frame(Kind::Request, flags::EXT, 4, 1, 0, &[3, 0, 1, 2, 3]), malformed),
        (frame(Kind::Request, flags::EXT, 4, 1, 0, &too_long), malformed),
        (frame(Kind::Request, flags::EXT, 4, 1, 0, &extended(0x8123, b"", b"")), missing),
        (frame(Kind::Subscribe, 0, 4, 1, -1, b""), malformed),
        (frame(Kind::Unsubscribe, flags::TEXT, 4, 1, 0, b""), malformed),
        (frame(Kind::Subscribe, flags::MORE, 4, 1, 0, b""), none),
        (frame(Kind::Subscribe, flags::EXT, 4, 1, 0, &extended(0x8123, b"", b"")), missing),
    ] {
        let mut side = open();
        let frames = side.ask(&bytes);
        assert_eq!((frames.len(), frames[0].kind, frames[0].msg_type, frames[0].id), (1, 2, 4, 1));
        assert_eq!(frames[0].rc, rc.code(), "{bytes:?}");
        assert!(!frames[0].text().is_empty());
        assert_eq!(side.seen(), []);
        assert_eq!(side.ask(&request(2, 1, b"on")), [Frame::reply(2, 1, ResultCode::OK, b"on")]);
    }
}

#[test]
fn extensions_that_may_be_skipped_are() {
    let mut side = open();
    side.feed(&frame(Kind::Request, flags::EXT, 4, 1, 0, &extended(0x0123, b"whatever", b"proper")));
    side.feed(&frame(Kind::Request, flags::EXT, 4, 2, 1000, &[0, 0]));
    let expected = [
        Seen::Request { msg_type: 4, payload: b"proper".into() },
        Seen::Request { msg_type: 4, payload: vec![] },
    ];
    assert_eq!(side.seen(), expected);
}

/// PROTOCOL F2, F12, H23
#[test]
fn kinds_for_others_are_skipped() {
    for kind in [4, 7, 11, 0x80, 0x81, 0xFF] {
        for mut side in [open(), Side::open_initiator(defaults())] {
            assert_eq!(side.ask(&raw_frame(kind, 0, 1, 77, -3, b"something")), []);
            assert_eq!(side.seen(), []);
            assert!(side.connection.flow().failure().is_none());
        }
    }
}

#[test]
fn unknown_kinds_and_reserved_flags_are_fatal() {
    for kind in [0, 13, 0x7F] {
        let mut side = open();
        side.feed(&raw_frame(kind, 0, 1, 1, 0, b"")[..16]);
        assert_eq!(*side.failure(), ProtocolError::UnknownKind(kind));
        side.assert_fatal(ResultCode::MALFORMED, 0);
    }
    for flag in [8, 16, 32, 64, 128] {
        let mut side = open();
        side.feed(&[request(1, 1, b""), raw_frame(1, flag | 1, 1, 2, 0, b"")].concat());
        assert_eq!(*side.failure(), ProtocolError::ReservedFlags(flag | 1));
        side.assert_fatal(ResultCode::MALFORMED, 1);
    }
}

/// PROTOCOL X15
#[test]
fn a_header_is_looked_at_in_order() {
    let all_wrong = raw_frame(13, 8, 0, 0, 0, &[0; 101]);
    let mut flags_and_length = all_wrong.clone();
    flags_and_length[4] = 1;
    let mut length = flags_and_length.clone();
    length[5] = 0;
    for (bytes, error) in [
        (all_wrong, ProtocolError::UnknownKind(13)),
        (flags_and_length, ProtocolError::ReservedFlags(8)),
        (length, ProtocolError::TooLarge { length: 101, limit: 100 }),
    ] {
        let mut side = Side::open_responder(settings(|settings| settings.limits.max_payload = 100));
        side.feed(&bytes[..16]);
        assert_eq!(*side.failure(), error);
    }
}

/// PROTOCOL H4, G3, X2
#[test]
fn a_goodbye_fits_into_what_its_reader_takes() {
    for max_payload in [0, 10] {
        let mut side = Side::responder(defaults());
        side.feed(&hello(Allowance { max_payload, ..GENEROUS }));
        side.sent();
        let frames = side.ask(&raw_frame(99, 0, 0, 0, 0, b""));
        assert_eq!(frames[0].kind, Kind::Goodbye as u8);
        assert_eq!(frames[0].payload.len(), max_payload as usize);
        assert_eq!(frames[0].flags, if max_payload == 0 { 0 } else { flags::TEXT });
    }
}

#[test]
fn replies_that_the_caller_does_not_take_become_too_large() {
    let mut side = Side::responder(defaults());
    side.feed(&hello(Allowance { max_payload: 5, ..GENEROUS }));
    side.sent();
    assert_eq!(side.ask(&request(1, 1, b"12345")), [Frame::reply(1, 1, ResultCode::OK, b"12345")]);
    let frames = side.ask(&request(2, 1, b"123456"));
    assert_eq!((frames[0].rc, frames[0].text()), (ResultCode::TOO_LARGE.code(), "the r"));
}

#[test]
fn a_reply_that_is_dropped_says_that_the_handler_failed() {
    let mut side = open();
    side.answers = Answers::Later;
    side.feed(&request(1, 4, b"x"));
    let mut writer = side.connection.begin_reply(side.tickets.remove(0));
    writer.write(b"half of");
    drop(writer);
    assert_eq!(side.frames(), [Frame::reply(1, 4, ResultCode::HANDLER_FAILED, b"")]);
    side.connection.goodbye(ResultCode::OK);
    side.feed(&frame(Kind::Goodbye, 0, 0, 0, 0, b""));
    assert!(side.connection.is_finishing(), "nothing is in flight any more");
}

/// PROTOCOL K7, K8
#[test]
fn calls_in_flight_are_limited_until_their_replies_have_left() {
    let few = settings(|settings| settings.limits.max_in_flight = 2);
    let mut side = Side::open_responder(few.clone());
    side.feed(&[request(1, 1, b"a"), request(2, 1, b"b")].concat());
    // The first reply leaves but for its last byte, then as a whole.
    side.take(16);
    let mut full = Side::open_responder(few);
    full.feed(&[request(1, 1, b"a"), request(2, 1, b"b"), request(3, 1, b"c")].concat());
    assert_eq!(*full.failure(), ProtocolError::TooManyInFlight { what: "calls", limit: 2 });
    assert_eq!(full.frames().len(), 3, "both replies, then the goodbye");
    side.take(1);
    side.feed(&request(3, 1, b"c"));
    assert!(side.connection.flow().failure().is_none());
    side.feed(&request(4, 1, b"d"));
    side.assert_fatal(ResultCode::BUSY, 3);
}

/// PROTOCOL K7, K8
#[test]
fn bytes_in_flight_are_limited_until_their_replies_have_left() {
    let limits = settings(|settings| settings.limits.max_in_flight_bytes = 10);
    let mut side = Side::open_responder(limits.clone());
    side.feed(&[request(1, 1, &[1; 6]), request(2, 1, &[2; 4]), request(3, 1, b"")].concat());
    side.take(16 + 6);
    side.feed(&request(4, 1, &[4; 6]));
    assert!(side.connection.flow().failure().is_none());
    side.feed(&request(5, 1, &[5; 1]));
    assert_eq!(*side.failure(), ProtocolError::TooManyInFlight { what: "bytes", limit: 10 });
    side.assert_fatal(ResultCode::BUSY, 4);
    // One request over the limit all by itself.
    let mut side = Side::open_responder(limits);
    side.feed(&request(1, 1, &[1; 11]));
    side.assert_fatal(ResultCode::BUSY, 0);
}

/// PROTOCOL K7, K12
#[test]
fn an_initiator_counts_what_it_is_asked_too() {
    let mut side = Side::open_initiator(settings(|settings| settings.limits.max_in_flight = 3));
    let calls: Vec<u8> = (1..=3).flat_map(|id| request(id, 1, b"x")).collect();
    let expected = [1, 2, 3].map(|id| Frame::reply(id, 1, ResultCode::OK, b"x"));
    assert_eq!(side.ask(&calls), expected);
    assert_eq!(side.seen().len(), 3);
    let calls: Vec<u8> = (4..=7).flat_map(|id| frame(Kind::Subscribe, 0, 1, id, -1, b"")).collect();
    side.feed(&calls);
    assert_eq!(side.seen(), []);
    side.assert_fatal(ResultCode::BUSY, 6);
}

#[test]
fn a_v1_link_is_not_paused_but_shares_its_turns_and_has_a_hard_mark() {
    let marks = settings(|settings| {
        settings.limits.outbox_soft = 1000;
        settings.limits.outbox_hard = 3000;
    });
    let mut side = Side::open_responder(marks.clone());
    let payload = [0; 500 - 16];
    let calls: Vec<u8> = (1..=10).flat_map(|id| request(id, 1, &payload)).collect();
    // Nobody reads: each turn ends when the outbox has grown by the soft mark.
    side.receive(&calls);
    for turn in 1..=3 {
        assert_eq!((side.connection.unsent().len(), side.connection.is_paused()), (turn * 1000, false));
        assert!(side.connection.has_backlog());
        side.receive(&[]);
    }
    assert_eq!(*side.failure(), ProtocolError::OutboxFull(3500));
    assert_eq!(side.seen().len(), 7);
    assert!(side.connection.flow().is_hopeless() && side.connection.is_finished());
    assert_eq!(side.sent(), []);

    // With somebody who reads all of them are answered.
    let mut side = Side::open_responder(marks);
    side.receive(&calls);
    let mut replies = side.frames().len();
    while side.connection.has_backlog() {
        side.receive(&[]);
        replies += side.frames().len();
    }
    assert_eq!((replies, side.seen().len()), (10, 10));
}
