//! How bytes are cut on their way must not matter, and a peer may leave at any point.

use sidewire::{Endpoint, Limits};

use crate::util::{
    Dialect, Raw, Reply, client, frame, hello, in_every_dialect, on_every_stream, store, watchdog,
};

const SET: u16 = 2;
const GET: u16 = 1;
const SET_AND_GET: u16 = 3;
const ECHO: u16 = 4;

/// What the store holds. The server has then read all that was sent before.
fn stored(endpoint: &Endpoint, dialect: Dialect) -> Vec<u8> {
    dialect.client(endpoint).call(GET, b"").expect("the server goes on").into_payload()
}

fn store_value(endpoint: &Endpoint, dialect: Dialect, value: &[u8]) {
    dialect.client(endpoint).call(SET, value).expect("set");
}

/// PROTOCOL A8, S1
#[test]
fn one_byte_at_a_time() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        let raw = Raw::connect(endpoint);
        if dialect == Dialect::V1 {
            hello(1, 1).iter().for_each(|byte| raw.send(&[*byte]));
            assert_eq!(raw.receive(4), hello(1, 1)[..4]);
            let length = u16::from_le_bytes(raw.receive(2).try_into().expect("two bytes"));
            raw.receive(usize::from(length) - 6);
        }
        for id in 1..=3 {
            let request = dialect.request(id, ECHO, b"piece by piece");
            request.iter().for_each(|byte| raw.send(&[*byte]));
            assert_eq!(dialect.receive(&raw), dialect.good(id, ECHO, b"piece by piece"));
        }
    });
}

#[test]
fn header_and_payload_in_delayed_pieces() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        store_value(endpoint, dialect, b"old");
        let raw = dialect.raw(endpoint);
        let request = dialect.request(1, SET, b"new value");
        for piece in [&request[..3], &request[3..14], &request[14..request.len() - 1]] {
            raw.send(piece);
            assert_eq!(stored(endpoint, dialect), b"old", "half a request changes nothing");
        }
        // Its last byte comes together with the beginning of the next one.
        let next = dialect.request(2, GET, b"");
        raw.send(&[&request[request.len() - 1..], &next[..5]].concat());
        assert_eq!(dialect.receive(&raw), dialect.good(1, SET, b""));
        raw.send(&next[5..]);
        assert_eq!(dialect.receive(&raw), dialect.good(2, GET, b"new value"));
    });
}

/// Requests `1..=count`, alternating between echo and set-and-get, and their replies.
fn conversation(dialect: Dialect, count: u32) -> (Vec<u8>, Vec<Reply>) {
    let text = |id: u32| format!("request {id}");
    let mut value = b"start".to_vec();
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for id in 1..=count {
        let payload = text(id).into_bytes();
        let msg_type = if id % 2 == 0 { ECHO } else { SET_AND_GET };
        requests.extend(dialect.request(id, msg_type, &payload));
        let answer = if msg_type == ECHO { payload } else { std::mem::replace(&mut value, payload) };
        replies.push(dialect.good(id, msg_type, &answer));
    }
    (requests, replies)
}

/// PROTOCOL A8, C3, K2, K3
#[test]
fn fifty_requests_in_one_write() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        store_value(endpoint, dialect, b"start");
        let raw = dialect.raw(endpoint);
        let (requests, replies) = conversation(dialect, 50);
        raw.send(&requests);
        for reply in replies {
            assert_eq!(dialect.receive(&raw), reply);
        }
    });
}

/// PROTOCOL H22
#[test]
fn sixty_four_v1_calls_right_behind_the_hello() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            store_value(endpoint, Dialect::V1, b"start");
            let (requests, replies) = conversation(Dialect::V1, 64);
            let raw = Raw::connect(endpoint);
            raw.send(&[hello(1, 1), requests].concat());
            let head = raw.receive(6);
            raw.receive(usize::from(u16::from_le_bytes([head[4], head[5]])) - 6);
            for reply in replies {
                assert_eq!(Dialect::V1.receive(&raw), reply);
            }
        },
    );
}

