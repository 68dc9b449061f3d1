//! Connections for more than calls: who asks for what, and what it is answered.

use std::cell::Cell;
use std::sync::Arc;

use super::{GENEROUS, Kind, Seen, Side, answer, defaults, frame, hello, request, settings};
use crate::hello::{Answer, Hello};
use crate::layout::Layout;
use crate::rc::ResultCode;
use crate::settings::Settings;
use crate::task::{Task, Tasks};

const BOTH: [(Task, u32); 2] = [(Task::Stop, 1), (Task::Handover, 2)];

/// A hello that requires these features.
fn requiring(bits: u32) -> Vec<u8> {
    let mut bytes = hello(GENEROUS);
    bytes[12..16].copy_from_slice(&bits.to_le_bytes());
    bytes
}

fn granting(tasks: Tasks) -> Arc<Settings> {
    settings(|settings| settings.grants = tasks)
}

fn only(task: Task) -> Tasks {
    Tasks::default().and(task)
}

/// One whose task is granted.
fn granted(task: Task) -> Side {
    let mut side = Side::responder(granting(only(task)));
    side.feed(&requiring(task.bit()));
    assert_eq!((status(&mut side).status, side.seen()), (ResultCode::OK, vec![Seen::Asks(task)]));
    side
}

fn status(side: &mut Side) -> Answer {
    Hello::decode_answer(&side.sent()).expect("a hello").1
}

/// PROTOCOL J1, J2, J4
#[test]
fn an_initiator_asks_with_a_bit_of_its_hello() {
    for (task, bit) in BOTH {
        let mut side = Side::initiator(settings(|settings| settings.asks = Some(task)));
        let ours = Hello::decode(&side.sent()).expect("a hello");
        assert_eq!((ours.required, ours.offered), (bit, 0));
        // As a server does that knows no such bits.
        let mut bytes = Vec::new();
        let text = "feature bits".to_owned();
        let answer =
            Answer { status: ResultCode::FEATURE_MISSING, version: 0, instance: [0; 16], text, proof: None };
        Hello::ours(GENEROUS, [0; 16], None).encode(Some(&answer), &mut bytes);
        side.feed(&bytes);
        assert_eq!(side.failure().rc(), ResultCode::FEATURE_MISSING);
    }
    assert_eq!(Hello::decode(&Side::initiator(defaults()).sent()).expect("a hello").required, 0);
}

/// PROTOCOL H15b, J5
#[test]
fn what_was_not_granted_is_denied_with_a_text() {
    for (task, _) in BOTH {
        let other = if task == Task::Stop { Task::Handover } else { Task::Stop };
        for settings in [defaults(), granting(only(other))] {
            let mut side = Side::responder(settings);
            side.feed(&[requiring(task.bit()), request(1, 1, b"behind")].concat());
            let answer = status(&mut side);
            assert_eq!((answer.status, answer.version), (ResultCode::NOT_PERMITTED, 0));
            assert!(answer.text.contains(&task.to_string()), "{}", answer.text);
            assert_eq!((side.seen(), side.connection.is_finished()), (vec![], true));
        }
    }
}

/// PROTOCOL J5
#[test]
fn the_owner_has_the_last_word() {
    for why in [Some("not you"), None] {
        let mut side = Side::responder(granting(only(Task::Stop)));
        let bytes = [requiring(1), request(1, 1, b"behind")].concat();
        let mut events = Vec::new();
        side.connection.receive(&bytes, &Cell::new(usize::MAX), &mut |connection, event| {
            events.push(format!("{event:?}"));
            // One who says nothing has not granted it.
            if let Some(why) = why {
                connection.deny(why);
                connection.grant();
            }
        });
        side.connection.received(side.now);
        let answer = status(&mut side);
        assert_eq!(answer.status, ResultCode::NOT_PERMITTED);
        assert!(why.is_none_or(|why| answer.text == why) && !answer.text.is_empty(), "{}", answer.text);
        assert!(events.len() == 1 && events[0].contains("Stop"), "{events:?}");
        assert!(side.connection.is_finished());
    }
}

/// PROTOCOL H15a, H15
#[test]
fn two_things_at_once_are_malformed_and_unknown_ones_missing() {
    for (bits, rc) in [
        (3, ResultCode::MALFORMED),
        (4, ResultCode::FEATURE_MISSING),
        (5, ResultCode::FEATURE_MISSING),
        (7, ResultCode::FEATURE_MISSING),
    ] {
        let mut side = Side::responder(granting(only(Task::Stop).and(Task::Handover)));
        side.feed(&requiring(bits));
        let answer = status(&mut side);
        assert_eq!((answer.status, side.connection.is_finished()), (rc, true), "{bits}");
        assert!(rc == ResultCode::MALFORMED || answer.text.contains("0x00000004"), "{}", answer.text);
    }
}

