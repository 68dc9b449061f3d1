//! The handler answers something else than the message promises.

use serde::{Deserialize, Serialize};
use sidewire::Server;

#[derive(Serialize, Deserialize)]
struct GetStatus;

#[derive(Serialize, Deserialize)]
struct Status {
    done: u32,
}

sidewire::messages! {
    1 => GetStatus -> Status;
}

fn main() {
    let mut server = Server::new(7u32);
    server.serve::<GetStatus>(|done, _| Ok(*done));
}
