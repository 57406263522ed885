//! Signers: thresholds, paths, and who of several signs.

use serde_json::Value;

use super::commands::{DIGEST, Ended, World};
use crate::repo::GUN;

impl World {
    async fn sign_as(&self, tag: &str, signers: &[&str]) -> Ended {
        let image = format!("{GUN}:{tag}");
        let mut arguments = vec!["sign", &image, "--digest", DIGEST, "--size", "1000"];
        for signer in signers {
            arguments.extend(["--signer", signer]);
        }
        self.run(&arguments).await
    }

    /// Which of the roles of targets have the tag.
    fn roles_of(&self, tag: &str) -> Vec<String> {
        self.ledgers.of(GUN, |ledger| {
            let files = ledger.current.iter().filter(|(_, file)| {
                let file: Value = serde_json::from_slice(file).unwrap();
                file["signed"]["targets"].get(tag).is_some()
            });
            files.map(|(role, _)| role.clone()).collect()
        })
    }

    /// How many signatures the newest file of a role has.
    fn signatures(&self, role: &str) -> usize {
        let file = self.ledgers.of(GUN, |ledger| ledger.current[role].clone());
        let file: Value = serde_json::from_slice(&file).unwrap();
        file["signatures"].as_array().unwrap().len()
    }

    /// Takes a key out of the store, to somewhere else.
    fn hide(&self, signer: &str) -> (std::path::PathBuf, Vec<u8>) {
        let folder = self.folder.path().join("trust/private");
        let files = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        let mut files = files.filter(|path| {
            std::fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("role: {signer}\n")))
        });
        let path = files.next().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        (path, bytes)
    }
}

#[tokio::test]
async fn a_threshold_asks_for_that_many_of_a_signers_keys() {
    let world = World::new().await;
    let (laptop, token) = (world.key_of("laptop").await, world.key_of("token").await);
    let add = ["signer", "add", "alice", GUN, "--key", &laptop, "--key", &token];
    for (threshold, want) in [("3", Some(1)), ("0", Some(2)), ("2", Some(0))] {
        let ended = world.run(&[&add[..], &["--threshold", threshold]].concat()).await;
        assert_eq!(ended.status, want, "{threshold}: {ended:?}");
    }
    let twice = [
        "signer",
        "add",
        "bob",
        GUN,
        "--key",
        &laptop,
        "--key",
        &laptop,
        "--threshold",
        "2",
    ];
    assert_eq!(
        world.run(&twice).await.status,
        Some(1),
        "one key twice is one key"
    );
    let list = world.does(&["signer", "list", GUN]).await;
    assert!(
        list.out.contains("alice\t") && list.out.contains("\tthreshold 2 of 2\t"),
        "{list:?}"
    );
    assert!(
        list.out.contains("\tthreshold 1 of 2\t"),
        "releases keeps its own: {list:?}"
    );
    assert_eq!(world.sign("1.0").await.status, Some(0));
    assert_eq!(world.signatures("targets/alice"), 2);
    let hidden = world.hide("token");
    let alone = world.sign("2.0").await;
    assert_eq!(alone.status, Some(1), "{alone:?}");
    assert!(
        alone
            .err
            .contains("targets/alice needs 2 of its keys to sign, 1 are at hand"),
        "{alone:?}"
    );
    assert_eq!(world.tags().await, ["1.0"], "nor was it released");
    std::fs::write(&hidden.0, &hidden.1).unwrap();
    assert_eq!(world.sign("2.0").await.status, Some(0));
}

#[tokio::test]
async fn a_signer_who_is_short_of_keys_keeps_no_other_from_signing() {
    let world = World::new().await;
    let (laptop, token) = (world.key_of("laptop").await, world.key_of("token").await);
    let bob = world.key_of("bob").await;
    let add = [
        "signer",
        "add",
        "alice",
        GUN,
        "--key",
        &laptop,
        "--key",
        &token,
        "--threshold",
        "2",
    ];
    world.does(&add).await;
    world.does(&["signer", "add", "bob", GUN, "--key", &bob]).await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    world.hide("token");
    let signed = world.sign("2.0").await;
    assert_eq!(signed.status, Some(0), "{signed:?}");
    assert!(
        signed.err.contains("is not signed in targets/alice"),
        "{signed:?}"
    );
    assert_eq!(world.roles_of("2.0"), ["targets/bob", "targets/releases"]);
    let revoked = world.does(&["revoke", &format!("{GUN}:1.0")]).await;
    assert!(
        revoked.err.contains("IS STILL SIGNED in targets/alice"),
        "{revoked:?}"
    );
    assert_eq!(world.roles_of("1.0"), ["targets/alice"]);
}

