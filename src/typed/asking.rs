//! The client's side: asking with values.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use sidewire_platform::Endpoint;

use super::{Codec, CodecError, Fails, Message, Parts, Pending};
use crate::client::{Client, RequestBuilder, Response};
use crate::error::{Error, Kind};
use sidewire_wire::{Executed, Failure};

/// Why a message has no answer: the application's own error, or that the call went wrong.
///
/// By `?` it becomes an [`Error`], with the result code and the words of the application's.
///
/// ```no_run
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Pack { folder: String }
/// # #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
/// # #[error("there is no folder {0}")]
/// # struct NoFolder(String);
/// # impl sidewire::typed::Fault for NoFolder {}
/// use sidewire::Client;
/// use sidewire::typed::AskError;
///
/// sidewire::messages! {
///     2 => Pack -> u64, error NoFolder;
/// }
///
/// let client = Client::connect("local:com.example.app")?;
/// match client.ask(&Pack { folder: "/tmp/a".into() }) {
///     Ok(bytes) => println!("{bytes} bytes"),
///     Err(AskError::App(NoFolder(folder))) => println!("no {folder}, but something else would do"),
///     Err(AskError::Call(error)) if error.is_timeout() => println!("it takes too long"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "so that a match on it is complete")]
pub enum AskError<E = Failure> {
    /// The handler has returned this.
    App(E),
    /// The call went wrong: it was not sent, nobody answered, or the answer is no answer to it.
    Call(Error),
}

impl<E> AskError<E> {
    /// What the handler has returned, if that is it.
    #[must_use]
    pub fn app(&self) -> Option<&E> {
        match self {
            AskError::App(error) => Some(error),
            AskError::Call(_) => None,
        }
    }

    /// How the call went wrong, if it did.
    #[must_use]
    pub fn call(&self) -> Option<&Error> {
        match self {
            AskError::App(_) => None,
            AskError::Call(error) => Some(error),
        }
    }
}

impl<E> AskError<E> {
    /// Of a call to this endpoint.
    pub(crate) fn at(self, endpoint: &Endpoint) -> AskError<E> {
        match self {
            AskError::App(error) => AskError::App(error),
            AskError::Call(error) => AskError::Call(error.at(endpoint)),
        }
    }
}

impl<E: fmt::Display> fmt::Display for AskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::App(error) => error.fmt(f),
            AskError::Call(error) => error.fmt(f),
        }
    }
}

impl<E: Fails> std::error::Error for AskError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AskError::App(_) => None,
            AskError::Call(error) => error.source(),
        }
    }
}

impl<E> From<Error> for AskError<E> {
    fn from(error: Error) -> AskError<E> {
        AskError::Call(error)
    }
}

impl<E: Fails> From<AskError<E>> for Error {
    fn from(error: AskError<E>) -> Error {
        match error {
            AskError::App(error) => {
                let payload = error.to_string().into_bytes();
                let (rc, is_text, may_be_refusal) = (error.rc(), true, false);
                Error::of_server("call", None, Kind::Answered { rc, payload, is_text, may_be_refusal })
            }
            AskError::Call(error) => error,
        }
    }
}

/// What is answered to a message.
pub(crate) type Answered<M> = Result<<M as Message>::Reply, AskError<<M as Message>::Error>>;

impl Client {
    /// Asks a message, and waits for its answer, within the client's call timeout. The short form of
    /// [`asking`](Client::asking)`(message).send()`.
    ///
    /// # Errors
    /// [`AskError::App`] if the handler has returned an error of the message's own; otherwise as
    /// [`call`](Client::call), and [`is_protocol`](Error::is_protocol) if the answer can't be read: then the two sides
    /// are of different definitions. That the server can't read the message it says with the
    /// [result code](Error::result_code) -4.
    pub fn ask<M: Message>(&self, message: &M) -> Result<M::Reply, AskError<M::Error>> {
        self.asking(message).send()
    }

    /// Begins a request with this message that is to have options of its own, or is not to be waited for here.
    pub fn asking<'c, M: Message>(&'c self, message: &M) -> Asking<'c, M> {
        Asking::of(self.request(M::TYPE), message, self.endpoint())
    }
}

/// A message that is about to be asked; from [`Client::asking`].
///
/// ```no_run
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Pack { folder: String }
/// # #[derive(Serialize, Deserialize)]
/// # struct Percent(u8);
/// use sidewire::Client;
/// use sidewire::typed::Part;
///
/// sidewire::messages! {
///     2 => Pack -> u64, progress Percent;
/// }
///
/// let client = Client::connect("local:com.example.app")?;
/// for part in client.asking(&Pack { folder: "/tmp/a".into() }).stream()? {
///     match part? {
///         Part::Progress(Percent(percent)) => println!("{percent} %"),
///         Part::Reply(bytes) => println!("{bytes} bytes"),
///     }
/// }
/// # Ok::<(), sidewire::Error>(())
/// ```
#[must_use = "nothing happens before send(), start(), stream() or tell()"]
pub struct Asking<'c, M: Message, C = Client> {
    pub(crate) request: RequestBuilder<'c, C>,
    pub(crate) bytes: Result<Vec<u8>, Error>,
    message: PhantomData<fn() -> M>,
}

