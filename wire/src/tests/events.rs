//! Subscriptions and events.

use std::sync::Arc;
use std::time::Duration;

use super::pair::Pair;
use super::{Answers, Frame, Seen, Side, defaults, frame, reply, request, settings};
use crate::error::ProtocolError;
use crate::frame::{Kind, flags};
use crate::memory::with_at_most;
use crate::rc::ResultCode;
use crate::settings::Settings;
use crate::subscriptions::{Pushed, WhenSlow};

fn payload(bytes: &[u8]) -> Arc<Vec<u8>> {
    Arc::new(bytes.to_vec())
}

fn subscribe(id: u32, topic: u16) -> Vec<u8> {
    frame(Kind::Subscribe, 0, topic, id, 0, b"")
}

fn event(topic: u16, sequence: u32, dropped: i32, payload: &[u8]) -> Frame {
    let kind = Kind::Event as u8;
    Frame { kind, flags: 0, msg_type: topic, id: sequence, rc: dropped, payload: payload.to_vec() }
}

fn published(topic: u16, sequence: u32, dropped: u32, payload: &[u8]) -> Seen {
    Seen::Published { topic, sequence, dropped, payload: payload.to_vec() }
}

fn narrow() -> Arc<Settings> {
    settings(|settings| {
        settings.limits.outbox_soft = 100;
        settings.limits.outbox_hard = 1000;
    })
}

/// A responder whose peer has subscribed to topic 7.
fn subscribed(settings: Arc<Settings>) -> Side {
    let mut side = Side::open_responder(settings);
    assert_eq!(side.ask(&subscribe(1, 7)), [Frame::reply(1, 7, ResultCode::OK, b"")]);
    assert_eq!(side.seen(), [Seen::Subscribe { topic: 7 }]);
    side
}

fn push(side: &mut Side, bytes: &[u8], slow: WhenSlow) -> Pushed {
    side.connection.push_event(7, &payload(bytes), slow)
}

/// PROTOCOL V1, V3, V4, V5
#[test]
fn who_has_subscribed_is_told() {
    let mut side = subscribed(defaults());
    assert_eq!(side.connection.push_event(8, &payload(b"other"), WhenSlow::DropNewest), Pushed::Nobody);
    for (n, text) in [(1, "one"), (2, ""), (3, "three")] {
        assert_eq!(push(&mut side, text.as_bytes(), WhenSlow::DropNewest), Pushed::Queued);
        assert_eq!(side.frames(), [event(7, n, 0, text.as_bytes())]);
    }
    // Twice is once: the numbers go on.
    assert_eq!(side.ask(&subscribe(2, 7)), [Frame::reply(2, 7, ResultCode::OK, b"")]);
    push(&mut side, b"four", WhenSlow::DropNewest);
    assert_eq!(side.frames(), [event(7, 4, 0, b"four")]);
    let topics: Vec<u16> = side.connection.subscribed().collect();
    assert_eq!(topics, [7]);

    let unsubscribe = |id| frame(Kind::Unsubscribe, 0, 7, id, 0, b"ignored");
    assert_eq!(side.ask(&unsubscribe(3)), [Frame::reply(3, 7, ResultCode::OK, b"")]);
    assert_eq!(push(&mut side, b"five", WhenSlow::DropNewest), Pushed::Nobody);
    // From nothing.
    assert_eq!(side.ask(&unsubscribe(4)), [Frame::reply(4, 7, ResultCode::OK, b"")]);
    assert_eq!(side.connection.subscribed().count(), 0);
    // A new subscription counts from 1.
    side.ask(&subscribe(5, 7));
    push(&mut side, b"six", WhenSlow::DropNewest);
    assert_eq!(side.frames(), [event(7, 1, 0, b"six")]);
}

/// PROTOCOL V2
#[test]
fn no_event_comes_before_the_answer() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&subscribe(1, 7));
    assert_eq!(push(&mut side, b"too early", WhenSlow::KeepLatest), Pushed::Nobody);
    let ticket = side.tickets.remove(0);
    assert!(side.connection.accept_subscription(ticket));
    push(&mut side, b"now", WhenSlow::KeepLatest);
    assert_eq!(side.frames(), [Frame::reply(1, 7, ResultCode::OK, b""), event(7, 1, 0, b"now")]);

    // One that was refused brings none.
    side.feed(&subscribe(2, 8));
    let ticket = side.tickets.remove(0);
    side.connection.begin_reply(ticket).fail(ResultCode::NO_HANDLER, "no such topic");
    assert_eq!(side.connection.push_event(8, &payload(b""), WhenSlow::DropNewest), Pushed::Nobody);
}

