//! `countersign trust …` and the reference's programs, each reading and continuing what the other wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

use crate::notary::{Publisher, SignerKey};
use crate::pki;
use crate::process::{self, output, text};
use crate::world::{Authority, trust};

/// A person with a key store and a memory of their own.
struct Hand<'a> {
    authority: &'a Authority,
    keys: PathBuf,
    state: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl<'a> Hand<'a> {
    fn new(authority: &'a Authority, name: &str) -> Self {
        Self::with_keys(
            authority,
            name,
            &process::new_folder(&format!("hands/{name}/keys")),
        )
    }

    /// With the key store of somebody else, which is a person's of the reference client too.
    fn with_keys(authority: &'a Authority, name: &str, keys: &Path) -> Self {
        Self {
            authority,
            keys: keys.to_owned(),
            state: process::new_folder(&format!("hands/{name}/state")),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .arg("trust")
            .args(arguments)
            .env_remove("DOCKER_CONTENT_TRUST_SERVER")
            .env("DOCKER_CONFIG", trust().docker_config().parent().unwrap())
            .env("NOTARY_ROOT_PASSPHRASE", "passphrase of root")
            .env("NOTARY_TARGETS_PASSPHRASE", "passphrase of targets")
            .env("NOTARY_SNAPSHOT_PASSPHRASE", "passphrase of snapshot")
            .env("NOTARY_DELEGATION_PASSPHRASE", "passphrase of delegations")
            .env("COUNTERSIGN_TRUST_SERVER", self.authority.server.url())
            .env("COUNTERSIGN_CA", pki::authority())
            .env("COUNTERSIGN_TRUST_DIR", &self.keys)
            .env("COUNTERSIGN_STATE_DIR", &self.state);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        output(&mut self.command(arguments)).into()
    }

    /// Runs a command that must succeed.
    fn does(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.status, Some(0), "{arguments:?}: {ended:?}");
        ended
    }

    /// What `inspect` says of a repository.
    fn inspect(&self, gun: &str) -> Value {
        let ended = self.does(&["inspect", gun, "--output", "json"]);
        serde_json::from_str::<Value>(&ended.out).unwrap()[0].take()
    }

    /// What `countersign verify` says of an image, to whom has never seen it, trusting the root key of `gun`.
    fn verdict(&self, image: &str) -> String {
        let gun = image.rsplit_once(':').unwrap().0;
        let root = self.inspect(gun)["AdministrativeKeys"][0]["Keys"][0]["ID"].clone();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .args([
                "verify",
                image,
                "--output",
                "json",
                "--root-key-id",
                root.as_str().unwrap(),
            ])
            .env("DOCKER_CONFIG", trust().docker_config().parent().unwrap())
            .env("COUNTERSIGN_TRUST_SERVER", self.authority.server.url())
            .env("COUNTERSIGN_CA", pki::authority());
        let answer: Value = serde_json::from_slice(&output(&mut command).stdout).unwrap();
        match answer["digest"].as_str() {
            Some(digest) => digest.to_owned(),
            None => answer["reason"].as_str().unwrap().to_owned(),
        }
    }
}

/// Pushes an image; gives its reference and digest.
fn push(gun: &str, tag: &str, content: &str) -> (String, String) {
    let repository = gun.split_once('/').unwrap().1;
    let image = trust().registry.push(repository, tag, content);
    (format!("{gun}:{tag}"), image.digest)
}

/// Whether `notary list` shows the tag with the digest.
fn lists(publisher: &Publisher, tag: &str, digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:");
    publisher.list().lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(tag) && words.next() == Some(hex)
    })
}

#[test]
fn a_first_signature_makes_keys_and_repository_which_the_reference_reads() {
    let trust = trust();
    for authority in [&trust.hub, &trust.team, &trust.private] {
        let name = format!("first-{}", authority.name);
        let hand = Hand::new(authority, &name);
        let gun = trust.gun(authority, &name);
        let (image, digest) = push(&gun, "1.0", &name);
        let signed = hand.does(&["sign", &image]);
        assert!(signed.out.contains("initialised"), "{signed:?}");
        assert!(signed.err.contains(&digest), "{signed:?}");
        assert_eq!(hand.verdict(&image), digest);
        let reader = Publisher::new(&authority.server, &format!("reader-{name}"), &gun);
        assert!(lists(&reader, "1.0", &digest), "{}", reader.list());
        // The second repository has the same root key, in another certificate.
        let second = trust.gun(authority, &format!("second-{}", authority.name));
        hand.does(&["init", &second]);
        let files = std::fs::read_dir(hand.keys.join("private")).unwrap();
        let keys = files.filter(|file| {
            file.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|it| it == "key")
        });
        assert_eq!(keys.count(), 3, "one root key, two of targets");
    }
}

