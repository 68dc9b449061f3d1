//! Large payloads that nobody copies: a request's, which whoever waits sends himself, and a reply's.

use super::incoming::serving;
use super::rules::Scene;
use super::{Bell, LIMIT, TYPE};
use crate::caller::{Caller, Came, End, Outcome, Reply, Seat, Step};
use crate::frame::HEADER_LEN;
use crate::memory::with_at_most;
use crate::tests::{GENEROUS, defaults, reply, request};
use crate::{Borrowed, LARGE, Payload, ProtocolError};

const LENGTH: usize = 300_000;

fn payload() -> Vec<u8> {
    (0..LENGTH).map(|at| (at % 251) as u8).collect()
}

impl Scene {
    /// A call whose payload is lent, of which its owner is about to send something.
    fn lends(&mut self, payload: &[u8]) -> Seat {
        assert!(self.caller.may_borrow());
        let begun = self.caller.begin_borrowed(TYPE, payload, 0, Some(self.now + LIMIT), Bell::default());
        let seat = Seat::Call(begun.expect("memory"));
        self.caller.begin_write(Some(seat), self.now);
        seat
    }

    /// The owner sends at most so much.
    fn owner_sends(&mut self, payload: &[u8], seat: Seat, most: usize) -> Vec<u8> {
        let Borrowed { before, rest } = self.caller.borrowed().expect("something is left");
        let mut bytes = [before, &payload[rest]].concat();
        bytes.truncate(most);
        self.caller.sent(bytes.len(), self.now);
        self.caller.begin_write(Some(seat), self.now);
        bytes
    }

    fn owner_ends(&mut self) {
        self.caller.sent(0, self.now);
    }

    /// As a channel brings it, large frames in place. Where the last of it was read to.
    fn comes_in_place(&mut self, mut bytes: &[u8]) -> Option<*const u8> {
        let mut place = None;
        while !bytes.is_empty() {
            match self.caller.begin_read(LARGE) {
                Some((mut memory, most)) => {
                    let (now, later) = bytes.split_at(bytes.len().min(most).min(100_000));
                    memory.extend_from_slice(now);
                    place = Some(memory.as_ptr());
                    bytes = later;
                    self.caller.put_back(memory);
                    let came = Came::Bytes { bytes: &[], is_all: bytes.is_empty() };
                    self.caller.end_read(None, came, self.now, self.now);
                }
                None => {
                    let (now, later) = bytes.split_at(bytes.len().min(LARGE));
                    bytes = later;
                    let came = Came::Bytes { bytes: now, is_all: bytes.is_empty() };
                    self.caller.end_read(None, came, self.now, self.now);
                }
            }
        }
        place
    }

