//! Schemas in the one form that is hashed.

use serde_json::{Map, Value};

/// Keywords that tell people something, and say nothing of the values.
const WORDS: [&str; 8] =
    ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"];

/// Takes the words out of a schema, and out of all within it.
pub(super) fn without_words(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    members.retain(|key, _| !WORDS.contains(&&**key));
    for (key, value) in members.iter_mut() {
        match (&**key, value) {
            // Not schemas but values, whatever they look like.
            ("const" | "enum" | "required", _) => {}
            // By names that are nobody's words.
            ("properties" | "patternProperties" | "$defs" | "dependentSchemas", Value::Object(schemas)) => {
                schemas.values_mut().for_each(without_words)
            }
            (_, Value::Array(schemas)) => schemas.iter_mut().for_each(without_words),
            (_, schema) => without_words(schema),
        }
    }
    together(members);
}

/// Variants without fields stand together, unless they have comments: so they do here without.
fn together(schema: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = schema.get_mut("oneOf") else { return };
    let mut names = Vec::new();
    choices.retain_mut(|choice| match plain_names(choice) {
        Some(more) => {
            names.extend(more);
            false
        }
        None => true,
    });
    if names.is_empty() {
        return;
    }
    let mut plain = Map::new();
    plain.insert("type".into(), "string".into());
    plain.insert("enum".into(), names.into());
    if choices.is_empty() {
        schema.remove("oneOf");
        schema.append(&mut plain);
    } else {
        choices.insert(0, plain.into());
    }
}

/// If this is a choice of texts, and nothing else.
fn plain_names(choice: &Value) -> Option<Vec<Value>> {
    let members = choice.as_object()?;
    let is_text = members.len() == 2 && members.get("type")? == "string";
    match (is_text, members.get("const"), members.get("enum")) {
        (true, Some(name), None) => Some(vec![name.clone()]),
        (true, None, Some(Value::Array(names))) => Some(names.clone()),
        _ => None,
    }
}

/// As text: the members of objects in the order of their names' bytes, nothing between words. How `serde_json` itself
/// orders them is up to features that any crate may switch on.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write(value, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_bytes());
            text.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                text.push_str(&Value::from(&**name).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_hashed_has_an_order_and_no_words() {
        let mut schema = json!({
            "title": "T", "type": "object", "required": ["b", "a"],
            "properties": {
                "description": { "description": "a field's name", "type": "string" },
                "b": { "const": { "title": "a value" } },
                "a": { "items": { "anyOf": [{ "$comment": "x", "type": "null" }, true] } },
            },
        });
        without_words(&mut schema);
        assert_eq!(
            canonical(&schema),
            r#"{"properties":{"a":{"items":{"anyOf":[{"type":"null"},true]}},"b":{"const":{"title":"a value"}},"description":{"type":"string"}},"required":["b","a"],"type":"object"}"#
        );
    }

    #[test]
    fn comments_on_all_variants_change_nothing() {
        let without = |mut schema: Value| {
            without_words(&mut schema);
            canonical(&schema)
        };
        let text = |name: &str| json!({ "type": "string", "const": name, "description": "x" });
        let both = json!({ "type": "string", "enum": ["A", "B"] });
        assert_eq!(without(json!({ "oneOf": [text("A"), text("B")] })), without(both.clone()));
        let fields = json!({ "type": "object" });
        assert_eq!(
            without(json!({ "oneOf": [fields, text("A"), text("B")] })),
            without(json!({ "oneOf": [both, fields] }))
        );
    }
}
