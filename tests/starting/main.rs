//! Servers that are started when somebody needs them, and leave when nobody does.

#[path = "../util/mod.rs"]
mod util;

mod builds;
#[cfg(unix)] // What is killed leaves a file there.
mod contest;
mod crowd;
mod failures;
mod leaving;
#[cfg(unix)]
mod meeting;
mod one_at_a_time;
mod program;
mod takeover;
