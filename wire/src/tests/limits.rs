//! Every limit of a connection, at its last unit and one beyond.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::time::outlast;
use super::{
    Answers, GENEROUS, Input, Seen, Side, answer, classic_request, defaults, hello, request, settings,
};
use crate::error::ProtocolError;
use crate::hello::{Hello, MAX_LEN};
use crate::limits::{ConnectionLimits, LATE, REFUSAL_WAIT};
use crate::plain::{Cut, Plain};
use crate::rc::ResultCode;

const TICK: Duration = Duration::from_millis(1);

fn open(change: impl FnOnce(&mut ConnectionLimits)) -> Side {
    Side::open_responder(settings(|settings| change(&mut settings.limits)))
}

#[test]
fn max_payload_is_advertised_and_held() {
    let small = settings(|settings| settings.limits.max_payload = 10);
    let mut side = Side::responder(small.clone());
    side.feed(&hello(GENEROUS));
    let (theirs, _) = Hello::decode_answer(&side.sent()).expect("a hello");
    assert_eq!(theirs.allowance.max_payload, 10);
    let mut side = Side::open_responder(small);
    assert_eq!(side.ask(&request(1, 1, &[0; 10])).len(), 1);
    side.feed(&request(2, 1, &[0; 11]));
    assert_eq!(*side.failure(), ProtocolError::TooLarge { length: 11, limit: 10 });
}

#[test]
fn max_in_flight_counts_calls() {
    let mut side = open(|limits| limits.max_in_flight = 2);
    side.answers = Answers::Later;
    side.feed(&[request(1, 1, b""), request(2, 1, b"")].concat());
    assert_eq!((side.seen().len(), side.connection.flow().failure()), (2, None));
    side.feed(&request(3, 1, b""));
    assert_eq!(*side.failure(), ProtocolError::TooManyInFlight { what: "calls", limit: 2 });
}

#[test]
fn max_in_flight_bytes_counts_payload() {
    let mut side = open(|limits| limits.max_in_flight_bytes = 10);
    side.answers = Answers::Later;
    side.feed(&[request(1, 1, &[0; 6]), request(2, 1, &[0; 4]), request(3, 1, b"")].concat());
    assert_eq!((side.seen().len(), side.connection.flow().failure()), (3, None));
    side.feed(&request(4, 1, &[0; 1]));
    assert_eq!(*side.failure(), ProtocolError::TooManyInFlight { what: "bytes", limit: 10 });
}

#[test]
fn at_the_soft_mark_a_classic_peer_is_no_longer_read() {
    for (soft, answered) in [(24, 2), (25, 3)] {
        let mut side = Side::responder(settings(|settings| settings.limits.outbox_soft = soft));
        side.feed(&classic_request(1, b"").repeat(4));
        assert_eq!(side.connection.unsent().len(), answered * 12, "{soft}");
        assert!(side.connection.is_paused() && side.connection.flow().is_backed_up());
    }
}

