//! The program itself: arguments in, text and exit status out.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::repo::{Files, GUN, Key, NOW, Repo, digest};
use crate::tls_support::{Client, get};
use crate::trust_server::{Fault, TrustServer, Wants};

/// Far more than any of these commands needs, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Countersign with nothing of the environment of whoever runs the tests.
fn countersign() -> Command {
    let mut command = Command::new(cargo_bin!("countersign"));
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// `verify` of a tag of the repository as of the builder's present, without a word on whom to trust.
fn bare(tag: &str) -> Command {
    let mut command = countersign();
    command.args(["verify", &format!("{GUN}:{tag}"), "--at", NOW]);
    command
}

/// How a command ended, and what it said.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

async fn run(command: &mut Command) -> Ended {
    timeout(PATIENCE, command.output()).await.unwrap().unwrap().into()
}

/// A trust server with one repository, and a folder with its root key in `root.pem`.
struct World {
    server: TrustServer,
    folder: TempDir,
}

impl World {
    async fn new(repo: &Repo) -> Self {
        Self::wanting(Wants::Nothing, repo).await
    }

    async fn wanting(wants: Wants, repo: &Repo) -> Self {
        let server = TrustServer::builder().wants(wants).start().await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), Key::p256(1).pem()).unwrap();
        let world = Self { server, folder };
        world.serve(&repo.publish());
        world
    }

    fn serve(&self, files: &Files) {
        for (name, bytes) in &files.0 {
            self.server.put(GUN, name, bytes.clone());
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// [`bare`], pinned to the root key.
    fn verify(&self, tag: &str) -> Command {
        let mut command = bare(tag);
        command
            .args(["--trust-server", self.server.url(), "--root-key"])
            .arg(self.path("root.pem"));
        command
    }

    /// A policy with this mode and these rules, pinned to the root key.
    fn policy(&self, mode: &str, rules: &Value) -> PathBuf {
        let notary = json!({"server": self.server.url(), "root": {"keys": [Key::p256(1).pem()]}});
        let policy = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "default"},
            "spec": {"mode": mode, "verifiers": [{"name": "acme", "notary": notary}], "rules": rules},
        });
        self.file("policy.yaml", &policy.to_string())
    }
}

fn signed() -> Value {
    json!([{"images": ["**"], "verify": {"anyOf": ["acme"]}}])
}

#[tokio::test]
async fn a_signed_image_is_printed_with_its_digest() {
    let world = World::new(&Repo::new().with_alice(&[("2.0", "two")])).await;
    let pinned = format!("{GUN}:1.0@{}", digest("one"));
    let text = run(&mut world.verify("1.0")).await;
    assert_eq!(
        (text.status, text.out.as_str()),
        (Some(0), format!("{pinned}\n").as_str()),
        "{text:?}"
    );
    assert!(text.err.starts_with("warning: no --state-dir"), "{text:?}");
    let told = run(world.verify("2.0").args(["--output", "json"])).await;
    assert_eq!(told.status, Some(0), "{told:?}");
    let message = format!(
        "{GUN}:2.0 is signed as {} (verifier command-line at {})",
        digest("two"),
        world.server.url().trim_start_matches("http://")
    );
    assert_eq!(
        told.json(),
        json!({
            "image": format!("{GUN}:2.0"), "reference": format!("{GUN}:2.0@{}", digest("two")), "verdict": "trusted",
            "digest": digest("two"), "role": "targets/releases", "signers": ["alice"], "reason": "signed",
            "message": message, "similar": [], "staleSeconds": null,
        })
    );
}

