//! What only some links have.

use std::io;
use std::time::Instant;

use sidewire_platform::Endpoint;

use super::super::slots::Key;
use super::super::system::System;
use super::{ConnectionId, Link, NOBODY, Service};
use crate::reactor::Visitor;
use sidewire_wire::{App, Layout, Parcel, Protocol};

/// Boxed: most links have none of it, and it should cost them next to nothing.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// What the peer's application says of itself.
    pub(crate) app: Option<App>,
    /// What broke the link.
    pub(crate) broken: Option<io::Error>,
    /// What came with the frame that is handled now.
    pub(crate) attached: Option<Parcel>,
    /// How many attachments are under way on this link, as its party's account has it.
    pub(crate) attachments: usize,
    /// Since when requests wait here that came whole, and were not handled in that turn.
    pub(super) waiting_since: Option<Instant>,
}

impl About {
    /// Notes since when the link has requests waiting, if it has.
    #[inline]
    pub(super) fn note_backlog(about: &mut Option<Box<About>>, has_backlog: bool, begun: Instant) {
        if has_backlog {
            about.get_or_insert_default().waiting_since.get_or_insert(begun);
        } else if let Some(about) = about {
            about.waiting_since = None;
        }
    }
}

impl<Y: System> Link<Y> {
    /// What broke it, if something did.
    pub(crate) fn broken(&self) -> Option<&io::Error> {
        self.about.as_ref()?.broken.as_ref()
    }

    /// What the peer's application says of itself.
    pub(crate) fn app(&self) -> Option<&App> {
        self.about.as_ref()?.app.as_ref()
    }

    /// Whether a handler was told of it, and is to be told of its end.
    pub(crate) fn was_opened(&self) -> bool {
        self.opened
    }

    /// Tells whoever was told of it that it is over.
    pub(crate) fn report_end(&mut self, key: Key, endpoint: &Endpoint, service: &mut impl Service) {
        let why = self.closed(endpoint);
        match &self.protocol {
            Protocol::Plain(_) => service.closed(self.source, ConnectionId(key), &why),
            Protocol::Framed(connection) => {
                let peer = self.peer.as_ref().unwrap_or(&NOBODY);
                let layout = connection.layout().unwrap_or(Layout::Classic);
                let app = self.app();
                let connection = ConnectionId(key);
                service.disconnected(&Visitor { connection, peer, endpoint, layout, app }, &why);
            }
        }
    }
}
