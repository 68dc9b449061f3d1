//! Helpers from outside: real processes, and all that can go wrong with them.

#[path = "../util/mod.rs"]
mod util;

#[cfg(target_os = "linux")] // Signals, shells, and /proc.
mod faults;
#[cfg(target_os = "linux")]
mod hundred;
mod inherited;
#[cfg(unix)] // Python helpers find their channel as a descriptor.
mod python;
