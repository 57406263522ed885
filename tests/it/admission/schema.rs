//! ADM-17: the extractor against the API's own schemas. A new version of the vendored API types that brings another
//! place for an image fails here, and whoever updates it decides what that place means.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, PodTemplate, ReplicationController};
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use countersign::review::images::List;

/// Places that sound like images and are none that a node would run or mount by reference.
const NOT_IMAGES: [(&str, &str); 7] = [
    ("imagePullPolicy", "when to pull, not what"),
    ("volumes/*/image/pullPolicy", "when to pull, not what"),
    ("volumes/*/rbd/image", "a block device within a Ceph pool"),
    ("metadata/ownerReferences/", "other API objects"),
    ("imagePullSecrets/*/name", "a Secret"),
    ("/spec/affinity/", "preferences, which only sound like references"),
    ("/status/", "what runs, reported by the kubelet; ignored on write"),
];

/// The path of every scalar property, array items as `*`, of which some segment sounds like an image.
fn suspicious<T: JsonSchema>() -> Vec<String> {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>();
    let schema = serde_json::to_value(&schema).unwrap();
    let mut found = Vec::new();
    walk(&schema, &schema, String::new(), &mut Vec::new(), &mut found);
    found.retain(|path| {
        let path = path.to_lowercase();
        ["image", "reference", "artifact"]
            .iter()
            .any(|word| path.contains(word))
    });
    found
}

/// `open` holds the definitions on the way, so that a recursive one ends.
fn walk(root: &Value, schema: &Value, path: String, open: &mut Vec<String>, found: &mut Vec<String>) {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        if open.iter().any(|other| other == name) {
            return;
        }
        open.push(name.to_owned());
        let target = root.pointer(name.trim_start_matches('#')).expect(name);
        walk(root, target, path, open, found);
        open.pop();
        return;
    }
    let mut leaf = true;
    for combined in ["allOf", "anyOf", "oneOf"] {
        for part in schema
            .get(combined)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            leaf = false;
            walk(root, part, path.clone(), open, found);
        }
    }
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        leaf = false;
        walk(root, property, format!("{path}/{name}"), open, found);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(part) = schema.get(inner).filter(|part| part.is_object()) {
            leaf = false;
            walk(root, part, format!("{path}/*"), open, found);
        }
    }
    if leaf {
        found.push(path);
    }
}

fn extracted(root: &str) -> [String; 4] {
    List::ALL.map(|list| format!("{root}/{}/*/{}", list.member(), list.path().join("/")))
}

fn assert_known<T: JsonSchema>(kind: &str, root: &str) {
    let found = suspicious::<T>();
    for path in extracted(root) {
        assert!(
            found.contains(&path),
            "{kind} has no {path}: the extractor looks in the wrong place"
        );
    }
    let unknown: Vec<_> = found
        .iter()
        .filter(|path| !extracted(root).contains(path))
        .filter(|path| !NOT_IMAGES.iter().any(|(known, _)| path.contains(known)))
        .collect();
    assert!(
        unknown.is_empty(),
        "{kind} has places the extractor does not know: {unknown:?}"
    );
}

/// ADM-17, checklist 11.
#[test]
fn no_kind_has_an_image_that_the_extractor_does_not_know() {
    assert_known::<Pod>("Pod", "/spec");
    assert_known::<PodTemplate>("PodTemplate", "/template/spec");
    assert_known::<ReplicationController>("ReplicationController", "/spec/template/spec");
    assert_known::<Deployment>("Deployment", "/spec/template/spec");
    assert_known::<ReplicaSet>("ReplicaSet", "/spec/template/spec");
    assert_known::<StatefulSet>("StatefulSet", "/spec/template/spec");
    assert_known::<DaemonSet>("DaemonSet", "/spec/template/spec");
    assert_known::<Job>("Job", "/spec/template/spec");
    assert_known::<CronJob>("CronJob", "/spec/jobTemplate/spec/template/spec");
}

/// What a later version of the API might bring.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of interest")]
#[schemars(crate = "k8s_openapi::schemars")]
struct Tomorrow {
    spec: Vec<Option<Source>>,
    note: String,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of interest")]
#[schemars(crate = "k8s_openapi::schemars")]
struct Source {
    image_ref: String,
    url: String,
}

#[test]
fn an_image_that_is_new_to_the_api_would_be_noticed() {
    assert_eq!(suspicious::<Tomorrow>(), ["/spec/*/image_ref"]);
}

/// The list of exceptions holds nothing that no longer exists.
#[test]
fn every_exception_is_needed() {
    let found = suspicious::<Pod>();
    for (known, why) in NOT_IMAGES {
        assert!(
            found.iter().any(|path| path.contains(known)),
            "{known} ({why}) does not occur"
        );
    }
}
