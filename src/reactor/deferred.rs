//! Answers that come later: who owes them, and how he hears that nobody waits any more.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::asking::Asker;
use super::mailbox::{Letter, Mailbox};
use super::schedule::{Does, Target};
use super::slots::Key;
use super::streams::Outlet;
use super::system::System;
use super::{Reactor, Service};
use crate::counters::Limit;
use crate::limits::{MAX_UNWANTED, UNWANTED_OVERHEAD};
use crate::recorder::NOBODY;
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{Connection, Failure, Owed, OwedId, Parcel, Protocol, ReplyWriter, ResultCode, Ticket};

/// One call that is answered later: what the loop and those who work on it share.
pub(crate) struct Call {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) caller: Caller,
    /// Whether something may go with the answer that is no bytes.
    attaches: bool,
    msg_type: AtomicI32,
    /// The call's, on the wire.
    id: AtomicU32,
    /// Bytes of its request's payload.
    length: AtomicU32,
    /// By what its connection knows it, once the handler that defers it has returned.
    pub(super) owed: OnceLock<OwedId>,
    /// What waits of a reply that has parts.
    pub(super) outlet: OnceLock<Box<Outlet>>,
    state: Mutex<State>,
    /// It is not wanted any more, or answered.
    changed: Condvar,
    /// Whether a thread has ever waited for that: telling nobody is a system call, too.
    is_waited_for: AtomicBool,
}

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever is at the other end of this connection.
    Stream(Key),
    /// Whoever sent the datagram with that number to the socket with this one.
    Datagram(u16, u64),
    /// Nobody: it was a notify, with so many bytes of payload.
    Nobody(u32),
}

enum State {
    /// It is wanted. Who is to hear when it is not.
    Open(Vec<Callback>),
    /// Somebody has answered it.
    Answered,
    Unwanted(Unwanted),
}

type Callback = Box<dyn FnOnce(Unwanted) + Send>;

/// What the calls count for that nobody waits for, or not any more, and that whoever works on them has not answered. What a
/// caller may have open does not bound it: one that has cancelled asks again, and notifies are no calls.
#[derive(Debug, Default)]
pub(super) struct Heap(AtomicUsize);

impl Heap {
    /// Bytes, more or less.
    pub(super) fn held(&self) -> usize {
        self.0.load(Relaxed)
    }

    fn is_full(&self) -> bool {
        self.0.load(Relaxed) >= MAX_UNWANTED
    }
}

/// Why nobody waits for an answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unwanted {
    /// The caller has cancelled the call.
    Cancelled,
    /// The time that the caller gave it is over.
    TimedOut,
    /// The caller has gone.
    Disconnected,
    /// The server ends.
    ShuttingDown,
    /// Its handler has deferred it, and then failed: that was the answer.
    Failed,
}

impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unwanted::Cancelled => "its caller has cancelled it",
            Unwanted::TimedOut => "its time is over",
            Unwanted::Disconnected => "its caller has gone",
            Unwanted::Failed => "its handler has failed",
            Unwanted::ShuttingDown => "the server ends",
        })
    }
}

/// What a deferred call is answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(ResultCode, Vec<u8>),
    /// With what goes with it.
    Attached(ResultCode, Vec<u8>, Parcel),
    Failure(Failure),
}

impl Answer {
    /// Says with what result code it was sent.
    pub(super) fn write(&self, mut writer: ReplyWriter<'_>) -> ResultCode {
        match self {
            Answer::Reply(rc, payload) => {
                writer.write(payload);
                writer.finish(*rc)
            }
            Answer::Attached(..) => writer.fail(ResultCode::FEATURE_MISSING, CAN_NOT_GO),
            Answer::Failure(failure) => writer.fail(failure.result_code(), failure.text()),
        }
    }

    /// The same to a call that is owed on this connection. `None`: nobody waits for it any more.
    pub(super) fn send(
        &self,
        connection: &mut Connection,
        id: OwedId,
        asker: Asker<'_>,
    ) -> Option<ResultCode> {
        let Answer::Attached(rc, payload, parcel) = self else {
            return Some(self.write(connection.begin_owed_reply(id)?));
        };
        let may_go = connection.may_attach(parcel.count().into());
        let mut writer = connection.begin_owed_reply(id)?;
        if !may_go {
            asker.refuse_attachments(parcel.count().into());
            return Some(writer.fail(ResultCode::BUSY, TOO_MANY_WAIT));
        }
        writer.write(payload);
        let (rc, frame_len) = writer.complete_attached(*rc, parcel);
        drop(writer);
        if let Some(frame_len) = frame_len {
            connection.attach(frame_len, parcel.clone());
        }
        Some(rc)
    }
}

