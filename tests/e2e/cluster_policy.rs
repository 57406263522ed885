//! Policies as objects of the cluster: written with kubectl, in force a moment later.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{eventually, text};
use crate::webhook::Webhook;
use crate::world::{Front, cluster, definitions, pod, release_namespace, trust, verifier};

/// A change is in force within a second (CRD-33 grants two); a busy machine may take longer.
const IN_FORCE: Duration = Duration::from_secs(15);

/// A replica that takes its policies from the cluster. The definitions are there before it.
pub(crate) fn front() -> &'static Front {
    static FRONT: LazyLock<Front> = LazyLock::new(|| {
        definitions();
        let webhook = Webhook::in_cluster("webhook-kube", &cluster().kubeconfig);
        Front::by_url("kube", vec![webhook])
    });
    &FRONT
}

/// A policy for one namespace, by its name.
pub(crate) fn policy(name: &str, namespace: &str, verifiers: &Value, rules: &Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": name},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "verifiers": verifiers, "rules": rules,
        },
    })
}

pub(crate) fn apply(object: &Value) {
    let output = cluster().kubectl_with(&["apply"], object);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Waits until the status is about the object as it stands, and gives its condition `Ready`.
fn ready(namespace: &str, object: &str) -> Value {
    eventually("the status follows the policy", IN_FORCE, || {
        let found = cluster().get(namespace, object);
        let generation = &found["metadata"]["generation"];
        let conditions = found["status"]["conditions"].as_array()?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
        (ready["observedGeneration"] == *generation && found["status"]["observedGeneration"] == *generation)
            .then(|| ready.clone())
    })
}

/// What a Pod's image becomes, or what is said against it; nothing is kept.
pub(crate) fn verdict(namespace: &str, image: &str) -> Result<String, String> {
    let dry_run = ["create", "--dry-run=server", "-o", "json"];
    let output = cluster().kubectl_with(&dry_run, &pod(namespace, image));
    if !output.status.success() {
        return Err(text(&output.stderr));
    }
    let stored: Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(stored["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap()
        .to_owned())
}

pub(crate) fn becomes(what: &str, wanted: impl Fn() -> bool) {
    eventually(what, IN_FORCE, || wanted().then_some(()));
}

pub(crate) fn denied(namespace: &str, image: &str, why: &str) -> bool {
    verdict(namespace, image).is_err_and(|said| said.contains(why))
}

#[test]
fn a_policy_in_the_cluster_decides_and_an_edit_takes_effect_live() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "kube");
    let digest = trust.release(&repository, "1.0", "in the cluster", None);
    front().namespace("kube", "enforce");
    let signed = format!("{}:1.0", repository.gun);
    let unsigned = format!("{}:2.0", repository.gun);
    assert!(
        denied("kube", &signed, "no policy"),
        "{:?}",
        verdict("kube", &signed)
    );

    let rule = json!({"images": [format!("{}/hub/**", trust.registry.host)], "verify": {"anyOf": ["hub"]}});
    let mut default = policy("kube", "kube", &json!([verifier(&trust.hub)]), &json!([rule]));
    apply(&default);
    let pinned = format!("{signed}@{digest}");
    becomes("the policy is in force", || {
        verdict("kube", &signed) == Ok(pinned.clone())
    });
    assert!(denied("kube", &unsigned, "tag 2.0 is not signed"));
    assert!(denied("kube", "registry.k8s.io/pause:3.10", "no rule covers it"));
    let condition = ready("default", "clustertrustpolicy/kube");
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("True"), &json!("InForce"))
    );

    let allow = json!({"images": ["registry.k8s.io/**"], "allow": {"reason": "plumbing"}});
    default["spec"]["rules"] = json!([rule, allow]);
    apply(&default);
    becomes("the edit is in force", || {
        verdict("kube", "registry.k8s.io/pause:3.10").is_ok()
    });

    // A namespace's own policy tightens, and only there.
    let own = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustPolicy",
        "metadata": {"name": "no-plumbing", "namespace": "kube"},
        "spec": {"rules": [
            {"images": ["registry.k8s.io/**"], "deny": {"message": "not in this namespace"}},
            {"images": ["**"], "allow": {"reason": "the cluster decides"}},
        ]},
    });
    apply(&own);
    becomes("the namespace tightens", || {
        denied("kube", "registry.k8s.io/pause:3.10", "not in this namespace")
    });
    assert!(
        denied("kube", &unsigned, "tag 2.0 is not signed"),
        "it cannot loosen"
    );
    assert_eq!(ready("kube", "trustpolicy/no-plumbing")["status"], "True");
    cluster().kubectl_ok(&["delete", "trustpolicy", "-n", "kube", "no-plumbing"]);
    becomes("the deletion is in force", || {
        verdict("kube", "registry.k8s.io/pause:3.10").is_ok()
    });
}

