//! Against an API server that is played here, request by request.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tower_test::mock;

use super::*;

mod more;
mod secrets;

/// What the played cluster has, and how its next list and watch of cluster-wide policies end.
#[derive(Default)]
struct World {
    policies: Vec<Value>,
    /// The policies of namespaces.
    own: Vec<Value>,
    /// The next lists answer these; then they succeed.
    outages: Vec<u16>,
    secret: Option<Value>,
    /// Whether Secrets fail.
    secrets_down: bool,
    /// Ends the watch that is open, with the text.
    watch: Option<oneshot::Sender<String>>,
    /// What becomes of watches of Secrets.
    bells: secrets::Bells,
    /// Paths and queries of everything that was asked about Secrets.
    asked: Vec<String>,
}

/// What the played API server says.
type Said = UnsyncBoxBody<Bytes, io::Error>;

fn said(text: String) -> Said {
    Full::from(text).map_err(io::Error::other).boxed_unsync()
}

struct Played {
    world: Arc<Mutex<World>>,
    /// The names and faults of the policies that are in force, after each change.
    adopted: mpsc::UnboundedReceiver<Vec<(String, Option<String>)>>,
    /// The bodies of status patches.
    statuses: mpsc::UnboundedReceiver<Value>,
    namespaces: Namespaces,
}

fn start(world: World) -> Played {
    start_as(world, |cluster| cluster)
}

fn start_as(world: World, equip: impl FnOnce(Cluster) -> Cluster) -> Played {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Said>>();
    let world = Arc::new(Mutex::new(world));
    let (told, statuses) = mpsc::unbounded_channel();
    let played = Arc::clone(&world);
    // They end with the runtime of their test.
    let tasks = TaskTracker::new();
    let answers = tasks.clone();
    tasks.spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let (world, told) = (Arc::clone(&played), told.clone());
            answers.spawn(async move {
                let (status, body) = answer(&world, request, &told).await;
                let answer = Response::builder().status(status);
                send.send_response(answer.body(body).unwrap());
            });
        }
    });
    let cluster = equip(Cluster::new(Client::new(service, "default"), "release"));
    let namespaces = cluster.namespaces();
    let (adopting, adopted) = mpsc::unbounded_channel();
    tasks.spawn(async move {
        let adopt = move |policies: Vec<Compiled>| {
            let seen = policies.iter().map(|compiled| {
                let fault = compiled.fault.as_ref().map(|fault| fault.message.clone());
                (compiled.policy.name.to_string(), fault)
            });
            let _gone = adopting.send(seen.collect());
            policies
        };
        cluster.watch(|| Timestamp::UNIX_EPOCH, adopt).await;
    });
    Played {
        world,
        adopted,
        statuses,
        namespaces,
    }
}

async fn answer(
    world: &Mutex<World>,
    request: Request<Body>,
    told: &mpsc::UnboundedSender<Value>,
) -> (u16, Said) {
    if request.uri().path().contains("/secrets") {
        return secrets::answer(world, request).await;
    }
    let (status, body) = answer_other(world, request, told).await;
    (status, said(body))
}

async fn answer_other(
    world: &Mutex<World>,
    request: Request<Body>,
    told: &mpsc::UnboundedSender<Value>,
) -> (u16, String) {
    let path = request.uri().path().to_owned();
    let watch = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    if request.method() == "PATCH" {
        let body = request.into_body().collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        told.send(body.clone()).unwrap();
        return (200, body.to_string());
    }
    if watch {
        let (end, ended) = oneshot::channel();
        if path.ends_with("/clustertrustpolicies") {
            world.lock().await.watch = Some(end);
            return (200, ended.await.unwrap());
        }
        return std::future::pending().await;
    }
    let mut world = world.lock().await;
    match path.rsplit('/').next().unwrap() {
        "clustertrustpolicies" if world.outages.is_empty() => (200, list(&world.policies)),
        "clustertrustpolicies" => status(world.outages.remove(0)),
        "trustpolicies" => (200, list(&world.own)),
        "cas" if path == "/api/v1/namespaces/shop/configmaps/cas" => {
            let pem = "-----BEGIN CERTIFICATE-----\nbm8ga2V5\n-----END CERTIFICATE-----\n";
            (
                200,
                json!({"metadata": {"name": "cas"}, "data": {"ca.crt": pem}}).to_string(),
            )
        }
        "fresh" if path == "/api/v1/namespaces/fresh" => {
            let metadata = json!({"name": "fresh", "labels": {"tier": "closed"}});
            let kind = "PartialObjectMetadata";
            (
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": metadata}).to_string(),
            )
        }
        "namespaces" => {
            let metadata = json!({"name": "shop", "labels": {"tier": "web"}});
            let kind = "PartialObjectMetadata";
            (
                200,
                list(&[json!({"apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": metadata})]),
            )
        }
        _ => status(404),
    }
}