    fn reply_at(&mut self, seat: Seat) -> Payload {
        let Step::Done(Outcome::Reply(Reply { payload, .. })) = self.poll(seat) else { panic!("no reply") };
        payload
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn its_owner_sends_it_and_others_follow() {
    let (mut scene, large) = (Scene::new(|_| {}, GENEROUS), payload());
    let seat = scene.lends(&large);
    scene.call(b"behind it");
    assert!(scene.caller.to_send().is_none() && scene.caller.goodbye().is_none());
    let mut sent = Vec::new();
    for most in [10, 100_000, 1, usize::MAX] {
        sent.extend(scene.owner_sends(&large, seat, most));
    }
    assert_eq!(scene.caller.borrowed(), None);
    assert!(scene.caller.to_send().is_none(), "its owner has not said that this is all");
    scene.owner_ends();
    sent.extend(scene.sends(usize::MAX));
    assert!(sent == [request(1, TYPE, &large), request(2, TYPE, b"behind it")].concat());
    scene.comes(&reply(1, TYPE, b"yes"));
    assert_eq!(scene.reply_at(seat), b"yes");
}

#[test]
fn nothing_is_lent_that_can_not_be_sent_at_once() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    scene.call(b"first");
    assert!(!scene.caller.may_borrow(), "something is to be sent before it");
    scene.sends(usize::MAX);
    assert!(scene.caller.may_borrow());
    scene.caller.begin_write(None, scene.now);
    assert!(!scene.caller.may_borrow(), "somebody else sends");
    let mut old = Caller::<Bell>::classic(defaults(), scene.now);
    assert!(!old.may_borrow());
    assert!(old.to_send().is_none());
}

/// At any point, its header included; and a reply to what the server asked leaves behind it, and counts as left then.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn what_its_owner_does_not_send_is_copied() {
    for first in [0, 10, HEADER_LEN, 100_000, HEADER_LEN + LENGTH - 1] {
        let (mut scene, large) = (serving(), payload());
        let seat = scene.lends(&large);
        scene.comes(&request(1, TYPE, b"?"));
        let (owed, _) = scene.takes_request().expect("what the server asks");
        assert!(scene.answers(owed, b"answer"));
        let mut sent = scene.owner_sends(&large, seat, first);
        scene.owner_ends();
        scene.caller.end_borrowing(&large, scene.now);
        assert_eq!(scene.caller.borrowed(), None);
        drop(large);
        assert_eq!(scene.caller.unsent_len(), 2 * HEADER_LEN + LENGTH + 6 - first);
        sent.extend(scene.sends(1000));
        sent.extend(scene.sends(usize::MAX));
        assert!(sent == [request(1, TYPE, &payload()), reply(1, TYPE, b"answer")].concat(), "{first}");
        scene.comes(&request(2, TYPE, b"and"));
        assert_eq!(scene.takes_request().map(|(_, payload)| payload), Some(b"and".to_vec()));
        assert_eq!(scene.sends(usize::MAX), b"");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn without_memory_for_the_rest_the_connection_fails() {
    let (mut scene, large) = (Scene::new(|_| {}, GENEROUS), vec![7; 2 << 20]);
    let seat = scene.lends(&large);
    scene.owner_sends(&large, seat, 1000);
    scene.owner_ends();
    with_at_most(0, || scene.caller.end_borrowing(&large, scene.now));
    assert_eq!(scene.caller.end(), Some(&End::Failed(ProtocolError::STARVED)));
    assert_eq!(scene.caller.borrowed(), None);
    assert_eq!(scene.caller.poll_close().as_deref(), Some(&[][..]), "not in the middle of a frame");
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn at_the_end_nothing_more_is_sent() {
    let (mut scene, large) = (Scene::new(|_| {}, GENEROUS), payload());
    let seat = scene.lends(&large);
    scene.owner_sends(&large, seat, 1000);
    scene.finds(Came::End);
    assert_eq!(scene.caller.borrowed(), None);
    scene.owner_ends();
    scene.caller.end_borrowing(&large, scene.now);
    assert!(scene.caller.to_send().is_none());
    assert!(matches!(scene.poll(seat), Step::Done(Outcome::Ended(_))));
}

/// Who fails while somebody else sends can't say goodbye, since that would be taken for a piece of the payload.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_failure_meanwhile_says_nothing() {
    let (mut scene, large) = (Scene::new(|_| {}, GENEROUS), payload());
    let seat = scene.lends(&large);
    scene.owner_sends(&large, seat, 1000);
    scene.comes(&reply(9, TYPE, b"to nothing"));
    assert_eq!(scene.caller.borrowed(), None);
    assert_eq!(scene.caller.poll_close(), None);
    scene.owner_ends();
    assert_eq!(scene.caller.poll_close().as_deref(), Some(&[][..]));
}

/// The next large one is read into the same memory, from its first byte on.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_large_reply_lies_where_it_was_read_to() {
    let (mut scene, large) = (Scene::new(|_| {}, GENEROUS), payload());
    let seats = [(); 4].map(|()| Seat::Call(scene.call(b"").0));
    scene.sends(usize::MAX);
    let place = scene.comes_in_place(&reply(1, TYPE, &large)).expect("it is large");
    let first = scene.reply_at(seats[0]);
    assert!(first == large && first.as_ptr() == place.wrapping_add(HEADER_LEN));
    // Nobody has it back yet.
    let other = scene.comes_in_place(&reply(2, TYPE, &large)).expect("it is large");
    assert_ne!(other, place);
    assert_eq!(first, large);
    drop(first);
    let place = scene.comes_in_place(&reply(3, TYPE, &large)).expect("it is large");
    let third = scene.reply_at(seats[2]);
    assert!(third == large && third.as_ptr() == place.wrapping_add(HEADER_LEN));
    assert!(scene.reply_at(seats[1]) == large);
    // A small one behind it is read as ever, from the second on.
    scene.comes_in_place(&reply(4, TYPE, b"small"));
    assert_eq!(scene.reply_at(seats[3]), b"small");
    assert!(scene.caller.begin_read(LARGE).is_none());
}

/// The memory of one that was dropped is there before the first byte of the next.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn memory_that_comes_back_is_read_into_at_once() {
    let (mut scene, large) = (Scene::new(|_| {}, GENEROUS), payload());
    for id in 1..4 {
        let seat = Seat::Call(scene.call(b"").0);
        scene.sends(usize::MAX);
        let kept = scene.caller.begin_read(LARGE);
        assert_eq!(
            kept.as_ref().map(|(memory, most)| (memory.len(), *most)),
            (id > 1).then_some((0, LENGTH + 16))
        );
        if let Some((memory, _)) = kept {
            scene.caller.put_back(memory);
        }
        scene.caller.end_read(None, Came::Nothing, scene.now, scene.now);
        scene.comes_in_place(&reply(id, TYPE, &large));
        assert!(scene.reply_at(seat) == large);
    }
}
