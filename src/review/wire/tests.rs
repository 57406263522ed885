use base64::Engine as _;
use serde_json::json;

use super::*;
use crate::reference::{Digest, Reference};
use crate::review::images::{Image, List};
use crate::review::patch::Pin;

fn reason(body: &[u8]) -> String {
    parse(body).unwrap_err().to_string()
}

/// ADM-67: not JSON, no `request`, no `uid`; ADM-12: another version.
#[test]
fn what_cannot_be_answered_is_malformed() {
    for (label, body, want) in [
        ("empty", "", "unexpected content"),
        ("not JSON", "hello", "unexpected content"),
        ("an array", "[]", "unexpected content"),
        ("cut off", r#"{"apiVersion":"#, "unexpected content"),
        ("bytes behind it", "{}x", "unexpected content"),
        ("nothing in it", "{}", "not an AdmissionReview"),
        (
            "another kind",
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"Pod"}"#,
            "not an AdmissionReview",
        ),
        (
            "v1beta1",
            r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"1"}}"#,
            "only AdmissionReview of admission.k8s.io/v1",
        ),
        (
            "no version",
            r#"{"kind":"AdmissionReview","request":{"uid":"1"}}"#,
            "only AdmissionReview",
        ),
        (
            "no request",
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
            "no request",
        ),
        (
            "null request",
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}"#,
            "no request",
        ),
        (
            "no uid",
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"name":"a"}}"#,
            "no uid",
        ),
        (
            "uid of another type",
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}"#,
            "unexpected content",
        ),
    ] {
        let got = reason(body.as_bytes());
        assert!(got.contains(want), "{label}: {got}");
    }
    assert!(reason(b"\xff\xfe").contains("unexpected content"));
}

/// OBS-21.
#[test]
fn an_error_quotes_nothing_of_the_body() {
    let got = reason(br#"{"apiVersion":"admission.k8s.io/v1","kind":{"password":"hunter2"}}"#);
    assert!(!got.contains("hunter2") && !got.contains("password"), "{got}");
}

/// ADM-11, checklist 9.
#[test]
fn unknown_members_are_ignored_and_null_is_as_good_as_nothing() {
    let bare = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1"},
    });
    let nulls = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": null, "new": [1],
        "request": {
            "uid": "1", "kind": null, "resource": null, "subResource": null, "name": null, "namespace": null,
            "operation": null, "userInfo": null, "object": null, "oldObject": null, "dryRun": null,
            "options": null, "futureField": {"deep": [{}]},
        },
    });
    for body in [bare, nulls] {
        let body = body.to_string();
        let request = parse(body.as_bytes()).unwrap();
        assert_eq!(request.uid, "1");
        assert_eq!(request.operation, Operation::Other);
        assert_eq!(request.resource, Resource::default());
        assert!(!request.dry_run && request.object().is_none() && request.old_object().is_none());
    }
}

#[test]
fn operations_are_read_and_a_new_one_is_no_error() {
    for (text, want) in [
        ("CREATE", Operation::Create),
        ("UPDATE", Operation::Update),
        ("DELETE", Operation::Delete),
        ("CONNECT", Operation::Connect),
        ("FROBNICATE", Operation::Other),
    ] {
        let body = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "1", "operation": text},
        });
        assert_eq!(
            parse(body.to_string().as_bytes()).unwrap().operation,
            want,
            "{text}"
        );
    }
}

/// ADM-68: a review that is nested too deep is readable, its object is not.
#[test]
fn an_object_nested_too_deep_is_no_object() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let body = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1","object":{deep}}}}}"#
    );
    assert!(parse(body.as_bytes()).unwrap().object().is_none());
}

/// OBS-21.
#[test]
fn a_request_prints_without_its_object() {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "1", "object": {"password": "hunter2"}, "userInfo": {"username": "alice"}},
    })
    .to_string();
    let text = format!("{:?}", parse(body.as_bytes()).unwrap());
    assert!(!text.contains("hunter2") && !text.contains("alice"), "{text}");
}

/// ADM-55.
#[test]
fn warnings_are_for_people_and_pipelines() {
    for (name, groups, machinery) in [
        ("alice", vec![], false),
        ("system:serviceaccount:ci:deployer", vec![], false),
        ("system:admin", vec!["system:masters"], false),
        (
            "system:serviceaccount:kube-system:replicaset-controller",
            vec![],
            true,
        ),
        ("system:kube-scheduler", vec![], true),
        ("system:node:n1", vec!["system:nodes"], true),
    ] {
        let groups: Vec<&str> = groups;
        let body = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "1", "userInfo": {"username": name, "groups": groups}},
        })
        .to_string();
        let request = parse(body.as_bytes()).unwrap();
        assert_eq!(request.user.is_machinery(), machinery, "{name}");
    }
}

fn written(ruling: Ruling, annotations: BTreeMap<&'static str, String>) -> Value {
    let reply = Reply {
        uid: "u-1".to_owned(),
        ruling,
        annotations,
    };
    serde_json::from_slice(&reply.to_bytes()).unwrap()
}

/// §1.8, checklist 1 and 2.
#[test]
fn a_reply_has_exactly_the_members_its_ruling_needs() {
    let reply = |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    assert_eq!(
        written(Ruling::allowed(), BTreeMap::new()),
        reply(json!({"uid": "u-1", "allowed": true}))
    );
    let denied = Ruling::Denied {
        status: Status::ServiceUnavailable,
        message: "no".to_owned(),
    };
    assert_eq!(
        written(denied, BTreeMap::from([("decision", "denied".to_owned())])),
        reply(json!({
            "uid": "u-1", "allowed": false, "auditAnnotations": {"decision": "denied"},
            "status": {"status": "Failure", "code": 503, "reason": "ServiceUnavailable", "message": "no"},
        }))
    );
}

/// §1.8: base64 with padding, of an RFC 6902 array, and both members or neither.
#[test]
fn a_patch_is_written_as_base64_text() {
    let image = Image {
        pointer: "/spec/containers/0/image".to_owned(),
        list: List::Containers,
        name: "a".to_owned(),
        image: "nginx".to_owned(),
        old: None,
    };
    let pin = Pin::new(
        &image,
        &Reference::parse("nginx").unwrap(),
        &Digest::sha256([1; 32]),
    );
    let allowed = Ruling::Allowed {
        patch: Patch::new(pin),
        warnings: vec!["careful".to_owned()],
    };
    let response = &written(allowed, BTreeMap::new())["response"];
    assert_eq!(response["patchType"], "JSONPatch");
    assert_eq!(response["warnings"], json!(["careful"]));
    let patch = base64::engine::general_purpose::STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[0]["op"], "test");
    assert_eq!(patch[1]["op"], "replace");
}

proptest::proptest! {
    /// ADM-68.
    #[test]
    fn no_body_panics(body in proptest::collection::vec(0_u8.., 0..200)) {
        let _ = parse(&body);
    }
}
