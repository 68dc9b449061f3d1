//! A client tells apart what can go wrong. Where no real server does it, a fake one on TCP does.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use sidewire::{Access, Client, Connect, ConnectionLimits, Error, Executed, ResultCode};

use crate::util::fake::{Fake, answer, send, take, take_hello, take_request, wait_for_the_end};
use crate::util::{Dialect, all_streams, everywhere, frame, fresh, store, usual, watchdog};

const ECHO: u16 = 4;
const REPLY: u8 = 2;
const GOODBYE: u8 = 12;

/// Which of its predicates are true.
fn kinds(error: &Error) -> Vec<&'static str> {
    let all = [
        ("invalid input", error.is_invalid_input()),
        ("unsupported", error.is_unsupported()),
        ("in use", error.is_in_use()),
        ("not listening", error.is_not_listening()),
        ("refused", error.is_refused()),
        ("version", error.is_version_mismatch()),
        ("timeout", error.is_timeout()),
        ("peer gone", error.is_peer_gone()),
        ("protocol", error.is_protocol()),
        ("closed", error.is_closed()),
        ("answered", error.result_code().is_some()),
    ];
    all.into_iter().filter(|(_, is_so)| *is_so).map(|(name, _)| name).collect()
}

fn expect(error: &Error, kind: &str, executed: Executed) {
    assert_eq!(kinds(error), [kind], "{error}");
    assert_eq!(error.executed(), executed, "{error}");
}

/// A connection that has ended stays ended, and nothing is executed on it any more.
fn expect_ended(client: &Client) {
    // If this waited, it would do so for longer than the test may take.
    let endless = client.request(ECHO).timeout(Duration::from_secs(3600));
    let error = endless.send(b"again").expect_err("it has ended");
    assert!(error.executed() == Executed::Never, "{error}");
    assert!(client.notify(ECHO, b"again").is_err());
}

#[test]
fn nobody_listens() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        // Bound and left again, so that even a TCP port is one where nobody is.
        let bound = store().listen(usual(&endpoint)).expect("listen");
        for dialect in Dialect::ALL {
            let error = dialect.connect(&bound).open().expect_err("nobody is there");
            expect(&error, "not listening", Executed::Never);
            assert!(error.to_string().contains(&bound.to_string()), "{error}");
        }
    }
}

/// A server that is stuck takes the connection, or leaves it to the system, and says nothing.
#[test]
fn a_server_that_says_nothing() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        let mut server = store();
        let bound = server.listen(usual(endpoint)).expect("listen");
        let limit = Duration::from_millis(200);
        let connect = dialect.connect(&bound).timeout(Some(limit)).call_timeout(Some(limit));
        let begun = Instant::now();
        let error = match connect.open() {
            Err(error) => error,
            // The classic layout has no handshake: there it is the call that waits.
            Ok(client) => {
                assert_ne!(dialect, Dialect::V1);
                let error = client.call(ECHO, b"").expect_err("a timeout");
                assert!(error.executed() == Executed::Perhaps, "{error}");
                error
            }
        };
        assert_eq!(kinds(&error), ["timeout"], "{error}");
        assert!(begun.elapsed() >= limit, "{:?} instead of {limit:?}", begun.elapsed());
    });
}

#[test]
fn a_call_without_reply_times_out_and_the_connection_stays() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| {
        let (first, second) = (take_request(stream), take_request(stream));
        send(stream, &frame(REPLY, ECHO, second, 0, b"second"));
        send(stream, &frame(REPLY, ECHO, first, 0, b"first, late"));
        let third = take_request(stream);
        send(stream, &frame(REPLY, ECHO, third, 0, b"third"));
        wait_for_the_end(stream);
    });
    let client = fake.client();
    let error = client.request(ECHO).timeout(Duration::from_millis(300)).send(b"").expect_err("a timeout");
    expect(&error, "timeout", Executed::Perhaps);
    assert_eq!(client.call(ECHO, b"").expect("call").payload(), b"second");
    assert_eq!(client.call(ECHO, b"").expect("call").payload(), b"third");
    drop(client);
    fake.join();
}

#[test]
fn a_wrong_version() {
    let _watchdog = watchdog(60);
    let fake = Fake::new(|stream| {
        take_hello(stream);
        let mut refusal = answer(ResultCode::NO_COMMON_VERSION.code(), 0, 3);
        refusal[6] = 2;
        send(stream, &refusal);
        wait_for_the_end(stream);
    });
    let error = fake.connect().open().expect_err("refused");
    assert_eq!(kinds(&error), ["version", "protocol"], "{error}");
    assert!(error.executed() == Executed::Never, "{error}");
    let text = error.to_string();
    assert!(text.contains("1 to 1") && text.contains("2 to 3"), "{text} does not name both ranges");
    fake.join();
}

