//! Replies in parts, and the credit that they spend.

use super::{Allowance, GENEROUS};
use super::{Answers, Frame, Kind, Seen, Side, answer, defaults, frame, hello, request, settings};
use crate::connection::Parted;
use crate::error::ProtocolError;
use crate::frame::flags;
use crate::memory::with_at_most;
use crate::owed::{Owed, OwedId};
use crate::rc::ResultCode;

/// A responder whose peer gives each call so much credit, and has made so many calls, which are deferred.
fn owing(stream_credit: u32, calls: u32) -> (Side, Vec<OwedId>) {
    owing_with(settings(|_| {}), Allowance { stream_credit, ..GENEROUS }, calls)
}

fn owing_with(
    settings: std::sync::Arc<crate::settings::Settings>,
    allowance: Allowance,
    calls: u32,
) -> (Side, Vec<OwedId>) {
    let mut side = Side::responder(settings);
    side.feed(&hello(allowance));
    side.sent();
    side.answers = Answers::Later;
    for id in 1..=calls {
        side.feed(&request(id, 7, b"all of it"));
    }
    side.seen();
    let (tickets, now) = (std::mem::take(&mut side.tickets), side.now);
    let ids = tickets.into_iter().map(|ticket| side.connection.defer(ticket, now).expect("memory")).collect();
    (side, ids)
}

fn news(side: &mut Side) -> Vec<Owed> {
    let now = side.now;
    std::iter::from_fn(|| side.connection.poll_owed(now)).collect()
}

fn credit(id: u32, amount: u32) -> Vec<u8> {
    frame(Kind::Credit, 0, 0, id, 0, &amount.to_le_bytes())
}

fn part(id: u32, payload: &[u8]) -> Frame {
    Frame { flags: flags::MORE, ..Frame::reply(id, 7, ResultCode::OK, payload) }
}

fn finish(side: &mut Side, id: OwedId) {
    side.connection.begin_owed_reply(id).expect("it is owed").finish(ResultCode::OK);
}

/// PROTOCOL K10, M1, M2, M3, M4, F8
#[test]
fn parts_spend_what_they_weigh_and_at_least_one() {
    let (mut side, ids) = owing(5, 1);
    // The last one overdraws.
    for payload in [&b"xy"[..], b"", b"", b"0123456789"] {
        assert_eq!(side.connection.push_part(ids[0], payload), Parted::Queued);
    }
    assert_eq!(side.frames(), [part(1, b"xy"), part(1, b""), part(1, b""), part(1, b"0123456789")]);
    assert_eq!(side.connection.push_part(ids[0], b""), Parted::Later);
    // It is 9 below, and 0 is not enough.
    side.feed(&credit(1, 9));
    assert_eq!((news(&mut side), side.connection.push_part(ids[0], b"")), (vec![], Parted::Later));
    side.feed(&credit(1, 1));
    assert_eq!(news(&mut side), [Owed::MayGoOn(ids[0])]);
    assert_eq!(news(&mut side), [], "once");
    assert_eq!(side.connection.push_part(ids[0], b"."), Parted::Queued);
    assert_eq!(side.connection.push_part(ids[0], b"."), Parted::Later);
    // The final reply costs nothing.
    finish(&mut side, ids[0]);
    assert_eq!(side.frames(), [part(1, b"."), Frame::reply(1, 7, ResultCode::OK, b"")]);
    assert_eq!(side.connection.push_part(ids[0], b"x"), Parted::Ended);
    side.feed(&credit(1, 1));
    assert_eq!(side.frames(), [], "credit for a call that is over is skipped");
}

/// PROTOCOL M5
#[test]
fn who_gives_no_credit_gets_no_parts() {
    let (mut side, ids) = owing(0, 1);
    assert_eq!(side.connection.push_part(ids[0], b""), Parted::Later);
    assert_eq!(side.frames(), []);
    finish(&mut side, ids[0]);
    assert_eq!(side.frames(), [Frame::reply(1, 7, ResultCode::OK, b"")]);
}

/// PROTOCOL M6
#[test]
fn credit_is_capped() {
    for stream_credit in [10, u32::MAX] {
        let (mut side, ids) = owing(stream_credit, 1);
        side.feed(&[credit(1, u32::MAX), credit(1, u32::MAX)].concat());
        assert_eq!(side.connection.push_part(ids[0], &[0; 11]), Parted::Queued);
        assert_eq!(side.frames().len(), 1);
        // More would not fit into what somebody counts with.
        let spent = i64::from(i32::MAX) - 11;
        assert!(spent > 0 && side.connection.flow().failure().is_none());
    }
}

