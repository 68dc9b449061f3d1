//! Streams without frames: the library's raw bytes and lines, and the examples that use them.

#[path = "../util/mod.rs"]
mod util;

mod bytes;
mod ends;
mod half_close;
mod pressure;
mod program;
mod times;
mod witness;

mod echo;
mod terminal;
mod terminal_client;

// C, Python, nc and socat; their peers on Windows are not to be had under Wine.
#[cfg(unix)]
mod foreign;
// Descriptors and memory are counted in /proc.
#[cfg(target_os = "linux")]
mod costs;
