//! Datagrams that are not what they should be, and what the server says to them.

use std::time::Duration;

use sidewire::Server;

use crate::stage::{Socket, all, all_lossless, answer, client, v1, v1_call, with_store};
use crate::util::{Dialect, classic, start, store, usual, watchdog};

/// PROTOCOL D11, D12, D13, D14, D15
#[test]
fn what_is_wrong_with_a_request_is_answered() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), all().iter().map(usual));
    let mut other_version = v1_call(1, 7, b"");
    other_version[4] = 2;
    let mut prefix = v1_call(1, 7, b"");
    prefix[7] = 1;
    let call = |flags, rc, payload: &[u8]| v1(1, flags, 1, 7, rc, payload);
    for endpoint in &bound {
        let socket = Socket::connect(endpoint);
        for (bytes, rc, text) in [
            (v1_call(9, 7, b""), -2, "no handler"),
            (v1_call(16, 7, b""), -1, "beyond the dispatch table"),
            (call(0, -1, b""), -4, "the timeout is negative"),
            (call(8, 0, b""), -4, "reserved flag bits"),
            (call(4, 0, b""), -4, "flag TEXT"),
            (call(1, 0, b""), -2, "in parts"),
            (call(2, 0, b""), -4, "extension block"),
            (call(2, 0, &[4, 0, 9, 0x80, 0, 0]), -12, "0x8009"),
            (v1(5, 0, 1, 7, 0, b""), -2, "no events"),
            (v1(6, 0, 1, 7, 0, b""), -2, "no events"),
            (v1_call(4, 7, b"payload")[..28].to_vec(), -4, "as long as"),
            ([&v1_call(4, 7, b"payload")[..], b"!"].concat(), -4, "as long as"),
            (prefix.clone(), -4, "prefix"),
            (other_version.clone(), -11, "2 to 2"),
        ] {
            let answer = answer(&socket.ask(&bytes));
            let explanation = String::from_utf8_lossy(&answer.payload);
            assert_eq!((answer.id, answer.rc, answer.flags), (7, rc, 4), "{bytes:x?}: {explanation}");
            assert!(explanation.contains(text), "{explanation}");
        }
        for (bytes, msg_type, rc) in [
            (classic(9, 0, b""), 9, -2),
            (classic(16, 0, b""), 16, -1),
            (classic(-5, 0, b""), -5, -1),
            (classic(i32::MIN, 0, b""), i32::MIN, -1),
            (classic(4, 0, &[0; 1025]), 4, -3),
            ([4, 0, i32::MAX].map(i32::to_ne_bytes).concat(), 4, -3),
            ([4, 0, -1].map(i32::to_ne_bytes).concat(), 4, -4),
            (classic(4, 0, b"payload")[..15].to_vec(), 4, -4),
            (classic(4, 0, b"")[..11].to_vec(), 4, -4),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), i32::from_ne_bytes(*b"GET "), -3),
        ] {
            let answer = answer(&socket.ask(&bytes));
            assert_eq!((answer.msg_type, answer.rc, answer.payload.len()), (msg_type, rc, 0), "{bytes:x?}");
        }
        let answer = answer(&socket.ask(&v1_call(4, 8, b"still there")));
        assert_eq!((answer.id, answer.rc), (8, 0));
    }
    running.stop().expect("the server ends well");
}

/// PROTOCOL D6, D11, D12, D17
#[test]
fn what_is_nobodys_request_is_dropped() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), all().iter().map(usual));
    for endpoint in &bound {
        let socket = Socket::connect(endpoint);
        let mut silent = vec![
            b"".to_vec(),
            b"abc".to_vec(),
            vec![0xD1, 0x53, 0x57, 0xD1],
            v1_call(4, 1, b"")[..23].to_vec(),
            v1_call(4, 0, b"id 0"),
            // Replies and refusals are never answered.
            v1(2, 0, 4, 1, 0, b"a reply"),
            v1(10, 0, 0, 1, 0, b""),
            v1(2, 0x80, 4, 1, 0, b""),
            [4, -5, -1].map(i32::to_ne_bytes).concat(),
            classic(4, -3, &[0; 2000]),
            v1(3, 1, 2, 0, 0, b"a notify in parts"),
            v1(3, 2, 2, 0, 0, &[4, 0, 9, 0x80, 0, 0]),
            v1(13, 0, 1, 1, 0, b""),
            v1(0, 0, 1, 1, 0, b""),
        ];
        silent.extend([4, 7, 8, 11, 12, 0x80, 0xFF].map(|kind| v1(kind, 0, 1, 1, 0, b"")));
        for bytes in &silent {
            socket.send(bytes);
        }
        let answer = answer(&socket.ask(&v1_call(1, 8, b"")));
        assert_eq!(answer.payload, b"hello, this is server!", "something was executed");
    }
    running.stop().expect("the server ends well");
}

