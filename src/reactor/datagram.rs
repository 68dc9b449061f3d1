//! One bound datagram socket of the loop: frames, or messages without frames.

use std::fmt;
use std::io;
use std::sync::Arc;

use sidewire_platform::{Address, Endpoint, Peer, Received};

use super::aside::Aside;
use super::asking::{Asker, ReturnAddress};
use super::budget::Budget;
use super::deferred::Caller;
use super::journal::Handled;
use super::link::PeerName;
use super::mailbox::Mailbox;
use super::outgoing::{Outgoing, To};
use super::owed_datagrams::OwedDatagrams;
use super::schedule::Wakeup;
use super::site::{Carries, Site};
use super::system::{DatagramIo, System};
use super::watch::Watch;
use super::{Incoming, Origin, Service};
use crate::access::NotAsked;
use crate::counters::Limit;
use crate::recorder::{NOBODY, RecordKind, Recorder};
use sidewire_wire::datagram::{self, Parsed};
use sidewire_wire::frame::Kind;
use sidewire_wire::{Classic, Layout, Outbox, ReplyWriter, ResultCode, Ticket, classic};

/// A bound datagram socket of the loop: what comes in on it, and what waits to leave.
#[derive(Debug)]
pub(crate) struct DatagramSocket<D> {
    pub(super) out: Outgoing<D>,
    /// When what waits in it is tried again.
    pub(super) retry: Wakeup,
    /// What is to be answered later.
    pub(super) owed: OwedDatagrams,
    /// Where replies are written before they are sent.
    scratch: Outbox,
    input: Input,
}

/// What becomes of what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// The system could not give us the last datagram.
    Failed,
    /// Nothing is read any more. What waits to be sent still goes out.
    Closed,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is left.
    Drained,
    /// More may be there than the budget allowed.
    More,
    /// The system could not give us the next one: to be tried again soon.
    Failed,
}

/// One such socket while it works.
pub(super) struct Receiving<'a, Y: System> {
    pub(super) number: u16,
    pub(super) site: &'a Site,
    pub(super) socket: &'a mut DatagramSocket<Y::Datagrams>,
    pub(super) system: &'a Y,
    /// Where answers that come later are sent.
    pub(super) mailbox: &'a Arc<Mailbox>,
}

/// Datagrams handled on one socket before others get their turn.
const PER_TURN: usize = 256;
/// Payload of the largest UDP datagram over IPv4.
const UDP_MAX: usize = 65_507;
/// Payload bytes that a Unix datagram with frames may carry.
const UNIX_MAX: usize = 100_000;

