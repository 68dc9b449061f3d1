//! One datagram is one frame: v1 behind a prefix of 8 bytes, or classic.

use super::error::ProtocolError;
use super::frame::{self, Extension, Header, Kind, flags, split_extension};
use super::hello::MAGIC;
use super::outbox::Outbox;
use super::rc::ResultCode;
use super::reply::{ReplyWriter, Ticket};
use super::{Classic, Layout, classic};

/// In front of a v1 frame: magic, version, flags (0), two zero bytes.
const PREFIX: [u8; 8] = [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION, 0, 0, 0];
const VERSION: u8 = 1;
/// Bytes of a v1 datagram in front of its payload.
pub(crate) const V1_OVERHEAD: usize = PREFIX.len() + frame::HEADER_LEN;

/// What a datagram says.
#[derive(Debug)]
pub(crate) enum Parsed<'b> {
    Request {
        ticket: Ticket,
        payload: &'b [u8],
    },
    Notify {
        msg_type: u16,
        payload: &'b [u8],
    },
    Ping {
        id: u32,
    },
    Reply(Reply<'b>),
    /// A frame that this side does not serve, and that wants no answer.
    Nothing,
    /// To be answered with the error's code, if there is a ticket.
    Bad {
        error: ProtocolError,
        ticket: Option<Ticket>,
    },
}

/// A reply, as its asker sees it.
#[derive(Debug)]
pub(crate) struct Reply<'b> {
    pub(crate) id: u32,
    pub(crate) msg_type: i32,
    pub(crate) rc: ResultCode,
    pub(crate) is_text: bool,
    pub(crate) payload: &'b [u8],
}

/// Reads a datagram that came to a server. `truncated`: its end is lost.
pub(crate) fn parse(bytes: &[u8], truncated: bool, rule: Classic) -> Parsed<'_> {
    match bytes.strip_prefix(&MAGIC) {
        Some(_) => parse_v1(bytes, truncated),
        None => parse_classic(bytes, truncated, rule),
    }
}

fn parse_classic(bytes: &[u8], truncated: bool, rule: Classic) -> Parsed<'_> {
    let ticket = |msg_type| Ticket { id: 0, msg_type, cost: 0, layout: Layout::Classic };
    let Some((head, payload)) = bytes.split_first_chunk() else {
        let ticket = bytes.first_chunk().map(|first| ticket(classic::msg_type(first)));
        return Parsed::Bad { error: ProtocolError::CutOff, ticket };
    };
    let header = classic::Header::decode(head);
    let ticket = ticket(header.msg_type);
    let bad = |error, ticket| Parsed::Bad { error, ticket: Some(ticket) };
    let limit = match rule {
        Classic::Short(limit) | Classic::Fixed(limit) => limit,
        Classic::Refused => return bad(ProtocolError::ClassicRefused, ticket),
    };
    match u32::try_from(header.length) {
        Err(_) => bad(ProtocolError::NegativeLength(header.length), ticket),
        Ok(length) if length > limit || truncated => bad(ProtocolError::TooLarge { length, limit }, ticket),
        // Whoever sends a whole struct sends more than it says.
        Ok(length) => match payload.get(..length as usize) {
            Some(payload) => Parsed::Request { ticket, payload },
            None => bad(ProtocolError::CutOff, ticket),
        },
    }
}

fn parse_v1(bytes: &[u8], truncated: bool) -> Parsed<'_> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
        return Parsed::Bad { error: ProtocolError::CutOff, ticket: None };
    };
    let Some((head, payload)) = rest.split_first_chunk() else {
        return Parsed::Bad { error: ProtocolError::CutOff, ticket: None };
    };
    let header = Header::decode(head);
    let kind = Kind::from_byte(header.kind);
    let wants_answer =
        matches!(kind, Some(Kind::Request | Kind::Subscribe | Kind::Unsubscribe)) && header.id != 0;
    let ticket = Ticket { id: header.id, msg_type: i32::from(header.msg_type), cost: 0, layout: Layout::V1 };
    let ticket = wants_answer.then_some(ticket);
    if let Some(error) = fault(prefix, &header, payload.len(), truncated) {
        return Parsed::Bad { error, ticket };
    }
    let payload = match split_extension(header.flags, payload) {
        Extension::Fine(payload) => payload,
        Extension::Malformed => return Parsed::Bad { error: ProtocolError::BadExtension, ticket },
        Extension::NotUnderstood(tag) => {
            let error = ProtocolError::FeatureMissing(format!("extension {tag:#06x}"));
            return Parsed::Bad { error, ticket };
        }
    };
    match (kind, ticket) {
        (Some(Kind::Request), Some(ticket)) => Parsed::Request { ticket, payload },
        (Some(Kind::Request), None) => {
            Parsed::Bad { error: ProtocolError::BadId { id: 0, last: 0 }, ticket: None }
        }
        (Some(Kind::Subscribe | Kind::Unsubscribe), Some(ticket)) => {
            let error = ProtocolError::Refused { rc: ResultCode::NO_HANDLER, text: String::new() };
            Parsed::Bad { error, ticket: Some(ticket) }
        }
        (Some(Kind::Notify), _) => Parsed::Notify { msg_type: header.msg_type, payload },
        (Some(Kind::Ping), _) => Parsed::Ping { id: header.id },
        (Some(Kind::Reply), _) => Parsed::Reply(Reply {
            id: header.id,
            msg_type: i32::from(header.msg_type),
            rc: ResultCode(header.rc),
            is_text: header.flags & flags::TEXT != 0,
            payload,
        }),
        _ => Parsed::Nothing,
    }
}

