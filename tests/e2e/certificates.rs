//! Certificates that the webhook keeps in the cluster: one authority for all replicas, and `caBundle` in every entry.
//!
//! The API server calls a Service by its name, so the names in the certificates count.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::balancer::Balancer;
use crate::cluster::Cluster;
use crate::pki;
use crate::process::{self, eventually, text};
use crate::webhook::{self, Certificate, Webhook};
use crate::world::{RELEASE_NAMESPACE, cluster, definitions, pod, release_namespace};

/// TLS-07 and TLS-09: what is lost or wrong is right again within a minute.
const REPAIRED: Duration = Duration::from_secs(60);
/// Three lives of an authority of 24 s, on a busy machine.
const ROTATED: Duration = Duration::from_secs(180);
/// Reviews at any time.
const WORKERS: usize = 4;
const IMAGE: &str = "registry.k8s.io/pause:3.10";

/// Replicas behind a Service, registered for a namespace, all of one name.
struct Release {
    name: &'static str,
    replicas: Vec<Webhook>,
    _balancer: Balancer,
}

impl Release {
    /// Registers without a `caBundle`, as the chart does, then starts two replicas at once.
    fn start(name: &'static str, lifetimes: Option<[&'static str; 2]>) -> Self {
        definitions();
        release_namespace();
        let balancer = Balancer::start();
        let port = balancer.port;
        cluster().namespace(name, &[("e2e", name), ("countersign.dev/mode", "enforce")]);
        cluster().create(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": name},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }));
        cluster().create(&json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": name},
            "spec": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "rules": [{"images": ["registry.k8s.io/**"], "allow": {"reason": "plumbing"}}],
            },
        }));
        let service = json!({"service": {"name": name, "namespace": name, "port": port}});
        webhook::register(cluster(), name, &service);
        let certificate = Certificate::Secret {
            name,
            configuration: format!("countersign-{name}"),
            lifetimes,
        };
        let replicas: Vec<_> = thread::scope(|scope| {
            let starting: Vec<_> = [1, 2]
                .map(|number| {
                    let (name, certificate) = (format!("{name}-{number}"), &certificate);
                    scope.spawn(move || {
                        Webhook::in_cluster_with(&name, &cluster().kubeconfig, &[], certificate)
                    })
                })
                .into();
            starting
                .into_iter()
                .map(|replica| replica.join().unwrap())
                .collect()
        });
        balancer.set(&replicas.iter().map(|replica| replica.backend).collect::<Vec<_>>());
        let release = Self {
            name,
            replicas,
            _balancer: balancer,
        };
        eventually("reviews are answered", REPAIRED, || {
            release.answers().then_some(())
        });
        release
    }

    /// Whether a good image is admitted and a bad one denied, both by the webhook.
    fn answers(&self) -> bool {
        let refused = |image| {
            let dry_run = ["create", "--dry-run=server"];
            let output = cluster().kubectl_with(&dry_run, &pod(self.name, image));
            (!output.status.success()).then(|| text(&output.stderr))
        };
        refused(IMAGE).is_none()
            && refused("docker.io/library/nginx").is_some_and(|said| said.contains("no rule covers it"))
    }

    fn secret(&self) -> Option<Value> {
        let name = format!("{}-ca", self.name);
        let get = ["get", "secret", "-n", RELEASE_NAMESPACE, &name, "-o", "json"];
        serde_json::from_slice(&cluster().kubectl(&get).stdout).ok()
    }

    /// The `caBundle` of all entries, if they agree.
    fn bundle(&self) -> Option<Value> {
        let mut bundles = Vec::new();
        for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
            let object = cluster().get("default", &format!("{kind}/countersign-{}", self.name));
            let entries = object["webhooks"].as_array().unwrap().clone();
            bundles.extend(
                entries
                    .iter()
                    .map(|entry| entry["clientConfig"]["caBundle"].clone()),
            );
        }
        assert!(bundles.len() > 2, "{bundles:?}");
        let first = bundles.first()?.clone();
        bundles.iter().all(|bundle| *bundle == first).then_some(first)
    }

    /// Waits until every entry has what the Secret has, and gives the authority that signs.
    fn await_agreement(&self) -> Value {
        eventually("entries agree with the Secret", REPAIRED, || {
            let (secret, bundle) = (self.secret()?, self.bundle()?);
            let signing = secret["data"]["tls.crt"].clone();
            (secret["data"]["ca.crt"] == bundle && signing.is_string()).then_some(signing)
        })
    }

    /// The sum of a metric over all replicas.
    fn metric(&self, series: &str) -> u64 {
        let of = |replica: &Webhook| {
            let text = scrape(replica.backend.admin_port);
            let mut values = text
                .lines()
                .filter_map(|line| line.strip_prefix(series)?.trim().parse::<u64>().ok());
            values.next().unwrap_or_default()
        };
        self.replicas.iter().map(of).sum()
    }
}

fn scrape(port: u16) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

