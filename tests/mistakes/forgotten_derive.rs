//! Types that serde does not know, and an error that is none.

use serde::{Deserialize, Serialize};

struct GetStatus;

#[derive(Serialize, Deserialize)]
struct Pack {
    folder: String,
}

struct Packed {
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct NoFolder;

sidewire::messages! {
    1 => GetStatus;
    2 => Pack -> Packed, error NoFolder;
}

fn main() {}
