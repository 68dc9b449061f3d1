//! All calls, from when they come until they are answered: one task, since a call that is answered at once would cost twice as
//! much with one of its own, and others that hand it on. One that lasts longer than most is [relayed](Relay) in
//! a task of its own, and so is one whose reply comes in parts.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::Stream;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

use super::call::{Admitted, Call, take};
use super::open::Open;
use super::relay::Relay;
use super::tenure::Serving;

/// Calls are taken for so long in one go, before all else is looked at.
const TURN: Duration = Duration::from_millis(5);
/// Calls that leave for the local server together, if so many have come: it answers the first while the next are taken.
const TOGETHER: usize = 16;
/// For what comes while the broker is told that we leave; and then for saying that it comes too late.
const LEAVING: Duration = Duration::from_secs(1);

/// Why what comes later still is refused.
const ENDED: &str = "the bridge that served it has ended";

/// What becomes of calls that are not taken yet when we leave: they are taken, or refused with these words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leave {
    pub(super) refusal: Option<&'static str>,
}

/// What it is told, and tells.
#[derive(Debug)]
pub(super) struct Signals {
    /// From then on calls are taken, and not only let in.
    pub(super) begin: oneshot::Receiver<()>,
    pub(super) leave: oneshot::Receiver<Leave>,
    /// None are taken any more.
    pub(super) over: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(super) struct Intake {
    serving: Arc<Serving>,
    calls: Subscriber,
    /// Those that have come and wait for their turn.
    waiting: VecDeque<Admitted>,
    /// Those that the local server has, for no long time.
    open: Open<Call>,
    /// Until when one is taken after the other.
    turn: Option<Instant>,
    /// How many were since those that are open were looked at.
    taken: usize,
}

impl Intake {
    /// Until it is dropped, since there may be calls to answer.
    pub(super) async fn run(serving: Arc<Serving>, calls: Subscriber, mut signals: Signals) {
        let open = Open::of(poll_fn(|context| Poll::Ready(context.waker().clone())).await);
        let mut intake = Intake { serving, calls, waiting: VecDeque::new(), open, turn: None, taken: 0 };
        let _ = intake.beside(&mut signals.begin).await;
        // Whoever would say that we leave is gone only where we are, too.
        let Ok(leave) = intake.serve(&mut signals.leave).await else { return };
        let is_drained = intake.leave(leave).await;
        let _ = signals.over.send(());
        intake.stay(is_drained).await;
    }

    /// Takes what comes, until we leave: not in the middle of taking a call.
    async fn serve(
        &mut self,
        leave: &mut oneshot::Receiver<Leave>,
    ) -> Result<Leave, oneshot::error::RecvError> {
        loop {
            let next = poll_fn(|context| match Pin::new(&mut *leave).poll(context) {
                Poll::Ready(leave) => Poll::Ready(Err(leave)),
                Poll::Pending => self.poll_next(context).map(Ok),
            });
            match next.await {
                Err(leave) => return leave,
                Ok(Some(admitted)) => self.take(admitted).await,
                // The broker's connection is over, and so are we.
                Ok(None) => return self.beside(leave).await,
            }
        }
    }

    /// Others get what is sent from now on. What was sent to us is taken or refused. Says whether the broker was told.
    async fn leave(&mut self, leave: Leave) -> bool {
        let begun = Instant::now();
        let (soon, last) = (begun + LEAVING, begun + 2 * LEAVING);
        let is_drained = self.drain(LEAVING).await;
        while let Ok(Some(admitted)) = timeout_at(last, poll_fn(|context| self.poll_next(context))).await {
            let (refusal, end) = match Instant::now() < soon {
                true => (leave.refusal, soon),
                false => (Some(ENDED), last),
            };
            let Some(why) = refusal else {
                self.take(admitted).await;
                continue;
            };
            let serving = Arc::clone(&self.serving);
            let refused = pin!(timeout_at(end, admitted.refuse(&serving, why)));
            let _ = self.beside(refused).await;
        }
        is_drained
    }

