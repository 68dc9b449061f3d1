//! Listeners for anyone: nobody holds their places by saying nothing, nor all of them at once.

use std::time::Duration;

use sidewire::{Access, Endpoint, Limits, Listen, ResultCode};

use crate::util::{Raw, all_streams, connect, fresh, hello, start, store_with, until, watchdog};

fn for_anyone(endpoint: &Endpoint) -> Listen {
    Listen::from(endpoint).access(Access::Anyone)
}

/// What a fresh connection is told: the status of the hello.
fn status(endpoint: &Endpoint) -> (Raw, i32) {
    let raw = Raw::connect(endpoint);
    let answer = raw.shake_hands();
    (raw, i32::from_le_bytes(answer[48..52].try_into().expect("four bytes")))
}

/// PROTOCOL L9
#[test]
fn silent_connections_do_not_keep_their_places() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut limits = Limits::default();
        limits.listener.max_connections = 4;
        limits.listener.first_byte_timeout = Some(Duration::from_millis(200));
        let (running, bound) = start(store_with(limits), [for_anyone(&endpoint)]);
        let silent: Vec<Raw> = (0..4).map(|_| Raw::connect(&bound[0])).collect();
        silent.iter().for_each(Raw::expect_end);
        drop(silent);
        until("there is room again", || connect(&bound[0]).open().is_ok());
        running.stop().expect("an orderly end");
    }
}

/// Where nobody says who it is, one address is one peer; our own user is not counted.
/// PROTOCOL L2
#[test]
fn one_peer_does_not_get_all_places() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams().into_iter().chain([fresh("tcp")]) {
        let mut limits = Limits::default();
        limits.listener.max_connections = 8;
        let (running, bound) = start(store_with(limits), [for_anyone(&endpoint)]);
        let peers: Vec<(Raw, i32)> = (0..8).map(|_| status(&bound[0])).collect();
        let let_in = peers.iter().filter(|(_, status)| *status == 0).count();
        let share = if endpoint.has_credentials() { 8 } else { 6 };
        assert_eq!(let_in, share, "{endpoint}");
        assert!(peers.iter().all(|(_, status)| [0, ResultCode::BUSY.code()].contains(status)));
        drop(peers);
        until("its places are free again", || connect(&bound[0]).open().is_ok());
        // A hello in pieces is one that has begun.
        let slow = Raw::connect(&bound[0]);
        slow.send(&hello(1, 1)[..5]);
        drop(slow);
        running.stop().expect("an orderly end");
    }
}
