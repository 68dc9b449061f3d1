//! The library from outside: real sockets, real threads, raw peers.

#[path = "../util/mod.rs"]
mod util;
