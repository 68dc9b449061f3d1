//! The library from outside: real sockets, real threads, raw peers.

#[path = "../util/mod.rs"]
mod util;

mod access;
mod adopted;
mod arrival;
#[cfg(target_os = "linux")] // Counting descriptors takes /proc.
mod attached_later;
#[cfg(target_os = "linux")] // Counting descriptors takes /proc.
mod attachments;
mod both_ways;
mod both_ways_load;
mod brought;
mod classic;
mod client_loop;
mod conversations;
mod crowds;
mod deadlines;
mod deferred;
#[cfg(feature = "describe")]
mod describe;
#[cfg(target_os = "linux")] // Counting descriptors takes /proc.
mod descriptors;
mod either;
mod endpoints;
mod error_texts;
mod events;
#[cfg(feature = "cli")]
mod exec;
#[cfg(target_os = "linux")] // Shells, Python, and /proc.
mod exec_scripts;
mod fairness;
mod faults;
#[cfg(unix)] // Windows has no fork.
mod forked;
#[cfg(target_os = "linux")] // Signals, and /proc.
mod frozen;
#[cfg(windows)] // Elsewhere the system carries them.
mod handles;
mod held_up;
mod hello;
mod large;
mod limits;
#[cfg(all(feature = "serde", target_os = "linux"))] // Which is where the compiler is.
mod mistakes;
mod own_loop;
mod own_server;
mod pending;
mod pieces;
mod pings;
mod reconnect;
mod relaying;
mod remote;
mod server;
mod slow;
mod spinning;
mod stop_again;
mod stop_under_load;
mod stopping;
mod strangers;
mod streams;
#[cfg(feature = "tokio")]
mod tasks;
mod timeouts;
#[cfg(feature = "token")]
mod token;
#[cfg(feature = "serde")]
mod typed;
mod v1;
mod values;
mod who;
