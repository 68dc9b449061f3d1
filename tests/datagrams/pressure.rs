//! Receivers that do not take what is sent to them, and how much of it waits.

use std::time::{Duration, Instant};

use sidewire::{Endpoint, Limits, Server};

use crate::stage::{Socket, Unconnected, all, all_lossless, echo, largest, listen_echo, messages, next};
use crate::util::{until, usual, watchdog};

/// What the server keeps for one receiver.
const KEPT: u64 = 1_024;
/// What the system keeps for one that is not connected, at most: `net.unix.max_dgram_qlen`, and one.
const IN_THE_KERNEL: std::ops::RangeInclusive<u64> = 1..=513;

/// Sends so many messages, and waits until the server has handled them.
fn flood(endpoint: &Endpoint, hog: &Unconnected, count: u32) {
    (0..count).for_each(|number| hog.send(&number.to_le_bytes()));
    let client = messages(endpoint);
    client.send(b"behind them").expect("send");
    assert_eq!(next(&client), b"behind them");
}

/// Connected or not, one or many, with small answers or large ones: the others go on.
/// PROTOCOL D21
#[test]
fn those_that_never_read_do_not_stop_the_others() {
    let _watchdog = watchdog(120);
    for endpoint in all() {
        for length in [10, 1_000, largest(&endpoint)] {
            let (running, bound) = echo([usual(&endpoint)]);
            let endpoint = &bound[0];
            let hogs: Vec<Socket> = (0..2).map(|_| Socket::connect(endpoint)).collect();
            let client = messages(endpoint);
            for round in 0..20_u8 {
                for hog in &hogs {
                    (0..if length > 1_000 { 5 } else { 150 }).for_each(|_| hog.send(&vec![7; length]));
                }
                client.send([round]).expect("send");
                assert_eq!(next(&client), [round]);
            }
            // Large ones too.
            let large = vec![9; largest(endpoint)];
            client.send(&large).expect("send");
            assert!(next(&client) == large);
            // When they go, they leave nothing behind.
            drop(hogs);
            for round in 0..200_u8 {
                client.send([round]).expect("send");
                assert_eq!(next(&client), [round]);
            }
            running.stop().expect("the server ends well");
        }
    }
}

/// Late readers find what was kept for them, and are served like others from then on.
#[test]
fn those_that_read_late_get_what_was_kept() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let (running, bound) = echo([usual(&endpoint)]);
        let late = messages(&bound[0]);
        // More than the system takes for one at once, less than is kept.
        let message = |number: u32| number.to_le_bytes().repeat(1_000);
        (0..800).for_each(|number| late.send(message(number)).expect("send"));
        // All are answered now, as far as there is room.
        let other = messages(&bound[0]);
        other.send(b"behind them").expect("send");
        assert_eq!(next(&other), b"behind them");
        for number in 0..800 {
            assert!(next(&late) == message(number), "message {number}");
        }
        for number in 0..100 {
            late.send(message(number)).expect("send");
            assert!(next(&late) == message(number), "message {number}");
        }
        running.stop().expect("the server ends well");
    }
}

/// PROTOCOL D20
#[test]
fn a_queue_is_bounded_and_what_it_drops_is_counted() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let mut server = Server::new(0);
        let counters = server.counters();
        let bound = listen_echo(&mut server, usual(&endpoint));
        let running = server.spawn().expect("spawn");
        let hog = Unconnected::new(&bound);
        flood(&bound, &hog, 3_000);
        let in_the_kernel = 3_000 - KEPT - counters.datagrams_dropped();
        assert!(IN_THE_KERNEL.contains(&in_the_kernel), "{in_the_kernel}");
        // What was kept is the beginning, without a gap.
        for number in 0..(KEPT + in_the_kernel) as u32 {
            assert_eq!(hog.receive(), number.to_le_bytes());
        }
        hog.expect_nothing();
        // And it goes on as if nothing had been.
        hog.send(b"again");
        assert_eq!(hog.receive(), b"again");
        running.stop().expect("the server ends well");
    }
}