    /// Answers what was taken. What comes all the same is refused.
    async fn stay(&mut self, is_drained: bool) {
        if !is_drained {
            self.drain(Duration::MAX).await;
        }
        while let Some(admitted) = poll_fn(|context| self.poll_next(context)).await {
            admitted.refuse_now(&self.serving, ENDED);
        }
        self.beside(pending::<()>()).await;
    }

    /// Ends the subscription, if the broker takes that in time.
    async fn drain(&mut self, limit: Duration) -> bool {
        let Intake { serving, calls, open, .. } = self;
        let mut drained = pin!(timeout(limit, calls.drain()));
        let drained = poll_fn(|context| {
            answer(serving, open, Instant::now());
            drained.as_mut().poll(context)
        });
        drained.await.is_ok()
    }

    /// It is sent to the local server before the next one is, so that the order remains.
    async fn take(&mut self, admitted: Admitted) {
        let serving = Arc::clone(&self.serving);
        // Where it is: it is large, and seldom waits.
        let taking = pin!(take(&serving, admitted));
        let Some(call) = self.beside(taking).await else { return };
        if call.may_last() {
            let late = call.first_sign();
            self.open.insert(call, late);
        } else {
            tokio::spawn(Relay::of(call, Arc::clone(&serving)).run(None));
        }
    }

    /// Does this, and lets in and answers others while it waits.
    async fn beside<F: Future + Unpin>(&mut self, mut work: F) -> F::Output {
        poll_fn(|context| {
            let done = Pin::new(&mut work).poll(context);
            if done.is_pending() {
                self.let_in(context);
                answer(&self.serving, &mut self.open, Instant::now());
            }
            done
        })
        .await
    }

    /// The next call whose turn it is, and answers others; `None` behind the last.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Admitted>> {
        let now = Instant::now();
        if self.taken >= TOGETHER {
            self.answer(now);
        }
        if now > *self.turn.get_or_insert_with(|| now + TURN) {
            self.turn = None;
            // What comes faster than it is taken counts from here on.
            self.let_in(context);
            self.answer(now);
            // Others first, and the runtime's look at what has come for them: it wakes us behind that.
            let _ = pin!(yield_now()).poll(context);
            return Poll::Pending;
        }
        if let Some(first) = self.waiting.pop_front() {
            self.taken += 1;
            return Poll::Ready(Some(first));
        }
        while let Poll::Ready(next) = Pin::new(&mut self.calls).poll_next(context) {
            let Some(message) = next else { return Poll::Ready(None) };
            if let Some(admitted) = admit(&self.serving, message, now) {
                self.taken += 1;
                return Poll::Ready(Some(admitted));
            }
        }
        self.turn = None;
        self.answer(now);
        Poll::Pending
    }

    fn answer(&mut self, now: Instant) {
        self.taken = 0;
        answer(&self.serving, &mut self.open, now);
    }

    /// Lets in what has come, at once, so that no more waits for the local server than there is room for: the client's own
    /// queue counts messages, however large they are.
    fn let_in(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(message)) = Pin::new(&mut self.calls).poll_next(context) {
            let admitted = admit(&self.serving, message, Instant::now());
            self.waiting.extend(admitted.map(Admitted::kept));
        }
    }
}

fn admit(serving: &Serving, message: Message, received: Instant) -> Option<Admitted> {
    match serving.room.admit(message.length) {
        Some(held) => Some(Admitted::new(message, received, held)),
        None => {
            // Where the broker takes nothing, either, it becomes silence: waiting here would have more pile up unread.
            serving.refuse_now(message.reply, "as much as its bridge takes waits for its server");
            None
        }
    }
}

/// Answers those whose replies have come. What lasts longer has a task of its own.
fn answer(serving: &Arc<Serving>, open: &mut Open<Call>, now: Instant) {
    for _ in 0..open.rung() {
        let looked = open.look(|call, context| call.poll_answer(serving, context, now));
        if let Some((call, came)) = looked {
            tokio::spawn(Relay::of(call, Arc::clone(serving)).run(Some(came)));
        }
    }
    while let Some(call) = open.next_late(now) {
        tokio::spawn(Relay::of(call, Arc::clone(serving)).run(None));
    }
}
