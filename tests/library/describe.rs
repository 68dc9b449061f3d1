//! Servers that describe themselves, and what clients of another contract hear.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sidewire::describe::{Asks, Contract, List, WhenDiffers, contract_hash};
use sidewire::typed::{Fault, Json};
use sidewire::{App, Client, Connect, DESCRIPTION, Error, ResultCode, Server, WhenSlow};

use crate::util::{all_streams, alone, client, connect, start, usual, watchdog};

/// Everything that a type can be made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
struct All {
    /// Bytes are numbers in JSON.
    bytes: Vec<u8>,
    name: Option<String>,
    map: BTreeMap<String, u64>,
    numbered: HashMap<u16, bool>,
    pair: (i64, char),
    tree: Tree,
    nested: Vec<Option<All>>,
    wide: u64,
    ratio: f64,
    description: (),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
enum Tree {
    #[default]
    Leaf,
    Node(Box<Tree>, Box<Tree>),
    Named {
        name: String,
        of: Vec<Tree>,
    },
    Only(u8),
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Pack {
    folder: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Percent(u8);

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
enum PackError {
    #[error("there is no folder {0}")]
    NoFolder(String),
}

impl Fault for PackError {}

/// In no contract: it has no schema.
#[derive(Debug, Serialize, Deserialize)]
struct Private;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Confirm {
    question: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Changed {
    folders: Vec<String>,
}

sidewire::messages! {
    contract Api;
    /// Packs a folder.
    ///
    /// Says how far it is meanwhile.
    2 => Pack -> u64, progress Percent, error PackError;
}

sidewire::messages! {
    encoding Json;
    contract pub(crate) JsonApi;
    1 => All -> All;
}

sidewire::messages! {
    3 => Private;
}

sidewire::messages! {
    contract Callbacks;
    1 => Confirm -> bool;
}

sidewire::events! {
    contract Told;
    /// What is packed has changed.
    1 => Changed;
}

type Whole = (Api, JsonApi, Asks<Callbacks>, Told);

fn undescribed() -> Server<()> {
    let mut server = Server::builder(()).app(App::new("org.example.pack", "1.2")).build().expect("a server");
    server.publishes::<Changed>(WhenSlow::KeepLatest);
    server.serve::<Pack>(|(), pack| match &*pack.folder {
        "" => Err(PackError::NoFolder("at all".into())),
        folder => Ok(folder.len() as u64),
    });
    server.serve::<All>(|(), all| Ok(all));
    server.serve::<Private>(|(), Private| Ok(()));
    server
}

fn server() -> Server<()> {
    let mut server = undescribed();
    server.describe::<Whole>().expect("described");
    server
}

fn description(client: &Client) -> Value {
    let answer = client.call(DESCRIPTION, "").expect("a description");
    serde_json::from_slice(answer.payload()).expect("JSON")
}

/// PROTOCOL Q1, Q3, Q4, Q5, Q6
#[test]
fn a_server_says_what_it_serves() {
    let _watchdog = watchdog(20);
    for endpoint in all_streams() {
        let (running, bound) = start(server(), [usual(&endpoint)]);
        let client = client(&bound[0]);
        let document = description(&client);
        assert_eq!(document["format"], 1);
        assert_eq!(document["app"], json!({ "name": "org.example.pack", "version": "1.2" }));
        let hash = contract_hash::<Whole>();
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(document["contract"], Value::from(digits));
        assert_eq!(client.peer_app().expect("an app").contract_hash(), Some(hash), "the hello has it, too");
        let [all, pack] = &document["messages"].as_array().expect("a list")[..] else {
            panic!("{document}");
        };
        assert_eq!(
            (&all["name"], &all["type"], &all["encoding"]),
            (&"All".into(), &1.into(), &"json".into())
        );
        let expected = json!({
            "type": 2, "name": "Pack", "encoding": "postcard",
            "about": "Packs a folder.\n\nSays how far it is meanwhile.",
            "request": { "$ref": "#/$defs/Pack" }, "progress": { "$ref": "#/$defs/Percent" },
            "error": { "$ref": "#/$defs/PackError" },
            "reply": { "type": "integer", "format": "uint64", "minimum": 0 },
        });
        assert_eq!(*pack, expected);
        assert_eq!(document["asks"][0]["name"], "Confirm");
        assert_eq!(document["events"][0]["event"], json!({ "$ref": "#/$defs/Changed" }));
        assert_eq!(
            document["$defs"]["All"]["properties"]["bytes"]["description"],
            "Bytes are numbers in JSON."
        );
        assert!(!document.to_string().contains("Private"), "{document}");
        drop(client);
        running.stop().expect("the server ends well");
    }
}

/// PROTOCOL Q2
#[test]
fn others_know_no_such_type() {
    let _watchdog = watchdog(10);
    let large = || Server::builder(()).types(65_536).build().expect("a server");
    let mut own = large();
    own.on(DESCRIPTION, |(), _, reply| {
        reply.write("mine");
        Ok(())
    });
    let says = |server: Server<()>| {
        let (running, bound) = start(server, [usual(&all_streams()[0])]);
        let said = client(&bound[0]).call(DESCRIPTION, "");
        running.stop().expect("the server ends well");
        said.map(|answer| answer.into_payload()).map_err(|error| error.result_code().expect("a code"))
    };
    assert_eq!(says(undescribed()), Err(ResultCode::UNKNOWN_TYPE));
    assert_eq!(says(large()), Err(ResultCode::NO_HANDLER));
    assert_eq!(says(own), Ok(b"mine".to_vec()));
    let mut described = large();
    described.serve::<Pack>(|(), _| Ok(0));
    described.describe::<Api>().expect("described");
    assert!(says(described).is_ok_and(|document| document.starts_with(b"{")));
}

#[test]
fn what_is_in_the_way_is_said_at_once() {
    let objection = |server: &mut Server<()>| {
        let error = server.describe::<(Api, Told)>().expect_err("an objection");
        assert!(error.is_invalid_input(), "{error}");
        error.to_string()
    };
    let mut server = Server::new(());
    assert!(objection(&mut server).contains("call `server.serve::<Pack>(..)` before"));
    server.serve::<Pack>(|(), _| Ok(0));
    assert!(objection(&mut server).contains("call `server.publishes::<Changed>(..)` before"));
    let mut server = Server::builder(()).types(65_536).build().expect("a server");
    server.serve::<Pack>(|(), _| Ok(0));
    server.publishes::<Changed>(WhenSlow::DropNewest);
    server.on(DESCRIPTION, |(), _, _| Ok(()));
    assert!(objection(&mut server).contains("65535"));
    let mut server = Server::builder(()).app(App::new("x", "1").contract([1; 32])).build().expect("a server");
    server.serve::<Pack>(|(), _| Ok(0));
    server.publishes::<Changed>(WhenSlow::DropNewest);
    assert!(objection(&mut server).contains("hash already"));
}

/// As long as nobody has heard a hello.
#[test]
fn it_may_listen_before() {
    let _watchdog = watchdog(10);
    let mut server = undescribed();
    let bound = server.listen(usual(&all_streams()[0])).expect("listen");
    server.describe::<Whole>().expect("described");
    let running = server.spawn().expect("spawn");
    let app = client(&bound).peer_app().expect("an app");
    assert_eq!((app.name(), app.contract_hash()), ("org.example.pack", Some(contract_hash::<Whole>())));
    running.stop().expect("the server ends well");
}

#[test]
#[should_panic(expected = "asked to describe itself: give the handler another")]
fn its_type_is_taken_then() {
    let mut server = Server::builder(()).types(65_536).build().expect("a server");
    server.serve::<Pack>(|(), _| Ok(0));
    server.describe::<Api>().expect("described");
    server.on(DESCRIPTION, |(), _, _| Ok(()));
}

/// A value goes through JSON, is what its schema says, and comes back.
#[test]
fn values_are_what_their_schemas_say() {
    let _watchdog = watchdog(20);
    let tree = Tree::Node(
        Box::new(Tree::Named { name: "a".into(), of: vec![Tree::Leaf, Tree::Only(3)] }),
        Box::new(Tree::Leaf),
    );
    let inner = All { name: Some("inner".into()), ratio: -0.5, ..All::default() };
    let all = All {
        bytes: vec![0, 128, 255],
        map: BTreeMap::from([("a b".into(), u64::MAX)]),
        numbered: HashMap::from([(65_535, true)]),
        pair: (i64::MIN, 'ß'),
        tree,
        nested: vec![None, Some(inner)],
        wide: u64::MAX,
        ..All::default()
    };
    for endpoint in all_streams() {
        let (running, bound) = start(server(), [usual(&endpoint)]);
        let client = client(&bound[0]);
        assert_eq!(client.ask(&all).expect("an answer"), all);
        let document = description(&client);
        let answer = client.call(1, serde_json::to_vec(&all).expect("JSON")).expect("an answer");
        let answer: Value = serde_json::from_slice(answer.payload()).expect("JSON");
        check(&answer, &document["messages"][0]["reply"], &document);
        let mut other = answer.clone();
        other["tree"] = json!({ "Node": ["Leaf"] });
        assert!(
            std::panic::catch_unwind(|| check(&other, &document["messages"][0]["reply"], &document)).is_err()
        );
        let error = client.call(1, other.to_string()).expect_err("no such value");
        assert_eq!(error.result_code(), Some(ResultCode::MALFORMED), "{error}");
        drop(client);
        running.stop().expect("the server ends well");
    }
}

/// Whether a value keeps to a schema, as far as these schemas go.
#[track_caller]
fn check(value: &Value, schema: &Value, document: &Value) {
    if let Some(name) = schema.get("$ref") {
        let pointer = name.as_str().expect("a text").strip_prefix('#').expect("in the document");
        return check(value, document.pointer(pointer).unwrap_or_else(|| panic!("no {name}")), document);
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(choices) = schema.get(key).and_then(Value::as_array) {
            let fits = |choice: &&Value| std::panic::catch_unwind(|| check(value, choice, document)).is_ok();
            assert_eq!(choices.iter().filter(fits).count(), 1, "{value} of {schema}");
            return;
        }
    }
    let is = |kind: &Value| match kind.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    match &schema["type"] {
        Value::Array(kinds) => assert!(kinds.iter().any(is), "{value} of {schema}"),
        kind => assert!(is(kind), "{value} of {schema}"),
    }
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        assert!(names.contains(value), "{value} of {schema}");
    }
    let members = value.as_object().into_iter().flatten();
    for (name, member) in members {
        let property = schema.get("properties").and_then(|properties| properties.get(name));
        match property.or(schema.get("additionalProperties")) {
            Some(schema) if schema.is_object() => check(member, schema, document),
            Some(Value::Bool(true)) => {}
            _ if schema.get("patternProperties").is_some() => {}
            _ => panic!("{name} in {schema}"),
        }
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        assert!(value.get(name.as_str().expect("a name")).is_some(), "{name} of {schema} in {value}");
    }
    let elements = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(schemas) = schema.get("prefixItems").and_then(Value::as_array) {
        assert_eq!(elements.len(), schemas.len(), "{value} of {schema}");
        elements.iter().zip(schemas).for_each(|(element, schema)| check(element, schema, document));
    } else if let Some(schema) = schema.get("items") {
        elements.iter().for_each(|element| check(element, schema, document));
    }
}

/// Contracts by hand, of types that differ in one thing from each other.
macro_rules! one_message {
    ($name:ident: $($type:tt)*) => {
        #[allow(dead_code, reason = "only its schema counts")]
        mod $name {
            use super::*;

            #[derive(Serialize, Deserialize, JsonSchema)]
            $($type)*

            sidewire::messages! {
                contract pub(super) Api;
                /// Some comment.
                1 => Ask -> u8;
            }
        }
    };
}

one_message!(original: struct Ask { a: u8, b: Option<String>, c: u8 });
one_message!(commented: #[doc = "Much more is said here."] struct Ask { #[doc = "And here."] a: u8, b: Option<String>, c: u8 });
one_message!(turned: struct Ask { c: u8, b: Option<String>, a: u8 });
one_message!(turned_option: struct Ask { b: Option<String>, a: u8, c: u8 });
one_message!(wider: struct Ask { a: u16, b: Option<String>, c: u8 });
one_message!(lenient: struct Ask { #[serde(default)] a: u8, b: Option<String>, c: u8 });
one_message!(renamed: struct Ask { a: u8, b: Option<String>, d: u8 });

one_message!(choice: enum Ask { A, B(u8) });
one_message!(more_choice: enum Ask { A, C, B(u8) });
one_message!(choice_turned: enum Ask { A, B(u8), C(u8) });
one_message!(choice_turned_again: enum Ask { A, C(u8), B(u8) });
one_message!(choice_commented: enum Ask { #[doc = "One."] A, #[doc = "Two."] B(u8) });

#[test]
fn the_hash_knows_what_matters_and_nothing_else() {
    let original = contract_hash::<original::Api>();
    assert_eq!(contract_hash::<commented::Api>(), original, "comments");
    let mut all = vec![
        original,
        contract_hash::<turned::Api>(),
        contract_hash::<turned_option::Api>(),
        contract_hash::<wider::Api>(),
        contract_hash::<lenient::Api>(),
        contract_hash::<renamed::Api>(),
        contract_hash::<Asks<original::Api>>(),
        contract_hash::<choice::Api>(),
        contract_hash::<more_choice::Api>(),
        contract_hash::<choice_turned::Api>(),
        contract_hash::<choice_turned_again::Api>(),
    ];
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 11, "each is another");
    assert_eq!(contract_hash::<choice_commented::Api>(), contract_hash::<choice::Api>(), "comments");
    assert_eq!(contract_hash::<Whole>(), contract_hash::<(Told, (JsonApi, Api), Asks<Callbacks>, Api)>());
    // Known, so that it is the same on all systems, with all compilers and releases.
    let digits: String = original.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, "99a96b7cc9f99a2677ead5d9d609b308085a0bac4ea459672d524e5c6deb34de");
}

/// By hand.
enum Events {}

impl Contract for Events {
    fn list(list: &mut List) {
        list.event::<Changed>();
    }
}

#[test]
fn a_client_of_another_contract_hears_so() {
    let _watchdog = watchdog(20);
    assert_eq!(contract_hash::<Events>(), contract_hash::<Told>());
    let (running, bound) = start(server(), [usual(&all_streams()[0])]);
    let (silent, unsaid) = start(undescribed(), [usual(&all_streams()[0])]);
    let open = |connect: Connect| connect.open().map(drop);
    let ours = |bound| connect(bound).app(App::new("client", "3"));
    for when in [WhenDiffers::Ignore, WhenDiffers::Warn, WhenDiffers::Refuse] {
        open(ours(&bound[0]).contract::<Whole>(when)).expect("the same contract");
    }
    for when in [WhenDiffers::Ignore, WhenDiffers::Warn] {
        open(ours(&bound[0]).contract::<Api>(when)).expect("another, which is no reason");
        open(ours(&unsaid[0]).contract::<Api>(when)).expect("none, which is no reason");
    }
    let refused = |connect: Connect| -> Error {
        connect.contract::<Api>(WhenDiffers::Refuse).open().expect_err("another")
    };
    let error = refused(ours(&bound[0]));
    assert!(error.is_other_build(), "{error}");
    assert!(error.to_string().contains("org.example.pack 1.2, and this is client 3"), "{error}");
    assert!(refused(connect(&unsaid[0])).is_other_build());
    let in_classic = connect(&bound[0]).classic().contract::<Api>(WhenDiffers::Refuse).open();
    assert!(in_classic.expect_err("no hello").is_invalid_input());
    running.stop().expect("the server ends well");
    silent.stop().expect("the server ends well");
}

/// What was logged as a warning.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNINGS.lock().expect("unpoisoned").push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn it_hears_so_in_the_log() {
    let _watchdog = watchdog(30);
    alone("describe::it_hears_so_in_the_log", || {
        log::set_logger(&Collector).expect("the only one");
        log::set_max_level(log::LevelFilter::Warn);
        let mut evil = App::new("evil\u{1b}[2J", "1");
        evil = evil.contract([7; 32]);
        let (running, bound) = start(server(), [usual(&all_streams()[0])]);
        let hostile = Server::builder(()).app(evil).build().expect("a server");
        let (other, hostile) = start(hostile, [usual(&all_streams()[0])]);
        for (bound, when, expected) in [
            (&bound[0], WhenDiffers::Ignore, &[][..]),
            (&bound[0], WhenDiffers::default(), &["org.example.pack 1.2 keeps to another contract"]),
            (&hostile[0], WhenDiffers::Warn, &["evil\\u{1b}[2J 1 keeps to another contract"]),
        ] {
            drop(connect(bound).contract::<Api>(when).open().expect("connected"));
            let warnings = std::mem::take(&mut *WARNINGS.lock().expect("unpoisoned"));
            assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
            assert!(
                warnings.iter().zip(expected).all(|(is, expected)| is.contains(expected)),
                "{warnings:?}"
            );
        }
        running.stop().expect("the server ends well");
        other.stop().expect("the server ends well");
    });
}
