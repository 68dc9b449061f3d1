//! v1 from outside, frame by frame.

use std::time::Duration;

use sidewire::{ConnectionLimits, Endpoint, Failure, Limits, ResultCode, Server};

use crate::util::{
    Dialect, Frame, Raw, Reply, client, connect, frame, on_every_stream, store, store_with, watchdog,
};

const GET: u16 = 1;
const SET: u16 = 2;
const ECHO: u16 = 4;

/// On pipes it is only then that an end in order is seen by a client that does not close first.
const LINGER: Duration = Duration::from_millis(500);

/// Kinds and flags of frames.
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const NOTIFY: u8 = 3;
const PING: u8 = 9;
const PONG: u8 = 10;
const GOODBYE: u8 = 12;
const MORE: u8 = 1;
const EXT: u8 = 2;
const TEXT: u8 = 4;

/// Runs `test` against a store on each kind of stream, with a raw peer past its hello.
fn on_every_raw(test: impl Fn(&Raw, &Endpoint)) {
    let mut limits = Limits::default();
    limits.listener.connection.linger = LINGER;
    on_every_stream(
        store_with(limits),
        |listen| listen,
        |endpoint| {
            client(endpoint).call(SET, b"as before").expect("set");
            test(&Dialect::V1.raw(endpoint), endpoint);
        },
    );
}

fn flagged(mut bytes: Vec<u8>, flags: u8) -> Vec<u8> {
    bytes[5] = flags;
    bytes
}

/// The next frame is a reply with this code, and a text that contains `words`.
fn expect_failure(raw: &Raw, id: u32, msg_type: u16, rc: ResultCode, words: &str) {
    let frame = raw.receive_frame();
    let text = String::from_utf8(frame.payload.clone()).expect("a text");
    assert_eq!((frame.kind, frame.id, frame.msg_type), (REPLY, id, msg_type), "{frame:?}");
    assert_eq!((frame.rc, frame.flags), (rc.code(), TEXT), "{text}");
    assert!(text.contains(words), "'{text}' lacks '{words}'");
}

/// The connection still serves.
fn expect_service(raw: &Raw, id: u32) {
    assert_eq!(Dialect::V1.call(raw, id, ECHO, b"and on"), Dialect::V1.good(id, ECHO, b"and on"));
}

/// The next frame is a goodbye with this code and the last request that was accepted, then the end.
fn expect_goodbye(raw: &Raw, rc: ResultCode, last_id: u32) -> Frame {
    let frame = raw.receive_frame();
    assert_eq!((frame.kind, frame.rc, frame.id), (GOODBYE, rc.code(), last_id), "{frame:?}");
    raw.expect_end();
    frame
}

/// PROTOCOL X5, L3
#[test]
fn an_oversized_frame_ends_the_connection_as_soon_as_its_header_is_there() {
    let _watchdog = watchdog(60);
    let mut limits = Limits::default();
    limits.listener.connection.max_payload = 1000;
    limits.listener.connection.linger = LINGER;
    on_every_stream(
        store_with(limits),
        |listen| listen,
        |endpoint| {
            for length in [1001, u32::MAX] {
                let raw = Dialect::V1.raw(endpoint);
                expect_service(&raw, 1);
                let mut header = frame(REQUEST, ECHO, 2, 0, b"");
                header[..4].copy_from_slice(&length.to_le_bytes());
                raw.send(&header);
                expect_goodbye(&raw, ResultCode::TOO_LARGE, 1);
            }
            let raw = Dialect::V1.raw(endpoint);
            let largest = [b'x'; 1000];
            assert_eq!(Dialect::V1.call(&raw, 1, ECHO, &largest), Dialect::V1.good(1, ECHO, &largest));
        },
    );
}

