//! Policies when they are written: what the API server refuses by itself, what `/policy` adds, and the mode that denies
//! nothing.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::pki;
use crate::process::{self, eventually, text};
use crate::webhook::{self, Certificate, Webhook};
use crate::world::{cluster, pod, policy};

/// An API server follows a new registration within a second; a busy machine may take longer.
const REGISTERED: Duration = Duration::from_secs(30);

/// The definitions, in force.
fn definitions() {
    static DEFINITIONS: LazyLock<()> = LazyLock::new(|| {
        let crds = process::run(Command::new(env!("CARGO_BIN_EXE_countersign")).arg("crds"));
        let crds = process::write("crds-alone.yaml", crds);
        let crds = crds.to_str().unwrap();
        cluster().kubectl_ok(&["apply", "--server-side", "-f", crds]);
        cluster().kubectl_ok(&["wait", "--for=condition=Established", "--timeout=60s", "-f", crds]);
    });
    *DEFINITIONS;
}

/// A policy that nothing is wrong with, seen by the registration of these tests.
fn sound(name: &str) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy",
        "metadata": {"name": name, "labels": {"e2e": "policy"}},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}},
            "verifiers": [{"name": "acme", "notary": {"server": "https://trust.example.com", "root": {"trustOnFirstUse": true}}}],
            "rules": [{"images": ["registry.example.com/**"], "verify": {"anyOf": ["acme"]}}],
        },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut policy = sound("refused");
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    policy.pointer_mut(parent).unwrap()[field] = value;
    policy
}

/// What kubectl says of a policy that nobody keeps, and whether it was admitted.
fn dry_run(policy: &Value) -> (bool, String) {
    let output = cluster().kubectl_with(&["create", "--dry-run=server"], policy);
    (output.status.success(), text(&output.stderr))
}

/// CRD-07, CRD-15, checklist 49: no webhook has a part in it.
#[test]
fn the_api_server_refuses_bad_policies_by_itself() {
    definitions();
    let acme = "/spec/verifiers/0/notary";
    let rule = |action: &str, value: Value| json!([{"images": ["a.io/x"], action: value}]);
    for (pointer, value, why) in [
        (
            "/spec/mode".to_owned(),
            json!("Warn"),
            "supported values: \"Enforce\", \"Audit\"",
        ),
        (
            "/spec/rules".to_owned(),
            json!([]),
            "should have at least 1 items",
        ),
        (
            "/spec/rules".to_owned(),
            json!([{"images": ["a.io/x"]}]),
            "exactly one of verify, allow and deny is needed",
        ),
        (
            "/spec/rules".to_owned(),
            rule("verify", json!({})),
            "exactly one of anyOf and allOf is needed",
        ),
        (
            "/spec/rules".to_owned(),
            rule("verify", json!({"anyOf": ["acne"]})),
            "a rule names a verifier that spec.verifiers does not define",
        ),
        (
            "/spec/rules".to_owned(),
            rule("allow", json!({"reason": ""})),
            "should be at least 1 chars long",
        ),
        (
            "/spec/rules".to_owned(),
            json!([{"images": ["a.io/x"], "allow": {"reason": "x"}, "digests": "Allow"}]),
            "digests goes with verify only",
        ),
        (
            format!("{acme}/server"),
            json!("http://trust.example.com"),
            "must be an https URL; http is for loopback only",
        ),
        (
            format!("{acme}/server"),
            json!("http://127.evil.example.com"),
            "must be an https URL; http is for loopback only",
        ),
        (
            format!("{acme}/server"),
            json!("ftp://trust.example.com"),
            "should match '^https?://'",
        ),
        (
            format!("{acme}/root"),
            json!({}),
            "exactly one of keys, keyIDs, ca and trustOnFirstUse is needed",
        ),
        (
            format!("{acme}/root"),
            json!({"keyIDs": ["short"]}),
            "should match '^[0-9a-f]{64}$'",
        ),
        (
            format!("{acme}/root"),
            json!({"keys": ["x"], "minimum": 2}),
            "minimum asks for more keys than are pinned",
        ),
        (format!("{acme}/maxStaleness"), json!("tomorrow"), "should match"),
        (
            format!("{acme}/ca"),
            json!({"pem": "x", "configMapRef": {"name": "x"}}),
            "exactly one of pem and configMapRef is needed",
        ),
        (
            format!("{acme}/credentials"),
            json!({"dockerConfig": "/etc/shadow"}),
            "secretRef is needed; dockerConfig is for policy files",
        ),
        (
            "/spec/verifiers".to_owned(),
            json!([{"name": "acme"}]),
            "a verifier needs exactly one kind: notary",
        ),
        (
            "/spec/namespaceSelector".to_owned(),
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "In and NotIn need values",
        ),
    ] {
        let (admitted, said) = dry_run(&with(&pointer, value));
        assert!(!admitted && said.contains(why), "{pointer}: {why}: {said}");
    }
}

