//! Holds a document against the schema that its type derives: every field that is unknown, missing, doubled, of
//! another type or out of bounds, each with its path.
//!
//! serde would stop at the first of them, and would not notice an unknown field at all where types are flattened.
//! Patterns of strings are left to [`super::compile`], whose messages say more than a regular expression.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};

use super::crd::crds;
use super::error::{FieldPath, Hint, ShapeError};
use super::node::{Key, Node, Value};

/// The schemas of both kinds, by kind.
static SCHEMAS: LazyLock<Vec<(String, Json)>> = LazyLock::new(|| {
    crds()
        .into_iter()
        .map(|crd| {
            let mut schema = crd
                .spec
                .versions
                .into_iter()
                .find_map(|version| version.schema?.open_api_v3_schema)
                .and_then(|schema| serde_json::to_value(schema).ok())
                .unwrap_or_default();
            // A definition leaves these to the API server; a file has only us.
            if let Some(properties) = schema.pointer_mut("/properties").and_then(Json::as_object_mut) {
                let text = json!({"type": "string"});
                properties.extend([
                    ("apiVersion".to_owned(), text.clone()),
                    ("kind".to_owned(), text),
                    ("metadata".to_owned(), metadata_schema()),
                ]);
            }
            if let Some(required) = schema.pointer_mut("/required").and_then(Json::as_array_mut) {
                required.push("metadata".into());
            }
            (crd.spec.names.kind, schema)
        })
        .collect()
});

fn metadata_schema() -> Json {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    settings
        .into_generator()
        .into_root_schema_for::<ObjectMeta>()
        .to_value()
}

/// Where a document differs from the schema of its kind. The caller has read the kind from the document.
pub(super) fn differences(kind: &str, document: &Node) -> Vec<(FieldPath, ShapeError)> {
    let mut found = Differences(Vec::new());
    if let Some((_, schema)) = SCHEMAS.iter().find(|(known, _)| known == kind) {
        found.visit(&FieldPath::default(), document, schema);
    }
    found.0
}

struct Differences(Vec<(FieldPath, ShapeError)>);

impl Differences {
    fn report(&mut self, path: &FieldPath, error: ShapeError) {
        self.0.push((path.clone(), error));
    }

    /// The depth is that of the document, which the parser bounds.
    fn visit(&mut self, path: &FieldPath, node: &Node, schema: &Json) {
        let want = schema.get("type").and_then(Json::as_str).unwrap_or_default();
        match (&node.value, want) {
            (Value::Map(fields), "object") => self.map(path, fields, schema),
            (Value::List(items), "array") => self.list(path, items, schema),
            (Value::Text(text), "string") => self.text(path, text, schema),
            (Value::Number(number), "integer") => self.integer(path, number, schema),
            (Value::Bool(_), "boolean") | (Value::Number(_), "number") | (_, "") => {}
            (found, want) => self.report(
                path,
                ShapeError::Type {
                    want: described(want),
                    found: found.kind(),
                },
            ),
        }
    }

    fn map(&mut self, path: &FieldPath, fields: &[(Key, Node)], schema: &Json) {
        self.duplicates(path, fields);
        let known = schema.get("properties").and_then(Json::as_object);
        let free = schema.get("additionalProperties");
        if let Some(max) = bound(schema, "maxProperties") {
            self.size(path, 0, max, fields.len(), "entries");
        }
        for (key, value) in fields {
            let path = path.field(&key.name);
            match known.and_then(|known| known.get(&key.name)).or(free) {
                Some(schema) => self.visit(&path, value, schema),
                // An object without properties of its own may hold anything.
                None if known.is_none() => {}
                None => {
                    let names = known
                        .into_iter()
                        .flat_map(|known| known.keys().map(String::as_str));
                    let hint = Hint::new(&key.name, names);
                    self.report(&path, ShapeError::Unknown { hint });
                }
            }
        }
        let required = schema.get("required").and_then(Json::as_array);
        for name in required.into_iter().flatten().filter_map(Json::as_str) {
            if !fields.iter().any(|(key, _)| key.name == name) {
                self.report(path, ShapeError::Missing { name: name.into() });
            }
        }
    }

    fn duplicates(&mut self, path: &FieldPath, fields: &[(Key, Node)]) {
        let mut seen = BTreeSet::new();
        for (key, _) in fields {
            if !seen.insert(&key.name) {
                self.report(&path.field(&key.name), ShapeError::Duplicate { again: key.line });
            }
        }
    }

    fn list(&mut self, path: &FieldPath, items: &[Node], schema: &Json) {
        if let Some(max) = bound(schema, "maxItems") {
            let min = bound(schema, "minItems").unwrap_or_default();
            self.size(path, min, max, items.len(), "items");
        }
        if let Some(schema) = schema.get("items") {
            for (i, item) in items.iter().enumerate() {
                self.visit(&path.item(i), item, schema);
            }
        }
    }

    fn text(&mut self, path: &FieldPath, text: &str, schema: &Json) {
        let words = schema.get("enum").and_then(Json::as_array);
        let mut words = words.into_iter().flatten().filter_map(Json::as_str).peekable();
        if words.peek().is_some() && !words.clone().any(|word| word == text) {
            let (found, hint) = (text.into(), Hint::new(text, words));
            self.report(path, ShapeError::Choice { found, hint });
        }
        if let Some(max) = bound(schema, "maxLength") {
            let min = bound(schema, "minLength").unwrap_or_default();
            self.size(path, min, max, text.chars().count(), "characters");
        }
    }

    fn integer(&mut self, path: &FieldPath, number: &serde_json::Number, schema: &Json) {
        let limit = |name| schema.get(name).and_then(Json::as_f64);
        let least = limit("minimum").map_or(i64::MIN, whole);
        let most = limit("maximum").map_or(i64::MAX, whole);
        if !number
            .as_i64()
            .is_some_and(|value| (least..=most).contains(&value))
        {
            self.report(
                path,
                ShapeError::Range {
                    min: least,
                    max: most,
                    found: number.to_string().into(),
                },
            );
        }
    }

    fn size(&mut self, path: &FieldPath, min: u64, max: u64, found: usize, unit: &'static str) {
        let found = u64::try_from(found).unwrap_or(u64::MAX);
        if !(min..=max).contains(&found) {
            self.report(
                path,
                ShapeError::Size {
                    min,
                    max,
                    found,
                    unit,
                },
            );
        }
    }
}

fn bound(schema: &Json, name: &str) -> Option<u64> {
    schema.get(name).and_then(Json::as_u64)
}

/// Bounds of numbers are floats in a schema; ours are small whole numbers.
#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates, and the bounds are constants of ours"
)]
const fn whole(bound: f64) -> i64 {
    bound as i64
}

fn described(want: &str) -> &'static str {
    match want {
        "object" => "a map",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "something else",
    }
}
