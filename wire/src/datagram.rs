//! One datagram is one frame: v1 behind a prefix of 8 bytes, or classic.

use crate::error::ProtocolError;
use crate::failure::Failure;
use crate::frame::{self, Extension, Header, Kind, flags, split_extension};
use crate::hello::MAGIC;
use crate::layout::{Classic, Layout};
use crate::outbox::Outbox;
use crate::rc::ResultCode;
use crate::reply::{ReplyWriter, Ticket};
use crate::{call_rules, classic};

/// In front of a v1 frame: magic, version, flags (0), two zero bytes.
const PREFIX: [u8; 8] = [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION, 0, 0, 0];
const VERSION: u8 = 1;
/// Bytes of a v1 datagram in front of its payload.
pub const V1_OVERHEAD: usize = PREFIX.len() + frame::HEADER_LEN;

/// What a datagram says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Parsed<'b> {
    /// To be answered by [`begin_reply`] with this ticket.
    Request {
        /// Names the request to whoever answers it.
        ticket: Ticket,
        /// For the handler.
        payload: &'b [u8],
    },
    /// A request that wants no answer.
    Notify {
        /// Picks the handler.
        msg_type: u16,
        /// For the handler.
        payload: &'b [u8],
    },
    /// Requests of this sender that are answered later are not wanted any more.
    Cancel {
        /// Theirs.
        id: u32,
    },
    /// To be answered by a pong.
    Ping {
        /// The pong's as well.
        id: u32,
    },
    /// The answer to a request.
    Reply(Reply<'b>),
    /// A frame that this side does not serve, and that wants no answer.
    Nothing,
    /// To be answered with what is wrong, if there is a ticket.
    Bad {
        /// What is wrong.
        error: Failure,
        /// Whom to tell.
        ticket: Option<Ticket>,
    },
}

/// A reply, as its asker sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply<'b> {
    /// The request's (v1), 0 on the classic layout.
    pub id: u32,
    /// The request's.
    pub msg_type: i32,
    /// How it went.
    pub rc: ResultCode,
    /// Whether the payload is a text that explains the code.
    pub is_text: bool,
    /// The answer, or that text.
    pub payload: &'b [u8],
}

/// What is wrong with a datagram that can't be read.
fn malformed(text: &'static str) -> Failure {
    Failure::fixed(ResultCode::MALFORMED, text)
}

impl Parsed<'_> {
    /// Whom to tell that nothing of this is done. `None`: nobody waits for an answer.
    pub fn into_ticket(self) -> Option<Ticket> {
        match self {
            Parsed::Request { ticket, .. } => Some(ticket),
            Parsed::Bad { ticket, .. } => ticket,
            Parsed::Notify { .. } | Parsed::Cancel { .. } | Parsed::Ping { .. } => None,
            Parsed::Reply(_) | Parsed::Nothing => None,
        }
    }
}

/// Reads a datagram that came to a server. `truncated`: its end is lost.
pub fn parse(bytes: &[u8], truncated: bool, rule: Classic) -> Parsed<'_> {
    match bytes.strip_prefix(&MAGIC) {
        Some(_) => parse_v1(bytes, truncated),
        None => parse_classic(bytes, truncated, rule),
    }
}

fn parse_classic(bytes: &[u8], truncated: bool, rule: Classic) -> Parsed<'_> {
    let ticket = |msg_type| Ticket::classic(msg_type);
    let Some((head, payload)) = bytes.split_first_chunk() else {
        let ticket = bytes.first_chunk().map(|first| ticket(classic::msg_type(first)));
        return Parsed::Bad { error: malformed("too short for a header"), ticket };
    };
    let header = classic::Header::decode(head);
    // In this layout a reply looks like a request. With a forged sender a server's refusal could be
    // made a request to another server, which would be done there, or refused in turn for ever.
    if is_refusal(header.rc) {
        return Parsed::Nothing;
    }
    let ticket = ticket(header.msg_type);
    match classic_payload(header.length, payload, truncated, rule) {
        Ok(payload) => Parsed::Request { ticket, payload },
        Err(error) => Parsed::Bad { error, ticket: Some(ticket) },
    }
}

