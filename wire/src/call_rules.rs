//! What a call may not say, and what its caller is told then: the same on streams and in datagrams.

use crate::failure::Failure;
use crate::frame::{Extension, Header, flags, split_extension};
use crate::rc::ResultCode;

/// Whether a call's id may follow the last one. Half the number space counts as "behind", so that ids
/// may wrap; any may be the first.
#[inline]
pub(crate) fn id_follows(id: u32, last: u32) -> bool {
    let step = id.wrapping_sub(last);
    id != 0 && step != 0 && (step <= u32::MAX / 2 || last == 0)
}

/// Whether a call came behind the last one that was accepted; 0 if none was. Half the number space counts as
/// "behind".
#[inline]
pub(crate) fn is_behind(id: u32, last_accepted: u32) -> bool {
    last_accepted.wrapping_sub(id) > u32::MAX / 2
}

/// The payload proper of a request that can be served. The first rule that it breaks counts.
#[inline]
pub(crate) fn check<'b>(header: &Header, payload: &'b [u8]) -> Result<&'b [u8], Failure> {
    // As most do, it says nothing that there is a rule for.
    if header.rc >= 0 && header.flags == 0 {
        return Ok(payload);
    }
    check_each(header, payload)
}

/// The same of a subscribe or an unsubscribe. Its payload has no meaning.
pub(crate) fn check_subscribe(header: &Header, payload: &[u8]) -> Result<(), Failure> {
    check(header, payload).map(|_| ())
}

#[cold]
fn check_each<'b>(header: &Header, payload: &'b [u8]) -> Result<&'b [u8], Failure> {
    if header.rc < 0 {
        Err(Failure::fixed(ResultCode::MALFORMED, "the timeout is negative"))
    } else if header.flags & flags::TEXT != 0 {
        Err(Failure::fixed(ResultCode::MALFORMED, "a request can't carry the flag TEXT"))
    } else if header.flags & flags::MORE != 0 {
        Err(Failure::fixed(ResultCode::NO_HANDLER, "requests in parts are not served"))
    } else {
        match split_extension(header.flags, payload) {
            Extension::Fine(payload) => Ok(payload),
            Extension::Malformed => {
                Err(Failure::fixed(ResultCode::MALFORMED, "the extension block is malformed"))
            }
            Extension::NotUnderstood(tag) => {
                let text = format!("extension {tag:#06x} is not known here");
                Err(Failure::new(ResultCode::FEATURE_MISSING, text))
            }
        }
    }
}
