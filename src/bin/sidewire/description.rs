//! What a server says of itself: the document, and how it is shown.
//!
//! It may be anybody's: nothing in it is trusted, and all its texts are escaped.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value};
use sidewire::{Client, DESCRIPTION, Error, ResultCode};

use crate::text::escaped;

/// Most bytes of a description that is read.
const MOST: usize = 4 << 20;
/// How deep a type is shown.
const DEEPEST: usize = 8;
/// Characters of a line that are shown.
const LONGEST: usize = 400;

/// The document.
pub(crate) struct Description(Map<String, Value>);

/// Why there is none.
pub(crate) enum NoDescription {
    /// The server has none.
    Lacking,
    Failed(Error),
    /// What it answers is none.
    Unreadable(String),
}

/// A message in it.
pub(crate) struct Message<'a> {
    pub(crate) number: u16,
    pub(crate) encoding: &'a str,
    members: &'a Map<String, Value>,
}

impl Description {
    /// Asks for it.
    pub(crate) fn ask(client: &Client, timeout: Duration) -> Result<Description, NoDescription> {
        let answer = client.request(DESCRIPTION).timeout(timeout).send("");
        let payload = answer.map_err(NoDescription::of)?.into_payload();
        Description::read(&payload).map_err(NoDescription::Unreadable)
    }

    fn read(payload: &[u8]) -> Result<Description, String> {
        if payload.len() > MOST {
            return Err(format!("it has {} bytes; {MOST} are read at most", payload.len()));
        }
        // It nests as deep as serde_json lets it, which is 128 levels.
        match serde_json::from_slice(payload) {
            Ok(Value::Object(members)) if members.get("format") == Some(&1.into()) => {
                Ok(Description(members))
            }
            Ok(Value::Object(_)) => Err("it is of a format that this tool does not know".into()),
            Ok(_) => Err("it is no JSON object".into()),
            Err(error) => Err(format!("it is no JSON: {error}")),
        }
    }

    /// The message of this name that the server serves.
    pub(crate) fn message(&self, name: &str) -> Option<Message<'_>> {
        let mut messages = self.list("messages");
        let members = messages.find(|members| text(members, "name") == name)?;
        let number = members.get("type")?.as_u64()?;
        let number = u16::try_from(number).ok()?;
        Some(Message { number, encoding: text(members, "encoding"), members })
    }

    /// The names of all messages that it serves.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.list("messages").map(|members| shown(text(members, "name"))).collect();
        cut(names.join(", "))
    }

    fn list(&self, part: &str) -> impl Iterator<Item = &Map<String, Value>> {
        self.0.get(part).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
    }

    /// The document itself.
    pub(crate) fn json(&self) -> String {
        let pretty = serde_json::to_string_pretty(&self.0).unwrap_or_default();
        harmless(&pretty) + "\n"
    }

    /// For people.
    pub(crate) fn readable(&self) -> String {
        let mut page = String::new();
        if let Some(app) = self.0.get("app").and_then(Value::as_object) {
            let name = format!("{} {}", shown(text(app, "name")), shown(text(app, "version")));
            let _ = writeln!(page, "{}", cut(name).trim());
        }
        let _ = writeln!(page, "contract {}", cut(shown(text(&self.0, "contract"))));
        let parts =
            [("messages", "messages"), ("asks", "messages that it asks its clients"), ("events", "events")];
        for (part, title) in parts {
            let mut lines = self.list(part).map(line).peekable();
            if lines.peek().is_some() {
                let _ = writeln!(page, "\n{title}");
                lines.for_each(|line| page.push_str(&format!("  {line}\n")));
            }
        }
        let types = self.0.get("$defs").and_then(Value::as_object).filter(|types| !types.is_empty());
        if let Some(types) = types {
            page.push_str("\ntypes\n");
            types.iter().for_each(|(name, schema)| define(name, schema, &mut page));
        }
        page
    }
}

impl Message<'_> {
    /// What is sent if nothing is said.
    pub(crate) fn nothing(&self, description: &Description) -> &'static str {
        let request = self.members.get("request").unwrap_or(&Value::Null);
        let types = description.0.get("$defs").unwrap_or(&Value::Null);
        let request = match reference(request) {
            Some(name) => types.get(name).unwrap_or(request),
            None => request,
        };
        if request.get("type") == Some(&"object".into()) { "{}" } else { "null" }
    }
}

