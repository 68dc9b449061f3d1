//! Links whose frames may come with attachments beside their bytes. Others read and write without a look at any of
//! this.

use std::io::{self, IoSlice};

use sidewire_platform::{Attachment, Carried};

use super::super::budget::Budget;
use super::super::parties::Parties;
use super::super::site::Site;
use super::super::system::{StreamIo, System};
use super::about::About;
use super::handing::{Books, Handing};
use super::{Context, Link, PIECES, Service};
use crate::attached;
use sidewire_wire::{Arrived, Attachments, Protocol, ProtocolError, Reading};

impl<Y: System> Link<Y> {
    /// As [`fill`](Link::fill), with what is attached to the bytes.
    #[cold]
    pub(super) fn fill_attached(
        &mut self,
        context: &mut Context<'_, Y>,
        budget: &mut Budget<'_, Y>,
        service: &mut impl Service,
    ) -> bool {
        loop {
            match self.ending.input() {
                Reading::Handles => {}
                Reading::Discards => return self.discard(&mut context.memory.buffer),
                Reading::Rests => return false,
            }
            if self.protocol.is_finishing() || self.protocol.is_paused() {
                return false;
            }
            if budget.is_over() {
                return true;
            }
            if self.protocol.has_backlog() {
                self.take_attached(0, Carried::Nothing, context, budget, service);
                continue;
            }
            let (count, carried) = match self.stream.read_attached(&mut context.memory.buffer) {
                Ok((0, _)) => {
                    self.end_input(context.scope, budget, service);
                    return false;
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    self.broke(error);
                    return false;
                }
            };
            budget.bytes = budget.bytes.saturating_sub(count);
            context.traffic.read += count;
            // A short read does not say that this is all: it ends where something is attached, before it or behind it.
            self.take_attached(count, carried, context, budget, service);
        }
    }

    fn take_attached(
        &mut self,
        count: usize,
        carried: Carried,
        context: &mut Context<'_, Y>,
        budget: &Budget<'_, Y>,
        service: &mut impl Service,
    ) {
        let Link { stream, protocol, peer, about, opened, ending, .. } = self;
        let Protocol::Framed(connection) = protocol else { return };
        let Some(peer) = peer.as_ref().filter(|_| !ending.is_over()) else { return };
        let (bytes, scope) = (&context.memory.buffer[..count], &context.scope);
        let (deferred, topics) = (&mut *context.deferred, &mut *context.topics);
        let (stream, system, at) = (&*stream, context.system, context.at);
        let books = Books { peer, stream, system, at, about, opened, deferred, topics, budget };
        let mut handing = Handing { scope, books, service };
        connection.receive_attached_for(bytes, arrived(carried), &budget.units, &mut handing);
        About::note_backlog(about, connection.has_backlog(), scope.begun);
        connection.received(budget.now());
    }

    /// Offers the stream what lies in several pieces, or may have something attached to its first byte.
    #[inline(never)]
    pub(super) fn write_unusual(&mut self) -> io::Result<usize> {
        let Link { protocol, stream, .. } = self;
        let parcel = match protocol {
            Protocol::Framed(connection) => connection.next_parcel().cloned(),
            Protocol::Plain(_) => None,
        };
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let count = protocol.unsent_pieces(&mut pieces);
        let pieces = &pieces[..count];
        let Some(parcel) = parcel else { return stream.write_vectored(pieces) };
        let written = parcel.look(|these: &Vec<Attachment>| stream.write_attached(pieces, these));
        written.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
    }
}

/// On whose account they are.
impl<Y: System> Link<Y> {
    /// Counts those that are under way now for the link's party, whose other links may have brought or sent some, and
    /// leaves room for as many as it may have besides. To be called before any are sent.
    #[cold]
    pub(crate) fn account_attachments(&mut self, site: &Site, parties: &mut Parties) {
        let Protocol::Framed(connection) = &mut self.protocol else { return };
        let now = connection.attachments_under_way();
        if now > 0 || self.about.is_some() {
            let about = self.about.get_or_insert_default();
            parties.account_attachments(self.party, std::mem::replace(&mut about.attachments, now), now);
        }
        let (held, most) = parties.attachments(self.party, site.descriptors);
        // Whoever may have all pays nothing for it.
        if most < usize::MAX {
            connection.leave_room_for_attachments(most.saturating_sub(held));
        }
    }

    /// The same behind what was just handled. If it has brought more than its party may have, that is its end.
    #[cold]
    pub(super) fn judge_attachments(&mut self, context: &mut Context<'_, Y>) {
        let (before, site) = (self.attachments(), context.scope.site);
        self.account_attachments(site, &mut context.memory.parties);
        let (held, limit) = context.memory.parties.attachments(self.party, site.descriptors);
        if held > limit && self.attachments() > before {
            self.protocol.shed(ProtocolError::ShareOfAttachments { held, limit });
        }
    }

    /// How many its party has on its account for this link.
    pub(crate) fn attachments(&self) -> usize {
        self.about.as_ref().map_or(0, |about| about.attachments)
    }

    /// It has none any more.
    pub(crate) fn forget_attachments(&mut self, parties: &mut Parties) {
        if let Some(about) = &mut self.about {
            parties.account_attachments(self.party, std::mem::take(&mut about.attachments), 0);
        }
    }
}

impl<Y: System> Link<Y> {
    /// Where frames name what goes with them, sees to it that it can be fetched from whoever is there now.
    #[inline]
    pub(super) fn prepare_to_fetch(&mut self, site: &Site) {
        if site.settings.attachments == Attachments::Named {
            self.find_source(site);
        }
    }

    #[cold]
    fn find_source(&mut self, site: &Site) {
        if let (Protocol::Framed(connection), Some(peer)) = (&mut self.protocol, &self.peer)
            && !self.quota.is_refused()
            && let Some(source) = attached::source(peer, &site.endpoint)
        {
            connection.fetch_with(source);
        }
    }
}

fn arrived(carried: Carried) -> Arrived {
    match carried {
        Carried::Nothing => Arrived::Nothing,
        Carried::These(these) => Arrived::Parcel(attached::came(these)),
        Carried::Cut => Arrived::Cut,
    }
}
