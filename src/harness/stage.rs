//! A server, its clients, and the time that passes for all of them.

use std::cell::{RefCell, RefMut};
use std::time::{Duration, Instant};

use sidewire_platform::{Endpoint, Peer as Identity};

use super::peer::{Peer, Polled};
use crate::reactor::memory_system::World;
use crate::server::{InMemory, Threads};
use sidewire_wire::caller::{Outcome, Seat};

/// A server, and all who have connected to it.
pub(super) struct Stage<L: ?Sized> {
    pub(super) world: World,
    pub(super) endpoint: Endpoint,
    /// Who we are.
    pub(super) own: Identity,
    pub(super) peers: Vec<Peer>,
    /// How long other threads may take, by the wall's clock.
    pub(super) patience: Duration,
    /// Whether whoever waited last has waited for them for so long.
    pub(super) is_impatient: bool,
    pub(super) begun: Instant,
    pub(super) server: L,
}

/// A server, whatever its state is.
pub(super) trait Turns {
    fn turn(&mut self);
    fn has_stopped(&self) -> bool;
    fn next_timeout(&self) -> Option<Duration>;
    fn is_owing(&self) -> bool;
    fn wait_for_mail(&mut self, limit: Duration) -> bool;
}

/// The stage, for whoever wants something of it.
#[track_caller]
pub(super) fn enter<L: ?Sized>(stage: &RefCell<Stage<L>>) -> RefMut<'_, Stage<L>> {
    let Ok(stage) = stage.try_borrow_mut() else {
        panic!("the harness is in use: by whoever was lent its state, or by the handler that asks");
    };
    stage
}

/// Turns of a loop that never comes to rest. A large transfer takes some thousands.
const RESTLESS: usize = 1_000_000;

impl<L: Turns + ?Sized> Stage<L> {
    pub(super) fn now(&self) -> Instant {
        self.world.now()
    }

    /// Lets happen what can happen at this moment.
    pub(super) fn settle(&mut self) {
        for _ in 0..RESTLESS {
            let now = self.world.now();
            let mut is_quiet = true;
            for peer in &mut self.peers {
                is_quiet &= !peer.exchange(now);
            }
            let is_due = self.server.next_timeout() == Some(Duration::ZERO);
            if !self.server.has_stopped() && (is_due || !self.world.is_quiet()) {
                self.server.turn();
                is_quiet = false;
            }
            // Only when all that has come was read it is known who is late.
            if is_quiet && !self.peers.iter_mut().any(|peer| peer.judge(now)) {
                return;
            }
        }
        panic!("the server does not come to rest: something asks it again and again, in no time");
    }

    /// Lets so much time pass, and everything happen that it brings.
    pub(super) fn advance(&mut self, time: Duration) {
        let until = self.now() + time;
        self.settle();
        while let Some(at) = self.next_deadline().filter(|at| *at < until) {
            self.pass_to(at);
            self.settle();
        }
        self.pass_to(until);
        self.settle();
    }

    /// What becomes of a client's seat: first what can happen at this moment does, then other threads get the time that
    /// they take, if something waits for an answer; at last time passes. `None`: nothing, as long as anybody waits there.
    pub(super) fn wait(&mut self, client: usize, seat: Seat) -> Option<Outcome> {
        self.is_impatient = false;
        self.settle();
        loop {
            let until = match self.poll(client, seat) {
                Polled::Done(outcome) => return Some(outcome),
                Polled::NotInTime => return None,
                Polled::Later(until) => until,
            };
            if self.is_impatient || self.patience.is_zero() || !self.server.is_owing() {
                let next = until.into_iter().chain(self.next_deadline()).min();
                self.pass_to(next?);
            } else {
                self.is_impatient = !self.server.wait_for_mail(self.patience);
                self.settle();
            }
        }
    }

    /// What has become of the seat. Whose time is up now is not answered at this moment, since nothing gets anywhere in
    /// no time: so that is looked at before anything happens, and behind it.
    fn poll(&mut self, client: usize, seat: Seat) -> Polled {
        let now = self.now();
        let before = self.peers[client].poll(seat, now);
        self.settle();
        match before {
            Polled::Later(_) => self.peers[client].poll(seat, now),
            Polled::Done(_) | Polled::NotInTime => before,
        }
    }

    /// What has become of a client's seat by now.
    pub(super) fn look(&mut self, client: usize, seat: Seat) -> Option<Outcome> {
        self.settle();
        let now = self.now();
        match self.peers[client].poll(seat, now) {
            Polled::Done(outcome) => Some(outcome),
            Polled::Later(_) | Polled::NotInTime => None,
        }
    }

    /// When something happens by itself next.
    fn next_deadline(&mut self) -> Option<Instant> {
        let now = self.now();
        let server = self.server.next_timeout().map(|left| now + left);
        let peers = self.peers.iter_mut().filter_map(|peer| peer.deadline(now));
        peers.chain(server).filter(|at| *at > now).min()
    }

    fn pass_to(&self, at: Instant) {
        self.world.pass(at.saturating_duration_since(self.now()));
    }
}

impl<S, T: Threads> Turns for InMemory<S, T> {
    fn turn(&mut self) {
        InMemory::turn(self);
    }

    fn has_stopped(&self) -> bool {
        InMemory::has_stopped(self)
    }

    fn next_timeout(&self) -> Option<Duration> {
        InMemory::next_timeout(self)
    }

    fn is_owing(&self) -> bool {
        InMemory::is_owing(self)
    }

    fn wait_for_mail(&mut self, limit: Duration) -> bool {
        InMemory::wait_for_mail(self, limit)
    }
}
