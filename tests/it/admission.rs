//! Admission seen from outside: recorded reviews of every kind, and the API's own schemas.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign::admission::{Admission, Malformed, Phase};
use countersign::policy::{PolicySet, Verification};
use countersign::reference::Reference;
use countersign::review::images::{Image, extract};
use countersign::review::logins::PullSources;
use countersign::review::wire::{self, Operation};
use countersign::review::workload::Place;
use countersign::telemetry::Metrics;
use countersign::trust::{Pinned, Refusal, Verify};
use serde_json::{Value, json};
use tokio::time::Instant;

mod policies;
mod schema;

/// For tests in which no policy asks for a signature.
struct Nobody;

impl Verify for Nobody {
    async fn verify(
        &self,
        image: &Reference,
        _: &Verification,
        _: &PullSources,
        _: Instant,
    ) -> Result<Pinned, Refusal> {
        panic!("nobody asked to verify {image}")
    }
}

fn admission() -> Admission<Nobody> {
    let policies = Arc::new(ArcSwap::from_pointee(PolicySet::default()));
    Admission::new(
        Arc::new(Nobody),
        policies,
        Arc::new(Metrics::default()),
        Duration::from_secs(10),
    )
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/review")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.json"))).unwrap()
}

fn every_fixture() -> BTreeSet<String> {
    fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// The images of a recorded review.
fn images(body: &[u8]) -> Vec<Image> {
    let request = wire::parse(body).unwrap();
    let Some(root) = Place::of(&request).root() else {
        return Vec::new();
    };
    let Some(object) = request.object() else {
        return Vec::new();
    };
    extract(&object, request.old_object().as_ref(), root).unwrap()
}

async fn response(phase: Phase, body: &[u8]) -> Value {
    let reply = admission()
        .answer(phase, body, Some("timeout=10s"))
        .await
        .unwrap();
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(reply["kind"], "AdmissionReview");
    reply["response"].clone()
}

/// ADM-17, checklist 11: the four lists, in every kind that has them.
#[test]
fn every_kind_has_its_images_found() {
    const ALL: [(&str, &str); 5] = [
        ("containers/0/image", "registry.example.com/app:1.2"),
        ("containers/1/image", "nginx"),
        ("initContainers/0/image", "registry.example.com/setup:3"),
        ("initContainers/1/image", "registry.example.com/mesh:2"),
        ("volumes/1/image/reference", "registry.example.com/model:v1"),
    ];
    for (name, root) in [
        ("pod-create", "/spec"),
        ("podtemplates", "/template/spec"),
        ("replicationcontrollers", "/spec/template/spec"),
        ("deployments", "/spec/template/spec"),
        ("replicasets", "/spec/template/spec"),
        ("statefulsets", "/spec/template/spec"),
        ("daemonsets", "/spec/template/spec"),
        ("jobs", "/spec/template/spec"),
        ("cronjobs", "/spec/jobTemplate/spec/template/spec"),
    ] {
        let found: Vec<_> = images(&fixture(name))
            .into_iter()
            .map(|image| (image.pointer, image.image))
            .collect();
        let want = ALL.map(|(path, image)| (format!("{root}/{path}"), image.to_owned()));
        assert_eq!(found, want, "{name}");
    }
}

/// ADM-30, ADM-31, checklist 14–17.
#[test]
fn only_what_an_update_changes_is_changed() {
    for (name, want) in [
        ("pod-create", "c0 c1 i0 i1 v1"),
        ("pod-update-label", ""),
        ("pod-update-image", "c0"),
        ("pod-update-while-deleted", "c1"),
        ("pod-ephemeralcontainers", "e1"),
        ("pod-unknown-subresource", "e1"),
        ("jobs-resume", ""),
        ("deployments-annotate", ""),
        ("deployments-reapply", "i0 i1 v1"),
    ] {
        let changed: Vec<_> = images(&fixture(name))
            .iter()
            .filter(|image| image.changed())
            .map(|image| {
                let mut segments = image
                    .pointer
                    .split('/')
                    .skip_while(|segment| *segment != image.list.member());
                let list = segments.next().unwrap();
                format!("{}{}", &list[..1], segments.next().unwrap())
            })
            .collect();
        assert_eq!(changed.join(" "), want, "{name}");
    }
}

/// Design §3, ADM-15, ADM-20, ADM-31, AVL-30, checklist 1, 2, 10, 15, 23.
#[tokio::test]
async fn without_a_policy_every_new_image_of_a_pod_is_denied_and_nothing_else() {
    let denied = BTreeSet::from([
        "pod-create",
        "pod-dry-run",
        "pod-ephemeralcontainers",
        "pod-forged-mirror",
        "pod-forged-owner",
        "pod-generate-name",
        "pod-unknown-subresource",
        "pod-update-image",
        "pod-update-while-deleted",
    ]);
    for name in every_fixture() {
        let body = fixture(&name);
        let uid = wire::parse(&body).unwrap().uid;
        for phase in Phase::ALL {
            let response = response(phase, &body).await;
            assert_eq!(response["uid"], uid.as_str(), "{name}");
            let allowed = phase != Phase::Validate || !denied.contains(name.as_str());
            assert_eq!(response["allowed"], allowed, "{name} {phase:?} {response}");
            assert!(response.get("patch").is_none() && response.get("patchType").is_none());
            assert_eq!(response.get("status").is_none(), allowed);
            if !allowed {
                assert_eq!(response["status"]["code"], 403);
                assert_eq!(response["status"]["reason"], "Forbidden");
                let message = response["status"]["message"].as_str().unwrap();
                assert!(
                    message.contains("no policy applies in namespace shop"),
                    "{message}"
                );
            }
        }
    }
}

/// OBS-21, checklist 57: the recorded environment values are in no answer.
#[tokio::test]
async fn no_answer_repeats_the_object() {
    for name in every_fixture() {
        let body = fixture(&name);
        for phase in Phase::ALL {
            let text = response(phase, &body).await.to_string();
            assert!(!text.contains("do-not-log-7f3a"), "{name} {phase:?}");
        }
    }
}

/// ADM-57, checklist 31.
#[test]
fn a_dry_run_is_recognised() {
    let dry = fixture("pod-dry-run");
    assert!(wire::parse(&dry).unwrap().dry_run);
    let real = fixture("pod-create");
    let request = wire::parse(&real).unwrap();
    assert!(!request.dry_run && request.operation == Operation::Create);
}

/// ADM-67, checklist 7: what has no uid gets no answer, in no phase.
#[tokio::test]
async fn a_body_that_is_no_review_is_malformed_in_every_phase() {
    let review = |request: Value| {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
            .to_string()
    };
    let old = review(json!({"uid": "1"})).replace("/v1", "/v1beta1");
    for (body, want) in [
        (String::new(), "unexpected content"),
        ("null".to_owned(), "unexpected content"),
        (review(Value::Null), "no request"),
        (review(json!({})), "no uid"),
        (review(json!({"uid": ""})), "no uid"),
        (old, "only AdmissionReview of admission.k8s.io/v1"),
        ("{}".to_owned(), "not an AdmissionReview"),
    ] {
        for phase in Phase::ALL {
            let error: Malformed = admission()
                .answer(phase, body.as_bytes(), None)
                .await
                .unwrap_err();
            assert!(error.to_string().contains(want), "{body}: {error}");
        }
    }
}

/// ADM-67, ADM-68, checklist 7: recorded reviews with one member taken out or turned into something else.
#[tokio::test]
async fn a_damaged_review_is_answered_or_malformed_and_never_a_panic() {
    let whole: Value = serde_json::from_slice(&fixture("pod-ephemeralcontainers")).unwrap();
    let mut pointers = Vec::new();
    collect(&whole, String::new(), &mut pointers);
    for pointer in pointers {
        for with in [
            Value::Null,
            json!(7),
            json!("\u{1F4A3}\n"),
            json!([[]]),
            json!({"a": {}}),
        ] {
            let mut damaged = whole.clone();
            *damaged.pointer_mut(&pointer).unwrap() = with;
            let answer = admission()
                .answer(Phase::Validate, damaged.to_string().as_bytes(), None)
                .await;
            if let Ok(reply) = answer {
                let reply: Value = serde_json::from_slice(&reply).unwrap();
                assert!(reply["response"]["allowed"].is_boolean(), "{pointer}");
            }
        }
    }
}

/// The JSON pointers of everything in `value`.
fn collect(value: &Value, at: String, found: &mut Vec<String>) {
    let children: Vec<_> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, child)| (key.replace('~', "~0").replace('/', "~1"), child))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, child)| (index.to_string(), child))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (key, child) in children {
        collect(child, format!("{at}/{key}"), found);
    }
    found.push(at);
}
