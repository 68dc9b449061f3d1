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
    stage_with(|_| {}, most)
}

fn stage_with(set: impl FnOnce(&mut Limits), most: usize) -> Stage {
    let mut stage = Stage::bare(set);
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
        let users = stage.counters.stats().users;
        let named = users.iter().map(|usage| usage.connections).sum::<u64>();
        assert_eq!(named, stage.counters.connections());
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

/// Who knows the token is not on the account of others of this machine, whose connections go first where all hold too much.
/// PROTOCOL L8
#[test]
fn who_has_proved_it_does_not_pay_for_strangers() {
    let mut stage = stage_with(|limits| limits.max_buffered = 6400 << 10, 8);
    stage.listen(Access::Anyone, Carries::Frames);
    stage.service.replies = Some(1000);
    let friend = friend(&mut stage);
    let strangers: Vec<Caller> = (0..70).map(|port| stage.world.connect(1, at(1000 + port))).collect();
    friend.takes(0);
    for id in 1..=2000 {
        friend.send(&v1_request(id, 3));
    }
    stage.run(ms(1));
    let users = || stage.counters.stats().users;
    let held = |who: &str| {
        users().iter().find(|usage| usage.party.to_string() == who).map_or(0, |usage| usage.buffered)
    };
    assert!(held("127.0.0.1 with the token") > 2_000_000, "more than each of the strangers: {:?}", users());
    for caller in &strangers {
        caller.takes(0);
        caller.send(&request(1, b"").repeat(100));
        stage.turn();
    }
    stage.run(ms(1));
    let left = strangers.iter().filter(|caller| caller.server() == Side::Open).count();
    assert!((1..70).contains(&left), "{left}");
    assert_eq!(friend.server(), Side::Open);
    let limits = stage.counters.stats().limits;
    assert_eq!(limits, BTreeMap::from([("max_buffered share", 70 - left as u64)]));
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
