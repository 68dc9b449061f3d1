//! The v1 frame: 16 bytes of header, little-endian, then the payload.

use std::time::Duration;

use byteorder::{ByteOrder, LittleEndian as LE};

use crate::parcel::{MAX_ATTACHED, Parcel};
use crate::settings::Attachments;

/// Bytes of a v1 header.
pub const HEADER_LEN: usize = 16;

/// What a frame is for. Kinds from 0x80 up are for extensions that may be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// Asks for a handler to be run; answered by one final reply.
    Request = 1,
    /// The answer to a request, a subscribe or an unsubscribe.
    Reply = 2,
    /// A request that wants no answer.
    Notify = 3,
    /// What a subscriber is told.
    Event = 4,
    /// Asks for the events of a topic; answered like a request.
    Subscribe = 5,
    /// Asks for no more events of a topic; answered like a request.
    Unsubscribe = 6,
    /// The caller no longer wants an answer to a call.
    Cancel = 7,
    /// Allows more bytes of replies in parts.
    Credit = 8,
    /// Asks for a pong.
    Ping = 9,
    /// The answer to a ping.
    Pong = 10,
    /// Proves that the initiator knows a token.
    Auth = 11,
    /// Says that no more requests will be sent or taken.
    Goodbye = 12,
}

/// The first kind that a receiver who does not know it skips.
const FIRST_SKIPPABLE: u8 = 0x80;

impl Kind {
    const ALL: [Kind; 12] = [
        Kind::Request,
        Kind::Reply,
        Kind::Notify,
        Kind::Event,
        Kind::Subscribe,
        Kind::Unsubscribe,
        Kind::Cancel,
        Kind::Credit,
        Kind::Ping,
        Kind::Pong,
        Kind::Auth,
        Kind::Goodbye,
    ];

    /// Whether it is owed one final reply.
    #[inline]
    pub(crate) fn is_call(self) -> bool {
        matches!(self, Kind::Request | Kind::Subscribe | Kind::Unsubscribe)
    }

    #[inline]
    pub(crate) fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(byte).wrapping_sub(1)).copied()
    }
}

/// A call's time limit as its request's header carries it: milliseconds, at least 1; 0 for none.
#[inline]
pub fn timeout_ms(timeout: Option<Duration>) -> i32 {
    const MOST: u64 = i32::MAX as u64;
    timeout.map_or(0, |timeout| {
        let millis = timeout.as_secs().min(MOST) * 1000 + u64::from(timeout.subsec_millis());
        millis.clamp(1, MOST) as i32
    })
}

/// The flag bits; all others must be zero.
pub(crate) mod flags {
    /// More replies follow to the same id.
    pub(crate) const MORE: u8 = 1;
    /// The payload begins with a u16 length and TLVs.
    pub(crate) const EXT: u8 = 2;
    /// The payload is UTF-8 that explains a result code other than 0.
    pub(crate) const TEXT: u8 = 4;
    /// All that are defined.
    pub(crate) const ALL: u8 = MORE | EXT | TEXT;
}

/// A v1 header as numbers. `kind` stays a byte here: what it means is the decoder's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) msg_type: u16,
    pub(crate) id: u32,
    pub(crate) rc: i32,
}

impl Header {
    #[inline]
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        LE::write_u32(&mut bytes[0..], self.length);
        bytes[4] = self.kind;
        bytes[5] = self.flags;
        LE::write_u16(&mut bytes[6..], self.msg_type);
        LE::write_u32(&mut bytes[8..], self.id);
        LE::write_i32(&mut bytes[12..], self.rc);
        bytes
    }

    #[inline]
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Header {
        Header {
            length: LE::read_u32(&bytes[0..]),
            kind: bytes[4],
            flags: bytes[5],
            msg_type: LE::read_u16(&bytes[6..]),
            id: LE::read_u32(&bytes[8..]),
            rc: LE::read_i32(&bytes[12..]),
        }
    }

    /// Whether a receiver may go on behind this frame: it knows the kind or may skip it.
    #[inline]
    pub(crate) fn kind_is_acceptable(&self) -> bool {
        Kind::from_byte(self.kind).is_some() || self.kind >= FIRST_SKIPPABLE
    }
}

/// Fills in what a reply's header says of its payload.
#[inline]
pub(crate) fn complete(head: &mut [u8; HEADER_LEN], length: u32, flags: u8, rc: i32) {
    LE::write_u32(&mut head[0..], length);
    head[5] = flags;
    LE::write_i32(&mut head[12..], rc);
}

/// Whether a header is that of a request without flags, and with no timeout or a valid one.
#[inline]
pub(crate) fn is_ordinary_request(head: &[u8; HEADER_LEN]) -> bool {
    let kind_and_flags = LE::read_u16(&head[4..]);
    kind_and_flags == Kind::Request as u16 && LE::read_i32(&head[12..]) >= 0
}

/// Whether a header is that of a final reply in one piece without extensions.
#[inline]
pub(crate) fn is_ordinary_answer(header: &Header) -> bool {
    header.kind == Kind::Reply as u8 && header.flags & !flags::TEXT == 0
}

/// What stands in front of the payload proper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Extension<'b> {
    /// Everything in it was understood or may be skipped; the payload proper follows.
    Fine(&'b [u8]),
    /// It holds a TLV that must be understood and is not.
    NotUnderstood(u16),
    /// It does not fit its own lengths.
    Malformed,
}