/// Workers that have Pods reviewed until they are stopped.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    reviewed: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Runs `story` under load, and demands that not one call failed. Gives how many there were.
    fn during(namespace: &str, story: impl FnOnce(&Self)) -> usize {
        let load = Self::default();
        thread::scope(|scope| {
            scope.spawn(|| load.run(namespace));
            let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(&load)));
            load.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = story {
                std::panic::resume_unwind(panic);
            }
        });
        let (reviewed, failures) = (load.reviewed.into_inner(), load.failures.into_inner().unwrap());
        assert!(
            failures.is_empty(),
            "{} of {reviewed}: {failures:?}",
            failures.len()
        );
        reviewed
    }

    fn run(&self, namespace: &str) {
        let authority = reqwest::Certificate::from_pem(pki::authority_pem().as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([authority]).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(join_all((0..WORKERS).map(|_| async {
            while !self.stop.load(Ordering::Relaxed) {
                if let Err(failure) = review(&client, namespace).await {
                    self.failures.lock().unwrap().push(failure);
                }
                self.reviewed.fetch_add(1, Ordering::Relaxed);
            }
        })));
    }

    fn await_more(&self, reviews: usize) {
        let enough = self.reviewed.load(Ordering::Relaxed) + reviews;
        eventually("Pods are reviewed", REPAIRED, || {
            (self.reviewed.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }
}

/// Has a Pod admitted, straight at the API; nothing is stored.
async fn review(client: &Client, namespace: &str) -> Result<(), String> {
    let url = format!("{}/api/v1/namespaces/{namespace}/pods?dryRun=All", cluster().url);
    let answer = client
        .post(url)
        .header("authorization", Cluster::authorization())
        .json(&pod(namespace, IMAGE))
        .send()
        .await
        .map_err(|error| format!("{error:?}"))?;
    match answer.status() {
        StatusCode::CREATED => Ok(()),
        status => Err(format!("{status}: {}", answer.text().await.unwrap_or_default())),
    }
}

/// Checklist 48, TLS-05, TLS-07, TLS-09.
#[test]
fn replicas_that_start_at_once_agree_and_repair_what_is_lost_or_wrong() {
    let release = Release::start("certificates", None);
    let first = release.await_agreement();
    assert!(release.secret().unwrap()["data"]["next.crt"].is_null());
    assert_eq!(
        release.metric("countersign_certificate_authority_changes_total{change=\"founded\"}"),
        1
    );

    for bundle in ["null", "\"Zm9yZWlnbg==\"", &format!("\"{}\"", foreign())] {
        let patch =
            format!(r#"[{{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": {bundle}}}]"#);
        let object = "validatingwebhookconfiguration/countersign-certificates";
        cluster().kubectl_ok(&["patch", object, "--type=json", "-p", &patch]);
        assert_eq!(release.await_agreement(), first, "{bundle}");
    }
    assert!(release.metric("countersign_ca_bundle_writes_total{reason=\"foreign\"}") >= 2);
    assert!(release.metric("countersign_ca_bundle_writes_total{reason=\"missing\"}") >= 3);

    let reviewed = Load::during("certificates", |load| {
        load.await_more(20);
        cluster().kubectl_ok(&["delete", "secret", "-n", RELEASE_NAMESPACE, "certificates-ca"]);
        eventually("the Secret is there again", REPAIRED, || release.secret());
        // A minute passes until the new authority signs.
        let second = eventually("another authority signs", REPAIRED * 2, || {
            release.secret()?["data"]["tls.crt"].as_str().map(str::to_owned)
        });
        assert_ne!(json!(second), first);
        load.await_more(20);
    });
    assert!(reviewed > 40, "{reviewed}");
    assert_eq!(
        release.metric("countersign_certificate_authority_changes_total{change=\"recovered\"}"),
        1
    );
    release.await_agreement();
    assert!(release.answers());
}

/// A certificate of somebody else's, as `caBundle` has it.
fn foreign() -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(pki::authority_pem())
}

/// Checklist 44: authorities that live for 24 s, leaves for 12 s, and one rotation that an operator asks for.
#[test]
fn rotations_under_load_fail_not_one_call() {
    let release = Release::start("rotation", Some(["24s", "12s"]));
    let promoted = || release.metric("countersign_certificate_authority_changes_total{change=\"promoted\"}");
    let reviewed = Load::during("rotation", |load| {
        load.await_more(20);
        eventually("two rotations", ROTATED, || (promoted() >= 2).then_some(()));
        let secret = ["secret", "-n", RELEASE_NAMESPACE, "rotation-ca"];
        cluster().kubectl_ok(&[&["annotate"], &secret[..], &["countersign.dev/rotate=now"]].concat());
        let before = promoted();
        eventually("the annotation is gone, and a rotation more", ROTATED, || {
            let annotation = &release.secret()?["metadata"]["annotations"]["countersign.dev/rotate"];
            (annotation.is_null() && promoted() > before).then_some(())
        });
        load.await_more(20);
    });
    assert!(reviewed > 100, "{reviewed}");
    // Entries that fail open would hide it.
    assert_eq!(
        release.metric("countersign_tls_handshakes_total{result=\"error\"}"),
        0
    );
    // Each leaf lives for 12 s at most, in two replicas.
    let loaded = release.metric("countersign_certificate_reloads_total{result=\"ok\"}");
    assert!(loaded >= 6, "{loaded}");
}

/// TLS-08: Helm 4 applies on the server's side; an entry that it takes away must go, bundle or not.
#[test]
fn whoever_applies_the_configuration_neither_loses_the_bundle_nor_is_held_up_by_it() {
    definitions();
    release_namespace();
    let apply = |names: &[&str]| {
        let entry = |name: &&str| {
            json!({
                "name": format!("{name}.countersign.dev"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Ignore", "namespaceSelector": {"matchLabels": {"e2e": "applied"}},
                "clientConfig": {"service": {"name": "applied", "namespace": "applied", "path": "/validate"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            })
        };
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "applied"}, "webhooks": names.iter().map(entry).collect::<Vec<_>>(),
        });
        let output = cluster().kubectl_with(&["apply", "--server-side", "--field-manager=helm"], &object);
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let stored = || {
        let get = [
            "get",
            "validatingwebhookconfiguration",
            "applied",
            "-o",
            "json",
            "--show-managed-fields",
        ];
        serde_json::from_str::<Value>(&cluster().kubectl_ok(&get)).unwrap()
    };
    let bundles = |object: &Value| -> Vec<_> {
        let entries = object["webhooks"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| entry["clientConfig"]["caBundle"].clone())
            .collect()
    };
    apply(&["one", "two"]);
    let certificate = Certificate::Secret {
        name: "applied",
        configuration: "applied".to_owned(),
        lifetimes: None,
    };
    let webhook = Webhook::in_cluster_with("applied-1", &restricted("applied"), &[], &certificate);
    let written = stored();
    let bundle = bundles(&written)[0].clone();
    assert_eq!(bundles(&written), vec![bundle.clone(); 2]);
    assert!(bundle.is_string());
    let managers = written["metadata"]["managedFields"].as_array().unwrap();
    let ours = managers
        .iter()
        .find(|it| it["manager"] == "countersign-ca")
        .unwrap();
    let field = json!({"f:clientConfig": {"f:caBundle": {}}});
    let fields = json!({"f:webhooks": {
        "k:{\"name\":\"one.countersign.dev\"}": field, "k:{\"name\":\"two.countersign.dev\"}": field,
    }});
    assert_eq!(ours["fieldsV1"], fields, "nothing but the field is owned");

    apply(&["one", "two"]);
    assert_eq!(
        stored()["metadata"]["generation"],
        written["metadata"]["generation"]
    );
    assert_eq!(bundles(&stored()), vec![bundle.clone(); 2]);
    apply(&["one"]);
    assert_eq!(bundles(&stored()), std::slice::from_ref(&bundle));
    apply(&["one", "three"]);
    eventually("the new entry has the bundle too", REPAIRED, || {
        (bundles(&stored()) == vec![bundle.clone(); 2]).then_some(())
    });
    let present = |kind: &str| {
        let series = format!("countersign_webhook_configuration_present{{kind=\"{kind}\"}} ");
        let text = scrape(webhook.backend.admin_port);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&series).map(str::to_owned));
        value.unwrap()
    };
    assert_eq!([present("validating"), present("mutating")], ["1", "0"]);
}

/// Who may do what the documentation says the webhook has to be granted, and nothing else (TLS-04). All of one name.
fn restricted(name: &str) -> PathBuf {
    let api = "rbac.authorization.k8s.io/v1";
    let secret = format!("{name}-ca");
    let group = "rbac.authorization.k8s.io";
    let registration = "admissionregistration.k8s.io";
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": RELEASE_NAMESPACE}]);
    let configurations = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": RELEASE_NAMESPACE}}),
        json!({"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": name}, "rules": [
            {"apiGroups": ["countersign.dev"], "resources": ["*"], "verbs": ["get", "list", "watch", "patch"]},
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [registration], "resources": configurations, "resourceNames": [name], "verbs": ["get", "patch"]},
        ]}),
        json!({"apiVersion": api, "kind": "Role", "metadata": {"name": name, "namespace": RELEASE_NAMESPACE}, "rules": [
            {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret], "verbs": ["patch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        ]}),
        json!({"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": {"name": name}, "subjects": subjects,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}}),
        json!({"apiVersion": api, "kind": "RoleBinding", "metadata": {"name": name, "namespace": RELEASE_NAMESPACE}, "subjects": subjects,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name}}),
    ] {
        cluster().create(&object);
    }
    let token = cluster().kubectl_ok(&["create", "token", "-n", RELEASE_NAMESPACE, name]);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": cluster().url, "certificate-authority": pki::authority(),
        }}],
        "users": [{"name": name, "user": {"token": token.trim()}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    });
    process::write(&format!("{name}-kubeconfig.json"), config.to_string())
}
