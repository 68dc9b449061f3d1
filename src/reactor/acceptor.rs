//! One listener of the loop, and what it knows about the connections that it lets in.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token};
use sidewire_platform::{Endpoint, Listener, Peer, Stream, is_descriptor_limit};

use super::slots::reserved_token;
use crate::access::{Access, Oneself};
use crate::limits::MAX_REFUSING;
use crate::wire::rc::ResultCode;
use crate::wire::{Cut, Protocol, Settings};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// `None` once the loop lets nobody in any more.
    listener: Option<Listener>,
    pub(crate) number: u16,
    token: Token,
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
    pub(crate) oneself: Oneself,
    pub(crate) settings: Arc<Settings>,
    pub(crate) refused: Tally,
    pub(crate) turned_away: Tally,
    pub(crate) pauses: Tally,
}

/// Counts what strangers can cause as often as they like, so that they do not get to flood the
/// log, nor to stop a server whose standard error nobody reads.
#[derive(Debug, Default)]
pub(crate) struct Tally(Cell<u64>);

impl Tally {
    /// Counts one. The count so far, if it is worth a line: the first few, then the powers of two.
    pub(crate) fn next_worth_telling(&self) -> Option<u64> {
        let count = self.0.get() + 1;
        self.0.set(count);
        (count <= TOLD_EACH || count.is_power_of_two()).then_some(count)
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

/// How many refusals of one kind get a line each.
const TOLD_EACH: u64 = 64;
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
            site,
            cut,
            links: 0,
            armed: None,
            queued: false,
        })
    }

    /// The next connection. An error of one that could not be accepted is logged and skipped.
    pub(crate) fn accept(&mut self, registry: &Registry) -> Accepted {
        let Some(listener) = &mut self.listener else { return Accepted::Nobody };
        for _ in 0..MAX_FAILURES {
            match listener.accept(registry, self.token) {
                Ok(stream) => return Accepted::Stream(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Accepted::Nobody,
                Err(error) if is_descriptor_limit(&error) => return Accepted::OutOfDescriptors,
                Err(error) => log::debug!("accepting on {}: {error}", self.site.endpoint),
            }
        }
        Accepted::Failing
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
    /// Holds a peer to the policy of this listener. `unknown`: why the system doesn't tell who it is.
    pub(crate) fn identify(
        &self,
        peer: &Peer,
        unknown: Option<&io::Error>,
        protocol: &mut Protocol,
        refusing: &mut usize,
        now: Instant,
    ) -> Admission {
        match self.access.admits_client(peer, &self.oneself, self.lower_integrity) {
            Ok(()) => Admission::Admitted,
            Err(denied) => {
                if let Some(count) = self.refused.next_worth_telling() {
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
