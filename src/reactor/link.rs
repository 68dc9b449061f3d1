//! One accepted stream: the platform's stream joined to what is spoken on it.

mod identity;
mod reading;

use std::io;
use std::time::{Duration, Instant};

use mio::{Interest, Registry};
use sidewire_platform::{Endpoint, Peer, Stream};

use super::acceptor::Site;
use super::session::{Closed, Session, SessionId};
use super::share::Share;
use super::slots::Key;
use super::timers::{Target, Timers};
use crate::error::Error;
use crate::limits::Limits;
use sidewire_wire::{Buffer, Connection, Event, Input, Plain, Protocol};
use sidewire_wire::{Close, Ending, Fact, Step};

/// See the module's text. Kept small: a server may have ten thousand that do nothing.
#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
    protocol: Protocol,
    /// `None` until the system tells (Windows pipes: after the first read).
    peer: Option<Peer>,
    /// The listener that it came from.
    listener: u16,
    ending: Ending,
    armed: Option<Instant>,
    /// What broke it.
    broken: Option<Box<io::Error>>,
    /// Bytes of memory that the reactor has on its account for this link.
    pub(crate) accounted: usize,
    /// Whether it stands in the queue of links that go on without an event.
    pub(crate) queued: bool,
    /// Whether it is one of the few that wait to be told "no".
    pub(crate) refused: bool,
    /// Whether it takes one of its listener's places. Those that are told "no" take none.
    pub(crate) seat: Seat,
    /// Whether a handler was told of it (streams without frames).
    opened: bool,
}

/// What a link takes of its listener's places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    None,
    Taken,
    /// One that also counts for its peer.
    Shared,
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
    pub(crate) spare: &'a mut Vec<Buffer>,
    pub(crate) limits: &'a Limits,
    pub(crate) refusing: &'a mut usize,
    pub(crate) place: Place<'a>,
}

/// Which link works, where it came in, when it began to, and whose time is judged as of when.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) key: Key,
    pub(crate) site: &'a Site,
    pub(crate) begun: Instant,
    pub(crate) judged: Option<Instant>,
}