/// Nothing behind a fatal frame is executed, everything before it is answered.
/// PROTOCOL F11, F13, X1, X2, X3, X4, X6, X8
#[test]
fn what_breaks_the_protocol_is_fatal() {
    let _watchdog = watchdog(60);
    let fatal = [
        ("kind 0", frame(0, ECHO, 2, 0, b"")),
        ("kind 13", frame(13, ECHO, 2, 0, b"")),
        ("kind 127", frame(127, 0, 0, 0, b"")),
        ("a reserved flag", flagged(frame(REQUEST, ECHO, 2, 0, b""), 8)),
        ("a reserved flag on a kind to skip", flagged(frame(200, 0, 0, 0, b""), 0x80)),
        ("id 0", frame(REQUEST, ECHO, 0, 0, b"")),
        ("the id of the last one", frame(REQUEST, ECHO, 1, 0, b"")),
        ("an id that falls", frame(REQUEST, ECHO, u32::MAX, 0, b"")),
        ("a reply to nothing", frame(REPLY, ECHO, 1, 0, b"")),
    ];
    on_every_raw(|_, endpoint| {
        for (what, bytes) in &fatal {
            eprintln!("{what}");
            let raw = Dialect::V1.raw(endpoint);
            let before = frame(REQUEST, ECHO, 1, 0, b"before");
            raw.send(&[before, bytes.clone(), frame(REQUEST, SET, 3, 0, b"behind")].concat());
            assert_eq!(Dialect::V1.receive(&raw), Dialect::V1.good(1, ECHO, b"before"));
            expect_goodbye(&raw, ResultCode::MALFORMED, 1);
        }
        assert_eq!(client(endpoint).call(GET, b"").expect("get").payload(), b"as before");
    });
}

/// PROTOCOL K4
#[test]
fn unknown_types_and_types_without_handler() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        for (id, msg_type) in [(1, 16), (2, u16::MAX)] {
            raw.send(&frame(REQUEST, msg_type, id, 0, b""));
            expect_failure(raw, id, msg_type, ResultCode::UNKNOWN_TYPE, "dispatch table");
        }
        for (id, msg_type) in [(3, 0), (4, 15)] {
            raw.send(&frame(REQUEST, msg_type, id, 0, b""));
            expect_failure(raw, id, msg_type, ResultCode::NO_HANDLER, "no handler");
        }
        expect_service(raw, 5);
    });
}

/// PROTOCOL F15, F21, K5, X16
#[test]
fn what_a_request_can_not_say_is_answered_and_the_connection_goes_on() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        raw.send(&frame(REQUEST, ECHO, 1, -1, b""));
        expect_failure(raw, 1, ECHO, ResultCode::MALFORMED, "timeout");
        raw.send(&flagged(frame(REQUEST, ECHO, 2, 0, b""), TEXT));
        expect_failure(raw, 2, ECHO, ResultCode::MALFORMED, "TEXT");
        raw.send(&flagged(frame(REQUEST, ECHO, 3, 0, b""), MORE));
        expect_failure(raw, 3, ECHO, ResultCode::NO_HANDLER, "parts");
        raw.send(&flagged(frame(REQUEST, ECHO, 4, 0, &[9, 0, 1, 0]), EXT));
        expect_failure(raw, 4, ECHO, ResultCode::MALFORMED, "extension");
        raw.send(&flagged(frame(REQUEST, ECHO, 5, 0, &[4, 0, 0x2A, 0x80, 0, 0]), EXT));
        expect_failure(raw, 5, ECHO, ResultCode::FEATURE_MISSING, "0x802a");
        expect_service(raw, 6);
    });
}

/// Of several things that are wrong the first is told, and the same one every time.
/// PROTOCOL F16
#[test]
fn what_is_looked_at_first_is_answered() {
    let _watchdog = watchdog(60);
    let beyond = 99;
    let broken = [9, 0, 1, 0];
    on_every_raw(|raw, _| {
        raw.send(&flagged(frame(REQUEST, beyond, 1, -1, &broken), TEXT | MORE | EXT));
        expect_failure(raw, 1, beyond, ResultCode::MALFORMED, "timeout");
        raw.send(&flagged(frame(REQUEST, beyond, 2, 0, &broken), TEXT | MORE | EXT));
        expect_failure(raw, 2, beyond, ResultCode::MALFORMED, "TEXT");
        raw.send(&flagged(frame(REQUEST, beyond, 3, 0, &broken), MORE | EXT));
        expect_failure(raw, 3, beyond, ResultCode::NO_HANDLER, "parts");
        raw.send(&flagged(frame(REQUEST, beyond, 4, 0, &broken), EXT));
        expect_failure(raw, 4, beyond, ResultCode::MALFORMED, "extension");
        raw.send(&flagged(frame(REQUEST, beyond, 5, 0, &[0, 0]), EXT));
        expect_failure(raw, 5, beyond, ResultCode::UNKNOWN_TYPE, "dispatch table");
    });
}

