//! Replies in parts: what waits between those who produce them and the loop that sends them.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::asking::Asker;
use super::deferred::{Answer, Call, Caller, Deferred, TOO_MANY_WAIT, Unwanted};
use super::link::PeerName;
use super::mailbox::{Letter, Unposted};
use super::slots::Key;
use super::system::System;
use super::{Reactor, Service};
use crate::counters::Limit;
use sidewire_wire::{Connection, Failure, MAX_ATTACHED_LEAVING, OwedId, Parted, Protocol, ResultCode};

/// Parts of one reply that wait for the loop.
pub(crate) struct Outlet {
    queue: Mutex<Queue>,
    /// There is room for more, or no use for it.
    room: Condvar,
    /// Most bytes of a part.
    limit: usize,
    /// What the parts of all replies of the server count for.
    together: Together,
}

/// What waits for the loop, of all replies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Together {
    /// Bytes of parts.
    bytes: Arc<AtomicUsize>,
    /// Attachments behind parts.
    attachments: Arc<AtomicUsize>,
}

impl Together {
    fn is_full(&self) -> bool {
        self.bytes.load(Relaxed) >= TOGETHER
    }

    /// A last word waits behind parts. What goes with it is open meanwhile, so where there is much it is another.
    fn keep(&self, answer: Answer, asker: Option<Asker<'_>>) -> (Answer, Option<Among>) {
        let Answer::Attached(_, _, parcel) = &answer else { return (answer, None) };
        let count = usize::from(parcel.count());
        let among = Among { count, all: Arc::clone(&self.attachments) };
        if self.attachments.fetch_add(count, Relaxed) + count <= MAX_ATTACHED_LEAVING {
            return (answer, Some(among));
        }
        if let Some(asker) = asker {
            asker.refuse_attachments(count);
        }
        (Answer::Failure(Failure::new(ResultCode::BUSY, TOO_MANY_WAIT)), None)
    }
}

/// So many attachments among all that wait, as long as it is there.
struct Among {
    count: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Among {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Relaxed);
    }
}

#[derive(Default)]
struct Queue {
    parts: VecDeque<Vec<u8>>,
    /// What they count for.
    bytes: usize,
    pump: Pump,
    /// Who is to be called once there is room.
    ready: Option<Ready>,
    /// What follows the last part.
    end: Option<(Answer, Option<Among>)>,
}

/// What the loop knows of the parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pump {
    /// Nothing: there are none.
    #[default]
    Idle,
    /// It has a letter, or waits until the caller takes more.
    Told,
    /// Nobody waits for them any more.
    Over,
}

type Ready = Box<dyn FnOnce() + Send>;

/// Why a part was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsent {
    /// As much as may wait does: the caller takes what was sent before too slowly. Or there is no memory for it.
    Full,
    /// It has more bytes than the caller takes in one part.
    TooLarge {
        /// How many that are.
        limit: usize,
    },
    /// Nobody waits for it any more.
    Unwanted(Unwanted),
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsent::Full => f.write_str("as much of the reply as may wait to be taken does"),
            Unsent::TooLarge { limit } => write!(f, "a part of the reply can have {limit} bytes"),
            Unsent::Unwanted(why) => write!(f, "nobody waits for the reply: {why}"),
        }
    }
}

impl std::error::Error for Unsent {}

/// Bytes of parts that wait for the loop, of one reply; one more part may lie above.
pub(crate) const WINDOW: usize = 256 << 10;
/// The same of all replies together; one part of each may lie above.
pub(crate) const TOGETHER: usize = 64 << 20;
/// For what each part counts besides its payload.
const OVERHEAD: usize = 64;

/// What somebody does who has a part for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfFull {
    Wait,
    Fail,
}

/// How far the loop has got.
pub(super) enum Pumped {
    /// The caller has to take some first.
    Waits,
    /// The call is over, and that is told elsewhere.
    Over,
    /// All are sent. What follows them, if it is known.
    All(Option<Answer>),
    /// There was no memory for one, or no room ever: the call has been answered with this code.
    Failed(ResultCode),
}

impl Call {
    /// Its reply will have parts, of at most so many bytes each.
    pub(crate) fn begin_stream(&self, limit: usize) {
        let together = self.mailbox.parts().clone();
        let outlet = Outlet { queue: Mutex::default(), room: Condvar::new(), limit, together };
        // It is called once.
        let _ = self.outlet.set(Box::new(outlet));
    }

