//! Who may ask for more than calls: that the server stops.

use super::calls::{GOODBYE, v1_frame};
use super::*;
use crate::reactor::system::memory::Tells;
use sidewire_wire::{Task, Tasks};

/// A hello that requires these features.
fn requiring(bits: u32) -> Vec<u8> {
    let mut hello = v1_hello();
    hello[12..16].copy_from_slice(&bits.to_le_bytes());
    hello
}

/// The status of a hello, and what is said behind that.
fn answer(bytes: &[u8]) -> (i32, String) {
    assert_eq!(bytes.get(..4), Some(&[0xD1, 0x53, 0x57, 0xD1][..]), "a hello");
    let status = i32::from_le_bytes(bytes[48..52].try_into().expect("four bytes"));
    (status, String::from_utf8_lossy(&bytes[72..]).into_owned())
}

impl Stage {
    /// With a listener that lets this user stop it.
    fn stoppable(access: Access, set: impl FnOnce(&mut Limits)) -> Stage {
        let mut stage = Stage::bare(set);
        let mut site = stage.site("local:memory", access, Carries::Frames);
        Arc::make_mut(&mut site.settings).grants = Tasks::default().and(Task::Stop);
        stage.reactor.add_listener(stage.world.listener(), site).expect("a listener");
        stage
    }
}

/// PROTOCOL J8
#[test]
fn whoever_asks_is_told_yes_and_the_server_ends() {
    let mut stage = Stage::stoppable(Access::SameUser, |_| {});
    let (client, installer) = (stage.accepted(), stage.accepted());
    client.send(&v1_hello());
    stage.turn();
    assert!(!client.receive().is_empty());
    installer.send(&requiring(1));
    assert!(stage.turn() && stage.turn());
    let said = installer.receive();
    assert_eq!(answer(&said).0, 0);
    let goodbye = v1_frame(GOODBYE, 0, 0, ResultCode::SHUTTING_DOWN.code(), b"");
    assert!(said.ends_with(&goodbye) && client.receive() == goodbye);
    assert_eq!((stage.service.stops, stage.service.visits.len()), (1, 1), "no handler is told of it");
    for caller in [client, installer] {
        caller.send(&v1_frame(GOODBYE, 0, 0, 0, b""));
        caller.close();
    }
    assert!(!stage.run(ms(10)));
    assert_eq!(stage.counters.connections(), 0);
}

/// PROTOCOL J5
#[test]
fn only_our_own_user_may_ask_whoever_may_connect() {
    for (user, tells, may) in [
        (WE, Tells::AtOnce, true),
        (0, Tells::AtOnce, true),
        (WE, Tells::Late, true),
        (OTHERS, Tells::AtOnce, false),
        (OTHERS, Tells::Late, false),
        (WE, Tells::Never(std::io::ErrorKind::PermissionDenied), false),
    ] {
        let mut stage = Stage::stoppable(Access::Anyone, |_| {});
        stage.world.tells(tells);
        let caller = stage.world.connect_as(0, user);
        caller.send(&[requiring(1), v1_request(1, 3)].concat());
        assert!(stage.run(ms(5)));
        let (status, text) = answer(&caller.receive());
        let expected = if may { ResultCode::OK } else { ResultCode::NOT_PERMITTED };
        assert_eq!((status, stage.service.stops), (expected.code(), usize::from(may)), "{user} {text}");
        assert!(may || text.contains("stop"), "{text}");
        assert_eq!((stage.service.requests, stage.service.visits.len()), (0, 0));
    }
}

/// PROTOCOL J5
#[test]
fn a_server_that_does_not_grant_it_goes_on() {
    for bit in [1, 2] {
        let mut stage = Stage::new(|_| {});
        let caller = stage.accepted();
        caller.send(&requiring(bit));
        assert!(stage.run(ms(5)));
        assert_eq!(answer(&caller.receive()).0, ResultCode::NOT_PERMITTED.code());
        assert_eq!(stage.service.stops, 0);
    }
    let mut stage = Stage::stoppable(Access::SameUser, |_| {});
    let caller = stage.accepted();
    caller.send(&requiring(4));
    assert!(stage.run(ms(5)));
    assert_eq!(answer(&caller.receive()).0, ResultCode::FEATURE_MISSING.code());
}

/// PROTOCOL J3
#[test]
fn who_asks_takes_a_place_and_needs_one() {
    let mut stage = Stage::stoppable(Access::SameUser, |limits| limits.listener.max_connections = 1);
    let caller = stage.accepted();
    let late = stage.accepted();
    late.send(&requiring(1));
    assert!(stage.run(ms(5)));
    assert_eq!((answer(&late.receive()).0, stage.service.stops), (ResultCode::BUSY.code(), 0));
    drop((caller, late));
    // One whom the policy keeps out is told no more than others are.
    let mut stage = Stage::stoppable(Access::SameUser, |_| {});
    let other = stage.world.connect_as(0, OTHERS);
    other.send(&requiring(1));
    assert!(stage.run(ms(5)));
    let (status, text) = answer(&other.receive());
    assert_eq!((status, stage.service.stops), (ResultCode::NOT_PERMITTED.code(), 0));
    assert!(!text.contains("stop"), "{text}");
}
