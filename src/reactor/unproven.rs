//! Connections to a listener that asks for a token, until they have proved that they know it.
//!
//! Over TCP anybody on this machine can open one, as often as they like, and nobody tells them apart from those who know
//! the token. So they have half of the places at most, and each newcomer gets one: the oldest of them makes room. Who
//! knows the token has proved it long before that many have come behind it.

use super::slots::Key;
use super::source::Source;
use super::system::System;
use super::{Link, Reactor, Service, Slots};
use sidewire_wire::ProtocolError;

impl<Y: System> Reactor<Y> {
    /// One more has come.
    pub(super) fn note_unproven(&mut self, key: Key, number: u16, service: &mut impl Service) {
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        let Some(most) = source.site.unproven else { return };
        source.unproven.push_back(key);
        if source.unproven.len() <= most {
            return;
        }
        source.unproven.retain(|key| is_unproven(&self.links, *key));
        if source.unproven.len() <= most {
            return;
        }
        let Some(oldest) = source.unproven.pop_front() else { return };
        if let Some(link) = self.links.get_mut(oldest) {
            link.protocol_mut().shed(ProtocolError::TooManyUnproven(most));
            self.say_all(oldest, service);
            self.reap(oldest, service);
        }
    }

    /// Whether who comes in there has to prove something before he counts as one who is here.
    pub(super) fn asks_for_token(&self, number: u16) -> bool {
        self.sources.get(usize::from(number)).is_some_and(|source| source.site.unproven.is_some())
    }

    /// How many of a source's connections have not proved it.
    pub(super) fn unproven(&self, source: &Source<Y>) -> usize {
        source.unproven.iter().filter(|key| is_unproven(&self.links, **key)).count()
    }
}

fn is_unproven<Y: System>(links: &Slots<Link<Y>>, key: Key) -> bool {
    // Handlers are told of it when it has.
    links.get(key).is_some_and(|link| !link.was_opened())
}
