//! A Kubernetes control plane without nodes: etcd, the API server and the controllers. Pods stay pending, which is
//! all that admission needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::pki;
use crate::process::{self, Process, eventually, listens, output, output_of_input, part, text};

/// The API server takes some 15 s on two busy cores.
const READY: Duration = Duration::from_secs(120);
const ADMIN_TOKEN: &str = "admin-token";

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Cluster {
    _processes: [Process; 3],
    /// Of an administrator.
    pub(crate) kubeconfig: PathBuf,
    audit_log: PathBuf,
    /// Where the API server listens.
    pub(crate) url: String,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let (etcd, etcd_port) = start_etcd();
        let audit_log = process::folder().join("audit.log");
        let (api_server, port) = start_api_server(etcd_port, &audit_log);
        let kubeconfig = kubeconfig(port);
        let controllers = start_controllers(&kubeconfig);
        Self {
            _processes: [etcd, api_server, controllers],
            kubeconfig,
            audit_log,
            url: format!("https://127.0.0.1:{port}"),
        }
    }

    /// `Authorization` of an administrator.
    pub(crate) fn authorization() -> String {
        format!("Bearer {ADMIN_TOKEN}")
    }

    /// Runs `kubectl`.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Output {
        output(self.command().args(arguments))
    }

    /// Runs `kubectl` and demands success; gives what it printed.
    pub(crate) fn kubectl_ok(&self, arguments: &[&str]) -> String {
        process::run(self.command().args(arguments))
    }

    /// Runs `kubectl` with an object as its input.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], object: &Value) -> Output {
        output_of_input(
            self.command().args(arguments).args(["-f", "-"]),
            &object.to_string(),
        )
    }

    /// Creates an object, and demands success.
    pub(crate) fn create(&self, object: &Value) -> Value {
        let output = self.kubectl_with(&["create", "-o", "json"], object);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Creates an object, and gives what kubectl said when it was refused.
    pub(crate) fn refusal(&self, object: &Value) -> String {
        let refused = self.refused(object);
        refused.unwrap_or_else(|| panic!("admitted: {object}"))
    }

    /// What kubectl says if an object is refused; an admitted one stays.
    pub(crate) fn refused(&self, object: &Value) -> Option<String> {
        let output = self.kubectl_with(&["create", "-o", "name"], object);
        (!output.status.success()).then(|| text(&output.stderr))
    }

    /// Creates an object or changes it to what is written, and demands success; gives what kubectl warned of.
    pub(crate) fn apply(&self, object: &Value) -> String {
        let output = self.kubectl_with(&["apply"], object);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    }

    /// The Pods of a namespace that a label selects, the oldest first.
    pub(crate) fn pods(&self, namespace: &str, selector: &str) -> Vec<Value> {
        let arguments = ["get", "pods", "-n", namespace, "-l", selector, "-o", "json"];
        let sorted = ["--sort-by=.metadata.creationTimestamp"];
        let json = self.kubectl_ok(&[&arguments[..], &sorted].concat());
        let mut list: Value = serde_json::from_str(&json).unwrap();
        let Value::Array(pods) = list["items"].take() else {
            panic!("no list: {json}")
        };
        pods
    }

    /// An object as it is stored.
    pub(crate) fn get(&self, namespace: &str, object: &str) -> Value {
        let json = self.kubectl_ok(&["get", "-n", namespace, object, "-o", "json"]);
        serde_json::from_str(&json).unwrap()
    }

    /// A namespace that is ready for Pods.
    pub(crate) fn namespace(&self, name: &str, labels: &[(&str, &str)]) {
        let labels: Value = labels
            .iter()
            .map(|(key, value)| (key.to_string(), json!(value)))
            .collect();
        self.create(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        }));
        self.await_service_account(name);
    }

    /// A node that nobody runs, which takes Pods.
    pub(crate) fn node(&self, name: &str) -> Value {
        let node = self.create(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        }));
        // What the API server puts on a new node, a controller takes off when a kubelet says that it is ready.
        self.kubectl_ok(&["taint", "node", name, "node.kubernetes.io/not-ready-"]);
        node
    }

    /// A Pod may be made once its service account is there, which a controller makes.
    fn await_service_account(&self, namespace: &str) {
        eventually("the default service account", READY, || {
            self.kubectl(&["get", "serviceaccount", "-n", namespace, "default"])
                .status
                .success()
                .then_some(())
        });
    }

    /// The audit events of one namespace.
    pub(crate) fn audit_events(&self, namespace: &str) -> Vec<Value> {
        fs::read_to_string(&self.audit_log)
            .unwrap()
            .lines()
            // The last line may be half written.
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["objectRef"]["namespace"] == namespace)
            .collect()
    }

    /// `kubectl`, for what the others do not offer.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(part("KUBECTL"));
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            // Its cache of the API's shape goes with the run.
            .arg("--cache-dir")
            .arg(process::folder().join("kubectl-cache"));
        command
    }
}

