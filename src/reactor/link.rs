//! One accepted stream: the platform's stream joined to what is spoken on it.

mod about;
mod attached;
mod handing;
mod handover;
mod identity;
mod publishing;
mod reading;
mod tasks;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Interest;
use sidewire_platform::{Endpoint, Peer};

use super::asking::Asker;
use super::budget::Budget;
use super::deferred::Deferred;
use super::mailbox::Mailbox;
use super::memory::Memory;
use super::parties::PartyId;
use super::schedule::{Schedule, Target, Wakeup};
use super::session::{Closed, ConnectionId, Session};
use super::site::{Refusals, Site};
use super::slots::Key;
use super::source::Source;
use super::system::{StreamIo, System};
use super::topics::{Publication, Topics};
use super::watch::Watch;
use super::{CallNews, Incoming, Origin, Service};
use crate::counters::Counters;
use crate::error::Error;
use crate::limits::Limits;
use crate::recorder::RecordKind;
use sidewire_wire::{Close, Ending, Fact, Input, Layout, Plain, Protocol, Reading, Said, Step};

pub(crate) use about::About;

/// One stream of the loop with what is spoken on it. Kept small: a server may have ten thousand that do nothing.
#[derive(Debug)]
pub(crate) struct Link<Y: System> {
    stream: Y::Stream,
    protocol: Protocol,
    /// `None` until the system tells (Windows pipes: after the first read).
    peer: Option<Peer>,
    pub(crate) wakeup: Wakeup,
    about: Option<Box<About>>,
    /// Bytes of memory that the reactor has on its account for this link.
    pub(crate) accounted: usize,
    /// The source that it came in at.
    source: u16,
    /// On whose account that is.
    pub(crate) party: PartyId,
    ending: Ending,
    quota: Quota,
    /// Whether a handler was told of it, and is to be told of its end.
    opened: bool,
}

/// How a link counts against its listener's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quota {
    /// None: it is one of the few that wait to be told "no".
    Refused,
    /// One, although it is told "no": that it may not be here turned out only when it had spoken.
    RefusedLate,
    Counted,
    /// One that also counts for its peer.
    CountedForPeer,
}

impl Quota {
    pub(crate) fn is_refused(self) -> bool {
        matches!(self, Quota::Refused | Quota::RefusedLate)
    }

    pub(crate) fn takes_a_place(self) -> bool {
        self != Quota::Refused
    }
}

/// What a link is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task<'t> {
    /// To read, handle, write, and judge whose time is up; see [`work`](Link::work).
    Work { to_the_end: bool },
    /// To tell the peer of this.
    Publish(&'t [Publication]),
    /// To write what is there.
    Send,
}

/// What is left to do for a link behind its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing, and nothing is under way: see [`is_at_rest`](Link::is_at_rest).
    Peace,
    /// Nothing now.
    Nothing,
    /// Something, for which no event will come.
    Something,
}

impl Rest {
    fn of(has_more: bool) -> Rest {
        if has_more { Rest::Something } else { Rest::Nothing }
    }
}

/// What the loop does with a link next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Waits for an event, and has no deadline and holds nothing, as most do.
    Rest,
    /// Waits for an event or its deadline.
    Wait,
    /// Goes on in the next turn, without an event.
    Again,
    /// Is dropped.
    Reap,
}

/// What a link needs from its loop while it works.
pub(crate) struct Context<'a, Y: System> {
    pub(crate) system: &'a Y,
    /// Where the link has come in.
    pub(crate) at: &'a Source<Y>,
    pub(crate) memory: &'a mut Memory,
    pub(crate) limits: &'a Limits,
    pub(crate) refusals: &'a mut Refusals,
    pub(crate) deferred: &'a mut Deferred,
    pub(crate) topics: &'a mut Topics,
    pub(crate) counters: &'a Counters,
    pub(crate) watch: &'a Watch,
    pub(crate) traffic: Traffic,
    pub(crate) scope: Scope<'a>,
}

impl<'a, Y: System> Context<'a, Y> {
    /// What the link may do in this turn.
    #[inline]
    fn budget(&self) -> Budget<'a, Y> {
        let Scope { site, begun, key, .. } = self.scope;
        let Limits { turn_bytes, turn_frames, .. } = *self.limits;
        let (endpoint, most) = (&site.endpoint, (turn_bytes, turn_frames));
        Budget::begin(self.system, self.watch, endpoint, most, key.number(), begun)
    }
}

/// Bytes that came and left.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) read: usize,
    pub(crate) written: usize,
}

/// Which link works, where it came in, when it began to, and whose time is judged as of when.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) key: Key,
    pub(crate) site: &'a Site,
    /// Where answers that come later are sent.
    pub(crate) mailbox: &'a Arc<Mailbox>,
    pub(crate) begun: Instant,
    pub(crate) judged: Option<Instant>,
}

