//! How an endpoint gets into the loop: what was asked is checked, then the endpoint is bound and handed over.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sidewire_platform::{
    Address, Datagrams, Endpoint, EndpointKind, Listener, carries_attachments, descriptor_limit,
};

use super::taking_over::TakingOver;
use super::{Listen, Server, Threads};
use crate::access::{Access, Policy};
use crate::attached;
use crate::counters::Counters;
use crate::error::{Error, Kind, Result};
use crate::limits::{ListenerLimits, PerPeer};
use crate::loops::ServedAt;
use crate::random::random_id;
use crate::reactor::{Carries, Greets, Reactor, Site, Tallies, address_of};
use sidewire_wire::{App, Attachments, Classic, Settings, Tasks, Token};

/// An endpoint that may be opened: nothing that is known beforehand carries against it.
pub(super) struct Plan<'a> {
    listen: &'a Listen,
    carries: Carries,
    limits: ListenerLimits,
    policy: Policy,
    instance: [u8; 16],
    app: Option<App>,
    grants: Tasks,
    gives_way: Option<Duration>,
    token: Option<Arc<dyn Token>>,
}

/// An endpoint that clients can reach.
struct Opened {
    /// Its source's number in the loop.
    number: u16,
    bound: Endpoint,
    address: Option<Address>,
}

impl<S, T: Threads> Server<S, T> {
    /// Opens an endpoint. Returns its number in the loop, and the address really bound.
    pub(super) fn open(&mut self, listen: &Listen, carries: Carries) -> Result<(u16, Endpoint)> {
        let plan = Plan::new(listen, carries, self)?;
        let reactor = self.core.reactor()?;
        let opened = match listen.endpoint.kind() {
            EndpointKind::Stream => plan.open_stream(reactor)?,
            _ => plan.open_datagrams(reactor).map_err(|error| Error::bind(&listen.endpoint, error))?,
        };
        let Opened { number, bound, address } = opened;
        let is_adopted = listen.is_adopted();
        Arc::make_mut(&mut self.served).push(ServedAt { endpoint: bound.clone(), address, is_adopted });
        self.endpoints.push(bound.clone());
        self.keep_recording(Some(&bound))?;
        Ok((number, bound))
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new<S, T: Threads>(
        listen: &'a Listen,
        carries: Carries,
        server: &Server<S, T>,
    ) -> Result<Plan<'a>> {
        let (limits, instance, app) = (&server.core.limits, server.instance, server.app.clone());
        let grants = if vouches_for_peers(&listen.endpoint) { server.grants } else { Tasks::default() };
        let endpoint = &listen.endpoint;
        let invalid = |text: &str| Error::new("listen on", endpoint, Kind::InvalidInput(text.into()));
        if let Some(text) = objection(listen, carries) {
            return Err(invalid(text));
        }
        if let (Some(_), None) = (listen.take_over, app.as_ref().filter(|app| !app.name().is_empty())) {
            return Err(invalid("a server that takes over says of which app it is: ServerBuilder::app"));
        }
        if listen.take_over.is_some() && server.endpoints.contains(endpoint) {
            return Err(Error::new("listen on", endpoint, Kind::InUse).with_more("by this very server"));
        }
        let own_limits = listen.limits.as_ref().unwrap_or(&limits.listener);
        limits.check_listener(own_limits).map_err(|contradiction| invalid(&contradiction.to_string()))?;
        // Where the system vouches for nobody, the token is what tells the same user: until it is proved, anyone may come.
        let is_told_by_token =
            listen.has_token() && listen.access == Access::SameUser && !listen.endpoint.has_credentials();
        let access = if is_told_by_token { &Access::Anyone } else { &listen.access };
        let policy = Policy::set_up(access, listen.bind.lower_integrity)
            .map_err(|error| Error::bind(endpoint, error))?;
        let token = listen.key().map_err(|error| Error::bind(endpoint, error))?;
        let (limits, gives_way) = (own_limits.clone(), server.gives_way);
        Ok(Plan { listen, carries, limits, policy, instance, app, grants, gives_way, token })
    }

    fn open_stream(self, reactor: &mut Reactor) -> Result<Opened> {
        let (endpoint, options) = (&self.listen.endpoint, &self.listen.bind);
        let failed = |error| Error::bind(endpoint, error);
        reactor.takes_endpoints().map_err(failed)?;
        let taking = self.listen.take_over.map(|within| {
            TakingOver::new(endpoint, options, self.app.clone(), self.policy.us().clone(), within)
        });
        let (listener, lock) = match (taking, self.listen.take_socket().map_err(failed)?) {
            (Some(taking), _) => taking.listener()?,
            (None, Some(socket)) => (Listener::from_owned(socket, options).map_err(failed)?, None),
            (None, None) => (Listener::bind(endpoint, options).map_err(failed)?, None),
        };
        let (bound, address) = (listener.endpoint().clone(), listener.local_address().ok());
        let number = reactor.add_listener(listener, self.site(&bound, reactor.counters())).map_err(failed)?;
        // From here on nobody else is to start a server: there is one.
        drop(lock);
        Ok(Opened { number, bound, address })
    }

