//! What replicas remember together, as objects of the cluster.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use reqwest::{Certificate, Client};
use serde_json::{Value, json};

use crate::notary::Publisher;
use crate::pki;
use crate::process::{self, eventually, text};
use crate::trust_server::{Build, TrustServer};
use crate::webhook::{self, Webhook};
use crate::world::{Authority, cluster, definitions, pod, trust, verifier};

/// Replicas hear of each other at once; a busy machine may take longer.
const HEARD: Duration = Duration::from_secs(30);
/// Until a replica has drained.
const END: Duration = Duration::from_secs(90);

/// A trust server of our own, which can be put back to what it was.
struct Restorable {
    authority: Authority,
}

impl Restorable {
    fn start(name: &'static str) -> Self {
        let trust = trust();
        let server = TrustServer::start(name, Build::Durable, Some(&trust.signer), None);
        let authority = Authority::new(&trust.registry.host, name, server);
        Self { authority }
    }

    fn database(&self) -> std::path::PathBuf {
        process::folder().join(format!("{}.sqlite", self.authority.name))
    }

    /// A backup of everything as it is.
    fn back_up(&self) -> Vec<u8> {
        self.authority.server.kill();
        let backup = std::fs::read(self.database()).unwrap();
        self.authority.server.restart();
        backup
    }

    /// What an attacker does who has the server's keys, and an operator who has lost a disk.
    fn restore(&self, backup: &[u8]) {
        self.authority.server.kill();
        std::fs::write(self.database(), backup).unwrap();
        self.authority.server.restart();
    }

    /// Puts its repositories under a policy of the cluster, in a namespace of the same name.
    fn govern(&self, max_staleness: &str) {
        definitions();
        let name = self.authority.name;
        cluster().namespace(name, &[]);
        let rule = json!({"images": ["**"], "verify": {"anyOf": [name]}});
        let mut verifier = verifier(&self.authority);
        verifier["notary"]["maxStaleness"] = json!(max_staleness);
        cluster().create(&json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": name},
            "spec": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "verifiers": [verifier], "rules": [rule],
            },
        }));
    }

    fn repository(&self, name: &str) -> Publisher {
        trust().repository(&self.authority, name)
    }

    /// What one replica says of a Pod: nothing if it is admitted.
    fn verdict(&self, replica: &Webhook, image: &str) -> Option<String> {
        review(replica, &pod(self.authority.name, image))
    }
}

fn replica(name: &str) -> Webhook {
    Webhook::in_cluster_with(
        name,
        &cluster().kubeconfig,
        &["--fresh-for", "2s"],
        &webhook::Certificate::Loopback,
    )
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    });
    &RUNTIME
}

/// What this very replica answers at `/validate`.
fn review(replica: &Webhook, pod: &Value) -> Option<String> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "operation": "CREATE", "namespace": pod["metadata"]["namespace"], "object": pod,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "ada"},
        },
    });
    let client = Client::builder()
        .tls_certs_only([Certificate::from_pem(pki::authority_pem().as_bytes()).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://127.0.0.1:{}/validate?timeout=10s", replica.backend.port);
    let answer: Value = runtime().block_on(async {
        let answer = client.post(url).json(&review).send().await.unwrap();
        answer.json().await.unwrap()
    });
    let response = &answer["response"];
    let allowed = response["allowed"]
        .as_bool()
        .unwrap_or_else(|| panic!("{answer}"));
    (!allowed).then(|| response["status"]["message"].to_string())
}

fn get(url: &str) -> String {
    runtime().block_on(async {
        let answer = Client::new().get(url).send().await.unwrap();
        answer.text().await.unwrap()
    })
}

/// What a replica counts.
fn counted(replica: &Webhook, metric: &str) -> u64 {
    let url = format!("http://127.0.0.1:{}/metrics", replica.backend.admin_port);
    let metrics = get(&url);
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(metric))
        .unwrap();
    line.trim().parse().unwrap()
}

