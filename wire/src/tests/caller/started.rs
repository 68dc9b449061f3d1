//! Every order of what can happen to up to three started calls: whoever comes to one is told exactly one end,
//! the right one, however late he comes and whoever came and went before.

use std::time::Instant;

use super::{Bell, Does, Ends, LIMIT, TYPE, World};
use crate::caller::{Came, Outcome, Seat, Step};
use crate::frame::Kind;
use crate::tests::frame;
use crate::{Executed, Layout};

/// What may happen. Calls are numbered in the order in which they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    Start,
    /// What was started leaves.
    Flush,
    /// Somebody comes, and stays.
    Wait(usize),
    /// Somebody looks, and goes.
    Glance(usize),
    /// Whoever waits goes.
    Go(usize),
    Cancel(usize),
    Drop(usize),
    Reply(usize),
    /// Everybody's time is up.
    Late,
    Goodbye {
        last: usize,
    },
    End,
    Close,
}

/// What a call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Replied,
    TimedOut,
    Ended(Executed),
}

/// How a call must fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Open {
        is_attended: bool,
    },
    /// Nobody has asked yet.
    Decided(Fate),
    Told(Fate),
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    course: Course,
    has_left: bool,
    /// Whether the server has its reply still to give.
    is_owed: bool,
    is_late: bool,
}

/// How the calls must fare, told without any of the machinery.
#[derive(Clone, Debug)]
struct Model {
    layout: Layout,
    calls: Vec<Call>,
    is_left: bool,
    is_over: bool,
}

impl Model {
    fn next(&self) -> Vec<Happens> {
        let mut next = Vec::new();
        if self.calls.len() < 3 && !self.is_left && !self.is_over {
            next.push(Happens::Start);
        }
        for (number, call) in self.calls.iter().enumerate() {
            match call.course {
                Course::Open { is_attended: true } => {
                    next.extend([Happens::Go(number), Happens::Cancel(number), Happens::Drop(number)]);
                }
                Course::Open { is_attended: false } => {
                    next.extend([Happens::Wait(number), Happens::Glance(number), Happens::Drop(number)]);
                }
                Course::Decided(_) => next.extend([Happens::Glance(number), Happens::Drop(number)]),
                Course::Told(_) | Course::Dropped => {}
            }
        }
        let is_any = |what: fn(&Call) -> bool| self.calls.iter().any(what);
        if self.is_over || !is_any(|call| matches!(call.course, Course::Open { .. })) {
            return next;
        }
        let owed =
            (0..self.calls.len()).filter(|call| self.calls[*call].is_owed && self.calls[*call].has_left);
        next.extend(owed.take(if self.layout == Layout::V1 { 3 } else { 1 }).map(Happens::Reply));
        next.extend([Happens::End, Happens::Close]);
        if is_any(|call| !call.has_left) {
            next.push(Happens::Flush);
        }
        if is_any(|call| !call.is_late) {
            next.push(Happens::Late);
        }
        if self.layout == Layout::V1 && !self.is_left {
            let left = self.calls.iter().filter(|call| call.has_left).count();
            next.extend((0..=left).map(|last| Happens::Goodbye { last }));
        }
        next
    }

