//! Messages that are Rust types: a helper packs folders, says how far it is, and what has changed.
//!
//! cargo run --features serde --example typed

use std::thread;

use serde::{Deserialize, Serialize};
use sidewire::typed::{AskError, Fault};
use sidewire::{Client, Server, WhenSlow};

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

fn main() -> sidewire::Result<()> {
    let name = format!("local:typed-{}", std::process::id());
    let mut server = serve()?;
    server.listen(name.as_str())?;
    let running = server.spawn()?;

    let client = Client::connect(name.as_str())?;
    let mut changes = client.subscribe_to::<Changed>()?;
    let pack = Pack { folder: "pictures".into() };
    let bytes = client.asking(&pack).stream()?.wait(|Percent(percent)| println!("{percent} %"))?;
    println!("packed to {bytes} bytes");
    match client.ask(&Pack { folder: String::new() }) {
        Err(AskError::App(PackError::NoFolder(name))) => println!("no folder {name:?}"),
        other => println!("{} bytes of nothing", other?),
    }
    if let Some(change) = changes.next().transpose()? {
        println!("{} folders now", change.folders);
    }
    println!("packed: {}", client.ask(&GetStatus)?.packed.join(", "));
    drop(client);
    running.stop()?;
    Ok(())
}
