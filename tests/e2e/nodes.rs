//! What kubelets do: they run static Pods from files and show them as mirror Pods.

use serde_json::{Value, json};

use crate::objects::{image, named_pod};
use crate::process::text;
use crate::world::{cluster, front, trust};

const NODE: &str = "worker";

/// A mirror Pod as a kubelet makes it.
fn mirror_pod(namespace: &str, name: &str, image: &str, node: &Value) -> Value {
    let mut pod = named_pod(namespace, name, image);
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": NODE, "uid": node["metadata"]["uid"], "controller": true,
    }]);
    pod["spec"]["nodeName"] = json!(NODE);
    pod
}

#[test]
fn a_mirror_pod_of_a_kubelet_is_stored_as_it_is_and_of_nobody_else() {
    let trust = trust();
    let unsigned = format!("{}:1.0", trust.gun(&trust.hub, "static"));
    let namespace = "static";
    front().namespace(namespace, "enforce");
    let node = cluster().node(NODE);
    let kubelet = [
        "--as=system:node:worker",
        "--as-group=system:nodes",
        "--as-group=system:authenticated",
    ];
    let create = [&["create", "-o", "json"], &kubelet[..]].concat();
    let output = cluster().kubectl_with(&create, &mirror_pod(namespace, "mirror", &unsigned, &node));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stored: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(image(&stored), unsigned);
    let delete = [
        "delete",
        "-n",
        namespace,
        "pod/mirror",
        "--grace-period=0",
        "--force",
    ];
    cluster().kubectl_ok(&[&delete[..], &kubelet].concat());

    // Anybody may write the annotation.
    let refusal = cluster().refusal(&mirror_pod(namespace, "not-a-mirror", &unsigned, &node));
    assert!(refusal.contains("is not trusted"), "{refusal}");
    // A kubelet may make nothing else.
    let output = cluster().kubectl_with(&create, &named_pod(namespace, "ordinary", &unsigned));
    assert!(
        text(&output.stderr).contains("can only create mirror pods"),
        "{}",
        text(&output.stderr)
    );
}
