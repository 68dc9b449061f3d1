//! Answering later, from any thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sidewire_platform::Attachment;

use super::reply::add_to;
use crate::attached;
use crate::reactor::{Answer, CAN_NOT_GO, Call, Unwanted};
use sidewire_wire::{Failure, ResultCode};

/// Answers one request later, once, from whichever thread: from [`Reply::defer`](super::Reply::defer).
///
/// ```
/// # let name = format!("local:later-{}", std::process::id());
/// # let name = name.as_str();
/// use sidewire::{Client, Server};
///
/// let mut server = Server::new(());
/// server.on(1, |(), request, reply| {
///     let numbers = request.to_vec()?;
///     let responder = reply.defer()?;
///     std::thread::spawn(move || {
///         let sum: u64 = numbers.iter().map(|number| u64::from(*number)).sum();
///         responder.reply(sum.to_string());
///     });
///     Ok(())
/// });
/// server.listen(name)?;
/// let running = server.spawn()?;
/// assert_eq!(Client::connect(name)?.call(1, [1, 2, 3])?.into_payload(), b"6");
/// # running.stop()?;
/// # Ok::<(), sidewire::Error>(())
/// ```
///
/// Nothing here waits, and nothing fails: room for the answer was taken when the request was deferred. If
/// nobody waits for it any more, it is dropped and counted
/// ([`Counters::answers_to_nobody`](crate::Counters::answers_to_nobody)); who has long work to do asks the
/// [`cancellation`](Responder::cancellation) now and then. A responder that is dropped answers "handler failed" (-10).
#[must_use = "dropping it answers \"handler failed\""]
pub struct Responder {
    /// `None` when it has answered.
    call: Option<Arc<Call>>,
    attachments: Vec<Attachment>,
}

impl Responder {
    pub(super) fn new(call: &Arc<Call>) -> Responder {
        Responder { call: Some(Arc::clone(call)), attachments: Vec::new() }
    }

    /// Whether this client takes [attachments](Responder::attach).
    #[must_use]
    pub fn can_attach(&self) -> bool {
        self.call().attaches()
    }

    /// Has an open file, an end of a pipe or a socket go with the answer, as [`Reply::attach`](super::Reply::attach)
    /// does. If at the time of the answer too many that this client was sent before have not left, it is answered "busy"
    /// (-6) instead. They are closed with an answer that is a failure, or that nobody waits for.
    ///
    /// # Errors
    /// "Required feature missing" (-12), for the caller, where they can't go; "too large" (-3) from the seventeenth on.
    pub fn attach(&mut self, attachment: impl Into<Attachment>) -> Result<(), Failure> {
        if !self.can_attach() {
            return Err(Failure::new(ResultCode::FEATURE_MISSING, CAN_NOT_GO));
        }
        add_to(&mut self.attachments, attachment.into())
    }

    /// Answers with this payload and the result code 0. A payload that is larger than the caller takes is
    /// answered "too large" (-3).
    pub fn reply(self, payload: impl Into<Vec<u8>>) {
        self.finish(ResultCode::OK, payload);
    }

    /// The same with a result code.
    pub fn finish(mut self, rc: impl Into<ResultCode>, payload: impl Into<Vec<u8>>) {
        let (rc, payload, these) = (rc.into(), payload.into(), std::mem::take(&mut self.attachments));
        self.answer(match these.is_empty() {
            true => Answer::Reply(rc, payload),
            false => match attached::parcel(these) {
                Ok(parcel) => Answer::Attached(rc, payload, parcel),
                Err(error) => Answer::Failure(Failure::new(ResultCode::HANDLER_FAILED, error.to_string())),
            },
        });
    }

    /// Answers that it could not be done.
    pub fn fail(mut self, failure: impl Into<Failure>) {
        self.answer(Answer::Failure(failure.into()));
    }

    /// By what those who work on the request hear that nobody waits for it any more.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        Cancellation { call: Arc::clone(self.call()) }
    }

    pub(super) fn call(&self) -> &Arc<Call> {
        let Some(call) = &self.call else { unreachable!("it has not answered") };
        call
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(call) = self.call.take() {
            call.answer(answer);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let text = "whoever was to answer it has gone without a word";
        self.answer(Answer::Failure(Failure::other(text)));
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("call", &self.call).finish()
    }
}

/// Tells those who work on a deferred request that nobody waits for its answer any more: the caller has
/// cancelled it or has gone, its time is over, or the server ends.
///
/// Cheap to clone. Work that goes on all the same does no harm: its answer is dropped.
#[derive(Clone, Debug)]
pub struct Cancellation {
    call: Arc<Call>,
}

impl Cancellation {
    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Why nobody waits any more. `None`: somebody does, or it was answered.
    #[must_use]
    pub fn reason(&self) -> Option<Unwanted> {
        self.call.unwanted()
    }

    /// Waits until nobody waits for the answer any more, for at most so long, and says why. `None`: the time has
    /// passed, or it was answered.
    pub fn wait(&self, timeout: Duration) -> Option<Unwanted> {
        self.call.wait(timeout)
    }

    /// Has this called once nobody waits any more, on the server's thread, which it should not hold up; at once
    /// and here, if that is so already. It is dropped when the request is answered.
    pub fn on_cancel(&self, callback: impl FnOnce(Unwanted) + Send + 'static) {
        self.call.on_unwanted(Box::new(callback));
    }
}
