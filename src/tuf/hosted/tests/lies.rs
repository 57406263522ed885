//! Honest uploads with one lie each.

use serde_json::json;

use super::*;

/// What is wrong, and the file and how it is bent.
type Lie = (&'static str, fn(&mut Scene, &mut Files), &'static str);

fn told(base: &Scene, upload: &Files, lies: &[Lie]) {
    assert_eq!(base.verdict(upload), "accepted", "without a lie");
    for (what, lie, want) in lies {
        let (mut scene, mut upload) = (base.clone(), upload.clone());
        lie(&mut scene, &mut upload);
        let got = scene.judge(&upload);
        let name = got.as_ref().map_or_else(Rejection::name, |_| "accepted");
        assert_eq!(name, *want, "{what}: {:?}", got.map_err(|why| why.to_string()));
    }
}

/// `of` signed by these keys instead.
fn signed_by(scene: &Scene, upload: &mut Files, of: &str, ids: &[KeyId]) {
    let role = role(of);
    let json: Json = serde_json::from_slice(&upload[&role]).unwrap();
    upload.insert(role, scene.written(&json["signed"], ids));
}

#[test]
fn uploads_that_are_no_change_of_the_repository_are_refused() {
    let base = Scene::docker().with_signers();
    let upload = base.upload(&[release("2.0", 2, &["targets", "targets/releases"])]);
    let lies: [Lie; 7] = [
        ("an empty upload", |_, upload| upload.clear(), "ErrValidation"),
        (
            "a timestamp, which the reference ignores",
            |scene, upload| {
                let file = scene.holding.files[&Role::Timestamp].clone();
                upload.insert(Role::Timestamp, file);
            },
            "ErrValidation",
        ),
        (
            "a role that nobody delegates to",
            |_, upload| {
                let file = upload[&Role::releases()].clone();
                upload.insert(role("targets/mallory"), file);
            },
            "ErrBadTargets",
        ),
        (
            "a role below one that is not published",
            |_, upload| {
                let file = upload[&Role::releases()].clone();
                upload.insert(role("targets/mallory/sub"), file);
            },
            "ErrBadTargets",
        ),
        (
            "a file of another role",
            |scene, upload| {
                let file = scene.holding.files[&Role::Root].clone();
                upload.insert(Role::Targets, file);
            },
            "ErrBadTargets",
        ),
        (
            "no metadata at all",
            |_, upload| drop(upload.insert(Role::Targets, "{}".into())),
            "ErrBadTargets",
        ),
        (
            "`signed` is null, which crashes the reference (T26)",
            |_, upload| drop(upload.insert(Role::Targets, r#"{"signed":null,"signatures":[]}"#.into())),
            "ErrBadTargets",
        ),
    ];
    told(&base, &upload, &lies);
}

#[test]
fn targets_that_are_not_what_their_signers_may_say_are_refused() {
    let base = Scene::docker().with_signers();
    let upload = base.upload(&[release("2.0", 2, &["targets", "targets/releases"])]);
    let lies: [Lie; 4] = [
        (
            "nobody signed",
            |scene, upload| signed_by(scene, upload, "targets", &[]),
            "ErrBadTargets",
        ),
        (
            "somebody else signed (T12)",
            |scene, upload| signed_by(scene, upload, "targets", &[scene.people["alice"].id()]),
            "ErrBadTargets",
        ),
        (
            "a signer of another delegation signed",
            |scene, upload| {
                let key = scene.people["targets"].id();
                signed_by(scene, upload, "targets/releases", &[key]);
            },
            "ErrBadTargets",
        ),
        (
            "tampered after it was signed",
            |_, upload| rewrite(upload, "targets", r#""length":1000"#, r#""length":1001"#),
            "ErrBadTargets",
        ),
    ];
    told(&base, &upload, &lies);
}

#[test]
fn targets_that_do_not_follow_what_is_stored_or_contradict_themselves_are_refused() {
    let base = Scene::docker().with_signers();
    let upload = base.upload(&[release("2.0", 2, &["targets", "targets/releases"])]);
    let lies: [Lie; 10] = [
        (
            "a version that was stored before",
            |scene, upload| {
                let version = scene.version("targets");
                scene.forge(upload, "targets", |signed| signed["version"] = version.into());
            },
            "VERSION",
        ),
        (
            "rollback to the first version (T2)",
            |scene, upload| scene.forge(upload, "targets/releases", |signed| signed["version"] = 1.into()),
            "VERSION",
        ),
        (
            "version 0",
            |scene, upload| scene.forge(upload, "targets", |signed| signed["version"] = 0.into()),
            "ErrBadTargets",
        ),
        (
            "a gap in the versions, which the reference lets pass",
            |scene, upload| {
                let version = scene.version("targets");
                scene.forge(upload, "targets", |signed| {
                    signed["version"] = (version + 2).into();
                });
            },
            "ErrBadTargets",
        ),
        (
            "fast-forward (T6)",
            |scene, upload| {
                scene.forge(upload, "targets", |signed| {
                    signed["version"] = ((1_u64 << 53) - 1).into();
                });
            },
            "ErrBadTargets",
        ),
        (
            "an expired file",
            |scene, upload| {
                let now = scene.now.to_string();
                scene.forge(upload, "targets/releases", |signed| {
                    signed["expires"] = now.into();
                });
            },
            "ErrBadTargets",
        ),
        (
            "a key under a foreign id (T21)",
            |scene, upload| {
                let (alice, bob) = (scene.people["alice"].id(), scene.people["bob"].id());
                scene.forge(upload, "targets", |signed| {
                    let keys = &mut signed["delegations"]["keys"];
                    keys[alice.to_string()] = keys[bob.to_string()].clone();
                });
            },
            "ErrBadTargets",
        ),
        (
            "a delegation of another role's child (T40)",
            |scene, upload| {
                scene.forge(upload, "targets", |signed| {
                    signed["delegations"]["roles"][0]["name"] = "targets/a/b".into();
                });
            },
            "ErrBadTargets",
        ),
        (
            "a delegation to a key that is not there",
            |scene, upload| {
                scene.forge(upload, "targets", |signed| {
                    signed["delegations"]["keys"] = json!({});
                });
            },
            "ErrBadTargets",
        ),
        (
            "a threshold of 0",
            |scene, upload| {
                scene.forge(upload, "targets", |signed| {
                    signed["delegations"]["roles"][0]["threshold"] = 0.into();
                });
            },
            "ErrBadTargets",
        ),
    ];
    told(&base, &upload, &lies);
}

#[test]
fn a_signature_is_counted_once_however_often_its_key_is_listed() {
    let mut base = Scene::docker().with_signers();
    let certificate = base.certificate("alice");
    let upload = base.upload_by(&[release("2.0", 2, &["targets/alice"])], &["alice"]);
    let mut both = base.upload(&[release("2.0", 2, &["targets"])]);
    base.forge(&mut both, "targets", |signed| {
        let listed: Json = serde_json::from_str(&certificate.listed().canonical()).unwrap();
        let delegations = &mut signed["delegations"];
        delegations["keys"][certificate.id().to_string()] = listed;
        let roles = delegations["roles"].as_array_mut().unwrap();
        let alice = roles
            .iter_mut()
            .find(|role| role["name"] == "targets/alice")
            .unwrap();
        alice["keyids"]
            .as_array_mut()
            .unwrap()
            .push(certificate.id().to_string().into());
        alice["threshold"] = 2.into();
    });
    base.publish(&both);
    let mut twice = upload;
    let ids = [base.people["alice"].id(), certificate.id()];
    signed_by(&base, &mut twice, "targets/alice", &ids);
    assert_eq!(base.verdict(&twice), "ErrBadTargets", "T19");
}

#[test]
fn roots_that_are_no_successors_are_refused() {
    let mut base = Scene::docker().with_signers();
    let (role, keys) = (Role::Root, vec![base.certificate("root2")]);
    let upload = base.upload(&[Change::Replace { role, keys }]);
    let lies: [Lie; 10] = [
        (
            "the version that is stored",
            |scene, upload| scene.forge(upload, "root", |signed| signed["version"] = 1.into()),
            "VERSION",
        ),
        (
            "a version that skips one",
            |scene, upload| scene.forge(upload, "root", |signed| signed["version"] = 3.into()),
            "ErrBadRoot",
        ),
        (
            "not signed by the old root",
            |scene, upload| {
                let new = listed_in(&upload[&Role::Root], "root");
                signed_by(scene, upload, "root", &new);
            },
            "ErrBadRoot",
        ),
        (
            "not signed by its own keys",
            |scene, upload| {
                let old = listed_in(&scene.holding.files[&Role::Root], "root");
                signed_by(scene, upload, "root", &old);
            },
            "ErrBadRoot",
        ),
        (
            "an expired root",
            |scene, upload| {
                let now = scene.now.to_string();
                scene.forge(upload, "root", |signed| signed["expires"] = now.into());
            },
            "ErrBadRoot",
        ),
        (
            "a certificate that has expired",
            |scene, _| {
                scene.now += DAY * 3651;
            },
            "ErrBadRoot",
        ),
        (
            "a timestamp key that is not the server's",
            |scene, upload| lists_instead(scene, upload, "timestamp", "bob", 1),
            "ErrBadRoot",
        ),
        (
            "a snapshot key that is not the server's, and no snapshot",
            |scene, upload| lists_instead(scene, upload, "snapshot", "bob", 1),
            "ErrBadHierarchy",
        ),
        (
            "a threshold that the server's timestamp keys cannot meet",
            |scene, upload| {
                scene.forge(upload, "root", |signed| {
                    signed["roles"]["timestamp"]["threshold"] = 2.into();
                });
            },
            "ErrBadRoot",
        ),
        (
            "a threshold that the server's snapshot keys cannot meet",
            |scene, upload| {
                scene.forge(upload, "root", |signed| {
                    signed["roles"]["snapshot"]["threshold"] = 2.into();
                });
            },
            "ErrBadHierarchy",
        ),
    ];
    told(&base, &upload, &lies);
}

/// The key ids that the root in `file` lists for `of`.
fn listed_in(file: &[u8], of: &str) -> Vec<KeyId> {
    let json: Json = serde_json::from_slice(file).unwrap();
    let ids = json["signed"]["roles"][of]["keyids"].as_array().unwrap();
    ids.iter()
        .map(|id| id.as_str().unwrap().parse().unwrap())
        .collect()
}

/// The uploaded root with another key for `of`.
fn lists_instead(scene: &Scene, upload: &mut Files, of: &str, who: &str, threshold: u64) {
    let key = scene.public(who);
    scene.forge(upload, "root", |signed| {
        let listed: Json = serde_json::from_str(&key.listed().canonical()).unwrap();
        signed["keys"][key.id().to_string()] = listed;
        signed["roles"][of] = json!({"keyids": [key.id().to_string()], "threshold": threshold});
    });
}

#[test]
fn a_root_under_which_the_stored_targets_do_not_verify_is_refused_by_name() {
    let base = Scene::docker().with_signers();
    let (role, keys) = (Role::Targets, vec![base.public("targets2")]);
    let mut upload = base.upload(&[Change::Replace { role, keys }]);
    assert_eq!(base.verdict(&upload), "accepted");
    upload.remove(&Role::Targets);
    let rejection = base.judge(&upload).unwrap_err();
    assert_eq!(rejection.name(), "ErrBadRoot");
    assert!(rejection.to_string().contains("targets.json"), "{rejection}");
}

#[test]
fn a_root_key_in_two_certificates_is_one_key() {
    let mut scene = Scene::docker();
    let (one, two) = (scene.certificate("root"), scene.certificate("root"));
    let keys = vec![one, two];
    let mut upload = scene.upload(&[Change::Replace {
        role: Role::Root,
        keys,
    }]);
    assert_eq!(scene.verdict(&upload), "accepted");
    scene.forge(&mut upload, "root", |signed| {
        signed["roles"]["root"]["threshold"] = 2.into();
    });
    assert_eq!(scene.verdict(&upload), "ErrBadRoot", "T19");
}

#[test]
fn a_new_repository_must_be_whole_and_its_own() {
    let mut base = Scene::vacant();
    let snapshot = base.server_key();
    let upload = base.initial(&snapshot);
    let lies: [Lie; 6] = [
        (
            "no root",
            |_, upload| drop(upload.remove(&Role::Root)),
            "ErrValidation",
        ),
        (
            "no targets",
            |_, upload| drop(upload.remove(&Role::Targets)),
            "ErrValidation",
        ),
        (
            "a root of version 3",
            |scene, upload| scene.forge(upload, "root", |signed| signed["version"] = 3.into()),
            "ErrBadRoot",
        ),
        (
            "targets that leave no versions to come (T6)",
            |scene, upload| {
                scene.forge(upload, "targets", |signed| {
                    signed["version"] = ((1_u64 << 53) - 1).into();
                });
            },
            "ErrBadTargets",
        ),
        (
            "the root of another repository (T33)",
            |scene, _| scene.gun = "registry.example.com/team/other".parse().unwrap(),
            "ErrBadRoot",
        ),
        (
            "versions that an earlier life has used up",
            |scene, _| {
                scene.holding.used.insert(Role::Timestamp, (1 << 53) - 1);
            },
            "ErrValidation",
        ),
    ];
    told(&base, &upload, &lies);
}

#[test]
fn a_publishers_snapshot_that_is_wrong_about_any_file_is_refused() {
    let base = Scene::notary().with_signers();
    let upload = base.upload(&[release("2.0", 2, &["targets/releases"])]);
    let lies: [Lie; 6] = [
        (
            "it omits a delegation that is not in the upload (T8)",
            |scene, upload| {
                scene.forge(upload, "snapshot", |signed| {
                    signed["meta"]
                        .as_object_mut()
                        .unwrap()
                        .remove("targets/alice")
                        .unwrap();
                });
            },
            "ErrBadSnapshot",
        ),
        (
            "it omits the uploaded delegation",
            |scene, upload| {
                scene.forge(upload, "snapshot", |signed| {
                    signed["meta"]
                        .as_object_mut()
                        .unwrap()
                        .remove("targets/releases")
                        .unwrap();
                });
            },
            "ErrBadSnapshot",
        ),
        (
            "it lists another file than the one that is not in the upload",
            |scene, upload| {
                scene.forge(upload, "snapshot", |signed| {
                    signed["meta"]["targets/alice"] = signed["meta"]["targets/bob"].clone();
                });
            },
            "ErrBadSnapshot",
        ),
        (
            "it lists another file than the uploaded one",
            |scene, upload| {
                scene.forge(upload, "snapshot", |signed| {
                    signed["meta"]["targets/releases"]["length"] = 1.into();
                });
            },
            "ErrBadSnapshot",
        ),
        (
            "it lists another root (T7)",
            |scene, upload| {
                scene.forge(upload, "snapshot", |signed| {
                    signed["meta"]["root"] = signed["meta"]["targets"].clone();
                });
            },
            "ErrBadSnapshot",
        ),
        (
            "it lists what is no role",
            |scene, upload| {
                scene.forge(upload, "snapshot", |signed| {
                    signed["meta"]["../etc"] = signed["meta"]["targets"].clone();
                });
            },
            "ErrBadSnapshot",
        ),
    ];
    told(&base, &upload, &lies);
}

#[test]
fn a_publishers_snapshot_is_held_to_the_rules_of_every_file() {
    let base = Scene::notary().with_signers();
    let upload = base.upload(&[release("2.0", 2, &["targets/releases"])]);
    let lies: [Lie; 5] = [
        (
            "somebody else signed it",
            |scene, upload| signed_by(scene, upload, "snapshot", &[scene.people["alice"].id()]),
            "ErrBadSnapshot",
        ),
        (
            "its version is the stored one",
            |scene, upload| {
                let version = scene.version("snapshot");
                scene.forge(upload, "snapshot", |signed| signed["version"] = version.into());
            },
            "VERSION",
        ),
        (
            "its version skips one",
            |scene, upload| {
                let version = scene.version("snapshot") + 2;
                scene.forge(upload, "snapshot", |signed| signed["version"] = version.into());
            },
            "ErrBadSnapshot",
        ),
        (
            "it has expired",
            |scene, upload| {
                let now = scene.now.to_string();
                scene.forge(upload, "snapshot", |signed| signed["expires"] = now.into());
            },
            "ErrBadSnapshot",
        ),
        (
            "it is not written as it would be written again (T47)",
            |_, upload| rewrite(upload, "snapshot", r#"{"signed":"#, r#"{ "signed":"#),
            "ErrBadSnapshot",
        ),
    ];
    told(&base, &upload, &lies);
}

#[test]
fn a_publishers_snapshot_may_not_list_a_delegation_that_nobody_has() {
    let mut scene = Scene::notary().with_signers();
    scene.change(&[Change::Undelegate { name: name("alice") }]);
    let mut upload = scene.upload(&[scene.delegate("alice", &["alice"])]);
    assert_eq!(scene.verdict(&upload), "accepted");
    scene.forge(&mut upload, "snapshot", |signed| {
        signed["meta"]["targets/alice"] = signed["meta"]["targets/bob"].clone();
    });
    assert_eq!(scene.verdict(&upload), "ErrBadSnapshot");
}

#[test]
fn sizes_and_counts_have_limits() {
    let base = Scene::docker().with_signers();
    let upload = base.upload(&[release("2.0", 2, &["targets", "targets/releases"])]);
    let lies: [Lie; 5] = [
        (
            "a long file (T10)",
            |scene, _| {
                let stored = scene.holding.files[&Role::Targets].len();
                scene.limits.targets_bytes = u64::try_from(stored).unwrap();
            },
            "ErrBadTargets",
        ),
        (
            "many roles",
            |scene, upload| {
                scene.limits.roles = 4;
                let file = upload[&Role::releases()].clone();
                upload.insert(role("targets/new"), file);
                let key = scene.public("alice");
                scene.forge(upload, "targets", |signed| {
                let entry = json!({"keyids": [key.id().to_string()], "name": "targets/new", "paths": [""], "threshold": 1});
                signed["delegations"]["roles"].as_array_mut().unwrap().push(entry);
            });
            },
            "ErrBadTargets",
        ),
        (
            "depth",
            |scene, upload| {
                let file = upload[&Role::releases()].clone();
                upload.insert(role("targets/a/b/c/d/e/f/g/h/i"), file);
                scene.limits.depth = 8;
            },
            "ErrBadTargets",
        ),
        (
            "many tags",
            |scene, _| scene.limits.targets_per_role = 1,
            "ErrBadTargets",
        ),
        (
            "many bytes together",
            |scene, _| {
                let before: usize = scene.holding.files.values().map(Bytes::len).sum();
                scene.limits.total_bytes = u64::try_from(before).unwrap();
            },
            "ErrBadTargets",
        ),
    ];
    told(&base, &upload, &lies);
}

#[test]
fn a_stored_state_that_is_damaged_is_signed_for_no_more() {
    let base = Scene::docker().with_signers();
    let upload = base.upload(&[release("2.0", 2, &["targets/releases"])]);
    let lies: [Lie; 4] = [
        (
            "a file is gone",
            |scene, _| drop(scene.holding.files.remove(&role("targets/bob"))),
            "ErrValidation",
        ),
        (
            "a file is another one",
            |scene, _| {
                let file = scene.holding.files[&role("targets/alice")].clone();
                scene.holding.files.insert(role("targets/bob"), file);
            },
            "ErrValidation",
        ),
        (
            "root is gone",
            |scene, _| drop(scene.holding.files.remove(&Role::Root)),
            "ErrValidation",
        ),
        (
            "the timestamp is gone",
            |scene, _| drop(scene.holding.files.remove(&Role::Timestamp)),
            "ErrValidation",
        ),
    ];
    told(&base, &upload, &lies);
    for (what, lie, _) in lies {
        let mut scene = base.clone();
        lie(&mut scene, &mut Files::new());
        scene.now += SNAPSHOT;
        let examined = examine(&scene.gun, &scene.holding, scene.now, &scene.limits);
        assert!(examined.is_err(), "{what}");
        assert!(scene.renewed().is_err(), "{what}");
    }
}

#[test]
fn messages_name_what_is_wrong_and_why() {
    let base = Scene::docker().with_signers();
    let mut upload = base.upload(&[release("2.0", 2, &["targets"])]);
    signed_by(&base, &mut upload, "targets", &[base.people["alice"].id()]);
    let rejection = base.judge(&upload).unwrap_err();
    assert_eq!(
        rejection.to_string(),
        "targets metadata has 0 valid signatures of its role's keys, 1 are needed"
    );
    rewrite(&mut upload, "targets", r#""version""#, r#""Version""#);
    let rejection = base.judge(&upload).unwrap_err();
    assert_eq!(
        rejection.to_string(),
        "targets metadata is not written as a publisher writes it: member \"version\" is missing"
    );
    assert!(!rejection.is_version() && !rejection.is_damage() && rejection.missing().is_none());
}
