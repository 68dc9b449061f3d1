//! Replies that come in parts.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_core::Stream;
#[cfg(feature = "serde")]
use sidewire_platform::Endpoint;

use super::line::deadline_in;
use super::waiting::{Tasks, Timer};
use crate::client::{Coming, Response};
use crate::error::Result;
use sidewire_wire::caller::Outcome;

/// The parts of one reply, as a [`Stream`]; from [`Client::stream`](super::Client::stream). Dropped before its end, it
/// cancels the call.
///
/// It waits for each part for as long as the request's time limit says, from when it is asked for; the whole may take as
/// long as it likes. It ends behind the last part. If the call went wrong, with a result code other than 0 or because the
/// server has gone, that is the last item. What the final reply says besides is the [`response`](Parts::response).
///
/// What is taken slowly comes slowly: the server may send
/// [`ConnectionLimits::stream_credit`](crate::ConnectionLimits::stream_credit) bytes ahead, and then waits.
#[derive(Debug)]
#[must_use = "the call is cancelled when this is dropped"]
pub struct Parts {
    coming: Coming<Tasks>,
    /// Of the part that is waited for.
    deadline: Option<Instant>,
    timer: Timer,
}

impl Parts {
    pub(super) fn of(coming: Coming<Tasks>) -> Parts {
        Parts { coming, deadline: None, timer: Timer::default() }
    }

    /// The final reply, once all parts were taken, if its result code is 0.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        self.coming.response()
    }

    /// Tells the server that nobody needs more. Parts that were under way still come, and then the end: usually
    /// "cancelled" (-8). Who waits for neither just drops it.
    pub fn cancel(&mut self) {
        self.coming.cancel();
    }

    /// The next part; `None` behind the last.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    #[cfg(feature = "serde")]
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.coming.connection.endpoint()
    }
}

impl Stream for Parts {
    type Item = Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Parts { coming, deadline, timer } = &mut *self;
        let Some(seat) = coming.seat() else { return Poll::Ready(None) };
        if deadline.is_none() {
            *deadline = deadline_in(coming.timeout);
        }
        let (mut state, outcome) = ready!(coming.connection.poll_seat(seat, *deadline, timer, context));
        if let Some(Outcome::Part(_)) = outcome {
            // The credit that was given back.
            coming.connection.offer(&mut state);
            *deadline = None;
        }
        drop(state);
        Poll::Ready(coming.come(outcome))
    }
}
