//! What only Windows has: programs against named pipes and mailslots, written in C as people
//! write them, and what processes do to each other over pipes.

#![cfg(windows)]

#[path = "../util/mod.rs"]
mod util;

#[allow(dead_code, reason = "made for the tests of the tool, which use more of it")]
#[path = "../tool/stage.rs"]
mod stage;

#[allow(dead_code, reason = "made for the tests of streams, which use more of it")]
#[path = "../streams/program.rs"]
mod program;

mod again;

mod c_programs;
mod crowds;
mod deaths;
mod integrity;
mod large;
mod names;
mod node;