    /// Leaves a part to the loop, whose own thread never waits for room.
    pub(crate) fn send_part(self: &Arc<Call>, part: Vec<u8>, if_full: IfFull) -> Result<(), Unsent> {
        let Some(outlet) = self.outlet.get() else { return Err(Unsent::Unwanted(Unwanted::Disconnected)) };
        if part.len() > outlet.limit {
            return Err(Unsent::TooLarge { limit: outlet.limit });
        }
        let mut queue = outlet.queue();
        while queue.pump != Pump::Over && outlet.is_full(&queue) {
            if if_full == IfFull::Fail || self.mailbox.is_loops_thread() {
                return Err(Unsent::Full);
            }
            queue = outlet.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.pump == Pump::Over {
            drop(queue);
            return Err(Unsent::Unwanted(self.unwanted().unwrap_or(Unwanted::Disconnected)));
        }
        queue.parts.try_reserve(1).map_err(|_| Unsent::Full)?;
        outlet.add(&mut queue, cost(&part));
        queue.parts.push_back(part);
        match self.tell_loop(queue) {
            Err(Unposted::Closed | Unposted::NoMemory) => {
                outlet.close();
                Err(Unsent::Unwanted(Unwanted::Disconnected))
            }
            // It looks when it next turns.
            Ok(()) | Err(Unposted::Full | Unposted::NotWoken(_)) => Ok(()),
        }
    }

    /// Has this called on the loop once there is room for parts, or no use for any.
    pub(crate) fn when_ready(self: &Arc<Call>, ready: Ready) {
        let Some(outlet) = self.outlet.get() else { return };
        let mut queue = outlet.queue();
        queue.ready = Some(ready);
        if let Err(Unposted::Closed | Unposted::NoMemory) = self.tell_loop(queue) {
            // Not under the lock: it holds a stream, which answers when it is dropped.
            let ready = outlet.queue().ready.take();
            drop(ready);
        }
    }

    /// Sees to it that the loop looks.
    fn tell_loop(self: &Arc<Call>, mut queue: MutexGuard<'_, Queue>) -> Result<(), Unposted> {
        match queue.pump {
            Pump::Told => return Ok(()),
            Pump::Idle => queue.pump = Pump::Told,
            Pump::Over => {}
        }
        drop(queue);
        self.mailbox.post_parts(Letter::Parts(Arc::clone(self)))
    }
}

impl Outlet {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a part has to wait for others to be sent. Each reply may always keep one: it is told when that has gone.
    fn is_full(&self, queue: &Queue) -> bool {
        queue.bytes >= WINDOW || queue.bytes > 0 && self.together.is_full()
    }

    fn add(&self, queue: &mut Queue, bytes: usize) {
        queue.bytes += bytes;
        self.together.bytes.fetch_add(bytes, Relaxed);
    }

    /// So many, or all that there are.
    fn remove(&self, queue: &mut Queue, bytes: usize) {
        let bytes = bytes.min(queue.bytes);
        queue.bytes -= bytes;
        self.together.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Nobody waits for any of it any more.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.pump = Pump::Over;
        self.remove(&mut queue, usize::MAX);
        let waiting = (std::mem::take(&mut queue.parts), queue.end.take());
        drop(queue);
        drop(waiting);
        self.tell_room();
    }

    /// What follows the last part. `Err`: there is none in front of it, and there it is again.
    fn end(&self, answer: Answer, asker: Option<Asker<'_>>) -> Result<(), Answer> {
        let mut queue = self.queue();
        if queue.parts.is_empty() {
            return Err(answer);
        }
        queue.end = Some(self.together.keep(answer, asker));
        Ok(())
    }

    /// Sends as many parts as may go.
    pub(super) fn pump(&self, connection: &mut Connection, id: OwedId, asker: Asker<'_>) -> Pumped {
        let pumped = self.pump_each(connection, id);
        match pumped {
            Pumped::Waits => {
                let is_backed_up = connection.flow().is_backed_up();
                let limit = if is_backed_up { Limit::OutboxSoft } else { Limit::StreamCredit };
                asker.site.report_held_up(asker.peer, self.queue().bytes, limit);
            }
            Pumped::All(_) | Pumped::Over => {}
            Pumped::Failed(_) => self.close(),
        }
        self.tell_room();
        pumped
    }

    fn pump_each(&self, connection: &mut Connection, id: OwedId) -> Pumped {
        loop {
            let mut queue = self.queue();
            let Some(part) = queue.parts.pop_front() else {
                if queue.pump == Pump::Told {
                    queue.pump = Pump::Idle;
                }
                return Pumped::All(queue.end.take().map(|(answer, _)| answer));
            };
            drop(queue);
            match connection.push_part(id, &part) {
                Parted::Queued => {
                    let mut queue = self.queue();
                    self.remove(&mut queue, cost(&part));
                }
                Parted::Later => {
                    let mut queue = self.queue();
                    if queue.pump != Pump::Over {
                        queue.parts.push_front(part);
                    }
                    return Pumped::Waits;
                }
                Parted::Ended => return Pumped::Over,
                Parted::Lost => return Pumped::Failed(ResultCode::BUSY),
                Parted::TooLarge => {
                    if let Some(reply) = connection.begin_owed_reply(id) {
                        reply.fail(ResultCode::TOO_LARGE, "a part of the reply never fits");
                    }
                    return Pumped::Failed(ResultCode::TOO_LARGE);
                }
            }
        }
    }

