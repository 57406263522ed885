//! The API server: one Secret, two configurations, versions, and what may go wrong between them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tower_test::mock;

use super::*;
use crate::cluster::Cluster;
use crate::telemetry::Exposition;

const NAME: &str = "countersign-release";

pub(super) fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

#[derive(Clone)]
pub(super) struct Played {
    world: Arc<Mutex<World>>,
    client: Client,
}

pub(super) type Watcher = Box<dyn Fn(&World) + Send>;

/// What is stored, and how the server behaves.
#[derive(Default)]
pub(super) struct World {
    version: u64,
    secret: Option<Value>,
    /// By the plural of their kind.
    pub(super) configurations: BTreeMap<String, Value>,
    /// Since when all entries have trusted an authority.
    pub(super) trusted: HashMap<CertificateDer<'static>, Instant>,
    /// Every write that changed something.
    pub(super) writes: usize,
    /// Writes that were refused because of another one.
    pub(super) conflicts: Vec<(&'static str, &'static str)>,
    /// So many readers of the Secret get an answer only together.
    pub(super) meet: usize,
    waiting: usize,
    /// Kinds of which somebody writes an object before the next patch.
    pub(super) interfere: Vec<&'static str>,
    /// Every request is answered with this status, or not at all.
    pub(super) outage: Option<u16>,
    /// Configurations may not be written.
    pub(super) read_only: bool,
    /// Longest time on the way of a request, and back: milliseconds.
    pub(super) slowness: u64,
    random: u64,
    /// Called after each change of a configuration.
    pub(super) watcher: Option<Watcher>,
}

impl Played {
    pub(super) fn new() -> Self {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let mut world = World {
            random: 1,
            ..World::default()
        };
        let entry = |name: &str| json!({"name": name, "clientConfig": {"url": "https://localhost"}});
        for (kind, entries) in [
            (MUTATING, vec![entry("a")]),
            (VALIDATING, vec![entry("a"), entry("b")]),
        ] {
            let object = json!({"metadata": {"name": NAME, "resourceVersion": "0"}, "webhooks": entries});
            world.configurations.insert(kind.to_owned(), object);
        }
        let world = Arc::new(Mutex::new(world));
        let (played, met) = (Arc::clone(&world), Arc::new(Notify::new()));
        // They end with the runtime of their test.
        let tasks = TaskTracker::new();
        let answers = tasks.clone();
        tasks.spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let (world, met) = (Arc::clone(&played), Arc::clone(&met));
                answers.spawn(async move {
                    let Some((status, body)) = answer(&world, &met, request).await else {
                        // Not answered at all.
                        return std::future::pending().await;
                    };
                    let answer = Response::builder().status(status);
                    send.send_response(answer.body(Body::from(body.to_string().into_bytes())).unwrap());
                });
            }
        });
        Self {
            world,
            client: Client::new(service, "default"),
        }
    }

    pub(super) fn store(&self) -> CertificateStore {
        let cluster = Cluster::new(self.client.clone(), "release");
        cluster.certificate_store("ca", cluster.configurations(NAME))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn seed(&self, seed: u64) {
        self.lock().random = seed | 1;
    }

    pub(super) fn secret(&self) -> Option<Value> {
        self.lock().secret.clone()
    }

    pub(super) fn writes(&self) -> usize {
        self.lock().writes
    }

    pub(super) fn bundles(&self) -> Vec<Value> {
        self.lock().bundles()
    }

    pub(super) fn trusted_everywhere(&self) -> Vec<CertificateDer<'static>> {
        self.lock().trusted.keys().cloned().collect()
    }

    pub(super) fn annotate(&self, annotation: &str) {
        let mut world = self.lock();
        let version = world.next_version();
        if let Some(secret) = &mut world.secret {
            secret["metadata"]["annotations"][annotation] = json!("now");
            secret["metadata"]["resourceVersion"] = version;
        }
    }
}

/// A bundle that others made.
pub(super) fn foreign() -> Value {
    let stranger = rcgen::generate_simple_self_signed(vec!["stranger".to_owned()]).unwrap();
    json!(BASE64_STANDARD.encode(stranger.cert.pem()))
}

