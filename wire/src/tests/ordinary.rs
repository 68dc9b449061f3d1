//! That requests which go the short way are handled as those that go the long one.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    Answers, GENEROUS, Kind, Seen, Side, answer, classic_frame, echo, frame, hello, raw_frame, request,
    settings,
};
use crate::connection::without_the_short_way;
use crate::frame::flags;
use crate::hello::Allowance;
use crate::layout::Classic;

/// What a listener allows, and what a peer sends it.
#[derive(Clone, Debug)]
struct Case {
    classic: Classic,
    max_payload: u32,
    max_in_flight: u32,
    max_in_flight_bytes: u32,
    outbox_soft: usize,
    outbox_hard: usize,
    budget: usize,
    /// Requests are answered one by one, each behind a piece of what comes.
    is_late: bool,
    bytes: Vec<u8>,
}

/// Everything that can be told of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    seen: Vec<Seen>,
    sent: Vec<u8>,
    failure: Option<String>,
    in_flight: Vec<usize>,
    has_backlog: bool,
}

fn responder(case: &Case) -> Side {
    let settings = settings(|settings| {
        settings.classic = case.classic;
        settings.limits.max_payload = case.max_payload;
        settings.limits.max_in_flight = case.max_in_flight;
        settings.limits.max_in_flight_bytes = case.max_in_flight_bytes;
        settings.limits.outbox_soft = case.outbox_soft;
        settings.limits.outbox_hard = case.outbox_hard;
    });
    let mut side = Side::responder(settings);
    side.budget = case.budget;
    side.answers = if case.is_late { Answers::Later } else { Answers::Echo };
    side
}

/// Feeds the pieces one by one; behind each some of what waits leaves, and with a late side one call is answered.
fn play(mut side: Side, pieces: &[&[u8]], takes: &[usize]) -> Told {
    let (mut sent, mut in_flight) = (Vec::new(), Vec::new());
    for (piece, take) in pieces.iter().zip(takes.iter().cycle()) {
        side.feed(piece);
        in_flight.push(side.connection.in_flight());
        if !side.tickets.is_empty() {
            let ticket = side.tickets.remove(0);
            echo(&mut side.connection, ticket, b"late");
        }
        sent.extend(side.take(*take));
        in_flight.push(side.connection.in_flight());
        for _ in 0..1000 {
            if !side.connection.is_paused() || !side.tickets.is_empty() {
                break;
            }
            sent.extend(side.take(7));
            side.feed(&[]);
        }
    }
    sent.extend(side.sent());
    in_flight.push(side.connection.in_flight());
    let failure = side.connection.flow().failure().map(ToString::to_string);
    let has_backlog = side.connection.has_backlog();
    Told { seen: side.seen(), sent, failure, in_flight, has_backlog }
}

/// Requests that mostly break no rule, and what else a peer may send, right or wrong.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let ids = prop_oneof![12 => Just(1u32), 1 => Just(0), 1 => Just(u32::MAX), 1 => Just(u32::MAX / 2 + 1), 1 => 0..4u32];
    let kinds = prop_oneof![12 => Just(1u8), 1 => Just(3), 1 => Just(9), 1 => select(vec![2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 200])];
    let flags = prop_oneof![12 => Just(0), 1 => any::<u8>(), 1 => Just(flags::EXT)];
    let rcs = prop_oneof![8 => Just(0), 2 => 1..9i32, 1 => Just(-1), 1 => Just(i32::MIN)];
    let one = (kinds, flags, any::<u16>(), ids, rcs, vec(0..3u8, 0..30));
    (any::<bool>(), vec(one, 1..30)).prop_map(|(wraps, frames)| {
        let mut bytes = hello(GENEROUS);
        let mut id = if wraps { u32::MAX - 5 } else { 0u32 };
        for (kind, flags, msg_type, step, rc, payload) in frames {
            id = id.wrapping_add(step);
            bytes.extend(raw_frame(kind, flags, msg_type, id, rc, &payload));
        }
        bytes
    })
}

