//! Large payloads, which go back from where they have come to.

use std::io::IoSlice;

use super::*;
use crate::LARGE;

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

const LENGTHS: [usize; 8] = [0, 1, LARGE - 1, LARGE, LARGE + 1, 300_001, 1 << 20, 16 << 20];

fn feed_in_pieces(side: &mut Side, bytes: &[u8], piece: usize) {
    side.large = LARGE;
    bytes.chunks(piece).for_each(|bytes| side.feed(bytes));
}

fn taken_in_pieces(side: &mut Side, piece: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while side.connection.has_unsent() {
        bytes.extend(side.take(piece));
    }
    bytes
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn payloads_of_every_size_go_back_as_they_came() {
    for (piece, taken) in [(100_003, 1_000_003), (262_144, 212_992), (usize::MAX, usize::MAX)] {
        let mut side = Side::responder(defaults());
        side.feed(&hello(Allowance { max_payload: 16 << 20, ..GENEROUS }));
        side.sent();
        let classic = Settings::new(ConnectionLimits::default(), Classic::Short(16 << 20));
        let mut old = Side::responder(Arc::new(classic));
        for (id, length) in (1..).zip(LENGTHS) {
            let payload = payload(length);
            feed_in_pieces(&mut side, &request(id, 4, &payload), piece);
            let is_same = taken_in_pieces(&mut side, taken) == reply(id, 4, &payload);
            assert!(is_same, "{length} bytes, {piece} at a time");
            let head = [4, 0, length as i32].map(i32::to_ne_bytes).concat();
            let frame = [head, payload].concat();
            feed_in_pieces(&mut old, &frame, piece);
            assert!(taken_in_pieces(&mut old, taken) == frame, "classic, {length} bytes, {piece} at a time");
        }
    }
}

fn reply(id: u32, msg_type: u16, payload: &[u8]) -> Vec<u8> {
    let (length, kind) = (payload.len() as u32, Kind::Reply as u8);
    [&Header { length, kind, flags: 0, msg_type, id, rc: 0 }.encode()[..], payload].concat()
}

/// The reply is the frame's memory, and the next large frame is read into it at once, whatever has come of that.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn an_echo_is_not_copied_and_its_memory_is_there_for_the_next() {
    let mut side = Side::open_responder(defaults());
    let frame = request(1, 4, &payload(1 << 20));
    feed_in_pieces(&mut side, &frame, 200_000);
    let mut pieces = [IoSlice::new(&[]); 4];
    assert_eq!(side.connection.unsent_pieces(&mut pieces), 2);
    assert_eq!((pieces[0].len(), pieces[1].len()), (16, 1 << 20));
    assert_eq!(side.connection.waiting(), frame.len());
    assert!(side.connection.flow().buffered() < 2 << 20);
    taken_in_pieces(&mut side, 300_000);
    let next = request(2, 4, &payload(1 << 20));
    side.feed(&next[..100_000]);
    let (partial, most) = side.connection.take_large_partial(LARGE).expect("a large frame");
    assert_eq!((partial.len(), most), (100_000, next.len() - 100_000));
    side.connection.put_back(partial);
    side.feed(&next[100_000..]);
    assert!(taken_in_pieces(&mut side, usize::MAX) == reply(2, 4, &payload(1 << 20)));
    // That of a very large one is not kept.
    feed_in_pieces(&mut side, &request(3, 4, &payload(5 << 20)), 200_000);
    taken_in_pieces(&mut side, usize::MAX);
    assert!(side.connection.flow().buffered() < 4 << 20);
}

