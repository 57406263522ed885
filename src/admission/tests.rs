//! The whole pipeline, with policies as a function and a verifier that knows its answers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use serde_json::json;

use super::*;
use crate::policy::{Combine, Demand, DigestRule, PolicyName, Verification, Workloads};
use crate::reference::Digest;
use crate::trust::{Kind, Pinned, Refusal, fake};

mod answers;
mod bounds;
mod bypass;
mod logs;
mod mode;
mod property;
mod templates;

const LIMIT: Duration = Duration::from_secs(10);

/// The digest every signed tag has.
fn digest() -> Digest {
    Digest::sha256([0xab; 32])
}

/// `repository:tag` as it reads once pinned.
fn pinned(name: &str) -> String {
    format!("{name}@{}", digest())
}

/// Answers by tag: `down` is an outage, `hang` never answers, `bug` panics, `bad…` is not signed, anything else is;
/// and a digest is signed if it is [`digest`].
#[derive(Debug, Default)]
struct Oracle {
    asked: Mutex<Vec<String>>,
    running: AtomicUsize,
    peak: AtomicUsize,
}

impl Verify for Oracle {
    async fn verify(
        &self,
        image: &Reference,
        _: &Verification,
        _: &PullSources,
        _: Instant,
    ) -> Result<Pinned, Refusal> {
        self.asked.lock().unwrap().push(image.to_string());
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(running, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        let tag = image.tag().map_or("", |tag| tag.as_str());
        if tag == "hang" {
            std::future::pending::<()>().await;
        }
        assert_ne!(tag, "bug", "a bug in a verifier");
        let untrusted = |word, cause: String, similar: &[&str]| {
            let similar = similar.iter().map(|tag| tag.parse().unwrap()).collect();
            Err(fake::refusal(Kind::Untrusted, word, &cause, similar))
        };
        match image.digest() {
            _ if tag == "down" => Err(fake::refusal(
                Kind::Unavailable,
                "unreachable",
                "no answer",
                vec![],
            )),
            _ if tag.starts_with("bad") => untrusted(
                "not_signed",
                format!("tag {tag} is not signed in {}", image.gun()),
                &["1.0", "1.1"],
            ),
            Some(other) if *other != digest() => untrusted(
                "digest_mismatch",
                "the digest is not that of the signed tag".to_owned(),
                &[],
            ),
            Some(_) | None => Ok(fake::pinned(digest())),
        }
    }
}

fn requirement(name: &str, mode: Mode, workloads: Workloads, demand: Demand) -> Requirement {
    Requirement {
        policy: Arc::new(PolicyName {
            namespace: None,
            name: name.to_owned(),
        }),
        mode,
        workloads,
        rule: (!matches!(demand, Demand::Uncovered)).then_some(1),
        demand,
    }
}

fn signed() -> Demand {
    Demand::Verify(Arc::new(Verification {
        combine: Combine::Any,
        verifiers: Vec::new(),
        digests: DigestRule::Signed,
    }))
}

/// What most tests run under: one policy that wants everything signed, admits `registry.k8s.io`, and does not know
/// `other.example.com`.
fn default_rules(_: &str, image: &Reference) -> Vec<Requirement> {
    let demand = match image.gun().host() {
        "registry.k8s.io" => Demand::Allow {
            reason: "cluster plumbing".into(),
        },
        "denied.example.com" => Demand::Deny {
            message: "only images of registry.example.com run here".into(),
        },
        "other.example.com" => Demand::Uncovered,
        _ => signed(),
    };
    vec![requirement("default", Mode::Enforce, Workloads::Advise, demand)]
}

fn in_mode(mode: Mode) -> impl Fn(&str, &Reference) -> Vec<Requirement> + Sync {
    move |namespace, image| {
        let mut requirements = default_rules(namespace, image);
        for requirement in &mut requirements {
            requirement.mode = mode;
        }
        requirements
    }
}

fn for_workloads(workloads: Workloads) -> impl Fn(&str, &Reference) -> Vec<Requirement> + Sync {
    move |namespace, image| {
        let mut requirements = default_rules(namespace, image);
        for requirement in &mut requirements {
            requirement.workloads = workloads;
        }
        requirements
    }
}

/// What becomes of unreadable images under [`default_rules`].
const fn enforced(_: &str) -> Standing {
    Standing {
        unreadable: Mode::Enforce,
        templates: Templates::Keep,
    }
}

/// The same where a policy wants templates pinned.
const fn pinning(_: &str) -> Standing {
    Standing {
        unreadable: Mode::Enforce,
        templates: Templates::Pin,
    }
}

impl<V: Verify, A: Authorize> Admission<V, A> {
    /// [`Self::answer`], with the policies as a function.
    async fn answer_under(
        &self,
        phase: Phase,
        body: &[u8],
        query: Option<&str>,
        rules: &(impl Fn(&str, &Reference) -> Vec<Requirement> + Sync),
        standing: &(impl Fn(&str) -> Standing + Sync),
    ) -> Result<Vec<u8>, Malformed> {
        let started = Instant::now();
        let request = self.parse(phase, body, started)?;
        let until = started + deadline(query, self.limit);
        Ok(self
            .decide(phase, &request, (started, until), rules, standing)
            .await)
    }
}

fn admission(verify: &Arc<Oracle>) -> Admission<Oracle> {
    let policies = Arc::new(ArcSwap::from_pointee(PolicySet::default()));
    Admission::new(Arc::clone(verify), policies, Arc::new(Metrics::default()), LIMIT)
}

/// A Pod in namespace `shop` whose containers `c0`, `c1`, … run `images`.
fn pod(images: &[&str]) -> Value {
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(i, image)| json!({"name": format!("c{i}"), "image": image}))
        .collect();
    json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"containers": containers}})
}

