//! The server's event loop: one poll, one thread, any number of listeners and links.
//!
//! A turn polls until the next deadline, reads the mail, lets every link that has something to do work once
//! within its budget, and wakes whose time has come. A link that fails is
//! dropped in one place, [`Reactor::reap`]; only a failure of the poll itself stops the loop.
//!
//! The loop itself may be held up, by a handler, a debugger, a frozen process. So the clock is read
//! where it is used, never before a handler for what comes behind it; and nobody's time is up before
//! what has arrived was read, and what waits was offered: see [`Link::work`].

mod accepting;
mod adopting;
mod aside;
mod asking;
mod brought;
mod budget;
mod calls;
mod census;
mod datagram;
mod deferred;
mod files;
mod handover;
mod idle;
#[cfg(feature = "harness")]
mod in_memory;
mod journal;
mod link;
pub(crate) mod mailbox;
mod memory;
mod outgoing;
mod owed_datagrams;
mod parties;
mod schedule;
mod send_buffer;
mod service;
mod session;
mod site;
mod slots;
mod source;
mod stopping;
mod streams;
mod system;
#[cfg(test)]
mod tests;
mod topics;
mod unproven;
mod watch;
mod withdrawing;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tokio")]
use sidewire_platform::AsyncPoll;
use sidewire_platform::{Look, PollDescriptor};

use crate::counters::{Counters, Limit};
use crate::limits::Limits;
use crate::maker::Maker;
use crate::recorder::{NOBODY, RecordKind, Recorder};
use datagram::DatagramSocket;
use deferred::Deferred;
use idle::Idle;
use link::{Context, Link, Next, PeerName, Quota, Scope, Task, Traffic};
use mailbox::{Letter, Mailbox, ThreadMark, Turning};
use memory::Memory;
use schedule::{Does, Schedule, Target, Wakeup};
use site::Refusals;
use slots::{Key, LAST_RESERVED, Slots, reserved_number, reserved_token};
use source::{Socket, Source};
use system::{Os, System, Told};
use topics::Topics;
use watch::Watch;

pub(crate) use aside::Aside;
pub(crate) use asking::{Attaching, ReturnAddress};
pub(crate) use calls::{CallNews, NotSent, Order, PeerOrder};
pub use census::PeerInfo;
pub(crate) use datagram::address_of;
pub use datagram::{Message, MessageReply};
pub use deferred::Unwanted;
pub(crate) use deferred::{Answer, CAN_NOT_GO, Call, Deferral, TOO_MANY_WAIT};
pub(crate) use service::{Incoming, Origin, Service, Visitor, Way};
pub use session::{Closed, ConnectionId, Session};
pub(crate) use site::{Carries, Greets, Site, Tallies};
pub(crate) use stopping::STOP_GRACE;
pub(crate) use streams::IfFull;
pub use streams::Unsent;
#[cfg(feature = "harness")]
pub(crate) use system::memory as memory_system;

/// The loop: everything that one thread serves, and when each of it goes on.
pub(crate) struct Reactor<Y: System = Os> {
    system: Y,
    /// Not there while it is read.
    events: Option<Y::Events>,
    sources: Vec<Source<Y>>,
    links: Slots<Link<Y>>,
    deferred: Deferred,
    schedule: Schedule,
    /// When the endpoints' files are looked for.
    looking: Wakeup,
    /// When this turn's poll began, if anything can be due: whatever came before that, the poll has shown,
    /// also on systems where it is not to be had otherwise (a pipe's completion).
    judged: Option<Instant>,
    mailbox: Arc<Mailbox>,
    memory: Memory,
    /// Given up when the process is out of descriptors, to tell one client so.
    reserve: Option<Y::Reserve>,
    refusals: Refusals,
    topics: Topics,
    limits: Limits,
    counters: Counters,
    watch: Watch,
    stopping: Option<Instant>,
    idle: Idle<Y::StartLock>,
    begun: Instant,
    maker: Maker,
}

/// The reserved token of the waker; sources count up from 0.
const WAKER: u32 = LAST_RESERVED;
/// Events taken from the system at a time.
const EVENTS: usize = 1024;

impl Reactor {
    pub(crate) fn new(limits: Limits, counters: Counters) -> io::Result<Reactor> {
        Reactor::over(Os::new()?, limits, counters)
    }