#[test]
fn random_bytes_hurt_nobody() {
    let _watchdog = watchdog(60);
    with_store(|dialect, endpoint| {
        let socket = Socket::connect(endpoint);
        let mut state = 0x9E37_79B9_u32;
        for _ in 0..300 {
            let mut byte = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let mut bytes: Vec<u8> = (0..byte() / 2).map(|_| byte()).collect();
            if byte() & 1 == 0 {
                bytes.splice(0..0, [0xD1, 0x53, 0x57, 0xD1, 1, 0, 0, 0]);
            }
            socket.send(&bytes);
            // A Unix sender that never read would only fill its own queue.
            while socket.0.receive(&mut [0; 2048], Some(Duration::ZERO)).is_ok() {}
        }
        assert_eq!(client(dialect, endpoint).call(4, b"x").expect("echo").payload(), b"x");
    });
}

/// UDP has no datagrams that large.
/// PROTOCOL D15
#[test]
fn what_the_system_cuts_off_is_too_large() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let (running, bound) = start(store(), [usual(&endpoint).classic_max(1 << 20)]);
        let socket = Socket::connect(&bound[0]);
        let payload = vec![7; 300_000];
        let request = v1_call(2, 7, &payload);
        if let Err(error) = socket.try_send(&request) {
            println!("this system sends no datagram of {} bytes ({error})", request.len());
            continue;
        }
        let first = answer(&socket.receive());
        assert_eq!((first.id, first.rc), (7, -3));
        assert!(String::from_utf8_lossy(&first.payload).contains("262144"), "{first:?}");
        let second = answer(&socket.ask(&classic(2, 0, &payload)));
        assert_eq!((second.msg_type, second.rc), (2, -3));
        // The whole of it counts, even if the payload itself was there.
        let mut whole = classic(2, 0, b"tea");
        whole.resize(300_000, 0);
        assert_eq!(answer(&socket.ask(&whole)).rc, -3);
        let last = answer(&socket.ask(&v1_call(1, 8, b"")));
        assert_eq!(last.payload, b"hello, this is server!");
        running.stop().expect("the server ends well");
    }
}

/// PROTOCOL D16, D17
#[test]
fn listeners_without_classic_refuse_it() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), all().iter().map(|endpoint| usual(endpoint).without_classic()));
    for endpoint in &bound {
        let socket = Socket::connect(endpoint);
        let refusal = answer(&socket.ask(&classic(4, 0, b"x")));
        assert_eq!((refusal.msg_type, refusal.rc), (4, -5));
        // Two such servers must not refuse each other's refusals for ever.
        socket.send(&classic(4, -5, b""));
        assert_eq!(answer(&socket.ask(&v1_call(4, 1, b"x"))).rc, 0);
        let error = client(Dialect::Classic, endpoint).call(4, b"x").expect_err("no classic");
        assert!(error.is_refused(), "{error}");
    }
    running.stop().expect("the server ends well");
}

#[test]
fn handlers_that_fail_or_panic() {
    let _watchdog = watchdog(60);
    for dialect in Dialect::ALL {
        for endpoint in all() {
            let mut server = Server::new(());
            server.on(1, |(), _, reply| {
                reply.write(b"never sent");
                panic!("a handler that panics on purpose");
            });
            server.on(2, |(), _, reply| {
                reply.write(b"never sent");
                Err(sidewire::ResultCode::new(7).into())
            });
            server.on(3, |(), _, reply| {
                reply.write(b"with a code");
                reply.set_result(9);
                Ok(())
            });
            let counters = server.counters();
            let (running, bound) = start(server, [dialect.listen(usual(&endpoint))]);
            let client = client(dialect, &bound[0]);
            for (msg_type, rc, payload) in
                [(1, -10, None), (2, 7, Some(&b""[..])), (3, 9, Some(b"with a code"))]
            {
                let reply =
                    client.request(msg_type).timeout(crate::util::PATIENCE).exchange(b"").expect("a reply");
                assert_eq!(reply.result_code().code(), rc);
                match payload {
                    Some(payload) => assert_eq!(reply.payload(), payload),
                    None => assert!(!reply.payload().starts_with(b"never")),
                }
            }
            assert_eq!((counters.requests(), counters.failed()), (3, 3));
            running.stop().expect("the server ends well");
        }
    }
}
