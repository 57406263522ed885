//! A cluster with the Helm chart installed: a node of the tests runs what the chart asks for.

use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::kubelet::Kubelet;
use crate::objects::pod;
use crate::process::{self, eventually, free_ports, output, part, text};
use crate::world::{trust, verifier};

pub(crate) const NAMESPACE: &str = "countersign-system";
pub(crate) const NAME: &str = "countersign";
/// A replica is ready within seconds, and counts after some more; an update takes one after the other.
pub(crate) const ROLLED_OUT: Duration = Duration::from_secs(120);
/// What a change of a policy, a label or a registration takes to be in force; a busy machine may take longer.
pub(crate) const IN_FORCE: Duration = Duration::from_secs(30);

/// A release of the chart.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) cluster: Cluster,
    pub(crate) kubelet: Kubelet,
    values: Value,
}

/// The release, installed and ready, for one test at a time. Tests that change it leave it as it was.
pub(crate) fn release() -> MutexGuard<'static, Release> {
    static RELEASE: LazyLock<Mutex<Release>> = LazyLock::new(|| Mutex::new(Release::start()));
    let release = RELEASE.lock().unwrap_or_else(PoisonError::into_inner);
    release.upgrade(&json!({}));
    release
}

impl Release {
    fn start() -> Self {
        let cluster = Cluster::start("release");
        // Both labels are for the chart's own Pods: the one holds them to a standard, the other must not.
        cluster.namespace(
            NAMESPACE,
            &[
                ("pod-security.kubernetes.io/enforce", "restricted"),
                ("countersign.dev/mode", "enforce"),
            ],
        );
        let kubelet = Kubelet::start(&cluster, NAMESPACE);
        let [port] = free_ports();
        Self {
            cluster,
            kubelet,
            values: json!({
                "replicas": 2,
                // Ports below 1024 are not for everybody.
                "service": {"port": port},
                "freshFor": "1s",
                "drainDelay": "3s",
                "minReadySeconds": 1,
                "defaultPolicy": default_policy(),
            }),
        }
    }

    /// Runs Helm and demands success; gives what it printed.
    pub(crate) fn helm(&self, arguments: &[&str]) -> String {
        let output = self.helm_output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn helm_output(&self, arguments: &[&str]) -> Output {
        let home = process::new_folder("helm");
        let mut command = Command::new(part("HELM"));
        for kind in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{kind}_HOME"), home.join(kind));
        }
        command
            .args(arguments)
            .args(["--namespace", NAMESPACE, "--kubeconfig"])
            .arg(&self.cluster.kubeconfig);
        output(&mut command)
    }

    /// The chart and the values of the tests with some of their own, for Helm's arguments.
    fn sources(&self, values: &Value) -> [String; 5] {
        let base = process::write("helm/values.json", self.values.to_string());
        let own = process::write("helm/more-values.json", values.to_string());
        let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/countersign").to_owned();
        [
            chart,
            "--values".to_owned(),
            path(base),
            "--values".to_owned(),
            path(own),
        ]
    }

    /// Installs the chart, or changes the release to these values, and waits until it serves.
    pub(crate) fn upgrade(&self, values: &Value) {
        self.upgrade_only(values);
        self.await_served();
    }

    /// `helm upgrade --install`.
    pub(crate) fn upgrade_only(&self, values: &Value) {
        let sources = self.sources(values);
        let sources: Vec<_> = sources.iter().map(String::as_str).collect();
        self.helm(
            &[
                &["upgrade", "--install", NAME],
                &sources[..],
                &["--create-namespace"],
            ]
            .concat(),
        );
    }

    /// What `helm template` prints with these values.
    pub(crate) fn render(&self, values: &Value) -> String {
        let sources = self.sources(values);
        let sources: Vec<_> = sources.iter().map(String::as_str).collect();
        self.helm(&[&["template", NAME], &sources[..]].concat())
    }

    /// Waits until all replicas are as the Deployment says, and the API server is answered.
    pub(crate) fn await_served(&self) {
        let timeout = format!("--timeout={}s", ROLLED_OUT.as_secs());
        let rollout = [
            "rollout",
            "status",
            "-n",
            NAMESPACE,
            "deployment/countersign",
            &timeout,
        ];
        self.cluster.kubectl_ok(&rollout);
        eventually(
            "only the replicas of the last change are there",
            ROLLED_OUT,
            || (self.pods().len() == 2).then_some(()),
        );
        if !self
            .cluster
            .kubectl(&["get", "namespace", "probe"])
            .status
            .success()
        {
            self.cluster
                .namespace("probe", &[("countersign.dev/mode", "enforce")]);
        }
        eventually("the registration takes effect", IN_FORCE, || {
            let said = self.verdict("probe", "forbidden.example.com/app:1.0").err()?;
            said.contains("denied the request").then_some(())
        });
    }

    /// The replicas.
    pub(crate) fn pods(&self) -> Vec<Value> {
        self.cluster
            .pods(NAMESPACE, "app.kubernetes.io/component=webhook")
    }

    /// A new namespace; without the label if `mode` is empty.
    pub(crate) fn namespace(&self, name: &str, mode: &str) {
        let label = ("countersign.dev/mode", mode);
        self.cluster.namespace(
            name,
            if mode.is_empty() {
                &[]
            } else {
                std::slice::from_ref(&label)
            },
        );
    }

    /// What a Pod's image becomes, or what is said against it; nothing is kept.
    pub(crate) fn verdict(&self, namespace: &str, image: &str) -> Result<String, String> {
        self.cluster.verdict(&pod(namespace, image))
    }

    /// The webhook never asked for what its roles do not grant, and no replica ended by itself.
    pub(crate) fn assert_sound(&self) {
        let account = format!("system:serviceaccount:{NAMESPACE}:countersign");
        let events = self.cluster.all_audit_events();
        let ours: Vec<_> = events
            .iter()
            .filter(|event| event["user"]["username"] == account.as_str())
            .collect();
        assert!(!ours.is_empty(), "the webhook asks the API server");
        let refused: Vec<_> = ours
            .iter()
            .filter(|event| event["responseStatus"]["code"] == 403)
            .map(|event| (&event["verb"], &event["requestURI"]))
            .collect();
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(self.kubelet.restarts(), Vec::<String>::new());
    }
}

/// In force while the cluster has no policy.
fn default_policy() -> Value {
    let trust = trust();
    json!({
        "verifiers": [verifier(&trust.hub)],
        "rules": [
            {"images": [format!("{}/hub/**", trust.registry.host)], "verify": {"anyOf": ["hub"]}},
            {"images": ["registry.k8s.io/**"], "allow": {"reason": "cluster plumbing"}},
            {"images": ["**"], "deny": {"message": "only images of the tests run here"}},
        ],
    })
}
