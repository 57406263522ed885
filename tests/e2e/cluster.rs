//! A Kubernetes control plane without nodes: etcd, the API server and the controllers. Pods stay pending, which is
//! all that admission needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::objects::image;
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
    /// kubectl's cache of the API's shape.
    cache: PathBuf,
    /// Where the API server listens.
    pub(crate) url: String,
}

impl Cluster {
    /// Keeps its files in a folder with its `name`.
    pub(crate) fn start(name: &str) -> Self {
        let folder = process::new_folder(name);
        let (etcd, etcd_port) = start_etcd(name);
        let (api_server, port) = start_api_server(name, etcd_port);
        let kubeconfig = kubeconfig(name, port);
        let controllers = start_controllers(name, &kubeconfig);
        Self {
            _processes: [etcd, api_server, controllers],
            kubeconfig,
            audit_log: folder.join("audit.log"),
            cache: folder.join("kubectl-cache"),
            url: format!("https://127.0.0.1:{port}"),
        }
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

    /// The image of what a Pod would become, or what is said against it; nothing is kept.
    pub(crate) fn verdict(&self, pod: &Value) -> Result<String, String> {
        let output = self.kubectl_with(&["create", "--dry-run=server", "-o", "json"], pod);
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
        let stored: Value = serde_json::from_slice(&output.stdout).unwrap();
        Ok(image(&stored).to_owned())
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
        let mut events = self.all_audit_events();
        events.retain(|event| event["objectRef"]["namespace"] == namespace);
        events
    }

    /// What the API server was asked for, as far as it writes it down, in the order of its answers.
    pub(crate) fn all_audit_events(&self) -> Vec<Value> {
        fs::read_to_string(&self.audit_log)
            .unwrap()
            .lines()
            // The last line may be half written.
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// `kubectl`, for what the others do not offer.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(part("KUBECTL"));
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(&self.cache);
        command
    }
}

/// `Authorization` of an administrator.
pub(crate) fn authorization() -> String {
    format!("Bearer {ADMIN_TOKEN}")
}

fn start_etcd(name: &str) -> (Process, u16) {
    let data = process::new_folder(&format!("{name}/etcd"));
    let (process, [port, _]) = Process::start(
        &format!("{name}/etcd"),
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

fn start_api_server(name: &str, etcd_port: u16) -> (Process, u16) {
    let identity = pki::issue(
        &format!("{name}/kube-apiserver"),
        &["localhost", "127.0.0.1", "kubernetes.default.svc"],
    );
    let tokens = process::write(
        &format!("{name}/tokens.csv"),
        format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"),
    );
    let audit_policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:countersign-system"]},
            {"level": "Metadata", "resources": [{"group": "", "resources": ["pods", "pods/ephemeralcontainers"]}]},
            {"level": "Metadata", "resources": [{"group": "apps"}]}, {"level": "None"}],
    });
    let audit_log = process::folder().join(name).join("audit.log");
    let audit_policy = process::write(&format!("{name}/audit-policy.json"), audit_policy.to_string());
    let (process, [port]) = Process::start(
        &format!("{name}/kube-apiserver"),
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
                    // The addresses of Services are on loopback, where the tests play the proxy that each node has.
                    "--service-cluster-ip-range=127.96.0.0/24",
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
                .arg(flag("audit-log-path", &audit_log));
            command
        },
        |[port]| listens(port) && serves(name, port),
    );
    (process, port)
}

/// Whether the API server says it is ready.
fn serves(name: &str, port: u16) -> bool {
    let config = kubeconfig(name, port);
    let mut command = Command::new(part("KUBECTL"));
    command
        .arg("--kubeconfig")
        .arg(config)
        .args(["get", "--raw", "/readyz"]);
    output(&mut command).status.success()
}

fn start_controllers(name: &str, kubeconfig: &Path) -> Process {
    let service_account_key = process::folder().join(name).join("kube-apiserver.key");
    let (process, _) = Process::start(
        &format!("{name}/kube-controller-manager"),
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

/// An administrator's.
fn kubeconfig(name: &str, port: u16) -> PathBuf {
    kubeconfig_of(
        &format!("{name}/kubeconfig.json"),
        &format!("https://127.0.0.1:{port}"),
        ADMIN_TOKEN,
    )
}

/// How whoever has a token reaches an API server.
pub(crate) fn kubeconfig_of(file: &str, url: &str, token: &str) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": {
            "server": url, "certificate-authority": pki::authority(),
        }}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "user"}}],
    });
    process::write(file, config.to_string())
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
