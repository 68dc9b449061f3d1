//! The classic layout's rules.

use super::{Answers, GENEROUS, Seen, Side, classic_frame, classic_request, defaults, echo, hello, settings};
use crate::error::ProtocolError;
use crate::layout::{Classic, Layout};
use crate::rc::ResultCode;

fn short(limit: u32) -> Side {
    Side::responder(settings(|settings| settings.classic = Classic::Short(limit)))
}

fn fixed(size: u32) -> Side {
    Side::responder(settings(|settings| settings.classic = Classic::Fixed(size)))
}

#[test]
fn types_of_all_sizes_are_echoed_and_the_link_goes_on() {
    let mut side = short(100);
    for msg_type in [0, 1, 65_535, 65_536, i32::MAX, -1, i32::MIN] {
        side.feed(&classic_request(msg_type, b"hi"));
        assert_eq!(side.seen(), [Seen::Request { msg_type, payload: b"hi".into() }]);
        assert_eq!(side.sent(), classic_frame(msg_type, 0, 2, b"hi"));
    }
    assert_eq!(side.connection.layout(), Some(Layout::Classic));
}

#[test]
fn the_requests_rc_is_ignored_and_the_replys_is_ours() {
    let mut side = short(100);
    side.feed(&classic_frame(4, -12345, 0, b""));
    assert_eq!(side.sent(), classic_frame(4, 0, 0, b""));
    side.answers = Answers::Later;
    side.feed(&classic_frame(4, 7, 1, b"x"));
    let writer = side.connection.begin_reply(side.tickets.remove(0));
    assert_eq!(writer.fail(ResultCode::new(9), "no place for a text"), ResultCode::new(9));
    assert_eq!(side.sent(), classic_frame(4, 9, 0, b""));
}

#[test]
fn bad_lengths_are_answered_at_once_and_end_the_link_in_order() {
    for (length, rc) in [(-1, -4), (i32::MIN, -4), (101, -3), (i32::MAX, -3)] {
        for (mut side, padding) in [(short(100), vec![]), (fixed(100), vec![0; 100])] {
            let mut good = classic_request(1, b"");
            good.extend(&padding);
            side.feed(&[good.clone(), classic_frame(-9, 0, length, b"")].concat());
            assert_eq!(side.seen().len(), 1);
            assert_eq!(side.failure().rc(), ResultCode::new(rc));
            let replies = [classic_frame(1, 0, 0, &padding), classic_frame(-9, rc, 0, &padding)];
            assert_eq!(side.sent(), replies.concat());
            side.feed(&good);
            assert_eq!((side.seen(), side.sent(), side.connection.is_finished()), (vec![], vec![], true));
            assert_eq!(side.connection.layout(), Some(Layout::Classic), "so that a pipe is closed as such");
        }
    }
}

#[test]
fn a_bad_length_in_the_very_first_frame_is_answered_too() {
    let mut side = short(100);
    side.feed(&classic_frame(8, 0, 101, b""));
    assert_eq!(side.sent(), classic_frame(8, -3, 0, b""));
    assert_eq!(side.connection.layout(), Some(Layout::Classic));
}

#[test]
fn the_longest_payload_fits() {
    let mut side = short(100);
    side.feed(&classic_request(1, &[7; 100]));
    assert_eq!(side.sent(), classic_frame(1, 0, 100, &[7; 100]));
}

#[test]
fn fixed_frames_are_padded_both_ways() {
    let mut side = fixed(8);
    let mut frame = classic_request(5, b"abc");
    frame.extend(b"xxxxx");
    side.feed(&[frame.clone(), frame[..19].to_vec()].concat());
    assert_eq!(side.seen(), [Seen::Request { msg_type: 5, payload: b"abc".into() }], "one byte is missing");
    assert_eq!(side.sent(), classic_frame(5, 0, 3, b"abc\0\0\0\0\0"));
    side.feed(&frame[19..]);
    assert_eq!(side.sent(), classic_frame(5, 0, 3, b"abc\0\0\0\0\0"));

    let mut client = Side::classic_initiator(settings(|settings| settings.classic = Classic::Fixed(8)));
    let id = client.call(5, b"abc");
    assert_eq!(client.sent(), classic_frame(5, 0, 3, b"abc\0\0\0\0\0"));
    client.feed(&classic_frame(5, 2, 1, b"zgarbage"));
    assert_eq!(client.seen(), [Seen::Reply { id, rc: 2, is_text: false, payload: b"z".into() }]);
}

#[test]
fn a_partial_frame_at_the_end_is_dropped() {
    let whole = classic_request(5, b"abc");
    for cut in 1..whole.len() {
        let mut side = short(100);
        side.feed(&[&whole[..], &whole[..cut]].concat());
        side.connection.end_of_input();
        assert_eq!(side.seen().len(), 1);
        assert_eq!(*side.failure(), ProtocolError::CutOff);
        assert_eq!(side.sent(), classic_frame(5, 0, 3, b"abc"));
        assert!(side.connection.is_finished());
    }
}

