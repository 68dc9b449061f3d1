//! Those who do not wait in the channel but are told when something has come, as tasks are: every order of what can
//! happen to three of them. One that was polled once need never be polled again, and nobody waits for it.

use super::{Bell, Does, Ends, LIMIT, TYPE, World};
use crate::caller::{Came, Outcome, Seat, Step};
use crate::{Layout, ResultCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    /// The server answers this one.
    Reply(usize),
    /// It says goodbye; those behind this one were not accepted.
    Goodbye(usize),
    /// The channel ends.
    End,
    /// The channel tells that something has come.
    Told,
    /// A task gets its turn, if it was woken.
    Turn(usize),
    /// It is never polled again.
    Leave(usize),
    /// It is gone.
    Drop(usize),
    /// Another one begins a call, and gets its first turn later.
    Begin,
}

#[derive(Debug)]
struct Story {
    world: World,
    left: Vec<usize>,
    dropped: Vec<usize>,
}

impl Story {
    fn begin(tasks: usize) -> Story {
        let mut story = Story { world: World::new(Layout::V1), left: Vec::new(), dropped: Vec::new() };
        for _ in 0..tasks {
            story.act(Happens::Begin);
        }
        (0..tasks).for_each(|task| story.poll(task));
        story
    }

    fn act(&mut self, act: Happens) {
        let world = &mut self.world;
        match act {
            Happens::Reply(task) => self.reply(task),
            Happens::Goodbye(task) => {
                if let (None, Some(Seat::Call(id))) =
                    (world.caller.end(), world.threads.get(task).map(|it| it.seat))
                {
                    world.incoming.extend(crate::tests::frame(crate::frame::Kind::Goodbye, 0, 0, id, 0, b""));
                }
            }
            Happens::End => world.ends = Ends::InOrder,
            Happens::Told => self.told(),
            Happens::Turn(task) => {
                if self.world.threads[task].bell.0.get() {
                    self.poll(task);
                }
            }
            Happens::Leave(task) => self.left.push(task),
            Happens::Drop(task) => {
                if world.threads[task].does != Does::Nothing {
                    world.caller.cancel(world.threads[task].seat);
                    world.caller.leave(world.threads[task].seat);
                    world.threads[task].does = Does::Nothing;
                    world.send();
                }
                self.dropped.push(task);
            }
            Happens::Begin => {
                if world.caller.end().is_none() {
                    let bell = Bell::default();
                    bell.0.set(true);
                    let deadline = Some(world.now + LIMIT);
                    let id = world.caller.begin(TYPE, b"", 0, deadline, bell.clone()).expect("memory");
                    world.add(bell, Seat::Call(id));
                    world.send();
                }
            }
        }
    }

    fn reply(&mut self, task: usize) {
        let Some(Seat::Call(id)) = self.world.threads.get(task).map(|task| task.seat) else { return };
        let place = self.world.server.tickets.iter().position(|ticket| ticket.id == id);
        if let Some(place) = place {
            self.world.reply(place);
        }
    }

    /// Somebody gets his turn: he looks before he waits.
    fn poll(&mut self, index: usize) {
        if self.world.threads[index].does == Does::Nothing || self.left.contains(&index) {
            return;
        }
        self.world.threads[index].bell.0.set(false);
        loop {
            self.world.send();
            let World { caller, threads, now, .. } = &mut self.world;
            match caller.poll(threads[index].seat, *now) {
                Step::Done(outcome) => {
                    threads[index].outcomes.push(outcome);
                    threads[index].does = Does::Nothing;
                    return;
                }
                Step::Read { .. } | Step::Wait { .. } if caller.is_somebody_reading() => {
                    threads[index].does = Does::Sleep { until: None };
                    return;
                }
                Step::Read { .. } | Step::Wait { .. } => self.read_for_all(),
                step @ (Step::Look | Step::NotYet) => panic!("nobody is late: {step:?}"),
            }
        }
    }

    /// As long as anybody waits and there is something.
    fn read_for_all(&mut self) {
        loop {
            let World { caller, incoming, ends, now, .. } = &mut self.world;
            if caller.is_over() || !caller.is_read_wanted() {
                return caller.stop_reading();
            }
            if !caller.is_somebody_reading() {
                assert!(caller.begin_read(usize::MAX).is_none());
            }
            let bytes = std::mem::take(incoming);
            let came = match ends {
                _ if !bytes.is_empty() => Came::Bytes { bytes: &bytes, is_all: true },
                Ends::NotYet => return,
                Ends::InOrder | Ends::InPieces => Came::End,
            };
            caller.read_on(came, *now, *now);
        }
    }

    fn told(&mut self) {
        if self.world.caller.is_somebody_reading() && self.world.is_readable() {
            self.read_for_all();
        }
    }

    /// In the end all is answered, all has come, and whoever was woken has had his turn.
    fn judge(mut self, acts: &[Happens]) {
        (0..self.world.threads.len()).for_each(|task| self.reply(task));
        let mut is_quiet = false;
        while !is_quiet {
            self.told();
            is_quiet = true;
            for task in 0..self.world.threads.len() {
                if self.world.threads[task].bell.0.get() && !self.left.contains(&task) {
                    self.poll(task);
                    self.world.threads[task].bell.0.set(false);
                    is_quiet = false;
                }
            }
        }
        // Who has been away finds his end when he comes back.
        for task in std::mem::take(&mut self.left) {
            self.poll(task);
        }
        for (index, thread) in self.world.threads.iter().enumerate() {
            let is_right = match &thread.outcomes[..] {
                [] => self.dropped.contains(&index),
                [Outcome::Reply(reply)] => reply.rc == ResultCode::OK,
                [Outcome::Ended(_)] => {
                    acts.iter().any(|act| matches!(act, Happens::End | Happens::Goodbye(_)))
                }
                _ => false,
            };
            assert!(is_right, "{acts:?}: {index} of {self:?}");
        }
        assert!(!self.world.caller.is_read_wanted(), "{acts:?}: {self:?}");
    }
}

/// Calls `each` with every order of these.
fn orders(acts: &mut [Happens], fixed: usize, each: &mut impl FnMut(&[Happens])) {
    if fixed == acts.len() {
        return each(acts);
    }
    for next in fixed..acts.len() {
        acts.swap(fixed, next);
        orders(acts, fixed + 1, each);
        acts.swap(fixed, next);
    }
}

fn play(acts: &[Happens]) {
    orders(&mut acts.to_vec(), 0, &mut |acts| {
        let mut story = Story::begin(3);
        acts.iter().for_each(|act| story.act(*act));
        story.judge(acts);
    });
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn nobody_waits_for_one_that_is_not_polled() {
    use Happens::{Begin, Drop, End, Goodbye, Leave, Reply, Told, Turn};
    // The first of them is the one that has looked last.
    for away in [Leave(0), Drop(0), Leave(2), Drop(2)] {
        play(&[Reply(0), Reply(1), Told, Turn(1), away, Begin]);
        play(&[Reply(1), Told, Turn(1), Turn(2), away, End]);
        play(&[Reply(2), Reply(1), Told, Told, away, Goodbye(1)]);
        play(&[Reply(1), Told, Told, Begin, away, Drop(1)]);
    }
}