impl NoDescription {
    fn of(error: Error) -> NoDescription {
        match error.result_code() {
            Some(ResultCode::UNKNOWN_TYPE | ResultCode::NO_HANDLER) => NoDescription::Lacking,
            _ => NoDescription::Failed(error),
        }
    }
}

/// A message, or an event.
fn line(members: &Map<String, Value>) -> String {
    let name = text(members, "name");
    let number = members.get("type").and_then(Value::as_u64).unwrap_or_default();
    let mut line = format!("{number:>5}  {}", shown(name));
    let said = |what: &str| members.get(what).filter(|schema| **schema != Value::Bool(false));
    // Mostly they are called what their types are called.
    let own = said("request").or_else(|| said("event"));
    if let Some(schema) = own.filter(|schema| reference(schema) != Some(name)) {
        let _ = write!(line, " {}", short(schema, DEEPEST));
    }
    if let Some(reply) = said("reply").map(|reply| short(reply, DEEPEST)).filter(|reply| reply != NOTHING) {
        let _ = write!(line, " -> {reply}");
    }
    for what in ["progress", "error"] {
        if let Some(schema) = said(what) {
            let _ = write!(line, ", {what} {}", short(schema, DEEPEST));
        }
    }
    let _ = write!(line, " ({})", shown(text(members, "encoding")));
    if let Some(about) = text(members, "about").lines().next() {
        let _ = write!(line, ": {}", shown(about));
    }
    cut(line)
}

/// A type, with a line for each field or variant.
fn define(name: &str, schema: &Value, page: &mut String) {
    let parts = fields(schema).or_else(|| variants(schema));
    let mut line = format!("  {}", shown(name));
    if parts.is_none() {
        let _ = write!(line, " = {}", short(schema, DEEPEST));
    }
    remark(schema, &mut line);
    let _ = writeln!(page, "{}", cut(line));
    for part in parts.into_iter().flatten() {
        let _ = writeln!(page, "    {}", cut(part));
    }
}

/// Behind what has a comment.
fn remark(schema: &Value, line: &mut String) {
    let comment = schema.get("description").and_then(Value::as_str);
    if let Some(comment) = comment.and_then(|comment| comment.lines().next()) {
        let _ = write!(line, ": {}", shown(comment));
    }
}

fn fields(schema: &Value) -> Option<Vec<String>> {
    let fields = schema.get("properties")?.as_object()?;
    let required = required(schema);
    let lines = fields.iter().map(|(name, field)| {
        let mut line = format!("{} {}", named(name, &required), short(field, DEEPEST));
        remark(field, &mut line);
        line
    });
    Some(lines.collect())
}

fn variants(schema: &Value) -> Option<Vec<String>> {
    let choices = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    let lines = choices.iter().map(|choice| {
        let mut line = short(choice, DEEPEST);
        remark(choice, &mut line);
        line
    });
    Some(lines.collect())
}

