//! What goes with frames and is no bytes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use std::time::Instant;

use proptest::prelude::*;

use super::{GENEROUS, Side, defaults, hello, request, settings};
use crate::LARGE;
use crate::connection::Connection;
use crate::event::Event;
use crate::frame::{self, HEADER_LEN, Header, flags};
use crate::hello::Allowance;
use crate::memory::with_at_most;
use crate::parcel::{Arrived, Parcel};
use crate::rc::ResultCode;
use crate::settings::{Attachments, Settings};

fn willing() -> Arc<Settings> {
    settings(|settings| settings.attachments = Attachments::Carried)
}

/// A responder behind the hello of a peer that wants them.
fn open() -> Side {
    let mut side = Side::responder(willing());
    let mut theirs = hello(Allowance { max_payload: 16 << 20, ..GENEROUS });
    theirs[8] = 4;
    side.feed(&theirs);
    side.sent();
    assert!(side.connection.attaches());
    side
}

/// A stream as the system keeps it: bytes, and what goes with some of them.
#[derive(Default)]
struct Stream(VecDeque<(Vec<u8>, Option<Parcel>)>);

impl Stream {
    /// Takes at most so many bytes of what is to leave.
    fn send(&mut self, connection: &mut Connection, most: usize, now: Instant) {
        let parcel = connection.next_parcel().cloned();
        let unsent = connection.unsent();
        let bytes = unsent[..unsent.len().min(most)].to_vec();
        connection.mark_sent(bytes.len(), now);
        if !bytes.is_empty() {
            self.0.push_back((bytes, parcel));
        }
    }

    /// As recvmsg(2): what comes belongs to the last of the bytes that are read, and may come with a part of those.
    fn read(&mut self, most: usize) -> Option<(Vec<u8>, Arrived)> {
        let mut read = Vec::new();
        while let Some((bytes, parcel)) = self.0.front_mut() {
            read.extend(bytes.drain(..bytes.len().min(most - read.len())));
            let arrived = parcel.take();
            if bytes.is_empty() {
                self.0.pop_front();
            }
            if let Some(parcel) = arrived {
                return Some((read, Arrived::Parcel(parcel)));
            }
            if read.len() == most {
                break;
            }
        }
        (!read.is_empty()).then_some((read, Arrived::Nothing))
    }
}

/// Answers with what came.
fn back(connection: &mut Connection, event: Event<'_>) {
    let (event, parcel) = match event {
        Event::Attached { parcel, then: Some(event) } => (*event, Some(parcel)),
        event => (event, None),
    };
    let Event::Request { ticket, payload } = event else { return };
    let mut reply = connection.begin_reply(ticket);
    reply.write(payload);
    match parcel {
        None => drop(reply.finish(ResultCode::OK)),
        Some(parcel) => match reply.complete_attached(ResultCode::OK, &parcel) {
            (_, None) => panic!("there is room"),
            (_, Some(frame_len)) => {
                drop(reply);
                connection.attach(frame_len, parcel);
            }
        },
    }
}

proptest! {
    /// PROTOCOL F24, F25
    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn each_frame_has_its_own_however_the_stream_is_cut(
        counts in proptest::collection::vec((0..17u8, 0..60usize), 1..30),
        cuts in proptest::collection::vec(1..90usize, 1..9),
    ) {
        let now = Instant::now();
        let mut client = Connection::initiator(willing(), [1; 16], now);
        let mut server = Connection::responder(willing(), now);
        let (mut there, mut back_again) = (Stream::default(), Stream::default());
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        let mut waiting = counts.iter();
        let mut cuts = cuts.iter().cycle().copied();
        let mut next = || cuts.next().expect("a cycle");
        for _ in 0..4_000 {
            // Fewer at a time than may wait to be taken.
            let has_room = asked.len() - answered.len() < 16;
            if client.attaches() && has_room && let Some(&(count, length)) = waiting.next() {
                let payload = vec![count; length];
                let id = match count {
                    0 => client.push_request(1, &payload, 0),
                    _ => {
                        prop_assert!(client.may_attach(count.into()));
                        client.push_request_attached(1, &payload, 0, Parcel::new(count, payload.clone()))
                    }
                };
                asked.push((id.expect("memory"), count, payload));
            }
            there.send(&mut client, next(), now);
            if let Some((bytes, arrived)) = there.read(next()) {
                server.receive_attached(&bytes, arrived, &Cell::new(usize::MAX), &mut back);
                server.received(now);
            }
            back_again.send(&mut server, next(), now);
            if let Some((bytes, arrived)) = back_again.read(next()) {
                client.receive_attached(&bytes, arrived, &Cell::new(usize::MAX), &mut |_, event| {
                    let (event, parcel) = match event {
                        Event::Attached { parcel, then: Some(event) } => (*event, Some(parcel)),
                        event => (event, None),
                    };
                    if let Event::Reply { id, payload, .. } = event {
                        let count = parcel.as_ref().map_or(0, Parcel::count);
                        let things = parcel.and_then(|parcel| parcel.take());
                        assert!(things.is_none_or(|things: Vec<u8>| things == payload), "those of this call");
                        answered.push((id, count, payload.to_vec()));
                    }
                });
                client.received(now);
            }
        }
        prop_assert_eq!(client.flow().failure(), None);
        prop_assert_eq!(server.flow().failure(), None);
        prop_assert_eq!(answered, asked);
    }
}

