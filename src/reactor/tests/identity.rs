//! Who is at the other end, where the system tells late or never.

use std::io::ErrorKind;

use super::*;
use crate::limits::MAX_REFUSING;
use crate::reactor::system::memory::Tells;

/// What one who asks is answered; `None`: nothing.
fn answer(tells: Tells, access: Access, user: u32) -> (Option<i32>, usize) {
    let mut stage = Stage::with(|_| {}, access, Carries::Frames);
    stage.world.tells(tells);
    let caller = stage.world.connect_as(0, user);
    caller.send(&request(1, b""));
    stage.run(ms(5));
    let rc = caller.receive().get(4..8).map(|rc| i32::from_ne_bytes(rc.try_into().expect("four bytes")));
    (rc, stage.service.requests)
}

#[test]
fn who_is_known_late_is_held_to_the_policy_all_the_same() {
    assert_eq!(answer(Tells::Late, Access::SameUser, WE), (Some(0), 1));
    let refused = (Some(ResultCode::NOT_PERMITTED.code()), 0);
    assert_eq!(answer(Tells::Late, Access::SameUser, OTHERS), refused);
}

#[test]
fn who_stays_unknown_is_refused_with_a_word() {
    for kind in [ErrorKind::WouldBlock, ErrorKind::PermissionDenied] {
        let refused = (Some(ResultCode::NOT_PERMITTED.code()), 0);
        assert_eq!(answer(Tells::Never(kind), Access::SameUser, WE), refused);
    }
}

#[test]
fn who_stays_unknown_is_anyone() {
    let tells = Tells::Never(ErrorKind::PermissionDenied);
    assert_eq!(answer(tells, Access::Anyone, WE), (Some(0), 1));
}

/// Another error than that the system is silent: there is nobody to talk to.
#[test]
fn who_can_t_be_asked_for_is_dropped() {
    assert_eq!(answer(Tells::Never(ErrorKind::NotConnected), Access::Anyone, WE), (None, 0));
}

/// Nor is anything done for those who are too many to be told.
#[test]
fn nothing_is_done_for_who_is_refused_late() {
    let mut stage = Stage::new(|_| {});
    stage.world.tells(Tells::Never(ErrorKind::WouldBlock));
    let mut waiting = Vec::new();
    for _ in 0..MAX_REFUSING {
        let caller = stage.accepted();
        // Too little to be answered.
        caller.send(&[1]);
        stage.turn();
        waiting.push(caller);
    }
    for _ in 0..10 {
        let caller = stage.accepted();
        caller.send(&request(1, b""));
        stage.turn();
        assert!(caller.receive().is_empty());
    }
    assert_eq!((stage.service.requests, stage.counters.requests()), (0, 0));
    assert_eq!(stage.counters.connections(), MAX_REFUSING as u64);
}
