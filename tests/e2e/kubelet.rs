//! A node that runs Countersign's Pods as processes of this machine, from what the API server has: their arguments,
//! variables, mounts and service account, with other ports and paths. It is the proxy of their Service too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;
use crate::balancer::{Backend, Balancer, answers_ready};
use crate::cluster::{Cluster, kubeconfig_of};
use crate::process::{self, Process, free_ports};

/// How often the node looks what it is to run.
const SYNC: Duration = Duration::from_millis(200);
const NODE: &str = "kubelet";
/// Said by a program that lost a port to another after it was found free; it is started anew, with others.
const PORT_TAKEN: &str = "Address already in use";

/// The node. Its thread lives as long as the process.
#[derive(Debug, Clone)]
pub(crate) struct Kubelet {
    restarts: Arc<Mutex<Vec<String>>>,
    backends: Arc<Mutex<Vec<Backend>>>,
}

/// A Pod as a process.
#[derive(Debug)]
struct Running {
    process: Process,
    backend: Backend,
    ready: bool,
    leaving: bool,
}

#[derive(Debug)]
struct Node {
    api: Api,
    url: String,
    namespace: String,
    pods: BTreeMap<String, Running>,
    /// By address. Those of Services that are gone lead nowhere.
    proxies: BTreeMap<String, Balancer>,
    /// Of the Service that is there now.
    address: Option<String>,
    restarts: Arc<Mutex<Vec<String>>>,
    backends: Arc<Mutex<Vec<Backend>>>,
}

impl Kubelet {
    /// Runs the Pods of one namespace from now on.
    pub(crate) fn start(cluster: &Cluster, namespace: &str) -> Self {
        cluster.node(NODE);
        let restarts = Arc::<Mutex<Vec<String>>>::default();
        let backends = Arc::<Mutex<Vec<Backend>>>::default();
        let mut node = Node {
            api: Api::new(cluster),
            url: cluster.url.clone(),
            namespace: namespace.to_owned(),
            pods: BTreeMap::new(),
            proxies: BTreeMap::new(),
            address: None,
            restarts: Arc::clone(&restarts),
            backends: Arc::clone(&backends),
        };
        thread::spawn(move || {
            loop {
                node.sync();
                thread::sleep(SYNC);
            }
        });
        Self { restarts, backends }
    }

    /// Where the replicas serve that stay.
    pub(crate) fn backends(&self) -> Vec<Backend> {
        self.backends.lock().unwrap().clone()
    }

    /// The ends of processes that nobody asked to end, with the last lines of their logs.
    pub(crate) fn restarts(&self) -> Vec<String> {
        self.restarts.lock().unwrap().clone()
    }
}

impl Node {
    fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    fn sync(&mut self) {
        let Ok(list) = self.api.get(&self.path("pods")) else {
            return;
        };
        let pods = list["items"].as_array().unwrap();
        let uids: Vec<_> = pods.iter().map(uid).collect();
        self.pods.retain(|uid, _| uids.contains(uid));
        for pod in pods {
            self.sync_pod(pod);
        }
        self.sync_services();
    }

