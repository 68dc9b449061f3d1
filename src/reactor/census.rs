//! Who is connected.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime};

use sidewire_platform::{Endpoint, Peer};

use super::Reactor;
use super::session::ConnectionId;
use super::system::System;
use sidewire_wire::{App, Layout, Protocol};

/// One connection of a server's, as [`Remote::peers`](crate::Remote::peers) found it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Which connection it is.
    pub connection: ConnectionId,
    /// Who is there, as far as the system tells.
    pub peer: Peer,
    /// The endpoint that the client connected to.
    pub endpoint: Endpoint,
    /// The layout that it speaks; `None` on a stream without frames.
    pub layout: Option<Layout>,
    /// What its application says of itself, with its name and version.
    pub app: Option<App>,
    /// Since when it is connected, to a sixteenth of a second.
    pub since: SystemTime,
    /// Bytes that came from it.
    pub bytes_received: u64,
    /// Bytes that have left for it.
    pub bytes_sent: u64,
    /// Its requests that were accepted and whose replies have not left.
    pub calls_in_flight: usize,
}

/// How exactly it is known since when.
const TICK: Duration = Duration::from_nanos(1_000_000_000 / 16);

/// What is remembered of each connection for that. Small, since a server may have ten thousand.
#[derive(Debug, Default)]
pub(crate) struct Visit {
    /// Of the key by which it is found. It stands here since there is room.
    pub(super) generation: u32,
    /// [`TICK`]s from the loop's beginning, enough for eight years.
    since: u32,
    read: u64,
    written: u64,
}

impl Visit {
    pub(super) fn begin(loops: Instant, now: Instant) -> Visit {
        let since = now.saturating_duration_since(loops).as_nanos() / TICK.as_nanos();
        Visit { since: u32::try_from(since).unwrap_or(u32::MAX), ..Visit::default() }
    }

    #[inline]
    pub(super) fn add(&mut self, read: usize, written: usize) {
        self.read += read as u64;
        self.written += written as u64;
    }
}

impl<Y: System> Reactor<Y> {
    /// All connections that handlers were told of, in the order in which they came.
    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let lives = self.system.now().saturating_duration_since(self.begun);
        let wall = SystemTime::now();
        let mut peers = Vec::new();
        for (key, visit, link) in self.links.visits().filter(|(_, _, link)| link.was_opened()) {
            let Some(source) = self.sources.get(usize::from(link.source())) else { continue };
            let age = lives.saturating_sub(TICK * visit.since);
            let (layout, calls_in_flight) = match link.protocol() {
                Protocol::Framed(connection) => (connection.layout(), connection.in_flight()),
                Protocol::Plain(_) => (None, 0),
            };
            let info = PeerInfo {
                connection: ConnectionId(key),
                peer: link.peer().cloned().unwrap_or_default(),
                endpoint: source.site.endpoint.clone(),
                layout,
                app: link.app().cloned(),
                since: wall.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH),
                bytes_received: visit.read,
                bytes_sent: visit.written,
                calls_in_flight,
            };
            peers.push(((visit.since, key), info));
        }
        // Of those who came at a time the first one has the first key.
        peers.sort_by_key(|(order, _)| *order);
        peers.into_iter().map(|(_, info)| info).collect()
    }

    /// Tells one who has asked for them. He may have gone meanwhile.
    pub(super) fn tell_peers(&self, to: &SyncSender<Vec<PeerInfo>>) {
        if to.try_send(self.peers()).is_err() {
            log::debug!("whoever asked for the server's clients has gone");
        }
    }
}
