//! A trust server without sockets: calls in, answers out, on a database in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::reference::Gun;
use countersign::telemetry::{Exposition, Metrics};
use countersign::trustserver::access::{Access, Gatekeeper, Peer};
use countersign::trustserver::audit::Audit;
use countersign::trustserver::http::Call;
use countersign::trustserver::seal::{OperatorKey, Sealer};
use countersign::trustserver::service::{Options, TrustServer};
use countersign::trustserver::storage::sqlite::Sqlite;
use countersign::trustserver::storage::{Change, Storage as _};
use countersign::tuf::edit::{Draft, SignedFile, Terms};
use countersign::tuf::{Algorithm, KeyId, PrivateKey, PublicKey, Role, sha256};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const GUN: &str = "registry.example.com/team/app";
/// Text of 32 bytes in hex.
const SEALING_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

struct Scene {
    server: TrustServer<Sqlite>,
    folder: TempDir,
    metrics: Arc<Metrics>,
    /// Names in the caller's certificate.
    names: Vec<String>,
}

async fn server(
    folder: &std::path::Path,
    access: Gatekeeper,
    options: Options,
    metrics: &Arc<Metrics>,
) -> TrustServer<Sqlite> {
    let storage = Sqlite::open(folder).await.unwrap();
    let key = OperatorKey::of_text(SEALING_KEY).unwrap();
    let sealer = Sealer::open(&storage, &key).await.unwrap();
    let audit = Audit::to_file(&folder.join("audit.log")).unwrap();
    let metrics = Arc::clone(metrics);
    TrustServer::new(storage, sealer, Arc::new(access), audit, options, metrics)
}

impl Scene {
    async fn new(options: Options) -> Self {
        Self::with(Gatekeeper::fixed(Access::open_to_all()), options).await
    }

    async fn with(access: Gatekeeper, options: Options) -> Self {
        let (folder, metrics) = (tempfile::tempdir().unwrap(), Arc::new(Metrics::default()));
        Self {
            server: server(folder.path(), access, options, &metrics).await,
            folder,
            metrics,
            names: Vec::new(),
        }
    }

    /// A server to which these rules apply.
    async fn ruled(rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.yaml");
        std::fs::write(&path, rules).unwrap();
        Self::with(Gatekeeper::open(path).unwrap(), Options::default()).await
    }

    fn counted(&self, line: &str) -> bool {
        let text = self.metrics.encode(Exposition::Classic).unwrap();
        text.lines().any(|found| found == line)
    }

    async fn call(&self, method: Method, path: &str, headers: HeaderMap, body: Bytes) -> Response<Bytes> {
        let call = Call {
            method,
            uri: path.parse().unwrap(),
            headers,
            body,
            peer: Peer {
                address: "192.0.2.7:40000".parse().unwrap(),
                names: self.names.clone(),
            },
        };
        answered(&self.server, call).await
    }

    async fn get(&self, file: &str) -> Response<Bytes> {
        let path = format!("/v2/{GUN}/_trust/tuf/{file}");
        self.call(Method::GET, &path, HeaderMap::new(), Bytes::new())
            .await
    }

    async fn found(&self, file: &str) -> Bytes {
        let response = self.get(file).await;
        assert_eq!(response.status(), StatusCode::OK, "{file}: {:?}", response.body());
        response.into_body()
    }

