//! Messages that are Rust types: a helper packs folders, says how far it is, and what has changed.
//!
//! cargo run --features serde --example typed

mod support;

use std::error::Error;
use std::process::ExitCode;
use std::thread;

use serde::{Deserialize, Serialize};
use sidewire::typed::{AskError, Fault, Part};
use sidewire::{Client, Server, WhenSlow};
use support::{finish, print};

#[derive(Serialize, Deserialize)]
struct GetStatus;

#[derive(Serialize, Deserialize)]
struct Status {
    packed: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Pack {
    folder: String,
}

#[derive(Serialize, Deserialize)]
struct Percent(u8);

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
enum PackError {
    #[error("there is no folder {0}")]
    NoFolder(String),
}

impl Fault for PackError {}

#[derive(Serialize, Deserialize)]
struct Changed {
    folders: usize,
}

// Both sides use this: in an app it stands in a module, or a crate, that both have.
sidewire::messages! {
    /// What was packed.
    1 => GetStatus -> Status;
    /// Packs a folder, and says how many bytes that makes.
    2 => Pack -> u64, progress Percent, error PackError;
}

sidewire::events! {
    /// Another folder is packed.
    1 => Changed;
}

fn serve() -> sidewire::Result<Server<Vec<String>>> {
    let mut server = Server::new(Vec::new());
    server.publishes::<Changed>(WhenSlow::KeepLatest);
    server.serve::<GetStatus>(|packed: &mut Vec<String>, _| Ok(Status { packed: packed.clone() }));
    let remote = server.remote()?;
    server.serve_later::<Pack>(move |packed, pack, _request, mut responder| {
        if pack.folder.is_empty() {
            return responder.fail(PackError::NoFolder(pack.folder));
        }
        packed.push(pack.folder.clone());
        let (folders, remote) = (packed.len(), remote.clone());
        thread::spawn(move || {
            for percent in (0..=100).step_by(25) {
                if responder.progress(Percent(percent)).is_err() {
                    return; // nobody waits for it any more
                }
            }
            responder.reply(pack.folder.len() as u64);
            // That nobody can be told any more is fine.
            let _ = remote.publish_event(&Changed { folders });
        });
    });
    Ok(server)
}

fn main() -> ExitCode {
    finish("typed", "", Some(run()))
}

fn run() -> Result<(), Box<dyn Error>> {
    let name = format!("local:typed-{}", std::process::id());
    let mut server = serve()?;
    server.listen(name.as_str())?;
    let running = server.spawn()?;

    let client = Client::connect(name.as_str())?;
    let mut changes = client.subscribe_to::<Changed>()?;
    for part in client.asking(&Pack { folder: "pictures".into() }).stream()? {
        match part? {
            Part::Progress(Percent(percent)) => print(format!("{percent} %\n"))?,
            Part::Reply(bytes) => print(format!("packed to {bytes} bytes\n"))?,
        }
    }
    match client.ask(&Pack { folder: String::new() }) {
        Err(AskError::App(PackError::NoFolder(name))) => print(format!("no folder {name:?}\n"))?,
        other => print(format!("{} bytes of nothing\n", other?))?,
    }
    if let Some(change) = changes.next().transpose()? {
        print(format!("{} folders now\n", change.folders))?;
    }
    print(format!("packed: {}\n", client.ask(&GetStatus)?.packed.join(", ")))?;
    drop(client);
    running.stop()?;
    Ok(())
}
