//! Where the next unit ends, and whether it may be there at all.

use super::error::ProtocolError;
use super::layout::{Classic, Layout};
use super::{classic, frame, hello};

/// Cuts a stream of bytes into units. Keeps no bytes: it borrows what it is shown.
#[derive(Debug)]
pub(crate) struct Decoder {
    expects: Expects,
    layout: Option<Layout>,
}

/// What the next unit has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    /// Responder, at the very beginning: four bytes tell the layout.
    Anything {
        classic: Classic,
        web_is_error: bool,
    },
    /// A hello, and nothing else: the responder's, or the initiator's where no other layout is spoken.
    Hello,
    Classic(Classic),
    V1 {
        max_payload: u32,
    },
    /// Something fatal was seen; there is nothing more to come.
    Nothing,
}

/// One whole unit, borrowed from the bytes it came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unit<'b> {
    Hello(&'b [u8]),
    Classic(classic::Header, &'b [u8]),
    V1(frame::Header, &'b [u8]),
}

/// Something fatal, and what is known of the frame it was found in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fatal {
    pub(crate) error: ProtocolError,
    /// The type of the classic request that is to be answered with the error.
    pub(crate) answer_to: Option<i32>,
}

impl From<ProtocolError> for Fatal {
    fn from(error: ProtocolError) -> Self {
        Fatal { error, answer_to: None }
    }
}

impl Decoder {
    pub(crate) fn responder(classic: Classic, web_is_error: bool) -> Decoder {
        Decoder { expects: Expects::Anything { classic, web_is_error }, layout: None }
    }

    pub(crate) fn v1() -> Decoder {
        Decoder { expects: Expects::Hello, layout: None }
    }

    pub(crate) fn classic(classic: Classic) -> Decoder {
        Decoder { expects: Expects::Classic(classic), layout: Some(Layout::Classic) }
    }

    /// The layout, once it is known; also after an error.
    #[inline]
    pub(crate) fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// The layout of a peer that is told only that it is refused.
    pub(crate) fn learn(&mut self, layout: Layout) {
        self.layout = Some(layout);
    }

    /// Takes the next unit off the front of `input`. `Ok(None)`: it is not whole yet; `input` is
    /// as it was, and [`measure`](Decoder::measure) says how long it will be. An error is sticky:
    /// from then on there are no units, and `input` is not looked at.
    #[inline]
    pub(crate) fn next<'b>(&mut self, input: &mut &'b [u8]) -> Result<Option<Unit<'b>>, Fatal> {
        let unit = match self.expects {
            Expects::V1 { max_payload } => cut_v1(input, max_payload),
            Expects::Classic(classic) => cut_classic(input, classic),
            _ => self.cut_first(input),
        };
        unit.inspect_err(|fatal| self.fail(fatal))
    }

    /// An ordinary request, which is whole, and what is behind it. `None`: there may be anything else, which
    /// [`next`](Decoder::next) tells.
    #[inline]
    pub(crate) fn next_ordinary<'b>(&self, input: &'b [u8]) -> Option<(Unit<'b>, &'b [u8])> {
        match self.expects {
            Expects::V1 { max_payload } => {
                let (head, behind) = input.split_first_chunk()?;
                let header = frame::Header::decode(head);
                if !frame::is_ordinary_request(head) || header.length > max_payload {
                    return None;
                }
                let (payload, rest) = behind.split_at_checked(header.length as usize)?;
                Some((Unit::V1(header, payload), rest))
            }
            Expects::Classic(Classic::Short(limit)) => {
                let (head, behind) = input.split_first_chunk()?;
                let header = classic::Header::decode(head);
                if header.length as u32 > limit.min(MOST) {
                    return None;
                }
                let (payload, rest) = behind.split_at_checked(header.length as usize)?;
                Some((Unit::Classic(header, payload), rest))
            }
            _ => None,
        }
    }

    /// The same of an ordinary answer (v1).
    #[inline]
    pub(crate) fn next_answer<'b>(&self, input: &'b [u8]) -> Option<(frame::Header, &'b [u8], &'b [u8])> {
        let Expects::V1 { max_payload } = self.expects else { return None };
        let (head, behind) = input.split_first_chunk()?;
        let header = frame::Header::decode(head);
        if !frame::is_ordinary_answer(&header) || header.length > max_payload {
            return None;
        }
        let (payload, rest) = behind.split_at_checked(header.length as usize)?;
        Some((header, payload, rest))
    }

    #[cold]
    fn fail(&mut self, fatal: &Fatal) {
        self.expects = Expects::Nothing;
        if fatal.answer_to.is_some() {
            self.layout = Some(Layout::Classic);
        }
    }

    /// The first unit, by which the layout is told.
    #[cold]
    fn cut_first<'b>(&mut self, input: &mut &'b [u8]) -> Result<Option<Unit<'b>>, Fatal> {
        let length = self.measure(input)?;
        let Some((unit, rest)) = input.split_at_checked(length) else { return Ok(None) };
        if unit.starts_with(&hello::MAGIC) {
            *input = rest;
            return Ok(Some(Unit::Hello(unit)));
        }
        self.settle_layout(unit);
        match self.expects {
            Expects::Classic(classic) => cut_classic(input, classic),
            _ => Ok(None),
        }
    }

    /// How long the unit is that `bytes` begin with, as far as they tell: a number beyond
    /// `bytes.len()` means that at least so many are needed to know more.
    #[inline]
    pub(crate) fn measure(&self, bytes: &[u8]) -> Result<usize, Fatal> {
        match self.expects {
            Expects::Anything { classic, web_is_error } => {
                let Some(first) = bytes.first_chunk::<4>() else { return Ok(4) };
                match web_protocol(first).filter(|_| web_is_error) {
                    Some(name) => Err(ProtocolError::OtherProtocol(name).into()),
                    None if *first == hello::MAGIC => measure_hello(bytes),
                    None if classic == Classic::Refused => Err(Fatal {
                        error: ProtocolError::ClassicRefused,
                        answer_to: Some(classic::msg_type(first)),
                    }),
                    None => measure_classic(bytes, classic),
                }
            }
            Expects::Hello => match bytes.first_chunk::<4>() {
                None => Ok(4),
                Some(first) if *first == hello::MAGIC => match bytes.first_chunk() {
                    // A classic reply: the type as it came, a small rc, no payload.
                    Some(reply) if is_classic_echo(reply) => Err(ProtocolError::ClassicServer.into()),
                    _ => measure_hello(bytes),
                },
                Some(_) => {
                    let shown = &bytes[..bytes.len().min(SHOWN)];
                    Err(ProtocolError::NotSidewire(shown.to_vec()).into())
                }
            },
            Expects::Classic(classic) => measure_classic(bytes, classic),
            Expects::V1 { max_payload } => measure_v1(bytes, max_payload),
            Expects::Nothing => Ok(usize::MAX),
        }
    }

    /// From here on the peer sends v1 frames with at most so much payload.
    pub(crate) fn expect_v1(&mut self, max_payload: u32) {
        self.expects = Expects::V1 { max_payload };
        self.layout = Some(Layout::V1);
    }

    /// From here on nothing is taken.
    pub(crate) fn expect_nothing(&mut self) {
        self.expects = Expects::Nothing;
    }

    /// The beginning of a frame that was [measured](Decoder::measure) without an error, and of which
    /// nothing more will be shown, tells the classic layout as a whole one would.
    #[inline]
    pub(crate) fn settle_layout(&mut self, beginning: &[u8]) {
        if let Expects::Anything { classic, .. } = self.expects
            && beginning.len() >= classic::HEADER_LEN
            && !beginning.starts_with(&hello::MAGIC)
        {
            self.expects = Expects::Classic(classic);
            self.layout = Some(Layout::Classic);
        }
    }
}

