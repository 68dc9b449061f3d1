//! What a peer with bad intentions may try, and what it costs us.

use std::cell::Cell;

use super::{
    Answers, Kind, Seen, Side, answer, classic_request, defaults, echo, frame, hello, request, settings,
};
use crate::error::ProtocolError;
use crate::hello::Allowance;
use crate::rc::ResultCode;

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_large_frame_byte_by_byte_is_not_copied_over_and_over() {
    let mut side = Side::open_responder(defaults());
    side.connection.flow_mut().reclaim();
    let call = request(1, 1, &vec![0x5A; 1 << 17]);
    let (mut sizes, mut capacity) = (0, 0);
    for byte in &call[..call.len() - 1] {
        side.feed(&[*byte]);
        if side.connection.flow().buffered() != capacity {
            capacity = side.connection.flow().buffered();
            sizes += 1;
        }
    }
    assert!(sizes < 64, "the buffer was moved {sizes} times");
    assert_eq!(capacity, call.len(), "and grew to the frame's end, no further");
    side.feed(&call[call.len() - 1..]);
    assert_eq!(side.seen().len(), 1);
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_header_alone_reserves_nothing() {
    let call = request(1, 1, &vec![0; 16 << 20]);
    for large in [usize::MAX, 1] {
        let mut side = Side::open_responder(defaults());
        side.connection.flow_mut().reclaim();
        side.large = large;
        let mut fed = 0;
        for end in [16, 17, 100, 10_000, 1 << 20] {
            side.feed(&call[fed..end]);
            fed = end;
            assert!(
                side.connection.flow().buffered() <= 2 * end,
                "{} for {end}",
                side.connection.flow().buffered()
            );
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn what_waited_behind_a_budget_gives_its_memory_back() {
    let mut side = Side::open_responder(settings(|settings| settings.limits.max_in_flight = u32::MAX));
    side.connection.flow_mut().reclaim();
    let pings = frame(Kind::Ping, 0, 0, 1, 0, b"").repeat(10_000);
    side.budget = 9_999;
    side.receive(&[&pings[..], &[0; 5]].concat());
    assert!(side.connection.has_backlog());
    side.receive(&[]);
    assert!(side.connection.flow().buffered() <= 4096, "{}", side.connection.flow().buffered());
    side.budget = 2;
    side.receive(&pings);
    assert!(side.connection.flow().failure().is_some(), "five zeros and a ping are no frame");
    side.connection.discard_output();
    side.connection.flow_mut().reclaim();
    assert_eq!(side.connection.flow().buffered(), 0);
}

#[test]
fn an_idle_connection_owns_no_buffers() {
    for mut side in [Side::open_responder(defaults()), Side::open_initiator(defaults())] {
        side.feed(&frame(Kind::Pong, 0, 0, 1, 0, &[0; 1000])[..500]);
        side.feed(&frame(Kind::Pong, 0, 0, 1, 0, &[0; 1000])[500..]);
        side.connection.flow_mut().reclaim();
        assert_eq!(side.connection.flow().buffered(), 0);
    }
}

#[test]
fn the_sums_of_what_is_in_flight_do_not_overflow() {
    let mut side = Side::open_responder(settings(|settings| {
        settings.limits.max_in_flight = u32::MAX;
        settings.limits.max_in_flight_bytes = u32::MAX;
        settings.limits.max_payload = u32::MAX;
    }));
    for id in 1..100 {
        side.feed(&request(id, 1, &[0; 1000]));
    }
    assert_eq!(side.frames().len(), 99);
    // A header that claims 4 GiB is believed only as far as its bytes come.
    side.feed(&[&[0xFF; 4][..], &request(1000, 1, b"")[4..]].concat());
    side.connection.flow_mut().reclaim();
    assert!(side.connection.flow().failure().is_none() && side.connection.flow().buffered() < 100);
}

#[test]
fn absurd_allowances_are_just_limits() {
    let most = Allowance {
        max_payload: u32::MAX,
        max_in_flight: u32::MAX,
        max_in_flight_bytes: u32::MAX,
        stream_credit: u32::MAX,
    };
    let least = Allowance { max_payload: 0, max_in_flight: 0, max_in_flight_bytes: 0, stream_credit: 0 };
    let mut side = Side::responder(defaults());
    side.feed(&hello(most));
    side.sent();
    assert_eq!(side.ask(&request(1, 1, b"x")).len(), 1);
    assert!(side.connection.may_call(u32::MAX) && side.connection.request_limit() == u32::MAX);

    let mut side = Side::responder(defaults());
    side.feed(&hello(least));
    side.sent();
    let frames = side.ask(&request(1, 1, b"x"));
    assert_eq!((frames[0].rc, frames[0].payload.len()), (ResultCode::TOO_LARGE.code(), 0));
    assert!(!side.connection.may_call(0) && side.connection.request_limit() == 0);

    let mut side = Side::initiator(defaults());
    side.feed(&answer(least));
    assert!(!side.connection.may_call(0));
}

#[test]
fn output_that_is_thrown_away_is_no_longer_in_flight() {
    let mut side = Side::open_responder(settings(|settings| settings.limits.max_in_flight = 1));
    for id in 1..10 {
        side.feed(&request(id, 1, b"x"));
        side.connection.discard_output();
    }
    assert!(side.connection.flow().failure().is_none() && !side.connection.has_unsent());
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_giant_outbox_that_leaves_in_drops_is_compacted_in_between() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    let mut received = Vec::new();
    for id in 1..=200 {
        side.feed(&request(id, 1, &[]));
        echo(&mut side.connection, side.tickets.remove(0), &[id as u8; 10_000]);
        // Half of what comes leaves at once.
        received.extend(side.take(5_008));
    }
    assert!(side.connection.flow().buffered() < 4 << 20, "{}", side.connection.flow().buffered());
    received.extend(side.sent());
    let frames = super::frames(&received);
    assert_eq!(frames.len(), 200);
    assert!(frames.iter().all(|frame| frame.payload.iter().all(|byte| *byte == frame.id as u8)));
}

#[test]
fn a_reply_under_construction_survives_what_left_before_it() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&[request(1, 1, b""), request(2, 1, b""), request(3, 1, b"")].concat());
    let payloads = [vec![1; 200_000], vec![2; 10], vec![3; 200_000]];
    let mut received = Vec::new();
    for payload in &payloads {
        let ticket = side.tickets.remove(0);
        let mut writer = side.connection.begin_reply(ticket);
        writer.write(b"to be cleared");
        writer.clear();
        for piece in payload.chunks(1000) {
            writer.write(piece);
        }
        assert_eq!(writer.written(), payload.len());
        assert_eq!(writer.finish(ResultCode::OK), ResultCode::OK);
        received.extend(side.take(150_000));
    }
    received.extend(side.sent());
    assert!(super::frames(&received).iter().map(|frame| &frame.payload).eq(&payloads));
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn tiny_frames_in_floods_are_handled_once_each() {
    let mut side = Side::open_responder(defaults());
    side.budget = 100;
    let pings = frame(Kind::Ping, 0, 0, 1, 0, b"").repeat(16_000);
    side.feed(&pings);
    assert!(!side.connection.has_backlog());
    assert_eq!(side.frames().len(), 1);

    let mut side = Side::responder(defaults());
    side.budget = 100;
    side.feed(&classic_request(1, b"").repeat(16_000));
    assert_eq!(side.seen().len(), 16_000);
    assert_eq!(side.sent().len(), 16_000 * 12);
}

#[test]
fn a_callers_own_requests_are_under_no_hard_mark() {
    let mut side = Side::open_initiator(settings(|settings| {
        settings.limits.outbox_soft = 10;
        settings.limits.outbox_hard = 100;
    }));
    for _ in 0..10 {
        side.call(1, &[0; 100]);
    }
    side.feed(&[request(1, 1, b""), frame(Kind::Ping, 0, 0, 1, 0, b"")].concat());
    assert!(side.connection.flow().failure().is_none() && !side.connection.is_paused());
    assert_eq!(side.frames().len(), 12);
}

#[test]
fn a_callers_answers_are_under_the_hard_mark() {
    let mut side = Side::open_initiator(settings(|settings| {
        settings.limits.outbox_soft = 10;
        settings.limits.outbox_hard = 100;
    }));
    side.call(1, &[0; 500]);
    side.feed(&[request(1, 1, &[0; 50]), request(2, 1, &[0; 50])].concat());
    assert_eq!(*side.failure(), ProtocolError::OutboxFull(516 + 132));
}

#[test]
fn a_notify_flood_makes_no_output() {
    let mut side = Side::open_responder(defaults());
    side.feed(&frame(Kind::Notify, 0, 1, 0, 0, b"n").repeat(1000));
    assert_eq!(side.seen(), vec![Seen::Notify { msg_type: 1, payload: b"n".into() }; 1000]);
    assert_eq!(side.sent(), []);
}

#[test]
fn a_callback_may_end_the_connection() {
    let mut side = Side::open_responder(defaults());
    let bytes = [request(1, 1, b"stop"), request(2, 1, b"not this")].concat();
    let mut count = 0;
    side.connection.receive(&bytes, &Cell::new(usize::MAX), &mut |connection, event| {
        count += 1;
        connection.goodbye(ResultCode::SHUTTING_DOWN);
        if let crate::event::Event::Request { ticket, payload } = event {
            echo(connection, ticket, payload);
        }
    });
    let frames = side.frames();
    assert_eq!((count, frames.len()), (1, 2));
    assert_eq!((frames[0].kind, frames[0].id), (Kind::Goodbye as u8, 1));
}
