//! Datagrams: frames and plain messages, over every kind of datagram socket that the system has.

#[path = "../util/mod.rs"]
mod util;

#[allow(dead_code, reason = "made for the tests of streams, which use more of it")]
#[path = "../streams/program.rs"]
mod program;

mod stage;

mod calls;
mod deferred;
mod examples;
mod faults;
mod frames;
mod messages;

#[cfg(unix)]
mod files;
// C, Python, nc and socat; their peers on Windows are not to be had under Wine.
#[cfg(unix)]
mod foreign;
#[cfg(windows)]
mod mailslots;
// Only there do full queues wait for a timer, and datagrams come with their sender's credentials.
#[cfg(target_os = "linux")]
mod pressure;
#[cfg(target_os = "linux")]
mod users;
