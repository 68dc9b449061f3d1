//! The time limit that needs a system's own buffers to be seen. The others are tested in memory and virtual
//! time, in `src/reactor/tests/deadlines.rs`.

use std::time::{Duration, Instant};

use sidewire::{Endpoint, Limits};

use crate::util::{Dialect, Raw, client, everywhere_with, store_with, until, watchdog};

const ECHO: u16 = 4;

/// A limit that is to pass, and one that a test would not live to see.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(300);

/// All limits long but for what `change` makes short.
fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    limits.listener.connection.hello_timeout = LONG;
    limits.listener.connection.partial_frame_timeout = LONG;
    limits.listener.connection.write_stall_timeout = LONG;
    limits.listener.connection.linger = Duration::from_millis(100);
    change(&mut limits);
    limits
}

/// Asks for more than the system holds on the way, and reads none of it. A v1 peer is read from all
/// the same; a classic one gets rid of its last requests only when it is closed.
fn stall(raw: &Raw, dialect: Dialect, endpoint: &Endpoint) {
    let payload = vec![b's'; if dialect == Dialect::V1 { 100_000 } else { 500 }];
    // TCP's buffers grow as they are used (tcp(7)).
    let total = if endpoint.scheme() == "tcp" { 16 << 20 } else { 2 << 20 };
    let count = total / payload.len() as u32;
    // Many at a time: it is not about the sending.
    for first in (1..=count).step_by(20) {
        let last = count.min(first + 19);
        let requests = (first..=last).flat_map(|id| dialect.request(id, ECHO, &payload));
        if raw.try_send(&requests.collect::<Vec<_>>()).is_err() {
            return; // It is closed.
        }
    }
}

/// PROTOCOL X14, L12
#[test]
fn who_reads_nothing_is_closed() {
    let _watchdog = watchdog(60);
    let limits = limits(|limits| limits.listener.connection.write_stall_timeout = SHORT);
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, counters| {
            let (raw, begun) = (dialect.raw(endpoint), Instant::now());
            stall(&raw, dialect, endpoint);
            until("it is closed", || counters.connections() == 0);
            assert!(begun.elapsed() >= SHORT, "after {:?} instead of {SHORT:?}", begun.elapsed());
            assert!(client(endpoint).call(ECHO, b"x").is_ok());
        },
    );
}