#[tokio::test]
async fn what_is_not_signed_is_denied_and_what_cannot_be_asked_is_unavailable() {
    let world = World::new(&Repo::new()).await;
    let denied = run(&mut world.verify("1.2")).await;
    assert_eq!((denied.status, denied.out.as_str()), (Some(1), ""), "{denied:?}");
    assert!(
        denied.err.contains("denied: ") && denied.err.contains("signed tags: 1.0, 1.1"),
        "{denied:?}"
    );
    let other = format!("{GUN}:1.0@{}", digest("eleven"));
    let mut command = world.verify("1.0");
    let mismatch = run(command
        .args(["--output", "json"])
        .env("COUNTERSIGN_SIGNER", "bob"))
    .await;
    assert_eq!(
        (mismatch.status, &mismatch.json()["verdict"]),
        (Some(1), &json!("denied")),
        "{mismatch:?}"
    );
    let mut command = countersign();
    command.args([
        "verify",
        &other,
        "--at",
        NOW,
        "--trust-server",
        world.server.url(),
        "--root-key",
    ]);
    let mismatch = run(command.arg(world.path("root.pem"))).await;
    assert_eq!(mismatch.status, Some(1), "{mismatch:?}");

    world.server.misbehave("timestamp.json", Fault::Hang);
    let late = run(world
        .verify("1.0")
        .args(["--timeout", "200ms", "--output", "json"]))
    .await;
    assert_eq!(
        (late.status, &late.json()["verdict"]),
        (Some(3), &json!("unavailable")),
        "{late:?}"
    );
    assert_eq!(late.json()["digest"], Value::Null);
}

/// Design §2: a typing error is never taken for a verdict.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn wrong_usage_is_neither_a_denial_nor_an_outage() {
    let world = World::new(&Repo::new()).await;
    let broken = world.file(
        "broken.yaml",
        "apiVersion: countersign.dev/v1alpha1\nkind: Nonsense\n",
    );
    let broken = broken.to_str().unwrap();
    let good = world.policy("Enforce", &signed());
    let good = good.to_str().unwrap();
    let file = world.file("file", "");
    let file = file.to_str().unwrap();
    for (label, arguments, want) in [
        ("no command", vec![], "Usage"),
        ("no image", vec!["verify"], "IMAGE"),
        ("unknown flag", vec!["verify", "a", "--tofuu"], "--tofu"),
        (
            "no reference",
            vec!["verify", "A b", "--tofu"],
            "not an image reference",
        ),
        (
            "nobody to trust",
            vec!["verify", "a"],
            "nothing says whom to trust",
        ),
        (
            "two kinds of anchor",
            vec!["verify", "a", "--tofu", "--root-key-id", "ab"],
            "only one of",
        ),
        (
            "no such key",
            vec!["verify", "a", "--root-key", "/no/such"],
            "cannot read /no/such",
        ),
        (
            "a key that is none",
            vec!["verify", "a", "--root-key", file],
            "root.keys[0]",
        ),
        (
            "policy and flags",
            vec!["verify", "a", "--policy", good, "--tofu"],
            "leave the trust flags",
        ),
        (
            "policy and cluster",
            vec![
                "webhook",
                "--self-signed-dir",
                "/no/such",
                "--kube",
                "--policy",
                good,
            ],
            "--kube takes the policies from the cluster",
        ),
        (
            "flags and cluster",
            vec!["webhook", "--self-signed-dir", "/no/such", "--kube", "--tofu"],
            "leave --policy, the trust flags",
        ),
        (
            "no cluster",
            vec![
                "webhook",
                "--self-signed-dir",
                "/no/such",
                "--kube",
                "--kubeconfig",
                "/no/such",
            ],
            "the kubeconfig cannot be used: failed to read kubeconfig",
        ),
        (
            "a kubeconfig for nothing",
            vec![
                "webhook",
                "--self-signed-dir",
                "/no/such",
                "--kubeconfig",
                "/no/such",
            ],
            "--kube",
        ),
        (
            "memory in two places",
            vec![
                "webhook",
                "--self-signed-dir",
                "/no/such",
                "--kube",
                "--state-dir",
                "/no/such",
            ],
            "leave --state-dir and its variable away",
        ),
        (
            "a reset of nothing",
            vec!["trust", "reset", GUN],
            "<--state-dir <DIR>|--kube>",
        ),
        (
            "a reset of two memories",
            vec!["trust", "reset", GUN, "--kube", "--state-dir", "/no/such"],
            "cannot be used with",
        ),
        (
            "a reason that nobody keeps",
            vec![
                "trust",
                "reset",
                GUN,
                "--state-dir",
                "/no/such",
                "--reason",
                "because",
            ],
            "cannot be used with",
        ),
        (
            "broken policy",
            vec!["verify", "a", "--policy", broken],
            "broken.yaml:2",
        ),
        (
            "no such policy",
            vec!["verify", "a", "--policy", "/no/such"],
            "/no/such: cannot be read",
        ),
        (
            "no date",
            vec!["verify", "a", "--tofu", "--at", "yesterday"],
            "--at",
        ),
        (
            "no duration",
            vec!["verify", "a", "--tofu", "--timeout", "5"],
            "5s, 90m",
        ),
        (
            "state in a file",
            vec!["verify", "a", "--tofu", "--state-dir", file],
            "state directory",
        ),
        (
            "no certificate",
            vec!["webhook", "--tofu"],
            "no certificate to serve with",
        ),
        (
            "half a pair",
            vec!["webhook", "--tofu", "--tls-cert", "a.pem"],
            "--tls-key",
        ),
        (
            "two sources of certificates",
            vec![
                "webhook",
                "--kube",
                "--self-signed-secret",
                "ca",
                "--webhook-configuration",
                "countersign",
                "--self-signed-dir",
                "/tmp/unused",
            ],
            "cannot be used with",
        ),
        (
            "a Secret without a cluster",
            vec!["webhook", "--tofu", "--self-signed-secret", "ca"],
            "--kube",
        ),
        (
            "a Secret that nobody would trust",
            vec!["webhook", "--kube", "--self-signed-secret", "ca"],
            "--webhook-configuration",
        ),
        (
            "a life too short",
            vec!["webhook", "--ca-lifetime", "9s"],
            "at least 10s",
        ),
        (
            "no policy",
            vec!["webhook", "--self-signed-dir", "/tmp/unused"],
            "nothing says whom to trust",
        ),
        (
            "log level",
            vec![
                "webhook",
                "--tofu",
                "--self-signed-dir",
                "/tmp/unused",
                "--log-level",
                "loud",
            ],
            "loud",
        ),
    ] {
        let ended = run(countersign().args(arguments)).await;
        assert_eq!(
            (ended.status, ended.out.as_str()),
            (Some(2), ""),
            "{label}: {ended:?}"
        );
        assert!(ended.err.contains(want), "{label}: {ended:?}");
        assert!(!ended.err.contains("panicked"), "{label}: {ended:?}");
    }
}

