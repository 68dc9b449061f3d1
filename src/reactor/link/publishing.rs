//! One who subscribes, and events on their way to him.

use super::super::system::System;
use super::super::topics::{Publication, Topics};
use super::{Context, Link, PeerName, Scope, Service};
use sidewire_wire::{Connection, Protocol, Pushed, Ticket};

impl<Y: System> Link<Y> {
    /// Says what of this the peer has subscribed to, and writes as far as the system and the budget allow. Says
    /// whether more would go.
    #[cold]
    pub(super) fn publish(&mut self, publications: &[Publication], context: &mut Context<'_, Y>) -> bool {
        let Protocol::Framed(connection) = &mut self.protocol else { return false };
        connection.flow_mut().lend(&mut context.memory.spare);
        for publication in publications {
            let Some(slow) = context.topics.slow(publication, context.scope.key) else { continue };
            if publication.missed > 0 {
                connection.miss_events(publication.topic, publication.missed);
            }
            match connection.push_event(publication.topic, &publication.payload, slow) {
                Pushed::Queued | Pushed::Kept => context.counters.event(),
                Pushed::Replaced => {
                    context.counters.event();
                    context.counters.event_dropped();
                }
                Pushed::Ended => context.counters.event_dropped(),
                Pushed::Dropped => {
                    context.counters.event_dropped();
                    let (site, waiting) = (context.scope.site, connection.flow().waiting());
                    site.report_dropped(publication.topic, PeerName(self.peer.as_ref()), waiting);
                }
                Pushed::Nobody => {}
            }
        }
        self.flush(context, &context.budget())
    }

    /// Writes what others have put into the outbox, unless the system took none of it before. Says the same.
    #[cold]
    pub(super) fn send(&mut self, context: &mut Context<'_, Y>) -> bool {
        // If nobody is there any more, what he said before he left comes first, which the rest of the work reads.
        !self.wants_to_write() && self.write(context, &context.budget()).unwrap_or(true)
    }
}

impl Scope<'_> {
    /// From its answer on, the peer is told of the topic.
    #[cold]
    pub(super) fn subscribe(
        self,
        connection: &mut Connection,
        ticket: Ticket,
        service: &mut impl Service,
        topics: &mut Topics,
    ) {
        match service.topic(ticket.msg_type) {
            Ok(slow) => {
                let topic = ticket.msg_type as u16;
                if connection.accept_subscription(ticket) {
                    log::debug!("{}: #{} subscribes to type {topic}", self.site.endpoint, self.key);
                    topics.join(topic, slow, self.key, self.mailbox.next_publication());
                }
            }
            Err(failure) => {
                connection.begin_reply(ticket).fail(failure.result_code(), failure.text());
            }
        }
    }

    #[cold]
    pub(super) fn unsubscribe(
        self,
        connection: &mut Connection,
        ticket: Ticket,
        service: &mut impl Service,
        topics: &mut Topics,
    ) {
        match service.topic(ticket.msg_type) {
            Ok(_) => {
                log::debug!(
                    "{}: #{} unsubscribes from type {}",
                    self.site.endpoint,
                    self.key,
                    ticket.msg_type
                );
                topics.leave(ticket.msg_type as u16, self.key);
                connection.end_subscription(ticket);
            }
            Err(failure) => {
                connection.begin_reply(ticket).fail(failure.result_code(), failure.text());
            }
        }
    }
}