fn classic_frames() -> impl Strategy<Value = Vec<u8>> {
    let lies = prop_oneof![20 => Just(0), 1 => Just(-100), 1 => Just(1000)];
    vec((any::<i32>(), any::<i32>(), lies, vec(any::<u8>(), 0..30)), 1..20).prop_map(|frames| {
        let one = |(msg_type, rc, lie, payload): (i32, i32, i32, Vec<u8>)| {
            classic_frame(msg_type & 0xFFFF, rc, payload.len() as i32 + lie, &payload)
        };
        frames.into_iter().flat_map(one).collect()
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let classics =
        select(vec![Classic::Short(25), Classic::Fixed(30), Classic::Short(100), Classic::Refused]);
    let numbers = (
        select(vec![0, 20, 1000]),
        select(vec![1, 3, 1000]),
        select(vec![20, 40, 10_000]),
        select(vec![1, 50, usize::MAX]),
        select(vec![60, 300, usize::MAX]),
    );
    let budgets = select(vec![1, 2, 7, usize::MAX]);
    let bytes = prop_oneof![3 => frames(), 1 => classic_frames()];
    (classics, numbers, budgets, any::<bool>(), bytes).prop_map(
        |(classic, numbers, budget, is_late, bytes)| {
            let (max_payload, max_in_flight, max_in_flight_bytes, outbox_soft, outbox_hard) = numbers;
            Case {
                classic,
                max_payload,
                max_in_flight,
                max_in_flight_bytes,
                outbox_soft,
                outbox_hard,
                budget,
                is_late,
                bytes,
            }
        },
    )
}

proptest! {
    #[test]
    fn the_short_way_does_what_the_long_one_does(
        case in cases(),
        sizes in vec(prop_oneof![1..40usize, Just(usize::MAX)], 1..10),
        takes in vec(select(vec![0, 1, 17, 60, usize::MAX]), 1..5),
    ) {
        let (mut rest, mut pieces) = (&case.bytes[..], Vec::new());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = later;
        }
        let long = without_the_short_way(|| play(responder(&case), &pieces, &takes));
        prop_assert_eq!(play(responder(&case), &pieces, &takes), long);
    }

    #[test]
    fn wherever_the_bytes_are_split(case in cases()) {
        for at in 0..=case.bytes.len() {
            let (before, behind) = case.bytes.split_at(at);
            let long = without_the_short_way(|| play(responder(&case), &[before, behind], &[usize::MAX]));
            prop_assert_eq!(play(responder(&case), &[before, behind], &[usize::MAX]), long, "split at {}", at);
        }
    }

    #[test]
    fn what_a_server_asks_its_client_goes_the_same_ways(frames in frames(), classic: bool) {
        let side = || match classic {
            true => Side::classic_initiator(settings(|_| {})),
            false => Side::initiator(settings(|_| {})),
        };
        let greeting = hello(GENEROUS).len();
        let bytes = if classic { frames } else { [answer(GENEROUS), frames[greeting..].to_vec()].concat() };
        let long = without_the_short_way(|| play(side(), &[&bytes], &[usize::MAX]));
        prop_assert_eq!(play(side(), &[&bytes], &[usize::MAX]), long);
    }
}

/// Neither way takes more than what was allowed: the rules hold on the short one by themselves.
#[test]
fn the_last_that_is_allowed_goes_the_short_way_and_the_next_ends_it() {
    let mut side = Side::responder(settings(|settings| settings.limits.max_in_flight = 3));
    side.answers = Answers::Later;
    let allowance = Allowance { max_in_flight: 3, ..GENEROUS };
    side.feed(&[hello(allowance), request(1, 1, b"a"), request(2, 1, b"b"), request(3, 1, b"c")].concat());
    assert_eq!((side.tickets.len(), side.connection.in_flight()), (3, 3));
    side.sent();
    side.feed(&request(4, 1, b"d"));
    assert_eq!((side.tickets.len(), side.failure().to_string().contains("calls")), (3, true));
}

/// A deferred call's id is not taken again, also where ids have gone all the way round.
#[test]
fn an_id_that_is_owed_an_answer_does_not_come_again() {
    let mut side = Side::open_responder(settings(|_| {}));
    side.answers = Answers::Later;
    side.feed(&request(1, 1, b"a"));
    let ticket = side.tickets.remove(0);
    side.connection.defer(ticket, side.now).expect("memory");
    for id in [u32::MAX / 2, u32::MAX - 1] {
        side.feed(&frame(Kind::Request, 0, 1, id, 0, b"b"));
        echo(&mut side.connection, side.tickets.remove(0), b"b");
    }
    side.feed(&request(1, 1, b"again"));
    assert!(side.tickets.is_empty() && side.connection.flow().failure().is_some());
}