#[test]
fn a_policy_selects_namespaces_by_their_labels_as_they_are_now() {
    front().namespace("labels", "enforce");
    let rules = json!([{"images": ["**"], "allow": {"reason": "anything"}}]);
    let mut open = policy("labels", "labels", &json!([]), &rules);
    apply(&open);
    becomes("everything runs", || verdict("labels", "nginx").is_ok());

    open["metadata"]["name"] = json!("labels-closed");
    open["spec"]["namespaceSelector"] = json!({"matchLabels": {"tier": "closed"}});
    open["spec"]["rules"] = json!([{"images": ["**"], "deny": {"message": "closed"}}]);
    apply(&open);
    assert_eq!(
        ready("default", "clustertrustpolicy/labels-closed")["status"],
        "True"
    );
    assert!(verdict("labels", "nginx").is_ok(), "the label is not there");
    cluster().kubectl_ok(&["label", "namespace", "labels", "tier=closed"]);
    becomes("the label is seen", || denied("labels", "nginx", "closed"));
    cluster().kubectl_ok(&["label", "namespace", "labels", "tier-"]);
    becomes("its loss is seen", || verdict("labels", "nginx").is_ok());
}

#[test]
fn what_is_broken_says_so_in_its_status_and_denies_only_its_images() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "broken");
    let digest = trust.release(&repository, "1.0", "not broken", None);
    front().namespace("broken", "enforce");
    let signed = format!("{}:1.0", repository.gun);
    let key = "-----BEGIN PUBLIC KEY-----\nbm8ga2V5\n-----END PUBLIC KEY-----\n";
    let broken = json!({"name": "broken", "notary": {"root": {"keys": [key]}}});
    let mut private = verifier(&trust.private);
    private["notary"]["credentials"] = json!({"secretRef": {"name": "trust-login"}});
    let rule = |images: String, name: &str| json!({"images": [images], "verify": {"anyOf": [name]}});
    let host = &trust.registry.host;
    let rules = json!([
        rule(format!("{host}/hub/**"), "hub"),
        rule(format!("{host}/private/**"), "private"),
        rule("broken.example.com/**".to_owned(), "broken"),
    ]);
    let verifiers = json!([verifier(&trust.hub), private, broken]);
    let mut default = policy("broken", "broken", &verifiers, &rules);
    apply(&default);
    becomes("the rest is in force", || {
        verdict("broken", &signed) == Ok(format!("{signed}@{digest}"))
    });
    let why = "verifier broken cannot be used";
    assert!(
        denied("broken", "broken.example.com/app:1", why),
        "{:?}",
        verdict("broken", "broken.example.com/app:1")
    );
    let missing = "not in namespace countersign-system";
    assert!(denied("broken", &format!("{host}/private/app:1"), missing));
    let condition = ready("default", "clustertrustpolicy/broken");
    assert_eq!(condition["status"], "False", "{condition}");
    let message = condition["message"].as_str().unwrap();
    assert!(message.contains(missing) && message.contains(why), "{message}");

    release_namespace();
    let (name, gun) = ("private-login", trust.gun(&trust.private, "kube"));
    let publisher = trust.repository(&trust.private, "kube");
    let login = std::fs::read_to_string(trust.docker_config()).unwrap();
    default["spec"]["verifiers"] = {
        let mut private = private_with(name);
        private["notary"]["ca"] = json!({"configMapRef": {"name": "trust-ca"}});
        json!([verifier(&trust.hub), private])
    };
    default["spec"]["rules"] = json!([
        rule(format!("{host}/hub/**"), "hub"),
        rule(format!("{host}/private/**"), "private"),
    ]);
    cluster().create(&json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": "countersign-system"}, "stringData": {".dockerconfigjson": login},
    }));
    cluster().create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "trust-ca", "namespace": "countersign-system"},
        "data": {"ca.crt": crate::pki::authority_pem()},
    }));
    let digest = trust.release(&publisher, "1.0", "with a login of the cluster", None);
    apply(&default);
    becomes("the mended policy is in force", || {
        verdict("broken", &format!("{gun}:1.0")) == Ok(format!("{gun}:1.0@{digest}"))
    });
    assert_eq!(ready("default", "clustertrustpolicy/broken")["status"], "True");
}

fn private_with(secret: &str) -> Value {
    let mut private = verifier(&trust().private);
    private["notary"]["credentials"] = json!({"secretRef": {"name": secret}});
    private
}

#[test]
fn kubectl_explains_the_fields() {
    front();
    let explained = cluster().kubectl_ok(&["explain", "clustertrustpolicy.spec.rules"]);
    for words in [
        "What is demanded of which images.",
        "Patterns of image names",
        "The images run unverified.",
    ] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
}
