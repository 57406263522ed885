//! `values.yaml` as what the chart's README and schema are made from.
//!
//! A comment `# -- TEXT` above a key describes a value that users set; `# @schema {JSON}` says about it what its default
//! does not. A key without description is a group, whose keys are looked at in turn.

use serde_json::{Map, Value, json};

/// A value that users may set, or a group of them.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) path: Vec<String>,
    /// None for a group.
    pub(super) description: Option<String>,
    pub(super) default: Value,
    constraint: Value,
    children: Vec<Self>,
}

impl Node {
    /// The whole file.
    pub(super) fn parse(text: &str) -> Self {
        let default: Value = serde_saphyr::from_str(text).unwrap();
        let mut lines = text.lines().peekable();
        Self {
            path: Vec::new(),
            description: None,
            children: children(&mut lines, 0, &[], &default),
            default,
            constraint: json!({}),
        }
    }

    /// The values that have a description, in the order of the file.
    pub(super) fn described(&self) -> Vec<&Self> {
        let own = self.description.is_some().then_some(self);
        own.into_iter()
            .chain(self.children.iter().flat_map(Self::described))
            .collect()
    }

    /// What JSON Schema calls the type of the default, unless a constraint names another.
    pub(super) fn kind(&self) -> String {
        match self.constraint.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(Value::Array(kinds)) => {
                let kinds: Vec<_> = kinds.iter().filter_map(Value::as_str).collect();
                kinds.join(" or ")
            }
            _ => kind(&self.default).to_owned(),
        }
    }

    pub(super) fn schema(&self) -> Value {
        let mut schema = Map::new();
        if let Some(description) = &self.description {
            schema.insert("description".to_owned(), json!(description));
        }
        if self.constraint.get("type").is_none() {
            schema.insert("type".to_owned(), json!(kind(&self.default)));
        }
        if self.description.is_none() {
            schema.insert("additionalProperties".to_owned(), json!(false));
            let properties = self
                .children
                .iter()
                .map(|child| (child.path.last().unwrap().clone(), child.schema()));
            schema.insert("properties".to_owned(), properties.collect::<Map<_, _>>().into());
        }
        schema.extend(self.constraint.as_object().unwrap().clone());
        schema.into()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => panic!("a null needs a type in its schema comment"),
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The keys at `indent`, up to the first line that stands further left.
fn children<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    indent: usize,
    parent: &[String],
    values: &Value,
) -> Vec<Node> {
    let mut nodes = Vec::new();
    let (mut description, mut constraint) = (None, json!({}));
    while let Some(line) = lines.peek() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if !text.is_empty() && depth < indent {
            break;
        }
        lines.next();
        if let Some(comment) = text.strip_prefix("# -- ") {
            description = Some(comment.to_owned());
        } else if let Some(json) = text.strip_prefix("# @schema ") {
            constraint = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        }
        if depth > indent || text.is_empty() || text.starts_with(['#', '-']) {
            continue;
        }
        let (key, _) = text.split_once(':').unwrap();
        let path: Vec<_> = parent.iter().cloned().chain([key.to_owned()]).collect();
        let default = values[key].clone();
        let children = if description.is_some() {
            Vec::new()
        } else {
            assert!(default.is_object(), "{} has no description", path.join("."));
            children(lines, indent + 2, &path, &default)
        };
        nodes.push(Node {
            path,
            description: description.take(),
            default,
            constraint: std::mem::replace(&mut constraint, json!({})),
            children,
        });
    }
    nodes
}