#[test]
fn what_the_reference_publishes_is_continued_by_us_and_the_other_way_round() {
    let trust = trust();
    let gun = trust.gun(&trust.team, "both");
    let notary = Publisher::new(&trust.team.server, "both", &gun);
    notary.init();
    let hand = Hand::with_keys(&trust.team, "both", notary.folder());
    let one = trust.release(&notary, "1.0", "one", None);
    let (image, two) = push(&gun, "2.0", "two");
    hand.does(&["sign", &image]);
    assert!(lists(&notary, "1.0", &one) && lists(&notary, "2.0", &two));
    let three = trust.release(&notary, "3.0", "three", None);
    hand.does(&["revoke", &format!("{gun}:1.0")]);
    assert!(!lists(&notary, "1.0", &one) && lists(&notary, "3.0", &three));
    notary.revoke("2.0");
    assert_eq!(hand.verdict(&format!("{gun}:3.0")), three);
    assert_eq!(hand.verdict(&image), "tag_not_signed");
    assert_eq!(hand.run(&["revoke", &image]).status, Some(1));
    // A repository that we made is one that the reference continues.
    let ours = trust.gun(&trust.team, "both-ours");
    hand.does(&["init", &ours]);
    let notary = Publisher::with_folder_of(&notary, &ours);
    let four = trust.release(&notary, "4.0", "four", None);
    assert_eq!(hand.verdict(&format!("{ours}:4.0")), four);
}

#[test]
fn signers_sign_with_their_own_keys_and_are_read_and_removed() {
    let trust = trust();
    let owner = Hand::new(&trust.team, "owner");
    let gun = trust.gun(&trust.team, "signed-by-alice");
    let folder = process::new_folder("publish-signers");
    let (alice, bob) = (
        SignerKey::generate(&folder, "alice"),
        SignerKey::generate(&folder, "bob"),
    );
    for signer in [&alice, &bob] {
        let public = signer.public.to_str().unwrap();
        owner.does(&["signer", "add", &signer.name, &gun, "--key", public]);
    }
    let (image, digest) = push(&gun, "1.0", "by alice");
    let refused = owner.run(&["sign", &image]);
    assert_eq!(refused.status, Some(1), "the owner is no signer: {refused:?}");
    let signer = Hand::new(&trust.team, "alice");
    // Somebody who never saw the repository, and whose root key is not in it, says whom to trust.
    signer.does(&["key", "load", alice.private.to_str().unwrap(), "--name", "alice"]);
    assert_eq!(signer.run(&["sign", &image]).status, Some(2));
    signer.does(&["sign", &image, "--tofu"]);
    assert_eq!(signer.verdict(&image), digest);
    let tags = owner.inspect(&gun);
    assert_eq!(
        tags["SignedTags"][0]["Signers"],
        serde_json::json!(["alice"]),
        "{tags}"
    );
    assert_eq!(tags["Signers"][0]["Name"], "bob", "in descending order: {tags}");
    let reader = Publisher::new(&trust.team.server, "reader-signers", &gun);
    let listed = reader.list();
    assert!(
        lists(&reader, "1.0", &digest) && listed.contains("targets/alice"),
        "{listed}"
    );
    // Without another signer's key the tags would lose their only signature.
    let orphans = owner.run(&["signer", "remove", "alice", &gun]);
    assert_eq!(orphans.status, Some(1), "{orphans:?}");
    owner.does(&["key", "load", bob.private.to_str().unwrap(), "--name", "bob"]);
    owner.does(&["signer", "remove", "alice", &gun]);
    assert_eq!(owner.verdict(&image), digest);
    assert!(reader.list().contains("targets/releases"), "{}", reader.list());
    let again = signer.run(&["sign", &image]);
    assert_eq!(again.status, Some(1), "alice is no signer any more: {again:?}");
    // Once more with the same name and key: whoever adds them is told what that brings back.
    let back = owner.does(&[
        "signer",
        "add",
        "alice",
        &gun,
        "--key",
        alice.public.to_str().unwrap(),
    ]);
    assert!(
        back.err.contains("targets/alice was delegated before"),
        "{back:?}"
    );
    let (second, two) = push(&gun, "2.0", "by alice again");
    signer.does(&["sign", &second]);
    assert_eq!(signer.verdict(&second), two);
}

#[test]
fn signers_and_rotations_of_the_reference_are_continued_by_us() {
    let trust = trust();
    let gun = trust.gun(&trust.team, "continued");
    let notary = Publisher::new(&trust.team.server, "continued", &gun);
    notary.init();
    notary.add_signer(&trust.alice);
    let hand = Hand::with_keys(&trust.team, "continued", notary.folder());
    let (image, one) = push(&gun, "1.0", "ours");
    hand.does(&["sign", &image]);
    let two = trust.release(&notary, "2.0", "theirs", Some("targets/alice,targets/releases"));
    for role in ["targets", "root"] {
        notary.rotate(role);
    }
    let (image, three) = push(&gun, "3.0", "ours after their rotation");
    hand.does(&["sign", &image]);
    for (tag, digest) in [("1.0", &one), ("2.0", &two), ("3.0", &three)] {
        assert_eq!(&hand.verdict(&format!("{gun}:{tag}")), digest);
        assert!(lists(&notary, tag, digest), "{}", notary.list());
    }
    let inspected = hand.inspect(&gun);
    assert_eq!(
        inspected["SignedTags"][1]["Signers"],
        serde_json::json!(["alice"]),
        "{inspected}"
    );
    hand.does(&["revoke", &format!("{gun}:2.0")]);
    assert!(!lists(&notary, "2.0", &two));
    let listed = hand.does(&["signer", "list", &gun]);
    assert!(listed.out.contains("alice"), "{listed:?}");
}