/// PROTOCOL V4, V7
#[test]
fn the_newest_is_dropped_while_too_much_waits_and_the_next_one_tells() {
    let mut side = subscribed(narrow());
    let fill = [b'x'; 50];
    assert_eq!(push(&mut side, &fill, WhenSlow::DropNewest), Pushed::Queued);
    assert_eq!(push(&mut side, &fill, WhenSlow::DropNewest), Pushed::Queued);
    for _ in 0..3 {
        assert_eq!(push(&mut side, b"lost", WhenSlow::DropNewest), Pushed::Dropped);
    }
    // Replies have room all the same.
    side.feed(&request(2, 1, b"ask"));
    assert_eq!(push(&mut side, b"lost", WhenSlow::DropNewest), Pushed::Dropped);
    let expected = [event(7, 1, 0, &fill), event(7, 2, 0, &fill), Frame::reply(2, 1, ResultCode::OK, b"ask")];
    assert_eq!(side.frames(), expected);
    push(&mut side, b"again", WhenSlow::DropNewest);
    push(&mut side, b"and on", WhenSlow::DropNewest);
    assert_eq!(side.frames(), [event(7, 3, 4, b"again"), event(7, 4, 0, b"and on")]);
}

/// PROTOCOL V7
#[test]
fn the_latest_is_kept_and_sent_when_there_is_room() {
    let mut side = subscribed(narrow());
    side.ask(&subscribe(2, 8));
    let fill = [b'x'; 100];
    push(&mut side, &fill, WhenSlow::KeepLatest);
    assert_eq!(side.connection.push_event(8, &payload(b"A"), WhenSlow::KeepLatest), Pushed::Kept);
    assert_eq!(push(&mut side, b"a", WhenSlow::KeepLatest), Pushed::Kept);
    assert_eq!(push(&mut side, b"b", WhenSlow::KeepLatest), Pushed::Replaced);
    assert_eq!(push(&mut side, b"c", WhenSlow::KeepLatest), Pushed::Replaced);
    // There is still too much.
    let mut bytes = side.take(10);
    bytes.extend(side.take(7));
    assert_eq!(push(&mut side, b"d", WhenSlow::KeepLatest), Pushed::Replaced, "behind what is kept");
    bytes.extend(side.sent());
    let expected = [event(7, 1, 0, &fill), event(8, 1, 0, b"A"), event(7, 2, 3, b"d")];
    assert_eq!(super::frames(&bytes), expected);
    push(&mut side, b"e", WhenSlow::KeepLatest);
    assert_eq!(side.frames(), [event(7, 3, 0, b"e")]);
}

#[test]
fn what_is_kept_goes_with_its_subscription() {
    let mut side = subscribed(narrow());
    push(&mut side, &[b'x'; 100], WhenSlow::KeepLatest);
    push(&mut side, b"kept", WhenSlow::KeepLatest);
    side.feed(&frame(Kind::Unsubscribe, 0, 7, 2, 0, b""));
    side.feed(&subscribe(3, 7));
    push(&mut side, b"new", WhenSlow::KeepLatest);
    let frames = side.frames();
    let (last, before) = frames.split_last().expect("frames");
    assert_eq!(*last, event(7, 1, 0, b"new"));
    assert!(before.iter().all(|frame| frame.payload != b"kept"));
}

/// PROTOCOL V7
#[test]
fn who_may_miss_nothing_and_does_not_read_is_let_go() {
    let mut side = subscribed(narrow());
    assert_eq!(push(&mut side, &[b'x'; 100], WhenSlow::Disconnect), Pushed::Queued);
    assert_eq!(push(&mut side, b"one more", WhenSlow::Disconnect), Pushed::Ended);
    assert_eq!(*side.failure(), ProtocolError::SlowSubscriber { topic: 7, waiting: 116 });
    assert!(side.failure().is_noteworthy() && side.connection.flow().is_hopeless());
    assert!(side.connection.is_finished());
    assert_eq!(push(&mut side, b"behind", WhenSlow::Disconnect), Pushed::Nobody);
    assert_eq!(side.connection.subscribed().count(), 1, "its owner forgets it by this");
}

