//! `countersign trust …` and the reference's programs, each reading and continuing what the other wrote.

use std::thread;

use crate::hand::{Hand, lists, push};
use crate::notary::{Publisher, SignerKey};
use crate::process;
use crate::world::trust;

#[test]
fn a_first_signature_makes_keys_and_repository_which_the_reference_reads() {
    let trust = trust();
    for authority in [&trust.hub, &trust.team, &trust.private] {
        let name = format!("first-{}", authority.name);
        let hand = Hand::new(&authority.server.url(), &name);
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
    let hand = Hand::with_keys(&trust.team.server.url(), "both", notary.folder());
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
    let owner = Hand::new(&trust.team.server.url(), "owner");
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
    let signer = Hand::new(&trust.team.server.url(), "alice");
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
    let hand = Hand::with_keys(&trust.team.server.url(), "continued", notary.folder());
    let (image, one) = push(&gun, "1.0", "ours");
    hand.does(&["sign", &image]);
    let two = trust.release(&notary, "2.0", "theirs", Some("targets/alice,targets/releases"));
    for role in ["targets", "root"] {
        notary.rotate(role, &[]);
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
    let hand = Hand::new(&trust.team.server.url(), "rotating");
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
    let hand = Hand::new(&trust.team.server.url(), "witness");
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
    let hand = Hand::new(&trust.team.server.url(), "deleted");
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
    let first = Hand::new(&trust.team.server.url(), "crowd");
    let second = Hand::with_keys(&trust.team.server.url(), "crowd-2", &first.keys);
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
