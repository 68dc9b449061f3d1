//! A type without a number.

use serde::{Deserialize, Serialize};
use sidewire::{Client, Server};

#[derive(Serialize, Deserialize)]
struct GetStatus;

fn main() {
    let mut server = Server::new(());
    server.serve::<GetStatus>(|(), _| Ok(()));
    let client = Client::connect("local:com.example.app").expect("a server");
    client.ask(&GetStatus).expect("an answer");
}
