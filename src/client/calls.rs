//! The requests that threads send on one connection.

use std::time::{Duration, Instant};

use super::Response;
use super::journal::Asked;
use super::leader::{Guard, SharedConnection, State, Waiting, remaining};
use super::line::Leaves;
use super::medium::Medium;
use super::request;
use crate::error::{Error, Kind, Result};
use crate::loops;
use sidewire_wire::caller::{Caller, Outcome, Purpose, Seat};
use sidewire_wire::frame::timeout_ms;
use sidewire_wire::memory::NoMemory;
use sidewire_wire::reconnecting::Lost;
use sidewire_wire::{Executed, LARGE, Layout};

/// Bytes of started calls that wait for others to leave with them. As much as a pipe takes in one write.
const TOGETHER: usize = 64 << 10;

impl SharedConnection {
    /// Sends a request and waits for its reply.
    pub(super) fn exchange(
        &self,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        let purpose = Purpose::Call(payload.len());
        let mut state = self.wait_for_leave(self.lock(), "call", purpose, deadline)?;
        // Whoever is told of arrivals may ask in turn, in the middle of what this thread sends.
        let may_lend = payload.len() >= LARGE && self.handlers.arrival.is_none();
        let is_lent = may_lend && state.caller.may_borrow();
        let (caller, limit, waiting) = (&mut state.caller, timeout_ms(timeout), Waiting::here());
        let begun = match is_lent {
            false => caller.begin(msg_type, payload, limit, deadline, waiting),
            true => caller.begin_borrowed(msg_type, payload, limit, deadline, waiting),
        };
        let id = self.begun("call", begun)?;
        let asked = Asked::begin(self.endpoint(), msg_type, id, payload.len());
        if is_lent {
            state = self.send_borrowed(state, Seat::Call(id), payload, deadline);
        }
        let (state, outcome) = self.wait(state, Seat::Call(id), deadline);
        let result = self.result(&state, outcome);
        drop(state);
        asked.end(self.endpoint(), &result);
        result
    }

    /// Begins a call that nobody waits for yet, if there is room for it in time. It leaves together with what
    /// follows, at the latest when somebody waits.
    pub(super) fn start(
        &self,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<(Seat, Asked)> {
        let purpose = Purpose::Call(payload.len());
        let mut state = self.wait_for_leave(self.lock(), "call", purpose, deadline)?;
        let started = state.caller.start(msg_type, payload, timeout_ms(timeout), deadline);
        let id = self.begun("call", started)?;
        if state.caller.unsent_len() >= TOGETHER {
            self.offer(&mut state);
        }
        Ok((Seat::Call(id), Asked::begin(self.endpoint(), msg_type, id, payload.len())))
    }

    /// What became of a started call, if that is known by then.
    pub(super) fn outcome_of(&self, seat: Seat, until: Option<Instant>) -> Option<Result<Response>> {
        let (state, outcome) = self.attend(seat, |_| until);
        Some(self.result(&state, outcome?))
    }

    /// The reply to a started call, if it has been read.
    #[inline]
    pub(super) fn take_reply(&self, seat: Seat) -> Option<Response> {
        self.lock().caller.take_reply(seat).map(Response::from)
    }

    /// Waits until it is decided what becomes of one of these calls; the first has the least time. Says
    /// which, and if it was the first, perhaps how.
    pub(super) fn wait_any(
        &self,
        seats: &[Seat],
        until: Option<Instant>,
    ) -> Option<(usize, Option<Result<Response>>)> {
        let decided = |caller: &Caller<Waiting>| seats.iter().position(|seat| caller.is_decided(*seat));
        let mut state = self.lock();
        state.now = Instant::now();
        if let Some(index) = decided(&state.caller) {
            return Some((index, None));
        }
        for seat in seats {
            state.caller.attend(*seat, until, Waiting::here());
        }
        let is_any = |caller: &Caller<Waiting>| decided(caller).is_some();
        let (mut state, outcome) = self.wait_at(state, *seats.first()?, seats, until, is_any);
        state.caller.detach(seats.iter().copied());
        match outcome {
            Some(outcome) => Some((0, Some(self.result(&state, outcome)))),
            None => Some((decided(&state.caller)?, None)),
        }
    }

    /// Whether it is known what becomes of this call.
    pub(super) fn is_decided(&self, seat: Seat) -> bool {
        self.lock().caller.is_decided(seat)
    }

    /// Sends a request that wants no answer.
    pub(super) fn notify(&self, msg_type: u16, payload: &[u8], deadline: Option<Instant>) -> Result<()> {
        let state = self.lock();
        self.check_notifies(&state)?;
        let mut state = self.wait_for_leave(state, "notify", Purpose::Notify(payload.len()), deadline)?;
        let pushed = self.push_notify(&mut state.caller, msg_type, payload);
        self.begun("notify", pushed)?;
        state = self.flush(state, None, deadline);
        self.check_sent(&state, "notify")
    }

    /// Waits until such a request may begin, which it then has to at once.
    #[inline]
    pub(super) fn wait_for_leave<'a>(
        &'a self,
        state: Guard<'a>,
        operation: &'static str,
        purpose: Purpose,
        deadline: Option<Instant>,
    ) -> Result<Guard<'a>> {
        if state.caller.may_begin(purpose) {
            return Ok(state);
        }
        self.wait_in_queue(state, operation, purpose, deadline)
    }

    #[inline(never)]
    fn wait_in_queue<'a>(
        &'a self,
        mut state: Guard<'a>,
        operation: &'static str,
        purpose: Purpose,
        deadline: Option<Instant>,
    ) -> Result<Guard<'a>> {
        state.now = Instant::now();
        if state.caller.may_begin_at(purpose, state.now) {
            return Ok(state);
        }
        let seat = state.caller.ask(purpose, deadline, Waiting::here());
        match self.wait(state, seat, deadline) {
            (state, Outcome::Ready) => Ok(state),
            (state, outcome) => Err(self.unbegun(&state, operation, outcome)),
        }
    }
}

