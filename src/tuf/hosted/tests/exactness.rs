//! What is written as the reference writes it, and what is not.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::exact::exact;
use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A recorded repository as a server would hold it.
fn recorded(folder: &Path) -> Files {
    let mut files = Files::new();
    for role in ["root", "targets", "snapshot", "timestamp"] {
        let raw = fs::read(folder.join(format!("{role}.json"))).unwrap();
        files.insert(super::role(role), raw.into());
    }
    let mut folders = vec![folder.join("targets")];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().with_extension("");
            let raw = fs::read(&path).unwrap();
            files.insert(name.to_str().unwrap().parse().unwrap(), raw.into());
        }
    }
    files
}

#[test]
fn every_file_that_the_reference_wrote_is_exact_and_every_recorded_repository_is_whole() {
    let mut seen = 0;
    for entry in fs::read_dir(fixtures().join("notary-client")).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(expected) = fs::read(folder.join("expected.json")) else {
            continue;
        };
        let expected: Json = serde_json::from_slice(&expected).unwrap();
        let files = recorded(&folder);
        for (role, file) in &files {
            exact(role, file).unwrap_or_else(|error| panic!("{} {role}: {error}", folder.display()));
            seen += 1;
        }
        let gun: Gun = expected["gun"].as_str().unwrap().parse().unwrap();
        let now: Timestamp = expected["recorded_at"].as_str().unwrap().parse().unwrap();
        let holding = Holding {
            files,
            used: BTreeMap::new(),
        };
        let examined = examine(&gun, &holding, now, &Limits::default());
        let examined = examined.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        assert!(examined.expired.is_empty() && examined.unsound.is_empty());
        assert!(examined.certificate_expires.unwrap() > now);
        let unheld = renew(
            &gun,
            &holding,
            &HeldKeys::new(),
            &Terms {
                now: now + DAY * 14,
                snapshot: SNAPSHOT,
                timestamp: TIMESTAMP,
            },
            &Limits::default(),
        );
        assert_eq!(
            unheld.unwrap_err().name(),
            "ErrBadRoot",
            "its keys are another server's"
        );
    }
    assert!(seen > 40, "{seen} files");
}

#[test]
fn the_worked_example_of_the_specification_is_exact_and_whole() {
    let files = recorded(&fixtures().join("appendix-a"));
    for (role, file) in &files {
        exact(role, file).unwrap_or_else(|error| panic!("{role}: {error}"));
    }
    let gun: Gun = "registry.example.test/demo/app".parse().unwrap();
    let now = "2031-05-01T10:00:00Z".parse().unwrap();
    let (used, limits) = (BTreeMap::new(), Limits::default());
    let holding = Holding { files, used };
    let examined = examine(&gun, &holding, now, &limits).unwrap();
    assert_eq!(
        examined.expires[&Role::Timestamp].to_string(),
        "2120-01-01T00:00:00Z"
    );
    assert_eq!(
        examined.snapshot_keys[0].to_string(),
        "c1db7e40c0410a212aa00376c6f97e1c6696bf26f50526a35e27776f7ef2ce44"
    );
    let mut upload = holding.files.clone();
    upload.remove(&Role::Timestamp);
    let terms = Terms {
        now,
        snapshot: SNAPSHOT,
        timestamp: TIMESTAMP,
    };
    let refused = accept(
        &gun,
        &Holding::default(),
        &upload,
        &HeldKeys::new(),
        &terms,
        &limits,
    );
    assert_eq!(
        refused.unwrap_err().name(),
        "ErrBadRoot",
        "its timestamp key is not ours"
    );
}

