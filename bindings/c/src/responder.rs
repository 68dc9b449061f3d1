//! Answers that are given later, from any thread.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex};

use sidewire::{Cancellation, Failure, PeerResponder, ReplyStream, ResultCode, Unsent};

use crate::codes::{SW_FULL, SW_INVALID, SW_NOT_YET, SW_OK, SW_UNSUPPORTED, SW_UNWANTED, Status};
use crate::error::{Failed, Outcome, guard};
use crate::pointers::{Shared, alone, bytes, patience, share};
use crate::request::{failure, refused};

/// Answers one request, once. It may be handed from thread to thread; two that answer at a time are told apart, and one of
/// them hears SW_INVALID.
pub struct Responder(Arc<Answering>);

pub(crate) struct Answering {
    /// `None` when it has answered.
    way: Mutex<Option<Way>>,
    /// Of a server's: how it is heard that nobody waits any more.
    cancellation: Option<Cancellation>,
}

enum Way {
    Later(sidewire::Responder),
    InParts(ReplyStream),
    ToServer(PeerResponder),
}

impl Shared for Responder {
    type Inner = Answering;

    fn inner(&self) -> &Arc<Answering> {
        &self.0
    }
}

pub(crate) fn shared(responder: *const Responder) -> Outcome<Arc<Answering>> {
    share(responder, "responder")
}

impl Responder {
    pub(crate) fn later(responder: sidewire::Responder) -> Responder {
        let cancellation = Some(responder.cancellation());
        Responder::new(Way::Later(responder), cancellation)
    }

    pub(crate) fn in_parts(stream: ReplyStream) -> Responder {
        let cancellation = Some(stream.cancellation());
        Responder::new(Way::InParts(stream), cancellation)
    }

    pub(crate) fn to_server(responder: PeerResponder) -> Responder {
        Responder::new(Way::ToServer(responder), None)
    }

    fn new(way: Way, cancellation: Option<Cancellation>) -> Responder {
        Responder(Arc::new(Answering { way: Mutex::new(Some(way)), cancellation }))
    }
}

impl Answering {
    fn answer(&self, how: impl FnOnce(Way)) -> Outcome<Status> {
        let way = alone(&self.way, "this responder")?.take();
        how(way.ok_or_else(|| Failed::invalid("the request was answered before"))?);
        Ok(SW_OK)
    }

    pub(crate) fn attach(&self, attachment: sidewire::Attachment) -> Outcome<()> {
        match alone(&self.way, "this responder")?.as_mut() {
            Some(Way::Later(responder)) => responder.attach(attachment).map_err(refused),
            Some(Way::InParts(stream)) => stream.attach(attachment).map_err(refused),
            Some(Way::ToServer(_)) => {
                Err(Failed::new(SW_UNSUPPORTED, "nothing goes with what a client answers"))
            }
            None => Err(Failed::invalid("the request was answered before")),
        }
    }

    fn is_cancelled(&self) -> bool {
        match &self.cancellation {
            Some(cancellation) => cancellation.is_cancelled(),
            None => match alone(&self.way, "this responder").as_deref() {
                Ok(Some(Way::ToServer(responder))) => responder.is_cancelled(),
                _ => false,
            },
        }
    }
}

fn unsent(unsent: &Unsent) -> Failed {
    let status = match unsent {
        Unsent::Full => SW_FULL,
        Unsent::Unwanted(_) => SW_UNWANTED,
        _ => SW_INVALID,
    };
    Failed::new(status, &unsent.to_string())
}

/// Answers with a result code and a payload. That nobody waits for it any more is no failure. What is more than the caller
/// takes is answered SW_RC_TOO_LARGE.
///
/// Failures: SW_INVALID if it has answered before.
#[unsafe(no_mangle)]
pub extern "C" fn sw_responder_finish(
    responder: *const Responder,
    rc: i32,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        let rc = ResultCode::new(rc);
        shared(responder)?.answer(|way| match way {
            Way::Later(responder) => responder.finish(rc, data),
            Way::InParts(stream) => stream.finish(rc, data),
            Way::ToServer(responder) => responder.finish(rc, data),
        })
    })
}

/// Answers that it could not be done, as sw_reply_fail.
///
/// Failures: SW_INVALID if it has answered before.
#[unsafe(no_mangle)]
pub extern "C" fn sw_responder_fail(responder: *const Responder, rc: i32, why: *const c_char) -> Status {
    guard(|| {
        let failure: Failure = failure(rc, why)?;
        shared(responder)?.answer(|way| match way {
            Way::Later(responder) => responder.fail(failure),
            Way::InParts(stream) => stream.fail(failure),
            Way::ToServer(responder) => responder.fail(failure),
        })
    })
}

/// Sends one part of a reply in parts (sw_reply_stream). If as much as may wait does, this waits until the caller has taken
/// some; on the server's own thread it says SW_FULL in place of that.
///
/// Failures: SW_FULL; SW_UNWANTED once nobody waits for the reply any more; SW_INVALID for more bytes than the caller takes,
/// behind the answer, and if the reply is not in parts.
#[unsafe(no_mangle)]
pub extern "C" fn sw_responder_send(responder: *const Responder, data: *const c_void, len: usize) -> Status {
    guard(|| {
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        let shared = shared(responder)?;
        let mut way = alone(&shared.way, "this responder")?;
        match way.as_mut() {
            Some(Way::InParts(stream)) => stream.send(data).map_err(|error| unsent(&error))?,
            Some(_) => return Err(Failed::invalid("this reply is not in parts: sw_reply_stream")),
            None => return Err(Failed::invalid("the request was answered before")),
        }
        Ok(SW_OK)
    })
}

/// 1 if nobody waits for the answer any more: the caller has cancelled or gone, its time is over, the server ends, or the
/// handler has failed (sw_reply_fail).
/// Otherwise, and behind the answer, 0.
#[unsafe(no_mangle)]
pub extern "C" fn sw_responder_is_cancelled(responder: *const Responder) -> i32 {
    let mut is_cancelled = false;
    let _ = guard(|| {
        is_cancelled = shared(responder)?.is_cancelled();
        Ok(SW_OK)
    });
    i32::from(is_cancelled)
}

/// Waits until nobody waits for the answer any more, for at most timeout_ms: SW_OK. SW_NOT_YET: somebody does.
///
/// Failures: SW_UNSUPPORTED in a client, which can only ask.
#[unsafe(no_mangle)]
pub extern "C" fn sw_responder_wait_cancelled(responder: *const Responder, timeout_ms: u32) -> Status {
    guard(|| match &shared(responder)?.cancellation {
        Some(cancellation) => Ok(cancellation.wait(patience(timeout_ms)).map_or(SW_NOT_YET, |_why| SW_OK)),
        None => {
            Err(Failed::new(SW_UNSUPPORTED, "a client does not hear of it: ask sw_responder_is_cancelled"))
        }
    })
}

/// Gives it back. A request that was not answered is answered SW_RC_HANDLER_FAILED. A thread that is in a call with it ends
/// that as it would have; the answer is given behind a sw_responder_send. None may begin another one.
#[unsafe(no_mangle)]
pub extern "C" fn sw_responder_free(responder: Option<Box<Responder>>) {
    let _ = guard(|| {
        if let Some(responder) = responder {
            // Not only when those who wait for its cancellation have let go of it.
            let way = alone(&responder.0.way, "this responder").map(|mut way| way.take());
            drop(way);
        }
        Ok(SW_OK)
    });
}