/// What is wrong with a v1 datagram as a whole.
fn fault(prefix: &[u8; 8], header: &Header, have: usize, truncated: bool) -> Option<ProtocolError> {
    let [.., version, prefix_flags, zero, zero_too] = *prefix;
    let length = header.length;
    let is_call = matches!(Kind::from_byte(header.kind), Some(Kind::Request | Kind::Notify));
    if version != VERSION {
        let theirs = (version, version);
        Some(ProtocolError::NoCommonVersion { ours: (VERSION, VERSION), theirs })
    } else if truncated {
        Some(ProtocolError::TooLarge { length, limit: have as u32 })
    } else if prefix_flags != 0 || zero != 0 || zero_too != 0 {
        Some(ProtocolError::ReservedFlags(prefix_flags))
    } else if header.flags & !flags::ALL != 0 {
        Some(ProtocolError::ReservedFlags(header.flags))
    } else if !header.kind_is_acceptable() {
        Some(ProtocolError::UnknownKind(header.kind))
    } else if length as usize != have {
        Some(ProtocolError::CutOff)
    } else if header.kind == Kind::Request as u8 && header.rc < 0 {
        Some(ProtocolError::NegativeTimeout)
    } else if is_call && header.flags & flags::TEXT != 0 {
        Some(ProtocolError::ReservedFlags(header.flags))
    } else if header.flags & flags::MORE != 0 {
        let text = "datagrams have no parts".to_owned();
        Some(ProtocolError::Refused { rc: ResultCode::NO_HANDLER, text })
    } else {
        None
    }
}

/// Starts the answer to a request in an empty outbox. `largest`: bytes of the largest datagram.
pub(crate) fn begin_reply(
    outbox: &mut Outbox,
    ticket: Ticket,
    largest: usize,
    rule: Classic,
) -> ReplyWriter<'_> {
    let (limit, pad_to) = match (ticket.layout, rule) {
        (Layout::V1, _) => {
            outbox.bytes().extend_from_slice(&PREFIX);
            ((largest - V1_OVERHEAD) as u32, None)
        }
        (Layout::Classic, Classic::Short(limit)) => (limit.min((largest - classic::HEADER_LEN) as u32), None),
        (Layout::Classic, Classic::Fixed(size)) => (size, Some(size)),
        (Layout::Classic, Classic::Refused) => (0, None),
    };
    ReplyWriter::begin(outbox, ticket, limit, pad_to)
}

/// A whole v1 datagram.
pub(crate) fn encode_v1(kind: Kind, msg_type: u16, id: u32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let header = Header { length: payload.len() as u32, kind: kind as u8, flags: 0, msg_type, id, rc };
    [&PREFIX[..], &header.encode(), payload].concat()
}

/// A whole classic datagram; `pad_to` for those that are all of one size.
pub(crate) fn encode_classic(msg_type: u16, payload: &[u8], pad_to: Option<u32>) -> Vec<u8> {
    let header = classic::Header { msg_type: i32::from(msg_type), rc: 0, length: payload.len() as i32 };
    let mut bytes = [&header.encode()[..], payload].concat();
    if let Some(size) = pad_to {
        bytes.resize(bytes.len().max(classic::HEADER_LEN + size as usize), 0);
    }
    bytes
}

/// Reads a reply that came to a client. `None`: something else, or broken.
pub(crate) fn parse_reply(bytes: &[u8], layout: Layout) -> Option<Reply<'_>> {
    if layout == Layout::V1 {
        bytes.strip_prefix(&MAGIC)?;
        return match parse_v1(bytes, false) {
            Parsed::Reply(reply) => Some(reply),
            _ => None,
        };
    }
    let (head, payload) = bytes.split_first_chunk()?;
    let header = classic::Header::decode(head);
    let payload = payload.get(..usize::try_from(header.length).ok()?)?;
    Some(Reply { id: 0, msg_type: header.msg_type, rc: ResultCode(header.rc), is_text: false, payload })
}
