//! Countersign itself, and how a cluster learns of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::balancer::{Backend, answers_ready};
use crate::cluster::Cluster;
use crate::pki;
use crate::process::{self, Process};

/// Loading a policy takes milliseconds; the machine may be busy with a control plane.
const READY: Duration = Duration::from_secs(30);

/// How a replica serves TLS.
#[derive(Debug, Clone)]
pub(crate) enum Certificate {
    /// With the identity that all servers of the tests have.
    Loopback,
    /// It makes its own in this folder, for this name.
    SelfSigned { folder: PathBuf, name: &'static str },
    /// It shares an authority in the Secret `NAME-ca`, for the Service of this name in the namespace of this name, and
    /// keeps the configurations.
    Secret {
        name: &'static str,
        configuration: String,
        /// Of the authority and of a leaf, as flags.
        lifetimes: Option<[&'static str; 2]>,
    },
}

/// A replica of `countersign webhook`.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) process: Process,
    pub(crate) backend: Backend,
}

impl Webhook {
    pub(crate) fn start(name: &str, policy: &Path, certificate: &Certificate) -> Self {
        let state = process::new_folder(&format!("{name}-state"));
        let source = [
            "--policy".as_ref(),
            policy.as_os_str(),
            "--state-dir".as_ref(),
            state.as_os_str(),
        ];
        Self::start_with(name, &source, certificate)
    }

    /// One whose policies are objects of the cluster, as is what it remembers.
    pub(crate) fn in_cluster(name: &str, kubeconfig: &Path) -> Self {
        Self::in_cluster_with(name, kubeconfig, &[], &Certificate::Loopback)
    }

    /// The same with further flags, and another certificate.
    pub(crate) fn in_cluster_with(
        name: &str,
        kubeconfig: &Path,
        flags: &[&str],
        certificate: &Certificate,
    ) -> Self {
        let mut source = vec!["--kube".as_ref(), "--kubeconfig".as_ref(), kubeconfig.as_os_str()];
        source.extend(flags.iter().map(AsRef::<OsStr>::as_ref));
        Self::start_with(name, &source, certificate)
    }

    pub(crate) fn start_with(name: &str, source: &[&OsStr], certificate: &Certificate) -> Self {
        let (process, [port, admin_port]) = Process::start(
            name,
            READY,
            |[port, admin_port]| {
                let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
                command
                    .arg("webhook")
                    .args(source)
                    .args(["--listen", &format!("127.0.0.1:{port}")])
                    .args(["--admin-listen", &format!("127.0.0.1:{admin_port}")]);
                match certificate {
                    Certificate::Loopback => command
                        .arg("--tls-cert")
                        .arg(&pki::loopback().certificate)
                        .arg("--tls-key")
                        .arg(&pki::loopback().key),
                    Certificate::SelfSigned { folder, name } => command
                        .arg("--self-signed-dir")
                        .arg(folder)
                        .args(["--self-signed-name", name]),
                    Certificate::Secret {
                        name,
                        configuration,
                        lifetimes,
                    } => {
                        command
                            .args(["--self-signed-secret", &format!("{name}-ca")])
                            .args(["--self-signed-name", &format!("{name}.{name}.svc")])
                            .args(["--webhook-configuration", configuration]);
                        if let Some([authority, leaf]) = lifetimes {
                            command.args(["--ca-lifetime", authority, "--leaf-lifetime", leaf]);
                        }
                        &mut command
                    }
                };
                command
            },
            |[_, admin_port]| answers_ready(admin_port),
        );
        Self {
            process,
            backend: Backend { port, admin_port },
        }
    }
}

/// Registers a webhook for the namespaces that carry the label `e2e: NAME`, as the chart does it for all. The
/// `client_config` has no path yet.
pub(crate) fn register(cluster: &Cluster, name: &str, client_config: &Value) {
    let entry = |entry: &str| {
        json!({
            "name": format!("{entry}.countersign.dev"),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "matchPolicy": "Equivalent",
            "clientConfig": with_path(client_config, entry),
        })
    };
    let mutate = merged(
        entry("mutate"),
        json!({
            "failurePolicy": "Ignore", "reinvocationPolicy": "IfNeeded", "timeoutSeconds": 10,
            "namespaceSelector": selector(name, &["enforce"]), "rules": pod_rules(), "matchConditions": conditions(),
        }),
    );
    let templates = merged(
        entry("mutate"),
        json!({
            "name": "mutate-workloads.countersign.dev",
            "failurePolicy": "Fail", "timeoutSeconds": 10,
            "namespaceSelector": selector(name, &["enforce"]), "rules": workload_rules(),
            "matchConditions": template_conditions(),
        }),
    );
    let validate = merged(
        entry("validate"),
        json!({
            "failurePolicy": "Fail", "timeoutSeconds": 10,
            "namespaceSelector": selector(name, &["enforce"]), "rules": pod_rules(), "matchConditions": conditions(),
        }),
    );
    let audit = merged(
        entry("audit"),
        json!({
            "failurePolicy": "Ignore", "timeoutSeconds": 5,
            "namespaceSelector": selector(name, &["audit"]), "rules": pod_rules(), "matchConditions": conditions(),
        }),
    );
    let advise = merged(
        entry("advise"),
        json!({
            "failurePolicy": "Ignore", "timeoutSeconds": 5,
            "namespaceSelector": selector(name, &["enforce", "audit"]), "rules": workload_rules(),
        }),
    );
    for (kind, webhooks) in [
        ("MutatingWebhookConfiguration", vec![mutate, templates]),
        ("ValidatingWebhookConfiguration", vec![validate, audit, advise]),
    ] {
        cluster.create(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": format!("countersign-{name}")}, "webhooks": webhooks,
        }));
    }
}

