//! What the server asks of a client, and who of its threads reads meanwhile.

use std::time::Duration;

use super::rules::Scene;
use super::{Bell, LIMIT, TYPE};
use crate::caller::{Came, Incoming, Outcome, Seat, Step};
use crate::frame::Kind;
use crate::tests::{Frame, GENEROUS, frame, frames, reply, request};
use crate::{Executed, OwedId, ResultCode};

pub(super) fn serving() -> Scene {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    scene.caller.serve();
    scene
}

fn notify(payload: &[u8]) -> Vec<u8> {
    frame(Kind::Notify, 0, TYPE, 0, 0, payload)
}

impl Scene {
    pub(super) fn takes_request(&mut self) -> Option<(OwedId, Vec<u8>)> {
        let Incoming { owed, msg_type, payload } = self.caller.take_incoming()?;
        assert_eq!(msg_type, TYPE);
        Some((owed.expect("a request"), payload))
    }

    pub(super) fn answers(&mut self, id: OwedId, payload: &[u8]) -> bool {
        let Some(mut reply) = self.caller.begin_reply(id) else { return false };
        reply.write(payload);
        reply.finish(ResultCode::OK);
        true
    }

    fn sent_frames(&mut self) -> Vec<Frame> {
        frames(&self.sends(usize::MAX))
    }
}

/// PROTOCOL K12
#[test]
fn a_client_without_handlers_says_so() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    scene.comes(&[request(1, TYPE, b"x"), notify(b"skipped")].concat());
    let sent = scene.sent_frames();
    assert_eq!((sent.len(), sent[0].id, sent[0].rc), (1, 1, -2));
    assert!(sent[0].text().contains("client"));
    assert_eq!((scene.caller.take_incoming(), scene.caller.take_dropped()), (None, 0));
}

#[test]
fn requests_wait_in_order_and_are_answered_in_any() {
    let mut scene = serving();
    scene.comes(&[request(1, TYPE, b"one"), notify(b"two"), request(2, TYPE, b"three")].concat());
    let (first, payload) = scene.takes_request().expect("the first");
    assert_eq!(payload, b"one");
    let second = Incoming { owed: None, msg_type: TYPE, payload: b"two".into() };
    assert_eq!(scene.caller.take_incoming(), Some(second));
    let (third, _) = scene.takes_request().expect("the third");
    assert_eq!(scene.caller.take_incoming(), None);
    assert!(scene.answers(third, b"3") && scene.answers(first, b"1") && !scene.answers(first, b"again"));
    let expected =
        [(2, b"3"), (1, b"1")].map(|(id, payload)| Frame::reply(id, TYPE, ResultCode::OK, payload));
    assert_eq!(scene.sent_frames(), expected);
}

/// However long this client takes to look: what was given up makes room for the next request.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn what_the_server_has_given_up_is_not_kept() {
    let mut scene = serving();
    for id in 1..=100 {
        scene.comes(&[request(id, TYPE, b"x"), frame(Kind::Cancel, 0, 0, id, 0, b"")].concat());
        scene.sends(usize::MAX);
    }
    scene.comes(&request(101, TYPE, b"wanted"));
    assert_eq!(scene.caller.kept_incoming(), 1);
    assert_eq!(scene.takes_request().expect("the last").1, b"wanted");
}

