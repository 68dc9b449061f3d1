//! Messages and events that are Rust types (feature `serde`).
//!
//! A message is a type with a number: what it asks, together with what is answered. [`messages!`](crate::messages)
//! says which is which, once, for both sides; a server [serves](crate::Server::serve) it, and a client
//! [asks](crate::Client::ask).
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use sidewire::{Client, Server};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Add {
//!     a: i32,
//!     b: i32,
//! }
//!
//! sidewire::messages! {
//!     /// Adds two numbers.
//!     1 => Add -> i64;
//! }
//!
//! # let name = format!("local:typed-{}", std::process::id());
//! # let name = name.as_str(); // in an app: "local:com.example.app"
//! let mut server = Server::new(());
//! server.serve::<Add>(|(), add| Ok(i64::from(add.a) + i64::from(add.b)));
//! server.listen(name)?;
//! let running = server.spawn()?;
//!
//! let client = Client::connect(name)?;
//! assert_eq!(client.ask(&Add { a: 40, b: 2 })?, 42);
//! # drop(client);
//! # running.stop()?;
//! # Ok::<(), sidewire::Error>(())
//! ```
//!
//! The [guide](crate::typed_guide) goes through all of it: errors, progress, events, encodings, and what becomes of bytes
//! that are no such message.

pub(crate) mod asking;
mod bounded;
pub(crate) mod calls;
mod codec;
mod events;
mod macros;
mod peers;
pub(crate) mod serving;
#[cfg(feature = "tokio")]
pub mod tasks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Write;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sidewire_wire::{Failure, ResultCode};

pub use asking::{AskError, Asking};
pub use calls::{Part, Parts, Pending};
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Codec, CodecError, Postcard};
pub use events::{Events, Received};
#[doc(hidden)]
pub use macros::numbers_differ;
pub use peers::PeerResponder;
pub use serving::Responder;

/// What can travel: a type that serde writes and reads, and that borrows nothing.
///
/// Nobody implements this: every type has it that derives `Serialize` and `Deserialize`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't travel in a message",
    label = "no `Serialize` and `Deserialize`",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to `{Self}`"
)]
pub trait Payload: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Payload for T {}

/// A request: the type says what is asked, and names the number, and the types of what is answered.
///
/// [`messages!`](crate::messages) writes this. By hand, for instance for a generic type, it is
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use sidewire::Failure;
/// use sidewire::typed::{Message, Never, Postcard};
///
/// #[derive(Serialize, Deserialize)]
/// struct GetStatus;
///
/// impl Message for GetStatus {
///     const TYPE: u16 = 7;
///     const NAME: &'static str = "GetStatus";
///     const ABOUT: &'static str = "How far the helper is.";
///     type Reply = u32;
///     type Progress = Never;
///     type Error = Failure;
///     type Codec = Postcard;
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message",
    label = "has no number",
    note = "give it one: `sidewire::messages! {{ 1 => {Self} -> Reply; }}`"
)]
pub trait Message: Payload {
    /// Its number, which picks the handler.
    const TYPE: u16;
    /// Its name, for people and for tools.
    const NAME: &'static str;
    /// What it is for, in a line.
    const ABOUT: &'static str = "";
    /// What is answered.
    type Reply: Payload;
    /// What is told before the answer, any number of times; [`Never`] if nothing is.
    type Progress: Payload;
    /// Why it may fail: a [`Fault`] of the application's; or [`Failure`], for one that has no errors of its own.
    type Error: Fails;
    /// The encoding of all this.
    type Codec: Codec;
}

/// Something that a server tells those who have subscribed. [`events!`](crate::events) writes this.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event",
    label = "has no number",
    note = "give it one: `sidewire::events! {{ 1 => {Self}; }}`"
)]
pub trait Event: Payload {
    /// The number of its topic.
    const TYPE: u16;
    /// Its name, for people and for tools.
    const NAME: &'static str;
    /// What it tells, in a line.
    const ABOUT: &'static str = "";
    /// The encoding.
    type Codec: Codec;
}

