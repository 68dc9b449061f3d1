//! When a loop leaves because nobody needs it.

use super::*;
use crate::reactor::idle::FIRST_CLIENT;

/// A loop that leaves when nobody was connected for so long.
fn leaves_after(after: Duration) -> Stage {
    let mut stage = Stage::new(|_| {});
    stage.reactor.leave_when_idle(after);
    drop(stage.reactor.begin_turns());
    stage
}

/// A client of it, that says something.
fn served(stage: &mut Stage) -> Caller {
    let caller = stage.connect();
    caller.send(&request(1, b"hello"));
    assert!(stage.turn() && stage.turn());
    assert_eq!(caller.receive(), reply(1, ResultCode::OK, b"hello"));
    caller
}

/// And goes.
fn go(stage: &mut Stage, caller: Caller) {
    caller.close();
    assert!(stage.turn());
    drop(caller);
}

#[test]
fn nobody_comes() {
    for (after, waits) in [(ms(0), FIRST_CLIENT), (ms(1), FIRST_CLIENT), (ms(60_000), ms(60_000))] {
        let mut stage = leaves_after(after);
        assert!(stage.run(waits - ms(1)), "{after:?}");
        assert!(!stage.run(ms(1)), "{after:?}");
        assert!(stage.world.is_withdrawn(0));
    }
}

/// Where it is said late, too, and however long it takes until it turns.
#[test]
fn time_counts_from_the_first_turn() {
    let mut stage = Stage::new(|_| {});
    stage.reactor.leave_when_idle(ms(0));
    stage.world.pass(FIRST_CLIENT);
    drop(stage.reactor.begin_turns());
    assert!(stage.run(FIRST_CLIENT - ms(1)));
    let mut stage = Stage::new(|_| {});
    drop(stage.reactor.begin_turns());
    stage.run(ms(60_000));
    stage.reactor.leave_when_idle(ms(0));
    drop(stage.reactor.begin_turns());
    assert!(stage.run(FIRST_CLIENT - ms(1)));
    assert!(!stage.run(ms(1)));
}

#[test]
fn the_last_one_goes() {
    let mut stage = leaves_after(ms(1000));
    let [first, second] = [(); 2].map(|()| served(&mut stage));
    assert!(stage.run(ms(60_000)));
    go(&mut stage, first);
    assert!(stage.run(ms(60_000)));
    go(&mut stage, second);
    assert!(stage.run(ms(500)));
    let third = served(&mut stage);
    assert!(stage.run(ms(5000)));
    go(&mut stage, third);
    assert!(stage.run(ms(990)));
    assert!(!stage.run(ms(10)));
}

/// Also within the time that the first client is waited for.
#[test]
fn with_no_time_at_all_it_leaves_behind_the_last_one() {
    let mut stage = leaves_after(ms(0));
    let caller = served(&mut stage);
    caller.close();
    assert!(!stage.run(ms(1)));
}

/// He connects when all that came before has been handled, and nobody was there.
#[test]
fn who_comes_in_the_last_moment_is_served() {
    let mut stage = leaves_after(ms(0));
    let caller = served(&mut stage);
    caller.close();
    stage.world.comes_when_locked();
    assert!(stage.run(ms(1)));
    assert_eq!((stage.counters.accepted(), stage.world.is_withdrawn(0)), (2, false));
}

#[test]
fn who_is_not_let_in_does_not_count() {
    let mut stage = leaves_after(ms(1000));
    let caller = served(&mut stage);
    go(&mut stage, caller);
    for _ in 0..9 {
        let stranger = stage.world.connect_as(0, OTHERS);
        stranger.send(&request(1, b""));
        assert!(stage.run(ms(100)));
        stranger.close();
    }
    assert!(!stage.run(ms(100)));
    assert_eq!(stage.counters.stats().refused, 9);
}

/// He has connected, or is about to.
#[test]
fn it_stays_for_whom_it_was_started() {
    let mut stage = leaves_after(ms(0));
    stage.world.starts(true);
    assert!(stage.run(ms(60_000)));
    stage.world.starts(false);
    assert!(!stage.run(ms(20)));
}

#[test]
fn datagrams_count_when_they_come() {
    let mut stage = leaves_after(ms(6000));
    stage.bind(Access::SameUser, Carries::Messages);
    let who = sidewire_platform::Address::Path("/somebody".into());
    for _ in 0..3 {
        stage.world.datagram(0, &who, WE, b"hello");
        assert!(stage.run(ms(5900)));
    }
    assert!(!stage.run(ms(100)));
}