#[test]
fn what_waits_for_one_that_has_gone_is_dropped_and_counted() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let mut server = Server::new(0);
        let counters = server.counters();
        let bound = listen_echo(&mut server, usual(&endpoint));
        let running = server.spawn().expect("spawn");
        let hog = Unconnected::new(&bound);
        flood(&bound, &hog, 1_000);
        assert_eq!(counters.datagrams_dropped(), 0);
        drop(hog);
        until("they are dropped", || counters.datagrams_dropped() > 0);
        let in_the_kernel = 1_000 - counters.datagrams_dropped();
        assert!(IN_THE_KERNEL.contains(&in_the_kernel), "{in_the_kernel}");
        running.stop().expect("the server ends well");
    }
}

/// Nobody's answers are kept for ever.
/// PROTOCOL D20
#[test]
fn one_that_takes_nothing_is_given_up() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let mut limits = Limits::default();
        limits.listener.connection.write_stall_timeout = Duration::from_secs(1);
        let mut server = Server::builder(0).types(0).limits(limits).build().expect("a server");
        let counters = server.counters();
        let bound = listen_echo(&mut server, usual(&endpoint));
        let running = server.spawn().expect("spawn");
        let hog = Unconnected::new(&bound);
        let since = Instant::now();
        flood(&bound, &hog, 1_000);
        until("they are dropped", || counters.datagrams_dropped() > 0);
        assert!(since.elapsed() >= Duration::from_secs(1));
        // What the system had taken is there, and what comes next.
        for number in 0..1_000 - counters.datagrams_dropped() as u32 {
            assert_eq!(hog.receive(), number.to_le_bytes());
        }
        hog.send(b"again");
        assert_eq!(hog.receive(), b"again");
        running.stop().expect("the server ends well");
    }
}

/// A server that is told to stop sends first what waits, as far as somebody takes it in time.
/// PROTOCOL D22
#[test]
fn a_server_that_stops_sends_what_waits() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let (running, bound) = echo([usual(&endpoint)]);
        let late = Unconnected::new(&bound[0]);
        flood(&bound[0], &late, 1_000);
        running.remote().stop_within(Duration::from_secs(20)).expect("stop");
        (0..1_000_u32).for_each(|number| assert_eq!(late.receive(), number.to_le_bytes()));
        assert_eq!(running.stop().expect("the server ends well"), 1_001);
        assert!(Socket::try_connect(&bound[0]).is_err(), "nobody is there");
    }
}

/// One that nobody takes anything of stops in time, and counts what is lost.
#[test]
fn a_server_that_stops_does_not_wait_for_ever() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let mut server = Server::new(0);
        let counters = server.counters();
        let bound = listen_echo(&mut server, usual(&endpoint));
        let running = server.spawn().expect("spawn");
        let hog = Unconnected::new(&bound);
        flood(&bound, &hog, 1_000);
        let since = Instant::now();
        assert_eq!(running.stop().expect("the server ends well"), 1_001);
        // Not for as long as those that take nothing are given otherwise, which is 30 s.
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
        assert!(IN_THE_KERNEL.contains(&(1_000 - counters.datagrams_dropped())));
    }
}

/// Many at once, none of which reads: the loop still has time for the one that does.
#[test]
fn twenty_that_never_read() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let (running, bound) = echo([usual(&endpoint)]);
        let hogs: Vec<Unconnected> = (0..20).map(|_| Unconnected::new(&bound[0])).collect();
        for hog in &hogs {
            (0..100).for_each(|_| hog.send(b"x"));
        }
        let client = messages(&bound[0]);
        for round in 0..200_u8 {
            client.send([round]).expect("send");
            assert_eq!(next(&client), [round]);
        }
        // Late readers lose nothing.
        for hog in &hogs {
            (0..100).for_each(|_| assert_eq!(hog.receive(), b"x"));
        }
        running.stop().expect("the server ends well");
    }
}
