//! Messages and events that are Rust types, over real sockets.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sidewire::typed::{AskError, Fault, Part};
use sidewire::{Client, Error, ResultCode, Server, WhenSlow};

use crate::util::{all_streams, client, start, usual, watchdog};

#[derive(Debug, Serialize, Deserialize)]
struct GetStatus;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Status {
    packed: Vec<String>,
    options: Options,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Options {
    level: u8,
    name: Option<String>,
    tags: Vec<(u16, String)>,
    more: HashMap<String, Options>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pack {
    folder: String,
    options: Options,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Percent(u8);

#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum PackError {
    #[error("there is no folder {0}")]
    NoFolder(String),
    #[error("{missing} bytes are missing")]
    DiskFull { missing: u64 },
    #[error("no application would say so")]
    Impossible,
}

impl Fault for PackError {
    fn code(&self) -> i32 {
        match self {
            PackError::NoFolder(_) => 1,
            PackError::DiskFull { .. } => 2,
            PackError::Impossible => -2,
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Packed {
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Read {
    path: String,
}

#[derive(Serialize, Deserialize)]
struct Fill {
    bytes: usize,
}

/// Of a serializer that needs to know how many there are.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Uncounted(Vec<u8>);

impl Serialize for Uncounted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().filter(|byte| **byte > 0))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Count {
    upto: u8,
}

/// What clients serve.
#[derive(Debug, Serialize, Deserialize)]
struct Confirm {
    question: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Changed {
    folders: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
}

sidewire::messages! {
    /// How far the helper is.
    1 => GetStatus -> Status;
    /// Packs a folder.
    ///
    /// Says how far it is meanwhile.
    2 => Pack -> Packed, progress Percent, error PackError;
    3 => Read -> String;
    4 => Fill -> String;
    5 => Count -> Uncounted;
    6 => Tree -> bool;
    7 => Confirm -> bool, error PackError;
}

sidewire::events! {
    /// What is packed has changed.
    1 => Changed;
}

fn server() -> Server<Vec<String>> {
    let mut server = Server::new(Vec::new());
    server.publishes::<Changed>(WhenSlow::KeepLatest);
    server.serve::<GetStatus>(|packed: &mut Vec<String>, GetStatus| {
        Ok(Status { packed: packed.clone(), options: Options::default() })
    });
    server.serve_later::<Pack>(|packed, pack, request, responder| match &*pack.folder {
        "" => responder.fail(PackError::NoFolder("at all".into())),
        "full" => responder.fail(PackError::DiskFull { missing: 1 << 40 }),
        "impossible" => responder.fail(PackError::Impossible),
        "forgotten" => drop(responder),
        folder => {
            packed.push(folder.to_owned());
            request.publish_event(&Changed { folders: packed.clone() }).expect("published");
            let mut responder = responder;
            thread::spawn(move || {
                for percent in [0, 50, 100] {
                    responder.progress(Percent(percent)).expect("somebody waits");
                }
                responder.reply(Packed { bytes: pack.folder.len() as u64 });
            });
        }
    });
    server.serve::<Read>(|_, read| Ok(std::fs::read_to_string(read.path)?));
    server.serve::<Fill>(|_, fill| Ok("x".repeat(fill.bytes)));
    server.serve::<Count>(|_, count| Ok(Uncounted((0..count.upto).collect())));
    server.serve::<Tree>(|_, _| Ok(true));
    server
}

/// A fresh server on each kind of stream, and a client of it.
fn on_every_stream(test: impl Fn(&Client)) {
    for endpoint in all_streams() {
        eprintln!("on {endpoint}");
        let (running, bound) = start(server(), [usual(&endpoint)]);
        test(&client(&bound[0]));
        running.stop().expect("the server ends well");
    }
}

fn pack(folder: &str) -> Pack {
    let inner = Options { level: 9, name: Some("inner".into()), ..Options::default() };
    let tags = vec![(7, "seven".into()), (8, String::new())];
    let options = Options { level: 3, name: None, tags, more: HashMap::from([("in".into(), inner)]) };
    Pack { folder: folder.into(), options }
}

#[test]
fn what_is_asked_is_answered_on_every_stream() {
    let _watchdog = watchdog(20);
    on_every_stream(|client| {
        let mut events = client.subscribe_to::<Changed>().expect("subscribe");
        assert_eq!(client.ask(&pack("a")).expect("an answer"), Packed { bytes: 1 });
        let pack = pack("bcd");
        let parts = client.asking(&pack).stream().expect("start");
        let parts: Vec<_> = parts.collect::<Result<_, _>>().expect("parts");
        let percents = [0, 50, 100].map(|percent| Part::Progress(Percent(percent)));
        assert!(parts.starts_with(&percents), "{parts:?}");
        assert_eq!(parts[3..], [Part::Reply(Packed { bytes: 3 })]);
        let mut heard = Vec::new();
        let parts = client.asking(&pack).stream().expect("start");
        let packed = parts.wait(|Percent(percent)| heard.push(percent)).expect("an answer");
        assert_eq!((packed.bytes, heard), (3, vec![0, 50, 100]));
        let pending = client.asking(&GetStatus).timeout(Duration::from_secs(60)).start().expect("start");
        assert_eq!(pending.wait().expect("an answer").packed, ["a", "bcd", "bcd"]);
        let last =
            events.by_ref().map(|event| event.expect("an event")).find(|event| event.folders.len() == 3);
        assert_eq!(last.expect("an event").into_event().folders, ["a", "bcd", "bcd"]);
    });
}

#[test]
fn errors_of_the_application_come_as_what_they_are() {
    let _watchdog = watchdog(10);
    on_every_stream(|client| {
        let failed = |folder: &str| client.ask(&pack(folder)).expect_err("an error");
        assert!(matches!(failed(""), AskError::App(PackError::NoFolder(folder)) if folder == "at all"));
        let full = failed("full");
        assert_eq!(full.app(), Some(&PackError::DiskFull { missing: 1 << 40 }));
        let error = Error::from(full);
        assert_eq!(error.result_code(), Some(ResultCode::new(2)));
        assert!(error.to_string().ends_with("1099511627776 bytes are missing"), "{error}");
        for (folder, text) in [("impossible", "has to be positive"), ("forgotten", "without a word")] {
            let error = Error::from(failed(folder));
            assert_eq!(error.result_code(), Some(ResultCode::HANDLER_FAILED), "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
        let error = client.ask(&Read { path: "there/is/no/such/file".into() }).expect_err("no file");
        assert_eq!(Error::from(error).result_code(), Some(ResultCode::HANDLER_FAILED));
    });
}
