//! The library from outside: real sockets, real threads, raw peers.

#[path = "../util/mod.rs"]
mod util;

mod classic;
mod crowds;
mod deadlines;
mod fairness;
mod hello;
mod limits;
mod pieces;
mod timeouts;
mod v1;
mod values;