/// PROTOCOL F19
#[test]
fn flags_without_a_meaning_are_ignored() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        raw.send(&flagged(frame(PING, 0, 7, 0, b"no block"), TEXT | MORE | EXT));
        let pong = raw.receive_frame();
        assert_eq!((pong.kind, pong.flags, pong.id), (PONG, 0, 7));
        raw.send(&flagged(frame(GOODBYE, 0, 0, 0, b"no block"), MORE | EXT));
        let goodbye = raw.receive_frame();
        assert_eq!((goodbye.kind, goodbye.flags, goodbye.rc), (GOODBYE, 0, 0));
    });
}

/// PROTOCOL F20, F21
#[test]
fn an_extension_that_may_be_skipped_is_skipped() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        let block = [&[6, 0, 0x2A, 0, 2, 0, b'!', b'!'][..], b"payload proper"].concat();
        raw.send(&flagged(frame(REQUEST, ECHO, 1, 0, &block), EXT));
        assert_eq!(Dialect::V1.receive(raw), Dialect::V1.good(1, ECHO, b"payload proper"));
    });
}

#[test]
fn a_timeout_in_a_request_harms_nothing() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        for (id, timeout) in [(1, 1), (2, i32::MAX)] {
            raw.send(&frame(REQUEST, ECHO, id, timeout, b"in time"));
            assert_eq!(Dialect::V1.receive(raw), Dialect::V1.good(id, ECHO, b"in time"));
        }
    });
}

/// PROTOCOL K1
#[test]
fn ids_may_leap_and_wrap() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        for id in [5, 1 << 30, 0xFFFF_FF00 - (1 << 30), u32::MAX, 1, 2] {
            expect_service(raw, id);
        }
    });
}

/// PROTOCOL N1
#[test]
fn notifies_are_done_and_never_answered() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, endpoint| {
        raw.send(&frame(NOTIFY, SET, 0, 0, b"by notify"));
        for msg_type in [0, 16, ECHO] {
            raw.send(&frame(NOTIFY, msg_type, 0, 0, b"nobody answers"));
        }
        assert_eq!(Dialect::V1.call(raw, 1, GET, b""), Dialect::V1.good(1, GET, b"by notify"));
        let client = client(endpoint);
        client.notify(SET, b"by a client").expect("notify");
        assert_eq!(client.call(GET, b"").expect("get").payload(), b"by a client");
    });
}

/// PROTOCOL P1
#[test]
fn a_ping_is_answered_with_its_id() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        for id in [0, 7, u32::MAX] {
            raw.send(&frame(PING, 0, id, 0, b"not looked at"));
            let pong = raw.receive_frame();
            assert_eq!((pong.kind, pong.id, pong.rc, pong.payload.len()), (PONG, id, 0, 0));
        }
        // However many come, the last one is answered, and no reply is lost among them.
        let many = (1..=1000).map(|id| frame(PING, 0, id, 0, b"")).collect::<Vec<_>>();
        raw.send(&[many.concat(), frame(REQUEST, ECHO, 1, 0, b"x")].concat());
        let mut last_pong = 0;
        let mut replies = 0;
        while last_pong < 1000 || replies == 0 {
            let frame = raw.receive_frame();
            match frame.kind {
                PONG => last_pong = frame.id,
                _ => replies += 1,
            }
        }
        assert_eq!(replies, 1);
    });
}

/// Events, cancels, credits, pongs, proofs, and kinds of the future.
/// PROTOCOL F4, F7, F8, F9, F10, F12
#[test]
fn what_needs_no_answer_is_skipped() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        for kind in [4, 7, 8, 10, 11, 0x80, 0xFF] {
            raw.send(&frame(kind, 1, 1, 5, b"some"));
        }
        expect_service(raw, 1);
        // A cancel of what has been answered, and of what was never asked.
        raw.send(&[frame(7, ECHO, 1, 0, b""), frame(7, ECHO, 99, 0, b"")].concat());
        expect_service(raw, 2);
    });
}

/// A server whose handlers fail in every way.
fn failing() -> Server<u32> {
    let mut server = Server::builder(0u32).types(16).build().expect("a server");
    server.on(1, |calls, _request, reply| {
        *calls += 1;
        reply.write(b"thrown away");
        panic!("as the test wants it");
    });
    server.on(2, |_calls, request, reply| {
        reply.write(b"thrown away");
        let number: u32 = std::str::from_utf8(request.payload())?.parse()?;
        reply.write(number.to_be_bytes());
        Ok(())
    });
    server.on(3, |_calls, _request, reply| {
        reply.write(b"thrown away");
        Err(Failure::new(77, "seventy-seven"))
    });
    server.on(4, |_calls, _request, _reply| Err(ResultCode::new(78).into()));
    server.on(5, |_calls, _request, reply| {
        reply.set_result(5);
        reply.write(b"five");
        Ok(())
    });
    server
}

