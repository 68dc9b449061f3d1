//! Codecs, without sockets: what comes out is what went in, and a stranger's bytes are worth what they weigh.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::thread;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{
    AskError, Codec, CodecError, Events, Parts, PeerResponder, Pending, Postcard, Received, Responder,
};

crate::messages! { 1 => Wrapped; }
crate::events! { 1 => Wrapped; }

/// What other threads may be given, as its untyped like.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<(AskError, CodecError, Events<Wrapped>, Received<Wrapped>)>();
    shared::<(Parts<Wrapped>, PeerResponder<Wrapped>, Pending<Wrapped>, Responder<Wrapped>)>();
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    numbers: (i8, i16, i32, i64, i128, u8, u16, u32, u64, u128),
    floats: [f64; 2],
    sign: char,
    text: String,
    maybe: Option<Option<u8>>,
    nothing: (),
    list: Vec<Shape>,
    map: BTreeMap<String, Vec<u8>>,
    tree: Tree,
    wrapped: Wrapped,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    None,
    Circle(f32),
    Line((i32, i32), (i32, i32)),
    Square { edge: u32, name: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>, Vec<Tree>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(String);

/// In JSON it nests without a single bracket.
#[derive(Debug, Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

fn everything() -> Everything {
    let square = Shape::Square { edge: 9, name: Some("nine".into()) };
    let tree = Tree::Node(Box::new(Tree::Leaf), vec![Tree::Node(Box::new(Tree::Leaf), Vec::new())]);
    Everything {
        flag: true,
        numbers: (-1, -300, 70_000, i64::MIN, i128::MAX, 255, 65_535, u32::MAX, u64::MAX, u128::MAX),
        floats: [0.25, -1e300],
        sign: 'ß',
        text: "grüße".into(),
        maybe: Some(Some(7)),
        nothing: (),
        list: vec![Shape::None, Shape::Circle(1.5), Shape::Line((1, -1), (0, 64)), square],
        map: BTreeMap::from([("a".into(), vec![0, 255]), (String::new(), Vec::new())]),
        tree,
        wrapped: Wrapped("inside".into()),
    }
}

fn encoded<C: Codec>(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    let mut bytes = Vec::new();
    C::encode(value, &mut bytes).expect("it can be written");
    bytes
}

fn refused<C: Codec, T: DeserializeOwned + Debug>(bytes: &[u8]) -> CodecError {
    C::decode::<T>(bytes).expect_err("no such value")
}

#[test]
fn what_comes_out_is_what_went_in() {
    fn holds<C: Codec>() {
        let bytes = encoded::<C>(&everything());
        assert_eq!(C::decode::<Everything>(&bytes).expect("it can be read"), everything());
        // A list of lists without elements has more elements than some would count.
        let lists = vec![Vec::<u8>::new(); 100_000];
        assert_eq!(C::decode::<Vec<Vec<u8>>>(&encoded::<C>(&lists)).expect("it can be read"), lists);
    }
    holds::<Postcard>();
    #[cfg(feature = "json")]
    holds::<super::Json>();
}

/// Whatever is wrong with the bytes: the bounds change nothing of what they mean.
#[test]
fn it_reads_what_postcard_reads() {
    let bytes = encoded::<Postcard>(&everything());
    let theirs = |bytes: &[u8]| match postcard::take_from_bytes::<Everything>(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    };
    for at in 0..bytes.len() {
        for change in [1, 2, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            assert_eq!(Postcard::decode::<Everything>(&changed).ok(), theirs(&changed), "{at} ^ {change}");
        }
        assert!(Postcard::decode::<Everything>(&bytes[..at]).is_err(), "it ends at {at}");
    }
}

#[test]
fn what_is_left_over_is_wrong() {
    let error = refused::<Postcard, u8>(&[1, 2, 3]);
    assert_eq!(error.to_string(), "bytes are left over: 2");
    #[cfg(feature = "json")]
    {
        let error = refused::<super::Json, u8>(b"1 2");
        assert_eq!(error.to_string(), "trailing characters at line 1 column 3");
    }
}

#[test]
fn it_says_which_field_is_wrong() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "read only")]
    struct Outer {
        first: u8,
        inner: Vec<Inner>,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "read only")]
    struct Inner {
        ok: bool,
        shape: Picture,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "read only")]
    enum Picture {
        Point { x: u8, name: String },
    }
    let good = [9, 2, 1, 0, 5, 1, b'a', 0, 0, 6, 1, b'b'];
    Postcard::decode::<Outer>(&good).expect("it can be read");
    let wrong = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        refused::<Postcard, Outer>(&bytes).to_string()
    };
    assert_eq!(wrong(7, 2), "in `inner[1].ok`: a bool is neither 0 nor 1");
    assert_eq!(wrong(8, 1), "in `inner[1].shape`: the value is not allowed");
    assert_eq!(wrong(11, 0xff), "in `inner[1].shape.name`: a text is not UTF-8");
    assert_eq!(wrong(10, 2), "in `inner[1].shape.name`: the bytes end too early");
    assert_eq!(refused::<Postcard, Outer>(&[]).field(), "first");
    #[cfg(feature = "json")]
    {
        let text = br#"{"first": 1, "inner": [{"ok": true, "shape": {"Point": {"x": 300, "name": ""}}}]}"#;
        let error = refused::<super::Json, Outer>(text).to_string();
        assert!(
            error.starts_with("in `inner[0].shape.x`: invalid value: integer `300`, expected u8"),
            "{error}"
        );
        let error = refused::<super::Json, Outer>(br#"{"first": 1}"#).to_string();
        assert!(error.starts_with("missing field `inner`"), "{error}");
    }
}