/// The pruning of unknown fields is an error for kubectl, and loopback is the one exception from https.
#[test]
fn the_api_server_knows_the_fields_and_loopback() {
    definitions();
    let acme = "/spec/verifiers/0/notary";
    let unknown = dry_run(&with("/spec/modes", json!("Audit"))).1;
    assert!(unknown.contains("unknown field \"spec.modes\""), "{unknown}");
    for server in [
        "http://127.0.0.1:4443",
        "http://localhost",
        "http://[::1]:4443",
        "https://trust.example.com/a",
    ] {
        let (admitted, said) = dry_run(&with(&format!("{acme}/server"), json!(server)));
        assert!(admitted, "{server}: {said}");
    }
}

/// CRD-15.
#[test]
fn the_api_server_takes_the_examples() {
    definitions();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    cluster().kubectl_ok(&["apply", "--dry-run=server", "-f", folder.to_str().unwrap()]);
}

/// `/policy`, as the chart registers it: for policies with the label of these tests.
fn policy_endpoint() {
    static STARTED: LazyLock<Webhook> = LazyLock::new(|| {
        definitions();
        let webhook = Webhook::in_cluster("webhook-policy", &cluster().kubeconfig);
        let authority = base64::prelude::BASE64_STANDARD.encode(pki::authority_pem());
        cluster().create(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "countersign-policy"},
            "webhooks": [{
                "name": "policy.countersign.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Ignore", "timeoutSeconds": 5,
                "objectSelector": {"matchLabels": {"e2e": "policy"}},
                "clientConfig": {
                    "url": format!("https://127.0.0.1:{}/policy", webhook.backend.port), "caBundle": authority,
                },
                "rules": [{"apiGroups": ["countersign.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["clustertrustpolicies", "trustpolicies"], "scope": "*"}],
            }],
        }));
        eventually("the registration takes effect", REGISTERED, || {
            (!dry_run(&tied()).0).then_some(())
        });
        webhook
    });
    let _running = &*STARTED;
}

/// Two rules that the schema has nothing against.
fn tied() -> Value {
    let rule = |image: &str| json!({"images": [image], "deny": {"message": "no"}});
    with("/spec/rules", json!([rule("a.io/*x*"), rule("a.io/*y*")]))
}

#[test]
fn a_bad_policy_is_refused_when_it_is_written() {
    policy_endpoint();
    let (_, said) = dry_run(&tied());
    let start = "Error from server (BadRequest)";
    assert!(
        said.contains(start) && said.contains("spec.rules[1].images[0]: rules 1 and 2 tie"),
        "{said}"
    );
    let key = "-----BEGIN PUBLIC KEY-----\nbm8ga2V5\n-----END PUBLIC KEY-----\n";
    let (_, said) = dry_run(&with("/spec/verifiers/0/notary/root", json!({"keys": [key]})));
    assert!(
        said.contains("spec.verifiers[0]: cannot be used: root names what is not a key"),
        "{said}"
    );

    // What may still come is only warned of.
    let secret = json!({"secretRef": {"name": "not-there-yet"}});
    let (admitted, said) = dry_run(&with("/spec/verifiers/0/notary/credentials", secret));
    assert!(
        admitted && said.contains("Warning: ") && said.contains("\"not-there-yet\" is not in namespace"),
        "{said}"
    );

    // What changes no rule is not held up, whatever is stored.
    let mut bad = tied();
    bad["metadata"] = json!({"name": "stored-bad"});
    cluster().create(&bad);
    cluster().kubectl_ok(&["label", "clustertrustpolicy", "stored-bad", "e2e=policy"]);
    let patch = r#"{"spec": {"workloads": "Deny"}}"#;
    let output = cluster().kubectl(&[
        "patch",
        "clustertrustpolicy",
        "stored-bad",
        "--type=merge",
        "-p",
        patch,
    ]);
    assert!(
        !output.status.success(),
        "its specification changes and is still bad"
    );
    cluster().kubectl_ok(&["delete", "clustertrustpolicy", "stored-bad"]);
}

/// AUD-01, checklist 42.
#[test]
fn under_mode_audit_nothing_is_denied_and_nothing_pinned() {
    let source = [
        "--policy".as_ref(),
        policy().as_os_str(),
        "--mode".as_ref(),
        "audit".as_ref(),
    ];
    let replica = Webhook::start_with("webhook-mode", &source, &Certificate::Loopback);
    let url = format!("https://127.0.0.1:{}", replica.backend.port);
    let authority = base64::prelude::BASE64_STANDARD.encode(pki::authority_pem());
    webhook::register(cluster(), "mode", &json!({"url": url, "caBundle": authority}));
    cluster().namespace("mode", &[("e2e", "mode"), ("countersign.dev/mode", "enforce")]);
    let forbidden = pod("mode", "forbidden.example.com/app:1.0");
    let said = eventually("the registration takes effect", REGISTERED, || {
        let output = cluster().kubectl_with(&["create", "--dry-run=server", "-o", "json"], &forbidden);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        let stored: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            stored["spec"]["containers"][0]["image"],
            "forbidden.example.com/app:1.0"
        );
        said.contains("Warning: would be denied").then_some(said)
    });
    assert!(said.contains("only images of the tests run here"), "{said}");
}
