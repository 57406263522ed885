//! Policy files and the definitions of the custom resources, as users meet them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use countersign::policy::{Demand, Home, crds, crds_yaml, examine_files};
use countersign::policy_files::{PolicyFiles, read_texts};
use countersign::reference::Reference;
use countersign::store::records::crd;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/policy")
        .join(name)
}

/// Every schema below `schema`, with its path.
fn walk<'a>(path: &str, schema: &'a Value, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(keyword) {
            walk(&format!("{path}{mark}"), inner, visit);
        }
    }
}

#[test]
fn the_example_of_the_design_says_what_the_design_says() {
    let (_, policies) = PolicyFiles::open([fixture("design.yaml")]).unwrap();
    let demand = |image: &str| {
        let image = Reference::parse(image).unwrap();
        let mut found = policies.select("shop", &BTreeMap::new(), &image);
        assert_eq!(found.len(), 1, "{image}");
        found.remove(0).demand
    };
    assert!(
        matches!(demand("nginx"), Demand::Verify(verification) if verification.verifiers[0].name == "acme")
    );
    assert!(matches!(demand("registry.example.com/a/b"), Demand::Verify(_)));
    assert!(
        matches!(demand("registry.k8s.io/pause:3.9"), Demand::Allow { reason } if &*reason == "cluster plumbing")
    );
    assert!(matches!(demand("quay.io/a/b"), Demand::Deny { .. }));
}

#[test]
fn the_definitions_are_those_that_were_reviewed() {
    let path = fixture("crds.yaml");
    let reviewed = fs::read_to_string(&path).unwrap_or_default();
    let printed = crds_yaml(crds().into_iter().chain([crd()]));
    if printed != reviewed {
        let differs = printed
            .lines()
            .zip(reviewed.lines())
            .position(|(new, old)| new != old);
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crds.yaml");
        fs::write(&fresh, &printed).unwrap();
        panic!(
            "line {:?} differs; if that is meant, copy {} over {}",
            differs.map(|line| line + 1),
            fresh.display(),
            path.display()
        );
    }
    assert!(
        printed.len() < 256 * 1024,
        "a client-side apply must work (CRD-16)"
    );
}

#[test]
fn every_field_is_described_and_bounded_and_none_may_be_null() {
    for crd in crds().into_iter().chain([crd()]) {
        let version = &crd.spec.versions[0];
        let schema = version
            .schema
            .as_ref()
            .unwrap()
            .open_api_v3_schema
            .as_ref()
            .unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        let parts = ["spec", "status"];
        for part in parts
            .into_iter()
            .filter(|part| !schema["properties"][part].is_null())
        {
            walk(part, &schema["properties"][part], &mut |path, schema| {
                let kind = schema["type"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{path} has no type"));
                let inner = path.ends_with("[]") || path.ends_with("{}");
                assert!(
                    inner || schema["description"].is_string(),
                    "{path} is not described"
                );
                let described = schema["description"].as_str().unwrap_or_default();
                assert!(
                    inner || (described.starts_with(char::is_uppercase) && described.ends_with('.')),
                    "{path} is not described in sentences: {described}"
                );
                assert!(
                    !described.contains("[`"),
                    "{path} has a link that kubectl cannot show: {described}"
                );
                let bound = match kind {
                    "array" => "maxItems",
                    "object" if schema["additionalProperties"].is_object() => "maxProperties",
                    "string" if schema["enum"].is_null() && schema["format"].is_null() => "maxLength",
                    _ => "type",
                };
                assert!(!schema[bound].is_null(), "{path} has no {bound}");
                assert!(schema["nullable"].is_null(), "{path} may be null");
                assert!(
                    schema["x-kubernetes-preserve-unknown-fields"].is_null(),
                    "{path} takes anything"
                );
                // CRD-04: what has a name merges by it, and of the rest the whole is the author's.
                if kind == "array" {
                    let named = schema["items"]["properties"]["name"].is_object()
                        || schema["items"]["properties"]["type"].is_object();
                    let (list, keys) = (
                        &schema["x-kubernetes-list-type"],
                        &schema["x-kubernetes-list-map-keys"],
                    );
                    assert_eq!(list, if named { "map" } else { "atomic" }, "{path}");
                    assert_eq!(keys.is_array(), named, "{path}");
                }
                let rules = schema["x-kubernetes-validations"].as_array();
                for rule in rules.into_iter().flatten() {
                    let message = rule["message"].as_str().unwrap_or_default();
                    assert!(!message.is_empty(), "{path} has a rule that says nothing: {rule}");
                }
                // CRD-06: what is matched as a whole has no empty form, and says what it may hold.
                if kind == "string" && schema["pattern"].is_string() {
                    let pattern = schema["pattern"].as_str().unwrap();
                    assert!(pattern.starts_with('^'), "{path}: {pattern} is not anchored");
                }
            });
        }
    }
}

/// CRD-10: the plain table fits 80 columns, the wide one 120.
#[test]
fn the_columns_of_kubectl_fit_a_terminal() {
    // Longest usual value, or the heading if that is longer, and what kubectl puts between columns.
    let width = |name: &str, kind: &str| {
        let value = match (name, kind) {
            ("Reason", _) => "ReferenceUnresolved".len(),
            (_, "date") => "365d".len(),
            (_, "integer") => "128".len(),
            _ => "Enforce".len(),
        };
        value.max(name.len()) + 3
    };
    for crd in crds() {
        let columns = crd.spec.versions[0]
            .additional_printer_columns
            .clone()
            .unwrap_or_default();
        let sum = |wide: bool| -> usize {
            let shown = columns
                .iter()
                .filter(|column| wide || column.priority.unwrap_or(0) == 0);
            shown.map(|column| width(&column.name, &column.type_)).sum()
        };
        // A namespace and a name of 20 characters each.
        assert!(2 * 23 + sum(false) <= 80, "{}", crd.spec.names.kind);
        assert!(2 * 23 + sum(true) <= 120, "{}", crd.spec.names.kind);
        assert!(columns.iter().any(|column| column.name == "Ready"));
    }
}

/// CRD-15: what is shown can be used, as it is and where it is meant to be.
#[test]
fn the_examples_have_no_findings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let (texts, errors) = read_texts(&[folder]);
    assert!(errors.is_empty() && texts.len() >= 3, "{errors:?}");
    let examined = examine_files(texts, Home::Cluster);
    assert!(
        examined.errors.is_empty() && examined.warnings.is_empty(),
        "{examined:?}"
    );
}
