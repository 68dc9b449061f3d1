//! Stopping twice, and with odd time limits.

use std::time::Duration;

use crate::util::{Raw, all_streams, start, store, until, usual, watchdog};

/// A client that says hello and then ignores every goodbye uses up the whole grace period; a
/// second word must not begin it anew.
#[test]
fn a_second_stop_does_not_extend_the_first() {
    let _watchdog = watchdog(30);
    let endpoint = all_streams().remove(0);
    let server = store();
    let counters = server.counters();
    let (running, bound) = start(server, [usual(&endpoint)]);
    let client = Raw::connect(&bound[0]);
    client.shake_hands();
    let remote = running.remote();
    remote.stop_within(Duration::from_millis(400)).expect("stop");
    until("it has stopped", || {
        let _ = remote.stop_within(Duration::from_secs(3600));
        counters.connections() == 0
    });
    running.stop().expect("an orderly end");
}

#[test]
fn an_endless_grace_period_overflows_no_clock() {
    let _watchdog = watchdog(30);
    let endpoint = all_streams().remove(0);
    let (running, bound) = start(store(), [usual(&endpoint)]);
    let client = Raw::connect(&bound[0]);
    client.shake_hands();
    running.remote().stop_within(Duration::MAX).expect("stop");
    assert_eq!(client.receive_frame().kind, 12, "a goodbye");
    drop(client);
    running.stop().expect("an orderly end");
}