/// Whether it is a code that servers refuse with.
fn is_refusal(rc: i32) -> bool {
    (-999..0).contains(&rc)
}

fn classic_payload(length: i32, payload: &[u8], truncated: bool, rule: Classic) -> Result<&[u8], Failure> {
    let limit = match rule {
        Classic::Short(limit) | Classic::Fixed(limit) => limit,
        Classic::Refused => return Err(Failure::of(&ProtocolError::ClassicRefused)),
    };
    let length = u32::try_from(length).map_err(|_| Failure::of(&ProtocolError::NegativeLength(length)))?;
    if length > limit {
        return Err(Failure::of(&ProtocolError::TooLarge { length, limit }));
    }
    if truncated {
        return Err(cut(payload.len() + classic::HEADER_LEN));
    }
    // Whoever sends a whole struct sends more than it says.
    payload.get(..length as usize).ok_or(malformed("the datagram ends before its payload"))
}

/// Of a datagram only its first `have` bytes are there.
fn cut(have: usize) -> Failure {
    Failure::new(ResultCode::TOO_LARGE, format!("a datagram of more than {have} bytes is not taken"))
}

fn parse_v1(bytes: &[u8], truncated: bool) -> Parsed<'_> {
    let split =
        bytes.split_first_chunk().and_then(|(prefix, rest)| Some((prefix, rest.split_first_chunk()?)));
    let Some((prefix, (head, payload))) = split else {
        return Parsed::Bad { error: malformed("too short for a header"), ticket: None };
    };
    let header = Header::decode(head);
    let kind = Kind::from_byte(header.kind);
    let is_call = kind.is_some_and(Kind::is_call);
    let ticket = (is_call && header.id != 0).then(|| Ticket::v1(&header, 0));
    if let Err(error) = check_frame(prefix, &header, payload.len(), truncated) {
        return Parsed::Bad { error, ticket };
    }
    match (kind, ticket) {
        (Some(Kind::Subscribe | Kind::Unsubscribe), ticket @ Some(_)) => {
            Parsed::Bad { error: Failure::fixed(ResultCode::NO_HANDLER, "datagrams bring no events"), ticket }
        }
        (_, Some(ticket)) => match call_rules::check(&header, payload) {
            Ok(payload) => Parsed::Request { ticket, payload },
            Err(error) => Parsed::Bad { error, ticket: Some(ticket) },
        },
        (_, None) if is_call => Parsed::Bad { error: malformed("a request with id 0"), ticket: None },
        (Some(Kind::Cancel), _) => Parsed::Cancel { id: header.id },
        (Some(Kind::Ping), _) => Parsed::Ping { id: header.id },
        (Some(Kind::Notify), _) => notify(&header, payload),
        (Some(Kind::Reply), _) => reply(&header, payload),
        _ => Parsed::Nothing,
    }
}

/// Whether the frame can be told at all.
fn check_frame(prefix: &[u8; 8], header: &Header, have: usize, truncated: bool) -> Result<(), Failure> {
    let [.., version, prefix_flags, zero, zero_too] = *prefix;
    if version != VERSION {
        let theirs = (version, version);
        Err(Failure::of(&ProtocolError::NoCommonVersion { ours: (VERSION, VERSION), theirs }))
    } else if truncated {
        Err(cut(have + V1_OVERHEAD))
    } else if [prefix_flags, zero, zero_too] != [0; 3] {
        Err(malformed("the prefix is not zero behind its version"))
    } else if header.flags & !flags::ALL != 0 {
        Err(Failure::of(&ProtocolError::ReservedFlags(header.flags)))
    } else if !header.kind_is_acceptable() {
        Err(Failure::of(&ProtocolError::UnknownKind(header.kind)))
    } else if header.length as usize != have {
        Err(malformed("the payload is not as long as the header says"))
    } else {
        Ok(())
    }
}

/// A notify that could not be executed as it is meant has nobody to be told.
fn notify<'b>(header: &Header, payload: &'b [u8]) -> Parsed<'b> {
    match split_extension(header.flags, payload) {
        Extension::Fine(payload) if header.flags & !flags::EXT == 0 => {
            Parsed::Notify { msg_type: header.msg_type, payload }
        }
        _ => Parsed::Nothing,
    }
}

