//! Every time limit: not early, not late, and put off by what counts as progress.

use std::cell::Cell;
use std::time::Duration;

use super::{
    Answers, GENEROUS, Input, Kind, Seen, Side, classic_frame, classic_request, defaults, echo, frame,
    frames, hello, raw_frame, reply, request, settings,
};
use crate::error::ProtocolError;
use crate::limits::{ConnectionLimits, LATE};
use crate::rc::ResultCode;

const TICK: Duration = Duration::from_millis(1);

/// Lets all but a tick of `limit` pass, in which nothing may happen, and then the tick.
pub(super) fn outlast(side: &mut Side, limit: Duration, error: &ProtocolError) {
    assert_eq!(side.connection.next_deadline(), Some(side.now + limit));
    side.pass(limit - TICK);
    assert!(!side.connection.handle_timeout(side.now, Input::Quiet));
    assert!(side.connection.flow().failure().is_none(), "{:?} came early", side.failure());
    side.pass(TICK);
    assert_eq!(side.failure(), error);
    assert!(side.connection.is_finishing());
}

fn idle_after(limit: Duration) -> std::sync::Arc<super::Settings> {
    settings(|settings| settings.limits.idle_timeout = Some(limit))
}

#[test]
fn calls_of_ours_that_take_too_long_are_given_up_and_cancelled() {
    let mut side = Side::open_responder(defaults());
    let [slow, quick, endless] = [(); 3].map(|()| side.call(1, b""));
    let at = side.now + Duration::from_secs(1);
    for id in [slow, quick] {
        side.connection.limit_call(id, at + Duration::from_secs(9));
        side.connection.limit_call(id, at);
    }
    side.sent();
    assert_eq!(side.connection.next_deadline(), Some(at));
    side.feed(&reply(quick, 1, b"in time"));
    assert_eq!(side.connection.poll_asked(at - Duration::from_millis(1)), None);
    assert_eq!((side.connection.poll_asked(at), side.connection.poll_asked(at)), (Some(slow), None));
    assert_eq!(side.connection.next_deadline(), None);
    side.connection.limit_call(slow, at);
    assert_eq!(side.connection.poll_asked(at), None, "once is enough");
    let cancel = frames(&frame(Kind::Cancel, 0, 0, slow, 0, b""));
    assert_eq!(side.frames(), cancel);
    // Its late answer meets a tombstone; and what the peer did not accept has no time to be over.
    side.connection.limit_call(endless, at);
    side.feed(&[reply(slow, 1, b"late"), frame(Kind::Goodbye, 0, 0, slow, 0, b"")].concat());
    assert_eq!(side.connection.poll_asked(at), None);
    assert!(side.seen().iter().all(|seen| !matches!(seen, Seen::Reply { id, .. } if *id == slow)));
}

#[test]
fn nothing_runs_out_where_nothing_is_under_way() {
    let mut sides = [
        Side::responder(defaults()),
        Side::open_responder(defaults()),
        Side::open_initiator(defaults()),
        Side::classic_initiator(defaults()),
    ];
    sides[1].feed(&request(1, 1, b"x"));
    sides[1].sent();
    for side in &mut sides {
        assert_eq!(side.connection.next_deadline(), None);
        side.pass(Duration::from_secs(1_000_000));
        assert!(side.connection.flow().failure().is_none());
    }
}

#[test]
fn a_hello_has_its_time_from_its_first_byte() {
    let limit = ConnectionLimits::default().hello_timeout;
    let error = ProtocolError::TimedOut("hello");
    for length in [1, 4, 20, 47] {
        let mut side = Side::responder(defaults());
        side.pass(Duration::from_secs(100));
        side.feed(&hello(GENEROUS)[..length]);
        outlast(&mut side, limit, &error);
        assert!(side.sent().is_empty(), "nobody there would understand it");
    }
    // More of it puts nothing off.
    let mut side = Side::responder(defaults());
    side.feed(&hello(GENEROUS)[..1]);
    side.pass(limit - TICK * 10);
    side.feed(&hello(GENEROUS)[1..40]);
    outlast(&mut side, TICK * 10, &error);
    // All of it does, and so does a whole classic request.
    for first in [hello(GENEROUS), classic_request(1, b"")] {
        let mut side = Side::responder(defaults());
        side.feed(&first[..9]);
        side.pass(limit - TICK);
        side.feed(&first[9..]);
        side.sent();
        assert_eq!(side.connection.next_deadline(), None);
    }
}

