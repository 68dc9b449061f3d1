//! The server's event loop: one `mio::Poll`, one thread, any number of listeners and links.
//!
//! A turn polls until the next deadline, lets every link that has something to do work once
//! within its budget, empties the mailbox, and wakes whose time has come. A link that fails is
//! dropped in one place, [`Reactor::reap`]; only a failure of the poll itself stops the loop.
//!
//! The loop itself may be held up, by a handler, a debugger, a frozen process. So the clock is read
//! where it is used, never before a handler for what comes behind it; and nobody's time is up before
//! what has arrived was read, and what waits was offered: see [`Link::work`].

mod accepting;
mod acceptor;
mod datagram;
mod journal;
mod link;
pub(crate) mod mailbox;
mod outgoing;
mod parties;
mod presence;
mod reception;
mod room;
mod session;
mod share;
mod slots;
mod stopping;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Waker};
use sidewire_platform::{Address, Datagrams, Endpoint, Listener, Peer, Reserve, Stream};

use crate::counters::Counters;
use crate::limits::{Limits, READ_BUFFER, RETRY_AFTER};
use crate::maker::Maker;
use acceptor::Acceptor;
use datagram::Port;
use link::{Link, Next, Place, Seat, Shown, Workbench};
use mailbox::{Letter, Mailbox};
use reception::Reception;
use sidewire_wire::ResultCode;
use sidewire_wire::{Buffer, Cut, Layout, ProtocolError, ReplyWriter};
use slots::{Key, LAST_RESERVED, Slots, reserved_number, reserved_token};
use timers::{Target, Timers};

pub(crate) use acceptor::{Site, Tallies};
pub(crate) use datagram::{Framing, address_of};
pub use datagram::{Message, MessageReply};
pub(crate) use parties::Parties;
pub use session::{Closed, Session, SessionId};

/// What the loop hands to whoever owns it.
pub(crate) trait Service {
    /// Handles a request; the reply has to be finished before this returns. Says how it went.
    fn request(&mut self, incoming: &Incoming<'_>, reply: ReplyWriter<'_>) -> ResultCode;
    /// Handles a request that wants no answer.
    fn notify(&mut self, incoming: &Incoming<'_>);
    /// Streams without frames, by the number of their listener.
    fn opened(&mut self, listener: u32, session: &mut Session<'_>);
    fn data(&mut self, listener: u32, session: &mut Session<'_>, bytes: &[u8]);
    fn half_closed(&mut self, listener: u32, session: &mut Session<'_>);
    fn closed(&mut self, listener: u32, id: SessionId, why: &Closed);
    /// A datagram without frames, by the number of its port.
    fn message(&mut self, port: u32, message: &Message<'_>, reply: &mut MessageReply<'_>);
}

/// One request and where it came from.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) msg_type: i32,
    pub(crate) payload: &'a [u8],
    pub(crate) peer: &'a Peer,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) layout: Layout,
    pub(crate) origin: Origin<'a>,
}

/// By what way a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    Stream(&'a Stream),
    /// `None`: a sender without an address.
    Datagram(Option<&'a Address>),
}

/// See the module's text.
pub(crate) struct Reactor {
    poll: Poll,
    events: Events,
    acceptors: Vec<Acceptor>,
    /// By number; once stopping, those that still have something to send.
    ports: BTreeMap<u32, Port>,
    links: Slots<Link>,
    /// Who goes on in the next turn without an event.
    ready: VecDeque<Target>,
    timers: Timers,
    /// When this turn's poll began, if anything can be due: whatever came before that, the poll has shown,
    /// also on systems where it is not to be had otherwise (a pipe's completion).
    judged: Option<Instant>,
    /// When the endpoints' files are looked for.
    looking: Option<Instant>,
    mailbox: Arc<Mailbox>,
    buffer: Box<[u8]>,
    spare: Vec<Buffer>,
    /// Given up when the process is out of descriptors, to tell one client so.
    reserve: Option<Reserve>,
    refusing: usize,
    buffered: usize,
    limits: Limits,
    counters: Counters,
    stopping: Option<Instant>,
    maker: Maker,
}

/// The reserved token of the waker; acceptors count up from 0, datagram sockets from the middle.
const WAKER: u32 = LAST_RESERVED;
const FIRST_PORT: u32 = LAST_RESERVED / 2;
/// Of each kind: what tokens tell apart everywhere.
const MAX_ENDPOINTS: u16 = 32_767;
/// Connections accepted on one listener before others get their turn.
const ACCEPTS_PER_TURN: usize = 256;
/// Events taken from the system at a time.
const EVENTS: usize = 1024;

impl Reactor {
    pub(crate) fn new(limits: Limits, counters: Counters) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), reserved_token(WAKER))?;
        let mailbox = Arc::new(Mailbox::new(Box::new(move || waker.wake())));
        Ok(Reactor {
            events: Events::with_capacity(EVENTS),
            acceptors: Vec::new(),
            ports: BTreeMap::new(),
            links: Slots::new(),
            ready: VecDeque::new(),
            timers: Timers::default(),
            judged: None,
            looking: None,
            mailbox,
            buffer: vec![0; READ_BUFFER].into(),
            spare: Vec::new(),
            reserve: Some(Reserve::new()?),
            refusing: 0,
            buffered: 0,
            limits,
            counters,
            stopping: None,
            maker: Maker::here(),
            poll,
        })
    }

    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Whether endpoints can still be opened: whether somebody will serve them.
    ///
    /// # Errors
    /// If the loop was told to stop.
    pub(crate) fn takes_endpoints(&self) -> io::Result<()> {
        match self.mailbox.was_told_to_stop() {
            true => Err(io::Error::other("the server has stopped")),
            false => Ok(()),
        }
    }

