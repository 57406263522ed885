use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::canonical::Value;
use super::super::decode::Object;
use super::super::envelope::Envelope;
use super::document::{Document, file, target};
use super::*;

/// Every recorded file below `folder`, with the role it is of.
fn recorded(folder: &Path) -> Vec<(Role, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(recorded(&path));
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let name = name.rsplit('.').next().unwrap();
        let nested = folder.iter().skip_while(|part| *part != "targets");
        let parts: Vec<_> = nested.map(|part| part.to_str().unwrap()).chain([name]).collect();
        let role: Option<Role> = parts.join("/").parse().ok();
        if path.extension().is_some_and(|it| it == "json")
            && let Some(role) = role.filter(|role| *role != Role::Timestamp)
        {
            found.push((role, path));
        }
    }
    found
}

/// What we would write for the document in `raw`, with the time that is written there.
fn rewritten(role: &Role, raw: &[u8]) -> String {
    let envelope = Envelope::parse(role, raw).unwrap();
    let signed = Object::map(envelope.signed(), "signed").unwrap();
    let (version, expires) = (
        signed.integer("version", 1).unwrap(),
        signed.time("expires").unwrap(),
    );
    let value = match role {
        Role::Root => RootDocument::read(role, raw).unwrap().encode(version, expires),
        Role::Snapshot => SnapshotDocument::read(role, raw)
            .unwrap()
            .encode(version, expires),
        Role::Targets | Role::Delegation(_) => {
            TargetsDocument::read(role, raw).unwrap().encode(version, expires)
        }
        Role::Timestamp => unreachable!(),
    };
    // The reference writes fractions of seconds, and offsets; we write neither.
    let ours = Object::map(&value, "signed")
        .unwrap()
        .string("expires")
        .unwrap()
        .to_owned();
    let theirs = signed.string("expires").unwrap();
    value.canonical().replace(&ours, theirs)
}

#[test]
fn what_the_reference_wrote_we_would_write_byte_for_byte() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut seen = 0;
    for folder in ["appendix-a", "notary-client"] {
        for (role, path) in recorded(&fixtures.join(folder)) {
            let raw = fs::read(&path).unwrap();
            let theirs = String::from_utf8(raw.clone()).unwrap();
            // An empty list that Go has emptied is `null`; we write `[]`, which it reads and writes as that.
            let theirs = theirs.replace(r#""roles":null"#, r#""roles":[]"#);
            let ours = rewritten(&role, &raw);
            let start = format!(r#"{{"signed":{ours},"signatures":["#);
            assert!(
                theirs.starts_with(&start),
                "{}:\n{ours}\n{theirs}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen} files");
}

#[test]
fn characters_that_go_escapes_are_escaped_in_the_file_and_not_in_what_is_signed() {
    let text = "a<b>&\u{2028}\u{2029}\"\\é";
    let signed = Value::Object(vec![("x".into(), Value::String(text.into()))]);
    let raw = file(&signed, &[]);
    let want = r#"{"signed":{"x":"a\u003cb\u003e\u0026\u2028\u2029\"\\é"},"signatures":[]}"#;
    assert_eq!(std::str::from_utf8(&raw).unwrap(), want);
    let read = Envelope::parse(&Role::Targets, &raw).unwrap();
    assert_eq!(read.signed().canonical(), signed.canonical());
}

proptest! {
    #[test]
    fn any_document_is_read_back_as_it_was_written(
        tags in proptest::collection::btree_map("[a-zA-Z0-9_.<>&é-]{1,12}", (any::<[u8; 32]>(), 0..1_u64 << 53), 0..8),
        version in 1..1_u64 << 53,
        seconds in 0..4_000_000_000_i64,
    ) {
        let expires = Timestamp::from_second(seconds).unwrap();
        let targets = tags.into_iter().map(|(tag, (sha256, length))| {
            (tag.into_boxed_str(), target(&sha256, length.min((1 << 53) - 1)))
        });
        let document = TargetsDocument { targets: targets.collect(), version, ..TargetsDocument::default() };
        let raw = file(&document.encode(version, expires), &[]);
        prop_assert_eq!(TargetsDocument::read(&Role::Targets, &raw).unwrap(), document);
        let json: serde_json::Value = serde_json::from_slice(&raw).unwrap();
        prop_assert_eq!(json["signed"]["expires"].as_str().unwrap().parse::<Timestamp>().unwrap(), expires);
    }
}
