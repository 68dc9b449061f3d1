//! Whether clients still find the way to our endpoints: others can remove a socket's file (a cleaner of
//! temporary folders, a logout that empties the session's folder), and nothing tells us of that.

use std::io;
use std::time::{Duration, Instant};

use super::acceptor::Site;
use super::slots::reserved_token;
use super::timers::Target;
use super::{FIRST_PORT, Reactor, Service};

/// How often files are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2500);
/// Looks from one attempt to open a lost endpoint to the next, at most: each may knock at whoever is there.
const MOST_LOOKS: u32 = 4;

/// What is known of an endpoint's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    #[default]
    There,
    /// It could not be opened anew. So many looks until it is tried again, and from then to the next.
    Lost { left: u32, then: u32 },
}

impl Presence {
    /// Whether to look this time.
    pub(super) fn is_due(&mut self) -> bool {
        match self {
            Presence::There => true,
            Presence::Lost { left, .. } => {
                *left = left.saturating_sub(1);
                *left == 0
            }
        }
    }

    /// What came of the look. Says whether the endpoint was opened anew.
    pub(super) fn looked(&mut self, renewed: io::Result<bool>, site: &Site) -> bool {
        let endpoint = &site.endpoint;
        match (renewed, *self) {
            (Ok(false), Presence::There) => return false,
            (Ok(false), Presence::Lost { .. }) => {
                log::debug!("{endpoint}: clients find it again");
                *self = Presence::There;
                return false;
            }
            (Ok(true), _) => {
                if let Some(count) = site.tallies.removed.next_worth_telling() {
                    log::warn!(
                        "{endpoint}: its file was removed, and it is bound again; {count} times so far"
                    );
                }
                *self = Presence::There;
                return true;
            }
            (Err(error), Presence::There) => {
                if let Some(count) = site.tallies.removed.next_worth_telling() {
                    log::warn!(
                        "{endpoint}: clients no longer find it, and it can't be bound again: {error}; trying \
                         every few seconds; {count} times so far"
                    );
                }
                *self = Presence::Lost { left: 1, then: 2 };
            }
            (Err(error), Presence::Lost { then, .. }) => {
                log::debug!("{endpoint}: still lost: {error}");
                *self = Presence::Lost { left: then, then: (then * 2).min(MOST_LOOKS) };
            }
        }
        false
    }
}

impl Reactor {
    /// Sees to it that files are looked for, as long as there are any.
    pub(super) fn arm_looking(&mut self) {
        let has_files = self.acceptors.iter().any(|acceptor| acceptor.can_be_lost())
            || self.ports.values().any(|port| port.can_be_lost());
        if has_files {
            self.timers.arm(Target::Endpoints, Instant::now() + LOOK_EVERY, &mut self.looking);
        }
    }

    /// Looks for the files of all endpoints.
    pub(super) fn look(&mut self, service: &mut impl Service) {
        self.looking = None;
        for index in 0..self.acceptors.len() {
            if self.acceptors[index].look(self.poll.registry()) {
                self.accept(index, service);
            }
        }
        let numbers: Vec<u32> = self.ports.keys().copied().collect();
        for number in numbers {
            let Some(port) = self.ports.get_mut(&number) else { continue };
            if port.look(self.poll.registry(), reserved_token(FIRST_PORT + number)) {
                self.read_port(number, service);
            }
        }
        self.arm_looking();
    }
}
