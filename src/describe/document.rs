//! The document: what a server answers who asks it to describe itself, and the hash that stands for it.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::canonical::{canonical, without_words};
use super::list::{Entry, List, Part};
use sidewire_wire::App;

/// Of the document's form. Members may be added to it; what there is keeps its meaning.
const FORMAT: u32 = 1;

/// The document's text.
pub(super) fn text(list: &List, app: &App, hash: &[u8; 32]) -> String {
    let mut document = Map::new();
    document.insert("format".into(), FORMAT.into());
    if !app.name().is_empty() || !app.version().is_empty() {
        document.insert("app".into(), json!({ "name": app.name(), "version": app.version() }));
    }
    let digits = hash.iter().map(|byte| format!("{byte:02x}"));
    document.insert("contract".into(), digits.collect::<String>().into());
    document.extend(parts(list, SchemaSettings::draft2020_12(), entry));
    Value::Object(document).to_string()
}

/// What all who have the same types come to, whatever their comments say: SHA-256 of the canonical text of the
/// schemas as types are read, and as they are written. Only the latter name all fields in their order.
pub(super) fn hash(list: &List) -> [u8; 32] {
    let mut hash = Sha256::new();
    for settings in [SchemaSettings::draft2020_12(), SchemaSettings::draft2020_12().for_serialize()] {
        let mut bare = parts(list, settings, bare_entry);
        bare.get_mut("$defs").and_then(Value::as_object_mut).into_iter().for_each(|types| {
            types.values_mut().for_each(without_words);
        });
        hash.update(canonical(&Value::Object(bare)));
    }
    hash.finalize().into()
}

/// All entries, and the types that they refer to.
fn parts(
    list: &List,
    settings: SchemaSettings,
    entry: fn(&Entry, &mut SchemaGenerator) -> Value,
) -> Map<String, Value> {
    // In the order of the list, since two types of one name are told apart by who comes first.
    let mut generator = settings.into_generator();
    let mut parts = Map::new();
    for (part, name) in [(Part::Served, "messages"), (Part::Asked, "asks"), (Part::Events, "events")] {
        let entries = list.entries().iter().filter(|entry| entry.part == part);
        let entries: Vec<_> = entries.map(|each| entry(each, &mut generator)).collect();
        parts.insert(name.into(), entries.into());
    }
    parts.insert("$defs".into(), Value::Object(generator.take_definitions(true)));
    parts
}

/// An entry of the document.
fn entry(entry: &Entry, generator: &mut SchemaGenerator) -> Value {
    let mut members = named(entry);
    if !entry.about.is_empty() {
        let lines = entry.about.lines().map(str::trim);
        members.insert("about".into(), lines.collect::<Vec<_>>().join("\n").into());
    }
    members.extend((entry.schemas)(generator).into_iter().map(|(what, schema)| (what.into(), schema.into())));
    Value::Object(members)
}

/// The same without words.
fn bare_entry(entry: &Entry, generator: &mut SchemaGenerator) -> Value {
    let mut members = named(entry);
    for (what, schema) in (entry.schemas)(generator) {
        let mut schema = schema.into();
        without_words(&mut schema);
        members.insert(what.into(), schema);
    }
    Value::Object(members)
}

fn named(entry: &Entry) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("type".into(), entry.number.into());
    members.insert("name".into(), entry.name.into());
    members.insert("encoding".into(), entry.encoding.into());
    members
}
