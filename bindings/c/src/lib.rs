//! Sidewire for C programs. What they see of it is `include/sidewire.h`, which cbindgen makes of the functions here and
//! their comments; so those are written for who writes C.
//!
//! Everything comes in as what it may be: an object is an `Option<&T>`, one that is given back an `Option<Box<T>>`, a
//! place for a result an `Option<&mut MaybeUninit<*mut T>>`, which have the layout of C's pointers, NULL included. So
//! what is `unsafe` lies in `pointers`, where its two functions are asked, and in `descriptors`. No panic leaves: see `error::guard`.

#![allow(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "C calls these, which has no such word; the header says what holds"
)]

pub mod attachments;
pub mod client;
pub mod codes;
pub mod descriptors;
pub mod error;
pub mod later;
pub mod options;
pub mod peer;
mod pointers;
pub mod request;
pub mod responder;
pub mod response;
pub mod server;
