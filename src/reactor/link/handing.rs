//! From what a peer has sent to whoever handles it.

use sidewire_platform::Peer;

use super::super::journal::Handled;
use super::super::system::StreamIo;
use super::{ConnectionId, Incoming, Origin, Scope, Service};
use sidewire_wire::{Connection, Event, Layout, ResultCode};

impl Scope<'_> {
    /// Hands something that a framed peer has sent to the service.
    #[inline]
    pub(super) fn hand_over(
        self,
        peer: &Peer,
        stream: &impl StreamIo,
        connection: &mut Connection,
        event: Event<'_>,
        service: &mut impl Service,
    ) {
        let (key, endpoint, origin) =
            (self.key, &self.site.endpoint, Origin::Stream(ConnectionId(self.key), stream));
        match event {
            Event::Request { ticket, payload } => {
                let (msg_type, layout) = (ticket.msg_type, ticket.layout);
                let incoming = Incoming { msg_type, payload, peer, endpoint, layout, origin };
                let handled = Handled::begin(ticket.id);
                let rc = service.request(&incoming, connection.begin_reply(ticket));
                handled.end(&incoming, rc, format_args!("#{key}"));
            }
            Event::Notify { msg_type, payload } => {
                let (msg_type, layout) = (i32::from(msg_type), Layout::V1);
                let incoming = Incoming { msg_type, payload, peer, endpoint, layout, origin };
                let handled = Handled::begin(0);
                service.notify(&incoming);
                handled.end_notify(&incoming, format_args!("#{key}"));
            }
            Event::Subscribe { ticket } | Event::Unsubscribe { ticket } => {
                connection.begin_reply(ticket).fail(ResultCode::NO_HANDLER, "this server has no events");
            }
            Event::Greeted(hello) => log::debug!("{endpoint}: #{key} {hello}"),
            Event::Goodbye { rc, .. } => log::debug!("{endpoint}: #{key} goodbye, rc {}", rc.code()),
            // A server asks nothing, so it gets no replies.
            _ => {}
        }
    }
}