/// Closing with unread input makes a reset of the end, on TCP and on Unix sockets.
#[test]
fn a_reset_inside_a_frame_harms_nobody() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        store_value(endpoint, dialect, b"untouched");
        let bystander = dialect.client(endpoint);
        let request = dialect.request(2, SET, b"never whole");
        for cut in [1, 7, 13, request.len() - 1] {
            let raw = dialect.raw(endpoint);
            raw.send(&dialect.request(1, ECHO, b"not read"));
            raw.send(&request[..cut]);
            stored(endpoint, dialect);
            drop(raw);
            assert_eq!(stored(endpoint, dialect), b"untouched", "cut after {cut}");
        }
        assert_eq!(bystander.call(GET, b"").expect("the bystander").payload(), b"untouched");
    });
}

/// PROTOCOL C17
#[test]
fn a_peer_that_leaves_inside_a_frame_changes_nothing() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        store_value(endpoint, dialect, b"untouched");
        let request = dialect.request(2, SET, b"never whole");
        for cut in [1, 7, 13, request.len() - 1] {
            let raw = dialect.raw(endpoint);
            assert_eq!(dialect.call(&raw, 1, ECHO, b"read"), dialect.good(1, ECHO, b"read"));
            raw.send(&request[..cut]);
            drop(raw);
            assert_eq!(stored(endpoint, dialect), b"untouched", "cut after {cut}");
        }
    });
}

/// PROTOCOL E2, E3
#[test]
fn after_a_half_close_every_reply_still_comes() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        store_value(endpoint, dialect, b"start");
        let raw = dialect.raw(endpoint);
        if !raw.0.has_half_close() {
            return; // Pipes: v1 says goodbye instead, see below.
        }
        let (requests, replies) = conversation(dialect, 50);
        let cut_off = dialect.request(51, SET, b"never whole");
        raw.send(&requests);
        raw.send(&cut_off[..cut_off.len() - 1]);
        raw.0.shutdown_write().expect("half-close");
        for reply in replies {
            assert_eq!(dialect.receive(&raw), reply);
        }
        raw.expect_end();
        assert_eq!(stored(endpoint, dialect), b"request 49");
    });
}

/// More than the sockets hold on the way: the server has to wait for room after the peer's end.
#[test]
fn after_a_half_close_large_replies_still_come() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen.classic_max(1 << 20),
        |endpoint| {
            for dialect in [Dialect::V1, Dialect::Classic] {
                store_value(endpoint, dialect, &vec![b'x'; 1 << 20]);
                let raw = dialect.raw(endpoint);
                if !raw.0.has_half_close() {
                    return; // Pipes.
                }
                let requests = (1..=20).map(|id| dialect.request(id, GET, b"")).collect::<Vec<_>>();
                raw.send(&requests.concat());
                raw.0.shutdown_write().expect("half-close");
                client(endpoint).call(ECHO, b"").expect("the server has come so far");
                for id in 1..=20 {
                    let reply = dialect.receive(&raw);
                    assert_eq!((reply.rc, reply.payload.len()), (0, 1 << 20), "request {id}");
                }
                raw.expect_end();
            }
        },
    );
}

const GOODBYE: u8 = 12;

/// PROTOCOL G5, E8
#[test]
fn goodbye_is_v1s_half_close() {
    let _watchdog = watchdog(60);
    let last = on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            store_value(endpoint, Dialect::V1, b"start");
            let raw = Dialect::V1.raw(endpoint);
            let (requests, replies) = conversation(Dialect::V1, 50);
            let behind = frame(1, SET, 51, 0, b"behind the goodbye");
            raw.send(&[requests, frame(GOODBYE, 0, 0, 0, b""), behind].concat());
            for reply in replies {
                assert_eq!(Dialect::V1.receive(&raw), reply);
            }
            let goodbye = raw.receive_frame();
            assert_eq!((goodbye.kind, goodbye.rc, goodbye.id), (GOODBYE, 0, 50), "{goodbye:?}");
            // On a pipe the client closes first; elsewhere the server's end follows.
            if raw.0.has_half_close() {
                raw.expect_end();
            }
        },
    );
    assert_eq!(last, b"request 49", "nothing behind a goodbye is executed");
}

#[test]
fn a_goodbye_alone_is_answered() {
    let _watchdog = watchdog(60);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let raw = Dialect::V1.raw(endpoint);
            raw.send(&frame(GOODBYE, 0, 0, 0, b""));
            let goodbye = raw.receive_frame();
            assert_eq!((goodbye.kind, goodbye.rc, goodbye.id), (GOODBYE, 0, 0), "{goodbye:?}");
            drop(raw);
            assert!(client(endpoint).call(ECHO, b"").is_ok());
        },
    );
}