/// Type, request, code, text or data, whether it is a text.
type Failing = (u16, &'static [u8], i32, &'static [u8], bool);

/// What the failing handlers answer.
const FAILURES: [Failing; 5] = [
    (1, b"", -10, b"the handler panicked", true),
    (2, b"not a number", -10, b"invalid digit found in string", true),
    (3, b"", 77, b"seventy-seven", true),
    (4, b"", 78, b"", false),
    (5, b"", 5, b"five", false),
];

/// PROTOCOL F14, F17
#[test]
fn handlers_that_fail_answer_and_the_server_lives() {
    let _watchdog = watchdog(60);
    on_every_stream(
        failing(),
        |listen| listen,
        |endpoint| {
            let raw = Dialect::V1.raw(endpoint);
            for (id, (msg_type, payload, rc, answer, is_text)) in (1..).zip(FAILURES) {
                raw.send(&frame(REQUEST, msg_type, id, 0, payload));
                let frame = raw.receive_frame();
                assert_eq!((frame.kind, frame.id, frame.rc), (REPLY, id, rc), "{frame:?}");
                assert_eq!((frame.payload.as_slice(), frame.flags == TEXT), (answer, is_text));
            }
            let reply = Dialect::V1.call(&raw, 6, 2, b"258");
            assert_eq!(reply, Dialect::V1.good(6, 2, b"thrown away\0\0\x01\x02"));
        },
    );
}

/// PROTOCOL C7
#[test]
fn clients_get_the_code_and_the_text() {
    let _watchdog = watchdog(60);
    let panics = on_every_stream(
        failing(),
        |listen| listen,
        |endpoint| {
            for dialect in [Dialect::V1, Dialect::Classic] {
                let client = dialect.client(endpoint);
                for (msg_type, payload, rc, answer, is_text) in FAILURES {
                    // The classic layout has no place for texts.
                    let is_there = dialect == Dialect::V1 || !is_text;
                    let answer = if is_there { answer } else { b"" };
                    let error = client.call(msg_type, payload).expect_err("a failure");
                    assert_eq!(error.result_code(), Some(ResultCode::new(rc)), "{error}");
                    assert_eq!(error.payload(), answer, "{error}");
                    let shown = error.to_string().contains(&*String::from_utf8_lossy(answer));
                    assert_eq!(shown, is_text || answer.is_empty(), "{error}");
                    let reply = client
                        .request(msg_type)
                        .timeout(None)
                        .exchange(payload)
                        .expect("an answer all the same");
                    assert_eq!(reply.is_explanation(), is_text && is_there);
                    assert_eq!((reply.result_code(), reply.payload()), (ResultCode::new(rc), answer));
                }
            }
        },
    );
    assert_eq!(panics as usize % 4, 0, "twice in each layout: the state is kept over a panic");
    assert!(panics > 0);
}

/// PROTOCOL K9
#[test]
fn a_reply_larger_than_the_caller_takes() {
    let _watchdog = watchdog(60);
    let mut small = ConnectionLimits::default();
    small.max_payload = 100;
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            client(endpoint).call(SET, [b'x'; 101]).expect("set");
            let small = connect(endpoint).limits(small.clone()).open().expect("connect");
            let error = small.call(GET, b"").expect_err("too large");
            assert_eq!(error.result_code(), Some(ResultCode::TOO_LARGE), "{error}");
            assert!(error.to_string().contains("100"), "{error} does not say how much is taken");
            assert_eq!(small.call(ECHO, [b'y'; 100]).expect("call").payload(), [b'y'; 100]);
            assert_eq!(client(endpoint).call(GET, b"").expect("get").payload().len(), 101);
        },
    );
}

/// PROTOCOL K2
#[test]
fn replies_echo_type_and_id() {
    let _watchdog = watchdog(60);
    on_every_raw(|raw, _| {
        for (id, msg_type) in [(10, GET), (20, ECHO), (21, 9), (500, SET)] {
            let Reply { id: answered, msg_type: echoed, .. } = Dialect::V1.call(raw, id, msg_type, b"");
            assert_eq!((answered, echoed), (id, msg_type.into()));
        }
    });
}
