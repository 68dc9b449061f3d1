//! One bound datagram socket of the loop: frames, or messages without frames.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Instant;

use sidewire_platform::{Address, Datagrams, Endpoint, Peer, Received};

use super::acceptor::Site;
use super::{Incoming, Origin, Service};
use crate::counters::Counters;
use crate::limits::{MAX_QUEUED_BYTES, MAX_QUEUED_DATAGRAMS};
use crate::wire::datagram::{self, Parsed};
use crate::wire::frame::Kind;
use crate::wire::rc::ResultCode;
use crate::wire::{Classic, Layout, Outbox, Ticket};

/// See the module's text.
pub(crate) struct Port {
    pub(super) site: Site,
    framing: Framing,
    number: u32,
    out: Outgoing,
    /// Where replies are written before they are sent.
    scratch: Outbox,
    refused: u64,
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

/// Datagrams on their way out. A Unix receiver whose queue is full never says when it has room
/// again (unix(7)), so what it does not take waits here and is tried again by timer.
struct Outgoing {
    socket: Datagrams,
    queues: HashMap<Address, VecDeque<Box<[u8]>>>,
    bytes: usize,
    counters: Counters,
}

/// Datagrams handled on one socket before others get their turn.
const PER_TURN: usize = 256;
/// Payload of the largest UDP datagram over IPv4.
const UDP_MAX: usize = 65_507;
/// Payload bytes that a Unix datagram with frames may carry.
const UNIX_MAX: usize = 100_000;

impl Port {
    pub(super) fn new(
        socket: Datagrams,
        site: Site,
        framing: Framing,
        number: u32,
        counters: Counters,
    ) -> Port {
        let out = Outgoing { socket, queues: HashMap::new(), bytes: 0, counters };
        Port {
            site,
            framing,
            number,
            out,
            scratch: Outbox::default(),
            refused: 0,
            armed: None,
            queued: false,
        }
    }

    pub(super) fn socket(&mut self) -> &mut Datagrams {
        &mut self.out.socket
    }

    /// Handles what has come. Says whether more may be there.
    pub(super) fn read(&mut self, buffer: &mut [u8], service: &mut impl Service) -> bool {
        for _ in 0..PER_TURN {
            match self.out.socket.receive(buffer) {
                Ok(received) => self.handle(&buffer[..received.length], &received, service),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => log::debug!("receiving on {}: {error}", self.site.endpoint),
            }
        }
        true
    }

    /// Whether something waits to be tried again.
    pub(super) fn has_waiting(&self) -> bool {
        !self.out.queues.is_empty()
    }

    /// Tries again what its receivers did not take before.
    pub(super) fn retry(&mut self) {
        self.out.retry(&self.site.endpoint);
    }

    fn handle(&mut self, bytes: &[u8], received: &Received, service: &mut impl Service) {
        let peer = Peer { credentials: received.credentials.clone(), inet: None };
        let admitted = self.admits(&peer, received.from.as_ref());
        match self.framing {
            Framing::Frames => self.handle_frame(bytes, received, &peer, admitted, service),
            _ if !admitted => {}
            Framing::Messages if received.truncated => {
                log::warn!("{}: dropped a datagram of more than {} bytes", self.site.endpoint, bytes.len());
                self.out.counters.datagram_dropped(1);
            }
            Framing::Messages => {
                let Port { site, out, number, .. } = self;
                let from = received.from.as_ref();
                let message = Message { bytes, from, peer: &peer, endpoint: &site.endpoint };
                let mut reply = MessageReply { out, to: from, endpoint: &site.endpoint };
                service.message(*number, &message, &mut reply);
            }
        }
    }