/// PROTOCOL M7
#[test]
fn credit_of_another_size_is_fatal() {
    for payload in [&b""[..], b"abc", b"abcde"] {
        let (mut side, _) = owing(10, 1);
        side.feed(&frame(Kind::Credit, 0, 0, 99, 0, payload));
        assert_eq!(*side.failure(), ProtocolError::BadCredit(payload.len() as u32));
        side.assert_fatal(ResultCode::MALFORMED, 1);
    }
}

/// PROTOCOL M8
#[test]
fn parts_wait_for_room_whatever_the_credit() {
    let narrow = settings(|settings| settings.limits.outbox_soft = 100);
    let (mut side, ids) = owing_with(narrow, Allowance { stream_credit: 1 << 20, ..GENEROUS }, 2);
    let mut sent = [0, 0];
    for (index, id) in ids.iter().enumerate() {
        while side.connection.push_part(*id, &[index as u8; 30]) == Parted::Queued {
            sent[index] += 1;
        }
    }
    assert_eq!((sent, news(&mut side)), ([3, 0], vec![]));
    side.take(60);
    // Each in turn; who was told first and did not use it, is not told again.
    assert_eq!(news(&mut side), [Owed::MayGoOn(ids[0]), Owed::MayGoOn(ids[1])]);
    assert_eq!(side.connection.push_part(ids[1], &[1; 30]), Parted::Queued);
    assert_eq!(side.connection.push_part(ids[1], &[1; 30]), Parted::Later);
    assert_eq!(side.connection.push_part(ids[0], &[0; 30]), Parted::Later);
    side.sent();
    assert_eq!(news(&mut side), [Owed::MayGoOn(ids[1]), Owed::MayGoOn(ids[0])]);
}

#[test]
fn one_that_waits_for_room_may_end_meanwhile() {
    let narrow = settings(|settings| settings.limits.outbox_soft = 1);
    let (mut side, ids) = owing_with(narrow, GENEROUS, 2);
    for (id, parted) in [(ids[0], Parted::Queued), (ids[0], Parted::Later), (ids[1], Parted::Later)] {
        assert_eq!(side.connection.push_part(id, b"x"), parted);
    }
    side.feed(&frame(Kind::Cancel, 0, 0, 1, 0, b""));
    assert_eq!(news(&mut side), [Owed::Cancelled(ids[0])]);
    let rcs: Vec<i32> = side.frames().iter().map(|frame| frame.rc).collect();
    assert_eq!((rcs, news(&mut side)), (vec![0, -8], vec![Owed::MayGoOn(ids[1])]));
}

#[test]
fn a_part_that_never_fits_is_refused() {
    let narrow = settings(|settings| (settings.limits.outbox_soft, settings.limits.outbox_hard) = (10, 100));
    let (mut side, ids) = owing_with(narrow, GENEROUS, 1);
    assert_eq!(side.connection.part_limit(), 74);
    assert_eq!(side.connection.push_part(ids[0], &[0; 75]), Parted::TooLarge);
    assert_eq!(side.connection.push_part(ids[0], &[0; 74]), Parted::Queued);
    let (mut side, ids) = owing_with(defaults(), Allowance { max_payload: 3, ..GENEROUS }, 1);
    assert_eq!(side.connection.push_part(ids[0], b"four"), Parted::TooLarge);
    assert_eq!(side.connection.push_part(ids[0], b"3.."), Parted::Queued);
}

#[test]
fn without_memory_for_a_part_the_call_is_busy() {
    let (mut side, ids) = owing(1 << 20, 1);
    let large = vec![0; 600 << 10];
    assert_eq!(with_at_most(0, || side.connection.push_part(ids[0], &large)), Parted::Lost);
    let frames = side.frames();
    assert_eq!((frames.len(), frames[0].rc, frames[0].flags), (1, -6, flags::TEXT));
    assert_eq!((news(&mut side), side.connection.is_owed(ids[0])), (vec![], false));
}

/// PROTOCOL M9, G5
#[test]
fn behind_the_callers_goodbye_its_credit_still_counts() {
    let (mut side, ids) = owing(1, 1);
    assert_eq!(side.connection.push_part(ids[0], b"one"), Parted::Queued);
    assert_eq!(side.connection.push_part(ids[0], b"two"), Parted::Later);
    side.feed(&[frame(Kind::Goodbye, 0, 0, 0, 0, b""), request(9, 7, b"not taken"), credit(1, 10)].concat());
    assert_eq!(side.seen(), [Seen::Goodbye { rc: 0, last_id: 0 }]);
    assert_eq!(news(&mut side), [Owed::MayGoOn(ids[0])]);
    assert_eq!(side.connection.push_part(ids[0], b"two"), Parted::Queued);
    finish(&mut side, ids[0]);
    let last = frame(Kind::Goodbye, 0, 0, 1, 0, b"");
    let last = super::frames(&last).remove(0);
    let frames = [part(1, b"one"), part(1, b"two"), Frame::reply(1, 7, ResultCode::OK, b""), last];
    assert_eq!(side.frames(), frames);
    assert!(side.connection.is_finished());
}

