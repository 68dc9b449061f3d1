//! Calls with values that are under way.

use std::fmt;
use std::marker::PhantomData;
use std::task::Poll;
use std::time::Duration;

use super::asking::{answered, failed, progress, reply};
use super::{AskError, Message};
use crate::client::{self, Response};
use crate::error::Error;

/// A message that was asked, to be waited for; from [`Asking::start`](super::Asking::start). All else is as with
/// [`Pending`](crate::Pending).
#[must_use = "the call is cancelled when this is dropped"]
pub struct Pending<M: Message> {
    call: client::Pending,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Pending<M> {
    pub(super) fn of(call: client::Pending) -> Pending<M> {
        Pending { call, message: PhantomData }
    }

    /// What became of it, if that is known by now: as [`Pending::poll`](crate::Pending::poll).
    ///
    /// # Errors
    /// As [`wait`](Pending::wait).
    pub fn poll(&mut self) -> Option<Result<M::Reply, AskError<M::Error>>> {
        let response = self.call.poll()?;
        Some(answered::<M>(response).map_err(|error| error.at(self.call.endpoint())))
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
        Some(answered::<M>(response).map_err(|error| error.at(self.call.endpoint())))
    }

    /// Tells the server that nobody needs the answer any more: as [`Pending::cancel`](crate::Pending::cancel).
    pub fn cancel(&mut self) {
        self.call.cancel();
    }
}

impl<M: Message> fmt::Debug for Pending<M> {
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
pub struct Parts<M: Message> {
    /// `None` at its end.
    parts: Option<client::Parts>,
    message: PhantomData<fn() -> M>,
}

/// One item.
pub(crate) type Item<M> =
    Result<Part<<M as Message>::Progress, <M as Message>::Reply>, AskError<<M as Message>::Error>>;

/// What this is that comes next. The end of the untyped parts is the answer.
pub(crate) fn item<M: Message>(
    next: Option<Result<Vec<u8>, Error>>,
    answer: Option<&Response>,
) -> Option<Item<M>> {
    Some(match next {
        Some(Ok(part)) => progress::<M>(&part).map(Part::Progress),
        Some(Err(error)) => Err(failed::<M>(error)),
        None => reply::<M>(answer?.payload()).map(Part::Reply),
    })
}

impl<M: Message> Parts<M> {
    pub(super) fn of(parts: client::Parts) -> Parts<M> {
        Parts { parts: Some(parts), message: PhantomData }
    }

    /// Waits for the answer, and tells `progress` of what comes before.
    ///
    /// # Errors
    /// As [`Client::ask`](crate::Client::ask); and [`is_invalid_input`](Error::is_invalid_input) if the end was told
    /// before.
    pub fn wait(self, mut progress: impl FnMut(M::Progress)) -> Result<M::Reply, AskError<M::Error>> {
        for part in self {
            match part? {
                Part::Progress(part) => progress(part),
                Part::Reply(reply) => return Ok(reply),
            }
        }
        let error = Error::invalid("call", "what became of this call was told before");
        Err(AskError::Call(error.of_type(M::TYPE)))
    }

    /// Tells the server that nobody needs more: as [`Parts::cancel`](crate::Parts::cancel).
    pub fn cancel(&mut self) {
        if let Some(parts) = &mut self.parts {
            parts.cancel();
        }
    }

    /// The next part, if it has come; `Ready(None)` behind the end. Never waits.
    pub fn poll(&mut self) -> Poll<Option<Item<M>>> {
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        parts.poll().map(|next| self.item(next))
    }

    fn item(&mut self, next: Option<Result<Vec<u8>, Error>>) -> Option<Item<M>> {
        let parts = self.parts.take()?;
        let item = item::<M>(next, parts.response())?.map_err(|error| error.at(parts.endpoint()));
        if let Ok(Part::Progress(_)) = item {
            self.parts = Some(parts);
        }
        Some(item)
    }
}

impl<M: Message> Iterator for Parts<M> {
    type Item = Item<M>;

    fn next(&mut self) -> Option<Item<M>> {
        let next = self.parts.as_mut()?.next();
        self.item(next)
    }
}

impl<M: Message> fmt::Debug for Parts<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parts").field(&M::NAME).field(&self.parts).finish()
    }
}