    /// Who waits for room may have it.
    fn tell_room(&self) {
        let mut queue = self.queue();
        if queue.bytes > WINDOW / 2 {
            return;
        }
        let ready = queue.ready.take();
        drop(queue);
        self.room.notify_all();
        if let Some(ready) = ready
            && catch_unwind(AssertUnwindSafe(ready)).is_err()
        {
            log::error!("what was to go on with a reply panicked");
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let bytes = self.queue().bytes;
        self.together.bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Deferred {
    /// Sends what may go of the parts of a reply, and what follows them.
    pub(super) fn pump(
        &mut self,
        key: Key,
        connection: &mut Connection,
        call: &Arc<Call>,
        id: OwedId,
        asker: Asker<'_>,
    ) {
        let Some(outlet) = call.outlet.get() else { return };
        let counters = &asker.site.counters;
        match outlet.pump(connection, id, asker) {
            Pumped::Waits | Pumped::Over | Pumped::All(None) => {}
            Pumped::All(Some(answer)) => {
                if let Some(rc) = answer.send(connection, id, asker) {
                    self.take(key, id);
                    counters.answered(call.msg_type(), rc);
                }
            }
            Pumped::Failed(rc) => {
                self.take(key, id);
                counters.answered(call.msg_type(), rc);
                call.is_unwanted(Unwanted::Disconnected);
            }
        }
    }
}

impl<Y: System> Reactor<Y> {
    /// Somebody has left parts of a reply.
    pub(super) fn send_parts(&mut self, call: &Arc<Call>, service: &mut impl Service) {
        if let Caller::Stream(key) = call.caller
            && let Some(id) = call.owed.get().copied()
            && let Some(link) = self.links.get_mut(key)
            && let Some(source) = self.sources.get(usize::from(link.source()))
            && matches!(link.protocol(), Protocol::Framed(connection) if connection.is_owed(id))
        {
            if link.protocol().attaches() {
                link.account_attachments(&source.site, &mut self.memory.parties);
            }
            let (peer, Protocol::Framed(connection)) = link.speaking() else { return };
            let asker = Asker { site: &source.site, peer };
            connection.flow_mut().lend(&mut self.memory.spare);
            self.deferred.pump(key, connection, call, id, asker);
            if link.protocol().attaches() {
                link.account_attachments(&source.site, &mut self.memory.parties);
            }
            return self.go_on(key, service);
        }
        if let Some(outlet) = call.outlet.get() {
            outlet.close();
        }
    }

    /// Who waits for the answer to this call, over a stream.
    fn asker(&self, call: &Call) -> Option<Asker<'_>> {
        let Caller::Stream(key) = call.caller else { return None };
        let link = self.links.get(key)?;
        let site = &self.sources.get(usize::from(link.source()))?.site;
        Some(Asker { site, peer: PeerName(link.peer()) })
    }

    /// Somebody has answered a call whose reply has parts.
    pub(super) fn end_stream(&mut self, call: &Arc<Call>, answer: Answer, service: &mut impl Service) {
        let answer = match call.outlet.get() {
            Some(outlet) if call.unwanted().is_none() => match outlet.end(answer, self.asker(call)) {
                Ok(()) => return self.send_parts(call, service),
                Err(answer) => answer,
            },
            _ => answer,
        };
        self.answer(call, &answer, service);
    }
}

fn cost(part: &[u8]) -> usize {
    part.len().saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::super::asking::ReturnAddress;
    use super::super::mailbox::Mailbox;
    use super::*;

    /// A caller may have thousands of them open, and never take a part.
    #[test]
    fn all_replies_together_keep_no_more_than_their_share() {
        let mailbox = Arc::new(Mailbox::new(Box::new(|| Ok(()))));
        let part = vec![0; 16 << 10];
        let mut kept = 0;
        let mut calls = Vec::new();
        for _ in 0..1000 {
            let call = ReturnAddress::nobody(&mailbox, b"").begin_call().expect("memory");
            call.begin_stream(usize::MAX);
            call.send_part(part.clone(), IfFull::Fail).expect("each keeps one");
            kept += part.len();
            while call.send_part(part.clone(), IfFull::Fail).is_ok() {
                kept += part.len();
            }
            calls.push(call);
        }
        assert!(kept <= TOGETHER + 1001 * part.len(), "{kept} bytes");
        // What was kept for those that nobody waits for any more is free again.
        calls.iter().for_each(|call| call.is_unwanted(Unwanted::Cancelled));
        let call = ReturnAddress::nobody(&mailbox, b"").begin_call().expect("memory");
        call.begin_stream(usize::MAX);
        call.send_part(part.clone(), IfFull::Fail).expect("room");
        call.send_part(part.clone(), IfFull::Fail).expect("more room");
    }

    /// Whoever waits for room would wait for ever.
    #[test]
    fn who_sends_parts_to_a_loop_that_has_ended_is_told() {
        let mailbox = Arc::new(Mailbox::new(Box::new(|| Ok(()))));
        let call = ReturnAddress::nobody(&mailbox, b"").begin_call().expect("memory");
        call.begin_stream(usize::MAX);
        while call.send_part(vec![0; WINDOW], IfFull::Fail).is_ok() {}
        mailbox.close();
        let unsent = call.send_part(vec![0; 1], IfFull::Fail).expect_err("nobody reads it");
        assert_eq!(unsent, Unsent::Unwanted(Unwanted::Disconnected));
    }
}