/// PROTOCOL M10
#[test]
fn who_needs_credit_that_can_t_come_is_cancelled() {
    for waits_already in [true, false] {
        let (mut side, ids) = owing(1, 2);
        side.connection.push_part(ids[0], b"one");
        if waits_already {
            assert_eq!(side.connection.push_part(ids[0], b"two"), Parted::Later);
        }
        side.feed(&frame(Kind::Goodbye, 0, 0, 0, 0, b""));
        side.connection.end_of_input();
        assert_eq!(side.connection.push_part(ids[0], b"two"), Parted::Ended);
        assert_eq!(news(&mut side), [Owed::Cancelled(ids[0])]);
        // Who has credit, or needs none, is answered.
        assert_eq!(side.connection.push_part(ids[1], b"other"), Parted::Queued);
        finish(&mut side, ids[1]);
        let rcs: Vec<(u32, i32)> = side.frames().iter().map(|frame| (frame.id, frame.rc)).collect();
        assert_eq!(rcs, [(1, 0), (1, -8), (2, 0), (2, 0), (2, 0)], "and our goodbye");
        assert!(side.connection.is_finished());
    }
}

/// PROTOCOL M2, M3, M4, X8
#[test]
fn parts_come_as_they_were_sent_and_beyond_the_credit_they_are_fatal() {
    let mut side = Side::open_initiator(settings(|settings| settings.limits.stream_credit = 5));
    let (a, b) = (side.call(7, b""), side.call(7, b""));
    side.sent();
    let more = |id, payload: &[u8]| frame(Kind::Reply, flags::MORE, 7, id, 0, payload);
    side.feed(&[more(a, b"four"), more(b, b""), more(a, b"overdrawn")].concat());
    let seen = [(a, &b"four"[..]), (b, b""), (a, b"overdrawn")];
    let seen: Vec<_> = seen.map(|(id, payload)| Seen::Part { id, payload: payload.to_vec() }).into();
    assert_eq!(side.seen(), seen);
    side.connection.give_credit(a, 9);
    side.connection.give_credit(b, 0);
    assert_eq!(side.sent(), [credit(a, 9)].concat(), "none is nothing to tell");
    side.feed(&more(a, b"."));
    assert_eq!(side.seen(), [Seen::Part { id: a, payload: b".".into() }]);
    side.feed(&more(a, b""));
    assert_eq!((side.failure(), &side.seen[..]), (&ProtocolError::UnaskedPart(a), &[][..]));
    side.assert_fatal(ResultCode::MALFORMED, 0);
}

/// PROTOCOL K11, X8
#[test]
fn parts_of_nothing_and_of_another_type_are_fatal() {
    for (id_off, msg_type, error) in
        [(1, 7, ProtocolError::UnknownReply(2)), (0, 8, ProtocolError::WrongReplyType { asked: 7, got: 8 })]
    {
        let mut side = Side::open_initiator(defaults());
        let id = side.call(7, b"") + id_off;
        side.sent();
        side.feed(&frame(Kind::Reply, flags::MORE, msg_type, id, 0, b""));
        assert_eq!(*side.failure(), error);
    }
}

/// PROTOCOL K6
#[test]
fn parts_of_a_call_that_was_given_up_are_skipped() {
    let mut side = Side::open_initiator(defaults());
    let id = side.call(7, b"");
    side.connection.push_cancel(id);
    side.connection.abandon_call(id);
    side.sent();
    side.feed(&frame(Kind::Reply, flags::MORE, 7, id, 0, b"part"));
    side.connection.give_credit(id, 4);
    side.feed(&frame(Kind::Reply, 0, 7, id, -8, b""));
    assert_eq!((side.seen(), side.sent()), (vec![], vec![]));
    assert!(side.connection.flow().failure().is_none() && !side.connection.is_asked(id));
}

#[test]
fn a_part_for_which_there_is_no_memory_ends_the_call() {
    let mut side = Side::initiator(defaults());
    side.sent();
    side.feed(&answer(GENEROUS));
    let id = side.call(7, b"");
    side.sent();
    side.seen();
    let large = frame(Kind::Reply, flags::MORE, 7, id, 0, &vec![1; 1 << 20]);
    let (head, tail) = large.split_at(600 << 10);
    side.feed(head);
    with_at_most(0, || side.feed(tail));
    assert_eq!(side.seen(), [Seen::LostReply { id }]);
    assert_eq!(side.sent(), frame(Kind::Cancel, 0, 0, id, 0, b""));
    side.feed(&frame(Kind::Reply, 0, 7, id, -8, b""));
    assert!(side.seen().is_empty() && side.connection.flow().failure().is_none());
}
