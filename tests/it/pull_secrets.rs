//! The workloads' own logins: what they open, and for whom (kubernetes-admission §5).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use countersign::cluster::PullSecrets;
use countersign::policy::{Demand, PolicySet, Requirement, Verification, compile_object};
use countersign::reference::Reference;
use countersign::review::logins::PullSources;
use countersign::store::Store;
use countersign::telemetry::{Exposition, Metrics};
use countersign::trust::{Clock, Kind, Options, Refusal, Trust, Verify as _};
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_test::mock;

use crate::repo::{Files, GUN, Key, NOW, Repo, digest};
use crate::trust_server::{Fault, TrustServer, Wants};

const PASSWORD: &str = "hunter2";

/// The Secrets and service accounts of a cluster, by `namespace/kind/name`.
#[derive(Clone, Default)]
struct Objects(Arc<Mutex<BTreeMap<String, Value>>>, Arc<Mutex<usize>>);

impl Objects {
    fn login(&self, place: &str, user: &str, password: &str) {
        let host = GUN.split('/').next().unwrap();
        self.secret(
            place,
            &json!({"auths": {host: {"username": user, "password": password}}}).to_string(),
        );
    }

    fn secret(&self, place: &str, config: &str) {
        let (namespace, name) = place.split_once('/').unwrap();
        let data = base64::prelude::BASE64_STANDARD.encode(config);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": name, "namespace": namespace}, "data": {".dockerconfigjson": data},
        });
        self.0
            .lock()
            .unwrap()
            .insert(format!("{namespace}/secrets/{name}"), secret);
    }

    fn asked(&self) -> usize {
        *self.1.lock().unwrap()
    }

    fn serve(&self) -> PullSecrets {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let objects = self.clone();
        TaskTracker::new().spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                *objects.1.lock().unwrap() += 1;
                let path = request
                    .uri()
                    .path()
                    .strip_prefix("/api/v1/namespaces/")
                    .unwrap()
                    .to_owned();
                let found = objects.0.lock().unwrap().get(&path).cloned();
                let missing =
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
                let status = if found.is_some() { 200 } else { 404 };
                let body = Body::from(found.unwrap_or(missing).to_string().into_bytes());
                send.send_response(Response::builder().status(status).body(body).unwrap());
            }
        });
        PullSecrets::through(kube::Client::new(service, "default"))
    }
}

/// An engine under one policy.
struct Bench {
    trust: Trust,
    verification: Arc<Verification>,
    metrics: Arc<Metrics>,
}

impl Bench {
    fn start(server: &TrustServer, secrets: PullSecrets) -> Self {
        Self::with(
            &cluster_policy(server, &json!({})),
            secrets,
            Store::memory().unwrap(),
        )
    }

    fn with(policy: &Value, pull_secrets: PullSecrets, store: Store) -> Self {
        // A namespace's policy counts beside one of the cluster only.
        let open = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "open"},
            "spec": {"rules": [{"images": ["**"], "allow": {"reason": "the other judges"}}]},
        });
        let compiled = [policy, &open].map(|policy| {
            let compiled = compile_object(policy, &BTreeMap::new());
            assert_eq!(compiled.fault, None);
            compiled.policy
        });
        let policies = PolicySet::new(compiled);
        let options = Options {
            clock: Clock::At(NOW.parse().unwrap()),
            pull_secrets,
            ..Options::default()
        };
        let metrics = Arc::new(Metrics::default());
        let trust = Trust::new(options, Arc::new(store), Arc::clone(&metrics));
        trust.prepare(&policies).unwrap();
        let image = Reference::parse(GUN).unwrap();
        let requirements = policies.select("shop", Some(&BTreeMap::new()), &image);
        let verification = requirements
            .into_iter()
            .find_map(|Requirement { demand, .. }| match demand {
                Demand::Verify(verification) => Some(verification),
                Demand::Allow { .. } | Demand::Deny { .. } | Demand::Uncovered => None,
            });
        Self {
            trust,
            verification: verification.unwrap(),
            metrics,
        }
    }

    async fn ask(&self, sources: &PullSources) -> Result<String, Refusal> {
        let image = Reference::parse(&format!("{GUN}:1.0")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let pinned = self
            .trust
            .verify(&image, &self.verification, sources, deadline)
            .await?;
        Ok(pinned.digest().to_string())
    }

    /// The digest, or the reason why there is none.
    async fn word(&self, sources: &PullSources) -> String {
        self.ask(sources)
            .await
            .unwrap_or_else(|refusal| refusal.reason().to_owned())
    }

    async fn refusal(&self, sources: &PullSources) -> String {
        let refusal = self.ask(sources).await.unwrap_err();
        assert_eq!(
            (refusal.kind(), refusal.reason()),
            (Kind::Unavailable, "unauthorized")
        );
        refusal.to_string()
    }

    fn told(&self, series: &str) -> bool {
        self.metrics.encode(Exposition::Classic).unwrap().contains(series)
    }
}

