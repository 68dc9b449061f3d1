//! What comes later, or piece by piece.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::codes::{SW_END, SW_NOT_YET, SW_OK, SW_TIMED_OUT, Status};
use crate::error::{Failed, Outcome, guard_begun, guard_free};
use crate::pointers::{Shared, alone, patience, place, share};
use crate::response::{Response, pointer};

/// A call that was begun. One thread at a time may use it: another one hears SW_INVALID.
pub struct Pending(Arc<Mutex<sidewire::Pending>>);

/// The parts of one reply. One thread at a time, as with sw_pending.
pub struct Parts(Arc<Mutex<Coming>>);

/// The events of the topics that were subscribed to. One thread at a time, as with sw_pending.
pub struct Events(Arc<Mutex<sidewire::Events>>);

/// One event. Nothing changes it, so any number of threads may read it.
pub struct Event(sidewire::Event);

pub(crate) struct Coming {
    parts: sidewire::Parts,
    is_over: bool,
}

impl Pending {
    pub(crate) fn new(pending: sidewire::Pending) -> Pending {
        Pending(Arc::new(Mutex::new(pending)))
    }
}

impl Parts {
    pub(crate) fn new(parts: sidewire::Parts) -> Parts {
        Parts(Arc::new(Mutex::new(Coming { parts, is_over: false })))
    }
}

impl Events {
    pub(crate) fn new(events: sidewire::Events) -> Events {
        Events(Arc::new(Mutex::new(events)))
    }
}

impl Shared for Pending {
    type Inner = Mutex<sidewire::Pending>;

    fn inner(&self) -> &Arc<Mutex<sidewire::Pending>> {
        &self.0
    }
}

impl Shared for Parts {
    type Inner = Mutex<Coming>;

    fn inner(&self) -> &Arc<Mutex<Coming>> {
        &self.0
    }
}

impl Shared for Events {
    type Inner = Mutex<sidewire::Events>;

    fn inner(&self) -> &Arc<Mutex<sidewire::Events>> {
        &self.0
    }
}

/// Answered is answered, with whatever code.
fn answered(result: sidewire::Result<sidewire::Response>) -> Outcome<Response> {
    match result {
        Ok(response) => Ok(Response::whole(response)),
        Err(error) => Ok(Response::from_error(error)?),
    }
}

/// Waits for the reply, for at most timeout_ms (0: looks whether it is there; SW_NO_TIMEOUT: as long as the call's own
/// time limit says), and hands it out once. SW_NOT_YET: the call goes on, and can be waited for again.
///
/// Failures: as sw_call; SW_INVALID also if its end was told before.
#[unsafe(no_mangle)]
pub extern "C" fn sw_wait(
    pending: *const Pending,
    timeout_ms: u32,
    response: Option<&mut MaybeUninit<*mut Response>>,
) -> Status {
    guard_begun(|| {
        let response = place(response, "the place for the response")?;
        let shared = share(pending, "pending")?;
        let mut pending = alone(&shared, "this call")?;
        let patience = patience(timeout_ms);
        match pending.wait_timeout(patience) {
            Some(result) => response.put(answered(result)?),
            None if patience < Duration::MAX => return Ok(SW_NOT_YET),
            None => return Err(Failed::new(SW_TIMED_OUT, "the call's time is up")),
        }
        Ok(SW_OK)
    })
}

/// Tells the server that nobody needs the answer any more. It may still give one; if not, sw_wait hands out
/// SW_RC_CANCELLED.
#[unsafe(no_mangle)]
pub extern "C" fn sw_cancel(pending: *const Pending) -> Status {
    guard_begun(|| {
        alone(&*share(pending, "pending")?, "this call")?.cancel();
        Ok(SW_OK)
    })
}

/// Gives it back. A call whose end is not known yet is cancelled.
#[unsafe(no_mangle)]
pub extern "C" fn sw_pending_free(pending: Option<Box<Pending>>) {
    guard_free(pending);
}