impl<D: DatagramIo> DatagramSocket<D> {
    /// # Errors
    /// If replies could not be sent at all: they are padded to more than a datagram holds.
    pub(super) fn new(socket: D, site: &Site) -> io::Result<DatagramSocket<D>> {
        let largest = largest(&site.endpoint);
        if let (Classic::Fixed(size), Carries::Frames) = (site.settings.classic, site.carries)
            && classic::HEADER_LEN + size as usize > largest
        {
            let text = format!("frames of 12 + {size} bytes do not fit into datagrams of {largest}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let patience = site.settings.limits.write_stall_timeout;
        Ok(DatagramSocket {
            out: Outgoing::new(socket, site.us().clone(), patience),
            retry: Wakeup::default(),
            owed: OwedDatagrams::default(),
            scratch: Outbox::default(),
            input: Input::Open,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.input != Input::Closed
    }

    /// Whether something waits to be sent, or is owed.
    pub(super) fn has_waiting(&self) -> bool {
        !self.out.is_empty() || !self.owed.is_empty()
    }

    /// Takes no more datagrams.
    pub(super) fn close<Y: System<Datagrams = D>>(&mut self, system: &Y) -> io::Result<()> {
        match std::mem::replace(&mut self.input, Input::Closed) {
            Input::Closed => Ok(()),
            Input::Open | Input::Failed => system.unwatch(&mut self.out.socket),
        }
    }
}

impl<Y: System> Receiving<'_, Y> {
    /// Handles what has come, within a turn's budget.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        turn_bytes: usize,
        watch: &Watch,
        service: &mut impl Service,
    ) -> Outcome {
        let had_failed = match self.socket.input {
            Input::Closed => return Outcome::Drained,
            input => input == Input::Failed,
        };
        self.socket.input = Input::Open;
        let system = self.system;
        let endpoint = &self.site.endpoint;
        let most = (turn_bytes, PER_TURN);
        let mut budget = Budget::begin(system, watch, endpoint, most, NOBODY, system.now());
        let outcome = self.read_within(&mut budget, buffer, had_failed, service);
        // That of the last handlers.
        budget.now();
        outcome
    }

    fn read_within(
        &mut self,
        budget: &mut Budget<'_, Y>,
        buffer: &mut [u8],
        had_failed: bool,
        service: &mut impl Service,
    ) -> Outcome {
        while !budget.is_over() {
            match self.socket.out.socket.receive(buffer) {
                Ok(received) => {
                    budget.bytes = budget.bytes.saturating_sub(received.length);
                    budget.units.set(budget.units.get() - 1);
                    self.site.counters.bytes(received.length, 0);
                    let bytes = &buffer[..received.length];
                    if self.handle(bytes, &received, budget.recorder(), service) {
                        budget.handled();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Drained,
                Err(error) => {
                    match had_failed {
                        true => self.site.report_failing("receiving", &error),
                        false => {
                            self.site.counters.system_error();
                            log::debug!("{}: receiving: {error}", self.site.endpoint);
                        }
                    }
                    self.socket.input = Input::Failed;
                    return Outcome::Failed;
                }
            }
        }
        Outcome::More
    }

    /// Says whether it was for a handler.
    fn handle(
        &mut self,
        bytes: &[u8],
        received: &Received,
        recorder: &Recorder,
        service: &mut impl Service,
    ) -> bool {
        let address = match received.from {
            Some(Address::Inet(address)) => Some(address),
            _ => None,
        };
        let peer = Peer::new(received.credentials.clone(), address);
        let admitted = self.admits(&peer, received.from.as_ref());
        match self.site.carries {
            Carries::Frames | Carries::Plain(_) => {
                self.handle_frame(bytes, received, (&peer, admitted), recorder, service)
            }
            Carries::Messages if !admitted => false,
            Carries::Messages if received.truncated => {
                self.drop_truncated(bytes.len(), &peer, received.from.as_ref());
                false
            }
            Carries::Messages => {
                let (from, endpoint) = (received.from.as_ref(), &self.site.endpoint);
                let message = Message { bytes, from, peer: &peer, endpoint };
                let to = To::sender_of(received);
                let (out, site) = (&mut self.socket.out, self.site);
                let mut answers = Answering { out, system: self.system, to, site };
                let mut reply = MessageReply { answers: &mut answers };
                let record = recorder.begin(RecordKind::Message, 0, 0, bytes.len());
                service.message(self.number, &message, &mut reply);
                record.end();
                true
            }
        }
    }

    #[cold]
    fn drop_truncated(&self, have: usize, peer: &Peer, from: Option<&Address>) {
        self.site.counters.datagram_dropped(1);
        let from = Sender(from);
        let what = format_args!("dropped a datagram of {peer} ({from}) that has more than {have} bytes");
        self.site.at_limit(Limit::DatagramSize, what);
    }

    fn admits(&mut self, peer: &Peer, from: Option<&Address>) -> bool {
        // A mailslot tells nothing of its writers; its access rights keep strangers out.
        if matches!(self.site.endpoint, Endpoint::Mailslot(_)) {
            return true;
        }
        let Site { policy, endpoint, tallies, .. } = &self.site;
        let Err(denied) = policy.admits_client(peer, &NotAsked) else { return true };
        self.site.counters.refused();
        if let Some(count) = tallies.refused.next_worth_telling() {
            let from = Sender(from);
            let (access, remedy) = (policy.access(), denied.remedy());
            log::warn!(
                "{endpoint}: refused a datagram of {peer} ({from}) by {access}: {denied}; {remedy}; {count} so far"
            );
        }
        false
    }

    fn handle_frame(
        &mut self,
        bytes: &[u8],
        received: &Received,
        (peer, admitted): (&Peer, bool),
        recorder: &Recorder,
        service: &mut impl Service,
    ) -> bool {
        let (from, to) = (received.from.as_ref(), To::sender_of(received));
        let (endpoint, origin) = (&self.site.endpoint, Origin::Datagram(from));
        let asker = Asker { site: self.site, peer: PeerName(Some(peer)) };
        let nobody = ReturnAddress::nobody(self.mailbox, bytes).asked_by(asker);
        let parsed = datagram::parse(bytes, received.truncated, self.classic());
        if !admitted {
            if let Some(ticket) = parsed.into_ticket() {
                self.write_refusal(ticket, ResultCode::NOT_PERMITTED, "");
                let DatagramSocket { out, scratch, .. } = &mut *self.socket;
                out.refuse(scratch.unsent(), to, &self.site.endpoint);
                scratch.clear();
            }
            return false;
        }
        match parsed {
            Parsed::Request { ticket, payload } => {
                let (msg_type, layout, timeout_ms) = (ticket.msg_type, ticket.layout, ticket.timeout_ms);
                let number = self.socket.owed.next_number();
                let caller = to.map_or(nobody.caller, |_| Caller::Datagram(self.number, number));
                let back = ReturnAddress { caller, ..nobody };
                let incoming =
                    Incoming { msg_type, payload, peer, endpoint, layout, timeout_ms, origin, back };
                let kind = RecordKind::Request;
                let record = recorder.begin(kind, msg_type, ticket.id, payload.len());
                let handled = Handled::begin(ticket.id);
                match service.request(&incoming, self.begin_reply(ticket)) {
                    Ok(rc) => {
                        record.answered(rc);
                        handled.end(&incoming, rc, format_args!("{}", Sender(from)));
                        self.send_scratch(to);
                    }
                    Err(aside) => match *aside {
                        Aside::Deferred(deferral) => {
                            record.deferred();
                            handled.defer(&incoming, format_args!("{}", Sender(from)));
                            // The prefix of the reply that was begun.
                            self.socket.scratch.clear();
                            self.defer(number, to, deferral);
                        }
                        // Nothing is attached in datagrams.
                        Aside::Attached { rc, .. } => {
                            record.answered(rc);
                            handled.end(&incoming, rc, format_args!("{}", Sender(from)));
                        }
                    },
                }
                return true;
            }
            Parsed::Notify { msg_type, payload } => {
                let (msg_type, layout) = (i32::from(msg_type), Layout::V1);
                let (timeout_ms, back) = (0, nobody);
                let incoming =
                    Incoming { msg_type, payload, peer, endpoint, layout, timeout_ms, origin, back };
                let handled = Handled::begin(0);
                let record = recorder.begin(RecordKind::Notify, msg_type, 0, payload.len());
                service.notify(&incoming);
                record.end();
                handled.end_notify(&incoming, format_args!("{}", Sender(from)));
                return true;
            }
            Parsed::Cancel { id } => self.cancel(to, id),
            Parsed::Ping { id } => {
                let pong = datagram::encode_v1(Kind::Pong, 0, id, 0, &[]);
                self.socket.out.send(&pong, to, self.site, self.system.now());
            }
            Parsed::Bad { error, ticket } => {
                log::debug!("{endpoint}: a bad datagram of {peer} ({}): {error}", Sender(from));
                if let Some(ticket) = ticket {
                    self.write_refusal(ticket, error.result_code(), error.text());
                    self.send_scratch(to);
                }
            }
            // A server asks nothing, so it gets no replies.
            _ => {}
        }
        false
    }

    fn classic(&self) -> Classic {
        self.site.settings.classic
    }

    pub(super) fn begin_reply(&mut self, ticket: Ticket) -> ReplyWriter<'_> {
        let (largest, classic) = (largest(&self.site.endpoint), self.classic());
        datagram::begin_reply(&mut self.socket.scratch, ticket, largest, classic)
    }

    pub(super) fn write_refusal(&mut self, ticket: Ticket, rc: ResultCode, text: &str) {
        self.begin_reply(ticket).fail(rc, text);
    }

    pub(super) fn send_scratch(&mut self, to: Option<To<'_>>) {
        let DatagramSocket { out, scratch, .. } = &mut *self.socket;
        if scratch.is_starved() {
            let to = to.map(|to| format!(" for {to}")).unwrap_or_default();
            self.site
                .at_limit(Limit::Memory, format_args!("dropped an answer{to}: there is no memory for it"));
            self.site.counters.datagram_dropped(1);
            *scratch = Outbox::default();
            return;
        }
        out.send(scratch.unsent(), to, self.site, self.system.now());
        scratch.clear();
    }
}

/// Bytes of the largest datagram that is sent on an endpoint.
fn largest(endpoint: &Endpoint) -> usize {
    match endpoint {
        Endpoint::Udp { .. } => UDP_MAX,
        _ => UNIX_MAX + datagram::V1_OVERHEAD,
    }
}

/// The address of the socket that is bound to an endpoint, as the system writes it.
pub(crate) fn address_of(bound: &Endpoint) -> Option<Address> {
    match bound {
        Endpoint::Udp { .. } => bound.numeric_address().map(Address::Inet),
        Endpoint::UnixGram(path) => Some(Address::Path(path.clone())),
        Endpoint::AbstractGram(name) => Some(Address::Abstract(name.clone())),
        _ => None,
    }
}

/// A sender's address in a log line.
struct Sender<'a>(Option<&'a Address>);

impl fmt::Display for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // Whoever chose the path did not choose what our log looks like.
            Some(address) => address.to_string().escape_debug().fmt(f),
            None => f.write_str("unnamed"),
        }
    }
}

