//! Messages and events that are Rust types, over real sockets.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sidewire::typed::{AskError, Fault, Message, Part};
use sidewire::{Client, Connect, Error, Failure, Limits, PeerHandle, ResultCode, Server, WhenSlow};

use crate::util::{all_streams, client, connect, fresh, start, usual, watchdog};

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

/// Whoever sends this has it asked what it serves.
#[derive(Debug, Serialize, Deserialize)]
struct AskMe {
    question: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Changed {
    folders: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Far;

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
    8 => AskMe;
    /// Beyond a table of 256 types.
    256 => Far;
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
        let mut parts = client.asking(&pack).stream().expect("start");
        assert_eq!(parts.by_ref().count(), 4);
        let Err(AskError::Call(error)) = parts.wait(|_| ()) else { panic!("its end was told") };
        assert!(error.is_invalid_input(), "{error}");
        let mut heard = Vec::new();
        let parts = client.asking(&pack).stream().expect("start");
        let packed = parts.wait(|Percent(percent)| heard.push(percent)).expect("an answer");
        assert_eq!((packed.bytes, heard), (3, vec![0, 50, 100]));
        let pending = client.asking(&GetStatus).timeout(Duration::from_secs(60)).start().expect("start");
        assert_eq!(pending.wait().expect("an answer").packed, ["a", "bcd", "bcd", "bcd"]);
        let last =
            events.by_ref().map(|event| event.expect("an event")).find(|event| event.folders.len() == 4);
        assert_eq!(last.expect("an event").into_event().folders, ["a", "bcd", "bcd", "bcd"]);
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

/// Nothing of what can't be read reaches a handler.
#[test]
fn bytes_that_are_no_such_message_are_malformed() {
    let _watchdog = watchdog(10);
    on_every_stream(|client| {
        let said = |msg_type: u16, payload: &[u8]| {
            let error = client.call(msg_type, payload).expect_err("no such message");
            assert_eq!(error.result_code(), Some(ResultCode::MALFORMED), "{error}");
            let text = error.to_string();
            text.split_once("malformed (-4): ").map_or(text.clone(), |(_, text)| text.to_owned())
        };
        assert_eq!(said(Pack::TYPE, b""), "`Pack` cannot be read: in `folder`: the bytes end too early");
        assert_eq!(
            said(Pack::TYPE, &[9, b'a']),
            "`Pack` cannot be read: in `folder`: the bytes end too early"
        );
        let wrong = [1, b'a', 3, 7, 0, 0];
        let text = "`Pack` cannot be read: in `options.name`: it is neither there (1) nor not (0)";
        assert_eq!(said(Pack::TYPE, &wrong), text);
        assert_eq!(
            said(Pack::TYPE, &[1, b'a', 3, 0, 0, 0, 0]),
            "`Pack` cannot be read: bytes are left over: 1"
        );
        assert_eq!(said(GetStatus::TYPE, b"x"), "`GetStatus` cannot be read: bytes are left over: 1");
        // On the server's own thread, whose stack it would take.
        let deep = vec![1; 1 << 20];
        assert!(said(Tree::TYPE, &deep).ends_with("it nests deeper than 128 levels"));
        // A notify reaches nobody, either.
        client.notify(Pack::TYPE, b"\x01").expect("sent");
        assert!(client.ask(&GetStatus).expect("an answer").packed.is_empty(), "nothing has changed");
        assert!(client.ask(&Tree::Leaf).expect("an answer"));
    });
}

#[test]
fn answers_that_cannot_be_sent_are_failures() {
    let _watchdog = watchdog(10);
    let endpoint = fresh("local");
    let (running, bound) = start(server(), [usual(&endpoint)]);
    let mut limits = Limits::default();
    limits.listener.connection.max_payload = 1000;
    let client = connect(&bound[0]).limits(limits.listener.connection).open().expect("a client");
    let failed = |error: AskError| Error::from(error).result_code();
    assert_eq!(client.ask(&Fill { bytes: 900 }).expect("it fits").len(), 900);
    let error = client.ask(&Fill { bytes: 999 }).expect_err("too large");
    assert_eq!(failed(error), Some(ResultCode::TOO_LARGE));
    let error = client.ask(&Count { upto: 3 }).expect_err("unwritable");
    assert!(error.to_string().contains("the reply cannot be written: the length of a list"), "{error}");
    assert_eq!(failed(error), Some(ResultCode::HANDLER_FAILED));
    drop(client);
    running.stop().expect("the server ends well");
}

/// The two sides are of different definitions.
#[test]
fn a_client_says_that_it_cannot_read_an_answer() {
    mod other {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        pub(super) struct GetStatus;
        sidewire::messages! { 1 => GetStatus -> [u64; 9]; }
    }
    let _watchdog = watchdog(10);
    on_every_stream(|client| {
        let Err(AskError::Call(error)) = client.ask(&other::GetStatus) else { panic!("it can't be read") };
        assert!(error.is_protocol() && error.msg_type() == Some(1), "{error}");
        let text = "the reply to `GetStatus` cannot be read: in `[5]`: the bytes end too early";
        assert!(error.to_string().contains(text), "{error}");
    });
}

#[test]
fn layouts_without_parts_get_the_end() {
    let _watchdog = watchdog(10);
    for endpoint in all_streams() {
        let (running, bound) = start(server(), [usual(&endpoint)]);
        let client = connect(&bound[0]).classic().open().expect("a client");
        assert_eq!(client.ask(&pack("a")).expect("an answer"), Packed { bytes: 1 });
        let error = client.ask(&pack("")).expect_err("no folder");
        assert_eq!(error.app(), Some(&PackError::NoFolder("at all".into())));
        drop(client);
        running.stop().expect("the server ends well");
    }
    let (running, bound) = start(server(), [usual(&fresh("udp"))]);
    let client = connect(&bound[0]).open().expect("a client");
    assert_eq!(client.ask(&pack("a")).expect("an answer"), Packed { bytes: 1 });
    running.stop().expect("the server ends well");
}

#[test]
fn servers_ask_with_values_too() {
    type Told = Vec<Result<bool, Option<PackError>>>;
    let _watchdog = watchdog(10);
    for endpoint in all_streams() {
        let mut server = Server::new(Told::new());
        let (tell, told) = mpsc::channel();
        let remote = server.remote().expect("a remote");
        server.serve_with::<AskMe>(move |_, ask, request| {
            let peer: PeerHandle<Told> =
                remote.peer(request.connection().ok_or(Failure::other("a datagram"))?);
            let (confirm, tell) = (Confirm { question: ask.question }, tell.clone());
            peer.ask(&confirm, None, move |state, answer| {
                state.push(answer.map_err(|error| error.app().cloned()));
                tell.send(()).expect("the test waits");
            })?;
            Ok(())
        });
        let (running, bound) = start(server, [usual(&endpoint)]);
        let client = confirming(connect(&bound[0])).open().expect("a client");
        client.spawn_reader().expect("a reader");
        for question in ["so?", "so", "", "later"] {
            client.ask(&AskMe { question: question.into() }).expect("it asks");
            told.recv().expect("it was told");
        }
        drop(client);
        let no = || PackError::NoFolder(String::new());
        assert_eq!(running.stop().expect("an end"), [Ok(true), Ok(false), Err(Some(no())), Ok(true)]);
    }
}

/// A client that confirms questions.
fn confirming(connect: Connect) -> Connect {
    connect.serve_later::<Confirm>(|confirm, _request, responder| match &*confirm.question {
        "" => responder.fail(PackError::NoFolder(confirm.question)),
        "later" => drop(thread::spawn(move || responder.reply(true))),
        question => responder.reply(question.ends_with('?')),
    })
}

/// At once, and with what to do.
#[test]
fn a_number_is_given_once() {
    fn panics(run: impl FnOnce(&mut Server<Vec<String>>)) -> String {
        let mut server = server();
        let panic = catch_unwind(AssertUnwindSafe(|| run(&mut server))).expect_err("a panic");
        panic.downcast_ref::<String>().expect("a text").clone()
    }
    mod other {
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(super) struct Pick;
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(super) struct Altered;
        sidewire::messages! { 2 => Pick; }
        sidewire::events! { 1 => Altered; }
    }
    let text = panics(|server| server.serve::<other::Pick>(|_, _| Ok(())));
    assert_eq!(
        text,
        "`Pick` has the number 2, and so has `Pack`, which is served already: give each one of its own"
    );
    let text = panics(|server| server.serve::<Fill>(|_, _| Ok(String::new())));
    assert_eq!(text, "`Fill` is served already");
    let text = panics(|server| {
        server.on(Pack::TYPE, |_, _, _| Ok(()));
        server.serve::<other::Pick>(|_, _| Ok(()));
    });
    assert!(text.ends_with("has a handler already, set by `on`: give `Pick` another"), "{text}");
    let text = panics(|server| server.publishes::<other::Altered>(WhenSlow::KeepLatest));
    assert!(text.contains("so has `Changed`, which is published already"), "{text}");
    let text = panics(|server| server.serve::<Far>(|_, _| Ok(())));
    assert_eq!(
        text,
        "`Far` has the number 256, which lies beyond a dispatch table of 256 types: give it a smaller one, or make \
         the table larger, with `Server::builder(..).types(257)`"
    );
}