impl<'c, M: Message, C> Asking<'c, M, C> {
    pub(crate) fn of(request: RequestBuilder<'c, C>, message: &M, endpoint: &Endpoint) -> Asking<'c, M, C> {
        let bytes = encoded(message).map_err(|why| Error::new("call", endpoint, why).of_type(M::TYPE));
        Asking { request, bytes, message: PhantomData }
    }

    /// As [`RequestBuilder::timeout`].
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.request = self.request.timeout(timeout);
        self
    }

    /// As [`RequestBuilder::idempotent`].
    pub fn idempotent(mut self) -> Self {
        self.request = self.request.idempotent();
        self
    }
}

impl<M: Message> Asking<'_, M> {
    /// As [`RequestBuilder::fail_fast`].
    pub fn fail_fast(mut self) -> Self {
        self.request = self.request.fail_fast();
        self
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn send(self) -> Result<M::Reply, AskError<M::Error>> {
        let response = self.request.send(self.bytes?);
        answered::<M>(response).map_err(|error| error.at(self.request.client.endpoint()))
    }

    /// Asks, to be waited for later: as [`RequestBuilder::start`].
    ///
    /// # Errors
    /// As [`RequestBuilder::start`].
    pub fn start(self) -> Result<Pending<M>, Error> {
        Ok(Pending::of(self.request.start(self.bytes?)?))
    }

    /// Asks, to take the progress as it comes, and then the answer: as [`RequestBuilder::stream`].
    ///
    /// # Errors
    /// As [`RequestBuilder::stream`].
    pub fn stream(self) -> Result<Parts<M>, Error> {
        Ok(Parts::of(self.request.stream(self.bytes?)?))
    }

    /// Tells the server this, and wants no answer: as [`RequestBuilder::notify`].
    ///
    /// # Errors
    /// As [`RequestBuilder::notify`].
    pub fn tell(self) -> Result<(), Error> {
        self.request.notify(self.bytes?)
    }
}

impl<M: Message, C> fmt::Debug for Asking<'_, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("message", &M::NAME).finish_non_exhaustive()
    }
}

/// A message as it is sent.
pub(crate) fn encoded<M: Message>(message: &M) -> Result<Vec<u8>, Kind> {
    let mut bytes = Vec::new();
    match M::Codec::encode(message, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Kind::InvalidInput(format!("`{}` cannot be written: {error}", M::NAME))),
    }
}

/// What came of a call.
pub(crate) fn answered<M: Message>(response: Result<Response, Error>) -> Answered<M> {
    match response {
        Ok(response) => reply::<M>(response.payload()),
        Err(error) => Err(failed::<M>(error)),
    }
}

/// One asks for more of a call whose end was told.
pub(super) fn ended<M: Message>() -> AskError<M::Error> {
    let error = Error::invalid("call", "what became of this call was told before");
    AskError::Call(error.of_type(M::TYPE))
}

/// What a reply means whose code is 0.
pub(super) fn reply<M: Message>(payload: &[u8]) -> Answered<M> {
    let reply = M::Codec::decode(payload);
    reply.map_err(|error| AskError::Call(unreadable::<M>("the reply", &error)))
}

/// What an error means: one of the application's own has a positive code, and is one.
pub(super) fn failed<M: Message>(error: Error) -> AskError<M::Error> {
    let is_apps = error.result_code().is_some_and(|rc| rc.code() > 0) && !error.is_explanation();
    let read = if is_apps { M::Error::read::<M::Codec>(error.payload()) } else { None };
    match read {
        Some(Ok(apps)) => AskError::App(apps),
        Some(Err(why)) => AskError::Call(error.with_more(&format!("it is no error of `{}`: {why}", M::NAME))),
        None => AskError::Call(error),
    }
}

/// What a part of a reply tells.
pub(super) fn progress<M: Message>(part: &[u8]) -> Result<M::Progress, AskError<M::Error>> {
    let progress = M::Codec::decode(part);
    progress.map_err(|error| AskError::Call(unreadable::<M>("the progress", &error)))
}

/// The other side speaks of something else.
#[cold]
fn unreadable<M: Message>(what: &str, error: &CodecError) -> Error {
    let kind = Kind::Protocol(format!("{what} to `{}` cannot be read: {error}", M::NAME));
    Error::of_server("call", None, kind).of_type(M::TYPE).with_executed(Executed::Perhaps)
}
