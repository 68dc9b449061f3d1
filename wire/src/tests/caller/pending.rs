//! Calls that nobody waits for, and those who come to them later.

use super::rules::{Scene, ready};
use super::{Bell, LIMIT, TYPE};
use crate::caller::{Came, End, Outcome, Purpose, Reply, Seat, Step};
use crate::frame::{HEADER_LEN, Kind};
use crate::hello::Allowance;
use crate::tests::{GENEROUS, frames, reply};
use crate::{Executed, LATE};

impl Scene {
    fn start(&mut self, payload: &[u8]) -> Seat {
        let started = self.caller.start(TYPE, payload, 0, Some(self.now + LIMIT));
        Seat::Call(started.expect("memory"))
    }

    fn attend(&mut self, seat: Seat) -> Bell {
        let bell = Bell::default();
        self.caller.attend(seat, None, bell.clone());
        bell
    }
}

fn id(seat: Seat) -> u32 {
    let Seat::Call(id) = seat else { panic!("{seat:?}") };
    id
}

fn payload(step: Step) -> Vec<u8> {
    let Step::Done(Outcome::Reply(Reply { payload, .. })) = step else { panic!("{step:?}") };
    payload.into_vec()
}

#[test]
fn a_reply_is_kept_until_somebody_asks() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let [first, second] = [(); 2].map(|()| scene.start(b""));
    assert_eq!(scene.poll(first), Step::NotYet);
    assert!(!scene.caller.is_decided(first));
    scene.sends(usize::MAX);
    scene.comes(&[reply(id(second), TYPE, b"two"), reply(id(first), TYPE, b"one")].concat());
    assert!(scene.caller.is_decided(first) && scene.caller.is_decided(second));
    scene.now += 10 * LIMIT;
    assert_eq!((payload(scene.poll(first)), payload(scene.poll(second))), (b"one".to_vec(), b"two".to_vec()));
}

#[test]
fn one_whose_patience_ends_looks_once_more_and_leaves_the_call_to_go_on() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let seat = scene.start(b"");
    scene.sends(usize::MAX);
    for _ in 0..2 {
        let until = scene.now + LATE;
        scene.caller.attend(seat, Some(until), Bell::default());
        assert_eq!(scene.poll(seat), Step::Read { until: Some(until) });
        scene.now = until;
        assert_eq!(scene.poll(seat), Step::Look);
        scene.finds(Came::Nothing);
        assert_eq!((scene.poll(seat), scene.poll(seat)), (Step::NotYet, Step::NotYet));
    }
    // But not beyond its own time limit.
    let deadline = scene.now - 2 * LATE + LIMIT;
    scene.caller.attend(seat, Some(scene.now + 2 * LIMIT), Bell::default());
    assert_eq!(scene.poll(seat), Step::Read { until: Some(deadline) });
    scene.now = deadline;
    assert_eq!(scene.poll(seat), Step::Look);
    scene.finds(Came::Nothing);
    assert_eq!(scene.poll(seat), Step::Done(Outcome::TimedOut(Executed::Perhaps)));
}

#[test]
fn whoever_attends_takes_the_place_of_who_did() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let seat = scene.start(b"");
    let [former, latter] = [(); 2].map(|()| scene.attend(seat));
    scene.sends(usize::MAX);
    scene.comes(&reply(id(seat), TYPE, b""));
    assert!(!former.0.get() && latter.0.get());
    // Nobody has to wait for what is there.
    let late = scene.attend(seat);
    assert_eq!(payload(scene.poll(seat)), b"");
    assert!(!late.0.get());
}

#[test]
fn nobody_is_appointed_to_read_who_does_not_wait() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let [idle, seat, other] = [(); 3].map(|()| scene.start(b""));
    let bells = [seat, other].map(|seat| scene.attend(seat));
    scene.caller.detach([seat]);
    assert!(!bells[0].0.get() && bells[1].0.take(), "the reader has gone, so the other reads");
    scene.caller.detach([other]);
    let bell = scene.attend(seat);
    assert!(matches!(scene.poll(seat), Step::Read { .. }));
    scene.sends(usize::MAX);
    assert!(scene.caller.begin_read(usize::MAX).is_none());
    let bytes = reply(id(seat), TYPE, b"");
    scene.caller.end_read(Some(seat), Came::Bytes { bytes: &bytes, is_all: true }, scene.now, scene.now);
    assert!(bell.0.get() && !bells[1].0.get());
    assert_eq!((scene.poll(idle), scene.poll(other)), (Step::NotYet, Step::NotYet));
}