/// PROTOCOL V8
#[test]
fn an_event_never_leads_beyond_the_hard_mark_or_the_peers_limit() {
    let mut side = subscribed(settings(|settings| {
        settings.limits.outbox_soft = 100;
        settings.limits.outbox_hard = 150;
    }));
    push(&mut side, &[b'x'; 74], WhenSlow::Disconnect);
    assert_eq!(push(&mut side, &[b'y'; 44], WhenSlow::DropNewest), Pushed::Queued, "150 bytes");
    side.sent();
    push(&mut side, &[b'x'; 74], WhenSlow::KeepLatest);
    assert_eq!(push(&mut side, &[b'y'; 45], WhenSlow::KeepLatest), Pushed::Kept);
    assert_eq!(side.frames().len(), 2, "it goes when there is room");
    for slow in [WhenSlow::DropNewest, WhenSlow::KeepLatest, WhenSlow::Disconnect] {
        assert_eq!(push(&mut side, &[b'z'; 135], slow), Pushed::Dropped, "it never fits");
    }
    assert_eq!(push(&mut side, b"", WhenSlow::DropNewest), Pushed::Queued);
    assert_eq!(side.frames(), [event(7, 5, 3, b"")]);

    let mut side = subscribed(defaults());
    assert_eq!(push(&mut side, &vec![0; (1 << 20) + 1], WhenSlow::Disconnect), Pushed::Dropped);
    assert_eq!(push(&mut side, &vec![0; 1 << 20], WhenSlow::Disconnect), Pushed::Queued);
}

#[test]
fn for_want_of_memory_an_event_is_dropped() {
    let mut side = subscribed(defaults());
    let large = payload(&vec![0; 1 << 20]);
    let pushed = with_at_most(0, || side.connection.push_event(7, &large, WhenSlow::KeepLatest));
    assert_eq!(pushed, Pushed::Dropped);
    push(&mut side, b"small", WhenSlow::KeepLatest);
    assert_eq!(side.frames(), [event(7, 1, 1, b"small")]);
}

#[test]
fn behind_a_goodbye_nothing_is_published() {
    let mut side = subscribed(narrow());
    push(&mut side, &[b'x'; 100], WhenSlow::KeepLatest);
    push(&mut side, b"kept", WhenSlow::KeepLatest);
    side.connection.goodbye(ResultCode::SHUTTING_DOWN);
    assert_eq!(push(&mut side, b"late", WhenSlow::DropNewest), Pushed::Nobody);
    let kinds: Vec<u8> = side.frames().iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [Kind::Event as u8, Kind::Goodbye as u8]);
}

