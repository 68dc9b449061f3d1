//! What a classic peer may rely on: result codes, echoed types, and how a connection ends.

use sidewire::{Access, Endpoint, Limits, Listen, ResultCode};

use crate::util::{
    Dialect, FIXED, Raw, Reply, classic, client, in_every_dialect, on_every_stream, start, store, usual,
    watchdog,
};

const GET: u16 = 1;
const SET: u16 = 2;
const SET_AND_GET: u16 = 3;
const ECHO: u16 = 4;

/// Both kinds of classic listener.
fn on_every_classic(test: impl Fn(Dialect, &Endpoint)) {
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        if dialect != Dialect::V1 {
            test(dialect, endpoint);
        }
    });
}

/// A request whose header says anything at all, padded where the listener wants it.
fn request(dialect: Dialect, msg_type: i32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = classic(msg_type, rc, payload);
    if dialect == Dialect::Fixed {
        bytes.resize(12 + FIXED as usize, 0);
    }
    bytes
}

fn header(msg_type: i32, length: i32) -> Vec<u8> {
    [msg_type, 0, length].map(i32::to_ne_bytes).concat()
}

fn answer(msg_type: i32, rc: i32, payload: &[u8]) -> Reply {
    Reply { id: 0, msg_type, rc, payload: payload.to_vec() }
}

fn stored(dialect: Dialect, endpoint: &Endpoint) -> Vec<u8> {
    dialect.client(endpoint).call(GET, b"").expect("the server goes on").into_payload()
}

/// PROTOCOL C1
#[test]
fn the_result_code_of_a_request_is_ignored() {
    let _watchdog = watchdog(60);
    on_every_classic(|dialect, endpoint| {
        let raw = dialect.raw(endpoint);
        for rc in [7, -1, i32::MIN, i32::MAX] {
            raw.send(&request(dialect, ECHO.into(), rc, b"all the same"));
            assert_eq!(dialect.receive(&raw), answer(ECHO.into(), 0, b"all the same"));
        }
    });
}

/// PROTOCOL C2, C5
#[test]
fn unknown_types_are_echoed_whole_and_the_connection_goes_on() {
    let _watchdog = watchdog(60);
    let unknown = [-1, -5, i32::MIN, 16, 17, 255, 65_536, 65_537, 0x0100_0001, i32::MAX];
    on_every_classic(|dialect, endpoint| {
        let raw = dialect.raw(endpoint);
        for msg_type in unknown {
            raw.send(&request(dialect, msg_type, 0, b"not looked at"));
            assert_eq!(dialect.receive(&raw), answer(msg_type, ResultCode::UNKNOWN_TYPE.code(), b""));
        }
        for msg_type in [0, 5, 15] {
            raw.send(&request(dialect, msg_type, 0, b""));
            assert_eq!(dialect.receive(&raw), answer(msg_type, ResultCode::NO_HANDLER.code(), b""));
        }
        assert_eq!(dialect.call(&raw, 0, ECHO, b"and on"), dialect.good(0, ECHO, b"and on"));
    });
}

/// PROTOCOL C12, C13
#[test]
fn a_bad_length_is_answered_at_once_and_ends_the_connection() {
    let _watchdog = watchdog(60);
    let bad = |limit: i32| {
        let malformed = [-1, -12, i32::MIN].map(|length| (length, ResultCode::MALFORMED));
        let too_large = [limit + 1, limit * 100, i32::MAX].map(|length| (length, ResultCode::TOO_LARGE));
        malformed.into_iter().chain(too_large)
    };
    on_every_classic(|dialect, endpoint| {
        dialect.client(endpoint).call(SET, b"as before").expect("set");
        let limit = if dialect == Dialect::Fixed { FIXED as i32 } else { 1024 };
        for (length, rc) in bad(limit) {
            let raw = dialect.raw(endpoint);
            // The header alone: nobody waits for a payload.
            raw.send(&header(SET.into(), length));
            assert_eq!(dialect.receive(&raw), answer(SET.into(), rc.code(), b""), "length {length}");
            raw.expect_end();
        }
        assert_eq!(stored(dialect, endpoint), b"as before");
    });
}

/// What is sent behind a bad header is neither executed nor in the way of the answer.
/// PROTOCOL C18
#[test]
fn replies_before_a_bad_length_come_and_nothing_behind_it_is_done() {
    let _watchdog = watchdog(60);
    on_every_classic(|dialect, endpoint| {
        dialect.client(endpoint).call(SET, b"as before").expect("set");
        let raw = dialect.raw(endpoint);
        let bytes = [
            dialect.request(0, ECHO, b"first"),
            dialect.request(0, SET_AND_GET, b"second"),
            header(ECHO.into(), 1_000_000),
            dialect.request(0, SET, b"behind"),
            vec![0; 200_000],
        ];
        std::thread::scope(|scope| {
            // A pipe may be closed before all of that is there.
            scope.spawn(|| assert!(raw.try_send(&bytes.concat()).is_ok() || !raw.0.has_half_close()));
            assert_eq!(dialect.receive(&raw), dialect.good(0, ECHO, b"first"));
            assert_eq!(dialect.receive(&raw), dialect.good(0, SET_AND_GET, b"as before"));
            assert_eq!(dialect.receive(&raw), answer(ECHO.into(), ResultCode::TOO_LARGE.code(), b""));
            raw.expect_end();
        });
        assert_eq!(stored(dialect, endpoint), b"second");
    });
}

