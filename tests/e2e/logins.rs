//! Logins for a trust server that asks for a token: those of policies, rotated, and those of workloads.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::cluster_policy::{apply, becomes, denied, front, policy, verdict};
use crate::process::text;
use crate::webhook::{Certificate, Webhook};
use crate::world::{Front, cluster, pod, trust, verifier};

/// A pull secret for the registry of the tests.
fn secret(namespace: &str, name: &str, config: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": namespace}, "stringData": {".dockerconfigjson": config},
    })
}

fn right() -> String {
    std::fs::read_to_string(trust().docker_config()).unwrap()
}

fn wrong() -> String {
    json!({"auths": {&trust().registry.host: {"username": "robot", "password": "of last year"}}}).to_string()
}

/// The time given is half of that after which Secrets are read again unasked.
#[test]
fn a_login_in_the_namespace_of_its_policy_is_rotated_live() {
    let trust = trust();
    let repository = trust.repository(&trust.private, "rotated");
    let digest = trust.release(&repository, "1.0", "rotated", None);
    front().namespace("rotate", "enforce");
    let allow = json!([{"images": ["**"], "allow": {"reason": "the namespace decides"}}]);
    apply(&policy("rotate", "rotate", &json!([]), &allow));
    apply(&secret("rotate", "login", &wrong()));
    let mut private = verifier(&trust.private);
    private["notary"]["credentials"] = json!({"secretRef": {"name": "login"}});
    apply(&json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustPolicy",
        "metadata": {"name": "signed", "namespace": "rotate"},
        "spec": {"verifiers": [private], "rules": [{"images": ["**"], "verify": {"anyOf": ["private"]}}]},
    }));
    let tag = format!("{}:1.0", repository.gun);
    becomes("the login is tried, and is wrong", || {
        denied("rotate", &tag, "refuses access")
    });
    apply(&secret("rotate", "login", &right()));
    let pinned = format!("{tag}@{digest}");
    becomes("the new login is in force", || {
        verdict("rotate", &tag) == Ok(pinned.clone())
    });
}

/// A replica that may use the logins of workloads.
fn lending() -> &'static Front {
    static LENDING: LazyLock<Front> = LazyLock::new(|| {
        // The definitions are there with it.
        front();
        let flags = ["--workload-pull-secrets"];
        let webhook = Webhook::in_cluster_with(
            "webhook-pulls",
            &cluster().kubeconfig,
            &flags,
            &Certificate::Loopback,
        );
        Front::by_url("pulls", vec![webhook])
    });
    &LENDING
}

#[test]
fn a_pull_secret_opens_the_trust_server_for_its_own_namespace_only() {
    let trust = trust();
    let repository = trust.repository(&trust.private, "pulled");
    let digest = trust.release(&repository, "1.0", "pulled", None);
    let tag = format!("{}:1.0", repository.gun);
    let rules = json!([{"images": ["**"], "verify": {"anyOf": ["private"]}}]);
    for namespace in ["pulls", "pulls-not"] {
        lending().namespace(namespace, "enforce");
        apply(&policy(
            namespace,
            namespace,
            &json!([verifier(&trust.private)]),
            &rules,
        ));
        becomes("the policy is in force", || {
            denied(namespace, &tag, "logins tried")
        });
    }
    let with_secret = |namespace: &str| {
        let mut pod = pod(namespace, &tag);
        pod["spec"]["imagePullSecrets"] = json!([{"name": "missing"}, {"name": "pull"}]);
        cluster().kubectl_with(&["create", "--dry-run=server", "-o", "json"], &pod)
    };
    cluster().create(&secret("pulls", "pull", &right()));
    let image = |output: &[u8]| {
        let stored: Value = serde_json::from_slice(output).unwrap();
        stored["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let pinned = format!("{tag}@{digest}");
    becomes("the Secret is read", || {
        let output = with_secret("pulls");
        output.status.success() && image(&output.stdout) == pinned
    });
    let said = text(&with_secret("pulls-not").stderr);
    assert!(
        said.contains("refuses access") && said.contains("pull secrets of namespace pulls-not"),
        "{said}"
    );

    // A Pod that names none gets those of its service account from the API server.
    let account = json!({"imagePullSecrets": [{"name": "pull"}]}).to_string();
    assert!(denied("pulls", &tag, "logins tried"));
    cluster().kubectl_ok(&[
        "patch",
        "serviceaccount",
        "-n",
        "pulls",
        "default",
        "-p",
        &account,
    ]);
    becomes("the account's Secret is used", || {
        verdict("pulls", &tag) == Ok(pinned.clone())
    });
}
