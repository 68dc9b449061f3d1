//! One bound datagram socket of the loop: frames, or messages without frames.

use std::fmt;
use std::io;
use std::time::Instant;

use mio::{Registry, Token};
use sidewire_platform::{Address, Datagrams, Endpoint, Peer, Received};

use super::acceptor::Site;
use super::journal::Handled;
use super::outgoing::{Outgoing, To};
use super::presence::Presence;
use super::share::Share;
use super::{Incoming, Origin, Service};
use crate::counters::Counters;
use sidewire_wire::ResultCode;
use sidewire_wire::datagram::{self, Parsed};
use sidewire_wire::frame::Kind;
use sidewire_wire::{Classic, Layout, Outbox, Ticket, classic};

/// See the module's text.
pub(crate) struct Port {
    site: Site,
    framing: Framing,
    number: u32,
    out: Outgoing,
    /// Where replies are written before they are sent.
    scratch: Outbox,
    /// Whether it is still read from. What waits to be sent goes out also after that.
    is_open: bool,
    /// Whether the system could not give us the next datagram.
    has_failed: bool,
    presence: Presence,
    pub(super) armed: Option<Instant>,
    /// Whether it stands in the queue of those that go on without an event.
    pub(super) queued: bool,
}

/// Whether a datagram is a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Frames,
    /// A message for a handler of its own.
    Messages,
}

/// Datagrams handled on one socket before others get their turn.
const PER_TURN: usize = 256;
/// Payload of the largest UDP datagram over IPv4.
const UDP_MAX: usize = 65_507;
/// Payload bytes that a Unix datagram with frames may carry.
const UNIX_MAX: usize = 100_000;

impl Port {
    /// # Errors
    /// If replies could not be sent at all: they are padded to more than a datagram holds.
    pub(super) fn new(
        socket: Datagrams,
        site: Site,
        framing: Framing,
        number: u32,
        counters: Counters,
    ) -> io::Result<Port> {
        let largest = largest(&site.endpoint);
        if let (Classic::Fixed(size), Framing::Frames) = (site.settings.classic, framing)
            && classic::HEADER_LEN + size as usize > largest
        {
            let text = format!("frames of 12 + {size} bytes do not fit into datagrams of {largest}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Port {
            out: Outgoing::new(
                socket,
                site.own_identity.clone(),
                counters,
                site.settings.limits.write_stall_timeout,
            ),
            site,
            framing,
            number,
            scratch: Outbox::default(),
            is_open: true,
            has_failed: false,
            presence: Presence::default(),
            armed: None,
            queued: false,
        })
    }

    pub(super) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        ready: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<()> {
        self.out.socket.register(registry, token, ready)
    }

    /// Handles what has come, within a turn's budget. Says whether more may be there.
    pub(super) fn read(&mut self, buffer: &mut [u8], turn_bytes: usize, service: &mut impl Service) -> bool {
        let mut share = Share::begin(turn_bytes, PER_TURN, Instant::now());
        let had_failed = std::mem::take(&mut self.has_failed);
        while self.is_open && !share.is_over() {
            match self.out.socket.receive(buffer) {
                Ok(received) => {
                    share.bytes = share.bytes.saturating_sub(received.length);
                    share.units.set(share.units.get() - 1);
                    self.handle(&buffer[..received.length], &received, service);
                    share.handled();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    match had_failed {
                        true => self.site.report_failing("receiving", &error),
                        false => log::debug!("{}: receiving: {error}", self.site.endpoint),
                    }
                    self.has_failed = true;
                    return false;
                }
            }
        }
        self.is_open
    }

    /// Whether something waits to be sent.
    pub(super) fn has_waiting(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether to come back soon, without an event.
    pub(super) fn wants_timer(&self) -> bool {
        self.has_waiting() || self.has_failed
    }

    /// Tries again what its receivers did not take before.
    pub(super) fn retry(&mut self) {
        self.out.retry(Instant::now(), &self.site.endpoint);
    }

    /// Whether others can remove what leads clients here.
    pub(super) fn can_be_lost(&self) -> bool {
        self.is_open && self.out.socket.can_be_lost()
    }

    /// Sees to it that clients find the endpoint. True: it was opened anew, and some may have sent.
    pub(super) fn look(&mut self, registry: &Registry, token: Token) -> bool {
        self.can_be_lost()
            && self.presence.is_due()
            && self.presence.looked(self.out.socket.renew(registry, token), &self.site)
    }

    /// Takes no more datagrams.
    pub(super) fn close(&mut self, registry: &Registry) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        if let Err(error) = self.out.socket.deregister(registry) {
            log::debug!("deregistering {}: {error}", self.site.endpoint);
        }
    }

    fn handle(&mut self, bytes: &[u8], received: &Received, service: &mut impl Service) {
        let address = match received.from {
            Some(Address::Inet(address)) => Some(address),
            _ => None,
        };
        let peer = Peer::new(received.credentials.clone(), address);
        let admitted = self.admits(&peer, received.from.as_ref());
        match self.framing {
            Framing::Frames => self.handle_frame(bytes, received, &peer, admitted, service),
            Framing::Messages if !admitted => {}
            Framing::Messages if received.truncated => self.drop_truncated(bytes.len()),
            Framing::Messages => {
                let Port { site, out, number, .. } = self;
                let (from, endpoint) = (received.from.as_ref(), &site.endpoint);
                let message = Message { bytes, from, peer: &peer, endpoint };
                let mut reply = MessageReply { out, to: To::sender_of(received), endpoint };
                service.message(*number, &message, &mut reply);
            }
        }
    }