#[test]
fn a_soft_mark_of_replies_ends_a_turn() {
    for (soft, answered) in [(32, 2), (33, 3)] {
        let mut side = open(|limits| limits.outbox_soft = soft);
        let requests: Vec<u8> = (1..=4).flat_map(|id| request(id, 1, b"")).collect();
        let budget = Cell::new(100);
        side.connection.receive(&requests, &budget, &mut |connection, event| match event {
            crate::event::Event::Request { ticket, payload } => super::echo(connection, ticket, payload),
            _ => panic!("{event:?}"),
        });
        assert_eq!((side.connection.unsent().len(), budget.get()), (answered * 16, 0), "{soft}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn beyond_the_hard_mark_a_peer_is_given_up() {
    let requests: Vec<u8> = (1..=5).flat_map(|id| request(id, 1, b"1234")).collect();
    let mut side = open(|limits| limits.outbox_hard = 100);
    side.feed(&requests);
    assert_eq!((side.connection.unsent().len(), side.connection.flow().failure()), (100, None));
    let mut side = open(|limits| limits.outbox_hard = 99);
    side.feed(&requests);
    assert_eq!(*side.failure(), ProtocolError::OutboxFull(100));
}

#[test]
fn streams_without_frames_have_the_same_marks() {
    let marks = settings(|settings| {
        settings.limits.outbox_soft = 2;
        settings.limits.outbox_hard = 4;
    });
    let mut plain = Plain::new(marks, Cut::Raw, Instant::now());
    for (bytes, is_paused) in [(&b"1"[..], false), (b"2", true), (b"34", true)] {
        plain.write(bytes);
        assert_eq!((plain.is_paused(), plain.flow().failure()), (is_paused, None));
    }
    plain.write(b"5");
    assert_eq!(plain.flow().failure(), Some(&ProtocolError::OutboxFull(5)));
}

#[test]
fn a_silent_stream_without_frames_is_waited_for_until_something_comes() {
    let patient = settings(|settings| settings.first_byte = Some(TICK * 3));
    let start = Instant::now();
    let mut plain = Plain::new(patient.clone(), Cut::Raw, start);
    assert_eq!(plain.next_deadline(), Some(start + TICK * 3));
    assert!(!plain.handle_timeout(start + TICK * 2, Input::Quiet));
    assert!(plain.handle_timeout(start + TICK * 3, Input::Quiet));
    let mut plain = Plain::new(patient, Cut::Raw, start);
    plain.receive(b"x", &Cell::new(9), &mut |_, _| {});
    plain.received(start);
    assert_eq!(plain.next_deadline(), None);
}

#[test]
fn each_time_limit_is_the_one_that_was_set() {
    let times = settings(|settings| {
        settings.first_byte = Some(TICK * 3);
        settings.limits.hello_timeout = TICK * 5;
        settings.limits.partial_frame_timeout = TICK * 7;
        settings.limits.write_stall_timeout = TICK * 11;
        settings.limits.linger = TICK * 17;
    });
    let idle = settings(|settings| settings.limits.idle_timeout = Some(TICK * 13));

    let mut side = Side::responder(times.clone());
    outlast(&mut side, TICK * 3, &ProtocolError::TimedOut("first byte"));

    let mut side = Side::responder(times.clone());
    side.feed(&hello(GENEROUS)[..5]);
    outlast(&mut side, TICK * 5, &ProtocolError::TimedOut("hello"));

    let mut side = Side::open_responder(times.clone());
    side.feed(&request(1, 1, b"")[..5]);
    outlast(&mut side, TICK * 7, &ProtocolError::TimedOut("end of a frame"));
    assert_eq!(side.connection.flow().linger_deadline(), Some(side.now + TICK * 17));

    let mut side = Side::open_responder(times);
    side.feed(&request(1, 1, b""));
    side.connection.mark_sent(0, side.now);
    outlast(&mut side, TICK * 11, &ProtocolError::STALLED);

    outlast(&mut Side::open_responder(idle), TICK * 13, &ProtocolError::TimedOut("sign of life"));
}

#[test]
fn the_refused_have_one_second() {
    assert_eq!(REFUSAL_WAIT, Duration::from_secs(1));
    let mut side = Side::responder(defaults());
    side.connection.refuse(ResultCode::BUSY, side.now);
    outlast(&mut side, Duration::from_secs(1), &ProtocolError::TimedOut("first bytes"));
}

/// Whether an overdue frame of which more has come gets its time again if we come so late.
fn is_renewed(late: Duration) -> bool {
    let mut side = open(|limits| limits.partial_frame_timeout = TICK * 50);
    side.feed(&request(1, 1, &[0; 100])[..20]);
    side.now += TICK * 50 + late;
    side.feed(&[0; 10]);
    !side.connection.handle_timeout(side.now, Input::Fresh)
}

#[test]
fn late_is_more_than_a_tenth_of_a_second() {
    assert_eq!(LATE, Duration::from_millis(100));
    assert!(!is_renewed(TICK * 100) && is_renewed(TICK * 101));
}

#[test]
fn a_text_has_at_most_1024_bytes() {
    for (length, sent) in [(1023, 1023), (1024, 1024), (1025, 1024)] {
        let mut side = Side::open_responder(defaults());
        side.answers = Answers::Later;
        side.feed(&request(1, 1, b""));
        let ticket = side.tickets.remove(0);
        side.connection.begin_reply(ticket).fail(ResultCode::HANDLER_FAILED, &"x".repeat(length));
        assert_eq!(side.frames()[0].text().len(), sent);
    }
}

/// A hello of exactly so many bytes: a TLV that is skipped fills it.
fn hello_of(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    let value = vec![0; length - bytes.len() - 4];
    crate::frame::push_tlv(&mut bytes, 0x0FFF, &value);
    bytes[4..6].copy_from_slice(&(length as u16).to_le_bytes());
    bytes
}

#[test]
fn a_hello_has_at_most_1024_bytes() {
    assert_eq!(MAX_LEN, 1024);
    let mut side = Side::responder(defaults());
    side.feed(&hello_of(hello(GENEROUS), 1024));
    assert!(side.connection.has_opened_v1());
    let mut side = Side::initiator(defaults());
    side.feed(&hello_of(answer(GENEROUS), 1024));
    assert_eq!(side.seen(), [Seen::Opened]);
    let mut side = Side::responder(defaults());
    side.feed(&hello_of(hello(GENEROUS), 1025));
    assert_eq!(*side.failure(), ProtocolError::BadHello("longer than 1024 bytes"));
}
