//! What the server asks its peers: orders to the loop, and what becomes of calls and pings.

use std::time::{Duration, Instant};

use super::session::ConnectionId;
use super::system::System;
use super::{Reactor, Service};
use sidewire_wire::frame::{HEADER_LEN, timeout_ms};
use sidewire_wire::memory::NoMemory;
use sidewire_wire::{Connection, ConnectionLimits, Protocol, ResultCode};

/// What the loop is to do for one connection.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) to: ConnectionId,
    pub(crate) what: PeerOrder,
}

/// What that is.
#[derive(Debug)]
pub(crate) enum PeerOrder {
    Call {
        msg_type: u16,
        payload: Vec<u8>,
        timeout: Option<Duration>,
    },
    Notify {
        msg_type: u16,
        payload: Vec<u8>,
    },
    /// Asks for a sign of life.
    Ping {
        timeout: Option<Duration>,
    },
    /// Says goodbye and closes.
    Close,
}

/// What becomes of the server's own calls and pings on a connection.
pub(crate) enum CallNews<'a> {
    /// The call that was ordered last is on its way, with this id.
    Sent {
        id: u32,
    },
    /// So is the ping that was.
    Pinged {
        id: u32,
    },
    /// It is not, and won't be.
    NotSent(NotSent),
    Answered {
        id: u32,
        rc: ResultCode,
        is_text: bool,
        payload: &'a [u8],
    },
    /// It was answered, but there was no memory for the answer.
    Lost {
        id: u32,
    },
    TimedOut {
        id: u32,
    },
    /// A ping was answered, so long after it was sent.
    Ponged {
        id: u32,
        took: Duration,
    },
    /// It was not in its time.
    NoPong {
        id: u32,
    },
    /// The peer leaves: all calls but those that it may still answer were not executed.
    Left {
        may_be_answered: &'a dyn Fn(u32) -> bool,
    },
    /// No answers come any more.
    Gone,
}

/// Most pings of one connection that have no pong yet.
const PINGS: usize = 64;

/// Why a call was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The peer, or its connection, is at its end.
    Gone,
    /// In the classic layout, and without frames, only clients ask.
    CantBeAsked,
    /// The peer takes no such payload, or it does not fit into the outbox.
    TooLarge {
        limit: usize,
    },
    /// The peer takes no more calls before it has answered some, or reads too slowly.
    Busy,
    NoMemory,
}

impl<Y: System> Reactor<Y> {
    /// Does what the next order says.
    pub(super) fn carry_out(&mut self, service: &mut impl Service) {
        let Some(Order { to: ConnectionId(key), what }) = service.next_order() else { return };
        let now = self.system.now();
        let limits = |number: u16| self.sources.get(usize::from(number)).map(|source| &source.site);
        let Some((link, site)) =
            self.links.get_mut(key).and_then(|link| limits(link.source()).map(|site| (link, site)))
        else {
            return if let PeerOrder::Call { .. } | PeerOrder::Ping { .. } = what {
                service.call_news(ConnectionId(key), None, CallNews::NotSent(NotSent::Gone));
            };
        };
        let (endpoint, limits) = (&site.endpoint, &site.settings.limits);
        let protocol = link.protocol_mut();
        protocol.flow_mut().lend(&mut self.memory.spare);
        match (what, protocol) {
            (PeerOrder::Call { msg_type, payload, timeout }, protocol) => {
                let sent = match protocol {
                    Protocol::Framed(connection) => call(connection, limits, msg_type, &payload, timeout),
                    Protocol::Plain(_) => Err(NotSent::CantBeAsked),
                };
                if let (Ok(id), Some(at), Protocol::Framed(connection)) =
                    (sent, timeout.and_then(|timeout| now.checked_add(timeout)), protocol)
                {
                    connection.limit_call(id, at);
                }
                let news = sent.map_or_else(CallNews::NotSent, |id| CallNews::Sent { id });
                service.call_news(ConnectionId(key), Some(endpoint), news);
            }
            (PeerOrder::Notify { msg_type, payload }, Protocol::Framed(connection)) => {
                if let Err(why) = notify(connection, limits, msg_type, &payload) {
                    log::debug!("{endpoint}: #{key} a notify of type {msg_type} was not sent: {why:?}");
                }
            }
            (PeerOrder::Notify { .. }, Protocol::Plain(_)) => return,
            (PeerOrder::Ping { timeout }, protocol) => {
                let sent = match protocol {
                    Protocol::Framed(connection) => ping(connection, limits, now, timeout),
                    Protocol::Plain(_) => Err(NotSent::CantBeAsked),
                };
                let news = sent.map_or_else(CallNews::NotSent, |id| CallNews::Pinged { id });
                service.call_news(ConnectionId(key), Some(endpoint), news);
            }
            (PeerOrder::Close, Protocol::Framed(connection)) => connection.close(),
            (PeerOrder::Close, Protocol::Plain(plain)) => plain.close(),
        }
        self.go_on(key, service);
    }
}

fn call(
    connection: &mut Connection,
    limits: &ConnectionLimits,
    msg_type: u16,
    payload: &[u8],
    timeout: Option<Duration>,
) -> Result<u32, NotSent> {
    check(connection, limits, payload)?;
    let is_bounded = connection.asked() < limits.max_in_flight as usize;
    if !is_bounded || !u32::try_from(payload.len()).is_ok_and(|length| connection.may_call(length)) {
        return Err(NotSent::Busy);
    }
    let pushed = connection.push_request(msg_type, payload, timeout_ms(timeout));
    pushed.map_err(|NoMemory| NotSent::NoMemory)
}

fn notify(
    connection: &mut Connection,
    limits: &ConnectionLimits,
    msg_type: u16,
    payload: &[u8],
) -> Result<(), NotSent> {
    check(connection, limits, payload)?;
    if connection.flow().is_backed_up() {
        return Err(NotSent::Busy);
    }
    connection.push_notify(msg_type, payload).map_err(|NoMemory| NotSent::NoMemory)
}

fn ping(
    connection: &mut Connection,
    limits: &ConnectionLimits,
    now: Instant,
    timeout: Option<Duration>,
) -> Result<u32, NotSent> {
    check(connection, limits, b"")?;
    if connection.flow().is_backed_up() || connection.pings() >= PINGS {
        return Err(NotSent::Busy);
    }
    let until = timeout.and_then(|timeout| now.checked_add(timeout));
    connection.begin_ping(now, until).map_err(|NoMemory| NotSent::NoMemory)
}

/// Whether the peer can be told this now: it never takes the outbox past the hard mark.
fn check(connection: &Connection, limits: &ConnectionLimits, payload: &[u8]) -> Result<(), NotSent> {
    if !connection.may_ask() {
        let is_over = connection.is_finishing() || connection.has_opened_v1();
        return Err(if is_over { NotSent::Gone } else { NotSent::CantBeAsked });
    }
    let size = payload.len().saturating_add(HEADER_LEN);
    let limit = (connection.request_limit() as usize).min(limits.outbox_hard.saturating_sub(HEADER_LEN));
    if payload.len() > limit {
        return Err(NotSent::TooLarge { limit });
    }
    if connection.waiting().saturating_add(size) > limits.outbox_hard {
        return Err(NotSent::Busy);
    }
    Ok(())
}
