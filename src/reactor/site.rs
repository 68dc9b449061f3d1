//! By what rules a peer is here: what the connections of one listener, or the senders to one datagram
//! socket, have in common.

use std::collections::HashMap;
use std::io;
use std::mem::Discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::{Endpoint, Peer, Tally};

use super::link::PeerName;
use super::parties::Crowded;
use crate::access::{Asked, Denied, OwnIdentity, Policy};
use crate::counters::Counters;
use crate::limits::{MAX_REFUSING, PerPeer};
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
    /// How many of them one peer may hold.
    pub(crate) per_peer: PerPeer,
    /// Where a token is asked for: places for those who have not proved yet that they know it.
    pub(crate) unproven: Option<usize>,
    pub(crate) tallies: Tallies,
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
    /// One peer has all the places that it may have.
    crowded: Tally,
    /// An event was dropped, since its subscriber reads too slowly.
    dropped: Tally,
    /// Much waits for one who takes nothing at the moment.
    stalled: Tally,
    /// Accepting, or receiving, failed.
    pub(crate) failing: Tally,
    /// The process was out of descriptors.
    pub(crate) pauses: Tally,
    /// The endpoint's file.
    pub(super) removed: Tally,
    /// A datagram did not fit into the buffer.
    pub(crate) too_large: Tally,
    /// A datagram was to be answered later, and too many are.
    pub(super) deferred: Tally,
    /// Connections that were closed for their own fault, by kind of fault.
    failures: HashMap<Discriminant<ProtocolError>, Tally>,
}

impl Tallies {
    pub(crate) fn failure(&mut self, failure: &ProtocolError) -> &Tally {
        self.failures.entry(std::mem::discriminant(failure)).or_default()
    }
}

/// What becomes of somebody who is told "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
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
            self.counters.limit("refusals at a time");
            return Admission::Dropped;
        }
        self.waiting += 1;
        protocol.refuse(rc, now);
        Admission::Refused
    }

    /// For want of this.
    pub(crate) fn count(&self, limit: &'static str) {
        self.counters.limit(limit);
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

    /// Somebody reads too slowly for an event.
    #[cold]
    pub(super) fn report_dropped(&self, topic: u16, peer: PeerName<'_>, waiting: usize) {
        if let Some(count) = self.tallies.dropped.next_worth_telling() {
            let endpoint = &self.endpoint;
            log::warn!(
                "{endpoint}: dropped an event of type {topic} for {peer}, who has not read {waiting} bytes \
                 (outbox_soft); {count} so far"
            );
        }
    }

    /// Somebody takes nothing more for the time being, and much waits for him.
    #[cold]
    pub(super) fn report_stalled(&self, peer: PeerName<'_>, waiting: usize) {
        if let Some(count) = self.tallies.stalled.next_worth_telling() {
            let endpoint = &self.endpoint;
            log::info!(
                "{endpoint}: {peer} takes nothing more for now of {waiting} bytes (outbox_soft); {count} times so far"
            );
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

    /// Holds a peer to the policy of this listener. `more`: what the system tells of it besides. `unknown`: why the system
    /// doesn't tell who it is. An error is the code that it is told, and is logged.
    pub(crate) fn admits(
        &self,
        peer: &Peer,
        more: &impl Asked,
        unknown: Option<&io::Error>,
    ) -> Result<(), ResultCode> {
        let Err(denied) = self.policy.admits_client(peer, more) else { return Ok(()) };
        if let Some(count) = self.tallies.refused.next_worth_telling() {
            let (endpoint, access, remedy) = (&self.endpoint, self.policy.access(), denied.remedy());
            let why = unknown.map(|error| format!(" ({error})")).unwrap_or_default();
            log::warn!(
                "{endpoint}: refused a connection from {peer} by {access}: {denied}{why}; {remedy}; {count} so far"
            );
        }
        Err(ResultCode::NOT_PERMITTED)
    }

    /// Somebody has all the places that it may have.
    #[cold]
    pub(crate) fn report_crowded(&self, peer: &Peer, crowded: &Crowded) {
        if let Some(count) = self.tallies.crowded.next_worth_telling() {
            let (endpoint, Crowded { party, held, most }) = (&self.endpoint, crowded);
            log::warn!(
                "{endpoint}: refused a connection from {peer}: {party} holds {held} of the {most} that it may \
                 (max_connections_per_peer); {count} so far"
            );
        }
    }
}
