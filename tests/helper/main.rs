//! Helpers from outside: real processes, and all that can go wrong with them.

#[path = "../util/freeze.rs"]
mod freeze;
#[path = "../util/mod.rs"]
mod util;

#[cfg(feature = "serde")]
mod app;
mod breaks;
mod child;
#[cfg(feature = "describe")]
mod contracts;
mod deaths;
mod example;
#[cfg(target_os = "linux")] // Signals, shells, and /proc.
mod faults;
mod inherited;
mod log_lines;
#[cfg(unix)] // Python helpers find their channel as a descriptor.
mod python;
mod system;
