//! A caller whose server says hello first, and a connection that serves although it has said hello: who
//! began says nothing about who may ask.

use std::time::{Duration, Instant};

use super::rules::ready;
use super::{Bell, LIMIT, TYPE, World};
use crate::caller::{Caller, Came, End, Outcome, Purpose, Reply, Seat, Step};
use crate::frame::Kind;
use crate::tests::{
    Answers, GENEROUS, Seen, Side, answer, defaults, frame, frames, hello, reply, request, settings,
};
use crate::{ProtocolError, ResultCode};

/// A caller to whom nothing was said yet.
fn waiting() -> (Caller<Bell>, Instant) {
    let now = Instant::now();
    (Caller::v1_responder(defaults(), now), now)
}

fn comes(caller: &mut Caller<Bell>, now: Instant, bytes: &[u8]) {
    assert!(caller.begin_read(usize::MAX).is_none());
    caller.end_read(None, Came::Bytes { bytes, is_all: true }, now, now);
}

fn sends(caller: &mut Caller<Bell>, now: Instant) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(unsent) = caller.to_send() {
        let count = unsent.len();
        bytes.extend_from_slice(unsent);
        caller.sent(count, now);
    }
    bytes
}

/// PROTOCOL S1
#[test]
fn a_caller_that_answers_says_nothing_before_it_is_greeted() {
    let (mut caller, now) = waiting();
    let opener = caller.ask(Purpose::Open, Some(now + LIMIT), Bell::default());
    let call = caller.ask(Purpose::Call(3), Some(now + LIMIT), Bell::default());
    assert!(caller.to_send().is_none() && caller.hello().is_none());
    assert!(matches!(caller.poll(opener, now), Step::Read { .. }));
    assert!(!caller.may_begin(Purpose::Call(3)));
    comes(&mut caller, now, &hello(GENEROUS));
    assert_eq!(sends(&mut caller, now)[..4], [0xD1, 0x53, 0x57, 0xD1]);
    assert_eq!(caller.hello().map(|hello| hello.allowance), Some(GENEROUS));
    assert_eq!((caller.poll(opener, now), caller.poll(call, now)), (ready(), ready()));
    let id = caller.begin(TYPE, b"you", 0, Some(now + LIMIT), Bell::default()).expect("memory");
    assert_eq!(sends(&mut caller, now), request(id, TYPE, b"you"));
    comes(&mut caller, now, &reply(id, TYPE, b"yes"));
    let Step::Done(Outcome::Reply(Reply { payload, .. })) = caller.poll(Seat::Call(id), now) else {
        panic!("no reply")
    };
    assert_eq!(payload, b"yes");
}

#[test]
fn a_helper_that_says_no_hello_in_time_is_given_up() {
    let (mut caller, now) = waiting();
    let opener = caller.ask(Purpose::Open, Some(now + LIMIT), Bell::default());
    assert!(matches!(caller.poll(opener, now), Step::Read { .. }));
    // Once more behind the time limit.
    for _ in 0..2 {
        assert!(caller.begin_read(usize::MAX).is_none());
        caller.end_read(Some(opener), Came::Nothing, now + LIMIT, now + LIMIT);
        if let Step::Done(outcome) = caller.poll(opener, now + LIMIT) {
            return assert!(matches!(outcome, Outcome::TimedOut(_)), "{outcome:?}");
        }
    }
    panic!("it waits on");
}

/// What prints into its channel gets no answer that would puzzle it.
///
/// PROTOCOL I5
#[test]
fn what_is_no_hello_is_named_and_not_answered() {
    let classic = [7i32, 0, 0].map(i32::to_ne_bytes).concat();
    for bytes in [&b"Hello, world!\n"[..], &classic[..]] {
        let (mut caller, now) = waiting();
        comes(&mut caller, now, bytes);
        let Some(End::Failed(ProtocolError::NotSidewire(first))) = caller.end() else {
            panic!("{:?}", caller.end())
        };
        assert!(bytes.starts_with(first));
        assert_eq!(caller.poll_close(), Some(Vec::new()));
    }
}

#[test]
fn a_helper_of_another_version_is_told_so() {
    let (mut caller, now) = waiting();
    let mut bytes = hello(GENEROUS);
    bytes[6..8].copy_from_slice(&[2, 3]);
    comes(&mut caller, now, &bytes);
    assert!(matches!(caller.end(), Some(End::Failed(ProtocolError::NoCommonVersion { .. }))));
    let words = caller.poll_close().expect("words");
    assert_eq!(words[48..52], ResultCode::NO_COMMON_VERSION.code().to_le_bytes());
}

/// Requests of the server, pings and all else come over a connection that was answered as over one that was begun.
#[test]
fn a_caller_that_answered_serves_as_well() {
    let mut world = World::of_a_helper();
    world.caller.serve();
    let asks = [request(1, TYPE, b"x"), frame(Kind::Ping, 0, 0, 5, 0, b"")].concat();
    world.incoming.extend(asks);
    let reader = world.begin(b"me");
    world.run();
    let incoming = world.caller.take_incoming().expect("a request");
    assert_eq!(incoming.payload, b"x");
    let mut answer = world.caller.begin_reply(incoming.owed.expect("wants an answer")).expect("its place");
    answer.write(b"y");
    answer.finish(ResultCode::OK);
    world.reply(0);
    world.run();
    assert_eq!(world.threads[reader].outcomes.len(), 1);
}

/// However small its marks are, nothing that came is left lying.
#[test]
fn a_caller_handles_all_that_has_come() {
    let now = Instant::now();
    let settings = settings(|settings| settings.limits.outbox_soft = 1);
    let mut caller = Caller::v1_responder(settings, now);
    let many: Vec<u8> = (1..=9).flat_map(|id| request(id, TYPE, b"x")).collect();
    comes(&mut caller, now, &[hello(GENEROUS), many].concat());
    let sent = sends(&mut caller, now);
    let answers = frames(&sent[usize::from(u16::from_le_bytes([sent[4], sent[5]]))..]);
    assert_eq!(answers.iter().map(|frame| frame.id).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
}

/// As in a loop: the replies of one turn are offered to the socket before more is handled.
#[test]
fn who_has_said_hello_and_serves_ends_its_turn_at_the_soft_mark() {
    let mut side = Side::initiator(settings(|settings| settings.limits.outbox_soft = 20));
    side.sent();
    side.feed(&answer(GENEROUS));
    assert_eq!(side.seen(), [Seen::Opened]);
    side.answers = Answers::Echo;
    side.receive(&(1..=3).flat_map(|id| request(id, TYPE, b"12345678")).collect::<Vec<u8>>());
    assert_eq!(frames(&side.sent()).len(), 1);
    assert!(side.connection.has_backlog());
    side.receive(&[]);
    assert_eq!(frames(&side.sent()).len(), 1);
}

#[test]
fn a_hello_is_waited_for_as_long_as_the_caller_likes() {
    let (mut caller, now) = waiting();
    assert_eq!(caller.poll_close(), None);
    // Its first bytes have come: now they take the time that a hello may take.
    comes(&mut caller, now, &hello(GENEROUS)[..10]);
    let later = now + Duration::from_secs(60);
    assert!(caller.begin_read(usize::MAX).is_none());
    caller.end_read(None, Came::Nothing, later, later);
    assert_eq!(caller.end(), Some(&End::Failed(ProtocolError::TimedOut("hello"))));
}
