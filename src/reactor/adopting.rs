//! The one door through which streams get into the loop.

use sidewire_platform::{Credentials, Peer};

use super::census::Visit;
use super::link::{Link, PeerName, Quota};
use super::site::Admission;
use super::system::{StreamIo, System};
use super::{Reactor, Service};
use crate::counters::Limit;
use crate::recorder::RecordKind;
use sidewire_wire::{Protocol, ResultCode};

impl<Y: System> Reactor<Y> {
    /// Makes a link of a stream that came in at a source. `refused`: it is told no more than that.
    pub(super) fn adopt(
        &mut self,
        stream: Y::Stream,
        refused: Option<ResultCode>,
        number: u16,
        service: &mut impl Service,
    ) {
        let now = self.system.now();
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        let site = &source.site;
        if self.links.is_full() {
            // It can't even be told so.
            self.counters.refused();
            let (links, peer) = (self.links.len(), stream.peer().ok());
            let peer = PeerName(peer.as_ref());
            return site.at_limit(
                Limit::Memory,
                format_args!("no room for {peer}, with {links} connections of all endpoints"),
            );
        }
        let mut protocol = site.protocol(now);
        if let Some(rc) = refused {
            let peer = stream.peer().ok();
            let peer = PeerName(peer.as_ref());
            if rc == ResultCode::BUSY && source.is_full() {
                let links = source.connections;
                site.at_limit(
                    Limit::MaxConnections,
                    format_args!("no room for {peer}, {links} connections are open"),
                );
            }
            let admission = self.refusals.refuse((site, peer), &mut protocol, rc, now);
            if admission != Admission::Refused {
                return;
            }
        }
        let quota = if refused.is_some() { Quota::Refused } else { Quota::Counted };
        let mut link = Link::new(stream, protocol, number, quota);
        if let Err(error) = link.identify(source, &mut self.memory, &mut self.refusals, now, false) {
            log::debug!("{}: a connection could not be identified: {error}", site.endpoint);
        }
        source.connections += usize::from(link.quota().takes_a_place());
        self.counters.connection_opened();
        let Some(key) = self.links.insert(link, Visit::begin(self.begun, now)) else { return };
        let Some(link) = self.links.get_mut(key) else { return };
        log::debug!("{}: #{key} accepted from {}", site.endpoint, PeerName(link.peer()));
        let kind = if link.quota().is_refused() { RecordKind::Refused } else { RecordKind::Opened };
        let pid = link.peer().and_then(Peer::credentials).and_then(Credentials::pid);
        self.watch.recorder.note(kind, key.number(), now, pid.unwrap_or_default());
        if let Err(error) = link.register(&self.system, key) {
            site.report_failing("watching a connection", &error);
            return self.reap(key, service);
        }
        if link.is_over() {
            return self.reap(key, service);
        }
        let is_refused = link.quota().is_refused();
        match link.protocol() {
            // Nothing to say before the peer has spoken; and on Unix an event will tell of that.
            Protocol::Framed(connection) if Y::Stream::SHORT_READ_DRAINS && !connection.has_unsent() => {
                link.arm(key, &mut self.schedule);
            }
            // We have a hello to say; or a pipe tells nothing of what came before it was registered.
            Protocol::Framed(_) | Protocol::Plain(_) => self.work(key, true, service),
        }
        if !is_refused {
            self.note_unproven(key, number, service);
        }
    }
}
