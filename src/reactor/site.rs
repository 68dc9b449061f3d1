//! By what rules a peer is here: what the connections of one listener, or the senders to one datagram
//! socket, have in common.

use std::collections::HashMap;
use std::io;
use std::mem::Discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::{Endpoint, Peer, Tally};

use super::parties::Parties;
use crate::access::{Asked, Denied, OwnIdentity, Policy};
use crate::counters::Counters;
use crate::limits::MAX_REFUSING;
use sidewire_wire::{Connection, Cut, Plain, Protocol, ProtocolError, ResultCode, Settings};

/// The rules of one endpoint, and what is counted by them.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) endpoint: Endpoint,
    pub(crate) carries: Carries,
    /// Others may have its socket, too, and go on with it.
    pub(crate) is_adopted: bool,
    /// If it is left to a newer server: how long what was accepted before may take then.
    pub(crate) gives_way: Option<Duration>,
    pub(crate) greets: Greets,
    pub(crate) policy: Policy,
    pub(crate) settings: Arc<Settings>,
    /// Places for connections.
    pub(crate) max_connections: usize,
    pub(crate) tallies: Tallies,
    pub(crate) parties: Parties,
}

/// What comes in on an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Frames, on a stream or in datagrams.
    Frames,
    /// A stream without frames.
    Plain(Cut),
    /// Datagrams without frames.
    Messages,
}

/// Which side says hello first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greets {
    They,
    /// As on the channel that a helper was started with.
    We,
}

/// How often each of those things happened that strangers can cause as often as they like.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) refused: Tally,
    pub(crate) turned_away: Tally,
    /// What was asked for besides calls, by others than our own user.
    pub(super) denied: Tally,
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

/// How many of those that are told "no" have not taken their answer yet, on all listeners.
#[derive(Debug)]
pub(crate) struct Refusals {
    waiting: usize,
    counters: Counters,
}

impl Refusals {
    pub(crate) fn new(counters: Counters) -> Refusals {
        Refusals { waiting: 0, counters }
    }

    /// Arranges for a clear "no", as long as not too many wait for theirs.
    pub(crate) fn refuse(&mut self, protocol: &mut Protocol, rc: ResultCode, now: Instant) -> Admission {
        self.counters.refused();
        if self.waiting >= MAX_REFUSING {
            return Admission::Dropped;
        }
        self.waiting += 1;
        protocol.refuse(rc, now);
        Admission::Refused
    }

    /// One of them has gone.
    pub(crate) fn leave(&mut self) {
        self.waiting -= 1;
    }
}

impl Site {
    /// The system does not let us do what a server is for.
    pub(crate) fn report_failing(&self, what: &str, error: &io::Error) {
        if let Some(count) = self.tallies.failing.next_worth_telling() {
            log::warn!("{}: {what} fails: {error}; {count} times so far", self.endpoint);
        }
    }

    /// What is spoken on a stream that comes in here.
    pub(crate) fn protocol(&self, now: Instant) -> Protocol {
        let settings = Arc::clone(&self.settings);
        match self.carries {
            Carries::Plain(cut) => Protocol::Plain(Plain::new(settings, cut, now)),
            Carries::Frames | Carries::Messages => Protocol::Framed(match self.greets {
                Greets::They => Connection::responder(settings, now),
                Greets::We => {
                    let nonce = (settings.nonce)();
                    Connection::initiator(settings, nonce, now)
                }
            }),
        }
    }

    /// Whether a peer may ask for more than calls: only our own user may, whoever may connect.
    pub(super) fn admits_task(&self, peer: &Peer) -> Result<(), Denied> {
        self.us().admits_client(peer, false)
    }

    /// Who we are.
    pub(crate) fn us(&self) -> &OwnIdentity {
        self.policy.us()
    }

    /// Holds a peer to the policy of this listener. `more`: what the system tells of it besides. `unknown`: why the system doesn't tell who it is.
    pub(crate) fn identify(
        &self,
        peer: &Peer,
        more: &impl Asked,
        unknown: Option<&io::Error>,
        protocol: &mut Protocol,
        refusals: &mut Refusals,
        now: Instant,
    ) -> Admission {
        match self.policy.admits_client(peer, more) {
            Ok(()) => match self.parties.enter(peer, self.us()) {
                Ok(()) => Admission::Admitted,
                Err(held) => {
                    if let Some(count) = self.tallies.crowded.next_worth_telling() {
                        let endpoint = &self.endpoint;
                        log::warn!(
                            "{endpoint}: {peer} holds {held} connections, its share; {count} turned away so far"
                        );
                    }
                    refusals.refuse(protocol, ResultCode::BUSY, now)
                }
            },
            Err(denied) => {
                if let Some(count) = self.tallies.refused.next_worth_telling() {
                    let (endpoint, access, remedy) = (&self.endpoint, self.policy.access(), denied.remedy());
                    let why = unknown.map(|error| format!(" ({error})")).unwrap_or_default();
                    log::warn!(
                        "{endpoint}: refused a connection from {peer} by {access}: {denied}{why}; {remedy}; \
                         {count} so far"
                    );
                }
                refusals.refuse(protocol, ResultCode::NOT_PERMITTED, now)
            }
        }
    }
}
