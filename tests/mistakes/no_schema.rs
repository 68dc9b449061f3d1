//! A contract of types that have no schema, and what is no contract.

use serde::{Deserialize, Serialize};
use sidewire::typed::Fault;

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Pack {
    folder: String,
}

#[derive(Serialize, Deserialize)]
struct Packed {
    bytes: u64,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("there is no folder")]
struct NoFolder;

impl Fault for NoFolder {}

sidewire::messages! {
    contract Api;
    1 => Pack -> Packed, error NoFolder;
}

fn main() {
    let mut server = sidewire::Server::new(());
    server.describe::<Pack>().expect("described");
}