#[tokio::test]
async fn a_threshold_is_raised_only_with_the_signatures_that_keep_what_is_signed() {
    let world = World::new().await;
    let (laptop, token) = (world.key_of("laptop").await, world.key_of("token").await);
    world
        .does(&["signer", "add", "alice", GUN, "--key", &laptop])
        .await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    let hidden = world.hide("token");
    let raise = ["signer", "add", "alice", GUN, "--key", &token, "--threshold", "2"];
    let refused = world.run(&raise).await;
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(
        refused
            .err
            .contains("targets/alice would carry no valid signature"),
        "{refused:?}"
    );
    std::fs::write(&hidden.0, &hidden.1).unwrap();
    world.does(&raise).await;
    assert_eq!(
        (world.signatures("targets/alice"), world.version("targets/alice")),
        (2, 2)
    );
}

#[tokio::test]
async fn only_those_sign_who_were_asked_to() {
    let world = World::new().await;
    let nobody = world.sign_as("1.0", &["alice"]).await;
    assert_eq!(
        nobody.status,
        Some(1),
        "no repository is made for a signer: {nobody:?}"
    );
    assert_eq!(world.keys(), 0);
    let (alice, bob) = (world.alice().await, world.key_of("bob").await);
    world
        .does(&["signer", "add", "alice", GUN, "--key", &alice])
        .await;
    world
        .does(&["signer", "add", "bob", GUN, "--key", &bob, "--path", "v1."])
        .await;
    let signed = world.sign_as("1.0", &["alice"]).await;
    assert_eq!(signed.status, Some(0), "{signed:?}");
    assert_eq!(world.roles_of("1.0"), ["targets/alice", "targets/releases"]);
    assert_eq!(world.signatures("targets/releases"), 1, "bob's key signs nothing");
    for (signer, why) in [("bob", "bob cannot sign"), ("carol", "\"carol\" is no signer")] {
        let ended = world.sign_as("2.0", &["alice", signer]).await;
        assert_eq!(ended.status, Some(1), "{ended:?}");
        assert!(ended.err.contains(why), "{ended:?}");
    }
    assert_eq!(world.sign_as("2.0", &["releases"]).await.status, Some(2));
    assert_eq!(world.sign_as("v1.1", &["alice", "bob"]).await.status, Some(0));
    assert_eq!(world.roles_of("v1.1").len(), 3);
}

#[tokio::test]
async fn a_signer_does_not_get_round_their_paths_through_releases() {
    let world = World::new().await;
    let alice = world.alice().await;
    let added = world
        .does(&["signer", "add", "alice", GUN, "--key", &alice, "--path", "v1."])
        .await;
    assert!(added.err.contains("can release any tag"), "{added:?}");
    let outside = world.sign("v2.0").await;
    assert_eq!(outside.status, Some(1), "{outside:?}");
    assert_eq!(world.sign("v1.0").await.status, Some(0));
    assert_eq!(world.roles_of("v1.0"), ["targets/alice", "targets/releases"]);
}

#[tokio::test]
async fn a_key_that_comes_back_does_not_make_an_untrusted_file_count_again() {
    let world = World::new().await;
    let (alice, bob) = (world.alice().await, world.key_of("bob").await);
    world
        .does(&["signer", "add", "alice", GUN, "--key", &alice])
        .await;
    assert_eq!(world.sign("1.0").await.status, Some(0));
    world.does(&["signer", "add", "bob", GUN, "--key", &bob]).await;
    let (alices, bobs) = (world.hide("alice"), world.hide("bob"));
    world.does(&["signer", "remove", "alice", GUN, "--force"]).await;
    let back = ["signer", "add", "alice", GUN, "--key", &alice];
    let refused = world.run(&back).await;
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("targets/releases would verify again"),
        "{refused:?}"
    );
    std::fs::write(&bobs.0, &bobs.1).unwrap();
    world.does(&["witness", GUN, "targets/releases", "--empty"]).await;
    world.does(&back).await;
    assert!(world.tags().await.is_empty());
    drop(alices);
}