#[tokio::test]
async fn a_variable_that_turns_a_flag_off_is_no_flag() {
    let world = World::new(&Repo::new()).await;
    let policy = world.policy("Enforce", &signed());
    let ended = run(bare("1.0")
        .env("COUNTERSIGN_TOFU", "false")
        .env("COUNTERSIGN_POLICY", policy))
    .await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
}

#[tokio::test]
async fn the_instant_to_judge_by_decides_on_expiry() {
    let world = World::new(&Repo::new().expires("timestamp", "2030-01-02T00:00:00Z")).await;
    for (at, status, reason) in [
        ("2030-01-01T23:59:59Z", 0, "signed"),
        ("2030-01-02T00:00:00Z", 1, "expired"),
    ] {
        let mut command = countersign();
        command
            .args(["verify", &format!("{GUN}:1.0"), "--at", at, "--output", "json"])
            .args(["--trust-server", world.server.url(), "--root-key"])
            .arg(world.path("root.pem"));
        let ended = run(&mut command).await;
        assert_eq!(
            (ended.status, &ended.json()["reason"]),
            (Some(status), &json!(reason)),
            "{ended:?}"
        );
    }
}

/// Design §5.
#[tokio::test]
async fn a_rollback_between_two_runs_is_noticed_where_there_is_a_state_dir() {
    let new = Repo::new().all_versions(7).version("root", 1);
    let world = World::new(&new).await;
    let state = world.path("state");
    let with_state = || {
        let mut command = world.verify("1.0");
        command.arg("--state-dir").arg(&state).args(["--output", "json"]);
        command
    };
    let first = run(&mut with_state()).await;
    assert_eq!(first.status, Some(0), "{first:?}");
    assert!(
        first.err.starts_with("warning: the state directory is new"),
        "{first:?}"
    );
    let second = run(&mut with_state()).await;
    assert_eq!((second.status, second.err.as_str()), (Some(0), ""), "{second:?}");
    world.serve(&Repo::new().publish());
    let forgetful = run(&mut world.verify("1.0")).await;
    assert_eq!(forgetful.status, Some(0), "{forgetful:?}");
    let rolled_back = run(&mut with_state()).await;
    assert_eq!(
        (rolled_back.status, &rolled_back.json()["reason"]),
        (Some(1), &json!("rollback")),
        "{rolled_back:?}"
    );
    let reset = async || {
        let mut command = countersign();
        command.args(["trust", "reset", GUN, "--state-dir"]).arg(&state);
        run(&mut command).await
    };
    let forgot = reset().await;
    assert_eq!(forgot.status, Some(0), "{forgot:?}");
    assert!(
        forgot.out.contains("timestamp 7") && forgot.out.contains(world.server.url()),
        "{forgot:?}"
    );
    let nothing = reset().await;
    assert_eq!(
        (nothing.status, nothing.out.as_str()),
        (Some(1), ""),
        "nothing is known any more"
    );
    assert_eq!(
        run(&mut with_state()).await.status,
        Some(0),
        "the way out when it was meant"
    );
    std::fs::write(
        state.join("trust.db"),
        "not a database, and long enough to be read as the head of one",
    )
    .unwrap();
    let broken = run(&mut with_state()).await;
    assert_eq!(
        (broken.status, broken.out.as_str()),
        (Some(2), ""),
        "forgetting is how rollbacks succeed: {broken:?}"
    );
}

