//! The v1 handshake: one hello each way.

use std::fmt;

use byteorder::{ByteOrder, LittleEndian as LE};

use super::app::App;
use super::error::ProtocolError;
use super::frame::{MUST_UNDERSTAND, Tlvs, push_tlv};
use super::rc::ResultCode;
use super::settings::Attachments;
use super::task::Task;
use crate::excerpt::Excerpt;
use crate::token::PROOF_LEN;

/// The first four bytes of a v1 stream: negative as an i32 in either byte order, so no classic type.
pub(crate) const MAGIC: [u8; 4] = [0xD1, 0x53, 0x57, 0xD1];
/// Bytes of the initiator's hello in front of its TLVs.
pub(crate) const INITIATOR_LEN: usize = 48;
/// Bytes of the responder's hello in front of its TLVs.
pub(crate) const RESPONDER_LEN: usize = 72;
/// Most bytes of a hello.
pub(crate) const MAX_LEN: usize = 1024;
/// Magic, length and versions: the part that never changes.
pub(crate) const FIXED_LEN: usize = 8;
/// The versions that this code speaks, lowest and highest.
pub(crate) const VERSIONS: (u8, u8) = (1, 1);
/// Who sends this and in what version: the TLV with tag 2.
const SOFTWARE: &str = concat!("sidewire/", env!("CARGO_PKG_VERSION"));

/// TLV tags of the hello.
mod tag {
    pub(super) const TOKEN_PROOF: u16 = 1;
    pub(super) const SOFTWARE: u16 = 2;
    pub(super) const REFUSAL_TEXT: u16 = 3;
    pub(super) const APP_NAME: u16 = 4;
    pub(super) const APP_VERSION: u16 = 5;
    pub(super) const CONTRACT: u16 = 6;
}

/// What a hello can offer, by its bit.
mod feature {
    /// That descriptors come along with frames.
    pub(super) const CARRIED: u32 = 4;
    /// That frames name handles.
    pub(super) const NAMED: u32 = 8;
}

/// The features that our hello offers.
pub(crate) fn offers(attachments: Attachments) -> u32 {
    match attachments {
        Attachments::Never => 0,
        Attachments::Carried => feature::CARRIED,
        Attachments::Named => feature::NAMED,
    }
}

/// What one side allows the other to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) max_payload: u32,
    pub(crate) max_in_flight: u32,
    pub(crate) max_in_flight_bytes: u32,
    /// What each of its calls begins with, for replies in parts.
    pub(crate) stream_credit: u32,
}

/// What one side says of itself before anything else: its versions, its software and what it takes.
/// Shown as a line for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub(crate) versions: (u8, u8),
    pub(crate) offered: u32,
    pub(crate) required: u32,
    pub(crate) allowance: Allowance,
    pub(crate) nonce: [u8; 16],
    pub(crate) software: String,
    pub(crate) app: Option<App>,
    /// The responder's.
    pub(crate) instance: Option<[u8; 16]>,
    /// The first tag that must be understood and is not.
    pub(crate) unknown_tag: Option<u16>,
}

/// What the responder's hello adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: ResultCode,
    pub(crate) version: u8,
    pub(crate) instance: [u8; 16],
    pub(crate) text: String,
    /// That it knows the token, where one is asked for.
    pub(crate) proof: Option<[u8; PROOF_LEN]>,
}

/// For log lines: who that is, and what they take.
impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allowance { max_payload, max_in_flight, max_in_flight_bytes, .. } = self.allowance;
        let ((lowest, highest), software) = (self.versions, Excerpt::new(&self.software));
        write!(
            f,
            "hello of '{software}', versions {lowest} to {highest}, takes {max_payload} bytes of payload, "
        )?;
        write!(f, "{max_in_flight} calls and {max_in_flight_bytes} bytes in flight")?;
        self.app.as_ref().map_or(Ok(()), |app| write!(f, ", of '{app}'"))
    }
}

impl Hello {
    /// The toolkit that it speaks through, with its version.
    #[must_use]
    pub fn software(&self) -> &str {
        &self.software
    }

    /// The application, if it says anything of itself.
    #[must_use]
    pub fn app(&self) -> Option<&App> {
        self.app.as_ref()
    }

    /// The server's instance id, which is another one with each of its starts; `None` in an initiator's hello.
    #[must_use]
    pub fn instance(&self) -> Option<[u8; 16]> {
        self.instance
    }

    /// Whether it lets frames take something along in this way.
    #[must_use]
    pub fn offers(&self, attachments: Attachments) -> bool {
        self.offered & offers(attachments) != 0
    }

