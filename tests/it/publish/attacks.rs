//! What servers and people with a hand in the key store try with a publisher.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use countersign::keystore::KeyStore;
use countersign::tuf::{Algorithm, PrivateKey};
use serde_json::{Value, json};

use super::commands::{DIGEST, World, error};
use crate::repo::{GUN, Repo};
use crate::trust_server::Fault;

impl World {
    fn trust(&self) -> PathBuf {
        self.folder.path().join("trust")
    }

    fn store(&self) -> KeyStore {
        KeyStore::new(&self.trust())
    }

    /// Has the server show a repository that others have made.
    fn show_another(&self) {
        let files = Repo::new().expires("timestamp", "2090-01-01T00:00:00Z").publish();
        self.ledgers.of(GUN, |ledger| ledger.files.0.extend(files.0));
    }

    /// What is in the store, by role.
    fn ids(&self, role: &str) -> BTreeSet<String> {
        let listing = self.store().list().unwrap();
        let keys = listing.of_role(role, None).into_iter();
        keys.map(|key| key.id.to_string()).collect()
    }

    /// Puts a key in clear into the store, below what it claims to be.
    fn plant(&self, labels: &str) -> String {
        let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
        let id = key.id().to_string();
        let folder = self.trust().join("private");
        fs::create_dir_all(&folder).unwrap();
        let pem = pem("PRIVATE KEY", labels, &key.encode().unwrap());
        fs::write(folder.join(format!("{id}.key")), pem).unwrap();
        id
    }

    /// The key ids that root lists for a role.
    fn listed(&self, role: &str) -> BTreeSet<String> {
        let root = self.ledgers.of(GUN, |ledger| ledger.current["root"].clone());
        let root: Value = serde_json::from_slice(&root).unwrap();
        let ids = root["signed"]["roles"][role]["keyids"].as_array().unwrap();
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }
}

fn pem(label: &str, headers: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let data = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{headers}\n{data}\n-----END {label}-----\n")
}

#[tokio::test]
async fn attack_a_made_up_repository_that_was_only_looked_at_gets_no_signature() {
    let world = World::new().await;
    world.alice().await;
    world.show_another();
    for command in [
        &["inspect", GUN][..],
        &["signer", "list", GUN],
        &["diff", GUN, "--from", "1", "--to-version", "1"],
    ] {
        let looked = world.run(command).await;
        assert_eq!(looked.status, Some(0), "{looked:?}");
    }
    let signed = world.sign("1.0").await;
    assert_eq!(signed.status, Some(2), "{signed:?}");
    assert!(signed.err.contains("was never seen from here"), "{signed:?}");
}

#[tokio::test]
async fn attack_a_repository_shown_in_place_of_the_one_that_was_made_is_not_believed_later() {
    let world = World::new().await;
    world.show_another();
    let absent = Fault::Status(
        404,
        Vec::new(),
        r#"{"errors":[{"code":"METADATA_NOT_FOUND"}]}"#.to_owned(),
    );
    world.server.misbehave_times(1, "root.json", absent);
    let taken = Fault::Status(200, Vec::new(), String::new());
    world.server.misbehave("/_trust/tuf/", taken);
    let made = world.sign("1.0").await;
    assert_eq!(made.status, Some(1), "{made:?}");
    world.server.behave();
    let again = world.sign("1.0").await;
    assert_eq!(again.status, Some(2), "{again:?}");
    assert!(again.err.contains("--tofu"), "{again:?}");
}

#[tokio::test]
async fn attack_a_server_that_takes_a_publication_and_goes_on_without_it_is_told() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let taken = Fault::Status(200, Vec::new(), String::new());
    world.server.misbehave("/_trust/tuf/", taken);
    let dropped = world.sign("2.0").await;
    assert_eq!(dropped.status, Some(1), "{dropped:?}");
    assert!(dropped.err.contains("than were published"), "{dropped:?}");
}

#[tokio::test]
async fn attack_a_root_key_in_clear_that_somebody_put_there_founds_no_repository() {
    let world = World::new().await;
    let planted = world.plant("role: root\n");
    let ended = world.sign("1.0").await;
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(ended.err.contains("is not encrypted, so anybody"), "{ended:?}");
    assert_eq!(world.uploads(), 0);
    let named = world.run(&["init", GUN, "--with-root", &planted]).await;
    assert_eq!(named.status, Some(2), "{named:?}");
    fs::remove_file(world.trust().join(format!("private/{planted}.key"))).unwrap();
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let planted = world.plant("role: root\n");
    let rotated = world.run(&["rotate", "root", GUN, "--to", &planted]).await;
    assert_eq!(rotated.status, Some(2), "{rotated:?}");
}