fn reply<'b>(header: &Header, payload: &'b [u8]) -> Parsed<'b> {
    match split_extension(header.flags, payload) {
        Extension::Fine(payload) if header.flags & flags::MORE == 0 => Parsed::Reply(Reply {
            id: header.id,
            msg_type: i32::from(header.msg_type),
            rc: ResultCode::new(header.rc),
            is_text: header.flags & flags::TEXT != 0,
            payload,
        }),
        _ => Parsed::Nothing,
    }
}

/// Starts the answer to a request in an empty outbox. `largest`: bytes of the largest datagram, in which
/// frames of one size have to fit.
pub fn begin_reply(outbox: &mut Outbox, ticket: Ticket, largest: usize, rule: Classic) -> ReplyWriter<'_> {
    let beside = |overhead| u32::try_from(largest.saturating_sub(overhead)).unwrap_or(u32::MAX);
    let (limit, pad_to) = match (ticket.layout, rule) {
        (Layout::V1, _) => {
            // An outbox that is starved stays so, and says so to whoever sends what is in it.
            let memory = outbox.memory_mut();
            let _ = memory.reserve_reply(PREFIX.len()).map(|()| memory.bytes().extend_from_slice(&PREFIX));
            (beside(V1_OVERHEAD), None)
        }
        (Layout::Classic, Classic::Short(limit)) => (limit.min(beside(classic::HEADER_LEN)), None),
        (Layout::Classic, Classic::Fixed(size)) => (size, Some(size)),
        (Layout::Classic, Classic::Refused) => (0, None),
    };
    outbox.memory_mut().blocks().copy_all();
    ReplyWriter::begin(outbox, ticket, limit, pad_to)
}

/// A whole v1 datagram. A payload that no datagram holds makes one that nobody can send.
pub fn encode_v1(kind: Kind, msg_type: u16, id: u32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let header = Header { length: payload.len() as u32, kind: kind as u8, flags: 0, msg_type, id, rc };
    [&PREFIX[..], &header.encode(), payload].concat()
}

/// The same in the classic layout; `pad_to` for those that are all of one size.
pub fn encode_classic(msg_type: i32, payload: &[u8], pad_to: Option<u32>) -> Vec<u8> {
    let header = classic::Header { msg_type, rc: 0, length: payload.len() as i32 };
    let mut bytes = [&header.encode()[..], payload].concat();
    if let Some(size) = pad_to {
        bytes.resize(bytes.len().max(classic::HEADER_LEN + size as usize), 0);
    }
    bytes
}

