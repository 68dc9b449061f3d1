//! The client's core in virtual time: threads that do what it says, a channel, and a responder behind it.

mod events;
mod incoming;
mod lending;
mod parts;
mod pending;
mod pings;
mod roles;
mod rules;
mod started;
mod stories;
mod told;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Answers, Side, defaults};
use crate::caller::{Caller, Came, Outcome, Purpose, Seat, Step, Wake};
use crate::{Layout, ResultCode};

/// The type of all requests.
const TYPE: u16 = 7;
/// The time limit of a call.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default)]
struct Bell(Rc<Cell<bool>>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.set(true);
    }
}

/// A thread that calls, as far as the scheduler sees it.
#[derive(Debug)]
struct Thread {
    bell: Bell,
    seat: Seat,
    does: Does,
    outcomes: Vec<Outcome>,
}

#[derive(Debug, PartialEq, Eq)]
enum Does {
    /// Is about to poll.
    Run,
    Sleep {
        until: Option<Instant>,
    },
    /// In the channel, since `asked`.
    Read {
        asked: Instant,
        until: Option<Instant>,
    },
    Nothing,
}

/// What a channel brings apart from bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    NotYet,
    InOrder,
    InPieces,
}

#[derive(Debug)]
struct World {
    caller: Caller<Bell>,
    server: Side,
    incoming: Vec<u8>,
    ends: Ends,
    now: Instant,
    threads: Vec<Thread>,
}

impl World {
    fn new(layout: Layout) -> World {
        World::with(layout, defaults())
    }

    fn with(layout: Layout, settings: std::sync::Arc<crate::Settings>) -> World {
        let server = Side::responder(defaults());
        let now = server.now;
        match layout {
            Layout::V1 => World::opened(Caller::v1(settings, [1; 16], now), server),
            Layout::Classic => World::of(Caller::classic(settings, now), server),
        }
    }

    /// One whose server says hello first.
    fn of_a_helper() -> World {
        let server = Side::initiator(defaults());
        World::opened(Caller::v1_responder(defaults(), server.now), server)
    }

    fn of(caller: Caller<Bell>, mut server: Side) -> World {
        server.answers = Answers::Later;
        let now = server.now;
        World { caller, server, incoming: Vec::new(), ends: Ends::NotYet, now, threads: Vec::new() }
    }

    fn opened(caller: Caller<Bell>, server: Side) -> World {
        let mut world = World::of(caller, server);
        let opener = world.ask(Purpose::Open);
        world.run();
        assert_eq!(world.threads[opener].outcomes, [Outcome::Ready]);
        world.threads.clear();
        world
    }

    fn ask(&mut self, purpose: Purpose) -> usize {
        let bell = Bell::default();
        let seat = self.caller.ask(purpose, Some(self.now + LIMIT), bell.clone());
        self.add(bell, seat)
    }

    fn add(&mut self, bell: Bell, seat: Seat) -> usize {
        self.threads.push(Thread { bell, seat, does: Does::Run, outcomes: Vec::new() });
        self.threads.len() - 1
    }

    /// A thread that has begun a call, but not polled yet.
    fn begin(&mut self, payload: &[u8]) -> usize {
        assert!(self.caller.may_begin(Purpose::Call(payload.len())));
        let bell = Bell::default();
        let deadline = Some(self.now + LIMIT);
        let id = self.caller.begin(TYPE, payload, 0, deadline, bell.clone()).expect("memory");
        self.add(bell, Seat::Call(id))
    }

    /// Until everybody sleeps or waits at the channel.
    fn run(&mut self) {
        for _ in 0..1000 {
            let mut is_quiet = true;
            for index in 0..self.threads.len() {
                is_quiet &= !self.turn(index);
            }
            if is_quiet {
                return self.check();
            }
        }
        panic!("no rest: {self:?}");
    }

    /// Whether the thread had something to do.
    fn turn(&mut self, index: usize) -> bool {
        let is_rung = self.threads[index].bell.0.take();
        let is_up = |until: Option<Instant>| until.is_some_and(|until| until <= self.now);
        match self.threads[index].does {
            Does::Run => {}
            Does::Sleep { until } if is_rung || is_up(until) => {}
            Does::Read { asked, until } if self.is_readable() || is_up(until) => {
                self.end_read(index, asked);
                self.threads[index].does = Does::Run;
                return true;
            }
            Does::Sleep { .. } | Does::Read { .. } | Does::Nothing => return false,
        }
        self.send();
        let step = self.caller.poll(self.threads[index].seat, self.now);
        self.threads[index].does = match step {
            Step::Done(outcome) => {
                self.threads[index].outcomes.push(outcome);
                Does::Nothing
            }
            Step::Read { until } => {
                assert!(self.caller.begin_read(usize::MAX).is_none());
                Does::Read { asked: self.now, until }
            }
            Step::Look => {
                for is_first in [true, false] {
                    if is_first || self.is_readable() {
                        assert!(self.caller.begin_read(usize::MAX).is_none());
                        self.end_read(index, self.now);
                    }
                }
                Does::Run
            }
            Step::Wait { until } => Does::Sleep { until },
            Step::NotYet => Does::Nothing,
        };
        true
    }

    fn is_readable(&self) -> bool {
        !self.incoming.is_empty() || self.ends != Ends::NotYet
    }

    fn end_read(&mut self, index: usize, asked: Instant) {
        let bytes = std::mem::take(&mut self.incoming);
        let came = match self.ends {
            _ if !bytes.is_empty() => Came::Bytes { bytes: &bytes, is_all: true },
            Ends::NotYet => Came::Nothing,
            Ends::InOrder => Came::End,
            Ends::InPieces => Came::Broken,
        };
        self.caller.end_read(Some(self.threads[index].seat), came, asked, self.now);
    }

    /// What is to be sent reaches the server at once.
    fn send(&mut self) {
        while let Some(bytes) = self.caller.to_send() {
            let bytes = bytes.to_vec();
            self.caller.sent(bytes.len(), self.now);
            self.server.feed(&bytes);
        }
        self.incoming.extend(self.server.sent());
    }

    fn reply(&mut self, which: usize) {
        // A classic server sees one request at a time.
        let ticket = self.server.tickets.remove(which);
        let mut reply = self.server.connection.begin_reply(ticket);
        reply.write(b"yes");
        reply.finish(ResultCode::OK);
        self.server.feed(&[]);
        self.incoming.extend(self.server.sent());
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.now += time;
    }

    fn readers(&self) -> usize {
        self.threads.iter().filter(|thread| matches!(thread.does, Does::Read { .. })).count()
    }

    fn waiting(&self) -> usize {
        self.threads.iter().filter(|thread| thread.does != Does::Nothing).count()
    }

    fn check(&self) {
        assert_eq!(self.readers(), self.waiting().min(1), "one reads, as long as anybody waits: {self:?}");
        assert_eq!(self.caller.is_somebody_reading(), self.readers() == 1);
    }
}
