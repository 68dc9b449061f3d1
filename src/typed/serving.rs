//! The server's side: handlers that take and give values.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;

use sidewire_wire::{Failure, ResultCode};

use super::{Fails, Message, Never, decode, encode};
use crate::reactor::Unsent;
use crate::server::{
    self, AnyThread, Cancellation, OneThread, Reply, ReplyStream, Request, Server, TypeInfo,
};

/// What a handler answers.
type Answer<M> = Result<<M as Message>::Reply, <M as Message>::Error>;

/// The two kinds of servers take handlers that may go to other threads, and handlers that need not.
macro_rules! serves {
    ($threads:ty $(, $send:ident)?) => {
        impl<S> Server<S, $threads> {
            /// Serves a message: the handler is given the state and the message, and returns what is answered.
            ///
            /// As with [`on`](Server::on) it answers at once, while all others wait, and may panic. A request whose bytes
            /// are no such message is answered "malformed" (-4), with the message's name and the field that can't be
            /// read, and does not reach it. An answer that can't be encoded is "handler failed" (-10) in its place, and
            /// one that is longer than the client takes "too large" (-3).
            ///
            /// ```
            /// # #[derive(serde::Serialize, serde::Deserialize)]
            /// # struct Find { name: String }
            /// sidewire::messages! {
            ///     1 => Find -> Option<u32>;
            /// }
            ///
            /// let mut server = sidewire::Server::new(vec![String::from("one"), String::from("two")]);
            /// server.serve::<Find>(|names, find| {
            ///     let index = names.iter().position(|name| *name == find.name);
            ///     Ok(index.map(u32::try_from).transpose()?)
            /// });
            /// ```
            ///
            /// # Panics
            /// If the number lies beyond the dispatch table ([`ServerBuilder::types`](crate::ServerBuilder::types)), or has a
            /// handler already.
            #[track_caller]
            pub fn serve<M: Message>(
                &mut self,
                mut handler: impl FnMut(&mut S, M) -> Answer<M> $(+ $send)? + 'static,
            ) {
                self.serve_with(move |state, message, _request| handler(state, message));
            }

            /// The same for a handler that also wants to know who asks, or [publishes](Request::publish_event)
            /// something: it is given the [`Request`], too.
            ///
            /// # Panics
            /// As [`serve`](Server::serve).
            #[track_caller]
            pub fn serve_with<M: Message>(
                &mut self,
                handler: impl FnMut(&mut S, M, &Request<'_>) -> Answer<M> $(+ $send)? + 'static,
            ) {
                self.on_type(info::<M>(), at_once(handler));
            }

            /// The same for a handler that leaves the answer to a thread that has the time: it is given a
            /// [`Responder`], which also tells the progress of messages that have any.
            ///
            /// ```
            /// # #[derive(serde::Serialize, serde::Deserialize)]
            /// # struct Sum { numbers: Vec<u64> }
            /// # #[derive(serde::Serialize, serde::Deserialize)]
            /// # struct Percent(u8);
            /// sidewire::messages! {
            ///     1 => Sum -> u64, progress Percent;
            /// }
            ///
            /// let mut server = sidewire::Server::new(());
            /// server.serve_later::<Sum>(|(), sum, _request, mut responder| {
            ///     std::thread::spawn(move || {
            ///         if responder.progress(Percent(0)).is_err() {
            ///             return; // nobody waits for it any more
            ///         }
            ///         responder.reply(sum.numbers.iter().sum());
            ///     });
            /// });
            /// ```
            ///
            /// # Panics
            /// As [`serve`](Server::serve).
            #[track_caller]
            pub fn serve_later<M: Message>(
                &mut self,
                handler: impl FnMut(&mut S, M, &Request<'_>, Responder<M>) $(+ $send)? + 'static,
            ) {
                self.on_type(info::<M>(), later(handler));
            }
        }
    };
}

serves!(AnyThread, Send);
serves!(OneThread);

/// What a server knows of it.
fn info<M: Message>() -> TypeInfo {
    TypeInfo { number: M::TYPE, name: M::NAME }
}

/// The untyped handler.
fn at_once<S, M, F>(
    mut handler: F,
) -> impl FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + 'static
where
    M: Message,
    F: FnMut(&mut S, M, &Request<'_>) -> Answer<M> + 'static,
{
    move |state, request, reply| match handler(state, decode::<M>(request.payload())?, request) {
        Ok(answer) => encode::<M::Codec, _>("the reply", &answer, reply),
        Err(error) => {
            let code = error.write::<M::Codec>(reply)?;
            reply.set_result(code);
            Ok(())
        }
    }
}

/// The same.
fn later<S, M, F>(
    mut handler: F,
) -> impl FnMut(&mut S, &Request<'_>, &mut Reply<'_>) -> Result<(), Failure> + 'static
where
    M: Message,
    F: FnMut(&mut S, M, &Request<'_>, Responder<M>) + 'static,
{
    move |state, request, reply| {
        let message = decode::<M>(request.payload())?;
        let responder = Responder::of(reply)?;
        handler(state, message, request, responder);
        Ok(())
    }
}

/// Answers one message later, once, from whichever thread: from [`Server::serve_later`].
///
/// One that is dropped answers "handler failed" (-10).
#[must_use = "dropping it answers \"handler failed\""]
pub struct Responder<M: Message> {
    way: Way,
    message: PhantomData<fn() -> M>,
}

/// How it answers.
#[derive(Debug)]
enum Way {
    /// With one reply.
    Whole(server::Responder),
    /// With progress first.
    Parts(ReplyStream),
}

impl<M: Message> Responder<M> {
    fn of(reply: &mut Reply<'_>) -> Result<Responder<M>, Failure> {
        let has_progress = TypeId::of::<M::Progress>() != TypeId::of::<Never>();
        let stream = if has_progress { Some(reply.stream()) } else { None };
        let way = match stream {
            Some(Ok(stream)) => Way::Parts(stream),
            // In a layout without parts only the end is told.
            Some(Err(failure)) if failure.result_code() != ResultCode::FEATURE_MISSING => {
                return Err(failure);
            }
            Some(Err(_)) | None => Way::Whole(reply.defer()?),
        };
        Ok(Responder { way, message: PhantomData })
    }

    /// Tells how far it is, and waits while as much as may wait does; on the server's own thread, which would be held
    /// up, it says "full" at once. A client that only waits for the end, or speaks a layout without parts, is
    /// not told.
    ///
    /// # Errors
    /// What has become of it; [`Unsent::Unwanted`] once nobody waits for the answer any more.
    pub fn progress(&mut self, progress: M::Progress) -> Result<(), Unsent> {
        self.tell(&progress, |stream, part| stream.send(part))
    }

    /// The same if it need not wait.
    ///
    /// # Errors
    /// As [`progress`](Responder::progress); [`Unsent::Full`] if it would wait.
    pub fn try_progress(&mut self, progress: M::Progress) -> Result<(), Unsent> {
        self.tell(&progress, |stream, part| stream.try_send(part))
    }

    fn tell(
        &mut self,
        progress: &M::Progress,
        send: impl FnOnce(&mut ReplyStream, Vec<u8>) -> Result<(), Unsent>,
    ) -> Result<(), Unsent> {
        let Way::Parts(stream) = &mut self.way else {
            return self.cancellation().reason().map_or(Ok(()), |why| Err(Unsent::Unwanted(why)));
        };
        let mut part = Vec::new();
        match encode::<M::Codec, _>("progress", progress, &mut part) {
            Ok(()) => send(stream, part),
            Err(failure) => {
                log::error!("{}: {failure}", M::NAME);
                Ok(())
            }
        }
    }

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
            Ok((rc, payload)) => match self.way {
                Way::Whole(responder) => responder.finish(rc, payload),
                Way::Parts(stream) => stream.finish(rc, payload),
            },
            Err(failure) => match self.way {
                Way::Whole(responder) => responder.fail(failure),
                Way::Parts(stream) => stream.fail(failure),
            },
        }
    }

    /// By what those who work on it hear that nobody waits for it any more.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        match &self.way {
            Way::Whole(responder) => responder.cancellation(),
            Way::Parts(stream) => stream.cancellation(),
        }
    }
}

impl<M: Message> fmt::Debug for Responder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Responder").field(&M::NAME).field(&self.way).finish()
    }
}

/// An answer's result code and payload.
pub(crate) fn written<M: Message>(answer: Answer<M>) -> Result<(ResultCode, Vec<u8>), Failure> {
    let mut payload = Vec::new();
    let rc = match answer {
        Ok(reply) => {
            encode::<M::Codec, _>("the reply", &reply, &mut payload)?;
            ResultCode::OK
        }
        Err(error) => error.write::<M::Codec>(&mut payload)?,
    };
    Ok((rc, payload))
}
