//! One listener of the loop, and what it knows about the connections that it lets in.

use std::collections::HashMap;
use std::io;
use std::mem::Discriminant;
use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token};
use sidewire_platform::{Endpoint, Listener, Peer, Stream, Tally, is_descriptor_limit};

use super::parties::Parties;
use super::presence::Presence;
use super::slots::reserved_token;
use crate::access::{Access, OwnIdentity};
use crate::limits::MAX_REFUSING;
use sidewire_wire::ResultCode;
use sidewire_wire::{Cut, Protocol, ProtocolError, Settings};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// `None` once the loop lets nobody in any more.
    listener: Option<Listener>,
    pub(crate) number: u16,
    token: Token,
    presence: Presence,
    pub(crate) site: Site,
    /// How bytes are handed out where there are no frames.
    pub(crate) cut: Option<Cut>,
    /// Connections of this listener, but for those that wait to be told "no".
    pub(crate) links: usize,
    /// Accepting rests until then: the process is out of descriptors, or the system lets nobody in.
    pub(crate) armed: Option<Instant>,
    /// Whether it stands in the queue of those that go on without an event.
    pub(crate) queued: bool,
}

/// What a listener's connections have in common.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) endpoint: Endpoint,
    pub(crate) access: Access,
    pub(crate) lower_integrity: bool,
    pub(crate) own_identity: OwnIdentity,
    pub(crate) settings: Arc<Settings>,
    /// Places for connections.
    pub(crate) max_connections: usize,
    pub(crate) tallies: Tallies,
    pub(crate) parties: Parties,
}

/// How often each of those things happened that strangers can cause as often as they like.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) refused: Tally,
    pub(crate) turned_away: Tally,
    /// One peer has its share of the places.
    crowded: Tally,
    /// Accepting, or receiving, failed.
    pub(crate) failing: Tally,
    /// The process was out of descriptors.
    pub(crate) pauses: Tally,
    /// The endpoint's file.
    pub(super) removed: Tally,
    /// A datagram did not fit into the buffer.
    pub(crate) too_large: Tally,
    /// Connections that were closed for their own fault, by kind of fault.
    failures: HashMap<Discriminant<ProtocolError>, Tally>,
}

impl Tallies {
    pub(crate) fn failure(&mut self, failure: &ProtocolError) -> &Tally {
        self.failures.entry(std::mem::discriminant(failure)).or_default()
    }
}

/// What policy says about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted,
    /// It gets an answer that says so.
    Refused,
    /// It is dropped: too many wait for such an answer.
    Dropped,
}

/// What came of asking for the next connection.
#[derive(Debug)]
pub(crate) enum Accepted {
    Stream(Stream),
    /// Nobody is waiting.
    Nobody,
    /// One after the other could not be accepted; more may be waiting.
    Failing,
    /// The process is out of descriptors.
    OutOfDescriptors,
}

/// Connections that fail while they are accepted, one after the other, before accepting rests.
const MAX_FAILURES: usize = 64;

impl Acceptor {
    pub(crate) fn new(
        listener: Listener,
        site: Site,
        cut: Option<Cut>,
        registry: &Registry,
        number: u16,
    ) -> io::Result<Acceptor> {
        let (mut listener, token) = (listener, reserved_token(number.into()));
        listener.register(registry, token)?;
        Ok(Acceptor {
            listener: Some(listener),
            number,
            token,
            presence: Presence::default(),
            site,
            cut,
            links: 0,
            armed: None,
            queued: false,
        })
    }

    /// The next connection. One that could not be accepted is skipped; the first of a run is told.
    pub(crate) fn accept(&mut self, registry: &Registry) -> Accepted {
        let Some(listener) = &mut self.listener else { return Accepted::Nobody };
        for failures in 0..MAX_FAILURES {
            match listener.accept(registry, self.token) {
                Ok(stream) => return Accepted::Stream(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Accepted::Nobody,
                Err(error) if is_descriptor_limit(&error) => return Accepted::OutOfDescriptors,
                Err(error) if failures == 0 => self.site.report_failing("accepting", &error),
                Err(error) => log::trace!("{}: accepting: {error}", self.site.endpoint),
            }
        }
        Accepted::Failing
    }

    /// Whether others can remove what leads clients here.
    pub(super) fn can_be_lost(&self) -> bool {
        self.listener.as_ref().is_some_and(Listener::can_be_lost)
    }

    /// Sees to it that clients find the endpoint. True: it was opened anew, and some may be waiting.
    pub(super) fn look(&mut self, registry: &Registry) -> bool {
        let Some(listener) = self.listener.as_mut().filter(|listener| listener.can_be_lost()) else {
            return false;
        };
        self.presence.is_due() && self.presence.looked(listener.renew(registry, self.token), &self.site)
    }

    /// Lets nobody in any more, and removes what the endpoint left in the file system.
    pub(crate) fn close(&mut self, registry: &Registry) {
        let Some(mut listener) = self.listener.take() else { return };
        if let Err(error) = listener.deregister(registry) {
            log::debug!("deregistering {}: {error}", self.site.endpoint);
        }
    }
}

impl Site {
    /// The system does not let us do what a server is for.
    pub(crate) fn report_failing(&self, what: &str, error: &io::Error) {
        if let Some(count) = self.tallies.failing.next_worth_telling() {
            log::warn!("{}: {what} fails: {error}; {count} times so far", self.endpoint);
        }
    }

    /// Holds a peer to the policy of this listener. `unknown`: why the system doesn't tell who it is.
    pub(crate) fn identify(
        &self,
        peer: &Peer,
        unknown: Option<&io::Error>,
        protocol: &mut Protocol,
        refusing: &mut usize,
        now: Instant,
    ) -> Admission {
        match self.access.admits_client(peer, &self.own_identity, self.lower_integrity) {
            Ok(()) => match self.parties.enter(peer, &self.own_identity) {
                Ok(()) => Admission::Admitted,
                Err(held) => {
                    if let Some(count) = self.tallies.crowded.next_worth_telling() {
                        let endpoint = &self.endpoint;
                        log::warn!(
                            "{endpoint}: {peer} holds {held} connections, its share; {count} turned away so far"
                        );
                    }
                    refuse(protocol, ResultCode::BUSY, refusing, now)
                }
            },
            Err(denied) => {
                if let Some(count) = self.tallies.refused.next_worth_telling() {
                    let endpoint = &self.endpoint;
                    let why = unknown.map(|error| format!(" ({error})")).unwrap_or_default();
                    log::warn!("{endpoint}: refused a connection from {peer}: {denied}{why}; {count} so far");
                }
                refuse(protocol, ResultCode::NOT_PERMITTED, refusing, now)
            }
        }
    }
}

/// Arranges for a clear "no", as long as not too many wait for theirs.
pub(crate) fn refuse(
    protocol: &mut Protocol,
    rc: ResultCode,
    refusing: &mut usize,
    now: Instant,
) -> Admission {
    if *refusing >= MAX_REFUSING {
        return Admission::Dropped;
    }
    *refusing += 1;
    protocol.refuse(rc, now);
    Admission::Refused
}
