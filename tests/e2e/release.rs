//! A cluster with the Helm chart installed: a node of the tests runs what the chart asks for.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::balancer::Backend;
use crate::cluster::Cluster;
use crate::kubelet::Kubelet;
use crate::objects::pod;
use crate::process::{self, eventually, free_ports, output, part, text};
use crate::trust_server::{Build, TrustServer};
use crate::world::{Authority, trust, verifier};

pub(crate) const NAMESPACE: &str = "countersign-system";
pub(crate) const NAME: &str = "countersign";
/// What both webhook configurations are called.
pub(crate) const CONFIGURATION: &str = "countersign-countersign-system";
/// A replica is ready within seconds, and counts after some more; an update takes one after the other.
const ROLLED_OUT: Duration = Duration::from_secs(120);
/// What a change of a policy, a label or a registration takes to be in force; a busy machine may take longer.
pub(crate) const IN_FORCE: Duration = Duration::from_secs(30);

/// A release of the chart.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) cluster: Cluster,
    pub(crate) kubelet: Kubelet,
    /// `past/**`: a trust server that goes back in time.
    pub(crate) past: Authority,
    values: Value,
    /// How many audit events were looked at.
    audited: AtomicUsize,
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
        let server = TrustServer::start("past", Build::Durable, Some(&trust().signer), None);
        let past = Authority::new(&trust().registry.host, "past", server);
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
                "defaultPolicy": default_policy(&past),
            }),
            past,
            audited: AtomicUsize::new(0),
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
        self.await_rollout();
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

    /// Waits until all replicas are as the Deployment says, unless one of them cannot even start.
    pub(crate) fn await_rollout(&self) {
        let arguments = [
            "rollout",
            "status",
            "-n",
            NAMESPACE,
            "deployment/countersign",
            "--watch=false",
        ];
        eventually("the rollout is complete", ROLLED_OUT, || {
            assert_eq!(self.kubelet.restarts(), Vec::<String>::new());
            let said = self.cluster.kubectl_ok(&arguments);
            said.contains("successfully rolled out").then_some(())
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

    /// The objects of the release, with what changes only when somebody changes what is wanted of them.
    pub(crate) fn objects(&self) -> BTreeMap<String, String> {
        let manifest = process::write("helm/manifest.yaml", self.helm(&["get", "manifest", NAME]));
        let list = [
            "get",
            "-n",
            NAMESPACE,
            "-o",
            "json",
            "-f",
            manifest.to_str().unwrap(),
        ];
        let list: Value = serde_json::from_str(&self.cluster.kubectl_ok(&list)).unwrap();
        let objects = list["items"].as_array().unwrap();
        let version = |metadata: &Value| {
            let generation = metadata.get("generation").unwrap_or(&metadata["resourceVersion"]);
            format!("{} {generation}", metadata["uid"])
        };
        objects
            .iter()
            .map(|object| {
                let name = format!("{}/{}", object["kind"], object["metadata"]["name"]);
                (name.replace('"', ""), version(&object["metadata"]))
            })
            .collect()
    }

    /// Asks one replica itself, as the API server would: the verdict on a Pod, by `/mutate` and then `/validate`.
    pub(crate) fn verdict_of(&self, replica: Backend, namespace: &str, image: &str) -> Value {
        let configuration = format!("validatingwebhookconfiguration/{CONFIGURATION}");
        let entry = &self.cluster.get("default", &configuration)["webhooks"][0];
        let authority = entry["clientConfig"]["caBundle"].as_str().unwrap();
        let authority = BASE64_STANDARD.decode(authority).unwrap();
        let host = format!("{NAME}.{NAMESPACE}.svc");
        let client = reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&authority).unwrap())
            .resolve(&host, ([127, 0, 0, 1], replica.port).into())
            .build()
            .unwrap();
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "operation": "CREATE", "namespace": namespace, "object": pod(namespace, image),
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
            },
        });
        let url = format!("https://{host}:{}/validate?timeout=10s", replica.port);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let answer = client
                .post(url)
                .header("content-type", "application/json")
                .body(review.to_string())
                .send()
                .await
                .unwrap();
            answer.json::<Value>().await.unwrap()["response"].take()
        })
    }

    /// The webhook has not asked for what its roles do not grant, since this was last looked at, and no replica ended by
    /// itself.
    pub(crate) fn assert_sound(&self) {
        let account = format!("system:serviceaccount:{NAMESPACE}:countersign");
        let seen = self.audited.load(Ordering::Relaxed);
        // It asks every few seconds.
        let (ours, all) = eventually("the webhook asks the API server", IN_FORCE, || {
            let events = self.cluster.all_audit_events();
            let all = events.len();
            let new = events.into_iter().skip(seen);
            let ours: Vec<_> = new
                .filter(|event| event["user"]["username"] == account.as_str())
                .collect();
            (!ours.is_empty()).then_some((ours, all))
        });
        self.audited.store(all, Ordering::Relaxed);
        let refused: Vec<_> = ours
            .iter()
            .filter(|event| event["responseStatus"]["code"] == 403)
            .map(|event| (&event["verb"], &event["requestURI"]))
            .collect();
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(self.kubelet.restarts(), Vec::<String>::new());
    }

    /// Leaves what the webhook was refused so far as it is.
    pub(crate) fn overlook(&self) {
        self.audited
            .store(self.cluster.all_audit_events().len(), Ordering::Relaxed);
    }
}

/// In force while the cluster has no policy.
fn default_policy(past: &Authority) -> Value {
    let trust = trust();
    json!({
        "verifiers": [verifier(&trust.hub), verifier(past)],
        "rules": [
            {"images": [format!("{}/hub/**", trust.registry.host)], "verify": {"anyOf": ["hub"]}},
            {"images": [format!("{}/past/**", trust.registry.host)], "verify": {"anyOf": ["past"]}},
            {"images": ["registry.k8s.io/**"], "allow": {"reason": "cluster plumbing"}},
            {"images": ["**"], "deny": {"message": "only images of the tests run here"}},
        ],
    })
}

/// A repository with one signed tag: the tag's reference, and the pinned one.
pub(crate) fn signed(name: &str) -> (String, String) {
    let trust = trust();
    let repository = trust.repository(&trust.hub, &format!("released/{name}"));
    let digest = trust.release(&repository, "1.0", name, None);
    let tag = format!("{}:1.0", repository.gun);
    (tag.clone(), format!("{tag}@{digest}"))
}
