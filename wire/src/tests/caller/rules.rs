//! Single rules: what comes late, who makes room, which limits end a connection and when.

use std::time::{Duration, Instant};

use super::{Bell, LIMIT, TYPE};
use crate::caller::{Bound, Caller, Came, End, Outcome, Purpose, Reply, Seat, Step};
use crate::frame::{HEADER_LEN, Kind};
use crate::hello::Allowance;
use crate::tests::{GENEROUS, answer, frame, frames, reply, settings};
use crate::{Classic, ConnectionLimits, Executed, LATE, ProtocolError, ResultCode};

const SECOND: Duration = Duration::from_secs(1);

/// A caller behind its server's hello, and a clock.
pub(super) struct Scene {
    pub(super) caller: Caller<Bell>,
    pub(super) now: Instant,
}

impl Scene {
    pub(super) fn new(limits: impl FnOnce(&mut ConnectionLimits), allowance: Allowance) -> Scene {
        let now = Instant::now();
        let caller = Caller::v1(settings(|settings| limits(&mut settings.limits)), [1; 16], now);
        let mut scene = Scene { caller, now };
        scene.sends(usize::MAX);
        scene.comes(&answer(allowance));
        assert!(scene.caller.hello().is_some());
        scene
    }

    pub(super) fn call(&mut self, payload: &[u8]) -> (u32, Bell) {
        let bell = Bell::default();
        let begun = self.caller.begin(TYPE, payload, 0, Some(self.now + LIMIT), bell.clone());
        (begun.expect("memory"), bell)
    }

    pub(super) fn ask(&mut self, purpose: Purpose) -> (Seat, Bell) {
        let bell = Bell::default();
        (self.caller.ask(purpose, Some(self.now + LIMIT), bell.clone()), bell)
    }

    pub(super) fn poll(&mut self, seat: Seat) -> Step {
        self.caller.poll(seat, self.now)
    }

    /// One who has no seat reads.
    pub(super) fn finds(&mut self, came: Came<'_>) {
        assert!(self.caller.begin_read(usize::MAX).is_none());
        self.caller.end_read(None, came, self.now, self.now);
    }

    pub(super) fn comes(&mut self, bytes: &[u8]) {
        self.finds(Came::Bytes { bytes, is_all: true });
    }

    /// The channel takes so much of what is there.
    pub(super) fn sends(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(unsent) = self.caller.to_send().filter(|_| bytes.len() < most) {
            let count = unsent.len().min(most - bytes.len());
            bytes.extend_from_slice(&unsent[..count]);
            self.caller.sent(count, self.now);
        }
        bytes
    }

    pub(super) fn assert_over(&mut self, what: &'static str) {
        assert_eq!(self.caller.end(), Some(&End::Failed(ProtocolError::TimedOut(what))));
        assert!(self.caller.is_over() && self.caller.to_send().is_none());
    }
}

pub(super) fn ready() -> Step {
    Step::Done(Outcome::Ready)
}

#[test]
fn what_came_in_time_counts_however_late_it_is_read() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let (id, _) = scene.call(b"");
    let seat = Seat::Call(id);
    scene.sends(usize::MAX);
    assert_eq!(scene.poll(seat), Step::Read { until: Some(scene.now + LIMIT) });
    scene.now += 2 * LIMIT;
    assert_eq!(scene.poll(seat), Step::Look);
    scene.comes(&reply(id, TYPE, b"in time"));
    let Step::Done(Outcome::Reply(Reply { payload, .. })) = scene.poll(seat) else { panic!("no reply") };
    assert_eq!(payload, b"in time");
}

