//! A number that no table has.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct GetStatus;

sidewire::messages! {
    65536 => GetStatus;
}

fn main() {}