#[test]
fn an_answer_to_our_hello_has_its_time_too() {
    let mut side = Side::initiator(defaults());
    side.sent();
    assert_eq!(side.connection.next_deadline(), None, "the caller's own deadline covers silence");
    side.feed(&super::answer(GENEROUS)[..50]);
    outlast(&mut side, ConnectionLimits::default().hello_timeout, &ProtocolError::TimedOut("hello"));
}

#[test]
fn a_frame_has_its_time_from_its_first_byte() {
    let limit = ConnectionLimits::default().partial_frame_timeout;
    let error = ProtocolError::TimedOut("end of a frame");
    let mut side = Side::open_responder(defaults());
    side.pass(Duration::from_secs(100));
    let call = request(1, 1, &[0; 100]);
    side.feed(&call[..1]);
    for byte in &call[1..10] {
        side.pass(limit / 20);
        side.feed(&[*byte]);
    }
    outlast(&mut side, limit - limit / 20 * 9, &error);
    side.assert_fatal(ResultCode::TIMED_OUT, 0);

    // A frame that ends puts it off for the next one.
    let mut side = Side::open_responder(defaults());
    side.feed(&call[..50]);
    side.pass(limit - TICK);
    side.feed(&[&call[50..], &request(2, 1, b"")[..5]].concat());
    side.sent();
    outlast(&mut side, limit, &error);

    let mut side = Side::responder(defaults());
    side.feed(&[classic_request(1, b"x"), vec![0]].concat());
    assert_eq!(side.sent(), classic_frame(1, 0, 1, b"x"));
    outlast(&mut side, limit, &error);
    assert!(side.sent().is_empty() && side.connection.is_finished());
}

#[test]
fn a_large_frame_read_in_place_has_no_more_time_than_others() {
    let limit = ConnectionLimits::default().partial_frame_timeout;
    let mut side = Side::open_responder(idle_after(limit / 4));
    side.large = 10;
    let call = request(1, 1, &[0; 1000]);
    side.feed(&call[..20]);
    for piece in call[20..].chunks(100).take(9) {
        side.pass(limit / 10);
        side.feed(piece);
    }
    // Each piece was a sign of life, but no end of the frame.
    outlast(&mut side, limit - limit / 10 * 9, &ProtocolError::TimedOut("end of a frame"));
}

#[test]
fn the_budgets_end_does_not_hide_a_partial_frame() {
    let mut side = Side::open_responder(defaults());
    side.budget = 1;
    side.receive(&[request(1, 1, b""), request(2, 1, b""), request(3, 1, b"")[..5].to_vec()].concat());
    assert_eq!(side.connection.next_deadline(), None, "the next one is whole: it waits for us");
    side.receive(&[]);
    side.sent();
    outlast(
        &mut side,
        ConnectionLimits::default().partial_frame_timeout,
        &ProtocolError::TimedOut("end of a frame"),
    );
}

#[test]
fn a_partial_frame_does_not_age_while_we_do_not_read() {
    let limit = ConnectionLimits::default().partial_frame_timeout;
    let mut side = Side::responder(settings(|settings| {
        settings.limits.outbox_soft = 10;
        settings.limits.write_stall_timeout = Duration::from_secs(1000);
    }));
    side.feed(&[classic_request(1, b""), vec![0; 3]].concat());
    assert!(side.connection.is_paused());
    side.pass(limit * 2);
    assert!(side.connection.flow().failure().is_none());
    side.sent();
    outlast(&mut side, limit, &ProtocolError::TimedOut("end of a frame"));

    let mut side = Side::responder(defaults());
    side.answers = Answers::Later;
    side.feed(&[classic_request(1, b""), vec![0; 3]].concat());
    side.pass(limit * 2);
    echo(&mut side.connection, side.tickets.remove(0), b"");
    side.sent();
    outlast(&mut side, limit, &ProtocolError::TimedOut("end of a frame"));
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let limit = ConnectionLimits::default().write_stall_timeout;
    let mut side = Side::open_responder(defaults());
    side.feed(&request(1, 1, &[0; 100]));
    assert_eq!(side.connection.next_deadline(), None, "the socket was not offered it yet");
    side.connection.mark_sent(0, side.now);
    assert!(side.connection.flow().is_stalled());
    side.pass(limit - TICK);
    // Being offered it again, or more of it, is no progress; nor is what the peer says.
    side.feed(&request(2, 1, &[0; 100]));
    side.connection.mark_sent(0, side.now);
    assert!(side.connection.flow().failure().is_none());
    side.take(1);
    outlast(&mut side, limit, &ProtocolError::STALLED);
    assert!(side.connection.flow().is_hopeless() && side.connection.is_finished());
    assert_eq!((side.sent(), side.connection.next_deadline()), (vec![], None));
}