#[test]
fn what_reading_and_writing_would_change_is_refused() {
    let scene = Scene::docker().with_signers();
    let upload = scene.upload(&[release("2.0", 2, &["targets"])]);
    let raw = std::str::from_utf8(&upload[&Role::Targets]).unwrap();
    for (what, from, to) in [
        ("white space before", "{\"signed\"", " {\"signed\""),
        ("white space within", ",\"version\"", ", \"version\""),
        ("the order of members", "\"_type\":\"Targets\",", ""),
        ("a newline after", "\"}]}", "\"}]}\n"),
        ("another object after", "\"}]}", "\"}]}{}"),
        ("a byte order mark", "{\"signed\"", "\u{feff}{\"signed\""),
        (
            "duplicate members (T15)",
            "\"targets\":{",
            "\"targets\":{},\"targets\":{",
        ),
        (
            "duplicate tags",
            "\"targets\":{",
            "\"targets\":{\"2.0\":{\"hashes\":{},\"length\":1},",
        ),
        ("another case (T25)", "\"expires\"", "\"Expires\""),
        ("both cases (T25)", "\"expires\"", "\"Version\":1,\"expires\""),
        ("an escape (T24)", "\"Targets\"", "\"\\u0054argets\""),
        ("a fraction in a number", "\"length\":1000", "\"length\":1000.0"),
        ("an exponent", "\"length\":1000", "\"length\":1e3"),
        (
            "a number with a zero before it",
            "\"length\":1000",
            "\"length\":01000",
        ),
        ("a negative length", "\"length\":1000", "\"length\":-1000"),
        ("a method in capitals", "\"ecdsa\",\"sig\"", "\"ECDSA\",\"sig\""),
        ("a member of a signature", "\"method\"", "\"extra\":1,\"method\""),
        ("base64 without padding", "=\"}]}", "\"}]}"),
        ("no delegations", "\"delegations\":{", "\"delegation\":{"),
        ("empty paths", "\"paths\":[\"\"]", "\"paths\":[]"),
        ("paths that are null", "\"paths\":[\"\"]", "\"paths\":null"),
        ("no private", "\"private\":null,", ""),
        ("a private key", "\"private\":null", "\"private\":\"AAAA\""),
        (
            "custom data that is null",
            "{\"hashes\"",
            "{\"custom\":null,\"hashes\"",
        ),
        (
            "custom data that cannot be signed again",
            "{\"hashes\"",
            "{\"custom\":\"\\u0026\",\"hashes\"",
        ),
        ("a hash that is null", "\"sha256\":", "\"md5\":null,\"sha256\":"),
        (
            "an unknown member of an entry",
            "\"length\":1000",
            "\"length\":1000,\"version\":1",
        ),
    ] {
        assert!(raw.contains(from), "{what}: {from} is not in {raw}");
        let text = raw.replacen(from, to, 1);
        assert!(exact(&Role::Targets, text.as_bytes()).is_err(), "{what}: {text}");
    }
    exact(&Role::Targets, raw.as_bytes()).unwrap();
}

#[test]
fn times_are_taken_as_go_writes_them() {
    let scene = Scene::docker();
    let file = &scene.holding.files[&Role::Targets];
    for (time, taken) in [
        ("2034-05-01T10:00:00Z", true),
        ("2034-05-01T10:00:00.5Z", true),
        ("2034-05-01T10:00:00.123456789+02:00", true),
        ("2034-05-01T10:00:00-07:30", true),
        ("2034-05-01T10:00:00.000Z", false),
        ("2034-05-01T10:00:00.50Z", false),
        ("2034-05-01T10:00:00.1234567891Z", false),
        ("2034-05-01T10:00:00+00:00", false),
        ("2034-05-01T10:00:00-00:00", false),
        ("2034-05-01T10:00:00,5Z", false),
        ("2034-05-01 10:00:00Z", false),
    ] {
        let file = scene.forged(file, |signed| signed["expires"] = time.into());
        assert_eq!(exact(&Role::Targets, &file).is_ok(), taken, "{time}");
    }
}

#[test]
fn nulls_are_taken_where_go_writes_them() {
    let mut scene = Scene::docker().with_signers();
    let mut upload = scene.upload(&[release("2.0", 2, &["targets"])]);
    scene.forge(&mut upload, "targets", |signed| {
        signed["delegations"] = json!({"keys": null, "roles": null});
        signed["targets"] = Json::Null;
    });
    let accepted = scene.publish(&upload);
    assert_eq!(accepted.dropped.len(), 3, "all delegations");
    scene.look(Purpose::Trust, State::default()).unwrap();
    let mut upload = scene.upload(&[scene.delegate("alice", &["alice"])]);
    scene.forge(&mut upload, "targets", |signed| {
        signed["delegations"] = json!({"keys": {}, "roles": [
            {"keyids": null, "name": "targets/alice", "threshold": 1}
        ]});
    });
    scene.publish(&upload);
    scene.look(Purpose::Trust, State::default()).unwrap();
}

#[test]
fn custom_data_is_taken_as_it_was_signed() {
    let mut scene = Scene::docker();
    let mut upload = scene.upload(&[release("1.0", 1, &["targets"])]);
    scene.forge(&mut upload, "targets", |signed| {
        signed["targets"]["1.0"]["custom"] = json!({"b": [1, null, "é"], "a": {"x": "\"\\"}});
        signed["targets"]["<&>"] = signed["targets"]["1.0"].clone();
    });
    scene.publish(&upload);
    scene.look(Purpose::Trust, State::default()).unwrap();
}
