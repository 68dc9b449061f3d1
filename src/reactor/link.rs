//! One accepted stream: the platform's stream joined to the protocol's connection.

use std::io;
use std::time::{Duration, Instant};

use mio::{Interest, Registry};
use sidewire_platform::{Peer, Stream};

use super::acceptor::{Admission, Site};
use super::slots::Key;
use super::timers::{Target, Timers};
use crate::limits::Limits;
use crate::wire::{Buffer, Connection, Event, Layout};

/// See the module's text. Kept small: a server may have ten thousand that do nothing.
#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
    connection: Connection,
    /// `None` until the system tells (Windows pipes: after the first read).
    peer: Option<Peer>,
    /// The listener that it came from.
    listener: u32,
    state: State,
    armed: Option<Instant>,
    /// Bytes of memory that the reactor has on its account for this link.
    pub(crate) accounted: u32,
    /// Whether it stands in the queue of links that go on without an event.
    pub(crate) queued: bool,
    /// Whether it is one of the few that wait to be told "no".
    pub(crate) refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The peer sends no more; what is ready still goes out.
    InputEnded,
    /// Everything is said; what still comes is thrown away until the peer has closed, because
    /// closing a socket with unread input resets it, which can eat the last reply (tcp(7)).
    Lingering {
        until: Instant,
    },
    /// Everything is said; the system delivers it behind our back (classic peers on pipes).
    Complete,
    /// There is nobody to talk to any more.
    Dead,
}

/// What the loop does with a link next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Waits for an event or its deadline.
    Wait,
    /// Goes on in the next turn, without an event.
    Again,
    /// Is dropped.
    Reap,
}

/// What a link needs from its loop while it works.
pub(crate) struct Workbench<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) buffer: &'a mut [u8],
    pub(crate) spare: &'a mut Vec<Box<Buffer>>,
    pub(crate) limits: &'a Limits,
    pub(crate) site: &'a Site,
    pub(crate) refusing: &'a mut usize,
    pub(crate) now: Instant,
}

/// Reads of at least this size go straight into the frame's own buffer.
const LARGE: usize = 64 << 10;
/// How many outbox buffers a loop keeps for its links.
const SPARE_BUFFERS: usize = 8;

/// Where a link's events go.
pub(crate) trait Receiver {
    fn event(&mut self, peer: &Peer, connection: &mut Connection, event: Event<'_>);
}

impl Link {
    pub(crate) fn new(stream: Stream, connection: Connection, listener: u32) -> Link {
        Link {
            stream,
            connection,
            peer: None,
            listener,
            state: State::Open,
            armed: None,
            accounted: 0,
            queued: false,
            refused: false,
        }
    }

    /// Whether there is nothing to do any more but to drop it.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead | State::Complete)
    }

    pub(crate) fn listener(&self) -> u32 {
        self.listener
    }

    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(crate) fn register(&mut self, registry: &Registry, key: Key) -> io::Result<()> {
        self.stream.register(registry, key.token(), Interest::READABLE)
    }

