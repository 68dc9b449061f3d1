//! What a handler is given, on a server and on a client, and what it gives back.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;

use sidewire::{Failure, PeerReply, PeerRequest, Remote, ResultCode};

use crate::codes::{SW_OK, SW_RC_HANDLER_FAILED, SW_UNSUPPORTED, Status};
use crate::error::{Failed, Outcome, guard};
use crate::peer::Peer;
use crate::pointers::{User, bytes, given, place, text};
use crate::responder::Responder;
use crate::response::pointer;

/// Answers a request. Both belong to the library and are good until the handler returns, on its thread alone. It answers
/// with what was written into reply, and SW_RC_OK unless something else was set; or later, with sw_reply_defer.
pub type Handler =
    Option<extern "C" fn(user: *mut c_void, request: *const Request<'_>, reply: *mut Reply<'_, '_>)>;

/// A handler with what the program wants to be handed to it.
#[derive(Clone, Copy)]
pub(crate) struct Handling {
    pub(crate) handler: extern "C" fn(*mut c_void, *const Request<'_>, *mut Reply<'_, '_>),
    pub(crate) user: User,
}

/// What was asked: of a server by a client, or of a client by its server.
pub struct Request<'a>(Asked<'a>);

enum Asked<'a> {
    Server(&'a sidewire::Request<'a>, &'a Remote<()>),
    Client(&'a PeerRequest<'a>),
}

/// What is answered. For the handler's thread alone, at which nobody looks.
pub struct Reply<'a, 'b> {
    way: Way<'a, 'b>,
    failure: Option<Failure>,
}

enum Way<'a, 'b> {
    OfServer(&'a mut sidewire::Reply<'b>),
    OfClient(&'a mut PeerReply),
}

/// Has the program's handler answer what a server was asked.
pub(crate) fn handle_for_client(
    handling: Handling,
    request: &sidewire::Request<'_>,
    reply: &mut sidewire::Reply<'_>,
    remote: &Remote<()>,
) -> Result<(), Failure> {
    handle(handling, Asked::Server(request, remote), Way::OfServer(reply))
}

/// Has the program's handler answer what a client was asked.
pub(crate) fn handle_for_server(
    handling: Handling,
    request: &PeerRequest<'_>,
    reply: &mut PeerReply,
) -> Result<(), Failure> {
    handle(handling, Asked::Client(request), Way::OfClient(reply))
}

fn handle(handling: Handling, asked: Asked<'_>, way: Way<'_, '_>) -> Result<(), Failure> {
    let (request, mut reply) = (Request(asked), Reply { way, failure: None });
    (handling.handler)(handling.user.pointer(), &raw const request, &raw mut reply);
    reply.failure.map_or(Ok(()), Err)
}

impl Request<'_> {
    fn payload(&self) -> &[u8] {
        match &self.0 {
            Asked::Server(request, _) => request.payload(),
            Asked::Client(request) => request.payload(),
        }
    }

    pub(crate) fn take_attachments(&self) -> Outcome<Vec<sidewire::Attachment>> {
        match &self.0 {
            Asked::Server(request, _) => Ok(request.take_attachments()),
            Asked::Client(_) => Err(Failed::new(SW_UNSUPPORTED, "nothing comes with what a server asks")),
        }
    }
}

impl Reply<'_, '_> {
    pub(crate) fn attach(&mut self, attachment: sidewire::Attachment) -> Outcome<()> {
        match &mut self.way {
            Way::OfServer(reply) => reply.attach(attachment).map_err(refused),
            Way::OfClient(_) => Err(Failed::new(SW_UNSUPPORTED, "nothing goes with what a client answers")),
        }
    }
}

/// A failure that a handler, or whoever answers later, gives as the answer.
pub(crate) fn failure(rc: i32, why: *const c_char) -> Outcome<Failure> {
    // SAFETY: C's caller gives a text that ends with a NUL, or NULL.
    let why = if why.is_null() { "" } else { unsafe { text(why, "text") }? };
    Ok(Failure::new(if rc == 0 { SW_RC_HANDLER_FAILED } else { rc }, why))
}

/// The type that picked the handler; 0 of NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_request_type(request: Option<&Request<'_>>) -> u16 {
    match request {
        Some(Request(Asked::Server(request, _))) => request.msg_type(),
        Some(Request(Asked::Client(request))) => request.msg_type(),
        None => 0,
    }
}

/// What was sent: sw_request_len() bytes, without a NUL behind them. Never NULL; good until the handler returns.
#[unsafe(no_mangle)]
pub extern "C" fn sw_request_data(request: Option<&Request<'_>>) -> *const c_char {
    pointer(request.map_or(&[], Request::payload))
}

/// How many bytes were sent.
#[unsafe(no_mangle)]
pub extern "C" fn sw_request_len(request: Option<&Request<'_>>) -> usize {
    request.map_or(0, |request| request.payload().len())
}

