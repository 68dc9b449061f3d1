//! How a connection ends in order, from either side, with and without calls under way.

use super::{
    Answers, Frame, Kind, Seen, Side, classic_frame, classic_request, defaults, echo, frame, frames, reply,
    request,
};
use crate::error::ProtocolError;
use crate::rc::ResultCode;

fn goodbye(rc: i32, last_id: u32) -> Vec<u8> {
    frame(Kind::Goodbye, 0, 0, last_id, rc, b"")
}

fn parsed(bytes: &[u8]) -> Frame {
    frames(bytes).remove(0)
}

/// PROTOCOL G1, G5
#[test]
fn a_peers_goodbye_is_answered_behind_what_was_accepted() {
    let mut side = Side::open_responder(defaults());
    let bytes = [
        request(1, 1, b"x"),
        frame(Kind::Ping, 0, 0, 5, 0, b""),
        goodbye(0, 0),
        request(2, 1, b"behind"),
        goodbye(0, 0),
    ];
    let expected = [
        Frame::reply(1, 1, ResultCode::OK, b"x"),
        parsed(&frame(Kind::Pong, 0, 0, 5, 0, b"")),
        parsed(&goodbye(0, 1)),
    ];
    assert_eq!(side.ask(&bytes.concat()), expected);
    let seen = [Seen::Request { msg_type: 1, payload: b"x".into() }, Seen::Goodbye { rc: 0, last_id: 0 }];
    assert_eq!(side.seen(), seen);
    assert!(side.connection.is_finished() && side.connection.flow().failure().is_none());
}

#[test]
fn a_goodbye_waits_for_answers_that_take_longer() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&[request(1, 1, b"one"), request(2, 2, b"two"), goodbye(0, 0), request(3, 3, b"no")].concat());
    assert_eq!((side.sent(), side.tickets.len()), (vec![], 2));
    assert!(!side.connection.is_finishing(), "it may still cancel");
    // It has said that it asks no more; that its stream ends changes nothing.
    side.connection.end_of_input();
    assert!(side.connection.is_finishing() && !side.connection.is_finished());
    echo(&mut side.connection, side.tickets.remove(1), b"two");
    assert_eq!(side.frames(), [Frame::reply(2, 2, ResultCode::OK, b"two")]);
    assert!(!side.connection.is_finished());
    echo(&mut side.connection, side.tickets.remove(0), b"one");
    assert!(side.connection.has_unsent());
    assert_eq!(side.frames(), [Frame::reply(1, 1, ResultCode::OK, b"one"), parsed(&goodbye(0, 2))]);
    assert!(side.connection.is_finished());
}

/// PROTOCOL G4, G7, P3
#[test]
fn behind_our_goodbye_nothing_is_executed() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&request(7, 1, b"accepted"));
    side.connection.goodbye(ResultCode::SHUTTING_DOWN);
    side.connection.goodbye(ResultCode::SHUTTING_DOWN);
    assert_eq!(side.frames(), [parsed(&goodbye(-9, 7))], "said once");
    side.seen();
    let crossed = [
        request(8, 1, b"crossed"),
        frame(Kind::Notify, 0, 1, 0, 0, b"crossed"),
        frame(Kind::Subscribe, 0, 1, 9, 0, b"crossed"),
        frame(Kind::Ping, 0, 0, 1, 0, b""),
    ];
    assert_eq!(side.ask(&crossed.concat()), [parsed(&frame(Kind::Pong, 0, 0, 1, 0, b""))]);
    assert_eq!(side.seen(), []);
    side.feed(&goodbye(0, 0));
    assert!(!side.connection.is_finished(), "one call is still to be answered");
    echo(&mut side.connection, side.tickets.remove(0), b"done");
    assert_eq!(side.frames(), [Frame::reply(7, 1, ResultCode::OK, b"done")]);
    assert!(side.connection.is_finished());
}

/// PROTOCOL G2, G7
#[test]
fn an_error_behind_our_goodbye_is_told_in_a_second_one() {
    let mut side = Side::open_responder(defaults());
    side.connection.goodbye(ResultCode::SHUTTING_DOWN);
    side.feed(&request(1, 1, b"")[..4]);
    side.feed(&[13; 12]);
    let rcs: Vec<i32> = side.frames().iter().map(|frame| frame.rc).collect();
    assert_eq!(rcs, [-9, -4]);
    assert!(side.connection.is_finished());
}