    /// What another loop may watch in place of all that is open here.
    pub(crate) fn descriptor(&self) -> io::Result<PollDescriptor> {
        self.system.descriptor()
    }

    /// The same for tasks of the runtime that this is called in.
    #[cfg(feature = "tokio")]
    pub(crate) fn for_tasks(&self) -> io::Result<AsyncPoll> {
        self.system.for_tasks()
    }
}

impl<Y: System> Reactor<Y> {
    fn over(system: Y, limits: Limits, counters: Counters) -> io::Result<Reactor<Y>> {
        let mailbox = Arc::new(Mailbox::new(system.waker(reserved_token(WAKER))?));
        Reactor::reached_by(mailbox, system, limits, counters)
    }

    fn reached_by(
        mailbox: Arc<Mailbox>,
        system: Y,
        limits: Limits,
        counters: Counters,
    ) -> io::Result<Reactor<Y>> {
        let begun = system.now();
        Ok(Reactor {
            events: Some(Y::events(EVENTS)),
            sources: Vec::new(),
            links: Slots::new(),
            deferred: Deferred::default(),
            schedule: Schedule::default(),
            looking: Wakeup::default(),
            judged: None,
            topics: Topics::new(mailbox.audience()),
            mailbox,
            memory: Memory::new(limits.max_buffered, counters.clone()),
            reserve: Some(system.reserve()?),
            refusals: Refusals::default(),
            watch: Watch::new(limits.slow_handler, counters.clone(), begun),
            limits,
            counters,
            stopping: None,
            idle: Idle::default(),
            begun,
            maker: Maker::here(),
            system,
        })
    }

    /// What writes down what it does.
    pub(crate) fn recorder(&mut self) -> &mut Recorder {
        &mut self.watch.recorder
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters.clone()
    }

    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Whether endpoints can still be opened: whether somebody will serve them.
    ///
    /// # Errors
    /// If the loop stops, or has stopped.
    pub(crate) fn takes_endpoints(&self) -> io::Result<()> {
        match self.stopping {
            Some(_) => Err(io::Error::other("the server has stopped")),
            None => Ok(()),
        }
    }

    /// Returns the source's number.
    pub(crate) fn add_listener(&mut self, mut listener: Y::Listener, site: Site) -> io::Result<u16> {
        self.takes_endpoints()?;
        let number = self.next_number()?;
        self.system.listen(&mut listener, source::token(number))?;
        self.sources.push(Source::new(number, site, Socket::Listener(listener)));
        self.arm_looking();
        Ok(number)
    }

    /// Returns the source's number.
    pub(crate) fn add_datagrams(&mut self, socket: Y::Datagrams, site: Site) -> io::Result<u16> {
        self.takes_endpoints()?;
        let number = self.next_number()?;
        let mailbox = self.mailbox();
        let ready = move || {
            // A full mailbox has woken the loop already, and one reading takes all there is.
            if let Err(error) = mailbox.post(Letter::Ready(number)) {
                log::debug!("a mailslot's message waits for the next: {error:?}");
            }
        };
        let mut socket = DatagramSocket::new(socket, &site)?;
        self.system.watch(&mut socket.out.socket, source::token(number), Box::new(ready))?;
        self.sources.push(Source::new(number, site, Socket::Datagrams(Box::new(socket))));
        self.arm_looking();
        Ok(number)
    }

    /// From here on this thread turns it, until this is dropped.
    pub(crate) fn begin_turns(&mut self) -> Turning {
        let turning = mailbox::serve_from(&self.mailbox, ThreadMark::here());
        self.begin_idleness();
        turning
    }

