//! Libraries in other languages, each with its own tests, against each other and against ours.

#![cfg(target_os = "linux")] // Where their compilers and interpreters are at hand.

#[path = "../util/mod.rs"]
mod util;

mod c;
mod node;
mod pairs;
mod python;
