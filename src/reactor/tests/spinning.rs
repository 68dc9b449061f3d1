//! A loop that looks before it sleeps.

use super::*;
use crate::reactor::system::memory::Side;

const LOOK: Duration = Duration::from_micros(10);

/// One that looks five times.
fn looks_five_times() -> Stage {
    let mut stage = Stage::new(|limits| limits.spin = LOOK * 5);
    stage.world.looks_take(LOOK);
    // The listener is new.
    assert_eq!(turn(&mut stage, ms(1)), (1, Duration::ZERO));
    stage
}

/// Polls and time of one turn.
fn turn(stage: &mut Stage, timeout: Duration) -> (usize, Duration) {
    let (polls, now) = (stage.world.polls(), stage.world.now());
    assert!(stage.turn_within(timeout));
    (stage.world.polls() - polls, stage.world.now() - now)
}

#[test]
fn it_looks_for_so_long_and_then_sleeps() {
    let mut stage = looks_five_times();
    assert_eq!(turn(&mut stage, ms(1)), (5 + 1, ms(1)), "a timeout is for both");
    assert_eq!(turn(&mut stage, ms(1)), (5 + 1, ms(1)), "each time anew");
    // Who waits less than that does not look longer.
    assert_eq!(turn(&mut stage, LOOK * 2), (2 + 1, LOOK * 3));
    // And who does not wait at all looks once, as ever.
    assert_eq!(turn(&mut stage, Duration::ZERO).0, 1);
}

#[test]
fn it_sleeps_at_once_unless_told_otherwise() {
    let mut stage = Stage::new(|_| {});
    stage.world.looks_take(LOOK);
    assert!(stage.turn());
    assert_eq!(turn(&mut stage, ms(1)), (1, ms(1)));
}

#[test]
fn what_comes_ends_it() {
    let mut stage = looks_five_times();
    let caller = stage.accepted();
    caller.send(&request(1, b"hello"));
    assert_eq!(turn(&mut stage, ms(1)), (1, Duration::ZERO));
    assert_eq!(caller.receive(), reply(1, ResultCode::OK, b"hello"));
}

/// Nobody wakes a loop that looks: it sees the mail by itself.
#[test]
fn mail_ends_it_without_a_waker() {
    let mut stage = looks_five_times();
    let _turning = stage.reactor.begin_turns();
    assert_eq!(turn(&mut stage, ms(1)).0, 5 + 1);
    stage.reactor.mailbox().post(Letter::Run).expect("room");
    // Only then it looks for nothing new.
    assert_eq!((turn(&mut stage, ms(1)), stage.service.errands), ((1, LOOK), 1));
    assert_eq!(turn(&mut stage, ms(1)), (5 + 1, ms(1)), "nobody has woken it");
}

#[test]
fn time_limits_are_kept_meanwhile() {
    let mut stage = Stage::new(|limits| {
        limits.spin = ms(1000);
        limits.listener.connection.hello_timeout = ms(5);
    });
    stage.world.looks_take(LOOK);
    let caller = stage.accepted();
    caller.send(&[0xD1]);
    stage.run(ms(6));
    assert_ne!(caller.server(), Side::Open, "its time was up while the loop looked");
}
