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
    assert_eq!(third.len(), 1, "of the two that are left");
    let stats = stage.counters.stats();
    assert_eq!(stats.limits, BTreeMap::from([("max_connections_per_peer", 2 + 1 + 2 + 8 + 7)]));
    assert_eq!(stats.refused, 20);
    // Who leaves makes room, for himself and for others.
    first.iter().for_each(Caller::close);
    stage.turn();
    assert_eq!(come(&mut stage, 8, 1, OTHERS).len(), 1, "of the two that are left there");
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

/// Many small ones of a user are his, and not those of another who has a larger one.
/// PROTOCOL L8
#[test]
fn who_holds_too_much_pays_for_it_himself() {
    let mut stage = stage(|limits| limits.max_buffered = 1600 << 10, 1);
    stage.service.replies = Some(1000);
    let honest = come(&mut stage, 1, 0, OTHERS + 1).remove(0);
    let greedy = come(&mut stage, 10, 0, OTHERS);
    honest.takes(0);
    honest.send(&request(1, b"").repeat(200));
    stage.turn();
    for caller in &greedy {
        caller.takes(0);
        caller.send(&request(1, b"").repeat(100));
    }
    stage.run(ms(1));
    let gone = greedy.iter().filter(|caller| caller.server() != Side::Open).count();
    assert!((1..5).contains(&gone), "{gone}");
    assert_eq!(honest.server(), Side::Open);
    assert_eq!(stage.counters.stats().limits, BTreeMap::from([("max_buffered share", gone as u64)]));
}

/// Our own user may have all. So where all is too much, that is the one who pays.
/// PROTOCOL L8
#[test]
fn where_all_is_too_much_whoever_holds_most_pays() {
    let mut stage = stage(|limits| limits.max_buffered = 1600 << 10, 1);
    stage.service.replies = Some(1000);
    let small = come(&mut stage, 1, 0, OTHERS).remove(0);
    let large = come(&mut stage, 16, 0, WE);
    small.takes(0);
    small.send(&request(1, b"").repeat(200));
    stage.turn();
    for caller in &large {
        caller.takes(0);
        caller.send(&request(1, b"").repeat(100));
    }
    stage.run(ms(1));
    let gone = large.iter().filter(|caller| caller.server() != Side::Open).count();
    assert!((1..10).contains(&gone), "{gone}");
    assert_eq!(small.server(), Side::Open);
    assert_eq!(stage.counters.stats().limits, BTreeMap::from([("max_buffered", gone as u64)]));
}
