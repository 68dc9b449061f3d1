//! Frames in datagrams.

use proptest::prelude::*;

use super::{classic_frame, frame, raw_frame};
use crate::datagram::{Parsed, begin_reply, encode_classic, encode_v1, parse, parse_reply};
use crate::frame::{Kind, flags};
use crate::layout::{Classic, Layout};
use crate::outbox::Outbox;
use crate::rc::ResultCode;

const RULE: Classic = Classic::Short(100);

/// A v1 frame as a datagram.
fn packed(frame: &[u8]) -> Vec<u8> {
    [&encode_v1(Kind::Ping, 0, 0, 0, b"")[..8], frame].concat()
}

/// What a server answers at once. `None`: nothing.
fn answer(bytes: &[u8]) -> Option<i32> {
    match parse(bytes, false, RULE) {
        Parsed::Bad { error, ticket } => ticket.map(|_| error.result_code().code()),
        Parsed::Request { .. } => Some(0),
        _ => None,
    }
}

#[test]
fn faults_are_answered_with_their_codes() {
    let call = |flags, rc, payload: &[u8]| packed(&frame(Kind::Request, flags, 1, 1, rc, payload));
    for (bytes, rc) in [
        (call(0, 0, b"fine"), Some(0)),
        (call(0, -1, b""), Some(-4)),
        (call(flags::TEXT, 0, b""), Some(-4)),
        (call(flags::MORE, 0, b""), Some(-2)),
        (call(flags::EXT, 0, b""), Some(-4)),
        (call(flags::EXT, 0, &[4, 0, 1, 0x80, 0, 0]), Some(-12)),
        (call(flags::EXT, 0, &[4, 0, 1, 0, 0, 0]), Some(0)),
        (call(8, 0, b""), Some(-4)),
        (call(0, 0, b"cut")[..25].to_vec(), Some(-4)),
        (packed(&frame(Kind::Subscribe, 0, 1, 1, 0, b"")), Some(-2)),
        (packed(&frame(Kind::Request, 0, 1, 0, 0, b"")), None),
        (packed(&frame(Kind::Notify, flags::MORE, 1, 0, 0, b"")), None),
        (packed(&frame(Kind::Notify, flags::TEXT, 1, 0, 0, b"")), None),
        (packed(&raw_frame(13, 0, 1, 1, 0, b"")), None),
        (classic_frame(1, 0, 101, &[0; 101]), Some(-3)),
        (classic_frame(1, 0, -1, b""), Some(-4)),
        (classic_frame(1, 0, 2, b"x"), Some(-4)),
        (classic_frame(1, 0, 1, b"longer"), Some(0)),
        (vec![1, 0, 0], None),
    ] {
        assert_eq!(answer(&bytes), rc, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_datagram_is_read_or_refused(
        random in prop::collection::vec(any::<u8>(), 0..100), v1: bool, truncated: bool,
    ) {
        let bytes = if v1 { packed(&random) } else { random };
        for rule in [RULE, Classic::Fixed(4), Classic::Refused] {
            let _ = parse(&bytes, truncated, rule);
        }
        let _ = (parse_reply(&bytes, Layout::V1), parse_reply(&bytes, Layout::Classic));
    }

    #[test]
    fn a_request_and_its_reply_arrive_as_they_were_sent(
        msg_type: u16, id in 1..=u32::MAX, payload in prop::collection::vec(any::<u8>(), 0..100), v1: bool,
    ) {
        let bytes = match v1 {
            true => encode_v1(Kind::Request, msg_type, id, 0, &payload),
            false => encode_classic(msg_type.into(), &payload, None),
        };
        let Parsed::Request { ticket, payload: got } = parse(&bytes, false, RULE) else {
            return Err(TestCaseError::fail("no request"));
        };
        prop_assert_eq!((ticket.msg_type, got), (i32::from(msg_type), &payload[..]));
        let (mut outbox, layout) = (Outbox::default(), ticket.layout);
        let mut reply = begin_reply(&mut outbox, ticket, 1000, RULE);
        reply.write(got);
        reply.finish(ResultCode::new(3));
        let reply = parse_reply(outbox.unsent(), layout).unwrap();
        prop_assert_eq!((reply.msg_type, reply.rc, reply.payload), (i32::from(msg_type), ResultCode::new(3), got));
        prop_assert_eq!(reply.id, if v1 { id } else { 0 });
    }
}