    /// Polls once, for at most `timeout`, and handles what there is. A poll that was interrupted is no
    /// turn: it tells nothing of what there is. `Ok(false)`: it was told to stop and has done so.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>, service: &mut impl Service) -> io::Result<bool> {
        let mut events = self.events.take().unwrap_or_else(|| Y::events(EVENTS));
        // Who stands in the queue has no timer, but may be due all the same.
        let is_watched =
            self.schedule.next().is_some() || self.schedule.has_queued() || self.stopping.is_some();
        self.judged = is_watched.then(|| self.system.now());
        let patience = self.patience(timeout);
        match self.poll(&mut events, patience) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
            Ok(()) => {
                self.handle(Y::told(&events), service);
                self.events = Some(events);
                Ok(self.goes_on(service))
            }
        }
    }

    /// Handles what there is besides what a poll would tell: mail above all. For whoever knows that this is nothing, and that
    /// nothing is due: only behind a poll can that be judged.
    #[cfg(feature = "tokio")]
    pub(crate) fn turn_without_poll(&mut self, service: &mut impl Service) -> bool {
        self.handle(std::iter::empty(), service);
        self.goes_on(service)
    }

    /// Whether the last poll may have left something: it told of as much as there is room for, or was interrupted.
    #[cfg(feature = "tokio")]
    pub(crate) fn may_have_left_something(&self) -> bool {
        self.events.as_ref().is_none_or(|events| Y::told(events).count() >= EVENTS)
    }

    /// `false`: it was told to stop and has done so.
    fn goes_on(&mut self, service: &mut impl Service) -> bool {
        let has_stopped = self.has_stopped(service);
        if has_stopped {
            self.let_go();
        }
        !has_stopped
    }

    /// Looks for what there is, for as long as that pays, and then sleeps until something is.
    fn poll(&mut self, events: &mut Y::Events, patience: Option<Duration>) -> io::Result<()> {
        if patience == Some(Duration::ZERO) {
            return self.system.poll(events, patience);
        }
        let mut left = patience;
        if let Some(look) = Look::begin(self.limits.spin, patience, || self.system.now()) {
            loop {
                self.system.poll(events, Some(Duration::ZERO))?;
                if Y::told(events).next().is_some() || self.mailbox.has_mail() {
                    return Ok(());
                }
                let now = self.system.now();
                if !look.goes_on(now) {
                    left = look.left(patience, now);
                    break;
                }
                std::hint::spin_loop();
            }
        }
        if !self.mailbox.falls_asleep() {
            left = Some(Duration::ZERO);
        }
        let polled = self.system.poll(events, left);
        self.mailbox.wakes_up();
        polled
    }

    /// How long to poll: not at all while somebody waits for the next turn.
    fn patience(&self, timeout: Option<Duration>) -> Option<Duration> {
        if self.has_more_to_do() {
            return Some(Duration::ZERO);
        }
        let until = self.deadline().zip(self.judged).map(|(at, now)| at.saturating_duration_since(now));
        until.into_iter().chain(timeout).min()
    }

    /// After how long the next turn is due, should the system tell of nothing before. `None`: then none is.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        if self.has_more_to_do() {
            return Some(Duration::ZERO);
        }
        Some(self.deadline()?.saturating_duration_since(self.system.now()))
    }

    /// Whether somebody waits for the next turn, of whom the system does not tell.
    pub(crate) fn has_more_to_do(&self) -> bool {
        self.schedule.has_queued() || self.mailbox.has_mail() || self.topics.is_fanning_out()
    }

    /// When the next turn is due, should the system tell of nothing before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.schedule.next().into_iter().chain(self.stopping).min()
    }

    fn handle(&mut self, told: impl Iterator<Item = Told>, service: &mut impl Service) {
        // In what order a poll tells is the system's business; behind the word to stop nothing new is begun.
        if self.topics.is_fanning_out() {
            self.fan_out(service);
        }
        self.read_mail(service);
        let queued = self.schedule.queued();
        for told in told {
            match reserved_number(told.token) {
                Some(WAKER) => {}
                Some(number) => {
                    if let Ok(number) = u16::try_from(number) {
                        self.serve(number, service);
                    }
                }
                None => {
                    if let Some(key) = self.links.find(told.token) {
                        self.work(key, told.is_end, service);
                    }
                }
            }
            self.read_mail(service);
        }
        for _ in 0..queued {
            match self.schedule.pop_queued() {
                Some(target) => self.call(target, service),
                None => break,
            }
            self.read_mail(service);
        }
        if let Some(judged) = self.judged {
            while let Some(target) = self.schedule.pop_due(judged) {
                self.wake(target, judged, service);
                self.read_mail(service);
            }
        }
        self.watch_large_buffers();
    }

    fn work(&mut self, key: Key, to_the_end: bool, service: &mut impl Service) {
        self.work_link(key, to_the_end, service);
        if self.memory.is_short() {
            self.shed_memory(service);
        }
    }

    /// Sends what is in a link's outbox, and does no more.
    fn send(&mut self, key: Key, service: &mut impl Service) {
        self.with_link(key, Task::Send, service);
        if self.memory.is_short() {
            self.shed_memory(service);
        }
    }

    fn work_link(&mut self, key: Key, to_the_end: bool, service: &mut impl Service) {
        self.with_link(key, Task::Work { to_the_end }, service);
    }

    /// Lets a link do something, and sees to what comes of it.
    fn with_link(&mut self, key: Key, task: Task<'_>, service: &mut impl Service) {
        let Some((link, visit)) = self.links.visit_mut(key) else { return };
        let Some(source) = self.sources.get(usize::from(link.source())) else { return };
        let (site, mailbox) = (&source.site, &self.mailbox);
        let scope = Scope { key, site, mailbox, begun: self.system.now(), judged: self.judged };
        let mut context = Context {
            system: &self.system,
            at: source,
            memory: &mut self.memory,
            limits: &self.limits,
            refusals: &mut self.refusals,
            deferred: &mut self.deferred,
            topics: &mut self.topics,
            counters: &self.counters,
            watch: &self.watch,
            traffic: Traffic::default(),
            scope,
        };
        let next = link.carry_out(task, &mut context, service);
        let Traffic { read, written } = context.traffic;
        self.counters.bytes(read, written);
        visit.add(read, written);
        if next == Next::Rest {
            return link.account(0, &mut self.memory);
        }
        // It may still linger, but answers no more.
        if link.protocol().is_finishing() {
            service.call_news(ConnectionId(key), Some(&source.site.endpoint), CallNews::Gone);
        }
        link.account(link.protocol().buffered(), &mut self.memory);
        match next {
            Next::Reap => return self.reap(key, service),
            // Without memory for its place in the queue it would never be looked at again.
            Next::Again if self.schedule.queue(Target::Link(key), &mut link.wakeup).is_err() => {
                return self.reap(key, service);
            }
            Next::Again | Next::Wait | Next::Rest => {}
        }
        link.arm(key, &mut self.schedule);
    }

    /// Lets one go on that stood in the queue.
    fn call(&mut self, target: Target, service: &mut impl Service) {
        match target {
            Target::Link(key) => match self.links.get_mut(key).and_then(|link| link.wakeup.called()) {
                Some(Does::All) => self.work(key, true, service),
                Some(Does::Sends) => self.send(key, service),
                None => {}
            },
            Target::Source(number) => {
                let source = self.sources.get_mut(usize::from(number));
                if source.and_then(|source| source.wakeup.called()).is_some() {
                    self.serve(number, service);
                }
            }
            Target::Outgoing(number) => self.send_waiting(number),
            // They only ever have timers.
            Target::Owed(_) | Target::Idle | Target::Memory => {}
            Target::Files => self.look(service),
        }
    }

    /// Lets one go on whose timer has gone off.
    fn wake(&mut self, target: Target, judged: Instant, service: &mut impl Service) {
        match target {
            Target::Files => self.look(service),
            Target::Idle => self.leave_if_idle(judged, service),
            Target::Memory => self.memory.trim(),
            Target::Source(number) => {
                let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
                source.wakeup.rang();
                self.serve(number, service);
            }
            Target::Outgoing(number) => self.send_waiting(number),
            Target::Owed(number) => self.expire_datagrams(number, judged),
            Target::Link(key) => {
                let Some(link) = self.links.get_mut(key) else { return };
                link.wakeup.rang();
                if link.is_due(judged) {
                    self.work(key, true, service);
                } else {
                    link.arm(key, &mut self.schedule);
                }
            }
        }
    }

    /// The one place where links are dropped.
    fn reap(&mut self, key: Key, service: &mut impl Service) {
        let Some(mut link) = self.links.remove(key) else { return };
        self.schedule.disarm(Target::Link(key), &mut link.wakeup);
        link.account(0, &mut self.memory);
        link.forget_attachments(&mut self.memory.parties);
        self.deferred.forget(key);
        if link.quota().is_refused() {
            self.refusals.leave();
        }
        self.leave_topics(key, link.protocol());
        self.counters.connection_closed();
        if let Some(source) = self.sources.get_mut(usize::from(link.source())) {
            source.connections -= usize::from(link.quota().takes_a_place());
            if link.quota() == Quota::CountedForPeer {
                self.memory.parties.leave(link.party, link.source());
            }
            report_end(key, &link, &mut source.site);
            service.call_news(ConnectionId(key), Some(&source.site.endpoint), CallNews::Gone);
            let begun = self.system.now();
            if link.was_opened() {
                let record = self.watch.begin_alone(RecordKind::Disconnect, key.number(), begun);
                link.report_end(key, &source.site.endpoint, service);
                record.end();
                let time = self.system.now().saturating_duration_since(begun);
                self.watch.took_alone(time, &source.site.endpoint);
            }
            self.watch.recorder.note(RecordKind::Closed, key.number(), begun, 0);
        }
        let (number, linger) = (link.source(), self.linger(link.source()));
        let was_here = !link.quota().is_refused() && (link.was_opened() || !self.asks_for_token(number));
        link.close(&self.system, linger);
        self.note_gone(number);
        if was_here {
            self.note_departure();
        }
    }

    /// Does what letters say. Handlers write some, so that this is asked behind each.
    #[inline]
    fn read_mail(&mut self, service: &mut impl Service) {
        if self.mailbox.has_mail() && !self.fans_out_first() {
            self.read_letters(service);
        }
    }

    /// Whether all are to be told of what was published before any mail is read. Not while the mailbox is full:
    /// handlers would go on publishing.
    fn fans_out_first(&self) -> bool {
        self.topics.is_fanning_out() && !self.mailbox.is_full()
    }

    #[cold]
    fn read_letters(&mut self, service: &mut impl Service) {
        let (stop, count) = self.mailbox.open();
        let mut publications = Vec::new();
        for _ in 0..count {
            if stop.is_none() && publications.is_empty() && self.fans_out_first() {
                return; // The rest is for later turns.
            }
            let letter = self.mailbox.take();
            if let Some(Letter::Publish(publication)) = letter {
                publications.push(publication);
                if publications.len() == topics::TOGETHER {
                    self.publish(&mut publications, service);
                }
                continue;
            }
            // What one thread says comes in the order in which it says it.
            self.publish(&mut publications, service);
            if stop.is_none() && self.fans_out_first() {
                if let Some(letter) = letter {
                    self.mailbox.put_back(letter);
                }
                return;
            }
            self.publish_all(service);
            match letter {
                Some(Letter::Ready(_)) if stop.is_some() => {}
                Some(Letter::Ready(number)) => self.serve(number, service),
                Some(Letter::Run) => {
                    let begun = self.system.now();
                    let record = self.watch.begin_alone(RecordKind::Errand, NOBODY, begun);
                    service.run();
                    record.end();
                    self.took(begun, &"the server");
                }
                Some(Letter::Order) => self.carry_out(service),
                Some(Letter::GiveWay(heir)) if self.stopping.is_none() => self.give_way(heir, service),
                // The goodbye that it gets says so.
                Some(Letter::GiveWay(_)) => {}
                Some(Letter::Census(to)) => self.tell_peers(&to),
                Some(Letter::Answer(call, answer)) => self.end_stream(&call, answer, service),
                Some(Letter::Parts(call)) => self.send_parts(&call, service),
                Some(Letter::Publish(_)) | None => {}
            }
        }
        self.publish(&mut publications, service);
        // Behind what was said before: events that were published are told before the goodbye.
        if let Some(grace) = stop {
            self.publish_all(service);
            self.stop(grace, service);
        }
    }
}

/// Says how a connection ended.
fn report_end<Y: System>(key: Key, link: &Link<Y>, site: &mut Site) {
    let (endpoint, peer) = (&site.endpoint, PeerName(link.peer()));
    match (link.protocol().flow().failure(), link.broken()) {
        (Some(failure), _) => {
            site.counters.faulty();
            let level = if failure.is_noteworthy() { log::Level::Warn } else { log::Level::Info };
            let limit = Limit::of(failure);
            limit.into_iter().for_each(|limit| site.counters.limit(limit));
            let limit = limit.map(|limit| format!(" ({limit})")).unwrap_or_default();
            match site.tallies.failure(failure).next_worth_telling() {
                Some(count) => {
                    log::log!(level, "{endpoint}: closed {peer}: {failure}{limit}; {count} so far")
                }
                None => log::debug!("{endpoint}: #{key} closed {peer}: {failure}{limit}"),
            }
        }
        (None, Some(error)) => log::debug!("{endpoint}: #{key} closed: {peer} has gone: {error}"),
        (None, None) => log::debug!("{endpoint}: #{key} closed in order"),
    }
}
