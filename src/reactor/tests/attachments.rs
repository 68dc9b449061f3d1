//! What goes with frames and is no bytes: how much of it one user may have under way.

use sidewire_platform::Attachment;

use super::calls::v1_frame;
use super::*;
use crate::reactor::system::memory::Side;
use sidewire_wire::{Attachments, Parcel};

/// Descriptors of the process, of which others may have 32 under way, and the first of them 23.
const DESCRIPTORS: usize = 64;
/// Frames carry so many each.
const EACH: usize = 2;

fn stage() -> Stage {
    let mut stage = Stage::bare(|_| {});
    let mut site = stage.site("local:memory", Access::Anyone, Carries::Frames);
    site.descriptors = DESCRIPTORS;
    Arc::make_mut(&mut site.settings).attachments = Attachments::Carried;
    stage.reactor.add_listener(stage.world.listener(), site).expect("a listener");
    stage.service.defers = true;
    stage
}

/// One that takes attachments, and has some.
fn come(stage: &mut Stage, user: u32) -> Caller {
    let caller = stage.world.connect_as(0, user);
    let mut hello = v1_hello();
    hello[8] = 4;
    caller.send(&hello);
    stage.run(ms(1));
    caller.receive();
    caller
}

/// One that begins a frame, and does not end it. Whether it is still there then.
fn leaves_some(stage: &mut Stage, user: u32) -> Option<Caller> {
    let caller = come(stage, user);
    let mut frame = v1_frame(1, 1, 1, 0, &[5, 0, 1, 0x80, 1, 0, EACH as u8]);
    frame[5] = 2;
    caller.attach((0..EACH).map(|_| std::io::pipe().expect("a pipe").0.into()).collect());
    caller.send(&frame[..20]);
    stage.run(ms(1));
    if caller.server() == Side::Open {
        return Some(caller);
    }
    caller.close();
    stage.run(ms(1));
    None
}

/// As many of one user as leave some and stay.
fn fill(stage: &mut Stage, user: u32) -> Vec<Caller> {
    (0..20).map_while(|_| leaves_some(stage, user)).collect()
}

/// Where a user has just had more than he may.
pub(super) fn crowded() -> Stage {
    let mut stage = stage();
    let callers = fill(&mut stage, OTHERS);
    assert!(callers.len() < 20);
    stage
}

fn of(stage: &Stage, user: u32) -> u64 {
    let users = stage.counters.stats().users;
    let name = format!("uid {user}");
    users.iter().find(|usage| usage.party.to_string() == name).map_or(0, |usage| usage.attachments)
}

/// PROTOCOL L7b
#[test]
fn what_came_on_all_connections_of_a_user_is_counted_together() {
    let mut stage = stage();
    let first = fill(&mut stage, OTHERS);
    assert_eq!((first.len(), of(&stage, OTHERS)), (11, 22));
    assert_eq!(stage.counters.stats().limits, BTreeMap::from([("max_attachments share", 1)]));
    let second = fill(&mut stage, OTHERS + 1);
    assert_eq!((second.len(), of(&stage, OTHERS + 1)), (3, 6), "newcomers find some");
    // Our own user may have all.
    assert_eq!(fill(&mut stage, WE).len(), 20);
    // Who leaves has none any more, and who ends his frame none that was not taken.
    first.iter().for_each(Caller::close);
    stage.run(ms(1));
    assert_eq!(of(&stage, OTHERS), 0);
    second[0].send(&[1, 0, EACH as u8]);
    stage.run(ms(1));
    assert_eq!((of(&stage, OTHERS + 1), stage.service.requests), (4, 1));
}

/// Those that a client does not take are descriptors of ours, too.
#[test]
fn what_is_to_leave_on_all_connections_of_a_user_is_counted_together() {
    let mut stage = stage();
    let callers = [(); 2].map(|()| come(&mut stage, OTHERS));
    for caller in &callers {
        caller.takes(0);
        (1..=10).for_each(|id| caller.send(&v1_request(id, 0)));
        stage.run(ms(1));
    }
    for call in std::mem::take(&mut stage.service.deferred) {
        let parcel = Parcel::new(EACH as u8, Vec::<Attachment>::new());
        call.answer(Answer::Attached(ResultCode::OK, Vec::new(), parcel));
    }
    stage.run(ms(1));
    assert_eq!(of(&stage, OTHERS), 22);
    let failures = stage.counters.stats().failures;
    assert_eq!(failures, BTreeMap::from([((1, ResultCode::BUSY), 20 - 11)]));
    assert_eq!(stage.counters.stats().limits, BTreeMap::from([("attachments leaving", 20 - 11)]));
    // What is taken makes room.
    callers[0].takes(usize::MAX);
    stage.run(ms(1));
    assert_eq!(of(&stage, OTHERS), 2);
}
