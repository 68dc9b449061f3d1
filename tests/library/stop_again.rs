//! Stopping twice, and with odd time limits.

use std::time::{Duration, Instant};

use crate::util::{Raw, all_streams, start, store, usual, watchdog};

/// A client that says hello and then ignores every goodbye uses up the whole grace period; a
/// second word must not begin it anew.
#[test]
fn a_second_stop_does_not_extend_the_first() {
    let _watchdog = watchdog(30);
    let endpoint = all_streams().remove(0);
    let (running, bound) = start(store(), [usual(&endpoint)]);
    let client = Raw::connect(&bound[0]);
    client.shake_hands();
    let remote = running.remote();
    let since = Instant::now();
    remote.stop_within(Duration::from_millis(400)).expect("stop");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(200));
        let _ = remote.stop_within(Duration::from_secs(20));
    }
    running.stop().expect("an orderly end");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

#[test]
fn an_endless_grace_period_overflows_no_clock() {
    let _watchdog = watchdog(30);
    let endpoint = all_streams().remove(0);
    let (running, bound) = start(store(), [usual(&endpoint)]);
    let client = Raw::connect(&bound[0]);
    client.shake_hands();
    running.remote().stop_within(Duration::MAX).expect("stop");
    std::thread::sleep(Duration::from_millis(100));
    drop(client);
    running.stop().expect("an orderly end");
}
