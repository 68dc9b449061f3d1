//! Topics and the fan-out of events.

use super::*;
use crate::reactor::system::memory::Side;

/// Topics of the [`Recorder`].
pub(super) const DROPS: u16 = 5;
pub(super) const KEEPS: u16 = 6;
pub(super) const ENDS: u16 = 7;

fn call(kind: u8, topic: u16, id: u32) -> Vec<u8> {
    [&[0, 0, 0, 0, kind, 0], &topic.to_le_bytes()[..], &id.to_le_bytes(), &[0; 4]].concat()
}

fn answer(topic: u16, id: u32) -> Vec<u8> {
    call(2, topic, id)
}

fn event(topic: u16, sequence: u32, dropped: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_le_bytes();
    let (topic, sequence, dropped) = (topic.to_le_bytes(), sequence.to_le_bytes(), dropped.to_le_bytes());
    [&length[..], &[4, 0], &topic, &sequence, &dropped, payload].concat()
}

impl Stage {
    /// One that has said hello and subscribed to this topic, and was answered.
    pub(super) fn subscriber(&mut self, topic: u16) -> Caller {
        let caller = self.accepted();
        caller.send(&[v1_hello(), call(5, topic, 1)].concat());
        self.turn();
        assert!(caller.receive().ends_with(&answer(topic, 1)));
        caller
    }

    pub(super) fn publish(&mut self, topic: u16, payloads: &[&[u8]]) {
        let mailbox = self.reactor.mailbox();
        payloads.iter().for_each(|payload| mailbox.publish(topic, payload).expect("room"));
        self.turn();
    }

    fn dropped(&self) -> u64 {
        self.counters.events_dropped()
    }
}

#[test]
fn subscribers_are_told_at_once_and_nobody_else_is() {
    let mut stage = Stage::new(|_| {});
    let (one, other, silent) = (stage.subscriber(DROPS), stage.subscriber(DROPS), stage.accepted());
    stage.publish(DROPS, &[b"a", b"b"]);
    let expected = [event(DROPS, 1, 0, b"a"), event(DROPS, 2, 0, b"b")].concat();
    assert_eq!((one.receive(), other.receive()), (expected.clone(), expected));
    assert_eq!(silent.receive(), b"");
    one.send(&call(6, DROPS, 2));
    stage.turn();
    assert_eq!(one.receive(), answer(DROPS, 2));
    stage.publish(DROPS, &[b"c"]);
    assert_eq!((one.receive(), other.receive()), (vec![], event(DROPS, 3, 0, b"c")));
    assert_eq!((stage.counters.events(), stage.dropped()), (5, 0));
}

#[test]
fn what_is_no_topic_is_refused() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.send(&[v1_hello(), call(5, 9, 1), call(6, 9, 2)].concat());
    stage.turn();
    let said = caller.receive();
    let text = b"\x07\0\0\0\x02\x04\x09\0\x02\0\0\0\xFE\xFF\xFF\xFFno such";
    assert!(said.ends_with(text), "{said:?}");
    stage.publish(9, &[b"nobody"]);
    assert_eq!((caller.receive(), stage.reactor.topics.count()), (vec![], 0));
}

#[test]
fn who_has_gone_is_no_subscriber() {
    let mut stage = Stage::new(|_| {});
    let callers = [stage.subscriber(DROPS), stage.subscriber(KEEPS), stage.subscriber(KEEPS)];
    assert_eq!(stage.reactor.topics.count(), 3);
    callers[0].close();
    callers[1].reset();
    stage.run(ms(1));
    assert_eq!(stage.reactor.topics.count(), 1);
    stage.publish(KEEPS, &[b"x"]);
    assert_eq!(callers[2].receive(), event(KEEPS, 1, 0, b"x"));
}

/// Three that never read: each is handled as its topic says, and the fourth gets everything.
/// PROTOCOL V7
#[test]
fn who_never_reads_costs_no_more_than_the_soft_mark() {
    for topic in [DROPS, KEEPS, ENDS] {
        let mut stage = Stage::new(|limits| limits.listener.connection.outbox_soft = 1000);
        let deaf = [(); 3].map(|()| stage.subscriber(topic));
        deaf.iter().for_each(|caller| caller.takes(0));
        let reader = stage.subscriber(topic);
        for n in 1..=100 {
            stage.publish(topic, &[&[b'x'; 84]]);
            assert_eq!(reader.receive(), event(topic, n, 0, &[b'x'; 84]));
        }
        // Ten events of 100 bytes.
        let is_over = topic == ENDS;
        assert_eq!(deaf.iter().all(|caller| caller.server() == Side::Reset), is_over);
        let dropped = match topic {
            DROPS => 90,
            KEEPS => 89,
            _ => 1,
        };
        assert_eq!(stage.dropped(), 3 * dropped);
        assert!(stage.reactor.memory_held() < 3 * 2100, "{}", stage.reactor.memory_held());
        if !is_over {
            deaf[0].takes(usize::MAX);
            stage.run(ms(1));
            let got = deaf[0].receive();
            let kept = event(KEEPS, 11, 89, &[b'x'; 84]);
            assert_eq!(
                (got.len(), got.ends_with(&kept)),
                if topic == KEEPS { (1100, true) } else { (1000, false) }
            );
            stage.publish(topic, &[b"on"]);
            let next = if topic == KEEPS { event(topic, 12, 0, b"on") } else { event(topic, 11, 90, b"on") };
            assert_eq!(deaf[0].receive(), next);
        }
        // The others have their time to take something.
        stage.run(Duration::from_secs(31));
        assert_eq!(stage.counters.connections(), if is_over { 1 } else { 2 });
        assert_eq!(stage.reactor.topics.count(), if is_over { 1 } else { 2 });
    }
}

