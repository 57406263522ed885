//! Policies in reviews: the text of what decides, and none of what the API server keeps beside it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// A policy as it is written, in pieces of the review's own text. How much it holds is bounded by who reads it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Text<'a> {
    #[serde(default, borrow)]
    api_version: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    metadata: Metadata<'a>,
    #[serde(default, borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(default, borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    generate_name: Option<Cow<'a, str>>,
}

impl<'a> Text<'a> {
    pub(super) fn read(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// Whether both say the same. The API server writes both in one way, so that what means the same reads the same.
    pub fn same_spec(&self, other: &Self) -> bool {
        self.spec.map(RawValue::get) == other.spec.map(RawValue::get)
    }

    /// The policy alone, as JSON. The namespace is the review's to say; a name that is still to be generated stands as it
    /// begins.
    pub fn to_json(&self, namespace: Option<&str>) -> String {
        let start = || {
            self.metadata
                .generate_name
                .as_ref()
                .map(|start| format!("{start}x"))
        };
        let name = self
            .metadata
            .name
            .as_ref()
            .map(ToString::to_string)
            .or_else(start);
        let mut metadata = json!({"name": name.unwrap_or_default()});
        if let (Some(namespace), Some(fields)) = (namespace, metadata.as_object_mut()) {
            fields.insert("namespace".to_owned(), namespace.into());
        }
        format!(
            r#"{{"apiVersion":{},"kind":{},"metadata":{metadata},"spec":{}}}"#,
            json!(self.api_version),
            json!(self.kind),
            self.spec.map_or("null", RawValue::get)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Text<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_what_decides_is_handed_on() {
        let object = r#"{"apiVersion": "countersign.dev/v1alpha1", "kind": "TrustPolicy", "metadata": {"name": "a\"b",
            "namespace": "lies", "managedFields": [{}]}, "spec": {"rules": [1]}, "status": {"rules": 1}}"#;
        assert_eq!(
            text(object).to_json(Some("shop")),
            r#"{"apiVersion":"countersign.dev/v1alpha1","kind":"TrustPolicy","metadata":{"name":"a\"b","namespace":"shop"},"spec":{"rules": [1]}}"#
        );
        let unnamed = r#"{"metadata": {"generateName": "a-"}}"#;
        assert_eq!(
            text(unnamed).to_json(None),
            r#"{"apiVersion":null,"kind":null,"metadata":{"name":"a-x"},"spec":null}"#
        );
    }

    #[test]
    fn a_specification_is_compared_without_the_rest() {
        let one = r#"{"metadata": {"finalizers": ["a"]}, "spec": {"rules": []}}"#;
        let two = r#"{"metadata": {}, "spec": {"rules": []}, "status": {}}"#;
        assert!(text(one).same_spec(&text(two)));
        assert!(!text(one).same_spec(&text("{}")));
    }
}