#[test]
fn a_reader_that_was_held_up_as_well_gets_some_time() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let (first, _) = scene.call(b"");
    let (second, bell) = scene.call(b"");
    scene.sends(usize::MAX);
    assert!(scene.caller.begin_read(usize::MAX).is_none());
    let asked = scene.now;
    scene.now += LIMIT + 2 * LATE;
    assert_eq!(scene.poll(Seat::Call(second)), Step::Wait { until: Some(scene.now + LATE) });
    let bytes = [reply(first, TYPE, b""), reply(second, TYPE, b"")].concat();
    scene.caller.end_read(
        Some(Seat::Call(first)),
        Came::Bytes { bytes: &bytes, is_all: true },
        asked,
        scene.now,
    );
    assert!(bell.0.get());
    assert!(matches!(scene.poll(Seat::Call(second)), Step::Done(Outcome::Reply(_))));
    // But not without end.
    let (third, _) = scene.call(b"");
    assert!(scene.caller.begin_read(usize::MAX).is_none());
    scene.now += LIMIT + 2 * LATE;
    assert_eq!(scene.poll(Seat::Call(third)), Step::Wait { until: Some(scene.now + LATE) });
    scene.now += LATE;
    assert_eq!(scene.poll(Seat::Call(third)), Step::Done(Outcome::TimedOut(Executed::Perhaps)));
}

#[test]
fn a_seat_in_the_queue_makes_room_itself_if_nobody_else_reads() {
    let mut scene = Scene::new(|_| {}, Allowance { max_in_flight: 1, ..GENEROUS });
    let (id, _) = scene.call(b"");
    assert!(!scene.caller.may_begin(Purpose::Call(0)) && scene.caller.may_begin(Purpose::Notify(0)));
    let (seat, bell) = scene.ask(Purpose::Call(0));
    // Whoever asked gives up; its call still counts.
    scene.caller.leave(Seat::Call(id));
    assert!(bell.0.take());
    scene.sends(usize::MAX);
    assert_eq!(scene.poll(seat), Step::Read { until: Some(scene.now + LIMIT) });
    scene.comes(&reply(id, TYPE, b""));
    assert!(bell.0.take());
    assert_eq!(scene.poll(seat), ready());
    let (seat, _) = scene.ask(Purpose::Call(0));
    scene.call(b"");
    scene.now += LIMIT;
    assert_eq!(scene.poll(seat), Step::Look);
    scene.finds(Came::Nothing);
    assert_eq!(scene.poll(seat), Step::Done(Outcome::TimedOut(Executed::Never)));
}

#[test]
fn nothing_is_added_to_what_the_server_does_not_read() {
    let soft = |limits: &mut ConnectionLimits| limits.outbox_soft = 100;
    let mut scene = Scene::new(soft, GENEROUS);
    scene.caller.notify(TYPE, &[0; 100]).expect("memory");
    for purpose in [Purpose::Call(0), Purpose::Notify(0)] {
        let (seat, bell) = scene.ask(purpose);
        scene.caller.begin_write(None, scene.now);
        assert!(scene.caller.to_send().is_none(), "somebody is at it");
        assert_eq!(scene.poll(seat), Step::Wait { until: Some(scene.now + LIMIT) });
        scene.caller.sent(10, scene.now);
        assert!(!bell.0.get());
        scene.caller.sent(10, scene.now);
        assert!(bell.0.take());
        assert_eq!(scene.poll(seat), ready());
        scene.caller.notify(TYPE, &[0; 20 - HEADER_LEN]).expect("memory");
    }
}

#[test]
fn whoever_flushes_is_woken_when_all_has_left() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let (at_once, _) = scene.ask(Purpose::Flush);
    assert_eq!(scene.poll(at_once), ready());
    scene.caller.notify(TYPE, &[0; 84]).expect("memory");
    let (seat, bell) = scene.ask(Purpose::Flush);
    // Nobody sends, and the owner of the seat does not, either: then the server may be stuck, and is read from.
    assert!(matches!(scene.poll(seat), Step::Read { until: Some(_) }));
    for _ in 0..2 {
        scene.caller.begin_write(None, scene.now);
        assert_eq!(scene.poll(seat), Step::Wait { until: Some(scene.now + LIMIT) });
        assert!(!bell.0.get());
        scene.caller.sent(HEADER_LEN + 34, scene.now);
    }
    assert!(bell.0.take());
    assert_eq!(scene.poll(seat), ready());
    // A call that is under way does not hinder it.
    scene.call(b"");
    scene.sends(usize::MAX);
    let (seat, _) = scene.ask(Purpose::Flush);
    assert_eq!(scene.poll(seat), ready());
}