#[test]
fn many_subscribers_hold_nobody_up() {
    let mut stage = Stage::new(|_| {});
    let subscribers: Vec<_> = (0..600).map(|_| stage.subscriber(DROPS)).collect();
    let caller = stage.accepted();
    let told =
        |count: u32| subscribers.iter().filter(|caller| caller.unread_by_caller() == count as usize).count();
    caller.send(&request(1, b"hello"));
    stage.publish(DROPS, &[b"a"]);
    assert_eq!((told(17), caller.receive()), (256, reply(1, ResultCode::OK, b"hello")));
    // What comes meanwhile waits until all have been told.
    stage.publish(DROPS, &[b"b"]);
    assert_eq!((told(17), told(34)), (512, 0));
    stage.turn();
    assert_eq!((told(17), told(34)), (600 - 256, 256));
    stage.run(ms(1));
    let all = [event(DROPS, 1, 0, b"a"), event(DROPS, 2, 0, b"b")].concat();
    assert!(subscribers.iter().all(|caller| caller.receive() == all));
}

/// They have no mailbox of their own that could be full, and would fill the loop's without end.
#[test]
fn handlers_publish_no_faster_than_all_are_told() {
    let mut stage = Stage::new(|limits| limits.turn_frames = 512);
    let _turning = stage.reactor.begin_turns();
    stage.service.publishes = Some(DROPS);
    // More than are told in one turn.
    let subscribers: Vec<_> = (0..257).map(|_| stage.subscriber(DROPS)).collect();
    let caller = stage.accepted();
    caller.send(&v1_hello());
    caller.send(&(1..=12_000).flat_map(|id| v1_request(id, 1)).collect::<Vec<_>>());
    let mut most = 0;
    while stage.service.requests < 12_000 {
        stage.turn();
        most = most.max(stage.reactor.mailbox.len());
    }
    assert!(most <= 4_096 + 512, "{most} letters");
    stage.run(ms(1));
    assert_eq!(stage.reactor.mailbox.len(), 0);
    assert_eq!((stage.counters.events(), stage.dropped()), (257 * 12_000, 0));
    drop(subscribers);
}

/// An order among many events is no reason to tell everybody of them in one turn.
#[test]
fn what_is_said_between_events_waits_for_its_place() {
    let mut stage = Stage::new(|_| {});
    let subscribers: Vec<_> = (0..600).map(|_| stage.subscriber(DROPS)).collect();
    let mailbox = stage.reactor.mailbox();
    for payload in [b"a", b"b"] {
        mailbox.publish(DROPS, payload).expect("room");
        mailbox.post(mailbox::Letter::Run).expect("room");
    }
    let told = |count: usize| subscribers.iter().filter(|caller| caller.unread_by_caller() == count).count();
    for expected in [(256, 0, 0), (512, 0, 0), (344, 256, 1), (88, 512, 1), (0, 600, 2)] {
        stage.turn();
        assert_eq!((told(17), told(34), stage.service.errands), expected);
    }
}

#[test]
fn an_event_waits_for_no_other_turn() {
    let mut stage = Stage::new(|limits| limits.turn_bytes = 50);
    let caller = stage.subscriber(DROPS);
    stage.publish(DROPS, &[&[b'x'; 500]]);
    stage.run(ms(1));
    assert_eq!(caller.receive(), event(DROPS, 1, 0, &[b'x'; 500]));
}

/// PROTOCOL V2
#[test]
fn a_handlers_reply_precedes_its_events_and_others_are_told_in_the_same_turn() {
    let mut stage = Stage::new(|_| {});
    stage.service.publishes = Some(DROPS);
    let (own, other) = (stage.subscriber(DROPS), stage.subscriber(DROPS));
    own.send(&[v1_request(2, 1), v1_request(3, 2)].concat());
    stage.turn();
    let events = [event(DROPS, 1, 0, b"x"), event(DROPS, 2, 0, b"xx")].concat();
    assert_eq!(other.receive(), events);
    let said = own.receive();
    assert!(said.ends_with(&events) && said.len() == events.len() + 2 * 16 + 3, "{said:?}");
}

#[test]
fn what_was_published_before_the_word_to_stop_is_told_before_the_goodbye() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.subscriber(DROPS);
    let mailbox = stage.reactor.mailbox();
    mailbox.publish(DROPS, b"last").expect("room");
    mailbox.stop(ms(500)).expect("stop");
    stage.turn();
    let said = caller.receive();
    let event = event(DROPS, 1, 0, b"last");
    assert!(said.starts_with(&event) && said[event.len() + 4] == 12, "{said:?}");
}

/// Although they are told behind its turn.
#[test]
fn what_was_published_before_somebody_subscribed_is_not_for_it() {
    let mut stage = Stage::new(|_| {});
    stage.service.publishes = Some(DROPS);
    let (caller, _other) = (stage.accepted(), stage.subscriber(DROPS));
    let call =
        [v1_hello(), v1_request(1, 1), call(5, DROPS, 2), v1_request(3, 2), call(5, DROPS, 4)].concat();
    caller.send(&call);
    stage.turn();
    assert!(caller.receive().ends_with(&[answer(DROPS, 4), event(DROPS, 1, 0, b"xx")].concat()));
}