    fn apply(&mut self, happens: Happens) {
        let is_attended = |call: &Call| call.course == (Course::Open { is_attended: true });
        if matches!(happens, Happens::Reply(_) | Happens::Goodbye { .. } | Happens::Late)
            && self.calls.iter().any(is_attended)
        {
            self.leave(); // Whoever reads is awake by then.
        }
        match happens {
            Happens::Start => {
                let course = Course::Open { is_attended: false };
                self.calls.push(Call { course, has_left: false, is_owed: true, is_late: false });
            }
            Happens::Flush => self.leave(),
            Happens::Wait(number) | Happens::Glance(number) => {
                let call = &mut self.calls[number];
                let is_decided = matches!(call.course, Course::Decided(_));
                call.course = match call.course {
                    Course::Decided(fate) => Course::Told(fate),
                    Course::Open { .. } if call.is_late => Course::Told(Fate::TimedOut),
                    course => match happens {
                        Happens::Wait(_) => Course::Open { is_attended: true },
                        _ => course,
                    },
                };
                if !is_decided {
                    self.leave();
                }
            }
            Happens::Go(number) => {
                self.calls[number].course = Course::Open { is_attended: false };
                self.leave();
            }
            Happens::Cancel(_) => self.leave(),
            Happens::Drop(number) => {
                self.calls[number].course = Course::Dropped;
                self.leave();
            }
            Happens::Reply(number) => {
                self.calls[number].is_owed = false;
                self.decide(number, Fate::Replied);
            }
            Happens::Late => {
                for call in &mut self.calls {
                    call.is_late = true;
                    if call.course == (Course::Open { is_attended: true }) {
                        call.course = Course::Told(Fate::TimedOut);
                    }
                }
            }
            Happens::Goodbye { last } => {
                self.is_left = true;
                for number in last..self.calls.len() {
                    self.calls[number].is_owed = false;
                    self.decide(number, Fate::Ended(Executed::Never));
                }
            }
            Happens::End | Happens::Close => {
                if happens == Happens::Close {
                    self.leave();
                }
                self.is_over = true;
                for number in 0..self.calls.len() {
                    let has_left = self.calls[number].has_left;
                    let executed = if has_left { Executed::Perhaps } else { Executed::Never };
                    self.decide(number, Fate::Ended(executed));
                }
            }
        }
    }

    /// Whoever does anything sends what is there.
    fn leave(&mut self) {
        if !self.is_over {
            self.calls.iter_mut().for_each(|call| call.has_left = true);
        }
    }

    fn decide(&mut self, number: usize, fate: Fate) {
        let call = &mut self.calls[number];
        match call.course {
            Course::Open { is_attended: true } => call.course = Course::Told(fate),
            Course::Open { is_attended: false } => call.course = Course::Decided(fate),
            Course::Decided(_) | Course::Told(_) | Course::Dropped => {}
        }
    }
}

impl World {
    fn start(&mut self) {
        let deadline = Some(self.now + LIMIT);
        let id = self.caller.start(TYPE, b"you", 0, deadline).expect("memory");
        let number = self.add(Bell::default(), Seat::Call(id));
        self.threads[number].does = Does::Nothing;
    }

    fn attend(&mut self, number: usize, until: Option<Instant>) {
        let thread = &mut self.threads[number];
        match self.caller.poll(thread.seat, self.now) {
            Step::Done(outcome) => return thread.outcomes.push(outcome),
            step => assert_eq!(step, Step::NotYet, "nobody waits there"),
        }
        thread.bell = Bell::default();
        self.caller.attend(thread.seat, until, thread.bell.clone());
        thread.does = Does::Run;
    }

    /// Whoever waits there comes back from wherever it is.
    fn interrupt(&mut self, number: usize) -> Seat {
        let thread = &mut self.threads[number];
        if let Does::Read { asked, .. } = thread.does {
            self.caller.end_read(None, Came::Nothing, asked, self.now);
        }
        thread.does = Does::Nothing;
        thread.seat
    }

    fn happen(&mut self, happens: Happens, before: &Model) {
        match happens {
            Happens::Start => self.start(),
            Happens::Flush => self.send(),
            Happens::Wait(number) => self.attend(number, None),
            Happens::Glance(number) => self.attend(number, Some(self.now)),
            Happens::Go(number) => {
                let seat = self.interrupt(number);
                self.caller.detach([seat]);
                self.send();
            }
            Happens::Cancel(number) => {
                self.caller.cancel(self.threads[number].seat);
                self.send();
            }
            Happens::Drop(number) => {
                let seat = self.interrupt(number);
                self.caller.cancel(seat);
                self.caller.leave(seat);
                self.send();
            }
            Happens::Reply(call) => {
                let is_before = |call: &&Call| call.is_owed && call.has_left;
                self.reply(before.calls.iter().take(call).filter(is_before).count());
            }
            Happens::Late => self.pass(LIMIT),
            Happens::Goodbye { last } => {
                self.incoming.extend(frame(Kind::Goodbye, 0, 0, last as u32, 0, b""));
                self.read();
            }
            Happens::End => self.ends = Ends::InOrder,
            Happens::Close => {
                let count = self.caller.goodbye().expect("it is open").len();
                self.caller.sent(count, self.now);
                self.caller.close();
                // The channel is shut down under whoever is in it.
                self.ends = Ends::InOrder;
            }
        }
        self.run();
        if matches!(happens, Happens::Reply(_) | Happens::End) {
            self.read();
        }
    }