/// Those who had waited for room behind a channel that broke slept on: whoever had found that out wanted no
/// reply, and left without a read.
#[test]
fn who_waits_for_room_is_woken_when_the_channel_takes_nothing_more() {
    let mut scene = Scene::new(|limits| limits.outbox_soft = 100, GENEROUS);
    scene.caller.notify(TYPE, &[0; 100]).expect("memory");
    let (seat, bell) = scene.ask(Purpose::Call(0));
    scene.caller.begin_write(None, scene.now);
    assert_eq!(scene.poll(seat), Step::Wait { until: Some(scene.now + LIMIT) });
    scene.caller.cannot_send();
    assert!(bell.0.take());
    assert!(!matches!(scene.poll(seat), Step::Wait { .. }));
}

#[test]
fn no_request_takes_the_outbox_past_its_hard_mark() {
    let limits = |limits: &mut ConnectionLimits| limits.outbox_hard = HEADER_LEN + 1000;
    let mut scene = Scene::new(limits, GENEROUS);
    assert_eq!(scene.caller.request_limit(), 1000);
    let (seat, _) = scene.ask(Purpose::Call(1001));
    let too_large = Outcome::TooLarge { length: 1001, bound: Bound::Outbox(HEADER_LEN + 1000) };
    assert_eq!(scene.poll(seat), Step::Done(too_large));
    assert!(scene.caller.may_begin(Purpose::Call(1000)));
    scene.caller.notify(TYPE, b"").expect("memory");
    let (seat, bell) = scene.ask(Purpose::Notify(1000));
    assert!(matches!(scene.poll(seat), Step::Read { .. }));
    scene.sends(usize::MAX);
    assert!(bell.0.take());
    assert_eq!(scene.poll(seat), ready());
}

#[test]
fn padding_counts_as_well() {
    let now = Instant::now();
    let settings = settings(|settings| {
        (settings.classic, settings.limits.outbox_hard) = (Classic::Fixed(1000), HEADER_LEN + 999);
    });
    let mut scene = Scene { caller: Caller::classic(settings, now), now };
    let (seat, _) = scene.ask(Purpose::Call(0));
    let bound = Bound::Outbox(HEADER_LEN + 999);
    assert_eq!(scene.poll(seat), Step::Done(Outcome::TooLarge { length: 0, bound }));
}

#[test]
fn whoever_waits_for_the_channel_is_not_appointed() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let calls = [(); 3].map(|()| scene.call(&[0; 100]));
    let [reader, writer, other] = [0, 1, 2].map(|index| Seat::Call(calls[index].0));
    let is_woken = |index: usize| calls[index].1.0.take();
    scene.caller.begin_write(Some(writer), scene.now);
    assert!(scene.caller.begin_read(usize::MAX).is_none());
    scene.caller.end_read(Some(reader), Came::Nothing, scene.now, scene.now);
    assert!(!is_woken(2), "whoever reads goes on");
    assert!(scene.caller.begin_read(usize::MAX).is_none());
    let bytes = reply(calls[0].0, TYPE, b"");
    scene.caller.end_read(Some(reader), Came::Bytes { bytes: &bytes, is_all: true }, scene.now, scene.now);
    assert!(is_woken(0) && !is_woken(1) && is_woken(2));
    assert!(matches!(scene.poll(other), Step::Read { .. }));
    // Nobody else is left, and the writer comes back.
    scene.caller.leave(other);
    assert!(!is_woken(1));
    scene.caller.sent(10, scene.now);
    assert!(matches!(scene.poll(writer), Step::Read { .. }));
}

/// One that was to read, and then waits for the channel to take more, hands that on.
#[test]
fn an_appointed_reader_that_begins_to_write_hands_over() {
    let mut scene = Scene::new(|_| {}, GENEROUS);
    let (first, _) = scene.call(b"");
    let (_, bell) = scene.call(b"");
    scene.caller.begin_write(Some(Seat::Call(first)), scene.now);
    assert!(bell.0.get());
}

