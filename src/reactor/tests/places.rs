//! Who gets in, and how many.

use super::*;
use crate::limits::{ACCEPT_PAUSE, MAX_REFUSING};
use crate::reactor::accepting::ACCEPTS_PER_TURN;
use crate::reactor::source::MAX_FAILURES;
use crate::reactor::system::memory::{Failure, Side};

/// PROTOCOL L1
#[test]
fn a_listener_has_so_many_places() {
    let mut stage = Stage::new(|limits| limits.listener.max_connections = 3);
    let inside: Vec<Caller> = (0..3).map(|_| stage.accepted()).collect();
    let outside = stage.accepted();
    outside.send(&request(1, b""));
    inside[0].send(&request(1, b""));
    stage.turn();
    assert_eq!(outside.receive()[..8], reply(1, ResultCode::BUSY, b"")[..8]);
    assert_eq!(inside[0].receive(), reply(1, ResultCode::OK, b""));
    inside[0].close();
    stage.turn();
    let next = stage.accepted();
    next.send(&request(1, b""));
    stage.turn();
    assert_eq!(next.receive(), reply(1, ResultCode::OK, b""));
}

/// Who would not be let in anyway hears of that only where there is room.
/// PROTOCOL B2
#[test]
fn a_full_listener_says_so_to_everybody() {
    let mut stage = Stage::new(|limits| limits.listener.max_connections = 1);
    let told = |stage: &mut Stage| {
        let stranger = stage.world.connect_as(0, OTHERS);
        stranger.send(&request(1, b""));
        stage.run(ms(5));
        stranger.receive()[..8].to_vec()
    };
    assert_eq!(told(&mut stage), reply(1, ResultCode::NOT_PERMITTED, b"")[..8]);
    let inside = stage.accepted();
    assert_eq!(told(&mut stage), reply(1, ResultCode::BUSY, b"")[..8]);
    inside.send(&request(1, b""));
    stage.turn();
    assert_eq!(inside.receive(), reply(1, ResultCode::OK, b""));
}

/// Whoever has spoken may be silent.
/// PROTOCOL L9
#[test]
fn silent_callers_do_not_keep_their_places() {
    let (raw, lines) = (Carries::Plain(Cut::Raw), Carries::Plain(Cut::Lines { max: 80 }));
    for carries in [Carries::Frames, raw, lines] {
        let set = |limits: &mut Limits| {
            limits.listener.max_connections = 4;
            limits.listener.first_byte_timeout = Some(ms(200));
        };
        let mut stage = Stage::with(set, Access::Anyone, carries);
        let spoken = stage.accepted();
        spoken.send(if carries == Carries::Frames { &[1, 0, 0, 0][..] } else { b"x" });
        let silent = [(); 3].map(|()| stage.accepted());
        stage.run(ms(199));
        assert_eq!(silent.each_ref().map(Caller::server), [Side::Open; 3]);
        assert_eq!(stage.counters.connections(), 4);
        stage.run(ms(1));
        assert!(silent.iter().all(|caller| caller.server() != Side::Open));
        silent.iter().for_each(Caller::close);
        stage.run(ms(1));
        assert_eq!((stage.counters.connections(), spoken.server()), (1, Side::Open));
        let next = stage.accepted();
        stage.run(ms(100));
        assert_eq!((stage.counters.connections(), next.server()), (2, Side::Open));
    }
}

/// PROTOCOL L2
#[test]
fn one_peer_has_so_many_places() {
    let mut stage = Stage::with(
        |limits| limits.listener.max_connections_per_peer = Some(2),
        Access::Anyone,
        Carries::Frames,
    );
    let callers: Vec<Caller> =
        [OTHERS, OTHERS, OTHERS, OTHERS + 1, WE, WE, WE].map(|user| stage.world.connect_as(0, user)).into();
    stage.turn();
    callers.iter().for_each(|caller| caller.send(&request(1, b"")));
    stage.turn();
    let answers =
        callers.iter().map(|caller| i32::from_ne_bytes(caller.receive()[4..8].try_into().expect("rc")));
    assert_eq!(answers.collect::<Vec<i32>>(), [0, 0, ResultCode::BUSY.code(), 0, 0, 0, 0]);
    callers[0].close();
    stage.turn();
    let next = stage.world.connect_as(0, OTHERS);
    next.send(&request(1, b""));
    stage.turn();
    stage.turn();
    assert_eq!(next.receive(), reply(1, ResultCode::OK, b""));
}