    async fn key(&self, method: Method, role: &str) -> Arc<PublicKey> {
        let path = format!("/v2/{GUN}/_trust/tuf/{role}.key");
        let response = self.call(method, &path, HeaderMap::new(), Bytes::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Arc::new(PublicKey::parse(response.body()).unwrap())
    }

    async fn upload(&self, files: &[SignedFile]) -> Response<Bytes> {
        answered(&self.server, update(files, &self.names)).await
    }

    async fn delete(&self) -> StatusCode {
        let path = format!("/v2/{GUN}/_trust/tuf/");
        let response = self
            .call(Method::DELETE, &path, HeaderMap::new(), Bytes::new())
            .await;
        response.status()
    }

    /// The publisher makes the repository, as docker does: the server signs snapshot and timestamp.
    async fn publish(&self, owner: &Owner) -> StatusCode {
        let (snapshot, timestamp) = (
            self.key(Method::GET, "snapshot").await,
            self.key(Method::GET, "timestamp").await,
        );
        self.upload(&owner.initial(&snapshot, &timestamp)).await.status()
    }

    fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// What becomes of a call at the port of a server.
async fn answered(server: &TrustServer<Sqlite>, call: Call) -> Response<Bytes> {
    match server.admit(&call).await {
        Ok(admitted) => server.answer(call, admitted).await,
        Err(refused) => refused,
    }
}

/// An upload by somebody with these names.
fn update(files: &[SignedFile], names: &[String]) -> Call {
    let mut body = Vec::new();
    for file in files {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{}\"\r\n\r\n",
            file.role
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&file.bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    let kind = HeaderValue::from_static("multipart/form-data; boundary=b");
    Call {
        method: Method::POST,
        uri: format!("/v2/{GUN}/_trust/tuf/").parse().unwrap(),
        headers: HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)]),
        body: body.into(),
        peer: Peer {
            address: "192.0.2.7:40000".parse().unwrap(),
            names: names.to_vec(),
        },
    }
}

/// Who has the keys of root and targets.
struct Owner {
    root: Arc<PrivateKey>,
    targets: Arc<PrivateKey>,
}