/// Either side may subscribe.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_pair_tells_each_other() {
    for piece in [1, 7, 1000] {
        let mut pair = Pair::open(piece);
        let asked = [
            pair.client.connection.push_subscribe(7).expect("memory"),
            pair.server.connection.push_subscribe(9).expect("memory"),
        ];
        pair.run();
        let answered = |id| Seen::Reply { id, rc: 0, is_text: false, payload: vec![] };
        assert_eq!(pair.client.seen(), [Seen::Subscribe { topic: 9 }, answered(asked[0])]);
        assert_eq!(pair.server.seen(), [Seen::Subscribe { topic: 7 }, answered(asked[1])]);
        for n in 1..=3_u8 {
            push(&mut pair.server, &[n], WhenSlow::DropNewest);
            pair.client.connection.push_event(9, &payload(&[n, n]), WhenSlow::DropNewest);
        }
        pair.run();
        let told: Vec<Seen> = (1..=3_u8).map(|n| published(7, u32::from(n), 0, &[n])).collect();
        assert_eq!(pair.client.seen(), told);
        let told: Vec<Seen> = (1..=3_u8).map(|n| published(9, u32::from(n), 0, &[n; 2])).collect();
        assert_eq!(pair.server.seen(), told);
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_reader_that_sleeps_misses_what_the_next_event_says() {
    let mut pair = Pair::new(defaults(), narrow());
    pair.run();
    pair.client.seen();
    pair.client.connection.push_subscribe(7).expect("memory");
    pair.run();
    pair.client.seen();
    pair.to_client.room = 40;
    let mut expected = Vec::new();
    for n in 0..100_u8 {
        push(&mut pair.server, &[n; 10], WhenSlow::DropNewest);
        // One write, which is read late.
        let server = &mut pair.server;
        let count = pair.to_client.push(server.connection.unsent(), server.now);
        server.connection.mark_sent(count, server.now);
        if n % 10 == 9 {
            pair.run();
            expected.extend(pair.client.seen());
        }
    }
    pair.run();
    let mut before = 0;
    let mut missing = 0;
    for (index, seen) in expected.iter().enumerate() {
        let Seen::Published { topic: 7, sequence, dropped, payload } = seen else { panic!("{seen:?}") };
        assert_eq!(*sequence as usize, index + 1, "only those that were sent are counted");
        let at = u32::from(payload[0]) + 1;
        assert_eq!(at, before + 1 + dropped, "none is missing without a word");
        (before, missing) = (at, missing + dropped);
    }
    assert!(missing > 10 && expected.len() > 20, "{missing} of 100");
}

/// PROTOCOL V6
#[test]
fn events_that_nobody_waits_for_are_skipped() {
    let event = |sequence, payload: &[u8]| frame(Kind::Event, 0, 7, sequence, 0, payload);
    let mut side = Side::open_initiator(defaults());
    side.feed(&event(1, b"never asked"));
    let asked = side.connection.push_subscribe(7).expect("memory");
    side.feed(&event(1, b"too early"));
    assert_eq!(side.seen(), []);
    side.feed(&[reply(asked, 7, b""), event(1, b"one")].concat());
    assert_eq!(side.seen().pop(), Some(published(7, 1, 0, b"one")));
    let undone = side.connection.push_unsubscribe(7).expect("memory");
    side.feed(&[event(2, b"crossed"), reply(undone, 7, b""), event(3, b"behind")].concat());
    let answered = Seen::Reply { id: undone, rc: 0, is_text: false, payload: vec![] };
    assert_eq!(side.seen(), [answered]);

    // A refused one, and one that was given up before its answer.
    let refused = side.connection.push_subscribe(7).expect("memory");
    side.feed(&frame(Kind::Reply, 0, 7, refused, -2, b""));
    side.feed(&event(1, b"none"));
    let given_up = side.connection.push_subscribe(7).expect("memory");
    side.connection.abandon_call(given_up);
    let undone = side.connection.push_unsubscribe(7).expect("memory");
    side.connection.abandon_call(undone);
    side.seen();
    side.feed(&[reply(given_up, 7, b""), event(1, b"none"), reply(undone, 7, b"")].concat());
    assert_eq!(side.seen(), []);
    assert!(side.connection.flow().failure().is_none());
}

/// PROTOCOL V6
#[test]
fn an_event_that_can_not_be_taken_as_it_is_meant_counts_as_lost() {
    let mut side = Side::open_initiator(defaults());
    let asked = side.connection.push_subscribe(7).expect("memory");
    side.feed(&reply(asked, 7, b""));
    side.seen();
    let odd = |flags, rc, payload: &[u8]| frame(Kind::Event, flags, 7, 1, rc, payload);
    side.feed(&odd(flags::MORE, 2, b""));
    side.feed(&odd(flags::EXT, 0, &[4, 0, 0x01, 0x80, 0, 0]));
    side.feed(&odd(flags::EXT, -3, &[4, 0, 0x01, 0x00, 0, 0, b'x']));
    assert_eq!(side.seen(), [published(7, 1, 4, b"x")]);
    // There is no memory for the end of one.
    let large = odd(0, 1, &vec![0; 1 << 20]);
    let (begin, end) = large.split_at(600 << 10);
    side.feed(begin);
    with_at_most(0, || side.feed(end));
    assert_eq!(side.seen(), []);
    side.feed(&odd(0, 0, b"on"));
    assert_eq!(side.seen(), [published(7, 1, 2, b"on")]);
}

#[test]
fn a_kept_event_is_no_reason_to_wait() {
    let mut side = subscribed(narrow());
    push(&mut side, &[b'x'; 100], WhenSlow::KeepLatest);
    push(&mut side, b"kept", WhenSlow::KeepLatest);
    assert_eq!(side.take(0), b"");
    side.pass(Duration::from_millis(29_999));
    assert!(side.connection.flow().failure().is_none());
    side.pass(Duration::from_millis(1));
    assert_eq!(*side.failure(), ProtocolError::STALLED);
}
