//! Servers that are stopped, as by a debugger or `docker pause`, for longer than their limits.

use std::thread::sleep;
use std::time::Duration;

use crate::stage::{Stage, freeze, signal};
use crate::util::{Raw, classic, hello, watchdog};

/// Longer than a hello may take (5 s).
const FROZEN: Duration = Duration::from_secs(6);

#[test]
fn what_came_while_a_server_was_stopped_counts() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    let request = classic(4, 0, b"in time");
    let peers = server.endpoints.iter().flat_map(|endpoint| {
        [request.clone(), hello(1, 1)].map(|first| {
            let raw = Raw::connect(&stage.seen_from_here(endpoint));
            raw.send(&first[..5]);
            (raw, first)
        })
    });
    let peers = peers.collect::<Vec<_>>();
    for endpoint in &server.endpoints {
        stage.client(endpoint).call(4, b"all is read").expect("call");
    }
    freeze(server.child.id());
    peers.iter().for_each(|(raw, first)| raw.send(&first[5..]));
    sleep(FROZEN);
    signal("CONT", server.child.id());
    for (raw, first) in &peers {
        if *first == request {
            assert_eq!(raw.receive_classic(), (4, 0, b"in time".to_vec()));
        } else {
            assert_eq!(raw.receive(72)[..4], first[..4]);
        }
    }
}