/// Reads a reply that came to a client. `None`: something else, or broken.
pub fn parse_reply(bytes: &[u8], layout: Layout) -> Option<Reply<'_>> {
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
    Some(Reply { id: 0, msg_type: header.msg_type, rc: ResultCode::new(header.rc), is_text: false, payload })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::connection::Connection;
    use crate::event::Event;
    use crate::hello::{Allowance, Hello};
    use crate::limits::ConnectionLimits;
    use crate::settings::Settings;

    const RULE: Classic = Classic::Short(100);
    const HEADER: Header = Header { length: 0, kind: 1, flags: 0, msg_type: 1, id: 1, rc: 0 };

    /// The answer to a frame in a datagram.
    fn over_datagrams(frame: &[u8]) -> Option<Vec<u8>> {
        let datagram = [&PREFIX, frame].concat();
        let Parsed::Bad { error, ticket: Some(ticket) } = parse(&datagram, false, RULE) else { return None };
        let mut outbox = Outbox::default();
        begin_reply(&mut outbox, ticket, 1000, RULE).fail(error.result_code(), error.text());
        Some(outbox.unsent()[PREFIX.len()..].to_vec())
    }

    /// The answer to the same frame on a stream.
    fn over_a_stream(frame: &[u8]) -> Vec<u8> {
        let settings = Settings::new(ConnectionLimits::default(), RULE);
        let now = Instant::now();
        let mut connection = Connection::responder(Arc::new(settings), now);
        let allowance =
            Allowance { max_payload: 976, max_in_flight: 9, max_in_flight_bytes: 999, stream_credit: 9 };
        let mut bytes = Vec::new();
        Hello::ours(allowance, [0; 16], None).encode(None, &mut bytes);
        let receive = |connection: &mut Connection, bytes: &[u8]| {
            connection.receive(bytes, &Cell::new(usize::MAX), &mut |_, event| {
                assert!(matches!(event, Event::Greeted(_)), "{event:?}");
            });
            let answer = connection.unsent().to_vec();
            connection.mark_sent(answer.len(), now);
            answer
        };
        receive(&mut connection, &bytes);
        receive(&mut connection, frame)
    }

    #[test]
    fn faults_are_answered_as_on_streams() {
        for (kind, flags, rc, payload) in [
            (Kind::Request, 0, -1, &b""[..]),
            (Kind::Request, flags::TEXT, -1, b""),
            (Kind::Request, flags::TEXT | flags::MORE, 0, b"x"),
            (Kind::Request, flags::MORE | flags::EXT, 0, b"x"),
            (Kind::Request, flags::EXT, 0, b"x"),
            (Kind::Request, flags::EXT, 0, &[4, 0, 1, 0x80, 0, 0]),
        ] {
            let header =
                Header { length: payload.len() as u32, kind: kind as u8, flags, msg_type: 3, id: 7, rc };
            let frame = [&header.encode()[..], payload].concat();
            assert_eq!(over_datagrams(&frame), Some(over_a_stream(&frame)), "{header:?}");
        }
    }

    /// PROTOCOL D17
    #[test]
    fn refusals_are_neither_done_nor_refused() {
        for rule in [RULE, Classic::Refused] {
            for (rc, is_request) in [(0, true), (7, true), (-1, false), (-999, false), (-1000, true)] {
                for length in [-1, 0] {
                    let bytes = classic::Header { msg_type: 1, rc, length }.encode();
                    let parsed = parse(&bytes, false, rule);
                    assert_eq!(matches!(parsed, Parsed::Nothing), !is_request, "{rc}");
                    assert_eq!(parsed.into_ticket().is_some(), is_request, "{rc}");
                }
            }
        }
    }

    #[test]
    fn what_was_cut_off_is_too_large() {
        let v1 = encode_v1(Kind::Request, 1, 1, 0, b"payload");
        let classic = encode_classic(1, b"payload", Some(100));
        for bytes in [v1, classic] {
            let Parsed::Bad { error, ticket: Some(_) } = parse(&bytes, true, RULE) else { panic!("taken") };
            assert_eq!(error.result_code(), ResultCode::TOO_LARGE);
            assert!(error.text().contains(&format!(" {} bytes", bytes.len())), "{error}");
        }
    }

    #[test]
    fn one_answers_only_those_who_wait() {
        for kind in 0..=u8::MAX {
            for id in [0, 1] {
                let header = Header { length: 0, kind, flags: 0, msg_type: 1, id, rc: -1 };
                let bytes = [&PREFIX[..], &header.encode()].concat();
                let waits = matches!(kind, 1 | 5 | 6) && id != 0;
                assert_eq!(parse(&bytes, false, RULE).into_ticket().is_some(), waits, "kind {kind}, id {id}");
            }
        }
    }

    #[test]
    fn replies_are_as_large_as_the_transport_and_no_larger() {
        for (layout, rule, most) in [
            (Layout::V1, RULE, 1000 - V1_OVERHEAD),
            (Layout::Classic, RULE, 100),
            (Layout::Classic, Classic::Short(5000), 1000 - classic::HEADER_LEN),
            (Layout::Classic, Classic::Fixed(50), 50),
        ] {
            for (size, rc) in [(most, ResultCode::OK), (most + 1, ResultCode::TOO_LARGE)] {
                let mut outbox = Outbox::default();
                let ticket = match layout {
                    Layout::V1 => Ticket::v1(&HEADER, 0),
                    Layout::Classic => Ticket::classic(1),
                };
                let mut reply = begin_reply(&mut outbox, ticket, 1000, rule);
                reply.write(&vec![7; size]);
                assert_eq!(reply.finish(ResultCode::OK), rc, "{layout:?} {rule:?} {size}");
                let parsed = parse_reply(outbox.unsent(), layout).expect("a reply");
                assert_eq!(parsed.rc, rc);
                assert!(outbox.len() <= 1000);
            }
        }
    }
}
