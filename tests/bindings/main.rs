//! Clients in other languages, against the tool's server.
#![cfg(target_os = "linux")]

#[path = "../util/mod.rs"]
mod util;

mod python;
