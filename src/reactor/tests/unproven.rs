//! Where a token is asked for: those who have not proved yet that they know it.

use super::*;
use crate::reactor::system::memory::Side;
use sidewire_wire::{PROOF_LEN, Token};

/// One that is proved by the same bytes to everybody: what proofs are worth is tested elsewhere.
#[derive(Debug)]
struct Password;

impl Token for Password {
    fn prove(&self, _pieces: &[&[u8]]) -> [u8; PROOF_LEN] {
        [7; PROOF_LEN]
    }

    fn is_same(&self, ours: &[u8; PROOF_LEN], theirs: &[u8; PROOF_LEN]) -> bool {
        ours == theirs
    }
}

/// Where so many may be who have not proved it.
fn stage(most: usize) -> Stage {
    let mut stage = Stage::bare(|_| {});
    let mut site = stage.site("tcp:127.0.0.1:4711", Access::Anyone, Carries::Frames);
    site.per_peer = crate::limits::PerPeer::All;
    site.unproven = Some(most);
    let settings = Arc::make_mut(&mut site.settings);
    settings.token = Some(Arc::new(Password));
    settings.nonce = || [1; 16];
    settings.classic = Classic::Refused;
    stage.reactor.add_listener(stage.world.listener(), site).expect("a listener");
    stage
}

fn stranger(stage: &mut Stage) -> Caller {
    let caller = stage.world.connect(0, at(1));
    stage.turn();
    caller
}

fn at(port: u16) -> Peer {
    Peer::new(None, Some(([127, 0, 0, 1], port).into()))
}

/// One who knows it.
fn friend(stage: &mut Stage) -> Caller {
    let caller = stranger(stage);
    caller.send(&v1_hello());
    stage.turn();
    caller.send(&[&[32, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[7; 32]].concat());
    stage.turn();
    caller.receive();
    caller
}

/// Where one more than may have come, none of whom proves anything.
pub(super) fn crowded() -> Stage {
    let mut stage = stage(2);
    let _strangers = [(); 3].map(|()| stranger(&mut stage));
    stage
}

fn is_served(stage: &mut Stage, caller: &Caller, id: u32) -> bool {
    caller.send(&v1_request(id, 3));
    stage.turn();
    caller.server() == Side::Open && caller.receive().ends_with(b"xxx")
}

/// They don't keep those out who know it, and these are not among them.
#[test]
fn the_oldest_stranger_makes_room_for_the_next() {
    let mut stage = stage(2);
    let early = friend(&mut stage);
    let strangers = [(); 4].map(|()| stranger(&mut stage));
    let open = |stage: &Stage| {
        assert_eq!(stage.counters.stats().users[0].connections, stage.counters.connections());
        strangers.each_ref().map(|caller| caller.server() == Side::Open)
    };
    assert_eq!(open(&stage), [false, false, true, true]);
    assert_eq!(strangers[0].receive()[48..52], ResultCode::BUSY.code().to_le_bytes(), "told so in a hello");
    let late = friend(&mut stage);
    assert_eq!(open(&stage), [false, false, false, true]);
    assert!(is_served(&mut stage, &early, 1) && is_served(&mut stage, &late, 1));
    // One who has said hello, and proves nothing, is no better.
    strangers[3].send(&v1_hello());
    stage.turn();
    let more = [(); 2].map(|()| stranger(&mut stage));
    assert_eq!(open(&stage), [false; 4]);
    assert!(more.iter().all(|caller| caller.server() == Side::Open));
    assert_eq!(stage.counters.stats().limits, BTreeMap::from([("unproven", 4)]));
    assert!(is_served(&mut stage, &early, 2) && is_served(&mut stage, &late, 2));
}

#[test]
fn who_has_proved_it_needs_no_place_among_them_and_may_come_in_any_number() {
    let mut stage = stage(2);
    let friends: Vec<Caller> = (0..20).map(|_| friend(&mut stage)).collect();
    assert!(friends.iter().all(|caller| is_served(&mut stage, caller, 1)));
    assert_eq!(stage.counters.stats().limits, BTreeMap::new());
}

/// As when a server is back for which all have waited.
#[test]
fn those_who_all_come_at_once_find_room_to_prove_it() {
    let mut stage = stage(64);
    let friends: Vec<Caller> = (0..64).map(|port| stage.world.connect(0, at(port))).collect();
    friends.iter().for_each(|caller| caller.send(&v1_hello()));
    stage.turn();
    for caller in &friends {
        caller.send(&[&[32, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[7; 32]].concat());
    }
    stage.turn();
    friends.iter().for_each(|caller| drop(caller.receive()));
    assert!(friends.iter().all(|caller| is_served(&mut stage, caller, 1)));
    assert_eq!(stage.counters.stats().limits, BTreeMap::new());
}

/// Else anybody could keep a server that nobody needs.
#[test]
fn strangers_do_not_keep_a_server_that_would_leave() {
    let mut stage = stage(2);
    stage.reactor.leave_when_idle(ms(1000));
    drop(stage.reactor.begin_turns());
    let friend = friend(&mut stage);
    assert!(stage.run(ms(6000)), "one who knows it does");
    friend.close();
    let staying = stranger(&mut stage);
    for _ in 0..3 {
        assert!(stage.run(ms(300)));
        stranger(&mut stage).close();
    }
    assert!(!stage.world.is_withdrawn(0));
    stage.run(ms(200));
    assert!(stage.world.is_withdrawn(0));
    drop(staying);
}