fn cluster_policy(server: &TrustServer, more: &Value) -> Value {
    let mut notary = json!({"server": server.url(), "root": {"keys": [Key::p256(1).pem()]}});
    for (member, value) in more.as_object().unwrap() {
        notary[member] = value.clone();
    }
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": "test"},
        "spec": {"verifiers": [{"name": "acme", "notary": notary}],
            "rules": [{"images": ["**"], "verify": {"anyOf": ["acme"]}}]},
    })
}

fn serve(server: &TrustServer, files: &Files) {
    for (name, bytes) in &files.0 {
        server.put(GUN, name, bytes.clone());
    }
}

async fn private(wants: Wants) -> TrustServer {
    let server = TrustServer::builder().wants(wants).start().await;
    serve(&server, &Repo::new().publish());
    server
}

fn in_namespace(namespace: &str, secrets: &[&str]) -> PullSources {
    PullSources {
        namespace: namespace.to_owned(),
        secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        account: None,
    }
}

fn asked(server: &TrustServer) -> usize {
    server
        .requests()
        .iter()
        .filter(|logged| logged.target.contains("/_trust/"))
        .count()
}

async fn advance(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_workloads_own_login_opens_what_the_policys_does_not() {
    for wants in [Wants::Token("robot", PASSWORD), Wants::Basic("robot", PASSWORD)] {
        let (server, objects) = (private(wants).await, Objects::default());
        objects.login("shop/pull", "robot", PASSWORD);
        let bench = Bench::start(&server, objects.serve());
        let shop = in_namespace("shop", &["pull"]);
        assert_eq!(bench.word(&shop).await, digest("one"));
        assert!(bench.told("countersign_pull_secrets_total{result=\"ok\"}"));
        // From memory, without a try in vain.
        let before = server.requests().len();
        for _ in 0..5 {
            advance(4).await;
            assert_eq!(bench.word(&shop).await, digest("one"));
        }
        assert_eq!(server.requests().len(), before);
    }
}

#[tokio::test]
async fn without_the_flag_they_are_not_read_and_not_spoken_of() {
    let (server, objects) = (private(Wants::Token("robot", PASSWORD)).await, Objects::default());
    objects.login("shop/pull", "robot", PASSWORD);
    let _unused = objects.serve();
    let bench = Bench::start(&server, PullSecrets::default());
    let said = bench.refusal(&in_namespace("shop", &["pull"])).await;
    assert!(!said.contains("logins tried"), "{said}");
    assert_eq!(objects.asked(), 0);
}

/// CRED-24: neither memory, nor an outage, nor the store, nor a restart gives it to those who have no login.
#[tokio::test]
async fn attack_what_one_namespaces_login_opened_is_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let (server, objects) = (private(Wants::Token("robot", PASSWORD)).await, Objects::default());
    objects.login("shop/pull", "robot", PASSWORD);
    objects.login("evil/pull", "robot", "guessed");
    objects.secret("evil/junk", r#"{"auths":{}}"#);
    let policy = cluster_policy(&server, &json!({"maxStaleness": "12h"}));
    let start = || Bench::with(&policy, objects.serve(), Store::open(folder.path()).unwrap());
    let bench = start();
    let shop = in_namespace("shop", &["pull"]);
    let others = [
        in_namespace("evil", &["pull"]),
        in_namespace("evil", &["junk"]),
        in_namespace("evil", &["pull", "junk"]),
        in_namespace("evil", &[]),
        PullSources::default(),
    ];
    assert_eq!(bench.word(&shop).await, digest("one"));
    for other in &others {
        let said = bench.refusal(other).await;
        assert!(!said.contains("1.0") && !said.contains("sha256"), "{said}");
    }
    assert_eq!(
        bench.word(&shop).await,
        digest("one"),
        "they have spoiled nothing"
    );
    server.misbehave("", Fault::Status(503, Vec::new(), String::new()));
    advance(61).await;
    assert_eq!(bench.word(&shop).await, digest("one"), "it has seen it itself");
    for other in &others {
        assert!(bench.ask(other).await.is_err());
    }
    bench.trust.finish().await;
    let again = start();
    for sources in others.iter().chain([&shop]) {
        assert!(
            again.ask(sources).await.is_err(),
            "the store knows nobody's rights"
        );
    }
}

/// CRED-24: what is kept for the next start has no owner, so that in an outage nobody is told.
#[tokio::test]
async fn attack_a_restart_in_an_outage_gives_nothing_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let (server, objects) = (private(Wants::Token("robot", PASSWORD)).await, Objects::default());
    objects.login("shop/pull", "robot", PASSWORD);
    let policy = cluster_policy(&server, &json!({"maxStaleness": "12h"}));
    let start = || Bench::with(&policy, objects.serve(), Store::open(folder.path()).unwrap());
    let shop = in_namespace("shop", &["pull"]);
    let first = start();
    assert_eq!(first.word(&shop).await, digest("one"));
    first.trust.finish().await;
    server.misbehave("", Fault::Status(503, Vec::new(), String::new()));
    let again = start();
    for sources in [PullSources::default(), in_namespace("evil", &[]), shop] {
        assert!(again.ask(&sources).await.is_err(), "{sources:?}");
    }
}

