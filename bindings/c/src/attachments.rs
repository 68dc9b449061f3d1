//! What goes with requests and replies besides bytes.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use crate::client::{Client, request, shared};
use crate::codes::{SW_OK, Status};
use crate::descriptors::{Descriptor, SW_NO_DESCRIPTOR, copy, hand_out};
use crate::error::{guard, guard_free};
use crate::pointers::{bytes, given, place, take_out};
use crate::request::{Reply, Request};
use crate::responder::Responder;
use crate::response::Response;

/// Open files, ends of pipes, and on Unix sockets, that go with one request, or have come with a request or reply. One thread
/// at a time, at which nobody looks. What is left in it is closed when it is freed.
///
/// They go over Unix sockets, and on Windows over named pipes, if both sides say so: sw_client_options_attachments and
/// sw_listen_options_attachments.
pub struct Attachments(Vec<sidewire::Attachment>);

impl Attachments {
    pub(crate) fn new(attachments: Vec<sidewire::Attachment>) -> Attachments {
        Attachments(attachments)
    }
}

/// A set with nothing in it. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_attachments_new() -> Box<Attachments> {
    Box::new(Attachments(Vec::new()))
}

/// Puts something into the set: another descriptor of the same thing, which is closed in programs that this process
/// executes. The one that is passed stays the caller's, who may close it at once.
///
/// Failures: SW_INVALID for a number that can't be one; SW_SYSTEM if it is not open, or for want of descriptors.
///
/// Windows: a handle, but no socket, which would be no good in another process (the call is SW_INVALID, as far as the system
/// tells them apart), and none that stands for something in each process, as that of GetCurrentProcess.
#[unsafe(no_mangle)]
pub extern "C" fn sw_attachments_add(
    attachments: Option<&mut Attachments>,
    descriptor: Descriptor,
) -> Status {
    guard(|| {
        given(attachments, "attachments")?.0.push(copy(descriptor)?);
        Ok(SW_OK)
    })
}

/// How many are in it; 0 of NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_attachments_len(attachments: Option<&Attachments>) -> usize {
    attachments.map_or(0, |attachments| attachments.0.len())
}

/// Takes out the first one that is left. It is the caller's, who closes it: with close, or CloseHandle. SW_NO_DESCRIPTOR if
/// there is none.
///
/// Whoever has sent it has decided what it is: look before it is read (fstat), and do not wait for what may never come.
#[unsafe(no_mangle)]
pub extern "C" fn sw_attachments_take(attachments: Option<&mut Attachments>) -> Descriptor {
    let mut taken = SW_NO_DESCRIPTOR;
    let _ = guard(|| {
        let these = &mut given(attachments, "attachments")?.0;
        if !these.is_empty() {
            taken = hand_out(these.remove(0));
        }
        Ok(SW_OK)
    });
    taken
}

/// Gives it back, and closes what is left in it.
#[unsafe(no_mangle)]
pub extern "C" fn sw_attachments_free(attachments: Option<Box<Attachments>>) {
    guard_free(attachments);
}

/// As sw_call, with what is in the set, 1 to 16 of them, of which the server then has descriptors of its own. The set is empty
/// behind this, whatever has come of it, and is still to be freed. What comes with the reply is taken with
/// sw_response_take_attachments.
///
/// Failures: as sw_call; SW_INVALID also where attachments can't go: one side has not said so, or the connection carries none.
#[unsafe(no_mangle)]
pub extern "C" fn sw_call_attached(
    client: *const Client,
    msg_type: u16,
    data: *const c_void,
    len: usize,
    timeout_ms: u32,
    attachments: *mut Attachments,
    response: Option<&mut MaybeUninit<*mut Response>>,
) -> Status {
    guard(|| {
        let these = take_out(attachments, |set| &mut set.0, "attachments")?;
        let response = place(response, "the place for the response")?;
        let client = shared(client)?;
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        let request = request(&client.client, msg_type, timeout_ms);
        response.put(Response::whole(request.exchange_attached(data, these)?));
        Ok(SW_OK)
    })
}

/// As sw_notify, with what is in the set, as sw_call_attached.
///
/// Windows: waits for a sign of life of the server, which then has them; not for longer than a call of this client may take.
///
/// Failures: as sw_call_attached.
#[unsafe(no_mangle)]
pub extern "C" fn sw_notify_attached(
    client: *const Client,
    msg_type: u16,
    data: *const c_void,
    len: usize,
    attachments: *mut Attachments,
) -> Status {
    guard(|| {
        let these = take_out(attachments, |set| &mut set.0, "attachments")?;
        let client = shared(client)?;
        // SAFETY: C's caller gives so many bytes.
        client.client.request(msg_type).notify_attached(unsafe { bytes(data, len) }?, these)?;
        Ok(SW_OK)
    })
}

/// Takes what has come with a reply: a set, freed with sw_attachments_free, which is empty if nothing has, or somebody has taken
/// it before. What nobody takes is closed with the response.
///
/// Failures: SW_INVALID for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_response_take_attachments(
    response: Option<&Response>,
    attachments: Option<&mut MaybeUninit<*mut Attachments>>,
) -> Status {
    guard(|| {
        let place = place(attachments, "the place for the attachments")?;
        place.put(Attachments::new(given(response, "response")?.take_attachments()));
        Ok(SW_OK)
    })
}

/// The same of a request. What nobody takes is closed when the handler returns.
///
/// Failures: SW_INVALID for NULL; SW_UNSUPPORTED in a client's handler.
#[unsafe(no_mangle)]
pub extern "C" fn sw_request_take_attachments(
    request: Option<&Request<'_>>,
    attachments: Option<&mut MaybeUninit<*mut Attachments>>,
) -> Status {
    guard(|| {
        let place = place(attachments, "the place for the attachments")?;
        place.put(Attachments::new(given(request, "request")?.take_attachments()?));
        Ok(SW_OK)
    })
}

/// Has something go with the reply, up to 16 of them, of which the client then has descriptors of its own. What is passed
/// stays the caller's, as with sw_attachments_add. It does not go if the reply fails, or is deferred: sw_responder_attach.
///
/// Failures: SW_UNSUPPORTED if this client takes none, and in a client's handler; SW_FULL if too many that it was sent before wait
/// to be taken; SW_INVALID behind sw_reply_defer, from the seventeenth on, and as sw_attachments_add; SW_SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn sw_reply_attach(reply: Option<&mut Reply<'_, '_>>, descriptor: Descriptor) -> Status {
    guard(|| {
        let reply = given(reply, "reply")?;
        reply.attach(copy(descriptor)?)?;
        Ok(SW_OK)
    })
}

/// The same for an answer that is given later: with sw_responder_finish. With one that fails nothing goes.
///
/// Failures: SW_UNSUPPORTED and SW_SYSTEM as there; SW_INVALID behind the answer, from the seventeenth on, and as there.
#[unsafe(no_mangle)]
pub extern "C" fn sw_responder_attach(responder: *const Responder, descriptor: Descriptor) -> Status {
    guard(|| {
        crate::responder::shared(responder)?.attach(copy(descriptor)?)?;
        Ok(SW_OK)
    })
}
