//! When a loop leaves because nobody needs it, so that no client falls into the gap.
//!
//! Whoever starts a server holds the lock of its endpoint until he has connected, and a server leaves under the same
//! locks, which it keeps until nothing is left of it. So a starter finds his server there, and the next one is started
//! when this one has gone. Those who come meanwhile are told to try again: see [`withdraw`](Reactor::withdraw).

use std::time::{Duration, Instant};

use super::schedule::{Target, Wakeup};
use super::source::Socket;
use super::system::System;
use super::{Reactor, Service};

/// How long a server waits for its first client, at least: it was started for one.
pub(super) const FIRST_CLIENT: Duration = Duration::from_secs(5);
/// What those who came too late get to say who they are, and to be told.
const GRACE: Duration = Duration::from_secs(1);
/// When a loop that would leave asks again whether nobody starts its server any more.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Whether a loop leaves, and when.
#[derive(Debug)]
pub(super) struct Idle<L> {
    rule: Rule,
    wakeup: Wakeup,
    /// Those of the endpoints that it has left.
    locks: Vec<L>,
}

#[derive(Debug)]
enum Rule {
    Stays,
    /// It has not turned yet since it was told so.
    Begins {
        after: Duration,
    },
    /// If nobody is connected then.
    Leaves {
        after: Duration,
        at: Instant,
    },
}

impl<L> Default for Idle<L> {
    fn default() -> Idle<L> {
        Idle { rule: Rule::Stays, wakeup: Wakeup::default(), locks: Vec::new() }
    }
}

impl<L> Idle<L> {
    fn can_leave(&self) -> bool {
        !matches!(self.rule, Rule::Stays)
    }
}

impl<Y: System> Reactor<Y> {
    /// Has the loop leave when nobody was connected for so long, counted from its next turn.
    pub(crate) fn leave_when_idle(&mut self, after: Duration) {
        self.idle.rule = Rule::Begins { after };
    }

    /// Has the loop leave as this one would that has not turned yet.
    #[cfg(feature = "harness")]
    pub(super) fn leave_as<Z: System>(&mut self, other: &Reactor<Z>) {
        if let Rule::Begins { after } = other.idle.rule {
            self.leave_when_idle(after);
        }
    }

    /// From here on it is waited for clients.
    pub(super) fn begin_idleness(&mut self) {
        let Rule::Begins { after } = self.idle.rule else { return };
        match self.system.now().checked_add(after.max(FIRST_CLIENT)) {
            Some(at) => {
                self.idle.rule = Rule::Leaves { after, at };
                self.schedule.arm(Target::Idle, at, &mut self.idle.wakeup);
            }
            None => self.idle.rule = Rule::Stays,
        }
    }

    /// A connection has gone, which perhaps was the last.
    #[inline]
    pub(super) fn note_departure(&mut self) {
        if self.idle.can_leave() && !self.is_occupied() {
            self.count_from_now();
        }
    }

    /// Somebody has sent a datagram, who is never connected.
    #[inline]
    pub(super) fn note_datagrams(&mut self) {
        if self.idle.can_leave() {
            self.count_from_now();
        }
    }

    /// From now on nobody is here.
    fn count_from_now(&mut self) {
        let Rule::Leaves { after, at } = &mut self.idle.rule else { return };
        if let Some(then) = self.system.now().checked_add(*after) {
            *at = then;
            self.schedule.arm(Target::Idle, then, &mut self.idle.wakeup);
        }
    }

    /// Whether anybody is connected who is not just told that they may not be, or has yet to prove that they may.
    fn is_occupied(&self) -> bool {
        self.sources.iter().any(|source| source.connections > self.unproven(source))
    }

    /// Leaves, if it is time. Otherwise the timer is set again, or will be when the last one goes.
    pub(super) fn leave_if_idle(&mut self, judged: Instant, service: &mut impl Service) {
        self.idle.wakeup.rang();
        let Rule::Leaves { after, at } = self.idle.rule else { return };
        if self.is_occupied() || self.stopping.is_some() {
            return;
        }
        if at > judged {
            return self.schedule.arm(Target::Idle, at, &mut self.idle.wakeup);
        }
        let Some(locks) = self.lock_endpoints() else {
            let later = self.system.now() + ASK_AGAIN;
            return self.schedule.arm(Target::Idle, later, &mut self.idle.wakeup);
        };
        // Who has come since the last poll stays, and we with them.
        for index in 0..self.sources.len() {
            let source = &self.sources[index];
            if let Socket::Listener(_) = source.socket {
                self.accept(source.number(), service);
            }
        }
        if self.is_occupied() {
            return;
        }
        log::info!("nobody was connected for {after:?}: the server leaves");
        self.idle.locks = locks;
        self.stop(GRACE, service);
    }

    /// The locks under which the servers of all endpoints are started. `None`: somebody starts one just now.
    fn lock_endpoints(&self) -> Option<Vec<Y::StartLock>> {
        let mut locks = Vec::new();
        for source in self.sources.iter().filter(|source| source.is_for_streams()) {
            let endpoint = &source.site.endpoint;
            match self.system.lock_start(endpoint) {
                Ok(Some(lock)) => locks.push(lock),
                Ok(None) => {
                    log::debug!("{endpoint}: somebody is about to connect; the server stays");
                    return None;
                }
                // Then nobody else can have it, either.
                Err(error) => log::debug!("{endpoint}: leaves without a lock: {error}"),
            }
        }
        Some(locks)
    }

    /// What is to be kept until nothing is left of the server: as long as it is, nobody starts another.
    pub(crate) fn take_locks(&mut self) -> Vec<Y::StartLock> {
        std::mem::take(&mut self.idle.locks)
    }
}