/// Design §9.5: `verify` always asks, unless told that age is no matter; then it says how old.
#[tokio::test]
async fn stale_metadata_serves_only_on_request_and_says_so() {
    let world = World::new(&Repo::new()).await;
    let folder = world.path("state");
    let with_state = |more: &[&str]| {
        let mut command = world.verify("1.0");
        command
            .arg("--state-dir")
            .arg(&folder)
            .args(["--output", "json"])
            .args(more);
        command
    };
    run(&mut with_state(&[])).await;
    world
        .server
        .misbehave("", Fault::Status(500, Vec::new(), String::new()));
    assert_eq!(run(&mut with_state(&[])).await.status, Some(3));
    let stale = run(&mut with_state(&["--max-staleness", "1h"])).await;
    assert_eq!(
        (stale.status, &stale.json()["staleSeconds"]),
        (Some(0), &json!(0)),
        "{stale:?}"
    );
    assert!(stale.err.contains("could not be asked"), "{stale:?}");
}

#[tokio::test]
async fn the_first_root_seen_is_trusted_on_request_and_remembered() {
    let world = World::new(&Repo::new()).await;
    let state = world.path("state");
    let tofu = || {
        let mut command = bare("1.0");
        command
            .args(["--tofu", "--trust-server", world.server.url(), "--state-dir"])
            .arg(&state);
        command
    };
    let first = run(&mut tofu()).await;
    assert_eq!(first.status, Some(0), "{first:?}");
    let mut usurped = Repo::new();
    usurped.root = vec![Key::p256(9).certified(GUN)];
    world.serve(&usurped.publish());
    let second = run(&mut tofu()).await;
    assert_eq!(second.status, Some(1), "{second:?}");
}

