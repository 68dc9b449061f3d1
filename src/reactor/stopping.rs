//! How a loop ends: nobody is let in any more, everybody is told, and what was accepted is finished in time.

use std::time::Duration;

use super::link::Link;
use super::slots::Key;
use super::source::Source;
use super::system::System;
use super::{EVENTS, Reactor, Service, handover};
use sidewire_wire::{Protocol, ResultCode};

/// How long a server that is told to stop waits for its clients to take what is theirs.
pub(crate) const STOP_GRACE: Duration = Duration::from_millis(500);
/// As good as without end, where a clock would overflow.
const FAR: Duration = Duration::from_secs(365 * 86_400);
/// What a peer gets at least to read its last bytes when the loop ends.
const LAST_LINGER: Duration = Duration::from_millis(100);
/// How long a loop that ends waits for the system to close handles.
const SEE_OFF: Duration = Duration::from_millis(500);

impl<Y: System> Reactor<Y> {
    /// Lets nobody in any more, says goodbye to everybody, and gives them `grace`.
    pub(super) fn stop(&mut self, grace: Duration, service: &mut impl Service) {
        self.stop_for(grace, None, service);
    }

    /// The same, perhaps since a newer server has taken over, to which the goodbye says that all is well.
    pub(super) fn stop_for(&mut self, grace: Duration, heir: Option<Key>, service: &mut impl Service) {
        if self.stopping.is_none() {
            service.stopping();
        }
        let now = self.system.now();
        // A second word can hurry it, not hold it up.
        let until = now.checked_add(grace).unwrap_or(now + FAR);
        self.stopping = Some(self.stopping.map_or(until, |before| before.min(until)));
        self.withdraw(service);
        for source in &mut self.sources {
            source.close(&self.system);
        }
        for key in self.links.keys() {
            // Who is being refused is told that already.
            if let Some(link) = self.links.get_mut(key).filter(|link| !link.quota().is_refused()) {
                match heir {
                    Some(heir) => handover::leave(link, heir == key, now),
                    None => link.protocol_mut().goodbye(ResultCode::SHUTTING_DOWN),
                }
                self.work(key, false, service);
            }
        }
    }

    /// On Windows handles close, and with them the endpoints, only when the poll turns once more.
    pub(super) fn let_go(&mut self) {
        let mut events = self.events.take().unwrap_or_else(|| Y::events(EVENTS));
        if let Err(error) = self.system.poll(&mut events, Some(Duration::ZERO)) {
            log::debug!("polling once more: {error}");
        }
    }

    /// How long a peer may take to read its last bytes: as long as the loop itself, if that ends.
    pub(super) fn linger(&self, number: u16) -> Duration {
        let own = |source: &Source<Y>| source.site.settings.limits.linger;
        let own = self.sources.get(usize::from(number)).map_or(Duration::ZERO, own);
        let Some(at) = self.stopping else { return own };
        own.min(at.saturating_duration_since(self.system.now()).max(LAST_LINGER))
    }

    /// A pipe's handle is closed, and its name free, only after the poll has seen the end of what
    /// was under way, and the last flush has ended.
    fn see_off(&mut self) {
        let lingers = self.sources.iter().map(|source| self.linger(source.number()));
        let until = self.system.now() + lingers.max().unwrap_or_default() + SEE_OFF;
        let mut events = Y::events(EVENTS);
        let mut pause = Duration::ZERO;
        for source in self.sources.drain(..).filter(Source::is_for_streams) {
            let endpoint = &source.site.endpoint;
            loop {
                if let Err(error) = self.system.poll(&mut events, Some(pause)) {
                    log::debug!("the last turns of a loop: {error}");
                }
                if source.is_handed_on || self.system.is_gone(endpoint) {
                    break;
                }
                if self.system.now() >= until {
                    log::warn!("{endpoint}: a client still holds it, or somebody else has taken it");
                    break;
                }
                pause = Duration::from_millis(5);
            }
        }
    }

    /// Whether it was told to stop, and everybody has left or had time enough.
    pub(super) fn has_stopped(&mut self, service: &mut impl Service) -> bool {
        let Some(at) = self.stopping else { return false };
        let mut has_waiting = false;
        for source in &mut self.sources {
            has_waiting |= source.has_waiting();
        }
        let is_done = self.links.len() == 0 && !has_waiting;
        if !is_done && at > self.system.now() {
            return false;
        }
        for source in &mut self.sources {
            if let Some(mut receiving) = source.receiving(&self.system, &self.mailbox) {
                receiving.refuse_all_owed();
                receiving.socket.out.retry(self.system.now(), receiving.site);
            }
            source.give_up();
        }
        for key in self.links.keys() {
            if let Some(Protocol::Framed(connection)) = self.links.get_mut(key).map(Link::protocol_mut) {
                self.deferred.refuse(key, connection);
            }
            // We may come late: who has made room in time gets what is theirs.
            self.work(key, true, service);
            self.reap(key, service);
        }
        self.mailbox.close();
        self.see_off();
        true
    }
}

impl<Y: System> Drop for Reactor<Y> {
    fn drop(&mut self) {
        if !self.maker.is_here() {
            // In a forked child. The epoll set is the parent's, too.
            return;
        }
        self.mailbox.close();
        self.deferred.forget_all();
        let now = self.system.now();
        self.stopping.get_or_insert(now);
        for source in &mut self.sources {
            source.close(&self.system);
            if let Some(receiving) = source.receiving(&self.system, &self.mailbox) {
                receiving.socket.owed.forget_all();
            }
            source.give_up();
        }
        for key in self.links.keys() {
            if let Some(link) = self.links.remove(key) {
                let linger = self.linger(link.source());
                link.close(&self.system, linger);
            }
        }
        self.see_off();
    }
}