    /// Asks the system who is there, and holds them to the listener's policy. Some systems tell
    /// only after a first read; then this is `Ok`, and the link asks again.
    pub(crate) fn identify(&mut self, site: &Site, refusing: &mut usize, now: Instant) -> io::Result<()> {
        if self.peer.is_some() {
            return Ok(());
        }
        let peer = match self.stream.peer() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => {
                self.state = State::Dead;
                return Err(error);
            }
            Ok(peer) => peer,
        };
        if !self.refused {
            match site.identify(&peer, &mut self.connection, refusing, now) {
                Admission::Admitted => {}
                Admission::Refused => self.refused = true,
                Admission::Dropped => self.state = State::Dead,
            }
        }
        self.peer = Some(peer);
        Ok(())
    }

    /// Reads, handles, and writes as far as the system and the budget allow. `to_the_end`: not to
    /// take a short read for the end of what there is, since the peer's end may stand behind it.
    pub(crate) fn work(
        &mut self,
        key: Key,
        bench: &mut Workbench<'_>,
        receiver: &mut impl Receiver,
        to_the_end: bool,
    ) -> Next {
        self.connection.lend(bench.spare);
        let was_writing = self.wants_to_write();
        let was_paused = self.connection.is_paused();
        let more_to_read = self.fill(bench, receiver, to_the_end);
        let more_to_write = self.flush(bench);
        if let Some(buffer) = self.connection.reclaim()
            && buffer.is_worth_keeping()
            && bench.spare.len() < SPARE_BUFFERS
        {
            bench.spare.push(buffer);
        }
        self.settle(bench);
        if self.is_dead() {
            return Next::Reap;
        }
        if was_writing != self.wants_to_write() && self.update_interest(key, bench.registry).is_err() {
            return Next::Reap;
        }
        let resumed = was_paused && !self.connection.is_paused();
        if more_to_read || more_to_write || resumed || self.connection.has_backlog() {
            return Next::Again;
        }
        Next::Wait
    }

    /// Reads and handles what came. Says whether more may be there than the budget allowed.
    fn fill(&mut self, bench: &mut Workbench<'_>, receiver: &mut impl Receiver, to_the_end: bool) -> bool {
        let mut bytes = bench.limits.turn_bytes;
        let mut frames = bench.limits.turn_frames;
        loop {
            match self.state {
                State::Open => {}
                State::Lingering { .. } => return self.discard(bench.buffer),
                State::InputEnded | State::Complete | State::Dead => return false,
            }
            if self.connection.has_backlog() {
                self.take(&[], bench.now, &mut frames, receiver);
            }
            if self.connection.is_finishing() || self.connection.is_paused() {
                return false;
            }
            if frames == 0 || bytes == 0 {
                return true;
            }
            let (result, wanted) = match self.connection.take_large_partial(LARGE) {
                Some((mut partial, most)) => {
                    let result = self.stream.read_append(&mut partial, most);
                    self.connection.put_back(partial);
                    (result.map(|count| (count, 0)), most)
                }
                None => (self.stream.read(bench.buffer).map(|count| (count, count)), bench.buffer.len()),
            };
            match result {
                Ok((0, _)) => {
                    self.state = State::InputEnded;
                    self.connection.end_of_input();
                    return false;
                }
                Ok((count, fresh)) => {
                    if let Err(error) = self.identify(bench.site, bench.refusing, bench.now) {
                        log::debug!("{}: who is there: {error}", bench.site.endpoint);
                        return false;
                    }
                    self.take(&bench.buffer[..fresh], bench.now, &mut frames, receiver);
                    bytes = bytes.saturating_sub(count);
                    if count < wanted && Stream::SHORT_READ_DRAINS && !to_the_end {
                        return self.connection.has_backlog();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("reading from {}: {error}", Shown(self.peer.as_ref()));
                    self.state = State::Dead;
                    return false;
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8], now: Instant, frames: &mut usize, receiver: &mut impl Receiver) {
        let Some(peer) = &self.peer else { return };
        self.connection.receive(bytes, now, frames, &mut |connection, event| {
            receiver.event(peer, connection, event);
        });
    }

    /// Throws input away until there is none, or the peer has closed.
    fn discard(&mut self, buffer: &mut [u8]) -> bool {
        // A peer that never stops sending is cut off by the linger deadline, not by patience.
        for _ in 0..16 {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.state = State::Dead;
                    return false;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {
                    self.state = State::Dead;
                    return false;
                }
            }
        }
        true
    }

    /// Writes what is ready. Says whether more would go than the budget allowed.
    fn flush(&mut self, bench: &Workbench<'_>) -> bool {
        let mut bytes = bench.limits.turn_bytes;
        while self.state != State::Dead && self.connection.has_unsent() {
            if bytes == 0 {
                return true;
            }
            match self.stream.write(self.connection.unsent()) {
                Ok(count) => {
                    self.connection.mark_sent(count, bench.now);
                    bytes = bytes.saturating_sub(count.max(1));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.connection.mark_sent(0, bench.now);
                    return false;
                }
                Err(error) => {
                    log::debug!("writing to {}: {error}", Shown(self.peer.as_ref()));
                    self.state = State::Dead;
                }
            }
        }
        false
    }

    /// Whether WRITABLE is to be asked for. While this is false nobody wakes us for it.
    fn wants_to_write(&self) -> bool {
        self.connection.is_stalled()
    }

    fn update_interest(&mut self, key: Key, registry: &Registry) -> io::Result<()> {
        let interest = match self.wants_to_write() {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        self.stream.reregister(registry, key.token(), interest)
    }

    /// Moves on when the connection has said everything.
    fn settle(&mut self, bench: &Workbench<'_>) {
        if self.connection.is_hopeless() {
            self.state = State::Dead;
        }
        if !self.connection.is_finished() {
            return;
        }
        match self.state {
            State::Open if self.lingers() => {
                let closed = self.stream.has_half_close() && self.stream.shutdown_write().is_err();
                let until = bench.now + bench.limits.linger;
                self.state = if closed { State::Dead } else { State::Lingering { until } };
            }
            State::Open => self.state = State::Complete,
            State::InputEnded => self.state = State::Dead,
            State::Lingering { .. } | State::Complete | State::Dead => {}
        }
    }

    /// Whether the peer is given time to close first. A classic peer on a pipe would not know
    /// that it should: such a pipe is closed behind a flush instead.
    fn lingers(&self) -> bool {
        self.stream.has_half_close() || self.connection.layout() != Some(Layout::Classic)
    }

    /// The connection's deadline or the linger's.
    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Lingering { until } => Some(until),
            State::Open | State::InputEnded => self.connection.next_deadline(),
            State::Complete | State::Dead => None,
        }
    }

    /// Sees to it that the link is woken at its deadline.
    pub(crate) fn arm(&mut self, key: Key, timers: &mut Timers) {
        if let Some(at) = self.deadline() {
            timers.arm(Target::Link(key), at, &mut self.armed);
        }
    }

    /// The timer went off: ends what has run out of time. Says whether anything had.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        self.armed = None;
        if self.deadline().is_none_or(|at| at > now) {
            return false;
        }
        match self.state {
            State::Lingering { .. } => self.state = State::Dead,
            _ => {
                self.connection.handle_timeout(now);
            }
        }
        true
    }

    /// Ends the stream and gives back what it held. `linger` bounds what a classic peer on a pipe
    /// may take to read its last reply.
    pub(crate) fn close(mut self, registry: &Registry, linger: Duration) {
        if let Err(error) = self.stream.deregister(registry) {
            log::debug!("deregistering {}: {error}", Shown(self.peer.as_ref()));
        }
        match self.state {
            State::Complete => self.stream.close_flushed(linger),
            _ if self.connection.is_hopeless() => self.stream.abort(),
            _ => drop(self.stream),
        }
    }
}

/// A peer for log lines, known or not.
pub(crate) struct Shown<'a>(pub(crate) Option<&'a Peer>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(peer) => peer.fmt(f),
            None => f.write_str("a peer that is not known yet"),
        }
    }
}
