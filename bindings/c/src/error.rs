//! What went wrong, as a code and, for the thread that it went wrong on, in words.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use sidewire::{Error, Executed};

use crate::codes::{
    SW_ANSWERED, SW_CLOSED, SW_FULL, SW_IN_USE, SW_INVALID, SW_NOT_LISTENING, SW_PANIC, SW_PEER_GONE,
    SW_PROTOCOL, SW_RC_OK, SW_REFUSED, SW_STOPPED, SW_SYSTEM, SW_TIMED_OUT, SW_UNSUPPORTED, SW_VERSION,
    Status,
};
use crate::pointers::c_string;

pub(crate) type Outcome<T> = Result<T, Failed>;

/// Why a function has failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) status: Status,
    text: CString,
    rc: i32,
    /// Whether the request may have been executed. `None`: where it failed, nothing is known of one.
    executed: Option<bool>,
}

impl Failed {
    pub(crate) fn new(status: Status, text: &str) -> Failed {
        Failed { status, text: c_string(text), rc: SW_RC_OK, executed: None }
    }

    pub(crate) fn invalid(text: &str) -> Failed {
        Failed::new(SW_INVALID, text)
    }

    /// It may, unless somebody knows better, which misuse does not.
    fn perhaps_executed(mut self) -> Failed {
        if self.status == SW_INVALID || self.executed.is_none() {
            self.executed = Some(true);
        }
        self
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed {
            status: status(&error),
            text: c_string(&error.to_string()),
            rc: error.result_code().map_or(SW_RC_OK, |rc| rc.code()),
            executed: Some(error.executed() != Executed::Never),
        }
    }
}

fn status(error: &Error) -> Status {
    match error {
        _ if error.result_code().is_some() => SW_ANSWERED,
        _ if error.is_invalid_input() => SW_INVALID,
        _ if error.is_unsupported() => SW_UNSUPPORTED,
        _ if error.is_in_use() => SW_IN_USE,
        _ if error.is_not_listening() => SW_NOT_LISTENING,
        _ if error.is_refused() => SW_REFUSED,
        _ if error.is_version_mismatch() => SW_VERSION,
        _ if error.is_timeout() => SW_TIMED_OUT,
        _ if error.is_peer_gone() => SW_PEER_GONE,
        _ if error.is_closed() => SW_CLOSED,
        _ if error.is_full() => SW_FULL,
        _ if error.is_stopped() => SW_STOPPED,
        _ if error.is_protocol() => SW_PROTOCOL,
        _ => SW_SYSTEM,
    }
}

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "it is const; Clippy errs where the system's keys are used")]
    static LAST: RefCell<Option<Failed>> = const { RefCell::new(None) };
}

/// Runs what a function does. A failure is kept for the thread, and a panic is one.
pub(crate) fn guard(run: impl FnOnce() -> Outcome<Status>) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let failed = match outcome {
        Ok(Ok(status)) => return status,
        Ok(Err(failed)) => failed,
        Err(_) => Failed::new(SW_PANIC, "the library has failed where it should not").perhaps_executed(),
    };
    let status = failed.status;
    // On a thread that is ending nobody asks any more.
    let _ = LAST.try_with(|last| drop(last.replace(Some(failed))));
    status
}

/// The same for what is done about a request that was sent before.
pub(crate) fn guard_begun(run: impl FnOnce() -> Outcome<Status>) -> Status {
    guard(|| run().map_err(Failed::perhaps_executed))
}

/// The same where there is nothing to say.
pub(crate) fn guard_free<T>(object: Option<Box<T>>) {
    let _ = guard(|| {
        drop(object);
        Ok(0)
    });
}

/// Asks the last failure of this thread.
fn last<T>(ask: impl FnOnce(&Failed) -> T) -> Option<T> {
    LAST.try_with(|last| last.try_borrow().ok().and_then(|last| last.as_ref().map(ask))).ok().flatten()
}

/// What the last function of this library that failed on this thread says of it, in English. An empty text if none has.
/// Good until another function fails on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn sw_error_text() -> *const c_char {
    last(|failed| failed.text.as_ptr()).unwrap_or(c"".as_ptr())
}

/// The result code that the other side answered with, if that failure is SW_ANSWERED; otherwise 0.
#[unsafe(no_mangle)]
pub extern "C" fn sw_error_rc() -> i32 {
    last(|failed| failed.rc).unwrap_or(SW_RC_OK)
}

/// Whether the request behind that failure may have been executed: 0 if it certainly was not and will not be, so that
/// it can be sent again; otherwise 1.
#[unsafe(no_mangle)]
pub extern "C" fn sw_error_executed() -> i32 {
    last(|failed| i32::from(failed.executed.unwrap_or(false))).unwrap_or(0)
}

/// This library's version, as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn sw_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
