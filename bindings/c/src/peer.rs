//! What a server asks its clients.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use sidewire::PeerHandle;

use crate::codes::{SW_DEFAULT_TIMEOUT, SW_OK, SW_STOPPED, Status};
use crate::error::{Failed, guard, guard_free};
use crate::pointers::{User, bytes, given, time};
use crate::response::Response;

/// How long a client has to answer unless something else is said.
const USUAL: Duration = Duration::from_secs(30);

/// A client of a server, by which the server asks it something. Any number of threads may use it. It means nothing any more
/// when the client has gone, and is still to be freed.
pub struct Peer(PeerHandle<()>);

/// Is told what a client has answered: status is SW_OK, and answer good until this returns; or status says why there is no
/// answer, and answer is NULL; sw_error_text says more.
pub type AnswerHandler = Option<extern "C" fn(user: *mut c_void, status: Status, answer: *const Response)>;

/// The call has not returned; it has, and was accepted; it was dropped by then, with nobody told.
const ASKING: u8 = 0;
const ACCEPTED: u8 = 1;
const DROPPED: u8 = 2;

/// Who is told, once: if the call was accepted and what holds this is dropped, it is told that the server has stopped.
struct Then {
    tell: Option<extern "C" fn(*mut c_void, Status, *const Response)>,
    user: User,
    state: Arc<AtomicU8>,
}

impl Then {
    fn tell(mut self, answer: sidewire::Result<sidewire::Answer<'_>>) {
        let Some(tell) = self.tell.take() else { return };
        match answer {
            Ok(answer) => {
                let answer = Response::answer(&answer);
                tell(self.user.pointer(), SW_OK, &raw const answer);
            }
            // So that sw_error_text says why, there.
            Err(error) => tell(self.user.pointer(), guard(|| Err(Failed::from(error))), ptr::null()),
        }
    }
}

impl Drop for Then {
    fn drop(&mut self) {
        let Some(tell) = self.tell.take() else { return };
        if self.state.swap(DROPPED, AcqRel) == ACCEPTED {
            tell(self.user.pointer(), guard(|| Err(stopped())), ptr::null());
        }
    }
}

fn stopped() -> Failed {
    Failed::new(SW_STOPPED, "the server has ended, and has not asked the client")
}

impl Peer {
    pub(crate) fn new(peer: PeerHandle<()>) -> Peer {
        Peer(peer)
    }
}

/// Asks the client. This does not wait: then is called once on the server's thread, like a handler, when the client has
/// answered or it is known that it won't; never if this fails. What a server that has ended did not come to is told
/// SW_STOPPED, at the latest when it is freed, and on the thread that frees it: there then does not use that server.
/// user is handed to it. timeout_ms: SW_DEFAULT_TIMEOUT is 30 s.
///
/// Failures: SW_FULL, SW_STOPPED. To then also SW_TIMED_OUT, SW_PEER_GONE, SW_INVALID for more bytes than the client takes.
#[unsafe(no_mangle)]
pub extern "C" fn sw_peer_call(
    peer: Option<&Peer>,
    msg_type: u16,
    data: *const c_void,
    len: usize,
    timeout_ms: u32,
    then: AnswerHandler,
    user: *mut c_void,
) -> Status {
    guard(|| {
        let state = Arc::new(AtomicU8::new(ASKING));
        let then =
            Then { tell: Some(given(then, "then")?), user: User::new(user), state: Arc::clone(&state) };
        let timeout = if timeout_ms == SW_DEFAULT_TIMEOUT { Some(USUAL) } else { time(timeout_ms) };
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        given(peer, "peer")?.0.call(msg_type, data, timeout, move |(), answer| then.tell(answer))?;
        match state.compare_exchange(ASKING, ACCEPTED, AcqRel, Acquire) {
            Err(DROPPED) => Err(stopped()),
            _ => Ok(SW_OK),
        }
    })
}

/// Tells the client something that wants no answer. It is dropped if the client has gone, or does not read.
///
/// Failures: SW_FULL, SW_STOPPED.
#[unsafe(no_mangle)]
pub extern "C" fn sw_peer_notify(
    peer: Option<&Peer>,
    msg_type: u16,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        given(peer, "peer")?.0.notify(msg_type, data)?;
        Ok(SW_OK)
    })
}

/// Gives it back; the connection stays.
#[unsafe(no_mangle)]
pub extern "C" fn sw_peer_free(peer: Option<Box<Peer>>) {
    guard_free(peer);
}