    /// Our own hello, which requires nothing.
    pub(crate) fn ours(allowance: Allowance, nonce: [u8; 16], app: Option<App>) -> Hello {
        Hello {
            versions: VERSIONS,
            offered: 0,
            required: 0,
            allowance,
            nonce,
            software: SOFTWARE.to_owned(),
            app,
            instance: None,
            unknown_tag: None,
        }
    }

    /// As the initiator sends it; with `answer`, as the responder does.
    pub(crate) fn encode(&self, answer: Option<&Answer>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0, 0, self.versions.0, self.versions.1]);
        let Allowance { max_payload, max_in_flight, max_in_flight_bytes, stream_credit } = self.allowance;
        for number in
            [self.offered, self.required, max_payload, max_in_flight, max_in_flight_bytes, stream_credit]
        {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.nonce);
        if let Some(answer) = answer {
            out.extend_from_slice(&answer.status.code().to_le_bytes());
            out.extend_from_slice(&[answer.version, 0, 0, 0]);
            out.extend_from_slice(&answer.instance);
        }
        push_tlv(out, tag::SOFTWARE, self.software.as_bytes());
        if let Some(Answer { text, .. }) = answer.filter(|answer| !answer.text.is_empty()) {
            push_tlv(out, tag::REFUSAL_TEXT, &text.as_bytes()[..text.floor_char_boundary(512)]);
        }
        if let Some(app) = self.app.as_ref() {
            push_app(out, app);
        }
        if let Some(proof) = answer.and_then(|answer| answer.proof) {
            push_tlv(out, tag::TOKEN_PROOF, &proof);
        }
        let length = out.len() - start;
        debug_assert!(length <= MAX_LEN);
        LE::write_u16(&mut out[start + 4..], length as u16);
    }

    /// Parses an initiator's hello; `bytes` is all of it. Versions come first: what follows them
    /// may look different in versions that we do not know.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Hello, ProtocolError> {
        let (hello, tlvs) = Hello::decode_common(bytes)?;
        hello.with_tlvs(tlvs, |_, _| Ok(()))
    }

    /// What this initiator asks of us besides calls, if we have all that it can't do without.
    pub(crate) fn task(&self) -> Result<Option<Task>, ProtocolError> {
        let (mut tasks, unknown) = Task::among(self.required);
        self.check_demands(unknown)?;
        let task = tasks.next();
        match tasks.next() {
            None => Ok(task),
            Some(_) => Err(ProtocolError::BadHello("it asks for two things at once")),
        }
    }

    /// Whether we have what this responder can't do without.
    pub(crate) fn check_answer(&self) -> Result<(), ProtocolError> {
        self.check_demands(self.required)
    }

    /// `unknown`: the bits of required features that we don't know.
    fn check_demands(&self, unknown: u32) -> Result<(), ProtocolError> {
        match (self.unknown_tag, unknown) {
            (Some(tag), _) => Err(ProtocolError::FeatureMissing(format!("hello tag {tag:#06x}"))),
            (None, 0) => Ok(()),
            (None, bits) => Err(ProtocolError::FeatureMissing(format!("feature bits {bits:#010x}"))),
        }
    }

    /// Parses a responder's hello; `bytes` is all of it.
    pub(crate) fn decode_answer(bytes: &[u8]) -> Result<(Hello, Answer), ProtocolError> {
        let (hello, rest) = Hello::decode_common(bytes)?;
        let Some((fixed, tlvs)) = rest.split_at_checked(RESPONDER_LEN - INITIATOR_LEN) else {
            return Err(ProtocolError::BadHello("the answer is shorter than 72 bytes"));
        };
        let mut answer = Answer {
            status: ResultCode::new(LE::read_i32(fixed)),
            version: fixed[4],
            instance: fixed[8..24].try_into().unwrap_or_default(),
            text: String::new(),
            proof: None,
        };
        let hello = hello.with_tlvs(tlvs, |tag, value| {
            match tag {
                tag::REFUSAL_TEXT => answer.text = String::from_utf8_lossy(value).into_owned(),
                tag::TOKEN_PROOF => match value.try_into() {
                    Ok(proof) => answer.proof = Some(proof),
                    Err(_) => return Err(ProtocolError::BadHello("the proof of a token is not 32 bytes")),
                },
                _ => {}
            }
            Ok(())
        })?;
        Ok((hello, answer))
    }

    fn decode_common(bytes: &[u8]) -> Result<(Hello, &[u8]), ProtocolError> {
        if let Some(&[.., lowest, highest]) = bytes.first_chunk::<FIXED_LEN>()
            && common_version((lowest, highest)).is_none()
        {
            return Err(ProtocolError::NoCommonVersion { ours: VERSIONS, theirs: (lowest, highest) });
        }
        let Some((head, rest)) = bytes.split_first_chunk::<INITIATOR_LEN>() else {
            return Err(ProtocolError::BadHello("shorter than 48 bytes"));
        };
        let hello = Hello {
            versions: (head[6], head[7]),
            offered: LE::read_u32(&head[8..]),
            required: LE::read_u32(&head[12..]),
            allowance: Allowance {
                max_payload: LE::read_u32(&head[16..]),
                max_in_flight: LE::read_u32(&head[20..]),
                max_in_flight_bytes: LE::read_u32(&head[24..]),
                stream_credit: LE::read_u32(&head[28..]),
            },
            nonce: head[32..].try_into().unwrap_or_default(),
            software: String::new(),
            app: None,
            instance: None,
            unknown_tag: None,
        };
        Ok((hello, rest))
    }

    /// `of_answer` gets what only a responder's hello says.
    fn with_tlvs(
        mut self,
        tlvs: &[u8],
        mut of_answer: impl FnMut(u16, &[u8]) -> Result<(), ProtocolError>,
    ) -> Result<Hello, ProtocolError> {
        for tlv in Tlvs(tlvs) {
            let Some((tag, value)) = tlv else {
                return Err(ProtocolError::BadHello("a TLV runs over the end"));
            };
            match tag {
                tag::SOFTWARE => self.software = String::from_utf8_lossy(value).into_owned(),
                tag::REFUSAL_TEXT | tag::TOKEN_PROOF => of_answer(tag, value)?,
                tag::APP_NAME => self.app.get_or_insert_default().set_name(value),
                tag::APP_VERSION => self.app.get_or_insert_default().set_version(value),
                tag::CONTRACT => {
                    let Ok(hash) = value.try_into() else {
                        return Err(ProtocolError::BadHello("the hash of a contract is not 32 bytes"));
                    };
                    self.app.get_or_insert_default().set_contract(hash);
                }
                _ if tag & MUST_UNDERSTAND != 0 => self.unknown_tag = self.unknown_tag.or(Some(tag)),
                _ => {}
            }
        }
        Ok(self)
    }
}

