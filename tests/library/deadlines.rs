//! Time limits of the server, each set short, with a bystander who notices nothing.

use std::thread::sleep;
use std::time::{Duration, Instant};

use sidewire::{Counters, Endpoint, Limits, ResultCode};

use crate::util::{Dialect, Raw, client, everywhere_with, frame, hello, store_with, until, watchdog};

const GET: u16 = 1;
const SET: u16 = 2;
const ECHO: u16 = 4;
const GOODBYE: u8 = 12;

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

/// The end comes when the limit has passed, and neither before nor long after.
fn expect_end_after(begun: Instant, raw: &Raw) {
    raw.expect_end();
    let took = begun.elapsed();
    assert!(took >= SHORT && took < SHORT + Duration::from_secs(2), "after {took:?} instead of {SHORT:?}");
}

/// v1 peers are told that the time was up.
fn expect_told(dialect: Dialect, raw: &Raw) {
    if dialect == Dialect::V1 {
        let goodbye = raw.receive_frame();
        assert_eq!((goodbye.kind, goodbye.rc), (GOODBYE, ResultCode::TIMED_OUT.code()), "{goodbye:?}");
    }
}

/// Sends byte after byte, for four times the limit, until the server has closed: bytes that trickle
/// in buy no time.
fn expect_end_of_trickle(raw: &Raw, bytes: &[u8], counters: &Counters) {
    assert!(bytes.len() >= 40, "more than it may take");
    let begun = Instant::now();
    let mut pieces = bytes[..40].chunks(1);
    while counters.connections() > 0 {
        let piece = pieces.next().expect("an end before all of it is sent");
        let _ = raw.try_send(piece); // It may just have closed.
        sleep(SHORT / 10);
    }
    assert!(begun.elapsed() >= SHORT, "after {:?} instead of {SHORT:?}", begun.elapsed());
}

/// PROTOCOL C16, X9, L11
#[test]
fn a_frame_that_stays_unfinished() {
    let _watchdog = watchdog(60);
    let limits = limits(|limits| limits.listener.connection.partial_frame_timeout = SHORT);
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, counters| {
            dialect.client(endpoint).call(SET, b"as before").expect("set");
            until("it has left", || counters.connections() == 0);
            let raw = dialect.raw(endpoint);
            // The clock of a frame is not that of the hello, which a classic peer's first frame has.
            assert_eq!(dialect.call(&raw, 1, ECHO, b""), dialect.good(1, ECHO, b""));
            expect_end_of_trickle(&raw, &dialect.request(2, SET, &[b'x'; 50]), counters);
            if raw.0.has_half_close() {
                expect_told(dialect, &raw); // A pipe that is closed loses what was not read.
            }
            assert_eq!(dialect.client(endpoint).call(GET, b"").expect("get").payload(), b"as before");
        },
    );
}

/// A frame's clock starts with its first byte: a slow stream of whole frames is fine.
#[test]
fn frames_that_come_slowly_but_whole() {
    let _watchdog = watchdog(60);
    // Longer than a busy machine keeps a thread waiting, and less than the frames take together.
    let limits = limits(|limits| limits.listener.connection.partial_frame_timeout = 2 * SHORT);
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, _| {
            let raw = dialect.raw(endpoint);
            let request = |id| dialect.request(id, ECHO, b"slow");
            raw.send(&request(1)[..5]);
            for id in 1..7 {
                sleep(SHORT / 2);
                raw.send(&[&request(id)[5..], &request(id + 1)[..5]].concat());
                assert_eq!(dialect.receive(&raw), dialect.good(id, ECHO, b"slow"));
            }
        },
    );
}

/// PROTOCOL C15, H16, H18, L10
#[test]
fn a_hello_that_stays_unfinished() {
    let _watchdog = watchdog(60);
    let limits = limits(|limits| limits.listener.connection.hello_timeout = SHORT);
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, counters| {
            let raw = Raw::connect(endpoint);
            until("it is let in", || counters.connections() == 1);
            let first =
                if dialect == Dialect::V1 { hello(1, 1) } else { dialect.request(1, ECHO, &[b'x'; 50]) };
            // Before the first byte there is no hurry.
            sleep(SHORT * 2);
            expect_end_of_trickle(&raw, &first, counters);
        },
    );
}

