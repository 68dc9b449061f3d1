//! What all links together hold, and what they share.

use sidewire_wire::{Buffer, ProtocolError};

use super::parties::{Parties, PartyId};
use super::schedule::{Target, Wakeup};
use super::slots::Key;
use super::system::System;
use super::{Link, Reactor, Service};
use crate::counters::Counters;
use crate::limits::{KEEP_LARGE, READ_BUFFER};

/// The loop's buffers, and its account of what its links hold.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What every read goes into.
    pub(crate) buffer: Box<[u8]>,
    /// Outbox buffers that nobody needs right now.
    pub(crate) spare: Vec<Buffer>,
    /// Whether any of them is large, and so is to be given back to the system in the end.
    has_large: bool,
    /// When that is done.
    pub(super) wakeup: Wakeup,
    /// Who holds how much of it, and of the places.
    pub(crate) parties: Parties,
    held: usize,
    most: usize,
}

/// How many outbox buffers a loop keeps for its links.
const SPARE_BUFFERS: usize = 8;

impl Memory {
    /// Links may hold so many bytes together.
    pub(crate) fn new(most: usize, counters: Counters) -> Memory {
        Memory {
            buffer: vec![0; READ_BUFFER].into(),
            spare: Vec::new(),
            has_large: false,
            wakeup: Wakeup::default(),
            parties: Parties::new(counters),
            held: 0,
            most,
        }
    }

    /// Takes back what a link does not need any more.
    #[inline(always)]
    pub(crate) fn take_back(&mut self, buffer: Buffer) {
        if buffer.is_worth_keeping() && self.spare.len() < SPARE_BUFFERS {
            self.has_large |= buffer.is_large();
            self.spare.push(buffer);
        } else {
            give_up(buffer);
        }
    }

    /// Gives large buffers back to the system.
    pub(super) fn trim(&mut self) {
        self.wakeup.rang();
        self.has_large = false;
        self.spare.retain(|buffer| !buffer.is_large());
    }

    /// A link of this party holds so much now; `account` is its own note of what it held before.
    #[inline]
    pub(crate) fn account(&mut self, party: PartyId, account: &mut usize, held: usize) {
        if *account != held {
            self.note(party, account, held);
        }
    }

    #[inline(never)]
    fn note(&mut self, party: PartyId, account: &mut usize, held: usize) {
        self.held = self.held + held - *account;
        self.parties.account(party, *account, held);
        *account = held;
    }

    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.held > self.most
    }
}

/// To the system.
#[cold]
fn give_up(buffer: Buffer) {
    drop(buffer);
}

impl<Y: System> Reactor<Y> {
    /// Sees to it that nobody keeps large buffers for long. Those in use are built anew then, which costs one frame in a
    /// second what it costs all others without them.
    #[inline]
    pub(super) fn watch_large_buffers(&mut self) {
        if self.memory.has_large && !self.memory.wakeup.is_armed() {
            let at = self.system.now() + KEEP_LARGE;
            self.schedule.arm(Target::Memory, at, &mut self.memory.wakeup);
        }
    }

    /// What is counted in two places is the same in both. Looks at everyone.
    pub(super) fn check_accounts(&self) {
        debug_assert_eq!(
            self.memory.held,
            self.links.iter().map(|link| link.accounted).sum::<usize>(),
            "what is held is the sum of what each link holds"
        );
        debug_assert!(
            self.links.iter().all(|link| link.accounted == link.protocol().buffered()),
            "a link's account is what it holds"
        );
        debug_assert_eq!(self.memory.held, self.memory.parties.bytes(), "it is on somebody's account");
        debug_assert_eq!(
            self.links.iter().map(Link::attachments).sum::<usize>(),
            self.memory.parties.all_attachments(),
            "and so are attachments"
        );
    }

    #[cfg(test)]
    pub(super) fn keeps_large_buffers(&self) -> bool {
        self.memory.spare.iter().any(Buffer::is_large)
    }

    #[cfg(test)]
    pub(super) fn memory_held(&self) -> usize {
        self.memory.held
    }

    /// All connections together hold too much: the largest of whoever is farthest beyond its share, or else of whoever
    /// holds most, are told so, if their sockets take that at once, and closed.
    #[cold]
    pub(super) fn shed_memory(&mut self, service: &mut impl Service) {
        self.check_accounts();
        while self.memory.is_short() {
            let (all, limit) = (self.memory.held, self.memory.most);
            let was_shed = match self.memory.parties.debtor(limit, all) {
                Some((party, all, limit)) => {
                    let error = |own| ProtocolError::ShareOfBuffered { own, all, limit };
                    self.shed_largest_of(party, error, service)
                }
                None => {
                    let Some(party) = self.memory.parties.largest() else { return };
                    let error = |own| ProtocolError::TooMuchBuffered { own, all, limit };
                    self.shed_largest_of(party, error, service)
                }
            };
            if !was_shed {
                return;
            }
        }
    }

    /// Closes the one of its connections that holds most. False: none holds anything.
    fn shed_largest_of(
        &mut self,
        party: PartyId,
        error: impl FnOnce(usize) -> ProtocolError,
        service: &mut impl Service,
    ) -> bool {
        let held = |link: &Link<Y>| if link.party == party { link.accounted } else { 0 };
        let Some(worst) = self.links.largest_by(held) else { return false };
        let Some(link) = self.links.get_mut(worst).filter(|link| held(link) > 0) else { return false };
        let error = error(link.accounted);
        link.protocol_mut().shed(error);
        self.say_all(worst, service);
        if self.links.get(worst).is_some_and(|link| link.accounted > 0) {
            self.reap(worst, service);
        }
        true
    }

    /// Lets a link write as long as its socket takes anything: it has no other turn.
    pub(super) fn say_all(&mut self, key: Key, service: &mut impl Service) {
        let mut before = usize::MAX;
        while let Some(link) = self.links.get_mut(key) {
            let unsent = link.protocol().flow().waiting();
            if unsent >= before {
                return;
            }
            before = unsent;
            self.work_link(key, false, service);
        }
    }
}