#[test]
fn refused_where_only_v1_is_spoken() {
    let mut side = Side::responder(settings(|settings| settings.classic = Classic::Refused));
    side.feed(&classic_request(77, b"")[..4]);
    assert_eq!(*side.failure(), ProtocolError::ClassicRefused);
    assert_eq!(side.sent(), classic_frame(77, -5, 0, b""));
    assert!(side.connection.is_finished());
    let mut side = Side::responder(settings(|settings| settings.classic = Classic::Refused));
    side.feed(&hello(GENEROUS));
    assert_eq!(side.connection.layout(), Some(Layout::V1));
}

#[test]
fn a_magic_number_inside_a_classic_stream_is_just_a_type() {
    let mut side = short(2000);
    side.feed(&classic_request(1, b""));
    side.sent();
    let hello = hello(GENEROUS);
    side.feed(&hello);
    assert_eq!(side.connection.layout(), Some(Layout::Classic));
    assert!(side.sent().starts_with(&hello[..4]), "echoed as the type that it is");
}

/// PROTOCOL C3
#[test]
fn nothing_is_dispatched_behind_a_request_without_its_answer() {
    let mut side = short(100);
    side.answers = Answers::Later;
    side.feed(&[classic_request(1, b"a"), classic_request(2, b"b")].concat());
    assert_eq!(side.seen().len(), 1);
    assert!(side.connection.is_paused() && !side.connection.has_backlog());
    echo(&mut side.connection, side.tickets.remove(0), b"a");
    assert!(!side.connection.is_paused() && side.connection.has_backlog());
    side.feed(&[]);
    assert_eq!(side.seen(), [Seen::Request { msg_type: 2, payload: b"b".into() }]);
    echo(&mut side.connection, side.tickets.remove(0), b"b");
    assert_eq!(side.sent(), [classic_frame(1, 0, 1, b"a"), classic_frame(2, 0, 1, b"b")].concat());
}

#[test]
fn reading_pauses_at_the_soft_mark_and_goes_on_below_it() {
    let mut side = Side::responder(settings(|settings| settings.limits.outbox_soft = 60));
    let request = classic_request(1, b"12345678");
    side.feed(&request.repeat(10));
    assert_eq!(side.seen().len(), 3, "three replies of 20 bytes reach the mark");
    assert!(side.connection.is_paused() && !side.connection.has_backlog());
    assert!(side.connection.take_large_partial(1).is_none());
    side.take(1);
    assert!(side.connection.has_backlog());
    side.feed(&[]);
    assert_eq!(side.seen().len(), 1);
    assert!(side.connection.is_paused());
    let (mut replies, mut requests) = (59 + 20, 4);
    side.sent();
    while side.connection.has_backlog() {
        side.feed(&[]);
        requests += side.seen().len();
        replies += side.sent().len();
    }
    assert_eq!((requests, replies), (10, 199));
}

#[test]
fn a_soft_mark_of_nothing_still_lets_one_reply_out_after_the_other() {
    let mut side = Side::responder(settings(|settings| settings.limits.outbox_soft = 0));
    side.feed(&classic_request(1, b"").repeat(3));
    let mut replies = side.sent().len();
    while side.connection.has_backlog() {
        side.feed(&[]);
        replies += side.sent().len();
    }
    assert_eq!(replies, 36);
}

/// PROTOCOL C20
#[test]
fn a_client_gets_its_replies_in_order() {
    let mut side = Side::classic_initiator(defaults());
    let (a, b, c) = (side.call(1, b"a"), side.call(2, b"b"), side.call(3, b"c"));
    side.connection.abandon_call(b);
    let requests = [classic_request(1, b"a"), classic_request(2, b"b"), classic_request(3, b"c")];
    assert_eq!(side.sent(), requests.concat());
    let replies = [classic_frame(1, 0, 1, b"A"), classic_frame(2, 0, 1, b"B"), classic_frame(3, -7, 0, b"")];
    side.feed(&replies.concat());
    let expected = [
        Seen::Reply { id: a, rc: 0, is_text: false, payload: b"A".into() },
        Seen::Reply { id: c, rc: -7, is_text: false, payload: vec![] },
    ];
    assert_eq!(side.seen(), expected);
    side.feed(&classic_frame(1, 0, 0, b""));
    assert_eq!(*side.failure(), ProtocolError::UnaskedReply);
    assert!(side.sent().is_empty() && side.connection.is_finished());
}

/// PROTOCOL C21
#[test]
fn a_client_is_not_fooled_by_other_types_or_lengths() {
    for (reply, expected) in [
        (classic_frame(2, 0, 0, b""), ProtocolError::WrongReplyType { asked: 1, got: 2 }),
        (classic_frame(1, 0, -1, b""), ProtocolError::NegativeLength(-1)),
        (classic_frame(1, 0, 1025, b""), ProtocolError::TooLarge { length: 1025, limit: 1024 }),
    ] {
        let mut side = Side::classic_initiator(defaults());
        side.call(1, b"");
        side.sent();
        side.feed(&reply);
        assert_eq!((side.failure(), &side.seen[..]), (&expected, &[][..]));
        assert!(side.sent().is_empty() && side.connection.is_finished(), "a client answers nothing");
    }
}