/// What is wrong may be all that somebody has sent, and goes to logs and terminals.
#[cfg(feature = "json")]
#[test]
fn what_it_says_of_a_strangers_bytes_is_short_and_drives_no_terminal() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(default)]
        _known: u8,
    }
    let hostile = format!("\u{1b}]0;x\u{7}\u{202e}{}", "\u{e9}".repeat(100_000));
    // JSON has such characters only escaped, or beyond ASCII.
    let text = serde_json::to_string(&hostile).expect("a text");
    for error in [
        refused::<super::Json, Strict>(format!("{{{text}:1}}").as_bytes()),
        refused::<super::Json, Shape>(text.as_bytes()),
        refused::<super::Json, u8>(text.as_bytes()),
    ] {
        let said = error.to_string();
        let is_plain =
            said.chars().all(|character| character == '\u{e9}' || matches!(character, ' '..='~' | '…'));
        assert!(is_plain && said.len() < 1000, "{} bytes: {:.300}", said.len(), said.escape_debug());
    }
}

/// A server that keeps to no rules may send an error whose code is none.
#[test]
fn an_error_has_a_positive_code_whoever_sends_it() {
    #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
    #[error("bad")]
    struct Bad(i32);
    impl super::Fault for Bad {
        fn code(&self) -> i32 {
            self.0
        }
    }
    for (code, expected) in [(7, 7), (0, -10), (-8, -10)] {
        let error = crate::Error::from(super::AskError::App(Bad(code)));
        assert_eq!(error.result_code().map(|rc| rc.code()), Some(expected));
    }
}

/// A length is only a word: of 2^60 nothings, too, each of which would be there at once.
#[test]
fn lengths_are_not_believed() {
    const HUGE: [u8; 9] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    #[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    struct Skipped {
        #[serde(skip)]
        _large: [u64; 32],
    }
    let error = refused::<Postcard, Vec<()>>(&HUGE);
    assert_eq!(error.to_string(), "in `[1033]`: it has more elements than bytes");
    for error in [
        refused::<Postcard, Vec<Skipped>>(&HUGE),
        refused::<Postcard, BTreeMap<(), ()>>(&HUGE),
        refused::<Postcard, BTreeMap<Skipped, ()>>(&HUGE),
        refused::<Postcard, Vec<Vec<()>>>(&[&[5], &HUGE[..], &[0; 4]].concat()),
    ] {
        assert!(error.to_string().ends_with("it has more elements than bytes"), "{error}");
    }
    for error in [
        refused::<Postcard, Vec<u8>>(&HUGE),
        refused::<Postcard, Vec<[u64; 32]>>(&HUGE),
        refused::<Postcard, String>(&HUGE),
        refused::<Postcard, BTreeMap<u8, Vec<u64>>>(&HUGE),
        refused::<Postcard, std::collections::HashMap<u64, [u64; 32]>>(&HUGE),
    ] {
        assert!(error.to_string().ends_with("the bytes end too early"), "{error}");
    }
    // Some are fine.
    assert_eq!(Postcard::decode::<Vec<()>>(&[100]).expect("a hundred nothings").len(), 100);
}