/// Waits for the next part and hands it out: SW_OK. SW_END hands out the final reply, with its result code and perhaps a
/// payload; the server may answer with that alone.
///
/// Failures: as sw_call; SW_INVALID also behind the end.
#[unsafe(no_mangle)]
pub extern "C" fn sw_parts_next(
    parts: *const Parts,
    part: Option<&mut MaybeUninit<*mut Response>>,
) -> Status {
    guard_begun(|| {
        let part = place(part, "the place for the part")?;
        let shared = share(parts, "parts")?;
        let mut coming = alone(&shared, "this reply")?;
        if coming.is_over {
            return Err(Failed::invalid("all parts were taken"));
        }
        let next = coming.parts.next();
        coming.is_over = !matches!(next, Some(Ok(_)));
        match next {
            Some(Ok(bytes)) => {
                part.put(Response::part(bytes));
                return Ok(SW_OK);
            }
            Some(Err(error)) => part.put(Response::from_error(error)?),
            None => match coming.parts.response() {
                Some(last) => part.put(Response::whole(last.clone())),
                None => return Err(Failed::invalid("the reply has ended before")),
            },
        }
        Ok(SW_END)
    })
}

/// Tells the server that nobody needs more. Parts that were under way still come, and then the end: usually with
/// SW_RC_CANCELLED.
#[unsafe(no_mangle)]
pub extern "C" fn sw_parts_cancel(parts: *const Parts) -> Status {
    guard_begun(|| {
        alone(&*share(parts, "parts")?, "this reply")?.parts.cancel();
        Ok(SW_OK)
    })
}

/// Gives it back. A call that has not ended is cancelled.
#[unsafe(no_mangle)]
pub extern "C" fn sw_parts_free(parts: Option<Box<Parts>>) {
    guard_free(parts);
}

/// Subscribes to one more topic: its events come among the others, in the order in which the server sends them.
///
/// Failures: as sw_subscribe; the others are still subscribed to then.
#[unsafe(no_mangle)]
pub extern "C" fn sw_events_add(events: *const Events, topic: u16) -> Status {
    guard_begun(|| {
        alone(&*share(events, "events")?, "these events")?.add(topic)?;
        Ok(SW_OK)
    })
}

/// Waits for the next event, for at most timeout_ms (0: takes one that is there; SW_NO_TIMEOUT: as long as it takes).
/// SW_NOT_YET: none has come.
///
/// Failures: why the connection has ended, behind all events that had come.
#[unsafe(no_mangle)]
pub extern "C" fn sw_events_next(
    events: *const Events,
    timeout_ms: u32,
    event: Option<&mut MaybeUninit<*mut Event>>,
) -> Status {
    guard_begun(|| {
        let event = place(event, "the place for the event")?;
        let shared = share(events, "events")?;
        let mut events = alone(&shared, "these events")?;
        let Some(next) = events.next_timeout(patience(timeout_ms))? else { return Ok(SW_NOT_YET) };
        event.put(Event(next));
        Ok(SW_OK)
    })
}

/// Unsubscribes and gives it back.
#[unsafe(no_mangle)]
pub extern "C" fn sw_events_free(events: Option<Box<Events>>) {
    guard_free(events);
}

/// Its topic; 0 of NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_event_topic(event: Option<&Event>) -> u16 {
    event.map_or(0, |event| event.0.topic())
}

/// Its number within the subscription, from 1; 0 of NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_event_sequence(event: Option<&Event>) -> u32 {
    event.map_or(0, |event| event.0.sequence())
}

/// How many events of this topic were dropped before it, since they came faster than they were taken.
#[unsafe(no_mangle)]
pub extern "C" fn sw_event_dropped(event: Option<&Event>) -> u32 {
    event.map_or(0, |event| event.0.dropped())
}

/// What it tells: sw_event_len() bytes, without a NUL behind them. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_event_data(event: Option<&Event>) -> *const c_char {
    pointer(event.map_or(&[], |event| event.0.payload()))
}

/// How many bytes it has.
#[unsafe(no_mangle)]
pub extern "C" fn sw_event_len(event: Option<&Event>) -> usize {
    event.map_or(0, |event| event.0.payload().len())
}

/// Gives it back.
#[unsafe(no_mangle)]
pub extern "C" fn sw_event_free(event: Option<Box<Event>>) {
    guard_free(event);
}