/// The same logins, wherever they are written, open the same.
#[tokio::test]
async fn equal_logins_share_what_they_opened() {
    let (server, objects) = (private(Wants::Token("robot", PASSWORD)).await, Objects::default());
    objects.login("shop/pull", "robot", PASSWORD);
    objects.login("other/copy", "robot", PASSWORD);
    let bench = Bench::start(&server, objects.serve());
    assert_eq!(bench.word(&in_namespace("shop", &["pull"])).await, digest("one"));
    let before = asked(&server);
    assert_eq!(bench.word(&in_namespace("other", &["copy"])).await, digest("one"));
    assert_eq!(asked(&server), before);
}

/// What was seen protects everybody from rollback, whoever saw it.
#[tokio::test]
async fn versions_are_remembered_for_all() {
    let (server, objects) = (private(Wants::Token("robot", PASSWORD)).await, Objects::default());
    objects.login("shop/pull", "robot", PASSWORD);
    objects.login("shop/other", "nobody", "x");
    serve(&server, &Repo::new().all_versions(2).publish());
    let bench = Bench::start(&server, objects.serve());
    assert_eq!(bench.word(&in_namespace("shop", &["pull"])).await, digest("one"));
    serve(&server, &Repo::new().publish());
    assert_eq!(
        bench.word(&in_namespace("shop", &["other", "pull"])).await,
        "rollback"
    );
}

/// CRED-01, CRED-02.
#[tokio::test]
async fn every_login_is_tried_in_order_and_what_cannot_be_used_is_passed_over() {
    let (server, objects) = (private(Wants::Token("robot", PASSWORD)).await, Objects::default());
    objects.secret("shop/torn", "{");
    objects.login("shop/old", "robot", "of last year");
    objects.login("shop/new", "robot", PASSWORD);
    let bench = Bench::start(&server, objects.serve());
    let all = in_namespace("shop", &["gone", "torn", "old", "new"]);
    assert_eq!(bench.word(&all).await, digest("one"));
    for result in ["missing", "malformed", "ok"] {
        assert!(bench.told(&format!("countersign_pull_secrets_total{{result=\"{result}\"}}")));
    }
    let said = bench
        .refusal(&in_namespace("shop", &["gone", "torn", "old"]))
        .await;
    assert!(
        said.ends_with(
            "logins tried: none of the policy, pull secrets of namespace shop \"gone\" (missing) \"torn\" (malformed) \"old\""
        ),
        "{said}"
    );
    let said = bench.refusal(&in_namespace("shop", &[])).await;
    assert!(
        said.ends_with("and no pull secret is named in namespace shop"),
        "{said}"
    );
}