#[test]
fn calls_that_nobody_waits_for_count_and_whoever_needs_room_reads() {
    let mut scene = Scene::new(|_| {}, Allowance { max_in_flight: 1, ..GENEROUS });
    let seat = scene.start(b"");
    scene.sends(usize::MAX);
    let (queued, _) = scene.ask(Purpose::Call(0));
    assert!(matches!(scene.poll(queued), Step::Read { .. }));
    scene.comes(&reply(id(seat), TYPE, b"kept"));
    assert_eq!(scene.poll(queued), ready());
    assert_eq!(payload(scene.poll(seat)), b"kept");
}

#[test]
fn a_call_is_cancelled_once_it_is_begun_and_while_it_is_open() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let [answered, open] = [(); 2].map(|()| scene.start(b""));
    scene.sends(usize::MAX);
    scene.comes(&reply(id(answered), TYPE, b""));
    scene.caller.cancel(answered);
    assert!(!scene.caller.has_unsent());
    scene.caller.cancel(open);
    let sent = frames(&scene.sends(usize::MAX));
    assert_eq!(
        sent.iter().map(|frame| (frame.kind, frame.id)).collect::<Vec<_>>(),
        [(Kind::Cancel as u8, id(open))]
    );
    // Given up, too, it counts until its reply has come.
    scene.caller.leave(open);
    scene.comes(&reply(id(open), TYPE, b""));
    assert!(!scene.caller.is_over());
    scene.caller.cancel(open);
    assert!(!scene.caller.has_unsent());
}

#[test]
fn what_has_not_left_was_not_executed() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let [whole, cut, behind] = [(); 3].map(|()| scene.start(b"payload"));
    scene.sends(2 * (HEADER_LEN + 7) - 1);
    scene.finds(Came::End);
    let ended = |executed| Step::Done(Outcome::Ended(executed));
    assert_eq!(scene.poll(whole), ended(Executed::Perhaps));
    assert_eq!(scene.poll(cut), ended(Executed::Never));
    assert_eq!(scene.poll(behind), ended(Executed::Never));
}

#[test]
fn what_somebody_is_sending_when_the_end_is_seen_may_have_left() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let [first, second] = [(); 2].map(|()| scene.start(b""));
    scene.caller.begin_write(None, scene.now);
    scene.finds(Came::End);
    assert_eq!(scene.poll(first), Step::Done(Outcome::Ended(Executed::Perhaps)));
    scene.caller.sent(HEADER_LEN, scene.now);
    assert_eq!(scene.poll(second), Step::Done(Outcome::Ended(Executed::Never)));
}

#[test]
fn closing_ends_all_that_wait_and_all_that_come() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let [idle, attended] = [(); 2].map(|()| scene.start(b""));
    let bell = scene.attend(attended);
    let (queued, queued_bell) = scene.ask(Purpose::Call(0));
    let words = scene.caller.goodbye().expect("there is a goodbye to say").len();
    scene.caller.sent(words, scene.now);
    scene.caller.close();
    assert_eq!(scene.caller.end(), Some(&End::Ours));
    assert!(bell.0.get() && queued_bell.0.get());
    let ended = |executed| Step::Done(Outcome::Ended(executed));
    assert_eq!([idle, attended].map(|seat| scene.poll(seat)), [(); 2].map(|()| ended(Executed::Perhaps)));
    assert_eq!(scene.poll(queued), ended(Executed::Never));
    // The reader comes back.
    scene.finds(Came::End);
    assert_eq!(scene.caller.end(), Some(&End::Ours));
    assert!(scene.caller.goodbye().is_none());
}