fn push_app(out: &mut Vec<u8>, app: &App) {
    for (tag, text) in [(tag::APP_NAME, app.name()), (tag::APP_VERSION, app.version())] {
        if !text.is_empty() {
            push_tlv(out, tag, text.as_bytes());
        }
    }
    if let Some(hash) = app.contract_hash() {
        push_tlv(out, tag::CONTRACT, &hash);
    }
}

/// Puts the proof into a responder's hello, which ends with the place for it.
pub(crate) fn set_proof(bytes: &mut [u8], proof: [u8; PROOF_LEN]) {
    if let Some(place) = bytes.last_chunk_mut() {
        *place = proof;
    }
}

/// Makes zeros of the proof in a responder's hello: of the last one, which is the one that counts.
pub(crate) fn clear_proof(bytes: &mut [u8]) {
    let Some(tlvs) = bytes.get(RESPONDER_LEN..) else { return };
    let (mut run, mut place) = (Tlvs(tlvs), None);
    while let Some(Some((tag, value))) = run.next() {
        if tag == tag::TOKEN_PROOF {
            let end = bytes.len() - run.0.len();
            place = Some(end - value.len()..end);
        }
    }
    if let Some(place) = place {
        bytes[place].fill(0);
    }
}

/// The highest version that both sides speak.
pub(crate) fn common_version(theirs: (u8, u8)) -> Option<u8> {
    let lowest = theirs.0.max(VERSIONS.0);
    let highest = theirs.1.min(VERSIONS.1);
    (lowest <= highest).then_some(highest)
}

/// The whole length of a hello of which at least [`FIXED_LEN`] bytes have come.
pub(crate) fn length(head: &[u8; FIXED_LEN]) -> Result<usize, ProtocolError> {
    match usize::from(LE::read_u16(&head[4..])) {
        length @ FIXED_LEN..=MAX_LEN => Ok(length),
        0..FIXED_LEN => Err(ProtocolError::BadHello("shorter than its fixed part")),
        _ => Err(ProtocolError::BadHello("longer than 1024 bytes")),
    }
}