/// An application's own error: it travels as it is, together with a positive result code.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use sidewire::typed::Fault;
///
/// #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
/// enum PackError {
///     #[error("there is no folder {0}")]
///     NoFolder(String),
///     #[error("the disk is full: {missing} bytes are missing")]
///     DiskFull { missing: u64 },
/// }
///
/// impl Fault for PackError {
///     fn code(&self) -> i32 {
///         match self {
///             PackError::NoFolder(_) => 1,
///             PackError::DiskFull { .. } => 2,
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no error that a message can fail with",
    label = "not a `Fault`",
    note = "let it be one: `impl sidewire::typed::Fault for {Self} {{}}`"
)]
pub trait Fault: Payload + std::error::Error {
    /// The result code, which programs see that do not know this type. It is positive.
    fn code(&self) -> i32 {
        1
    }
}

/// What a message may fail with: every [`Fault`]; and [`Failure`], of messages without errors of their own: to the
/// client that is an [`Error`](crate::Error) with a result code and a text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no error that a message can fail with",
    label = "not a `Fault`",
    note = "let it be one: `impl sidewire::typed::Fault for {Self} {{}}`"
)]
pub trait Fails: fmt::Debug + fmt::Display + Sized + 'static {
    /// Writes what goes with its result code, and says which that is.
    #[doc(hidden)]
    fn write<C: Codec>(self, out: &mut impl Write) -> Result<ResultCode, Failure>;

    /// What an answer with a positive result code means. `None`: these errors have no such answers.
    #[doc(hidden)]
    fn read<C: Codec>(bytes: &[u8]) -> Option<Result<Self, CodecError>>;

    /// Its result code.
    #[doc(hidden)]
    fn rc(&self) -> ResultCode;
}

impl<F: Fault> Fails for F {
    fn write<C: Codec>(self, out: &mut impl Write) -> Result<ResultCode, Failure> {
        let code = self.code();
        if code <= 0 {
            let text = format!("the code of an error has to be positive, not {code}: {self}");
            return Err(Failure::other(text));
        }
        encode::<C, _>("the error", &self, out)?;
        Ok(ResultCode::new(code))
    }

    fn read<C: Codec>(bytes: &[u8]) -> Option<Result<F, CodecError>> {
        Some(C::decode(bytes))
    }

    fn rc(&self) -> ResultCode {
        match self.code() {
            code @ 1.. => ResultCode::new(code),
            // As its own server would have answered.
            _ => ResultCode::HANDLER_FAILED,
        }
    }
}

impl Fails for Failure {
    fn write<C: Codec>(self, _: &mut impl Write) -> Result<ResultCode, Failure> {
        Err(self)
    }

    fn read<C: Codec>(_: &[u8]) -> Option<Result<Failure, CodecError>> {
        None
    }

    fn rc(&self) -> ResultCode {
        self.result_code()
    }
}

/// There is none: the progress of messages that tell nothing before their answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "so that who matches it knows that nothing comes")]
pub enum Never {}

impl Serialize for Never {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Never, D::Error> {
        Err(serde::de::Error::custom("there is no such value"))
    }
}

/// For the wire.
fn encode<C: Codec, T: Payload>(what: &str, value: &T, out: &mut impl Write) -> Result<(), Failure> {
    let encoded = C::encode(value, out);
    encoded.map_err(|error| Failure::other(format_args!("{what} cannot be written: {error}")))
}

/// From the wire. Nobody has seen anything of it if that fails.
pub(crate) fn decode<M: Message>(bytes: &[u8]) -> Result<M, Failure> {
    let decoded = M::Codec::decode(bytes);
    decoded.map_err(|error| unreadable(M::NAME, &error))
}

#[cold]
fn unreadable(name: &str, error: &CodecError) -> Failure {
    Failure::new(ResultCode::MALFORMED, format!("`{name}` cannot be read: {error}"))
}