#[tokio::test]
async fn required_signers_must_have_signed_with_their_keys() {
    let world = World::new(&Repo::new().with_alice(&[("2.0", "two")])).await;
    let alice = world.file("alice.pem", &crate::repo::alice().pem());
    let mallory = world.file("mallory.pem", &Key::p256(8).pem());
    for (signer, status) in [
        ("alice".to_owned(), 0),
        (format!("alice={}", alice.display()), 0),
        (format!("alice={}", mallory.display()), 1),
        ("bob".to_owned(), 1),
        ("alice,bob".to_owned(), 1),
        ("../alice".to_owned(), 2),
    ] {
        let ended = run(world.verify("2.0").args(["--signer", &signer])).await;
        assert_eq!(ended.status, Some(status), "{signer}: {ended:?}");
    }
}

#[tokio::test]
async fn a_policy_decides_as_it_does_for_the_webhook() {
    let world = World::new(&Repo::new()).await;
    let rule = |action: Value| {
        let mut rule = json!({"images": ["**"]});
        rule.as_object_mut()
            .unwrap()
            .extend(action.as_object().unwrap().clone());
        json!([rule])
    };
    let any_digest = json!({"verify": {"anyOf": ["acme"]}, "digests": "Allow"});
    let unsigned = format!("{GUN}@{}", digest("never signed"));
    let tag = |tag: &str| format!("{GUN}:{tag}");
    for (label, mode, rules, image, status, reason) in [
        ("signed", "Enforce", signed(), tag("1.0"), 0, "signed"),
        ("not signed", "Enforce", signed(), tag("9"), 1, "tag_not_signed"),
        (
            "another digest",
            "Enforce",
            signed(),
            unsigned.clone(),
            1,
            "digest_not_signed",
        ),
        (
            "any digest",
            "Enforce",
            rule(any_digest),
            unsigned.clone(),
            0,
            "digest_allowed",
        ),
        (
            "allowed",
            "Enforce",
            rule(json!({"allow": {"reason": "so"}})),
            tag("9"),
            0,
            "allowed_by_rule",
        ),
        (
            "denied",
            "Enforce",
            rule(json!({"deny": {"message": "no"}})),
            tag("1.0"),
            1,
            "denied_by_rule",
        ),
        (
            "no rule",
            "Enforce",
            json!([{"images": ["quay.io/**"], "deny": {"message": "no"}}]),
            tag("1.0"),
            1,
            "no_rule",
        ),
        ("watched only", "Audit", signed(), tag("9"), 1, "tag_not_signed"),
        ("watched and signed", "Audit", signed(), tag("1.0"), 0, "signed"),
    ] {
        let policy = world.policy(mode, &rules);
        let mut command = countersign();
        command
            .args(["verify", &image, "--at", NOW, "--output", "json", "--policy"])
            .arg(policy);
        let ended = run(&mut command).await;
        let told = ended.json();
        assert_eq!(
            (ended.status, &told["reason"]),
            (Some(status), &json!(reason)),
            "{label}: {ended:?}"
        );
        let claims = told["message"].as_str().unwrap().contains(" is signed as ");
        assert_eq!(claims, reason == "signed", "{label}: {told}");
    }
}

#[tokio::test]
async fn the_definitions_of_all_kinds_are_printed() {
    let ended = run(countersign().arg("crds")).await;
    assert_eq!((ended.status, ended.err.as_str()), (Some(0), ""));
    for name in [
        "clustertrustpolicies.countersign.dev",
        "trustpolicies.countersign.dev",
        "trustrecords.countersign.dev",
    ] {
        assert!(ended.out.contains(&format!("name: {name}\n")), "{name}");
    }
}

/// Shells close pipes early: `countersign crds | head -1`.
#[tokio::test]
async fn a_reader_that_has_had_enough_is_no_failure() {
    let mut child = countersign()
        .arg("crds")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = Ended::from(
        timeout(PATIENCE, child.wait_with_output())
            .await
            .unwrap()
            .unwrap(),
    );
    assert_eq!((ended.status, ended.err.as_str()), (Some(0), ""));
}