/// Whatever it is: what was kept stays there for the next.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn behind_a_large_frame_the_next_one_begins_in_its_memory() {
    let mut side = Side::open_responder(defaults());
    let large = payload(1 << 20);
    feed_in_pieces(&mut side, &request(1, 4, &large), 200_000);
    assert!(taken_in_pieces(&mut side, 300_000) == reply(1, 4, &large));
    for (id, begin) in [(2, 100_000), (3, 10), (4, usize::MAX)] {
        let (memory, most) = side.connection.take_large_partial(LARGE).expect("what was kept");
        assert!(memory.is_empty() && most > 1 << 20);
        // For nothing.
        side.connection.put_back(memory);
        let frame = request(id, 4, &large);
        let (mut memory, most) = side.connection.take_large_partial(LARGE).expect("what was kept");
        let (now, later) = frame.split_at(begin.min(most).min(frame.len()));
        let place = memory.as_ptr();
        memory.extend_from_slice(now);
        side.connection.put_back(memory);
        side.receive(&[]);
        feed_in_pieces(&mut side, later, 300_000);
        let mut pieces = [IoSlice::new(&[]); 2];
        side.connection.unsent_pieces(&mut pieces);
        assert_eq!(pieces[1].as_ptr(), place.wrapping_add(16), "{begin}");
        assert!(taken_in_pieces(&mut side, 300_000) == reply(id, 4, &large));
    }
    // Small ones are read as ever from the second on, and many at once are all handled.
    for (first, count) in [(5, 1), (6, 3)] {
        let frames: Vec<u8> = (first..first + count).flat_map(|id| request(id, 4, b"small")).collect();
        side.large = LARGE;
        let expects = side.connection.take_large_partial(LARGE);
        assert_eq!(expects.is_some(), first == 5);
        if let Some((memory, _)) = expects {
            side.connection.put_back(memory);
        }
        side.feed(&frames);
        let replies: Vec<u8> = (first..first + count).flat_map(|id| reply(id, 4, b"small")).collect();
        assert_eq!(side.sent(), replies);
    }
    let held = side.connection.flow().buffered();
    assert!((1 << 20..3 << 20).contains(&held), "{held}");
}

/// Only with bytes that have come does a frame get memory that was not there before.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn without_kept_memory_a_frame_grows_as_it_comes() {
    let mut side = Side::open_responder(defaults());
    side.feed(&request(1, 4, &payload(16 << 20))[..100_000]);
    let (partial, most) = side.connection.take_large_partial(LARGE).expect("a large frame");
    assert!(most <= 100_000 && partial.capacity() <= 200_000, "{most}, {}", partial.capacity());
}

