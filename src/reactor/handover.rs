//! How a loop leaves its endpoint to a newer server, so that there is always one of the two to find.
//!
//! The newer one connects and asks for it. If it may have it, what makes a listener of it goes along with our hello;
//! nothing else changes, and we go on, also if it dies there and then. When it has what it needs it says so, and from
//! that word on the endpoint is its own: it stays open, nobody else comes to us, our clients are told to go there, and
//! what was accepted is finished. Our goodbye to it is the last word.

use std::cmp::Ordering;
use std::time::Instant;

use super::slots::Key;
use super::source::Socket;
use super::system::System;
use super::{Link, Reactor, Service};
use sidewire_wire::{App, Protocol, ResultCode};

impl<Y: System> Reactor<Y> {
    /// Leaves the endpoint that this peer has come in at to it, and ends.
    pub(super) fn give_way(&mut self, heir: Key, service: &mut impl Service) {
        let Some(number) = self.links.get_mut(heir).map(|link| link.source()) else {
            return log::info!("the server that wanted to take over has gone; this one goes on");
        };
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        let (Socket::Listener(listener), Some(grace)) = (&mut source.socket, source.site.gives_way) else {
            return;
        };
        log::info!("{}: a newer server takes over; this one ends", source.site.endpoint);
        self.system.hand_on(listener);
        source.is_handed_on = true;
        self.turn_away(number, service);
        self.stop_for(grace, Some(heir), service);
    }
}

/// Tells a peer to go to the newer server; or that this is the newer one, that all is well.
pub(super) fn leave<Y: System>(link: &mut Link<Y>, is_heir: bool, now: Instant) {
    let rc = if is_heir { ResultCode::OK } else { ResultCode::SHUTTING_DOWN };
    match link.protocol_mut() {
        // Who has said nothing yet is told so in his own layout.
        Protocol::Framed(connection) if connection.layout().is_none() && connection.buffered() == 0 => {
            connection.refuse(rc, now);
        }
        protocol => protocol.goodbye(rc),
    }
}

/// Why this app is no newer one of ours.
pub(super) fn objection(ours: Option<&App>, theirs: Option<&App>) -> Option<String> {
    let nobody = App::default();
    let (ours, theirs) = (ours.unwrap_or(&nobody), theirs.unwrap_or(&nobody));
    let is_ours = !ours.name().is_empty() && ours.name() == theirs.name();
    let is_newer = theirs.version() == ours.version()
        || theirs.compare_version(ours.version()).is_some_and(Ordering::is_ge);
    let why = match (is_ours, is_newer) {
        (true, true) => return None,
        (true, false) => "which is newer",
        (false, _) => "another app",
    };
    Some(format!("this is {ours}, {why}, and does not give way to {theirs}"))
}