/// So many wait at a time to be told "no"; for others there is not even that.
/// PROTOCOL B6, L20
#[test]
fn so_many_are_refused_at_a_time() {
    let mut stage = Stage::new(|_| {});
    let strangers: Vec<Caller> = (0..MAX_REFUSING + 5).map(|_| stage.world.connect_as(0, OTHERS)).collect();
    stage.turn();
    let dropped = strangers.iter().filter(|stranger| stranger.server() == Side::Closed).count();
    assert_eq!((dropped, stage.counters.connections()), (5, MAX_REFUSING as u64));
    strangers[0].send(&request(1, b""));
    stage.turn();
    assert_eq!(strangers[0].receive()[..8], reply(1, ResultCode::NOT_PERMITTED, b"")[..8]);
    strangers[0].close();
    stage.turn();
    // A place among them is free again.
    let next = [0, 1].map(|_| stage.world.connect_as(0, OTHERS));
    stage.turn();
    assert_eq!(next.map(|stranger| stranger.server()), [Side::Open, Side::Closed]);
    assert_eq!(stage.service.requests, 0);
}

/// The same where they are told that there is no room.
#[test]
fn so_many_are_told_at_a_time_that_there_is_no_room() {
    let mut stage = Stage::new(|limits| limits.listener.max_connections = 0);
    let callers: Vec<Caller> = (0..64 + 3).map(|_| stage.connect()).collect();
    stage.turn();
    let dropped = callers.iter().filter(|caller| caller.server() == Side::Closed).count();
    assert_eq!((dropped, stage.counters.connections()), (3, 64));
}

/// And not for longer than it takes to say four bytes.
/// PROTOCOL B3, L21
#[test]
fn who_is_refused_is_not_waited_for_for_long() {
    let mut stage = Stage::new(|_| {});
    let stranger = stage.world.connect_as(0, OTHERS);
    stage.run(ms(999));
    assert_eq!(stranger.server(), Side::Open);
    stage.run(ms(2));
    assert_ne!(stranger.server(), Side::Open);
}

/// PROTOCOL B1
#[test]
fn accepting_rests_when_descriptors_run_out() {
    let mut stage = Stage::new(|_| {});
    stage.world.fail_accepts(0, 1, Failure::OutOfDescriptors);
    let (told, waits) = (stage.connect(), stage.connect());
    told.send(&request(1, b""));
    stage.turn();
    // With the reserve one is told so.
    stage.turn();
    assert_eq!(told.receive()[..8], reply(1, ResultCode::BUSY, b"")[..8]);
    waits.send(&request(1, b""));
    stage.run(ACCEPT_PAUSE - ms(1));
    assert_eq!((stage.world.waiting(0), waits.receive()), (1, Vec::new()));
    stage.run(ms(1));
    assert_eq!(waits.receive(), reply(1, ResultCode::OK, b""));
}

/// Without a reserve nobody is accepted before the pause is over.
#[test]
fn the_reserve_is_taken_again_after_it_was_used() {
    let mut stage = Stage::new(|_| {});
    stage.world.leave_reserves(1);
    for left in [2, 1, 1] {
        stage.world.fail_accepts(0, 1, Failure::OutOfDescriptors);
        let _callers = [stage.connect(), stage.connect()];
        stage.turn();
        assert!(stage.world.waiting(0) >= left - 1, "{left}");
        stage.world.fail_accepts(0, 1, Failure::OutOfDescriptors);
        stage.run(ACCEPT_PAUSE);
    }
}

#[test]
fn connections_that_fail_are_skipped_and_not_without_end() {
    let mut stage = Stage::new(|_| {});
    stage.world.fail_accepts(0, MAX_FAILURES - 1, Failure::Aborted);
    let caller = stage.accepted();
    assert_eq!((stage.world.waiting(0), stage.counters.connections()), (0, 1));
    stage.world.fail_accepts(0, MAX_FAILURES + 1, Failure::Aborted);
    stage.turn();
    assert_eq!(stage.world.waiting(0), 1, "so many in a row and it rests");
    stage.run(ACCEPT_PAUSE - ms(1));
    assert_eq!(stage.world.waiting(0), 1);
    stage.run(ms(1));
    assert_eq!(stage.world.waiting(0), 0);
    drop(caller);
}

