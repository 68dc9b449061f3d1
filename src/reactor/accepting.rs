//! How connections get into the loop.

use std::sync::Arc;
use std::time::Instant;

use sidewire_platform::{Reserve, Stream};

use super::acceptor::{Accepted, Admission, refuse};
use super::link::{Link, Seat, Shown};
use super::timers::Target;
use super::{ACCEPTS_PER_TURN, Reactor, Service};
use crate::limits::ACCEPT_PAUSE;
use sidewire_wire::ResultCode;
use sidewire_wire::{Connection, Plain, Protocol};

impl Reactor {
    /// Lets waiting connections in.
    pub(super) fn accept(&mut self, index: usize, service: &mut impl Service) {
        if self.reserve.is_none() {
            self.reserve = Reserve::new().ok();
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(acceptor) = self.acceptors.get_mut(index) else { return };
            if acceptor.armed.is_some() {
                return;
            }
            match acceptor.accept(self.poll.registry()) {
                Accepted::Nobody => return,
                Accepted::Stream(stream) => {
                    let full = acceptor.links >= acceptor.site.max_connections;
                    self.admit(stream, full, index, service);
                }
                Accepted::OutOfDescriptors => return self.shed(index, service),
                Accepted::Failing => return self.pause(index),
            }
        }
        if let Some(acceptor) = self.acceptors.get_mut(index).filter(|acceptor| !acceptor.queued) {
            acceptor.queued = true;
            self.ready.push_back(Target::Acceptor(acceptor.number.into()));
        }
    }

    /// The process is out of descriptors: accepting rests for a while, and with the one that was
    /// kept for this case one client is told so; the others wait in the system's queue.
    fn shed(&mut self, index: usize, service: &mut impl Service) {
        let Some(acceptor) = self.acceptors.get_mut(index) else { return };
        if let Some(count) = acceptor.site.tallies.pauses.next_worth_telling() {
            let endpoint = &acceptor.site.endpoint;
            log::warn!(
                "{endpoint}: the process is out of descriptors; accepting rests, for the {count}. time"
            );
        }
        self.pause(index);
        if self.reserve.take().is_none() {
            return;
        }
        let Some(acceptor) = self.acceptors.get_mut(index) else { return };
        if let Accepted::Stream(stream) = acceptor.accept(self.poll.registry()) {
            self.admit(stream, true, index, service);
        }
    }

    /// Accepting rests for a while. No event tells of those who wait already.
    fn pause(&mut self, index: usize) {
        let Some(acceptor) = self.acceptors.get_mut(index) else { return };
        let until = Instant::now() + ACCEPT_PAUSE;
        self.timers.arm(Target::Acceptor(acceptor.number.into()), until, &mut acceptor.armed);
    }

    /// Makes a link of a new connection. `full`: one that is told that there is no room.
    fn admit(&mut self, stream: Stream, full: bool, index: usize, service: &mut impl Service) {
        let now = Instant::now();
        let acceptor = &mut self.acceptors[index];
        let site = &acceptor.site;
        if self.links.is_full() {
            // It can't even be told so.
            if let Some(count) = site.tallies.turned_away.next_worth_telling() {
                let (endpoint, links) = (&site.endpoint, self.links.len());
                log::warn!(
                    "{endpoint}: no room for one more than {links} connections of all endpoints; {count} turned away"
                );
            }
            return;
        }
        let settings = Arc::clone(&site.settings);
        let mut protocol = match acceptor.cut {
            None => Protocol::Framed(Connection::responder(settings, now)),
            Some(cut) => Protocol::Plain(Plain::new(settings, cut, now)),
        };
        if full {
            if let Some(count) = site.tallies.turned_away.next_worth_telling() {
                let (endpoint, links) = (&site.endpoint, acceptor.links);
                log::warn!(
                    "{endpoint}: no room for another connection, {links} are open; {count} turned away"
                );
            }
            if refuse(&mut protocol, ResultCode::BUSY, &mut self.refusing, now) != Admission::Refused {
                return;
            }
        }
        let mut link = Link::new(stream, protocol, acceptor.number);
        link.refused = full;
        if let Err(error) = link.identify(site, &mut self.refusing, now, false) {
            log::debug!("{}: a connection could not be identified: {error}", site.endpoint);
        }
        link.take_seat();
        acceptor.links += usize::from(link.seat != Seat::None);
        self.counters.connection_opened();
        let Some(key) = self.links.insert(link) else { return };
        let Some(link) = self.links.get_mut(key) else { return };
        log::debug!("{}: #{key} accepted from {}", site.endpoint, Shown(link.peer()));
        if let Err(error) = link.register(self.poll.registry(), key) {
            site.report_failing("watching a connection", &error);
            return self.reap(key, service);
        }
        if link.is_dead() {
            return self.reap(key, service);
        }
        match link.protocol() {
            // Nothing to say before the peer has spoken; and on Unix an event will tell of that.
            Protocol::Framed(_) if Stream::SHORT_READ_DRAINS => link.arm(key, &mut self.timers),
            // A pipe tells nothing of what came before it was registered.
            Protocol::Framed(_) | Protocol::Plain(_) => self.work(key, true, service),
        }
    }
}
