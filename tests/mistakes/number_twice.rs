//! Two messages, and two events, with one number.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct GetStatus;

#[derive(Serialize, Deserialize)]
struct Stop;

#[derive(Serialize, Deserialize)]
struct Pack;

sidewire::messages! {
    1 => GetStatus -> String;
    2 => Pack;
    1 => Stop;
}

fn main() {}