#[test]
fn a_missing_feature_and_other_refusals() {
    let _watchdog = watchdog(60);
    for (status, kind) in
        [(-5, "refused"), (-6, "refused"), (-9, "refused"), (-12, "refused"), (77, "refused")]
    {
        let fake = Fake::new(move |stream| {
            take_hello(stream);
            let mut refusal = answer(status, 0, 1);
            let why = b"because of\x1b[31m that";
            refusal.extend_from_slice(&[3, 0, why.len() as u8, 0]);
            refusal.extend_from_slice(why);
            refusal[4] = refusal.len() as u8;
            send(stream, &refusal);
            wait_for_the_end(stream);
        });
        let error = fake.connect().open().expect_err("refused");
        expect(&error, kind, Executed::Never);
        let text = error.to_string();
        assert!(text.contains(&format!("({status})")) && text.contains("because of"), "{text}");
        fake.join();
    }
}

/// What is no answer to a hello.
/// PROTOCOL H19
#[test]
fn a_server_that_speaks_something_else() {
    let _watchdog = watchdog(60);
    let mut too_long = answer(0, 1, 1);
    too_long[4..6].copy_from_slice(&[1, 4]);
    let mut short = answer(0, 1, 1);
    short[4..6].copy_from_slice(&[48, 0]);
    let replies = [
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("classic", vec![0; 12]),
        ("a hello that is too long", too_long),
        ("an initiator's hello", short),
        ("a version that was not offered", answer(0, 2, 2)),
        ("no version", answer(0, 0, 1)),
    ];
    for (what, bytes) in replies {
        eprintln!("{what}");
        let fake = Fake::new(move |stream| {
            take_hello(stream);
            send(stream, &bytes);
            wait_for_the_end(stream);
        });
        expect_protocol(&fake.connect().open().expect_err("no Sidewire server"), false);
        fake.join();
    }
}

fn expect_protocol(error: &Error, asked: bool) {
    assert_eq!(kinds(error), ["protocol"], "{error}");
    // Where something was asked nobody can know what such a server has done.
    assert!(error.executed() == Executed::Perhaps || !asked, "{error}");
}

/// What is no answer to a request, and what is no frame at all.
#[test]
fn a_server_that_breaks_the_protocol() {
    let _watchdog = watchdog(60);
    let mut oversized = frame(REPLY, ECHO, 1, 0, b"");
    oversized[..4].copy_from_slice(&1001u32.to_le_bytes());
    let mut extended = frame(REPLY, ECHO, 1, 0, &[4, 0, 0x2A, 0x80, 0, 0]);
    extended[5] = 2;
    let replies = [
        ("another type", frame(REPLY, ECHO + 1, 1, 0, b"")),
        ("an id that was never asked", frame(REPLY, ECHO, 2, 0, b"")),
        ("id 0", frame(REPLY, ECHO, 0, 0, b"")),
        ("an unknown kind", frame(77, ECHO, 1, 0, b"")),
        ("a larger frame than we take", oversized),
        ("an extension that we must understand", extended),
        ("garbage", vec![0xEE; 64]),
    ];
    for (what, bytes) in replies {
        eprintln!("{what}");
        let fake = Fake::v1(move |stream| {
            assert_eq!(take_request(stream), 1);
            send(stream, &bytes);
            wait_for_the_end(stream);
        });
        let mut limits = ConnectionLimits::default();
        limits.max_payload = 1000;
        let client = fake.connect().limits(limits).open().expect("connect");
        expect_protocol(&client.call(ECHO, b"").expect_err("no reply"), true);
        expect_ended(&client);
        drop(client);
        fake.join();
    }
}

/// One of a later version, say.
/// PROTOCOL R1
#[test]
fn a_reserved_code_without_a_name_is_a_failure() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| {
        let id = take_request(stream);
        send(stream, &frame(REPLY, ECHO, id, -500, b""));
        wait_for_the_end(stream);
    });
    let client = fake.client();
    let error = client.call(ECHO, b"").expect_err("a failure");
    assert_eq!(error.result_code(), Some(ResultCode::new(-500)), "{error}");
    drop(client);
    fake.join();
}

/// PROTOCOL K11
#[test]
fn a_reply_that_comes_twice() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| {
        let id = take_request(stream);
        let reply = frame(REPLY, ECHO, id, 0, b"once");
        send(stream, &[reply.clone(), reply].concat());
        wait_for_the_end(stream);
    });
    let client = fake.client();
    assert_eq!(client.call(ECHO, b"").expect("call").payload(), b"once");
    expect_protocol(&client.call(ECHO, b"").expect_err("the second one was not asked for"), false);
    drop(client);
    fake.join();
}

