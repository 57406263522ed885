//! The commands against a server that takes publications, and lies.

use std::process::{Output, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use countersign::tuf::sha256;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::ledger::Ledgers;
use crate::repo::{GUN, Repo};
use crate::trust_server::{Fault, TrustServer, Wants};

const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const PASSPHRASE: &str = "a passphrase nobody prints";
pub(super) const DIGEST: &str = "sha256:183f0249d5f05b52ae8b9b3f7c9ba895708f3e5a32aab808814b84a2acb5497a";

/// A publisher with a folder of their own, and a server that takes their publications.
pub(super) struct World {
    pub(super) server: TrustServer,
    pub(super) ledgers: Ledgers,
    pub(super) folder: TempDir,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let ended = Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        let said = format!("{}{}", ended.out, ended.err);
        assert!(!said.contains(PASSPHRASE), "a secret was printed: {said}");
        ended
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::wanting(Wants::Nothing).await
    }

    async fn wanting(wants: Wants) -> Self {
        let server = TrustServer::builder().wants(wants).start().await;
        let ledgers = Ledgers::default();
        ledgers.open(&server, GUN);
        let folder = tempfile::tempdir().unwrap();
        Self {
            server,
            ledgers,
            folder,
        }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin!("countersign"));
        command
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .arg("trust")
            .args(arguments)
            .env("COUNTERSIGN_TRUST_SERVER", self.server.url())
            .env("DOCKER_CONFIG", self.folder.path())
            .env("DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE", PASSPHRASE)
            .env("DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE", PASSPHRASE);
        command
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output();
        timeout(PATIENCE, output).await.unwrap().unwrap().into()
    }

    pub(super) async fn does(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments).await;
        assert_eq!(ended.status, Some(0), "{arguments:?}: {ended:?}");
        ended
    }

    /// Signs a tag without asking a registry.
    pub(super) async fn sign(&self, tag: &str) -> Ended {
        let image = format!("{GUN}:{tag}");
        self.run(&["sign", &image, "--digest", DIGEST, "--size", "1000"])
            .await
    }

    pub(super) fn version(&self, role: &str) -> u64 {
        self.ledgers.of(GUN, |ledger| ledger.version(role))
    }

    /// How many key files there are.
    pub(super) fn keys(&self) -> usize {
        let folder = self.folder.path().join("trust/private");
        let Ok(files) = std::fs::read_dir(folder) else {
            return 0;
        };
        let is_key = |path: std::path::PathBuf| path.extension().is_some_and(|it| it == "key");
        files.filter(|file| is_key(file.as_ref().unwrap().path())).count()
    }

    pub(super) fn uploads(&self) -> usize {
        let posted = |logged: &&crate::trust_server::Logged| {
            logged.method == "POST" && logged.target.ends_with("/tuf/")
        };
        self.server.requests().iter().filter(posted).count()
    }

    /// The tags that `inspect` shows.
    pub(super) async fn tags(&self) -> Vec<String> {
        let ended = self.does(&["inspect", GUN, "--output", "json"]).await;
        let inspected: Value = serde_json::from_str(&ended.out).unwrap();
        let tags = inspected[0]["SignedTags"].as_array().unwrap().iter();
        tags.map(|tag| tag["SignedTag"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Alice's key in the key store, and its public half in a file.
    pub(super) async fn alice(&self) -> String {
        self.key_of("alice").await
    }

    /// A signer's key in the key store, and its public half in a file.
    pub(super) async fn key_of(&self, signer: &str) -> String {
        let folder = self.folder.path().to_str().unwrap();
        self.does(&["key", "generate", signer, "--dir", folder]).await;
        format!("{folder}/{signer}.pub")
    }
}

pub(super) fn error(code: &str, detail: &Value) -> String {
    json!({"errors": [{"code": code, "message": "m", "detail": detail}]}).to_string()
}

#[tokio::test]
async fn without_a_tag_it_is_explained_that_trust_belongs_to_tags() {
    let world = World::new().await;
    for command in ["sign", "revoke"] {
        let ended = world.run(&[command, GUN]).await;
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.err.contains("trust belongs to the tags"), "{ended:?}");
    }
    assert_eq!((world.server.requests().len(), world.keys()), (0, 0));
}

#[tokio::test]
async fn each_operation_asks_for_a_token_that_allows_it_and_no_more() {
    let world = World::wanting(Wants::Token("alice", "hunter2")).await;
    let config = json!({"auths": {"registry.example.com": {"username": "alice", "password": "hunter2"}}});
    std::fs::write(world.folder.path().join("config.json"), config.to_string()).unwrap();
    assert_eq!(world.sign("1.0").await.status, Some(0));
    world.does(&["rotate", "timestamp", GUN]).await;
    let asked = |actions: &str| {
        let scope = format!("scope=repository%3Aregistry.example.com%2Fteam%2Fapp%3A{actions}&");
        world
            .server
            .requests()
            .iter()
            .filter(|it| it.target.contains(&scope))
            .count()
    };
    assert!(asked("pull") > 0 && asked("push%2Cpull") > 0);
    assert_eq!(asked("*"), 1, "only to rotate the server's key");
}

#[tokio::test]
async fn a_conflict_is_retried_on_what_the_other_publisher_made() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    for (status, code) in [(400, "VERSION"), (500, "UPDATING")] {
        let fault = Fault::Status(status, Vec::new(), error(code, &json!({})));
        world.server.misbehave_times(3, "/_trust/tuf/", fault);
        let ended = world.sign(code).await;
        assert_eq!(ended.status, Some(0), "{ended:?}");
    }
    assert_eq!(world.tags().await, ["1.0", "UPDATING", "VERSION"]);
}