fn with_path(client_config: &Value, path: &str) -> Value {
    let mut config = client_config.clone();
    if let Some(url) = client_config["url"].as_str() {
        config["url"] = json!(format!("{url}/{path}"));
    } else {
        config["service"]["path"] = json!(format!("/{path}"));
    }
    config
}

fn merged(mut entry: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        unreachable!("an object by its literal")
    };
    entry.as_object_mut().unwrap().extend(more);
    entry
}

fn selector(name: &str, modes: &[&str]) -> Value {
    json!({
        "matchLabels": {"e2e": name},
        "matchExpressions": [{"key": "countersign.dev/mode", "operator": "In", "values": modes}],
    })
}

fn pod_rules() -> Value {
    json!([
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"],
            "scope": "Namespaced"},
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"],
            "resources": ["pods/ephemeralcontainers"], "scope": "Namespaced"},
    ])
}

fn workload_rules() -> Value {
    json!([
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["deployments", "replicasets", "statefulsets", "daemonsets"], "scope": "Namespaced"},
        {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["jobs", "cronjobs"], "scope": "Namespaced"},
    ])
}

/// Kubelets may only make mirror Pods, and an update that changes no image needs no answer (ADM-62).
fn conditions() -> Value {
    let list =
        |object: &str, list: &str| format!("{object}.spec.?{list}.orValue([]).map(c, c.?image.orValue(''))");
    let changed: Vec<_> = ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .map(|name| format!("{} != {}", list("object", name), list("oldObject", name)))
        .collect();
    json!([
        {"name": "not-a-kubelet", "expression": "!('system:nodes' in request.userInfo.?groups.orValue([]))"},
        {"name": "images-changed", "expression": format!("request.operation != 'UPDATE' || {}", changed.join(" || "))},
    ])
}

/// An update that changes no template needs no answer. That operators are told to leave out what a controller made as
/// well is not relied on: the webhook itself must leave it alone (ADM-34).
fn template_conditions() -> Value {
    json!([
        {"name": "template-changed",
            "expression": "request.operation != 'UPDATE' || object.spec.?template != oldObject.spec.?template \
                           || object.spec.?jobTemplate != oldObject.spec.?jobTemplate"},
    ])
}
