//! Nobody keeps the loop from the others.

use super::*;
use crate::limits::{KEEP_LARGE, READ_BUFFER, TURN_TIME};

#[test]
fn a_turn_handles_so_many_frames_of_one_peer() {
    let mut stage = Stage::new(|limits| limits.turn_frames = 10);
    let (caller, other) = (stage.accepted(), stage.accepted());
    caller.send(&request(1, b"hello").repeat(25));
    other.send(&request(1, b"me"));
    stage.turn();
    assert_eq!(stage.service.requests, 11);
    assert_eq!(other.receive(), reply(1, ResultCode::OK, b"me"));
    for seen in [21, 26, 26] {
        stage.turn();
        assert_eq!(stage.service.requests, seen);
    }
    assert_eq!(caller.receive(), reply(1, ResultCode::OK, b"hello").repeat(25));
}

#[test]
fn a_turn_reads_so_many_bytes_of_one_peer() {
    let mut stage =
        Stage::with(|limits| limits.turn_bytes = 2 * READ_BUFFER, Access::SameUser, Carries::Plain(Cut::Raw));
    let (caller, other) = (stage.accepted(), stage.accepted());
    caller.send(&vec![b'x'; 7 * READ_BUFFER]);
    other.send(b"me");
    for turns in 1..4 {
        stage.turn();
        assert_eq!(caller.unread(), (7 - 2 * turns) * READ_BUFFER);
        assert_eq!(other.unread(), 0);
    }
    stage.turn();
    assert_eq!((caller.unread(), stage.service.data), (0, 7 * READ_BUFFER + 2));
}

/// Also in one turn so much is written and no more.
#[test]
fn a_turn_writes_so_many_bytes_to_one_peer() {
    let mut stage = Stage::new(|limits| limits.turn_bytes = 1000);
    let caller = stage.accepted();
    caller.takes_at_a_time(100);
    caller.send(&request(1, &[b'x'; 988]).repeat(3));
    stage.turn();
    assert_eq!((stage.service.requests, caller.receive().len()), (3, 1000));
    stage.run(ms(1));
    assert_eq!(caller.receive().len(), 2000);
}

/// Of 4,000 pipelined calls of 1 ms each another caller waits for a few.
#[test]
fn slow_calls_of_one_delay_another_by_milliseconds() {
    let mut stage = Stage::new(|_| {});
    stage.service.takes = ms(1);
    let (caller, other) = (stage.accepted(), stage.accepted());
    caller.send(&request(1, b"").repeat(4000));
    stage.turn();
    let begun = stage.world.now();
    other.send(&request(2, b"me"));
    while other.receive().is_empty() {
        stage.turn();
    }
    let waited = stage.world.now() - begun;
    assert!(waited <= 2 * TURN_TIME, "{waited:?}");
}

#[test]
fn a_burst_of_callers_does_not_hold_up_a_request() {
    let mut stage = Stage::new(|_| {});
    stage.listen(Access::SameUser, Carries::Frames);
    let other = stage.accepted();
    let crowd: Vec<Caller> = (0..600).map(|_| stage.world.connect_as(0, WE)).collect();
    other.send(&request(1, b"me"));
    for left in [600 - 256, 600 - 512, 0] {
        stage.turn();
        assert_eq!(stage.world.waiting(0), left);
    }
    assert_eq!(other.receive(), reply(1, ResultCode::OK, b"me"));
    assert_eq!(stage.counters.connections(), 601);
    drop(crowd);
}

/// Whoever turns the loop from outside is told that it is not done, and when it is due.
#[test]
fn what_a_turn_leaves_is_due_at_once() {
    let mut stage = Stage::new(|limits| {
        limits.turn_frames = 10;
        limits.listener.connection.idle_timeout = Some(ms(500));
    });
    let caller = stage.accepted();
    caller.send(&request(1, b"hello").repeat(25));
    for is_more in [true, true, false] {
        stage.turn();
        assert_eq!(stage.reactor.next_timeout() == Some(Duration::ZERO), is_more);
    }
    assert_eq!(stage.reactor.next_timeout(), Some(ms(500)), "its idle timeout");
}

/// An idle server keeps no megabytes.
#[test]
fn the_memory_of_large_frames_is_given_back_in_a_second() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.send(&v1_hello());
    stage.turn();
    caller.receive();
    for id in 1..4 {
        caller.send(&v1_request(id, 1 << 20));
        stage.run(ms(1));
        assert_eq!(caller.receive().len(), 16 + (1 << 20));
        assert!(stage.reactor.keeps_large_buffers());
    }
    assert!(stage.reactor.memory_held() < 1 << 20, "no link has it");
    stage.run(KEEP_LARGE);
    assert!(!stage.reactor.keeps_large_buffers());
    assert_eq!(stage.reactor.next_timeout(), None, "nothing wakes the loop for it any more");
}
