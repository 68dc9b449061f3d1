//! Notes that are kept by a server which describes itself, so that whoever finds it can talk to it:
//!
//!     describe serve [ENDPOINT]...
//!     describe find TEXT [ENDPOINT]
//!
//!     sidewire describe local:notes
//!     sidewire call local:notes Add '{"text": "buy tea", "tags": ["shop"]}'
//!     sidewire call local:notes Find '{"text": "tea"}'
//!
//! tests/tool/notes.py does the same in Python, with nothing but its own library.

mod support;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sidewire::describe::WhenDiffers;
use sidewire::typed::{Fault, Json};
use sidewire::{Access, App, Connect, Endpoint, Listen, Server, WhenSlow};
use support::{Printer, finish, print};

/// A note to be kept.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Add {
    /// What it says.
    text: String,
    /// What it is about.
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema)]
enum AddError {
    #[error("the note says nothing")]
    Empty,
    #[error("a note has at most {most} characters")]
    TooLong { most: usize },
}

impl Fault for AddError {}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Find {
    /// What the note has to contain.
    text: String,
    /// Which tag it has to have, if any.
    tag: Option<String>,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Note {
    number: u32,
    text: String,
    tags: Vec<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Added {
    note: Note,
}

sidewire::messages! {
    contract Requests;
    encoding Json; // so that other languages can read and write it
    /// Keeps a note, and says which number it has.
    1 => Add -> u32, error AddError;
    /// All notes that contain a text.
    2 => Find -> Vec<Note>;
}

sidewire::events! {
    contract News;
    encoding Json;
    /// There is a new note.
    1 => Added;
}

type Api = (Requests, News);

/// Where server and clients meet unless told otherwise.
const DEFAULT: &str = "local:notes";
const MOST: usize = 1000;

const USAGE: &str = "usage: describe serve [ENDPOINT]...
       describe find TEXT [ENDPOINT]

ENDPOINT is local:NAME (default local:notes), unix:/PATH, abstract:NAME, pipe:NAME or tcp:HOST:PORT";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let command = args.first().and_then(|command| command.to_str()).unwrap_or_default();
    let default = OsStr::new(DEFAULT);
    let result = match (command, args.get(1..).unwrap_or_default()) {
        ("serve", []) => serve(&[default]),
        ("serve", endpoints) => serve(endpoints),
        ("find", [text]) => find(text, default),
        ("find", [text, endpoint]) => find(text, endpoint),
        _ => return finish("describe", USAGE, None),
    };
    finish("describe", USAGE, Some(result))
}

fn serve(endpoints: &[&OsStr]) -> Result<(), Box<dyn Error>> {
    let app = App::new("org.example.notes", "1.0");
    let mut server = Server::builder(Vec::<Note>::new()).app(app).build()?;
    server.publishes::<Added>(WhenSlow::DropNewest);
    server.serve_with::<Add>(|notes, add, request| match add.text.chars().count() {
        0 => Err(AddError::Empty),
        length if length > MOST => Err(AddError::TooLong { most: MOST }),
        _ => {
            let number = notes.last().map_or(1, |note| note.number + 1);
            let note = Note { number, text: add.text, tags: add.tags };
            notes.push(note.clone());
            if let Err(failure) = request.publish_event(&Added { note }) {
                log::warn!("nobody is told of it: {failure}");
            }
            Ok(number)
        }
    });
    server.serve::<Find>(|notes, find| {
        let has_tag = |note: &Note| find.tag.as_ref().is_none_or(|tag| note.tags.contains(tag));
        let found = notes.iter().filter(|note| note.text.contains(&find.text) && has_tag(note));
        Ok(found.cloned().collect())
    });
    server.describe::<Api>()?; // when all is served
    server.stop_on_signals()?;
    let printer = Printer::new()?;
    for &text in endpoints {
        let endpoint = Endpoint::try_from(text)?;
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        let bound = server.listen(Listen::from(endpoint).access(access))?;
        printer.print(format!("listening {bound}\n"));
    }
    server.run()?;
    Ok(())
}

fn find(text: &OsStr, endpoint: &OsStr) -> Result<(), Box<dyn Error>> {
    let endpoint = Endpoint::try_from(endpoint)?;
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let connect = Connect::to(endpoint)?.access(access).contract::<Api>(WhenDiffers::Warn);
    let find = Find { text: text.to_string_lossy().into_owned(), tag: None };
    for note in connect.open()?.ask(&find)? {
        print(format!("{}: {}\n", note.number, note.text).as_bytes())?;
    }
    Ok(())
}
