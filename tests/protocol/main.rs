//! `PROTOCOL.md`, held to what the server does: its conversations are played against a real
//! server byte for byte, its tables are compared with the code's numbers, its programs are run, and
//! each of its rules has a test.

#[path = "../util/mod.rs"]
mod util;

mod files;
mod numbers;
mod programs;
#[cfg(unix)] // There is no Python under Wine, and none on Windows that knows Unix sockets.
mod python;
mod replay;
mod rules;
mod tables;

const DOCUMENT: &str = include_str!("../../PROTOCOL.md");