/// Why attachments do not go with an answer.
pub(crate) const CAN_NOT_GO: &str = "attachments can't go to this client";
/// Why they do not now.
pub(crate) const TOO_MANY_WAIT: &str =
    "too many attachments wait to leave to this client, or to be taken by it";

impl Call {
    /// Pays for its answer's place in the mailbox, so that nothing is in the way of that then.
    ///
    /// # Errors
    /// There is no memory for it, or there are too many already that nobody waits for, and that are not answered.
    pub(super) fn begin(mailbox: &Arc<Mailbox>, caller: Caller, attaches: bool) -> Result<Arc<Call>, Limit> {
        if mailbox.heap(caller).is_full() {
            return Err(Limit::Unwanted);
        }
        if !memory::has_room(size_of::<Call>()) {
            return Err(Limit::Memory);
        }
        mailbox.reserve().map_err(|NoMemory| Limit::Memory)?;
        let length = if let Caller::Nobody(length) = caller { length } else { 0 };
        let call = Arc::new(Call {
            mailbox: Arc::clone(mailbox),
            caller,
            attaches,
            msg_type: AtomicI32::default(),
            id: AtomicU32::default(),
            length: AtomicU32::new(length),
            owed: OnceLock::new(),
            outlet: OnceLock::new(),
            state: Mutex::new(State::Open(Vec::new())),
            changed: Condvar::new(),
            is_waited_for: AtomicBool::default(),
        });
        if let Caller::Nobody(_) = caller {
            mailbox.heap(caller).0.fetch_add(call.cost(), Relaxed);
        }
        Ok(call)
    }

    /// What it counts for while nobody waits for it.
    fn cost(&self) -> usize {
        UNWANTED_OVERHEAD.saturating_add(self.length.load(Relaxed) as usize)
    }

    /// Says what was asked, once the handler that defers it has returned.
    pub(super) fn is_for(&self, ticket: &Ticket) {
        self.msg_type.store(ticket.msg_type, Relaxed);
        self.id.store(ticket.id, Relaxed);
        self.length.store(ticket.cost, Relaxed);
    }

    /// Whether something may go with its answer that is no bytes.
    pub(crate) fn attaches(&self) -> bool {
        self.attaches
    }

    pub(super) fn msg_type(&self) -> i32 {
        self.msg_type.load(Relaxed)
    }

    /// Answers it. To be called once.
    pub(crate) fn answer(self: Arc<Call>, answer: Answer) {
        let callbacks = self.end(State::Answered);
        // They may hold what writes letters when it is dropped.
        drop(callbacks);
        let mailbox = Arc::clone(&self.mailbox);
        mailbox.post_reserved(Letter::Answer(self, answer));
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn is_unwanted(&self, why: Unwanted) {
        let callbacks = self.end(State::Unwanted(why));
        if let Some(outlet) = self.outlet.get() {
            outlet.close();
        }
        for callback in callbacks {
            if catch_unwind(AssertUnwindSafe(|| callback(why))).is_err() {
                log::error!("what was to be told of a call that is not wanted any more panicked");
            }
        }
    }

    /// The first end counts. Returns who is to hear of it.
    fn end(&self, end: State) -> Vec<Callback> {
        let mut state = self.state();
        let is_answered = matches!(end, State::Answered);
        let was_heaped = matches!(*state, State::Unwanted(_)) || matches!(self.caller, Caller::Nobody(_));
        if was_heaped && is_answered {
            self.mailbox.heap(self.caller).0.fetch_sub(self.cost(), Relaxed);
        }
        let State::Open(callbacks) = &mut *state else { return Vec::new() };
        let callbacks = std::mem::take(callbacks);
        if !was_heaped && !is_answered {
            self.mailbox.heap(self.caller).0.fetch_add(self.cost(), Relaxed);
        }
        *state = end;
        let is_waited_for = self.is_waited_for.load(Relaxed);
        drop(state);
        if is_waited_for {
            self.changed.notify_all();
        }
        callbacks
    }

    pub(crate) fn unwanted(&self) -> Option<Unwanted> {
        match *self.state() {
            State::Unwanted(why) => Some(why),
            State::Open(_) | State::Answered => None,
        }
    }

    /// Waits until it is not wanted any more, for at most so long. `None`: it still is, or somebody has answered it.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<Unwanted> {
        let state = self.state();
        // Under the lock, as whoever ends it looks.
        self.is_waited_for.store(true, Relaxed);
        let is_open = |state: &mut State| matches!(state, State::Open(_));
        drop(self.changed.wait_timeout_while(state, timeout, is_open));
        self.unwanted()
    }