/// Those who come meanwhile wake the loop, and wait as the others.
#[test]
fn accepting_rests_also_when_others_come_meanwhile() {
    let mut stage = Stage::new(|_| {});
    stage.world.fail_accepts(0, MAX_FAILURES, Failure::Aborted);
    stage.turn();
    let _caller = stage.accepted();
    assert_eq!((stage.world.waiting(0), stage.counters.accepted()), (1, 0));
    stage.run(ACCEPT_PAUSE);
    assert_eq!((stage.world.waiting(0), stage.counters.accepted()), (0, 1));
}

#[test]
fn so_many_are_accepted_before_others_get_their_turn() {
    let mut stage = Stage::new(|_| {});
    let crowd: Vec<Caller> = (0..ACCEPTS_PER_TURN + 1).map(|_| stage.connect()).collect();
    stage.turn();
    assert_eq!(stage.world.waiting(0), 1);
    stage.turn();
    assert_eq!(stage.world.waiting(0), 0);
    drop(crowd);
}

/// Who holds most is told so and goes, and all others stay.
/// PROTOCOL L8
#[test]
fn all_connections_together_hold_so_much() {
    let mut stage = Stage::new(|limits| limits.max_buffered = 100 << 10);
    let (small, large) = (stage.accepted(), stage.accepted());
    stage.service.replies = Some(1000);
    for (caller, count) in [(&small, 5), (&large, 50)] {
        caller.takes(100);
        caller.send(&request(1, b"").repeat(count));
    }
    stage.turn();
    assert_eq!(stage.counters.connections(), 2, "this much is fine");
    large.send(&request(1, b"").repeat(100));
    stage.run(ms(10));
    assert_eq!((small.server(), stage.counters.connections()), (Side::Open, 1));
}

/// The goodbye of one that is told so leaves with it, as far as its socket takes it at once.
/// PROTOCOL X12
#[test]
fn who_holds_too_much_is_told_so() {
    let mut stage = Stage::new(|limits| {
        limits.max_buffered = 100 << 10;
        limits.turn_bytes = 1000;
    });
    let caller = stage.accepted();
    let hello = v1_hello();
    caller.send(&hello);
    stage.turn();
    caller.receive();
    // The beginning of a large frame is stashed, and too much.
    let mut bytes = v1_request(1, 200 << 10);
    bytes.truncate(150 << 10);
    caller.send(&bytes);
    stage.run(ms(10));
    let said = caller.receive();
    assert!(is_goodbye(&said, ResultCode::BUSY), "{said:?}");
    assert_eq!(caller.server(), Side::ShutDown);
}

/// Also where its socket has room for more than a turn's share by now.
#[test]
fn who_is_shed_gets_all_that_its_socket_takes() {
    let mut stage = Stage::new(|limits| {
        limits.max_buffered = 300 << 10;
        limits.turn_bytes = 1000;
    });
    let (cause, worst) = (stage.accepted(), stage.accepted());
    worst.send(&v1_hello());
    stage.turn();
    worst.receive();
    worst.takes(0);
    stage.service.replies = Some(1000);
    (1..=150).for_each(|id| worst.send(&v1_request(id, 0)));
    stage.run(ms(1));
    // It has room again; but before the loop hears of that, another sends too much.
    worst.takes(usize::MAX);
    worst.takes_at_a_time(5000);
    cause.send(&v1_hello());
    cause.send(&v1_request(1, 200 << 10)[..100 << 10]);
    stage.turn();
    let said = worst.receive();
    assert_eq!((said.len() / 1016, worst.server()), (150, Side::ShutDown));
    assert!(is_goodbye(&said[150 * 1016..], ResultCode::BUSY));
}

/// Whether these bytes begin with a v1 goodbye for this reason.
fn is_goodbye(bytes: &[u8], rc: ResultCode) -> bool {
    bytes.len() >= 16 && bytes[4] == 12 && bytes[12..16] == rc.code().to_le_bytes()
}