/// The record of one repository.
fn record(gun: &str) -> Option<Value> {
    let list = cluster().kubectl_ok(&["get", "trustrecords", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let mut of_gun = items.filter(|item| item["spec"]["gun"] == *gun);
    of_gun.next().cloned()
}

fn reset(gun: &str, more: &[&str]) -> std::process::Output {
    process::output(
        Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["trust", "reset", gun, "--kube", "--kubeconfig"])
            .arg(&cluster().kubeconfig)
            .args(more),
    )
}

#[test]
fn rollback_is_refused_by_another_replica_and_after_all_have_restarted_until_a_reset() {
    let server = Restorable::start("records");
    server.govern("0s");
    let repository = server.repository("shared");
    let image = |tag: &str, digest: &str| format!("{}:{tag}@{digest}", repository.gun);
    let old = image("1.0", &trust().release(&repository, "1.0", "old", None));
    let (one, two) = (replica("records-1"), replica("records-2"));
    for replica in [&one, &two] {
        assert_eq!(server.verdict(replica, &old), None);
    }
    let backup = server.back_up();
    let new = image("2.0", &trust().release(&repository, "2.0", "new", None));
    // One of them sees the new version; the other has no reason to look.
    eventually("the new tag is seen", HEARD, || {
        server.verdict(&one, &new).is_none().then_some(())
    });
    server.restore(&backup);
    let rollback = |replica: &Webhook| {
        let said = server.verdict(replica, &old)?;
        assert!(!said.contains("could not be verified"), "not unavailable: {said}");
        assert!(said.contains("was seen before"), "{said}");
        Some(said)
    };
    eventually("the other replica refuses the rollback", HEARD, || rollback(&two));
    eventually("and so does the one", HEARD, || rollback(&one));

    for mut replica in [one, two] {
        replica.process.terminate();
        let status = replica.process.wait(END);
        assert!(status.success(), "{status}: {}", replica.process.log_tail());
    }
    let replicas = [replica("records-3"), replica("records-4")];
    for replica in &replicas {
        let said = rollback(replica);
        assert!(said.is_some(), "rollback after a restart is refused");
    }

    let wrong = reset(&repository.gun, &["--server", "https://other.example.com"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong.stderr));
    let done = reset(&repository.gun, &["--reason", "the disk was lost"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let told = text(&done.stdout);
    assert!(
        told.contains(&format!(
            "forgot {} on {}",
            repository.gun,
            server.authority.server.url()
        )) && told.contains("1 roots, versions"),
        "{told}"
    );
    for replica in &replicas {
        eventually("the repository begins anew", HEARD, || {
            server.verdict(replica, &old).is_none().then_some(())
        });
        let log = replica.process.log();
        let line = log.lines().find(|line| line.contains("trust was reset"));
        let line = line.unwrap_or_else(|| panic!("{}", replica.process.log_tail()));
        assert!(
            line.contains("the disk was lost") && line.contains("admin"),
            "{line}"
        );
        assert_eq!(counted(replica, "countersign_trust_records_lost_total"), 0);
    }
}

#[test]
fn a_deleted_record_is_told_and_written_back_and_no_edit_takes_a_version_back() {
    let server = Restorable::start("deleted");
    server.govern("0s");
    let repository = server.repository("app");
    let digest = trust().release(&repository, "1.0", "deleted", None);
    let image = format!("{}:1.0@{digest}", repository.gun);
    let replicas = [replica("deleted-1"), replica("deleted-2")];
    for replica in &replicas {
        assert_eq!(server.verdict(replica, &image), None);
    }
    let before = record(&repository.gun).unwrap();
    let name = before["metadata"]["name"].as_str().unwrap();

    let shown = cluster().kubectl_ok(&["get", "trec", name]);
    let (head, row) = shown.split_once('\n').unwrap();
    let columns: Vec<_> = head.split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "NAME",
            "SERVER",
            "REPOSITORY",
            "ROOT",
            "TIMESTAMP",
            "VERIFIED",
            "AGE"
        ]
    );
    let cells: Vec<_> = row.split_whitespace().collect();
    let version = |file: &str| before["spec"][file]["version"].to_string();
    let (root, timestamp) = (version("root"), version("timestamp"));
    assert_eq!(cells[2..5], [repository.gun.as_str(), &root, &timestamp], "{row}");

    let zeros = "0".repeat(64);
    for (what, patch) in [
        (
            "a record is of one server",
            json!({"server": "https://other.example.com/"}),
        ),
        (
            "a record is of one repository",
            json!({"gun": "other.example.com/app"}),
        ),
        ("the root that was seen", json!({"root": {"sha256": zeros}})),
        (
            "the timestamp that was seen",
            json!({"timestamp": {"version": 1}}),
        ),
        ("the timestamp that was seen", json!({"timestamp": null})),
        (
            "the snapshot that was seen",
            json!({"snapshot": {"sha256": zeros}}),
        ),
        (
            "the targets that were seen",
            json!({"root": {"version": 9, "sha256": zeros}, "targets": null}),
        ),
    ] {
        let patch = json!({"spec": patch}).to_string();
        let patched = cluster().kubectl(&["patch", "trec", name, "--type=merge", "-p", &patch]);
        let said = text(&patched.stderr);
        assert!(!patched.status.success() && said.contains(what), "{what}: {said}");
    }

    cluster().kubectl_ok(&["delete", "trustrecord", name]);
    let after = eventually("the record is written back", HEARD, || {
        record(&repository.gun).filter(|after| after["metadata"]["uid"] != before["metadata"]["uid"])
    });
    for member in ["server", "root", "timestamp", "snapshot", "targets"] {
        assert_eq!(after["spec"][member], before["spec"][member], "{member}");
    }
    for replica in &replicas {
        eventually("the loss is counted", HEARD, || {
            (counted(replica, "countersign_trust_records_lost_total") == 1).then_some(())
        });
        assert!(
            replica
                .process
                .log()
                .contains("deleted or put back without a reset")
        );
        assert_eq!(server.verdict(replica, &image), None);
    }
    let json = reset(&repository.gun, &["--output", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        json["forgotten"][0]["versions"]["timestamp"].to_string(),
        timestamp,
        "{json}"
    );
}

#[test]
fn an_outage_of_the_trust_server_is_bridged_though_all_replicas_restart() {
    let server = Restorable::start("bridged");
    server.govern("12h");
    let (known, unknown) = (server.repository("known"), server.repository("unknown"));
    let image = |of: &Publisher| {
        let digest = trust().release(of, "1.0", "bridged", None);
        format!("{}:1.0@{digest}", of.gun)
    };
    let (known, unknown) = (image(&known), image(&unknown));
    let mut first = replica("bridged-1");
    assert_eq!(server.verdict(&first, &known), None);
    first.process.terminate();
    assert!(first.process.wait(END).success());
    server.authority.server.kill();
    let second = replica("bridged-2");
    assert_eq!(server.verdict(&second, &known), None);
    assert_eq!(counted(&second, "countersign_stale_served_total"), 1);
    let refusal = server.verdict(&second, &unknown).unwrap();
    assert!(refusal.contains("could not be verified"), "{refusal}");
}

#[test]
fn a_replica_that_has_not_seen_the_records_is_not_ready() {
    definitions();
    let webhook = replica("records-ready");
    let url = format!("http://127.0.0.1:{}/readyz?verbose", webhook.backend.admin_port);
    let told = get(&url);
    assert!(told.contains("[+]trust-records ok"), "{told}");
}
