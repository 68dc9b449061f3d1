//! Get, set, set-and-get and echo: by clients and by raw peers, in every dialect.

use sidewire::{Client, Layout, Limits};

use crate::util::{Dialect, FIXED, client, in_every_dialect, on_every_stream, store, watchdog};

const GET: u16 = 1;
const SET: u16 = 2;
const SET_AND_GET: u16 = 3;
const ECHO: u16 = 4;

fn call(client: &Client, msg_type: u16, payload: &[u8]) -> Vec<u8> {
    client.call(msg_type, payload).expect("call").into_payload()
}

#[test]
fn clients_get_and_set() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        let client = dialect.client(endpoint);
        let layout = if dialect == Dialect::V1 { Layout::V1 } else { Layout::Classic };
        assert_eq!(client.layout(), layout);
        assert_eq!(client.endpoint(), endpoint);
        assert_eq!(call(&client, SET, b"good day"), b"");
        assert_eq!(call(&client, GET, b""), b"good day");
        assert_eq!(call(&client, SET_AND_GET, b"good night"), b"good day");
        assert_eq!(call(&client, GET, b"not looked at"), b"good night");
        assert_eq!(call(&client, SET, b""), b"");
        assert_eq!(call(&client, GET, b""), b"");
        let other = dialect.client(endpoint);
        assert_eq!(call(&other, SET, b"seen by all"), b"");
        assert_eq!(call(&client, GET, b""), b"seen by all");
    });
}

#[test]
fn raw_peers_get_and_set() {
    let _watchdog = watchdog(60);
    in_every_dialect(&Limits::default(), |dialect, endpoint| {
        let raw = dialect.raw(endpoint);
        let steps: [(u16, &[u8], &[u8]); 5] = [
            (SET, b"good day", b""),
            (GET, b"", b"good day"),
            (SET_AND_GET, b"good night", b"good day"),
            (GET, b"", b"good night"),
            (ECHO, b"\0\xff and so on", b"\0\xff and so on"),
        ];
        for (id, (msg_type, payload, answer)) in (1..).zip(steps) {
            let reply = dialect.call(&raw, id, msg_type, payload);
            assert_eq!(reply, dialect.good(id, msg_type, answer));
        }
    });
}

#[test]
fn what_one_dialect_sets_the_other_gets() {
    let _watchdog = watchdog(60);
    let last = on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let (v1, classic) = (client(endpoint), Dialect::Classic.client(endpoint));
            assert_eq!(call(&v1, SET, b"from v1"), b"");
            assert_eq!(call(&classic, SET_AND_GET, b"from classic"), b"from v1");
            assert_eq!(call(&v1, GET, b""), b"from classic");
        },
    );
    assert_eq!(last, b"from classic");
}

#[test]
fn the_first_value_is_the_servers_own() {
    let _watchdog = watchdog(60);
    let get = |dialect: Dialect| {
        on_every_stream(
            store(),
            |listen| dialect.listen(listen),
            |endpoint| assert_eq!(call(&dialect.client(endpoint), GET, b""), b"hello, this is server!"),
        )
    };
    for dialect in Dialect::ALL {
        assert_eq!(get(dialect), b"hello, this is server!");
    }
}

/// Around every size at which something changes: headers, the buffers of client and server, what
/// goes straight into a frame's own memory.
#[test]
fn payloads_of_all_sizes_come_back() {
    let _watchdog = watchdog(60);
    let limits = Limits::default();
    let sizes = [0, 1, 11, 12, 15, 16, 17, 4095, 4096, 65519, 65520, 65536, 65537, 131_072, 200_000]
        .into_iter()
        .chain([
            262_128,
            262_144,
            262_145,
            400_000,
            1 << 20,
            limits.listener.connection.max_payload as usize,
        ]);
    let payload = pattern(limits.listener.connection.max_payload as usize);
    on_every_stream(
        store(),
        |listen| listen,
        |endpoint| {
            let client = client(endpoint);
            for size in sizes.clone() {
                let back = call(&client, ECHO, &payload[..size]);
                assert!(back == payload[..size], "{size} bytes come back as {} others", back.len());
            }
        },
    );
}

#[test]
fn classic_payloads_up_to_the_limit_come_back() {
    let _watchdog = watchdog(60);
    let payload = pattern(70_000);
    on_every_stream(
        store(),
        |listen| listen.classic_max(70_000),
        |endpoint| {
            let client = Dialect::Classic.client(endpoint);
            for size in [0, 1, 1023, 1024, 4096, 65_524, 65_536, 69_999, 70_000] {
                assert!(call(&client, ECHO, &payload[..size]) == payload[..size], "{size} bytes");
            }
        },
    );
    on_every_stream(
        store(),
        |listen| Dialect::Fixed.listen(listen),
        |endpoint| {
            let client = Dialect::Fixed.client(endpoint);
            for size in [0, 1, FIXED as usize - 1, FIXED as usize] {
                assert_eq!(call(&client, ECHO, &payload[..size]), payload[..size]);
            }
        },
    );
}

/// Bytes that do not repeat in step with any buffer.
fn pattern(size: usize) -> Vec<u8> {
    (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