/// Whose request it is: a handle by which the server asks that client something, for any thread, freed with sw_peer_free.
///
/// Failures: SW_UNSUPPORTED in a client's handler, and for datagrams.
#[unsafe(no_mangle)]
pub extern "C" fn sw_request_peer(
    request: Option<&Request<'_>>,
    peer: Option<&mut MaybeUninit<*mut Peer>>,
) -> Status {
    guard(|| {
        let peer = place(peer, "the place for the peer")?;
        match given(request, "request")? {
            Request(Asked::Server(request, remote)) => match request.connection() {
                Some(connection) => peer.put(Peer::new(remote.peer(connection))),
                None => return Err(Failed::new(SW_UNSUPPORTED, "a datagram has no connection")),
            },
            Request(Asked::Client(_)) => {
                return Err(Failed::new(SW_UNSUPPORTED, "a client asks its server with the client itself"));
            }
        }
        Ok(SW_OK)
    })
}

/// Publishes an event to all who have subscribed to this topic, behind this reply.
///
/// Failures: SW_FULL if there is no memory for it; SW_UNSUPPORTED in a client's handler.
#[unsafe(no_mangle)]
pub extern "C" fn sw_request_publish(
    request: Option<&Request<'_>>,
    topic: u16,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        match given(request, "request")? {
            Request(Asked::Server(request, _)) => request.publish(topic, data).map_err(refused)?,
            Request(Asked::Client(_)) => return Err(Failed::new(SW_UNSUPPORTED, "clients publish nothing")),
        }
        Ok(SW_OK)
    })
}

/// What the library itself says to a handler.
pub(crate) fn refused(failure: Failure) -> Failed {
    let status = match failure.result_code() {
        ResultCode::FEATURE_MISSING => SW_UNSUPPORTED,
        ResultCode::BUSY => crate::codes::SW_FULL,
        _ => crate::codes::SW_INVALID,
    };
    Failed::new(status, failure.text())
}

/// Appends to the reply. What is more than the caller takes is answered SW_RC_TOO_LARGE in its place.
#[unsafe(no_mangle)]
pub extern "C" fn sw_reply_write(
    reply: Option<&mut Reply<'_, '_>>,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: C's caller gives so many bytes.
        let data = unsafe { bytes(data, len) }?;
        match &mut given(reply, "reply")?.way {
            Way::OfServer(reply) => reply.write(data),
            Way::OfClient(reply) => reply.write(data),
        }
        Ok(SW_OK)
    })
}

/// Sets the result code that the reply is sent with, together with its payload. Above 0 are the application's own.
#[unsafe(no_mangle)]
pub extern "C" fn sw_reply_rc(reply: Option<&mut Reply<'_, '_>>, rc: i32) -> Status {
    guard(|| {
        match &mut given(reply, "reply")?.way {
            Way::OfServer(reply) => reply.set_result(ResultCode::new(rc)),
            Way::OfClient(reply) => reply.set_result(ResultCode::new(rc)),
        }
        Ok(SW_OK)
    })
}

/// Answers that it could not be done: with this code (0 becomes SW_RC_HANDLER_FAILED) and a text for people, which may be
/// NULL. What was written is dropped. That is the answer also behind sw_reply_defer: whoever has the responder then answers
/// nobody, and hears it from sw_responder_is_cancelled.
#[unsafe(no_mangle)]
pub extern "C" fn sw_reply_fail(reply: Option<&mut Reply<'_, '_>>, rc: i32, why: *const c_char) -> Status {
    guard(|| {
        let failure = failure(rc, why)?;
        given(reply, "reply")?.failure = Some(failure);
        Ok(SW_OK)
    })
}

/// Leaves the answer for later: the responder gives it, from any thread. What was written is dropped. Others are served
/// meanwhile. It is freed with sw_responder_free, also behind the answer.
///
/// Failures: SW_INVALID if that was done before; SW_FULL if there is no room for one more that is answered later.
#[unsafe(no_mangle)]
pub extern "C" fn sw_reply_defer(
    reply: Option<&mut Reply<'_, '_>>,
    responder: Option<&mut MaybeUninit<*mut Responder>>,
) -> Status {
    guard(|| {
        let responder = place(responder, "the place for the responder")?;
        responder.put(match &mut given(reply, "reply")?.way {
            Way::OfServer(reply) => Responder::later(reply.defer().map_err(refused)?),
            Way::OfClient(reply) => Responder::to_server(reply.defer().map_err(refused)?),
        });
        Ok(SW_OK)
    })
}

/// The same for a reply in parts: sw_responder_send sends them.
///
/// Failures: SW_INVALID and SW_FULL as there; SW_UNSUPPORTED where there are no parts: in a client's handler, in the classic layout,
/// over datagrams.
#[unsafe(no_mangle)]
pub extern "C" fn sw_reply_stream(
    reply: Option<&mut Reply<'_, '_>>,
    responder: Option<&mut MaybeUninit<*mut Responder>>,
) -> Status {
    guard(|| {
        let responder = place(responder, "the place for the responder")?;
        responder.put(match &mut given(reply, "reply")?.way {
            Way::OfServer(reply) => Responder::in_parts(reply.stream().map_err(refused)?),
            Way::OfClient(_) => {
                return Err(Failed::new(SW_UNSUPPORTED, "a client's replies have no parts"));
            }
        });
        Ok(SW_OK)
    })
}