#[test]
fn every_rotation_is_followed_by_the_reference_client() {
    let trust = trust();
    let hand = Hand::new(&trust.team, "rotating");
    let gun = trust.gun(&trust.team, "rotating");
    let (image, digest) = push(&gun, "1.0", "rotated");
    hand.does(&["sign", &image]);
    // One client that follows every step from its cache, and one who comes late.
    let follower = Publisher::new(&trust.team.server, "follower", &gun);
    assert!(lists(&follower, "1.0", &digest));
    for (number, rotation) in [
        &["root"][..],
        &["targets"],
        &["snapshot"],
        &["timestamp"],
        &["root", "--reissue"],
        &["snapshot", "--server-managed"],
        &["root"],
    ]
    .into_iter()
    .enumerate()
    {
        let arguments = [&["rotate", rotation[0], &gun], &rotation[1..]].concat();
        let rotated = hand.does(&arguments);
        assert!(rotated.out.contains("root"), "{rotated:?}");
        assert!(lists(&follower, "1.0", &digest), "after {rotation:?}");
        let (image, digest) = push(&gun, &format!("2.{number}"), &format!("after {number}"));
        hand.does(&["sign", &image]);
        assert_eq!(hand.verdict(&image), digest, "after {rotation:?}");
        assert!(
            lists(&follower, &format!("2.{number}"), &digest),
            "after {rotation:?}"
        );
    }
    let late = Publisher::new(&trust.team.server, "late", &gun);
    assert!(lists(&late, "1.0", &digest));
}

#[test]
fn a_witnessed_file_is_a_version_newer_and_a_difference_is_told() {
    let trust = trust();
    let hand = Hand::new(&trust.team, "witness");
    let gun = trust.gun(&trust.team, "witness");
    let (image, one) = push(&gun, "1.0", "witnessed");
    hand.does(&["sign", &image]);
    let witnessed = hand.does(&["witness", &gun, "targets", "root"]);
    assert!(
        witnessed.out.contains("root 2") && witnessed.out.contains("targets 2"),
        "{witnessed:?}"
    );
    let (_, two) = push(&gun, "1.0", "signed anew");
    hand.does(&["sign", &image]);
    let diff = hand.does(&["diff", &gun]);
    assert_eq!(diff.out, format!("~ 1.0 {one} -> {two}\n"));
    let dry = hand.does(&["revoke", &image, "--dry-run"]);
    assert!(dry.out.contains("would be published (targets 4)"), "{dry:?}");
    assert_eq!(hand.verdict(&image), two, "a dry run changes nothing");
}

#[test]
fn a_deleted_repository_begins_anew() {
    let trust = trust();
    let hand = Hand::new(&trust.team, "deleted");
    let gun = trust.gun(&trust.team, "deleted");
    let (image, digest) = push(&gun, "1.0", "deleted");
    hand.does(&["sign", &image]);
    assert_eq!(hand.run(&["delete", &gun]).status, Some(2), "not without --yes");
    hand.does(&["delete", &gun, "--yes"]);
    assert_eq!(hand.run(&["inspect", &gun]).status, Some(1));
    hand.does(&["sign", &image]);
    assert_eq!(hand.verdict(&image), digest);
}

#[test]
fn two_publishers_at_once_lose_nothing() {
    const TAGS: usize = 20;
    let trust = trust();
    let first = Hand::new(&trust.team, "crowd");
    let second = Hand::with_keys(&trust.team, "crowd-2", &first.keys);
    let gun = trust.gun(&trust.team, "crowd");
    first.does(&["init", &gun]);
    let digest = format!("sha256:{}", "ab".repeat(32));
    thread::scope(|scope| {
        for (name, hand) in [("a", &first), ("b", &second)] {
            let (gun, digest) = (&gun, &digest);
            scope.spawn(move || {
                for number in 0..TAGS {
                    let image = format!("{gun}:{name}{number}");
                    hand.does(&[
                        "sign",
                        &image,
                        "--digest",
                        digest,
                        "--size",
                        "1000",
                        "--timeout",
                        "60s",
                    ]);
                }
            });
        }
    });
    let inspected = first.inspect(&gun);
    let tags = inspected["SignedTags"].as_array().unwrap();
    assert_eq!(tags.len(), 2 * TAGS, "{inspected}");
    let reader = Publisher::new(&trust.team.server, "reader-crowd", &gun);
    assert!(lists(&reader, "a0", &digest) && lists(&reader, "b19", &digest));
}