/// A counter with one label.
pub(super) fn count(replica: &Managed, name: &str, label: &str) -> u64 {
    let text = replica.metrics.encode(Exposition::Classic).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let line = lines.find(|line| line.contains(&format!("\"{label}\""))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

impl World {
    fn next_version(&mut self) -> Value {
        self.version += 1;
        json!(self.version.to_string())
    }

    pub(super) fn put_secret(&mut self, mut secret: Value) {
        secret["metadata"]["resourceVersion"] = self.next_version();
        self.secret = Some(secret);
    }

    pub(super) fn delete_secret(&mut self) {
        self.secret = None;
    }

    pub(super) fn corrupt_secret(&mut self, garbage: &Value) {
        let version = self.next_version();
        let secret = self.secret.as_mut().unwrap();
        for (_, entry) in secret["data"].as_object_mut().unwrap() {
            *entry = garbage.clone();
        }
        secret["metadata"]["resourceVersion"] = version;
    }

    pub(super) fn bundles(&self) -> Vec<Value> {
        let entries = self.configurations.values();
        let entries = entries.flat_map(|object| object["webhooks"].as_array().unwrap());
        entries
            .map(|entry| entry["clientConfig"]["caBundle"].clone())
            .collect()
    }

    /// Edits the bundle of one entry of them all.
    pub(super) fn set_bundle(&mut self, number: usize, bundle: Value) {
        let version = self.next_version();
        let mut number = number;
        for object in self.configurations.values_mut() {
            let entries = object["webhooks"].as_array_mut().unwrap();
            if number < entries.len() {
                entries[number]["clientConfig"]["caBundle"] = bundle;
                object["metadata"]["resourceVersion"] = version;
                break;
            }
            number -= entries.len();
        }
        self.note();
    }

    /// Takes note of what is trusted now.
    fn note(&mut self) {
        let decode = |bundle: Value| {
            BASE64_STANDARD
                .decode(bundle.as_str().unwrap_or_default())
                .unwrap()
        };
        let bundles = self.bundles().into_iter().map(decode);
        let bundles: Vec<_> = bundles.map(|bundle| read_certificates(&bundle)).collect();
        let everywhere = |it: &CertificateDer<'_>| {
            bundles
                .iter()
                .all(|bundle| bundle.iter().any(|other| other == it))
        };
        self.trusted.retain(|authority, _| everywhere(authority));
        for authority in bundles.iter().flatten().filter(|authority| everywhere(authority)) {
            self.trusted.entry(authority.clone()).or_insert_with(Instant::now);
        }
        if let Some(watcher) = &self.watcher {
            watcher(self);
        }
    }

    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    /// Mostly quick, at times as slow as can be.
    fn delay(&mut self) -> Duration {
        let most = if self.random(4) == 0 {
            self.slowness
        } else {
            self.slowness / 20
        };
        Duration::from_millis(self.random(most + 1))
    }

    fn get(&self, kind: &str) -> (u16, Value) {
        let found = match kind {
            "secrets" => self.secret.clone(),
            _ => self.configurations.get(kind).cloned(),
        };
        found.map_or_else(|| status(404), |found| (200, found))
    }

    fn post(&mut self, mut secret: Value) -> (u16, Value) {
        if self.secret.is_some() {
            self.conflicts.push(("POST", "secrets"));
            return status(409);
        }
        secret["metadata"]["resourceVersion"] = self.next_version();
        self.secret = Some(secret.clone());
        self.writes += 1;
        (201, secret)
    }

    fn patch(&mut self, kind: &'static str, patch: &Value) -> (u16, Value) {
        if self.interfere.first() == Some(&kind) {
            self.interfere.remove(0);
            self.interfere_with(kind);
        }
        if kind != "secrets" && self.read_only {
            return status(403);
        }
        let (code, mut object) = self.get(kind);
        if code != 200 {
            return (code, object);
        }
        let metadata = &patch["metadata"];
        assert!(
            metadata["resourceVersion"].is_string(),
            "every write has its precondition: {patch}"
        );
        if metadata["resourceVersion"] != object["metadata"]["resourceVersion"] {
            self.conflicts.push(("PATCH", kind));
            return status(409);
        }
        let before = object.clone();
        if kind == "secrets" {
            merge(&mut object, patch);
        } else {
            merge_entries(&mut object, patch);
        }
        if object == before {
            return (200, object);
        }
        object["metadata"]["resourceVersion"] = self.next_version();
        self.writes += 1;
        if kind == "secrets" {
            self.secret = Some(object.clone());
        } else {
            self.configurations.insert(kind.to_owned(), object.clone());
            self.note();
        }
        (200, object)
    }

    fn interfere_with(&mut self, kind: &str) {
        let version = self.next_version();
        if kind == "secrets" {
            let secret = self.secret.as_mut().unwrap();
            secret["data"]["somebody"] = json!("ZWxzZQ==");
            secret["metadata"]["annotations"]["somebody"] = json!("else");
            secret["metadata"]["resourceVersion"] = version;
        } else {
            self.configurations.get_mut(kind).unwrap()["metadata"]["resourceVersion"] = version;
        }
    }
}

async fn answer(world: &Mutex<World>, met: &Notify, request: Request<Body>) -> Option<(u16, Value)> {
    let kinds = ["secrets", MUTATING, VALIDATING];
    let path = request.uri().path().to_owned();
    let kind = kinds.into_iter().find(|kind| path.contains(kind)).unwrap();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().clone();
    let content = request.headers().get("content-type").cloned();
    let body = request.into_body().collect_bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();

    let way = world.lock().unwrap().delay();
    tokio::time::sleep(way).await;
    let outage = world.lock().unwrap().outage;
    match outage {
        Some(0) => return None,
        Some(code) => return Some(status(code)),
        None => {}
    }
    let (answer, way_back, wait) = {
        let mut world = world.lock().unwrap();
        let answer = match method.as_str() {
            "GET" => world.get(kind),
            "POST" => world.post(body),
            "PATCH" => {
                let types = [
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                ];
                let wanted = types[usize::from(kind != "secrets")];
                assert_eq!(content.unwrap(), wanted);
                assert!(query.contains("fieldManager=countersign-ca"), "{query}");
                world.patch(kind, &body)
            }
            other => panic!("{other} is not granted"),
        };
        let meets = method == "GET" && kind == "secrets" && world.waiting < world.meet;
        if meets {
            world.waiting += 1;
        }
        (answer, world.delay(), meets && world.waiting < world.meet)
    };
    if wait {
        met.notified().await;
    } else {
        met.notify_one();
    }
    tokio::time::sleep(way_back).await;
    Some(answer)
}

fn status(code: u16) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    (
        code,
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "played"}),
    )
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in members {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

/// As the API server merges lists that have a key.
fn merge_entries(object: &mut Value, patch: &Value) {
    for entry in patch["webhooks"].as_array().unwrap() {
        let entries = object["webhooks"].as_array_mut().unwrap();
        let known = entries.iter_mut().find(|it| it["name"] == entry["name"]);
        merge(known.unwrap(), entry);
    }
}

const MUTATING: &str = "mutatingwebhookconfigurations";
const VALIDATING: &str = "validatingwebhookconfigurations";