/// Takes a v1 frame off the front of `input`, if it is whole.
#[inline]
fn cut_v1<'b>(input: &mut &'b [u8], limit: u32) -> Result<Option<Unit<'b>>, Fatal> {
    let Some((head, behind)) = input.split_first_chunk() else { return Ok(None) };
    let header = frame::Header::decode(head);
    check_v1(&header, limit)?;
    let Some((payload, rest)) = behind.split_at_checked(header.length as usize) else { return Ok(None) };
    *input = rest;
    Ok(Some(Unit::V1(header, payload)))
}

/// The same of a classic frame.
#[inline]
fn cut_classic<'b>(input: &mut &'b [u8], classic: Classic) -> Result<Option<Unit<'b>>, Fatal> {
    let Some((head, behind)) = input.split_first_chunk() else { return Ok(None) };
    let header = classic::Header::decode(head);
    let length = check_classic(&header, classic)?;
    let Some((payload, rest)) = behind.split_at_checked(length) else { return Ok(None) };
    *input = rest;
    // A fixed frame is longer than what it says.
    let length = (header.length as usize).min(length);
    Ok(Some(Unit::Classic(header, &payload[..length])))
}

fn measure_hello(bytes: &[u8]) -> Result<usize, Fatal> {
    match bytes.first_chunk() {
        None => Ok(hello::FIXED_LEN),
        Some(head) => Ok(hello::length(head)?),
    }
}