/// Splits the extension block (flag EXT) off a payload. What goes with a frame is
/// looked for elsewhere, where [both sides want it](announced).
#[inline]
pub(crate) fn split_extension(flags: u8, payload: &[u8]) -> Extension<'_> {
    if flags & flags::EXT == 0 {
        return Extension::Fine(payload);
    }
    let Some((length, rest)) = payload.split_at_checked(2) else { return Extension::Malformed };
    let Some((block, proper)) = rest.split_at_checked(usize::from(LE::read_u16(length))) else {
        return Extension::Malformed;
    };
    for tlv in Tlvs(block) {
        match tlv {
            Some((tag, _)) if tag & MUST_UNDERSTAND != 0 => return Extension::NotUnderstood(tag),
            Some(_) => {}
            None => return Extension::Malformed,
        }
    }
    Extension::Fine(proper)
}

/// The extension of a frame with which something goes: how many, in one byte.
const ATTACHMENTS: u16 = MUST_UNDERSTAND | 1;
/// The extension of a frame that names what goes with it: a u32 each.
const NAMES: u16 = MUST_UNDERSTAND | 2;
/// Bytes of an extension block besides what it says of attachments.
const BLOCK_HEAD: usize = 6;
/// The largest name. What is beyond stands for something else in each process ("pseudo handles").
const LAST_NAME: u32 = i32::MAX as u32;
/// Says that what frames have named was fetched: the first of the kinds that may be skipped. Its id is how many of the
/// sender's frames this was done for, or given up, since the hellos.
pub(crate) const TAKEN: u8 = FIRST_SKIPPABLE;

/// What an extension block says of attachments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Announced<'b> {
    /// Nothing, or it can't be read.
    Nothing,
    /// It says so twice.
    Wrong,
    /// What it says; the rest of it is understood, or may be skipped. The payload proper follows.
    Alone(&'b [u8], &'b [u8]),
    /// What it says, besides what must be understood and is not.
    Among(&'b [u8]),
}

/// Looks for attachments, in either form, in the payload of a frame with the flag EXT.
pub(crate) fn announced(payload: &[u8], how: Attachments) -> Announced<'_> {
    let wanted = if how == Attachments::Named { NAMES } else { ATTACHMENTS };
    let Some((length, rest)) = payload.split_at_checked(2) else { return Announced::Nothing };
    let Some((block, proper)) = rest.split_at_checked(usize::from(LE::read_u16(length))) else {
        return Announced::Nothing;
    };
    let (mut said, mut is_understood) = (None, true);
    for tlv in Tlvs(block) {
        match tlv {
            None => return Announced::Nothing,
            Some((tag, value)) if tag == wanted => {
                if said.replace(value).is_some() {
                    return Announced::Wrong;
                }
            }
            Some((tag, _)) => is_understood &= tag & MUST_UNDERSTAND == 0,
        }
    }
    match said {
        None => Announced::Nothing,
        Some(value) if is_understood => Announced::Alone(value, proper),
        Some(value) => Announced::Among(value),
    }
}

/// How many go with a frame that says this of them.
pub(crate) fn count(value: &[u8]) -> Option<u8> {
    let &[count] = value else { return None };
    (1..=MAX_ATTACHED).contains(&count.into()).then_some(count)
}

/// What a frame names that says this.
pub(crate) fn names(value: &[u8]) -> Option<Vec<u32>> {
    let (names, rest) = value.as_chunks();
    let names: Vec<u32> = names.iter().map(|name| u32::from_le_bytes(*name)).collect();
    let are_fine = rest.is_empty()
        && (1..=MAX_ATTACHED).contains(&names.len())
        && names.iter().all(|name| (1..=LAST_NAME).contains(name));
    are_fine.then_some(names)
}

/// Bytes that it costs in the payload of a frame if this goes with it.
pub(crate) fn attached_cost(parcel: &Parcel) -> usize {
    match parcel.names() {
        [] => BLOCK_HEAD + 1,
        names => BLOCK_HEAD + size_of_val(names),
    }
}

/// The extension block of a frame with which this goes.
pub(crate) fn announce(parcel: &Parcel) -> Vec<u8> {
    let mut block = Vec::with_capacity(attached_cost(parcel));
    block.extend_from_slice(&(attached_cost(parcel) as u16 - 2).to_le_bytes());
    match parcel.names() {
        [] => push_tlv(&mut block, ATTACHMENTS, &[parcel.count()]),
        names => {
            let value: Vec<u8> = names.iter().flat_map(|name| name.to_le_bytes()).collect();
            push_tlv(&mut block, NAMES, &value);
        }
    }
    block
}

/// Bit of a TLV's tag: who does not know the tag must refuse.
pub(crate) const MUST_UNDERSTAND: u16 = 0x8000;

/// Walks a run of TLVs (u16 tag, u16 length, value). Yields `None` once where the run is broken.
pub(crate) struct Tlvs<'b>(pub(crate) &'b [u8]);

impl<'b> Iterator for Tlvs<'b> {
    type Item = Option<(u16, &'b [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let Some((head, rest)) = bytes.split_at_checked(4) else { return Some(None) };
        let Some((value, rest)) = rest.split_at_checked(usize::from(LE::read_u16(&head[2..]))) else {
            return Some(None);
        };
        self.0 = rest;
        Some(Some((LE::read_u16(head), value)))
    }
}

/// Appends one TLV. Values longer than a u16 can say are cut: all of ours are short.
pub(crate) fn push_tlv(out: &mut Vec<u8>, tag: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
}