/// The fields that may not be left out.
fn required(schema: &Value) -> BTreeSet<&str> {
    let names = schema.get("required").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A field's name; with a question mark if it may be left out.
fn named(name: &str, required: &BTreeSet<&str>) -> String {
    format!("{}{}", shown(name), if required.contains(name) { ":" } else { "?:" })
}

const NOTHING: &str = "nothing";

/// What values a schema allows, in a few words.
fn short(schema: &Value, levels: usize) -> String {
    let Some(levels) = levels.checked_sub(1) else { return "…".into() };
    if let Some(name) = reference(schema) {
        return shown(name);
    }
    let all = |key: &str| schema.get(key).and_then(Value::as_array);
    let each = |schemas: &[Value]| schemas.iter().map(|schema| short(schema, levels)).collect::<Vec<_>>();
    if let Some(value) = schema.get("const") {
        return harmless(&value.to_string());
    }
    if let Some(values) = all("enum") {
        return values.iter().map(|value| harmless(&value.to_string())).collect::<Vec<_>>().join(" | ");
    }
    if let Some(choices) = all("oneOf").or_else(|| all("anyOf")) {
        let mut names = each(choices);
        let before = names.len();
        names.retain(|name| name != NOTHING);
        return if names.len() < before { format!("{}?", names.join(" | ")) } else { names.join(" | ") };
    }
    match schema.get("type") {
        Some(Value::String(kind)) => of_kind(kind, schema, levels),
        Some(Value::Array(kinds)) => {
            let texts = kinds.iter().filter_map(Value::as_str);
            let (nulls, kinds): (Vec<_>, Vec<_>) = texts.partition(|kind| *kind == "null");
            let names: Vec<_> = kinds.iter().map(|kind| of_kind(kind, schema, levels)).collect();
            names.join(" | ") + if nulls.is_empty() { "" } else { "?" }
        }
        _ if *schema == Value::Bool(false) => "never".into(),
        _ => "anything".into(),
    }
}

/// The same of a schema that says of which kind they are.
fn of_kind(kind: &str, schema: &Value, levels: usize) -> String {
    let format = || schema.get("format").and_then(Value::as_str).map(shown);
    match kind {
        "null" => NOTHING.into(),
        "boolean" => "bool".into(),
        "string" => format().unwrap_or_else(|| "text".into()),
        "array" => match (schema.get("prefixItems").and_then(Value::as_array), schema.get("items")) {
            (Some(items), _) => {
                let items: Vec<_> = items.iter().map(|item| short(item, levels)).collect();
                format!("({})", items.join(", "))
            }
            (None, Some(items)) => format!("[{}]", short(items, levels)),
            (None, None) => "[anything]".into(),
        },
        "object" => {
            match (schema.get("properties").and_then(Value::as_object), schema.get("additionalProperties")) {
                (Some(fields), _) => {
                    let (fields, required) = (fields.iter(), required(schema));
                    let fields = fields
                        .map(|(name, field)| format!("{} {}", named(name, &required), short(field, levels)));
                    format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
                }
                (None, Some(values)) => format!("{{ text: {} }}", short(values, levels)),
                (None, None) => "object".into(),
            }
        }
        kind => format().unwrap_or_else(|| shown(kind)),
    }
}

/// The type that a schema refers to.
fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> &'a str {
    members.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn shown(text: &str) -> String {
    escaped(text.as_bytes())
}

/// A JSON text that drives no terminal: what might stands only within its strings, where it may be escaped.
pub(crate) fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        let is_plain = matches!(character, '\n' | ' '..='~') || character.escape_debug().len() == 1;
        if is_plain {
            text.push(character);
        } else {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(text, "\\u{unit:04x}");
            });
        }
    }
    text
}

