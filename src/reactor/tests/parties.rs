//! What one user may hold, of all listeners together, and whose connections go where it is too much.

use super::*;
use crate::reactor::system::memory::Side;

/// Loops with listeners for anyone.
fn stage(set: impl FnOnce(&mut Limits), listeners: usize) -> Stage {
    let mut stage = Stage::bare(set);
    (0..listeners).for_each(|_| stage.listen(Access::Anyone, Carries::Frames));
    stage
}

/// So many of one user connect there. How many are let in.
fn come(stage: &mut Stage, count: usize, listener: usize, user: u32) -> Vec<Caller> {
    let callers: Vec<Caller> = (0..count).map(|_| stage.world.connect_as(listener, user)).collect();
    stage.turn();
    callers.iter().for_each(|caller| caller.send(&request(1, b"")));
    stage.turn();
    stage.turn();
    let is_in = |caller: &Caller| caller.receive()[4..8] == 0i32.to_ne_bytes();
    callers.into_iter().filter(is_in).collect()
}

/// PROTOCOL L2
#[test]
fn a_user_has_its_share_of_all_listeners_together() {
    let mut stage = stage(|limits| limits.listener.max_connections = 8, 2);
    let first = come(&mut stage, 8, 0, OTHERS);
    assert_eq!((first.len(), come(&mut stage, 1, 1, OTHERS).len()), (6, 0));
    let second = come(&mut stage, 8, 1, OTHERS + 1);
    assert_eq!((second.len(), come(&mut stage, 8, 0, OTHERS + 1).len()), (6, 0));
    let third = come(&mut stage, 8, 0, OTHERS + 2);
    assert_eq!(third.len(), 2, "all that is left");
    let stats = stage.counters.stats();
    assert_eq!(stats.limits["max_connections_per_peer"], 2 + 1 + 2 + 8);
    assert_eq!((stats.refused, stats.limits["max_connections"]), (19, 6));
    // Who leaves makes room, for himself and for others.
    first.iter().for_each(Caller::close);
    stage.turn();
    assert_eq!(come(&mut stage, 2, 1, OTHERS).len(), 2, "of the two that are left there");
}

#[test]
fn the_statistics_say_who_holds_what() {
    let mut stage = stage(|_| {}, 2);
    stage.service.replies = Some(1000);
    let (many, one) = (come(&mut stage, 3, 1, OTHERS), come(&mut stage, 1, 0, WE));
    let none = stage.world.connect(0, Peer::unknown());
    one[0].takes(0);
    one[0].send(&request(1, b"").repeat(10));
    stage.turn();
    let users = stage.counters.stats().users;
    let shown: Vec<_> = users.iter().map(|usage| (usage.party.to_string(), usage.connections)).collect();
    let expected = [("uid 2000", 3), ("uid 1000", 1), ("unknown", 1)];
    assert_eq!(shown, expected.map(|(who, count)| (who.to_owned(), count)));
    assert!(users[1].buffered > 10_000 && users[0].buffered == 0, "{users:?}");
    many.iter().chain(&one).chain([&none]).for_each(Caller::close);
    stage.run(ms(10));
    let users = stage.counters.stats().users;
    assert!(users.is_empty(), "{users:?}");
}

/// A hundred kilobytes each. How many of them are left.
fn fill(stage: &mut Stage, callers: &[Caller]) -> usize {
    stage.service.replies = Some(1000);
    for caller in callers {
        caller.takes(0);
        caller.send(&request(1, b"").repeat(100));
        stage.turn();
    }
    stage.run(ms(1));
    callers.iter().filter(|caller| caller.server() == Side::Open).count()
}

/// Loops whose connections may hold 6,400 KiB together.
fn small(limits: &mut Limits) {
    limits.max_buffered = 6400 << 10;
}

/// Many small ones of a user are his, and not those of another who has a larger one.
/// PROTOCOL L8
#[test]
fn who_holds_too_much_pays_for_it_himself() {
    let mut stage = stage(small, 1);
    let honest = come(&mut stage, 1, 0, OTHERS + 1);
    let greedy = come(&mut stage, 70, 0, OTHERS);
    assert_eq!(fill(&mut stage, &honest), 1);
    honest[0].send(&request(1, b"").repeat(200));
    stage.turn();
    let left = fill(&mut stage, &greedy);
    assert!((40..70).contains(&left), "{left}");
    assert_eq!(honest[0].server(), Side::Open);
    assert_eq!(stage.counters.stats().limits, BTreeMap::from([("max_buffered share", 70 - left as u64)]));
}

/// Our own user may have all, as far as others have more than a share.
/// PROTOCOL L8
#[test]
fn others_pay_before_our_own_user() {
    let mut stage = stage(small, 1);
    let (own, others) = (come(&mut stage, 40, 0, WE), come(&mut stage, 30, 0, OTHERS));
    assert_eq!(fill(&mut stage, &others), 30);
    assert_eq!(fill(&mut stage, &own), 40);
    let left = others.iter().filter(|caller| caller.server() == Side::Open).count();
    assert!((5..30).contains(&left), "{left}");
}

/// Where all is our own, that has to do.
/// PROTOCOL L8
#[test]
fn our_own_user_pays_where_others_have_only_a_little() {
    let mut stage = stage(small, 1);
    let (own, other) = (come(&mut stage, 80, 0, WE), come(&mut stage, 1, 0, OTHERS));
    stage.service.replies = Some(1000);
    other[0].takes(0);
    other[0].send(&request(1, b"").repeat(2));
    stage.turn();
    let left = fill(&mut stage, &own);
    assert!((40..70).contains(&left), "{left}");
    assert_eq!(other[0].server(), Side::Open);
    assert_eq!(stage.counters.stats().limits, BTreeMap::from([("max_buffered", 80 - left as u64)]));
}
