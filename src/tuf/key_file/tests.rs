use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::private_key::Algorithm;
use super::*;

/// Of every fixture.
const PASSPHRASE: &str = "correct horse";

fn secret(text: &str) -> SecretString {
    text.to_owned().into()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys")
}

fn fixture(name: &str) -> String {
    fs::read_to_string(fixtures().join(name)).unwrap()
}

fn expected() -> BTreeMap<String, Value> {
    serde_json::from_str(&fixture("expected.json")).unwrap()
}

fn labels(role: &str, gun: Option<&str>) -> Labels {
    Labels::new(role, gun).unwrap()
}

#[test]
fn every_form_that_was_ever_written_opens_to_the_key_it_holds() {
    let expected = expected();
    assert!(expected.len() > 30);
    for (name, want) in expected {
        let file = KeyFile::parse(&fixture(&name)).unwrap();
        assert_eq!(
            file.is_encrypted(),
            want["encrypted"].as_bool().unwrap(),
            "{name}"
        );
        assert_eq!(file.labels.role(), want["role"].as_str(), "{name}");
        assert_eq!(file.labels.gun(), want["gun"].as_str(), "{name}");
        let passphrase = secret(PASSPHRASE);
        let key = file.open(file.is_encrypted().then_some(&passphrase));
        let key = key.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(key.id().to_string(), want["id"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn a_wrong_passphrase_is_told_apart_from_a_damaged_file() {
    let encrypted = expected()
        .into_iter()
        .filter(|(_, want)| want["encrypted"] == true);
    for (name, _) in encrypted {
        let file = KeyFile::parse(&fixture(&name)).unwrap();
        assert_eq!(
            file.open(Some(&secret("correct house"))).unwrap_err(),
            KeyFileError::Passphrase,
            "{name}"
        );
        assert_eq!(file.open(None).unwrap_err(), KeyFileError::Locked, "{name}");
    }
}

#[test]
fn what_must_not_be_read_is_refused_for_its_own_reason() {
    use KeyFileError::{Encryption, Key};
    use PrivateKeyError::Unsupported;
    for (name, want) in [
        ("p224", Key(Unsupported)),
        ("secp256k1", Key(Unsupported)),
        ("rsa1024", Key(Unsupported)),
        ("x25519", Key(Unsupported)),
        ("scrypt", Encryption),
        ("pbes1", Encryption),
        ("camellia", Encryption),
    ] {
        let opened = KeyFile::parse(&fixture(&format!("refused/{name}.pem")))
            .and_then(|file| file.open(Some(&secret(PASSPHRASE))));
        assert_eq!(opened.unwrap_err(), want, "{name}");
    }
    assert_eq!(fs::read_dir(fixtures().join("refused")).unwrap().count(), 7);
}

#[test]
fn a_bundle_of_notary_holds_each_key_with_its_id() {
    let files = KeyFile::parse_all(&fixture("notary/bundle.pem")).unwrap();
    assert_eq!(files.len(), 5);
    for file in files {
        let key = file.open(Some(&secret(PASSPHRASE))).unwrap();
        assert_eq!(file.named_id(), Some(key.id()));
        assert_eq!(
            file.named_id(),
            KeyFile::parse(&file.to_bundle_pem(key.id())).unwrap().named_id()
        );
        assert_eq!(KeyFile::parse(&file.to_pem()).unwrap().named_id(), None);
    }
}

#[test]
fn files_that_are_not_changed_are_written_as_they_were() {
    for name in [
        "appendix-a/snapshot.key",
        "notary/root.key",
        "notary/notary-0.5.key",
        "notary/clear.key",
    ] {
        assert_eq!(
            *KeyFile::parse(&fixture(name)).unwrap().to_pem(),
            fixture(name),
            "{name}"
        );
    }
}

#[test]
fn what_is_sealed_opens_under_its_passphrase_alone() {
    for (algorithm, strength) in [
        (Algorithm::EcdsaP256, Strength::Interoperable),
        (Algorithm::Ed25519, Strength::Strong),
    ] {
        let key = PrivateKey::generate(algorithm).unwrap();
        let gun = Some("registry.example.com/team/app");
        let sealed = KeyFile::seal(&key, labels("targets", gun), &secret("pässword"), strength).unwrap();
        let text = sealed.to_pem();
        assert!(text.starts_with(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\ngun: registry.example.com/team/app\nrole: targets\n\nM"
        ));
        let read = KeyFile::parse(&text).unwrap();
        assert_eq!(read.labels, sealed.labels);
        assert_eq!(
            read.open(Some(&secret("pässword"))).unwrap().public(),
            key.public()
        );
        if strength == Strength::Interoperable {
            assert_eq!(
                read.open(Some(&secret("password"))).unwrap_err(),
                KeyFileError::Passphrase
            );
        }
    }
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let empty = KeyFile::seal(&key, labels("root", None), &secret(""), Strength::Interoperable);
    assert_eq!(empty.unwrap_err(), KeyFileError::Empty);
}

#[test]
fn two_files_of_one_key_have_nothing_in_common() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let seal = || {
        KeyFile::seal(
            &key,
            labels("root", None),
            &secret("password"),
            Strength::Interoperable,
        )
        .unwrap()
    };
    let (one, other) = (seal(), seal());
    let (Some(Lock::Pbes2(one)), Some(Lock::Pbes2(other))) = (&one.lock, &other.lock) else {
        panic!("sealed files are encrypted");
    };
    assert_eq!(one.parameters().0, 600_000);
    assert_ne!(one.parameters(), other.parameters());
}

/// The root key of the worked example with other bytes at a place.
fn changed(at: usize, bytes: &[u8]) -> String {
    let text = fixture("appendix-a/root.key");
    let [block] = pem::blocks(&text).unwrap().try_into().ok().unwrap();
    let mut der = block.der.to_vec();
    der[at..at + bytes.len()].copy_from_slice(bytes);
    pem::encode(ENCRYPTED, &[], &der).to_string()
}

/// Where the worked example has its iterations: INTEGER 2048 in two bytes.
const ITERATIONS_AT: usize = 43;

#[test]
fn a_huge_iteration_count_is_refused_before_anything_is_computed() {
    let honest = changed(ITERATIONS_AT, &[2, 2, 8, 0]);
    assert!(
        KeyFile::parse(&honest)
            .unwrap()
            .open(Some(&secret(PASSPHRASE)))
            .is_ok()
    );
    // No room for more than two bytes there: a structure of its own.
    for (count, wanted) in [
        (u64::from(pbes2::MAX_ITERATIONS), None),
        (
            u64::from(pbes2::MAX_ITERATIONS) + 1,
            Some(KeyFileError::Iterations { count: 10_000_001 }),
        ),
        (u64::MAX, Some(KeyFileError::Iterations { count: u64::MAX })),
        (0, Some(KeyFileError::Damaged)),
    ] {
        let der = pbes2::tests::with_iterations(count);
        let read = KeyFile::parse(&pem::encode(ENCRYPTED, &[], &der));
        assert_eq!(read.err(), wanted, "{count}");
    }
}

#[test]
fn damage_outside_of_the_encrypted_part_is_found_without_a_passphrase() {
    for (what, text) in [
        ("no iterations", changed(ITERATIONS_AT, &[2, 2, 0, 0])),
        ("scheme", changed(10, &[0xff, 0xff])),
        ("length", changed(1, &[0x81, 0xed])),
        (
            "not PEM",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n!!\n-----END ENCRYPTED PRIVATE KEY-----\n".into(),
        ),
        ("empty", String::new()),
        (
            "no key",
            fixture("openssl/P-256.pem").replace("PRIVATE", "PUBLIC"),
        ),
        ("two keys", fixture("notary/bundle.pem")),
        (
            "foreign",
            fixture("openssl/P-256.pem").replace("PRIVATE", "DSA PRIVATE"),
        ),
        (
            "DEK-Info",
            fixture("openssl/ec-des3.pem").replace("DES-EDE3-CBC,", "DES-EDE3-CBC,00"),
        ),
        (
            "cipher",
            fixture("openssl/ec-des3.pem").replace("DES-EDE3-CBC,", "RC2-40-CBC,"),
        ),
        (
            "no DEK-Info",
            fixture("openssl/ec-des3.pem").replace("DEK-Info", "Dek"),
        ),
    ] {
        let error = KeyFile::parse(&text).unwrap_err();
        assert!(
            !matches!(error, KeyFileError::Passphrase | KeyFileError::Locked),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_label_cannot_forge_another_header() {
    for bad in [
        "",
        " root",
        "root\nrole: targets",
        "a\u{7f}",
        "a\u{85}b",
        "a\u{2028}b",
        &"a".repeat(256),
    ] {
        assert_eq!(Labels::new(bad, None), Err(KeyFileError::Label), "{bad:?}");
        assert_eq!(
            Labels::new("targets", Some(bad)),
            Err(KeyFileError::Label),
            "{bad:?}"
        );
    }
}

#[test]
fn a_gun_is_kept_only_for_roles_that_belong_to_a_repository() {
    for (role, kept) in [
        ("root", false),
        ("alice", false),
        ("targets/alice", false),
        ("targets", true),
        ("snapshot", true),
        ("timestamp", true),
    ] {
        assert_eq!(labels(role, Some("a/b")).gun().is_some(), kept, "{role}");
        let text = fixture("notary/clear.key").replace("role: alice", &format!("role: {role}\ngun: a/b"));
        assert_eq!(
            KeyFile::parse(&text).unwrap().labels.gun().is_some(),
            kept,
            "{role}"
        );
    }
    assert_eq!(
        labels("targets", Some("a/b")).with_role("root").unwrap().gun(),
        None
    );
    assert_eq!(
        Labels::default()
            .with_gun("a/b")
            .unwrap()
            .with_role("targets")
            .unwrap()
            .gun(),
        Some("a/b")
    );
}

#[test]
fn a_path_header_names_an_id_and_never_a_place() {
    let id = "ab".repeat(32);
    for (path, named) in [
        (id.clone(), true),
        (format!("tuf_keys/registry.example.com/app/{id}"), true),
        (format!("private/{id}.key"), true),
        (format!("../../../etc/{id}"), true),
        ("../../../etc/passwd".to_owned(), false),
        (format!("{id}/.."), false),
        (format!("{id}/"), false),
        (id.to_uppercase(), false),
        (id[1..].to_owned(), false),
    ] {
        let text = fixture("notary/clear.key").replace("role: alice", &format!("path: {path}"));
        let file = KeyFile::parse(&text).unwrap();
        assert_eq!(
            file.named_id().map(|id| id.to_string()),
            named.then(|| id.clone()),
            "{path}"
        );
        assert!(!file.to_pem().contains("path"));
    }
    let old =
        fixture("notary/clear.key").replace("role: alice", "path: tuf_keys/registry.example.com/team/app/00");
    assert_eq!(
        KeyFile::parse(&old).unwrap().gun_of_path(),
        Some("registry.example.com/team/app")
    );
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", KeyFile::parse(&fixture("notary/clear.key")).unwrap());
    assert!(text.contains("alice") && text.len() < 200, "{text}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(-----BEGIN (EC |RSA |ENCRYPTED )?PRIVATE KEY-----\n)?(role: [a-z]{0,3}\n)?(\n)?[A-Za-z0-9+/=\n]{0,80}(-----END PRIVATE KEY-----)?") {
        if let Ok(file) = KeyFile::parse(&text) {
            drop(file.open(None));
        }
    }
}