#[test]
fn taking_all_ends_a_stall() {
    let mut side = Side::open_responder(defaults());
    side.feed(&request(1, 1, b""));
    side.connection.mark_sent(0, side.now);
    side.sent();
    assert!(!side.connection.flow().is_stalled());
    assert_eq!(side.connection.next_deadline(), None);
}

#[test]
fn an_initiators_hello_may_stall_too() {
    let mut side = Side::initiator(defaults());
    outlast(&mut side, ConnectionLimits::default().write_stall_timeout, &ProtocolError::STALLED);
}

#[test]
fn the_last_words_of_a_broken_connection_may_stall_too() {
    let limit = ConnectionLimits::default().write_stall_timeout;
    let mut side = Side::open_responder(idle_after(Duration::from_secs(60)));
    side.feed(&[request(1, 1, b""), raw_frame(99, 0, 0, 0, 0, b"")].concat());
    side.connection.mark_sent(0, side.now);
    let broken = side.failure().clone();
    assert_eq!(side.connection.next_deadline(), Some(side.now + limit));
    side.pass(limit - TICK);
    assert!(!side.connection.is_finished());
    side.pass(TICK);
    assert!(side.connection.is_finished() && side.connection.flow().is_hopeless());
    assert_eq!(side.failure(), &broken, "the first reason stays");
    assert_eq!(side.connection.next_deadline(), None, "a loop that asks again is not kept busy");
}

#[test]
fn silence_both_ways_is_idle() {
    let limit = Duration::from_secs(7);
    let error = ProtocolError::TimedOut("sign of life");
    let mut side = Side::responder(idle_after(limit));
    outlast(&mut side, limit, &error);
    assert!(side.sent().is_empty(), "the layout is not known");

    let mut side = Side::open_responder(idle_after(limit));
    side.pass(limit - TICK);
    side.feed(&frame(Kind::Pong, 0, 0, 0, 0, b""));
    side.pass(limit - TICK);
    side.connection.push_notify(1, b"from us").expect("memory");
    side.sent();
    outlast(&mut side, limit, &error);
    side.assert_fatal(ResultCode::TIMED_OUT, 0);

    let mut side = Side::responder(idle_after(limit));
    side.feed(&classic_request(1, b""));
    side.sent();
    outlast(&mut side, limit, &error);
    assert!(side.sent().is_empty() && side.connection.is_finished());
}

#[test]
fn an_idle_end_that_can_not_be_told_is_over_after_the_stall() {
    let mut side = Side::open_responder(idle_after(Duration::from_secs(7)));
    side.pass(Duration::from_secs(7));
    assert!(side.connection.has_unsent() && !side.connection.is_finished());
    side.connection.mark_sent(0, side.now);
    side.pass(ConnectionLimits::default().write_stall_timeout);
    assert!(side.connection.is_finished());
    assert_eq!(side.connection.next_deadline(), None);
}

#[test]
fn the_refused_have_a_second() {
    let limit = crate::limits::REFUSAL_WAIT;
    let error = ProtocolError::TimedOut("first bytes");
    for bytes in [&b""[..], b"abc"] {
        let mut side = Side::responder(defaults());
        side.pass(Duration::from_secs(9));
        side.connection.refuse(ResultCode::BUSY, side.now);
        side.pass(TICK * 10);
        side.feed(bytes);
        outlast(&mut side, limit - TICK * 10, &error);
        assert!(side.sent().is_empty() && side.connection.is_finished());
    }
    let mut side = Side::responder(defaults());
    side.connection.refuse(ResultCode::BUSY, side.now);
    side.feed(b"abcd");
    assert_eq!(side.sent().len(), 12);
    assert_eq!(side.connection.next_deadline(), None);
}

#[test]
fn limits_beyond_the_clock_are_none() {
    let mut side = Side::open_responder(settings(|settings| {
        settings.limits.idle_timeout = Some(Duration::MAX);
        settings.limits.partial_frame_timeout = Duration::MAX;
        settings.limits.write_stall_timeout = Duration::MAX;
    }));
    side.feed(&request(1, 1, b"")[..5]);
    side.connection.mark_sent(0, side.now);
    assert_eq!(side.connection.next_deadline(), None);
    side.feed(&request(1, 1, b"")[5..]);
    assert_eq!(side.seen(), [Seen::Request { msg_type: 1, payload: vec![] }]);
}

/// Half a frame, whose time is up by now, and perhaps by far.
fn overdue_after(late: Duration) -> Side {
    let mut side = Side::open_responder(defaults());
    side.feed(&request(1, 1, &[0; 100])[..20]);
    side.now += ConnectionLimits::default().partial_frame_timeout + late;
    side
}