fn answered(piece: usize, write: impl Fn(&mut crate::ReplyWriter<'_>, &[u8]) -> bool) -> Vec<u8> {
    let mut side = Side::open_responder(defaults());
    let frame = request(1, 4, &payload(300_000));
    let (most, last) = frame.split_at(frame.len() - 1);
    side.large = LARGE;
    most.chunks(piece).for_each(|bytes| side.feed(bytes));
    side.connection.receive(last, &Cell::new(9), &mut |connection, event| {
        let Event::Request { ticket, payload } = event else { return };
        let mut writer = connection.begin_reply(ticket);
        match write(&mut writer, payload) {
            true => writer.finish(ResultCode::OK),
            false => writer.fail(ResultCode::new(7), "no"),
        };
    });
    // What comes next finds nothing of it.
    side.feed(&request(2, 4, b"small"));
    let all = side.sent();
    let (first, second) = all.split_at(all.len() - reply(2, 4, b"small").len());
    assert_eq!(second, reply(2, 4, b"small"));
    first.to_vec()
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn what_a_handler_makes_of_it_is_what_leaves() {
    let all = payload(300_000);
    let twice = answered(100_000, |writer, payload| {
        writer.write(payload);
        writer.write(&payload[5..200_000]);
        writer.write(b"end");
        true
    });
    assert!(twice == reply(1, 4, &[&all[..], &all[5..200_000], b"end"].concat()));
    let given = answered(100_000, |writer, payload| {
        writer.write(b"begin");
        writer.give(payload.to_vec());
        writer.give(b"small".to_vec());
        writer.give(vec![9; LARGE]);
        writer.written() == 5 + 300_000 + 5 + LARGE
    });
    assert!(given == reply(1, 4, &[b"begin", &all[..], b"small", &[9; LARGE]].concat()));
    let cleared = answered(100_000, |writer, payload| {
        writer.write(payload);
        writer.clear();
        writer.write(&payload[..70_000]);
        true
    });
    assert!(cleared == reply(1, 4, &all[..70_000]));
    let failed = answered(100_000, |writer, payload| {
        writer.write(payload);
        writer.give(vec![1; LARGE]);
        false
    });
    assert_eq!(failed.len(), 16 + 2);
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn one_that_is_withdrawn_or_given_up_leaves_nothing() {
    let mut side = Side::open_responder(defaults());
    let frame = request(1, 4, &payload(300_000));
    feed_in_pieces(&mut side, &frame[..299_000], 100_000);
    let mut later = None;
    side.connection.receive(&frame[299_000..], &Cell::new(9), &mut |connection, event| {
        let Event::Request { ticket, payload } = event else { return };
        let mut writer = connection.begin_reply(ticket);
        writer.write(payload);
        later = Some(writer.withdraw());
    });
    assert!(!side.connection.has_unsent());
    let mut writer = side.connection.begin_reply(later.expect("its ticket"));
    writer.give(payload(200_000));
    writer.finish(ResultCode::OK);
    // The peer takes some of it, and no more.
    side.take(100_000);
    side.connection.discard_output();
    assert_eq!((side.connection.waiting(), side.connection.has_unsent()), (0, false));
}

/// The header that is withdrawn begins where the payload stands that goes before it.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_reply_that_is_withdrawn_leaves_the_payload_before_it() {
    let mut side = Side::open_responder(defaults());
    feed_in_pieces(&mut side, &request(1, 4, &payload(300_001)), 200_000);
    side.answers = Answers::Later;
    side.feed(&request(2, 4, b"later"));
    let ticket = side.tickets.pop().expect("the second one");
    let ticket = side.connection.begin_reply(ticket).withdraw();
    echo(&mut side.connection, ticket, b"later");
    let expected = [reply(1, 4, &payload(300_001)), reply(2, 4, b"later")].concat();
    assert!(taken_in_pieces(&mut side, 100_000) == expected);
}

/// All that stands before the payload has left, and was moved away: the outbox is not empty all the same, and its memory
/// is nobody else's.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_payload_alone_keeps_its_outbox() {
    let mut side = Side::open_responder(settings(|settings| settings.limits.outbox_soft = 4 << 20));
    let small = payload(1 << 10);
    let all: Vec<u8> = (1..=100).flat_map(|id| request(id, 4, &small)).collect();
    side.feed(&all);
    feed_in_pieces(&mut side, &request(101, 4, &payload(1 << 20)), 200_000);
    let mut taken = side.take(usize::MAX);
    assert_eq!(side.connection.waiting(), 1 << 20);
    assert!(side.connection.flow_mut().reclaim().is_none());
    taken.extend(taken_in_pieces(&mut side, 100_000));
    let mut expected: Vec<u8> = (1..=100).flat_map(|id| reply(id, 4, &small)).collect();
    expected.extend(reply(101, 4, &payload(1 << 20)));
    assert!(taken == expected);
    assert!(side.connection.flow_mut().reclaim().is_some());
}

/// A reply for which there is no memory at all takes nothing along that goes before it.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn a_reply_that_is_lost_leaves_the_payload_before_it() {
    let mut side = Side::open_responder(defaults());
    feed_in_pieces(&mut side, &request(1, 4, &payload(300_001)), 200_000);
    side.answers = Answers::Later;
    side.feed(&request(2, 4, b"later"));
    let ticket = side.tickets.pop().expect("the second one");
    let waiting = side.connection.waiting();
    // As if there were no memory for its header.
    side.connection.flow_mut().outbox.memory_mut().starve();
    side.connection.begin_reply(ticket).finish(ResultCode::OK);
    assert_eq!(side.connection.waiting(), waiting);
    assert!(taken_in_pieces(&mut side, 100_000) == reply(1, 4, &payload(300_001)));
}

/// A client's outbox is one piece: its last words are taken as a whole, and nobody looks after memory that it keeps.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn what_a_client_gives_is_copied() {
    use crate::caller::{Caller, Came, Wake};

    #[derive(Debug)]
    struct Nobody;
    impl Wake for Nobody {
        fn wake(&self) {}
    }

    let mut now = Instant::now();
    let mut caller = Caller::<Nobody>::v1(defaults(), [7; 16], now);
    caller.serve();
    let length = caller.to_send().expect("a hello").len();
    caller.sent(length, now);
    now += Duration::from_millis(1);
    let bytes = [answer(GENEROUS), request(1, 4, b"?")].concat();
    caller.begin_read(usize::MAX);
    caller.end_read(None, Came::Bytes { bytes: &bytes, is_all: true }, now, now);
    let incoming = caller.take_incoming().expect("what the server asks");
    let owed = incoming.owed.expect("a request");
    let mut writer = caller.begin_reply(owed).expect("it is owed");
    writer.give(payload(200_000));
    writer.finish(ResultCode::OK);
    let words = caller.goodbye().expect("last words").to_vec();
    assert!(words.starts_with(&reply(1, 4, &payload(200_000))));
    assert_eq!(frames(&words).len(), 2);
}
