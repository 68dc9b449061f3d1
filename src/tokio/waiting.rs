//! How tasks wait on a connection. For what, and who is woken, is the business of the wire's
//! [`Caller`](sidewire_wire::caller::Caller).
//!
//! Tasks look themselves what has come when they are polled, before they wait; and when a time limit passes, since a bell
//! that is late says nothing of what has come.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use ::tokio::task::coop::poll_proceed;
use ::tokio::time::{Sleep, sleep_until};

use super::medium::Connection;
use crate::client::Guard;
use crate::error::Result;
use sidewire_wire::caller::{Outcome, Seat, Step};
use sidewire_wire::{Executed, ResultCode};

/// What may be under way in place of waiting at a seat.
pub(super) struct Going<T>(Option<Pin<Box<dyn Future<Output = Result<T>> + Send>>>);

impl<T> Going<T> {
    pub(super) fn nowhere() -> Going<T> {
        Going(None)
    }

    /// Begins this unless it has begun, and says what came of it.
    pub(super) fn poll<F>(&mut self, begin: impl FnOnce() -> F, context: &mut Context<'_>) -> Poll<Result<T>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let going = self.0.get_or_insert_with(|| Box::pin(begin()));
        let came = ready!(going.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(came)
    }
}

impl<T> fmt::Debug for Going<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Going(..)" } else { "Going(None)" })
    }
}

/// What wakes a task in time.
#[derive(Debug)]
pub(super) struct Timer {
    /// For how long it waits in all.
    pub(super) deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(super) fn until(deadline: Option<Instant>) -> Timer {
        Timer { deadline, sleep: None }
    }

    /// Whether a time has come for which it has waited.
    fn is_late(&self, now: Instant) -> bool {
        let at = self.sleep.as_ref().map(|sleep| sleep.deadline().into_std());
        [at, self.deadline].into_iter().flatten().any(|at| at <= now)
    }

    /// Whether it is that late; the task is woken when it is.
    fn poll(&mut self, at: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at.map(Into::into) else {
            self.sleep = None;
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(context)
    }
}

impl Connection {
    /// What becomes of a seat, with the lock; `None`: there is nobody to wait any more.
    pub(super) fn poll_seat<'a>(
        &'a self,
        seat: Seat,
        timer: &mut Timer,
        context: &mut Context<'_>,
    ) -> Poll<(Guard<'a, Waker>, Option<Outcome>)> {
        // Others get their turn, too, where everything is there already.
        let turn = ready!(poll_proceed(context));
        let (deadline, here) = (timer.deadline, context.waker());
        let mut state = self.lock();
        state.now = Instant::now();
        match state.caller.waker_mut(seat) {
            // The task may have moved.
            Some(waker) => waker.clone_from(here),
            None => state.caller.attend(seat, deadline, here.clone()),
        }
        let mut is_late = timer.is_late(state.now);
        loop {
            self.send(&mut state);
            if std::mem::take(&mut is_late) {
                self.look(&mut state);
                state = self.tell_news(state);
            }
            let now = state.now;
            let until = match state.caller.poll(seat, now) {
                Step::Done(outcome) => {
                    turn.made_progress();
                    return Poll::Ready((state, Some(in_time(outcome, deadline))));
                }
                Step::NotYet => return Poll::Ready((state, None)),
                Step::Look => {
                    self.look(&mut state);
                    continue;
                }
                Step::Read { until } | Step::Wait { until } => until,
            };
            if let Some(incoming) = self.take_work(&mut state) {
                state = self.serve(state, &[seat], deadline, incoming, || here.clone());
                continue;
            }
            if !state.caller.is_somebody_reading() {
                let read = self.read_for_all(&mut state);
                state = self.tell_news(state);
                match read {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            let until = until.into_iter().chain(state.caller.look_at(now)).min();
            ready!(timer.poll(until, context));
            state.now = until.into_iter().chain([Instant::now()]).max().unwrap_or(now);
            is_late = true;
        }
    }
}

/// Timers are late by up to a millisecond, so the server, which was told the time limit, may say first that it is over.
fn in_time(outcome: Outcome, deadline: Option<Instant>) -> Outcome {
    match outcome {
        Outcome::Reply(reply)
            if reply.rc == ResultCode::TIMED_OUT && deadline.is_some_and(|at| at <= Instant::now()) =>
        {
            Outcome::TimedOut(Executed::Perhaps)
        }
        outcome => outcome,
    }
}
