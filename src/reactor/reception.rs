//! From a link's events to the service.

use sidewire_platform::{Endpoint, Peer, Stream};

use super::journal::Handled;
use super::link::Receiver;
use super::slots::Key;
use super::{Incoming, Origin, Service, Session};
use sidewire_wire::{Connection, Event, Layout};

/// What a link's events go through on their way to the service.
pub(super) struct Reception<'a, S> {
    pub(super) key: Key,
    pub(super) listener: u32,
    pub(super) endpoint: &'a Endpoint,
    pub(super) service: &'a mut S,
}

impl<S: Service> Receiver for Reception<'_, S> {
    fn event(&mut self, peer: &Peer, stream: &Stream, connection: &mut Connection, event: Event<'_>) {
        let (endpoint, origin) = (self.endpoint, Origin::Stream(stream));
        match event {
            Event::Request { ticket, payload } => {
                let (msg_type, layout) = (ticket.msg_type, ticket.layout);
                let incoming = Incoming { msg_type, payload, peer, endpoint, layout, origin };
                let handled = Handled::begin(ticket.id);
                let rc = self.service.request(&incoming, connection.begin_reply(ticket));
                handled.end(&incoming, rc, format_args!("#{}", self.key));
            }
            Event::Notify { msg_type, payload } => {
                let (msg_type, layout) = (i32::from(msg_type), Layout::V1);
                let incoming = Incoming { msg_type, payload, peer, endpoint, layout, origin };
                let handled = Handled::begin(0);
                self.service.notify(&incoming);
                handled.end_notify(&incoming, format_args!("#{}", self.key));
            }
            Event::Greeted(hello) => log::debug!("{endpoint}: #{} {hello}", self.key),
            Event::Goodbye { rc, .. } => log::debug!("{endpoint}: #{} goodbye, rc {}", self.key, rc.code()),
            // A server asks nothing, so it gets no replies.
            _ => {}
        }
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        self.service.opened(self.listener, session);
    }

    fn data(&mut self, session: &mut Session<'_>, bytes: &[u8]) {
        self.service.data(self.listener, session, bytes);
    }

    fn half_closed(&mut self, session: &mut Session<'_>) {
        self.service.half_closed(self.listener, session);
    }
}