#[tokio::test]
async fn a_beginning_that_the_server_could_not_store_is_tried_again() {
    let world = World::new().await;
    for (tag, status, code) in [("1.0", 500, "UPDATING"), ("2.0", 400, "VERSION")] {
        let fault = Fault::Status(status, Vec::new(), error(code, &json!({})));
        world.server.misbehave_times(2, "/_trust/tuf/", fault);
        let ended = world.sign(tag).await;
        assert_eq!(ended.status, Some(0), "{ended:?}");
    }
    assert_eq!((world.keys(), world.version("targets")), (2, 2));
}

#[tokio::test]
async fn a_beginning_whose_answer_gets_lost_is_found_out_by_looking() {
    let world = World::new().await;
    world.ledgers.lose_answers(GUN, 1);
    let ended = world.sign("1.0").await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!((world.keys(), world.version("targets")), (2, 1));
}

#[tokio::test]
async fn a_conflict_without_end_is_told_as_not_known_and_not_for_ever() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let before = world.uploads();
    let fault = Fault::Status(400, Vec::new(), error("VERSION", &json!({})));
    world.server.misbehave("/_trust/tuf/", fault);
    let ended = world.sign("2.0").await;
    assert_eq!(ended.status, Some(3), "{ended:?}");
    assert_eq!(world.uploads() - before, 12);
}

#[tokio::test]
async fn an_answer_that_gets_lost_is_found_out_by_looking() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    world.ledgers.lose_answers(GUN, 1);
    let ended = world.sign("2.0").await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(
        (world.tags().await.len(), world.version("targets")),
        (2, 2),
        "signed once"
    );
}

#[tokio::test]
async fn a_server_that_serves_a_rollback_gets_no_signature() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let old = world
        .ledgers
        .of(GUN, |ledger| (ledger.files.clone(), ledger.current.clone()));
    assert_eq!(world.sign("2.0").await.status, Some(0));
    world
        .ledgers
        .of(GUN, |ledger| (ledger.files, ledger.current) = old);
    let before = world.uploads();
    let ended = world.sign("3.0").await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.err.contains("was seen before"), "{ended:?}");
    assert_eq!(world.uploads(), before, "nothing was sent");
}

#[tokio::test]
async fn a_server_that_lies_about_its_key_makes_no_repository() {
    let world = World::new().await;
    let public = std::fs::read_to_string(world.alice().await).unwrap();
    let lines = public
        .lines()
        .filter(|line| !line.contains(':') && !line.starts_with('-'));
    let ours: String = lines.collect();
    let listed = |keytype: &str, public: &str| {
        json!({"keytype": keytype, "keyval": {"public": public, "private": null}}).to_string()
    };
    for (label, answer) in [
        ("one of ours", listed("ecdsa", &ours)),
        ("of no known type", listed("dsa", "aGVsbG8=")),
        ("no key", "{}".to_owned()),
    ] {
        world
            .server
            .misbehave("timestamp.key", Fault::Status(200, Vec::new(), answer));
        let ended = world.sign("1.0").await;
        assert_eq!(ended.status, Some(1), "{label}: {ended:?}");
        world.server.behave();
    }
    assert_eq!(world.uploads(), 0);
}

