//! What becomes of a request whose answer is not just bytes that are there now.

use super::deferred::Deferral;
use sidewire_wire::{Parcel, ResultCode};

/// What a handler leaves to be done.
#[derive(Debug)]
pub(crate) enum Aside {
    /// It answers later.
    Deferred(Deferral),
    /// The reply is there, the last in the outbox, in a frame of so many bytes, and this goes with it.
    Attached { rc: ResultCode, frame_len: usize, parcel: Parcel },
}
