//! What was answered.

use std::ffi::c_char;

use crate::codes::{SW_RC_NONE, SW_RC_OK};
use crate::error::guard_free;

/// What was answered to a call, or one part of it. Nothing but taking its attachments changes it, so any number of threads may read it.
pub struct Response {
    rc: i32,
    is_text: bool,
    payload: Payload,
}

/// Where its bytes lie.
enum Payload {
    Whole(sidewire::Response),
    Error(sidewire::Error),
    Bytes(Vec<u8>),
}

impl Response {
    pub(crate) fn whole(response: sidewire::Response) -> Response {
        let (rc, is_text) = (response.result_code().code(), response.is_explanation());
        Response { rc, is_text, payload: Payload::Whole(response) }
    }

    /// Of a call that was answered with a code other than 0; `Err`: that is not what has happened.
    pub(crate) fn from_error(error: sidewire::Error) -> Result<Response, sidewire::Error> {
        match error.result_code() {
            Some(rc) => {
                let is_text = error.is_explanation();
                Ok(Response { rc: rc.code(), is_text, payload: Payload::Error(error) })
            }
            None => Err(error),
        }
    }

    pub(crate) fn answer(answer: &sidewire::Answer<'_>) -> Response {
        let payload = Payload::Bytes(answer.payload().to_vec());
        Response { rc: answer.result_code().code(), is_text: answer.is_explanation(), payload }
    }

    pub(crate) fn part(bytes: Vec<u8>) -> Response {
        Response { rc: SW_RC_OK, is_text: false, payload: Payload::Bytes(bytes) }
    }

    pub(crate) fn take_attachments(&self) -> Vec<sidewire::Attachment> {
        match &self.payload {
            Payload::Whole(response) => response.take_attachments(),
            Payload::Error(_) | Payload::Bytes(_) => Vec::new(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.payload {
            Payload::Whole(response) => response.payload(),
            Payload::Error(error) => error.payload(),
            Payload::Bytes(bytes) => bytes,
        }
    }
}

/// Bytes for C, which never gets NULL.
pub(crate) fn pointer(bytes: &[u8]) -> *const c_char {
    if bytes.is_empty() { c"".as_ptr() } else { bytes.as_ptr().cast() }
}

/// The result code: SW_RC_OK is fine. SW_RC_NONE of NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_response_rc(response: Option<&Response>) -> i32 {
    response.map_or(SW_RC_NONE, |response| response.rc)
}

/// What came with it: sw_response_len() bytes, without a NUL behind them. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sw_response_data(response: Option<&Response>) -> *const c_char {
    pointer(response.map_or(&[], Response::bytes))
}

/// How many bytes came with it.
#[unsafe(no_mangle)]
pub extern "C" fn sw_response_len(response: Option<&Response>) -> usize {
    response.map_or(0, |response| response.bytes().len())
}

/// 1 if these bytes are no data but a text that explains the result code; otherwise 0.
#[unsafe(no_mangle)]
pub extern "C" fn sw_response_is_text(response: Option<&Response>) -> i32 {
    response.map_or(0, |response| i32::from(response.is_text))
}

/// Gives it back.
#[unsafe(no_mangle)]
pub extern "C" fn sw_response_free(response: Option<Box<Response>>) {
    guard_free(response);
}