/// What need not be as fast as a call, for threads and tasks.
impl<M: Medium> SharedConnection<M> {
    /// Waits for the server's hello.
    pub(super) async fn shake_hands(&self, deadline: Option<Instant>) -> Result<()> {
        self.begin("connect to", Purpose::Open, deadline, |_, _| Ok(())).await?;
        if let Some(hello) = self.lock().caller.hello() {
            log::debug!("{}: {hello}", self.endpoint());
        }
        Ok(())
    }

    /// Waits until the system has taken all that is to be sent.
    pub(super) async fn send_all(&self, deadline: Option<Instant>) -> Result<()> {
        let here = M::here().await;
        let seat = self.lock().caller.ask(Purpose::Flush, deadline, here);
        let (state, outcome) = M::wait(self, seat, deadline).await;
        match outcome {
            Outcome::TimedOut(_) if state.caller.has_unsent() => {
                Err(self.explain(&state, "flush", Outcome::TimedOut(Executed::Perhaps)))
            }
            _ => self.check_sent(&state, "flush"),
        }
    }

    /// Begins a call that nobody waits for yet, if there is room for it by then. What is left of its time is told the
    /// server.
    pub(crate) async fn start_call(
        &self,
        (msg_type, payload): (u16, &[u8]),
        deadline: Option<Instant>,
        (until, leaves): (Option<Instant>, Leaves),
    ) -> Result<(Seat, Asked)> {
        let start = |caller: &mut Caller<_>| {
            caller.start(msg_type, payload, timeout_ms(remaining(deadline)), deadline)
        };
        self.start_with((msg_type, payload.len()), (until, leaves), start).await
    }

    /// Begins such a call in this way. What leaves at once does so as far as the channel takes it.
    pub(crate) async fn start_with(
        &self,
        (msg_type, length): (u16, usize),
        (until, leaves): (Option<Instant>, Leaves),
        start: impl FnOnce(&mut Caller<M::Waiting>) -> Result<u32, NoMemory>,
    ) -> Result<(Seat, Asked)> {
        let id = self.begin("call", Purpose::Call(length), until, |caller, _| start(caller)).await?;
        let mut state = self.lock();
        if leaves == Leaves::AtOnce || state.caller.unsent_len() >= TOGETHER {
            self.offer(&mut state);
        }
        drop(state);
        Ok((Seat::Call(id), Asked::begin(self.endpoint(), msg_type, id, length)))
    }

    /// Waits until such a request may begin, and begins it.
    pub(crate) async fn begin<T>(
        &self,
        operation: &'static str,
        purpose: Purpose,
        deadline: Option<Instant>,
        begin: impl FnOnce(&mut Caller<M::Waiting>, M::Waiting) -> Result<T, NoMemory>,
    ) -> Result<T> {
        let here = M::here().await;
        let seat = {
            let mut state = self.lock();
            state.now = Instant::now();
            if state.caller.may_begin_at(purpose, state.now) {
                return self.begun(operation, begin(&mut state.caller, here));
            }
            state.caller.ask(purpose, deadline, here.clone())
        };
        match M::wait(self, seat, deadline).await {
            (mut state, Outcome::Ready) => self.begun(operation, begin(&mut state.caller, here)),
            (state, outcome) => Err(self.unbegun(&state, operation, outcome)),
        }
    }
}

