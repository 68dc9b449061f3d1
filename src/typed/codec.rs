//! How values become bytes, and bytes values.

use std::fmt;
use std::io::Write;

use postcard::Deserializer;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounded::{self, Bounds};

/// A way to write values as bytes: [`Postcard`], or [`Json`] with the feature `json`.
///
/// Which one a message travels in belongs to its definition ([`Message::Codec`](super::Message::Codec)), which both
/// sides share: so there is nothing to agree on when they connect. Another one is a type with these two functions;
/// what it decodes it has to bound itself, since the bytes may be anybody's.
pub trait Codec: 'static {
    /// What it is called where the server [describes](super) its messages.
    const NAME: &'static str;

    /// Appends the value to `out`.
    ///
    /// # Errors
    /// If it has no form in this encoding, or `out` fails.
    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut impl Write) -> Result<(), CodecError>;

    /// The value that these bytes are, and all of them.
    ///
    /// # Errors
    /// If they are no such value, or too nested or too large a one.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError>;
}

/// [postcard](https://postcard.jamesmunns.com)'s encoding: short and fast, for two sides that share the types. Numbers are varints,
/// and nothing says where a field begins or what it is called: both sides must be of the same definition.
///
/// A value may nest 128 levels deep, and have as many elements as the payload has bytes, and 1,024 more: those
/// of lists whose elements take no bytes at all. In memory each of them takes what its type takes, however short it
/// is as bytes: in a list of `Option<Large>` a byte makes room for a `Large`. Where strangers send such lists,
/// `Option<Box<Large>>` is what they should hold, or [`max_payload`](crate::ConnectionLimits::max_payload) what is low.
#[derive(Debug)]
#[non_exhaustive]
pub enum Postcard {}

impl Codec for Postcard {
    const NAME: &'static str = "postcard";

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut impl Write) -> Result<(), CodecError> {
        let sink = Sink { out, buffer: [0; SINK], len: 0 };
        let written = postcard::serialize_with_flavor(value, sink);
        written.map_err(|error| CodecError::new(words(&error)))
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let mut source = Deserializer::from_bytes(bytes);
        let bounds = Bounds::of(bytes);
        let value = bounded::decode(&mut source, &bounds);
        let value = value.map_err(|error| bounds.explain(words(&error)))?;
        match source.finalize() {
            Ok([]) => Ok(value),
            Ok(rest) => Err(CodecError::new(format_args!("bytes are left over: {}", rest.len()))),
            Err(error) => Err(CodecError::new(words(&error))),
        }
    }
}

/// Bytes that go on together: postcard gives most of them one by one.
const SINK: usize = 64;

/// Where postcard writes.
struct Sink<'a, W> {
    out: &'a mut W,
    buffer: [u8; SINK],
    len: usize,
}

impl<W: Write> Sink<'_, W> {
    fn flush(&mut self) -> postcard::Result<()> {
        let bytes = &self.buffer[..self.len];
        self.len = 0;
        self.out.write_all(bytes).map_err(|_| postcard::Error::SerializeBufferFull)
    }
}

impl<W: Write> Flavor for Sink<'_, W> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.len == SINK {
            self.flush()?;
        }
        self.buffer[self.len] = byte;
        self.len += 1;
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() > SINK - self.len {
            self.flush()?;
        }
        match self.buffer.get_mut(self.len..self.len + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
                Ok(())
            }
            None => self.out.write_all(bytes).map_err(|_| postcard::Error::SerializeBufferFull),
        }
    }

    fn finalize(mut self) -> postcard::Result<()> {
        self.flush()
    }
}

/// Its own words speak of its inside.
fn words(error: &postcard::Error) -> String {
    use postcard::Error;
    let text = match error {
        Error::WontImplement => "the type asks what comes next, which this encoding does not tell",
        Error::SerializeSeqLengthUnknown => "the length of a list must be known before",
        Error::DeserializeUnexpectedEnd => "the bytes end too early",
        Error::DeserializeBadVarint => "a number is too large",
        Error::DeserializeBadBool => "a bool is neither 0 nor 1",
        Error::DeserializeBadChar => "a character is none",
        Error::DeserializeBadUtf8 => "a text is not UTF-8",
        Error::DeserializeBadOption => "it is neither there (1) nor not (0)",
        Error::SerializeBufferFull => "there is no room for it",
        Error::SerdeSerCustom | Error::CollectStrError => "the value refuses to be written",
        Error::SerdeDeCustom => "the value is not allowed",
        error => return error.to_string(),
    };
    text.to_owned()
}

/// JSON: for messages that programs in other languages send, too.
///
/// A value may nest 128 levels deep. Its elements take memory as with [`Postcard`].
///
/// Two kinds of types are not for strangers' bytes, in any JSON: enums with `#[serde(untagged)]` that contain
/// themselves in more than one variant, since serde tries one after the other on each level, which takes twice as long
/// with each; and those that contain themselves without any brackets (`Wrap(Option<Box<Self>>)`), of which serde finds no end
/// in a value that fits none of them. With `#[serde(tag = "..")]`, or no attribute, neither happens.
#[cfg(feature = "json")]
#[derive(Debug)]
#[non_exhaustive]
pub enum Json {}

#[cfg(feature = "json")]
impl Codec for Json {
    const NAME: &'static str = "json";

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut impl Write) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let mut source = serde_json::Deserializer::from_slice(bytes);
        let bounds = Bounds::of(bytes);
        let value = bounded::decode(&mut source, &bounds).map_err(|error| bounds.explain(error))?;
        source.end().map_err(CodecError::new)?;
        Ok(value)
    }
}

/// Why a value can't be written, or bytes can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError {
    why: String,
    /// Where in the value: `options.levels[3]`. Empty if that is not known.
    field: String,
}

impl CodecError {
    /// For this reason. Most of it may be what a stranger has sent: the beginning is kept, and what would drive a
    /// terminal is escaped.
    pub fn new(why: impl fmt::Display) -> CodecError {
        CodecError { why: harmless(&why.to_string()), field: String::new() }
    }

    /// In this field of the value.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> CodecError {
        self.field = field.into();
        self
    }

    /// In which field of the value, as a path of names and indexes; empty if that is not known.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }
}

/// Most bytes of a reason.
const LONGEST: usize = 300;

fn harmless(why: &str) -> String {
    let mut text = String::new();
    for character in why[..why.floor_char_boundary(LONGEST)].chars() {
        match character {
            // The encodings' own words have quotes.
            ' '..='~' => text.push(character),
            other => text.extend(other.escape_debug()),
        }
    }
    if why.len() > LONGEST {
        text.push('…');
    }
    text
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.field {
            "" => f.write_str(&self.why),
            field => write!(f, "in `{field}`: {}", self.why),
        }
    }
}

impl std::error::Error for CodecError {}