    fn drop_truncated(&mut self, have: usize) {
        self.out.counters.datagram_dropped(1);
        if let Some(count) = self.site.tallies.too_large.next_worth_telling() {
            log::warn!(
                "{}: dropped a datagram of more than {have} bytes; {count} so far",
                self.site.endpoint
            );
        }
    }

    fn admits(&mut self, peer: &Peer, from: Option<&Address>) -> bool {
        // A mailslot tells nothing of its writers; its access rights keep strangers out.
        if matches!(self.site.endpoint, Endpoint::Mailslot(_)) {
            return true;
        }
        let Site { access, own_identity, lower_integrity, endpoint, tallies, .. } = &self.site;
        let Err(denied) = access.admits_client(peer, own_identity, *lower_integrity) else { return true };
        if let Some(count) = tallies.refused.next_worth_telling() {
            let from = Sender(from);
            log::warn!("{endpoint}: refused a datagram of {peer} ({from}): {denied}; {count} so far");
        }
        false
    }

    fn handle_frame(
        &mut self,
        bytes: &[u8],
        received: &Received,
        peer: &Peer,
        admitted: bool,
        service: &mut impl Service,
    ) {
        let (from, to) = (received.from.as_ref(), To::sender_of(received));
        let (endpoint, origin) = (&self.site.endpoint, Origin::Datagram(from));
        let parsed = datagram::parse(bytes, received.truncated, self.classic());
        if !admitted {
            if let Some(ticket) = parsed.into_ticket() {
                self.write_refusal(ticket, ResultCode::NOT_PERMITTED, "");
                self.out.refuse(self.scratch.unsent(), to, &self.site.endpoint);
                self.scratch.mark_sent(self.scratch.len());
            }
            return;
        }
        match parsed {
            Parsed::Request { ticket, payload } => {
                let (msg_type, layout) = (ticket.msg_type, ticket.layout);
                let incoming = Incoming { msg_type, payload, peer, endpoint, layout, origin };
                let handled = Handled::begin(ticket.id);
                let (largest, classic) = (largest(endpoint), self.classic());
                let reply = datagram::begin_reply(&mut self.scratch, ticket, largest, classic);
                let rc = service.request(&incoming, reply);
                handled.end(&incoming, rc, format_args!("{}", Sender(from)));
                self.send_scratch(to);
            }
            Parsed::Notify { msg_type, payload } => {
                let (msg_type, layout) = (i32::from(msg_type), Layout::V1);
                let incoming = Incoming { msg_type, payload, peer, endpoint, layout, origin };
                let handled = Handled::begin(0);
                service.notify(&incoming);
                handled.end_notify(&incoming, format_args!("{}", Sender(from)));
            }
            Parsed::Ping { id } => {
                let pong = datagram::encode_v1(Kind::Pong, 0, id, 0, &[]);
                self.out.send(&pong, to, endpoint);
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
    }

    fn classic(&self) -> Classic {
        self.site.settings.classic
    }

    fn write_refusal(&mut self, ticket: Ticket, rc: ResultCode, text: &str) {
        let (largest, classic) = (largest(&self.site.endpoint), self.classic());
        datagram::begin_reply(&mut self.scratch, ticket, largest, classic).fail(rc, text);
    }

    fn send_scratch(&mut self, to: Option<To<'_>>) {
        if self.scratch.is_starved() {
            log::debug!("{}: no memory for an answer", self.site.endpoint);
            self.out.counters.datagram_dropped(1);
            self.scratch = Outbox::default();
            return;
        }
        self.out.send(self.scratch.unsent(), to, &self.site.endpoint);
        self.scratch.mark_sent(self.scratch.len());
    }
}

/// Nobody will be told any more what still waits.
impl Drop for Port {
    fn drop(&mut self) {
        self.out.give_up(&self.site.endpoint);
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
    out: &'a mut Outgoing,
    to: Option<To<'a>>,
    endpoint: &'a Endpoint,
}

impl MessageReply<'_> {
    /// Sends a datagram to the sender; any number of times, or never.
    ///
    /// Never waits. If the sender's queue is full the datagram waits for its turn, up to 1,024 of
    /// them for each sender and 256 MiB in all. What does not fit, what is too large for the
    /// transport, and what waits for a sender that has gone, or that has read nothing for
    /// [`ConnectionLimits::write_stall_timeout`](crate::ConnectionLimits::write_stall_timeout), is dropped and counted:
    /// [`Counters::datagrams_dropped`]. A sender without an address gets nothing.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.out.send(bytes.as_ref(), self.to, self.endpoint);
    }
}

impl std::fmt::Debug for MessageReply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageReply").field("to", &self.to).finish_non_exhaustive()
    }
}