#[test]
fn an_initiator_that_leaves_gets_its_replies_first() {
    let mut side = Side::open_initiator(defaults());
    let id = side.call(1, b"x");
    side.connection.goodbye(ResultCode::OK);
    let sent = side.frames();
    assert_eq!((sent.len(), sent[1].kind), (2, Kind::Goodbye as u8));
    side.feed(&[reply(id, 1, b"y"), goodbye(0, id)].concat());
    let reply = Seen::Reply { id, rc: 0, is_text: false, payload: b"y".into() };
    assert_eq!(side.seen(), [reply, Seen::Goodbye { rc: 0, last_id: id }]);
    assert!(side.connection.is_finished());
}

/// PROTOCOL G6
#[test]
fn an_initiator_answers_a_goodbye_and_takes_the_replies_behind_it() {
    let mut side = Side::open_initiator(defaults());
    let id = side.call(1, b"x");
    side.sent();
    assert_eq!(side.ask(&goodbye(-9, id)), [parsed(&goodbye(0, 0))]);
    side.feed(&reply(id, 1, b"late"));
    let late = Seen::Reply { id, rc: 0, is_text: false, payload: b"late".into() };
    assert_eq!(side.seen(), [Seen::Goodbye { rc: -9, last_id: id }, late]);
    side.connection.end_of_input();
    assert!(side.connection.is_finished() && side.connection.flow().failure().is_none());

    let mut idle = Side::open_initiator(defaults());
    assert_eq!(idle.ask(&goodbye(-9, 0)), [parsed(&goodbye(0, 0))]);
    assert!(idle.connection.is_finished(), "nothing is to be waited for");
}

/// PROTOCOL G4, G5, G6
#[test]
fn a_responder_that_asks_leaves_like_an_initiator() {
    let mut side = Side::open_responder(defaults());
    let (accepted, crossed) = (side.call(1, b"accepted"), side.call(1, b"crossed"));
    side.sent();
    assert!(side.connection.may_ask());
    assert_eq!(side.ask(&goodbye(0, accepted)), [parsed(&goodbye(0, 0))]);
    assert!(!side.connection.may_ask() && !side.connection.is_finishing(), "one call may still be answered");
    assert_eq!(side.ask(&request(7, 1, b"behind its goodbye")), []);
    side.feed(&reply(accepted, 1, b"late"));
    let late = Seen::Reply { id: accepted, rc: 0, is_text: false, payload: b"late".into() };
    assert_eq!(side.seen(), [Seen::Goodbye { rc: 0, last_id: accepted }, late]);
    assert!(side.connection.is_finished() && crossed > accepted);

    // Nobody waits for one that was given up.
    let mut side = Side::open_responder(defaults());
    let id = side.call(1, b"x");
    side.feed(&goodbye(0, id));
    assert!(!side.connection.is_finishing());
    side.connection.abandon_call(id);
    side.sent();
    assert!(side.connection.is_finished());
}

/// PROTOCOL G5
#[test]
fn the_end_behind_its_goodbye_still_leaves_it_its_answers() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    let id = side.call(1, b"never answered");
    side.feed(&[request(1, 1, b"accepted"), goodbye(0, id)].concat());
    side.sent();
    side.connection.end_of_input();
    assert!(!side.connection.is_finished());
    echo(&mut side.connection, side.tickets.remove(0), b"done");
    assert_eq!(side.frames(), [Frame::reply(1, 1, ResultCode::OK, b"done")]);
    assert!(side.connection.is_finished());
}

