//! Other webhooks that change Pods after ours.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::objects::{image, pod};
use crate::process::{eventually, text};
use crate::world::{REGISTERED, cluster, front, trust};
use crate::{https, pki};

/// Registers a mutating webhook that is called after ours, by its name, for Pods of one namespace. `patch` gives the
/// operations for a Pod.
fn neighbour(namespace: &'static str, patch: impl Fn(&Value) -> Value + Send + Sync + 'static) {
    let port = https::serve(move |request| {
        let review: Value = serde_json::from_slice(&request.body).unwrap();
        let patch = patch(&review["request"]["object"]).to_string();
        let reply = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {
                "uid": review["request"]["uid"], "allowed": true,
                "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(patch),
            },
        });
        ("200 OK", reply.to_string())
    });
    cluster().create(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": format!("zz-{namespace}")},
        "webhooks": [{
            "name": format!("{namespace}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            // Ours is called a second time; this one undoes that if it is asked again as well.
            "reinvocationPolicy": "IfNeeded",
            "clientConfig": {
                "url": format!("https://127.0.0.1:{port}/"), "caBundle": BASE64_STANDARD.encode(pki::authority_pem()),
            },
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    }));
}

#[test]
fn an_image_that_a_later_webhook_puts_in_place_of_a_signed_one_is_denied() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "swapped");
    trust.release(&repository, "1.0", "signed", None);
    let [signed, unsigned] = ["1.0", "2.0"].map(|tag| format!("{}:{tag}", repository.gun));
    front().namespace("swapped", "enforce");
    cluster().create(&pod("swapped", &signed));
    let evil = unsigned.clone();
    neighbour(
        "swapped",
        move |_| json!([{"op": "replace", "path": "/spec/containers/0/image", "value": evil}]),
    );
    let refusal = eventually("the neighbour is called", REGISTERED, || {
        cluster().refused(&pod("swapped", &signed))
    });
    for part in [
        r#"admission webhook "validate.countersign.dev" denied the request"#,
        &format!(r#"container "web": {unsigned} is not trusted: tag 2.0 is not signed"#),
    ] {
        assert!(refusal.contains(part), "{part} is not in {refusal}");
    }
}

#[test]
fn the_sidecar_of_an_injector_is_pinned_when_the_webhook_is_called_again() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "injected");
    let web = trust.release(&repository, "1.0", "web", None);
    let proxy = trust.release(&repository, "proxy", "proxy", None);
    let [web_tag, proxy_tag] = ["1.0", "proxy"].map(|tag| format!("{}:{tag}", repository.gun));
    front().namespace("injected", "enforce");
    let sidecar = proxy_tag.clone();
    neighbour("injected", move |pod| {
        let containers = pod["spec"]["containers"].as_array().unwrap();
        if containers.iter().any(|container| container["name"] == "proxy") {
            return json!([]);
        }
        let native = json!({"name": "native-proxy", "image": sidecar, "restartPolicy": "Always"});
        json!([
            {"op": "add", "path": "/spec/initContainers", "value": [native]},
            {"op": "add", "path": "/spec/containers/-", "value": {"name": "proxy", "image": sidecar}},
        ])
    });
    let stored = eventually("the neighbour is called", REGISTERED, || {
        let output = cluster().kubectl_with(&["create", "-o", "json"], &pod("injected", &web_tag));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let stored: Value = serde_json::from_slice(&output.stdout).unwrap();
        (stored["spec"]["containers"].as_array()?.len() == 2).then_some(stored)
    });
    assert_eq!(image(&stored), format!("{web_tag}@{web}"));
    let pinned = format!("{proxy_tag}@{proxy}");
    for place in ["/spec/containers/1/image", "/spec/initContainers/0/image"] {
        assert_eq!(stored.pointer(place).unwrap(), pinned.as_str(), "{place}");
    }
}