    /// Returns the listener's number.
    pub(crate) fn add_listener(
        &mut self,
        listener: Listener,
        site: Site,
        cut: Option<Cut>,
    ) -> io::Result<u32> {
        self.takes_endpoints()?;
        let number = endpoint_number(self.acceptors.len())?;
        self.acceptors.push(Acceptor::new(listener, site, cut, self.poll.registry(), number)?);
        self.arm_looking();
        Ok(number.into())
    }

    /// Returns the port's number.
    pub(crate) fn add_port(&mut self, socket: Datagrams, site: Site, framing: Framing) -> io::Result<u32> {
        self.takes_endpoints()?;
        let number = u32::from(endpoint_number(self.ports.len())?);
        let mailbox = self.mailbox();
        let ready = move || {
            // A full mailbox has woken the loop already, and one reading takes all there is.
            if let Err(error) = mailbox.post(Letter::Ready(number)) {
                log::debug!("a mailslot's message waits for the next: {error}");
            }
        };
        let mut port = Port::new(socket, site, framing, number, self.counters.clone())?;
        port.register(self.poll.registry(), reserved_token(FIRST_PORT + number), Box::new(ready))?;
        self.ports.insert(number, port);
        self.arm_looking();
        Ok(number)
    }

    /// Polls once, for at most `timeout`, and handles what there is. A poll that was interrupted is no
    /// turn: it tells nothing of what there is. `Ok(false)`: it was told to stop and has done so.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>, service: &mut impl Service) -> io::Result<bool> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        self.judged = (self.timers.next().is_some() || self.stopping.is_some()).then(Instant::now);
        let polled = self.poll.poll(&mut events, self.patience(timeout));
        let result = match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
            Ok(()) => {
                self.handle(&events, service);
                let has_stopped = self.has_stopped(service);
                if has_stopped {
                    self.let_go(&mut events);
                }
                Ok(!has_stopped)
            }
        };
        events.clear();
        self.events = events;
        result
    }

    /// How long to poll: not at all while a link waits for its next turn.
    fn patience(&self, timeout: Option<Duration>) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.timers.next().into_iter().chain(self.stopping).min();
        let until = deadline.zip(self.judged).map(|(at, now)| at.saturating_duration_since(now));
        until.into_iter().chain(timeout).min()
    }

    fn handle(&mut self, events: &Events, service: &mut impl Service) {
        let queued = self.ready.len();
        for event in events {
            match reserved_number(event.token()) {
                Some(WAKER) => self.read_mail(service),
                Some(number) if number >= FIRST_PORT => self.read_port(number - FIRST_PORT, service),
                Some(index) => self.accept(index as usize, service),
                None => {
                    if let Some(key) = self.links.find(event.token()) {
                        let to_the_end = event.is_read_closed() || event.is_error();
                        self.work(key, to_the_end, service);
                    }
                }
            }
        }
        for _ in 0..queued {
            match self.ready.pop_front() {
                Some(Target::Link(key)) => {
                    if let Some(link) = self.links.get_mut(key) {
                        link.queued = false;
                        self.work(key, true, service);
                    }
                }
                Some(Target::Acceptor(index)) => {
                    if let Some(acceptor) = self.acceptors.get_mut(index as usize) {
                        acceptor.queued = false;
                        self.accept(index as usize, service);
                    }
                }
                Some(Target::Port(number)) => {
                    if let Some(port) = self.ports.get_mut(&number) {
                        port.queued = false;
                    }
                    self.read_port(number, service);
                }
                Some(Target::Endpoints) => self.look(service),
                None => break,
            }
        }
        if let Some(judged) = self.judged {
            while let Some(target) = self.timers.pop_due(judged) {
                self.wake(target, service);
            }
        }
    }

    fn work(&mut self, key: Key, to_the_end: bool, service: &mut impl Service) {
        self.work_link(key, to_the_end, service);
        if self.buffered > self.limits.max_buffered {
            self.shed_memory(service);
        }
    }

    fn work_link(&mut self, key: Key, to_the_end: bool, service: &mut impl Service) {
        let Some(link) = self.links.get_mut(key) else { return };
        let Some(acceptor) = self.acceptors.get(link.listener() as usize) else { return };
        let site = &acceptor.site;
        let mut bench = Workbench {
            registry: self.poll.registry(),
            buffer: &mut self.buffer,
            spare: &mut self.spare,
            limits: &self.limits,
            refusing: &mut self.refusing,
            place: Place { key, site, begun: Instant::now(), judged: self.judged },
        };
        let listener = link.listener();
        let mut reception = Reception { key, listener, endpoint: &site.endpoint, service };
        let next = link.work(&mut bench, &mut reception, to_the_end);
        let held = link.protocol().flow().buffered();
        self.buffered = self.buffered + held - link.accounted;
        link.accounted = held;
        match next {
            Next::Reap => return self.reap(key, service),
            // Without memory for its place in the queue it would never be looked at again.
            Next::Again if self.ready.try_reserve(1).is_err() => return self.reap(key, service),
            Next::Again if !link.queued => {
                link.queued = true;
                self.ready.push_back(Target::Link(key));
            }
            Next::Again | Next::Wait => {}
        }
        link.arm(key, &mut self.timers);
    }

    /// All connections together hold too much: those that hold most are told so, if their sockets take
    /// that at once, and closed.
    fn shed_memory(&mut self, service: &mut impl Service) {
        while self.buffered > self.limits.max_buffered {
            let Some(worst) = self.links.largest_by(|link| link.accounted) else { return };
            let Some(link) = self.links.get_mut(worst).filter(|link| link.accounted > 0) else { return };
            let (own, all, limit) = (link.accounted, self.buffered, self.limits.max_buffered);
            link.protocol_mut().shed(ProtocolError::TooMuchBuffered { own, all, limit });
            self.work_link(worst, false, service);
            if self.links.get(worst).is_some_and(|link| link.accounted > 0) {
                self.reap(worst, service);
            }
        }
    }

    fn wake(&mut self, target: Target, service: &mut impl Service) {
        match target {
            Target::Endpoints => self.look(service),
            Target::Port(number) => {
                if let Some(port) = self.ports.get_mut(&number) {
                    port.armed = None;
                    port.retry();
                }
                self.read_port(number, service);
            }
            Target::Acceptor(index) => {
                if let Some(acceptor) = self.acceptors.get_mut(index as usize) {
                    acceptor.armed = None;
                    self.accept(index as usize, service);
                }
            }
            Target::Link(key) => {
                let Some(link) = self.links.get_mut(key) else { return };
                link.forget_timer();
                if self.judged.is_some_and(|judged| link.is_due(judged)) {
                    self.work(key, true, service);
                } else {
                    link.arm(key, &mut self.timers);
                }
            }
        }
    }

    /// Handles what came in on a datagram socket.
    fn read_port(&mut self, number: u32, service: &mut impl Service) {
        let Some(port) = self.ports.get_mut(&number) else { return };
        if port.read(&mut self.buffer, self.limits.turn_bytes, service) && !port.queued {
            port.queued = true;
            self.ready.push_back(Target::Port(number));
        }
        if port.wants_timer() {
            self.timers.arm(Target::Port(number), Instant::now() + RETRY_AFTER, &mut port.armed);
        }
    }

    /// The one place where links are dropped.
    fn reap(&mut self, key: Key, service: &mut impl Service) {
        let Some(mut link) = self.links.remove(key) else { return };
        link.disarm(key, &mut self.timers);
        self.buffered -= link.accounted;
        self.refusing -= usize::from(link.refused);
        self.counters.connection_closed();
        if let Some(acceptor) = self.acceptors.get_mut(link.listener() as usize) {
            acceptor.links -= usize::from(link.seat != Seat::None);
            if let (Seat::Shared, Some(peer)) = (link.seat, link.peer()) {
                acceptor.site.parties.leave(peer, &acceptor.site.own_identity);
            }
            report_end(key, &link, &mut acceptor.site);
            if link.was_opened() {
                service.closed(link.listener(), SessionId(key), &link.closed(&acceptor.site.endpoint));
            }
        }
        let linger = self.linger(link.listener());
        link.close(self.poll.registry(), linger);
    }

    fn read_mail(&mut self, service: &mut impl Service) {
        let mail = self.mailbox.take();
        if let Some(grace) = mail.stop {
            self.stop(grace, service);
        }
        for letter in mail.letters {
            match letter {
                Letter::Ready(port) => self.read_port(port, service),
            }
        }
    }
}

/// The number of one more endpoint of a kind.
fn endpoint_number(count: usize) -> io::Result<u16> {
    u16::try_from(count).ok().filter(|&number| number < MAX_ENDPOINTS).ok_or_else(|| {
        io::Error::other(format!(
            "a server has at most {MAX_ENDPOINTS} stream and {MAX_ENDPOINTS} datagram endpoints"
        ))
    })
}

/// Says how a connection ended.
fn report_end(key: Key, link: &Link, site: &mut Site) {
    let (endpoint, peer) = (&site.endpoint, Shown(link.peer()));
    match (link.protocol().flow().failure(), link.broken()) {
        (Some(failure), _) => {
            let level = if failure.is_noteworthy() { log::Level::Warn } else { log::Level::Info };
            match site.tallies.failure(failure).next_worth_telling() {
                Some(count) => log::log!(level, "{endpoint}: closed {peer}: {failure}; {count} so far"),
                None => log::debug!("{endpoint}: #{key} closed {peer}: {failure}"),
            }
        }
        (None, Some(error)) => log::debug!("{endpoint}: #{key} closed: {peer} has gone: {error}"),
        (None, None) => log::debug!("{endpoint}: #{key} closed in order"),
    }
}
