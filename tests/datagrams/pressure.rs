//! Receivers that do not take what is sent to them, and how much of it waits.

use std::time::{Duration, Instant};

use sidewire::{Limits, Server};

use crate::stage::{Socket, all, all_lossless, echo, listen_echo, messages, next};
use crate::util::{until, usual, watchdog};

/// What the server keeps for one receiver, and the system for us, at least and at most.
const KEPT: u64 = 1_024;
const IN_THE_KERNEL: std::ops::RangeInclusive<u64> = 1..=1_000;

#[test]
fn one_that_never_reads_does_not_stop_the_others() {
    let _watchdog = watchdog(60);
    for endpoint in all() {
        let (running, bound) = echo([usual(&endpoint)]);
        let hog = Socket::connect(&bound[0]);
        let client = messages(&bound[0]);
        for round in 0..30 {
            for _ in 0..100 {
                hog.send(&[7; 100]);
            }
            let since = Instant::now();
            client.send([round]).expect("send");
            assert_eq!(next(&client), [round]);
            assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        }
        drop(hog);
        client.send(b"still there").expect("send");
        assert_eq!(next(&client), b"still there");
        running.stop().expect("the server ends well");
    }
}

#[test]
fn a_queue_is_bounded_and_what_it_drops_is_counted() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let mut server = Server::new(0);
        let counters = server.counters();
        let bound = listen_echo(&mut server, usual(&endpoint));
        let running = server.spawn().expect("spawn");
        let hog = Socket::connect(&bound);
        for number in 0..3_000_u32 {
            hog.send(&number.to_le_bytes());
        }
        let in_the_kernel = || 3_000 - KEPT - counters.datagrams_dropped();
        until("the queue is full", || IN_THE_KERNEL.contains(&in_the_kernel()));
        // What was kept is the beginning, without a gap.
        let kept = KEPT + in_the_kernel();
        for number in 0..kept as u32 {
            assert_eq!(hog.receive(), number.to_le_bytes());
        }
        hog.expect_silence(Duration::from_millis(30));
        // And it goes on as if nothing had been.
        assert_eq!(hog.ask(b"again"), b"again");
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
        let hog = Socket::connect(&bound);
        (0..500).for_each(|_| hog.send(b"x"));
        // Its own socket has room again: all were handled.
        let client = messages(&bound);
        client.send(b"y").expect("send");
        assert_eq!(next(&client), b"y");
        assert_eq!(counters.datagrams_dropped(), 0);
        drop(hog);
        until("they are dropped", || (400..500).contains(&counters.datagrams_dropped()));
        running.stop().expect("the server ends well");
    }
}

/// Nobody's answers are kept for ever.
#[test]
fn one_that_takes_nothing_is_given_up() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let mut limits = Limits::default();
        limits.write_stall_timeout = Duration::from_millis(200);
        let mut server = Server::with_limits(0, 0, limits);
        let counters = server.counters();
        let bound = listen_echo(&mut server, usual(&endpoint));
        let running = server.spawn().expect("spawn");
        let hog = Socket::connect(&bound);
        let since = Instant::now();
        (0..100_u8).for_each(|number| hog.send(&[number]));
        until("they are dropped", || counters.datagrams_dropped() > 0);
        assert!(since.elapsed() >= Duration::from_millis(200));
        let lost = counters.datagrams_dropped() as u8;
        assert!((50..100).contains(&lost), "{lost} lost");
        // What the system had taken is there, and what comes next.
        for number in 0..100 - lost {
            assert_eq!(hog.receive(), [number]);
        }
        assert_eq!(hog.ask(b"again"), b"again");
        running.stop().expect("the server ends well");
    }
}

/// A slow reader is waited for as long as it takes something.
#[test]
fn a_slow_reader_gets_everything() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let mut limits = Limits::default();
        limits.write_stall_timeout = Duration::from_millis(300);
        let mut server = Server::with_limits(0, 0, limits);
        let bound = listen_echo(&mut server, usual(&endpoint));
        let running = server.spawn().expect("spawn");
        let slow = Socket::connect(&bound);
        (0..60_u8).for_each(|number| slow.send(&[number]));
        for number in 0..60_u8 {
            std::thread::sleep(Duration::from_millis(15));
            assert_eq!(slow.receive(), [number]);
        }
        running.stop().expect("the server ends well");
    }
}

/// A server that is told to stop sends first what waits, as far as somebody takes it in time.
#[test]
fn a_server_that_stops_sends_what_waits() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let (running, bound) = echo([usual(&endpoint)]);
        let client = messages(&bound[0]);
        (0..200_u8).for_each(|number| client.send([number]).expect("send"));
        // All have come in by the time that another one is answered.
        let other = messages(&bound[0]);
        other.send(b"x").expect("send");
        assert_eq!(next(&other), b"x");
        let remote = running.remote();
        remote.stop_within(Duration::from_secs(20)).expect("stop");
        (0..200_u8).for_each(|number| assert_eq!(next(&client), [number]));
        assert_eq!(running.stop().expect("the server ends well"), 201);
        assert!(client.send(b"y").is_err(), "nobody is there");
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
        let hog = Socket::connect(&bound);
        (0..200).for_each(|_| hog.send(b"x"));
        let client = messages(&bound);
        client.send(b"y").expect("send");
        next(&client);
        let since = Instant::now();
        assert_eq!(running.stop().expect("the server ends well"), 201);
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        assert!((100..200).contains(&counters.datagrams_dropped()));
    }
}

/// Many at once, none of which reads: the loop still has time for the one that does.
#[test]
fn a_hundred_that_never_read() {
    let _watchdog = watchdog(60);
    for endpoint in all_lossless() {
        let (running, bound) = echo([usual(&endpoint)]);
        let hogs: Vec<Socket> = (0..100).map(|_| Socket::connect(&bound[0])).collect();
        for hog in &hogs {
            (0..30).for_each(|_| hog.send(b"x"));
        }
        let client = messages(&bound[0]);
        let since = Instant::now();
        for round in 0..200_u8 {
            client.send([round]).expect("send");
            assert_eq!(next(&client), [round]);
        }
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        // Late readers lose nothing.
        for hog in &hogs {
            (0..30).for_each(|_| assert_eq!(hog.receive(), b"x"));
        }
        running.stop().expect("the server ends well");
    }
}