/// Payloads that are sent from where they lie have the announcement before them, as others do.
#[test]
fn what_goes_with_a_large_reply_goes_with_its_first_byte() {
    let (mut side, now) = (open(), Instant::now());
    let (head, given) = (vec![1; 100], vec![2; LARGE]);
    for id in 1..4 {
        let frame = request(id, 7, &vec![3; 3 * LARGE]);
        side.connection.receive(&frame[..frame.len() - 1], &Cell::new(9), &mut |_, _| {});
        let mut write = |connection: &mut Connection, event: Event<'_>| {
            let Event::Request { ticket, payload } = event else { return };
            let mut reply = connection.begin_reply(ticket);
            reply.write(&head);
            reply.write(&payload[..2 * LARGE]);
            reply.write(&head);
            reply.give(given.clone());
            let parcel = Parcel::new(2, id);
            let (rc, frame_len) = reply.complete_attached(ResultCode::OK, &parcel);
            assert!(rc.is_ok());
            drop(reply);
            connection.attach(frame_len.expect("there is room"), parcel);
        };
        side.connection.receive(&frame[frame.len() - 1..], &Cell::new(9), &mut write);
    }
    let payload = [&head[..], &vec![3; 2 * LARGE], &head, &given].concat();
    let mut stream = Stream::default();
    while side.connection.has_unsent() {
        stream.send(&mut side.connection, 100_000, now);
    }
    let (mut bytes, mut parcels) = (Vec::new(), Vec::new());
    for (piece, parcel) in stream.0 {
        parcels.extend(parcel.map(|parcel| (bytes.len(), parcel.take::<u32>())));
        bytes.extend(piece);
    }
    let length = HEADER_LEN + 7 + payload.len();
    assert_eq!(parcels, [1, 2, 3].map(|id| ((id as usize - 1) * length, Some(id))));
    for (id, frame) in (1..).zip(bytes.chunks(length)) {
        let header = Header::decode(frame.first_chunk().expect("a header"));
        assert_eq!((header.id, header.flags, header.length as usize), (id, 2, length - HEADER_LEN));
        assert_eq!(frame[HEADER_LEN..][..7], [5, 0, 1, 0x80, 1, 0, 2]);
        assert!(frame[HEADER_LEN + 7..] == payload, "the payload of {id}");
    }
}

/// A frame for which there is no memory can't say what belongs to it, and what comes next must not get that.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn without_memory_nobody_gets_what_another_frame_had() {
    let mut side = open();
    let mut frame =
        request(1, 7, &[&frame::announce(&Parcel::new(1, ()))[..], &vec![b'x'; 3 << 20]].concat());
    frame[5] = flags::EXT;
    with_at_most(1 << 20, || {
        let (most, last) = frame.split_at(frame.len() - 1);
        let parcel = Arrived::Parcel(Parcel::new(1, ()));
        side.connection.receive_attached(most, parcel, &Cell::new(9), &mut back);
        assert!(side.connection.flow().failure().is_none());
        side.connection.receive_attached(last, Arrived::Nothing, &Cell::new(9), &mut back);
    });
    assert!(side.failure().to_string().contains("attachments may have come with"));
}

/// With a frame that has only begun something may have come already; nobody asks for the rest of it any more.
#[test]
fn what_came_with_an_unfinished_frame_goes_with_the_end() {
    for end in [Connection::close, Connection::end_of_input] {
        let mut side = open();
        let came = Arc::new(());
        let frame = request(1, 7, &[0; 64]);
        let parcel = Arrived::Parcel(Parcel::new(1, Arc::clone(&came)));
        side.connection.receive_attached(&frame[..20], parcel, &Cell::new(9), &mut back);
        assert_eq!(Arc::strong_count(&came), 2, "its frame may ask for it");
        end(&mut side.connection);
        assert_eq!(Arc::strong_count(&came), 1);
    }
}

/// PROTOCOL F23, F28
#[test]
fn both_must_want_them() {
    for (ours, theirs, agreed) in
        [(willing(), willing(), true), (willing(), defaults(), false), (defaults(), willing(), false)]
    {
        let now = Instant::now();
        let mut client = Connection::initiator(ours, [1; 16], now);
        let mut server = Connection::responder(theirs, now);
        let mut line = Stream::default();
        assert!(!client.may_attach(1), "nothing is known of the server yet");
        line.send(&mut client, usize::MAX, now);
        let (bytes, _) = line.read(usize::MAX).expect("a hello");
        server.receive(&bytes, &Cell::new(9), &mut back);
        line.send(&mut server, usize::MAX, now);
        let (bytes, _) = line.read(usize::MAX).expect("a hello");
        client.receive(&bytes, &Cell::new(9), &mut back);
        assert_eq!([client.attaches(), server.attaches(), client.may_attach(16)], [agreed; 3]);
        assert!(!client.may_attach(0) && !client.may_attach(17));
    }
}

/// PROTOCOL F27
#[test]
fn what_comes_with_a_hello_is_too_early() {
    let mut side = Side::initiator(willing());
    side.sent();
    let parcel = Arrived::Parcel(Parcel::new(1, ()));
    side.connection.receive_attached(&[0xD1, 0x53], parcel, &Cell::new(9), &mut back);
    assert!(side.failure().to_string().contains("no frame announces"));
}