#[test]
fn the_largest_request_is_fine() {
    let _watchdog = watchdog(60);
    on_every_classic(|dialect, endpoint| {
        let limit = if dialect == Dialect::Fixed { FIXED as usize } else { 1024 };
        let payload = vec![b'm'; limit];
        let raw = dialect.raw(endpoint);
        assert_eq!(dialect.call(&raw, 0, ECHO, &payload), dialect.good(0, ECHO, &payload));
    });
}

/// PROTOCOL C8
#[test]
fn a_reply_over_the_maximum_is_too_large_and_the_connection_goes_on() {
    let _watchdog = watchdog(60);
    on_every_classic(|dialect, endpoint| {
        // Only a v1 peer can store so much.
        client(endpoint).call(SET, vec![b'x'; 1025]).expect("set");
        let raw = dialect.raw(endpoint);
        let too_large = ResultCode::TOO_LARGE;
        assert_eq!(dialect.call(&raw, 0, GET, b""), answer(GET.into(), too_large.code(), b""));
        assert_eq!(dialect.call(&raw, 0, ECHO, b"and on"), dialect.good(0, ECHO, b"and on"));
        let error = dialect.client(endpoint).call(GET, b"").expect_err("too large");
        assert_eq!((error.result_code(), error.payload()), (Some(too_large), &b""[..]), "{error}");
    });
}

/// Each struct is 12 + N bytes, whatever the answer is; [`Dialect::receive`] checks the zeros.
/// PROTOCOL C10
#[test]
fn a_fixed_listener_pads_everything() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen.classic_fixed(FIXED),
        |endpoint| {
            let raw = Raw::connect(endpoint);
            let requests =
                [(-1, &b""[..]), (0, b"no handler"), (GET.into(), b""), (ECHO.into(), b"12345"), (77, b"")];
            for (msg_type, payload) in requests {
                let mut bytes = request(Dialect::Fixed, msg_type, 0, payload);
                // What is behind the length does not count, whatever it is.
                bytes[12 + payload.len()..].fill(0xAB);
                raw.send(&bytes);
            }
            raw.send(&header(ECHO.into(), -7));
            let codes = requests.map(|(msg_type, _)| {
                let reply = Dialect::Fixed.receive(&raw);
                assert_eq!(reply.msg_type, msg_type);
                reply.rc
            });
            assert_eq!(codes, [-1, -2, 0, 0, -1]);
            let last = Dialect::Fixed.receive(&raw);
            assert_eq!(last, answer(ECHO.into(), ResultCode::MALFORMED.code(), b""));
            raw.expect_end();
        },
    );
}

/// PROTOCOL C11
#[test]
fn a_whole_struct_on_a_short_listener_gets_the_right_first_reply() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let raw = Raw::connect(endpoint);
            let mut whole = classic(ECHO.into(), 0, b"hello");
            whole.resize(12 + 1024, 0);
            raw.send(&whole);
            assert_eq!(raw.receive_classic(), (ECHO.into(), 0, b"hello".to_vec()));
            // Its tail is taken for further frames, each of type 0.
            for _ in 0..(1024 - 5) / 12 {
                assert_eq!(raw.receive_classic(), (0, ResultCode::NO_HANDLER.code(), vec![]));
            }
        },
    );
}

/// PROTOCOL C14
#[test]
fn a_listener_without_classic_says_so() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen.without_classic(),
        |endpoint| {
            let raw = Raw::connect(endpoint);
            raw.send(&ECHO_TYPE);
            assert_eq!(raw.receive_classic(), (ECHO.into(), ResultCode::NOT_PERMITTED.code(), vec![]));
            raw.expect_end();
            let error = Dialect::Classic.client(endpoint).call(ECHO, b"").expect_err("refused");
            assert!(error.is_refused(), "{error}");
            assert_eq!(client(endpoint).call(ECHO, b"v1").expect("call").payload(), b"v1");
        },
    );
}

/// The four bytes that tell the layout.
const ECHO_TYPE: [u8; 4] = (ECHO as i32).to_ne_bytes();

/// TCP only: elsewhere nobody points a browser.
/// PROTOCOL S2, S3
#[test]
fn browsers_are_cut_off_without_an_answer() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&"tcp:127.0.0.1:0".parse().expect("an endpoint"))]);
    for first in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"]
    {
        let raw = Raw::connect(&bound[0]);
        raw.send(first);
        raw.expect_end();
    }
    assert!(client(&bound[0]).call(ECHO, b"").is_ok());
    running.stop().expect("the server ends well");
}

/// Whose bytes they are depends on the machine.
/// PROTOCOL C19
#[test]
fn where_other_machines_may_come_it_has_to_be_asked_for() {
    let _watchdog = watchdog(60);
    let anywhere = || {
        let listen = Listen::on("tcp:0.0.0.0:0").expect("an endpoint");
        listen.access(Access::Anyone).beyond_loopback()
    };
    let (running, bound) = start(store(), [anywhere(), anywhere().classic_max(100)]);
    let here = |endpoint: &Endpoint| endpoint.to_string().replace("0.0.0.0", "127.0.0.1").parse();
    let raw = Raw::connect(&here(&bound[0]).expect("an endpoint"));
    raw.send(&ECHO_TYPE);
    assert_eq!(raw.receive_classic(), (ECHO.into(), ResultCode::NOT_PERMITTED.code(), vec![]));
    raw.expect_end();
    let raw = Raw::connect(&here(&bound[1]).expect("an endpoint"));
    raw.send_classic(ECHO.into(), b"asked for");
    assert_eq!(raw.receive_classic(), (ECHO.into(), 0, b"asked for".to_vec()));
    drop(raw);
    running.stop().expect("the server ends well");
}