impl Owner {
    fn new() -> Self {
        let key = || Arc::new(PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
        Self {
            root: key(),
            targets: key(),
        }
    }

    fn initial(&self, snapshot: &Arc<PublicKey>, timestamp: &Arc<PublicKey>) -> Vec<SignedFile> {
        let now = countersign::clock::now();
        let gun: Gun = GUN.parse().unwrap();
        let certificate = Arc::new(self.root.root_certificate(&gun, now).unwrap());
        let targets = Arc::new(self.targets.public().clone());
        let draft = Draft::initial(&[certificate], &targets, snapshot, timestamp);
        let keys = [&self.root, &self.targets].map(|key| (key.id(), Arc::clone(key)));
        let keys: BTreeMap<KeyId, _> = keys.into();
        draft.sign(&keys, &Terms::reference(now)).unwrap().files
    }
}

fn version(file: &[u8]) -> u64 {
    let file: Value = serde_json::from_slice(file).unwrap();
    file["signed"]["version"].as_u64().unwrap()
}

fn code(response: &Response<Bytes>) -> String {
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_published_is_served_in_every_form_with_its_own_bytes() {
    let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
    assert_eq!(scene.get("root.json").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(scene.publish(&owner).await, StatusCode::OK);
    for role in ["root", "targets", "snapshot", "timestamp"] {
        let file = scene.found(&format!("{role}.json")).await;
        let by_hash = format!("{role}.{}.json", hex::encode(sha256(&file)));
        assert_eq!(scene.found(&by_hash).await, file);
        assert_eq!(scene.found(&format!("1.{role}.json")).await, file);
        let other = format!("{role}.{}.json", hex::encode(sha256(b"other")));
        assert_eq!(scene.get(&other).await.status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(
        scene.get("targets/nobody.json").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn who_has_a_file_already_is_told_so() {
    let scene = Scene::new(Options::default()).await;
    scene.publish(&Owner::new()).await;
    let first = scene.get("targets.json").await;
    let headers = HeaderMap::from_iter([(IF_NONE_MATCH, first.headers()[ETAG].clone())]);
    let path = format!("/v2/{GUN}/_trust/tuf/targets.json");
    let again = scene.call(Method::GET, &path, headers, Bytes::new()).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_key_is_given_out_until_it_is_used_and_a_rotation_makes_another() {
    let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
    let first = scene.key(Method::GET, "timestamp").await;
    assert_eq!(scene.key(Method::GET, "timestamp").await.id(), first.id());
    assert_eq!(scene.key(Method::POST, "timestamp").await.id(), first.id());
    assert_ne!(scene.key(Method::GET, "snapshot").await.id(), first.id());
    scene.publish(&owner).await;
    assert_eq!(scene.key(Method::GET, "timestamp").await.id(), first.id());
    let next = scene.key(Method::POST, "timestamp").await;
    assert_ne!(next.id(), first.id());
    assert_eq!(scene.key(Method::POST, "timestamp").await.id(), next.id());
    assert_eq!(
        scene.key(Method::GET, "timestamp").await.id(),
        first.id(),
        "no root lists the new one"
    );
}

#[tokio::test]
async fn a_key_of_ours_is_of_no_use_in_another_repository_or_role() {
    let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
    let (snapshot, timestamp) = (
        scene.key(Method::GET, "snapshot").await,
        Arc::new(PrivateKey::generate(Algorithm::Ed25519).unwrap()),
    );
    let foreign = Arc::new(timestamp.public().clone());
    let refused = scene.upload(&owner.initial(&snapshot, &foreign)).await;
    assert_eq!(
        (refused.status(), code(&refused)),
        (StatusCode::BAD_REQUEST, "INVALID_UPDATE".to_owned())
    );
    assert_eq!(scene.get("root.json").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_upload_that_was_made_from_an_older_state_is_a_conflict() {
    let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
    assert_eq!(scene.publish(&owner).await, StatusCode::OK);
    let files = owner.initial(
        &scene.key(Method::GET, "snapshot").await,
        &scene.key(Method::GET, "timestamp").await,
    );
    let again = scene.upload(&files).await;
    assert_eq!(
        (again.status(), code(&again)),
        (StatusCode::BAD_REQUEST, "VERSION".to_owned())
    );
}

#[tokio::test]
async fn of_many_who_publish_at_once_the_same_thing_one_succeeds() {
    let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
    let files = owner.initial(
        &scene.key(Method::GET, "snapshot").await,
        &scene.key(Method::GET, "timestamp").await,
    );
    let attempts = (0..8).map(|_| scene.upload(&files));
    let answers = futures_util::future::join_all(attempts).await;
    let stored = answers
        .iter()
        .filter(|answer| answer.status() == StatusCode::OK)
        .count();
    assert_eq!(stored, 1);
    assert_eq!(version(&scene.found("timestamp.json").await), 1);
}

/// T3, T46: servers that share a database know nothing of each other's turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_servers_that_are_sent_the_same_thing_at_once_one_stores_it() {
    for _ in 0..5 {
        let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
        let access = Gatekeeper::fixed(Access::open_to_all());
        let other = server(scene.folder.path(), access, Options::default(), &scene.metrics).await;
        let files = owner.initial(
            &scene.key(Method::GET, "snapshot").await,
            &scene.key(Method::GET, "timestamp").await,
        );
        let call = update(&files, &scene.names);
        let attempts = [&scene.server, &other].map(|server| answered(server, call.clone()));
        let answers = futures_util::future::join_all(attempts).await;
        let stored = answers.iter().filter(|answer| answer.status() == StatusCode::OK);
        assert_eq!(stored.count(), 1, "{answers:?}");
        assert_eq!(version(&scene.found("timestamp.json").await), 1);
        let storage = Sqlite::open(scene.folder.path()).await.unwrap();
        let due = storage.due(jiff::Timestamp::MAX, 9).await.unwrap();
        assert_eq!(due, [GUN.parse().unwrap()], "it will be signed again in time");
    }
}

#[tokio::test]
async fn a_deleted_repository_is_gone_and_a_new_one_goes_on_with_the_numbers() {
    let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
    scene.publish(&owner).await;
    let old = scene.found("targets.json").await;
    assert_eq!(scene.delete().await, StatusCode::OK);
    for file in ["root.json", "timestamp.json", "1.targets.json"] {
        assert_eq!(scene.get(file).await.status(), StatusCode::NOT_FOUND, "{file}");
    }
    let by_hash = format!("targets.{}.json", hex::encode(sha256(&old)));
    assert_eq!(
        scene.get(&by_hash).await.status(),
        StatusCode::NOT_FOUND,
        "deleted files are not served by hash either"
    );
    assert_eq!(scene.delete().await, StatusCode::OK, "again");
    assert_eq!(scene.publish(&Owner::new()).await, StatusCode::OK);
    assert_eq!(version(&scene.found("timestamp.json").await), 2);
    assert_eq!(version(&scene.found("snapshot.json").await), 2);
    assert_eq!(version(&scene.found("targets.json").await), 1);
}

#[tokio::test]
async fn an_expired_timestamp_is_signed_again_for_who_asks() {
    let options = Options {
        timestamp_life: Duration::ZERO,
        ..Options::default()
    };
    let scene = Scene::new(options).await;
    scene.publish(&Owner::new()).await;
    let first = version(&scene.found("timestamp.json").await);
    let second = version(&scene.found("timestamp.json").await);
    assert!(second > first, "{first} {second}");
    assert_eq!(version(&scene.found("snapshot.json").await), 1);
}

#[tokio::test]
async fn what_the_server_was_told_outlives_it_keys_and_all() {
    let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
    scene.publish(&owner).await;
    let (key, file) = (
        scene.key(Method::GET, "timestamp").await,
        scene.found("timestamp.json").await,
    );
    let Scene {
        server: old,
        folder,
        metrics,
        names,
    } = scene;
    drop(old);
    let access = Gatekeeper::fixed(Access::open_to_all());
    let server = server(folder.path(), access, Options::default(), &metrics).await;
    let scene = Scene {
        server,
        folder,
        metrics,
        names,
    };
    assert_eq!(scene.found("timestamp.json").await, file);
    assert_eq!(scene.key(Method::GET, "timestamp").await.id(), key.id());
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_who_and_what() {
    let scene = Scene::new(Options::default()).await;
    scene.publish(&Owner::new()).await;
    scene.delete().await;
    let entries = scene.audited();
    let events: Vec<_> = entries
        .iter()
        .map(|entry| entry["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["key", "key", "publish", "delete"]);
    let publish = &entries[2];
    assert_eq!(publish["gun"], GUN);
    assert_eq!(publish["by"], "anonymous");
    assert_eq!(publish["peer"], "192.0.2.7:40000");
    let roles: Vec<_> = publish["files"].as_array().unwrap().iter().collect();
    assert_eq!(roles.len(), 4);
    for file in roles {
        assert_eq!(file["keys"].as_array().unwrap().len(), 1, "{file}");
        assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
    }
}

#[tokio::test]
async fn the_changefeed_tells_of_updates_and_deletions() {
    let scene = Scene::new(Options::default()).await;
    scene.publish(&Owner::new()).await;
    scene.delete().await;
    let path = format!("/v2/{GUN}/_trust/changefeed?records=10");
    let response = scene
        .call(Method::GET, &path, HeaderMap::new(), Bytes::new())
        .await;
    let feed: Value = serde_json::from_slice(response.body()).unwrap();
    let categories: Vec<_> = feed["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["Category"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(categories, ["update", "deletion"]);
}

#[tokio::test]
async fn the_name_of_a_role_is_taken_as_it_is_sent() {
    let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
    scene.publish(&owner).await;
    let stray = SignedFile {
        role: "targets/releases".parse::<Role>().unwrap(),
        ..owner.initial(
            &scene.key(Method::GET, "snapshot").await,
            &scene.key(Method::GET, "timestamp").await,
        )[1]
        .clone()
    };
    let refused = scene.upload(&[stray]).await;
    let body = String::from_utf8_lossy(refused.body()).into_owned();
    assert!(
        body.contains("targets/releases") && body.contains("ErrBadTargets"),
        "{body}"
    );
}

/// Anybody may read, so anybody could have the whole repository verified as often as they like.
#[tokio::test]
async fn who_reads_what_cannot_be_renewed_over_and_over_has_it_tried_once() {
    let options = Options {
        timestamp_life: Duration::ZERO,
        ..Options::default()
    };
    let scene = Scene::new(options).await;
    scene.publish(&Owner::new()).await;
    let database = rusqlite::Connection::open(scene.folder.path().join("trust.sqlite")).unwrap();
    let damage =
        "UPDATE file SET bytes = CAST(replace(CAST(bytes AS TEXT), '1', '2') AS BLOB) WHERE role = 'targets'";
    assert_eq!(database.execute(damage, []).unwrap(), 1);
    let reads = (0..8).map(|_| scene.get("timestamp.json"));
    for answer in futures_util::future::join_all(reads).await {
        assert_eq!(answer.status(), StatusCode::OK, "it is served as it is");
    }
    assert!(scene.counted("countersign_server_renewals_total{result=\"error\"} 1"));
}

/// §8.6.10: who hangs up at the right moment has changed something all the same.
#[tokio::test]
async fn a_publisher_who_hangs_up_is_in_the_audit_log_all_the_same() {
    // At which moment it is too late to stop it differs from time to time.
    for attempt in 0..300 {
        let patience = 1 + attempt % 10;
        let (scene, owner) = (Scene::new(Options::default()).await, Owner::new());
        let files = owner.initial(
            &scene.key(Method::GET, "snapshot").await,
            &scene.key(Method::GET, "timestamp").await,
        );
        let mut polls = 0;
        let mut upload = Box::pin(scene.upload(&files));
        let hung_up = std::future::poll_fn(|context| {
            polls += 1;
            match upload.as_mut().poll(context) {
                std::task::Poll::Ready(_) => std::task::Poll::Ready(false),
                std::task::Poll::Pending if polls == patience => std::task::Poll::Ready(true),
                std::task::Poll::Pending => std::task::Poll::Pending,
            }
        })
        .await;
        drop(upload);
        scene.server.settle().await;
        let stored = scene.get("root.json").await.status() == StatusCode::OK;
        let told = scene.audited().iter().any(|entry| entry["event"] == "publish");
        assert_eq!(told, stored, "after {patience} polls");
        if stored && hung_up {
            return;
        }
    }
    panic!("no moment was too late to stop it");
}

#[tokio::test]
async fn a_shared_cache_keeps_nothing_that_a_certificate_opened() {
    let rules = "clientCertificates: true\n\
                 rules: [{who: ['certificate:alice'], repositories: ['**'], actions: [pull, push]}]\n";
    let mut scene = Scene::ruled(rules).await;
    scene.names = vec!["alice".to_owned()];
    assert_eq!(scene.publish(&Owner::new()).await, StatusCode::OK);
    let answer = scene.get("targets.json").await;
    let told = answer.headers()[CACHE_CONTROL].to_str().unwrap();
    assert!(
        told.starts_with("private, ") && !told.contains("s-maxage"),
        "{told}"
    );
    scene.names.clear();
    assert_eq!(scene.get("targets.json").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_update_too_many_is_refused_by_its_head_alone() {
    let scene = Scene::ruled("anonymous: [pull, push]\nlimits: {publishesPerMinute: 2}\n").await;
    let head = Call {
        method: Method::POST,
        uri: format!("/v2/{GUN}/_trust/tuf/").parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        peer: Peer {
            address: "192.0.2.7:40000".parse().unwrap(),
            names: Vec::new(),
        },
    };
    for _ in 0..2 {
        assert!(scene.server.admit(&head).await.is_ok());
    }
    let refused = scene.server.admit(&head).await.unwrap_err();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
}

/// Every way in which a path can be written leads to the same question, or nowhere.
#[tokio::test]
async fn no_spelling_of_a_path_opens_a_private_repository() {
    let rules = "clientCertificates: true\n\
                 rules: [{who: ['certificate:alice'], repositories: ['registry.example.com/team/'], actions: [pull, push]},\n\
                 {who: ['certificate:mallory'], repositories: ['registry.example.com/open/'], actions: ['*']}]\n";
    let mut scene = Scene::ruled(rules).await;
    scene.names = vec!["alice".to_owned()];
    assert_eq!(scene.publish(&Owner::new()).await, StatusCode::OK);
    let targets = hex::encode(sha256(&scene.found("targets.json").await));
    scene.names = vec!["mallory".to_owned(), "registry.example.com/team/".to_owned()];
    for (method, path) in [
        ("GET", format!("{GUN}/_trust/tuf/targets.json")),
        ("HEAD", format!("{GUN}/_trust/tuf/targets.json")),
        ("GET", format!("{GUN}/_trust/tuf/targets.{targets}.json")),
        ("GET", format!("{GUN}/_trust/tuf/1.targets.json")),
        ("GET", format!("{GUN}/_trust/changefeed?records=1")),
        ("GET", "_trust/changefeed?records=1".to_owned()),
        ("GET", format!("{GUN}/_trust/tuf/timestamp.key")),
        ("POST", format!("{GUN}/_trust/tuf/timestamp.key")),
        ("POST", format!("{GUN}/_trust/tuf/")),
        ("DELETE", format!("{GUN}/_trust/tuf/")),
        (
            "GET",
            "registry.example.com%2Fteam%2Fapp/_trust/tuf/targets.json".to_owned(),
        ),
        (
            "GET",
            "registry.example.com/%74eam/app/_trust/tuf/targets.json".to_owned(),
        ),
        (
            "GET",
            "registry.example.com/open/../team/app/_trust/tuf/targets.json".to_owned(),
        ),
        (
            "GET",
            "registry.example.com/open/%2e%2e/team/app/_trust/tuf/targets.json".to_owned(),
        ),
        (
            "GET",
            "registry.example.com//team/app/_trust/tuf/targets.json".to_owned(),
        ),
        (
            "GET",
            "registry.example.com/Team/app/_trust/tuf/targets.json".to_owned(),
        ),
        (
            "GET",
            "REGISTRY.example.com/team/app/_trust/tuf/targets.json".to_owned(),
        ),
        (
            "GET",
            format!("registry.example.com/open/x/_trust/tuf/targets.{targets}.json"),
        ),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = scene
            .call(
                method.clone(),
                &format!("/v2/{path}"),
                HeaderMap::new(),
                Bytes::new(),
            )
            .await;
        let status = answer.status().as_u16();
        assert!([301, 401, 404].contains(&status), "{method} {path}: {status}");
        assert!(!answer.headers().contains_key(ETAG), "{method} {path}");
    }
    scene.names = vec!["alice".to_owned()];
    assert_eq!(
        version(&scene.found("timestamp.json").await),
        1,
        "nothing was changed"
    );
}

#[tokio::test]
async fn whoever_may_publish_may_neither_delete_nor_rotate() {
    let scene = Scene::ruled("anonymous: [pull, push]\n").await;
    assert_eq!(scene.publish(&Owner::new()).await, StatusCode::OK);
    assert_eq!(scene.delete().await, StatusCode::UNAUTHORIZED);
    let path = format!("/v2/{GUN}/_trust/tuf/timestamp.key");
    let rotated = scene
        .call(Method::POST, &path, HeaderMap::new(), Bytes::new())
        .await;
    assert_eq!(rotated.status(), StatusCode::UNAUTHORIZED);
    let feed = "/v2/_trust/changefeed?records=1";
    let feed = scene
        .call(Method::GET, feed, HeaderMap::new(), Bytes::new())
        .await;
    assert_eq!(
        feed.status(),
        StatusCode::UNAUTHORIZED,
        "what happens elsewhere is not theirs to know"
    );
}

#[tokio::test]
async fn keys_cannot_be_made_by_the_thousand() {
    let scene = Scene::ruled("anonymous: [pull, push]\nlimits: {keysPerMinute: 1}\n").await;
    let mut made = 0;
    for i in 0..10 {
        let path = format!("/v2/registry.example.com/x{i}/_trust/tuf/timestamp.key");
        let answer = scene
            .call(Method::GET, &path, HeaderMap::new(), Bytes::new())
            .await;
        made += u32::from(answer.status() == StatusCode::OK);
    }
    assert_eq!((made, scene.audited().len()), (1, 1));
}

#[tokio::test]
async fn repositories_outside_of_the_hosted_names_are_not_there() {
    let scene = Scene::ruled("anonymous: ['*']\ngunPrefixes: ['registry.example.com/other/']\n").await;
    assert_eq!(scene.get("root.json").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(scene.get("timestamp.key").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(scene.delete().await, StatusCode::NOT_FOUND);
    let refused = scene.upload(&[]).await;
    assert_eq!(code(&refused), "INVALID_GUN");
    assert!(scene.audited().is_empty());
}

/// What is due is looked at the most urgent first, so many at a time: what is never done must not keep a place.
#[tokio::test]
async fn repositories_that_are_noted_as_due_and_are_not_do_not_keep_others_from_being_renewed() {
    let scene = Scene::new(Options::default()).await;
    scene.publish(&Owner::new()).await;
    let (gun, now): (Gun, _) = (GUN.parse().unwrap(), countersign::clock::now());
    let storage = Sqlite::open(scene.folder.path()).await.unwrap();
    storage.postpone(&gun, now).await.unwrap();
    let ending = CancellationToken::new();
    let done = async {
        while !storage.due(now, 64).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        ending.cancel();
    };
    let kept = scene.server.clone().keep(|_| (), ending.clone());
    tokio::time::timeout(Duration::from_secs(30), futures_util::future::join(kept, done))
        .await
        .unwrap();
    assert_eq!(version(&scene.found("timestamp.json").await), 1, "it was not due");
}

/// §2.1: what watches an old server watches this one, and knows no password.
#[tokio::test]
async fn everybody_may_ask_whether_the_server_is_well() {
    let hash = hex::encode(sha256(b"a token that somebody has"));
    let scene = Scene::ruled(&format!("tokens:\n- {{name: ci, sha256: {hash}}}\n")).await;
    for (path, status) in [
        ("/_notary_server/health", StatusCode::OK),
        ("/v2/", StatusCode::UNAUTHORIZED),
    ] {
        let response = scene
            .call(Method::GET, path, HeaderMap::new(), Bytes::new())
            .await;
        assert_eq!(response.status(), status, "{path}");
        if status == StatusCode::OK {
            assert_eq!(response.body(), "{}");
        }
    }
}

/// Lives were shortened: what was due by the longer ones is not by these, and is found first each time.
#[tokio::test]
async fn what_is_not_due_after_all_keeps_nobody_waiting() {
    /// More than are looked at together.
    const STRAYS: usize = 65;
    let scene = Scene::new(Options::default()).await;
    scene.publish(&Owner::new()).await;
    let now = countersign::clock::now();
    let storage = Sqlite::open(scene.folder.path()).await.unwrap();
    let gun: Gun = GUN.parse().unwrap();
    let files = storage.repository(&gun).await.unwrap().unwrap().files;
    for stray in 0..STRAYS {
        let change = Change {
            files: files.clone(),
            dropped: BTreeSet::new(),
            renew_at: Some(jiff::Timestamp::UNIX_EPOCH),
            keys_used: BTreeSet::new(),
            at: now,
        };
        let stray = format!("{GUN}/{stray}").parse().unwrap();
        let _stored = storage.commit(&stray, 0, change).await.unwrap();
    }
    storage.delete(&gun, now).await.unwrap();
    let open = || Gatekeeper::fixed(Access::open_to_all());
    let hasty = Options {
        timestamp_life: Duration::ZERO,
        ..Options::default()
    };
    let hasty = server(scene.folder.path(), open(), hasty, &scene.metrics).await;
    let scene = Scene {
        server: hasty,
        ..scene
    };
    assert_eq!(scene.publish(&Owner::new()).await, StatusCode::OK);
    let patient = server(scene.folder.path(), open(), Options::default(), &scene.metrics).await;
    let keeping = patient.keep(|_| {}, CancellationToken::new());
    let renewed = async {
        // Not by asking the server, which would renew it on the spot.
        while storage
            .current(&gun, &Role::Timestamp)
            .await
            .unwrap()
            .is_none_or(|file| file.version == 2)
        {}
    };
    tokio::select! {
        () = keeping => panic!("the server stopped looking after what it has"),
        renewed = tokio::time::timeout(Duration::from_secs(60), renewed) => renewed.unwrap(),
    }
}
