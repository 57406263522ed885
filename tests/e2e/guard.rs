//! Who may take a namespace out of enforcement.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::process::{eventually, text};
use crate::release::release;

/// The API server takes a new policy up within a second or two; a busy machine may take longer.
const IN_FORCE: Duration = Duration::from_secs(30);
const DENIED: &str = "changing countersign.dev/mode needs the verb 'set' on namespacemodes.countersign.dev";

/// Lets a user write namespaces, whole and by their subresources, as platforms with self-service do.
fn let_write_namespaces(cluster: &Cluster, user: &str) {
    grant(
        cluster,
        user,
        &json!({
            "apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
            "verbs": ["get", "create", "update", "patch"],
        }),
    );
}

fn grant(cluster: &Cluster, user: &str, rule: &Value) {
    let name = format!("{user}-{}", rule["verbs"][0].as_str().unwrap());
    let group = "rbac.authorization.k8s.io";
    cluster.create(&json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule],
    }));
    cluster.create(&json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }));
}

/// Where a namespace's labels can be written.
const PATHS: [&str; 3] = ["namespaces", "namespaces/status", "namespaces/finalize"];

/// Writes the label of a namespace, or removes it if `mode` is null. What kubectl says when that fails.
fn write_label(
    cluster: &Cluster,
    path: &str,
    user: &str,
    namespace: &str,
    mode: &Value,
) -> Result<(), String> {
    let user = format!("--as={user}");
    let change = json!({"metadata": {"labels": {"countersign.dev/mode": mode}}}).to_string();
    let change = [
        "patch",
        "namespace",
        namespace,
        "--type=merge",
        "-p",
        &change,
        &user,
    ];
    let output = match path {
        "namespaces" => cluster.kubectl(&change),
        "namespaces/status" => cluster.kubectl(&[&change[..], &["--subresource=status"]].concat()),
        _ => {
            let mut object = cluster.get("default", &format!("namespace/{namespace}"));
            object["metadata"]["labels"]["countersign.dev/mode"] = mode.clone();
            let finalize = format!("/api/v1/namespaces/{namespace}/finalize");
            cluster.kubectl_with(&["replace", "--raw", &finalize, &user], &object)
        }
    };
    said(&output)
}

fn said(output: &Output) -> Result<(), String> {
    if output.status.success() {
        Ok(())
    } else {
        Err(text(&output.stderr))
    }
}

#[test]
fn nobody_leaves_enforcement_through_any_subresource_without_the_verb() {
    let (release, namespace) = (release(), "guarded");
    let cluster = &release.cluster;
    let (robot, operator) = (format!("{namespace}-robot"), format!("{namespace}-operator"));
    release.namespace(namespace, "enforce");
    for user in [&robot, &operator] {
        let_write_namespaces(cluster, user);
    }
    grant(
        cluster,
        &operator,
        &json!({"apiGroups": ["countersign.dev"], "resources": ["namespacemodes"], "verbs": ["set"]}),
    );
    eventually("the guard is in force", IN_FORCE, || {
        let attempt = [
            "label",
            "namespace",
            namespace,
            "countersign.dev/mode-",
            "--dry-run=server",
        ];
        let output = cluster.kubectl(&[&attempt[..], &[&format!("--as={robot}")]].concat());
        text(&output.stderr).contains(DENIED).then_some(())
    });

    for mode in [json!(null), json!("off"), json!("audit")] {
        for path in PATHS {
            let outcome = write_label(cluster, path, &robot, namespace, &mode);
            assert!(
                outcome.as_ref().is_err_and(|said| said.contains(DENIED)),
                "{path} to {mode}: {outcome:?}"
            );
        }
    }
    cluster.kubectl_ok(&[
        "label",
        "namespace",
        namespace,
        "team=shop",
        &format!("--as={robot}"),
    ]);
    let create = |name: &str, labels: Value| {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let output = cluster.kubectl_with(&["create", &format!("--as={robot}")], &object);
        said(&output)
    };
    assert_eq!(create(&format!("{namespace}-plain"), json!({})), Ok(()));
    assert_eq!(
        create(
            &format!("{namespace}-strict"),
            json!({"countersign.dev/mode": "enforce"})
        ),
        Ok(())
    );
    let lax = create(
        &format!("{namespace}-lax"),
        json!({"countersign.dev/mode": "off"}),
    );
    assert!(lax.as_ref().is_err_and(|said| said.contains(DENIED)), "{lax:?}");

    let misspelt = write_label(cluster, "namespaces", &operator, namespace, &json!("enforced"));
    assert!(
        misspelt
            .as_ref()
            .is_err_and(|said| said.contains("countersign.dev/mode is enforce, audit or off")),
        "{misspelt:?}"
    );
    // These paths do change labels: the guard is what stopped the other.
    for (path, mode) in PATHS.into_iter().zip(["audit", "off", "enforce"]) {
        assert_eq!(
            write_label(cluster, path, &operator, namespace, &json!(mode)),
            Ok(()),
            "{path}"
        );
        let stored = cluster.get("default", &format!("namespace/{namespace}"));
        assert_eq!(
            stored["metadata"]["labels"]["countersign.dev/mode"], mode,
            "{path}"
        );
    }
}
