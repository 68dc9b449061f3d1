//! Streamed replies, and who takes them.

use super::rules::Scene;
use super::{Bell, LIMIT, TYPE};
use crate::caller::{Came, End, Outcome, Reply, Seat, Step};
use crate::frame::{Kind, flags};
use crate::tests::{Frame, GENEROUS, frame, frames, reply};
use crate::{Executed, ResultCode};

/// The credit of each call.
const CREDIT: u32 = 10;

fn scene() -> Scene {
    Scene::new(|limits| limits.stream_credit = CREDIT, GENEROUS)
}

impl Scene {
    fn stream(&mut self) -> (u32, Seat) {
        let started = self.caller.stream(TYPE, b"", 0, Some(self.now + LIMIT));
        let id = started.expect("memory");
        self.sends(usize::MAX);
        (id, Seat::Call(id))
    }

    fn attend_stream(&mut self, seat: Seat) -> Bell {
        let bell = Bell::default();
        self.caller.attend(seat, None, bell.clone());
        bell
    }

    /// The frames that leave.
    fn says(&mut self) -> Vec<Frame> {
        frames(&self.sends(usize::MAX))
    }
}

fn part(id: u32, payload: &[u8]) -> Vec<u8> {
    frame(Kind::Reply, flags::MORE, TYPE, id, 0, payload)
}

fn credit(id: u32, amount: u32) -> Frame {
    frames(&frame(Kind::Credit, 0, 0, id, 0, &amount.to_le_bytes())).remove(0)
}

fn is_part(step: Step, expected: &[u8]) {
    assert_eq!(step, Step::Done(Outcome::Part(expected.to_vec())));
}

fn is_final(step: Step, rc: i32) {
    let Step::Done(Outcome::Reply(Reply { rc: code, .. })) = step else { panic!("{step:?}") };
    assert_eq!(code.code(), rc);
}

#[test]
fn parts_are_kept_until_somebody_asks_and_come_before_the_final_reply() {
    let mut scene = scene();
    let (id, seat) = scene.stream();
    assert!(matches!(scene.poll(seat), Step::NotYet));
    let bell = scene.attend_stream(seat);
    assert!(matches!(scene.poll(seat), Step::Read { .. }));
    scene.comes(&[part(id, b"one"), part(id, b""), reply(id, TYPE, b"end")].concat());
    assert!(bell.0.get() && scene.caller.is_decided(seat));
    is_part(scene.poll(seat), b"one");
    scene.attend_stream(seat);
    is_part(scene.poll(seat), b"");
    is_final(scene.poll(seat), 0);
    assert_eq!(scene.says(), [], "no credit is given back for what is over");
}

/// PROTOCOL M3
#[test]
fn credit_goes_back_as_parts_are_taken() {
    let mut scene = scene();
    let (id, seat) = scene.stream();
    scene.comes(&[part(id, b"1234"), part(id, b""), part(id, b"1"), part(id, b"large")].concat());
    assert_eq!(scene.says(), [], "nobody has taken any");
    for (payload, given) in [(&b"1234"[..], None), (b"", None), (b"1", Some(6)), (b"large", None)] {
        is_part(scene.poll(seat), payload);
        let expected: Vec<Frame> = given.map(|amount| credit(id, amount)).into_iter().collect();
        assert_eq!(scene.says(), expected);
    }
    assert_eq!(scene.poll(seat), Step::NotYet);
    scene.comes(&part(id, b"x"));
    assert_eq!(scene.caller.end(), None);
}

/// PROTOCOL K10
#[test]
fn who_asked_for_no_parts_gets_none_and_holds_up_nobody() {
    let mut scene = scene();
    let (id, _) = scene.call(b"");
    scene.sends(usize::MAX);
    scene.comes(&[part(id, b"one"), part(id, b"")].concat());
    assert_eq!(scene.says(), [credit(id, 3), credit(id, 1)]);
    scene.comes(&reply(id, TYPE, b"end"));
    is_final(scene.poll(Seat::Call(id)), 0);
}

#[test]
fn one_who_gives_up_cancels_and_others_go_on() {
    let mut scene = scene();
    let (id, seat) = scene.stream();
    scene.comes(&part(id, b"one"));
    scene.caller.cancel(seat);
    scene.caller.leave(seat);
    let expected = frames(&frame(Kind::Cancel, 0, 0, id, 0, b""));
    assert_eq!(scene.says(), expected);
    let (other, other_seat) = scene.stream();
    scene
        .comes(&[part(id, b"crossed"), part(other, b"x"), frame(Kind::Reply, 0, TYPE, id, -8, b"")].concat());
    is_part(scene.poll(other_seat), b"x");
    assert_eq!(scene.says(), []);
}

#[test]
fn what_came_before_the_end_is_taken_first() {
    let mut scene = scene();
    let (id, seat) = scene.stream();
    scene.comes(&[part(id, b"one"), part(id, b"two")].concat());
    scene.finds(Came::End);
    assert_eq!(scene.caller.end(), Some(&End::Closed));
    is_part(scene.poll(seat), b"one");
    is_part(scene.poll(seat), b"two");
    assert_eq!(scene.poll(seat), Step::Done(Outcome::Ended(Executed::Perhaps)));
}

#[test]
fn behind_its_goodbye_the_server_finishes_the_stream() {
    let mut scene = scene();
    let (id, seat) = scene.stream();
    let rc = ResultCode::SHUTTING_DOWN.code();
    scene.comes(&[part(id, b"0123456789"), frame(Kind::Goodbye, 0, 0, id, rc, b"")].concat());
    is_part(scene.poll(seat), b"0123456789");
    let said: Vec<u8> = scene.says().iter().map(|frame| frame.kind).collect();
    assert_eq!(said, [Kind::Goodbye as u8, Kind::Credit as u8]);
    scene.attend_stream(seat);
    assert!(matches!(scene.poll(seat), Step::Read { .. }));
    scene.comes(&[part(id, b"more"), reply(id, TYPE, b"")].concat());
    is_part(scene.poll(seat), b"more");
    is_final(scene.poll(seat), 0);
}

#[test]
fn a_stream_that_takes_too_long_times_out() {
    let mut scene = scene();
    let (id, seat) = scene.stream();
    scene.comes(&part(id, b"one"));
    scene.now += LIMIT;
    scene.attend_stream(seat);
    is_part(scene.poll(seat), b"one");
    scene.attend_stream(seat);
    assert_eq!(scene.poll(seat), Step::Look);
    scene.finds(Came::Nothing);
    assert_eq!(scene.poll(seat), Step::Done(Outcome::TimedOut(Executed::Perhaps)));
}
