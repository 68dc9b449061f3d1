//! How an endpoint gets into the loop: what was asked is checked, then the endpoint is bound and handed over.

use std::io;
use std::sync::Arc;

use sidewire_platform::{Address, Datagrams, Endpoint, EndpointKind, Listener, descriptor_limit};

use super::{Listen, Server, Threads};
use crate::access::OwnIdentity;
use crate::error::{Error, Kind, Result};
use crate::limits::{Limits, ListenerLimits};
use crate::reactor::{Framing, Parties, Reactor, Site, Tallies, address_of};
use sidewire_wire::{Classic, Cut, Settings};

/// What is spoken on an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Frames,
    /// A stream without frames.
    Plain(Cut),
    /// Datagrams without frames.
    Messages,
}

/// An endpoint that may be opened: nothing that is known beforehand speaks against it.
struct Plan<'a> {
    listen: &'a Listen,
    speaks: Speaks,
    limits: ListenerLimits,
    own_identity: OwnIdentity,
    instance: [u8; 16],
}

/// An endpoint that clients can reach.
struct Opened {
    /// Among listeners, or among datagram sockets.
    number: u32,
    bound: Endpoint,
    address: Option<Address>,
}

impl<S, T: Threads> Server<S, T> {
    /// Opens an endpoint. Returns its number in the loop, and the address really bound.
    pub(super) fn open(&mut self, listen: &Listen, speaks: Speaks) -> Result<(u32, Endpoint)> {
        let plan = Plan::new(listen, speaks, &self.core.limits, self.instance)?;
        let reactor = self.core.reactor()?;
        let opened = match listen.endpoint.kind() {
            EndpointKind::Stream => plan.open_stream(reactor),
            _ => plan.open_datagrams(reactor),
        };
        let Opened { number, bound, address } =
            opened.map_err(|error| Error::bind(&listen.endpoint, error))?;
        Arc::make_mut(&mut self.served).push((bound.clone(), address));
        self.endpoints.push(bound.clone());
        Ok((number, bound))
    }
}

impl<'a> Plan<'a> {
    fn new(listen: &'a Listen, speaks: Speaks, limits: &Limits, instance: [u8; 16]) -> Result<Plan<'a>> {
        let endpoint = &listen.endpoint;
        let invalid = |text: &str| Error::new("listen on", endpoint, Kind::InvalidInput(text.into()));
        if let Some(text) = objection(listen, speaks) {
            return Err(invalid(text));
        }
        let own_limits = listen.limits.as_ref().unwrap_or(&limits.listener);
        limits.check_listener(own_limits).map_err(|contradiction| invalid(&contradiction.to_string()))?;
        let own_identity = OwnIdentity::look_up().map_err(|error| Error::bind(endpoint, error))?;
        Ok(Plan { listen, speaks, limits: own_limits.clone(), own_identity, instance })
    }

    fn open_stream(self, reactor: &mut Reactor) -> io::Result<Opened> {
        reactor.takes_endpoints()?;
        let listener = Listener::bind(&self.listen.endpoint, &self.listen.bind)?;
        let (bound, address) = (listener.endpoint().clone(), listener.local_address().ok());
        let cut = if let Speaks::Plain(cut) = self.speaks { Some(cut) } else { None };
        let number = reactor.add_listener(listener, self.site(&bound), cut)?;
        Ok(Opened { number, bound, address })
    }

    fn open_datagrams(self, reactor: &mut Reactor) -> io::Result<Opened> {
        reactor.takes_endpoints()?;
        let socket = Datagrams::bind(&self.listen.endpoint, &self.listen.bind)?;
        let bound = socket.endpoint().clone();
        let address = address_of(&bound);
        let framing = if self.speaks == Speaks::Messages { Framing::Messages } else { Framing::Frames };
        let number = reactor.add_datagrams(socket, self.site(&bound), framing)?;
        Ok(Opened { number, bound, address })
    }

    /// What all who come there have in common.
    fn site(self, bound: &Endpoint) -> Site {
        let Plan { listen, limits, own_identity, instance, .. } = self;
        let access = listen.access;
        let by_address = if is_local(bound) { Classic::default() } else { Classic::Refused };
        let first_byte = limits.first_byte(access, self.speaks == Speaks::Frames);
        let parties = Parties::new(limits.share(access, descriptor_limit()));
        let mut settings = Settings::new(limits.connection, listen.classic.unwrap_or(by_address));
        settings.web_is_error = matches!(bound, Endpoint::Tcp { .. });
        settings.first_byte = first_byte;
        settings.instance = instance;
        Site {
            endpoint: bound.clone(),
            access,
            lower_integrity: listen.bind.lower_integrity,
            own_identity,
            settings: Arc::new(settings),
            max_connections: limits.max_connections,
            tallies: Tallies::default(),
            parties,
        }
    }
}

/// Why there can't be such an endpoint at all.
fn objection(listen: &Listen, speaks: Speaks) -> Option<&'static str> {
    let is_stream = listen.endpoint.kind() == EndpointKind::Stream;
    if listen.access.needs_credentials() && !listen.endpoint.has_credentials() {
        return Some(
            "nobody vouches for who connects here; say Access::Anyone if anyone on this machine may",
        );
    }
    match speaks {
        Speaks::Plain(_) if !is_stream => {
            Some("bytes without frames need a stream; this endpoint carries datagrams")
        }
        Speaks::Messages if is_stream => {
            Some("messages without frames need datagrams; this endpoint carries a stream")
        }
        Speaks::Frames | Speaks::Plain(_) | Speaks::Messages => None,
    }
}

/// Whether only this machine can reach it. Bound hosts are numeric.
fn is_local(bound: &Endpoint) -> bool {
    match bound {
        Endpoint::Tcp { .. } | Endpoint::Udp { .. } => {
            bound.numeric_address().is_some_and(|address| address.ip().is_loopback())
        }
        _ => true,
    }
}