/// PROTOCOL K12
#[test]
fn what_the_server_has_given_up_is_not_begun() {
    let mut scene = serving();
    let late = frame(Kind::Request, 0, TYPE, 1, 1000, b"late");
    let [cancelled, running] = [2, 3].map(|id| request(id, TYPE, b""));
    scene.comes(&[late, cancelled, frame(Kind::Cancel, 0, 0, 2, 0, b""), running].concat());
    scene.now += Duration::from_secs(1);
    scene.finds(Came::Nothing);
    let (id, _) = scene.takes_request().expect("the last");
    assert!(scene.caller.is_owed(id));
    scene.comes(&frame(Kind::Cancel, 0, 0, 3, 0, b""));
    assert!(!scene.caller.is_owed(id) && !scene.answers(id, b"too late"));
    let sent: Vec<_> = scene.sent_frames().iter().map(|frame| (frame.id, frame.rc)).collect();
    assert_eq!(sent, [(2, -8), (1, -7), (3, -8)]);
    // Nor does anybody wait once this side has closed.
    scene.comes(&request(4, TYPE, b""));
    let (id, _) = scene.takes_request().expect("one more");
    scene.caller.close();
    assert!(!scene.caller.is_owed(id) && !scene.answers(id, b"too late"));
}

#[test]
fn notifies_are_bounded_by_what_may_be_in_flight() {
    let mut scene =
        Scene::new(|limits| (limits.max_in_flight, limits.max_in_flight_bytes) = (3, 10), GENEROUS);
    scene.caller.serve();
    let notifies = [&b"12345"[..], b"12345", b"6", b"", b""];
    scene.comes(&notifies.map(notify).concat());
    assert_eq!((scene.caller.take_dropped(), scene.caller.take_dropped()), (2, 0));
    let taken: Vec<_> =
        std::iter::from_fn(|| scene.caller.take_incoming()).map(|incoming| incoming.payload).collect();
    assert_eq!(taken, [&b"12345"[..], b"12345", b""]);
    scene.comes(&notify(b"0123456789"));
    assert_eq!(scene.caller.take_dropped(), 0, "there is room again");
}

#[test]
fn others_read_while_one_handles_something() {
    let mut scene = serving();
    let (first, _) = scene.call(b"");
    let (second, bell) = scene.call(b"");
    let [first, second] = [first, second].map(Seat::Call);
    scene.sends(usize::MAX);
    assert!(matches!(scene.poll(first), Step::Read { .. }));
    scene.comes(&request(1, TYPE, b""));
    let (id, _) = scene.takes_request().expect("a request");
    scene.caller.detach([first]);
    assert!(matches!(scene.poll(second), Step::Read { .. }) && scene.poll(first) == Step::NotYet);
    // Its own reply comes meanwhile.
    scene.comes(&reply(1, TYPE, b"mine"));
    assert!(scene.answers(id, b""));
    scene.caller.attend(first, Some(scene.now + LIMIT), Bell::default());
    assert!(matches!(scene.poll(first), Step::Done(Outcome::Reply(_))));
    assert!(!bell.0.get() || matches!(scene.poll(second), Step::Read { .. }));
}

#[test]
fn a_reader_stands_by_until_the_end() {
    let mut scene = serving();
    let bell = Bell::default();
    let reader = scene.caller.stand_by(bell.clone());
    assert_eq!(scene.poll(reader), Step::Read { until: None });
    scene.comes(&notify(b""));
    assert_eq!(scene.poll(reader), Step::Read { until: None });
    // Somebody who calls leaves the reading to it, but not while it is at work.
    let (id, _) = scene.call(b"");
    assert!(scene.caller.begin_read(usize::MAX).is_none());
    assert_eq!(scene.poll(Seat::Call(id)), Step::Wait { until: Some(scene.now + LIMIT) });
    scene.caller.end_read(Some(reader), Came::Nothing, scene.now, scene.now);
    scene.caller.detach([reader]);
    assert_eq!(scene.poll(reader), Step::NotYet);
    assert!(matches!(scene.poll(Seat::Call(id)), Step::Read { .. }));
    scene.caller.attend(reader, None, bell.clone());
    scene.caller.leave(Seat::Call(id));
    assert!(bell.0.get(), "nobody else is left who would read");
    assert!(!scene.caller.is_decided(reader));
    scene.finds(Came::End);
    assert!(scene.caller.is_decided(reader));
    assert_eq!(scene.poll(reader), Step::Done(Outcome::Ended(Executed::Never)));
}
