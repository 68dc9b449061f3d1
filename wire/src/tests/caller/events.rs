//! Those who listen to events.

use std::time::Duration;

use super::rules::Scene;
use super::{Bell, LIMIT};
use crate::ResultCode;
use crate::caller::{Outcome, Published, Seat, Step};
use crate::frame::Kind;
use crate::tests::{Frame, GENEROUS, frame, frames, reply};

fn event(topic: u16, sequence: u32, dropped: i32, payload: &[u8]) -> Vec<u8> {
    frame(Kind::Event, 0, topic, sequence, dropped, payload)
}

fn told(topic: u16, sequence: u32, dropped: u32, payload: &[u8]) -> Step {
    Step::Done(Outcome::Event(Published { topic, sequence, dropped, payload: payload.to_vec() }))
}

impl Scene {
    /// One who listens to this topic, and whom the server has answered.
    fn listener(&mut self, topic: u16) -> Seat {
        let seat = self.caller.listen();
        self.subscribe(seat, topic);
        seat
    }

    fn subscribe(&mut self, seat: Seat, topic: u16) {
        let id = self.caller.subscribe(seat, topic, Some(self.now + LIMIT)).expect("memory");
        let sent = frames(&self.sends(usize::MAX));
        assert_eq!((sent[0].kind, sent[0].msg_type, sent[0].id), (Kind::Subscribe as u8, topic, id));
        self.comes(&reply(id, topic, b""));
        let answer = self.poll(Seat::Call(id));
        assert!(matches!(answer, Step::Done(Outcome::Reply(_))), "{answer:?}");
    }

    fn attend_for(&mut self, seat: Seat, until: Option<Duration>) -> Bell {
        let bell = Bell::default();
        self.caller.attend(seat, until.map(|until| self.now + until), bell.clone());
        bell
    }

    /// The topics of the unsubscribes that are sent now.
    fn unsubscribes(&mut self) -> Vec<u16> {
        let sent = frames(&self.sends(usize::MAX));
        assert!(sent.iter().all(|frame| frame.kind == Kind::Unsubscribe as u8), "{sent:?}");
        // Their answers find nobody.
        for Frame { id, msg_type, .. } in &sent {
            self.comes(&reply(*id, *msg_type, b""));
        }
        sent.iter().map(|frame| frame.msg_type).collect()
    }
}

#[test]
fn whoever_listens_reads_and_is_given_one_event_at_a_time() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let seat = scene.listener(5);
    assert_eq!(scene.poll(seat), Step::NotYet, "nobody waits");
    scene.attend_for(seat, None);
    assert_eq!(scene.poll(seat), Step::Read { until: None });
    scene.comes(&[event(5, 1, 0, b"a"), event(5, 2, 3, b"b")].concat());
    assert!(scene.caller.is_decided(seat));
    assert_eq!(scene.poll(seat), told(5, 1, 0, b"a"));
    assert_eq!(scene.poll(seat), told(5, 2, 3, b"b"));
    assert_eq!(scene.poll(seat), Step::NotYet);
    assert!(!scene.caller.is_decided(seat));
}

#[test]
fn a_call_reads_for_who_listens_and_the_other_way_round() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let seat = scene.listener(5);
    let bell = scene.attend_for(seat, None);
    assert!(matches!(scene.poll(seat), Step::Read { .. }));
    assert!(scene.caller.begin_read(usize::MAX).is_none());
    let (id, call_bell) = scene.call(b"");
    scene.sends(usize::MAX);
    assert!(matches!(scene.poll(Seat::Call(id)), Step::Wait { .. }));
    let bytes = [reply(id, super::TYPE, b""), event(5, 1, 0, b"x")].concat();
    let came = crate::caller::Came::Bytes { bytes: &bytes, is_all: true };
    scene.caller.end_read(Some(seat), came, scene.now, scene.now);
    assert!(call_bell.0.get() && bell.0.get());
    assert!(matches!(scene.poll(Seat::Call(id)), Step::Done(Outcome::Reply(_))));
    assert_eq!(scene.poll(seat), told(5, 1, 0, b"x"));

    // One who has got what he wanted leaves reading to the other.
    let bell = scene.attend_for(seat, None);
    let (id, _) = scene.call(b"");
    scene.sends(usize::MAX);
    scene.comes(&reply(id, super::TYPE, b""));
    bell.0.take();
    assert!(matches!(scene.poll(Seat::Call(id)), Step::Done(Outcome::Reply(_))));
    assert!(bell.0.get() || matches!(scene.poll(seat), Step::Read { .. }));
}

#[test]
fn patience_ends_and_the_seat_stays() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let seat = scene.listener(5);
    scene.attend_for(seat, Some(Duration::from_secs(1)));
    assert_eq!(scene.poll(seat), Step::Read { until: Some(scene.now + Duration::from_secs(1)) });
    scene.now += Duration::from_secs(1);
    assert_eq!(scene.poll(seat), Step::Look);
    assert_eq!(scene.poll(seat), Step::NotYet);
    scene.comes(&event(5, 1, 0, b"late"));
    scene.attend_for(seat, Some(Duration::ZERO));
    assert_eq!(scene.poll(seat), told(5, 1, 0, b"late"));
}

