//! A trust server without sockets: calls in, answers out, on a database in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::reference::Gun;
use countersign::telemetry::Metrics;
use countersign::trustserver::access::{Access, Gatekeeper, Peer};
use countersign::trustserver::audit::Audit;
use countersign::trustserver::http::Call;
use countersign::trustserver::seal::{OperatorKey, Sealer};
use countersign::trustserver::service::{Options, TrustServer};
use countersign::trustserver::storage::sqlite::Sqlite;
use countersign::trustserver::storage::{Change, Storage as _};
use countersign::tuf::edit::{Draft, SignedFile, Terms};
use countersign::tuf::{Algorithm, KeyId, PrivateKey, PublicKey, Role, sha256};
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const GUN: &str = "registry.example.com/team/app";
/// Text of 32 bytes in hex.
const SEALING_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

struct Scene {
    server: TrustServer<Sqlite>,
    folder: TempDir,
}

async fn server(folder: &std::path::Path, access: Gatekeeper, options: Options) -> TrustServer<Sqlite> {
    let storage = Sqlite::open(folder).await.unwrap();
    let key = OperatorKey::of_text(SEALING_KEY).unwrap();
    let sealer = Sealer::open(&storage, &key).await.unwrap();
    let audit = Audit::to_file(&folder.join("audit.log")).unwrap();
    let metrics = Arc::new(Metrics::default());
    TrustServer::new(storage, sealer, Arc::new(access), audit, options, metrics)
}

impl Scene {
    async fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let access = Gatekeeper::fixed(Access::open_to_all());
        Self {
            server: server(folder.path(), access, options).await,
            folder,
        }
    }

    async fn call(&self, method: Method, path: &str, headers: HeaderMap, body: Bytes) -> Response<Bytes> {
        let call = Call {
            method,
            uri: path.parse().unwrap(),
            headers,
            body,
            peer: Peer {
                address: "192.0.2.7:40000".parse().unwrap(),
                names: Vec::new(),
            },
        };
        self.server.answer(call).await
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
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)]);
        let path = format!("/v2/{GUN}/_trust/tuf/");
        self.call(Method::POST, &path, headers, body.into()).await
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
        let now = Timestamp::now();
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
    let head = scene
        .call(Method::HEAD, &path, HeaderMap::new(), Bytes::new())
        .await;
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, 0));
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
    let Scene { server: old, folder } = scene;
    drop(old);
    let access = Gatekeeper::fixed(Access::open_to_all());
    let server = server(folder.path(), access, Options::default()).await;
    let scene = Scene { server, folder };
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

/// §2.1: what watches an old server watches this one, and knows no password.
#[tokio::test]
async fn everybody_may_ask_whether_the_server_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("access.yaml");
    let hash = hex::encode(sha256(b"a token that somebody has"));
    std::fs::write(&rules, format!("tokens:\n- {{name: ci, sha256: {hash}}}\n")).unwrap();
    let access = Gatekeeper::open(rules).unwrap();
    let scene = Scene {
        server: server(folder.path(), access, Options::default()).await,
        folder,
    };
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
    let Scene {
        server: first,
        folder,
    } = {
        let scene = Scene::new(Options::default()).await;
        scene.publish(&Owner::new()).await;
        scene
    };
    let storage = Sqlite::open(folder.path()).await.unwrap();
    let gun: Gun = GUN.parse().unwrap();
    let files = storage.repository(&gun).await.unwrap().unwrap().files;
    for stray in 0..STRAYS {
        let change = Change {
            files: files.clone(),
            dropped: BTreeSet::new(),
            renew_at: Some(Timestamp::UNIX_EPOCH),
            keys_used: BTreeSet::new(),
            at: countersign::clock::now(),
        };
        let stray = format!("{GUN}/{stray}").parse().unwrap();
        let _stored = storage.commit(&stray, 0, change).await.unwrap();
    }
    storage.delete(&gun, countersign::clock::now()).await.unwrap();
    drop(first);
    let open = || Gatekeeper::fixed(Access::open_to_all());
    let hasty = Options {
        timestamp_life: Duration::ZERO,
        ..Options::default()
    };
    let scene = Scene {
        server: server(folder.path(), open(), hasty).await,
        folder,
    };
    assert_eq!(scene.publish(&Owner::new()).await, StatusCode::OK);
    let patient = server(scene.folder.path(), open(), Options::default()).await;
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
