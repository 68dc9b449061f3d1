//! By what rules a peer is here: what the connections of one listener, or the senders to one datagram
//! socket, have in common.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem::Discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::{Endpoint, Peer, Tally};

use super::link::PeerName;
use super::parties::Crowded;
use crate::access::{Asked, Denied, OwnIdentity, Policy};
use crate::counters::{Counters, Limit};
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
    /// How many descriptors the process may have.
    pub(crate) descriptors: usize,
    /// Where a token is asked for: places for those who have not proved yet that they know it.
    pub(crate) unproven: Option<usize>,
    /// Of the whole server.
    pub(crate) counters: Counters,
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
    /// What was asked for besides calls, by others than our own user.
    pub(super) denied: Tally,
    /// An event was dropped, since its subscriber reads too slowly.
    dropped: Tally,
    /// Much waits for one who takes nothing at the moment.
    stalled: Tally,
    /// A reply in parts waits for its caller.
    held_up: Tally,
    /// Accepting, or receiving, failed.
    failing: Tally,
    /// Somebody was at a limit, by its number; connections that were closed for it are among the failures.
    limits: [Tally; Limit::COUNT],
    /// The endpoint's file.
    pub(super) removed: Tally,
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
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    waiting: usize,
}

impl Refusals {
    /// Arranges for a clear "no", as long as not too many wait for theirs.
    pub(crate) fn refuse(
        &mut self,
        (site, peer): (&Site, PeerName<'_>),
        protocol: &mut Protocol,
        rc: ResultCode,
        now: Instant,
    ) -> Admission {
        site.counters.refused();
        if self.waiting >= MAX_REFUSING {
            let what = format_args!(
                "{peer} is not told that it was refused, {MAX_REFUSING} others have yet to hear it"
            );
            site.at_limit(Limit::Refusals, what);
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
    /// Somebody is at this limit, and does not get what he asks for: it is counted, and told now and then. `what` says who
    /// he is, and how much there is.
    #[cold]
    pub(crate) fn at_limit(&self, limit: Limit, what: fmt::Arguments<'_>) {
        self.counters.limit(limit);
        if let Some(count) = self.tallies.limits[limit as usize].next_worth_telling() {
            log::warn!("{}: {what} ({limit}); {count} so far", self.endpoint);
        }
    }

    /// The system does not let us do what a server is for.
    pub(crate) fn report_failing(&self, what: &str, error: &io::Error) {
        self.counters.system_error();
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

    /// A reply in parts waits until its caller has taken some of what was sent before.
    #[cold]
    pub(super) fn report_held_up(&self, peer: PeerName<'_>, waiting: usize, limit: Limit) {
        self.counters.stream_stalled();
        if let Some(count) = self.tallies.held_up.next_worth_telling() {
            let endpoint = &self.endpoint;
            log::info!(
                "{endpoint}: {waiting} bytes of a reply in parts wait until {peer} takes what was sent before \
                 ({limit}); {count} times so far"
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
        let Crowded { party, held, most } = crowded;
        let what =
            format_args!("refused a connection from {peer}: {party} holds {held} of the {most} that it may");
        self.at_limit(Limit::MaxConnectionsPerPeer, what);
    }
}
