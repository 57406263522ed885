//! Rendered Kubernetes objects, and what must hold of them whatever the values were.

use serde_json::Value;

/// The objects of a file, in order.
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml
        .split("\n---")
        .map(|document| document.trim_start_matches("---"));
    documents
        .map(|document| {
            serde_saphyr::from_str::<Value>(document).unwrap_or_else(|error| panic!("{error}: {document}"))
        })
        .filter(|object| !object.is_null())
        .collect()
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The one object of a kind.
pub(crate) fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// All entries of both webhook configurations.
pub(crate) fn entries(objects: &[Value]) -> Vec<&Value> {
    ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
        .into_iter()
        .flat_map(|kind| only(objects, kind)["webhooks"].as_array().unwrap())
        .collect()
}

pub(crate) fn entry<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    let name = format!("{name}.countersign.dev");
    let found = entries(objects)
        .into_iter()
        .find(|entry| entry["name"] == name.as_str());
    found.unwrap_or_else(|| panic!("no entry {name}"))
}

/// Every rule of every role of a kind, with the role's name.
pub(crate) fn rules(objects: &[Value], kind: &str) -> Vec<(String, Value)> {
    of_kind(objects, kind)
        .into_iter()
        .flat_map(|role| {
            let name = role["metadata"]["name"].as_str().unwrap();
            let rules = role["rules"].as_array().unwrap();
            rules.iter().map(move |rule| (name.to_owned(), rule.clone()))
        })
        .collect()
}

pub(crate) fn words(value: &Value) -> Vec<&str> {
    let words = value.as_array().map(Vec::as_slice).unwrap_or_default();
    words.iter().filter_map(Value::as_str).collect()
}

/// Pods and what becomes Pods.
pub(crate) fn pod_specs(objects: &[Value]) -> Vec<&Value> {
    let pods = of_kind(objects, "Pod").into_iter().map(|pod| &pod["spec"]);
    let templates = ["Deployment", "Job", "DaemonSet", "StatefulSet"]
        .into_iter()
        .flat_map(|kind| of_kind(objects, kind));
    pods.chain(templates.map(|object| &object["spec"]["template"]["spec"]))
        .collect()
}

/// What no values may change.
pub(crate) fn must_be_safe(objects: &[Value], namespace: &str) {
    must_leave_out_what_cannot_wait(objects, namespace);
    must_only_warn_where_it_advises(objects);
    must_have_modest_roles(objects);
    must_keep_no_secret(objects);
    for pod in pod_specs(objects) {
        must_be_restricted(pod);
    }
}

/// Checklist 32: in every entry, the cluster's own namespaces and that of the release (AVL-01, AVL-02).
fn must_leave_out_what_cannot_wait(objects: &[Value], namespace: &str) {
    for entry in entries(objects) {
        let expressions = entry["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        let excluded = expressions
            .iter()
            .find(|it| it["key"] == "kubernetes.io/metadata.name" && it["operator"] == "NotIn")
            .unwrap();
        let names = words(&excluded["values"]);
        for name in [namespace, "kube-system", "kube-public", "kube-node-lease"] {
            assert!(names.contains(&name), "{} sees {name}", entry["name"]);
        }
        assert!(entry.get("objectSelector").is_none(), "{}", entry["name"]);
        assert_eq!(entry["sideEffects"], "None", "{}", entry["name"]);
        assert_eq!(entry["matchPolicy"], "Equivalent", "{}", entry["name"]);
        for rule in entry["rules"].as_array().unwrap() {
            for operation in words(&rule["operations"]) {
                assert!(
                    matches!(operation, "CREATE" | "UPDATE"),
                    "{}: {operation}",
                    entry["name"]
                );
            }
            for resource in words(&rule["resources"]) {
                assert!(
                    !resource.contains('*') && !resource.ends_with("/status"),
                    "{resource}"
                );
            }
        }
    }
}

/// Not configurable (ADM-60).
fn must_only_warn_where_it_advises(objects: &[Value]) {
    for name in ["audit", "audit-workloads", "advise", "policy"] {
        assert_eq!(entry(objects, name)["failurePolicy"], "Ignore", "{name}");
    }
}

/// Checklist 54: nothing that a word could widen, and nothing is deleted. People's roles may delete policies.
fn must_have_modest_roles(objects: &[Value]) {
    for (role, rule) in [rules(objects, "ClusterRole"), rules(objects, "Role")].concat() {
        for key in ["apiGroups", "resources", "verbs"] {
            assert!(!words(&rule[key]).contains(&"*"), "{role}: {rule}");
        }
        let for_people = role.contains("-policy-");
        let verbs = words(&rule["verbs"]);
        assert!(for_people || !verbs.contains(&"delete"), "{role}: {rule}");
        assert!(!verbs.contains(&"deletecollection"), "{role}: {rule}");
    }
}

/// Checklist 48: keys are made at run time, and an authority of the webhook's own is written by the webhook alone.
fn must_keep_no_secret(objects: &[Value]) {
    let text = objects.iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("PRIVATE KEY"), "a private key is rendered");
    for secret in of_kind(objects, "Secret") {
        assert!(
            secret.get("data").is_none() && secret.get("stringData").is_none(),
            "{secret}"
        );
    }
    if text.contains("--self-signed-secret=") || text.contains("inject-ca-from") {
        assert!(!text.contains("caBundle"), "caBundle is rendered");
    }
}

/// Checklist 59: Pod Security `restricted`, and a root that cannot be written (CHT-07).
fn must_be_restricted(pod: &Value) {
    let shared = &pod["securityContext"];
    assert_eq!(shared["runAsNonRoot"], true, "{pod}");
    assert_eq!(shared["seccompProfile"]["type"], "RuntimeDefault", "{pod}");
    assert_eq!(pod["automountServiceAccountToken"], false, "{pod}");
    assert_eq!(pod["enableServiceLinks"], false, "{pod}");
    for container in pod["containers"].as_array().unwrap() {
        let own = &container["securityContext"];
        assert_eq!(own["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(words(&own["capabilities"]["drop"]), ["ALL"], "{container}");
        assert_eq!(own["readOnlyRootFilesystem"], true, "{container}");
        assert!(
            own.get("runAsUser").is_none(),
            "OpenShift assigns one: {container}"
        );
        assert!(
            container["resources"]["limits"].get("cpu").is_none(),
            "{container}"
        );
    }
    let volumes = pod["volumes"].as_array().unwrap();
    for volume in volumes {
        let known = ["projected", "secret", "configMap"]
            .iter()
            .any(|kind| volume.get(kind).is_some());
        assert!(known, "{volume}");
    }
}