/// On the smallest stack that a thread of a server may be expected to have.
#[test]
fn nesting_ends_before_the_stack_does() {
    fn deep<C: Codec>(levels: usize) -> Result<Tree, CodecError> {
        let mut tree = Tree::Leaf;
        for _ in 0..levels {
            tree = Tree::Node(Box::new(tree), Vec::new());
        }
        C::decode(&encoded::<C>(&tree))
    }
    let thread = thread::Builder::new().stack_size(1 << 20).spawn(|| {
        assert!(deep::<Postcard>(60).is_ok());
        let error = deep::<Postcard>(600).expect_err("too deep");
        assert!(error.to_string().ends_with("it nests deeper than 128 levels"), "{error}");
        // Each byte would be a level.
        let error = refused::<Postcard, Tree>(&[1; 1 << 20]);
        assert!(error.to_string().ends_with("it nests deeper than 128 levels"), "{error}");
        let error = refused::<Postcard, Endless>(&[1; 1 << 20]);
        assert!(error.to_string().ends_with("it nests deeper than 128 levels"), "{error}");
        #[cfg(feature = "json")]
        {
            assert!(deep::<super::Json>(30).is_ok());
            deep::<super::Json>(600).expect_err("too deep");
            let text = r#"{"Node":["#.repeat(1 << 17);
            refused::<super::Json, Tree>(text.as_bytes());
            refused::<super::Json, serde_json::Value>("[".repeat(1 << 20).as_bytes());
            let error = refused::<super::Json, Endless>(b"1");
            assert!(error.to_string().starts_with("it nests deeper than 128 levels"), "{error}");
        }
    });
    thread.expect("a thread").join().expect("it holds");
}

/// What serde reads twice: from a copy of its own, which only the text's own nesting bounds.
#[cfg(feature = "json")]
#[test]
fn what_serde_copies_first_ends_before_the_stack_does() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "read only")]
    enum Either {
        Number(i64),
        Node { left: Box<Either>, right: Option<Box<Either>> },
        List(Vec<Either>),
    }
    #[derive(Debug, Deserialize)]
    #[serde(tag = "t")]
    #[allow(dead_code, reason = "read only")]
    enum Tagged {
        Leaf,
        Node { inside: Vec<Tagged> },
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "read only")]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, Flat>,
    }
    let thread = thread::Builder::new().stack_size(1 << 20).spawn(|| {
        let nested =
            |open: &str, middle: &str, close: &str, times| open.repeat(times) + middle + &close.repeat(times);
        // As deep as it goes, and deeper.
        for (times, is_read) in [(60, true), (1000, false)] {
            let list = nested("[", "1", "]", times);
            let node = nested(r#"{"left":"#, "1", "}", times);
            let tagged = nested(r#"{"t":"Node","inside":["#, r#"{"t":"Leaf"}"#, "]}", times);
            let flat = nested(r#"{"a":"#, "{}", "}", times);
            let results = [
                super::Json::decode::<Tagged>(tagged.as_bytes()).is_ok(),
                super::Json::decode::<Flat>(flat.as_bytes()).is_ok(),
                super::Json::decode::<Either>(list.as_bytes()).is_ok(),
                super::Json::decode::<Either>(node.as_bytes()).is_ok(),
            ];
            assert_eq!(results, [is_read; 4], "{times} levels");
        }
    });
    thread.expect("a thread").join().expect("it holds");
}

#[test]
fn what_cannot_be_written_says_why() {
    struct Uncounted;
    impl Serialize for Uncounted {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((0..3).filter(|number| *number > 0))
        }
    }
    let error = Postcard::encode(&Uncounted, &mut Vec::new()).expect_err("how many?");
    assert_eq!(error.to_string(), "the length of a list must be known before");
    #[cfg(feature = "json")]
    {
        let map = BTreeMap::from([((1, 2), 3)]);
        let error = super::Json::encode(&map, &mut Vec::new()).expect_err("no text");
        assert_eq!(error.to_string(), "key must be a string");
    }
}
