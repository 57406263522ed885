//! What real publishers do.

use super::super::super::edit::document::{Document as _, SnapshotDocument};
use super::*;

fn entries(scene: &Scene) -> Vec<String> {
    let snapshot = SnapshotDocument::read(&Role::Snapshot, &scene.holding.files[&Role::Snapshot]).unwrap();
    snapshot.meta.keys().map(ToString::to_string).collect()
}

fn trusted(scene: &Scene) -> Verified {
    scene
        .look(Purpose::Trust, State::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_repository_begins_with_root_and_targets_and_the_server_makes_the_rest() {
    let mut scene = Scene::vacant();
    let snapshot = scene.server_key();
    let upload = scene.initial(&snapshot);
    let accepted = scene.publish(&upload);
    let roles: Vec<_> = accepted.files.iter().map(|file| file.role.as_str()).collect();
    assert_eq!(roles, ["root", "targets", "snapshot", "timestamp"]);
    assert!(accepted.files.iter().all(|file| file.version == 1));
    assert!(accepted.dropped.is_empty());
    assert_eq!(accepted.keys_used.len(), 2);
    assert_eq!(accepted.renew_at, Some(scene.now + TIMESTAMP * 2 / 3));
    trusted(&scene);
    let examined = scene.examined();
    assert_eq!(examined.expires[&Role::Timestamp], scene.now + TIMESTAMP);
    assert_eq!(examined.expires[&Role::Snapshot], scene.now + SNAPSHOT);
    assert_eq!(examined.snapshot_keys, [snapshot.id()]);
    assert_eq!(
        listed_keys(&scene.holding, &Role::Snapshot),
        Some(vec![snapshot.id()])
    );
    assert_eq!(listed_keys(&Holding::default(), &Role::Snapshot), None);
    assert!(examined.expired.is_empty() && examined.unsound.is_empty());
}

#[test]
fn what_the_reference_kept_in_its_cache_may_begin_with_version_two() {
    let mut scene = Scene::vacant();
    let snapshot = scene.server_key();
    let mut upload = scene.initial(&snapshot);
    for of in ["root", "targets"] {
        scene.forge(&mut upload, of, |signed| signed["version"] = 2.into());
    }
    scene.publish(&upload);
    assert_eq!((scene.version("root"), scene.version("targets")), (2, 2));
    trusted(&scene);
}

#[test]
fn signers_are_added_and_publish_without_the_owner() {
    let mut scene = Scene::docker().with_signers();
    let upload = scene.upload_by(
        &[release("1.1", 2, &["targets/alice", "targets/releases"])],
        &["alice"],
    );
    assert_eq!(upload.len(), 2, "the server makes the snapshot");
    let before = scene.version("snapshot");
    scene.publish(&upload);
    assert_eq!(scene.version("snapshot"), before + 1);
    let all = [
        "root",
        "targets",
        "targets/alice",
        "targets/bob",
        "targets/releases",
    ];
    assert_eq!(entries(&scene), all);
    trusted(&scene);
}

#[test]
fn a_publisher_makes_the_snapshot_as_notary_does() {
    let mut scene = Scene::notary().with_signers();
    let upload = scene.upload(&[release("1.1", 2, &["targets/releases"])]);
    assert!(upload.contains_key(&Role::Snapshot));
    let accepted = scene.publish(&upload);
    assert_eq!(accepted.keys_used.len(), 1, "the timestamp's");
    trusted(&scene);
    let without = scene.upload_by(&[release("1.2", 3, &["targets/releases"])], &["alice"]);
    let rejection = scene.judge(&without).unwrap_err();
    assert_eq!(
        (rejection.name(), rejection.missing()),
        ("ErrBadHierarchy", Some("snapshot"))
    );
}

#[test]
fn every_key_can_be_rotated() {
    let mut scene = Scene::docker().with_signers();
    let state = trusted(&scene).state;
    let (timestamp, snapshot) = (scene.server_key(), scene.server_key());
    let root = scene.certificate("root2");
    let rotations = [
        (Role::Timestamp, timestamp),
        (Role::Snapshot, snapshot.clone()),
        (Role::Targets, scene.public("targets2")),
        (Role::Snapshot, scene.public("snapshot")),
        (Role::Root, root),
        (Role::Snapshot, snapshot),
    ];
    for (role, key) in rotations {
        let keys = vec![key];
        scene.change(&[Change::Replace { role, keys }]);
        trusted(&scene);
        scene.look(Purpose::Trust, state.clone()).unwrap();
    }
    assert_eq!(scene.version("root"), 7);
}

#[test]
fn a_delegation_that_is_removed_leaves_the_snapshot_and_a_new_life_of_it_continues_its_versions() {
    for mut scene in [Scene::docker().with_signers(), Scene::notary().with_signers()] {
        let before = scene.version("targets/alice");
        let accepted = scene.change(&[Change::Undelegate { name: name("alice") }]);
        assert_eq!(accepted.dropped, [role("targets/alice")].into());
        assert_eq!(
            entries(&scene),
            ["root", "targets", "targets/bob", "targets/releases"]
        );
        trusted(&scene);
        scene.change(&[scene.delegate("alice", &["alice"])]);
        assert!(!entries(&scene).contains(&"targets/alice".to_owned()), "T49");
        let again = [release("2.0", 2, &["targets/alice"])];
        let upload = scene.upload(&again);
        let mut early = upload.clone();
        scene.forge(&mut early, "targets/alice", |signed| signed["version"] = 1.into());
        assert!(scene.judge(&early).unwrap_err().is_version());
        scene.publish(&upload);
        assert_eq!(scene.version("targets/alice"), before + 1);
        trusted(&scene);
    }
}

/// T49, with what another server kept: the reference never lets go of such files.
#[test]
fn a_file_that_nobody_delegates_to_does_not_come_back_with_its_name() {
    let mut scene = Scene::docker().with_signers();
    let stray = scene.holding.files[&role("targets/alice")].clone();
    scene.change(&[Change::Undelegate { name: name("alice") }]);
    scene.holding.files.insert(role("targets/alice"), stray);
    let accepted = scene.change(&[scene.delegate("alice", &["alice"])]);
    assert_eq!(accepted.dropped, [role("targets/alice")].into());
    assert!(!entries(&scene).contains(&"targets/alice".to_owned()));
    trusted(&scene);
}

#[test]
fn what_is_below_a_removed_delegation_goes_with_it() {
    let mut scene = Scene::docker().with_signers();
    let ci = scene.public("bob");
    let mut upload = scene.upload_by(&[release("1.1", 2, &["targets/alice"])], &["alice"]);
    scene.forge(&mut upload, "targets/alice", |signed| {
        let listed: Json = serde_json::from_str(&ci.listed().canonical()).unwrap();
        signed["delegations"]["keys"][ci.id().to_string()] = listed;
        signed["delegations"]["roles"] = serde_json::json!([
            {"keyids": [ci.id().to_string()], "name": "targets/alice/ci", "paths": ["nightly"], "threshold": 1}
        ]);
    });
    let file = scene.forged(&scene.holding.files[&role("targets/bob")], |signed| {
        signed["version"] = 1.into();
    });
    upload.insert(role("targets/alice/ci"), file);
    scene.publish(&upload);
    assert!(entries(&scene).contains(&"targets/alice/ci".to_owned()));
    trusted(&scene);
    let accepted = scene.change(&[Change::Undelegate { name: name("alice") }]);
    let gone = [role("targets/alice"), role("targets/alice/ci")];
    assert_eq!(accepted.dropped, gone.into());
    trusted(&scene);
}

#[test]
fn a_signer_who_is_removed_leaves_files_behind_that_somebody_else_repairs() {
    for mut scene in [Scene::docker(), Scene::notary()] {
        let changes = [
            scene.delegate("releases", &["alice"]),
            scene.delegate("alice", &["alice"]),
        ];
        scene.change(&changes);
        scene.change(&[release("1.0", 1, &["targets/alice", "targets/releases"])]);
        let state = trusted(&scene).state;
        // As `docker trust signer remove` does: alice is gone, and nobody is there to sign what she signed.
        let changes = [
            scene.delegate("releases", &["bob"]),
            scene.remove("releases", "alice"),
            Change::Undelegate { name: name("alice") },
        ];
        let upload = scene.upload_by(&changes, &["targets", "snapshot"]);
        scene.publish(&upload);
        assert_eq!(scene.examined().unsound, [Role::releases()].into());
        assert!(entries(&scene).contains(&"targets/releases".to_owned()));
        let refusal = scene.look(Purpose::Trust, state.clone()).unwrap_err();
        assert_eq!(
            refusal.reason(),
            "threshold",
            "not an omission, which none could repair"
        );
        // Others publish meanwhile, and the server renews.
        scene.change(&[release("2.0", 2, &["targets"])]);
        scene.now += TIMESTAMP;
        let renewed = scene.renewed().unwrap().unwrap();
        scene.store(&renewed);
        let releases = name("releases");
        let repair = scene.upload_by(&[Change::Empty { name: releases }], &["bob", "snapshot"]);
        scene.publish(&repair);
        assert!(scene.examined().unsound.is_empty());
        trusted(&scene);
        scene.look(Purpose::Trust, state).unwrap();
    }
}

#[test]
fn what_has_expired_and_is_not_changed_bars_nobody() {
    let mut scene = Scene::docker().with_signers();
    scene.now += DAY * 365 * 4;
    let upload = scene.upload_by(&[release("1.1", 2, &["targets/releases"])], &["alice"]);
    scene.publish(&upload);
    let examined = scene.examined();
    let expired = [role("targets"), role("targets/alice"), role("targets/bob")];
    assert_eq!(examined.expired, expired.into());
}

#[test]
fn an_expired_root_and_certificate_can_be_replaced_and_nothing_else_is_signed_under_them() {
    let mut scene = Scene::docker().with_signers();
    scene.now += DAY * 365 * 11;
    let tag = scene.upload(&[release("1.1", 2, &["targets/releases"])]);
    let rejection = scene.judge(&tag).unwrap_err();
    assert_eq!(rejection.name(), "ErrBadRoot");
    assert_eq!(scene.renewed().unwrap_err().name(), "ErrBadRoot");
    let (role, keys) = (Role::Root, vec![scene.certificate("root")]);
    let accepted = scene.change(&[Change::Replace { role, keys }]);
    assert!(accepted.renew_at.is_some());
    assert_eq!(scene.verdict(&tag), "accepted");
}

#[test]
fn a_repository_that_is_made_again_after_deletion_continues_the_servers_versions() {
    let mut scene = Scene::docker().with_signers();
    let (snapshot, timestamp) = (scene.version("snapshot"), scene.version("timestamp"));
    scene.holding.files.clear();
    scene.roots.clear();
    let kept = |role: &Role, _: &mut u64| matches!(role, Role::Snapshot | Role::Timestamp);
    scene.holding.used.retain(kept);
    let key = scene.server_key();
    let upload = scene.initial(&key);
    scene.publish(&upload);
    let now = (scene.version("snapshot"), scene.version("timestamp"));
    assert_eq!(now, (snapshot + 1, timestamp + 1));
    trusted(&scene);
    // A publisher who makes the snapshot cannot know of the earlier life.
    scene.holding.files.clear();
    scene.roots.clear();
    scene.holding.used.retain(kept);
    let upload = scene.initial(&scene.public("snapshot"));
    scene.publish(&upload);
    scene.change(&[release("1.0", 1, &["targets"])]);
    assert_eq!(scene.version("snapshot"), 2);
    assert!(scene.version("timestamp") > timestamp + 2);
}

#[test]
fn publishers_of_different_roles_do_not_conflict_and_of_one_role_the_second_hears_of_the_version() {
    let mut scene = Scene::docker().with_signers();
    let alice = scene.upload_by(&[release("a", 2, &["targets/alice"])], &["alice"]);
    let bob = scene.upload_by(&[release("b", 3, &["targets/bob"])], &["bob"]);
    let late = scene.upload_by(&[release("c", 4, &["targets/alice"])], &["alice"]);
    scene.publish(&alice);
    scene.publish(&bob);
    assert!(scene.judge(&late).unwrap_err().is_version());
    assert!(scene.judge(&alice).unwrap_err().is_version(), "the same again");
    let mut scene = Scene::notary().with_signers();
    let alice = scene.upload(&[release("a", 2, &["targets/alice"])]);
    let bob = scene.upload(&[release("b", 3, &["targets/bob"])]);
    scene.publish(&alice);
    assert!(
        scene.judge(&bob).unwrap_err().is_version(),
        "one snapshot for both"
    );
}