#[tokio::test]
async fn a_repository_made_up_around_our_key_gets_no_signature() {
    let world = World::new().await;
    world.alice().await;
    // Somebody else's repository, signed by keys that are not ours.
    for (name, bytes) in Repo::new()
        .expires("timestamp", "2090-01-01T00:00:00Z")
        .publish()
        .0
    {
        world.ledgers.of(GUN, |ledger| ledger.files.0.insert(name, bytes));
    }
    for arguments in [&["sign", "--digest", DIGEST, "--size", "1"][..], &["witness"]] {
        let image = format!("{GUN}:1.0");
        let tail: &[&str] = if arguments[0] == "sign" {
            &[&image]
        } else {
            &[GUN, "targets"]
        };
        let ended = world.run(&[arguments, tail].concat()).await;
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.err.contains("--tofu"), "{ended:?}");
    }
    assert_eq!(world.uploads(), 0);
}

#[tokio::test]
async fn what_the_registry_says_of_a_digest_is_not_believed() {
    let world = World::new().await;
    let host = world.server.address().to_string();
    let gun = format!("{host}/team/app");
    world.ledgers.open(&world.server, &gun);
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    let digest = format!("sha256:{}", hex::encode(sha256(index.as_bytes())));
    let kind = (
        "content-type",
        "application/vnd.oci.image.index.v1+json".to_owned(),
    );
    let said = |digest: &str| ("docker-content-digest", digest.to_owned());
    let image = format!("{gun}:1.0");
    let sign = async |headers: Vec<(&'static str, String)>, arguments: &[&str]| {
        world.server.behave();
        world
            .server
            .misbehave("manifests/1.0", Fault::Status(200, headers, index.to_owned()));
        world.run(&[&["sign", &image], arguments].concat()).await
    };
    let lie = sign(vec![kind.clone(), said(DIGEST)], &[]).await;
    assert_eq!(lie.status, Some(1), "{lie:?}");
    let other = sign(vec![kind.clone(), said(&digest)], &["--digest", DIGEST]).await;
    assert_eq!(other.status, Some(1), "{other:?}");
    assert!(other.err.contains("nothing was signed"), "{other:?}");
    let page = sign(vec![("content-type", "text/html".to_owned())], &[]).await;
    assert_eq!(page.status, Some(1), "{page:?}");
    assert_eq!((world.uploads(), world.keys()), (0, 0));
    let honest = sign(vec![kind, said(&digest)], &["--digest", &digest]).await;
    assert_eq!(honest.status, Some(0), "{honest:?}");
    assert!(
        honest.err.contains(&digest),
        "the index is kept whole: {honest:?}"
    );
}