/// One datagram without frames, as its handler sees it.
#[derive(Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    from: Option<&'a Address>,
    peer: &'a Peer,
    endpoint: &'a Endpoint,
}

impl<'a> Message<'a> {
    /// What it holds; may be empty.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where it came from, and where an answer goes. `None` for a sender without an address: an
    /// unnamed Unix socket, a mailslot's writer.
    #[must_use]
    pub fn sender(&self) -> Option<&'a Address> {
        self.from
    }

    /// Whose process sent it, as far as the kernel tells (Unix datagrams).
    #[must_use]
    pub fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// The endpoint that it was sent to.
    #[must_use]
    pub fn endpoint(&self) -> &'a Endpoint {
        self.endpoint
    }

    /// Our own address, numerically (getsockname(2)). `None` for a mailslot, which has only a name.
    #[must_use]
    pub fn local_address(&self) -> Option<Address> {
        address_of(self.endpoint)
    }
}

/// Answers a datagram.
pub struct MessageReply<'a> {
    answers: &'a mut dyn Answers,
}

/// Whoever knows by what way an answer leaves.
trait Answers {
    fn send(&mut self, bytes: &[u8]);
}

struct Answering<'a, Y: System> {
    out: &'a mut Outgoing<Y::Datagrams>,
    system: &'a Y,
    to: Option<To<'a>>,
    site: &'a Site,
}

impl<Y: System> Answers for Answering<'_, Y> {
    fn send(&mut self, bytes: &[u8]) {
        self.out.send(bytes, self.to, self.site, self.system.now());
    }
}

impl MessageReply<'_> {
    /// Sends a datagram to the sender; any number of times, or never.
    ///
    /// Never waits. If the sender's queue is full the datagram waits for its turn, up to 1,024 of
    /// them for each sender and 256 MiB in all. What does not fit, what is too large for the
    /// transport, and what waits for a sender that has gone, or that has read nothing for
    /// [`ConnectionLimits::write_stall_timeout`](crate::ConnectionLimits::write_stall_timeout), is dropped and counted:
    /// [`Counters::datagrams_dropped`](crate::Counters::datagrams_dropped). A sender without an address gets nothing.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.answers.send(bytes.as_ref());
    }
}

impl fmt::Debug for MessageReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReply").finish_non_exhaustive()
    }
}