fn start_etcd() -> (Process, u16) {
    let data = process::new_folder("etcd");
    let (process, [port, _]) = Process::start(
        "etcd",
        READY,
        |[client, peer]| {
            let client = format!("http://127.0.0.1:{client}");
            let peer = format!("http://127.0.0.1:{peer}");
            let mut command = Command::new("etcd");
            command
                .arg("--data-dir")
                .arg(&data)
                .args([
                    "--listen-client-urls",
                    &client,
                    "--advertise-client-urls",
                    &client,
                ])
                .args([
                    "--listen-peer-urls",
                    &peer,
                    "--initial-advertise-peer-urls",
                    &peer,
                ])
                .args(["--initial-cluster", &format!("default={peer}")])
                // Nothing here is worth a disk's patience.
                .arg("--unsafe-no-fsync");
            command
        },
        |[client, _]| listens(client),
    );
    (process, port)
}

fn start_api_server(etcd_port: u16, audit_log: &Path) -> (Process, u16) {
    let identity = pki::issue(
        "kube-apiserver",
        &["localhost", "127.0.0.1", "kubernetes.default.svc"],
    );
    let tokens = process::write(
        "tokens.csv",
        format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"),
    );
    let audit_policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "resources": [{"group": "", "resources": ["pods", "pods/ephemeralcontainers"]}]},
            {"level": "Metadata", "resources": [{"group": "apps"}]}, {"level": "None"}],
    });
    let audit_policy = process::write("audit-policy.json", audit_policy.to_string());
    let (process, [port]) = Process::start(
        "kube-apiserver",
        READY,
        |[port]| {
            let mut command = Command::new(part("KUBE"));
            command
                .arg("kube-apiserver")
                .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
                .arg(format!("--secure-port={port}"))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
                .args([
                    "--endpoint-reconciler-type=none",
                    "--service-cluster-ip-range=10.0.0.0/24",
                ])
                .arg(flag("tls-cert-file", &identity.certificate))
                .arg(flag("tls-private-key-file", &identity.key))
                .arg(flag("token-auth-file", &tokens))
                // Kubelets are held to their own node, as in any cluster.
                .args([
                    "--authorization-mode=Node,RBAC",
                    "--enable-admission-plugins=NodeRestriction",
                    "--service-account-issuer=https://kubernetes.default.svc",
                ])
                .arg(flag("service-account-key-file", &identity.certificate))
                .arg(flag("service-account-signing-key-file", &identity.key))
                .arg(flag("audit-policy-file", &audit_policy))
                .arg(flag("audit-log-path", audit_log));
            command
        },
        |[port]| listens(port) && serves(port),
    );
    (process, port)
}

/// Whether the API server says it is ready.
fn serves(port: u16) -> bool {
    let config = kubeconfig(port);
    let mut command = Command::new(part("KUBECTL"));
    command
        .arg("--kubeconfig")
        .arg(config)
        .args(["get", "--raw", "/readyz"]);
    output(&mut command).status.success()
}

fn start_controllers(kubeconfig: &Path) -> Process {
    let service_account_key = process::folder().join("kube-apiserver.key");
    let (process, _) = Process::start(
        "kube-controller-manager",
        READY,
        |[port]| {
            let mut command = Command::new(part("KUBE"));
            command
                .arg("kube-controller-manager")
                .arg(flag("kubeconfig", kubeconfig))
                .arg(flag("service-account-private-key-file", &service_account_key))
                .arg(flag("root-ca-file", &pki::authority()))
                .args([
                    "--bind-address=127.0.0.1",
                    "--leader-elect=false",
                    "--use-service-account-credentials",
                ])
                // No kubelet renews a node's lease, so these would empty a node after a while.
                .arg("--controllers=*,-node-lifecycle-controller,-taint-eviction-controller")
                .arg(format!("--secure-port={port}"));
            command
        },
        |[port]| listens(port),
    );
    process
}

fn kubeconfig(port: u16) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": pki::authority(),
        }}],
        "users": [{"name": "admin", "user": {"token": ADMIN_TOKEN}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "admin"}}],
    });
    process::write("kubeconfig.json", config.to_string())
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
