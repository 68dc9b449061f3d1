//! What is counted, and handlers that hold the loop.

use super::*;

impl Stage {
    fn slow_handlers(&self) -> u64 {
        self.counters.stats().slow_handlers
    }
}

#[test]
fn a_handler_that_holds_the_loop_is_counted() {
    let mut stage = Stage::new(|limits| limits.slow_handler = ms(100));
    let caller = stage.accepted();
    for (takes, slow) in [(ms(99), 0), (ms(100), 1), (ms(3000), 2), (ms(1), 2)] {
        stage.service.takes = takes;
        caller.send(&request(7, b""));
        stage.turn();
        assert_eq!(stage.slow_handlers(), slow, "{takes:?}");
    }
    // What the loop sleeps is nobody's time.
    stage.run(ms(1000));
    assert_eq!(stage.slow_handlers(), 2);
}

/// Where many run in one go, one among them is found all the same, and the next time it is known which.
#[test]
fn a_slow_one_among_many_is_found() {
    let mut stage = Stage::new(|limits| limits.slow_handler = ms(100));
    let caller = stage.accepted();
    stage.service.slow_at = Some((13, ms(500)));
    caller.send(&request(1, b"x").repeat(40));
    stage.run(ms(1));
    assert_eq!((stage.slow_handlers(), stage.service.requests), (1, 40));
    stage.service.slow_at = Some((53, ms(500)));
    caller.send(&request(1, b"x").repeat(40));
    stage.run(ms(1));
    assert_eq!((stage.slow_handlers(), stage.service.requests), (2, 80));
    // Many quick ones are not a slow one.
    stage.service.takes = ms(1) / 10;
    caller.send(&request(1, b"x").repeat(2000));
    stage.run(ms(1000));
    assert_eq!((stage.slow_handlers(), stage.service.requests), (2, 2080));
}

#[test]
fn other_handlers_are_watched_too() {
    let mut stage =
        Stage::with(|limits| limits.slow_handler = ms(100), Access::SameUser, Carries::Plain(Cut::Raw));
    let caller = stage.accepted();
    stage.service.takes = ms(200);
    caller.send(b"bytes");
    stage.turn();
    assert_eq!(stage.slow_handlers(), 1);
    stage.bind(Access::SameUser, Carries::Messages);
    stage.world.datagram(0, &sidewire_platform::Address::Path("/one".into()), WE, b"message");
    stage.turn();
    assert_eq!(stage.slow_handlers(), 2);
}

#[test]
fn bytes_and_times_are_counted() {
    let mut stage = Stage::new(|_| {});
    let callers = [stage.accepted(), stage.accepted()];
    stage.service.takes = Duration::from_micros(100);
    for caller in &callers {
        caller.send(&request(1, b"hello"));
        stage.turn();
        assert_eq!(caller.receive().len(), 17);
    }
    callers[0].takes(3);
    callers[0].send(&request(1, b"hello"));
    stage.turn();
    let stats = stage.counters.stats();
    assert_eq!((stats.bytes_received, stats.bytes_sent, stats.stalls), (3 * 17, 2 * 17 + 3, 1));
    let expected = [(Duration::from_nanos(1 << 17), 3)];
    assert_eq!(stats.handling.ranges().collect::<Vec<_>>(), expected, "131 us");
}

#[test]
fn who_is_told_no_and_who_breaks_the_rules_is_counted() {
    let mut stage = Stage::new(|limits| limits.listener.max_connections = 2);
    let stranger = stage.world.connect_as(0, OTHERS);
    stage.turn();
    let (first, _second, third) = (stage.accepted(), stage.accepted(), stage.accepted());
    let numbers = |stage: &Stage| (stage.counters.stats().refused, stage.counters.stats().faulty);
    assert_eq!(numbers(&stage), (2, 0));
    first.send(&frame(1, 0, b"")[..8]);
    first.send(&i32::MAX.to_ne_bytes());
    stage.run(ms(10));
    for caller in [stranger, first, third] {
        caller.close();
    }
    stage.run(ms(10));
    let (refused, faulty) = numbers(&stage);
    assert_eq!(refused, 2);
    assert!(faulty >= 1, "{faulty}");
}