fn measure_classic(bytes: &[u8], classic: Classic) -> Result<usize, Fatal> {
    let Some(head) = bytes.first_chunk() else { return Ok(classic::HEADER_LEN) };
    Ok(classic::HEADER_LEN + check_classic(&classic::Header::decode(head), classic)?)
}

fn measure_v1(bytes: &[u8], limit: u32) -> Result<usize, Fatal> {
    let Some(head) = bytes.first_chunk() else { return Ok(frame::HEADER_LEN) };
    let header = frame::Header::decode(head);
    check_v1(&header, limit)?;
    Ok(frame::HEADER_LEN + header.length as usize)
}

/// How many bytes follow a classic header, if such a frame may be there.
#[inline]
fn check_classic(header: &classic::Header, classic: Classic) -> Result<usize, Fatal> {
    // A negative length is not below any limit either.
    match classic {
        Classic::Short(limit) if header.length as u32 <= limit.min(MOST) => Ok(header.length as usize),
        Classic::Fixed(size) if header.length as u32 <= size.min(MOST) => Ok(size as usize),
        _ => Err(refuse_classic(header, classic)),
    }
}

/// The highest length that a classic header can tell.
const MOST: u32 = i32::MAX as u32;

#[cold]
fn refuse_classic(header: &classic::Header, classic: Classic) -> Fatal {
    let error = match (classic, u32::try_from(header.length)) {
        (Classic::Refused, _) => ProtocolError::ClassicRefused,
        (_, Err(_)) => ProtocolError::NegativeLength(header.length),
        (Classic::Short(limit) | Classic::Fixed(limit), Ok(length)) => match header.encode() {
            start if is_text(&start) => ProtocolError::TextNotFrames { length, limit, start },
            _ => ProtocolError::TooLarge { length, limit },
        },
    };
    Fatal { error, answer_to: Some(header.msg_type) }
}

/// Whether such a frame may be there.
#[inline]
fn check_v1(header: &frame::Header, limit: u32) -> Result<(), Fatal> {
    let is_fine = header.kind_is_acceptable() && header.flags & !frame::flags::ALL == 0;
    if is_fine && header.length <= limit { Ok(()) } else { Err(refuse_v1(header, limit)) }
}

#[cold]
fn refuse_v1(header: &frame::Header, limit: u32) -> Fatal {
    let error = if !header.kind_is_acceptable() {
        ProtocolError::UnknownKind(header.kind)
    } else if header.flags & !frame::flags::ALL != 0 {
        ProtocolError::ReservedFlags(header.flags)
    } else {
        ProtocolError::TooLarge { length: header.length, limit }
    };
    error.into()
}

/// First bytes of another protocol that are shown in an error.
const SHOWN: usize = 40;

/// Whether a header is twelve bytes of ASCII text, such as JSON: no type of this size is in use.
fn is_text(head: &[u8; classic::HEADER_LEN]) -> bool {
    head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
}

/// Whether a server that knows only the classic layout has answered our hello, whose first twelve
/// bytes read as an empty request: then what would be a hello's length and versions is a result code.
fn is_classic_echo(reply: &[u8; classic::HEADER_LEN]) -> bool {
    let header = classic::Header::decode(reply);
    (-999..=999).contains(&header.rc) && header.length == 0
}

/// People point browsers at ports; tell them rather than answer in riddles.
fn web_protocol(first: &[u8; 4]) -> Option<&'static str> {
    match first {
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" | b"DELE" | b"CONN" | b"PATC" | b"TRAC" | b"PRI " => {
            Some("HTTP")
        }
        // TLS record: handshake (22), version 3.1 to 3.4. (3.0 is long dead, and is classic type 790.)
        [0x16, 0x03, 0x01..=0x04, _] => Some("TLS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever drives it need not remember that it has failed.
    #[test]
    fn an_error_is_the_last_that_is_seen() {
        let request = frame::Header { length: 0, kind: 1, flags: 0, msg_type: 1, id: 1, rc: 0 }.encode();
        let mut broken = request;
        broken[4] = 99;
        let mut decoder = Decoder::v1();
        decoder.expect_v1(10);
        assert!(matches!(decoder.next(&mut &request[..]), Ok(Some(Unit::V1(..)))));
        assert_eq!(decoder.next(&mut &broken[..]), Err(ProtocolError::UnknownKind(99).into()));
        let mut input = &request[..];
        assert_eq!(decoder.next(&mut input), Ok(None));
        assert_eq!((input, decoder.layout()), (&request[..], Some(Layout::V1)));
    }
}