/// What takes no waiting.
impl<M: Medium> SharedConnection<M> {
    /// Tells the server that nobody needs the answer to this call.
    pub(crate) fn cancel(&self, seat: Seat) {
        let mut state = self.lock();
        state.caller.cancel(seat);
        self.offer(&mut state);
    }

    /// The same, and nobody waits for what it answers. In a forked child this says nothing.
    pub(crate) fn drop_call(&self, seat: Seat) {
        if !self.maker.is_here() {
            return;
        }
        let mut state = self.lock();
        state.caller.cancel(seat);
        state.caller.leave(seat);
        self.offer(&mut state);
    }

    /// Says so where there was no memory for it.
    #[inline]
    pub(crate) fn begun<T>(&self, operation: &'static str, begun: Result<T, NoMemory>) -> Result<T> {
        begun.map_err(|NoMemory| Error::no_memory(operation, self.endpoint(), Executed::Never))
    }

    /// What is told of the end of a call that was begun before.
    pub(crate) fn concluded(
        &self,
        asked: Asked,
        result: Result<Response>,
        (msg_type, timeout, deadline): (u16, Option<Duration>, Option<Instant>),
    ) -> Result<Response> {
        asked.end(self.endpoint(), &result);
        let result = match result {
            Ok(response) if response.rc.is_ok() => return Ok(response),
            result => self.told(result, deadline).and_then(|response| response.checked(self.endpoint())),
        };
        result.map_err(|error| request::explain(error, msg_type, timeout, self.channel().peer()))
    }

    /// Puts a request that wants no answer into the outbox, which has room for it.
    pub(crate) fn push_notify(
        &self,
        caller: &mut Caller<M::Waiting>,
        msg_type: u16,
        payload: &[u8],
    ) -> Result<(), NoMemory> {
        caller.notify(msg_type, payload)?;
        log::debug!("{}: notify type {msg_type}, {} bytes", self.endpoint(), payload.len());
        Ok(())
    }

    pub(crate) fn check_notifies(&self, state: &State<M::Waiting>) -> Result<()> {
        if state.caller.layout() == Some(Layout::Classic) {
            let text = "the classic layout has no requests without an answer";
            return Err(Error::new("notify", self.endpoint(), Kind::InvalidInput(text.into())));
        }
        Ok(())
    }

    /// Whether all has left, or somebody else sees to it.
    pub(crate) fn check_sent(&self, state: &State<M::Waiting>, operation: &'static str) -> Result<()> {
        if state.caller.end().is_some() {
            return Err(self.explain(state, operation, Outcome::Ended(Executed::Perhaps)));
        }
        if state.caller.has_unsent() && !state.caller.is_somebody_writing() {
            return Err(self.explain(state, operation, Outcome::TimedOut(Executed::Perhaps)));
        }
        Ok(())
    }

    /// Whether this thread may wait for the server, which could not answer in the middle of one of its own handlers.
    #[inline]
    pub(crate) fn check_thread(&self, operation: &'static str) -> Result<()> {
        if self.waits_for_itself() {
            return Err(loops::waits_for_itself(operation, self.endpoint()));
        }
        Ok(())
    }

    /// Whether its server could not answer as long as this thread waits.
    #[inline]
    pub(crate) fn waits_for_itself(&self) -> bool {
        loops::is_serving() && self.waits_for_its_own()
    }

    fn waits_for_its_own(&self) -> bool {
        let address = || self.channel().peer_address().ok();
        loops::serves_peer(self.channel().peer(), self.endpoint(), address)
    }

    /// Why a request could not begin.
    pub(crate) fn unbegun(
        &self,
        state: &State<M::Waiting>,
        operation: &'static str,
        outcome: Outcome,
    ) -> Error {
        let error = self.explain(state, operation, outcome);
        // Nothing of it was begun, whatever the end says of what was.
        if error.lost().is_some() { error.with_lost(Lost::Unsent) } else { error }
    }

    #[inline]
    pub(crate) fn result(&self, state: &State<M::Waiting>, outcome: Outcome) -> Result<Response> {
        match outcome {
            Outcome::Reply(reply) => Ok(reply.into()),
            outcome => Err(self.explain(state, "call", outcome)),
        }
    }
}