/// By default nobody has to speak, before the hello or behind it.
/// PROTOCOL H18
#[test]
fn silence_is_no_offence() {
    let _watchdog = watchdog(60);
    let limits = limits(|limits| {
        limits.listener.connection.hello_timeout = SHORT;
        limits.listener.connection.partial_frame_timeout = SHORT;
        limits.listener.connection.write_stall_timeout = SHORT;
    });
    assert_eq!(limits.listener.connection.idle_timeout, None);
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, _| {
            let (silent, served) = (Raw::connect(endpoint), dialect.client(endpoint));
            assert!(served.call(ECHO, b"x").is_ok());
            sleep(SHORT * 2);
            if dialect == Dialect::V1 {
                silent.shake_hands();
            }
            assert_eq!(dialect.call(&silent, 1, ECHO, b"at last"), dialect.good(1, ECHO, b"at last"));
            assert!(served.call(ECHO, b"x").is_ok());
        },
    );
}

/// PROTOCOL X10, L13
#[test]
fn who_is_idle_is_told_and_closed() {
    let _watchdog = watchdog(60);
    let limits = limits(|limits| limits.listener.connection.idle_timeout = Some(SHORT));
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, _| {
            let begun = Instant::now();
            let (silent, busy) = (Raw::connect(endpoint), dialect.raw(endpoint));
            let mut last = begun;
            for id in 1..=6 {
                last = Instant::now();
                assert_eq!(dialect.call(&busy, id, ECHO, b"busy"), dialect.good(id, ECHO, b"busy"));
                sleep(SHORT / 3);
            }
            // Six times a third of the limit have passed.
            expect_end_after(begun, &silent);
            expect_told(dialect, &busy);
            expect_end_after(last, &busy);
        },
    );
}

/// A frame of which something comes again and again is not idle, whatever buffer it goes to.
#[test]
fn a_large_frame_that_comes_slowly_is_not_idle() {
    let _watchdog = watchdog(60);
    let limits = limits(|limits| limits.listener.connection.idle_timeout = Some(SHORT));
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, _| {
            if dialect != Dialect::V1 {
                return; // Classic frames are not that large.
            }
            let raw = dialect.raw(endpoint);
            let payload = vec![b'l'; 1 << 20];
            for piece in frame(1, ECHO, 1, 0, &payload).chunks(1 << 17) {
                raw.send(piece);
                sleep(SHORT / 3);
            }
            assert!(dialect.receive(&raw) == dialect.good(1, ECHO, &payload));
        },
    );
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
            let stalled = Instant::now();
            until("it is closed", || counters.connections() == 0);
            assert!(begun.elapsed() >= SHORT, "after {:?} instead of {SHORT:?}", begun.elapsed());
            assert!(stalled.elapsed() < SHORT + Duration::from_secs(2), "{:?}", stalled.elapsed());
            assert!(client(endpoint).call(ECHO, b"x").is_ok());
        },
    );
}

/// Every piece that is read buys time: a slow reader is no dead one.
#[test]
fn who_reads_slowly_gets_everything() {
    let _watchdog = watchdog(60);
    let limits = limits(|limits| limits.listener.connection.write_stall_timeout = SHORT * 2);
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, _| {
            if dialect != Dialect::V1 {
                return; // Classic replies are not that large.
            }
            let payload = vec![b's'; 4 << 20];
            client(endpoint).call(SET, &payload).expect("set");
            let raw = dialect.raw(endpoint);
            raw.send(&frame(1, GET, 1, 0, b""));
            raw.receive(16);
            for _ in 0..8 {
                sleep(SHORT / 2);
                assert!(raw.receive(payload.len() / 8).iter().all(|byte| *byte == b's'));
            }
        },
    );
}

/// Idle, stalled, and with something fatal behind: the loop must not spin on a limit that has
/// passed and can't be acted on.
#[test]
fn several_limits_at_once_do_not_stop_the_server() {
    let _watchdog = watchdog(60);
    let limits = limits(|limits| {
        limits.listener.connection.idle_timeout = Some(SHORT * 2);
        limits.listener.connection.write_stall_timeout = SHORT * 3;
    });
    everywhere_with(
        || store_with(limits.clone()),
        |dialect, endpoint, counters| {
            let raws = [(); 3].map(|()| dialect.raw(endpoint));
            raws.iter().for_each(|raw| stall(raw, dialect, endpoint));
            let [_idle, broken, leaving] = &raws;
            // They may be closed by now; classic ones are.
            let _ = broken.try_send(&frame(99, 0, 0, 0, b""));
            let _ = leaving.try_send(&frame(GOODBYE, 0, 0, 0, b""));
            for _ in 0..8 {
                assert!(client(endpoint).call(ECHO, b"x").is_ok());
                sleep(SHORT / 2);
            }
            until("all are closed", || counters.connections() == 0);
        },
    );
}