/// PROTOCOL C21
#[test]
fn a_classic_server_that_breaks_the_protocol() {
    let _watchdog = watchdog(60);
    let header = |msg_type: u16, length: i32| [i32::from(msg_type), 0, length].map(i32::to_ne_bytes).concat();
    let reply = header(ECHO, 0);
    let replies = [
        ("another type", header(ECHO + 1, 0)),
        ("a negative length", header(ECHO, -1)),
        ("a length over all bounds", header(ECHO, i32::MAX)),
        ("an unasked reply", [reply.clone(), reply].concat()),
    ];
    for (what, bytes) in replies {
        eprintln!("{what}");
        let fake = Fake::new(move |stream| {
            take(stream, 12);
            send(stream, &bytes);
            wait_for_the_end(stream);
        });
        let client = fake.connect().classic().open().expect("connect");
        let outcome = client.call(ECHO, b"");
        if what == "an unasked reply" {
            outcome.expect("the first one was asked for");
            expect_protocol(&client.call(ECHO, b"").expect_err("the second was not"), false);
        } else {
            expect_protocol(&outcome.expect_err("no reply"), true);
        }
        expect_ended(&client);
        drop(client);
        fake.join();
    }
}

#[test]
fn a_server_that_goes_in_the_middle_of_a_call() {
    let _watchdog = watchdog(60);
    let whole = frame(REPLY, ECHO, 1, 0, b"cut off here");
    for cut in [0, 10, 20] {
        let reply = whole[..cut].to_vec();
        let fake = Fake::v1(move |stream| {
            assert_eq!(take_request(stream), 1);
            send(stream, &reply);
        });
        let client = fake.client();
        expect(&client.call(ECHO, b"").expect_err("it has gone"), "peer gone", Executed::Perhaps);
        expect_ended(&client);
        fake.join();
    }
}

#[test]
fn a_server_that_goes_in_the_middle_of_the_handshake() {
    let _watchdog = watchdog(60);
    for cut in [0, 3, 60] {
        let fake = Fake::new(move |stream| {
            take_hello(stream);
            send(stream, &answer(0, 1, 1)[..cut]);
        });
        expect(&fake.connect().open().expect_err("it has gone"), "peer gone", Executed::Never);
        fake.join();
    }
}

/// A goodbye names the last request that was accepted. What was accepted may be executed.
/// PROTOCOL E10
#[test]
fn goodbye_tells_what_was_not_executed() {
    let _watchdog = watchdog(60);
    for (last_id, executed) in [(0, Executed::Never), (1, Executed::Perhaps)] {
        let fake = Fake::v1(move |stream| {
            assert_eq!(take_request(stream), 1);
            send(stream, &frame(GOODBYE, 0, last_id, ResultCode::SHUTTING_DOWN.code(), b""));
        });
        let client = fake.client();
        let error = client.call(ECHO, b"").expect_err("it leaves");
        expect(&error, "peer gone", executed);
        assert!(error.to_string().contains("shutting down"), "{error}");
        expect_ended(&client);
        fake.join();
    }
}

/// A server may ask too; this client serves nothing, says so, and goes on. It skips what needs
/// no answer.
/// PROTOCOL F3, K12
#[test]
fn a_server_that_asks() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| {
        let id = take_request(stream);
        for (kind, id) in [(3, 0), (4, 1), (9, 0x77), (1, 1), (200, 0)] {
            send(stream, &frame(kind, 5, id, 0, b"from the server"));
        }
        send(stream, &frame(REPLY, ECHO, id, 0, b"and the reply"));
        let second = take_request_among(stream);
        send(stream, &frame(REPLY, ECHO, second, 0, b"the second"));
        wait_for_the_end(stream);
    });
    let client = fake.client();
    assert_eq!(client.call(ECHO, b"").expect("call").payload(), b"and the reply");
    assert_eq!(client.call(ECHO, b"").expect("call").payload(), b"the second");
    drop(client);
    fake.join();
}

/// The client's next request, behind its pong and its "no handler".
fn take_request_among(stream: &mut TcpStream) -> u32 {
    let (mut pong, mut refused) = (false, false);
    loop {
        let head = take(stream, 16);
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        take(stream, word(0) as usize);
        match head[4] {
            REPLY => refused = (word(8), word(12) as i32) == (1, ResultCode::NO_HANDLER.code()),
            10 => pong = word(8) == 0x77,
            1 => {
                assert!(pong && refused, "pong: {pong}, refused: {refused}");
                return word(8);
            }
            kind => panic!("a frame of kind {kind}"),
        }
    }
}

/// The errors' other face: what [`std::io::Error`] and [`std::error::Error::source`] show.
#[test]
fn errors_keep_their_kind_and_their_source() {
    let _watchdog = watchdog(60);
    use std::error::Error as _;
    use std::io::{self, ErrorKind};
    let unbound = store().listen(usual(&fresh("tcp"))).expect("listen");
    let error =
        Connect::to(&unbound).expect("an endpoint").access(Access::Anyone).open().expect_err("nobody");
    assert!(error.is_not_listening(), "{error:?}");
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).expect("the system's");
    assert_eq!(source.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(io::Error::from(error).kind(), ErrorKind::ConnectionRefused);
    let error = Client::connect("nonsense").expect_err("no endpoint");
    assert_eq!(io::Error::from(error).kind(), ErrorKind::InvalidInput);
}