/// A running webhook and its log.
struct Webhook {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    log: Vec<Value>,
    listening: Value,
}

impl Webhook {
    async fn start(world: &World, arguments: &[&str]) -> Self {
        let mut command = countersign();
        command
            .args([
                "webhook",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(["--drain-delay", "0s", "--self-signed-dir"])
            .arg(world.path("tls"))
            .arg("--state-dir")
            .arg(world.path("state"))
            .args(arguments)
            .stdout(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut webhook = Self {
            child,
            lines,
            log: Vec::new(),
            listening: Value::Null,
        };
        webhook.listening = webhook.until("listening").await;
        let answer = get(webhook.admin(), "/readyz").await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        #[expect(
            clippy::print_stdout,
            reason = "a measurement: the machine may be busy, so it is no assertion"
        )]
        {
            println!("ready after {:?}", begun.elapsed());
        }
        webhook
    }

    /// Reads the log up to an event.
    async fn until(&mut self, message: &str) -> Value {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap();
            let line = line.unwrap_or_else(|| panic!("no {message:?} in {:?}", self.log));
            self.log.push(serde_json::from_str(&line).unwrap());
            let last = self.log.last().unwrap();
            if last["msg"] == message {
                return last.clone();
            }
        }
    }

    fn address(&self, port: &str) -> std::net::SocketAddr {
        let text = self.listening[port].as_str().unwrap();
        text.trim_start_matches("Some(")
            .trim_end_matches(')')
            .parse()
            .unwrap()
    }

    fn admin(&self) -> std::net::SocketAddr {
        self.address("admin")
    }

