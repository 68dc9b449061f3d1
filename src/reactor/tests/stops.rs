//! How the loop ends.

use super::*;
use crate::reactor::system::memory::Side;

#[test]
fn a_loop_that_is_told_to_stop_waits_for_its_callers() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.takes(0);
    caller.send(&request(1, b"hello"));
    stage.turn();
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    assert!(stage.run(ms(400)));
    caller.takes(usize::MAX);
    assert!(stage.turn());
    assert_eq!((caller.receive(), caller.server()), (reply(1, ResultCode::OK, b"hello"), Side::ShutDown));
    caller.close();
    assert!(!stage.turn());
    assert_eq!(stage.counters.connections(), 0);
}

#[test]
fn callers_that_stay_are_given_so_long() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    assert!(stage.run(ms(499)));
    assert!(!stage.run(ms(1)));
    assert_eq!((caller.server(), stage.counters.connections()), (Side::Closed, 0));
}

/// A second word can hurry it, not hold it up.
#[test]
fn a_second_word_to_stop_can_hurry_the_loop_and_not_hold_it_up() {
    for (second, ends) in [(9000, 500), (200, 300)] {
        let mut stage = Stage::new(|_| {});
        let caller = stage.accepted();
        let mailbox = stage.reactor.mailbox();
        mailbox.stop(ms(500)).expect("stop");
        assert!(stage.run(ms(100)));
        mailbox.stop(ms(second)).expect("stop");
        assert!(stage.run(ms(ends - 100 - 1)), "{second}");
        assert!(!stage.run(ms(1)), "{second}");
        assert_eq!(stage.service.stops, 1, "it is told once");
        drop(caller);
    }
}

/// Whatever the order in which a poll tells of it and of what came meanwhile.
#[test]
fn behind_the_word_to_stop_nothing_new_is_begun() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    caller.send(&request(1, b"late"));
    stage.turn();
    assert_eq!((stage.service.requests, caller.receive()), (0, Vec::new()));
}

#[test]
fn nobody_is_let_in_any_more() {
    let mut stage = Stage::new(|_| {});
    let inside = stage.accepted();
    let late = stage.connect();
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    stage.run(ms(100));
    assert!(stage.world.is_withdrawn(0));
    let later = stage.connect();
    late.send(&request(1, b"late"));
    stage.run(ms(100));
    assert_eq!((stage.service.requests, stage.world.waiting(0), later.server()), (0, 1, Side::Open));
    let site = stage.site("local:late", Access::SameUser, Carries::Frames);
    let error = stage.reactor.add_listener(stage.world.listener(), site).expect_err("it stops");
    assert_eq!(error.to_string(), "the server has stopped");
    drop(inside);
}

#[test]
fn who_waits_at_a_socket_that_others_have_is_left_to_them() {
    let mut stage = Stage::new(|_| {});
    let mut site = stage.site("local:other", Access::SameUser, Carries::Frames);
    site.is_adopted = true;
    stage.reactor.add_listener(stage.world.listener(), site).expect("a listener");
    let caller = stage.world.connect_as(1, WE);
    caller.send(&request(1, b"hello"));
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    assert!(!stage.run(ms(1)));
    assert_eq!(
        (stage.world.is_withdrawn(1), stage.world.waiting(1), caller.server()),
        (false, 1, Side::Open)
    );
}

/// PROTOCOL E5a
#[test]
fn who_has_found_the_way_is_told_to_try_again() {
    let rc = ResultCode::SHUTTING_DOWN;
    let mut stage = Stage::new(|_| {});
    let inside = stage.accepted();
    inside.send(&v1_hello());
    stage.turn();
    inside.receive();
    let [classic, v1, silent] = [(); 3].map(|()| stage.connect());
    v1.send(&[v1_hello(), v1_request(1, 5)].concat());
    stage.reactor.mailbox().stop(ms(2000)).expect("stop");
    // One who was faster than his own first bytes.
    stage.turn();
    classic.send(&request(1, b"late"));
    stage.run(ms(100));
    assert_eq!(classic.receive(), reply(1, rc, b""));
    let answer = v1.receive();
    let status = answer.get(48..53).map(|status| (status[..4].to_vec(), status[4]));
    assert_eq!(status, Some((rc.code().to_le_bytes().to_vec(), 0)), "{answer:?}");
    assert_eq!((stage.service.requests, stage.service.visits.len()), (0, 1));
    for late in [classic, v1] {
        assert_eq!(late.server(), Side::ShutDown);
        late.close();
    }
    inside.close();
    assert!(stage.run(ms(890)));
    assert_eq!(silent.server(), Side::Open);
    stage.run(ms(20));
    assert_eq!((silent.server(), silent.receive()), (Side::ShutDown, Vec::new()), "B3");
    silent.close();
    assert!(!stage.run(ms(1)));
}

/// What waits to leave a datagram socket is given the same time.
#[test]
fn datagrams_that_wait_are_given_so_long() {
    let mut stage = Stage::new(|_| {});
    stage.bind(Access::SameUser, Carries::Messages);
    let who = sidewire_platform::Address::Path("/somebody".into());
    stage.world.stick(0, &who, true);
    stage.world.datagram(0, &who, WE, b"hello");
    stage.turn();
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    assert!(stage.run(ms(400)));
    stage.world.stick(0, &who, false);
    assert!(!stage.run(ms(100)));
    assert_eq!(stage.world.sent(0), [(b"hello".to_vec(), who)]);
    assert_eq!(stage.counters.datagrams_dropped(), 0);
}

/// A peer may read its last bytes for as long as the loop still has, and for a while even where that is nothing.
#[test]
fn the_last_bytes_can_be_read_for_a_while() {
    for (grace, linger, within) in [(0, 2000, 100), (500, 2000, 500), (500, 300, 300), (0, 30, 30)] {
        let mut stage = Stage::new(|limits| limits.listener.connection.linger = ms(linger));
        stage.world.without_half_close();
        let caller = stage.accepted();
        caller.send(&request(1, b"hello"));
        stage.turn();
        stage.reactor.mailbox().stop(ms(grace)).expect("stop");
        stage.turn();
        assert_eq!((caller.server(), caller.flushes_within()), (Side::Flushed, Some(ms(within))));
    }
}