#[tokio::test]
async fn a_server_that_cuts_role_names_is_told_as_what_it_is() {
    let world = World::new().await;
    let public = world.alice().await;
    world
        .does(&["signer", "add", "alice", GUN, "--key", &public])
        .await;
    let fault = Fault::Status(400, Vec::new(), error("INVALID_ROLE", &json!("alice")));
    world.server.misbehave("/_trust/tuf/", fault);
    let ended = world.sign("1.0").await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(
        ended.err.contains("cuts targets/alice down to its last part"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn an_interrupted_beginning_is_taken_up_with_the_same_keys() {
    let world = World::new().await;
    let fault = Fault::Status(500, Vec::new(), String::new());
    world.server.misbehave("/_trust/tuf/", fault);
    let ended = world.sign("1.0").await;
    assert_eq!(ended.status, Some(3), "{ended:?}");
    assert_eq!(world.keys(), 2);
    world.server.behave();
    assert_eq!(world.sign("1.0").await.status, Some(0));
    assert_eq!((world.keys(), world.version("targets")), (2, 1));
}

#[tokio::test]
async fn a_rotation_that_fails_leaves_the_old_key_and_one_that_succeeds_removes_it() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let fault = Fault::Status(500, Vec::new(), String::new());
    world.server.misbehave("/_trust/tuf/", fault);
    assert_eq!(world.run(&["rotate", "targets", GUN]).await.status, Some(3));
    assert_eq!(world.keys(), 3, "root, the old key of targets, and the new one");
    world.server.behave();
    assert_eq!(world.sign("2.0").await.status, Some(0), "the old key still signs");
    world.does(&["rotate", "targets", GUN]).await;
    assert_eq!(
        world.keys(),
        3,
        "root, the key of the attempt that failed, and the one of now: the old one is gone"
    );
    assert_eq!(world.sign("3.0").await.status, Some(0));
}

#[tokio::test]
async fn a_dry_run_sends_nothing_and_makes_no_key() {
    let world = World::new().await;
    let image = format!("{GUN}:1.0");
    let sign = ["sign", &image, "--digest", DIGEST, "--size", "1000", "--dry-run"];
    let ended = world.does(&sign).await;
    assert!(ended.out.contains("would be initialised"), "{ended:?}");
    assert_eq!((world.uploads(), world.keys()), (0, 0));
    assert_eq!(world.sign("0.9").await.status, Some(0));
    let public = world.alice().await;
    let (uploads, keys) = (world.uploads(), world.keys());
    for arguments in [
        &sign[..],
        &["revoke", &format!("{GUN}:0.9"), "--dry-run"],
        &["signer", "add", "alice", GUN, "--key", &public, "--dry-run"],
        &["rotate", "root", GUN, "--dry-run"],
        &["rotate", "root", GUN, "--reissue", "--dry-run"],
        &["rotate", "timestamp", GUN, "--dry-run"],
        &["witness", GUN, "targets", "--dry-run"],
        &["delete", GUN, "--dry-run"],
    ] {
        world.does(arguments).await;
    }
    assert_eq!((world.uploads(), world.keys()), (uploads, keys));
    let changes = |it: &crate::trust_server::Logged| {
        it.method == "DELETE" || it.target.contains("timestamp.key") && it.method == "POST"
    };
    assert!(!world.server.requests().iter().any(changes));
}

#[tokio::test]
async fn a_revoked_tag_that_others_still_sign_is_told_loudly() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let public = world.alice().await;
    world
        .does(&["signer", "add", "alice", GUN, "--key", &public])
        .await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    // The owner's key is elsewhere: alice can withdraw her word, not the owner's.
    let owner = world.folder.path().join("trust/private");
    for file in std::fs::read_dir(&owner).unwrap() {
        let path = file.unwrap().path();
        if std::fs::read_to_string(&path).is_ok_and(|text| text.contains("role: targets")) {
            std::fs::remove_file(path).unwrap();
        }
    }
    let ended = world.does(&["revoke", &format!("{GUN}:1.0")]).await;
    assert!(ended.err.contains("IS STILL SIGNED in targets"), "{ended:?}");
    assert_eq!(world.tags().await, ["1.0"]);
}

#[tokio::test]
async fn the_last_signer_goes_only_by_force_where_that_takes_released_tags_along() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let public = world.alice().await;
    world
        .does(&["signer", "add", "alice", GUN, "--key", &public])
        .await;
    assert_eq!(world.sign("2.0").await.status, Some(0));
    let kept = world.run(&["signer", "remove", "alice", GUN]).await;
    assert_eq!(kept.status, Some(1), "{kept:?}");
    assert_eq!(world.tags().await, ["1.0", "2.0"]);
    let removed = world.does(&["signer", "remove", "alice", GUN, "--force"]).await;
    assert!(removed.err.contains("went with its last signer"), "{removed:?}");
    assert_eq!(world.tags().await, ["1.0"]);
}

#[tokio::test]
async fn a_server_that_is_down_is_not_a_no() {
    let world = World::new().await;
    let mut command = world.command(&["inspect", GUN]);
    command.env("COUNTERSIGN_TRUST_SERVER", "http://127.0.0.1:9");
    let ended: Ended = timeout(PATIENCE, command.output()).await.unwrap().unwrap().into();
    assert_eq!(ended.status, Some(3), "{ended:?}");
    let mut command = world.command(&["inspect", GUN]);
    command
        .env_remove("COUNTERSIGN_TRUST_SERVER")
        .env("DOCKER_CONTENT_TRUST_SERVER", "http://127.0.0.1:9");
    let ended: Ended = timeout(PATIENCE, command.output()).await.unwrap().unwrap().into();
    assert_eq!(
        ended.status,
        Some(2),
        "docker's variable is https or nothing: {ended:?}"
    );
}
