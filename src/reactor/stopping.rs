//! How a loop ends: nobody is let in any more, everybody is told, and what was accepted is finished in time.

use std::time::{Duration, Instant};

use mio::Events;
use sidewire_platform::Listener;

use super::acceptor::Acceptor;
use super::datagram::Port;
use super::{EVENTS, Reactor, Service};
use sidewire_wire::ResultCode;

/// As good as without end, where a clock would overflow.
const FAR: Duration = Duration::from_secs(365 * 86_400);
/// What a peer gets at least to read its last bytes when the loop ends.
const LAST_LINGER: Duration = Duration::from_millis(100);
/// How long a loop that ends waits for the system to close handles.
const SEE_OFF: Duration = Duration::from_millis(500);

impl Reactor {
    /// Lets nobody in any more, says goodbye to everybody, and gives them `grace`.
    pub(super) fn stop(&mut self, grace: Duration, service: &mut impl Service) {
        let now = Instant::now();
        // A second word can hurry it, not hold it up.
        let until = now.checked_add(grace).unwrap_or(now + FAR);
        self.stopping = Some(self.stopping.map_or(until, |before| before.min(until)));
        for acceptor in &mut self.acceptors {
            acceptor.close(self.poll.registry());
        }
        self.ports.values_mut().for_each(|port| port.close(self.poll.registry()));
        for key in self.links.keys() {
            if let Some(link) = self.links.get_mut(key) {
                link.protocol_mut().goodbye(ResultCode::SHUTTING_DOWN);
                self.work(key, false, service);
            }
        }
    }

    /// On Windows handles close, and with them the endpoints, only when the poll turns once more.
    pub(super) fn let_go(&mut self, events: &mut Events) {
        if let Err(error) = self.poll.poll(events, Some(Duration::ZERO)) {
            log::debug!("polling once more: {error}");
        }
    }

    /// How long a peer may take to read its last bytes: as long as the loop itself, if that ends.
    pub(super) fn linger(&self, listener: u32) -> Duration {
        let own = |acceptor: &Acceptor| acceptor.site.settings.limits.linger;
        let own = self.acceptors.get(listener as usize).map_or(Duration::ZERO, own);
        let Some(at) = self.stopping else { return own };
        own.min(at.saturating_duration_since(Instant::now()).max(LAST_LINGER))
    }

    /// A pipe's handle is closed, and its name free, only after the poll has seen the end of what
    /// was under way, and the last flush has ended.
    fn see_off(&mut self) {
        let lingers = self.acceptors.iter().map(|acceptor| self.linger(acceptor.number.into()));
        let until = Instant::now() + lingers.max().unwrap_or_default() + SEE_OFF;
        let mut events = Events::with_capacity(EVENTS);
        let mut pause = Duration::ZERO;
        while let Some(acceptor) = self.acceptors.last() {
            if let Err(error) = self.poll.poll(&mut events, Some(pause)) {
                log::debug!("the last turns of a loop: {error}");
            }
            let endpoint = &acceptor.site.endpoint;
            if !Listener::is_gone(endpoint) && Instant::now() < until {
                pause = Duration::from_millis(5);
                continue;
            }
            if !Listener::is_gone(endpoint) {
                log::warn!("{endpoint}: a client still holds it, or somebody else has taken it");
            }
            self.acceptors.pop();
        }
    }

    /// Whether it was told to stop, and everybody has left or had time enough.
    pub(super) fn has_stopped(&mut self, service: &mut impl Service) -> bool {
        let Some(at) = self.stopping else { return false };
        self.ports.retain(|_, port| port.has_waiting());
        let is_done = self.links.len() == 0 && self.ports.is_empty();
        if !is_done && at > Instant::now() {
            return false;
        }
        self.ports.values_mut().for_each(Port::retry);
        self.ports.clear();
        for key in self.links.keys() {
            // We may come late: who has made room in time gets what is theirs.
            self.work(key, true, service);
            self.reap(key, service);
        }
        self.see_off();
        true
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        if !self.maker.is_here() {
            // In a forked child. The epoll set is the parent's, too.
            return;
        }
        self.stopping.get_or_insert_with(Instant::now);
        for acceptor in &mut self.acceptors {
            acceptor.close(self.poll.registry());
        }
        self.ports.clear();
        for key in self.links.keys() {
            if let Some(link) = self.links.remove(key) {
                let linger = self.linger(link.listener());
                link.close(self.poll.registry(), linger);
            }
        }
        self.see_off();
    }
}
