//! What holds for every conversation, however it is cut, and for every garbage.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{
    Answers, Frame, GENEROUS, Kind, Seen, Side, answer, classic_frame, classic_request, defaults, echo,
    frame, frames, hello, raw_frame, reply, request, settings,
};
use crate::classic;
use crate::frame::flags;
use crate::layout::{Classic, Layout};
use crate::rc::ResultCode;

/// A stream of bytes that a correct peer may send to a listener with `classic`.
#[derive(Clone, Debug)]
struct Conversation {
    classic: Classic,
    bytes: Vec<u8>,
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 200..1000)]
}

/// One v1 frame to a responder; its id is filled in later.
fn calls() -> impl Strategy<Value = (u8, u8, u16, i32, Vec<u8>)> {
    let kinds = prop_oneof![6 => Just(1u8), 2 => Just(3), 1 => Just(9), 1 => select(vec![4, 5, 6, 7, 8, 10, 11, 200])];
    (kinds, prop_oneof![5 => Just(0), 1 => 0..8u8], any::<u16>(), -1..5i32, payloads())
}

/// A v1 conversation from its hello on; perhaps with a goodbye, or something fatal, in it.
fn v1() -> impl Strategy<Value = Conversation> {
    let end = select(vec![Kind::Goodbye as u8, 13, Kind::Reply as u8]);
    (vec(calls(), 0..30), proptest::option::of((any::<Index>(), end))).prop_map(|(mut calls, end)| {
        if let Some((at, kind)) = end {
            calls.insert(at.index(calls.len() + 1), (kind, 0, 0, 0, vec![]));
        }
        let mut bytes = hello(GENEROUS);
        for (id, (kind, flags, msg_type, rc, payload)) in calls.iter().enumerate() {
            bytes.extend(raw_frame(*kind, *flags, *msg_type, id as u32 + 1, *rc, payload));
        }
        Conversation { classic: Classic::default(), bytes }
    })
}

/// A classic conversation, perhaps with a bad length in it.
fn classic() -> impl Strategy<Value = Conversation> {
    let calls = vec((any::<i32>(), any::<i32>(), vec(any::<u8>(), 0..100)), 1..30);
    let end = proptest::option::of((any::<Index>(), select(vec![-1, 101, i32::MIN])));
    (any::<bool>(), calls, end).prop_map(|(fixed, calls, end)| {
        let classic = if fixed { Classic::Fixed(100) } else { Classic::Short(100) };
        let end = end.map(|(at, length)| (at.index(calls.len()), length));
        let mut bytes = Vec::new();
        for (number, (msg_type, rc, payload)) in calls.iter().enumerate() {
            let length =
                end.filter(|(at, _)| *at == number).map_or(payload.len() as i32, |(_, length)| length);
            bytes.extend(classic_frame(*msg_type & 0xFFFF, *rc, length, payload));
            bytes.resize(bytes.len() + if fixed { 100 - payload.len() } else { 0 }, 0xAA);
        }
        Conversation { classic, bytes }
    })
}

fn conversations() -> impl Strategy<Value = Conversation> {
    prop_oneof![v1(), classic()]
}

/// Where a stream is cut, and how each piece is taken.
#[derive(Clone, Debug)]
struct Cuts {
    pieces: Vec<usize>,
    budget: usize,
    large: usize,
    soft: usize,
}

fn cuts() -> impl Strategy<Value = Cuts> {
    let pieces = prop_oneof![Just(vec![1]), vec(1..20usize, 1..10), vec(1..2000usize, 1..10)];
    let budget = select(vec![1, 2, 7, usize::MAX]);
    (pieces, budget, select(vec![1, 16, 100, usize::MAX]), select(vec![1, 100, usize::MAX]))
        .prop_map(|(pieces, budget, large, soft)| Cuts { pieces, budget, large, soft })
}