    fn admits(&mut self, peer: &Peer, from: Option<&Address>) -> bool {
        // A mailslot tells nothing of its writers; its access rights keep strangers out.
        if matches!(self.site.endpoint, Endpoint::Mailslot(_)) {
            return true;
        }
        let Site { access, oneself, lower_integrity, endpoint, .. } = &self.site;
        let Err(denied) = access.admits_client(peer, oneself, *lower_integrity) else { return true };
        // Whoever floods us with datagrams does not get to flood the log.
        self.refused += 1;
        if self.refused.is_power_of_two() {
            let from = from.map_or_else(|| "an unnamed sender".to_owned(), Address::to_string);
            log::warn!(
                "{endpoint}: refused a datagram of {peer} ({from}): {denied}; {} so far",
                self.refused
            );
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
        let to = received.from.as_ref();
        let (endpoint, origin) = (&self.site.endpoint, Origin::Datagram(to));
        match datagram::parse(bytes, received.truncated, self.classic()) {
            Parsed::Request { ticket, .. } if !admitted => {
                self.refuse(ticket, ResultCode::NOT_PERMITTED, "", to)
            }
            Parsed::Bad { ticket, error } => {
                log::debug!("{endpoint}: a bad datagram from {peer}: {error}");
                if let Some(ticket) = ticket {
                    self.refuse(ticket, error.rc(), &error.to_string(), to);
                }
            }
            _ if !admitted => {}
            Parsed::Request { ticket, payload } => {
                let (msg_type, layout) = (ticket.msg_type, ticket.layout);
                let incoming = Incoming { msg_type, payload, peer, endpoint, layout, origin };
                let (largest, classic) = (largest(endpoint), self.classic());
                service
                    .request(&incoming, datagram::begin_reply(&mut self.scratch, ticket, largest, classic));
                self.send_scratch(to);
            }
            Parsed::Notify { msg_type, payload } => {
                let (msg_type, layout) = (i32::from(msg_type), Layout::V1);
                service.notify(&Incoming { msg_type, payload, peer, endpoint, layout, origin });
            }
            Parsed::Ping { id } => {
                let pong = datagram::encode_v1(Kind::Pong, 0, id, 0, &[]);
                self.out.send(&pong, to, &self.site.endpoint);
            }
            Parsed::Reply(_) | Parsed::Nothing => {}
        }
    }

    fn classic(&self) -> Classic {
        self.site.settings.classic
    }

    fn refuse(&mut self, ticket: Ticket, rc: ResultCode, text: &str, to: Option<&Address>) {
        let (largest, classic) = (largest(&self.site.endpoint), self.classic());
        datagram::begin_reply(&mut self.scratch, ticket, largest, classic).fail(rc, text);
        self.send_scratch(to);
    }

    fn send_scratch(&mut self, to: Option<&Address>) {
        self.out.send(self.scratch.unsent(), to, &self.site.endpoint);
        self.scratch.mark_sent(self.scratch.len());
    }
}

/// Bytes of the largest datagram that is sent on an endpoint.
fn largest(endpoint: &Endpoint) -> usize {
    match endpoint {
        Endpoint::Udp { .. } => UDP_MAX,
        _ => UNIX_MAX + datagram::V1_OVERHEAD,
    }
}

impl Outgoing {
    /// Sends, or lets it wait for its turn, or drops and counts it.
    fn send(&mut self, bytes: &[u8], to: Option<&Address>, endpoint: &Endpoint) {
        let Some(to) = to else {
            return log::debug!("{endpoint}: a sender without an address gets no answer");
        };
        let waiting = self.queues.get(to).map_or(0, VecDeque::len);
        let result =
            if waiting == 0 { self.socket.send(bytes, to) } else { Err(io::ErrorKind::WouldBlock.into()) };
        match result {
            Ok(()) => {}
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.drop_one(to, endpoint, &error),
            Err(_) if waiting >= MAX_QUEUED_DATAGRAMS || self.bytes + bytes.len() > MAX_QUEUED_BYTES => {
                self.drop_one(to, endpoint, &"too many wait for it");
            }
            Err(_) => {
                self.bytes += bytes.len();
                self.queues.entry(to.clone()).or_default().push_back(bytes.into());
            }
        }
    }

    fn retry(&mut self, endpoint: &Endpoint) {
        let Outgoing { socket, queues, bytes, counters } = self;
        queues.retain(|to, queue| {
            while let Some(next) = queue.front() {
                match socket.send(next, to) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Ok(()) => {}
                    Err(error) => {
                        log::debug!("{endpoint}: dropped an answer to {to}: {error}");
                        counters.datagram_dropped(1);
                    }
                }
                *bytes -= next.len();
                queue.pop_front();
            }
            false
        });
    }

    fn drop_one(&mut self, to: &Address, endpoint: &Endpoint, why: &dyn std::fmt::Display) {
        log::debug!("{endpoint}: dropped an answer to {to}: {why}");
        self.counters.datagram_dropped(1);
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
}

/// Answers a datagram.
pub struct MessageReply<'a> {
    out: &'a mut Outgoing,
    to: Option<&'a Address>,
    endpoint: &'a Endpoint,
}

impl MessageReply<'_> {
    /// Sends a datagram to the sender; any number of times, or never.
    ///
    /// Never waits. If the sender's queue is full the datagram waits for its turn, up to 1,024 of
    /// them for each sender; what does not fit, what is too large for the transport, and what
    /// goes to a sender that has gone or has no address, is dropped and counted:
    /// [`Counters::datagrams_dropped`].
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.out.send(bytes.as_ref(), self.to, self.endpoint);
    }
}

impl std::fmt::Debug for MessageReply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageReply").field("to", &self.to).finish_non_exhaustive()
    }
}
