//! What happens when there is no memory for what a peer sends, or for what it is sent.

use std::cell::Cell;
use std::time::Instant;

use super::*;
use crate::memory::with_at_most;
use crate::plain::{Cut, Plain};

/// No piece of memory is larger.
const MOST: usize = 1 << 20;
/// More than that.
const LARGE: usize = 3 << 20;

/// Ways in which bytes come: pieces of so many, and read in place if so many lack.
const WAYS: [(usize, usize); 5] = [
    (1_000, usize::MAX),
    (65_536, usize::MAX),
    (65_536, 65_536),
    (100_001, 65_536),
    (usize::MAX, usize::MAX),
];

fn feed_in_pieces(side: &mut Side, bytes: &[u8], (piece, large): (usize, usize)) {
    side.large = large;
    // The last byte always comes on its own: or all would be there at once, and nothing to be kept.
    let (most, last) = bytes.split_at(bytes.len() - 1);
    for bytes in most.chunks(piece).chain([last]) {
        side.feed(bytes);
    }
}

fn is_busy(frame: &Frame, id: u32) {
    assert_eq!(
        (frame.kind, frame.id, frame.rc),
        (Kind::Reply as u8, id, ResultCode::BUSY.code()),
        "{frame:?}"
    );
    assert!(frame.text().contains("no memory"), "{frame:?}");
}

/// PROTOCOL X16
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_v1_request_that_can_not_be_kept_is_answered_busy() {
    for way in WAYS {
        with_at_most(MOST, || {
            let mut side = Side::open_responder(defaults());
            let bytes = [request(1, 4, b"small"), request(2, 4, &vec![b'x'; LARGE]), request(3, 4, b"next")];
            feed_in_pieces(&mut side, &bytes[..2].concat(), way);
            side.feed(&bytes[2]);
            let frames = side.frames();
            assert_eq!(frames.len(), 3, "{way:?}");
            assert_eq!(frames[0], Frame::reply(1, 4, ResultCode::OK, b"small"));
            is_busy(&frames[1], 2);
            assert_eq!(frames[2], Frame::reply(3, 4, ResultCode::OK, b"next"));
            assert!(side.connection.flow().buffered() <= MOST);
            assert_eq!(side.seen().len(), 2);
        });
    }
}

/// What follows such a request in the same piece is not taken for its payload.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn requests_right_behind_a_lost_one_are_served() {
    for budget in [1, 2, usize::MAX] {
        with_at_most(MOST, || {
            let mut side = Side::open_responder(defaults());
            side.budget = budget;
            let lost = request(1, 4, &vec![b'x'; LARGE]);
            side.feed(&lost[..LARGE - 5]);
            side.feed(&[&lost[LARGE - 5..], &request(2, 4, b"a"), &request(3, 4, b"b")].concat());
            let frames = side.frames();
            is_busy(&frames[0], 1);
            assert_eq!(
                frames[1..],
                [(2, b"a"), (3, b"b")].map(|(id, text)| Frame::reply(id, 4, ResultCode::OK, text))
            );
        });
    }
}