impl<'a> Place<'a> {
    fn session(self, peer: &'a Peer, stream: &'a Stream, plain: &'a mut Plain) -> Session<'a> {
        Session { id: SessionId(self.key), peer, stream, endpoint: &self.site.endpoint, plain }
    }
}

/// How many outbox buffers a loop keeps for its links.
const SPARE_BUFFERS: usize = 8;

/// Where a link's events go.
pub(crate) trait Receiver {
    /// Something that a framed peer sent.
    fn event(&mut self, peer: &Peer, stream: &Stream, connection: &mut Connection, event: Event<'_>);
    /// A stream without frames is open.
    fn opened(&mut self, session: &mut Session<'_>);
    /// Bytes or a line.
    fn data(&mut self, session: &mut Session<'_>, bytes: &[u8]);
    /// The peer sends no more.
    fn half_closed(&mut self, session: &mut Session<'_>);
}

/// A peer of whom nothing is known yet.
static NOBODY: Peer = Peer::unknown();

impl Link {
    pub(crate) fn new(stream: Stream, protocol: Protocol, listener: u16) -> Link {
        Link {
            stream,
            protocol,
            peer: None,
            listener,
            ending: Ending::Open,
            armed: None,
            broken: None,
            accounted: 0,
            queued: false,
            refused: false,
            seat: Seat::None,
            opened: false,
        }
    }

    /// Whether there is nothing to do any more but to drop it.
    pub(crate) fn is_dead(&self) -> bool {
        self.ending.is_over()
    }

    /// Takes one of its listener's places, unless it is told "no".
    pub(crate) fn take_seat(&mut self) {
        if self.seat == Seat::None && !self.refused {
            self.seat = Seat::Taken;
        }
    }

    pub(crate) fn listener(&self) -> u32 {
        self.listener.into()
    }

    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    pub(crate) fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    pub(crate) fn protocol_mut(&mut self) -> &mut Protocol {
        &mut self.protocol
    }

    pub(crate) fn register(&mut self, registry: &Registry, key: Key) -> io::Result<()> {
        self.stream.register(registry, key.token(), Interest::READABLE)
    }

    /// Reads, handles, and writes as far as the system and the budget allow; and only then judges
    /// whose time was up when the system was last polled. `to_the_end`: not to take a short read for the
    /// end of what there is, since the peer's end may stand behind it.
    pub(crate) fn work(
        &mut self,
        bench: &mut Workbench<'_>,
        receiver: &mut impl Receiver,
        to_the_end: bool,
    ) -> Next {
        let begun = bench.place.begun;
        let mut share = Share::begin(bench.limits.turn_bytes, bench.limits.turn_frames, begun);
        let is_overdue = self.is_due(begun);
        self.protocol.flow_mut().lend(bench.spare);
        let was_writing = self.wants_to_write();
        self.open(bench.place, &share, receiver);
        let unread = share.bytes;
        let more_to_read = self.fill(bench, &mut share, receiver, to_the_end || is_overdue);
        // Also by what was just read: no event tells of what is left unread behind a pause.
        let was_paused = self.protocol.is_paused();
        let mut more_to_write = self.flush(bench, &share);
        let resumed = was_paused && !self.protocol.is_paused();
        let more_to_handle = more_to_read || resumed || self.protocol.has_backlog();
        if is_overdue {
            let input = match share.bytes < unread {
                _ if more_to_handle => Input::Waiting,
                true => Input::Fresh,
                false => Input::Quiet,
            };
            // What was just read may be all of it until the next poll, by which others are judged.
            if input == Input::Fresh {
                self.protocol.renew_partial(begun);
            }
            if bench.place.judged.is_some_and(|judged| self.expire(judged, input)) {
                more_to_write = self.flush(bench, &share);
            }
        }
        if let Some(buffer) = self.protocol.flow_mut().reclaim()
            && buffer.is_worth_keeping()
            && bench.spare.len() < SPARE_BUFFERS
        {
            bench.spare.push(buffer);
        }
        self.settle();
        if self.is_dead() {
            return Next::Reap;
        }
        if was_writing != self.wants_to_write()
            && self.update_interest(bench.place.key, bench.registry).is_err()
        {
            return Next::Reap;
        }
        if more_to_handle || more_to_write { Next::Again } else { Next::Wait }
    }

    /// Tells the handler of a new stream without frames.
    fn open(&mut self, place: Place<'_>, share: &Share, receiver: &mut impl Receiver) {
        let Protocol::Plain(plain) = &mut self.protocol else { return };
        if !self.opened && !self.refused {
            self.opened = true;
            let peer = self.peer.as_ref().unwrap_or(&NOBODY);
            receiver.opened(&mut place.session(peer, &self.stream, plain));
            share.handled();
        }
    }

    /// Writes what is ready. Says whether more would go than the budget allowed.
    fn flush(&mut self, bench: &Workbench<'_>, share: &Share) -> bool {
        let mut bytes = bench.limits.turn_bytes.max(1);
        let now = share.now();
        while !self.ending.is_over() && self.protocol.has_unsent() {
            if bytes == 0 {
                return true;
            }
            match self.stream.write(self.protocol.unsent()) {
                Ok(count) => {
                    self.protocol.mark_sent(count, now);
                    bytes = bytes.saturating_sub(count.max(1));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.protocol.mark_sent(0, now);
                    return false;
                }
                Err(_) if self.protocol.has_only_a_goodbye_left() => self.tell(Fact::Broken),
                Err(error) => self.broke(error),
            }
        }
        false
    }

    /// Whether WRITABLE is to be asked for. While this is false nobody wakes us for it.
    fn wants_to_write(&self) -> bool {
        self.protocol.flow().is_stalled()
    }

    fn update_interest(&mut self, key: Key, registry: &Registry) -> io::Result<()> {
        let interest = match self.wants_to_write() {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        self.stream.reregister(registry, key.token(), interest)
    }

    /// Moves on when everything is said.
    fn settle(&mut self) {
        let said = Fact::Said(self.protocol.said());
        if self.learn(said) == Step::ShutDownWrite {
            let fact = if self.stream.shutdown_write().is_ok() { said } else { Fact::Broken };
            self.tell(fact);
        }
    }

    /// Takes in a fact about the stream's end.
    #[inline]
    fn learn(&mut self, fact: Fact) -> Step {
        self.ending.on(fact, self.protocol.way(self.stream.has_half_close()))
    }

    /// The same, where the step is taken by whoever looks next.
    fn tell(&mut self, fact: Fact) {
        let _ = self.learn(fact);
    }

    /// The system says that nobody is there any more.
    fn broke(&mut self, error: io::Error) {
        self.broken = Some(Box::new(error));
        self.tell(Fact::Broken);
    }

    /// Why it is over.
    pub(crate) fn closed(&mut self, endpoint: &Endpoint) -> Closed {
        match (self.broken.take(), self.protocol.flow().failure()) {
            (_, Some(failure)) => Closed::Ended(failure.to_string()),
            (Some(error), None) => Closed::Broken(Error::os("serve a client on", endpoint, *error)),
            (None, None) => Closed::InOrder,
        }
    }

    /// What broke it, if something did.
    pub(crate) fn broken(&self) -> Option<&io::Error> {
        self.broken.as_deref()
    }

    /// Whether a handler was told of it, and is to be told of its end.
    pub(crate) fn was_opened(&self) -> bool {
        self.opened
    }

    /// The connection's deadline or the linger's.
    fn deadline(&self) -> Option<Instant> {
        match self.ending {
            Ending::Lingering => self.protocol.flow().linger_deadline(),
            Ending::Open | Ending::InputEnded | Ending::OutputEnded => self.protocol.next_deadline(),
            Ending::Over(_) => None,
        }
    }

    /// Whether its time may be up: [`work`](Link::work) tells.
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// Sees to it that the link is woken at its deadline. One that goes on anyway need not be.
    #[inline]
    pub(crate) fn arm(&mut self, key: Key, timers: &mut Timers) {
        if let Some(at) = self.deadline().filter(|_| !self.queued) {
            timers.arm(Target::Link(key), at, &mut self.armed);
        }
    }

    /// It needs no waking any more.
    pub(crate) fn disarm(&mut self, key: Key, timers: &mut Timers) {
        timers.disarm(Target::Link(key), &mut self.armed);
    }

    /// Ends what has run out of time. Says whether anything had.
    fn expire(&mut self, now: Instant, input: Input) -> bool {
        match self.ending {
            Ending::Open | Ending::InputEnded | Ending::OutputEnded => {
                self.protocol.handle_timeout(now, input)
            }
            Ending::Lingering if self.is_due(now) => {
                self.tell(Fact::TimeIsUp);
                true
            }
            Ending::Lingering | Ending::Over(_) => false,
        }
    }

    /// The timer has gone off.
    pub(crate) fn forget_timer(&mut self) {
        self.armed = None;
    }

    /// Ends the stream and gives back what it held. `linger` bounds what a classic peer on a pipe
    /// may take to read its last reply; there, nobody else is left with anything to read.
    pub(crate) fn close(mut self, registry: &Registry, linger: Duration) {
        if let Err(error) = self.stream.deregister(registry) {
            log::debug!("deregistering {}: {error}", Shown(self.peer.as_ref()));
        }
        match self.ending {
            Ending::Over(Close::Flushed) => self.stream.close_flushed(linger),
            Ending::Over(Close::Abruptly) => self.stream.abort(),
            _ if self.protocol.flow().is_hopeless() => self.stream.abort(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand idle connections cost what their slots cost.
    #[test]
    fn an_idle_link_is_small() {
        let ours = size_of::<Link>() - size_of::<Stream>();
        assert!(ours <= 232, "{ours} bytes");
    }
}