fn status(code: u16) -> (u16, String) {
    let reason = if code == 404 { "NotFound" } else { "InternalError" };
    let status =
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "played"});
    (code, status.to_string())
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
        .to_string()
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy",
        "metadata": {"name": name, "uid": name, "generation": 1, "resourceVersion": "1"},
        "spec": {"rules": [{"images": ["**"], "allow": {"reason": "a test"}}]},
    })
}

impl Played {
    async fn names(&mut self) -> Vec<String> {
        let adopted = self.adopted.recv().await.unwrap();
        adopted.into_iter().map(|(name, _)| name).collect()
    }

    /// Ends the open watch with what the API server says in it.
    async fn end_watch(&self, text: String) {
        loop {
            if let Some(watch) = self.world.lock().await.watch.take() {
                return watch.send(text).unwrap();
            }
            tokio::task::yield_now().await;
        }
    }
}

fn world() -> World {
    World {
        policies: vec![policy("a"), policy("b")],
        ..World::default()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_adopted_before_everything_was_listed_and_definitions_may_come_late() {
    let mut played = start(World {
        outages: vec![404, 404, 500],
        ..world()
    });
    assert_eq!(played.names().await, ["a", "b"]);
    assert!(played.adopted.try_recv().is_err());
    let labels = played
        .namespaces
        .labels("shop", tokio::time::Instant::now())
        .await;
    assert_eq!(labels.unwrap()["tier"], "web");
}

#[tokio::test(start_paused = true)]
async fn an_outage_and_a_relist_never_take_a_policy_away() {
    let mut played = start(world());
    assert_eq!(played.names().await, ["a", "b"]);
    // The watch is too old, and the lists after it fail: the definition is gone, then the API server.
    played.world.lock().await.outages = vec![404, 500, 503];
    let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
    played.end_watch(event("ERROR", &gone)).await;
    // After them another policy is there; at no time are there fewer.
    played.world.lock().await.policies.push(policy("c"));
    assert_eq!(played.names().await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_takes_its_policy_away_and_an_edit_changes_it() {
    let mut played = start(world());
    assert_eq!(played.names().await, ["a", "b"]);
    let mut edited = policy("b");
    edited["metadata"]["generation"] = json!(2);
    edited["spec"]["rules"] = json!([]);
    let events = event("DELETED", &policy("a")) + &event("MODIFIED", &edited);
    played.end_watch(events).await;
    let last = loop {
        let adopted = played.adopted.recv().await.unwrap();
        if adopted.iter().any(|(_, fault)| fault.is_some()) {
            break adopted;
        }
    };
    let [(name, Some(fault))] = last.as_slice() else {
        panic!("{last:?}")
    };
    assert!(name == "b" && fault.starts_with("spec.rules: "), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn each_status_is_written_once_and_not_at_all_if_it_is_there() {
    let mut told = policy("a");
    told["status"] = json!({"observedGeneration": 1, "rules": 1, "conditions": [{
        "type": "Ready", "status": "True", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "InForce", "message": "the policy is in force as written",
    }]});
    let mut played = start(World {
        policies: vec![told, policy("b")],
        ..World::default()
    });
    let status = played.statuses.recv().await.unwrap();
    assert_eq!(status["metadata"]["name"], "b");
    let ready = &status["status"]["conditions"][0];
    assert_eq!(
        (&ready["type"], &ready["status"], &ready["observedGeneration"]),
        (&json!("Ready"), &json!("True"), &json!(1))
    );
    assert_eq!(ready["lastTransitionTime"], "1970-01-01T00:00:00Z");
    // Our own write comes back as a change, and says nothing new.
    played.end_watch(event("MODIFIED", &policy("b"))).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(played.statuses.try_recv().is_err());
}
