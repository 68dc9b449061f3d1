//! A server whose loop is in memory.

use std::time::{Duration, Instant};

use sidewire_platform::{Endpoint, EndpointKind};

use super::open::Plan;
use super::table::Dispatch;
use super::{IntoListen, Listen, Remote, Server, Threads};
use crate::error::{Error, Kind, Result};
use crate::reactor::memory_system::{Memory, World};
use crate::reactor::{Carries, PeerInfo, Reactor, STOP_GRACE};

/// What the program has set up, on a loop that has no sockets and no clock.
pub(crate) struct InMemory<S, T: Threads> {
    /// Before the real one, whose mailbox it reads.
    reactor: Reactor<Memory>,
    dispatch: Dispatch<S, T>,
    has_stopped: bool,
    /// It never turns. But those who write from other threads wake it.
    sleeper: Reactor,
    remote: Remote<S>,
}

const SET_UP: &str = "set up a harness";

impl<S, T: Threads> InMemory<S, T> {
    /// With one listener in that world, whose number is 0, by the rules of one on this endpoint; and the endpoint.
    pub(crate) fn new<L: IntoListen>(
        mut server: Server<S, T>,
        listen: L,
        world: &World,
    ) -> Result<(InMemory<S, T>, Endpoint)> {
        let listen: Listen = listen.into_listen()?;
        let endpoint = listen.endpoint.clone();
        if endpoint.kind() != EndpointKind::Stream {
            return Err(Error::new(SET_UP, &endpoint, Kind::InvalidInput("it is in no datagrams".into())));
        }
        let plan = Plan::new(&listen, Carries::Frames, &server)?;
        let site = plan.site(&endpoint, server.counters());
        let remote = server.remote()?;
        let os = |error| Error::system(SET_UP, error);
        let Server { mut core, dispatch, .. } = server;
        let (limits, counters) = (core.limits.clone(), core.counters.clone());
        let reactor = core.reactor()?;
        if !reactor.is_bare() {
            let text = "the server has opened an endpoint, or serves its parent; set its handlers up in a function of \
                        its own, and listen behind that";
            return Err(Error::invalid(SET_UP, text));
        }
        let mut in_memory = reactor.in_memory(world, limits, counters).map_err(os)?;
        in_memory.add_listener(world.listener(), site).map_err(os)?;
        let Some(sleeper) = core.reactor else { unreachable!("the mailbox is its") };
        Ok((InMemory { reactor: in_memory, dispatch, has_stopped: false, sleeper, remote }, endpoint))
    }

    /// Handles what there is, without sleeping.
    pub(crate) fn turn(&mut self) {
        let turning = self.reactor.begin_turns();
        let turned = self.reactor.turn(Some(Duration::ZERO), &mut self.dispatch);
        drop(turning);
        self.has_stopped = !matches!(turned, Ok(true));
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    /// After how long the next turn is due, if nobody says anything before.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.reactor.next_timeout().filter(|_| !self.has_stopped)
    }

    /// Whether a request waits for an answer that somebody is to give later.
    pub(crate) fn is_owing(&self) -> bool {
        !self.has_stopped && self.reactor.is_owing()
    }

    /// Waits, in the time of the wall's clock, until another thread has asked something of the server. Says whether
    /// one has.
    pub(crate) fn wait_for_mail(&mut self, limit: Duration) -> bool {
        let (begun, mailbox) = (Instant::now(), self.sleeper.mailbox());
        while !mailbox.has_mail() {
            let left = limit.saturating_sub(begun.elapsed());
            if self.has_stopped || left.is_zero() || self.sleeper.sleep(left).is_err() {
                return false;
            }
        }
        true
    }

    /// Tells it to stop, and says how long that may take.
    pub(crate) fn stop(&self) -> Duration {
        if let Err(error) = self.remote.stop() {
            log::debug!("{error}; but it turns by itself");
        }
        STOP_GRACE
    }

    pub(crate) fn remote(&self) -> Remote<S> {
        self.remote.clone()
    }

    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        self.reactor.peers()
    }

    pub(crate) fn state(&self) -> &S {
        &self.dispatch.state
    }

    pub(crate) fn state_mut(&mut self) -> &mut S {
        &mut self.dispatch.state
    }
}