#[test]
fn nobody_is_blamed_for_what_is_still_unread() {
    let late = Duration::from_secs(100);
    let mut side = overdue_after(late);
    assert!(!side.connection.handle_timeout(side.now, Input::Waiting));
    assert!(side.connection.next_deadline().is_some_and(|at| at < side.now), "it is judged later");
    assert!(side.connection.handle_timeout(side.now, Input::Quiet));

    // The same with a hello, and with silence.
    let limit = ConnectionLimits::default().hello_timeout;
    let mut side = Side::responder(idle_after(limit));
    side.feed(&hello(GENEROUS)[..9]);
    side.now += limit + late;
    assert!(!side.connection.handle_timeout(side.now, Input::Waiting));
    side.feed(&hello(GENEROUS)[9..]);
    assert!(!side.connection.handle_timeout(side.now, Input::Fresh));
    assert!(!side.sent().is_empty() && side.connection.flow().failure().is_none());

    // But a peer that does not read is one that does not read.
    let mut side = Side::open_responder(defaults());
    side.feed(&request(1, 1, b"x"));
    side.connection.mark_sent(0, side.now);
    side.now += ConnectionLimits::default().write_stall_timeout;
    assert!(side.connection.handle_timeout(side.now, Input::Waiting));
    assert_eq!(side.failure(), &ProtocolError::STALLED);
}

/// The system's buffers hold less than a large frame: its sender could not go on meanwhile.
#[test]
fn a_frame_that_goes_on_after_our_absence_gets_its_time_once_more() {
    let limit = ConnectionLimits::default().partial_frame_timeout;
    let mut side = overdue_after(LATE + TICK);
    side.feed(&[0; 10]);
    assert!(!side.connection.handle_timeout(side.now, Input::Fresh));
    assert_eq!(side.connection.next_deadline(), Some(side.now + limit));
    // Once.
    side.now += limit + LATE + TICK;
    side.feed(&[0; 10]);
    assert!(side.connection.handle_timeout(side.now, Input::Fresh));

    // Not if we were there all the time.
    let mut side = overdue_after(Duration::ZERO);
    side.feed(&[0; 10]);
    assert!(side.connection.handle_timeout(side.now, Input::Fresh));
    // Nor if nothing has come.
    let mut side = overdue_after(LATE + TICK);
    assert!(side.connection.handle_timeout(side.now, Input::Quiet));
    // The next frame has its own time, and its own second chance.
    let mut side = overdue_after(LATE + TICK);
    side.feed(&[0; 10]);
    assert!(!side.connection.handle_timeout(side.now, Input::Fresh));
    side.feed(&[&[0; 86][..], &request(2, 1, &[0; 100])[..20]].concat());
    assert_eq!(side.seen().len(), 1);
    side.sent();
    side.now += limit + LATE + TICK;
    side.feed(&[0; 10]);
    assert!(!side.connection.handle_timeout(side.now, Input::Fresh));
}

/// The clock of what comes behind a handler does not begin before it.
#[test]
fn a_handler_takes_nobodys_time() {
    let limit = ConnectionLimits::default().partial_frame_timeout;
    let mut side = Side::open_responder(idle_after(limit));
    let bytes = [request(1, 1, b"slow"), request(2, 1, b"")[..5].to_vec()].concat();
    side.connection.receive(&bytes, &Cell::new(usize::MAX), &mut |_, _| {});
    side.now += limit * 2;
    side.connection.received(side.now);
    assert_eq!(side.connection.next_deadline(), Some(side.now + limit));
}

#[test]
fn whoever_is_ended_has_time_to_close_from_then_on() {
    let mut side = overdue_after(Duration::from_secs(100));
    assert!(side.connection.handle_timeout(side.now, Input::Quiet));
    assert_eq!(side.connection.flow().linger_deadline(), Some(side.now + ConnectionLimits::default().linger));
}

#[test]
fn a_silent_stranger_is_not_waited_for() {
    let patient = settings(|settings| settings.first_byte = Some(Duration::from_secs(10)));
    let mut side = Side::responder(patient.clone());
    side.pass(Duration::from_secs(9));
    assert!(side.connection.flow().failure().is_none());
    side.pass(Duration::from_secs(1));
    assert_eq!(*side.failure(), ProtocolError::TimedOut("first byte"));
    assert!(side.connection.is_finished() && side.sent().is_empty());

    let mut side = Side::open_responder(patient);
    side.pass(Duration::from_secs(1_000));
    assert!(side.connection.flow().failure().is_none() && side.connection.next_deadline().is_none());
    let mut side = Side::responder(defaults());
    side.pass(Duration::from_secs(1_000));
    assert!(side.connection.flow().failure().is_none());
}
