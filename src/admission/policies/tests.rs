use serde_json::{Value, json};

use super::*;
use crate::store::Store;
use crate::trust::Options;

fn policies(mode: Mode) -> Policies {
    let (store, metrics) = (Arc::new(Store::memory().unwrap()), Arc::new(Metrics::default()));
    let trust = Trust::new(Options::default(), store, Arc::clone(&metrics));
    Policies::new(
        trust,
        References::default(),
        mode,
        metrics,
        Duration::from_secs(10),
    )
}

fn policy() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy",
        "metadata": {"name": "default", "managedFields": [{"manager": "kubectl"}]},
        "spec": {
            "verifiers": [{"name": "acme", "notary": {"server": "https://trust.example.com", "root": {"trustOnFirstUse": true}}}],
            "rules": [{"images": ["registry.example.com/**"], "verify": {"anyOf": ["acme"]}}],
        },
    })
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": operation, "name": "default",
            "kind": {"group": "countersign.dev", "version": "v1alpha1", "kind": "ClusterTrustPolicy"},
            "resource": {"group": "countersign.dev", "version": "v1alpha1", "resource": "clustertrustpolicies"},
            "object": object, "oldObject": old,
        },
    })
}

async fn respond_in(mode: Mode, review: &Value) -> Value {
    let reply = policies(mode)
        .answer(review.to_string().as_bytes(), None)
        .await
        .unwrap();
    serde_json::from_slice::<Value>(&reply).unwrap()["response"].clone()
}

async fn respond(review: &Value) -> Value {
    respond_in(Mode::Enforce, review).await
}

fn broken() -> Value {
    let mut object = policy();
    let key = "-----BEGIN PUBLIC KEY-----\nbm8ga2V5\n-----END PUBLIC KEY-----\n";
    object["spec"]["verifiers"][0]["notary"]["root"] = json!({"keys": [key]});
    object["spec"]["rules"][0]["verify"]["anyOf"] = json!(["acme", "acne"]);
    object
}

#[tokio::test]
async fn a_good_policy_is_admitted_in_silence() {
    let response = respond(&review("CREATE", &policy(), &Value::Null)).await;
    assert_eq!(response, json!({"uid": "1", "allowed": true}));
}

/// Each of them with its field, so that kubectl shows all there is to mend (ADM-50, ADM-52).
#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let response = respond(&review("CREATE", &broken(), &Value::Null)).await;
    assert_eq!(response["allowed"], false);
    let status = &response["status"];
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(400), &json!("BadRequest"))
    );
    let message = status["message"].as_str().unwrap();
    for part in [
        "spec.rules[0].verify.anyOf[1]: this policy defines no verifier \"acne\", did you mean \"acme\"?",
        "spec.verifiers[0]: cannot be used: root names what is not a key",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test]
async fn ties_unknown_fields_and_secrets_elsewhere_are_refused() {
    let change = |pointer: &str, value: Value| {
        let mut object = policy();
        *object.pointer_mut(pointer).unwrap() = value;
        object
    };
    let rule = |image: &str| json!({"images": [image], "deny": {"message": "no"}});
    let root = json!({"trustOnFirstUse": true});
    let secret = |secret: Value| json!({"root": root, "credentials": {"secretRef": secret}});
    for (object, why) in [
        (
            change("/spec/rules", json!([rule("a.io/*x*"), rule("a.io/*y*")])),
            "rules 1 and 2 tie",
        ),
        (
            change("/spec/rules/0", json!({"image": "a.io/x"})),
            "unknown field",
        ),
        (
            change(
                "/spec/verifiers/0/notary",
                secret(json!({"name": "a", "namespace": "b"})),
            ),
            "unknown field",
        ),
        (
            change("/spec/verifiers/0/notary", secret(json!({"name": "b/a"}))),
            "cannot exist",
        ),
        (
            change(
                "/spec/verifiers/0/notary",
                json!({"root": root, "credentials": {"dockerConfig": "/etc/shadow"}}),
            ),
            "only in policy files",
        ),
        (change("/spec", Value::Null), "expected a map"),
        (json!("no object"), "cannot be read"),
    ] {
        let response = respond(&review("CREATE", &object, &Value::Null)).await;
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert!(
            response["allowed"] == false && message.contains(why),
            "{why}: {response}"
        );
    }
}

/// What is stored and bad must remain one that can be labelled, told its status and taken away.
#[tokio::test]
async fn only_a_change_of_the_specification_is_judged() {
    let mut labelled = broken();
    labelled["metadata"] =
        json!({"name": "default", "labels": {"a": "b"}, "deletionTimestamp": "2026-11-22T00:00:00Z"});
    labelled["status"] = json!({"rules": 1});
    let yes = json!({"uid": "1", "allowed": true});
    assert_eq!(respond(&review("UPDATE", &labelled, &broken())).await, yes);
    assert_eq!(respond(&review("DELETE", &Value::Null, &broken())).await, yes);
    let mut status = review("UPDATE", &broken(), &policy());
    status["request"]["subResource"] = json!("status");
    assert_eq!(respond(&status).await, yes);
    assert_eq!(
        respond(&review("UPDATE", &broken(), &policy())).await["allowed"],
        false
    );
    assert_eq!(
        respond(&review("UPDATE", &policy(), &broken())).await,
        yes,
        "mended"
    );
}

/// ADM-15.
#[tokio::test]
async fn what_is_no_policy_is_admitted_with_a_warning() {
    for (group, resource) in [
        ("countersign.dev", "trustrecords"),
        ("", "pods"),
        ("example.com", "trustpolicies"),
    ] {
        let mut review = review("CREATE", &broken(), &Value::Null);
        review["request"]["resource"] = json!({"group": group, "version": "v1", "resource": resource});
        let response = respond(&review).await;
        assert!(
            response["allowed"] == true && response["warnings"][0].is_string(),
            "{resource}"
        );
    }
}

#[tokio::test]
async fn a_policy_of_a_namespace_is_that_of_the_review() {
    let mut own = policy();
    own["kind"] = json!("TrustPolicy");
    own["spec"]["rules"][0] = json!({"images": ["a.io/x"], "deny": {"message": "no"}});
    let mut review = review("CREATE", &own, &Value::Null);
    review["request"]["resource"]["resource"] = json!("trustpolicies");
    review["request"]["namespace"] = json!("shop");
    let response = respond(&review).await;
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(
        response["warnings"],
        json!(["spec.verifiers[0]: no rule names verifier \"acme\": name it, or take it out"])
    );
}

/// AUD-01.
#[tokio::test]
async fn under_audit_nothing_is_denied() {
    let response = respond_in(Mode::Audit, &review("CREATE", &broken(), &Value::Null)).await;
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("would be denied: spec."), "{warning}");
    assert_eq!(response["auditAnnotations"]["decision"], "would-deny");
}

/// A body may be 8 MiB; a tree of it would be hundreds.
#[tokio::test]
async fn what_no_cluster_could_store_is_not_taken_apart() {
    let mut object = policy();
    object["spec"]["rules"] = vec![json!([0]); 1 << 20].into();
    let response = respond(&review("CREATE", &object, &Value::Null)).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("longer than 1048576 bytes"), "{message}");
    assert!(policies(Mode::Enforce).answer(b"{}", None).await.is_err());
}
