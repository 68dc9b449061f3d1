//! Libraries in other languages, each with its own tests, against the tool's server.
#![cfg(target_os = "linux")]

#[path = "../util/mod.rs"]
mod util;

mod node;
mod python;