impl<'a> Scope<'a> {
    fn session(self, peer: &'a Peer, stream: &'a impl StreamIo, plain: &'a mut Plain) -> Session<'a> {
        Session { id: ConnectionId(self.key), peer, stream, endpoint: &self.site.endpoint, plain }
    }
}

/// So many pieces are offered to a stream at once.
const PIECES: usize = 8;

/// A peer of whom nothing is known yet.
static NOBODY: Peer = Peer::unknown();

impl<Y: System> Link<Y> {
    pub(crate) fn new(stream: Y::Stream, protocol: Protocol, source: u16, quota: Quota) -> Link<Y> {
        Link {
            stream,
            protocol,
            peer: None,
            wakeup: Wakeup::default(),
            about: None,
            accounted: 0,
            source,
            party: PartyId::UNKNOWN,
            ending: Ending::Open,
            quota,
            opened: false,
        }
    }

    /// It holds so many bytes now.
    #[inline]
    pub(crate) fn account(&mut self, held: usize, memory: &mut Memory) {
        memory.account(self.party, &mut self.accounted, held);
    }

    /// Whether there is nothing to do any more but to drop it.
    pub(crate) fn is_over(&self) -> bool {
        self.ending.is_over()
    }

    pub(crate) fn quota(&self) -> Quota {
        self.quota
    }