    /// If nobody waits, somebody else finds what is there.
    fn read(&mut self) {
        if self.is_readable() && !self.caller.is_somebody_reading() {
            assert!(self.caller.begin_read(usize::MAX).is_none());
            let bytes = std::mem::take(&mut self.incoming);
            let came = match (bytes.is_empty(), self.ends) {
                (true, Ends::NotYet) => Came::Nothing,
                (true, _) => Came::End,
                (false, _) => Came::Bytes { bytes: &bytes, is_all: true },
            };
            self.caller.end_read(None, came, self.now, self.now);
        }
        self.run();
    }

    fn is_as_told(&self, model: &Model) -> bool {
        self.threads.iter().zip(&model.calls).all(|(thread, call)| {
            match (call.course, &thread.outcomes[..]) {
                (Course::Open { .. } | Course::Decided(_) | Course::Dropped, []) => true,
                (Course::Told(Fate::Replied), [Outcome::Reply(reply)]) => reply.payload == b"yes",
                (Course::Told(Fate::TimedOut), [Outcome::TimedOut(Executed::Perhaps)]) => true,
                (Course::Told(Fate::Ended(fate)), [Outcome::Ended(executed)]) => fate == *executed,
                _ => false,
            }
        })
    }

    fn are_decided(&self, model: &Model) -> bool {
        self.threads.iter().zip(&model.calls).all(|(thread, call)| {
            self.caller.is_decided(thread.seat) == matches!(call.course, Course::Decided(_))
        })
    }
}

/// Tells all stories of so many events, and says how many there are.
fn tell(layout: Layout, story: &mut Vec<Happens>, model: &Model, left: usize) -> usize {
    let next = if left == 0 { Vec::new() } else { model.next() };
    if next.is_empty() {
        play(layout, story);
        return 1;
    }
    let mut count = 0;
    for happens in next {
        let mut model = model.clone();
        model.apply(happens);
        story.push(happens);
        count += tell(layout, story, &model, left - 1);
        story.pop();
    }
    count
}

fn play(layout: Layout, story: &[Happens]) {
    let mut world = World::new(layout);
    let mut model = Model { layout, calls: vec![], is_left: false, is_over: false };
    for happens in story {
        world.happen(*happens, &model);
        model.apply(*happens);
        assert!(world.is_as_told(&model), "{:?}, not {model:?}, after {story:?}", world.threads);
        assert!(world.are_decided(&model), "{:?}, not {model:?}, after {story:?}", world.caller);
    }
    // Whoever comes in the end learns the rest.
    world.happen(Happens::Late, &model);
    model.apply(Happens::Late);
    for number in 0..model.calls.len() {
        if matches!(model.calls[number].course, Course::Open { .. } | Course::Decided(_)) {
            world.happen(Happens::Glance(number), &model);
            model.apply(Happens::Glance(number));
        }
    }
    assert!(world.is_as_told(&model), "{:?}, not {model:?}, at the end of {story:?}", world.threads);
    assert_eq!(world.waiting(), 0, "nobody is forgotten after {story:?}");
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn every_story_of_three_started_calls_has_the_right_end() {
    for (layout, length) in [(Layout::V1, 6), (Layout::Classic, 6)] {
        let start = Model { layout, calls: vec![], is_left: false, is_over: false };
        let count = tell(layout, &mut Vec::new(), &start, length);
        println!("{layout:?}: {count} stories");
        assert!(count > 1000, "{count} stories");
    }
}
