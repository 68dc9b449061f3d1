//! The library from outside: real sockets, real threads, raw peers.

#[path = "../util/mod.rs"]
mod util;

mod crowds;
mod pieces;
mod timeouts;
mod values;
