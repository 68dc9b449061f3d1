//! The one instance of an app: real processes that start, end and are killed.

#[path = "../util/freeze.rs"]
mod freeze;
#[path = "../util/mod.rs"]
mod util;

mod activations;
mod ends;
mod stage;
mod starts;