    fn sync_pod(&mut self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        if pod["spec"].get("nodeName").is_none() {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            });
            // It may be gone by now, here and below.
            let _ = self
                .api
                .post(&self.path(&format!("pods/{name}/binding")), &binding);
            return;
        }
        let leaving = pod["metadata"].get("deletionTimestamp").is_some();
        let uid = uid(pod);
        let over = ["Succeeded", "Failed"]
            .iter()
            .any(|phase| pod["status"]["phase"] == *phase);
        if over && !leaving {
            return;
        }
        let Some(running) = self.pods.get_mut(&uid) else {
            if leaving {
                self.forget(name, &uid);
            } else if let Some(running) = self.run(pod) {
                self.pods.insert(uid, running);
            }
            return;
        };
        if leaving && !running.leaving {
            running.leaving = true;
            running.process.terminate();
        }
        if let Some(status) = running.process.ended() {
            if leaving {
                self.forget(name, &uid);
            } else if pod["spec"]["restartPolicy"] == "Never" {
                let phase = if status.success() { "Succeeded" } else { "Failed" };
                self.tell(name, &json!({"phase": phase}));
            } else if !running.process.log_tail().contains(PORT_TAKEN) {
                self.restarts.lock().unwrap().push(running.process.log_tail());
            }
            self.pods.remove(&uid);
            return;
        }
        let ready = answers_ready(running.backend.admin_port);
        if ready != running.ready {
            running.ready = ready;
            self.tell(name, &readiness(ready));
        }
    }

    /// Tells the API server that the process has ended.
    fn forget(&self, name: &str, uid: &str) {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
        let _ = self.api.delete(&self.path(&format!("pods/{name}")), &options);
    }

    /// Tells the API server what became of a Pod.
    fn tell(&self, name: &str, status: &Value) {
        let status = json!({"status": status});
        let _ = self
            .api
            .patch(&self.path(&format!("pods/{name}/status")), &status);
    }

    fn run(&self, pod: &Value) -> Option<Running> {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let container = &pod["spec"]["containers"][0];
        let mounts = self.mounts(pod, container)?;
        let kubeconfig = self.kubeconfig(pod)?;
        let [port, admin_port] = free_ports();
        let variables = variables(pod, container);
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.env_clear().envs(&variables);
        for argument in container["args"].as_array().unwrap() {
            command.arg(translate(
                argument.as_str().unwrap(),
                &variables,
                &mounts,
                port,
                admin_port,
            ));
        }
        command.arg("--kubeconfig").arg(kubeconfig);
        if container["args"][0] == "probe" {
            // There is no DNS of the cluster here.
            command.arg(format!("--connect={}", self.address.as_ref()?));
        }
        Some(Running {
            process: Process::spawn(&format!("pods/{name}"), &mut command),
            backend: Backend { port, admin_port },
            ready: false,
            leaving: false,
        })
    }

    /// The `ConfigMap`s and Secrets that a Pod mounts, as folders: (path in the container, path here). None while one
    /// of them is missing.
    fn mounts(&self, pod: &Value, container: &Value) -> Option<Vec<(String, PathBuf)>> {
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let mut mounts = Vec::new();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"])?;
            let folder = format!(
                "pods/{}/{}",
                pod["metadata"]["name"].as_str()?,
                mount["name"].as_str()?
            );
            if let Some(name) = volume["configMap"]["name"].as_str() {
                let object = self.api.get(&self.path(&format!("configmaps/{name}"))).ok()?;
                for (key, text) in object["data"].as_object()? {
                    process::write(&format!("{folder}/{key}"), text.as_str()?);
                }
            }
            mounts.push((
                mount["mountPath"].as_str()?.to_owned(),
                process::new_folder(&folder),
            ));
        }
        Some(mounts)
    }

    /// How the Pod's service account reaches the API server: with a token that is the Pod's own.
    fn kubeconfig(&self, pod: &Value) -> Option<PathBuf> {
        let name = pod["metadata"]["name"].as_str()?;
        let account = pod["spec"]["serviceAccountName"].as_str()?;
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600, "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"],
            }},
        });
        let path = self.path(&format!("serviceaccounts/{account}/token"));
        let answer = self.api.post(&path, &request).ok()?;
        let token = answer["status"]["token"].as_str()?;
        Some(kubeconfig_of(
            &format!("pods/{name}/kubeconfig.json"),
            &self.url,
            token,
        ))
    }

    /// What kube-proxy does: the address of each Service leads to the Pods that are ready and stay.
    fn sync_services(&mut self) {
        let Ok(list) = self.api.get(&self.path("services")) else {
            return;
        };
        let backends: Vec<_> = self
            .pods
            .values()
            .filter(|running| !running.leaving)
            .map(|running| running.backend)
            .collect();
        self.backends.lock().unwrap().clone_from(&backends);
        for service in list["items"].as_array().unwrap() {
            let (address, port) = (
                &service["spec"]["clusterIP"],
                &service["spec"]["ports"][0]["port"],
            );
            let address = format!("{}:{port}", address.as_str().unwrap_or_default());
            self.address = Some(address.clone());
            let proxy = self
                .proxies
                .entry(address)
                .or_insert_with_key(|address| Balancer::start_at(address));
            proxy.set(&backends);
        }
    }
}

/// The status of a Pod that runs.
fn readiness(ready: bool) -> Value {
    let now = countersign::clock::now().to_string();
    let status = if ready { "True" } else { "False" };
    let condition =
        |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": now});
    json!({"phase": "Running", "conditions": [
        condition("PodScheduled", "True"), condition("Initialized", "True"),
        condition("ContainersReady", status), condition("Ready", status),
    ]})
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// A container's variables: literal ones, and fields of the Pod's metadata.
fn variables(pod: &Value, container: &Value) -> BTreeMap<String, String> {
    let none = Vec::new();
    let entries = container["env"].as_array().unwrap_or(&none);
    let value = |entry: &Value| match entry["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
        Some(path) => pod.pointer(&format!("/{}", path.replace('.', "/"))).cloned(),
        None => Some(entry["value"].clone()),
    };
    entries
        .iter()
        .filter_map(|entry| {
            Some((
                entry["name"].as_str()?.to_owned(),
                value(entry)?.as_str()?.to_owned(),
            ))
        })
        .collect()
}

/// An argument as the container has it, with the ports and paths of this machine.
fn translate(
    argument: &str,
    variables: &BTreeMap<String, String>,
    mounts: &[(String, PathBuf)],
    port: u16,
    admin_port: u16,
) -> String {
    if argument.starts_with("--listen=") {
        return format!("--listen=127.0.0.1:{port}");
    }
    if argument.starts_with("--admin-listen=") {
        return format!("--admin-listen=127.0.0.1:{admin_port}");
    }
    let mut argument = argument.to_owned();
    for (name, value) in variables {
        argument = argument.replace(&format!("$({name})"), value);
    }
    for (there, here) in mounts {
        argument = argument.replace(&format!("={there}/"), &format!("={}/", here.display()));
    }
    argument
}