fn deployment(images: &[&str]) -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"template": pod(images)}})
}

fn review(resource: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let (group, kind) = match resource {
        "pods" => ("", "Pod"),
        "deployments" => ("apps", "Deployment"),
        "statefulsets" => ("apps", "StatefulSet"),
        "daemonsets" => ("apps", "DaemonSet"),
        "replicasets" => ("apps", "ReplicaSet"),
        "jobs" => ("batch", "Job"),
        "cronjobs" => ("batch", "CronJob"),
        "podtemplates" => ("", "PodTemplate"),
        "replicationcontrollers" => ("", "ReplicationController"),
        _ => ("example.com", "Thing"),
    };
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": group, "version": "v1", "kind": kind},
            "resource": {"group": group, "version": "v1", "resource": resource},
            "name": "p",
            "namespace": "shop",
            "operation": operation,
            "userInfo": {"username": "alice", "groups": ["developers"]},
            "object": object,
            "oldObject": old,
            "dryRun": false,
        },
    })
}

fn created(object: &Value) -> Value {
    let resource = if object.pointer("/spec/template").is_some() {
        "deployments"
    } else {
        "pods"
    };
    review(resource, "CREATE", object, &Value::Null)
}

/// The `response` to `review` under `rules`.
async fn respond_under(
    phase: Phase,
    review: &Value,
    rules: &(impl Fn(&str, &Reference) -> Vec<Requirement> + Sync),
) -> Value {
    respond_with(&Arc::default(), phase, review, rules).await
}

async fn respond_with(
    verify: &Arc<Oracle>,
    phase: Phase,
    review: &Value,
    rules: &(impl Fn(&str, &Reference) -> Vec<Requirement> + Sync),
) -> Value {
    respond_where(verify, phase, review, rules, &enforced).await
}

async fn respond_where(
    verify: &Arc<Oracle>,
    phase: Phase,
    review: &Value,
    rules: &(impl Fn(&str, &Reference) -> Vec<Requirement> + Sync),
    standing: &(impl Fn(&str) -> Standing + Sync),
) -> Value {
    let body = review.to_string();
    let reply = admission(verify)
        .answer_under(phase, body.as_bytes(), Some("timeout=10s"), rules, standing)
        .await
        .unwrap();
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply["response"]["uid"], review["request"]["uid"]);
    reply["response"].clone()
}

/// To a review in a namespace whose templates are pinned.
async fn respond_pinning(review: &Value) -> Value {
    respond_where(&Arc::default(), Phase::Mutate, review, &default_rules, &pinning).await
}

async fn respond(phase: Phase, review: &Value) -> Value {
    respond_under(phase, review, &default_rules).await
}

/// The decoded patch, if there is one.
fn patch_of(response: &Value) -> Option<Value> {
    let text = response.get("patch")?.as_str().unwrap();
    assert_eq!(response["patchType"], "JSONPatch");
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// `object` as the API server makes it of a response: the patch applied, as its own library does.
fn patched(object: &Value, response: &Value) -> Value {
    let mut object = object.clone();
    if let Some(patch) = patch_of(response) {
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    object
}

/// Status code and message of a denial.
fn denial(response: &Value) -> (u64, String) {
    assert_eq!(response["allowed"], false, "{response}");
    assert_eq!(response["status"]["status"], "Failure");
    let absent = |member| response.get(member).is_none();
    assert!(
        absent("patch") && absent("patchType") && absent("warnings"),
        "{response}"
    );
    let message = response["status"]["message"].as_str().unwrap().to_owned();
    assert!(message.len() <= 1024);
    (response["status"]["code"].as_u64().unwrap(), message)
}

fn warnings_of(response: &Value) -> Vec<String> {
    response
        .get("warnings")
        .map(|list| serde_json::from_value(list.clone()).unwrap())
        .unwrap_or_default()
}

fn is_silent_yes(response: &Value) -> bool {
    response["allowed"] == true
        && ["status", "patch", "patchType", "warnings"]
            .iter()
            .all(|member| response.get(*member).is_none())
}