    pub(crate) fn source(&self) -> u16 {
        self.source
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

    /// Who is there, and what is spoken with him.
    pub(crate) fn speaking(&mut self) -> (PeerName<'_>, &mut Protocol) {
        (PeerName(self.peer.as_ref()), &mut self.protocol)
    }

    pub(crate) fn register(&mut self, system: &Y, key: Key) -> io::Result<()> {
        system.register(&mut self.stream, key.token(), Interest::READABLE)
    }

    /// Does that, gives back what is not needed any more, and says how it goes on.
    #[inline]
    pub(crate) fn carry_out(
        &mut self,
        task: Task<'_>,
        context: &mut Context<'_, Y>,
        service: &mut impl Service,
    ) -> Next {
        let (was_writing, is_work) = (self.wants_to_write(), matches!(task, Task::Work { .. }));
        if self.protocol.attaches() {
            self.account_attachments(context.scope.site, &mut context.memory.parties);
        }
        let rest = match task {
            Task::Work { to_the_end } => self.work(context, service, to_the_end),
            Task::Publish(publications) => Rest::of(self.publish(publications, context)),
            // Of what is due, all of the work judges.
            Task::Send => Rest::of(self.send(context) | self.is_due(context.scope.begun)),
        };
        if self.protocol.attaches() {
            self.account_attachments(context.scope.site, &mut context.memory.parties);
        }
        if rest == Rest::Peace && !was_writing {
            self.give_back(context);
            return Next::Rest;
        }
        let next = self.end_work(was_writing, rest == Rest::Something, context);
        // Behind what was written it was told which calls have ended, and so were their callers.
        let is_left = !is_work && self.protocol.has_unsent() && !self.wants_to_write();
        if next == Next::Wait && is_left { Next::Again } else { next }
    }

    /// Whether nothing is under way: no end, nothing that came or is to leave, no time limit, no call. With that
    /// begins and ends the work for most requests, and whoever finds it so need not ask for each of these.
    #[inline]
    fn is_at_rest(&self) -> bool {
        self.ending == Ending::Open
            && matches!(&self.protocol, Protocol::Framed(connection) if connection.is_at_rest())
    }

    /// Whether its reading never waits for what is sent to it: from one of the classic layout no more is taken before it has
    /// its answer. Parts that wait for room go on with all else that it does.
    pub(crate) fn reads_whatever_is_answered(&self) -> bool {
        self.ending == Ending::Open
            && matches!(&self.protocol, Protocol::Framed(connection)
                if connection.layout() == Some(Layout::V1) && !connection.is_finishing() && !connection.attaches()
                    && !connection.has_waiting_parts())
    }

    /// Reads, handles, and writes as far as the system and the budget allow; and only then judges
    /// whose time was up when the system was last polled. `to_the_end`: not to take a short read for the
    /// end of what there is, since the peer's end may stand behind it. Says what is left to do.
    #[inline]
    fn work(&mut self, context: &mut Context<'_, Y>, service: &mut impl Service, to_the_end: bool) -> Rest {
        let begun = context.scope.begun;
        let mut budget = context.budget();
        let was_at_rest = self.is_at_rest();
        let is_overdue = !was_at_rest && self.is_due(begun);
        self.protocol.flow_mut().lend(&mut context.memory.spare);
        if !was_at_rest {
            self.begin_work(context, &budget, service);
        }
        let unread = budget.bytes;
        let more_to_read = self.fill(context, &mut budget, service, to_the_end || is_overdue, was_at_rest);
        if self.protocol.attaches() {
            self.judge_attachments(context);
        }
        if !was_at_rest {
            self.look_for_proof(context.at, context.memory);
        }
        // Also by what was just read: no event tells of what is left unread behind a pause.
        let was_paused = self.protocol.is_paused();
        self.tell_ended(context);
        let mut more_to_write = self.flush(context, &budget);
        if !(more_to_read | was_paused | is_overdue) && self.is_at_rest() {
            return Rest::Peace;
        }
        let resumed = was_paused && !self.protocol.is_paused();
        let may_go_on = self.protocol.has_room_for_parts();
        let more_to_handle = more_to_read || resumed || self.protocol.has_backlog() || may_go_on;
        if is_overdue {
            let has_read = budget.bytes < unread;
            let input = match has_read {
                _ if more_to_handle => Input::Waiting,
                true => Input::Fresh,
                false => Input::Quiet,
            };
            // What was just read may be all of it until the next poll, by which others are judged; also
            // where the turn was over before it was known whether there is more.
            if has_read {
                self.protocol.renew_partial(begun);
            }
            if context.scope.judged.is_some_and(|judged| {
                self.give_up_calls(judged, input, context.scope, service) | self.expire(judged, input)
            }) {
                more_to_write = self.flush(context, &budget);
            }
        }
        Rest::of(more_to_handle || more_to_write)
    }

    /// What is to be done before anything is read.
    fn begin_work(
        &mut self,
        context: &mut Context<'_, Y>,
        budget: &Budget<'_, Y>,
        service: &mut impl Service,
    ) {
        self.open(context.scope, budget, service);
        // What others have put into its outbox does not wait for handlers of what comes now. If nobody is there
        // any more, what he said before he left comes first.
        if self.protocol.has_unsent() && !self.wants_to_write() {
            let _ = self.write(context, budget);
        }
    }

    /// Gives back the outbox's memory, if nothing is in it.
    #[inline]
    fn give_back(&mut self, context: &mut Context<'_, Y>) {
        if let Some(buffer) = self.protocol.flow_mut().reclaim() {
            context.memory.take_back(buffer);
        }
    }

    /// Gives back what is not needed any more, and says how it goes on.
    #[inline]
    fn end_work(&mut self, was_writing: bool, has_more: bool, context: &mut Context<'_, Y>) -> Next {
        self.give_back(context);
        let was_discarding = self.ending.input() == Reading::Discards;
        self.settle();
        if self.is_over() {
            return Next::Reap;
        }
        self.tell_ended(context);
        // No event tells of what was left unread when the last word was said.
        let begins_to_discard = !was_discarding && self.ending.input() == Reading::Discards;
        if was_writing != self.wants_to_write()
            && self.update_interest(context.scope.key, context.system).is_err()
        {
            return Next::Reap;
        }
        if has_more || begins_to_discard { Next::Again } else { Next::Wait }
    }

    /// Tells those who work on deferred calls which have ended without them.
    #[inline]
    fn tell_ended(&mut self, context: &mut Context<'_, Y>) {
        if let Protocol::Framed(connection) = &mut self.protocol
            && connection.has_deferred()
        {
            let Scope { key, site, begun, judged, .. } = context.scope;
            let asker = Asker { site, peer: PeerName(self.peer.as_ref()) };
            context.deferred.tell_ended(key, connection, judged.unwrap_or(begun), asker);
        }
    }

    /// Tells the handler of a new stream without frames.
    fn open(&mut self, scope: Scope<'_>, budget: &Budget<'_, Y>, service: &mut impl Service) {
        let Protocol::Plain(plain) = &mut self.protocol else { return };
        if !self.opened && !self.quota.is_refused() {
            self.opened = true;
            let peer = self.peer.as_ref().unwrap_or(&NOBODY);
            let record = budget.recorder().begin(RecordKind::Bytes, 0, 0, 0);
            service.opened(self.source, &mut scope.session(peer, &self.stream, plain));
            record.end();
            budget.handled();
        }
    }

    /// Writes what is ready. Says whether more would go than the budget allowed.
    #[inline]
    fn flush(&mut self, context: &mut Context<'_, Y>, budget: &Budget<'_, Y>) -> bool {
        match self.write(context, budget) {
            Ok(is_more) => return is_more,
            Err(_) if self.protocol.has_only_a_goodbye_left() => self.tell(Fact::Broken),
            Err(error) => self.broke(error),
        }
        false
    }

    /// The same; that it fails means nothing yet.
    #[inline]
    fn write(&mut self, context: &mut Context<'_, Y>, budget: &Budget<'_, Y>) -> io::Result<bool> {
        let mut bytes = context.limits.turn_bytes.max(1);
        let now = budget.now();
        while !self.ending.is_over() && self.protocol.has_unsent() {
            if bytes == 0 {
                return Ok(true);
            }
            let written = match self.protocol.flow().is_in_pieces() || self.protocol.is_accompanied() {
                false => self.stream.write(self.protocol.unsent()),
                true => self.write_unusual(),
            };
            match written {
                Ok(count) => {
                    self.protocol.mark_sent(count, now);
                    bytes = bytes.saturating_sub(count.max(1));
                    context.traffic.written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.protocol.mark_sent(0, now);
                    context.counters.stall();
                    if self.protocol.flow().is_backed_up() {
                        let (peer, waiting) = (PeerName(self.peer.as_ref()), self.protocol.flow().waiting());
                        context.scope.site.report_stalled(peer, waiting);
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether WRITABLE is to be asked for. While this is false nobody wakes us for it.
    fn wants_to_write(&self) -> bool {
        self.protocol.flow().is_stalled()
    }

    fn update_interest(&mut self, key: Key, system: &Y) -> io::Result<()> {
        let interest = match self.wants_to_write() {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        system.reregister(&mut self.stream, key.token(), interest)
    }

    /// Moves on when everything is said.
    fn settle(&mut self) {
        match self.protocol.said() {
            Said::NotAll => {}
            said => self.conclude(Fact::Said(said)),
        }
    }

    fn conclude(&mut self, said: Fact) {
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
        self.about.get_or_insert_default().broken = Some(error);
        self.tell(Fact::Broken);
    }

    /// Why it is over.
    fn closed(&mut self, endpoint: &Endpoint) -> Closed {
        let broken = self.about.as_mut().and_then(|about| about.broken.take());
        match (broken, self.protocol.flow().failure()) {
            (_, Some(failure)) => Closed::Ended(failure.to_string()),
            (Some(error), None) => Closed::Broken(Error::os("serve a client on", endpoint, error)),
            (None, None) => Closed::InOrder,
        }
    }

    /// The connection's deadline or the linger's.
    #[inline]
    fn deadline(&self) -> Option<Instant> {
        match self.ending {
            Ending::Open | Ending::InputEnded | Ending::OutputEnded => self.protocol.next_deadline(),
            Ending::Lingering | Ending::Over(_) => self.last_deadline(),
        }
    }

    #[cold]
    fn last_deadline(&self) -> Option<Instant> {
        match self.ending {
            Ending::Lingering => self.protocol.flow().linger_deadline(),
            _ => None,
        }
    }

    /// Whether its time may be up: [`work`](Link::work) tells.
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// Sees to it that the link is woken at its deadline. One that goes on anyway need not be.
    #[inline]
    pub(crate) fn arm(&mut self, key: Key, schedule: &mut Schedule) {
        if let Some(at) = self.deadline() {
            schedule.arm(Target::Link(key), at, &mut self.wakeup);
        }
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

    /// Gives up calls and pings of ours that the peer has not answered in time. Says whether there were any calls, of
    /// which it is told.
    fn give_up_calls(
        &mut self,
        now: Instant,
        input: Input,
        scope: Scope<'_>,
        service: &mut impl Service,
    ) -> bool {
        let Protocol::Framed(connection) = &mut self.protocol else { return false };
        let mut has_late = false;
        // The answer may be in what waits.
        while input != Input::Waiting
            && let Some(id) = connection.poll_asked(now)
        {
            has_late = true;
            let (connection, endpoint) = (ConnectionId(scope.key), &scope.site.endpoint);
            service.call_news(connection, Some(endpoint), CallNews::TimedOut { id });
        }
        while input != Input::Waiting
            && let Some(id) = connection.poll_pinged(now)
        {
            let (connection, endpoint) = (ConnectionId(scope.key), &scope.site.endpoint);
            service.call_news(connection, Some(endpoint), CallNews::NoPong { id });
        }
        has_late
    }

    /// Ends the stream and gives back what it held. `linger` bounds what a classic peer on a pipe
    /// may take to read its last reply; there, nobody else is left with anything to read.
    pub(crate) fn close(mut self, system: &Y, linger: Duration) {
        if let Err(error) = system.deregister(&mut self.stream) {
            log::debug!("deregistering {}: {error}", PeerName(self.peer.as_ref()));
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerName<'a>(pub(crate) Option<&'a Peer>);

impl std::fmt::Display for PeerName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(peer) => peer.fmt(f),
            None => f.write_str("a peer that is not known yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sidewire_platform::Stream;

    use super::*;
    use crate::reactor::system::Os;

    /// Ten thousand idle connections cost what their slots cost.
    #[test]
    fn an_idle_link_is_small() {
        let ours = size_of::<Link<Os>>() - size_of::<Stream>();
        assert!(ours <= 224, "{ours} bytes");
    }
}