#[tokio::test]
async fn attack_a_key_in_clear_that_claims_to_be_of_the_repository_is_not_taken_for_it() {
    let world = World::new().await;
    let planted = world.plant(&format!("gun: {GUN}\nrole: targets\n"));
    assert_eq!(world.sign("1.0").await.status, Some(0));
    assert!(!world.listed("targets").contains(&planted));
    let planted = world.plant(&format!("gun: {GUN}\nrole: targets\n"));
    world.does(&["rotate", "targets", GUN]).await;
    assert!(!world.listed("targets").contains(&planted));
}

#[tokio::test]
async fn a_key_that_was_rotated_away_does_not_come_back_with_the_next_rotation() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let compromised = world.listed("targets");
    let backup = world.folder.path().join("backup.pem");
    let backup = backup.to_str().unwrap();
    world.does(&["key", "export", "--all", backup]).await;
    world.does(&["rotate", "targets", GUN]).await;
    // From a backup, or because an interruption kept it from being removed.
    world.run(&["key", "import", backup]).await;
    assert!(world.ids("targets").is_superset(&compromised));
    world.does(&["rotate", "targets", GUN]).await;
    assert!(world.listed("targets").is_disjoint(&compromised));
}

#[tokio::test]
async fn a_replaced_key_that_was_made_for_something_else_is_not_removed() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let [id] = <[_; 1]>::try_from(Vec::from_iter(world.listed("targets"))).unwrap();
    let path = world.trust().join(format!("private/{id}.key"));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(GUN, "registry.example.com/team/other")).unwrap();
    let rotated = world.does(&["rotate", "targets", GUN]).await;
    assert!(rotated.err.contains("was made for something else"), "{rotated:?}");
    assert!(path.exists());
}

#[tokio::test]
async fn attack_a_server_that_claims_endless_versions_uses_none_of_them_up() {
    let world = World::new().await;
    let public = world.alice().await;
    world
        .does(&["signer", "add", "alice", GUN, "--key", &public])
        .await;
    let before = world.uploads();
    for power in 0..53 {
        let path = format!("{}.targets/alice.json", 1_u64 << power);
        world
            .server
            .misbehave(&path, Fault::Status(200, Vec::new(), "{}".to_owned()));
    }
    let signed = world.sign("1.0").await;
    assert_eq!(signed.status, Some(1), "{signed:?}");
    assert!(signed.err.contains("run out of versions"), "{signed:?}");
    assert_eq!(world.uploads(), before);
}

#[tokio::test]
async fn attack_a_digest_of_another_algorithm_is_no_leave_to_sign_anything() {
    let world = World::new().await;
    let sha512 = format!("sha512:{}", "ab".repeat(64));
    let host = world.server.address().to_string();
    let image = format!("{host}/team/app:1.0");
    let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
    let kind = vec![(
        "content-type",
        "application/vnd.oci.image.index.v1+json".to_owned(),
    )];
    world
        .server
        .misbehave(&format!("manifests/{sha512}"), Fault::Status(200, kind, index));
    let ended = world.run(&["sign", &image, "--digest", &sha512]).await;
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert_eq!((world.uploads(), world.keys()), (0, 0));
}

#[tokio::test]
async fn attack_names_of_files_and_answers_write_nothing_on_a_terminal() {
    let world = World::new().await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let evil = "\u{1b}]0;title\u{7}\u{1b}[2J";
    fs::write(world.trust().join(format!("private/{evil}.key")), "no key").unwrap();
    world.plant("role: \u{202e}toor\n");
    let refused = Fault::Status(400, Vec::new(), error(evil, &json!(evil)));
    world.server.misbehave("/_trust/tuf/", refused);
    for ended in [world.sign("2.0").await, world.run(&["key", "list"]).await] {
        let said = format!("{}{}", ended.out, ended.err);
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{ended:?}");
    }
}

#[tokio::test]
async fn what_would_be_over_at_once_is_not_signed() {
    let world = World::new().await;
    let image = format!("{GUN}:1.0");
    for flag in ["--root-lifetime", "--targets-lifetime", "--snapshot-lifetime"] {
        let ended = world
            .run(&["sign", &image, "--digest", DIGEST, "--size", "1", flag, "59m"])
            .await;
        assert_eq!(ended.status, Some(2), "{ended:?}");
    }
    assert_eq!(world.keys(), 0);
}
