//! Calls with values that are under way.

use std::fmt;
use std::marker::PhantomData;
use std::task::Poll;
use std::time::Duration;

use sidewire_platform::Endpoint;

use super::asking::{Answered, answered, ended, failed, progress, reply};
use super::{AskError, Message};
use crate::client::{self, Response};
use crate::error::Result;

/// A call under way of any client, for threads, tasks or tests, that takes and gives bytes.
pub trait UnderWay {
    /// Where it goes.
    fn endpoint(&self) -> Endpoint;
    /// Nobody needs more of it.
    fn cancel(&mut self);
    /// The final reply, where that is kept.
    fn response(&self) -> Option<&Response> {
        None
    }
}

/// A message that was asked, to be waited for; from [`Asking::start`](super::Asking::start). All else is as with
/// [`Pending`](crate::Pending).
#[must_use = "the call is cancelled when this is dropped"]
pub struct Pending<M: Message, C = client::Pending> {
    pub(crate) call: C,
    message: PhantomData<fn() -> M>,
}

impl<M: Message, C: UnderWay> Pending<M, C> {
    pub(crate) fn of(call: C) -> Pending<M, C> {
        Pending { call, message: PhantomData }
    }

    /// Tells the server that nobody needs the answer any more: as [`Pending::cancel`](crate::Pending::cancel).
    pub fn cancel(&mut self) {
        self.call.cancel();
    }

    /// What this means that came of it.
    pub(crate) fn answered(&self, response: Result<Response>) -> Answered<M> {
        answered::<M>(response).map_err(|error| error.at(&self.call.endpoint()))
    }
}

impl<M: Message> Pending<M> {
    /// What became of it, if that is known by now: as [`Pending::poll`](crate::Pending::poll).
    ///
    /// # Errors
    /// As [`wait`](Pending::wait).
    pub fn poll(&mut self) -> Option<Result<M::Reply, AskError<M::Error>>> {
        let response = self.call.poll()?;
        Some(self.answered(response))
    }

    /// Waits for the answer, within the call's own time limit.
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask) and [`Pending::wait`](crate::Pending::wait).
    pub fn wait(self) -> Result<M::Reply, AskError<M::Error>> {
        let endpoint = self.call.endpoint().clone();
        answered::<M>(self.call.wait()).map_err(|error| error.at(&endpoint))
    }

    /// The same, but waits no longer than `timeout`. `None`: by then it was not known, and the call goes on.
    ///
    /// # Errors
    /// As [`wait`](Pending::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<M::Reply, AskError<M::Error>>> {
        let response = self.call.wait_timeout(timeout)?;
        Some(self.answered(response))
    }
}

impl<M: Message, C: fmt::Debug> fmt::Debug for Pending<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&M::NAME).field(&self.call).finish()
    }
}

/// What comes of a message that tells its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "so that a match on it is complete")]
pub enum Part<P, R> {
    /// How far it is.
    Progress(P),
    /// The answer, which comes last.
    Reply(R),
}

/// The progress of a message, and then its answer; from [`Asking::stream`](super::Asking::stream). Dropped before
/// its end it cancels the call.
///
/// As an iterator it waits for each part, as [`Parts`](crate::Parts) do. It ends behind the answer, or behind an
/// error: the application's, or the call's. Progress that can't be read is an error, too, and ends it.
#[must_use = "the call is cancelled when this is dropped"]
pub struct Parts<M: Message, C = client::Parts> {
    /// `None` at its end.
    pub(crate) parts: Option<C>,
    message: PhantomData<fn() -> M>,
}

/// One item.
pub(crate) type Item<M> =
    Result<Part<<M as Message>::Progress, <M as Message>::Reply>, AskError<<M as Message>::Error>>;

impl<M: Message, C: UnderWay> Parts<M, C> {
    pub(crate) fn of(parts: C) -> Parts<M, C> {
        Parts { parts: Some(parts), message: PhantomData }
    }

    /// Tells the server that nobody needs more: as [`Parts::cancel`](crate::Parts::cancel).
    pub fn cancel(&mut self) {
        if let Some(parts) = &mut self.parts {
            parts.cancel();
        }
    }

    /// What this is that comes next. The end of the untyped parts is the answer.
    pub(crate) fn item(&mut self, next: Option<Result<Vec<u8>>>) -> Option<Item<M>> {
        let parts = self.parts.take()?;
        let item = match next {
            Some(Ok(part)) => progress::<M>(&part).map(Part::Progress),
            Some(Err(error)) => Err(failed::<M>(error)),
            None => reply::<M>(parts.response()?.payload()).map(Part::Reply),
        };
        let item = item.map_err(|error| error.at(&parts.endpoint()));
        if let Ok(Part::Progress(_)) = item {
            self.parts = Some(parts);
        }
        Some(item)
    }
}

impl<M: Message> Parts<M> {
    /// Waits for the answer, and tells `progress` of what comes before.
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask); and [`is_invalid_input`](crate::Error::is_invalid_input) if the end was told
    /// before.
    pub fn wait(self, mut progress: impl FnMut(M::Progress)) -> Result<M::Reply, AskError<M::Error>> {
        for part in self {
            match part? {
                Part::Progress(part) => progress(part),
                Part::Reply(reply) => return Ok(reply),
            }
        }
        Err(ended::<M>())
    }

    /// The next part, if it has come; `Ready(None)` behind the end. Never waits.
    pub fn poll(&mut self) -> Poll<Option<Item<M>>> {
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        parts.poll().map(|next| self.item(next))
    }
}

impl<M: Message, C: UnderWay + Iterator<Item = Result<Vec<u8>>>> Iterator for Parts<M, C> {
    type Item = Item<M>;

    fn next(&mut self) -> Option<Item<M>> {
        let next = self.parts.as_mut()?.next();
        self.item(next)
    }
}

impl<M: Message, C: fmt::Debug> fmt::Debug for Parts<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parts").field(&M::NAME).field(&self.parts).finish()
    }
}

impl UnderWay for client::Pending {
    fn endpoint(&self) -> Endpoint {
        self.endpoint().clone()
    }

    fn cancel(&mut self) {
        self.cancel();
    }
}

impl UnderWay for client::Parts {
    fn endpoint(&self) -> Endpoint {
        self.endpoint().clone()
    }

    fn cancel(&mut self) {
        self.cancel();
    }

    fn response(&self) -> Option<&Response> {
        self.response()
    }
}