    /// Has `callback` called once it is not wanted any more; at once, if it is not.
    pub(crate) fn on_unwanted(&self, callback: Callback) {
        let mut state = self.state();
        match &mut *state {
            State::Open(callbacks) => callbacks.push(callback),
            State::Answered => drop(state),
            State::Unwanted(why) => {
                let why = *why;
                drop(state);
                callback(why);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("caller", &self.caller).field("owed", &self.owed).finish_non_exhaustive()
    }
}

/// What a handler leaves behind that answers later.
#[derive(Debug)]
pub(crate) struct Deferral {
    pub(crate) ticket: Ticket,
    pub(crate) call: Arc<Call>,
}

/// Calls of one connection for which room is kept when they have ended, some hundred bytes as long as it lasts.
const KEPT: usize = 4;

/// The deferred calls of all connections, so that those who work on them can be told when it is for naught.
#[derive(Debug, Default)]
pub(crate) struct Deferred(HashMap<Key, HashMap<OwedId, Arc<Call>>>);

impl Deferred {
    /// Leaves the answer to a call that `connection` has just handed out for later.
    #[cold]
    pub(super) fn defer(&mut self, key: Key, connection: &mut Connection, deferral: Deferral, now: Instant) {
        let Deferral { ticket, call } = deferral;
        call.is_for(&ticket);
        let Some(id) = connection.defer(ticket, now) else {
            return call.is_unwanted(Unwanted::Disconnected);
        };
        if self.add(key, id, &call).is_err() {
            let writer = connection.begin_owed_reply(id);
            writer.map(|writer| writer.fail(ResultCode::BUSY, "there is no memory to keep the request"));
            call.is_unwanted(Unwanted::Disconnected);
        }
    }

    fn add(&mut self, key: Key, id: OwedId, call: &Arc<Call>) -> Result<(), NoMemory> {
        memory::reserve_entry(&mut self.0)?;
        let calls = self.0.entry(key).or_default();
        memory::reserve_entry(calls)?;
        calls.insert(id, Arc::clone(call));
        // Set once, since a call is deferred once.
        let _ = call.owed.set(id);
        Ok(())
    }

    pub(super) fn take(&mut self, key: Key, id: OwedId) -> Option<Arc<Call>> {
        let calls = self.0.get_mut(&key)?;
        let call = calls.remove(&id);
        // Room for a few is kept: whoever asks for what takes time mostly asks again.
        if calls.is_empty() && calls.capacity() > KEPT {
            self.0.remove(&key);
        }
        call
    }

    /// Tells of the calls of a connection that have ended without an answer, those included whose time was
    /// over by `now`; and goes on with replies whose parts had to wait.
    #[cold]
    pub(super) fn tell_ended(
        &mut self,
        key: Key,
        connection: &mut Connection,
        now: Instant,
        asker: Asker<'_>,
    ) {
        while let Some(owed) = connection.poll_owed(now) {
            match owed {
                Owed::MayGoOn(id) => self.go_on_with(key, connection, id, asker),
                ended => self.tell(key, ended, asker),
            }
        }
    }

    fn go_on_with(&mut self, key: Key, connection: &mut Connection, id: OwedId, asker: Asker<'_>) {
        if let Some(call) = self.0.get(&key).and_then(|calls| calls.get(&id)).map(Arc::clone) {
            self.pump(key, connection, &call, id, asker);
        }
    }

    fn tell(&mut self, key: Key, owed: Owed, asker: Asker<'_>) {
        let (why, rc) = match owed {
            Owed::Cancelled(_) => (Unwanted::Cancelled, Some(ResultCode::CANCELLED)),
            Owed::TimedOut(_) => (Unwanted::TimedOut, Some(ResultCode::TIMED_OUT)),
            _ => (Unwanted::Disconnected, None),
        };
        if let Some(call) = self.take(key, owed.id()) {
            if let Some(rc) = rc {
                asker.site.counters.answered(call.msg_type(), rc);
            }
            call.is_unwanted(why);
        }
    }

    /// Whether there are none.
    #[cfg(feature = "harness")]
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(HashMap::is_empty)
    }

    /// A connection is no more.
    pub(super) fn forget(&mut self, key: Key) {
        for call in self.0.remove(&key).into_iter().flat_map(HashMap::into_values) {
            call.is_unwanted(Unwanted::Disconnected);
        }
    }

    /// The loop ends: what is owed on a connection is refused.
    pub(super) fn refuse(&mut self, key: Key, connection: &mut Connection) {
        let mut calls: Vec<_> = self.0.remove(&key).into_iter().flatten().collect();
        // In the order in which they came.
        calls.sort_by_key(|(id, _)| *id);
        for (id, call) in calls {
            if let Some(writer) = connection.begin_owed_reply(id) {
                writer.fail(ResultCode::SHUTTING_DOWN, "the server ends");
            }
            call.is_unwanted(Unwanted::ShuttingDown);
        }
    }

    /// The loop has ended.
    pub(super) fn forget_all(&mut self) {
        for call in std::mem::take(&mut self.0).into_values().flat_map(HashMap::into_values) {
            call.is_unwanted(Unwanted::Disconnected);
        }
    }
}

impl<Y: System> Reactor<Y> {
    /// Somebody has answered a deferred call.
    pub(super) fn answer(&mut self, call: &Call, answer: &Answer, service: &mut impl Service) {
        let answered = match call.caller {
            Caller::Stream(key) => {
                let answered = call.owed.get().and_then(|id| self.answer_on(key, *id, answer));
                self.go_on(key, service);
                answered
            }
            Caller::Datagram(source, number) => self.answer_datagram(source, number, answer),
            Caller::Nobody(_) => return,
        };
        match answered {
            Some(rc) => {
                self.counters.answered(call.msg_type(), rc);
                let connection = if let Caller::Stream(key) = call.caller { key.number() } else { NOBODY };
                let (now, what) = (self.system.now(), (call.msg_type(), call.id.load(Relaxed)));
                self.watch.recorder.note_answer(connection, now, what, rc);
            }
            None => {
                log::debug!("an answer to nobody: its call has ended before");
                self.counters.answer_to_nobody();
            }
        }
    }