#[test]
fn who_closes_answers_what_it_has_accepted_and_waits_for_nothing() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    let id = side.call(1, b"never answered");
    side.feed(&request(1, 1, b"accepted"));
    side.connection.close();
    side.feed(&[request(2, 1, b"behind"), reply(id, 1, b"late")].concat());
    side.connection.goodbye(ResultCode::SHUTTING_DOWN);
    assert!(side.connection.is_finishing() && !side.connection.is_finished());
    echo(&mut side.connection, side.tickets.remove(0), b"done");
    let frames = side.frames();
    assert_eq!(frames[1..], [Frame::reply(1, 1, ResultCode::OK, b"done"), parsed(&goodbye(0, 1))]);
    assert!(side.connection.is_finished());

    let mut idle = Side::open_responder(defaults());
    idle.connection.close();
    assert_eq!(idle.frames(), [parsed(&goodbye(0, 0))]);
    assert!(idle.connection.is_finished());
    let mut leaving = Side::open_initiator(defaults());
    leaving.connection.goodbye(ResultCode::OK);
    leaving.connection.close();
    assert_eq!(leaving.frames().len(), 1);
    assert!(leaving.connection.is_finished());
}

#[test]
fn a_classic_peer_is_never_asked() {
    let mut side = Side::responder(defaults());
    assert!(!side.connection.may_ask());
    side.feed(&classic_request(1, b""));
    assert!(!side.connection.may_ask());
    assert!(Side::classic_initiator(defaults()).connection.may_ask());
}

#[test]
fn goodbyes_come_in_floods_too() {
    let mut side = Side::open_responder(defaults());
    assert_eq!(side.ask(&goodbye(0, 0).repeat(1000)).len(), 1);
    let mut side = Side::open_initiator(defaults());
    side.call(1, b"");
    side.sent();
    assert_eq!(side.ask(&goodbye(0, 0).repeat(1000)).len(), 1);
}

#[test]
fn a_goodbye_before_a_hello_is_a_classic_frame_like_any_other() {
    let mut side = Side::responder(defaults());
    // Type 0, rc 12, length 0 and four bytes of the next frame, on a little-endian machine.
    side.feed(&goodbye(0, 0));
    assert!(!side.seen().iter().any(|seen| matches!(seen, Seen::Goodbye { .. })));
    assert_eq!(side.connection.layout(), Some(crate::layout::Layout::Classic));
}

#[test]
fn leaving_before_anything_was_said_is_silent() {
    let mut side = Side::responder(defaults());
    side.connection.goodbye(ResultCode::SHUTTING_DOWN);
    assert!(side.connection.is_finished() && side.sent().is_empty());
    side.feed(&classic_request(1, b""));
    assert_eq!((side.seen(), side.sent()), (vec![], vec![]));
}

/// PROTOCOL E4
#[test]
fn a_v1_stream_that_ends_without_a_goodbye_is_dead() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&request(1, 1, b"deferred"));
    side.connection.end_of_input();
    assert!(side.connection.is_finished(), "deferred calls are not waited for");

    let mut side = Side::open_responder(defaults());
    side.feed(&[&request(1, 1, b"ready")[..], &request(2, 1, b"cut")[..18]].concat());
    side.connection.end_of_input();
    assert_eq!(side.seen().len(), 1);
    assert_eq!(*side.failure(), ProtocolError::CutOff);
    assert_eq!(side.frames(), [Frame::reply(1, 1, ResultCode::OK, b"ready")], "what is ready goes out");
    assert!(side.connection.is_finished());
}

/// PROTOCOL E3
#[test]
fn a_classic_stream_that_ends_gets_everything_it_asked_for() {
    let mut side = Side::responder(defaults());
    side.answers = Answers::Later;
    side.feed(&classic_request(3, b"slow"));
    side.connection.end_of_input();
    assert!(!side.connection.is_finished());
    echo(&mut side.connection, side.tickets.remove(0), b"done");
    assert_eq!(side.sent(), classic_frame(3, 0, 4, b"done"));
    assert!(side.connection.is_finished());
}

#[test]
fn classic_peers_know_no_goodbye() {
    let mut side = Side::responder(defaults());
    side.answers = Answers::Later;
    side.feed(&classic_request(3, b"slow"));
    side.connection.goodbye(ResultCode::SHUTTING_DOWN);
    side.feed(&classic_request(4, b"no"));
    assert!(!side.connection.is_finished());
    echo(&mut side.connection, side.tickets.remove(0), b"done");
    assert_eq!(side.sent(), classic_frame(3, 0, 4, b"done"));
    assert!(side.connection.is_finished() && side.seen().len() == 1);
}
