//! The other direction: servers that ask their clients with values.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::asking::{Answered, answered, encoded, failed, reply};
use super::serving::written;
use super::{AskError, Fails, Message, decode, encode};
use crate::client::{self, Connect, PeerRequest};
use crate::error::{Error, Kind, Result};
use crate::server::PeerHandle;

impl Connect {
    /// Serves a message that the server asks: as [`on`](Connect::on), with values. One whose bytes can't be read is
    /// answered "malformed" (-4), and does not reach the handler.
    ///
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Confirm { question: String }
    /// use sidewire::Connect;
    ///
    /// sidewire::messages! { 1 => Confirm -> bool; }
    ///
    /// let client = Connect::to("local:com.example.app")?
    ///     .serve::<Confirm>(|confirm| Ok(confirm.question.ends_with('?')))
    ///     .open()?;
    /// client.run()?;
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// A second handler of the same number replaces the first.
    pub fn serve<M: Message>(
        self,
        handler: impl Fn(M) -> Result<M::Reply, M::Error> + Send + Sync + 'static,
    ) -> Connect {
        self.serve_with(move |message, _request| handler(message))
    }

    /// The same for a handler that asks the server in turn, or looks whether somebody still waits: it is given the
    /// [`PeerRequest`], too.
    pub fn serve_with<M: Message>(
        self,
        handler: impl Fn(M, &PeerRequest<'_>) -> Result<M::Reply, M::Error> + Send + Sync + 'static,
    ) -> Connect {
        self.on(M::TYPE, move |request, reply| match handler(decode::<M>(request.payload())?, request) {
            Ok(answer) => encode::<M::Codec, _>("the reply", &answer, reply),
            Err(error) => {
                let code = error.write::<M::Codec>(reply)?;
                reply.set_result(code);
                Ok(())
            }
        })
    }

    /// The same for a handler that leaves the answer to another thread: it is given a [`PeerResponder`].
    pub fn serve_later<M: Message>(
        self,
        handler: impl Fn(M, &PeerRequest<'_>, PeerResponder<M>) + Send + Sync + 'static,
    ) -> Connect {
        self.on(M::TYPE, move |request, reply| {
            let message = decode::<M>(request.payload())?;
            let responder = PeerResponder { responder: reply.defer()?, message: PhantomData };
            handler(message, request, responder);
            Ok(())
        })
    }
}

impl PeerRequest<'_> {
    /// Asks the server a message on the same connection: as [`call`](PeerRequest::call).
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask).
    pub fn ask<M: Message>(&self, message: &M) -> Result<M::Reply, AskError<M::Error>> {
        let bytes = encoded(message);
        let bytes = bytes.map_err(|why| Error::new("call", self.endpoint(), why).of_type(M::TYPE))?;
        answered::<M>(self.call(M::TYPE, bytes))
    }
}

/// Answers one message of the server's later, once, from whichever thread: from [`Connect::serve_later`]. Dropped
/// without an answer it answers "handler failed" (-10).
#[must_use = "dropping it answers \"handler failed\""]
pub struct PeerResponder<M: Message> {
    responder: client::PeerResponder,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> PeerResponder<M> {
    /// Answers.
    pub fn reply(self, reply: M::Reply) {
        self.finish(Ok(reply));
    }

    /// Answers that it could not be done.
    pub fn fail(self, error: M::Error) {
        self.finish(Err(error));
    }

    /// The one or the other.
    pub fn finish(self, answer: Result<M::Reply, M::Error>) {
        match written::<M>(answer) {
            Ok((rc, payload)) => self.responder.finish(rc, payload),
            Err(failure) => self.responder.fail(failure),
        }
    }

    /// Whether nobody waits for the answer any more: as [`PeerResponder::is_cancelled`](crate::PeerResponder::is_cancelled).
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.responder.is_cancelled()
    }
}

impl<M: Message> fmt::Debug for PeerResponder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerResponder").field(&M::NAME).field(&self.responder).finish()
    }
}

impl<S> PeerHandle<S> {
    /// Asks the client a message. `then` runs on the server's thread, with what the client has answered or why it
    /// has not: as [`call`](PeerHandle::call).
    ///
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Confirm { question: String }
    /// use std::time::Duration;
    /// use sidewire::{ConnectionId, Remote, Result};
    ///
    /// sidewire::messages! { 1 => Confirm -> bool; }
    ///
    /// fn ask(remote: &Remote<u32>, client: ConnectionId) -> Result<()> {
    ///     let confirm = Confirm { question: "Really?".into() };
    ///     remote.peer(client).ask(&confirm, Duration::from_secs(60), |confirmed, answer| {
    ///         if matches!(answer, Ok(true)) {
    ///             *confirmed += 1;
    ///         }
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`call`](PeerHandle::call); [`is_invalid_input`](Error::is_invalid_input) if it can't be encoded.
    pub fn ask<M: Message>(
        &self,
        message: &M,
        timeout: impl Into<Option<Duration>>,
        then: impl FnOnce(&mut S, Result<M::Reply, AskError<M::Error>>) + Send + 'static,
    ) -> Result<()> {
        let bytes = encoded(message).map_err(|why| Error::of_server("call", None, why).of_type(M::TYPE))?;
        self.call(M::TYPE, bytes, timeout, |state, answer| then(state, said::<M>(answer)))
    }
}

/// What a client has answered.
fn said<M: Message>(answer: Result<crate::Answer<'_>>) -> Answered<M> {
    let answer = answer?;
    match answer.result_code() {
        rc if rc.is_ok() => reply::<M>(answer.payload()),
        rc => {
            let (payload, is_text) = (answer.payload().to_vec(), answer.is_explanation());
            let kind = Kind::Answered { rc, payload, is_text, may_be_refusal: false };
            Err(failed::<M>(Error::of_server("call", None, kind).of_type(M::TYPE)))
        }
    }
}