#[test]
fn each_has_a_queue_of_his_own_and_it_has_a_bound() {
    let mut scene = Scene::new(|limits| limits.event_queue = 3 * 64 + 3, GENEROUS);
    let (one, other) = (scene.listener(5), scene.listener(5));
    scene.subscribe(other, 6);
    let taken = |scene: &mut Scene, seat| {
        std::iter::from_fn(|| match scene.poll(seat) {
            Step::Done(Outcome::Event(event)) => Some((event.topic, event.sequence, event.dropped)),
            _ => None,
        })
        .collect::<Vec<_>>()
    };
    for n in 1..=5 {
        scene.comes(&event(5, n, 0, b"x"));
    }
    scene.comes(&event(6, 1, 0, b"x"));
    assert_eq!(taken(&mut scene, one), [(5, 1, 0), (5, 2, 0), (5, 3, 0)]);
    scene.comes(&event(5, 6, 4, b"x"));
    scene.comes(&event(6, 2, 0, b"x"));
    assert_eq!(taken(&mut scene, one), [(5, 6, 6)], "4 at the server, and 4 and 5 here");
    assert_eq!(taken(&mut scene, other), [(5, 1, 0), (5, 2, 0), (5, 3, 0)]);
    scene.comes(&event(5, 7, 0, &[0; 1000]));
    scene.comes(&event(6, 3, 0, b"x"));
    assert_eq!(taken(&mut scene, other), [(5, 7, 7)], "one is taken however large it is");
    scene.comes(&event(6, 4, 0, b"x"));
    assert_eq!(taken(&mut scene, other), [(6, 4, 3)]);
}

#[test]
fn the_last_one_to_leave_unsubscribes() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let (one, other) = (scene.listener(5), scene.listener(5));
    scene.subscribe(other, 6);
    scene.caller.leave(one);
    assert_eq!(scene.unsubscribes(), []);
    scene.comes(&event(5, 1, 0, b"x"));
    assert_eq!(scene.poll(other), told(5, 1, 0, b"x"));
    scene.caller.unsubscribe(other, 5);
    assert_eq!(scene.unsubscribes(), [5]);
    scene.comes(&[event(5, 2, 0, b"x"), event(6, 1, 0, b"y")].concat());
    assert_eq!(scene.poll(other), told(6, 1, 0, b"y"));
    scene.caller.leave(other);
    assert_eq!(scene.unsubscribes(), [6]);
    assert!(scene.caller.end().is_none());
}

#[test]
fn who_was_refused_or_does_not_wait_for_the_answer_leaves_nothing_behind() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let seat = scene.caller.listen();
    let id = scene.caller.subscribe(seat, 5, None).expect("memory");
    scene.sends(usize::MAX);
    scene.comes(&frame(Kind::Reply, 0, 5, id, ResultCode::NO_HANDLER.code(), b""));
    scene.caller.leave(seat);
    assert_eq!(scene.unsubscribes(), []);

    let seat = scene.caller.listen();
    let id = scene.caller.subscribe(seat, 5, None).expect("memory");
    scene.caller.leave(Seat::Call(id));
    scene.sends(usize::MAX);
    scene.caller.leave(seat);
    assert_eq!(scene.unsubscribes(), [5]);
    scene.comes(&reply(id, 5, b""));
    assert!(scene.caller.end().is_none());
}

#[test]
fn an_unsubscribe_waits_for_room() {
    let mut scene = Scene::new(|_| {}, crate::hello::Allowance { max_in_flight: 1, ..GENEROUS });
    let seat = scene.listener(5);
    let (id, _) = scene.call(b"");
    scene.sends(usize::MAX);
    scene.caller.leave(seat);
    assert_eq!(scene.unsubscribes(), []);
    scene.comes(&reply(id, super::TYPE, b""));
    assert_eq!(scene.unsubscribes(), [5]);
    // Who subscribes anew is told again.
    let seat = scene.listener(5);
    scene.comes(&event(5, 1, 0, b"new"));
    assert_eq!(scene.poll(seat), told(5, 1, 0, b"new"));
}

#[test]
fn at_the_end_what_came_is_still_given() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let seat = scene.listener(5);
    let bell = scene.attend_for(seat, None);
    scene.comes(&event(5, 1, 0, b"last"));
    scene.comes(&frame(Kind::Goodbye, 0, 0, 0, -9, b""));
    assert!(bell.0.get());
    assert_eq!(scene.poll(seat), told(5, 1, 0, b"last"));
    assert!(matches!(scene.poll(seat), Step::Done(Outcome::Ended(_))));
    assert!(matches!(scene.poll(seat), Step::Done(Outcome::Ended(_))), "however often");
    scene.caller.leave(seat);
}