#[test]
fn silence_ends_a_connection_but_not_before_what_came_was_read() {
    let idle = |limits: &mut ConnectionLimits| limits.idle_timeout = Some(SECOND);
    let mut scene = Scene::new(idle, GENEROUS);
    scene.now += SECOND;
    assert!(!scene.caller.may_begin(Purpose::Call(0)), "that is to be seen");
    let (seat, _) = scene.ask(Purpose::Call(0));
    assert_eq!(scene.poll(seat), Step::Look);
    scene.comes(&frame(Kind::Ping, 0, 0, 1, 0, b""));
    assert_eq!(scene.poll(seat), ready());
    let (id, _) = scene.call(b"");
    scene.sends(usize::MAX);
    assert_eq!(scene.poll(Seat::Call(id)), Step::Read { until: Some(scene.now + SECOND) });
    scene.now += SECOND;
    scene.finds(Came::Nothing);
    scene.assert_over("sign of life");
    assert_eq!(scene.poll(Seat::Call(id)), Step::Done(Outcome::Ended(Executed::Perhaps)));
    let (seat, _) = scene.ask(Purpose::Call(0));
    assert_eq!(scene.poll(seat), Step::Done(Outcome::Ended(Executed::Never)));
    let words = frames(&scene.caller.poll_close().expect("a goodbye"));
    assert_eq!((words[0].kind, words[0].rc), (Kind::Goodbye as u8, ResultCode::TIMED_OUT.code()));
    assert!(scene.caller.poll_close().is_none() && scene.caller.goodbye().is_none());
}

#[test]
fn a_reply_that_stays_unfinished_ends_a_connection() {
    let partial = |limits: &mut ConnectionLimits| limits.partial_frame_timeout = SECOND;
    let mut scene = Scene::new(partial, GENEROUS);
    let (id, _) = scene.call(b"");
    scene.sends(usize::MAX);
    let bytes = reply(id, TYPE, b"never whole");
    scene.comes(&bytes[..10]);
    assert_eq!(scene.poll(Seat::Call(id)), Step::Read { until: Some(scene.now + SECOND) });
    // Bytes that trickle in buy no time, though while there may be more nobody is blamed.
    scene.now += SECOND;
    scene.finds(Came::Bytes { bytes: &bytes[10..11], is_all: false });
    assert!(!scene.caller.is_over());
    scene.comes(&bytes[11..12]);
    scene.assert_over("end of a frame");
}

#[test]
fn a_server_that_takes_nothing_ends_a_connection() {
    let stall = |limits: &mut ConnectionLimits| limits.write_stall_timeout = SECOND;
    let mut scene = Scene::new(stall, GENEROUS);
    let (id, _) = scene.call(&[0; 100]);
    let wait = |scene: &mut Scene, time: Duration| {
        let asked = scene.now;
        scene.caller.begin_write(Some(Seat::Call(id)), asked);
        scene.now += time;
        // Whoever reads meanwhile can't know whether the channel takes anything by now.
        scene.finds(Came::Nothing);
        asked
    };
    let asked = wait(&mut scene, SECOND / 10);
    scene.caller.sent_nothing(asked, scene.now);
    // We were held up; what the channel takes then counts.
    wait(&mut scene, 2 * SECOND);
    scene.caller.sent(10, scene.now);
    assert!(!scene.caller.is_over());
    let asked = wait(&mut scene, 2 * SECOND);
    scene.caller.sent_nothing(asked, scene.now);
    assert!(!scene.caller.is_over(), "held up again");
    let asked = wait(&mut scene, SECOND / 10);
    scene.caller.sent_nothing(asked, scene.now);
    scene.assert_over("progress of writing");
    assert_eq!(scene.caller.poll_close(), Some(Vec::new()), "no point in saying more");
}

#[test]
fn a_hello_has_a_time_limit_from_its_first_byte() {
    let now = Instant::now();
    let limits = settings(|settings| settings.limits.hello_timeout = SECOND);
    let mut scene = Scene { caller: Caller::v1(limits, [1; 16], now), now };
    scene.sends(usize::MAX);
    let (seat, _) = scene.ask(Purpose::Open);
    scene.now += SECOND;
    assert_eq!(scene.poll(seat), Step::Read { until: Some(now + LIMIT) });
    scene.comes(&answer(GENEROUS)[..10]);
    assert_eq!(scene.poll(seat), Step::Read { until: Some(scene.now + SECOND) });
    scene.now += SECOND;
    scene.finds(Came::Nothing);
    scene.assert_over("hello");
    assert_eq!(scene.poll(seat), Step::Done(Outcome::Ended(Executed::Never)));
}