/// PROTOCOL J7
#[test]
fn such_a_connection_carries_no_calls() {
    for (task, _) in BOTH {
        for kind in [Kind::Request, Kind::Notify, Kind::Subscribe, Kind::Unsubscribe] {
            let id = if kind == Kind::Notify { 0 } else { 1 };
            let mut side = granted(task);
            side.feed(&frame(kind, 0, 1, id, 0, b""));
            side.assert_fatal(ResultCode::MALFORMED, 0);
            // Nor in the other direction.
            let mut side = Side::initiator(settings(|settings| settings.asks = Some(task)));
            side.sent();
            side.feed(&answer(GENEROUS));
            assert_eq!((side.seen(), side.connection.may_ask()), (vec![Seen::Opened], false));
            side.feed(&frame(kind, 0, 1, id, 0, b""));
            side.assert_fatal(ResultCode::MALFORMED, 0);
        }
    }
}

/// PROTOCOL J11
#[test]
fn who_has_what_it_needs_says_so_with_a_notify() {
    let takes_over = frame(Kind::Notify, 0, 0, 0, 0, b"");
    let mut side = granted(Task::Handover);
    side.feed(&takes_over);
    assert_eq!((side.seen(), side.sent()), (vec![Seen::TakesOver], vec![]));
    side.connection.goodbye(ResultCode::OK);
    assert_eq!(side.frames()[0].rc, 0);
    // Behind a goodbye it comes too late.
    side.feed(&takes_over);
    assert!(side.seen().is_empty());
    side.feed(&frame(Kind::Goodbye, 0, 0, 0, 0, b""));
    assert!(side.connection.is_finished());

    let mut side = granted(Task::Handover);
    side.feed(&frame(Kind::Notify, 0, 0, 0, 0, b"x"));
    side.assert_fatal(ResultCode::MALFORMED, 0);
    let mut side = granted(Task::Stop);
    side.feed(&takes_over);
    side.assert_fatal(ResultCode::MALFORMED, 0);
    // It is the initiator's word.
    let mut side = Side::initiator(settings(|settings| settings.asks = Some(Task::Handover)));
    side.sent();
    side.feed(&[answer(GENEROUS), takes_over].concat());
    side.assert_fatal(ResultCode::MALFORMED, 0);
}

/// PROTOCOL J7
#[test]
fn signs_of_life_and_goodbyes_are_as_ever() {
    let mut side = granted(Task::Stop);
    assert_eq!((side.connection.layout(), side.connection.may_ask()), (Some(Layout::V1), false));
    let pong = side.ask(&frame(Kind::Ping, 0, 0, 7, 0, b""));
    assert_eq!((pong.len(), pong[0].kind, pong[0].id), (1, Kind::Pong as u8, 7));
    let goodbye = side.ask(&frame(Kind::Goodbye, 0, 0, 0, 0, b""));
    assert_eq!((goodbye.len(), goodbye[0].kind, goodbye[0].rc), (1, Kind::Goodbye as u8, 0));
    assert!(side.connection.is_finished());

    let mut side = granted(Task::Stop);
    side.connection.goodbye(ResultCode::SHUTTING_DOWN);
    let goodbye = side.frames();
    assert_eq!((goodbye[0].kind, goodbye[0].rc), (Kind::Goodbye as u8, ResultCode::SHUTTING_DOWN.code()));
    assert!(!side.connection.is_finished(), "the other side says its own");
    side.feed(&frame(Kind::Goodbye, 0, 0, 0, 0, b""));
    assert!(side.connection.is_finished() && side.sent().is_empty());

    let mut side = granted(Task::Handover);
    side.connection.close();
    assert_eq!(side.frames()[0].kind, Kind::Goodbye as u8);
    let mut side = granted(Task::Handover);
    side.connection.end_of_input();
    assert!(side.connection.is_finished() && side.sent().is_empty());
}

/// As over a slow line.
#[test]
fn it_may_come_in_pieces() {
    let mut side = Side::responder(granting(only(Task::Stop)));
    for byte in requiring(1) {
        side.feed(&[byte]);
    }
    assert_eq!((status(&mut side).status, side.seen()), (ResultCode::OK, vec![Seen::Asks(Task::Stop)]));
}
