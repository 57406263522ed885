//! Metadata that the reference implementation wrote verifies here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use countersign::tuf::{Conditions, Pin};

use crate::repo::Files;
use crate::verify::{View, lookup, resolve};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// The JSON files of a recording, named as a server serves them.
fn recorded(folder: &Path) -> Files {
    fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                collect(&path, &format!("{name}/"), files);
            } else if path.extension().is_some_and(|kind| kind == "json") && name != "expected.json" {
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    collect(folder, "", &mut files);
    Files(files).by_hash()
}

#[test]
fn the_worked_example_of_the_specification_verifies_byte_for_byte() {
    let files = recorded(&folder("appendix-a"));
    for (name, bytes, sha256) in [
        (
            "root.json",
            2230,
            "fc8164d45b27204f3f6df7b89f1bf825d94a3355e86c1426e5db70b65b692a79",
        ),
        (
            "targets.json",
            929,
            "c3404455ba933469e28c5dcb2d0f367b8b0e7295975cefeb0ce6a58d21562b41",
        ),
        (
            "targets/alice.json",
            419,
            "f4c8bd8bba6793e4952fa68e2965c55b578725d63eaccf1f6592be31612d01c0",
        ),
        (
            "targets/releases.json",
            419,
            "2293a483ca1781f34eebe9c90810074538715a2247733ec36ea7effd6dbd1f2d",
        ),
        (
            "snapshot.json",
            1072,
            "5ca5375a543b15d166b9f307dbb6f78ebef0be05732ea51effb9126bf8f0a9d8",
        ),
        (
            "timestamp.json",
            486,
            "ee83f8726f1f33e274af0beb66eb9e79d25943d16527a578546352c74129e810",
        ),
    ] {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &files.0[name]);
        assert_eq!(
            (files.0[name].len(), hex::encode(hash).as_str()),
            (bytes, sha256),
            "{name}"
        );
    }
    for id in [
        "0761fbf9b9f0eadf15c85ecf4674fb4346b31e4aa4a66dee0ede3fc4f3d40f51", // TUF id: of the certificate
        "5af014f4c2f2fe42f6c7f6b0a37bf8b1f5cbd720146ed5c20018ce8785388a3e", // canonical id: of the key
    ] {
        let view = View::pinned(Pin::key_ids([id]).unwrap())
            .gun("registry.example.test/demo/app")
            .attribution();
        let collection = view.collection(&files);
        for (tag, sha256, role, signer) in [
            (
                "1.0",
                "183f0249d5f05b52ae8b9b3f7c9ba895708f3e5a32aab808814b84a2acb5497a",
                "targets/releases",
                "alice",
            ),
            (
                "0.9",
                "d84adb6a344ef584fc001c4cae43de03350525a2d5b24d8c7d767f7fa782905c",
                "targets",
                "Repo Admin",
            ),
        ] {
            let found = resolve(&collection, tag, &Conditions::default()).unwrap();
            assert_eq!(found.digest.to_string(), format!("sha256:{sha256}"));
            assert_eq!(
                (found.role.as_str(), found.signers),
                (role, vec![signer.to_owned()])
            );
        }
        assert_eq!(lookup(&collection, "2.0"), "tag_not_signed");
    }
}

#[test]
fn what_the_notary_client_wrote_verifies() {
    for case in fs::read_dir(folder("notary-client"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
    {
        let expected: serde_json::Value =
            serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap();
        let text = |member: &str| expected[member].as_str().unwrap();
        let name = case.display();
        let first = fs::read_to_string(case.join("1.root.pem")).unwrap();
        let view = |pin| {
            View::pinned(pin)
                .gun(text("gun"))
                .at(text("recorded_at"))
                .attribution()
        };
        let id = expected["root_key_ids"][0].as_str().unwrap();
        for (pinned, pin) in [
            ("newest id", Pin::key_ids([id]).unwrap()),
            ("first key", Pin::keys([first.as_str()]).unwrap()),
        ] {
            let outcome = view(pin).run(&recorded(&case)).result;
            let collection = outcome
                .unwrap_or_else(|error| panic!("{name}, pinned by {pinned}: {error}"))
                .collection;
            let tags: BTreeMap<_, _> = collection
                .tags()
                .map(|tag| (tag.to_string(), lookup(&collection, tag.as_str())))
                .collect();
            let wanted: BTreeMap<String, String> = serde_json::from_value(expected["tags"].clone()).unwrap();
            assert_eq!(tags, wanted, "{name}");
            for (tag, signers) in expected["signers"].as_object().into_iter().flatten() {
                let found = resolve(&collection, tag, &Conditions::default()).unwrap().signers;
                assert_eq!(serde_json::json!(found), *signers, "{name}: {tag}");
            }
        }
    }
}
