//! Every order of what can happen to up to three calls: each has exactly one end, somebody always reads as
//! long as anybody waits, and nobody wakes up by luck.

use super::{Does, Ends, LIMIT, TYPE, World};
use crate::caller::{Came, Outcome, Purpose, Reply};
use crate::frame::Kind;
use crate::tests::{classic_frame, frame};
use crate::{Executed, Layout};

/// What may happen to a world. Calls are numbered in the order in which they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    Begin,
    Reply(usize),
    Leave(usize),
    /// Everybody's time is up.
    Late,
    Goodbye {
        last: usize,
    },
    Garbage,
    End(Ends),
}

/// What is to become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    Left,
    Replied,
    TimedOut,
    Ended(Executed),
}

/// How the calls must fare, told without any of the machinery.
#[derive(Clone, Debug)]
struct Model {
    layout: Layout,
    fates: Vec<Fate>,
    /// Whether the server has its reply still to give.
    owed: Vec<bool>,
    is_left: bool,
    is_over: bool,
}

impl Model {
    fn next(&self) -> Vec<Happens> {
        let mut next = Vec::new();
        if self.fates.len() < 3 {
            next.push(Happens::Begin);
        }
        if self.is_over {
            return next;
        }
        let count = self.fates.len();
        let owed = (0..count).filter(|call| self.owed[*call]);
        next.extend(owed.take(if self.layout == Layout::V1 { 3 } else { 1 }).map(Happens::Reply));
        next.extend((0..count).filter(|call| self.fates[*call] == Fate::Waits).map(Happens::Leave));
        if self.fates.contains(&Fate::Waits) {
            next.extend([Happens::Late, Happens::End(Ends::InOrder), Happens::End(Ends::InPieces)]);
            next.push(Happens::Garbage);
        }
        if self.layout == Layout::V1 && !self.is_left && self.fates.contains(&Fate::Waits) {
            next.extend((0..=count).map(|last| Happens::Goodbye { last }));
        }
        next
    }

    fn apply(&mut self, happens: Happens) {
        let waits = |fate: &&mut Fate| **fate == Fate::Waits;
        match happens {
            Happens::Begin => {
                let is_too_late = self.is_left || self.is_over;
                self.fates.push(if is_too_late { Fate::Ended(Executed::Never) } else { Fate::Waits });
                self.owed.push(!is_too_late);
            }
            Happens::Reply(call) => {
                self.owed[call] = false;
                if self.fates[call] == Fate::Waits {
                    self.fates[call] = Fate::Replied;
                }
            }
            Happens::Leave(call) => self.fates[call] = Fate::Left,
            Happens::Late => self.fates.iter_mut().filter(waits).for_each(|fate| *fate = Fate::TimedOut),
            Happens::Goodbye { last } => {
                self.is_left = true;
                let behind = self.fates.iter_mut().skip(last);
                behind.filter(waits).for_each(|fate| *fate = Fate::Ended(Executed::Never));
                self.owed.iter_mut().skip(last).for_each(|owed| *owed = false);
            }
            Happens::Garbage | Happens::End(_) => {
                self.is_over = true;
                let waiting = self.fates.iter_mut().filter(waits);
                waiting.for_each(|fate| *fate = Fate::Ended(Executed::Perhaps));
            }
        }
    }
}

impl World {
    fn play(&mut self, happens: Happens, before: &Model) {
        match happens {
            Happens::Begin if before.is_left || before.is_over => drop(self.ask(Purpose::Call(3))),
            Happens::Begin => drop(self.begin(b"you")),
            Happens::Reply(call) => self.reply(before.owed.iter().take(call).filter(|owed| **owed).count()),
            Happens::Leave(call) => {
                // A thread can't leave while it waits in the channel, but an owner that is cancelled can.
                if let Does::Read { asked, .. } = self.threads[call].does {
                    self.caller.end_read(None, Came::Nothing, asked, self.now);
                }
                self.caller.leave(self.threads[call].seat);
                self.threads[call].does = Does::Nothing;
            }
            Happens::Late => self.pass(LIMIT),
            Happens::Goodbye { last } => {
                self.incoming.extend(frame(Kind::Goodbye, 0, 0, last as u32, 0, b""));
            }
            Happens::Garbage if before.layout == Layout::V1 => self.incoming.extend([0xEE; 16]),
            Happens::Garbage => self.incoming.extend(classic_frame(TYPE.into(), 0, -1, b"")),
            Happens::End(ends) => self.ends = ends,
        }
        self.run();
    }

    fn compare(&self, model: &Model, story: &[Happens]) {
        for (thread, fate) in self.threads.iter().zip(&model.fates) {
            let is_right = match (fate, thread.outcomes.as_slice()) {
                (Fate::Waits | Fate::Left, []) => true,
                (Fate::Replied, [Outcome::Reply(Reply { payload, .. })]) => payload == b"yes",
                (Fate::TimedOut, [Outcome::TimedOut(Executed::Perhaps)]) => true,
                (Fate::Ended(fate), [Outcome::Ended(executed)]) => fate == executed,
                _ => false,
            };
            assert!(is_right, "{fate:?}, not {:?}, after {story:?}", thread.outcomes);
        }
    }
}

/// Tells all stories of so many events, and says how many there are.
fn tell(
    world: &dyn Fn() -> World,
    layout: Layout,
    story: &mut Vec<Happens>,
    model: &Model,
    left: usize,
) -> usize {
    let next = if left == 0 { Vec::new() } else { model.next() };
    if next.is_empty() {
        let mut world = world();
        let start = Model { layout, fates: vec![], owed: vec![], is_left: false, is_over: false };
        let mut model = start;
        for happens in story.iter() {
            world.play(*happens, &model);
            model.apply(*happens);
            world.compare(&model, story);
        }
        world.pass(LIMIT);
        world.run();
        assert_eq!(world.waiting(), 0, "nobody is forgotten after {story:?}");
        return 1;
    }
    let mut count = 0;
    for happens in next {
        let mut model = model.clone();
        model.apply(happens);
        story.push(happens);
        count += tell(world, layout, story, &model, left - 1);
        story.pop();
    }
    count
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn every_story_of_three_calls_has_the_right_end() {
    let worlds: [(&dyn Fn() -> World, _, _); 3] = [
        (&|| World::new(Layout::V1), Layout::V1, 8),
        (&World::of_a_helper, Layout::V1, 7),
        (&|| World::new(Layout::Classic), Layout::Classic, 9),
    ];
    for (world, layout, length) in worlds {
        let start = Model { layout, fates: vec![], owed: vec![], is_left: false, is_over: false };
        let count = tell(world, layout, &mut Vec::new(), &start, length);
        assert!(count > 1000, "{count} stories");
    }
}