/// PROTOCOL C9
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_classic_request_that_can_not_be_kept_is_answered_busy() {
    for way in WAYS {
        for first in [&b""[..], &classic_request(4, b"first")] {
            with_at_most(MOST, || {
                let mut side =
                    Side::responder(settings(|settings| settings.classic = Classic::Short(16 << 20)));
                side.feed(first);
                feed_in_pieces(&mut side, &classic_request(-7, &vec![b'x'; LARGE]), way);
                side.feed(&classic_request(4, b"next"));
                let busy = classic_frame(-7, ResultCode::BUSY.code(), 0, b"");
                assert_eq!(side.sent(), [first, &busy, &classic_request(4, b"next")].concat(), "{way:?}");
            });
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_whole_struct_that_can_not_be_kept_is_answered_busy() {
    let size = MOST - 100;
    with_at_most(MOST, || {
        let mut side = Side::responder(settings(|settings| settings.classic = Classic::Fixed(size as u32)));
        // The answer to the first fills what memory there is for answers.
        let whole = [classic_frame(4, 0, 2, b"hi"), vec![0; size - 2]].concat();
        side.feed(&whole);
        assert_eq!(side.connection.unsent(), whole);
        side.feed(&whole);
        assert_eq!(*side.failure(), ProtocolError::STARVED);
        assert!(side.connection.is_finished() && side.connection.flow().is_hopeless());
    });
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_notify_that_can_not_be_kept_is_dropped() {
    with_at_most(MOST, || {
        let mut side = Side::open_responder(defaults());
        feed_in_pieces(&mut side, &frame(Kind::Notify, 0, 4, 0, 0, &vec![0; LARGE]), WAYS[1]);
        assert_eq!(side.ask(&request(1, 4, b"x")), [Frame::reply(1, 4, ResultCode::OK, b"x")]);
        assert_eq!(side.seen().len(), 1);
    });
}

/// The rules for ids hold for requests that are lost as well.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_lost_request_counts_as_any_other() {
    with_at_most(MOST, || {
        let mut side =
            Side::open_responder(settings(|settings| settings.limits.max_in_flight_bytes = LARGE as u32 - 1));
        side.ask(&request(7, 4, b"x"));
        feed_in_pieces(&mut side, &request(8, 4, &vec![0; LARGE]), WAYS[1]);
        side.assert_fatal(ResultCode::BUSY, 7);
        let mut side = Side::open_responder(defaults());
        side.ask(&request(7, 4, b"x"));
        feed_in_pieces(&mut side, &request(6, 4, &vec![0; LARGE]), WAYS[1]);
        side.assert_fatal(ResultCode::MALFORMED, 7);
    });
}

/// PROTOCOL C9, X16
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_reply_that_can_not_be_kept_becomes_busy() {
    with_at_most(MOST, || {
        let mut side = Side::responder(defaults());
        side.feed(&hello(Allowance { max_payload: 16 << 20, ..GENEROUS }));
        side.sent();
        let frames = side.ask(&[request(1, 4, &vec![b'x'; LARGE]), request(2, 4, b"y")].concat());
        is_busy(&frames[0], 1);
        assert_eq!(frames[1..], [Frame::reply(2, 4, ResultCode::OK, b"y")]);
    });
}

/// When there is no memory left for a reply's header, nothing that follows could be told apart.
/// PROTOCOL X13
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_peer_whose_replies_can_not_be_kept_is_given_up() {
    with_at_most(MOST, || {
        let mut side = Side::open_responder(settings(|settings| settings.limits.outbox_soft = 64 << 20));
        for id in 1..100_000 {
            side.feed(&request(id, 4, &[b'x'; 1_000]));
            if side.connection.flow().failure().is_some() {
                break;
            }
        }
        assert_eq!(*side.failure(), ProtocolError::STARVED);
        assert!(side.connection.flow().is_hopeless() && !side.connection.has_unsent());
        let buffer = side.connection.flow_mut().reclaim().expect("its memory");
        let mut other = Side::open_responder(defaults());
        other.connection.flow_mut().lend(&mut vec![buffer]);
        assert_eq!(other.ask(&request(1, 4, b"x")), [Frame::reply(1, 4, ResultCode::OK, b"x")]);
    });
}

/// PROTOCOL X11
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn requests_that_can_not_wait_end_their_connection() {
    with_at_most(MOST, || {
        let mut side = Side::responder(settings(|settings| settings.limits.outbox_soft = 10));
        side.feed(
            &[classic_request(1, b"0123456789"), classic_request(2, &[b'x'; 1000]).repeat(2_000)].concat(),
        );
        // Paused by its first answer.
        let expected = [classic_request(1, b"0123456789"), classic_frame(2, ResultCode::BUSY.code(), 0, b"")];
        assert_eq!(side.sent(), expected.concat());
        assert!(side.connection.is_finished());

        let mut side = Side::open_responder(settings(|settings| settings.limits.outbox_soft = 10));
        side.receive(&request(1, 4, &[b'x'; 1000]));
        let many: Vec<u8> = (2..3_000).flat_map(|id| request(id, 4, &[b'x'; 1000])).collect();
        side.budget = 1;
        side.receive(&many);
        is_goodbye(side.frames().last().expect("a goodbye"), "no memory");
    });
}

fn is_goodbye(frame: &Frame, text: &str) {
    assert_eq!((frame.kind, frame.rc), (Kind::Goodbye as u8, ResultCode::BUSY.code()), "{frame:?}");
    assert!(frame.text().contains(text), "{frame:?}");
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_reply_that_the_client_can_not_keep_fails_that_call_only() {
    for way in WAYS {
        with_at_most(MOST, || {
            let mut side = Side::open_initiator(defaults());
            let (large, small) = (side.call(4, b"large"), side.call(4, b"small"));
            side.sent();
            feed_in_pieces(&mut side, &reply(large, 4, &vec![0; LARGE]), way);
            side.feed(&reply(small, 4, b"here"));
            let here = Seen::Reply { id: small, rc: 0, is_text: false, payload: b"here".to_vec() };
            assert_eq!(side.seen(), [Seen::LostReply { id: large }, here], "{way:?}");

            let mut side =
                Side::classic_initiator(settings(|settings| settings.classic = Classic::Short(16 << 20)));
            let id = side.call(4, b"large");
            side.sent();
            feed_in_pieces(&mut side, &classic_frame(4, 0, LARGE as i32, &vec![0; LARGE]), way);
            assert_eq!(side.seen(), [Seen::LostReply { id }], "{way:?}");
        });
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_request_that_the_client_can_not_keep_is_an_error() {
    with_at_most(MOST, || {
        let mut side = Side::open_initiator(defaults());
        assert!(side.connection.push_request(4, &vec![0; LARGE], 0).is_err());
        assert!(side.connection.push_notify(4, &vec![0; LARGE]).is_err());
        assert!(!side.connection.has_unsent());
        let id = side.call(4, b"small");
        assert_eq!(side.frames()[0].id, id);
    });
}

/// PROTOCOL X13. It was answered from outside of `receive`, and nobody has judged that yet.
#[test]
fn a_lost_answer_that_was_the_last_thing_to_do_ends_the_connection() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&request(1, 4, b"later"));
    let ticket = side.tickets.pop().expect("a request");
    side.connection.flow_mut().outbox.memory_mut().starve();
    side.connection.begin_reply(ticket).finish(ResultCode::OK);
    assert!(!side.connection.has_unsent() && !side.connection.is_at_rest());
    let buffer = side.connection.flow_mut().reclaim().expect("its memory");
    assert_eq!(*side.failure(), ProtocolError::STARVED);
    let mut other = Side::open_responder(defaults());
    other.connection.flow_mut().lend(&mut vec![buffer]);
    assert_eq!(other.ask(&request(1, 4, b"x")), [Frame::reply(1, 4, ResultCode::OK, b"x")]);
}

/// Others need the memory.
#[test]
fn who_is_shed_is_told_so_and_holds_nothing() {
    let error = ProtocolError::TooMuchBuffered { own: 1, all: 2, limit: 3 };
    let mut side = Side::open_responder(defaults());
    side.feed(&request(1, 4, &[0; 5000])[..4000]);
    side.connection.shed(error.clone());
    is_goodbye(&side.frames()[0], "over the limit of 3");
    assert!(side.connection.is_finished() && side.connection.flow_mut().reclaim().is_some());
    assert_eq!(side.connection.flow().buffered(), 0);

    let mut side = Side::responder(defaults());
    side.feed(&classic_request(4, b"x"));
    side.sent();
    side.feed(&classic_request(5, &[0; 500])[..400]);
    side.connection.shed(error);
    assert_eq!(side.sent(), classic_frame(5, ResultCode::BUSY.code(), 0, b""));
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_stream_without_frames_ends_when_it_can_not_be_kept() {
    let now = Instant::now();
    with_at_most(MOST, || {
        let mut lines = Plain::new(defaults(), Cut::Lines { max: 16 << 20 }, now);
        let mut feed = |bytes: &[u8]| lines.receive(bytes, &Cell::new(100), &mut |_, _| panic!("no line"));
        for _ in 0..LARGE / 1000 {
            feed(&[b'x'; 1000]);
        }
        assert!(
            matches!(lines.flow().failure(), Some(ProtocolError::NoMemory(_))) && !lines.flow().is_hopeless()
        );

        let mut raw = Plain::new(settings(|settings| settings.limits.outbox_hard = 64 << 20), Cut::Raw, now);
        raw.write(b"before");
        raw.write(&vec![0; LARGE]);
        assert!(raw.flow().failure() == Some(&ProtocolError::STARVED) && raw.flow().is_hopeless());
    });
}