    /// `None`: nobody waits for it any more.
    fn answer_on(&mut self, key: Key, id: OwedId, answer: &Answer) -> Option<ResultCode> {
        let link = self.links.get_mut(key)?;
        let site = &self.sources.get(usize::from(link.source()))?.site;
        if let Answer::Attached(..) = answer {
            link.account_attachments(site, &mut self.memory.parties);
        }
        let (peer, protocol) = link.speaking();
        let Protocol::Framed(connection) = protocol else { return None };
        if !connection.is_owed(id) {
            return None;
        }
        connection.flow_mut().lend(&mut self.memory.spare);
        let rc = answer.send(connection, id, Asker { site, peer })?;
        if let Answer::Attached(..) = answer {
            link.account_attachments(site, &mut self.memory.parties);
        }
        self.deferred.take(key, id);
        Some(rc)
    }

    /// What was just put into a link's outbox leaves with what others put there in this turn; at once if it
    /// is much. Nothing is read for it: its caller has its own turns.
    pub(super) fn go_on(&mut self, key: Key, service: &mut impl Service) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.account(link.protocol().buffered(), &mut self.memory);
        if link.protocol().flow().is_backed_up() {
            self.send(key, service);
        }
        let Some(link) = self.links.get_mut(key) else { return };
        let does = if link.reads_whatever_is_answered() { Does::Sends } else { Does::All };
        if self.schedule.queue_to(does, Target::Link(key), &mut link.wakeup).is_err() {
            self.reap(key, service);
        }
    }
}