fn cut(mut line: String) -> String {
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: &Value) -> Description {
        Description::read(document.to_string().as_bytes()).expect("a description")
    }

    #[test]
    fn types_have_short_names() {
        for (schema, expected) in [
            (json!(true), "anything"),
            (json!({ "$ref": "#/$defs/Pack" }), "Pack"),
            (json!({ "type": "integer", "format": "uint8", "minimum": 0 }), "uint8"),
            (json!({ "type": ["string", "null"] }), "text?"),
            (json!({ "anyOf": [{ "$ref": "#/$defs/A" }, { "type": "null" }] }), "A?"),
            (json!({ "type": "array", "items": { "type": "number", "format": "double" } }), "[double]"),
            (
                json!({ "type": "array", "prefixItems": [{ "type": "boolean" }, { "type": "null" }] }),
                "(bool, nothing)",
            ),
            (json!({ "type": "object", "additionalProperties": { "type": "string" } }), "{ text: text }"),
            (
                json!({ "type": "object", "properties": { "a": {}, "b": { "type": "integer" } }, "required": ["a"] }),
                "{ a: anything, b?: integer }",
            ),
            (json!({ "type": "string", "enum": ["A", "B\u{1b}"] }), "\"A\" | \"B\\u001b\""),
        ] {
            assert_eq!(short(&schema, DEEPEST), expected, "{schema}");
        }
    }

    #[test]
    fn a_page_has_a_line_for_each_message() {
        let description = read(&json!({
            "format": 1, "app": { "name": "a", "version": "1" }, "contract": "00ff",
            "messages": [
                { "type": 1, "name": "Pack", "encoding": "json", "about": "Packs.\nMore.",
                  "request": { "$ref": "#/$defs/Pack" }, "reply": { "type": "integer", "format": "uint64" },
                  "progress": { "$ref": "#/$defs/P" } },
                { "type": 65000, "name": "Stop", "encoding": "postcard", "request": { "type": "null" }, "reply": { "type": "null" } },
            ],
            "events": [{ "type": 2, "name": "Changed", "encoding": "json", "event": { "$ref": "#/$defs/Changed" } }],
            "$defs": { "P": { "type": "integer", "description": "Percent." },
                "Pack": { "type": "object", "properties": { "f": { "type": "string", "description": "Which." } } } },
        }));
        let expected = "a 1\ncontract 00ff\n\nmessages\n      1  Pack -> uint64, progress P (json): Packs.\n  \
                        65000  Stop nothing (postcard)\n\nevents\n      2  Changed (json)\n\ntypes\n  P = integer: Percent.\n  \
                        Pack\n    f?: text: Which.\n";
        assert_eq!(description.readable(), expected);
        let message = description.message("Pack").expect("a message");
        assert_eq!((message.number, message.encoding, message.nothing(&description)), (1, "json", "{}"));
        assert!(description.message("Stop").is_some_and(|stop| stop.nothing(&description) == "null"));
        assert!(description.message("Changed").is_none());
        assert_eq!(description.names(), "Pack, Stop");
    }

    /// Each field is looked for among those that are required.
    #[test]
    fn a_page_of_many_fields_takes_no_time() {
        let names: Vec<_> = (0..150_000).map(|number| format!("f{number:06}")).collect();
        let fields: Map<_, _> = names.iter().map(|name| (name.clone(), json!(true))).collect();
        let schema = json!({ "type": "object", "properties": fields, "required": names });
        let document = json!({ "format": 1, "$defs": { "T": schema } });
        let description = Description::read(document.to_string().as_bytes());
        let begun = std::time::Instant::now();
        description.expect("a description").readable();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn whoever_made_it_drives_no_terminal() {
        let evil = "\u{1b}[2J\r\n\u{9b}\u{202e}x";
        let schema = json!({ "description": evil, "type": evil, "properties": { evil: { "const": evil } }, "$ref": 5 });
        let document = json!({
            "format": 1, "app": { "name": evil, "version": evil }, "contract": evil,
            "messages": [
                { "name": evil, "type": -1, "encoding": evil, "about": evil, "request": schema, "reply": { "$ref": format!("#/$defs/{evil}") } },
                7, { "name": [], "type": "x" },
            ],
            "asks": {}, "events": null,
            "$defs": { evil: schema, "enum": { "oneOf": [schema, { "enum": [evil] }] } },
        });
        let description = read(&document);
        for page in [description.readable(), description.json(), description.names()] {
            assert!(
                page.lines().all(|line| line.chars().all(|c| (' '..='~').contains(&c) || c == '…')),
                "{page}"
            );
        }
        let again: Value = serde_json::from_str(&description.json()).expect("JSON");
        assert_eq!(again, document, "the same document");
        let mut deep = json!({ "type": "null" });
        (0..50).for_each(|_| deep = json!({ "type": "array", "items": deep }));
        let page =
            read(&json!({ "format": 1, "$defs": { "deep": deep, "l": { "enum": ["x".repeat(100_000)] } } }))
                .readable();
        assert!(page.len() < 2000 && page.contains('…'), "{page}");
        let nested = format!("{{\"format\":1,\"a\":{}", "[".repeat(1 << 20));
        for (bad, why) in [
            (nested.as_bytes(), "recursion limit"),
            (b"[1]", "no JSON object"),
            (b"\xff", "no JSON"),
            (b"{\"format\":2}", "of a format"),
            (&vec![b' '; MOST + 1], "bytes"),
        ] {
            let error = Description::read(bad).err().expect("none");
            assert!(error.contains(why), "{error}");
        }
    }
}