/// Feeds all bytes and takes what comes back wherever the side waits for that. Returns what was
/// seen, what was sent, and how it ended.
fn play(mut side: Side, bytes: &[u8], pieces: &[usize]) -> (Vec<Seen>, Vec<u8>, Option<String>) {
    let mut sizes = pieces.iter().cycle();
    let (mut rest, mut sent) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (piece, later) = rest.split_at((*sizes.next().unwrap_or(&1)).min(rest.len()));
        side.feed(piece);
        rest = later;
        while side.connection.is_paused() {
            sent.extend(side.take(7));
            side.feed(&[]);
        }
    }
    sent.extend(side.sent());
    let failure = side.connection.flow().failure().map(ToString::to_string);
    (side.seen(), sent, failure)
}

fn responder(classic: Classic, soft: usize) -> Side {
    Side::responder(settings(|settings| {
        settings.classic = classic;
        settings.limits.outbox_soft = soft;
    }))
}

/// An initiator that made these calls, of which it gave some up.
fn caller(calls: &[(u16, bool)]) -> Side {
    let mut side = Side::initiator(defaults());
    side.sent();
    for (msg_type, abandoned) in calls {
        let id = side.connection.push_request(*msg_type, b"", 0).expect("memory");
        if *abandoned {
            side.connection.abandon_call(id);
        }
    }
    side.sent();
    side
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn cuts_change_nothing(conversation in conversations(), cuts in cuts()) {
        let Conversation { classic, bytes } = conversation;
        let whole = play(responder(classic, usize::MAX), &bytes, &[usize::MAX]);
        let mut side = responder(classic, cuts.soft);
        (side.budget, side.large) = (cuts.budget, cuts.large);
        prop_assert_eq!(play(side, &bytes, &cuts.pieces), whole);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn cuts_change_nothing_for_a_caller_either(
        calls in vec((any::<u16>(), any::<bool>()), 1..20),
        order in any::<u64>(),
        replies in vec((payloads(), any::<i32>(), any::<bool>()), 20),
        unasked in any::<bool>(),
        cuts in cuts(),
    ) {
        let mut ids: Vec<usize> = (0..calls.len()).collect();
        ids.sort_by_key(|id| order.wrapping_mul(*id as u64 * 2 + 1));
        let mut bytes = answer(GENEROUS);
        for (id, (payload, rc, is_text)) in ids.into_iter().zip(&replies) {
            let flags = if *is_text { flags::TEXT } else { 0 };
            bytes.extend(frame(Kind::Reply, flags, calls[id].0, id as u32 + 1, *rc, payload));
        }
        if unasked {
            bytes.extend(reply(1, calls[0].0, b"again"));
        }
        let whole = play(caller(&calls), &bytes, &[usize::MAX]);
        let waited_for = calls.iter().filter(|(_, abandoned)| !abandoned).count();
        prop_assert_eq!(whole.0.len(), 1 + waited_for);
        let mut side = caller(&calls);
        (side.budget, side.large) = (cuts.budget, cuts.large);
        prop_assert_eq!(play(side, &bytes, &cuts.pieces), whole);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn every_request_gets_one_reply(
        calls in vec((any::<u16>(), payloads(), 0..5u8), 1..40),
        order in vec(any::<Index>(), 40),
        reads in vec(0..200usize, 40),
    ) {
        let mut side = Side::open_responder(defaults());
        side.answers = Answers::Later;
        for (id, (msg_type, payload, _)) in calls.iter().enumerate() {
            side.feed(&request(id as u32 + 1, *msg_type, payload));
        }
        prop_assert_eq!(side.tickets.len(), calls.len());
        let (mut received, mut expected) = (Vec::new(), Vec::new());
        for (index, read) in order.iter().zip(&reads).take(calls.len()) {
            let ticket = side.tickets.remove(index.index(side.tickets.len()));
            let (id, msg_type) = (ticket.id, ticket.msg_type as u16);
            let (_, payload, manner) = &calls[id as usize - 1];
            expected.push(Frame::reply(id, msg_type, answer_in_manner(&mut side, ticket, payload, *manner), b""));
            received.extend(side.take(*read));
        }
        received.extend(side.sent());
        let mut got = frames(&received);
        got.iter_mut().for_each(|frame| {
            (frame.payload, frame.flags) = (vec![], 0);
        });
        prop_assert_eq!(got, expected);
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn every_classic_request_gets_one_reply_in_order(
        calls in vec((any::<i32>(), vec(any::<u8>(), 0..20), 0..5u8), 1..40),
        fixed in any::<bool>(),
    ) {
        let mut side = responder(if fixed { Classic::Fixed(20) } else { Classic::Short(20) }, 50);
        side.answers = Answers::Later;
        let mut received = Vec::new();
        for (msg_type, payload, _) in &calls {
            // No type that would be a hello.
            let mut bytes = classic_request(msg_type & 0x7FFF_FFFF, payload);
            bytes.resize(if fixed { 32 } else { bytes.len() }, 0);
            side.feed(&bytes);
        }
        for (_, payload, manner) in &calls {
            prop_assert_eq!(side.tickets.len(), 1);
            let ticket = side.tickets.remove(0);
            answer_in_manner(&mut side, ticket, payload, *manner);
            received.extend(side.sent());
            side.feed(&[]);
        }
        let got = classic_frames(&received, if fixed { Some(20) } else { None });
        let types: Vec<i32> = calls.iter().map(|(msg_type, ..)| msg_type & 0x7FFF_FFFF).collect();
        prop_assert_eq!(got, types);
        prop_assert!(side.tickets.is_empty() && side.connection.flow().failure().is_none());
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn garbage_waits_or_ends(garbage in garbage(), reads in vec(0..100usize, 1..20)) {
        let mut side = Side::responder(settings(small));
        torment(&mut side, &garbage, &reads)?;
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn garbage_to_a_caller_waits_or_ends(garbage in garbage(), reads in vec(0..100usize, 1..20), classic: bool) {
        let mut side = match classic {
            true => Side::classic_initiator(settings(small)),
            false => Side::initiator(settings(small)),
        };
        side.connection.push_request(1, b"", 0).expect("memory");
        torment(&mut side, &garbage, &reads)?;
    }
}

/// Answers in one of five ways. Returns the result code that the peer must get.
fn answer_in_manner(side: &mut Side, ticket: super::Ticket, payload: &[u8], manner: u8) -> ResultCode {
    let mut writer = side.connection.begin_reply(ticket);
    writer.write(payload);
    match manner {
        0 => writer.finish(ResultCode::OK),
        1 => writer.finish(ResultCode::new(77)),
        2 => writer.fail(ResultCode::new(-10), "why"),
        3 => {
            drop(writer);
            ResultCode::HANDLER_FAILED
        }
        _ => {
            writer.write(&vec![0; GENEROUS.max_payload as usize + 1]);
            writer.finish(ResultCode::OK);
            ResultCode::TOO_LARGE
        }
    }
}

/// The types of classic replies; there must be nothing left over.
fn classic_frames(mut bytes: &[u8], fixed: Option<usize>) -> Vec<i32> {
    let mut types = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let header = classic::Header::decode(head);
        bytes = &rest[fixed.unwrap_or(header.length as usize)..];
        types.push(header.msg_type);
    }
    assert!(bytes.is_empty());
    types
}

/// Bytes that are wrong, or nearly right.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let random = vec(any::<u8>(), 0..300);
    let headers =
        (any::<bool>(), vec((0..20u8, 0..9u8, any::<u16>(), 0..9u32, -2..2i32, 0..80u32, 0..90usize), 0..20))
            .prop_map(|(greet, headers)| {
                let mut bytes = if greet { hello(GENEROUS) } else { Vec::new() };
                for (kind, flags, msg_type, id, rc, length, real) in headers {
                    let mut frame = raw_frame(kind, flags, msg_type, id, rc, &vec![0; real]);
                    // Half of them tell the truth about their length.
                    if length % 2 == 1 {
                        frame[..4].copy_from_slice(&length.to_le_bytes());
                    }
                    bytes.extend(frame);
                }
                bytes
            });
    let mutated = (conversations(), vec((any::<Index>(), 0..4u8, any::<u8>()), 1..10)).prop_map(
        |(Conversation { mut bytes, .. }, changes)| {
            for (at, change, byte) in changes {
                let at = at.index(bytes.len());
                match change {
                    0 => bytes[at] = byte,
                    1 => bytes[at] ^= 1 << (byte % 8),
                    2 => bytes.insert(at, byte),
                    _ if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            bytes
        },
    );
    prop_oneof![1 => random, 2 => headers, 2 => mutated]
}

const PIECE: usize = 64;
const HARD: usize = 256;
const PAYLOAD: usize = 64;

fn small(settings: &mut super::Settings) {
    settings.classic = Classic::Short(PAYLOAD as u32);
    settings.limits.max_payload = PAYLOAD as u32;
    settings.limits.max_in_flight = 4;
    settings.limits.max_in_flight_bytes = 128;
    settings.limits.outbox_soft = 100;
    settings.limits.outbox_hard = HARD;
}

/// Feeds garbage and reads some of what comes back, in between and at the end.
fn torment(side: &mut Side, garbage: &[u8], reads: &[usize]) -> Result<(), TestCaseError> {
    side.budget = reads[0] % 3 + 1;
    let mut received = Vec::new();
    for (piece, read) in garbage.chunks(PIECE).zip(reads.iter().cycle()) {
        if side.connection.is_paused() {
            received.extend(side.sent());
        }
        side.feed(piece);
        // A frame or hello that is incomplete, and the piece behind it; a Vec's doubling of the
        // hard mark and the reply that passed it (a text has up to 1 KiB) or a hello; 16 bytes
        // for each of the replies, which have 12 at least.
        let stash = 1024 + PIECE;
        let outbox = 2 * (HARD + 1040 + 200);
        let replies = 2 * (HARD / 12 + 4) * 16;
        prop_assert!(
            side.connection.flow().buffered() <= stash + outbox + replies,
            "{}",
            side.connection.flow().buffered()
        );
        received.extend(side.take(*read));
    }
    side.feed(&[]);
    prop_assert!(
        side.connection.flow().failure().is_some()
            || !side.connection.has_backlog()
            || side.connection.is_paused()
    );
    if side.connection.flow().failure().is_some() {
        let (failure, seen) = (side.failure().clone(), side.seen.len());
        side.feed(&[request(u32::MAX / 2, 1, b""), classic_request(1, b"")].concat());
        prop_assert_eq!(side.seen.len(), seen, "executed behind the fatal");
        prop_assert_eq!(side.failure(), &failure);
        prop_assert!(side.connection.is_finishing());
    }
    let hopeless = side.connection.flow().is_hopeless();
    received.extend(side.sent());
    prop_assert!(side.connection.flow().failure().is_none() || side.connection.is_finished());
    if !hopeless {
        whole_frames(side, &received)?;
    }
    Ok(())
}

/// Whatever was sent consists of whole frames, after at most one hello.
fn whole_frames(side: &Side, mut bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Some(head) = bytes.first_chunk().filter(|head: &&[u8; 8]| head.starts_with(&crate::hello::MAGIC)) {
        let length = crate::hello::length(head);
        bytes = &bytes[length.map_err(|error| TestCaseError::fail(error.to_string()))?..];
        frames(bytes);
    } else if side.connection.layout() == Some(Layout::Classic) {
        classic_frames(bytes, None);
    } else {
        prop_assert!(bytes.is_empty());
    }
    Ok(())
}

#[test]
fn an_echo_is_what_the_properties_take_it_for() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&request(1, 2, b"x"));
    echo(&mut side.connection, side.tickets.remove(0), b"x");
    assert_eq!(side.frames(), [Frame::reply(1, 2, ResultCode::OK, b"x")]);
}