#[tokio::test]
async fn a_rotated_login_is_found_within_a_minute() {
    let (server, objects) = (private(Wants::Token("robot", "old")).await, Objects::default());
    objects.login("shop/pull", "robot", "old");
    let bench = Bench::start(&server, objects.serve());
    let shop = in_namespace("shop", &["pull"]);
    assert_eq!(bench.word(&shop).await, digest("one"));
    server.want(Wants::Token("robot", "new"));
    server.revoke_tokens();
    objects.login("shop/pull", "robot", "new");
    advance(61).await;
    assert_eq!(bench.word(&shop).await, digest("one"));
    let last = server
        .requests()
        .into_iter()
        .rfind(|logged| logged.target.starts_with("/token"));
    let shown = base64::prelude::BASE64_STANDARD.encode("robot:new");
    assert_eq!(last.unwrap().authorization.unwrap(), format!("Basic {shown}"));
}

/// §5.1: the policy's own login comes first, and what it opens is for all whom the policy governs.
#[tokio::test]
async fn what_the_policys_login_opens_needs_no_other() {
    let (server, objects) = (private(Wants::Nothing).await, Objects::default());
    objects.login("shop/pull", "robot", PASSWORD);
    let bench = Bench::start(&server, objects.serve());
    for sources in [in_namespace("shop", &["pull"]), PullSources::default()] {
        assert_eq!(bench.word(&sources).await, digest("one"));
    }
    assert_eq!(objects.asked(), 0);
    assert!(
        server
            .requests()
            .iter()
            .all(|logged| logged.authorization.is_none())
    );
}

/// CRED-20, CRED-21: who may write a policy and no Secret must not have the Secrets sent to a server of theirs.
#[tokio::test]
async fn attack_a_namespaces_policy_collects_no_logins_of_registries() {
    let (server, objects) = (private(Wants::Basic("robot", PASSWORD)).await, Objects::default());
    objects.login("shop/pull", "robot", PASSWORD);
    let mut policy = cluster_policy(&server, &json!({}));
    policy["kind"] = json!("TrustPolicy");
    policy["metadata"]["namespace"] = json!("shop");
    let bench = Bench::with(&policy, objects.serve(), Store::memory().unwrap());
    let shop = in_namespace("shop", &["pull"]);
    bench.refusal(&shop).await;
    assert!(
        server
            .requests()
            .iter()
            .all(|logged| logged.authorization.is_none())
    );
    // A login for the server itself is meant for it.
    let host = server.address().to_string();
    let own = json!({"auths": {host: {"username": "robot", "password": PASSWORD}}});
    objects.secret("shop/own", &own.to_string());
    assert_eq!(bench.word(&in_namespace("shop", &["own"])).await, digest("one"));
}

/// The logins are gone by the time at which a refresh would be due.
#[tokio::test]
async fn nothing_that_was_borrowed_is_used_in_the_background() {
    let (server, objects) = (private(Wants::Token("robot", PASSWORD)).await, Objects::default());
    objects.login("shop/pull", "robot", PASSWORD);
    let bench = Bench::start(&server, objects.serve());
    assert_eq!(bench.word(&in_namespace("shop", &["pull"])).await, digest("one"));
    let (before, stop) = (server.requests().len(), CancellationToken::new());
    let ending = stop.clone();
    let idle = async move {
        for _ in 0..12 {
            advance(10).await;
        }
        ending.cancel();
    };
    tokio::join!(bench.trust.clone().keep_fresh(stop), idle);
    assert_eq!(server.requests().len(), before);
}
