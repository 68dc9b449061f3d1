//! Signs of life.

use std::time::Duration;

use super::{Bell, Does, Ends, LIMIT, World};
use crate::caller::{Outcome, Purpose, Seat};
use crate::frame::Kind;
use crate::tests::frame;
use crate::{Executed, Layout};

impl World {
    /// A thread that has sent a ping, but not polled yet.
    fn ping(&mut self) -> usize {
        assert!(self.caller.may_begin(Purpose::Notify(0)));
        let bell = Bell::default();
        let seat = self.caller.ping(Some(self.now + LIMIT), bell.clone()).expect("memory");
        self.add(bell, seat)
    }
}

#[test]
fn a_ping_is_answered_beside_calls() {
    let mut world = World::new(Layout::V1);
    let (call, ping) = (world.begin(b"x"), world.ping());
    world.run();
    assert_eq!(world.threads[ping].outcomes, [Outcome::Ready]);
    assert_eq!(world.threads[call].outcomes, [], "it is open still");
    world.reply(0);
    world.run();
    assert!(matches!(world.threads[call].outcomes[..], [Outcome::Reply(_)]));
}

/// PROTOCOL P4
#[test]
fn one_pong_answers_all_pings_before_it() {
    let mut world = World::new(Layout::V1);
    let pings = [world.ping(), world.ping(), world.ping()];
    world.send();
    world.run();
    for ping in pings {
        assert_eq!(world.threads[ping].outcomes, [Outcome::Ready]);
    }
    // By its id: a later one is open still.
    let (first, second) = (world.ping(), world.ping());
    let Seat::Ping(id) = world.threads[first].seat else { panic!("no ping") };
    while let Some(bytes) = world.caller.to_send() {
        let count = bytes.len();
        world.caller.sent(count, world.now);
    }
    world.incoming.extend(frame(Kind::Pong, 0, 0, id, 0, b""));
    world.run();
    assert_eq!(world.threads[first].outcomes, [Outcome::Ready]);
    assert_eq!((&world.threads[second].outcomes[..], world.readers()), (&[][..], 1), "somebody else reads");
    world.pass(LIMIT + Duration::from_millis(1));
    world.run();
    assert_eq!(world.threads[second].outcomes, [Outcome::TimedOut(Executed::Never)]);
    assert_eq!(world.threads[second].does, Does::Nothing);
}

/// PROTOCOL F9
#[test]
fn a_pong_that_nobody_asked_for_is_skipped() {
    let mut world = World::new(Layout::V1);
    world.incoming.extend(frame(Kind::Pong, 0, 0, 77, 0, b"payload"));
    let ping = world.ping();
    world.run();
    assert_eq!(world.threads[ping].outcomes, [Outcome::Ready]);
}

#[test]
fn pings_end_with_the_connection() {
    for ends in [Ends::InOrder, Ends::InPieces] {
        let mut world = World::new(Layout::V1);
        let ping = world.ping();
        while let Some(bytes) = world.caller.to_send() {
            let count = bytes.len();
            world.caller.sent(count, world.now);
        }
        world.ends = ends;
        world.run();
        assert_eq!(world.threads[ping].outcomes, [Outcome::Ended(Executed::Never)]);
    }
}