    async fn response(&self, world: &World, path: &str, image: &str) -> Value {
        let authority = std::fs::read_to_string(world.path("tls/ca.crt")).unwrap();
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "operation": "CREATE", "namespace": "shop",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "object": {"metadata": {"name": "p"}, "spec": {"containers": [
                    {"name": "web", "image": image, "env": [{"name": "TOKEN", "value": "swordfish"}]},
                ]}},
            },
        });
        let mut connection = Client::api_server(&authority)
            .connect(self.address("address"))
            .await
            .unwrap();
        let answer = connection
            .post(path, review.to_string().as_bytes())
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice::<Value>(&answer.body).unwrap()["response"].clone()
    }

    /// Asks it to stop, as a kubelet does, and reads the log to its end.
    async fn stop(mut self) -> (Option<i32>, Vec<Value>) {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .await
                .unwrap()
                .success()
        );
        while let Some(line) = timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap() {
            self.log.push(serde_json::from_str(&line).unwrap());
        }
        (
            timeout(PATIENCE, self.child.wait())
                .await
                .unwrap()
                .unwrap()
                .code(),
            self.log,
        )
    }
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The way of an image through the program: pinned, denied, and out with status 0.
#[tokio::test]
async fn a_webhook_comes_up_decides_and_leaves() {
    let world = World::new(&Repo::new()).await;
    let key = world.path("root.pem");
    let arguments = [
        "--root-key",
        key.to_str().unwrap(),
        "--trust-server",
        world.server.url(),
    ];
    let webhook = Webhook::start(&world, &arguments).await;
    let pinned = webhook
        .response(&world, "/mutate?timeout=10s", &format!("{GUN}:1.0"))
        .await;
    let patch = STANDARD.decode(pinned["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[1]["value"], format!("{GUN}:1.0@{}", digest("one")));
    for (image, allowed) in [
        (format!("{GUN}:1.0"), false),
        (format!("{GUN}:1.0@{}", digest("one")), true),
        (format!("{GUN}:1.0@{}", digest("eleven")), false),
        (format!("{GUN}:1.2"), false),
        (format!("{GUN}@{}", digest("never signed")), false),
    ] {
        let response = webhook.response(&world, "/validate?timeout=10s", &image).await;
        assert_eq!(response["allowed"], allowed, "{image}: {response}");
    }
    for (file, mode) in [("tls/ca.key", 0o600), ("tls/tls.key", 0o600), ("state", 0o700)] {
        assert_eq!(mode_of(&world.path(file)), mode, "{file}");
    }
    let (status, log) = webhook.stop().await;
    assert_eq!(status, Some(0), "{log:#?}");
    assert_eq!(
        log.iter().filter(|line| line["msg"] == "listening").count(),
        1,
        "{log:#?}"
    );
}

/// OBS-21, checklist 57: at the most talkative level, libraries included.
#[tokio::test]
async fn no_secret_is_in_the_log_whatever_its_level() {
    for wants in [
        Wants::Basic("robot", "hunter2"),
        Wants::Token("robot", "hunter2"),
        Wants::IdentityToken("hunter2"),
    ] {
        let world = World::wanting(wants.clone(), &Repo::new()).await;
        let login = match wants {
            Wants::IdentityToken(token) => json!({"identitytoken": token, "auth": STANDARD.encode("robot:")}),
            Wants::Nothing
            | Wants::Basic(..)
            | Wants::Token(..)
            | Wants::AnonymousToken
            | Wants::Bearer(_) => {
                json!({"username": "robot", "password": "hunter2"})
            }
        };
        let host = world.server.url().trim_start_matches("http://").to_owned();
        let config = world.file(
            "config.json",
            &json!({"auths": {host: login}, "credsStore": "never-run"}).to_string(),
        );
        let key = world.path("root.pem");
        let arguments = [
            "--root-key",
            key.to_str().unwrap(),
            "--trust-server",
            world.server.url(),
            "--docker-config",
            config.to_str().unwrap(),
            "--log-level",
            "trace",
        ];
        let webhook = Webhook::start(&world, &arguments).await;
        let pinned = webhook.response(&world, "/mutate", &format!("{GUN}:1.0")).await;
        assert!(pinned["patch"].is_string(), "{wants:?}: {pinned}");
        let (_, log) = webhook.stop().await;
        assert!(log.iter().any(|line| line["level"] == "trace"), "{wants:?}");
        let mut secrets = vec![
            "hunter2".to_owned(),
            STANDARD.encode("robot:hunter2"),
            "swordfish".to_owned(),
        ];
        let sent = world
            .server
            .requests()
            .into_iter()
            .filter_map(|request| request.authorization);
        secrets.extend(sent.map(|text| text.split_once(' ').unwrap().1.to_owned()));
        for line in &log {
            let text = line.to_string();
            assert!(
                !secrets.iter().any(|secret| text.contains(secret)),
                "{wants:?}: {text}"
            );
        }
    }
}

/// Design §4: what is in force is what could last be read.
#[tokio::test]
async fn a_changed_policy_is_taken_up_and_a_broken_one_is_not() {
    let world = World::new(&Repo::new()).await;
    let allow = json!([{"images": ["**"], "allow": {"reason": "so"}}]);
    let policy = world.policy("Enforce", &allow);
    let mut webhook = Webhook::start(&world, &["--policy", policy.to_str().unwrap()]).await;
    let allowed = async |webhook: &Webhook| {
        let response = webhook.response(&world, "/validate", &format!("{GUN}:9")).await;
        response["allowed"].as_bool().unwrap()
    };
    assert!(allowed(&webhook).await);
    world.policy("Enforce", &signed());
    webhook.until("policies read again").await;
    assert!(!allowed(&webhook).await);
    world.file("policy.yaml", "spec: [");
    webhook
        .until("policies not read: the last good ones stay in force")
        .await;
    assert!(!allowed(&webhook).await);
    std::fs::remove_file(&policy).unwrap();
    webhook
        .until("policies not read: the last good ones stay in force")
        .await;
    assert!(!allowed(&webhook).await);
    world.policy("Enforce", &allow);
    webhook.until("policies read again").await;
    assert!(allowed(&webhook).await);
}