    fn open_datagrams(self, reactor: &mut Reactor) -> io::Result<Opened> {
        reactor.takes_endpoints()?;
        let (endpoint, options) = (&self.listen.endpoint, &self.listen.bind);
        let socket = match self.listen.take_socket()? {
            Some(socket) => Datagrams::from_owned(socket, options)?,
            None => Datagrams::bind(endpoint, options)?,
        };
        let bound = socket.endpoint().clone();
        let address = address_of(&bound);
        let number = reactor.add_datagrams(socket, self.site(&bound, reactor.counters()))?;
        Ok(Opened { number, bound, address })
    }

    /// What all who come there have in common.
    pub(super) fn site(self, bound: &Endpoint, counters: Counters) -> Site {
        let Plan { listen, carries, limits, policy, instance, app, grants, gives_way, token } = self;
        let access = policy.access();
        let is_classic = is_local(bound) && token.is_none();
        let by_address = if is_classic { Classic::default() } else { Classic::Refused };
        let first_byte = limits.first_byte(access, carries == Carries::Frames);
        // Where the system tells nobody apart, those who know the token are us, and the others may only have so many places.
        let proves = token.is_some() && !bound.has_credentials();
        let unproven = proves.then(|| limits.unproven(descriptor_limit()));
        let per_peer = match limits.per_peer(access, descriptor_limit()) {
            PerPeer::Share { .. } if proves => PerPeer::All,
            rule => rule,
        };
        let mut settings = Settings::new(limits.connection, listen.classic.unwrap_or(by_address));
        settings.attachments = if listen.bind.attachments { attached::HOW } else { Attachments::Never };
        settings.web_is_error = matches!(bound, Endpoint::Tcp { .. });
        settings.first_byte = first_byte;
        settings.instance = instance;
        settings.nonce = random_id;
        settings.app = app;
        settings.grants = grants;
        settings.token = token;
        Site {
            endpoint: bound.clone(),
            carries,
            is_adopted: listen.is_adopted(),
            gives_way,
            greets: Greets::They,
            policy,
            settings: Arc::new(settings),
            max_connections: limits.max_connections,
            per_peer,
            descriptors: usize::try_from(descriptor_limit()).unwrap_or(usize::MAX),
            unproven,
            counters,
            tallies: Tallies::default(),
        }
    }
}

/// Why there can't be such an endpoint at all.
fn objection(listen: &Listen, carries: Carries) -> Option<&'static str> {
    let is_stream = listen.endpoint.kind() == EndpointKind::Stream;
    if listen.has_token()
        && let Some(text) = token_objection(listen, carries)
    {
        return Some(text);
    }
    if listen.access.needs_credentials() && !listen.endpoint.has_credentials() && !listen.has_token() {
        return Some(
            "nobody vouches for who connects here; ask for a token, or say Access::Anyone if anyone on this machine may",
        );
    }
    if let Some(text) = listen.access.objection(&listen.endpoint) {
        return Some(text);
    }
    if listen.take_over.is_some() {
        if !listen.endpoint.has_credentials() {
            return Some("nobody vouches for who serves here, so nothing can be taken over");
        }
        if carries != Carries::Frames || !is_stream || listen.is_adopted() {
            return Some(
                "only an endpoint for frames on a stream can be taken over, which the server opens itself",
            );
        }
    }
    if listen.bind.attachments && (carries != Carries::Frames || !carries_attachments(&listen.endpoint)) {
        return Some("attachments are not supported here: they go with frames, over Unix sockets and pipes");
    }
    match carries {
        Carries::Plain(_) if !is_stream => {
            Some("bytes without frames need a stream; this endpoint carries datagrams")
        }
        Carries::Messages if is_stream => {
            Some("messages without frames need datagrams; this endpoint carries a stream")
        }
        Carries::Frames | Carries::Plain(_) | Carries::Messages => None,
    }
}

/// Why no token can be asked for there.
fn token_objection(listen: &Listen, carries: Carries) -> Option<&'static str> {
    if listen.endpoint.kind() != EndpointKind::Stream || carries != Carries::Frames {
        return Some("a token goes with frames on a stream");
    }
    if !matches!(listen.classic, None | Some(Classic::Refused)) {
        return Some("the classic layout knows no token");
    }
    if listen.take_over.is_some() {
        return Some("where a token is asked for nothing can be taken over");
    }
    if listen.access.needs_credentials()
        && listen.access != Access::SameUser
        && !listen.endpoint.has_credentials()
    {
        return Some("nobody vouches for who connects here; by a token only the same user is told");
    }
    None
}

/// Whether the system says for certain whose process each peer is. Of a connection that the program has brought
/// along it says who has made that.
fn vouches_for_peers(endpoint: &Endpoint) -> bool {
    endpoint.has_credentials() && !matches!(endpoint, Endpoint::Unnamed(_))
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
