//! The command-line tool and foreign programs: real processes.

#[path = "../util/mod.rs"]
mod util;
