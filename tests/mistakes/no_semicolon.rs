//! An entry that does not end.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct GetStatus;

#[derive(Serialize, Deserialize)]
struct Stop;

sidewire::messages! {
    /// How far the helper is.
    1 => GetStatus -> String
    2 => Stop;
}

fn main() {}
