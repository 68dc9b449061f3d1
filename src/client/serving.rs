//! Whoever reads also runs what the server asks for, without the lock.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use sidewire_platform::Endpoint;

use super::Response;
use super::handlers::{PeerReply, PeerRequest, To};
use super::leader::{Guard, SharedConnection, State, deadline_in};
use super::line::Line;
use super::medium::{Medium, at_once};
use super::request::explain;
use crate::error::{Error, Result};
use sidewire_wire::caller::{End, Incoming, Seat};
use sidewire_wire::{Excerpt, Failure, OwedId, ResultCode};

/// How many handlers run in one another on one thread at most: each but the last waits for a call of its own.
const DEEPEST: usize = 16;

thread_local! {
    /// How many do.
    #[allow(clippy::missing_const_for_thread_local, reason = "it is const; Clippy errs where the system's keys are used")]
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// This thread runs a handler until this is dropped.
struct Running(());

impl Running {
    fn begin() -> Running {
        DEPTH.set(DEPTH.get() + 1);
        Running(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// A connection as handlers see it, whatever it goes over.
pub(super) trait Asker: fmt::Debug + Send + Sync {
    fn endpoint(&self) -> &Endpoint;

    /// Whether the server still waits for this answer.
    fn is_owed(&self, owed: OwedId) -> bool;

    /// Answers, and says with what code.
    fn answer(&self, owed: OwedId, rc: ResultCode, payload: &[u8]) -> ResultCode;

    fn answer_failure(&self, owed: OwedId, failure: &Failure) -> ResultCode;

    /// Sends an answer on, behind which perhaps nobody waits who would do so.
    fn send_answer(&self);

    /// Asks the server something, for a handler.
    fn call(&self, msg_type: u16, payload: &[u8]) -> Result<Response>;

    /// Tells it something.
    fn notify(&self, msg_type: u16, payload: &[u8]) -> Result<()>;
}

impl<M: Medium> SharedConnection<M> {
    /// What whoever is about to read handles first.
    pub(crate) fn take_work(&self, state: &mut State<M::Waiting>) -> Option<Incoming> {
        if self.handlers.is_empty() {
            return None;
        }
        self.report_dropped(state);
        if DEPTH.get() >= DEEPEST {
            return None;
        }
        state.caller.take_incoming()
    }

    /// Runs its handler. Meanwhile another of those who wait reads, so this one is at none of its seats.
    pub(crate) fn serve<'a>(
        &'a self,
        mut state: Guard<'a, M::Waiting>,
        seats: &[Seat],
        until: Option<Instant>,
        incoming: Incoming,
        waiting: impl Fn() -> M::Waiting,
    ) -> Guard<'a, M::Waiting> {
        state.caller.detach(seats.iter().copied());
        drop(state);
        self.handle(incoming);
        let mut state = self.lock();
        state.now = Instant::now();
        for seat in seats {
            state.caller.attend(*seat, until, waiting());
        }
        state
    }

    /// Answers as soon as the handler has returned; what the channel does not take at once is sent by whoever
    /// waits.
    fn handle(&self, incoming: Incoming) {
        let Incoming { owed, msg_type, payload, .. } = incoming;
        let begun = Instant::now();
        let request = PeerRequest { connection: self, msg_type, payload: &payload, owed };
        let mut reply = PeerReply {
            connection: self.me.clone() as Weak<dyn Asker>,
            to: To::Server(owed),
            payload: Vec::new(),
            rc: ResultCode::OK,
        };
        let result = self.run_handler(&request, &mut reply);
        let PeerReply { to, payload, rc, .. } = reply;
        let rc = match (result, owed) {
            (Ok(()), Some(owed)) if matches!(to, To::Server(_)) => self.answer(owed, rc, &payload),
            (Ok(()), _) => rc,
            // Also if it has left the answer for later: then its responder answers nobody.
            (Err(failure), Some(owed)) => self.answer_failure(owed, &failure),
            (Err(failure), None) => {
                let text = failure.to_string();
                log::debug!(
                    "{}: a handler of type {msg_type} failed: {}",
                    self.endpoint(),
                    Excerpt::new(&text)
                );
                failure.result_code()
            }
        };
        log::debug!(
            "{}: the server's {} type {msg_type}, {} bytes, rc {}, {} us",
            self.endpoint(),
            if request.is_notify() { "notify" } else { "request" },
            request.payload().len(),
            rc.code(),
            begun.elapsed().as_micros()
        );
    }

    /// A handler that panics fails, and its thread goes on.
    fn run_handler(&self, request: &PeerRequest<'_>, reply: &mut PeerReply) -> Result<(), Failure> {
        let msg_type = request.msg_type();
        let Some(handler) = self.handlers.get(msg_type) else {
            return Err(Failure::new(
                ResultCode::NO_HANDLER,
                format!("this client has no handler for type {msg_type}"),
            ));
        };
        let running = Running::begin();
        let result = catch_unwind(AssertUnwindSafe(|| handler(request, reply)));
        drop(running);
        result.unwrap_or_else(|_| {
            if let Some(count) = self.handlers.panics.next_worth_telling() {
                log::error!("{}: the handler of type {msg_type} panicked; {count} so far", self.endpoint());
            }
            Err(Failure::new(ResultCode::HANDLER_FAILED, "the handler panicked"))
        })
    }

    fn report_dropped(&self, state: &mut State<M::Waiting>) {
        let dropped = state.caller.take_dropped();
        // The server chooses how often.
        if dropped > 0
            && let Some(count) = self.handlers.dropped.next_worth_telling()
        {
            log::warn!(
                "{}: {dropped} notifies of the server were dropped, since nobody took those before; {count} times so far",
                self.endpoint()
            );
        }
    }
}

impl<M: Medium> Asker for SharedConnection<M> {
    fn endpoint(&self) -> &Endpoint {
        self.endpoint()
    }

    fn is_owed(&self, owed: OwedId) -> bool {
        self.lock().caller.is_owed(owed)
    }

    fn answer(&self, owed: OwedId, rc: ResultCode, payload: &[u8]) -> ResultCode {
        let mut state = self.lock();
        let Some(mut reply) = state.caller.begin_reply(owed) else { return ResultCode::CANCELLED };
        reply.write(payload);
        let rc = reply.finish(rc);
        self.offer(&mut state);
        rc
    }

    fn answer_failure(&self, owed: OwedId, failure: &Failure) -> ResultCode {
        let mut state = self.lock();
        let Some(reply) = state.caller.begin_reply(owed) else { return ResultCode::CANCELLED };
        let rc = reply.fail(failure.result_code(), failure.text());
        self.offer(&mut state);
        rc
    }

    fn send_answer(&self) {
        M::send_answer(self);
    }

    fn call(&self, msg_type: u16, payload: &[u8]) -> Result<Response> {
        M::call_for_handler(self, msg_type, payload)
    }

    fn notify(&self, msg_type: u16, payload: &[u8]) -> Result<()> {
        M::notify_for_handler(self, msg_type, payload)
    }
}

impl SharedConnection {
    /// Sends a request for a handler and waits for its reply.
    pub(super) fn call_for_handler(&self, msg_type: u16, payload: &[u8]) -> Result<Response> {
        let (timeout, deadline) = (self.handlers.call_timeout, self.deadline());
        let exchanged = self.exchange(msg_type, payload, timeout, deadline);
        let checked = exchanged.and_then(|response| response.checked(self.endpoint()));
        checked.map_err(|error| explain(error, msg_type, timeout, self.channel().peer()))
    }

    /// Until when what begins now may take.
    pub(super) fn deadline(&self) -> Option<Instant> {
        deadline_in(self.handlers.call_timeout)
    }
}

impl<M: Medium> SharedConnection<M> {
    /// Reads, and runs what the server asks for, until the connection is over.
    pub(super) async fn run(&self) -> Result<()> {
        let here = M::here().await;
        let seat = self.lock().caller.stand_by(here);
        let (state, _) = M::wait(self, seat, None).await;
        self.stood_by(&state)
    }

    /// What is said to one who has read until the end.
    pub(super) fn stood_by(&self, state: &State<M::Waiting>) -> Result<()> {
        match state.caller.end() {
            Some(End::Ours | End::Goodbye(ResultCode::OK | ResultCode::SHUTTING_DOWN)) => Ok(()),
            _ => Err(self.end(state)),
        }
    }
}

/// A thread that reads, and runs what the server asks for, until the connection is over.
pub(super) fn spawn_reader(line: &Line) -> Result<()> {
    let line = line.clone();
    let builder = thread::Builder::new().name("sidewire-reader".into());
    let spawned = builder.spawn(move || {
        let end = at_once(line.run());
        log::debug!("{}: its reader ends: {end:?}", line.endpoint());
    });
    spawned.map(drop).map_err(|error| Error::system("start a client's reader", error))
}

/// The answer to a request of the server, to be given later, from any thread: from [`PeerReply::defer`].
/// Dropped without one it answers "handler failed" (-10).
///
/// Answers to requests that the server has given up, or to one that has gone, are dropped; and so are those to a request
/// whose handler has failed behind its [`defer`](PeerReply::defer), unless the responder was first: its failure is the
/// answer.
#[derive(Debug)]
#[must_use = "dropped without an answer it fails"]
pub struct PeerResponder {
    connection: Weak<dyn Asker>,
    /// `None`: nobody waits for an answer, or it was given.
    owed: Option<OwedId>,
}

impl PeerResponder {
    pub(super) fn new(connection: Weak<dyn Asker>, owed: Option<OwedId>) -> PeerResponder {
        PeerResponder { connection, owed }
    }

    /// Answers with this payload.
    pub fn reply(self, payload: impl AsRef<[u8]>) {
        self.finish(ResultCode::OK, payload);
    }

    /// Answers with a result code and a payload.
    pub fn finish(mut self, rc: impl Into<ResultCode>, payload: impl AsRef<[u8]>) {
        if let Some((connection, owed)) = self.take() {
            connection.answer(owed, rc.into(), payload.as_ref());
            connection.send_answer();
        }
    }

    /// Answers with a failure.
    pub fn fail(mut self, failure: impl Into<Failure>) {
        self.fail_with(&failure.into());
    }

    /// Whether nobody waits for the answer any more: the server has cancelled, its time is over, or the
    /// connection is.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let (Some(connection), Some(owed)) = (self.connection.upgrade(), self.owed) else { return true };
        !connection.is_owed(owed)
    }

    fn fail_with(&mut self, failure: &Failure) {
        if let Some((connection, owed)) = self.take() {
            connection.answer_failure(owed, failure);
            connection.send_answer();
        }
    }

    fn take(&mut self) -> Option<(Arc<dyn Asker>, OwedId)> {
        Some((self.connection.upgrade()?, self.owed.take()?))
    }
}

impl Drop for PeerResponder {
    fn drop(&mut self) {
        self.fail_with(&Failure::new(ResultCode::HANDLER_FAILED, "it was left unanswered"));
    }
}
